//! Rows that departments released today, for each caller and under each agreement, counted from receipts; and rows of single subjects
//! that answers held, for each dataset of an agreement. Kept in a file, so that a restart does not forget them. A day is a UTC day; a clock that is set back does not open a new one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::NaiveDate;
use concordat_policy::Refusal;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::replace::replace;

/// The most callers of one day.
const MOST: usize = 65_536;

/// The counts of a day.
#[derive(Debug)]
pub(super) struct Rows {
    path: PathBuf,
    day: Mutex<Day>,
    /// The change that was made durable last; held while the file is written.
    saved: tokio::sync::Mutex<u64>,
}

#[derive(Debug)]
struct Day {
    date: NaiveDate,
    callers: BTreeMap<Key, u64>,
    agreements: BTreeMap<String, u64>,
    put_out: BTreeMap<String, u64>,
    changes: u64,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    day: NaiveDate,
    callers: Vec<KeptCaller>,
    agreements: BTreeMap<String, u64>,
    put_out: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptCaller {
    issuer: String,
    organisation: String,
    subject: String,
    rows: u64,
}

impl Rows {
    /// Reads the counts in `state`; none when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged: to go on would forget what was used.
    pub(super) fn open(state: &Path, today: NaiveDate) -> io::Result<Self> {
        let path = state.join("rows.json");
        let kept = match std::fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice::<Kept>(&bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let mut day = Day { date: today, callers: BTreeMap::new(), agreements: BTreeMap::new(), put_out: BTreeMap::new(), changes: 0 };
        if let Some(kept) = kept.filter(|k| k.day >= today) {
            day.date = kept.day;
            let key = |c: KeptCaller| (Key { issuer: c.issuer, organisation: c.organisation, subject: c.subject }, c.rows);
            day.callers = kept.callers.into_iter().map(key).collect();
            day.agreements = kept.agreements;
            day.put_out = kept.put_out;
        }
        Ok(Self { path, day: Mutex::new(day), saved: tokio::sync::Mutex::new(0) })
    }

    /// What a caller has used today; `None` when there are more callers than can be counted.
    pub(super) fn of_caller(&self, caller: &Key, today: NaiveDate) -> Option<u64> {
        self.with(today, |day| match day.callers.get(caller) {
            Some(rows) => Some(*rows),
            None => (day.callers.len() < MOST).then_some(0),
        })
    }

    /// What was used today under an agreement.
    pub(super) fn of_agreement(&self, agreement: &str, today: NaiveDate) -> u64 {
        self.with(today, |day| day.agreements.get(agreement).copied().unwrap_or(0))
    }

    /// Adds rows, and returns when that is durable.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] when it cannot be made durable.
    pub(super) async fn charge(&self, caller: &Key, released: &BTreeMap<String, u64>, today: NaiveDate) -> Result<(), Refusal> {
        if released.values().all(|rows| *rows == 0) {
            return Ok(());
        }
        let change = self.with(today, |day| {
            for (agreement, rows) in released {
                for count in [day.callers.entry(caller.clone()).or_default(), day.agreements.entry(agreement.clone()).or_default()] {
                    *count = count.saturating_add(*rows);
                }
            }
            day.changes += 1;
            day.changes
        });
        self.save(change, today).await
    }

    /// Of these, which are counted each under a name with the most that it may reach: the first that has reached it.
    pub(super) fn used_up(&self, counted: &[(String, u64)], today: NaiveDate) -> Option<usize> {
        self.with(today, |day| counted.iter().position(|(name, most)| day.put_out.get(name).copied().unwrap_or(0) >= *most))
    }

    /// Adds rows that an answer holds under each of these names, if none goes beyond the most that it may reach, and returns when that
    /// is durable. Otherwise adds none, and says which would.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] when it cannot be made durable.
    pub(super) async fn put_out(&self, counted: &[(String, u64)], rows: u64, today: NaiveDate) -> Result<Option<usize>, Refusal> {
        let change = self.with(today, |day| {
            let left = |(name, most): &(String, u64)| most.saturating_sub(day.put_out.get(name).copied().unwrap_or(0));
            if let Some(beyond) = counted.iter().position(|one| rows > left(one)) {
                return Err(beyond);
            }
            for (name, _) in counted {
                let count = day.put_out.entry(name.clone()).or_default();
                *count = count.saturating_add(rows);
            }
            day.changes += 1;
            Ok(day.changes)
        });
        match change {
            Ok(change) => self.save(change, today).await.map(|()| None),
            Err(beyond) => Ok(Some(beyond)),
        }
    }

    /// Returns when a change is durable.
    async fn save(&self, change: u64, today: NaiveDate) -> Result<(), Refusal> {
        let mut saved = self.saved.lock().await;
        if *saved >= change {
            return Ok(());
        }
        let (kept, upto) = self.with(today, |day| (day.kept(), day.changes));
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || replace(&path, &serde_json::to_vec(&kept)?))
            .await
            .map_err(Refusal::internal)?
            .map_err(|e| Refusal::internal(format!("the rows of the day cannot be kept: {e}")))?;
        *saved = upto;
        Ok(())
    }

    fn with<T>(&self, today: NaiveDate, work: impl FnOnce(&mut Day) -> T) -> T {
        let mut day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        if today > day.date {
            day.date = today;
            day.callers.clear();
            day.agreements.clear();
            day.put_out.clear();
        }
        work(&mut day)
    }
}

impl Day {
    fn kept(&self) -> Kept {
        let caller = |(key, rows): (&Key, &u64)| KeptCaller {
            issuer: key.issuer.clone(),
            organisation: key.organisation.clone(),
            subject: key.subject.clone(),
            rows: *rows,
        };
        Kept {
            day: self.date,
            callers: self.callers.iter().map(caller).collect(),
            agreements: self.agreements.clone(),
            put_out: self.put_out.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(subject: &str) -> Key {
        Key { issuer: "i".into(), organisation: "unit".into(), subject: subject.into() }
    }

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 5, day).unwrap()
    }

    #[tokio::test]
    async fn counts_survive_a_restart_end_with_the_day_and_not_with_a_clock_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let rows = Rows::open(folder.path(), day(2)).unwrap();
        let released = BTreeMap::from([("x".to_owned(), 5), ("y".to_owned(), 7)]);
        rows.charge(&key("a"), &released, day(2)).await.unwrap();
        rows.charge(&key("b"), &BTreeMap::from([("x".to_owned(), 1)]), day(2)).await.unwrap();
        let again = Rows::open(folder.path(), day(2)).unwrap();
        for rows in [&rows, &again] {
            assert_eq!((rows.of_caller(&key("a"), day(2)), rows.of_caller(&key("c"), day(2))), (Some(12), Some(0)));
            assert_eq!((rows.of_agreement("x", day(2)), rows.of_agreement("y", day(2))), (6, 7));
            assert_eq!(rows.of_caller(&key("a"), day(1)), Some(12), "a clock that is set back opens no new day");
        }
        assert_eq!(Rows::open(folder.path(), day(1)).unwrap().of_caller(&key("a"), day(1)), Some(12));
        assert_eq!(Rows::open(folder.path(), day(3)).unwrap().of_caller(&key("a"), day(3)), Some(0));
        assert_eq!(again.of_caller(&key("a"), day(3)), Some(0));
        assert_eq!(again.of_agreement("x", day(3)), 0);
    }

    #[tokio::test]
    async fn rows_that_are_put_out_never_go_beyond_what_any_owner_permits() {
        let folder = tempfile::tempdir().unwrap();
        let rows = Rows::open(folder.path(), day(2)).unwrap();
        let counted = [("x a.one".to_owned(), 10), ("y b.two".to_owned(), 6)];
        assert_eq!(rows.put_out(&counted, 5, day(2)).await.unwrap(), None);
        assert_eq!(rows.put_out(&counted, 2, day(2)).await.unwrap(), Some(1), "one more row than the second permits");
        assert_eq!(rows.put_out(&counted[..1], 5, day(2)).await.unwrap(), None, "nothing was added of what was refused");
        let again = Rows::open(folder.path(), day(2)).unwrap();
        for rows in [&rows, &again] {
            assert_eq!((rows.used_up(&counted, day(2)), rows.used_up(&counted[1..], day(2))), (Some(0), None));
            assert_eq!(rows.of_agreement("x a.one", day(2)), 0, "counted apart from what departments released");
        }
        assert_eq!(again.used_up(&counted, day(3)), None);
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_passed_over_and_an_unwritable_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rows.json"), "{\"day\":").unwrap();
        assert!(Rows::open(folder.path(), day(1)).is_err());
        let rows = Rows::open(&folder.path().join("absent"), day(1)).unwrap();
        assert!(rows.charge(&key("a"), &BTreeMap::from([("x".to_owned(), 1)]), day(1)).await.is_err());
    }

    #[tokio::test]
    async fn charges_at_the_same_time_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let rows = std::sync::Arc::new(Rows::open(folder.path(), day(1)).unwrap());
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let rows = rows.clone();
                tokio::spawn(async move { rows.charge(&key("a"), &BTreeMap::from([("x".to_owned(), 2)]), day(1)).await.unwrap() })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(Rows::open(folder.path(), day(1)).unwrap().of_caller(&key("a"), day(1)), Some(100));
    }
}
