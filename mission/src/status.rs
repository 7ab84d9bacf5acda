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
use crate::restated::restated;
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
    /// What the file says otherwise of it than when it was measured before, a clause each.
    pub restated: Vec<String>,
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
        restated: restated(mission, outcome, definition, snapshots),
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
mod tests;
