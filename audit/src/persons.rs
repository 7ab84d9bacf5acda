//! Who the callers of a log are. Entries name nobody: they carry commitments, and what opens them stands beside the log, not in it.
//!
//! ```text
//! person = HMAC-SHA-256(the person's key, "concordat.person/v1" ‖ 0 ‖ issuer ‖ 0 ‖ subject)
//! token  = HMAC-SHA-256(the person's key, "concordat.token/v1"  ‖ 0 ‖ id of the token)
//! ```
//!
//! Invariants
//! - Every person has a random key of their own, one row of `persons.sqlite`; it is durable before the first entry that rests on it.
//! - Without the row nobody can open or recompute that person's commitments, and every hash of the log still verifies.
//! - What was erased is told by the log itself (`person.erased`), with the commitment, and so is a store that was begun anew, and one that
//!   another program edited while the log was open (`persons.edited`).
//!
//! Deliberately absent: one person as another log knows them. Each log has its own keys, so commitments of two logs cannot be joined.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;

use chrono::Utc;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde_json::{Value, json};
use sha2::Sha256;
use zeroize::Zeroizing;

mod store;
#[cfg(test)]
mod tests;

use self::store::{FILE, TABLES, VERSION, connect, damage, failed, leave};
pub(crate) use self::store::{Store, Untold};
use crate::database::{self, is_made_by};

/// A caller, as an entry is given one. Stands in no log and in no message.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) who: Who,
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Person")
    }
}

/// An issuer and its name for somebody: only both together name one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) issuer: String,
    pub(crate) subject: String,
}

/// A person's key.
#[derive(Clone)]
pub(crate) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    fn random() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut()).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self(key))
    }

    pub(crate) fn person(&self, who: &Who) -> String {
        self.commitment(&["concordat.person/v1", &who.issuer, &who.subject])
    }

    pub(crate) fn token(&self, id: &str) -> String {
        self.commitment(&["concordat.token/v1", id])
    }

    fn commitment(&self, parts: &[&str]) -> String {
        use std::fmt::Write as _;
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_ref()) else { return String::new() };
        mac.update(parts.join("\0").as_bytes());
        mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, b| {
            let _ = write!(hex, "{b:02x}");
            hex
        })
    }
}

/// Somebody whose commitment can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What stands as `person` in the log's entries.
    pub commitment: String,
    /// Who issues their tokens.
    pub issuer: String,
    /// The issuer's name for them.
    pub subject: String,
    /// The months (`2027-04`) in which they were seen first and last.
    pub seen: (String, String),
}

/// All whom the store of a log names, for readers who may read it.
#[derive(Debug, Default)]
pub struct Persons {
    all: HashMap<String, Named>,
}

impl Persons {
    /// Reads the store of the log in `folder`, also beside its running writer; `None` where there is none or it is not for this reader.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        match std::fs::File::open(folder.join(FILE)) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => return Ok(None),
            opened => drop(opened?),
        }
        let connection = reading(folder)?;
        known(&connection)?;
        Ok(Some(Self { all: named(&connection).map_err(failed)?.into_iter().map(|of| (of.commitment.clone(), of)).collect() }))
    }

    /// Whose commitment it is.
    #[must_use]
    pub fn open(&self, commitment: &str) -> Option<&Named> {
        self.all.get(commitment)
    }

    /// Whose commitments begin so.
    #[must_use]
    pub fn beginning(&self, commitment: &str) -> Vec<&Named> {
        self.sorted(|of| of.commitment.starts_with(commitment))
    }

    /// Whom issuers, or one of them, call so.
    #[must_use]
    pub fn called(&self, subject: &str, issuer: Option<&str>) -> Vec<&Named> {
        self.sorted(|of| of.subject == subject && issuer.is_none_or(|issuer| of.issuer == issuer))
    }

    fn sorted(&self, which: impl Fn(&Named) -> bool) -> Vec<&Named> {
        let mut found: Vec<&Named> = self.all.values().filter(|of| which(of)).collect();
        found.sort_by_key(|of| (&of.issuer, &of.subject));
        found
    }
}

/// The commitment that stands in the log in `folder` for somebody; `None` where nobody of that name is kept.
pub(crate) fn commitment(folder: &Path, issuer: &str, subject: &str) -> io::Result<Option<String>> {
    let (connection, who) = (reading(folder)?, Who { issuer: issuer.into(), subject: subject.into() });
    known(&connection)?;
    let key = |row: &rusqlite::Row<'_>| Ok(Key(Zeroizing::new(row.get(0)?)));
    let found = connection.query_row("SELECT key FROM persons WHERE issuer = ?1 AND subject = ?2", params![issuer, subject], key);
    Ok(found.optional().map_err(failed)?.map(|key| key.person(&who)))
}

/// Erases whom `commitment` names from the store of the log in `folder`: from then on it means nothing to anybody. The log's writer tells
/// so in the log: within a second if it runs, else before anything else once it does. Whether somebody was erased; the file is written
/// anew in any case, so that no page of it keeps what stood there.
///
/// # Errors
/// When the store is not there or cannot be written. Where only its rewriting failed, the person is erased: ask again.
pub fn erase(folder: &Path, commitment: &str) -> io::Result<bool> {
    let mut connection = connect(&folder.join(FILE))?;
    known(&connection)?;
    let erased = remove(&mut connection, commitment).map_err(failed)?;
    connection.execute_batch("VACUUM").map_err(failed)?;
    Ok(erased)
}

fn remove(connection: &mut Connection, commitment: &str) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(found) = named(&transaction)?.into_iter().find(|of| of.commitment == commitment) else { return Ok(false) };
    transaction.execute("DELETE FROM persons WHERE issuer = ?1 AND subject = ?2", params![found.issuer, found.subject])?;
    leave(&transaction, "person.erased", &json!({ "person": commitment, "erased_at": Utc::now().to_rfc3339() }))?;
    transaction.commit()?;
    Ok(true)
}

/// Leaves an event for the writer of the log in `folder`, as erasures are left.
pub(crate) fn leave_for(folder: &Path, event: &str, fields: &Value) -> io::Result<()> {
    let connection = connect(&folder.join(FILE))?;
    known(&connection)?;
    leave(&connection, event, fields).map_err(failed)
}

/// Whether erasures wait for the log's writer to tell them.
///
/// # Errors
/// When the store cannot be read.
pub fn is_untold(folder: &Path) -> io::Result<bool> {
    reading(folder)?.query_row("SELECT EXISTS (SELECT 1 FROM untold)", [], |row| row.get(0)).map_err(failed)
}

/// That the store of the log in `folder`, where there is one, can be opened and has what this program writes.
pub(crate) fn check(folder: &Path) -> io::Result<()> {
    if !folder.join(FILE).exists() {
        return Ok(());
    }
    let connection = reading(folder)?;
    if is_made_by(&connection, "").map_err(failed)? {
        return Ok(());
    }
    known(&connection)?;
    named(&connection).map(drop).map_err(failed)
}

/// A connection that only reads. What a killed writer left half done is undone first where the reader may, so it is not opened as one that
/// never writes; for whoever may not write, SQLite opens it so by itself.
fn reading(folder: &Path) -> io::Result<Connection> {
    database::connect(&folder.join(FILE)).map_err(failed)
}

fn known(connection: &Connection) -> io::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    if ![0, VERSION].contains(&version) {
        return Err(io::Error::other(format!("{FILE} is of another version of this program: {version}")));
    }
    if is_made_by(connection, TABLES).map_err(failed)? {
        return Ok(());
    }
    Err(damage("somebody changed its tables, or added something to them"))
}

fn named(connection: &Connection) -> rusqlite::Result<Vec<Named>> {
    let mut select = connection.prepare("SELECT issuer, subject, key, first_seen, last_seen FROM persons")?;
    let rows = select.query_map([], |row| {
        Ok((Who { issuer: row.get(0)?, subject: row.get(1)? }, Key(Zeroizing::new(row.get(2)?)), (row.get(3)?, row.get(4)?)))
    })?;
    // The store is let go of before anything is computed: its writer may wait.
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let named = |(who, key, seen): (Who, Key, _)| Named { commitment: key.person(&who), issuer: who.issuer, subject: who.subject, seen };
    Ok(rows.into_iter().map(named).collect())
}
