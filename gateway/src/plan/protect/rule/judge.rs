//! Whether one value of one group may be told, by the rules that look at it alone: by what stands behind it, behind what its conditions
//! leave over and, of a mean, behind the number of values.
//!
//! Under noise whether there are enough subjects is decided by their noisy numbers, of the rest too: an exact comparison beside a noisy
//! number tells the exact one where it is near the minimum. Of each department that a value of a full join could be of, and of firms that a
//! condition left over, exact numbers are compared even so: there is no noisy number of them that anybody is told, and each department knows
//! its own.

use concordat_policy::Disclosure;
use concordat_policy::disclosure::Telling;
use concordat_protect::kinds::{People, Stand, told};
use concordat_protect::noise::{self, Noise, cell_key};
use concordat_protect::{Behind, Spread, primary};
use datafusion::arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result;

use super::super::super::contributions::Contributed;
use super::super::super::kinds;
use super::super::bounds::Bounds;
use super::telling::coarsest;
use super::{Condition, Judged, Kind, Rest, Rule, Value, column, int, put};

/// How a rule looks at what is behind a value, or behind what was left over.
type Judge = fn(u32, &Disclosure, &Behind) -> Option<primary::Reason>;

impl Rule {
    /// One value by the rules that look at it alone.
    pub(super) fn judged<'a>(&self, value: &'a Value, groups: &RecordBatch, rows: usize) -> Result<Judged<'a>> {
        let numbers_of = column(groups, value.column)?.data_type();
        let numbers = cast(column(groups, value.column)?, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        let behind = int(groups, value.contributors)?;
        let number = value.number.as_ref().map(|number| self.judged(number, groups, rows)).transpose()?;
        let counted = value.kind.counted();
        let noise = self.disclosure.perturbation.map(Noise::new);
        let nobody = Some(0.0).filter(|_| counted && self.disclosure.zeros == Telling::Shown);
        let mut judged = Judged {
            value,
            numbers: vec![nobody; rows],
            contributed: vec![Contributed::default(); rows],
            parts: vec![None; rows],
            number: None,
            withheld: vec![self.disclosure.zeros == Telling::Withheld; rows],
            alone: vec![self.disclosure.zeros == Telling::Withheld; rows],
            as_sum: vec![self.disclosure.zeros == Telling::Withheld; rows],
            few: vec![self.disclosure.zeros == Telling::Withheld; rows],
        };
        for row in 0..groups.num_rows() {
            let subjects = count(behind, row);
            let of = found(groups, &value.contributed, row)?;
            let through = found(groups, &value.through, row)?;
            let few = self.few(noise.as_ref(), value.kind, subjects, &of) || self.few_through(noise.as_ref(), &through);
            let as_sum = few
                || self.withheld(value.kind, subjects, &of, primary::withheld)
                || self.uneven(subjects, &through)
                || self.rest_withheld(noise.as_ref(), value.kind, groups, &value.rests, row)?
                || !whole(numbers_of, &of);
            let withheld = as_sum || number.as_ref().is_some_and(|number| number.withheld.get(row) != Some(&false));
            put(&mut judged.numbers, row, numbers.is_valid(row).then(|| numbers.value(row)));
            put(&mut judged.contributed, row, coarsest(&of));
            let parts = self.parts(noise.as_ref(), value.kind, &of, judged.total(row));
            put(&mut judged.parts, row, parts);
            put(&mut judged.withheld, row, withheld);
            put(&mut judged.alone, row, withheld);
            put(&mut judged.as_sum, row, as_sum);
            put(&mut judged.few, row, few);
        }
        Ok(Judged { number: number.map(Box::new), ..judged })
    }

    /// Withholds values that tell of too few beside each other, by what their conditions leave over between them and together; where there
    /// is no more time, all but the first of each row that is left. A number of values that no condition chooses is judged after those
    /// that some do, and not where nobody of the group lacks a value: it is then as a number of rows.
    pub(super) fn withhold_together(&self, judged: &mut [Judged<'_>], groups: &RecordBatch, bounds: &Bounds) -> Result<()> {
        if self.kinds.is_empty() || self.disclosure.complement == Telling::Shown {
            return Ok(());
        }
        let noise = self.disclosure.perturbation.map(Noise::new);
        let enough =
            |people: People| people.number >= u64::from(self.minimum) && self.enough_of(noise.as_ref(), people.keys, people.number);
        let beside = |one: &Condition| self.values.iter().map(|other| other.condition.as_ref().map(|other| one.stand(other))).collect();
        let stands: Vec<Vec<Option<Stand>>> =
            self.values.iter().map(|value| value.condition.as_ref().map(beside).unwrap_or_default()).collect();
        let stand = |one: u32, other: u32| {
            let [one, other] = [one, other].map(|value| usize::try_from(value).ok());
            one.and_then(|one| stands.get(one)).zip(other).and_then(|(of, other)| *of.get(other)?).unwrap_or_default()
        };
        for row in 0..groups.num_rows() {
            let mut kinds = self.kinds.iter().map(|at| kinds::found(column(groups, *at)?, row)).collect::<Result<Vec<_>>>()?;
            // Of a full join: who has nobody in the group fills nothing up.
            kinds.retain(|kinds| kinds.iter().next().is_some());
            let would_be = |plain: bool| {
                let stands = move |judged: &Judged<'_>| {
                    let condition = judged.value.condition.as_ref();
                    condition.is_some_and(|of| of.is_plain() == plain) && judged.withheld.get(row) == Some(&false)
                };
                (0..).zip(&*judged).filter(move |(_, judged)| stands(judged)).map(|(value, _)| value)
            };
            let some_lack = |value: &u32| !kinds.iter().all(|kinds| kinds.all_meet(*value));
            let would_be: Vec<u32> = would_be(false).chain(would_be(true).filter(some_lack)).collect();
            let told = told(&kinds, &would_be, stand, enough, || !bounds.left().is_zero());
            let withheld = |value: &u32| would_be.contains(value) && !told.contains(value);
            for (_, judged) in (0..).zip(&mut *judged).filter(|(value, _)| withheld(value)) {
                put(&mut judged.withheld, row, true);
            }
        }
        Ok(())
    }

    /// Whether a value, or the rest of one, is withheld that rests on so many subjects, who contribute `of`.
    fn withheld(&self, kind: Kind, subjects: u64, of: &[Contributed], judge: Judge) -> bool {
        let mut rules = self.disclosure.clone();
        let counted = kind.counted();
        // That everybody has one row is no secret.
        if counted {
            rules.homogeneous = Telling::Shown;
        }
        let once = kind == Kind::Subjects || of.is_empty();
        let spreads = of.iter().filter(|_| !once).map(|of| Some(of.spread)).chain(once.then_some(None));
        spreads.map(|spread| judge(self.minimum, &rules, &Behind { subjects, spread })).any(|reason| reason.is_some())
            || !counted && of.iter().any(|of| self.few_add(&of.spread))
    }

    /// Whether a value, of which subjects of another identifier type have so much each, tells what a few of these have: nearly all of a firm's
    /// people, if most people work there. Whoever has none of that type counts for nothing here: by another number he is taken away.
    pub(super) fn uneven(&self, subjects: u64, through: &[Contributed]) -> bool {
        let of = |of: &Contributed| Behind { subjects: subjects.max(u64::from(self.minimum)), spread: Some(of.spread) };
        through.iter().any(|spread| primary::withheld(self.minimum, &self.disclosure, &of(spread)) == Some(primary::Reason::Dominated))
    }

    /// Whether subjects of another identifier type are, with noise, too few, but any. Without noise exact numbers are compared elsewhere.
    pub(super) fn few_through(&self, noise: Option<&Noise>, through: &[Contributed]) -> bool {
        through.iter().any(|of| of.spread.nonzero > 0 && !self.enough_of(noise, of.people, of.spread.nonzero))
    }

    /// Whether a value is withheld for being of few subjects, or of nobody, whatever else is withheld of it.
    fn few(&self, noise: Option<&Noise>, kind: Kind, subjects: u64, of: &[Contributed]) -> bool {
        primary::withheld(self.minimum, &self.disclosure, &Behind { subjects, spread: None }) == Some(primary::Reason::Few)
            || !kind.counted() && of.iter().any(|of| self.few_add(&of.spread))
            || of.iter().any(|of| !self.enough(noise, of))
    }

    /// Whether so many contribute, with noise, that it may be told of them.
    pub(super) fn enough(&self, noise: Option<&Noise>, of: &Contributed) -> bool {
        let nobody_is_told = of.spread.nonzero == 0 && self.disclosure.zeros == Telling::Shown;
        nobody_is_told || self.enough_of(noise, of.people, of.spread.nonzero)
    }

    /// The same of subjects with these keys. Without noise exact numbers are compared elsewhere.
    fn enough_of(&self, noise: Option<&Noise>, keys: u64, subjects: u64) -> bool {
        noise.is_none_or(|noise| noise::enough(self.minimum, noise.most(), subjects, noise.of(cell_key(&self.secret, keys, subjects))))
    }

    /// Whether enough subjects are left over, with noise: the same as a question for just them would have.
    pub(super) fn rest_enough(&self, noise: Option<&Noise>, could: &[Contributed], chosen: &[Contributed]) -> bool {
        could.iter().zip(chosen).all(|(could, chosen)| {
            let left = could.spread.nonzero.saturating_sub(chosen.spread.nonzero);
            self.enough_of(noise, could.people.wrapping_sub(chosen.people), left)
        })
    }

    /// Whether a value is withheld for the sake of what its conditions leave over.
    fn rest_withheld(&self, noise: Option<&Noise>, kind: Kind, groups: &RecordBatch, rests: &[Rest], row: usize) -> Result<bool> {
        if self.disclosure.complement == Telling::Shown {
            return Ok(false);
        }
        for rest in rests {
            let (others, of) = (count(int(groups, rest.others)?, row), found(groups, &rest.contributed, row)?);
            let (could, chosen) = (found(groups, &rest.could, row)?, found(groups, &rest.chosen, row)?);
            let noisy = self.rest_enough(noise, &could, &chosen) && (kind.counted() || of.iter().all(|of| self.enough(noise, of)));
            if !noisy || self.withheld(kind, others, &of, primary::rest_withheld) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether too few have something of a sum or mean: who has nothing of it stands behind it as they do behind an empty group.
    fn few_add(&self, spread: &Spread) -> bool {
        let nobody_is_told = spread.nonzero == 0 && self.disclosure.zeros == Telling::Shown;
        spread.nonzero < u64::from(self.minimum) && !nobody_is_told
    }
}

/// What the aggregates found for the group of `row`.
pub(super) fn found(groups: &RecordBatch, columns: &[usize], row: usize) -> Result<Vec<Contributed>> {
    columns.iter().map(|at| Contributed::of(column(groups, *at)?, row)).collect()
}

fn count(counts: &Int64Array, row: usize) -> u64 {
    if counts.is_null(row) { 0 } else { u64::try_from(counts.value(row)).unwrap_or(0) }
}

/// Whether whole numbers were added without passing what 64 bits hold.
fn whole(kind: &DataType, of: &[Contributed]) -> bool {
    *kind != DataType::Int64 || of.iter().all(|of| of.spread.absolute < 9e18)
}
