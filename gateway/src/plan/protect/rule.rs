//! What `Protect` does with the groups of one aggregate: which values are withheld, and how exactly the others are told.

mod judge;
mod stand;
mod telling;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::HashSet;
use std::sync::Arc;

use concordat_policy::Disclosure;
use concordat_policy::disclosure::{Margins, Telling};
use concordat_protect::noise::{Noise, Secret};
use concordat_protect::units::Parts;
use datafusion::arrow::array::{Array as _, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{cast, concat, filter, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::cast::as_int64_array;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

use super::super::contributions::Contributed;
use super::super::margins::Sets;
use super::bounds::Bounds;

pub(in crate::plan) use self::stand::Condition;

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
    /// Under noise: their keys, of their own identifier type and, through a link dataset, of those of the other who are of it.
    pub(in crate::plan) known: Vec<usize>,
    /// Of several conditions: its subjects by which of them each meets, of the value at place n bit n, counted in each way in which they
    /// must be enough.
    pub(in crate::plan) kinds: Vec<usize>,
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
    /// Of a mean, its sum: what is told of it is divided by what is told of their number.
    pub(in crate::plan) column: usize,
    /// Its distinct contributors, of the department and identifier type that has the fewest.
    pub(in crate::plan) contributors: usize,
    /// What they contribute: several through a link dataset, one for each way to say who contributes. None where no rule asks.
    pub(in crate::plan) contributed: Vec<usize>,
    /// Through a link dataset: how it is spread over subjects of the other identifier type, of rows that have one.
    pub(in crate::plan) through: Vec<usize>,
    /// What its conditions leave over.
    pub(in crate::plan) rests: Vec<Rest>,
    /// Of a mean: the number of values, judged and told as a number of rows.
    pub(in crate::plan) number: Option<Box<Value>>,
    /// Under which conditions it stands.
    pub(in crate::plan) condition: Option<Condition>,
    /// Whether whole numbers are added up, or counted.
    pub(in crate::plan) whole: bool,
}

/// What a condition leaves over, and where in the input stands what is behind that.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Rest {
    /// The distinct subjects whom it could have chosen and did not, of the department and identifier type that has the fewest.
    pub(in crate::plan) others: usize,
    /// What was not chosen of subjects, of these and of chosen ones, as [`Value::contributed`].
    pub(in crate::plan) contributed: Vec<usize>,
    /// Under noise: the keys of the subjects whom it could have chosen, and of those whom it chose.
    pub(in crate::plan) could: Vec<usize>,
    pub(in crate::plan) chosen: Vec<usize>,
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

impl Kind {
    /// Whether it is a number of something.
    fn counted(self) -> bool {
        matches!(self, Self::Subjects | Self::Rows)
    }
}

/// One value of every group, then of every published group that is absent.
struct Judged<'a> {
    value: &'a Value,
    /// Of a mean, its sum.
    numbers: Vec<Option<f64>>,
    /// Through a link dataset, by the identifier type by which it is told most coarsely.
    contributed: Vec<Contributed>,
    /// What is told of it; `None` where that is the value as it is.
    parts: Vec<Option<Parts>>,
    /// Of a mean: its number of values.
    number: Option<Box<Self>>,
    withheld: Vec<bool>,
    /// The same, were there no conditions of others beside its own.
    alone: Vec<bool>,
    /// Of a mean: withheld whatever its number of values is, as its sum would be.
    as_sum: Vec<bool>,
    /// Withheld for being of few, or of nobody.
    few: Vec<bool>,
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
    /// [`LimitExceeded`](concordat_policy::Code::LimitExceeded) where the result is too large for its margins to be protected, and where
    /// there is no memory for that.
    pub(super) fn apply(&self, groups: &RecordBatch, out: SchemaRef, bounds: &Bounds) -> Result<RecordBatch> {
        let absent = self.absent(groups, &out)?;
        let rows = groups.num_rows() + absent.first().map_or(0, |column| column.len());
        let keys = groups.columns().iter().take(self.keys);
        let keys: Vec<ArrayRef> = match absent.as_slice() {
            [] => keys.cloned().collect(),
            absent => keys.zip(absent).map(|(own, absent)| concat(&[own, absent])).collect::<std::result::Result<_, _>>()?,
        };
        let mut judged = self.values.iter().map(|value| self.judged(value, groups, rows)).collect::<Result<Vec<_>>>()?;
        self.withhold_together(&mut judged, groups, bounds)?;
        let shown = self.shown(groups, rows)?;
        let also = self.also_withheld(&keys, &judged, &shown, bounds)?;
        let mut masks = vec![0u64; rows];
        let mut columns = keys.clone();
        for (position, judged) in judged.iter().enumerate() {
            let withheld: Vec<bool> =
                judged.withheld.iter().zip(totals::of(&also, judged.value.kind)).map(|(own, also)| *own || *also).collect();
            for (mask, withheld) in masks.iter_mut().zip(&withheld) {
                *mask |= u64::from(*withheld) << (self.keys + position);
            }
            columns.push(self.told(judged, groups, &withheld)?);
        }
        columns.push(Arc::new(UInt64Array::from(masks)));
        let columns = columns.iter().zip(out.fields()).map(|(column, field)| cast(column, field.data_type()));
        let all = RecordBatch::try_new(out.clone(), columns.collect::<std::result::Result<_, _>>()?)?;
        Ok(filter_record_batch(&all, &shown)?)
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
        let noise = self.disclosure.perturbation.map(Noise::new);
        let mut shown = vec![true; rows];
        for (row, (n, published)) in int(groups, self.subjects)?.iter().zip(published).enumerate() {
            let known = judge::found(groups, &self.known, row)?;
            let few = n.is_none_or(|n| n < i64::from(self.minimum)) || known.first().is_some_and(|of| !self.enough(noise.as_ref(), of));
            let few = few || self.few_through(noise.as_ref(), known.get(1..).unwrap_or_default());
            put(&mut shown, row, published || !few);
        }
        Ok(shown.into())
    }

    /// The keys of the published groups that are not among `groups`; no columns where no domain is published.
    fn absent(&self, groups: &RecordBatch, out: &SchemaRef) -> Result<Vec<ArrayRef>> {
        let Some(domain) = &self.domain else { return Ok(Vec::new()) };
        let present: HashSet<Vec<u8>> = rows_of(groups, self.keys, groups)?.into_iter().collect();
        let absent: BooleanArray = rows_of(domain, self.keys, groups)?.into_iter().map(|row| Some(!present.contains(&row))).collect();
        let columns = domain.columns().iter().take(self.keys).zip(out.fields());
        columns.map(|(column, field)| Ok(cast(&filter(column, &absent)?, field.data_type())?)).collect()
    }
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
