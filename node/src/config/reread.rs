//! The parts of `node.toml` that are read again while the node runs, or although the rest cannot be used.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use concordat_operate::Fault;
use concordat_operate::certificate::{Files, text};
use concordat_policy::agreement::Fingerprint;

use super::file;

/// Whose calls are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// The client certificates of the gateway.
    pub gateway: BTreeSet<Fingerprint>,
    /// The client certificates of the department's administrators.
    pub administrators: BTreeSet<Fingerprint>,
}

impl Pins {
    /// Reads `[gateway].certificates` and `[administrators].certificates`.
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
        Ok(Self { gateway, administrators: file.administrators.certificates.into_iter().collect() })
    }
}

/// Where things lie, for checking each by itself.
#[derive(Debug, Clone)]
pub struct Paths {
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
        Ok(Self { tls, state: at(&file.state), log: at(&file.log), spill: at(&file.spill) })
    }
}

fn understood(path: &Path) -> Result<file::File, Fault> {
    toml::from_str(&text(path)?).map_err(|e| Fault::new(path.display(), e.message(), "`concordat-node check` shows the line"))
}
