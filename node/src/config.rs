//! The node's configuration: `node.toml` and every file it names, read and checked as a whole before anything is served.
//!
//! Invariants
//! - Paths are relative to the configuration's folder; unknown keys are refused.
//! - A private key that others can read is refused.
//! - Nothing is believed of any signature where the list of revoked keys is damaged: the node does not start, and one that
//!   runs refuses until it is mended.
//! - Agreements that name this department agree with its datasets and its keys ([`check`]); a node whose papers contradict each
//!   other does not start.

mod check;
mod connections;
mod file;
mod findings;
mod keys;
mod odbc;
mod papers;
mod reread;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use concordat_guard::ReleaseGuard;
use concordat_operate::certificate::Files;
use concordat_operate::settings::{Operations, Telemetry};
use concordat_policy::agreement::{Fingerprint, column_name_ok};
use concordat_policy::column::{LINKED, SUBJECT};
use concordat_policy::identifier::IdentifierSpec;
use concordat_policy::signature::Fault;
use concordat_policy::{Agreement, Classification, ColumnType, IdentifierType, Name, Problem, PurposeTree, Signatures};
use concordat_proto::signature::files;
use concordat_proto::token::{SigningKey, VerifyingKey};

use self::connections::Connections;
pub(crate) use self::connections::connection;
pub use self::file::Format;
pub use self::findings::{Finding, Findings};
pub use self::papers::{PaperFiles, Papers};
pub(crate) use self::papers::{inbox, outbox};
pub use self::reread::{Held, Paths, Pins};
use crate::at_rest::AtRest;
use crate::consent::receipt::Notice;
use crate::linkage::Keypair;
use crate::source::{Changes, Source};

/// Everything the node was told.
#[derive(Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// Whose node this is.
    pub department: Name,
    /// Where it listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The folder of the ledger, consumed orders, linkage keys and the bound address.
    pub state: PathBuf,
    /// The folder of the log.
    pub log: PathBuf,
    /// The folder under which releases spill.
    pub spill: PathBuf,
    /// Bytes that one release may hold before it spills.
    pub release_memory: usize,
    /// Bytes on disk that linked snapshots may take; 0 for none.
    pub snapshot_disk: u64,
    /// Bytes of that disk that they leave to others; `None` for the larger of 1 GiB and a twentieth of it.
    pub snapshot_reserve: Option<u64>,
    /// Releases at a time.
    pub max_releases: usize,
    /// The server's side of TLS.
    pub tls: Files,
    /// The department's own guard rails.
    pub guard: ReleaseGuard,
    /// `[operations]`.
    pub operations: Operations,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// Signs tickets and receipts.
    pub signing: SigningKey,
    /// How linkage keys lie on disk.
    pub at_rest: AtRest,
    /// Opens and seals linkage keys.
    pub linkage: Keypair,
    /// The client certificates of the gateway.
    pub gateway: BTreeSet<Fingerprint>,
    /// Verifies release orders.
    pub order_key: VerifyingKey,
    /// The client certificates of the department's administrators.
    pub administrators: BTreeSet<Fingerprint>,
    /// The client certificates of the department's auditors.
    pub auditors: BTreeSet<Fingerprint>,
    /// A file of consent records to import once.
    pub consent_import: Option<PathBuf>,
    /// Whether rows of that file with invalid identifiers are left out, instead of refusing it.
    pub consent_skip_invalid: bool,
    /// What stands in consent receipts.
    pub notice: Notice,
    /// The purpose tree.
    pub purposes: PurposeTree,
    /// The agreements to which the department is a party.
    pub agreements: Vec<Agreement>,
    /// The department's own signatures of them, and the revoked keys.
    pub signatures: Signatures,
    /// Where these three and the guard rails were read, to read them again.
    pub papers: PaperFiles,
    /// The datasets it offers.
    pub datasets: Vec<DatasetConfig>,
    /// What the operator should know, though the node starts.
    pub warnings: Vec<String>,
}

/// One dataset as declared.
#[derive(Debug, Clone)]
pub struct DatasetConfig {
    /// Its own name.
    pub name: Name,
    /// What it is, for people.
    pub title: String,
    /// Where its rows are.
    pub source: Source,
    /// How long an order may be answered from a linked snapshot after its database or store was read; `None` where each order is read anew.
    /// Files tell by themselves whether they changed.
    pub snapshot_age: Option<Duration>,
    /// What tells which rows of a database stayed as they were, for the next snapshot; `None` where it is read whole.
    pub changes: Option<Changes>,
    /// The source's column that holds the identifier.
    pub identifier_column: String,
    /// The identifier's type.
    pub identifier: IdentifierType,
    /// The second identifier, where it is a link dataset.
    pub linked: Option<LinkedConfig>,
    /// The columns it offers, by name.
    pub columns: BTreeMap<String, ColumnConfig>,
}

/// The second identifier of a link dataset.
#[derive(Debug, Clone)]
pub struct LinkedConfig {
    /// The source's column that holds it.
    pub column: String,
    /// Its type.
    pub identifier: IdentifierType,
}

/// One column as declared.
#[derive(Debug, Clone)]
pub struct ColumnConfig {
    /// The type of its values.
    pub kind: ColumnType,
    /// How sensitive it is.
    pub classification: Classification,
    /// What it means, for people.
    pub title: Option<String>,
    /// The published list of its values, where it is a code.
    pub values: Option<Vec<String>>,
    /// Its name in the source.
    pub source: String,
}

impl Config {
    /// Reads and checks `path` and every file it names, except the datasets' sources.
    ///
    /// # Errors
    /// Every [`Finding`].
    pub fn load(path: &Path) -> Result<Self, Findings> {
        let text = read(path)?;
        let file: file::File = toml::from_str(&text).map_err(|e| Finding::problem(path, &text, Problem::toml(&e)))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut loader = Loader { path, text: &text, folder, findings: Vec::new(), warnings: Vec::new() };
        let config = loader.load(file);
        match config {
            Some(config) if loader.findings.is_empty() => Ok(Self { warnings: loader.warnings, ..config }),
            _ => Err(Findings { findings: loader.findings }),
        }
    }

    /// The agreements under which nothing is released, because the department's own signature does not count, and why.
    pub fn unsigned(&self, now: DateTime<Utc>) -> impl Iterator<Item = (&Agreement, Fault)> {
        let fault = move |agreement: &Agreement| self.signatures.judge(agreement, &self.department, now).err();
        self.agreements.iter().filter_map(move |agreement| Some((agreement, fault(agreement)?)))
    }
}

/// How the configuration at `path` says that linkage keys lie on disk, whatever else it says: for the command that makes it so.
///
/// # Errors
/// Every [`Finding`].
pub(crate) fn at_rest(path: &Path) -> Result<AtRest, Findings> {
    let text = read(path)?;
    let file: file::File = toml::from_str(&text).map_err(|e| Finding::problem(path, &text, Problem::toml(&e)))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut loader = Loader { path, text: &text, folder, findings: Vec::new(), warnings: Vec::new() };
    keys::at_rest(&mut loader, file.keys.at_rest.as_ref()).ok_or(Findings { findings: loader.findings })
}

pub(crate) fn read(path: &Path) -> Result<String, Findings> {
    let unreadable = |e| Finding::file(path, format!("cannot be read: {e}"), "correct the path or the file's permissions").into();
    std::fs::read_to_string(path).map_err(unreadable)
}

struct Loader<'a> {
    path: &'a Path,
    text: &'a str,
    folder: &'a Path,
    findings: Vec<Finding>,
    warnings: Vec<String>,
}

/// The most MiB that snapshots may take, or leave: 16 TiB.
const MOST_SNAPSHOT_MIB: u64 = 1 << 24;

impl Loader<'_> {
    fn load(&mut self, file: file::File) -> Option<Config> {
        let at = |path: &Path| self.folder.join(path);
        let (state, log, spill) = (at(&file.state), at(&file.log), at(&file.spill));
        let consent_import = file.consent.import.as_deref().map(at);
        if !(1..=64).contains(&file.max_releases) || !(1..=65_536).contains(&file.release_memory_mib) {
            self.at(&["max_releases"], "max_releases is 1 to 64 and release_memory_mib 1 to 65536", "use 8 and 320, the defaults");
        }
        if file.snapshot_disk_mib > MOST_SNAPSHOT_MIB {
            self.at(&["snapshot_disk_mib"], "snapshot_disk_mib is 0 to 16777216", "use 8192, the default, or 0 to keep no snapshot");
        }
        if file.snapshot_reserve_mib.is_some_and(|reserve| reserve > MOST_SNAPSHOT_MIB) {
            self.at(&["snapshot_reserve_mib"], "snapshot_reserve_mib is 0 to 16777216", "leave it out: the larger of 1024 and a twentieth");
        }
        if file.gateway.certificates.is_empty() {
            self.at(
                &["gateway", "certificates"],
                "no gateway may call this node",
                "add the fingerprint of the gateway's client certificate",
            );
        }
        if !file.consent.receipts.fits() {
            self.at(&["consent", "receipts"], "each text of consent receipts is 1 to 200 bytes long", "shorten it, or leave it out");
        }
        for (keys, cause, remedy) in [file.operations.wrong(), file.telemetry.wrong()].into_iter().flatten() {
            self.at(keys, cause, remedy);
        }
        let tls = keys::tls(self, &file.tls);
        let signing = keys::signing(self, &file.keys.signing);
        let at_rest = keys::at_rest(self, file.keys.at_rest.as_ref());
        let linkage = at_rest.as_ref().and_then(|at_rest| keys::linkage(self, &file.keys.linkage, at_rest));
        let order_key = keys::order(self, &file.gateway.order_key);
        let connections = self.connections(file.connection);
        let datasets = self.datasets(file.dataset, &connections);
        let purposes = self.purposes(&file.purposes);
        let agreements = self.agreements(&file.agreements);
        let (tls, signing, at_rest, linkage, order_key, purposes) = (tls?, signing?, at_rest?, linkage?, order_key?, purposes?);
        let papers = PaperFiles {
            config: self.path.to_owned(),
            agreements: file.agreements,
            purposes: file.purposes,
            state: file.state,
            department: file.department.clone(),
            datasets: datasets.clone(),
            guard: file.guard.map(|own| own.under(self.folder)),
            signing: Fingerprint::of(signing.public_spki()),
            linkage: Fingerprint::of(&linkage.public()),
        };
        let Papers { purposes, agreements, signatures, guard, .. } = self.papers(&papers, purposes, agreements)?;
        Some(Config {
            path: self.path.to_owned(),
            department: file.department,
            listen: file.listen,
            state,
            log,
            spill,
            release_memory: file.release_memory_mib << 20,
            snapshot_disk: file.snapshot_disk_mib << 20,
            snapshot_reserve: file.snapshot_reserve_mib.map(|reserve| reserve << 20),
            max_releases: file.max_releases,
            tls,
            guard,
            operations: file.operations,
            telemetry: file.telemetry,
            signing,
            at_rest,
            linkage,
            gateway: file.gateway.certificates.into_iter().collect(),
            order_key,
            administrators: file.administrators.certificates.into_iter().collect(),
            auditors: file.auditors.certificates.into_iter().collect(),
            consent_import,
            consent_skip_invalid: file.consent.skip_invalid,
            notice: file.consent.receipts,
            purposes,
            agreements,
            signatures,
            papers,
            datasets,
            warnings: Vec::new(),
        })
    }

    fn at(&mut self, keys: &[&str], cause: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::at(self.path, self.text, keys, cause, remedy));
    }

    fn keep<T>(&mut self, result: Result<T, Findings>) -> Option<T> {
        result.map_err(|found| self.findings.extend(found.findings)).ok()
    }

    fn purposes(&mut self, path: &Path) -> Option<PurposeTree> {
        let path = self.folder.join(path);
        let text = self.keep(read(&path))?;
        let purposes = PurposeTree::parse(&text).map_err(|problems| self.problems(&path, &text, problems)).ok()?;
        if purposes.iter().next().is_none() {
            let remedy = "enter those that the parties agreed on: [[purpose]] with id, title and parent";
            self.findings.push(Finding::file(&path, "states no purpose, so nothing could be released for any", remedy));
        }
        Some(purposes)
    }

    fn agreements(&mut self, folder: &Path) -> Vec<check::Paper> {
        let folder = self.folder.join(folder);
        let Ok(entries) = std::fs::read_dir(&folder) else {
            self.findings.push(Finding::file(
                &folder,
                "the folder of agreements cannot be read",
                "create it; an empty one permits nothing",
            ));
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| files::is_agreement(p)).collect();
        paths.sort();
        let mut papers = Vec::new();
        for path in paths {
            let Some(text) = self.keep(read(&path)) else { continue };
            match Agreement::parse(&text) {
                Ok(agreement) => papers.push(check::Paper { path, text, agreement }),
                Err(problems) => self.problems(&path, &text, problems),
            }
        }
        papers
    }

    fn problems(&mut self, path: &Path, text: &str, problems: Vec<Problem>) {
        self.findings.extend(problems.into_iter().map(|p| Finding::problem(path, text, p)));
    }

    fn datasets(&mut self, files: Vec<file::DatasetFile>, connections: &Connections) -> Vec<DatasetConfig> {
        let mut names = BTreeSet::new();
        let mut datasets = Vec::new();
        for (index, file) in files.into_iter().enumerate() {
            let index = index.to_string();
            let keys = |rest: &'static str| ["dataset".to_owned(), index.clone(), rest.to_owned()];
            let source = self.source(&index, &file, connections);
            let snapshot_age = self.snapshot_age(&index, &file);
            let changes = self.changes(&index, &file, source.as_ref());
            if !names.insert(file.name.clone()) {
                self.at(
                    &keys("name").each_ref().map(String::as_str),
                    format!("dataset '{}' is declared twice", file.name),
                    "keep one of the two",
                );
            }
            let Some(identifier) = self.identifier(&keys("identifier"), &file.identifier) else { continue };
            let linked = file.linked.as_ref().and_then(|linked| {
                let identifier = self.identifier(&keys("linked"), linked)?;
                Some(LinkedConfig { column: linked.column.clone(), identifier })
            });
            if linked.as_ref().is_some_and(|linked| linked.identifier.label() == identifier.label()) {
                let cause = format!("dataset '{}' links two identifiers of one type", file.name);
                self.at(&keys("linked").each_ref().map(String::as_str), cause, "a link dataset has identifiers of two types");
            }
            let identifiers: Vec<&str> =
                [Some(&file.identifier), file.linked.as_ref()].into_iter().flatten().map(|i| i.column.as_str()).collect();
            let mut columns = BTreeMap::new();
            for (name, column) in file.columns {
                let column = self.column(&index, &name, column, &identifiers);
                columns.insert(name, column);
            }
            let Some(source) = source else { continue };
            datasets.push(DatasetConfig {
                name: file.name,
                title: file.title,
                source,
                snapshot_age,
                changes,
                identifier_column: file.identifier.column,
                identifier,
                linked,
                columns,
            });
        }
        datasets
    }

    fn identifier(&mut self, keys: &[String; 3], file: &file::IdentifierFile) -> Option<IdentifierType> {
        let spec = IdentifierSpec { kind: file.kind.clone(), name: file.name.clone(), pattern: file.pattern.clone() };
        IdentifierType::from_spec(&spec)
            .map_err(|cause| self.at(&keys.each_ref().map(String::as_str), cause, "use a known identifier type"))
            .ok()
    }

    fn column(&mut self, index: &str, name: &str, column: file::ColumnFile, identifiers: &[&str]) -> ColumnConfig {
        let keys = ["dataset", index, "columns", name];
        if !column_name_ok(name) || name == SUBJECT || name == LINKED {
            self.at(
                &keys,
                format!("'{name}' cannot name a column"),
                "use 1 to 64 of a-z, 0-9 and '_', beginning with a letter, other than 'subject' and 'linked_subject'; `source` holds the name in the source",
            );
        }
        let source = column.source.unwrap_or_else(|| name.to_owned());
        if identifiers.contains(&source.as_str()) {
            self.at(
                &keys,
                format!("column '{name}' would release the identifier itself"),
                "remove the column: subjects leave as pseudonyms only",
            );
        }
        ColumnConfig { kind: column.kind, classification: column.classification, title: column.title, values: column.values, source }
    }
}

#[cfg(test)]
pub(crate) mod tests;
