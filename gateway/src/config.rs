//! `gateway.toml`: read, checked, and every file it names opened, with errors that name file, line, cause and remedy.

use std::path::{Path, PathBuf};

use concordat_operate::certificate::Files;
use concordat_operate::settings::{Operations, Telemetry};
use concordat_policy::Problem;
use concordat_proto::token::SigningKey;
use miette::{NamedSource, Report, miette};
use serde::Deserialize;

use crate::auditors::Auditor;
use crate::issuers::{self, IssuerConfig, IssuerFile};
use crate::limits::Settings;
use crate::witness::{Outside, WitnessFile};

/// The configuration, with its files read.
pub struct Config {
    /// Where to listen; port 0 chooses one.
    pub listen: std::net::SocketAddr,
    /// The folder for `address`.
    pub state: PathBuf,
    /// The folder of the access log.
    pub log: PathBuf,
    /// The folder of the estate.
    pub estate: PathBuf,
    /// Limits of queries, callers and agreements: `[limits]`, see [`Settings`].
    pub limits: Settings,
    /// `[guard]`, if there are guard rails.
    pub guard: Option<concordat_guard::Settings>,
    /// `[operations]`.
    pub operations: Operations,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// What callers see.
    pub(crate) server_tls: Files,
    /// What nodes see, and the authority by which nodes are judged.
    pub(crate) client_tls: Files,
    pub(crate) order_key: SigningKey,
    /// How many witnesses, of departments and outside ones together, must have seen the access log; a majority of the departments where
    /// it is not said: `quorum` of `[witnesses]`.
    pub(crate) quorum: Option<usize>,
    /// Outside witnesses of the access log: `[[witnesses.outside]]`.
    pub(crate) witnesses: Vec<Outside>,
    pub(crate) issuers: Vec<IssuerConfig>,
    /// `[[auditors]]`.
    pub(crate) auditors: Vec<Auditor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: std::net::SocketAddr,
    state: PathBuf,
    log: PathBuf,
    estate: PathBuf,
    #[serde(default)]
    limits: Settings,
    tls: ServerTls,
    nodes: NodesTls,
    orders: Orders,
    guard: Option<concordat_guard::Settings>,
    #[serde(default)]
    witnesses: WitnessesFile,
    #[serde(default)]
    operations: Operations,
    #[serde(default)]
    telemetry: Telemetry,
    issuer: Vec<IssuerFile>,
    #[serde(default)]
    auditors: Vec<Auditor>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessesFile {
    quorum: Option<usize>,
    #[serde(default)]
    outside: Vec<WitnessFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodesTls {
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Orders {
    key: PathBuf,
}

impl File {
    /// What callers see, and what nodes see.
    fn identities(&self, base: &Path) -> (Files, Files) {
        let callers = Files { certificate: base.join(&self.tls.certificate), key: base.join(&self.tls.key), ca: None };
        let ca = Some(base.join(&self.nodes.ca));
        (callers, Files { certificate: base.join(&self.nodes.certificate), key: base.join(&self.nodes.key), ca })
    }
}

/// Where things lie, for checking each by itself.
pub(crate) struct Paths {
    pub(crate) server_tls: Files,
    pub(crate) client_tls: Files,
    pub(crate) state: PathBuf,
    pub(crate) log: PathBuf,
}

impl Paths {
    /// Reads them; `None` when the file cannot be read or understood, which [`Config::load`] explains.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let file: File = toml::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
        let base = path.parent().unwrap_or(Path::new("."));
        let (server_tls, client_tls) = file.identities(base);
        Some(Self { server_tls, client_tls, state: base.join(file.state), log: base.join(file.log) })
    }
}

impl Config {
    /// Reads the configuration and the files that it names. Paths are relative to its folder.
    ///
    /// # Errors
    /// A report with file, line, cause and remedy.
    pub fn load(path: &Path) -> miette::Result<Self> {
        let text = read(path)?;
        let file: File = toml::from_str(&text).map_err(|e| report(path, &text, &[Problem::toml(&e)]))?;
        let base = path.parent().unwrap_or(Path::new("."));
        if file.issuer.is_empty() {
            return Err(report(path, &text, &[Problem::at("issuer", "no issuer of tokens: nobody could ever call", "add an [[issuer]]")]));
        }
        let problems = file.limits.problems();
        if !problems.is_empty() {
            return Err(report(path, &text, &problems));
        }
        if let Some((keys, cause, remedy)) = file.operations.wrong().or_else(|| file.telemetry.wrong()) {
            return Err(report(path, &text, &[Problem::at(&keys.join("."), cause, remedy)]));
        }
        let witnesses = witnesses(&file.witnesses.outside).map_err(|problem| report(path, &text, &[problem]))?;
        let (server_tls, client_tls) = file.identities(base);
        let order_path = base.join(&file.orders.key);
        let order_key = SigningKey::from_pem(&secret(&order_path)?).ok_or_else(|| {
            miette!(
                help = "generate one: openssl genpkey -algorithm ed25519",
                "{} is not a PKCS#8 Ed25519 key in PEM",
                order_path.display()
            )
        })?;
        let issuers = issuers::check(file.issuer, base).map_err(|problems| report(path, &text, &problems))?;
        Ok(Self {
            listen: file.listen,
            state: base.join(file.state),
            log: base.join(file.log),
            estate: base.join(file.estate),
            limits: file.limits,
            guard: file.guard.map(|own| own.under(base)),
            quorum: file.witnesses.quorum,
            operations: file.operations,
            telemetry: file.telemetry,
            server_tls,
            client_tls,
            order_key,
            witnesses,
            issuers,
            auditors: file.auditors,
        })
    }
}

/// Checks outside witnesses. Two of one name would be one in a note.
fn witnesses(files: &[WitnessFile]) -> Result<Vec<Outside>, Problem> {
    let mut checked: Vec<Outside> = Vec::new();
    for file in files {
        let one = file.check()?;
        if checked.iter().any(|other| other.key.name() == one.key.name() || other.key.public() == one.key.public()) {
            return Err(Problem::at(one.key.name(), "is named twice among the witnesses, by its name or its key", "name each once"));
        }
        checked.push(one);
    }
    Ok(checked)
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> miette::Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| miette!(help = "check that the file exists and that this user may read it", "{}: {e}", path.display()))
}

/// Reads a private key's file, which nobody else may read.
fn secret(path: &Path) -> miette::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let text = read(path)?;
    let mode = std::fs::metadata(path).map_or(0o777, |m| m.permissions().mode());
    if mode & 0o077 != 0 {
        return Err(miette!(
            help = format!("chmod 600 {}", path.display()),
            "{} is readable by others (mode {:o})",
            path.display(),
            mode & 0o777
        ));
    }
    Ok(text)
}

/// A report of what is wrong with a file.
pub(crate) fn report(path: &Path, text: &str, problems: &[Problem]) -> Report {
    let lines: Vec<String> =
        problems.iter().map(|p| format!("{}:{}: {}\n  remedy: {}", path.display(), p.line(text), p.cause, p.remedy)).collect();
    let labels: Vec<miette::LabeledSpan> =
        problems.iter().filter_map(|p| p.span.clone().map(|span| miette::LabeledSpan::at(span, p.cause.clone()))).collect();
    miette!(labels = labels, "{}", lines.join("\n")).with_source_code(NamedSource::new(path.display().to_string(), text.to_owned()))
}
