//! The consent index: what each subject has recorded, in memory, as releases need it.
//!
//! ```text
//! identifier ─ keyed hash, 80 bits ─▶ table of its type (sorted) ─▶ history: which choices, for which purposes, in which order
//! ```
//!
//! - Subjects stand in it by a keyed hash under the department's secret ([`super::secret`]), so that a core dump of the index alone
//!   names nobody, nobody can choose identifiers that collide, and what is kept of erased people is found by the same hash.
//! - Every subject has one entry per identifier type, however many purposes the records are about: 14 bytes, at most half a
//!   byte of directory, and at most one byte of recent changes ([`table`]). What the entry points to is shared by all subjects
//!   who made the same choices in the same order ([`history`]).
//! - Two of n subjects share 80 bits with a probability of n²/2^81: 10^-11 for five million, 4·10^-9 for a hundred million. A
//!   row's subject without records meets somebody else's with at most twice that.
//! - Records with times are judged at the one moment of a snapshot.
//!
//! A release reads a [`Snapshot`], which never changes: tables and histories are shared, and copied before they are changed
//! while somebody reads them.

mod base;
mod history;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use concordat_policy::Name;
use concordat_policy::consent::Latest;

use self::base::Key;
use self::history::Choice;
use self::table::{Limits, Shared, Table};
use super::ledger::{LedgerError, Row, Step, Subject};
use super::secret::hash_of;
use crate::pseudonym::{Pseudonym, Pseudonyms};

/// The index.
pub(super) struct Index {
    version: u64,
    hasher: Arc<Pseudonyms>,
    // By the label of the identifiers' type.
    tables: BTreeMap<String, Table>,
    limits: Limits,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index(version {})", self.version)
    }
}

impl Index {
    pub(super) fn new(hasher: Arc<Pseudonyms>) -> Self {
        Self { version: 0, hasher, tables: BTreeMap::new(), limits: Limits::default() }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Takes one more record. Records come in the order of their places; after a failure they may come again from any place
    /// that was not settled yet ([`Index::advance`]).
    pub(super) fn apply(&mut self, row: Row<'_>) -> Result<(), LedgerError> {
        let hash = match row.subject {
            Subject::Identifier(identifier) => self.hasher.one(identifier),
            Subject::Erased(digest) => hash_of(digest).ok_or(LedgerError::Digest)?,
        };
        let key = Key::of(hash);
        let take = |table: &mut Table| match row.step {
            Step::Choice { purpose, event, term } => table.record(key, purpose, event, term),
            Step::Forget => table.forget(key),
        };
        // Looked up before it is inserted, so that the common case copies no text.
        if let Some(table) = self.tables.get_mut(row.identifier_type) {
            return take(table);
        }
        let new = || Table::new(self.limits);
        take(self.tables.entry(row.identifier_type.to_owned()).or_insert_with(new))
    }

    /// Settles every record that was taken: from now on the index is at `version`.
    pub(super) fn advance(&mut self, version: u64) -> Result<(), LedgerError> {
        self.tables.values_mut().try_for_each(Table::settle)?;
        self.version = version;
        Ok(())
    }

    /// The index as it is, to be judged at the moment `now` (Unix seconds).
    pub(super) fn snapshot(&self, now: i64) -> Snapshot {
        let tables = self.tables.iter().map(|(label, table)| (label.clone(), table.shared())).collect();
        Snapshot { version: self.version, now, hasher: Arc::clone(&self.hasher), tables: Arc::new(tables) }
    }
}

/// One version of the index. Never changes.
#[derive(Clone)]
pub struct Snapshot {
    version: u64,
    now: i64,
    hasher: Arc<Pseudonyms>,
    tables: Arc<BTreeMap<String, Shared>>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot(version {})", self.version)
    }
}

impl Snapshot {
    /// The place of the last record it holds.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The moment at which records with times are judged, Unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The same records, judged at another moment.
    #[must_use]
    pub fn at(self, now: i64) -> Self {
        Self { now, ..self }
    }

    /// How many subjects it holds, each counted once per identifier type.
    #[must_use]
    pub fn subjects(&self) -> usize {
        self.tables.values().map(Shared::subjects).sum()
    }

    /// How many bytes of memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tables.values().map(Shared::bytes).sum()
    }

    /// The records about identifiers of the type `label` for any of `purposes`.
    pub fn view<'a>(&self, label: &str, purposes: impl Iterator<Item = &'a Name>) -> View {
        let table = self.tables.get(label).cloned();
        let relevant = table.as_ref().map(|table| table.relevant(purposes)).unwrap_or_default();
        View { now: self.now, hasher: Arc::clone(&self.hasher), table, relevant }
    }
}

/// What a release asks: each subject's last records over all relevant purposes.
#[derive(Clone)]
pub struct View {
    now: i64,
    hasher: Arc<Pseudonyms>,
    table: Option<Shared>,
    // For each purpose of the table, whether its records count.
    relevant: Vec<bool>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({} purposes)", self.relevant.iter().filter(|relevant| **relevant).count())
    }
}

impl View {
    /// Replaces the content of `out` by the last records of each identifier (normalised), in order. `scratch` is working space.
    ///
    /// The places are those among the subject's own last records, from 1: they say which came later, and nothing else.
    pub fn latest<'a>(&self, identifiers: impl Iterator<Item = &'a str>, scratch: &mut Vec<Pseudonym>, out: &mut Vec<Latest>) {
        self.hasher.make(identifiers, scratch);
        out.clear();
        let Some(table) = &self.table else {
            out.resize(scratch.len(), Latest::default());
            return;
        };
        out.extend(scratch.iter().map(|hash| self.meaning(table, table.history(Key::of(*hash)))));
    }

    /// What identifies the keyed hash by which subjects are found: another key gives another one.
    pub(crate) fn hasher(&self) -> Pseudonym {
        self.hasher.of_key()
    }

    /// Replaces the content of `out` by the hashes of identifiers (normalised), by which [`View::of`] finds their records.
    pub(crate) fn hashes<'a>(&self, identifiers: impl Iterator<Item = &'a str>, out: &mut Vec<Pseudonym>) {
        self.hasher.make(identifiers, out);
    }

    /// The last records of one subject, by its hash.
    pub(crate) fn of(&self, hash: Pseudonym) -> Latest {
        self.table.as_ref().map_or_else(Latest::default, |table| self.meaning(table, table.history(Key::of(hash))))
    }

    /// Which subjects can have other records here than in `other`, which counts the same purposes at the same moment; `None` where
    /// it could be any of them.
    pub(crate) fn since<'a>(&'a self, other: &'a Self) -> Option<Changed<'a>> {
        let alike = Arc::ptr_eq(&self.hasher, &other.hasher) && self.relevant.iter().zip(&other.relevant).all(|(now, then)| now == then);
        let (now, then) = match (&self.table, &other.table) {
            (None, None) => return alike.then_some(Changed(None)),
            (Some(now), Some(then)) => (now, then),
            _ => return None,
        };
        let timeless = self.now == other.now || (now.is_timeless() && then.is_timeless());
        (alike && timeless).then(|| now.since(then)).flatten().map(|tables| Changed(Some(tables)))
    }

    fn meaning(&self, table: &Shared, history: &[Choice]) -> Latest {
        let mut latest = Latest::default();
        for (choice, place) in history.iter().zip(1..) {
            if let Some((purpose, event, term)) = table.meant(*choice)
                && self.relevant.get(purpose).is_some_and(|relevant| *relevant)
            {
                latest.hear(event, term, place, self.now);
            }
        }
        latest
    }
}

/// Subjects whose records may have changed.
pub(crate) struct Changed<'a>(Option<table::Changed<'a>>);

impl Changed<'_> {
    /// Nobody's.
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    /// Whether it is nobody.
    pub(crate) fn is_none(&self) -> bool {
        self.0.as_ref().is_none_or(table::Changed::is_none)
    }

    /// Whether the subject of this hash is one.
    pub(crate) fn holds(&self, hash: Pseudonym) -> bool {
        self.0.as_ref().is_some_and(|changed| changed.holds(Key::of(hash)))
    }
}

#[cfg(test)]
mod tests;
