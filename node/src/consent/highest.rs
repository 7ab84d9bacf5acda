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

/// Held by whoever changes the files beside the ledger. Several processes may want to at once.
pub(super) struct Turn(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

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

    /// Remembers `version`, if it is higher.
    pub(super) fn raise(&self, version: u64) -> io::Result<()> {
        if self.read()? >= version {
            return Ok(());
        }
        let turn = self.turn()?;
        if self.read()? < version {
            self.set(version, &turn)?;
        }
        Ok(())
    }

    /// Waits for the lock.
    pub(super) fn turn(&self) -> io::Result<Turn> {
        // The folder: a file made by an administrator's command would belong to somebody else than the node.
        let folder = File::open(self.path.parent().unwrap_or(Path::new(".")))?;
        folder.lock()?;
        Ok(Turn(folder))
    }

    /// Remembers `version`, be it lower: only where an administrator accepted a restored backup.
    pub(super) fn set(&self, version: u64, _: &Turn) -> io::Result<()> {
        private::replace(&self.path, format!("{version}\n").as_bytes())
    }
}
