//! The department's consent records: the ledger on disk ([`ledger`]) and the index in memory that releases read ([`index`]).
//!
//! ```text
//! Record / import ─▶ ledger (SQLite, durable, ordered by place) ─▶ index (catches up at the start of every release) ─▶ release
//! ```
//!
//! Invariants
//! - A record that was acknowledged before a release started is honoured by it, whichever process wrote it.
//! - A release reads one version, from its first row to its last, and judges records with times at one moment ([`Snapshot`]).
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
pub mod mend;
pub mod reach;
pub mod receipt;
pub mod restored;
pub mod rows;
mod secret;
pub mod show;
mod spool;
mod stated;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use concordat_policy::agreement::hex;
use concordat_policy::{Code, Name, PurposeTree, Refusal};
use concordat_proto::v1;
use sha2::{Digest as _, Sha256};

pub use self::generation::Acknowledged;
use self::generation::Generation;
use self::highest::Highest;
pub(crate) use self::index::Changed;
use self::index::Index;
pub use self::index::{Snapshot, View};
use self::intake::Intake;
use self::journal::Note;
use self::ledger::{Call, Ledger, LedgerError, Reading, Record, Recorded, Written};
use self::secret::Secret;
use self::spool::Spool;
use self::stated::Present;
use crate::framing::framed;

/// Ledger and index.
#[derive(Debug)]
pub struct Consent {
    department: Name,
    state: PathBuf,
    secret: Secret,
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
        let highest = Highest::at(state);
        let secret = Secret::open(state, &highest)?;
        let ledger = Ledger::open(state, secret.check())?;
        let index = Index::new(Arc::clone(secret.hasher()));
        let generation = Generation::at(state);
        let read = generation.read()?;
        Ok(Self { department, state: state.to_owned(), secret, ledger, highest, generation, index: Mutex::new((read, index)) })
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
            (*in_generation, *index) = (generation, Index::new(Arc::clone(self.secret.hasher())));
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
        if version > from {
            // Version and rows of one moment: an erasure that comes now is read whole, or not at all.
            let reading = self.ledger.reading().map_err(Refusal::internal)?;
            self.highest.raise(reading.version()).map_err(Refusal::internal)?;
            reading.since(from, |row| index.apply(row)).map_err(Refusal::internal)?;
            index.advance(reading.version()).map_err(Refusal::internal)?;
        }
        Ok(CaughtUp { from, generation, snapshot: index.snapshot(Utc::now().timestamp()) })
    }

    /// Appends records whose receipts name purposes as they are written, and give no notice. Blocks until they are durable.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Behind`] while a restored backup is neither replaced nor accepted.
    pub fn record(&self, records: &[Record]) -> Result<u64, LedgerError> {
        let intake = Intake::of(std::iter::empty(), PurposeTree::default());
        Ok(self.record_noted(&intake, records, None)?.version)
    }

    /// As [`Consent::record`], with what `intake` tells people, and with a note of what a command does. Where the records stand.
    pub(crate) fn record_noted(&self, intake: &Intake, records: &[Record], note: Option<&Note>) -> Result<Recorded, LedgerError> {
        let recorded = self.ledger.record(records, &self.present(intake)?, note)?;
        self.highest.raise(recorded.version)?;
        Ok(recorded)
    }

    /// As [`Consent::record_noted`], under the name that the sender gave the call, with what was `sent`: its records are made once.
    /// Whether they had been made before, and where they stand; `None` where the name stands for others.
    ///
    /// # Errors
    /// As [`Consent::record`].
    pub(crate) fn record_once(
        &self,
        intake: &Intake,
        records: &[Record],
        (id, sent): (&str, &[v1::ConsentRecord]),
    ) -> Result<Option<(bool, Recorded)>, LedgerError> {
        let call = Call::new(id, self.secret.records(&hash(records)), self.secret.records(&hash_of_sent(sent)));
        let outcome = self.ledger.record_once(&call, records, &self.present(intake)?)?;
        if let Some((false, recorded)) = &outcome {
            self.highest.raise(recorded.version)?;
        }
        Ok(outcome)
    }

    /// Where the records stand of a call that was made before, just as it was `sent` again, whether or not the department can still read it.
    ///
    /// # Errors
    /// As [`Consent::record`].
    pub(crate) fn recorded_before(&self, id: &str, sent: &[v1::ConsentRecord]) -> Result<Option<Recorded>, LedgerError> {
        let call = Call::new(id, String::new(), self.secret.records(&hash_of_sent(sent)));
        self.ledger.recorded_before(&call, self.highest.read()?)
    }

    /// What holds now. The generation is read last: within an older one no place of a restored ledger is given out.
    fn present<'a>(&'a self, intake: &'a Intake) -> Result<Present<'a>, LedgerError> {
        let least = self.highest.read()?;
        let generation = self.generation.read()?;
        Ok(Present { least, generation, department: &self.department, purposes: intake.purposes(), notice: intake.notice() })
    }

    /// Wipes what is left of older copies of people who were erased, if nobody is in the way. The version of the last erasure where that
    /// is done now. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn wipe(&self) -> Result<Option<u64>, LedgerError> {
        self.ledger.wipe()
    }

    /// The version of the last erasure, while there are older copies of who was erased.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn unwiped(&self) -> Result<Option<u64>, LedgerError> {
        self.ledger.unwiped()
    }

    /// Whether a file with this hash was imported before.
    fn imported(&self, digest: &str) -> Result<bool, LedgerError> {
        Ok(self.ledger.imported(digest)? || self.ledger.imported(&self.secret.file(digest))?)
    }

    /// Writes what an import has brought, under the first of `names`, unless one of them was used before.
    fn write_import(
        &self,
        names: &[&str],
        description: &str,
        spool: &mut Spool,
        note: Option<&Note>,
        written: impl FnMut(u64),
    ) -> Result<Written, LedgerError> {
        let intake = spool.intake().clone();
        let outcome = self.ledger.import(names, description, spool, &self.present(&intake)?, note, written)?;
        if let Written::Now { version } = &outcome {
            self.highest.raise(*version)?;
        }
        Ok(outcome)
    }

    /// The ledger as it is now, unless it is behind a version that was seen before.
    fn current(&self) -> Result<Reading, Refusal> {
        let seen = self.highest.read().map_err(Refusal::internal)?;
        let reading = self.ledger.reading().map_err(Refusal::internal)?;
        if reading.version() < seen {
            let message = "this department's consent ledger is older than one it has used before: choices may be missing in it";
            return Err(Refusal::new(Code::NodeRefused, message)
                .department(&self.department)
                .advice("the department's administrator must restore the newest ledger"));
        }
        Ok(reading)
    }
}

/// What tells records from others, in order.
fn hash(records: &[Record]) -> String {
    let mut hasher = Sha256::new();
    for record in records {
        let details = spool::written(&record.details);
        hasher.update(framed(&[
            record.identifier_type.as_bytes(),
            record.purpose.as_str().as_bytes(),
            record.event.as_str().as_bytes(),
            record.identifier.as_bytes(),
            &details,
        ]));
    }
    hex(&hasher.finalize())
}

/// What tells calls from others as they were sent.
fn hash_of_sent(records: &[v1::ConsentRecord]) -> String {
    let mut hasher = Sha256::new();
    for record in records {
        let v1::ConsentRecord { identifier, identifier_type, purpose, event, effective_from, expires_at, capacity, acted_by } = record;
        let texts = [identifier, identifier_type, purpose, event, effective_from, expires_at, capacity, acted_by];
        hasher.update(framed(&texts.map(|text| text.as_bytes())));
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests;
