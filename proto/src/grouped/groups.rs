//! Rows become groups.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use concordat_policy::ColumnType;
use concordat_protect::Spread;
use concordat_protect::behind::SPREAD_BYTES;

use super::codes::{Codes, Seen};
use super::grouping::Grouping;
use super::sums::{Counted, Sum, Total};
use super::{GroupError, MOST_OF_ONE};
use crate::receipt::Grouped;
use crate::schema::{PSEUDONYM_BYTES, pseudonyms};

/// About how many groups, and numbers of groups, are held before they are put out as a part.
pub(super) const MOST_HELD: usize = 1 << 16;
/// About how many bytes of keys' values are held, where there are [`SOME`] groups.
const MOST_BYTES: usize = 4 << 20;
pub(super) const SOME: usize = 1 << 10;

/// What the subject whose rows are being read has in one group.
#[derive(Debug, Clone, Copy)]
struct Own {
    group: usize,
    rows: i64,
}

/// Makes groups of one partition's rows, which come in the order of their pseudonyms. It holds one part of them.
#[derive(Debug)]
pub struct Groups {
    grouping: Arc<Grouping>,
    schema: SchemaRef,
    codes: Vec<Codes>,
    /// Groups by the codes of their keys.
    places: HashMap<Box<[u32]>, usize>,
    /// The keys of each.
    keys: Vec<u32>,
    /// About how many bytes their values are.
    bytes: usize,
    groups: Vec<Counted>,
    /// Of each group, one for each value, and one for each sum.
    values: Vec<Counted>,
    sums: Vec<Total>,
    subject: Option<u128>,
    own: Vec<Own>,
    /// Of each of `own`, how many of each value, and each sum.
    own_values: Vec<i64>,
    own_sums: Vec<Sum>,
    /// For each group, where it may stand in `own`.
    stands: Vec<usize>,
    made_of: Grouped,
}

/// A column whose values are added up, or only counted.
enum Column<'a> {
    Whole(&'a Int64Array),
    Number(&'a Float64Array),
    Other(&'a dyn Array),
}

impl Column<'_> {
    fn is_there(&self, row: usize) -> bool {
        match self {
            Self::Whole(column) => column.is_valid(row),
            Self::Number(column) => column.is_valid(row),
            Self::Other(column) => column.is_valid(row),
        }
    }

    fn number(&self, row: usize) -> Option<Sum> {
        match self {
            Self::Whole(column) => column.is_valid(row).then(|| Sum::Whole(column.value(row))),
            // A zero's sign would tell which rows were read together.
            Self::Number(column) => column.is_valid(row).then(|| Sum::Number(column.value(row) + 0.0)),
            Self::Other(_) => None,
        }
    }
}

impl Groups {
    /// None yet.
    #[must_use]
    pub fn new(grouping: Arc<Grouping>) -> Self {
        let codes = grouping.keys.iter().map(|(_, kind)| Codes::new(*kind)).collect();
        Self {
            schema: Arc::new(grouping.schema()),
            grouping,
            codes,
            places: HashMap::new(),
            keys: Vec::new(),
            bytes: 0,
            groups: Vec::new(),
            values: Vec::new(),
            sums: Vec::new(),
            subject: None,
            own: Vec::new(),
            own_values: Vec::new(),
            own_sums: Vec::new(),
            stands: Vec::new(),
            made_of: Grouped::default(),
        }
    }

    /// The rows that were taken, and their subjects.
    #[must_use]
    pub fn made_of(&self) -> Grouped {
        self.made_of
    }

    /// Takes rows: of a release's schema, or with text that is plain. Returns parts of the groups, when there are too many to hold.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn take(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, GroupError> {
        let (mut parts, mut start, most) = (Vec::new(), 0, self.most());
        while start < batch.num_rows() {
            let rows = batch.slice(start, most.min(batch.num_rows() - start));
            let taken = self.add_rows(&rows)?;
            if taken < rows.num_rows() {
                parts.extend(self.part()?);
            }
            start += taken;
        }
        Ok(parts)
    }

    /// How many groups are held, about.
    fn most(&self) -> usize {
        MOST_HELD / (1 + self.grouping.values.len() + self.grouping.sums.len())
    }

    /// Whether what is held is to be put out before the next subject.
    fn is_full(&self) -> bool {
        self.groups.len() > self.most() || (self.groups.len() > SOME && self.bytes > MOST_BYTES)
    }

    /// Adds rows, and returns how many: fewer than there are where the next subject is to find another part.
    fn add_rows(&mut self, batch: &RecordBatch) -> Result<usize, GroupError> {
        let grouping = Arc::clone(&self.grouping);
        let mut codes = Vec::with_capacity(grouping.keys.len());
        for ((name, _), own) in grouping.keys.iter().zip(&mut self.codes) {
            codes.push(own.of(batch.column_by_name(name).ok_or(GroupError::Schema)?).ok_or(GroupError::Schema)?);
        }
        let column = |(name, kind): &(String, ColumnType)| {
            let column = batch.column_by_name(name)?;
            Some(match kind {
                ColumnType::Integer => Column::Whole(column.as_primitive_opt()?),
                ColumnType::Number => Column::Number(column.as_primitive_opt()?),
                _ => Column::Other(column.as_ref()),
            })
        };
        let columns: Vec<Column<'_>> = grouping.values.iter().map(column).collect::<Option<_>>().ok_or(GroupError::Schema)?;
        let mut seen = Seen::new(&self.codes, &codes);
        let subjects = subjects(batch)?;
        for (row, subject) in subjects.iter().enumerate() {
            let own = u128::from_be_bytes(*subject);
            let first = self.subject != Some(own);
            if first {
                self.settle()?;
                if self.is_full() {
                    return Ok(row);
                }
                self.subject = Some(own);
                self.made_of.subjects += 1;
            }
            let group = match seen.place(row) {
                Some(group) => group,
                None => {
                    let group = self.group(&codes, row);
                    seen.note(row, group);
                    group
                }
            };
            // More of whoever has the last row of the batch may be in the next.
            if first && subjects.get(row + 1).is_some_and(|next| next != subject) {
                self.add_single(group, &columns, row)?;
            } else {
                self.add(group, &columns, row)?;
            }
            self.made_of.rows += 1;
        }
        Ok(batch.num_rows())
    }

    /// The last part; `None` where there is no group, or none more.
    ///
    /// # Errors
    /// [`GroupError::TooLarge`].
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, GroupError> {
        self.settle()?;
        self.subject = None;
        self.part()
    }

    /// The place of the group to which a row belongs.
    fn group(&mut self, codes: &[Vec<u32>], row: usize) -> usize {
        let keys: Box<[u32]> = codes.iter().map(|codes| codes.get(row).copied().unwrap_or_default()).collect();
        if let Some(group) = self.places.get(&keys) {
            return *group;
        }
        let group = self.groups.len();
        self.keys.extend(&keys);
        self.bytes += self.codes.iter().zip(&keys).map(|(codes, code)| codes.bytes(*code)).sum::<usize>();
        self.places.insert(keys, group);
        self.groups.push(Counted::default());
        self.stands.push(usize::MAX);
        self.values.extend(self.grouping.values.iter().map(|_| Counted::default()));
        self.sums.extend(self.grouping.summed().map(|(_, kind, _)| Total { sum: Sum::zero(kind), spread: Spread::default() }));
        group
    }

    /// Adds the only row of its subject.
    fn add_single(&mut self, group: usize, columns: &[Column<'_>], row: usize) -> Result<(), GroupError> {
        let sums = self.grouping.sums.len();
        self.groups.get_mut(group).ok_or(GroupError::Schema)?.singles += 1;
        let values = self.values.get_mut(group * columns.len()..).unwrap_or_default();
        values.iter_mut().zip(columns).for_each(|(value, column)| value.singles += i64::from(column.is_there(row)));
        let totals = self.sums.get_mut(group * sums..).unwrap_or_default();
        for (index, (total, sum)) in totals.iter_mut().zip(&self.grouping.sums).enumerate() {
            if let Some(own) = columns.get(sum.value).and_then(|column| column.number(row)) {
                total.add(own).ok_or_else(|| self.grouping.too_large(index))?;
            }
        }
        Ok(())
    }

    /// Adds a row to what its subject has in the group.
    fn add(&mut self, group: usize, columns: &[Column<'_>], row: usize) -> Result<(), GroupError> {
        let stands = self.stands.get_mut(group).ok_or(GroupError::Schema)?;
        if self.own.get(*stands).is_none_or(|own| own.group != group) {
            if self.own.len() >= MOST_OF_ONE {
                return Err(GroupError::TooMany);
            }
            *stands = self.own.len();
            self.own.push(Own { group, rows: 0 });
            self.own_values.extend(columns.iter().map(|_| 0));
            self.own_sums.extend(self.grouping.summed().map(|(_, kind, _)| Sum::zero(kind)));
        }
        let place = *stands;
        if let Some(own) = self.own.get_mut(place) {
            own.rows += 1;
        }
        let own = self.own_values.get_mut(place * columns.len()..).unwrap_or_default();
        own.iter_mut().zip(columns).for_each(|(number, column)| *number += i64::from(column.is_there(row)));
        let sums = &self.grouping.sums;
        let own = self.own_sums.get_mut(place * sums.len()..).unwrap_or_default();
        for (index, (own, sum)) in own.iter_mut().zip(sums).enumerate() {
            if let Some(value) = columns.get(sum.value).and_then(|column| column.number(row)) {
                own.add(value).ok_or_else(|| self.grouping.too_large(index))?;
            }
        }
        Ok(())
    }

    /// Adds what the last subject has to its groups.
    fn settle(&mut self) -> Result<(), GroupError> {
        if self.own.is_empty() {
            return Ok(());
        }
        let [width, sums] = [self.grouping.values.len(), self.grouping.sums.len()];
        for (place, own) in self.own.drain(..).enumerate() {
            self.groups.get_mut(own.group).ok_or(GroupError::Schema)?.add(own.rows);
            let own_values = self.own_values.get(place * width..).unwrap_or_default();
            let values = self.values.get_mut(own.group * width..).unwrap_or_default();
            values.iter_mut().zip(own_values).take(width).for_each(|(value, rows)| value.add(*rows));
            let own_sums = self.own_sums.get(place * sums..).unwrap_or_default();
            let totals = self.sums.get_mut(own.group * sums..).unwrap_or_default();
            for (index, ((total, of), own)) in totals.iter_mut().zip(&self.grouping.sums).zip(own_sums).enumerate() {
                if own_values.get(of.value).is_some_and(|rows| *rows > 0) {
                    total.add(*own).ok_or_else(|| self.grouping.too_large(index))?;
                }
            }
        }
        self.own_values.clear();
        self.own_sums.clear();
        Ok(())
    }

    /// Puts out what is held.
    fn part(&mut self) -> Result<Option<RecordBatch>, GroupError> {
        if self.groups.is_empty() {
            return Ok(None);
        }
        let (width, keys) = (self.grouping.values.len(), self.grouping.keys.len());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for (index, codes) in self.codes.iter().enumerate() {
            columns.push(codes.column(self.keys.iter().skip(index).step_by(keys).copied()));
        }
        columns.push(Arc::new(self.groups.iter().map(|group| Some(group.subjects())).collect::<Int64Array>()));
        columns.push(Arc::new(self.groups.iter().map(|group| Some(group.rows())).collect::<Int64Array>()));
        columns.push(spreads(self.groups.iter().map(Counted::spread)));
        let values = |index| self.values.iter().skip(index).step_by(width.max(1));
        for index in 0..width {
            columns.push(Arc::new(values(index).map(|value| Some(value.rows())).collect::<Int64Array>()));
            columns.push(Arc::new(values(index).map(|value| Some(value.subjects())).collect::<Int64Array>()));
            columns.push(spreads(values(index).map(Counted::spread)));
        }
        let sums = self.grouping.sums.len();
        for (index, (of, (_, kind, _))) in self.grouping.sums.iter().zip(self.grouping.summed()).enumerate() {
            let all = || self.sums.iter().skip(index).step_by(sums);
            let there = all().zip(values(of.value)).map(|(total, value)| Some(total.sum).filter(|_| value.rows() > 0));
            columns.push(match kind {
                ColumnType::Integer => {
                    let whole = there.map(|sum| if let Some(Sum::Whole(sum)) = sum { Some(sum) } else { None });
                    Arc::new(whole.collect::<Int64Array>())
                }
                _ => Arc::new(there.map(|sum| sum.map(Sum::number)).collect::<Float64Array>()),
            });
            columns.push(spreads(all().map(|total| total.spread)));
        }
        let plain = |(field, column): (&Arc<Field>, &ArrayRef)| field.as_ref().clone().with_data_type(column.data_type().clone());
        let schema = Schema::new(self.schema.fields().iter().zip(&columns).map(plain).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(self.groups.len()));
        let part = RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).map_err(|_| GroupError::Schema)?;
        self.places.clear();
        self.keys.clear();
        self.bytes = 0;
        self.groups.clear();
        self.values.clear();
        self.sums.clear();
        self.stands.clear();
        self.codes.iter_mut().for_each(Codes::clear);
        Ok(Some(part))
    }
}

fn subjects(batch: &RecordBatch) -> Result<&[[u8; PSEUDONYM_BYTES]], GroupError> {
    batch.columns().first().and_then(|column| pseudonyms(column)).ok_or(GroupError::Schema)
}

pub(super) fn spreads(all: impl Iterator<Item = Spread>) -> ArrayRef {
    let bytes: Vec<u8> = all.flat_map(|spread| spread.to_bytes()).collect();
    Arc::new(FixedSizeBinaryArray::new(SPREAD_BYTES as i32, bytes.into(), None))
}
