//! How an outcome stands: one rule, over what its snapshots tell.
//!
//! **The path** is the straight line from baseline to target. *Progress* is how much of that way is done: 0 at the baseline's value, 1 at the
//! target's, below 0 where things got worse. *Expected* is how much should be done on the day that the data is of, its newest source's
//! ([`Taken::days`]): 0 before the baseline's day, 1 from the target's day on. Progress is known between two
//! bounds ([`crate::interval`]), `low` and `high`.
//!
//! **The verdict** is of the newest snapshot, by the first line that fits; [`MARGIN`] is a tenth of the whole way.
//!
//! | where | verdict |
//! |---|---|
//! | its view or an agreement is gone or ended ([`OutcomeStatus::ended`]) | ended |
//! | there is no snapshot of what the outcome measures now, or its headline is withheld or missing | not enough data |
//! | the oldest source of its data is older than `fresh_for_days`; but for `standing` ones | not enough data |
//! | `low` ≥ expected: whatever the value is, it is on the path or beyond | on track |
//! | `high` < expected − margin: whatever it is, it is more than the margin behind | off track |
//! | `high` ≥ expected and `low` < expected − margin: it can be on the path and can be off it | not enough data |
//! | else | at risk |
//!
//! **The trend** is the slope of a straight line through the last [`TREND`] snapshots, by least squares, with the bounds that their values'
//! bounds leave; there is none of fewer than four, or of fewer than 90 days ([`LEAST`]). It is *better* or *worse* where all of it is, else
//! *unclear*. It says nothing of chance: people differ between two days
//! without any cause.
//!
//! **What the headline hides**: a group that is *behind* it for certain by more than the margin, and a group that for certain *fell back* since
//! the first snapshot while the headline for certain came on. What is withheld is said to be, and is neither.
//!
//! Superseded snapshots count nowhere; those of another definition are told and not compared. Of several of one day the newest counts, and
//! the others are told.

use chrono::NaiveDate;
use concordat_policy::Name;
use serde::Serialize;

use crate::history::superseded;
use crate::interval::{Interval, of_row};
use crate::mission::{Breakdown, Direction, Milestone, Mission, Outcome, Point};
use crate::schedule::{Scheduled, State, scheduled};
use crate::snapshot::{Cell, Days, Snapshot, Taken};

/// How far behind the path an outcome may be for certain before it is off track, as a part of the whole way from baseline to target.
pub const MARGIN: f64 = 0.1;

/// How many snapshots a trend looks back.
pub const TREND: usize = 12;

/// How many snapshots a trend has at least, and over how many days: two days of chance are no trend.
pub const LEAST: (usize, i64) = (4, 90);

/// What arithmetic may be off by: a value on the path is on it.
const SLACK: f64 = 1e-9;

/// How an outcome stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// On the path or beyond, for certain.
    OnTrack,
    /// Behind, or perhaps behind, and not by more than the margin for certain.
    AtRisk,
    /// More than the margin behind, for certain.
    OffTrack,
    /// It cannot be told.
    NotEnoughData,
    /// It is not measured any more: its view or an agreement is gone or ended.
    Ended,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnTrack => "on track",
            Self::AtRisk => "at risk",
            Self::OffTrack => "off track",
            Self::NotEnoughData => "not enough data",
            Self::Ended => "ended",
        }
    }
}

/// Everything that is told of an outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutcomeStatus {
    /// The outcome.
    pub outcome: Name,
    /// Its title, for people.
    pub title: String,
    /// What it is measured in.
    pub unit: String,
    /// Which way is better.
    pub direction: Direction,
    /// Where it stood.
    pub baseline: Point,
    /// Where it is to stand.
    pub target: Point,
    /// What is to be reached on the way.
    pub milestones: Vec<Milestone>,
    /// The department that leads.
    pub lead: Name,
    /// How it stands.
    pub verdict: Verdict,
    /// Why it is said to stand so.
    pub because: String,
    /// The newest snapshot's headline.
    pub latest: Option<Measured>,
    /// Where the path is on the day that its data is of.
    pub path: Option<f64>,
    /// How much of the way is done.
    pub progress: Option<Interval>,
    /// How much of it should be.
    pub expected: Option<f64>,
    /// Where it goes.
    pub trend: Option<Trend>,
    /// How many days old the oldest source of the newest snapshot is.
    pub days_old: Option<i64>,
    /// The headline of every snapshot that counts, oldest data first.
    pub history: Vec<Measured>,
    /// The headlines of older snapshots of a day that has a newer one: told, and neither drawn nor judged.
    pub same_day: Vec<Measured>,
    /// How the newest snapshot breaks it down.
    pub breakdowns: Vec<BreakdownStatus>,
    /// What was due, and what became of it.
    pub schedule: Vec<Scheduled>,
    /// Snapshots that measured something else under its name, and are not compared.
    pub of_another_definition: Vec<u64>,
}

/// What a snapshot tells of a measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The snapshot's number.
    pub snapshot: u64,
    /// Of which day its data is: its newest source's.
    pub as_of: NaiveDate,
    /// Of which day its oldest source is.
    pub oldest: NaiveDate,
    /// The value as told; none where it is withheld or missing.
    pub value: Option<f64>,
    /// Between which bounds it lies.
    pub interval: Option<Interval>,
    /// Why it is not told.
    pub untold: Option<String>,
}

/// Where a measure goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trend {
    /// Change of the measure in a year of 365 days.
    pub per_year: Interval,
    /// Which way that is.
    pub way: Way,
    /// Over how many snapshots.
    pub snapshots: usize,
}

/// Which way a trend goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// For certain in the direction that is better.
    Better,
    /// For certain in the other.
    Worse,
    /// It cannot be told.
    Unclear,
}

impl Way {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Unclear => "unclear",
        }
    }
}

/// How the newest snapshot breaks a measure down.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakdownStatus {
    /// Its title, for people.
    pub title: String,
    /// The columns by which groups are told apart.
    pub by: Vec<String>,
    /// The groups, in the answer's order.
    pub groups: Vec<Group>,
    /// How far the best group whose value is told is ahead of the worst.
    pub gap: Option<Interval>,
}

/// A group of a breakdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Its keys, in the order of the breakdown's columns.
    pub keys: Vec<String>,
    /// What is told of it.
    #[serde(flatten)]
    pub measured: Measured,
    /// It is behind the headline for certain, by more than the margin.
    pub behind: bool,
    /// It fell back since the first snapshot for certain, while the headline came on.
    pub fell_back: bool,
}

/// How an outcome stands on a day. `snapshots` are the mission's, in the store's order; `definition` is of what the outcome measures now
/// ([`crate::snapshot::definition`]).
#[must_use]
pub fn status(mission: &Mission, outcome: &Outcome, definition: &str, snapshots: &[Snapshot], today: NaiveDate) -> OutcomeStatus {
    let of_outcome =
        |one: &&Snapshot| one.taken.mission == mission.id && one.taken.outcome == outcome.id && !superseded(snapshots, one.number);
    let (counting, others): (Vec<&Snapshot>, Vec<&Snapshot>) =
        snapshots.iter().filter(of_outcome).partition(|one| one.taken.definition == definition);
    let (counting, same_day) = one_a_day(outcome, counting);
    let same_day = same_day.into_iter().map(|one| headline(outcome, one)).collect();
    let history: Vec<Measured> = counting.iter().map(|one| headline(outcome, one)).collect();
    let latest = history.last().cloned();
    let expected = latest.as_ref().map(|latest| expected(outcome, latest.as_of));
    let progress = latest.as_ref().and_then(|latest| latest.interval).map(|value| progress(outcome, value));
    let days_old = latest.as_ref().map(|latest| (today - latest.oldest).num_days());
    let (verdict, because) = judged(outcome, latest.as_ref(), progress, expected, days_old);
    let breakdowns = match (counting.first(), counting.last()) {
        (Some(first), Some(last)) => outcome.breakdowns.iter().map(|one| broken_down(outcome, one, first, last)).collect(),
        _ => Vec::new(),
    };
    OutcomeStatus {
        outcome: outcome.id.clone(),
        title: outcome.title.clone(),
        unit: outcome.unit.clone(),
        direction: outcome.direction,
        baseline: outcome.baseline,
        target: outcome.target,
        milestones: outcome.milestones.clone(),
        lead: outcome.lead.clone(),
        verdict,
        because,
        latest,
        path: expected.map(|part| outcome.baseline.value + part * (outcome.target.value - outcome.baseline.value)),
        progress,
        expected,
        trend: trend(outcome, &history),
        days_old,
        history,
        same_day,
        breakdowns,
        schedule: scheduled(mission, outcome, snapshots, today),
        of_another_definition: others.into_iter().map(|one| one.number).collect(),
    }
}

impl OutcomeStatus {
    /// The same of an outcome that cannot be measured any more, where it ever was.
    #[must_use]
    pub fn ended(self, why: &str) -> Self {
        let last = self.latest.as_ref().map(|latest| format!("{why}; its last figure is of data of {}", latest.as_of));
        match last {
            Some(because) => Self { verdict: Verdict::Ended, because, ..self },
            None => Self { because: format!("{}, and {why}", self.because), ..self },
        }
    }

    /// What the headline hides, a sentence each.
    #[must_use]
    pub fn hidden(&self) -> Vec<String> {
        let mut said = Vec::new();
        for breakdown in &self.breakdowns {
            let named = |test: fn(&Group) -> bool| {
                let groups: Vec<String> = breakdown.groups.iter().filter(|group| test(group)).map(|group| group.keys.join(", ")).collect();
                (!groups.is_empty()).then(|| groups.join("; "))
            };
            let title = &breakdown.title;
            said.extend(named(|group| group.behind).map(|who| format!("{title}: behind the headline: {who}")));
            said.extend(named(|group| group.fell_back).map(|who| format!("{title}: fell back while the headline came on: {who}")));
            said.extend(named(|group| group.measured.value.is_none()).map(|who| format!("{title}: not told: {who}")));
        }
        said
    }

    /// The first days of periods that are over and have no snapshot: missed, or withdrawn.
    pub fn missed(&self) -> impl Iterator<Item = NaiveDate> {
        self.schedule.iter().filter(|one| matches!(one.state, State::Missed | State::Withdrawn(_))).map(|one| one.period.starts)
    }
}

/// How much of the way should be done on a day.
#[must_use]
pub fn expected(outcome: &Outcome, on: NaiveDate) -> f64 {
    let Outcome { baseline, target, .. } = outcome;
    #[expect(clippy::cast_precision_loss, reason = "days of a calendar")]
    let days = |from: NaiveDate, to: NaiveDate| (to - from).num_days() as f64;
    (days(baseline.on, on) / days(baseline.on, target.on)).clamp(0.0, 1.0)
}

/// How much of the way is done where the measure lies between these bounds.
#[must_use]
pub fn progress(outcome: &Outcome, value: Interval) -> Interval {
    let from = outcome.baseline.value;
    value.minus(Interval::exact(from)).times((outcome.target.value - from).recip())
}

/// The rule, where there is a value of data that is fresh.
#[must_use]
pub fn verdict(progress: Interval, expected: f64) -> Verdict {
    let behind = expected - MARGIN - SLACK;
    if progress.low >= expected - SLACK {
        Verdict::OnTrack
    } else if progress.high < behind {
        Verdict::OffTrack
    } else if progress.high >= expected - SLACK && progress.low < behind {
        Verdict::NotEnoughData
    } else {
        Verdict::AtRisk
    }
}

fn judged(
    outcome: &Outcome,
    latest: Option<&Measured>,
    progress: Option<Interval>,
    expected: Option<f64>,
    days_old: Option<i64>,
) -> (Verdict, String) {
    let (Some(latest), Some(expected), Some(days_old)) = (latest, expected, days_old) else {
        return (Verdict::NotEnoughData, "there is no snapshot of what it measures now".into());
    };
    let Some(progress) = progress else {
        let why = latest.untold.as_deref().unwrap_or("how coarsely it is told is not known");
        return (Verdict::NotEnoughData, format!("the newest snapshot's headline is not told: {why}"));
    };
    if days_old > i64::from(outcome.fresh_for_days) {
        return (
            Verdict::NotEnoughData,
            format!("the oldest source of its data is {days_old} days old, and says how things stand for {}", outcome.fresh_for_days),
        );
    }
    let verdict = verdict(progress, expected);
    // Without the sign of a zero.
    let percent = |part: f64| format!("{:.0} %", (part * 100.0).round() + 0.0);
    let done = match (percent(progress.low), percent(progress.high)) {
        (low, high) if low == high => low,
        (low, high) => format!("between {low} and {high}"),
    };
    let because = format!("{done} of the way is done, where {} should be", percent(expected));
    (verdict, if verdict == Verdict::NotEnoughData { format!("{because}: too coarse to tell") } else { because })
}

/// By the day of their data, one each: the newest; and the others.
fn one_a_day<'s>(outcome: &Outcome, mut snapshots: Vec<&'s Snapshot>) -> (Vec<&'s Snapshot>, Vec<&'s Snapshot>) {
    let day = |one: &Snapshot| one.taken.days(&outcome.standing).newest;
    snapshots.sort_by_key(|one| (day(one), std::cmp::Reverse(one.number)));
    let mut before = None;
    snapshots.into_iter().partition(|one| before.replace(day(one)) != Some(day(one)))
}

fn headline(outcome: &Outcome, snapshot: &Snapshot) -> Measured {
    match snapshot.taken.headline(outcome) {
        Some(row) => measured(outcome, snapshot, row),
        None => untold(outcome, snapshot, "the answer does not have one row for it"),
    }
}

fn measured(outcome: &Outcome, snapshot: &Snapshot, row: &[Cell]) -> Measured {
    let Some(cell) = snapshot.taken.cell(row, &outcome.column) else {
        return untold(outcome, snapshot, "the answer does not have its column");
    };
    if let Some(why) = cell.withheld() {
        return untold(outcome, snapshot, &format!("withheld: {why}"));
    }
    let Some(value) = cell.number() else { return untold(outcome, snapshot, "there is no value") };
    let interval = of_row(outcome, &snapshot.taken, row);
    let why = interval.is_none().then(|| "the number of values behind it is withheld".to_owned());
    Measured { value: Some(value), interval, untold: why, ..untold(outcome, snapshot, "") }
}

fn untold(outcome: &Outcome, snapshot: &Snapshot, why: &str) -> Measured {
    let Days { newest: as_of, oldest } = snapshot.taken.days(&outcome.standing);
    Measured { snapshot: snapshot.number, as_of, oldest, value: None, interval: None, untold: Some(why.to_owned()) }
}

fn trend(outcome: &Outcome, history: &[Measured]) -> Option<Trend> {
    let told: Vec<(NaiveDate, Interval)> = history.iter().filter_map(|one| Some((one.as_of, one.interval?))).collect();
    let last = told.get(told.len().saturating_sub(TREND)..)?;
    let ((first, _), (newest, _)) = (last.first()?, last.last()?);
    if last.len() < LEAST.0 || (*newest - *first).num_days() < LEAST.1 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "days of a calendar")]
    let days: Vec<f64> = last.iter().map(|(day, _)| (*day - *first).num_days() as f64).collect();
    #[expect(clippy::cast_precision_loss, reason = "at most TREND")]
    let mean = days.iter().sum::<f64>() / days.len() as f64;
    let squares: f64 = days.iter().map(|day| (day - mean).powi(2)).sum();
    // The slope is a sum of the values, each by a weight that depends on days alone.
    let weighted = last.iter().zip(&days).map(|((_, value), day)| value.times(365.0 * (day - mean) / squares));
    let per_year = weighted.fold(Interval::exact(0.0), Interval::plus);
    let done = progress_of_change(outcome, per_year);
    let way = match (done.low > SLACK, done.high < -SLACK) {
        (true, _) => Way::Better,
        (_, true) => Way::Worse,
        _ => Way::Unclear,
    };
    Some(Trend { per_year, way, snapshots: last.len() })
}

/// A change as a part of the whole way.
fn progress_of_change(outcome: &Outcome, change: Interval) -> Interval {
    change.times((outcome.target.value - outcome.baseline.value).recip())
}

fn broken_down(outcome: &Outcome, breakdown: &Breakdown, first: &Snapshot, last: &Snapshot) -> BreakdownStatus {
    let done = |measured: &Measured| measured.interval.map(|value| progress(outcome, value));
    let [whole_then, whole_now] = [first, last].map(|snapshot| done(&headline(outcome, snapshot)));
    let came_on = whole_then.zip(whole_now).is_some_and(|(then, now)| now.low > then.high + SLACK);
    let of = |snapshot| groups(outcome, breakdown, snapshot).into_iter();
    let then: Vec<(Vec<String>, Measured)> = of(first).collect();
    let group = |(keys, measured): (Vec<String>, Measured)| {
        let now = done(&measured);
        let before = then.iter().find(|(others, _)| *others == keys).and_then(|(_, measured)| done(measured));
        let behind = now.zip(whole_now).is_some_and(|(now, whole)| now.high < whole.low - MARGIN - SLACK);
        let fell_back = came_on && now.zip(before).is_some_and(|(now, before)| now.high < before.low - SLACK);
        Group { keys, measured, behind, fell_back }
    };
    let groups: Vec<Group> = of(last).map(group).collect();
    BreakdownStatus { title: breakdown.title.clone(), by: breakdown.by.clone(), gap: gap(&groups), groups }
}

/// How far the best is ahead of the worst, in the measure's own unit and never below zero: which of them these are may not be known.
fn gap(groups: &[Group]) -> Option<Interval> {
    let told: Vec<Interval> = groups.iter().filter_map(|group| group.measured.interval).collect();
    if told.len() < 2 {
        return None;
    }
    let of = |bound: fn(&Interval) -> f64, pick: fn(f64, f64) -> f64| told.iter().map(bound).reduce(pick);
    // Whichever they are, the largest is at most the highest upper bound, and at least the highest lower one; so with the smallest.
    let widest = of(|one| one.high, f64::max)? - of(|one| one.low, f64::min)?;
    let least = of(|one| one.low, f64::max)? - of(|one| one.high, f64::min)?;
    Some(Interval { low: least.max(0.0), high: widest })
}

/// The groups of a breakdown as a snapshot tells them, by their keys. Rows with the same keys tell nothing: which is meant is not known.
pub(crate) fn groups(outcome: &Outcome, breakdown: &Breakdown, snapshot: &Snapshot) -> Vec<(Vec<String>, Measured)> {
    let of = |(keys, _): (Vec<String>, &Vec<Cell>)| {
        let told = row_of(outcome, breakdown, snapshot, &keys).map(|row| measured(outcome, snapshot, row));
        (keys, told.unwrap_or_else(|| untold(outcome, snapshot, "several rows of the answer have these keys")))
    };
    rows(outcome, breakdown, snapshot).into_iter().map(of).collect()
}

/// The one row of a group; `None` where there is none, or several.
pub(crate) fn row_of<'s>(outcome: &Outcome, breakdown: &Breakdown, snapshot: &'s Snapshot, keys: &[String]) -> Option<&'s Vec<Cell>> {
    let mut rows = rows(outcome, breakdown, snapshot).into_iter().filter(|(others, _)| others == keys);
    let (_, row) = rows.next()?;
    rows.next().is_none().then_some(row)
}

/// The rows of a breakdown with their keys, but for the headline's own where none are named.
fn rows<'s>(outcome: &Outcome, breakdown: &Breakdown, snapshot: &'s Snapshot) -> Vec<(Vec<String>, &'s Vec<Cell>)> {
    let Snapshot { taken, .. } = snapshot;
    let whole = taken.headline(outcome).filter(|_| breakdown.row.is_empty());
    let is_whole = |row: &Vec<Cell>| whole.is_some_and(|whole| std::ptr::eq(whole, row));
    let keys = |row: &Vec<Cell>| breakdown.by.iter().map(|column| key(taken, row, column)).collect();
    taken.rows_where(&breakdown.row).filter(|row| !is_whole(row)).map(|row| (keys(row), row)).collect()
}

fn key(taken: &Taken, row: &[Cell], column: &str) -> String {
    taken.cell(row, column).map(Cell::text).filter(|text| !text.is_empty()).unwrap_or_else(|| "(none)".into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::interval::Precision;
    use crate::testing::{day, mission, snapshot};

    fn of(snapshots: &[Snapshot], today: &str) -> OutcomeStatus {
        let mission = mission();
        status(&mission, &mission.outcomes[0], "d", snapshots, day(today))
    }

    #[test]
    fn the_rule_at_its_edges() {
        use Verdict::{AtRisk, NotEnoughData, OffTrack, OnTrack};
        let (just, e) = (1e-6, 0.5);
        for (low, high, expected) in [
            // Exact values.
            (e, e, OnTrack),
            (1.2, 1.2, OnTrack),
            (e - just, e - just, AtRisk),
            (e - MARGIN, e - MARGIN, AtRisk),
            (e - MARGIN - just, e - MARGIN - just, OffTrack),
            (-3.0, -3.0, OffTrack),
            // On the path at one end.
            (e, e + 0.4, OnTrack),
            (e - just, e + 0.4, AtRisk),
            (e - MARGIN, e, AtRisk),
            (e - MARGIN - just, e, NotEnoughData),
            (e - MARGIN - just, e - just, AtRisk),
            // Behind at the other.
            (-1.0, e - MARGIN - just, OffTrack),
            (-1.0, e - MARGIN, AtRisk),
            (-1.0, e - just, AtRisk),
            (-1.0, 2.0, NotEnoughData),
        ] {
            assert_eq!(verdict(Interval { low, high }, e), expected, "{low} to {high}");
        }
        assert_eq!(verdict(Interval::exact(0.0), 0.0), OnTrack, "on the first day nothing is to be done yet");
        assert_eq!(verdict(Interval::exact(1.0), 1.0), OnTrack, "reached on the last");
    }

    #[test]
    fn the_path_is_straight_from_baseline_to_target() {
        let mission = mission();
        let outcome = &mission.outcomes[0];
        for (on, part) in [("2020-01-01", 0.0), ("2026-04-01", 0.0), ("2027-08-14", 0.5), ("2028-12-26", 1.0), ("2040-01-01", 1.0)] {
            assert!((expected(outcome, day(on)) - part).abs() < 1e-12, "{on}");
        }
        for (value, part) in [(0.5, 0.0), (0.45, 0.5), (0.4, 1.0), (0.55, -0.5), (0.3, 2.0)] {
            let done = progress(outcome, Interval::exact(value));
            assert!((done.low - part).abs() < 1e-9 && (done.high - part).abs() < 1e-9, "{value}: {done:?}");
        }
        // Less is better: the upper bound of the value is the lower one of progress.
        let done = progress(outcome, Interval { low: 0.44, high: 0.46 });
        assert!((done.low - 0.4).abs() < 1e-9 && (done.high - 0.6).abs() < 1e-9);
    }

    #[test]
    fn the_newest_data_decides_and_must_be_fresh() {
        // Half of the way should be done on 14 August 2027.
        let half = |value| snapshot(1, "2027-08-14", None, value);
        for (value, today, expected) in [
            (0.45, "2027-08-14", Verdict::OnTrack),
            (0.455, "2027-08-14", Verdict::AtRisk),
            (0.47, "2027-08-14", Verdict::OffTrack),
            (0.45, "2027-09-28", Verdict::OnTrack),
            (0.45, "2027-09-29", Verdict::NotEnoughData),
        ] {
            let told = of(&[half(value)], today);
            assert_eq!(told.verdict, expected, "{value} on {today}: {}", told.because);
        }
        assert_eq!(of(&[], "2027-08-14").verdict, Verdict::NotEnoughData);
        // What was taken later of older data is not the newest.
        let mut late = snapshot(2, "2027-08-20", None, 0.6);
        late.taken.stated.sources[0].freshness = "2027-01-01T00:00:00Z".parse().unwrap();
        let told = of(&[half(0.45), late], "2027-08-21");
        assert_eq!((told.verdict, told.history.len(), told.latest.map(|latest| latest.snapshot)), (Verdict::OnTrack, 2, Some(1)));
    }

    /// A table of areas that nobody changes: snapshots are of the days of what does change, and too old only where nobody said that it
    /// stays.
    #[test]
    fn data_that_never_changes_neither_dates_a_snapshot_nor_makes_it_old_where_the_outcome_says_so() {
        let with_areas = |number, on: &str, value| {
            let mut one = snapshot(number, on, None, value);
            let mut areas = one.taken.stated.sources[0].clone();
            (areas.dataset, areas.freshness) = ("areas".into(), "2020-01-01T00:00:00Z".parse().unwrap());
            one.taken.stated.sources.push(areas);
            one
        };
        let snapshots = [with_areas(1, "2027-07-14", 0.46), with_areas(2, "2027-08-14", 0.45)];
        let told = of(&snapshots, "2027-08-14");
        assert_eq!((told.history.len(), told.verdict), (2, Verdict::NotEnoughData), "{}", told.because);
        assert!(told.because.contains("the oldest source"), "{}", told.because);
        let mut mission = mission();
        mission.outcomes[0].standing = vec!["a.areas".into()];
        let told = status(&mission, &mission.outcomes[0], "d", &snapshots, day("2027-08-14"));
        assert_eq!((told.verdict, told.days_old, told.history.len()), (Verdict::OnTrack, Some(0), 2), "{}", told.because);
        // What does change is not fresher for it.
        let late = status(&mission, &mission.outcomes[0], "d", &snapshots, day("2027-09-29"));
        assert_eq!((late.verdict, late.days_old), (Verdict::NotEnoughData, Some(46)));
    }

    #[test]
    fn what_ended_is_not_on_track_however_its_last_figure_stood() {
        let told = of(&[snapshot(1, "2027-08-14", None, 0.45)], "2027-08-14");
        assert_eq!(told.verdict, Verdict::OnTrack);
        let ended = told.ended("the agreement 'a' ended on 2027-08-01");
        assert_eq!((ended.verdict, ended.history.len()), (Verdict::Ended, 1));
        assert!(ended.because.contains("'a' ended") && ended.because.contains("2027-08-14"), "{}", ended.because);
        assert_eq!(of(&[], "2027-08-14").ended("x").verdict, Verdict::NotEnoughData);
    }

    #[test]
    fn what_is_withheld_is_not_carried_forward() {
        let mut withheld = snapshot(2, "2027-08-14", None, 0.45);
        withheld.taken.rows[0][3] = Cell { value: json!(null), status: Some("withheld: fewer than 10 distinct subjects".into()) };
        let told = of(&[snapshot(1, "2027-07-14", None, 0.4), withheld], "2027-08-14");
        assert_eq!((told.verdict, told.progress), (Verdict::NotEnoughData, None));
        assert!(told.because.contains("fewer than 10 distinct subjects"), "{}", told.because);
        // Without the number behind it, nobody knows how coarse a share is.
        let mut coarse = snapshot(1, "2027-08-14", None, 0.45);
        coarse.taken.rows[0][2] = Cell { value: json!(null), status: Some("withheld: x".into()) };
        coarse.taken.rows[0][3].status = Some("rounded".into());
        assert_eq!(of(&[coarse], "2027-08-14").verdict, Verdict::NotEnoughData);
    }

    #[test]
    fn coarse_numbers_are_too_coarse_to_tell() {
        let of_persons = |persons: u32| {
            let mut rounded = snapshot(1, "2027-08-14", None, 0.452);
            rounded.taken.stated.precision = Precision { round_to: 5, noise: None };
            rounded.taken.rows[0][2] = Cell { value: json!(persons), status: Some("rounded".into()) };
            rounded.taken.rows[0][3].status = Some("rounded".into());
            of(&[rounded], "2027-08-14")
        };
        assert_eq!(of_persons(100_000).verdict, Verdict::AtRisk);
        let few = of_persons(200);
        assert!(few.verdict == Verdict::NotEnoughData && few.because.contains("too coarse"), "{}", few.because);
    }

    #[test]
    fn superseded_snapshots_and_other_definitions_do_not_count() {
        let mut corrected = snapshot(2, "2027-08-14", None, 0.45);
        corrected.taken.supersedes = Some(1);
        let mut other = snapshot(3, "2027-08-15", None, 0.9);
        other.taken.definition = "e".into();
        let told = of(&[snapshot(1, "2027-08-14", None, 0.9), corrected, other], "2027-08-15");
        assert_eq!((told.verdict, told.history.len(), told.of_another_definition), (Verdict::OnTrack, 1, vec![3]));
    }

    #[test]
    fn a_trend_is_told_where_the_bounds_leave_no_doubt() {
        let falling: Vec<Snapshot> =
            (0..4_u32).map(|n| snapshot(u64::from(n) + 1, &format!("2026-0{}-01", n + 4), None, 0.5 - 0.01 * f64::from(n))).collect();
        let trend = of(&falling, "2026-07-01").trend.unwrap();
        assert_eq!((trend.way, trend.snapshots), (Way::Better, 4));
        // 0.03 in 91 days, on a straight line but for months' lengths.
        assert!((trend.per_year.low + 0.03 * 365.0 / 91.0).abs() < 0.002 && trend.per_year.high - trend.per_year.low < 1e-9, "{trend:?}");
        let rising: Vec<Snapshot> = falling
            .iter()
            .enumerate()
            .map(|(n, one)| snapshot(one.number, &one.taken.taken_at.date_naive().to_string(), None, 0.5 + 0.01 * n as f64))
            .collect();
        assert_eq!(of(&rising, "2026-07-01").trend.unwrap().way, Way::Worse);
        let coarse: Vec<Snapshot> = falling
            .into_iter()
            .map(|mut one| {
                one.taken.stated.precision.round_to = 50;
                one.taken.rows[0].iter_mut().skip(2).for_each(|cell| cell.status = Some("rounded".into()));
                one
            })
            .collect();
        let unclear = of(&coarse, "2026-07-01").trend.unwrap();
        assert!(unclear.way == Way::Unclear && unclear.per_year.low < 0.0 && unclear.per_year.high > 0.0, "{unclear:?}");
        let of_days = |days: &[&str]| {
            let number = |n: usize| u64::try_from(n).unwrap() + 1;
            let all: Vec<Snapshot> = days.iter().enumerate().map(|(n, on)| snapshot(number(n), on, None, 0.5 - 0.01 * n as f64)).collect();
            of(&all, "2026-07-01").trend.is_some()
        };
        assert!(of_days(&["2026-04-01", "2026-05-01", "2026-06-01", "2026-06-30"]));
        assert!(!of_days(&["2026-04-01", "2026-05-01", "2026-06-01", "2026-06-29"]), "89 days");
        assert!(!of_days(&["2026-04-01", "2026-06-01", "2026-06-30"]) && !of_days(&["2026-06-29", "2026-06-30"]));
    }

    /// A snapshot with regions.
    fn by_region(number: u64, on: &str, whole: f64, regions: &[(&str, Option<f64>)]) -> Snapshot {
        let mut one = snapshot(number, on, None, whole);
        for (region, share) in regions {
            let status = if share.is_some() { "told" } else { "withheld: few" };
            let row = json!([
                { "value": region }, { "value": 0 }, { "value": 100, "status": "told" }, { "value": share, "status": status },
            ]);
            one.taken.rows.push(serde_json::from_value(row).unwrap());
        }
        one
    }

    #[test]
    fn breakdowns_say_what_the_headline_hides() {
        let first = by_region(1, "2026-04-01", 0.50, &[("North", Some(0.52)), ("South", Some(0.48)), ("Isles", None)]);
        let last =
            by_region(2, "2026-07-01", 0.47, &[("North", Some(0.53)), ("South", Some(0.44)), ("Isles", None), ("West", Some(0.475))]);
        let told = of(&[first.clone(), last], "2026-07-01");
        let breakdown = &told.breakdowns[0];
        let flags: Vec<(&str, bool, bool)> =
            breakdown.groups.iter().map(|group| (group.keys[0].as_str(), group.behind, group.fell_back)).collect();
        // North is 0.06 worse, more than a tenth of the way of 0.1; West is 0.005 worse.
        assert_eq!(flags, [("North", true, true), ("South", false, false), ("Isles", false, false), ("West", false, false)]);
        let gap = breakdown.gap.unwrap();
        assert!((gap.low - 0.09).abs() < 1e-9 && (gap.high - 0.09).abs() < 1e-9, "{gap:?}");
        let hidden = told.hidden().join("\n");
        assert!(
            hidden.contains("behind the headline: North") && hidden.contains("not told: Isles") && hidden.contains("fell back"),
            "{hidden}"
        );
        // Where the headline did not come on, it hides no falling back.
        let same = by_region(2, "2026-07-01", 0.50, &[("North", Some(0.53))]);
        assert!(!of(&[first, same], "2026-07-01").breakdowns[0].groups[0].fell_back);
    }

    #[test]
    fn a_gap_holds_every_pair_that_the_best_and_the_worst_can_be() {
        let groups = |bounds: &[(f64, f64)]| -> Vec<Group> {
            let measured = |(low, high): &(f64, f64)| Measured {
                snapshot: 1,
                as_of: day("2026-04-01"),
                oldest: day("2026-04-01"),
                value: Some((low + high) / 2.0),
                interval: Some(Interval { low: *low, high: *high }),
                untold: None,
            };
            let group = |bounds| Group { keys: Vec::new(), measured: measured(bounds), behind: false, fell_back: false };
            bounds.iter().map(group).collect()
        };
        for (bounds, low, high) in [
            (&[(0.2, 0.2), (0.5, 0.5)][..], 0.3, 0.3),
            // The widest group's middle is neither the best nor the worst.
            (&[(0.1, 0.9), (0.45, 0.46), (0.54, 0.55)], 0.08, 0.8),
            (&[(0.1, 0.3), (0.2, 0.4)], 0.0, 0.3),
        ] {
            let gap = gap(&groups(bounds)).unwrap();
            assert!((gap.low - low).abs() < 1e-9 && (gap.high - high).abs() < 1e-9, "{bounds:?}: {gap:?}");
        }
        assert_eq!(gap(&groups(&[(0.1, 0.2)])), None);
    }

    #[test]
    fn of_a_day_one_is_drawn_and_all_are_told_and_rows_alike_tell_nothing() {
        let told = of(&[snapshot(1, "2026-04-01", None, 0.5), snapshot(2, "2026-04-01", None, 0.49)], "2026-04-02");
        let numbers = |all: &[Measured]| all.iter().map(|one| one.snapshot).collect::<Vec<_>>();
        assert_eq!((numbers(&told.history), numbers(&told.same_day)), (vec![2], vec![1]));
        let twice = by_region(1, "2026-04-01", 0.5, &[("North", Some(0.4)), ("North", Some(0.6)), ("South", Some(0.5))]);
        let told = of(&[twice], "2026-04-02");
        let values: Vec<Option<f64>> = told.breakdowns[0].groups.iter().map(|group| group.measured.value).collect();
        assert_eq!(values, [None, None, Some(0.5)]);
    }
}
