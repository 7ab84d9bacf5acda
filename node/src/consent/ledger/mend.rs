//! Corrections and erasures. What they look for is read before the ledger is locked, so that nobody's withdrawal waits for it;
//! what came meanwhile is read under the lock.

use std::collections::BTreeMap;

use chrono::Utc;
use concordat_policy::consent::history::{kept, speaking};
use concordat_policy::consent::{Event, Said, Spoken, Term};
use rusqlite::{Transaction, params};

use super::reading::about;
use super::record::{CORRECTED, Details, ERASED, Kept, Subject};
use super::wipe::mark;
use super::{Insert, Ledger, LedgerError, Note, not_behind, same_secret, version};
use crate::consent::secret::Secret;
use crate::consent::stated::{Numbers, Present};

/// A subject, by the identifier and by what stands in its stead.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::consent) struct Known {
    pub(in crate::consent) identifier: String,
    pub(in crate::consent) digest: String,
}

impl Known {
    pub(in crate::consent) fn is(&self, subject: Subject<'_>) -> bool {
        match subject {
            Subject::Identifier(identifier) => identifier == self.identifier,
            Subject::Erased(digest) => digest == self.digest,
        }
    }
}

/// Why nothing was corrected.
#[derive(Debug, thiserror::Error)]
pub enum CorrectError {
    /// Another person's record, or none.
    #[error("the ledger holds no choice of this person at that place")]
    Absent,
    /// Corrected before.
    #[error("the record at that place was corrected before, at place {0}")]
    Corrected(u64),
    /// Erased since.
    #[error("the person was erased after that record was made")]
    Erased,
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// The ledger's version after it.
    pub version: u64,
    /// People of whom the ledger held something.
    pub subjects: usize,
    /// Whether the ledger's files hold no older copies of what was erased: else the node wipes them once nobody reads the ledger.
    pub wiped: bool,
}

impl Ledger {
    /// Records that the record at `place`, which is about `who`, was wrong, in a ledger that is not behind the version `least`.
    /// Returns the version after it. Where nothing is kept any more of somebody erased, their identifier is not kept either.
    pub(in crate::consent) fn correct(
        &self,
        label: &str,
        who: &Known,
        place: u64,
        least: u64,
        note: Option<&Note>,
        secret: &Secret,
    ) -> Result<u64, CorrectError> {
        let (mut history, read) = self.histories(label, std::slice::from_ref(who))?;
        let mut wrong = Ok(());
        let written = self.write(|transaction| {
            not_behind(transaction, least)?;
            add(transaction, label, read, std::slice::from_ref(who), &mut history)?;
            let records = history.remove(&0).unwrap_or_default();
            let found = match correctable(&records, place) {
                Ok(found) => found,
                Err(why) => {
                    wrong = Err(why);
                    return Ok(0);
                }
            };
            let all = || records.iter().map(entry).chain([(u64::MAX, found.purpose.as_str(), Said::Corrected(place))]);
            let places: Vec<u64> = speaking(all()).into_iter().map(|record| record.place).collect();
            let keeps = records.iter().any(|record| record.erased && places.contains(&record.place));
            if !keeps {
                unseal(transaction, &records)?;
            }
            let mut insert = Insert::new(transaction)?;
            if found.erased && keeps {
                insert.sealed(Some(secret.sealed(label, who)?.as_slice()))?;
            }
            insert.scope(label, &found.purpose, CORRECTED, None)?;
            insert.correction(place, &serde_json::json!(places).to_string())?;
            // An identifier that was erased does not come back.
            insert.record(
                if found.erased { Subject::Erased(&who.digest) } else { Subject::Identifier(&who.identifier) },
                &Details::default(),
            )?;
            drop(insert);
            let version = version(transaction)?;
            note.map_or(Ok(()), |note| note.write(transaction, Some(version)))?;
            Ok(version)
        });
        wrong.and(written.map_err(Into::into))
    }

    /// Takes the identifiers of `people` out of a ledger that is not behind, and keeps what holds their data
    /// back under the digests in their stead, with the identifiers encrypted under `secret`: all of them, or none. Of whom the ledger
    /// holds what an erasure left, and nothing since, nothing is written.
    pub(in crate::consent) fn erase(
        &self,
        label: &str,
        people: &[Known],
        present: &Present<'_>,
        note: Option<&Note>,
        secret: &Secret,
    ) -> Result<Erased, LedgerError> {
        let (mut histories, read) = self.histories(label, people)?;
        let (version, subjects) = self.write(|transaction| {
            not_behind(transaction, present.least)?;
            same_secret(transaction, &self.secret)?;
            transaction.execute("INSERT OR IGNORE INTO erasures (only, secret) VALUES (1, ?1)", params![self.secret])?;
            add(transaction, label, read, people, &mut histories)?;
            let (mut numbers, mut changed) = (Numbers::new(present), false);
            for (who, records) in &histories {
                if let Some(known) = people.get(*who) {
                    changed |= erase_one(transaction, (label, known), records, &mut numbers, secret)?;
                }
            }
            changed |= key_files(transaction, secret)?;
            let version = version(transaction)?;
            if changed {
                mark(transaction, version)?;
            }
            note.map_or(Ok(()), |note| note.write(transaction, Some(version)))?;
            Ok((version, histories.len()))
        })?;
        self.wipe()?;
        Ok(Erased { version, subjects, wiped: self.unwiped()?.is_none() })
    }

    /// The records of each of `people` of whom there are some, by position, and the version that was read.
    fn histories(&self, label: &str, people: &[Known]) -> Result<(BTreeMap<usize, Vec<Kept>>, u64), LedgerError> {
        let reading = self.reading()?;
        let mut histories = BTreeMap::new();
        add(reading.connection(), label, 0, people, &mut histories)?;
        Ok((histories, reading.version()))
    }
}

/// Adds the records after place `from`.
fn add(
    connection: &rusqlite::Connection,
    label: &str,
    from: u64,
    people: &[Known],
    histories: &mut BTreeMap<usize, Vec<Kept>>,
) -> Result<(), LedgerError> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, known) in people.iter().enumerate() {
        places.entry(&known.identifier).or_insert(at);
        places.entry(&known.digest).or_insert(at);
    }
    about(connection, label, from, &mut |subject, kept| {
        let (Subject::Identifier(text) | Subject::Erased(text)) = subject;
        let Some(at) = places.get(text).filter(|at| people.get(**at).is_some_and(|known| known.is(subject))) else { return Ok(()) };
        histories.entry(*at).or_default().push(kept()?);
        Ok(())
    })
}

/// The record at `place`, if it can be corrected.
fn correctable(records: &[Kept], place: u64) -> Result<&Kept, CorrectError> {
    let found = records.iter().find(|kept| kept.place == place && matches!(kept.said, Said::Choice(..))).ok_or(CorrectError::Absent)?;
    if let Some(by) = records.iter().find(|kept| kept.corrects() == Some(place)) {
        return Err(CorrectError::Corrected(by.place));
    }
    if records.iter().any(|kept| kept.said == Said::Erased && kept.place > place) {
        return Err(CorrectError::Erased);
    }
    Ok(found)
}

/// Of the identifiers of those erased among `records`, nothing is kept any more.
fn unseal(transaction: &Transaction<'_>, records: &[Kept]) -> Result<(), LedgerError> {
    let mut unseal = transaction.prepare_cached("UPDATE records SET sealed = NULL WHERE place = ?1")?;
    for record in records.iter().filter(|record| record.erased) {
        unseal.execute(params![record.place.cast_signed()])?;
    }
    Ok(())
}

/// Whether these records are what an erasure has left that keeps this, and nothing since.
fn left(records: &[Kept], keep: &[(String, Event)]) -> bool {
    let Some((marker, rest)) = records.split_first() else { return false };
    let same = |(record, (purpose, event)): (&Kept, &(String, Event))| {
        record.purpose == *purpose && record.said == Said::Choice(*event, Term::default())
    };
    marker.said == Said::Erased && records.iter().all(|record| record.erased) && rest.len() == keep.len() && rest.iter().zip(keep).all(same)
}

/// Whether there was something to erase.
fn erase_one(
    transaction: &Transaction<'_>,
    (label, who): (&str, &Known),
    records: &[Kept],
    numbers: &mut Numbers<'_>,
    secret: &Secret,
) -> Result<bool, LedgerError> {
    let spoken: Vec<Spoken<'_>> = speaking(records.iter().map(entry));
    let keep = kept(numbers.purposes(), &spoken, Utc::now().timestamp());
    if left(records, &keep) {
        return Ok(false);
    }
    let sql = "UPDATE records SET identifier = NULL, erased = NULL, sealed = NULL, capacity = NULL, acted_by = NULL, speaking = NULL
         WHERE place = ?1";
    let mut blank = transaction.prepare_cached(sql)?;
    for record in records {
        blank.execute(params![record.place.cast_signed()])?;
    }
    let only_agreed = records.iter().all(|record| matches!(record.said, Said::Choice(Event::Given, _)));
    let sealed = match (keep.is_empty(), only_agreed) {
        (false, _) => Some(secret.sealed(label, who)?),
        // Nobody was ever told of them.
        (true, true) => Some(Vec::new()),
        (true, false) => None,
    };
    let mut insert = Insert::new(transaction)?;
    insert.sealed(sealed.as_deref())?;
    insert.scope(label, "", ERASED, None)?;
    insert.record(Subject::Erased(&who.digest), &Details::default())?;
    for (purpose, event) in keep {
        let stated = numbers.of(transaction, &purpose, event)?;
        insert.scope(label, &purpose, event.as_str(), Some(stated))?;
        insert.record(Subject::Erased(&who.digest), &Details::default())?;
    }
    Ok(true)
}

/// The hash of a file that was imported tells, where the file is short, who was in it to whoever tries them all. Once somebody was
/// erased it stands keyed, and nothing is kept of the file's name. Until then the ledger names everybody, and can do without the secret:
/// what was imported must not be imported again for want of it. Whether there was one.
fn key_files(transaction: &Transaction<'_>, secret: &Secret) -> Result<bool, LedgerError> {
    // Hashes are hexadecimal. Outside of these ranges lie the senders' names for calls and streams, and what is keyed.
    let sql = "SELECT digest FROM imports WHERE digest < 'call:' OR (digest >= 'call;' AND digest < 'g')";
    let mut statement = transaction.prepare_cached(sql)?;
    let files = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut key = transaction.prepare_cached("UPDATE imports SET digest = ?2, file = '' WHERE digest = ?1")?;
    for file in &files {
        key.execute(params![file, secret.file(file)])?;
    }
    Ok(!files.is_empty())
}

/// As the policy reads a record.
pub(in crate::consent) fn entry(kept: &Kept) -> (u64, &str, Said) {
    (kept.place, &kept.purpose, kept.said)
}
