//! The department's consent records: the ledger on disk ([`ledger`]) and the index in memory that releases read ([`index`]).
//!
//! ```text
//! Record / import ─▶ ledger (SQLite, durable, ordered by place) ─▶ index (catches up at the start of every release) ─▶ release
//! ```
//!
//! Invariants
//! - A record that was acknowledged before a release started is honoured by it, whichever process wrote it.
//! - A release reads one version, from its first row to its last ([`Snapshot`]).
//! - A ledger that is behind the highest version ever seen (a restored backup) stops releases until it is put right, or an
//!   administrator accepts it ([`restored`]), which begins a new [`generation`].
//! - What commands do beside the node stands in its access log too ([`journal`]).

mod generation;
mod highest;
pub mod import;
pub mod index;
pub mod intake;
pub mod journal;
pub mod ledger;
pub mod reach;
pub mod restored;
pub mod rows;
pub mod show;
mod spool;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use concordat_policy::{Code, Name, Refusal};

pub use self::generation::Acknowledged;
use self::generation::Generation;
use self::highest::Highest;
use self::index::Index;
pub use self::index::{Snapshot, View};
use self::journal::Note;
use self::ledger::{Ledger, LedgerError, Record, Written};
use self::spool::Spool;

/// Ledger and index.
#[derive(Debug)]
pub struct Consent {
    department: Name,
    state: PathBuf,
    ledger: Ledger,
    highest: Highest,
    generation: Generation,
    /// With the generation that it was read in.
    index: Mutex<(u32, Index)>,
}

/// What a catch-up brought.
#[derive(Debug)]
pub struct CaughtUp {
    /// The version before.
    pub from: u64,
    /// The ledger's generation.
    pub generation: u32,
    /// What a release reads.
    pub snapshot: Snapshot,
}

impl Consent {
    /// Opens (or creates) the ledger under `state`; the index is empty until the first [`Consent::catch_up`].
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(state: &Path, department: Name) -> Result<Self, LedgerError> {
        let ledger = Ledger::open(state)?;
        let index = Index::new().map_err(LedgerError::Random)?;
        let generation = Generation::at(state);
        let read = generation.read()?;
        Ok(Self { department, state: state.to_owned(), ledger, highest: Highest::at(state), generation, index: Mutex::new((read, index)) })
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The ledger's generation. Reads a file.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn generation(&self) -> Result<u32, LedgerError> {
        Ok(self.generation.read()?)
    }

    /// Reads what is new in the ledger. Blocks.
    ///
    /// # Errors
    /// [`Code::NodeRefused`] when the ledger is behind a version that was seen before; [`Code::Internal`] when it cannot be read.
    pub fn catch_up(&self) -> Result<CaughtUp, Refusal> {
        let mut read = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let (in_generation, index) = &mut *read;
        let generation = self.generation.read().map_err(Refusal::internal)?;
        if *in_generation != generation {
            // A backup was restored and acknowledged: what was read before is of another ledger.
            (*in_generation, *index) = (generation, Index::new().map_err(|e| Refusal::internal(LedgerError::Random(e)))?);
        }
        let from = index.version();
        let seen = self.highest.read().map_err(Refusal::internal)?.max(from);
        let version = self.ledger.version().map_err(Refusal::internal)?;
        if version < seen {
            return Err(Refusal::new(
                Code::NodeRefused,
                "this department's consent ledger is older than one it has used before, so nothing is released",
            )
            .department(&self.department)
            .advice("the department's administrator must restore the newest ledger, or accept the loss with `concordat-node acknowledge-restore`")
            .operator(format!(
                "the ledger is at version {version}, and version {seen} was seen: a backup was restored. Restore the newest copy; only \
                 if it is lost, suspend everything, accept the loss with `concordat-node acknowledge-restore`, enter the missing \
                 records again, and resume"
            )));
        }
        // Raised before a release can state the version, so that a later restore is noticed whatever happens next.
        self.highest.raise(version).map_err(Refusal::internal)?;
        self.ledger.since(from, version, |record| index.apply(record)).map_err(Refusal::internal)?;
        index.advance(version).map_err(Refusal::internal)?;
        Ok(CaughtUp { from, generation, snapshot: index.snapshot() })
    }

    /// Appends records. Blocks until they are durable.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Behind`] while a restored backup is neither replaced nor accepted.
    pub fn record(&self, records: &[Record]) -> Result<u64, LedgerError> {
        self.record_noted(records, None)
    }

    /// As [`Consent::record`], with a note of what a command does.
    pub(crate) fn record_noted(&self, records: &[Record], note: Option<&Note>) -> Result<u64, LedgerError> {
        let version = self.ledger.record(records, self.highest.read()?, note)?;
        self.highest.raise(version)?;
        Ok(version)
    }

    /// Writes what an import has brought.
    fn write_import(
        &self,
        name: &str,
        description: &str,
        spool: &mut Spool,
        note: Option<&Note>,
        written: impl FnMut(u64),
    ) -> Result<Written, LedgerError> {
        let outcome = self.ledger.import(name, description, spool, self.highest.read()?, note, written)?;
        if let Written::Now { version } = &outcome {
            self.highest.raise(*version)?;
        }
        Ok(outcome)
    }

    /// The ledger's version, unless it is behind one that was seen before.
    fn current(&self) -> Result<u64, Refusal> {
        let seen = self.highest.read().map_err(Refusal::internal)?;
        let version = self.ledger.version().map_err(Refusal::internal)?;
        if version < seen {
            let message = "this department's consent ledger is older than one it has used before: choices may be missing in it";
            return Err(Refusal::new(Code::NodeRefused, message)
                .department(&self.department)
                .advice("the department's administrator must restore the newest ledger"));
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests;
