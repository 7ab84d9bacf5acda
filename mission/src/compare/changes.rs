//! From snapshots to one value of each group in each snapshot: which snapshots are used, which groups are told in all of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use chrono::{DateTime, NaiveDate, Utc};

use super::{Left, MIN_AFTER, MIN_BEFORE, MIN_GROUPS, MOST_LEFT_OUT, Question, Refused};
use crate::history::superseded;
use crate::interval::{Interval, of_row};
use crate::mission::{Breakdown, Kind, Output};
use crate::snapshot::{Cell, Days, Snapshot, Source, Taken};

/// Places of used snapshots, oldest first.
pub(super) type Stretch = Range<usize>;

/// The snapshots that are used, oldest data first.
pub(super) struct Used<'s> {
    snapshots: Vec<Dated<'s>>,
    /// How many of them are from before.
    cut: usize,
    pub(super) not_used: Vec<Left>,
    /// Datasets that never changed.
    pub(super) still: Vec<String>,
    /// Datasets that did, although the outcome says that they stand.
    pub(super) moved: Vec<String>,
}

/// A snapshot, and of which days its data is, but for what never changed or stands by the outcome's word.
struct Dated<'s> {
    snapshot: &'s Snapshot,
    days: Days,
}

/// Both sides: each group's value in each snapshot.
pub(super) struct Told {
    pub(super) with: Vec<Group>,
    pub(super) without: Vec<Group>,
    pub(super) left_out: Vec<Left>,
    pub(super) weighted: bool,
}

/// A group that is told in every snapshot.
pub(super) struct Group {
    pub(super) name: String,
    /// Its part in its side's mean.
    pub(super) part: f64,
    values: Vec<Value>,
}

struct Value {
    told: f64,
    bounds: Interval,
    /// The number of values behind it, where that is told.
    counted: Option<f64>,
}

impl<'s> Used<'s> {
    pub(super) fn of(question: &Question<'_>, snapshots: &'s [Snapshot]) -> Result<Self, Vec<Refused>> {
        let of_outcome = |one: &&Snapshot| {
            (&one.taken.mission, &one.taken.outcome) == (&question.mission.id, &question.outcome.id) && !superseded(snapshots, one.number)
        };
        let (counting, others): (Vec<&Snapshot>, Vec<&Snapshot>) =
            snapshots.iter().filter(of_outcome).partition(|one| one.taken.definition == question.definition);
        let mut not_used: Vec<Left> = others.into_iter().map(|one| left(one.number, "it measured something else")).collect();
        let still = still(&counting);
        let standing = &question.outcome.standing;
        let stopped = question.output.and_then(Output::stopped);
        let passed_over: Vec<String> = still.iter().chain(standing).cloned().collect();
        let (mut before, mut after, mut mixed) = (Vec::new(), Vec::new(), 0);
        for one in dated(&counting, &passed_over) {
            let number = one.snapshot.number;
            if question.until.is_some_and(|until| one.days.newest > until) {
                not_used.push(left(number, "its data is from after the last day that counts"));
            } else if stopped.is_some_and(|stopped| one.days.newest >= stopped) {
                not_used.push(left(number, "its data is from after the output was stopped"));
            } else if one.days.newest < question.began {
                before.push(one);
            } else if one.days.oldest >= question.began {
                after.push(one);
            } else {
                mixed += 1;
                not_used.push(left(number, "part of its data is from before the output began, and part from after"));
            }
        }
        if before.len() < MIN_BEFORE || after.len() < MIN_AFTER {
            let mixed =
                if mixed > 0 { format!("; the data of {mixed} is partly from before and partly from after") } else { String::new() };
            return Err(vec![Refused::FewSnapshots { before: before.len(), after: after.len(), mixed }]);
        }
        let cut = before.len();
        let snapshots: Vec<Dated<'_>> = before.into_iter().chain(after).collect();
        let changed = |name: &&String| !still.contains(name) && freshness(&snapshots, name).len() > 1;
        let moved = standing.iter().filter(changed).cloned().collect();
        let used = Self { snapshots, cut, not_used, still, moved };
        let unprotected: Vec<Refused> = used.unprotected(question).map(Refused::Unprotected).collect();
        if unprotected.is_empty() { Ok(used) } else { Err(unprotected) }
    }

    fn unprotected<'u>(&'u self, question: &'u Question<'_>) -> impl Iterator<Item = u64> {
        let outcome = question.outcome;
        let read = move |name: &str| *name == outcome.column || outcome.kind.counted().is_some_and(|counted| counted == name);
        let open = move |taken: &Taken| taken.columns.iter().any(|column| read(&column.name) && !column.protected);
        self.snapshots.iter().map(|one| one.snapshot).filter(move |one| open(&one.taken)).map(|one| one.number)
    }

    pub(super) fn before(&self) -> Stretch {
        0..self.cut
    }

    pub(super) fn after(&self) -> Stretch {
        self.cut..self.snapshots.len()
    }

    /// The first and the second half of the time before; of an odd number, the middle one is in neither.
    pub(super) fn halves(&self) -> (Stretch, Stretch) {
        let half = self.cut / 2;
        (0..half, self.cut - half..self.cut)
    }

    pub(super) fn numbers(&self, stretch: &Stretch) -> Vec<u64> {
        self.of_stretch(stretch).map(|one| one.snapshot.number).collect()
    }

    /// How many days lie between the middles of two stretches.
    pub(super) fn apart(&self, from: &Stretch, to: &Stretch) -> f64 {
        let Some(first) = self.snapshots.first().map(|one| one.days.oldest) else { return 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "days of a calendar")]
        let middle = |stretch: &Stretch| average(self.of_stretch(stretch).map(|one| (one.days.oldest - first).num_days() as f64));
        middle(to) - middle(from)
    }

    /// Whether all rest on the same texts of agreements.
    pub(super) fn same_agreements(&self) -> bool {
        let mut texts = self.snapshots.iter().map(|one| &one.snapshot.taken.stated.agreement_digests);
        let first = texts.next();
        texts.all(|text| Some(text) == first)
    }

    fn of_stretch(&self, stretch: &Stretch) -> impl Iterator<Item = &Dated<'s>> {
        self.snapshots.get(stretch.clone()).unwrap_or_default().iter()
    }

    fn last(&self) -> Option<NaiveDate> {
        self.snapshots.iter().map(|one| one.days.newest).max()
    }
}

impl Told {
    pub(super) fn of(question: &Question<'_>, used: &Used<'_>) -> Result<Self, Vec<Refused>> {
        let breakdown = question.outcome.breakdowns.iter().find(|breakdown| breakdown.by == [question.by]);
        let breakdown = breakdown.ok_or_else(|| vec![Refused::Breakdown(question.by.to_owned())])?;
        let rows: Vec<Rows<'_>> = used.snapshots.iter().map(|one| keyed(question, breakdown, &one.snapshot.taken)).collect();
        let known: BTreeSet<&str> = rows.iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
        let problems = named_wrongly(question, &known);
        let others = known.iter().filter(|group| !question.with.contains(**group)).map(|group| (*group).to_owned()).collect();
        let mut search = Search { question, used, rows: &rows, problems, left_out: Vec::new() };
        let with = search.side(&question.with, true);
        let without = if question.without.is_empty() { search.side(&others, false) } else { search.side(&question.without, true) };
        let Search { mut problems, left_out, .. } = search;
        if problems.is_empty() && (with.len() < MIN_GROUPS || without.len() < MIN_GROUPS) {
            problems.push(Refused::FewGroups { with: with.len(), without: without.len() });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { with, without, left_out, weighted: false }.with_parts(&used.before()))
    }

    /// Each group's part: by its told number of values before, or equal where some group's is not told.
    fn with_parts(mut self, before: &Stretch) -> Self {
        self.weighted = self.with.iter().chain(&self.without).all(|group| group.counted(before).is_some());
        for side in [&mut self.with, &mut self.without] {
            let weighted = self.weighted;
            let weight = |group: &Group| group.counted(before).filter(|_| weighted).unwrap_or(1.0);
            let whole: f64 = side.iter().map(weight).sum();
            side.iter_mut().for_each(|group| group.part = weight(group) / whole);
        }
        self
    }
}

/// The rows of a snapshot by their groups.
type Rows<'s> = BTreeMap<String, Vec<&'s Vec<Cell>>>;

/// Looks for the groups of both sides.
struct Search<'q> {
    question: &'q Question<'q>,
    used: &'q Used<'q>,
    rows: &'q [Rows<'q>],
    problems: Vec<Refused>,
    left_out: Vec<Left>,
}

impl Search<'_> {
    /// The groups of a side that are told. What keeps one from being told is a problem where it was named, else it is left out.
    fn side(&mut self, names: &BTreeSet<String>, named: bool) -> Vec<Group> {
        let (mut groups, mut untold) = (Vec::new(), 0);
        for name in names {
            match (self.moved(name), group(self.question, self.used, self.rows, name)) {
                (Some(on), _) if named => self.problems.push(Refused::ChangedHands { group: name.clone(), on }),
                (Some(on), _) => self.leave(name, format!("it got or lost the output on {on}")),
                (None, Ok(values)) => groups.push(Group { name: name.clone(), part: 0.0, values }),
                (None, Err(Gap::Small)) => self.problems.push(small(name)),
                (None, Err(Gap::Rows(refused))) if named => self.problems.push(refused),
                (None, Err(Gap::Rows(refused))) => {
                    self.leave(name, refused.to_string());
                    untold += 1;
                }
                (None, Err(Gap::Withheld(why))) => {
                    self.leave(name, why);
                    untold += 1;
                }
            }
        }
        let of = groups.len() + untold;
        if number(untold) > MOST_LEFT_OUT * number(of) {
            self.problems.push(too_many(untold, of));
        }
        groups
    }

    /// When a group got or lost the output, if not after the last snapshot.
    fn moved(&self, group: &str) -> Option<NaiveDate> {
        let last = self.used.last();
        let mut moves = self.question.changed_hands.iter().filter(|(of, on)| of == group && last.is_none_or(|last| *on <= last));
        moves.next().map(|(_, on)| *on)
    }

    fn leave(&mut self, name: &str, why: String) {
        self.left_out.push(Left { what: name.to_owned(), why });
    }
}

impl Group {
    /// Its mean, as told.
    pub(super) fn mean(&self, stretch: &Stretch) -> f64 {
        average(self.of(stretch).iter().map(|value| value.told))
    }

    /// Its change, as told and between its bounds.
    pub(super) fn change(&self, from: &Stretch, to: &Stretch) -> (f64, Interval) {
        let bounds = |stretch| {
            let values = self.of(stretch);
            Interval {
                low: average(values.iter().map(|value| value.bounds.low)),
                high: average(values.iter().map(|value| value.bounds.high)),
            }
        };
        (self.mean(to) - self.mean(from), bounds(to).minus(bounds(from)))
    }

    /// Its mean number of values, where all are told and there are any.
    pub(super) fn counted(&self, stretch: &Stretch) -> Option<f64> {
        let counted: Option<Vec<f64>> = self.of(stretch).iter().map(|value| value.counted).collect();
        counted.map(|counted| average(counted.into_iter())).filter(|counted| *counted > 0.0)
    }

    fn of(&self, stretch: &Stretch) -> &[Value] {
        self.values.get(stretch.clone()).unwrap_or_default()
    }
}

/// Why a group is not told in every snapshot.
enum Gap {
    Rows(Refused),
    /// It is a number, and withheld where it is small.
    Small,
    Withheld(String),
}

/// A group's value in every snapshot.
fn group(question: &Question<'_>, used: &Used<'_>, rows: &[Rows<'_>], name: &str) -> Result<Vec<Value>, Gap> {
    let (mut values, mut untold) = (Vec::new(), Vec::new());
    for (snapshot, rows) in used.snapshots.iter().map(|one| one.snapshot).zip(rows) {
        let of_group = rows.get(name).map(Vec::as_slice).unwrap_or_default();
        let [row] = of_group else {
            return Err(Gap::Rows(Refused::Rows { group: name.to_owned(), rows: of_group.len(), snapshot: snapshot.number }));
        };
        match value(question, &snapshot.taken, row) {
            Some(value) => values.push(value),
            None => untold.push(snapshot.number),
        }
    }
    match (values.is_empty(), untold.first()) {
        (_, None) => Ok(values),
        (true, _) => Err(Gap::Withheld("it is never told".into())),
        (false, Some(_)) if question.outcome.kind == Kind::Count => Err(Gap::Small),
        (false, Some(first)) => {
            Err(Gap::Withheld(format!("it is not told in {} of {} snapshots, first in {first}", untold.len(), rows.len())))
        }
    }
}

fn value(question: &Question<'_>, taken: &Taken, row: &[Cell]) -> Option<Value> {
    let outcome = question.outcome;
    let counted = outcome.kind.counted().and_then(|counted| taken.cell(row, counted)?.number());
    Some(Value { told: taken.cell(row, &outcome.column)?.number()?, bounds: of_row(outcome, taken, row)?, counted })
}

/// The rows of a breakdown by their groups. Rows that are of no group are of no side.
fn keyed<'t>(question: &Question<'_>, breakdown: &Breakdown, taken: &'t Taken) -> Rows<'t> {
    let whole = taken.headline(question.outcome).filter(|_| breakdown.row.is_empty());
    let mut keyed = Rows::new();
    for row in taken.rows_where(&breakdown.row).filter(|row| !whole.is_some_and(|whole| std::ptr::eq(whole, *row))) {
        if let Some(key) = taken.cell(row, question.by).map(Cell::text).filter(|key| !key.is_empty()) {
            keyed.entry(key).or_default().push(row);
        }
    }
    keyed
}

fn named_wrongly(question: &Question<'_>, known: &BTreeSet<&str>) -> Vec<Refused> {
    let mut problems = Vec::new();
    if question.with.is_empty() {
        problems.push(Refused::Groups("no group with the output is named".into()));
    }
    for group in question.with.intersection(&question.without) {
        problems.push(Refused::Groups(format!("'{group}' is named on both sides")));
    }
    for group in question.with.union(&question.without).chain(question.changed_hands.iter().map(|(group, _)| group)) {
        if !known.contains(group.as_str()) {
            let known: Vec<&str> = known.iter().copied().collect();
            problems.push(Refused::Groups(format!("no row is of '{group}'; there are {}", known.join(", "))));
        }
    }
    problems
}

fn small(name: &str) -> Refused {
    Refused::Withheld(format!(
        "'{name}' is withheld in some snapshots and told in others: small numbers are what is withheld, so that leaving it out would leave out \
         how far it fell; name it on neither side, and say so"
    ))
}

fn too_many(left: usize, of: usize) -> Refused {
    let why = "what is left is no fair part of them";
    Refused::Withheld(format!("{left} of {of} groups of a side would be left out, because they are not told in every snapshot: {why}"))
}

fn left(number: u64, why: &str) -> Left {
    Left { what: format!("snapshot {number}"), why: why.into() }
}

/// The datasets that stand in every snapshot as they stood in the first: a table of areas that nobody had to change. Where every dataset
/// did, none is passed over.
fn still(snapshots: &[&Snapshot]) -> Vec<String> {
    let Some((first, rest)) = snapshots.split_first().filter(|(_, rest)| !rest.is_empty()) else { return Vec::new() };
    let sources = &first.taken.stated.sources;
    let stands = |source: &&Source| {
        let same = |other: &Source| other.name() == source.name() && other.freshness == source.freshness;
        rest.iter().all(|one| one.taken.stated.sources.iter().any(same))
    };
    let still: Vec<String> = sources.iter().filter(stands).map(Source::name).collect();
    if still.len() < sources.len() { still } else { Vec::new() }
}

/// When a dataset stood as snapshots read it.
fn freshness(snapshots: &[Dated<'_>], name: &str) -> BTreeSet<DateTime<Utc>> {
    let sources = snapshots.iter().flat_map(|one| &one.snapshot.taken.stated.sources);
    sources.filter(|source| source.name() == name).map(|source| source.freshness).collect()
}

/// By the days of their data, the newest snapshot of each.
fn dated<'s>(snapshots: &[&'s Snapshot], passed_over: &[String]) -> Vec<Dated<'s>> {
    let mut dated: Vec<Dated<'_>> = snapshots.iter().map(|snapshot| Dated { snapshot, days: snapshot.taken.days(passed_over) }).collect();
    dated.sort_by_key(|one| (one.days.oldest, one.days.newest, Reverse(one.snapshot.number)));
    dated.dedup_by_key(|one| (one.days.oldest, one.days.newest));
    dated
}

/// Of one value or more.
fn average(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / number(count)
}

#[expect(clippy::cast_precision_loss, reason = "groups and snapshots, which are few")]
fn number(of: usize) -> f64 {
    of as f64
}
