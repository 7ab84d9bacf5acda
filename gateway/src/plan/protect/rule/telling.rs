//! How exactly a value is told: its noise, and to multiples of what it is rounded.
//!
//! Through a link dataset a value rests on subjects of two types, and each of them could be told of by it: it is rounded by the type for
//! which that is coarser, and has the noise of both, whose variances add up.

use std::sync::Arc;

use concordat_protect::noise::{Noise, cell_key, sum_noise};
use concordat_protect::{Spread, rounding};
use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, Float64Array, Int64Array, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, internal_datafusion_err};

use super::super::super::contributions::Contributed;
use super::{Judged, Kind, Rule, column};

impl Rule {
    /// What is contributed, by the identifier type by which a value is told most coarsely.
    pub(super) fn coarsest(&self, kind: Kind, of: &[Contributed]) -> Contributed {
        let unit = |of: &Contributed| self.unit(kind, &of.spread).unwrap_or(0.0);
        of.iter().copied().max_by(|one, other| unit(one).total_cmp(&unit(other))).unwrap_or_default()
    }

    /// The noise of a value.
    pub(super) fn shift(&self, noise: Option<&Noise>, kind: Kind, of: &[Contributed]) -> f64 {
        let Some(noise) = noise else { return 0.0 };
        let one = |of: &Contributed| {
            let by = |keys| noise.of(cell_key(&self.secret, keys, of.spread.nonzero));
            match kind {
                _ if of.spread.nonzero == 0 => 0.0,
                Kind::Subjects => by(of.people) as f64,
                _ => sum_noise(by(of.people), by(of.contributions), &of.spread),
            }
        };
        of.iter().map(one).sum()
    }

    /// To multiples of what a value is rounded, of a mean its sum; `None` for not at all.
    pub(super) fn unit(&self, kind: Kind, spread: &Spread) -> Option<f64> {
        let base = self.disclosure.round_to;
        // The noise of a sum is its count's, in mean contributions: told exactly, one divided by the other would be without it.
        let coarser = base.max(self.disclosure.perturbation.map_or(0, |noise| noise.most));
        match kind {
            Kind::Subjects | Kind::Rows if base <= 1 => None,
            Kind::Subjects => Some(f64::from(base)),
            // Of several rows of each subject, more coarsely.
            Kind::Rows => Some(rounding::sum_unit(base, spread).unwrap_or(0.0).max(f64::from(base))),
            Kind::Sum | Kind::Mean => rounding::sum_unit(coarser, spread),
        }
    }

    /// To multiples of what the value of a group is rounded.
    pub(super) fn unit_of(&self, judged: &Judged<'_>, row: usize) -> Option<f64> {
        self.unit(judged.value.kind, &judged.contributed.get(row)?.spread)
    }

    /// The values as they are told: nothing where withheld, the others with noise and rounded, as the agreement asks; a mean as what is
    /// told of its sum by what is told of the number of values.
    pub(super) fn told(&self, judged: &Judged<'_>, groups: &RecordBatch, withheld: &[bool]) -> Result<ArrayRef> {
        let exact = column(groups, judged.value.column)?;
        let kind = judged.value.kind;
        let shift = |row: usize| judged.shift_of(row);
        let unit = |row: usize| self.unit_of(judged, row);
        let rows = withheld.iter().enumerate();
        let some = |row: usize| judged.numbers.get(row).copied().flatten();
        Ok(match exact.data_type() {
            DataType::Int64 => {
                let exact = exact.as_primitive::<Int64Type>();
                let one = |(row, withheld): (usize, &bool)| -> Option<i64> {
                    let value = if row < exact.len() { exact.is_valid(row).then(|| exact.value(row)) } else { some(row).map(|_| 0) };
                    let value = value.filter(|_| !withheld)?;
                    Some(match kind {
                        Kind::Subjects | Kind::Rows => told_count(value, shift(row), unit(row)),
                        Kind::Sum | Kind::Mean => told_whole(value, shift(row), unit(row)),
                    })
                };
                Arc::new(rows.map(one).collect::<Int64Array>())
            }
            DataType::Float64 => {
                let exact = exact.as_primitive::<Float64Type>();
                let one = |(row, withheld): (usize, &bool)| -> Option<f64> {
                    let value = (row < exact.len() && exact.is_valid(row) && !withheld).then(|| exact.value(row))?;
                    let (shift, unit) = (shift(row), unit(row));
                    // As of whole numbers, whose mean must not tell another sum than their sum is told.
                    let shift = if unit.is_some_and(|unit| unit >= 1.0) { shift.round() } else { shift };
                    let told = unit.map_or(value + shift, |unit| rounding::to_unit(value + shift, unit));
                    Some(judged.number.as_ref().map_or(told, |number| {
                        let unit = self.unit_of(number, row);
                        rounding::mean(told, told_count(number.total(row) as i64, number.shift_of(row), unit) as f64, unit)
                    }))
                };
                Arc::new(rows.map(one).collect::<Float64Array>())
            }
            // A sum over nothing but NULL literals.
            DataType::Null => new_null_array(&DataType::Null, withheld.len()),
            other => return Err(internal_datafusion_err!("a value of the type {other}, which is not protected")),
        })
    }
}

impl Judged<'_> {
    /// A group's value as it adds up: of a mean, its sum.
    pub(super) fn total(&self, row: usize) -> f64 {
        self.numbers.get(row).copied().flatten().unwrap_or(0.0)
    }

    pub(super) fn shift_of(&self, row: usize) -> f64 {
        self.shift.get(row).copied().unwrap_or(0.0)
    }
}

/// A whole sum as it is told.
fn told_whole(exact: i64, shift: f64, unit: Option<f64>) -> i64 {
    let value = exact.saturating_add(shift.round() as i64);
    unit.map_or(value, |unit| rounding::whole_to_unit(value, unit))
}

/// A count as it is told: never less than nobody.
pub(super) fn told_count(exact: i64, shift: f64, unit: Option<f64>) -> i64 {
    told_whole(exact.saturating_add(shift.round() as i64).max(0), 0.0, unit)
}
