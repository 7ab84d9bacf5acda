//! Whether one value of one group may be told, by the rules that look at it alone: by what stands behind it, behind what its conditions
//! leave over and, of a mean, behind the number of values.

use concordat_policy::Disclosure;
use concordat_policy::disclosure::Telling;
use concordat_protect::noise::Noise;
use concordat_protect::{Behind, Spread, primary};
use datafusion::arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result;

use super::super::super::contributions::Contributed;
use super::{Judged, Kind, Rest, Rule, Value, column, int, put};

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
            shift: vec![0.0; rows],
            number: None,
            withheld: vec![self.disclosure.zeros == Telling::Withheld; rows],
            few: vec![self.disclosure.zeros == Telling::Withheld; rows],
        };
        for row in 0..groups.num_rows() {
            let subjects = count(behind, row);
            let of = found(groups, &value.contributed, row)?;
            let withheld = self.withheld(value.kind, subjects, &of, primary::withheld)
                || self.rest_withheld(value.kind, groups, &value.rests, row)?
                || !whole(numbers_of, &of)
                || number.as_ref().is_some_and(|number| number.withheld.get(row) != Some(&false));
            put(&mut judged.numbers, row, numbers.is_valid(row).then(|| numbers.value(row)));
            put(&mut judged.contributed, row, self.coarsest(value.kind, &of));
            put(&mut judged.shift, row, self.shift(noise.as_ref(), value.kind, &of));
            put(&mut judged.withheld, row, withheld);
            put(&mut judged.few, row, self.few(value.kind, subjects, &of));
        }
        Ok(Judged { number: number.map(Box::new), ..judged })
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

    /// Whether a value is withheld for being of few subjects, or of nobody, whatever else is withheld of it.
    fn few(&self, kind: Kind, subjects: u64, of: &[Contributed]) -> bool {
        primary::withheld(self.minimum, &self.disclosure, &Behind { subjects, spread: None }) == Some(primary::Reason::Few)
            || !kind.counted() && of.iter().any(|of| self.few_add(&of.spread))
    }

    /// Whether a value is withheld for the sake of what its conditions leave over.
    fn rest_withheld(&self, kind: Kind, groups: &RecordBatch, rests: &[Rest], row: usize) -> Result<bool> {
        if self.disclosure.complement == Telling::Shown {
            return Ok(false);
        }
        for rest in rests {
            let (others, of) = (count(int(groups, rest.others)?, row), found(groups, &rest.contributed, row)?);
            if self.withheld(kind, others, &of, primary::rest_withheld) {
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
fn found(groups: &RecordBatch, columns: &[usize], row: usize) -> Result<Vec<Contributed>> {
    columns.iter().map(|at| Contributed::of(column(groups, *at)?, row)).collect()
}

fn count(counts: &Int64Array, row: usize) -> u64 {
    if counts.is_null(row) { 0 } else { u64::try_from(counts.value(row)).unwrap_or(0) }
}

/// Whether whole numbers were added without passing what 64 bits hold.
fn whole(kind: &DataType, of: &[Contributed]) -> bool {
    *kind != DataType::Int64 || of.iter().all(|of| of.spread.absolute < 9e18)
}
