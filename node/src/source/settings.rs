//! How a database server is reached, and as whom: the same for every kind.

use std::path::{Path, PathBuf};

use concordat_operate::Fault;
use concordat_operate::certificate::{self, Files, Identity, certificates, provider};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

/// Where a server is, and as whom the node signs in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub host: Host,
    /// Its port, which also names PostgreSQL's Unix socket.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// A file whose first line is the role's password; read anew for each connection.
    pub password_file: Option<PathBuf>,
    /// Absent only for a Unix socket, or where plaintext to this machine was asked for.
    pub tls: Option<Tls>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name or address.
    Name(String),
    /// A Unix socket: PostgreSQL's by its folder, MariaDB's and MySQL's by its own path.
    Socket(PathBuf),
}

/// How a server is known, and the node to it.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authorities of the server's certificate, in PEM.
    pub ca: PathBuf,
    /// The node's own certificate and key, where the server asks for one.
    pub identity: Option<Files>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn config(&self) -> Result<ClientConfig, Fault> {
        let mut roots = RootCertStore::empty();
        let unusable =
            |e: rustls::Error| Fault::new(self.ca.display(), format!("cannot be used: {e}"), "use the authority's own certificate");
        for authority in certificates(&self.ca, &certificate::text(&self.ca)?)? {
            roots.add(authority).map_err(unusable)?;
        }
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(unusable)?;
        let builder = builder.with_root_certificates(roots);
        let Some(files) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let identity = Identity::load(files)?;
        let unusable = |cause: String| Fault::new(files.key.display(), cause, "use the private key of this certificate, PKCS#8 in PEM");
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|_| unusable("holds no private key".into()))?;
        builder.with_client_auth_cert(identity.chain, key).map_err(|e| unusable(e.to_string()))
    }
}

impl Settings {
    /// The role's password, if there is a file of it.
    ///
    /// # Errors
    /// When the file cannot be read, or others could, or is empty.
    pub fn password(&self) -> Result<Option<Zeroizing<String>>, Fault> {
        self.password_file.as_deref().map(password).transpose()
    }
}

/// The password in the first line of a file.
pub(super) fn password(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let text = certificate::private(path).map_err(|fault| Fault {
        cause: fault.cause.replace("a private key", "a password"),
        remedy: fault.remedy.replace("the key", "the password"),
        ..fault
    })?;
    let first = text.lines().next().filter(|line| !line.is_empty() && !line.contains('\0'));
    let first = first.ok_or_else(|| Fault::new(path.display(), "holds no password in its first line", "put it there, alone"))?;
    Ok(Zeroizing::new(first.to_owned()))
}
