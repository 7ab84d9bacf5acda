//! The writer's side of the store: a row for everybody, durable before the entry, and what others left for the log to tell.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Key, Person, Who};
use crate::Entry;

/// The name of the store in the log's folder.
pub(super) const FILE: &str = "persons.sqlite";

/// The version of its tables.
pub(super) const VERSION: i64 = 1;

/// How long another process may be in the way.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How many keys are kept in memory before all of them are let go.
const KEPT: usize = 8192;

/// The open store.
pub(crate) struct Store {
    path: PathBuf,
    /// Of the file that was opened: a store that was removed or replaced keeps nothing.
    inode: u64,
    connection: Connection,
    kept: HashMap<Who, Kept>,
    /// SQLite's mark of what other processes changed.
    changes: i64,
    /// Whether something may have been left to be told.
    untold: bool,
}

struct Kept {
    key: Key,
    month: String,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.path).finish()
    }
}

impl Store {
    /// Opens the store of a log, or creates it (mode 0600); of one that has begun already, the log will tell so.
    pub(crate) fn open(folder: &Path, begun: bool) -> io::Result<Self> {
        let path = folder.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        File::open(folder)?.sync_all()?;
        let mut connection = connect(&path)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        if version == 0 {
            create(&mut connection, begun).map_err(failed)?;
        } else {
            super::known(&connection)?;
        }
        let changes = changes(&connection)?;
        Ok(Self { path, inode: file.metadata()?.ino(), connection, kept: HashMap::new(), changes, untold: true })
    }

    /// Sees to it that all of them have a row that is durable, and says when they were seen.
    pub(crate) fn admit<'a>(&mut self, people: impl Iterator<Item = &'a Person>, now: DateTime<Utc>) -> io::Result<()> {
        let mut people = people.peekable();
        if people.peek().is_none() {
            return Ok(());
        }
        self.look()?;
        let month = now.format("%Y-%m").to_string();
        let is_kept = |who: &&Who| self.kept.get(*who).is_some_and(|kept| kept.month == month);
        let new: BTreeSet<&Who> = people.map(|person| &person.who).filter(|who| !is_kept(who)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.is_same()?;
        let admitted = rows(&mut self.connection, &new, &month)?;
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.extend(new.into_iter().cloned().zip(admitted.into_iter().map(|key| Kept { key, month: month.clone() })));
        Ok(())
    }

    /// The commitments to somebody who was admitted, and to the token.
    pub(crate) fn commitments(&self, person: &Person) -> Option<(String, Option<String>)> {
        let Kept { key, .. } = self.kept.get(&person.who)?;
        Some((key.person(&person.who), person.token.as_deref().map(|id| key.token(id))))
    }

    /// Whether the store can be written.
    pub(crate) fn probe(&self) -> io::Result<()> {
        self.is_same()?;
        self.connection.execute_batch(&format!("BEGIN IMMEDIATE; PRAGMA user_version = {VERSION}; COMMIT")).map_err(|e| {
            // What was begun is ended, or there was nothing to end.
            let _ = self.connection.execute_batch("ROLLBACK");
            failed(e)
        })
    }

    fn is_same(&self) -> io::Result<()> {
        let replaced = || io::Error::other(format!("{FILE} was removed or replaced while the log was open: restart the program"));
        let same = std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if same { Ok(()) } else { Err(replaced()) }
    }

    /// What others left for the log to tell, with its mark; entries that this program does not know are none.
    pub(crate) fn untold(&mut self) -> io::Result<Vec<(i64, Entry)>> {
        self.look()?;
        if !self.untold {
            return Ok(Vec::new());
        }
        let untold = untold(&self.connection).map_err(failed)?;
        self.untold = !untold.is_empty();
        Ok(untold)
    }

    /// Lets go of what the log has told.
    pub(crate) fn told(&mut self, mark: i64) -> io::Result<()> {
        self.connection.execute("DELETE FROM untold WHERE id = ?1", params![mark]).map(drop).map_err(failed)
    }

    /// Lets go of keys that another process may have erased.
    fn look(&mut self) -> io::Result<()> {
        let changes = changes(&self.connection)?;
        if changes != self.changes {
            self.kept.clear();
            self.untold = true;
        }
        self.changes = changes;
        Ok(())
    }
}

/// A connection that writes: nothing that was deleted stays in the file, and a journal is gone when its transaction is over.
pub(super) fn connect(path: &Path) -> io::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    for (pragma, value) in [("journal_mode", "DELETE"), ("synchronous", "EXTRA"), ("secure_delete", "ON"), ("temp_store", "MEMORY")] {
        connection.pragma_update(None, pragma, value).map_err(failed)?;
    }
    Ok(connection)
}

fn create(connection: &mut Connection, begun: bool) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(&format!(
        "CREATE TABLE persons (
           issuer TEXT NOT NULL, subject TEXT NOT NULL, key BLOB NOT NULL, first_seen TEXT NOT NULL, last_seen TEXT NOT NULL,
           PRIMARY KEY (issuer, subject)
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE untold (id INTEGER PRIMARY KEY, event TEXT NOT NULL, fields TEXT NOT NULL) STRICT;
         PRAGMA user_version = {VERSION}"
    ))?;
    if begun {
        leave(&transaction, "persons.begun", &json!({}))?;
    }
    transaction.commit()
}

/// Leaves an event for the log's writer to tell.
pub(super) fn leave(connection: &Connection, event: &str, fields: &Value) -> rusqlite::Result<()> {
    connection.execute("INSERT INTO untold (event, fields) VALUES (?1, ?2)", params![event, fields.to_string()]).map(drop)
}

/// The keys of `people`, in their order; of new ones made, and durable.
fn rows(connection: &mut Connection, people: &BTreeSet<&Who>, month: &str) -> io::Result<Vec<Key>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let mut keys = Vec::with_capacity(people.len());
    for Who { issuer, subject } in people {
        let mut select = transaction.prepare_cached("SELECT key FROM persons WHERE issuer = ?1 AND subject = ?2").map_err(failed)?;
        let found = select.query_row(params![issuer, subject], |row| row.get::<_, [u8; 32]>(0)).optional().map_err(failed)?;
        let (key, statement) = match found {
            Some(key) => (Key(Zeroizing::new(key)), "UPDATE persons SET last_seen = ?4 WHERE issuer = ?1 AND subject = ?2 AND key = ?3"),
            None => (Key::random()?, "INSERT INTO persons (issuer, subject, key, first_seen, last_seen) VALUES (?1, ?2, ?3, ?4, ?4)"),
        };
        let mut write = transaction.prepare_cached(statement).map_err(failed)?;
        write.execute(params![issuer, subject, key.0.as_slice(), month]).map_err(failed)?;
        keys.push(key);
    }
    transaction.commit().map_err(failed)?;
    Ok(keys)
}

fn untold(connection: &Connection) -> rusqlite::Result<Vec<(i64, Entry)>> {
    let mut select = connection.prepare_cached("SELECT id, event, fields FROM untold ORDER BY id")?;
    let rows = select.query_map([], |row| {
        let entry = match row.get::<_, String>(1)?.as_str() {
            "person.erased" => Some(Entry::new("person.erased")),
            "persons.begun" => Some(Entry::new("persons.begun")),
            "log.archived" => Some(Entry::new("log.archived")),
            "log.reindexed" => Some(Entry::new("log.reindexed")),
            _ => None,
        };
        let (mark, fields): (i64, String) = (row.get(0)?, row.get(2)?);
        let fields = serde_json::from_str::<Map<String, Value>>(&fields).unwrap_or_default();
        let told = |entry| fields.into_iter().fold(entry, |entry: Entry, (name, value)| entry.field(&name, value));
        Ok(entry.map(|entry| (mark, told(entry))))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn changes(connection: &Connection) -> io::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(failed)
}

/// SQLite's error as the system would have told it.
pub(super) fn failed(error: rusqlite::Error) -> io::Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => io::ErrorKind::StorageFull,
        Some(ErrorCode::ReadOnly) => io::ErrorKind::ReadOnlyFilesystem,
        Some(ErrorCode::CannotOpen) => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("{FILE}: {error}"))
}
