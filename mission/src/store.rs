//! Where snapshots are kept: a chain that is added to and never changed.
//!
//! ```text
//! digest(0) = SHA-256("concordat.snapshots/v1\n")
//! digest(n) = SHA-256("concordat.snapshot/v1\n" ‖ digest(n-1) ‖ n (8 bytes, little-endian)
//!                     ‖ length ‖ what was taken, as JSON ‖ length ‖ the answer's bytes)
//! ```
//!
//! Every digest is verified when snapshots are read: what was edited, left out or put in between is found, whoever did it and by whatever
//! means. That the newest were cut off, or all of it made anew, shows only to who knows the [`Head`] from elsewhere: a report, another
//! department, a page that was published. The file also refuses `UPDATE` and `DELETE` by itself, against mistakes.

mod pivots;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::history::follows;
use crate::snapshot::{Snapshot, Taken, hex};

/// The version of its tables, and of what snapshots consist of.
const VERSION: i64 = 3;
/// How long another process may be in the way.
const PATIENCE: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE snapshot (number INTEGER PRIMARY KEY, taken TEXT NOT NULL, answer BLOB NOT NULL, digest TEXT NOT NULL) STRICT;
    CREATE TRIGGER snapshot_stays BEFORE UPDATE ON snapshot BEGIN SELECT RAISE(ABORT, 'history is never changed'); END;
    CREATE TRIGGER snapshot_is_kept BEFORE DELETE ON snapshot BEGIN SELECT RAISE(ABORT, 'history is never changed'); END;";

/// What missions need of a store.
pub trait Snapshots {
    /// Every snapshot, oldest first, verified.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Changed`] where the history is not the one that was written.
    fn all(&self) -> Result<Vec<Snapshot>, StoreError>;

    /// The answer of a snapshot as it came: Arrow's IPC stream format.
    ///
    /// # Errors
    /// As [`Snapshots::all`], which must have found the history unchanged; [`StoreError::Unknown`].
    fn answer(&self, number: u64) -> Result<Vec<u8>, StoreError>;

    /// Adds one, with its answer's bytes.
    ///
    /// # Errors
    /// As [`Snapshots::all`], and as [`follows`].
    fn add(&mut self, taken: Taken, answer: &[u8]) -> Result<Snapshot, StoreError>;
}

/// How far a history goes, and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The newest snapshot's number; 0 where there is none.
    pub number: u64,
    /// Its digest.
    pub digest: String,
}

/// Why a history cannot be read or added to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file, or the disk.
    #[error("the snapshots in {path} cannot be {verb}: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// What SQLite or the system said.
        cause: String,
    },
    /// It is of another version of this program.
    #[error("the snapshots in {path} are of version {version} of the store, and this program's is {VERSION}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// It was changed.
    #[error("the history in {path} was changed: {what}", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is not as it was written.
        what: String,
    },
    /// A correction of what it cannot correct.
    #[error("snapshot {number} cannot be superseded: {why}")]
    Supersedes {
        /// Its number.
        number: u64,
        /// Why.
        why: &'static str,
    },
    /// A second one of a period.
    #[error("the period has snapshot {0} already, and the new one does not supersede it")]
    Twice(u64),
    /// What cannot be the next of its history.
    #[error("the snapshot cannot stand in this history: {0}")]
    Unfit(String),
    /// A pivot of which something is missing.
    #[error("the pivot cannot be recorded: {0}")]
    Pivot(&'static str),
    /// No such snapshot.
    #[error("there is no snapshot {0}")]
    Unknown(u64),
}

/// Snapshots in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the file for adding; it is made where there is none, for its owner only.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        if let Err(e) = made
            && e.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(StoreError::File { path: path.to_owned(), verb: "made", cause: e.to_string() });
        }
        let mut store = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        store.prepare().map_err(|e| store.failed("opened", &e))?;
        store.of_this_version()
    }

    /// Opens the file for reading; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let there = path.try_exists();
        if !there.map_err(|e| StoreError::File { path: path.to_owned(), verb: "opened", cause: e.to_string() })? {
            return Ok(None);
        }
        Self::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?.of_this_version().map(Some)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let failed = |e: rusqlite::Error| StoreError::File { path: path.to_owned(), verb: "opened", cause: e.to_string() };
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    fn prepare(&mut self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if version == 0 && tables == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(pivots::TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()
    }

    fn of_this_version(self) -> Result<Self, StoreError> {
        let version: rusqlite::Result<i64> = self.connection.pragma_query_value(None, "user_version", |row| row.get(0));
        match version.map_err(|e| self.failed("read", &e))? {
            VERSION => Ok(self),
            version => Err(StoreError::Version { path: self.path, version }),
        }
    }

    fn failed(&self, verb: &'static str, error: &rusqlite::Error) -> StoreError {
        StoreError::File { path: self.path.clone(), verb, cause: error.to_string() }
    }

    fn changed(&self, what: impl Into<String>) -> StoreError {
        StoreError::Changed { path: self.path.clone(), what: what.into() }
    }

    fn verified(&self, connection: &Connection) -> Result<Vec<Snapshot>, StoreError> {
        let failed = |e| self.failed("read", &e);
        let mut statement = connection.prepare("SELECT number, taken, answer, digest FROM snapshot ORDER BY number").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut snapshots: Vec<Snapshot> = Vec::new();
        let mut previous = beginning();
        while let Some(row) = rows.next().map_err(failed)? {
            let expected = snapshots.len() as u64 + 1;
            let number: i64 = row.get(0).map_err(failed)?;
            if u64::try_from(number) != Ok(expected) {
                return Err(self.changed(format!("after snapshot {} comes number {number}", expected - 1)));
            }
            let kinds = || self.changed(format!("snapshot {number} does not consist of what snapshots do"));
            let text: String = row.get(1).map_err(|_| kinds())?;
            let answer: Vec<u8> = row.get(2).map_err(|_| kinds())?;
            let stated: String = row.get(3).map_err(|_| kinds())?;
            let digest = digest(&previous, expected, text.as_bytes(), &answer);
            if digest != stated {
                return Err(self.changed(format!("snapshot {number}, or one before it, is not what its digest says")));
            }
            let taken = serde_json::from_str(&text).map_err(|_| kinds())?;
            snapshots.push(Snapshot { number: expected, taken, previous: std::mem::replace(&mut previous, digest.clone()), digest });
        }
        Ok(snapshots)
    }
}

impl Snapshots for SqliteStore {
    fn all(&self) -> Result<Vec<Snapshot>, StoreError> {
        self.verified(&self.connection)
    }

    fn answer(&self, number: u64) -> Result<Vec<u8>, StoreError> {
        let known = i64::try_from(number).map_err(|_| StoreError::Unknown(number))?;
        let answer = self.connection.query_row("SELECT answer FROM snapshot WHERE number = ?1", [known], |row| row.get(0));
        answer.map_err(|e| match e {
            rusqlite::Error::QueryReturnedNoRows => StoreError::Unknown(number),
            other => self.failed("read", &other),
        })
    }

    fn add(&mut self, taken: Taken, answer: &[u8]) -> Result<Snapshot, StoreError> {
        let path = self.path.clone();
        let failed = move |e: rusqlite::Error| StoreError::File { path: path.clone(), verb: "written", cause: e.to_string() };
        // Nobody adds between reading and writing. It is rolled back where it is dropped.
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(&failed)?;
        let added = self.added(taken, answer);
        let end = if added.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.connection.execute_batch(end).map_err(&failed);
        let snapshot = added?;
        ended?;
        Ok(snapshot)
    }
}

impl SqliteStore {
    fn added(&self, taken: Taken, answer: &[u8]) -> Result<Snapshot, StoreError> {
        let before = self.verified(&self.connection)?;
        follows(&before, &taken)?;
        let previous = before.last().map_or_else(beginning, |last| last.digest.clone());
        let number = before.len() as u64 + 1;
        let cause = |cause: String| StoreError::File { path: self.path.clone(), verb: "written", cause };
        let text = serde_json::to_string(&taken).map_err(|e| cause(e.to_string()))?;
        let digest = digest(&previous, number, text.as_bytes(), answer);
        let key = i64::try_from(number).map_err(|e| cause(e.to_string()))?;
        let sql = "INSERT INTO snapshot (number, taken, answer, digest) VALUES (?1, ?2, ?3, ?4)";
        self.connection.execute(sql, params![key, text, answer, digest]).map_err(|e| self.failed("written", &e))?;
        Ok(Snapshot { number, taken, previous, digest })
    }
}

fn beginning() -> String {
    hex(&Sha256::digest("concordat.snapshots/v1\n"))
}

fn digest(previous: &str, number: u64, taken: &[u8], answer: &[u8]) -> String {
    let mut whole = Sha256::new_with_prefix("concordat.snapshot/v1\n");
    whole.update(previous);
    whole.update(number.to_le_bytes());
    for part in [taken, answer] {
        whole.update((part.len() as u64).to_le_bytes());
        whole.update(part);
    }
    hex(&whole.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Heads;
    use crate::testing::snapshot;

    fn taken(on: &str, value: f64) -> Taken {
        snapshot(1, on, Some("2026-04-01"), value).taken
    }

    fn filled() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshots.sqlite");
        let mut store = SqliteStore::open(&path).unwrap();
        for (number, on) in [(1, "2026-04-02"), (2, "2026-04-03"), (3, "2026-04-04")] {
            let added = store.add(Taken { period: None, ..taken(on, 0.5) }, on.as_bytes()).unwrap();
            assert_eq!(added.number, number);
        }
        (folder, path)
    }

    #[test]
    fn what_was_added_is_read_as_it_was_and_in_order() {
        let (_folder, path) = filled();
        let store = SqliteStore::read(&path).unwrap().unwrap();
        let all = store.all().unwrap();
        let days: Vec<_> = all.iter().map(|one| one.taken.taken_at.date_naive().to_string()).collect();
        assert_eq!(days, ["2026-04-02", "2026-04-03", "2026-04-04"]);
        assert_eq!(all[1].previous, all[0].digest);
        let mut first = Taken { period: None, ..taken("2026-04-02", 0.5) };
        first.stated.query_id.clone_from(&all[0].taken.stated.query_id);
        assert_eq!(all[0].taken, first);
        assert_eq!(store.answer(2).unwrap(), b"2026-04-03");
        assert!(matches!(store.answer(4), Err(StoreError::Unknown(4))));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(SqliteStore::read(&path.with_file_name("absent")).unwrap().is_none());
        assert!(SqliteStore::read(&path.join("within")).is_err(), "whether it is there cannot be told");
    }

    #[test]
    fn the_file_itself_refuses_changes() {
        let (_folder, path) = filled();
        let connection = Connection::open(&path).unwrap();
        for sql in
            ["UPDATE snapshot SET digest = ''", "DELETE FROM snapshot WHERE number = 3", "REPLACE INTO snapshot VALUES (3, '{}', x'', '')"]
        {
            let tried = connection.execute(sql, []);
            // REPLACE deletes without a trigger where these do not recurse; its digest gives it away.
            assert!(tried.is_err() || SqliteStore::open(&path).unwrap().all().is_err(), "{sql}");
        }
    }

    #[test]
    fn whoever_changes_history_is_found_out_and_nothing_is_added_to_it() {
        for (sql, says) in [
            ("UPDATE snapshot SET taken = replace(taken, '0.5', '0.9') WHERE number = 2", "snapshot 2"),
            ("UPDATE snapshot SET answer = x'00' WHERE number = 1", "snapshot 1"),
            ("UPDATE snapshot SET digest = (SELECT digest FROM snapshot WHERE number = 1) WHERE number = 3", "snapshot 3"),
            ("DELETE FROM snapshot WHERE number = 2", "after snapshot 1 comes number 3"),
            ("DELETE FROM snapshot WHERE number = 1", "after snapshot 0 comes number 2"),
            ("UPDATE snapshot SET number = 9 WHERE number = 3", "after snapshot 2 comes number 9"),
            ("INSERT INTO snapshot SELECT 4, taken, answer, digest FROM snapshot WHERE number = 3", "snapshot 4"),
        ] {
            let (_folder, path) = filled();
            let connection = Connection::open(&path).unwrap();
            connection.execute_batch("DROP TRIGGER snapshot_stays; DROP TRIGGER snapshot_is_kept;").unwrap();
            assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
            let mut store = SqliteStore::open(&path).unwrap();
            for found in [store.all().map(drop), store.add(taken("2026-04-09", 0.5), b"").map(drop)] {
                let found = found.unwrap_err();
                assert!(matches!(&found, StoreError::Changed { what, .. } if what.contains(says)), "{sql}: {found}");
            }
        }
    }

    #[test]
    fn a_store_of_another_version_is_neither_read_nor_added_to() {
        let (_folder, path) = filled();
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
        for found in [SqliteStore::open(&path).map(drop), SqliteStore::read(&path).map(drop)] {
            assert!(matches!(found, Err(StoreError::Version { version: 1, .. })), "{found:?}");
        }
    }

    /// Only who knows the head sees that the newest are gone.
    #[test]
    fn a_history_that_was_cut_lost_its_head() {
        let (_folder, path) = filled();
        let head = Heads::of(&SqliteStore::open(&path).unwrap().all().unwrap(), &[]);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("DROP TRIGGER snapshot_is_kept; DELETE FROM snapshot WHERE number = 3").unwrap();
        let cut = SqliteStore::open(&path).unwrap().all().unwrap();
        assert!(cut.len() == 2 && head.lost(&cut, &[]).is_some_and(|lost| lost.starts_with("snapshot 3:")));
    }

    #[test]
    fn a_correction_says_what_it_corrects_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("s")).unwrap();
        store.add(taken("2026-04-02", 0.5), b"").unwrap();
        let corrects = |number, because: Option<&str>| Taken {
            supersedes: Some(number),
            because: because.map(str::to_owned),
            ..taken("2026-04-03", 0.6)
        };
        for (wrong, why) in [
            (corrects(7, Some("a fault")), "none of that number"),
            (corrects(1, None), "why is not said"),
            (corrects(1, Some(" ")), "why is not said"),
            (Taken { outcome: concordat_policy::Name::parse("other").unwrap(), ..corrects(1, Some("a fault")) }, "another outcome"),
            (Taken { period: Some(crate::testing::day("2026-05-01")), ..corrects(1, Some("a fault")) }, "another period"),
        ] {
            let refused = store.add(wrong, b"").unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        assert!(matches!(store.add(taken("2026-04-03", 0.6), b""), Err(StoreError::Twice(1))), "a period has one");
        assert_eq!(store.all().unwrap().len(), 1, "nothing of what was refused is kept");
        assert_eq!(store.add(corrects(1, Some("a department's file was incomplete")), b"").unwrap().number, 2);
        let again = store.add(corrects(1, Some("a fault")), b"").unwrap_err().to_string();
        assert!(again.contains("superseded before"), "{again}");
    }

    #[test]
    fn two_who_add_at_once_add_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(SqliteStore::open(&path).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut store = SqliteStore::open(&path).unwrap();
                    for _ in 0..5 {
                        store.add(Taken { period: None, ..taken("2026-04-02", 0.5) }, b"").unwrap();
                    }
                });
            }
        });
        assert_eq!(SqliteStore::open(&path).unwrap().all().unwrap().len(), 20);
    }
}
