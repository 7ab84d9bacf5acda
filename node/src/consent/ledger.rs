//! The consent ledger: every record in the order it was made, in SQLite (WAL, synchronous). Nothing is ever changed or removed.
//!
//! | column | |
//! |---|---|
//! | `place` | the record's place, from 1; the ledger's version is the last one |
//! | `identifier_type` | the type's label |
//! | `identifier` | normalised |
//! | `purpose`, `event` | as in [`concordat_policy::consent`] |
//! | `recorded_at` | RFC 3339, UTC |
//!
//! Reading and writing have connections of their own: releases read on while a long import is written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use concordat_policy::Name;
use concordat_policy::consent::Event;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::journal::{self, Note};
use super::spool::Spool;

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

/// One consent record. `Debug` hides the identifier.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The label of the identifier's type.
    pub identifier_type: String,
    /// The identifier, normalised.
    pub identifier: String,
    /// The purpose.
    pub purpose: Name,
    /// What happened.
    pub event: Event,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({} for {})", self.event.as_str(), self.purpose)
    }
}

/// A record as it is read, without copies.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) identifier_type: &'a str,
    pub(super) identifier: &'a str,
    pub(super) purpose: &'a str,
    pub(super) event: Event,
}

/// One record of somebody's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the ledger.
    pub place: u64,
    /// The purpose, which may have left the purpose tree since.
    pub purpose: String,
    /// What happened.
    pub event: Event,
    /// RFC 3339, UTC.
    pub recorded_at: String,
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
        identifier TEXT NOT NULL,
        purpose TEXT NOT NULL,
        event TEXT NOT NULL CHECK (event IN ('given', 'withdrawn', 'objected')),
        recorded_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS imports (
        digest TEXT PRIMARY KEY,
        file TEXT NOT NULL,
        records INTEGER NOT NULL,
        recorded_at TEXT NOT NULL
    ) STRICT;";

/// How long a writer waits for another process.
const PATIENCE: Duration = Duration::from_secs(30);
/// How large the write-ahead log may stay after an import.
const KEPT_LOG: i64 = 64 << 20;

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

impl Ledger {
    /// Opens (or creates) the ledger under `state`.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(state: &Path) -> Result<Self, LedgerError> {
        let path = state.join("consent.sqlite");
        let (writer, reader) = (connect(&path)?, connect(&path)?);
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "journal_size_limit", KEPT_LOG)?;
        writer.execute_batch(SCHEMA)?;
        writer.execute_batch(journal::SCHEMA)?;
        Ok(Self { path, reader: Mutex::new(reader), writer: Mutex::new(writer) })
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

    /// Appends records to a ledger that is not behind the version `least` and, where a command does so beside the node, a `note` of
    /// it, all or none. Returns the version after them.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn record(&self, records: &[Record], least: u64, note: Option<&Note>) -> Result<u64, LedgerError> {
        self.write(|transaction| {
            not_behind(transaction, least)?;
            let mut insert = Insert::new(transaction)?;
            for record in records {
                insert.scope(&record.identifier_type, &record.purpose, record.event)?;
                insert.record(&record.identifier)?;
            }
            drop(insert);
            let version = version(transaction)?;
            note.map_or(Ok(()), |note| note.write(transaction, Some(version)))?;
            Ok(version)
        })
    }

    /// Whether records were imported under this name.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn imported(&self, name: &str) -> Result<bool, LedgerError> {
        Ok(imported(&lock(&self.reader), name)?.is_some())
    }

    /// Appends everything in `spool` to a ledger that is not behind the version `least` and keeps `name` and `description`, all or
    /// none; nothing when that name was imported before. `written` is told how many records were written so far.
    pub(super) fn import(
        &self,
        name: &str,
        description: &str,
        spool: &mut Spool,
        least: u64,
        note: Option<&Note>,
        mut written: impl FnMut(u64),
    ) -> Result<Written, LedgerError> {
        self.write(|transaction| {
            not_behind(transaction, least)?;
            if let Some(known) = imported(transaction, name)? {
                return Ok(Written::Before { description: known });
            }
            let mut insert = Insert::new(transaction)?;
            let mut count = 0u64;
            spool.read(|scope, identifier| {
                if let Some(scope) = scope {
                    insert.scope(&scope.identifier_type, &scope.purpose, scope.event)?;
                }
                insert.record(identifier)?;
                count += 1;
                if count.is_multiple_of(1 << 14) {
                    written(count);
                }
                Ok(())
            })?;
            drop(insert);
            transaction.execute(
                "INSERT INTO imports (digest, file, records, recorded_at) VALUES (?1, ?2, ?3, ?4)",
                params![name, description, count.cast_signed(), timestamp()],
            )?;
            let version = version(transaction)?;
            note.map_or(Ok(()), |note| note.write(transaction, Some(version)))?;
            Ok(Written::Now { version })
        })
    }

    /// Calls `each` for every record after place `from`, up to `to`, in order.
    pub(super) fn since(&self, from: u64, to: u64, mut each: impl FnMut(Row<'_>) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        if from >= to {
            return Ok(());
        }
        // A connection of its own: what is asked in between need not wait for five million records.
        let connection = connect(&self.path)?;
        let mut statement = connection.prepare_cached(
            "SELECT place, identifier_type, identifier, purpose, event FROM records WHERE place > ?1 AND place <= ?2 ORDER BY place",
        )?;
        let mut rows = statement.query(params![from.cast_signed(), to.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let place = row.get::<_, i64>(0)?.cast_unsigned();
            let text = |column: usize| row.get_ref(column)?.as_str().map_err(|_| LedgerError::Damaged(place));
            let event = Event::parse(text(4)?).ok_or(LedgerError::Damaged(place))?;
            each(Row { identifier_type: text(1)?, identifier: text(2)?, purpose: text(3)?, event })?;
        }
        Ok(())
    }

    /// Calls `each` with every record up to place `to` about an identifier of that type, in order; it keeps those it looks for.
    /// Reads the whole ledger: it is in the order of places only.
    pub(super) fn about(
        &self,
        identifier_type: &str,
        to: u64,
        mut each: impl FnMut(&str, &dyn Fn() -> Result<Kept, LedgerError>) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        // A connection of its own, so that releases need not wait for it.
        let connection = connect(&self.path)?;
        let mut statement = connection.prepare(
            "SELECT identifier, place, purpose, event, recorded_at FROM records WHERE identifier_type = ?1 AND place <= ?2 ORDER BY place",
        )?;
        let mut rows = statement.query(params![identifier_type, to.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let kept = || {
                let place = row.get::<_, i64>(1)?.cast_unsigned();
                let event = row.get_ref(3)?.as_str().ok().and_then(Event::parse).ok_or(LedgerError::Damaged(place))?;
                Ok(Kept { place, purpose: row.get(2)?, event, recorded_at: row.get(4)? })
            };
            let identifier =
                row.get_ref(0)?.as_str().map_err(|_| LedgerError::Damaged(row.get::<_, i64>(1).map_or(0, i64::cast_unsigned)))?;
            each(identifier, &kept)?;
        }
        Ok(())
    }

    /// Writes in one transaction: all, or nothing when `work` fails or this process ends.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        in_transaction(&mut lock(&self.writer), work)
    }

    /// The same, unless somebody else writes now: then nothing is done, and `false` returned at once.
    pub(super) fn write_if_idle(&self, work: impl FnOnce(&Transaction<'_>) -> Result<(), LedgerError>) -> Result<bool, LedgerError> {
        let mut connection = match self.writer.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        connection.busy_timeout(Duration::ZERO)?;
        let done = in_transaction(&mut connection, work);
        connection.busy_timeout(PATIENCE)?;
        match done {
            Ok(()) => Ok(true),
            Err(LedgerError::Busy) => Ok(false),
            Err(e) => Err(e),
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

/// What was imported under a name.
fn imported(connection: &Connection, name: &str) -> Result<Option<String>, LedgerError> {
    Ok(connection.query_row("SELECT file FROM imports WHERE digest = ?1", params![name], |row| row.get(0)).optional()?)
}

/// Inserts records one by one. What they share is bound once.
struct Insert<'a> {
    statement: rusqlite::CachedStatement<'a>,
}

impl<'a> Insert<'a> {
    fn new(transaction: &'a Transaction<'_>) -> Result<Self, LedgerError> {
        let mut statement = transaction
            .prepare_cached("INSERT INTO records (identifier_type, identifier, purpose, event, recorded_at) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        statement.raw_bind_parameter(5, timestamp())?;
        Ok(Self { statement })
    }

    /// What the next records are about.
    fn scope(&mut self, identifier_type: &str, purpose: &Name, event: Event) -> Result<(), LedgerError> {
        self.statement.raw_bind_parameter(1, identifier_type)?;
        self.statement.raw_bind_parameter(3, purpose.as_str())?;
        self.statement.raw_bind_parameter(4, event.as_str())?;
        Ok(())
    }

    fn record(&mut self, identifier: &str) -> Result<(), LedgerError> {
        self.statement.raw_bind_parameter(2, identifier)?;
        self.statement.raw_execute()?;
        Ok(())
    }
}

pub(super) fn timestamp() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}
