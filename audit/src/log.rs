//! The handle to a log.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use tokio::sync::{oneshot, watch};

use crate::Entry;
use crate::cosigned::{self, Cosigned};
use crate::digest::DigestKey;
use crate::disk::Disk;
use crate::integrate::{Integrator, Shared};
use crate::key::LogKey;
use crate::note::VerifierKey;
use crate::persons::{self, Store};
use crate::promise::{Answered, Promise};
use crate::recover::{Recovered, check, recover};
use crate::stood::{self, Stood};
use crate::tile::Damage;
use crate::tree::{self, Hash};
use crate::writer::{Waiting, Writer};

/// Why an entry is not in the log. Nothing may leave the service then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The log cannot be opened.
    #[error("the log in {folder} cannot be opened")]
    Open {
        /// Where.
        folder: PathBuf,
        /// The system's error, or what was found damaged.
        #[source]
        source: Arc<io::Error>,
    },
    /// The entry, or who it is about, cannot be made durable: disk full, I/O error, read-only.
    #[error("the log cannot be written")]
    Write(#[source] Arc<io::Error>),
    /// The entry is longer than 65,535 bytes.
    #[error("a log entry may be at most 65,535 bytes")]
    TooLong,
    /// The disk is full, and the rest of its space is for entries that close something.
    #[error("the log's disk is full: until it has room, only what is open is closed")]
    Full,
    /// Entries are durable and cannot be brought into the tree.
    #[error("the log's tree cannot be written")]
    Behind,
    /// More entries wait than the writer takes.
    #[error("the log cannot keep up")]
    Busy,
    /// The writer has ended.
    #[error("the log is closed")]
    Closed,
    /// A proof, a promise or cosignatures of what the log does not have.
    #[error("the log has not what was asked for")]
    Asked(#[source] Arc<io::Error>),
}

impl LogError {
    /// With its cause, for the operator.
    #[must_use]
    pub fn with_cause(&self) -> String {
        std::error::Error::source(self).map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }

    /// What to do where a log cannot be opened.
    #[must_use]
    pub fn remedy(&self) -> String {
        let Self::Open { folder, source } = self else { return WRITABLE.into() };
        match source.get_ref().and_then(|of| of.downcast_ref::<Damage>()) {
            Some(damage) => damage.remedy.clone(),
            None if source.kind() == io::ErrorKind::InvalidData => format!(
                "something in it was changed or lost: `concordat audit verify --log {}` says what. Keep the folder as evidence, and \
                 restore it from a backup; its witnesses refuse a new log in its place",
                folder.display()
            ),
            None => WRITABLE.into(),
        }
    }
}

/// What must be so that a log can be opened at all.
const WRITABLE: &str = "the folder must be readable and writable, with room on its disk, and no other program may use it";

/// A handle to one log. Clones share it.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Waiting>,
    digest_key: Arc<DigestKey>,
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

/// Entries that may wait at once; beyond that [`LogError::Busy`] bounds memory.
pub(crate) const QUEUE: usize = 4096;

impl Log {
    /// Opens the log `origin` in `folder` (created with mode 0700 when absent), and starts its threads. The origin is the log's name in
    /// its checkpoints, `concordat/<organisation>/<program>`, without spaces; it stays. Blocks.
    ///
    /// # Errors
    /// [`LogError::Open`], also when another process holds the log, it is another log, or something in it is damaged.
    pub fn open(folder: &Path, origin: &str) -> Result<Self, LogError> {
        Self::opened(folder, origin, None)
    }

    /// The same for the program whose folder of state, which is another, is `state`: it remembers there where the log stood, and opens none
    /// that ends before that or has another history. Where there is nothing to remember, or requests are digested by another key than
    /// before, the log tells so first of all.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_remembered(folder: &Path, origin: &str, state: &Path) -> Result<Self, LogError> {
        Self::opened(folder, origin, Some(state))
    }

    /// Whether [`Log::open_remembered`] would open the log, for whoever holds its lock. Nothing is changed. Blocks.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn check(folder: &Path, origin: &str, state: &Path) -> Result<(), LogError> {
        let disk = Disk::at(folder);
        let checked = LogKey::find(&disk, origin).and_then(|key| match key {
            None => stood::none(state),
            // What requests are digested by is only told.
            Some(key) => check(&disk, &key, &Stood::at(state, &key, String::new())?),
        });
        let checked = checked.and_then(|()| persons::check(folder));
        checked.map_err(|source| LogError::Open { folder: folder.to_owned(), source: Arc::new(source) })
    }

    fn opened(folder: &Path, origin: &str, state: Option<&Path>) -> Result<Self, LogError> {
        Self::on(Disk::at(folder), origin, state).map_err(|source| LogError::Open { folder: folder.to_owned(), source: Arc::new(source) })
    }

    pub(crate) fn on(disk: Disk, origin: &str, state: Option<&Path>) -> io::Result<Self> {
        let lock = disk.lock()?;
        disk.prepare()?;
        let digest_key = Arc::new(DigestKey::at(&disk.folder)?);
        let begins = LogKey::find(&disk, origin)?.is_none();
        if let Some(state) = state.filter(|_| begins) {
            stood::none(state)?;
        }
        let key = LogKey::open(&disk, origin)?;
        let stood = state.map(|state| Stood::at(state, &key, digest_key.fingerprint())).transpose()?;
        let Recovered { tail, checkpoint, edge, bundle, waiting, salts, last, found } = recover(&disk, &key, stood.as_ref())?;
        // Of a log that has just begun there is nothing to tell.
        let found = found.filter(|_| !begins);
        let persons = Store::open(&disk.folder, tail.last() > 0)?;
        let checkpoint = cosigned::bare(&key, &checkpoint)?;
        let shared = Shared::new(lock, key, disk, Arc::clone(&edge), &checkpoint, stood);
        shared.add(waiting);
        let (queue, entries) = sync_channel(QUEUE);
        let writer = Writer::new(Arc::clone(&shared), tail, persons, (salts, last), found);
        let integrator = Integrator::new(Arc::clone(&shared), edge, bundle);
        std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&entries))?;
        std::thread::Builder::new().name("audit-tree".into()).spawn(move || integrator.run())?;
        Ok(Self { queue, digest_key, shared })
    }

    /// Whether the last attempt to write failed, in the tail or in the tree, or the space that is kept for a full disk was given back.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.is_failing()
    }

    /// How many attempts to write failed since the log was opened.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.health.failures.load(Ordering::Relaxed)
    }

    /// Appends an entry and returns its number once it is on stable storage.
    ///
    /// # Errors
    /// A [`LogError`]: the entry is not in the log, and what it would have recorded must not happen.
    pub async fn append(&self, entry: Entry) -> Result<u64, LogError> {
        let (done, result) = oneshot::channel();
        self.queue.try_send(Waiting { entry, done }).map_err(|e| match e {
            TrySendError::Full(_) => LogError::Busy,
            TrySendError::Disconnected(_) => LogError::Closed,
        })?;
        result.await.map_err(|_| LogError::Closed)?
    }

    /// As [`DigestKey::digest`], under this log's own key.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> String {
        self.digest_key.digest(bytes)
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.shared.key.origin()
    }

    /// The key that verifies the log's checkpoints and promises, as `log.vkey` has it.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.shared.key.verifier()
    }

    /// The log's signed word that the entry `number`, which [`Log::append`] returned, is in it for good. Blocks for an old entry.
    ///
    /// # Errors
    /// [`LogError::Asked`] when there is no such entry.
    pub fn promise(&self, number: u64) -> Result<Promise, LogError> {
        self.promised(number, None)
    }

    /// The same, and that the entry is the one of this answer, whose digest it holds.
    ///
    /// # Errors
    /// As [`Log::promise`].
    pub fn promise_answer(&self, number: u64, answer: Answered) -> Result<Promise, LogError> {
        self.promised(number, Some(answer))
    }

    fn promised(&self, number: u64, answer: Option<Answered>) -> Result<Promise, LogError> {
        let leaf = self.shared.leaf(number).map_or_else(
            || {
                let index = number.checked_sub(1).filter(|index| *index < self.shared.size());
                let index = index.ok_or_else(|| asked(format!("there is no entry {number}")))?;
                self.shared.proved().leaf(index).map_err(of)
            },
            Ok,
        )?;
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        Ok(Promise::sign(&self.shared.key, number.saturating_sub(1), leaf, answer, time))
    }

    /// Has all that was acknowledged covered by a checkpoint at once, for a program that stops: until it started again, nothing would vouch
    /// for its last entries. `false` where that takes longer than `patience`, or fails. Blocks.
    #[must_use]
    pub fn settle(&self, patience: Duration) -> bool {
        self.shared.settle(patience)
    }

    /// The latest checkpoint's text: a signed note.
    #[must_use]
    pub fn checkpoint(&self) -> Arc<str> {
        Arc::clone(&self.shared.checkpoint().borrow())
    }

    /// Tells of every new checkpoint; of cosignatures that are added to one it does not.
    #[must_use]
    pub fn checkpoints(&self) -> watch::Receiver<Arc<str>> {
        self.shared.checkpoint()
    }

    /// How many entries the latest checkpoint covers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shared.size()
    }

    /// The same, and when that checkpoint was published, which is before anybody is told of it; for one that was there already, when the
    /// log was opened.
    #[must_use]
    pub fn published(&self) -> (u64, Instant) {
        self.shared.published()
    }

    /// The hashes that prove the entry at `index` (from 0) to be in the tree of `size` (RFC 6962, section 2.1.1). Blocks.
    ///
    /// # Errors
    /// [`LogError::Asked`] beyond what the latest checkpoint covers, or when a tile cannot be read.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        self.covered(size)?;
        tree::inclusion(&self.shared.proved(), index, size).map_err(of)
    }

    /// The hashes that prove the tree of `from` to be the beginning of the tree of `to` (RFC 6962, section 2.1.2). Blocks.
    ///
    /// # Errors
    /// As [`Log::inclusion`].
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, LogError> {
        self.covered(to)?;
        tree::consistency(&self.shared.proved(), from, to).map_err(of)
    }

    /// Adds cosignature lines, which the caller has verified, to `checkpoint`: one of this log's, cosigned or not. It becomes the
    /// `checkpoint.cosigned` of the folder unless the one there is better: one that witnesses whose names are `enough` have cosigned gives
    /// way to a newer such one only. Where it is the latest, `checkpoint` has the lines too. Blocks.
    ///
    /// # Errors
    /// [`LogError::Asked`] for another log's checkpoint or lines of another form; [`LogError::Write`].
    pub fn add_cosignatures(&self, checkpoint: &str, lines: &str, enough: impl Fn(&BTreeSet<&str>) -> bool) -> Result<(), LogError> {
        let signed = self.shared.key.open_checkpoint(checkpoint).ok_or_else(|| asked("the checkpoint is not one of this log's".into()))?;
        let lines = cosigned::signatures(&self.shared.key, lines).filter(|_| signed.checkpoint().size <= self.shared.size());
        let form = || asked("cosignatures are lines of a signed note, on a checkpoint that the log has published".into());
        let new = Cosigned { signed, lines: lines.ok_or_else(form)?, enough: &enough };
        cosigned::add(&self.shared, new).map_err(|e| LogError::Write(Arc::new(e)))
    }

    /// Has those cosignatures count that stand in the folder since before, where one of these witnesses made them: until then, none does.
    /// For once, when the log was opened. Blocks.
    ///
    /// # Errors
    /// [`LogError::Write`].
    pub fn take_up_cosignatures(&self, witnesses: &[VerifierKey]) -> Result<(), LogError> {
        let now = u64::try_from(Utc::now().timestamp()).unwrap_or_default();
        cosigned::take_up(&self.shared, witnesses, now).map_err(|e| LogError::Write(Arc::new(e)))
    }

    fn covered(&self, size: u64) -> Result<(), LogError> {
        let covered = self.shared.size();
        if size <= covered { Ok(()) } else { Err(asked(format!("a tree of {size} entries: the latest checkpoint covers {covered}"))) }
    }
}

fn asked(what: String) -> LogError {
    of(io::Error::new(io::ErrorKind::InvalidInput, what))
}

fn of(error: io::Error) -> LogError {
    LogError::Asked(Arc::new(error))
}

mod receipts;
#[cfg(test)]
pub(crate) mod tests;
