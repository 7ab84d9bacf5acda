//! What a history must be for each of its snapshots to be relied on: by what it says itself, beside those before it.
//!
//! Whoever can write the file can make its chain anew. What a signature of the gateway's log covers is the query's id, the answer's
//! bytes and the time of both; the rest of a snapshot is its mission's own word. So what is covered holds the rest: an answer counts
//! once, and at its own time.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::pivot::Pivot;
use crate::schedule::is_of;
use crate::snapshot::{Snapshot, Taken};
use crate::store::{Head, StoreError};

/// How far the clocks of who takes snapshots and of the gateway's log may be apart, an answer's way included.
pub const APART: TimeDelta = TimeDelta::minutes(15);

/// Whether `taken` may come after the snapshots `before` it: the one rule, by which snapshots are added, verified and published.
///
/// # Errors
/// [`StoreError::Supersedes`] where it corrects what it cannot, [`StoreError::Twice`] where its period has one, [`StoreError::Unfit`] where
/// its answer was kept before, its time is not that of its promise or before the snapshot before it, or it is of another period.
pub fn follows(before: &[Snapshot], taken: &Taken) -> Result<(), StoreError> {
    if let Some(number) = taken.supersedes {
        supersedable(before, number, taken).map_err(|why| StoreError::Supersedes { number, why })?;
    } else if let Some(other) = of_its_period(before, taken) {
        return Err(StoreError::Twice(other));
    }
    let unfit = |what: String| Err(StoreError::Unfit(what));
    if let Some(other) = before.iter().find(|one| one.taken.stated.query_id == taken.stated.query_id) {
        return unfit(format!("snapshot {} is of the same query", other.number));
    }
    if before.last().is_some_and(|last| taken.taken_at < last.taken.taken_at - APART) {
        return unfit("it was taken before the one before it".into());
    }
    match promised_at(taken) {
        Some(at) if (taken.taken_at - at).abs() <= APART => {}
        Some(at) => return unfit(format!("it is said to be taken at {}, and its answer was promised at {at}", taken.taken_at)),
        None => return unfit("its promise has no time".into()),
    }
    if let Some(starts) = taken.period {
        let period = taken.aim.every.period(starts);
        if period.starts != starts || !is_of(taken, period) {
            return unfit(format!("it was neither taken in the period from {starts}, nor is its data of it"));
        }
    }
    Ok(())
}

/// Whether some snapshot corrects the one of that number.
#[must_use]
pub fn superseded(snapshots: &[Snapshot], number: u64) -> bool {
    snapshots.iter().any(|other| other.taken.supersedes == Some(number))
}

/// When the gateway's log promised the answer.
fn promised_at(taken: &Taken) -> Option<DateTime<Utc>> {
    let time = taken.stated.promise.get("time")?.as_str()?;
    DateTime::parse_from_rfc3339(time).ok().map(|time| time.to_utc())
}

/// How far both chains of a history go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heads {
    /// The newest snapshot; number 0 where there is none.
    pub snapshots: Head,
    /// The newest pivot; number 0 where there is none.
    pub pivots: Head,
}

impl Heads {
    /// Of a history.
    #[must_use]
    pub fn of(snapshots: &[Snapshot], pivots: &[Pivot]) -> Self {
        let head = |last: Option<(u64, &String)>| {
            last.map_or_else(|| Head { number: 0, digest: String::new() }, |(number, digest)| Head { number, digest: digest.clone() })
        };
        Self {
            snapshots: head(snapshots.last().map(|last| (last.number, &last.digest))),
            pivots: head(pivots.last().map(|last| (last.number, &last.digest))),
        }
    }

    /// What of these, as they were told elsewhere, a history does not hold.
    #[must_use]
    pub fn lost(&self, snapshots: &[Snapshot], pivots: &[Pivot]) -> Option<String> {
        let holds = |head: &Head, all: Vec<(u64, &String)>| head.number == 0 || all.contains(&(head.number, &head.digest));
        let lost = |what: &str, head: &Head| Some(format!("{what} {}:{}", head.number, head.digest));
        if !holds(&self.snapshots, snapshots.iter().map(|one| (one.number, &one.digest)).collect()) {
            return lost("snapshot", &self.snapshots);
        }
        if !holds(&self.pivots, pivots.iter().map(|one| (one.number, &one.digest)).collect()) {
            return lost("pivot", &self.pivots);
        }
        None
    }
}

/// The snapshot of the same outcome and period that nothing supersedes.
fn of_its_period(before: &[Snapshot], taken: &Taken) -> Option<u64> {
    let same = |one: &&Snapshot| {
        let of = &one.taken;
        of.period.is_some() && (&of.mission, &of.outcome, of.period) == (&taken.mission, &taken.outcome, taken.period)
    };
    before.iter().filter(same).map(|one| one.number).find(|number| !superseded(before, *number))
}

/// Whether `taken` may correct the snapshot of that number.
fn supersedable(before: &[Snapshot], number: u64, taken: &Taken) -> Result<(), &'static str> {
    let of = before.iter().find(|one| one.number == number).ok_or("there is none of that number")?;
    if (&of.taken.mission, &of.taken.outcome) != (&taken.mission, &taken.outcome) {
        return Err("it is of another outcome");
    }
    if taken.period.is_some() && of.taken.period != taken.period {
        return Err("it is of another period");
    }
    if superseded(before, number) {
        return Err("it was superseded before; supersede the one that took its place");
    }
    if taken.because.as_ref().is_none_or(|because| because.trim().is_empty()) {
        return Err("why is not said");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{day, snapshot};

    #[test]
    fn an_answer_counts_once_and_at_its_own_time() {
        let april = snapshot(1, "2026-04-10", Some("2026-04-01"), 0.5);
        let may = || snapshot(2, "2026-05-10", Some("2026-05-01"), 0.5).taken;
        let before = [april.clone()];
        assert!(follows(&before, &may()).is_ok());
        let moved = |change: &dyn Fn(&mut Taken)| {
            let mut taken = may();
            change(&mut taken);
            follows(&before, &taken).map_err(|e| e.to_string())
        };
        let at = |text: &str| day(text).and_hms_opt(12, 0, 0).unwrap().and_utc();
        for (change, says) in [
            // April's answer again, said to be May's.
            (&(|taken: &mut Taken| taken.stated.query_id.clone_from(&april.taken.stated.query_id)) as &dyn Fn(&mut Taken), "same query"),
            // Another answer of June, said to be taken in May.
            (&|taken| taken.stated.promise = serde_json::json!({ "time": at("2026-06-01") }), "was promised at"),
            (&|taken| taken.taken_at += APART + TimeDelta::seconds(1), "was promised at"),
            (&|taken| taken.stated.promise = serde_json::json!({}), "no time"),
            (&|taken| (taken.taken_at, taken.stated.promise["time"]) = (at("2026-03-01"), serde_json::json!(at("2026-03-01"))), "before"),
            // Taken in May of May's data, for June; and a day that begins no period.
            (&|taken| taken.period = Some(day("2026-06-01")), "nor is its data of it"),
            (&|taken| taken.period = Some(day("2026-05-02")), "nor is its data of it"),
        ] {
            let refused = moved(change).unwrap_err();
            assert!(refused.contains(says), "{says}: {refused}");
        }
        assert!(moved(&|taken| taken.taken_at += APART).is_ok());
        // Caught up: taken in May of April's data.
        let caught_up = |changed: &str| {
            let mut taken = may();
            (taken.period, taken.stated.sources[0].freshness) = (Some(day("2026-04-01")), at(changed));
            follows(&[], &taken).is_ok()
        };
        assert!(caught_up("2026-04-30") && !caught_up("2026-05-01") && !caught_up("2026-03-31"));
    }

    #[test]
    fn a_history_that_lacks_what_was_told_of_it_is_another() {
        let with_digest = |number, digest: &str| Snapshot { digest: digest.into(), ..snapshot(number, "2026-04-10", None, 0.5) };
        let all = [with_digest(1, "a"), with_digest(2, "b")];
        let told = Heads::of(&all, &[]);
        assert_eq!((told.snapshots.number, told.pivots.number, told.lost(&all, &[])), (2, 0, None));
        assert_eq!(told.lost(&all[..1], &[]).as_deref(), Some("snapshot 2:b"), "older");
        assert_eq!(told.lost(&[with_digest(1, "a"), with_digest(2, "c")], &[]).as_deref(), Some("snapshot 2:b"), "made anew");
        assert_eq!(Heads::of(&[], &[]).lost(&all, &[]), None);
        let pivoted = Heads { pivots: Head { number: 1, digest: "p".into() }, ..told };
        assert_eq!(pivoted.lost(&all, &[]).as_deref(), Some("pivot 1:p"), "the newest pivot was deleted");
    }

    #[test]
    fn a_correction_after_its_period_is_of_none() {
        let april = snapshot(1, "2026-04-10", Some("2026-04-01"), 0.5);
        let correct = |period| {
            let mut taken = snapshot(2, "2026-06-10", period, 0.6).taken;
            (taken.supersedes, taken.because) = (Some(1), Some("a fault".into()));
            follows(std::slice::from_ref(&april), &taken)
        };
        assert!(correct(None).is_ok());
        assert!(correct(Some("2026-04-01")).unwrap_err().to_string().contains("nor is its data of it"));
        assert!(correct(Some("2026-06-01")).unwrap_err().to_string().contains("another period"));
    }
}
