//! The writer's side of the store: a row for everybody, durable before the entry, and what others left for the log to tell.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Key, Person, Who, named};
use crate::Entry;
use crate::database::{self, is_made_by};
use crate::disk::which;
use crate::tile::damaged_but;

/// The name of the store in the log's folder.
pub(super) const FILE: &str = "persons.sqlite";

/// The version of its tables.
pub(super) const VERSION: i64 = 1;

pub(super) const TABLES: &str = "
    CREATE TABLE persons (
      issuer TEXT NOT NULL, subject TEXT NOT NULL, key BLOB NOT NULL, first_seen TEXT NOT NULL, last_seen TEXT NOT NULL,
      PRIMARY KEY (issuer, subject)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE untold (id INTEGER PRIMARY KEY, event TEXT NOT NULL, fields TEXT NOT NULL) STRICT;";

/// How many events that others left are read at once.
const AT_ONCE: usize = 256;

/// How many commitments the log names of those that somebody took away.
const NAMED: usize = 16;

/// How long after the log told that the store was edited it tells the next time.
const AGAIN: Duration = Duration::from_secs(10);

/// How many keys are kept in memory before all of them are let go.
const KEPT: usize = 8192;

/// The open store.
pub(crate) struct Store {
    path: PathBuf,
    /// The file that was opened: a store that was removed or replaced keeps nothing.
    file: Option<(u64, u64)>,
    connection: Connection,
    kept: HashMap<Who, Kept>,
    /// The commitments of all who have a row: only erasing takes one away, and only this program adds one.
    rows: BTreeSet<String>,
    edited: Edited,
    /// SQLite's mark of what other processes changed.
    changes: i64,
    /// Whether something may have been left to be told.
    untold: bool,
}

/// What somebody did to the store past this program, of which the log is to tell.
#[derive(Default)]
struct Edited {
    gone: BTreeSet<String>,
    added: BTreeSet<String>,
    /// Events that nobody leaves who erases or archives.
    strange: u64,
    told: Option<Instant>,
}

/// What the log is to tell.
pub(crate) enum Untold {
    /// What others left, with its mark.
    Left(i64, Entry),
    /// That the store was edited.
    Edited(Entry),
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
        if version == 0 && is_made_by(&connection, "").map_err(failed)? {
            create(&mut connection, begun).map_err(failed)?;
        }
        super::known(&connection)?;
        if version == 0 {
            // What a dump restores has the tables, and not their version.
            connection.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        }
        let changes = changes(&connection)?;
        let rows = commitments(&connection).map_err(failed)?;
        let (file, kept, edited) = (which(file.metadata()), HashMap::new(), Edited::default());
        Ok(Self { path, file, connection, kept, rows, edited, changes, untold: true })
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
        for (who, key) in new.into_iter().zip(admitted) {
            self.rows.insert(key.person(who));
            self.kept.insert(who.clone(), Kept { key, month: month.clone() });
        }
        Ok(())
    }

    /// The commitments to somebody who was admitted, and to the token.
    pub(crate) fn commitments(&self, person: &Person) -> Option<(String, Option<String>)> {
        let Kept { key, .. } = self.kept.get(&person.who)?;
        Some((key.person(&person.who), person.token.as_deref().map(|id| key.token(id))))
    }

    /// Whether the store can be written.
    pub(crate) fn probe(&mut self) -> io::Result<()> {
        self.is_same()?;
        self.look()?;
        self.connection.execute_batch(&format!("BEGIN IMMEDIATE; PRAGMA user_version = {VERSION}; COMMIT")).map_err(|e| {
            // What was begun is ended, or there was nothing to end.
            let _ = self.connection.execute_batch("ROLLBACK");
            failed(e)
        })
    }

    fn is_same(&self) -> io::Result<()> {
        let replaced = || io::Error::other(format!("{FILE} was removed or replaced while the log was open: restart the program"));
        if which(std::fs::metadata(&self.path)) == self.file { Ok(()) } else { Err(replaced()) }
    }

    /// What the log is to tell. Events that nobody leaves are let go of, and counted.
    pub(crate) fn untold(&mut self) -> io::Result<Vec<Untold>> {
        self.look()?;
        let mut tell: Vec<Untold> = self.edited.entry().map(Untold::Edited).into_iter().collect();
        if !self.untold {
            return Ok(tell);
        }
        let left = left(&self.connection).map_err(failed)?;
        self.untold = !left.is_empty();
        for (mark, event, fields) in left {
            let entry = entry(&event, &fields);
            let erased = entry.as_ref().and_then(|entry| entry.get("person")?.as_str());
            // It may have been erased since it was looked; then the row is gone.
            let is_so = match erased.filter(|person| self.rows.contains(*person)) {
                Some(person) => self.is_gone(person)?,
                None => true,
            };
            match entry.filter(|_| is_so) {
                Some(entry) => tell.push(Untold::Left(mark, entry)),
                None => {
                    self.let_go(mark)?;
                    self.edited.strange = self.edited.strange.saturating_add(1);
                }
            }
        }
        Ok(tell)
    }

    /// Lets go of what the log has told.
    pub(crate) fn told(&mut self, told: &Untold) -> io::Result<()> {
        match told {
            Untold::Left(mark, _) => self.let_go(*mark),
            Untold::Edited(_) => {
                self.edited = Edited { told: Some(Instant::now()), ..Edited::default() };
                Ok(())
            }
        }
    }

    /// Whether nobody has this commitment any more.
    fn is_gone(&mut self, person: &str) -> io::Result<bool> {
        let is_there = commitments(&self.connection).map_err(failed)?.contains(person);
        if !is_there {
            self.rows.remove(person);
        }
        Ok(!is_there)
    }

    fn let_go(&self, mark: i64) -> io::Result<()> {
        self.connection.execute("DELETE FROM untold WHERE id = ?1", params![mark]).map(drop).map_err(failed)
    }

    /// Where another process wrote: lets go of keys that it may have erased, and compares who has a row.
    fn look(&mut self) -> io::Result<()> {
        let changes = changes(&self.connection)?;
        if changes == self.changes {
            return Ok(());
        }
        self.kept.clear();
        self.untold = true;
        super::known(&self.connection)?;
        // Who erases takes the row away and leaves the event in one transaction.
        let seen = self.connection.transaction().map_err(failed)?;
        let now = commitments(&seen).map_err(failed)?;
        let mut gone: BTreeSet<String> = self.rows.difference(&now).cloned().collect();
        if !gone.is_empty() {
            erased(&seen, |person| {
                gone.remove(person);
            })
            .map_err(failed)?;
        }
        drop(seen);
        self.edited.gone.extend(gone);
        self.edited.added.extend(now.difference(&self.rows).cloned());
        self.rows = now;
        self.changes = changes;
        Ok(())
    }
}

impl Edited {
    /// What the log tells of it, not too often: who edits it again and again does not fill the log with that.
    fn entry(&self) -> Option<Entry> {
        let is_none = self.gone.is_empty() && self.added.is_empty() && self.strange == 0;
        if is_none || self.told.is_some_and(|told| told.elapsed() < AGAIN) {
            return None;
        }
        let named: Vec<Value> = self.gone.iter().take(NAMED).cloned().map(Value::from).collect();
        let counts = [("gone", self.gone.len() as u64), ("added", self.added.len() as u64), ("strange", self.strange)];
        Some(counts.into_iter().fold(Entry::new("persons.edited").field("persons", named), |entry, (name, count)| entry.field(name, count)))
    }
}

/// A connection that writes: nothing that was deleted stays in the file, and a journal is gone when its transaction is over.
pub(super) fn connect(path: &Path) -> io::Result<Connection> {
    let connection = database::connect(path).map_err(failed)?;
    for (pragma, value) in [("journal_mode", "DELETE"), ("synchronous", "EXTRA"), ("secure_delete", "ON"), ("temp_store", "MEMORY")] {
        connection.pragma_update(None, pragma, value).map_err(failed)?;
    }
    Ok(connection)
}

fn create(connection: &mut Connection, begun: bool) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(&format!("{TABLES} PRAGMA user_version = {VERSION}"))?;
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
        let written = write.execute(params![issuer, subject, key.0.as_slice(), month]).map_err(failed)?;
        // An entry that rests on a key that is not there could be opened by nobody, and nobody would know.
        let kept = select.query_row(params![issuer, subject], |row| row.get::<_, [u8; 32]>(0)).optional().map_err(failed)?;
        if written != 1 || kept.map(Zeroizing::new).is_none_or(|kept| kept != key.0) {
            return Err(io::Error::other(format!("{FILE} does not keep what is written to it")));
        }
        keys.push(key);
    }
    transaction.commit().map_err(failed)?;
    Ok(keys)
}

/// Everybody's commitment.
fn commitments(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    Ok(named(connection)?.into_iter().map(|of| of.commitment).collect())
}

/// The first events that others left: mark, event and fields.
fn left(connection: &Connection) -> rusqlite::Result<Vec<(i64, String, String)>> {
    let mut select = connection.prepare_cached(&format!("SELECT id, event, fields FROM untold ORDER BY id LIMIT {AT_ONCE}"))?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

/// Whom others erased, of which the log has not told.
fn erased(connection: &Connection, mut each: impl FnMut(&str)) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached("SELECT fields FROM untold WHERE event = 'person.erased'")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let entry = entry("person.erased", &row.get::<_, String>(0)?);
        entry.iter().filter_map(|entry| entry.get("person")?.as_str()).for_each(&mut each);
    }
    Ok(())
}

/// A field, and whether it is one.
type Says<'a> = (&'a str, &'a dyn Fn(&Value) -> bool);

/// An event that others left, if it says what such an event says, and nothing else.
fn entry(event: &str, fields: &str) -> Option<Entry> {
    let fields = serde_json::from_str::<Map<String, Value>>(fields).ok()?;
    let is_commitment = |of: &Value| of.as_str().is_some_and(|of| of.len() == 64 && of.bytes().all(|b| b.is_ascii_hexdigit()));
    let is_time = |of: &Value| of.as_str().is_some_and(|of| DateTime::parse_from_rfc3339(of).is_ok());
    let (event, says): (_, &[Says<'_>]) = match event {
        "person.erased" => ("person.erased", &[("person", &is_commitment), ("erased_at", &is_time)]),
        "persons.begun" => ("persons.begun", &[]),
        "log.archived" => ("log.archived", &[("first", &Value::is_u64), ("last", &Value::is_u64)]),
        _ => return None,
    };
    let fits = says.len() == fields.len() && says.iter().all(|(name, is)| fields.get(*name).is_some_and(is));
    fits.then(|| fields.into_iter().fold(Entry::new(event), |entry, (name, value)| entry.field(&name, value)))
}

fn changes(connection: &Connection) -> io::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(failed)
}

/// SQLite's error as the system would have told it.
pub(super) fn failed(error: rusqlite::Error) -> io::Error {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    let kind = match (error.sqlite_error_code(), &error) {
        (Some(ErrorCode::DiskFull), _) => io::ErrorKind::StorageFull,
        (Some(ErrorCode::ReadOnly), _) => io::ErrorKind::ReadOnlyFilesystem,
        (Some(ErrorCode::CannotOpen), _) => io::ErrorKind::NotFound,
        (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _)
        | (None, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)) => {
            return damage(&error.to_string());
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("{FILE}: {error}"))
}

/// That the store is not what this program wrote, and how the log is had going again: the rest of its folder is as it should be.
pub(super) fn damage(why: &str) -> io::Error {
    damaged_but(
        format!("{FILE}: {why}"),
        format!(
            "keep a copy of {FILE} as evidence, and restore this file only, never the folder, while the program is stopped. Where \
             something was added to it, take that out with DROP (`sqlite3 {FILE} .schema` shows two tables, `persons` and `untold`). \
             Without a backup, move it away: callers before then stay unnamed, and the log says `persons.begun`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if triggers acted.
    #[test]
    fn a_key_that_is_not_there_after_it_was_written_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), false).unwrap());
        let mut connection = Connection::open(folder.path().join(FILE)).unwrap();
        let who = Who { issuer: "i".into(), subject: "s".into() };
        let asked = BTreeSet::from([&who]);
        for (event, does) in [
            ("AFTER INSERT", "UPDATE persons SET key = zeroblob(32)"),
            ("AFTER INSERT", "DELETE FROM persons"),
            ("BEFORE INSERT", "SELECT RAISE(IGNORE)"),
        ] {
            connection.execute_batch(&format!("CREATE TRIGGER t {event} ON persons BEGIN {does}; END")).unwrap();
            assert!(rows(&mut connection, &asked, "2027-04").is_err(), "{does}");
            connection.execute_batch("DROP TRIGGER t").unwrap();
        }
        assert_eq!(rows(&mut connection, &asked, "2027-04").unwrap().len(), 1);
    }

    #[test]
    fn an_event_says_what_such_an_event_says() {
        let person = "0af1".repeat(16);
        let erased = format!("{{\"person\":\"{person}\",\"erased_at\":\"2027-04-01T00:00:00+00:00\"}}");
        for (event, fields, is_one) in [
            ("person.erased", erased.as_str(), true),
            ("person.erased", &erased.replace("0af1", "0ag1"), false),
            ("person.erased", &erased.replace("2027", "soon"), false),
            ("person.erased", &erased.replace('}', ",\"organisation\":\"unit\"}"), false),
            ("person.erased", "{}", false),
            ("persons.begun", "{}", true),
            ("persons.begun", "{\"query_id\":\"q\"}", false),
            ("log.archived", "{\"first\":1,\"last\":256}", true),
            ("log.archived", "{\"first\":1,\"last\":\"256\"}", false),
            ("log.reindexed", "{\"cause\":\"other_log\"}", false),
            ("query.opened", "{}", false),
            ("persons.begun", "[]", false),
        ] {
            assert_eq!(entry(event, fields).is_some(), is_one, "{event} {fields}");
        }
    }
}
