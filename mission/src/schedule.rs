//! When snapshots are due. Time is cut into periods, days in UTC; each has one snapshot, taken in it.
//!
//! ```text
//!  from          today
//!   │             │
//! ──┴─┬─────┬─────┼─┬──▶
//!  taken missed  due
//! ```
//!
//! A period that ended without its snapshot is *missed*: the departments answer with the data that they have now, and nobody can ask them
//! for data as it was then. It is *caught up* only while that is the same: by a snapshot whose data is of the period ([`is_of`]), whenever
//! it was taken. One of later data says nothing of the period, so none is put there.

use chrono::{Datelike as _, Days, Months, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::history::superseded;
use crate::mission::{Mission, Outcome};
use crate::snapshot::{Snapshot, Taken};

/// How often a snapshot is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Each day.
    Day,
    /// Each week, from Monday.
    Week,
    /// Each month.
    Month,
    /// Each quarter of the calendar year.
    Quarter,
}

/// A stretch of days that has one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Period {
    /// Its first day, by which snapshots name it.
    pub starts: NaiveDate,
    /// The first day of the next one.
    pub ends: NaiveDate,
}

/// What became of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "number")]
pub enum State {
    /// It has this snapshot, which none supersedes.
    Taken(u64),
    /// It runs, and has none yet.
    Due,
    /// It is over, and has none.
    Missed,
    /// It is over, and its snapshot of this number was superseded by one that is not of it.
    Withdrawn(u64),
}

/// A period, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Scheduled {
    /// The period.
    #[serde(flatten)]
    pub period: Period,
    /// What became of it.
    #[serde(flatten)]
    pub state: State,
}

impl Every {
    /// The period in which a day lies.
    #[must_use]
    pub fn period(self, day: NaiveDate) -> Period {
        let starts = match self {
            Self::Day => Some(day),
            Self::Week => day.checked_sub_days(Days::new(u64::from(day.weekday().num_days_from_monday()))),
            Self::Month => day.with_day(1),
            Self::Quarter => NaiveDate::from_ymd_opt(day.year(), day.month0() / 3 * 3 + 1, 1),
        };
        let starts = starts.unwrap_or(day);
        let ends = match self {
            Self::Day => starts.checked_add_days(Days::new(1)),
            Self::Week => starts.checked_add_days(Days::new(7)),
            Self::Month => starts.checked_add_months(Months::new(1)),
            Self::Quarter => starts.checked_add_months(Months::new(3)),
        };
        Period { starts, ends: ends.unwrap_or(NaiveDate::MAX) }
    }
}

impl Period {
    /// Whether a day lies in it.
    #[must_use]
    pub fn holds(&self, day: NaiveDate) -> bool {
        self.starts <= day && day < self.ends
    }
}

/// Whether what was taken may be the snapshot of a period: it was taken in it, or its data is of it.
#[must_use]
pub fn is_of(taken: &Taken, period: Period) -> bool {
    period.holds(taken.taken_at.date_naive()) || period.holds(taken.days(&taken.aim.standing).newest)
}

/// The period that a snapshot is of, as long as they were when it was taken; none where it was taken on demand, or is not of what it names.
fn own(taken: &Taken) -> Option<Period> {
    taken.period.map(|starts| taken.aim.every.period(starts)).filter(|period| taken.period == Some(period.starts) && is_of(taken, *period))
}

/// The periods of an outcome up to `today`, oldest first: from the outcome's first day to the mission's last. `snapshots` may be of any
/// outcome. What was promised stays due: from the earliest first day that a snapshot states, what was over while the newest snapshot
/// from before it stated a later end, and in periods as long as that snapshot stated. A file that says otherwise counts for what runs, and
/// for the rest from the day on which a snapshot states it: such a day ends the period that it lies in as it says itself.
#[must_use]
pub fn scheduled(mission: &Mission, outcome: &Outcome, snapshots: &[Snapshot], today: NaiveDate) -> Vec<Scheduled> {
    let of_outcome = |one: &&Snapshot| one.taken.mission == mission.id && one.taken.outcome == outcome.id;
    let own: Vec<(&Snapshot, Period)> = snapshots.iter().filter(of_outcome).filter_map(|one| Some((one, own(&one.taken)?))).collect();
    let stated: Vec<&Taken> = snapshots.iter().filter(of_outcome).map(|one| &one.taken).collect();
    let promised = |period: Period| {
        let before = stated.iter().rev().find(|taken| taken.taken_at.date_naive() < period.starts);
        before.is_some_and(|taken| period.starts <= taken.aim.ends) && period.ends <= today
    };
    let filled = |period: Period| {
        let shares = |of: Period| of.starts < period.ends && period.starts < of.ends;
        let fills = |(one, of): &&(&Snapshot, Period)| shares(*of) && is_of(&one.taken, period);
        let counts = own.iter().find(|one| fills(one) && !superseded(snapshots, one.0.number)).map(|one| State::Taken(one.0.number));
        counts.or_else(|| own.iter().find(fills).map(|one| State::Withdrawn(one.0.number)))
    };
    let mut periods = Vec::new();
    let mut tell = |period: Period, state: State| periods.push(Scheduled { period, state });
    let mut next = stated.iter().map(|taken| taken.aim.from).fold(outcome.from, NaiveDate::min);
    while next <= today {
        let (day, period) = (next, as_stated(&stated, outcome, next));
        next = period.ends;
        if period.ends > today && today <= mission.ends {
            let runs = outcome.every.period(today);
            // Of what nobody promised to be a period of its own only a snapshot is told.
            let before = Period { ends: runs.starts, ..period };
            if let Some(state) = filled(before) {
                tell(before, state);
            }
            tell(runs, filled(runs).filter(|state| matches!(state, State::Taken(_))).unwrap_or(State::Due));
        } else if day <= mission.ends || promised(period) {
            tell(period, filled(period).unwrap_or(State::Missed));
        }
    }
    periods
}

/// The period in which a day lies: as long as the newest snapshot from before that day states, or the first of all; as the newest that was
/// taken in it states from then on; as the file does where there is none.
fn as_stated(stated: &[&Taken], outcome: &Outcome, day: NaiveDate) -> Period {
    let before = stated.iter().rev().find(|taken| taken.taken_at.date_naive() < day).or(stated.first());
    let period = before.map_or(outcome.every, |taken| taken.aim.every).period(day);
    let ends = stated.iter().fold(period.ends, |ends, taken| {
        let on = taken.taken_at.date_naive();
        if day <= on && on < ends { taken.aim.every.period(on).ends } else { ends }
    });
    Period { ends, ..period }
}

/// The period of an outcome for which a snapshot is due today.
#[must_use]
pub fn due(mission: &Mission, outcome: &Outcome, snapshots: &[Snapshot], today: NaiveDate) -> Option<Period> {
    scheduled(mission, outcome, snapshots, today).last().filter(|last| last.state == State::Due).map(|last| last.period)
}

/// The first day of the next period after today, if the mission still runs then.
#[must_use]
pub fn next(mission: &Mission, outcome: &Outcome, today: NaiveDate) -> Option<NaiveDate> {
    let next = if today < outcome.from { outcome.from } else { outcome.every.period(today).ends };
    Some(next).filter(|day| *day <= mission.ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{day, mission, snapshot};

    #[test]
    fn periods_begin_where_the_calendar_says() {
        for (every, on, starts, ends) in [
            (Every::Day, "2026-02-28", "2026-02-28", "2026-03-01"),
            (Every::Week, "2026-03-01", "2026-02-23", "2026-03-02"),
            (Every::Week, "2026-03-02", "2026-03-02", "2026-03-09"),
            (Every::Month, "2026-12-31", "2026-12-01", "2027-01-01"),
            (Every::Month, "2028-02-29", "2028-02-01", "2028-03-01"),
            (Every::Quarter, "2026-03-31", "2026-01-01", "2026-04-01"),
            (Every::Quarter, "2026-10-01", "2026-10-01", "2027-01-01"),
        ] {
            assert_eq!(every.period(day(on)), Period { starts: day(starts), ends: day(ends) }, "{every:?} {on}");
        }
    }

    fn told(snapshots: &[Snapshot], today: &str) -> String {
        let mission = mission();
        let all = scheduled(&mission, &mission.outcomes[0], snapshots, day(today));
        all.iter().map(|one| format!("{} {:?}", one.period.starts, one.state)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_was_not_taken_in_its_period_is_missed_until_data_of_it_was_asked_for() {
        let april = snapshot(1, "2026-04-10", Some("2026-04-01"), 0.5);
        assert_eq!(told(&[], "2026-03-31"), "");
        assert_eq!(told(&[], "2026-04-01"), "2026-04-01 Due");
        assert_eq!(told(std::slice::from_ref(&april), "2026-04-30"), "2026-04-01 Taken(1)");
        assert_eq!(told(std::slice::from_ref(&april), "2026-06-01"), "2026-04-01 Taken(1), 2026-05-01 Missed, 2026-06-01 Due");
        // One on demand is of no period, and one of another outcome is not of this.
        let other = |mut one: Snapshot| {
            one.taken.outcome = concordat_policy::Name::parse("other").unwrap();
            one
        };
        let demanded = [snapshot(1, "2026-04-10", None, 0.5), other(snapshot(2, "2026-04-11", Some("2026-04-01"), 0.5))];
        assert_eq!(told(&demanded, "2026-05-01"), "2026-04-01 Missed, 2026-05-01 Due");
        let mut corrected = snapshot(2, "2026-04-12", Some("2026-04-01"), 0.6);
        corrected.taken.supersedes = Some(1);
        assert_eq!(told(&[april.clone(), corrected], "2026-04-30"), "2026-04-01 Taken(2)");
        // Taken in June for May: of data that last changed in May, or later.
        let late = |changed: &str| {
            let mut late = snapshot(2, "2026-06-10", Some("2026-05-01"), 0.5);
            late.taken.stated.sources[0].freshness = format!("{changed}T23:59:59Z").parse().unwrap();
            late
        };
        for (changed, may) in [("2026-05-31", "Taken(2)"), ("2026-05-01", "Taken(2)"), ("2026-06-01", "Missed"), ("2026-04-30", "Missed")] {
            let expected = format!("2026-04-01 Taken(1), 2026-05-01 {may}, 2026-06-01 Due");
            assert_eq!(told(&[april.clone(), late(changed)], "2026-06-10"), expected, "{changed}");
        }
    }

    #[test]
    fn a_correction_of_later_data_withdraws_and_fills_nothing() {
        let april = snapshot(1, "2026-04-10", Some("2026-04-01"), 0.5);
        let corrected = |period| {
            let mut corrected = snapshot(2, "2026-06-10", period, 0.6);
            corrected.taken.supersedes = Some(1);
            corrected
        };
        for period in [None, Some("2026-04-01")] {
            let told = told(&[april.clone(), corrected(period)], "2026-06-10");
            assert_eq!(told, "2026-04-01 Withdrawn(1), 2026-05-01 Missed, 2026-06-01 Due", "{period:?}");
        }
    }

    #[test]
    fn what_was_on_time_stays_so_when_periods_become_longer_or_shorter() {
        let mut mission = mission();
        let told = |mission: &Mission, snapshots: &[Snapshot], today: &str| {
            let all = scheduled(mission, &mission.outcomes[0], snapshots, day(today));
            all.iter().map(|one| format!("{} {:?}", one.period.starts, one.state)).collect::<Vec<_>>().join(", ")
        };
        let mut quarter = snapshot(1, "2026-05-20", Some("2026-04-01"), 0.5);
        quarter.taken.aim.every = Every::Quarter;
        assert_eq!(told(&mission, std::slice::from_ref(&quarter), "2026-07-02"), "2026-04-01 Taken(1), 2026-07-01 Due");
        let running = "2026-04-01 Taken(1), 2026-06-01 Due";
        assert_eq!(told(&mission, std::slice::from_ref(&quarter), "2026-06-02"), running, "a month that runs has its own");
        // A snapshot that states months: they count from then on, and what was no month before is none.
        let august = snapshot(2, "2026-08-10", Some("2026-08-01"), 0.5);
        let months = "2026-04-01 Taken(1), 2026-07-01 Taken(2), 2026-09-01 Missed, 2026-10-01 Due";
        assert_eq!(told(&mission, &[quarter, august], "2026-10-02"), months);
        mission.outcomes[0].every = Every::Quarter;
        let month = snapshot(1, "2026-05-20", Some("2026-05-01"), 0.5);
        let missed = "2026-04-01 Missed, 2026-05-01 Taken(1), 2026-06-01 Missed, 2026-07-01 Due";
        assert_eq!(told(&mission, &[month], "2026-07-02"), missed);
    }

    #[test]
    fn a_month_that_was_missed_stays_so_where_quarters_are_said_later() {
        let mut mission = mission();
        mission.outcomes[0].every = Every::Quarter;
        let told = |snapshots: &[Snapshot], today: &str| {
            let all = scheduled(&mission, &mission.outcomes[0], snapshots, day(today));
            all.iter().map(|one| format!("{}-{} {:?}", one.period.starts, one.period.ends, one.state)).collect::<Vec<_>>().join(", ")
        };
        let april = snapshot(1, "2026-04-10", Some("2026-04-01"), 0.5);
        let missed = "2026-04-01-2026-05-01 Taken(1), 2026-05-01-2026-06-01 Missed";
        let june = format!("{missed}, 2026-06-01-2026-07-01 Missed");
        assert_eq!(told(std::slice::from_ref(&april), "2026-06-20"), format!("{missed}, 2026-04-01-2026-07-01 Taken(1)"));
        assert_eq!(told(std::slice::from_ref(&april), "2026-07-02"), format!("{june}, 2026-07-01-2026-10-01 Due"));
        // The quarter's snapshot is of the month in which it was taken, and of no month before.
        let quarter = |on: &str, of: &str| {
            let mut quarter = snapshot(2, on, Some(of), 0.5);
            quarter.taken.aim.every = Every::Quarter;
            [april.clone(), quarter]
        };
        let all = format!("{missed}, 2026-06-01-2026-07-01 Taken(2), 2026-07-01-2026-10-01 Missed, 2026-10-01-2027-01-01 Due");
        assert_eq!(told(&quarter("2026-06-20", "2026-04-01"), "2026-10-02"), all);
        let all = format!("{june}, 2026-07-01-2026-08-01 Missed, 2026-08-01-2026-10-01 Taken(2), 2026-10-01-2027-01-01 Due");
        assert_eq!(told(&quarter("2026-08-10", "2026-07-01"), "2026-10-02"), all);
        // Said in May: that month and June are one.
        let all = "2026-04-01-2026-05-01 Taken(1), 2026-05-01-2026-07-01 Taken(2), 2026-07-01-2026-10-01 Missed, 2026-10-01-2027-01-01 Due";
        assert_eq!(told(&quarter("2026-05-20", "2026-04-01"), "2026-10-02"), all);
    }

    #[test]
    fn a_period_that_was_promised_stays_missed_whatever_is_said_later() {
        let mut mission = mission();
        let april = snapshot(1, "2026-04-10", Some("2026-04-01"), 0.5);
        let told = |mission: &Mission, snapshots: &[Snapshot], today: &str| {
            let all = scheduled(mission, &mission.outcomes[0], snapshots, day(today));
            all.iter().map(|one| format!("{} {:?}", one.period.starts, one.state)).collect::<Vec<_>>().join(", ")
        };
        let whole = "2026-04-01 Taken(1), 2026-05-01 Missed, 2026-06-01 Missed, 2026-07-01 Due";
        assert_eq!(told(&mission, std::slice::from_ref(&april), "2026-07-02"), whole);
        mission.outcomes[0].from = day("2026-07-01");
        assert_eq!(told(&mission, std::slice::from_ref(&april), "2026-07-02"), whole, "said to begin later");
        assert_eq!(told(&mission, &[], "2026-07-02"), "2026-07-01 Due", "nothing was promised");
        // Said to have ended with April: May and June were promised when they began; a snapshot that says so ends it for what follows.
        mission.ends = day("2026-04-30");
        let over = "2026-04-01 Taken(1), 2026-05-01 Missed, 2026-06-01 Missed";
        assert_eq!(told(&mission, std::slice::from_ref(&april), "2026-07-02"), over);
        let mut says = snapshot(2, "2026-06-20", None, 0.5);
        says.taken.aim.ends = mission.ends;
        assert_eq!(told(&mission, &[april.clone(), says.clone()], "2026-09-02"), over);
        assert_eq!(told(&mission, std::slice::from_ref(&april), "2026-09-02"), format!("{over}, 2026-07-01 Missed, 2026-08-01 Missed"));
    }

    #[test]
    fn nothing_is_due_before_the_first_day_or_after_the_last() {
        let mission = mission();
        let outcome = &mission.outcomes[0];
        let due_on = |today: &str| due(&mission, outcome, &[], day(today)).map(|period| period.starts.to_string());
        assert_eq!((due_on("2026-03-31"), due_on("2026-04-01").as_deref()), (None, Some("2026-04-01")));
        assert_eq!((due_on("2029-03-31").as_deref(), due_on("2029-04-01")), (Some("2029-03-01"), None));
        let ended = Mission { ends: day("2029-03-15"), ..mission.clone() };
        assert_eq!(due(&ended, outcome, &[], day("2029-03-16")), None, "its last period runs on, and it does not");
        let next_on = |today: &str| next(&mission, outcome, day(today)).map(|day| day.to_string());
        assert_eq!((next_on("2026-01-01").as_deref(), next_on("2026-04-01").as_deref()), (Some("2026-04-01"), Some("2026-05-01")));
        assert_eq!(next_on("2029-03-01"), None);
    }
}
