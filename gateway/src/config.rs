//! `gateway.toml`: read, checked, and every file it names opened, with errors that name file, line, cause and remedy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use concordat_operate::certificate::Files;
use concordat_operate::settings::{Operations, Telemetry};
use concordat_policy::Problem;
use concordat_proto::token::SigningKey;
use miette::{NamedSource, Report, miette};
use serde::Deserialize;

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
    /// Limits of one query.
    pub limits: Limits,
    /// `[operations]`.
    pub operations: Operations,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// What callers see.
    pub(crate) server_tls: Files,
    /// What nodes see, and the authority by which nodes are judged.
    pub(crate) client_tls: Files,
    pub(crate) order_key: SigningKey,
    pub(crate) issuers: Vec<IssuerConfig>,
}

/// Limits of one query.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of memory that its execution may use.
    pub memory: usize,
    /// How long it may take.
    pub deadline: Duration,
    /// Bytes of its answer.
    pub answer: usize,
}

/// An issuer of tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerConfig {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// A JSON Web Key set file.
    pub(crate) jwks: PathBuf,
    #[serde(default = "hour")]
    pub(crate) max_lifetime_seconds: i64,
    #[serde(default = "organisation")]
    pub(crate) organisation_claim: String,
    #[serde(default = "roles")]
    pub(crate) roles_claim: String,
    #[serde(default = "purpose")]
    pub(crate) purpose_claim: String,
}

fn hour() -> i64 {
    3600
}
fn organisation() -> String {
    "organisation".into()
}
fn roles() -> String {
    "roles".into()
}
fn purpose() -> String {
    "purpose".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: std::net::SocketAddr,
    state: PathBuf,
    log: PathBuf,
    estate: PathBuf,
    memory_mib: Option<usize>,
    deadline_seconds: Option<u64>,
    answer_mib: Option<usize>,
    tls: ServerTls,
    nodes: NodesTls,
    orders: Orders,
    #[serde(default)]
    operations: Operations,
    #[serde(default)]
    telemetry: Telemetry,
    issuer: Vec<IssuerConfig>,
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
        if let Some((keys, cause, remedy)) = file.operations.wrong().or_else(|| file.telemetry.wrong()) {
            return Err(report(path, &text, &[Problem::at(&keys.join("."), cause, remedy)]));
        }
        let (server_tls, client_tls) = file.identities(base);
        let order_path = base.join(&file.orders.key);
        let order_key = SigningKey::from_pem(&secret(&order_path)?).ok_or_else(|| {
            miette!(
                help = "generate one: openssl genpkey -algorithm ed25519",
                "{} is not a PKCS#8 Ed25519 key in PEM",
                order_path.display()
            )
        })?;
        let issuers = file.issuer.into_iter().map(|i| IssuerConfig { jwks: base.join(&i.jwks), ..i }).collect();
        Ok(Self {
            listen: file.listen,
            state: base.join(file.state),
            log: base.join(file.log),
            estate: base.join(file.estate),
            limits: Limits {
                memory: file.memory_mib.unwrap_or(256) << 20,
                deadline: Duration::from_secs(file.deadline_seconds.unwrap_or(120)),
                answer: file.answer_mib.unwrap_or(256) << 20,
            },
            operations: file.operations,
            telemetry: file.telemetry,
            server_tls,
            client_tls,
            order_key,
            issuers,
        })
    }
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
