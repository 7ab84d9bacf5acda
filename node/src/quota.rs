//! What may be taken under an agreement in a day, by the department's own count: releases and rows, durable across restarts.
//!
//! Invariants
//! - A release counts when it is intended, before the log announces it; its rows count when they are known, before one of them
//!   can be read. What cannot be counted is not released.
//! - The release that reaches the number of rows is complete, and the day's last. Were it refused for its own size, refusals
//!   would tell how many rows its condition selects.
//! - A day is a UTC day; a clock that is set back does not open a new one. A new text of an agreement goes on with its counts.
//!
//! Deliberately absent: counts by caller. Whom the gateway names is the gateway's word.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::NaiveDate;
use concordat_policy::agreement::Limits;
use concordat_policy::{Agreement, Code, Name, Refusal};
use rusqlite::{Connection, OptionalExtension as _, params};

/// The counts of the department's agreements (SQLite, synchronous).
#[derive(Debug)]
pub(crate) struct Quotas {
    department: Name,
    connection: Mutex<Connection>,
}

/// What was taken under one agreement.
struct Taken {
    day: NaiveDate,
    releases: i64,
    rows: i64,
}

impl Quotas {
    /// Opens (or creates) the counts under `state`.
    ///
    /// # Errors
    /// When they cannot be read: to go on would forget what was taken.
    pub(crate) fn open(state: &Path, department: Name) -> rusqlite::Result<Self> {
        let connection = Connection::open(state.join("quotas.sqlite"))?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS taken (
               agreement TEXT PRIMARY KEY, day TEXT NOT NULL, releases INTEGER NOT NULL, rows INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
        )?;
        Ok(Self { department, connection: Mutex::new(connection) })
    }

    /// Counts a release that is intended. Blocks until that is durable.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when the day's releases or rows are used up, [`Code::Internal`] when it cannot be counted.
    pub(crate) fn intend(&self, agreement: &Agreement, today: NaiveDate) -> Result<(), Refusal> {
        self.take(agreement, 1, 0, today)
    }

    /// Counts the rows of a release. Blocks until that is durable.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when other releases have used up the day's rows meanwhile, [`Code::Internal`] when they cannot be
    /// counted.
    pub(crate) fn charge(&self, agreement: &Agreement, rows: u64, today: NaiveDate) -> Result<(), Refusal> {
        self.take(agreement, 0, i64::try_from(rows).unwrap_or(i64::MAX), today)
    }

    fn take(&self, agreement: &Agreement, releases: i64, rows: i64, today: NaiveDate) -> Result<(), Refusal> {
        let Limits { releases_per_day, rows_per_day, .. } = agreement.limits;
        if releases_per_day.is_none() && rows_per_day.is_none() {
            return Ok(());
        }
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let uncounted = |e: &dyn std::fmt::Display| Refusal::internal(format!("what is taken under an agreement cannot be counted: {e}"));
        let taken = taken(&connection, &agreement.id, today).map_err(|e| uncounted(&e))?;
        let used_up = |taken: i64, most: u64| u64::try_from(taken).is_ok_and(|taken| taken >= most);
        if let Some(most) = releases_per_day.map(u64::from).filter(|most| releases > 0 && used_up(taken.releases, *most)) {
            return Err(self.refusal(agreement, &format!("made the {most} releases"), taken.day));
        }
        if let Some(most) = rows_per_day.filter(|most| used_up(taken.rows, *most)) {
            return Err(self.refusal(agreement, &format!("released the {most} rows"), taken.day));
        }
        connection
            .execute(
                "REPLACE INTO taken (agreement, day, releases, rows) VALUES (?1, ?2, ?3, ?4)",
                params![
                    agreement.id.as_str(),
                    taken.day.to_string(),
                    taken.releases.saturating_add(releases),
                    taken.rows.saturating_add(rows)
                ],
            )
            .map(drop)
            .map_err(|e| uncounted(&e))
    }

    fn refusal(&self, agreement: &Agreement, did: &str, day: NaiveDate) -> Refusal {
        let next = day.succ_opt().unwrap_or(day);
        let cause = format!("'{}' has {did} a day that the agreement '{}' permits", self.department, agreement.id);
        Refusal::new(Code::LimitExceeded, cause)
            .department(&self.department)
            .advice(format!("ask again on {next}, from 00:00 UTC; the parties could agree on more"))
    }
}

/// What was taken today, or on the later day that was counted last.
fn taken(connection: &Connection, agreement: &Name, today: NaiveDate) -> Result<Taken, Box<dyn std::error::Error>> {
    let none = Taken { day: today, releases: 0, rows: 0 };
    let kept: Option<(String, i64, i64)> = connection
        .query_row("SELECT day, releases, rows FROM taken WHERE agreement = ?1", params![agreement.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((day, releases, rows)) = kept else { return Ok(none) };
    let kept = Taken { day: day.parse()?, releases, rows };
    Ok(if kept.day < today { none } else { kept })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, name};

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 5, day).unwrap()
    }

    fn limited(limits: Limits) -> Agreement {
        Agreement { limits, ..World::new().agreement }
    }

    #[test]
    fn counts_survive_a_restart_end_with_the_day_and_not_with_a_clock_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let agreement = limited(Limits { releases_per_day: Some(2), rows_per_day: Some(100), ..Limits::default() });
        let open = || Quotas::open(folder.path(), name("dfe")).unwrap();
        let quotas = open();
        quotas.intend(&agreement, day(2)).unwrap();
        quotas.charge(&agreement, 99, day(2)).unwrap();
        drop(quotas);
        let quotas = open();
        quotas.intend(&agreement, day(2)).unwrap();
        let refusal = quotas.intend(&agreement, day(1)).unwrap_err();
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::LimitExceeded, Some("dfe")));
        assert_eq!(refusal.message, "'dfe' has made the 2 releases a day that the agreement 'opportunity-2026' permits");
        assert!(refusal.advice.unwrap().contains("2026-05-03, from 00:00 UTC"));
        // The release that reaches the number is complete; of two at a time, the later one is not.
        quotas.charge(&agreement, 1_000, day(2)).unwrap();
        let refusal = quotas.charge(&agreement, 1, day(2)).unwrap_err();
        assert!(refusal.code == Code::LimitExceeded && refusal.message.contains("released the 100 rows a day"), "{refusal}");
        quotas.intend(&agreement, day(3)).unwrap();
        quotas.charge(&agreement, u64::MAX, day(3)).unwrap();
        assert!(open().intend(&agreement, day(3)).is_err());
    }

    #[test]
    fn agreements_are_counted_apart_and_only_where_they_limit() {
        let folder = tempfile::tempdir().unwrap();
        let quotas = Quotas::open(folder.path(), name("dfe")).unwrap();
        let one = limited(Limits { rows_per_day: Some(5), ..Limits::default() });
        let other = Agreement { id: name("other"), ..one.clone() };
        quotas.charge(&one, 5, day(1)).unwrap();
        assert!(quotas.intend(&one, day(1)).is_err());
        quotas.intend(&other, day(1)).unwrap();
        let free = Agreement { limits: Limits { requests_per_minute: Some(1), ..Limits::default() }, ..one.clone() };
        quotas.intend(&free, day(1)).unwrap();
        assert!(quotas.intend(&one, day(1)).is_err(), "what was taken is not forgotten");
        let nothing = Agreement { limits: Limits { rows_per_day: Some(0), ..Limits::default() }, ..other };
        assert!(quotas.intend(&nothing, day(2)).is_err());
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let agreement = limited(Limits { rows_per_day: Some(5), ..Limits::default() });
        let quotas = Quotas::open(folder.path(), name("dfe")).unwrap();
        quotas.charge(&agreement, 1, day(1)).unwrap();
        quotas.connection.lock().unwrap().execute("UPDATE taken SET day = 'no day'", []).unwrap();
        assert_eq!(quotas.intend(&agreement, day(1)).unwrap_err().code, Code::Internal);
        quotas.connection.lock().unwrap().execute("DROP TABLE taken", []).unwrap();
        assert_eq!(quotas.intend(&agreement, day(1)).unwrap_err().code, Code::Internal);
        assert!(Quotas::open(&folder.path().join("absent"), name("dfe")).is_err());
    }
}
