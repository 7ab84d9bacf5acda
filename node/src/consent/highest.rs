//! The highest version of the consent ledger that was ever seen: kept beside the ledger, not in it, so that restoring the
//! ledger from a backup does not restore this.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::private;

#[derive(Debug)]
pub(super) struct Highest {
    path: PathBuf,
}

impl Highest {
    pub(super) fn at(state: &Path) -> Self {
        Self { path: state.join("consent-version") }
    }

    /// The version; 0 where none was seen.
    pub(super) fn read(&self) -> io::Result<u64> {
        match fs::read_to_string(&self.path) {
            Ok(text) => {
                text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "state/consent-version holds no number"))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Remembers `version`, if it is higher. Several processes may do so at once.
    pub(super) fn raise(&self, version: u64) -> io::Result<()> {
        if self.read()? >= version {
            return Ok(());
        }
        let lock = File::create(self.path.with_extension("lock"))?;
        lock.lock()?;
        if self.read()? < version {
            private::replace(&self.path, format!("{version}\n").as_bytes())?;
        }
        Ok(())
    }
}
