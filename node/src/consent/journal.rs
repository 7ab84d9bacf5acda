//! What commands did beside the running node. The node alone writes the access log, so a command notes what it does here, in
//! the ledger's own file: in the transaction of what it records, and before it shows anything. The node moves the notes to
//! its log when it starts, before every release, and whenever its readiness is asked for.
//!
//! A note may stand in the log twice, when a node ended between writing it there and noting that here: `journal` says which.

use concordat_audit::Entry;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde_json::{Map, Value};

use super::ledger::{Ledger, LedgerError, timestamp};
use crate::suspension::Person;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS journal (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        event TEXT NOT NULL,
        fields TEXT NOT NULL,
        noted_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS journal_moved (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        number INTEGER NOT NULL
    ) STRICT;";

/// The most notes that are moved at once.
const AT_ONCE: i64 = 1000;

/// The events that commands note, as the log names them.
const EVENTS: [&str; 11] = [
    "consent.recorded",
    "consent.imported",
    "consent.shown",
    "consent.receipted",
    "consent.corrected",
    "consent.erased",
    "preview.made",
    "agreement.proposed",
    "agreement.countersigned",
    "agreement.discarded",
    "linkage.protected",
];

/// What a command did. Never holds an identifier.
#[derive(Debug, Clone)]
pub struct Note {
    event: &'static str,
    fields: Map<String, Value>,
}

impl Note {
    /// A note of one of the events above, by the person who runs this process.
    pub(crate) fn new(event: &'static str) -> Self {
        let note = Self { event, fields: Map::new() }.field("command", true);
        let by = Person::here().map(|by| by.told()).unwrap_or_default();
        by.into_iter().fold(note, |note, (name, value)| note.field(name, value))
    }

    pub(crate) fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Writes the note, and the ledger's version where it has changed.
    pub(crate) fn write(&self, transaction: &Transaction<'_>, version: Option<u64>) -> Result<(), LedgerError> {
        let mut fields = self.fields.clone();
        if let Some(version) = version {
            fields.insert("consent_version".into(), version.into());
        }
        transaction.execute(
            "INSERT INTO journal (event, fields, noted_at) VALUES (?1, ?2, ?3)",
            params![self.event, Value::Object(fields).to_string(), timestamp()],
        )?;
        Ok(())
    }
}

/// Which note, in a ledger that numbers its notes; a restored one gives numbers out again, at another time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) number: i64,
    at: String,
}

impl Ledger {
    /// Makes notes durable, without any record.
    pub(crate) fn note(&self, notes: &[Note]) -> Result<(), LedgerError> {
        self.write(|transaction| notes.iter().try_for_each(|note| note.write(transaction, None)))
    }

    /// The oldest notes that the log is not known to have: those after `last`, the last one that was logged. Where the ledger does
    /// not hold that note (any more), it is another one, such as a restored backup, and its own mark counts.
    pub(crate) fn notes(&self, last: Option<&Noted>) -> Result<Vec<(Noted, Entry)>, LedgerError> {
        let connection = self.reader();
        let moved = moved(&connection)?;
        let held = |last: &Noted| {
            let mut same = connection.prepare_cached("SELECT 1 FROM journal WHERE number = ?1 AND noted_at = ?2")?;
            same.exists(params![last.number, last.at])
        };
        let after = match last {
            Some(last) if held(last)? => moved.max(last.number),
            _ => moved,
        };
        let mut statement =
            connection.prepare_cached("SELECT number, event, fields, noted_at FROM journal WHERE number > ?1 ORDER BY number LIMIT ?2")?;
        let mut rows = statement.query(params![after, AT_ONCE])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let (number, event, fields): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let known = EVENTS.into_iter().find(|known| *known == event).unwrap_or("consent.noted");
            let fields: Map<String, Value> = serde_json::from_str(&fields).map_err(|_| LedgerError::Damaged(number.unsigned_abs()))?;
            let entry = fields.into_iter().fold(Entry::new(known), |entry, (name, value)| entry.field(&name, value));
            let noted = Noted { number, at: row.get(3)? };
            let entry = entry.field("journal", number).field("noted_at", noted.at.as_str());
            entries.push((noted, entry));
        }
        Ok(entries)
    }

    /// The log has every note up to `number`. `false` when that could not be kept, because somebody writes just now.
    pub(crate) fn noted(&self, number: i64) -> Result<bool, LedgerError> {
        self.write_if_idle(|transaction| {
            transaction.execute(
                "INSERT INTO journal_moved (only, number) VALUES (1, ?1) ON CONFLICT (only) DO UPDATE SET number = max(number, ?1)",
                params![number],
            )?;
            Ok(())
        })
    }
}

fn moved(connection: &Connection) -> Result<i64, LedgerError> {
    Ok(connection.query_row("SELECT number FROM journal_moved", [], |row| row.get(0)).optional()?.unwrap_or(0))
}
