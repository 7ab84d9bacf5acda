//! The parts of `node.toml` that are read again while the node runs, or although the rest cannot be used.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use concordat_operate::Fault;
use concordat_operate::certificate::{Files, text};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Name};
use concordat_proto::signature::files;

use super::file;

/// Whose calls are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// The client certificates of the gateway.
    pub gateway: BTreeSet<Fingerprint>,
    /// The client certificates of the department's administrators.
    pub administrators: BTreeSet<Fingerprint>,
    /// The client certificates of the department's auditors.
    pub auditors: BTreeSet<Fingerprint>,
}

impl Pins {
    /// Reads `[gateway].certificates`, `[administrators].certificates` and `[auditors].certificates`.
    ///
    /// # Errors
    /// When the file cannot be read or understood, or would leave no gateway.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let file = understood(path)?;
        let gateway: BTreeSet<_> = file.gateway.certificates.into_iter().collect();
        if gateway.is_empty() {
            let remedy = "add the fingerprint of the gateway's client certificate";
            return Err(Fault::new(path.display(), "[gateway].certificates is empty: no gateway may call this node", remedy));
        }
        let administrators = file.administrators.certificates.into_iter().collect();
        Ok(Self { gateway, administrators, auditors: file.auditors.certificates.into_iter().collect() })
    }
}

/// Where things lie, for checking each by itself, and for what must work although the rest cannot be used.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Whose node this is.
    pub department: Name,
    /// The folder of agreements.
    pub agreements: PathBuf,
    /// The key that signs tickets, receipts and agreements.
    pub signing: PathBuf,
    /// The key to which linkage keys are sealed.
    pub linkage: PathBuf,
    /// The listener's certificate, key and authorities.
    pub tls: Files,
    /// The folder of state.
    pub state: PathBuf,
    /// The folder of the log.
    pub log: PathBuf,
    /// The folder under which releases spill.
    pub spill: PathBuf,
}

impl Paths {
    /// Reads them.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let file = understood(path)?;
        let at = |relative: &Path| path.parent().unwrap_or(Path::new(".")).join(relative);
        let tls = Files { certificate: at(&file.tls.certificate), key: at(&file.tls.key), ca: Some(at(&file.tls.ca)) };
        let (agreements, signing, linkage) = (at(&file.agreements), at(&file.keys.signing), at(&file.keys.linkage));
        let (state, log, spill) = (at(&file.state), at(&file.log), at(&file.spill));
        Ok(Self { department: file.department, agreements, signing, linkage, tls, state, log, spill })
    }
}

/// The agreements that the department holds, as far as their files can be understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Their names.
    pub agreements: BTreeSet<Name>,
    /// Files that are no agreements.
    pub not_understood: Vec<PathBuf>,
}

impl Held {
    /// Looks through the folder. An agreement of others is not held.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn read(paths: &Paths) -> Result<Self, Fault> {
        let unreadable = |e: std::io::Error| {
            Fault::new(
                paths.agreements.display(),
                format!("cannot be read: {e}"),
                "correct `agreements` in node.toml, or run this as the node's user",
            )
        };
        let mut held = Self::default();
        for entry in std::fs::read_dir(&paths.agreements).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if !files::is_agreement(&path) {
                continue;
            }
            match std::fs::read_to_string(&path).ok().and_then(|text| Agreement::parse(&text).ok()) {
                Some(agreement) if agreement.parties.iter().any(|party| party.department == paths.department) => {
                    held.agreements.insert(agreement.id);
                }
                Some(_) => {}
                None => held.not_understood.push(path),
            }
        }
        held.not_understood.sort();
        Ok(held)
    }
}

fn understood(path: &Path) -> Result<file::File, Fault> {
    toml::from_str(&text(path)?).map_err(|e| Fault::new(path.display(), e.message(), "`concordat-node check` shows the line"))
}
