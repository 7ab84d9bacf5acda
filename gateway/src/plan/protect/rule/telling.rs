//! How exactly a value is told: its noise, and in which units (`protect/src/units.rs`).
//!
//! Through a link dataset a value rests on subjects of two types, and each of them could be told of by it. A sum or mean is told in units of
//! the type for which that is coarser, a number of rows of the other, as a number of people is; both have the noise of both, whose variances
//! add up.

use std::sync::Arc;

use concordat_protect::noise::{Noise, cell_key, of_contributions};
use concordat_protect::units::{Coarseness, Parts, Shift};
use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, Float64Array, Int64Array, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, internal_datafusion_err};

use super::super::super::contributions::Contributed;
use super::{Judged, Kind, Rule, column};

impl Rule {
    /// How coarsely numbers and means are told. The noise of a sum is its count's, in mean contributions: a mean that is told exactly would be
    /// without it.
    fn coarseness(&self) -> Coarseness {
        let base = self.disclosure.round_to;
        Coarseness { base, of_mean: base.max(self.disclosure.perturbation.map_or(0, |noise| noise.most)) }
    }

    /// What is told of a value that is `sum` exactly, of a mean of its sum; `None` for the value as it is.
    pub(super) fn parts(&self, noise: Option<&Noise>, kind: Kind, of: &[Contributed], sum: f64) -> Option<Parts> {
        let told = if kind.counted() { finest(of) } else { coarsest(of) };
        let key = |keys: u64, of: &Contributed| cell_key(&self.secret, keys, of.spread.nonzero);
        let number = |of: &Contributed| noise.filter(|_| of.spread.nonzero > 0).map_or(0, |noise| noise.of(key(of.people, of)));
        let people = number(&told);
        if kind == Kind::Subjects {
            let parts = Parts::new(self.coarseness(), &told.spread, sum, Shift { people, sum: 0.0 })?;
            // Each counts once, also who stands beside several of another type.
            return Some(Parts { each: 1.0, unit: 0.0, ..parts });
        }
        let own = |of: &Contributed| {
            noise.map_or(0.0, |noise| of_contributions(noise, &self.secret, of.most, key(of.contributions, of), &of.spread))
        };
        // Of the other types, of which the number is not told.
        let all: f64 = of.iter().map(|of| number(of) as f64 * size(of)).sum();
        let shift = all - people as f64 * size(&told) + of.iter().map(own).sum::<f64>();
        // There are no fewer rows than none.
        let shift = if kind.counted() { shift.max(-sum) } else { shift };
        Parts::new(self.coarseness(), &told.spread, sum, Shift { people, sum: shift })
    }

    /// The values as they are told: nothing where withheld, the others with noise and rounded, as the agreement asks; a mean as what is
    /// told of its sum by what is told of the number of values.
    pub(super) fn told(&self, judged: &Judged<'_>, groups: &RecordBatch, withheld: &[bool]) -> Result<ArrayRef> {
        let exact = column(groups, judged.value.column)?;
        let rows = withheld.iter().enumerate();
        let some = |row: usize| judged.numbers.get(row).copied().flatten();
        Ok(match exact.data_type() {
            DataType::Int64 => {
                let exact = exact.as_primitive::<Int64Type>();
                let one = |(row, withheld): (usize, &bool)| -> Option<i64> {
                    let value = if row < exact.len() { exact.is_valid(row).then(|| exact.value(row)) } else { some(row).map(|_| 0) };
                    let value = value.filter(|_| !withheld)?;
                    Some(judged.parts_of(row).map_or(value, |parts| parts.whole()))
                };
                Arc::new(rows.map(one).collect::<Int64Array>())
            }
            DataType::Float64 => {
                let exact = exact.as_primitive::<Float64Type>();
                let one = |(row, withheld): (usize, &bool)| -> Option<f64> {
                    let value = (row < exact.len() && exact.is_valid(row) && !withheld).then(|| exact.value(row))?;
                    let told = judged.parts_of(row);
                    Some(match &judged.number {
                        None => told.map_or(value, |told| told.value()),
                        Some(number) => mean(told, value, number.parts_of(row), number.total(row)),
                    })
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

    /// What is told of a group; `None` where that is its value as it is.
    pub(super) fn parts_of(&self, row: usize) -> Option<Parts> {
        self.parts.get(row).copied().flatten()
    }
}

/// A mean as it is told: of a sum and a number of values, each as it is told or, where that is the same, as it is.
fn mean(told: Option<Parts>, sum: f64, told_number: Option<Parts>, number: f64) -> f64 {
    match (told, told_number) {
        (Some(sum), Some(number)) => sum.by(&number),
        // Zero has no sign: it would tell on which side the sum is.
        _ => told.map_or(sum, |told| told.value()) / told_number.map_or(number, |told| told.value()).max(1.0) + 0.0,
    }
}

/// What each contributes in the mean, by size.
fn size(of: &Contributed) -> f64 {
    of.spread.absolute / (of.spread.nonzero as f64).max(1.0)
}

/// What is contributed, by the identifier type of which each contributes least: by people rather than by their firms. A number of rows is told
/// by it as a number of people is: in units of firms, of another size for each choice of rows, several together would tell how many people
/// there are.
fn finest(of: &[Contributed]) -> Contributed {
    of.iter().copied().min_by(|one, other| size(one).total_cmp(&size(other))).unwrap_or_default()
}

/// What is contributed, by the identifier type of which each contributes most: by it a value is told most coarsely.
pub(super) fn coarsest(of: &[Contributed]) -> Contributed {
    of.iter().copied().max_by(|one, other| size(one).total_cmp(&size(other))).unwrap_or_default()
}
