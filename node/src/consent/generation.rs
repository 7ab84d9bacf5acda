//! The generation of the consent ledger: how often the department has acknowledged that it restored a backup. Kept beside the
//! ledger, with the acknowledgements that the access log does not hold yet: the log belongs to the running node.
//!
//! The gateway remembers the highest (generation, version) that it saw in a receipt, so that a backup of the whole state folder,
//! which brings an older generation along, is noticed there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::private;

/// The most acknowledgements that may wait to be logged: a node that logs them starts in between.
const MOST_UNLOGGED: usize = 1_000;

/// What was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// The generation that it began.
    pub generation: u32,
    /// The highest version that the state folder knew of.
    pub known: u64,
    /// The version of the restored ledger.
    pub version: u64,
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// The user of the operating system who did it, by number.
    pub user: u32,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    generation: u32,
    unlogged: Vec<Acknowledged>,
}

#[derive(Debug)]
pub(super) struct Generation {
    path: PathBuf,
}

impl Generation {
    pub(super) fn at(state: &Path) -> Self {
        Self { path: state.join("consent-generation.json") }
    }

    /// The generation; 0 where nothing was acknowledged.
    pub(super) fn read(&self) -> io::Result<u32> {
        Ok(self.kept()?.generation)
    }

    /// Begins the next generation, durably. The caller holds the lock of the highest version.
    pub(super) fn advance(&self, acknowledged: impl FnOnce(u32) -> Acknowledged) -> io::Result<Acknowledged> {
        let mut kept = self.kept()?;
        if kept.unlogged.len() >= MOST_UNLOGGED {
            return Err(io::Error::other("a thousand acknowledgements wait to be logged: start the node first"));
        }
        kept.generation = kept.generation.checked_add(1).ok_or_else(|| io::Error::other("there is no higher generation"))?;
        let acknowledged = acknowledged(kept.generation);
        kept.unlogged.push(acknowledged.clone());
        self.keep(&kept)?;
        Ok(acknowledged)
    }

    /// What the log does not hold yet.
    pub(super) fn unlogged(&self) -> io::Result<Vec<Acknowledged>> {
        Ok(self.kept()?.unlogged)
    }

    /// Forgets what the log holds now. The caller holds the lock of the highest version.
    pub(super) fn logged(&self, entries: &[Acknowledged]) -> io::Result<()> {
        let mut kept = self.kept()?;
        kept.unlogged.retain(|waiting| !entries.contains(waiting));
        self.keep(&kept)
    }

    fn kept(&self) -> io::Result<Kept> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("state/consent-generation.json is damaged: {e}"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
            Err(e) => Err(e),
        }
    }

    fn keep(&self, kept: &Kept) -> io::Result<()> {
        private::replace(&self.path, &serde_json::to_vec(kept)?)
    }
}
