//! The consent ledger: every record in the order it was made, in SQLite (WAL, synchronous). Nothing is ever changed or removed.
//!
//! | column | |
//! |---|---|
//! | `place` | the record's place, from 1; the ledger's version is the last one |
//! | `identifier_type` | the type's label |
//! | `identifier` | normalised |
//! | `purpose`, `event` | as in [`concordat_policy::consent`] |
//! | `recorded_at` | RFC 3339, UTC |

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use concordat_policy::Name;
use concordat_policy::consent::Event;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

/// Why the ledger failed. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite.
    #[error("the consent ledger: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that no version of this program wrote.
    #[error("the consent ledger holds a damaged record at place {0}")]
    Damaged(u64),
    /// A file beside the ledger.
    #[error("the consent ledger's version: {0}")]
    File(#[from] io::Error),
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(getrandom::Error),
    /// An import that broke off.
    #[error("the import broke off; nothing was recorded")]
    BrokenOff,
    /// The ledger is not what an administrator was shown.
    #[error("the ledger changed meanwhile; look again")]
    Moved,
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

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
}

impl Ledger {
    /// Opens (or creates) the ledger under `state`.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(state: &Path) -> Result<Self, LedgerError> {
        let connection = Connection::open(state.join("consent.sqlite"))?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// The place of the last record; 0 when there is none.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn version(&self) -> Result<u64, LedgerError> {
        version(&self.connection())
    }

    /// When the last record was made, RFC 3339 in UTC; `None` when there is none.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn last_recorded(&self) -> Result<Option<String>, LedgerError> {
        let last = "SELECT recorded_at FROM records ORDER BY place DESC LIMIT 1";
        Ok(self.connection().query_row(last, [], |row| row.get(0)).optional()?)
    }

    /// Appends records, all or none, and returns the version after them.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn record(&self, records: &[Record]) -> Result<u64, LedgerError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&transaction, records)?;
        let version = version(&transaction)?;
        transaction.commit()?;
        Ok(version)
    }

    /// Whether a file of this digest was imported.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn imported(&self, digest: &str) -> Result<bool, LedgerError> {
        let found: Option<i64> =
            self.connection().query_row("SELECT 1 FROM imports WHERE digest = ?1", params![digest], |row| row.get(0)).optional()?;
        Ok(found.is_some())
    }

    /// Appends what `next` yields until `Ok(None)`, and notes the file, all or none. Returns the number of records, or `None`
    /// when the file was imported before.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::BrokenOff`] when `next` fails.
    pub fn import(
        &self,
        digest: &str,
        file: &str,
        mut next: impl FnMut() -> Result<Option<Vec<Record>>, ()>,
    ) -> Result<Option<u64>, LedgerError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known: Option<i64> =
            transaction.query_row("SELECT 1 FROM imports WHERE digest = ?1", params![digest], |row| row.get(0)).optional()?;
        if known.is_some() {
            return Ok(None);
        }
        let mut count = 0u64;
        while let Some(records) = next().map_err(|()| LedgerError::BrokenOff)? {
            insert(&transaction, &records)?;
            count += records.len() as u64;
        }
        transaction.execute(
            "INSERT INTO imports (digest, file, records, recorded_at) VALUES (?1, ?2, ?3, ?4)",
            params![digest, file, i64::try_from(count).unwrap_or(i64::MAX), timestamp()],
        )?;
        transaction.commit()?;
        Ok(Some(count))
    }

    /// Calls `each` for every record after place `from`, up to `to`, in order.
    pub(super) fn since(
        &self,
        from: u64,
        to: u64,
        mut each: impl FnMut(u64, Row<'_>) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT place, identifier_type, identifier, purpose, event FROM records WHERE place > ?1 AND place <= ?2 ORDER BY place",
        )?;
        let mut rows = statement.query(params![from.cast_signed(), to.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let place = row.get::<_, i64>(0)?.cast_unsigned();
            let text = |column: usize| row.get_ref(column)?.as_str().map_err(|_| LedgerError::Damaged(place));
            let event = Event::parse(text(4)?).ok_or(LedgerError::Damaged(place))?;
            each(place, Row { identifier_type: text(1)?, identifier: text(2)?, purpose: text(3)?, event })?;
        }
        Ok(())
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(connection: &Connection) -> Result<u64, LedgerError> {
    let last: Option<i64> = connection.query_row("SELECT max(place) FROM records", [], |row| row.get(0))?;
    Ok(last.map_or(0, i64::cast_unsigned))
}

fn insert(transaction: &Transaction<'_>, records: &[Record]) -> Result<(), LedgerError> {
    let mut statement = transaction
        .prepare_cached("INSERT INTO records (identifier_type, identifier, purpose, event, recorded_at) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let now = timestamp();
    for record in records {
        statement.execute(params![record.identifier_type, record.identifier, record.purpose.as_str(), record.event.as_str(), now])?;
    }
    Ok(())
}

fn timestamp() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}
