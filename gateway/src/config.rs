//! `gateway.toml`: read, checked, and every file it names opened, with errors that name file, line, cause and remedy.

use std::path::{Path, PathBuf};

use concordat_policy::Problem;
use concordat_policy::agreement::Fingerprint;
use concordat_proto::token::SigningKey;
use miette::{NamedSource, Report, miette};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

use crate::fetch::ClientTls;
use crate::issuers::{self, IssuerConfig, IssuerFile};
use crate::limits::Settings;

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
    pub(crate) server_certificate: String,
    pub(crate) server_key: String,
    pub(crate) client_tls: ClientTls,
    pub(crate) client_certificates: Vec<Fingerprint>,
    pub(crate) order_key: SigningKey,
    pub(crate) issuers: Vec<IssuerConfig>,
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
    issuer: Vec<IssuerFile>,
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
        let certificate = read(&base.join(&file.nodes.certificate))?;
        let client_certificates = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .take(1)
            .map(|der| der.map(|d| Fingerprint::of(&d)))
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|all| !all.is_empty())
            .ok_or_else(|| {
                miette!(help = "give a PEM certificate", "{} holds no certificate", base.join(&file.nodes.certificate).display())
            })?;
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
            server_certificate: read(&base.join(file.tls.certificate))?,
            server_key: secret(&base.join(file.tls.key))?,
            client_tls: ClientTls { ca: read(&base.join(file.nodes.ca))?, certificate, key: secret(&base.join(file.nodes.key))? },
            client_certificates,
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
