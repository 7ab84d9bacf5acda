//! Test and learn: what changed where an output is, against where it is not.
//!
//! ```text
//!             before      began      after
//!  with      a ────────────┼──────────── b      effect = (b − a) − (d − c)
//!  without   c ────────────┼──────────── d
//! ```
//!
//! **The method** is a difference in differences. Each group's told values are brought down to two numbers, their mean before and their
//! mean after, so that months that hang together do not pass for independent ones (Bertrand, Duflo and Mullainathan, 2004: "How much
//! should we trust differences-in-differences estimates?"). A group's change is the second less the first. The effect is the mean change
//! of the groups with the output less that of the groups without; each group counts by its told number of values before, so that nobody
//! counts more for having come later, and equally where no such number is told.
//!
//! **The interval** joins two uncertainties, one put around the other:
//! - *rounding and noise*: the bounds of every told value ([`crate::interval`]), carried through all sums. They hold for certain.
//! - *chance*: groups differ in how they change without any output. How much, the changes inside each side show: the standard error of
//!   both means, without supposing that both sides vary alike, times Student's t (Welch, 1947). `compare/spread.rs` has the formulas.
//!
//! Rounding can make told changes look more alike than they are, but only by less than the bounds that are added for it. At a stated
//! [`CONFIDENCE`] of 95 %, at least 93 % of intervals held the true effect in every kind of simulated world, and at most 7 % found an effect
//! where there was none (`compare/simulated.rs`).
//!
//! **The check before**: the same comparison between the two halves of the time before, when there was nothing to be compared. Where its
//! interval does not hold zero, the two sides were on different ways already, and the comparison cannot be trusted.
//!
//! **Refused** ([`Refused`]) is what would mislead: fewer than [`MIN_GROUPS`] groups a side, [`MIN_BEFORE`] snapshots before or [`MIN_AFTER`]
//! after; groups that got or lost the output on another day; groups that came or went; measures that are not protected. A group that is
//! withheld once is left out as a whole; where that is more than [`MOST_LEFT_OUT`] of a side, or where the measure is itself a number that is
//! withheld for being small, what is left is no fair part, and the comparison is refused.
//!
//! Whatever comes out, [`Comparison::cannot_show`] says what it cannot show.

mod changes;
#[cfg(test)]
mod simulated;
mod spread;
mod words;

use std::collections::BTreeSet;

use chrono::NaiveDate;
use concordat_policy::Name;
use serde::{Serialize, Serializer};

use self::changes::{Stretch, Told, Used};
use self::spread::{Difference, mean};
use crate::interval::Interval;
use crate::mission::{Direction, Mission, Outcome, Output};
use crate::snapshot::Snapshot;

/// How many intervals of a hundred are to hold the effect.
pub const CONFIDENCE: f64 = 0.95;
/// The fewest groups on a side.
pub const MIN_GROUPS: usize = 3;
/// The fewest snapshots before: two in each half, for the check.
pub const MIN_BEFORE: usize = 4;
/// The fewest after.
pub const MIN_AFTER: usize = 2;
/// The largest part of a side's groups that may be left out because they are withheld.
pub const MOST_LEFT_OUT: f64 = 0.2;

/// What arithmetic may be off by: what is zero is no difference.
const SLACK: f64 = 1e-9;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Question<'q> {
    /// The mission.
    pub mission: &'q Mission,
    /// One of its outcomes.
    pub outcome: &'q Outcome,
    /// What the outcome measures now ([`crate::snapshot::definition`]).
    pub definition: &'q str,
    /// The column of a breakdown of the outcome by which groups are told apart.
    pub by: &'q str,
    /// The groups with the output: that column's values.
    pub with: BTreeSet<String>,
    /// The groups without it; all others where none is named.
    pub without: BTreeSet<String>,
    /// The output, where it is one of the mission's file. What is after it was stopped is not used.
    pub output: Option<&'q Output>,
    /// The first day of the output.
    pub began: NaiveDate,
    /// The last day that counts; none: all that there is.
    pub until: Option<NaiveDate>,
    /// Groups that got or lost the output on another day.
    pub changed_hands: Vec<(String, NaiveDate)>,
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The outcome.
    pub outcome: Name,
    /// What it is measured in.
    pub unit: String,
    /// Which way is better.
    pub direction: Direction,
    /// By which column groups are told apart.
    pub by: String,
    /// The first day of the output.
    pub began: NaiveDate,
    /// How much more the measure changed with the output than without, in its own unit.
    pub effect: f64,
    /// Between which bounds that lies, by rounding, noise and chance.
    pub interval: Interval,
    /// How many of a hundred such intervals are to hold it, as a part.
    pub confidence: f64,
    /// The part of it that is of rounding and noise alone.
    pub rounding: Interval,
    /// How much chance adds on each side.
    pub chance: f64,
    /// Degrees of freedom of Student's t.
    pub degrees: f64,
    /// Whether groups count by their number of values, or equally.
    pub weighted: bool,
    /// The groups with the output.
    pub with: Side,
    /// The groups without.
    pub without: Side,
    /// The snapshots before.
    pub before: Vec<u64>,
    /// The snapshots after.
    pub after: Vec<u64>,
    /// Snapshots that were not used, and why.
    pub not_used: Vec<Left>,
    /// Groups that were left out, and why.
    pub left_out: Vec<Left>,
    /// The same comparison inside the time before.
    pub check: Check,
    /// What may be said.
    pub finding: Finding,
    /// The same in a sentence or two.
    pub says: String,
    /// What the comparison cannot show.
    pub cannot_show: Vec<String>,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// Its mean before.
    pub before: f64,
    /// Its mean after.
    pub after: f64,
    /// Its groups.
    pub groups: Vec<GroupChange>,
}

/// How a group changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupChange {
    /// The group.
    pub group: String,
    /// Its part in its side's mean.
    pub part: f64,
    /// Its mean before.
    pub before: f64,
    /// Its mean after.
    pub after: f64,
    /// Between which bounds its change lies, by rounding and noise alone.
    pub change: Interval,
}

/// What was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// A snapshot's number, or a group.
    pub what: String,
    /// Why.
    pub why: String,
}

/// The comparison between the halves of the time before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// How much more the measure changed on the side with the output, before there was one.
    pub difference: f64,
    /// Between which bounds that lies.
    pub interval: Interval,
    /// What follows.
    pub verdict: CheckVerdict,
}

/// What follows from the check before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// No difference that, had it gone on, could come to as much as the effect.
    Alike,
    /// The sides were on different ways before.
    Apart,
    /// Such a difference could have gone unseen.
    Unclear,
}

/// What may be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The measure came on more with the output than without.
    Better,
    /// It came on less, or fell back more.
    Worse,
    /// It cannot be told.
    Unclear,
    /// The sides were on different ways before.
    NotToBeTrusted,
}

impl Finding {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better with it",
            Self::Worse => "worse with it",
            Self::Unclear => "unclear",
            Self::NotToBeTrusted => "not to be trusted",
        }
    }
}

/// Why nothing is compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No breakdown is by that column alone.
    #[error("no breakdown of the outcome is by the column '{0}' alone")]
    Breakdown(String),
    /// No group, or one that there is not.
    #[error("{0}")]
    Groups(String),
    /// Too few groups.
    #[error("{with} groups with the output and {without} without are told in every snapshot; {MIN_GROUPS} on each side are the fewest")]
    FewGroups {
        /// How many there are with it.
        with: usize,
        /// How many without.
        without: usize,
    },
    /// Too few snapshots.
    #[error("there are {before} snapshots before the output began and {after} after; {MIN_BEFORE} and {MIN_AFTER} are the fewest{mixed}")]
    FewSnapshots {
        /// How many before.
        before: usize,
        /// How many after.
        after: usize,
        /// What is said of those that are neither.
        mixed: String,
    },
    /// A group got or lost the output inside the time compared.
    #[error(
        "'{group}' got or lost the output on {on}: it is on neither side for the whole time; name it on neither, or compare until the day before"
    )]
    ChangedHands {
        /// The group.
        group: String,
        /// When.
        on: NaiveDate,
    },
    /// A group has no row of its own in every snapshot.
    #[error(
        "'{group}' has {rows} rows in snapshot {snapshot}: groups that come, go or are cut otherwise are not the same before and after"
    )]
    Rows {
        /// The group.
        group: String,
        /// How many rows it has there.
        rows: usize,
        /// The snapshot.
        snapshot: u64,
    },
    /// Values that did not pass `Protect`.
    #[error("the measure of snapshot {0} is not protected; only protected cells are compared")]
    Unprotected(u64),
    /// What is left would be no fair part.
    #[error("{0}")]
    Withheld(String),
}

impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Compares. `snapshots` are the store's, of any outcome.
///
/// # Errors
/// Why it is refused; several reasons where they do not hang together.
pub fn compare(question: &Question<'_>, snapshots: &[Snapshot]) -> Result<Comparison, Vec<Refused>> {
    if let Some((output, stopped)) =
        question.output.and_then(|output| output.stopped().map(|on| (output, on)).filter(|(_, on)| *on <= question.began))
    {
        let (id, began) = (&output.id, question.began);
        return Err(vec![Refused::Groups(format!(
            "the mission's file has '{id}' stopped since {stopped}, so that nothing after {began} is with it: its first day is to be said"
        ))]);
    }
    let used = Used::of(question, snapshots)?;
    let told = Told::of(question, &used)?;
    let effect = difference(&told, &used.before(), &used.after());
    let (earlier, later) = used.halves();
    let check = check(&told, &effect, &used, (&earlier, &later));
    let finding = finding(question.outcome.direction, effect.interval(), check.verdict);
    let mut comparison = Comparison {
        outcome: question.outcome.id.clone(),
        unit: question.outcome.unit.clone(),
        direction: question.outcome.direction,
        by: question.by.to_owned(),
        began: question.began,
        effect: effect.value,
        interval: effect.interval(),
        confidence: CONFIDENCE,
        rounding: effect.bounds,
        chance: effect.chance(),
        degrees: effect.degrees,
        weighted: told.weighted,
        with: side(&told.with, &used),
        without: side(&told.without, &used),
        before: used.numbers(&used.before()),
        after: used.numbers(&used.after()),
        not_used: used.not_used.clone(),
        left_out: told.left_out.clone(),
        check,
        finding,
        says: String::new(),
        cannot_show: words::cannot_show(question, &told, &used),
    };
    comparison.says = words::says(&comparison);
    Ok(comparison)
}

fn difference(told: &Told, from: &Stretch, to: &Stretch) -> Difference {
    let [with, without] = [&told.with, &told.without].map(|side| {
        let changes: Vec<(f64, Interval)> = side.iter().map(|group| group.change(from, to)).collect();
        let parts: Vec<f64> = side.iter().map(|group| group.part).collect();
        mean(&changes, &parts)
    });
    Difference::of(&with, &without)
}

fn check(told: &Told, effect: &Difference, used: &Used<'_>, (earlier, later): (&Stretch, &Stretch)) -> Check {
    let before = difference(told, earlier, later);
    let interval = before.interval();
    // As much of it as had come about by the time after, had it gone on at its pace.
    let pace = used.apart(&used.before(), &used.after()) / used.apart(earlier, later);
    let most = interval.low.abs().max(interval.high.abs()) * pace;
    let verdict = if interval.low > SLACK || interval.high < -SLACK {
        CheckVerdict::Apart
    } else if most < effect.value.abs() {
        CheckVerdict::Alike
    } else {
        CheckVerdict::Unclear
    };
    Check { difference: before.value, interval, verdict }
}

fn finding(direction: Direction, effect: Interval, check: CheckVerdict) -> Finding {
    let up = if direction == Direction::Up { Finding::Better } else { Finding::Worse };
    let down = if direction == Direction::Up { Finding::Worse } else { Finding::Better };
    match check {
        CheckVerdict::Apart => Finding::NotToBeTrusted,
        _ if effect.low > SLACK => up,
        _ if effect.high < -SLACK => down,
        _ => Finding::Unclear,
    }
}

fn side(groups: &[changes::Group], used: &Used<'_>) -> Side {
    let (before, after) = (used.before(), used.after());
    let changes: Vec<GroupChange> = groups
        .iter()
        .map(|group| GroupChange {
            group: group.name.clone(),
            part: group.part,
            before: group.mean(&before),
            after: group.mean(&after),
            change: group.change(&before, &after).1,
        })
        .collect();
    let mean = |of: fn(&GroupChange) -> f64| changes.iter().map(|group| group.part * of(group)).sum();
    Side { before: mean(|group| group.before), after: mean(|group| group.after), groups: changes }
}
