//! The consent ledger: every record in the order it was made, in SQLite (WAL, synchronous). Nothing is ever changed or removed,
//! but for what is kept of the identifiers of people who are erased ([`mend`]): places, their number and the version stay.
//!
//! | column | |
//! |---|---|
//! | `place` | the record's place, from 1; the ledger's version is the last one |
//! | `identifier_type` | the type's label |
//! | `identifier` | normalised; none where it was erased |
//! | `erased` | the digest that stands in its stead, in what an erasure keeps; none in all other records |
//! | `sealed` | beside such a digest: the identifier, encrypted, where a no is kept; empty of who only agreed; else none |
//! | `purpose`, `event` | as in [`concordat_policy::consent`], and `corrected`, `erased` |
//! | `recorded_at` | RFC 3339, UTC |
//! | `effective_from`, `expires_at` | Unix seconds; mostly none |
//! | `capacity`, `acted_by` | who acted for the subject; mostly none |
//! | `corrects`, `speaking` | of a correction: the place that was wrong, and those of the subject that still speak (JSON) |
//! | `stated` | of a choice: the number of what its receipt states ([`super::stated`]) |
//!
//! Reading and writing have connections of their own: releases read on while a long import is written.

mod call;
mod insert;
mod mend;
mod reading;
mod record;
mod wipe;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};

pub(super) use self::call::Call;
use self::call::Known as KnownCall;
use self::insert::Insert;
pub use self::mend::{CorrectError, Erased};
pub(super) use self::mend::{Known, entry};
pub(super) use self::reading::Reading;
pub use self::record::{Acting, Details, Kept, Record, moment};
pub(super) use self::record::{Made, Row, Step, Subject};
pub use self::wipe::look;
use super::journal::{self, Note};
use super::spool::Spool;
use super::stated::{self, Numbers, Present};

/// Why the ledger failed. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite.
    #[error("the consent ledger: {0}")]
    Sqlite(rusqlite::Error),
    /// Another process writes.
    #[error("the consent ledger is being written by another import or command; nothing was recorded, try again in a minute")]
    Busy,
    /// A row that no version of this program wrote.
    #[error("the consent ledger holds a damaged record at place {0}")]
    Damaged(u64),
    /// A digest in an identifier's stead that is none.
    #[error("the consent ledger holds a damaged digest of somebody erased")]
    Digest,
    /// What is kept of an erased identifier.
    #[error("the consent ledger holds the identifier of somebody erased in a form that state/consent.secret does not open")]
    Sealed,
    /// More than numbers can count.
    #[error("the consent index cannot hold more {0}; nothing is released until the ledger is split")]
    Full(&'static str),
    /// A file beside the ledger.
    #[error("the files of the consent ledger: {0}")]
    File(#[from] io::Error),
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(getrandom::Error),
    /// A backup was restored: places that were used before would be given to other records.
    #[error(
        "the consent ledger is older than one that was used before, so nothing is recorded: restore the newest copy, or accept the loss \
         with `concordat-node acknowledge-restore` and record again"
    )]
    Behind,
    /// The secret under which people were erased is gone or another.
    #[error(
        "the consent ledger holds people who were erased under another secret than state/consent.secret, so what they objected to would \
         be forgotten: restore that file from the backup; nothing is released or recorded until then"
    )]
    Secret,
    /// A ledger that was made before ledgers kept what receipts state.
    #[error(
        "the consent ledger was made by a version of this program whose ledgers do not keep what receipts state, so it is not used: begin a \
         new state folder, and import its records there"
    )]
    Older,
    /// A choice without what its receipt states.
    #[error(
        "what the receipt of the record at place {0} stated is not in the consent ledger, so no receipt of it is made: the ledger is \
         damaged, or was written by another program; restore it from the backup"
    )]
    Unstated(u64),
    /// The ledger is not what an administrator was shown.
    #[error("the ledger changed meanwhile; look again")]
    Moved,
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ => Self::Sqlite(error),
        }
    }
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The place of the first record; the others follow it.
    pub first: u64,
    /// The ledger's version after them.
    pub version: u64,
}

impl Recorded {
    /// How many records.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.version.saturating_add(1).saturating_sub(self.first)).unwrap_or(usize::MAX)
    }
}

/// What an import did.
pub(super) enum Written {
    /// Something was imported under this name before, with this description.
    Before { description: String },
    /// Everything was written; the ledger is at this version.
    Now { version: u64 },
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS records (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        identifier_type TEXT NOT NULL,
        identifier TEXT,
        erased TEXT,
        sealed BLOB,
        purpose TEXT NOT NULL,
        event TEXT NOT NULL CHECK (event IN ('given', 'withdrawn', 'objected', 'corrected', 'erased')),
        recorded_at TEXT NOT NULL,
        effective_from INTEGER,
        expires_at INTEGER,
        capacity TEXT,
        acted_by TEXT,
        corrects INTEGER,
        speaking TEXT,
        stated INTEGER
    ) STRICT;
    CREATE INDEX IF NOT EXISTS corrections ON records (corrects) WHERE corrects IS NOT NULL;
    CREATE INDEX IF NOT EXISTS beginnings ON records (effective_from) WHERE effective_from IS NOT NULL;
    CREATE INDEX IF NOT EXISTS endings ON records (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE IF NOT EXISTS erasures (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        secret TEXT NOT NULL,
        unwiped INTEGER
    ) STRICT;
    CREATE TABLE IF NOT EXISTS imports (
        digest TEXT PRIMARY KEY,
        file TEXT NOT NULL,
        records INTEGER NOT NULL,
        recorded_at TEXT NOT NULL
    ) STRICT;";

/// The ledger's file, in the state folder.
const FILE: &str = "consent.sqlite";
/// How long a writer waits for another process.
const PATIENCE: Duration = Duration::from_secs(30);
/// How large the write-ahead log may stay after an import.
const KEPT_LOG: i64 = 64 << 20;

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// What tells this department's secret from another ([`super::secret::Secret::check`]).
    secret: String,
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

impl Ledger {
    /// Opens (or creates) the ledger under `state`, with what tells the department's secret from another.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(super) fn open(state: &Path, secret: String) -> Result<Self, LedgerError> {
        let path = state.join(FILE);
        let (writer, reader) = (connect(&path)?, connect(&path)?);
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "journal_size_limit", KEPT_LOG)?;
        // What is erased is overwritten.
        writer.pragma_update(None, "secure_delete", true)?;
        writer.execute_batch(SCHEMA)?;
        writer.execute_batch(journal::SCHEMA)?;
        writer.execute_batch(stated::SCHEMA)?;
        not_older(&reader)?;
        same_secret(&reader, &secret)?;
        Ok(Self { path, secret, reader: Mutex::new(reader), writer: Mutex::new(writer) })
    }

    /// The place of the last record; 0 when there is none.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn version(&self) -> Result<u64, LedgerError> {
        version(&lock(&self.reader))
    }

    /// When the last record was made, RFC 3339 in UTC; `None` when there is none.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn last_recorded(&self) -> Result<Option<String>, LedgerError> {
        let last = "SELECT recorded_at FROM records ORDER BY place DESC LIMIT 1";
        Ok(lock(&self.reader).query_row(last, [], |row| row.get(0)).optional()?)
    }

    /// Appends records to a ledger that is not behind and, where a command does so beside the node, a `note` of it, all or none.
    pub(super) fn record(&self, records: &[Record], present: &Present<'_>, note: Option<&Note>) -> Result<Recorded, LedgerError> {
        self.write(|transaction| {
            not_behind(transaction, present.least)?;
            let recorded = append(transaction, records, present)?;
            note.map_or(Ok(()), |note| note.write(transaction, Some(recorded.version)))?;
            Ok(recorded)
        })
    }

    /// Appends the records of a call, and keeps its name, all or none; nothing when that name was used before. Whether it was, and where
    /// its records stand; `None` where it stands for others.
    pub(super) fn record_once(
        &self,
        call: &Call,
        records: &[Record],
        present: &Present<'_>,
    ) -> Result<Option<(bool, Recorded)>, LedgerError> {
        self.write(|transaction| {
            not_behind(transaction, present.least)?;
            match call.known(transaction)? {
                KnownCall::Nothing => {}
                KnownCall::Others => return Ok(None),
                KnownCall::These(recorded) => return Ok(Some((true, recorded))),
            }
            let recorded = append(transaction, records, present)?;
            call.keep(transaction, &recorded)?;
            Ok(Some((false, recorded)))
        })
    }

    /// Where the records of a call stand that was made before, in a ledger that is not behind the version `least`.
    pub(super) fn recorded_before(&self, call: &Call, least: u64) -> Result<Option<Recorded>, LedgerError> {
        let connection = self.reader();
        not_behind(&connection, least)?;
        Ok(match call.known(&connection)? {
            KnownCall::These(recorded) => Some(recorded),
            KnownCall::Nothing | KnownCall::Others => None,
        })
    }

    /// Whether records were imported under this name.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn imported(&self, name: &str) -> Result<bool, LedgerError> {
        Ok(imported(&lock(&self.reader), name)?.is_some())
    }

    /// Appends everything in `spool` to a ledger that is not behind and keeps the first of `names` and `description`, all or none; nothing
    /// when any of those names was imported before. `written` is told how many records were written so far.
    pub(super) fn import(
        &self,
        names: &[&str],
        description: &str,
        spool: &mut Spool,
        present: &Present<'_>,
        note: Option<&Note>,
        mut written: impl FnMut(u64),
    ) -> Result<Written, LedgerError> {
        self.write(|transaction| {
            not_behind(transaction, present.least)?;
            for name in names {
                if let Some(known) = imported(transaction, name)? {
                    return Ok(Written::Before { description: known });
                }
            }
            let (mut insert, mut numbers) = (Insert::new(transaction)?, Numbers::new(present));
            let mut count = 0u64;
            spool.read(|scope, identifier, details| {
                if let Some(scope) = scope {
                    let stated = numbers.of(transaction, scope.purpose.as_str(), scope.event)?;
                    insert.scope(&scope.identifier_type, scope.purpose.as_str(), scope.event.as_str(), Some(stated))?;
                }
                insert.record(Subject::Identifier(identifier), details)?;
                count += 1;
                if count.is_multiple_of(1 << 14) {
                    written(count);
                }
                Ok(())
            })?;
            drop(insert);
            transaction.execute(
                "INSERT INTO imports (digest, file, records, recorded_at) VALUES (?1, ?2, ?3, ?4)",
                params![names.first(), description, count.cast_signed(), timestamp()],
            )?;
            let version = version(transaction)?;
            note.map_or(Ok(()), |note| note.write(transaction, Some(version)))?;
            Ok(Written::Now { version })
        })
    }

    /// Writes in one transaction: all, or nothing when `work` fails or this process ends.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        in_transaction(&mut lock(&self.writer), work)
    }

    /// The same, unless somebody else writes now: then nothing is done, and `false` returned at once.
    pub(super) fn write_if_idle(&self, work: impl FnOnce(&Transaction<'_>) -> Result<(), LedgerError>) -> Result<bool, LedgerError> {
        let Some(mut connection) = self.idle() else { return Ok(false) };
        connection.busy_timeout(Duration::ZERO)?;
        let done = in_transaction(&mut connection, work);
        connection.busy_timeout(PATIENCE)?;
        match done {
            Ok(()) => Ok(true),
            Err(LedgerError::Busy) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The writing connection, unless somebody writes now.
    fn idle(&self) -> Option<MutexGuard<'_, Connection>> {
        match self.writer.try_lock() {
            Ok(connection) => Some(connection),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn reader(&self) -> MutexGuard<'_, Connection> {
        lock(&self.reader)
    }
}

fn connect(path: &Path) -> Result<Connection, LedgerError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

fn in_transaction<T>(connection: &mut Connection, work: impl FnOnce(&Transaction<'_>) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

fn append(transaction: &Transaction<'_>, records: &[Record], present: &Present<'_>) -> Result<Recorded, LedgerError> {
    let before = version(transaction)?;
    let (mut insert, mut numbers) = (Insert::new(transaction)?, Numbers::new(present));
    for record in records {
        let stated = numbers.of(transaction, record.purpose.as_str(), record.event)?;
        insert.scope(&record.identifier_type, record.purpose.as_str(), record.event.as_str(), Some(stated))?;
        insert.record(Subject::Identifier(&record.identifier), &record.details)?;
    }
    drop(insert);
    Ok(Recorded { first: before + 1, version: version(transaction)? })
}

/// A ledger of this form.
fn not_older(connection: &Connection) -> Result<(), LedgerError> {
    let holds = |sql: &str| match connection.prepare(sql) {
        Ok(_) => Ok(()),
        Err(e) if e.to_string().contains("no such column") => Err(LedgerError::Older),
        Err(e) => Err(e.into()),
    };
    holds("SELECT stated FROM records")?;
    holds("SELECT unwiped FROM erasures")
}

/// Places that were used before are not used again.
fn not_behind(connection: &Connection, least: u64) -> Result<(), LedgerError> {
    if version(connection)? < least { Err(LedgerError::Behind) } else { Ok(()) }
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn version(connection: &Connection) -> Result<u64, LedgerError> {
    let last: Option<i64> = connection.query_row("SELECT max(place) FROM records", [], |row| row.get(0))?;
    Ok(last.map_or(0, i64::cast_unsigned))
}

/// What was erased can be found again under this secret only.
fn same_secret(connection: &Connection, secret: &str) -> Result<(), LedgerError> {
    let known: Option<String> = connection.query_row("SELECT secret FROM erasures", [], |row| row.get(0)).optional()?;
    if known.is_none_or(|known| known == secret) { Ok(()) } else { Err(LedgerError::Secret) }
}

/// What was imported under a name.
fn imported(connection: &Connection, name: &str) -> Result<Option<String>, LedgerError> {
    Ok(connection.query_row("SELECT file FROM imports WHERE digest = ?1", params![name], |row| row.get(0)).optional()?)
}

pub(super) fn timestamp() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}
