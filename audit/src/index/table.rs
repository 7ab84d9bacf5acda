//! The index as a file: a row for every entry, by which it can be found, and never its text.
//!
//! Every row goes into a chain of hashes, and what the chain comes to is sealed under a secret that only the log's own key gives: a row that was changed,
//! added or taken away by somebody else is found when the file is opened. While it is open, SQLite tells of every other writer that writes
//! through SQLite. It does not tell of bytes that are changed in the file itself: those are found where a row that is selected is not its
//! entry's, and else when the file is opened again. A file in which there is anything but these tables is no index.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};

use super::Cause;
use super::indexed::{COLUMNS, Indexed, position, whole};
use crate::database::{self, is_made_by};
use crate::disk::which;
use crate::facts::{Asker, ENDS, Facts};
use crate::filter::Ruling;
use crate::proved::Proved;
use crate::tree::Hash;

/// The file in the log's folder; SQLite puts `-wal` and `-shm` beside it.
pub(crate) const FILE: &str = "index.sqlite";

/// The version of its tables, of its seal and of what facts are.
const VERSION: i64 = 3;

const TABLES: &str = "
    CREATE TABLE head (log TEXT NOT NULL, first INTEGER NOT NULL, until INTEGER NOT NULL, seal TEXT NOT NULL) STRICT;
    CREATE TABLE entries (
      position INTEGER PRIMARY KEY, leaf BLOB NOT NULL, time INTEGER, event TEXT, query_id TEXT, organisation TEXT, person TEXT,
      purpose TEXT, departments TEXT NOT NULL, datasets TEXT NOT NULL, decision TEXT, code TEXT
    ) STRICT;
    CREATE INDEX queries ON entries (query_id, position) WHERE query_id IS NOT NULL;";

/// How far the index goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The position of its first entry: those before were moved to an archive when it was begun.
    pub(crate) first: u64,
    /// The position after its last one.
    pub(crate) end: u64,
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Table {
    connection: Connection,
    extent: Extent,
    /// Over all rows.
    chain: Hash,
    /// SQLite's mark of what others changed.
    changes: i64,
    place: Place,
}

/// Which files it is made of, whatever their names: device and inode of each.
pub(crate) type Place = [Option<(u64, u64)>; 3];

/// Which files bear the names of an index's.
pub(crate) fn place(folder: &Path) -> Place {
    files(folder).map(|name| which(fs::metadata(name)))
}

/// Why the index cannot be used as it is.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It must be built anew.
    Rebuild(Cause),
    /// The disk, or another process.
    Io(io::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied,
            ) => Self::Io(io::Error::other(format!("{FILE}: {error}"))),
            // A value of another type, or tables that are others, are damage too.
            _ => Self::Rebuild(Cause::Damaged),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Table {
    /// Opens the index of the log with this key, and reads all of it: it is taken as it is, or not at all.
    pub(crate) fn open(folder: &Path, log: &str, seals: &hmac::Key) -> Result<Self, Trouble> {
        if !folder.join(FILE).exists() {
            return Err(Trouble::Rebuild(Cause::Absent));
        }
        let [file, ..] = place(folder);
        let connection = connect(folder)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != VERSION {
            return Err(Trouble::Rebuild(Cause::Version));
        }
        if !is_made_by(&connection, TABLES)? {
            return Err(Trouble::Rebuild(Cause::Edited));
        }
        let changes = changes(&connection)?;
        let (of, extent, seal) = head(&connection)?;
        if of != log {
            return Err(Trouble::Rebuild(Cause::OtherLog));
        }
        let (chain, extent, end) = (begin(log, extent.first), Extent { end: extent.first, ..extent }, extent.end);
        let mut table = Self { connection, extent, chain, changes, place: place(folder) };
        if file.is_none() || table.place.first() != Some(&file) {
            return Err(Trouble::Rebuild(Cause::Replaced));
        }
        table.reread(end)?;
        // The rows are what was sealed; that SQLite's own index over them leaves out none, only this tells.
        let check: String = table.connection.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
        if check != "ok" {
            return Err(Trouble::Rebuild(Cause::Damaged));
        }
        if table.seal(seals) != seal { Err(Trouble::Rebuild(Cause::Edited)) } else { Ok(table) }
    }

    /// Begins it anew, with the entry at `first`.
    pub(crate) fn create(folder: &Path, log: &str, first: u64, seals: &hmac::Key) -> Result<Self, Trouble> {
        for name in files(folder) {
            match fs::remove_file(name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(FILE))?;
        let mut connection = connect(folder)?;
        let (extent, chain) = (Extent { first, end: first }, begin(log, first));
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(&format!("{TABLES} PRAGMA user_version = {VERSION}"))?;
        let seal = seal(&chain, extent, seals);
        transaction.execute("INSERT INTO head VALUES (?1, ?2, ?3, ?4)", params![log, whole(extent.first), whole(extent.end), seal])?;
        transaction.commit()?;
        let changes = changes(&connection)?;
        Ok(Self { connection, extent, chain, changes, place: place(folder) })
    }

    /// The files that it is made of.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }

    /// The leaf hash of its last entry.
    pub(crate) fn last_leaf(&self) -> Result<Option<Hash>, Trouble> {
        let last = self.extent.end.checked_sub(1).map(whole);
        let found = self.connection.query_row("SELECT leaf FROM entries WHERE position = ?1", params![last], |row| row.get(0));
        Ok(found.optional()?)
    }

    /// Whether somebody else wrote in it since.
    pub(crate) fn is_edited(&self) -> Result<bool, Trouble> {
        Ok(changes(&self.connection)? != self.changes)
    }

    /// Who asked a query that is open at the end of the index, as the entry of the log says.
    pub(crate) fn asker(&self, log: &Proved, query_id: &str) -> Result<Option<Asker>, Trouble> {
        asker(&self.connection, log, query_id, self.extent.end)
    }

    /// Adds the entries that follow, with one seal over all.
    pub(crate) fn add(&mut self, new: &[Indexed], seals: &hmac::Key) -> Result<(), Trouble> {
        let (mut chain, mut extent) = (self.chain, self.extent);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut insert = transaction
            .prepare_cached(&format!("INSERT INTO entries ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"))?;
        for entry in new {
            let Facts { time, event, query_id, asker, departments, datasets, decision, code } = &entry.facts;
            let Asker { organisation, person, purpose } = asker;
            let decision = decision.map(Ruling::as_str);
            insert.execute(params![
                whole(entry.position),
                entry.leaf,
                time,
                event,
                query_id,
                organisation,
                person,
                purpose,
                departments.0,
                datasets.0,
                decision,
                code
            ])?;
            chain = linked(&chain, entry);
            extent.end = entry.position.saturating_add(1);
        }
        drop(insert);
        transaction.execute("UPDATE head SET until = ?1, seal = ?2", params![whole(extent.end), seal(&chain, extent, seals)])?;
        transaction.commit()?;
        (self.chain, self.extent) = (chain, extent);
        Ok(())
    }

    /// Follows the chain over all rows up to `end`; there must be no others.
    fn reread(&mut self, end: u64) -> Result<(), Trouble> {
        let mut select = self.connection.prepare(&format!("SELECT {COLUMNS} FROM entries ORDER BY position"))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let entry = Indexed::of(row)?;
            if entry.position != self.extent.end {
                return Err(Trouble::Rebuild(Cause::Edited));
            }
            self.chain = linked(&self.chain, &entry);
            self.extent.end = self.extent.end.saturating_add(1);
        }
        if self.extent.end == end { Ok(()) } else { Err(Trouble::Rebuild(Cause::Edited)) }
    }

    fn seal(&self, seals: &hmac::Key) -> String {
        seal(&self.chain, self.extent, seals)
    }
}

/// A reader's side: one look at the index as it is now, whatever the writer adds meanwhile.
#[derive(Debug)]
pub(crate) struct View {
    connection: Connection,
    pub(crate) extent: Extent,
}

impl View {
    pub(crate) fn open(folder: &Path) -> Result<Self, Trouble> {
        let connection = connect(folder)?;
        connection.pragma_update(None, "query_only", "ON")?;
        connection.execute_batch("BEGIN")?;
        if !is_made_by(&connection, TABLES)? {
            return Err(Trouble::Rebuild(Cause::Edited));
        }
        let (_, extent, _) = head(&connection)?;
        Ok(Self { connection, extent })
    }

    /// Of the entries from `begin` to before `end`, the last `limit` for which the conditions hold, the last one first.
    pub(crate) fn last(
        &self,
        conditions: Vec<(&'static str, Value)>,
        (begin, end): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Indexed>, Trouble> {
        let texts: String = conditions.iter().map(|(condition, _)| format!(" AND {condition}")).collect();
        let statement = format!("SELECT {COLUMNS} FROM entries WHERE position >= ? AND position < ?{texts} ORDER BY position DESC LIMIT ?");
        let bounds = [begin, end].map(|bound| Value::Integer(whole(bound))).into_iter();
        let values = bounds.chain(conditions.into_iter().map(|(_, value)| value)).chain([Value::Integer(whole(limit as u64))]);
        let mut select = self.connection.prepare(&statement)?;
        let rows = select.query_map(rusqlite::params_from_iter(values), Indexed::of)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Who asked a query that is open before the entry at `end`, as the entry of the log says.
    pub(crate) fn asker(&self, log: &Proved, query_id: &str, end: u64) -> Result<Option<Asker>, Trouble> {
        asker(&self.connection, log, query_id, end)
    }
}

/// All files of an index.
fn files(folder: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| folder.join(format!("{FILE}{suffix}")))
}

/// Readers do not keep the writer waiting, nor it them. It can be made anew, so nothing of it needs to be durable at once.
fn connect(folder: &Path) -> Result<Connection, Trouble> {
    let connection = database::connect(&folder.join(FILE))?;
    for (pragma, value) in [("journal_mode", "WAL"), ("synchronous", "NORMAL"), ("temp_store", "MEMORY")] {
        connection.pragma_update(None, pragma, value)?;
    }
    // In pages: the log's disk is the log's.
    connection.pragma_update(None, "wal_autocheckpoint", 200)?;
    Ok(connection)
}

fn head(connection: &Connection) -> Result<(String, Extent, String), Trouble> {
    let head = |row: &Row<'_>| Ok((row.get(0)?, Extent { first: position(row, 1)?, end: position(row, 2)? }, row.get(3)?));
    Ok(connection.query_row("SELECT log, first, until, seal FROM head", [], head)?)
}

fn changes(connection: &Connection) -> Result<i64, Trouble> {
    Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
}

/// The latest of a query's entries before `end` that opens or ends it tells who asked, if it opens it: the index where that entry is, and
/// the entry who.
fn asker(connection: &Connection, log: &Proved, query_id: &str, end: u64) -> Result<Option<Asker>, Trouble> {
    let [closed, refused, explained] = ENDS;
    let mut select = connection.prepare_cached(
        "SELECT position, event FROM entries WHERE query_id = ?1 AND position < ?2
         AND event IN ('query.opened', ?3, ?4, ?5) ORDER BY position DESC LIMIT 1",
    )?;
    let found = |row: &Row<'_>| Ok((position(row, 0)?, row.get::<_, String>(1)?));
    let found = select.query_row(params![query_id, whole(end), closed, refused, explained], found).optional()?;
    let Some((opened, _)) = found.filter(|(_, event)| event == "query.opened") else { return Ok(None) };
    // It may have been moved to an archive meanwhile.
    let Some(entry) = log.entry(opened)? else { return Ok(None) };
    let facts = Facts::read(&entry);
    let is_so = facts.opens() && facts.query_id.as_deref() == Some(query_id);
    if is_so { Ok(Some(facts.asker)) } else { Err(Trouble::Rebuild(Cause::Edited)) }
}

fn begin(log: &str, first: u64) -> Hash {
    Sha256::new()
        .chain_update("concordat.index/v1\0")
        .chain_update(log)
        .chain_update([0])
        .chain_update(first.to_be_bytes())
        .finalize()
        .into()
}

fn linked(chain: &Hash, entry: &Indexed) -> Hash {
    Sha256::new().chain_update(chain).chain_update(entry.framed()).finalize().into()
}

fn seal(chain: &Hash, extent: Extent, seals: &hmac::Key) -> String {
    let sealed = [&chain[..], &extent.first.to_be_bytes(), &extent.end.to_be_bytes()].concat();
    STANDARD_NO_PAD.encode(hmac::sign(seals, &sealed))
}
