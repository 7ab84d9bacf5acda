//! What `Protect` does with the groups of one aggregate: which values are withheld, and how exactly the others are told.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use concordat_policy::disclosure::{Margins, Telling};
use concordat_policy::{Code, Disclosure, Refusal};
use concordat_protect::margins::{self, Cell};
use concordat_protect::noise::{Noise, Secret, cell_key, sum_noise};
use concordat_protect::{Behind, Spread, primary, rounding};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt64Array, new_null_array,
};
use datafusion::arrow::compute::{cast, concat, filter, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, UInt64Type};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::cast::as_int64_array;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

use super::super::contributions::Contributed;
use super::super::margins::Sets;
use super::super::shape::refuse;

/// What is applied.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Rule {
    /// How many of the input's first columns are keys.
    pub(in crate::plan) keys: usize,
    /// Of grouping sets: which of a row's keys are there. The last key is then the set's number.
    pub(in crate::plan) sets: Option<Sets>,
    pub(in crate::plan) values: Vec<Value>,
    /// The column with a group's distinct subjects.
    pub(in crate::plan) subjects: usize,
    /// The least number of distinct subjects behind a value.
    pub(in crate::plan) minimum: u32,
    pub(in crate::plan) disclosure: Disclosure,
    /// From which noise is derived.
    pub(in crate::plan) secret: Secret,
    /// The published combinations of the keys.
    pub(in crate::plan) domain: Option<RecordBatch>,
    /// The mask's name.
    pub(in crate::plan) mask: String,
}

/// One value, and where in the input stands what is behind it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Value {
    pub(in crate::plan) kind: Kind,
    pub(in crate::plan) column: usize,
    /// Its distinct contributors, of the department and identifier type that has the fewest.
    pub(in crate::plan) contributors: usize,
    /// Where a condition chose them: the distinct subjects whom it could have chosen and did not, of the identifier type that has fewer.
    pub(in crate::plan) others: Option<usize>,
    /// What they contribute: several through a link dataset, one for each way to say who contributes. None where no rule asks.
    pub(in crate::plan) contributed: Vec<usize>,
    /// Of a mean: the number of values.
    pub(in crate::plan) number: Option<usize>,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plan) enum Kind {
    /// A number of subjects: each counts once.
    Subjects,
    /// A number of rows or values, of which a subject may have several.
    Rows,
    Sum,
    Mean,
}

/// One value of every group, then of every published group that is absent.
struct Judged<'a> {
    value: &'a Value,
    numbers: Vec<Option<f64>>,
    contributed: Vec<Contributed>,
    /// Of a mean: how many values; 1 otherwise.
    over: Vec<f64>,
    withheld: Vec<bool>,
}

impl Rule {
    /// Whether some rule looks at single contributions.
    pub(in crate::plan) fn looks_at_contributions(rules: &Disclosure) -> bool {
        let Disclosure { dominance, p_percent, round_to, complement: _, homogeneous, zeros: _, margins, perturbation } = rules;
        dominance.iter().any(|rule| rule.share < 100)
            || *p_percent > 0
            || *round_to > 1
            || *homogeneous == Telling::Withheld
            || *margins == Margins::Protected
            || perturbation.is_some()
    }

    /// Protects all groups of an aggregate.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] where the result is too large for its margins to be protected.
    pub(super) fn apply(&self, groups: &RecordBatch, out: SchemaRef) -> Result<RecordBatch> {
        let absent = self.absent(groups, &out)?;
        let rows = groups.num_rows() + absent.first().map_or(0, |column| column.len());
        let keys = groups.columns().iter().take(self.keys);
        let keys: Vec<ArrayRef> = match absent.as_slice() {
            [] => keys.cloned().collect(),
            absent => keys.zip(absent).map(|(own, absent)| concat(&[own, absent])).collect::<std::result::Result<_, _>>()?,
        };
        let judged = self.values.iter().map(|value| self.judged(value, groups, rows)).collect::<Result<Vec<_>>>()?;
        let also = self.also_withheld(&keys, &judged, rows)?;
        let mut masks = vec![0u64; rows];
        let mut columns = keys.clone();
        for (position, judged) in judged.iter().enumerate() {
            let withheld: Vec<bool> = judged.withheld.iter().zip(&also).map(|(own, also)| *own || *also).collect();
            for (mask, withheld) in masks.iter_mut().zip(&withheld) {
                *mask |= u64::from(*withheld) << (self.keys + position);
            }
            columns.push(self.told(judged, groups, &withheld)?);
        }
        columns.push(Arc::new(UInt64Array::from(masks)));
        let columns = columns.iter().zip(out.fields()).map(|(column, field)| cast(column, field.data_type()));
        let all = RecordBatch::try_new(out.clone(), columns.collect::<std::result::Result<_, _>>()?)?;
        Ok(filter_record_batch(&all, &self.shown(groups, rows)?)?)
    }

    /// Which groups may be shown at all: those of the published domain, and others where they are large enough for their keys to
    /// tell nothing of one person.
    fn shown(&self, groups: &RecordBatch, rows: usize) -> Result<BooleanArray> {
        if self.keys == 0 {
            return Ok(vec![true; rows].into());
        }
        let published = match &self.domain {
            Some(domain) => {
                let known: HashSet<Vec<u8>> = rows_of(domain, self.keys, groups)?.into_iter().collect();
                rows_of(groups, self.keys, groups)?.into_iter().map(|row| known.contains(&row)).collect()
            }
            None => vec![false; groups.num_rows()],
        };
        let few = |n: Option<i64>| n.is_none_or(|n| n < i64::from(self.minimum));
        let own = int(groups, self.subjects)?.iter().zip(published).map(|(n, published)| published || !few(n));
        Ok(own.chain(std::iter::repeat(true)).take(rows).map(Some).collect())
    }

    /// The keys of the published groups that are not among `groups`; no columns where no domain is published.
    fn absent(&self, groups: &RecordBatch, out: &SchemaRef) -> Result<Vec<ArrayRef>> {
        let Some(domain) = &self.domain else { return Ok(Vec::new()) };
        let present: HashSet<Vec<u8>> = rows_of(groups, self.keys, groups)?.into_iter().collect();
        let absent: BooleanArray = rows_of(domain, self.keys, groups)?.into_iter().map(|row| Some(!present.contains(&row))).collect();
        let columns = domain.columns().iter().take(self.keys).zip(out.fields());
        columns.map(|(column, field)| Ok(cast(&filter(column, &absent)?, field.data_type())?)).collect()
    }

    /// One value by the rules that look at it alone.
    fn judged<'a>(&self, value: &'a Value, groups: &RecordBatch, rows: usize) -> Result<Judged<'a>> {
        let numbers_of = column(groups, value.column)?.data_type();
        let numbers = cast(column(groups, value.column)?, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        let (behind, others) = (int(groups, value.contributors)?, value.others.map(|others| int(groups, others)).transpose()?);
        let number = value.number.map(|number| int(groups, number)).transpose()?;
        let count = |counts: &Int64Array, row| if counts.is_null(row) { 0 } else { u64::try_from(counts.value(row)).unwrap_or(0) };
        let counted = matches!(value.kind, Kind::Subjects | Kind::Rows);
        // That everybody has one row is no secret.
        let mut rules = self.disclosure.clone();
        if counted {
            rules.homogeneous = Telling::Shown;
        }
        let nobody = Some(0.0).filter(|_| counted && rules.zeros == Telling::Shown);
        let mut judged = Judged {
            value,
            numbers: vec![nobody; rows],
            contributed: vec![Contributed::default(); rows],
            over: vec![1.0; rows],
            withheld: vec![rules.zeros == Telling::Withheld; rows],
        };
        for row in 0..groups.num_rows() {
            let behind = count(behind, row);
            let among = others.map(|others| behind.saturating_add(count(others, row)));
            let of = value.contributed.iter().map(|at| Contributed::of(column(groups, *at)?, row)).collect::<Result<Vec<_>>>()?;
            let even = value.kind == Kind::Subjects || of.is_empty();
            let spreads = of.iter().filter(|_| !even).map(|of| Some(of.spread)).chain(even.then_some(None));
            let withheld = spreads
                .map(|spread| primary::withheld(self.minimum, &rules, &Behind { subjects: behind, among, spread }))
                .any(|reason| reason.is_some());
            let withheld = withheld || !counted && of.iter().any(|of| self.few_add(&of.spread)) || !whole(numbers_of, &of);
            put(&mut judged.numbers, row, numbers.is_valid(row).then(|| numbers.value(row)));
            put(&mut judged.contributed, row, of.first().copied().unwrap_or_default());
            put(&mut judged.over, row, number.map_or(1.0, |number| count(number, row) as f64));
            put(&mut judged.withheld, row, withheld);
        }
        Ok(judged)
    }

    /// Whether too few have something of a sum or mean: who has nothing of it stands behind it as they do behind an empty group.
    fn few_add(&self, spread: &Spread) -> bool {
        let nobody_is_told = spread.nonzero == 0 && self.disclosure.zeros == Telling::Shown;
        spread.nonzero < u64::from(self.minimum) && !nobody_is_told
    }

    /// The rows that are withheld so that no withheld value can be worked out from the others and from totals.
    fn also_withheld(&self, keys: &[ArrayRef], judged: &[Judged<'_>], rows: usize) -> Result<Vec<bool>> {
        let mut also = vec![false; rows];
        if self.disclosure.margins == Margins::Open || keys.is_empty() {
            return Ok(also);
        }
        // The same set may stand in a statement twice.
        let mut places: BTreeMap<Vec<Option<u32>>, Vec<usize>> = BTreeMap::new();
        for (row, place) in self.coordinates(keys, rows)?.into_iter().enumerate() {
            places.entry(place).or_default().push(row);
        }
        let coordinates: Vec<Vec<Option<u32>>> = places.keys().cloned().collect();
        for judged in judged {
            let one = |of: &Vec<usize>| {
                let row = of.first().copied().unwrap_or(rows);
                self.cell(judged, row, also.get(row) == Some(&true))
            };
            let cells: Vec<Cell> = places.values().map(one).collect();
            let more = margins::protect(&coordinates, &cells).or_else(|too_large| {
                refuse(
                    Refusal::new(
                        Code::LimitExceeded,
                        format!("withheld values of this result could be worked out from totals: {too_large}"),
                    )
                    .advice("group by fewer columns, or by coarser ones; the agreement's rule 'margins' asks for it"),
                )
            })?;
            for row in places.values().zip(more).filter(|(_, more)| *more).flat_map(|(of, _)| of) {
                put(&mut also, *row, true);
            }
        }
        Ok(also)
    }

    /// Of every row and key: which value it has, `None` where it is a total over the key.
    fn coordinates(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<Vec<Option<u32>>>> {
        let mut coordinates = vec![Vec::new(); rows];
        let numbers =
            self.sets.as_ref().zip(keys.last()).map(|(sets, number)| Ok::<_, DataFusionError>((sets, cast(number, &DataType::UInt64)?)));
        let numbers = numbers.transpose()?;
        for (position, key) in keys.iter().take(keys.len() - usize::from(self.sets.is_some())).enumerate() {
            let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
            for (row, (of, value)) in coordinates.iter_mut().zip(bytes_of(std::slice::from_ref(key))?).enumerate() {
                let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
                let total = numbers
                    .as_ref()
                    .is_some_and(|(sets, number)| sets.leaves_out(number.as_primitive::<UInt64Type>().value(row), position));
                of.push((!total).then(|| *known.entry(value).or_insert(next)));
            }
        }
        Ok(coordinates)
    }

    /// A value as a part of totals: of a mean, its sum.
    fn cell(&self, judged: &Judged<'_>, row: usize, also: bool) -> Cell {
        let at = |numbers: &[f64]| numbers.get(row).copied().unwrap_or(1.0);
        let of = judged.contributed.get(row).copied().unwrap_or_default().spread;
        let unit = self.unit(judged.value.kind, &of, at(&judged.over)).unwrap_or(0.0);
        Cell {
            value: judged.numbers.get(row).copied().flatten().unwrap_or(0.0) * at(&judged.over),
            // Noise would hide more: it is not counted on.
            half: unit * at(&judged.over) / 2.0,
            nonnegative: matches!(judged.value.kind, Kind::Subjects | Kind::Rows) || of.lowest >= 0.0,
            withheld: also || judged.withheld.get(row).copied().unwrap_or(true),
        }
    }

    /// To multiples of what a value is rounded; `None` for not at all.
    fn unit(&self, kind: Kind, spread: &Spread, over: f64) -> Option<f64> {
        let base = self.disclosure.round_to;
        // The noise of a sum is its count's, in mean contributions: told exactly, one divided by the other would be without it, and a sum
        // divided by its mean the exact number of values.
        let coarser = base.max(self.disclosure.perturbation.map_or(0, |noise| noise.most));
        match kind {
            Kind::Subjects | Kind::Rows if base <= 1 => None,
            Kind::Subjects => Some(f64::from(base)),
            // Of several rows of each subject, more coarsely.
            Kind::Rows => Some(rounding::sum_unit(base, spread).unwrap_or(0.0).max(f64::from(base))),
            Kind::Sum => rounding::sum_unit(coarser, spread),
            Kind::Mean => rounding::mean_unit(coarser, spread, over as u64),
        }
    }

    /// The values as they are told: nothing where withheld, the others with noise and rounded, as the agreement asks.
    fn told(&self, judged: &Judged<'_>, groups: &RecordBatch, withheld: &[bool]) -> Result<ArrayRef> {
        let exact = column(groups, judged.value.column)?;
        let noise = self.disclosure.perturbation.map(Noise::new);
        let shift = |row: usize| -> f64 {
            let (Some(noise), Some(of)) = (&noise, judged.contributed.get(row).filter(|of| of.spread.nonzero > 0)) else { return 0.0 };
            let noise = noise.of(cell_key(&self.secret, of.keys, of.spread.nonzero));
            if judged.value.kind == Kind::Subjects { noise as f64 } else { sum_noise(noise, &of.spread) }
        };
        let unit = |row: usize| {
            let of = judged.contributed.get(row)?;
            self.unit(judged.value.kind, &of.spread, judged.over.get(row).copied()?)
        };
        let rows = withheld.iter().enumerate();
        let some = |row: usize| judged.numbers.get(row).copied().flatten();
        Ok(match exact.data_type() {
            DataType::Int64 => {
                let exact = exact.as_primitive::<Int64Type>();
                let one = |(row, withheld): (usize, &bool)| -> Option<i64> {
                    let value = if row < exact.len() { exact.is_valid(row).then(|| exact.value(row)) } else { some(row).map(|_| 0) };
                    let mut value = value.filter(|_| !withheld)?.saturating_add(shift(row).round() as i64);
                    if matches!(judged.value.kind, Kind::Subjects | Kind::Rows) {
                        value = value.max(0);
                    }
                    Some(unit(row).map_or(value, |unit| rounding::whole_to_unit(value, unit)))
                };
                Arc::new(rows.map(one).collect::<Int64Array>())
            }
            DataType::Float64 => {
                let one = |(row, withheld): (usize, &bool)| -> Option<f64> {
                    let over = judged.over.get(row).copied().unwrap_or(1.0).max(1.0);
                    let value = some(row).filter(|_| !withheld)? + shift(row) / over;
                    Some(unit(row).map_or(value, |unit| rounding::to_unit(value, unit)))
                };
                Arc::new(rows.map(one).collect::<Float64Array>())
            }
            // A sum over nothing but NULL literals.
            DataType::Null => new_null_array(&DataType::Null, withheld.len()),
            other => return Err(internal_datafusion_err!("a value of the type {other}, which is not protected")),
        })
    }
}

/// Whether whole numbers were added without passing what 64 bits hold.
fn whole(kind: &DataType, of: &[Contributed]) -> bool {
    *kind != DataType::Int64 || of.iter().all(|of| of.spread.absolute < 9e18)
}

fn put<T>(all: &mut [T], row: usize, value: T) {
    if let Some(place) = all.get_mut(row) {
        *place = value;
    }
}

fn column(batch: &RecordBatch, at: usize) -> Result<&ArrayRef> {
    batch.columns().get(at).ok_or_else(|| internal_datafusion_err!("Protect lacks a column"))
}

fn int(batch: &RecordBatch, at: usize) -> Result<&Int64Array> {
    as_int64_array(column(batch, at)?)
}

/// The first `keys` columns of `batch`, cast to the types of `like`, as comparable bytes.
fn rows_of(batch: &RecordBatch, keys: usize, like: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let columns = batch.columns().iter().zip(like.columns()).take(keys);
    bytes_of(&columns.map(|(own, like)| cast(own, &plain(like.data_type()))).collect::<std::result::Result<Vec<_>, _>>()?)
}

fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        other => other.clone(),
    }
}

/// Each row of `columns` as comparable bytes.
fn bytes_of(columns: &[ArrayRef]) -> Result<Vec<Vec<u8>>> {
    let columns = columns.iter().map(|column| cast(column, &plain(column.data_type()))).collect::<std::result::Result<Vec<_>, _>>()?;
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&columns).map_err(DataFusionError::from)?;
    Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
}
