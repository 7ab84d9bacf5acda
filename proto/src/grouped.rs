//! Groups in the place of rows: what a node sends where an order asks for groups, and what a gateway makes itself of the rows of a node
//! that makes none. No pseudonym is among it.
//!
//! | field | type |
//! |---|---|
//! | `<column>.key`, of each key in order | as on the wire ([`crate::schema`]), nullable |
//! | `subjects`, `rows` | `Int64`, not null: distinct subjects of the group's rows; its rows |
//! | `rows.spread` | `FixedSizeBinary(72)`, not null: how the rows are spread over the subjects ([`Spread::to_bytes`]) |
//! | `<column>.values`, `<column>.contributors`, of each value in order | `Int64`, not null: rows that have one; distinct subjects who have |
//! | `<column>.values.spread` | `FixedSizeBinary(72)`, not null: how those rows are spread over these subjects |
//! | `<column>.sum`, `<column>.number_sum`, where it is asked for | `Int64` or `Float64`, null where there is no value |
//! | `<column>.sum.spread`, `<column>.number_sum.spread` | `FixedSizeBinary(72)`, not null: how the sum is spread over the contributors |
//!
//! The groups of a partition are of its subjects only. One group may come in several parts, whose subjects are others: parts add up.
//! Within a part a subject is counted once, with all that it has in the group; so it is in no other.

mod check;
mod codes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use concordat_policy::{ColumnRule, ColumnType};
use concordat_protect::Spread;
use concordat_protect::behind::SPREAD_BYTES;

use crate::receipt::Grouped;
use crate::schema::{PSEUDONYM_BYTES, pseudonyms, wire_type};
use crate::v1;
pub use check::Check;
use codes::{Codes, Seen};

/// The most keys.
pub const MAX_KEYS: usize = 16;
/// The most values.
pub const MAX_VALUES: usize = 64;
/// The most groups that keys may have by their published values. Beyond, groups may be more than rows.
const MAX_GROUPS: usize = 4_096;
/// About how many groups, and numbers of groups, are held before they are put out as a part.
const MOST_HELD: usize = 1 << 16;
/// How many more a single subject may be in: it is not divided between parts.
const MOST_OF_ONE: usize = 1 << 13;
/// About how many bytes of keys are held, where there are [`SOME`] groups.
const MOST_BYTES: usize = 4 << 20;
const SOME: usize = 1 << 10;

/// The field of a group's distinct subjects.
pub const SUBJECTS: &str = "subjects";
/// The field of a group's rows.
pub const ROWS: &str = "rows";

/// The field of a key.
#[must_use]
pub fn key(column: &str) -> String {
    format!("{column}.key")
}

/// The field of how many rows have a value.
#[must_use]
pub fn values(column: &str) -> String {
    format!("{column}.values")
}

/// The field of how many subjects have one.
#[must_use]
pub fn contributors(column: &str) -> String {
    format!("{column}.contributors")
}

/// The field of what the values add up to, in their own type or as numbers.
#[must_use]
pub fn sum(column: &str, as_number: bool) -> String {
    format!("{column}.{}", if as_number { "number_sum" } else { "sum" })
}

/// The field of how what stands in `field` is spread over its contributors: of [`ROWS`], [`values`] and [`sum`].
#[must_use]
pub fn spread(field: &str) -> String {
    format!("{field}.spread")
}

/// Whether rows may be grouped by columns of these rules: they cross the wire, and their published values have few combinations.
#[must_use]
pub fn few<'r>(rules: impl IntoIterator<Item = &'r ColumnRule>) -> bool {
    let mut groups = 1_usize;
    rules.into_iter().all(|rule| {
        let published = match rule.kind {
            ColumnType::Boolean => Some(2),
            ColumnType::Number => None,
            _ => rule.values.as_ref().map(Vec::len),
        };
        let all = published.and_then(|published| groups.checked_mul(1 + published)).filter(|all| *all <= MAX_GROUPS);
        groups = all.unwrap_or(groups);
        all.is_some() && rule.crosses_the_wire()
    })
}

/// By what rows are grouped, and what each group states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    keys: Vec<(String, ColumnType)>,
    values: Vec<(String, ColumnType)>,
    sums: Vec<Summed>,
}

/// A value that is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summed {
    /// Which of the values it is.
    value: usize,
    /// An integer, as a number.
    as_number: bool,
}

impl Grouping {
    /// Reads what an order of `columns` asks for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(wire: &v1::Grouping, columns: &[(String, ColumnType)]) -> Result<Self, String> {
        let found = |named: &[String], most: usize, what: &str| {
            if named.len() > most || named.iter().collect::<BTreeSet<_>>().len() != named.len() {
                return Err(format!("a release is grouped with at most {most} {what}, each once"));
            }
            let find = |name: &String| columns.iter().find(|(column, _)| column == name).cloned();
            named.iter().map(|name| find(name).ok_or_else(|| format!("{what} of groups that are no columns of the order"))).collect()
        };
        let (keys, values): (Vec<_>, Vec<_>) = (found(&wire.keys, MAX_KEYS, "keys")?, found(&wire.values, MAX_VALUES, "values")?);
        if keys.iter().any(|(_, kind)| *kind == ColumnType::Number) {
            return Err("a number with a fraction is no key of groups".into());
        }
        if columns.iter().any(|column| !keys.contains(column) && !values.contains(column)) {
            return Err("an ordered column that is neither a key nor a value of the groups".into());
        }
        let [sums, number_sums] = [&wire.sums, &wire.number_sums].map(|named| found(named, MAX_VALUES, "sums"));
        Self { keys, values, sums: Vec::new() }
            .adding(&sums?, &number_sums?)
            .ok_or_else(|| "a sum of what is no such value of the groups".into())
    }

    /// Of columns with their types: keys and values, each once among its own.
    #[must_use]
    pub fn new(keys: Vec<(String, ColumnType)>, values: Vec<(String, ColumnType)>) -> Self {
        Self { keys, values, sums: Vec::new() }
    }

    /// With sums of values that can be added up so: in their own type, and integers as numbers. `None` where one cannot, or is no value.
    #[must_use]
    pub fn adding(self, sums: &[(String, ColumnType)], number_sums: &[(String, ColumnType)]) -> Option<Self> {
        let number = |(_, kind): &&(String, ColumnType)| matches!(kind, ColumnType::Integer | ColumnType::Number);
        let integer = |(_, kind): &&(String, ColumnType)| *kind == ColumnType::Integer;
        let place = |column: &(String, ColumnType)| self.values.iter().position(|value| value == column);
        let own = sums.iter().map(|column| Some(column).filter(number).and_then(place).map(|value| Summed { value, as_number: false }));
        let numbers =
            number_sums.iter().map(|column| Some(column).filter(integer).and_then(place).map(|value| Summed { value, as_number: true }));
        let sums = own.chain(numbers).collect::<Option<Vec<_>>>()?;
        Some(Self { sums, ..self })
    }

    /// The columns by which rows are grouped.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(name, _)| name.as_str())
    }

    /// The columns that are ordered for it.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let values = self.values.iter().filter(|value| !self.keys.contains(value));
        self.keys.iter().chain(values).map(|(name, _)| name.clone()).collect()
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn to_wire(&self) -> v1::Grouping {
        let names = |columns: &[(String, ColumnType)]| columns.iter().map(|(name, _)| name.clone()).collect();
        let summed = |as_number| {
            let sums = self.sums.iter().filter(move |sum| sum.as_number == as_number);
            sums.filter_map(|sum| self.values.get(sum.value)).map(|(name, _)| name.clone()).collect()
        };
        v1::Grouping { keys: names(&self.keys), values: names(&self.values), sums: summed(false), number_sums: summed(true) }
    }

    /// The schema of the groups.
    #[must_use]
    pub fn schema(&self) -> Schema {
        let number = |name: String| Field::new(name, DataType::Int64, false);
        let spread = |field: &str| Field::new(spread(field), DataType::FixedSizeBinary(SPREAD_BYTES as i32), false);
        let mut fields: Vec<Field> = self.keys.iter().map(|(name, kind)| Field::new(key(name), wire_type(*kind), true)).collect();
        fields.extend([number(SUBJECTS.into()), number(ROWS.into()), spread(ROWS)]);
        for (name, _) in &self.values {
            fields.extend([number(values(name)), number(contributors(name)), spread(&values(name))]);
        }
        for (name, kind, as_number) in self.summed() {
            let field = sum(name, as_number);
            fields.extend([Field::new(&field, wire_type(kind), true), spread(&field)]);
        }
        Schema::new(fields)
    }

    /// Groups in the types of the wire: [`Groups`] makes text that is plain.
    ///
    /// # Errors
    /// [`GroupError::Schema`] where they are other groups.
    pub fn as_sent(&self, part: &RecordBatch) -> Result<RecordBatch, GroupError> {
        let schema = Arc::new(self.schema());
        let columns = part.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        let columns = columns.collect::<Result<_, _>>().map_err(|_| GroupError::Schema)?;
        RecordBatch::try_new(schema, columns).map_err(|_| GroupError::Schema)
    }

    /// Of each sum the column, the type that it has, and whether it is of integers as numbers.
    fn summed(&self) -> impl Iterator<Item = (&str, ColumnType, bool)> {
        self.sums.iter().filter_map(|sum| {
            let (name, kind) = self.values.get(sum.value)?;
            Some((name.as_str(), if sum.as_number { ColumnType::Number } else { *kind }, sum.as_number))
        })
    }

    fn too_large(&self, sum: usize) -> GroupError {
        GroupError::TooLarge(self.summed().nth(sum).map(|(name, ..)| name.to_owned()).unwrap_or_default())
    }
}

/// Why rows cannot be grouped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// What numbers add up to is none.
    #[error("the values of column '{0}' add up to more than a number holds")]
    TooLarge(String),
    /// One subject is in more groups than are held.
    #[error("one subject has rows in more than {MOST_OF_ONE} groups")]
    TooMany,
    /// Rows that lack a column, or have it in another type.
    #[error("rows to be grouped that are of another schema")]
    Schema,
}

impl GroupError {
    /// What whoever asked can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "leave its sum and mean out, or narrow the rows by a condition",
            Self::TooMany => "group by fewer columns",
            Self::Schema => "tell the operator: the two programs read the contract differently",
        }
    }
}

/// What values add up to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sum {
    Whole(i64),
    Number(f64),
}

impl Sum {
    fn zero(kind: ColumnType) -> Self {
        if kind == ColumnType::Integer { Self::Whole(0) } else { Self::Number(0.0) }
    }

    /// Whole numbers wrap, as they do where rows are added up: who tells a sum sees that it is not what is spread over its contributors.
    /// `None` for numbers that come to none.
    fn add(&mut self, other: Self) -> Option<()> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => *one = one.wrapping_add(other),
            (Self::Number(one), other) => {
                *one += other.number();
                return one.is_finite().then_some(());
            }
            (Self::Whole(_), Self::Number(_)) => return None,
        }
        Some(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of a sum")]
    fn number(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Number(number) => number,
        }
    }
}

/// A part of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    subjects: i64,
    rows: i64,
    spread: Spread,
}

/// Of one value of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Value {
    values: i64,
    contributors: i64,
    spread: Spread,
}

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
    groups: Vec<Group>,
    /// Of each group, one for each value, and one for each sum.
    values: Vec<Value>,
    sums: Vec<(Sum, Spread)>,
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
            Self::Number(column) => column.is_valid(row).then(|| Sum::Number(column.value(row))),
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
        let heavy = || self.groups.len() > SOME && self.codes.iter().map(Codes::bytes).sum::<usize>() > MOST_BYTES;
        self.groups.len() > self.most() || heavy()
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
        let mut seen = Seen::new(&self.codes);
        for (row, subject) in subjects(batch)?.iter().enumerate() {
            let subject = u128::from_be_bytes(*subject);
            if self.subject != Some(subject) {
                self.settle()?;
                if self.is_full() {
                    return Ok(row);
                }
                self.subject = Some(subject);
                self.made_of.subjects += 1;
            }
            let at = seen.at(&codes, row);
            let group = match seen.place(at) {
                Some(group) => group,
                None => {
                    let group = self.group(&codes, row);
                    seen.note(at, group);
                    group
                }
            };
            self.add(group, &columns, row)?;
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
        self.places.insert(keys, group);
        self.groups.push(Group::default());
        self.stands.push(usize::MAX);
        self.values.extend(self.grouping.values.iter().map(|_| Value::default()));
        self.sums.extend(self.grouping.summed().map(|(_, kind, _)| (Sum::zero(kind), Spread::default())));
        group
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
        let [width, sums] = [self.grouping.values.len(), self.grouping.sums.len()];
        for (place, own) in self.own.drain(..).enumerate() {
            let Some(group) = self.groups.get_mut(own.group) else { continue };
            group.subjects += 1;
            group.rows += own.rows;
            group.spread.add(number(own.rows));
            let own_values = self.own_values.get(place * width..).unwrap_or_default();
            let values = self.values.get_mut(own.group * width..).unwrap_or_default();
            for (value, rows) in values.iter_mut().zip(own_values).take(width).filter(|(_, rows)| **rows > 0) {
                value.contributors += 1;
                value.values += rows;
                value.spread.add(number(*rows));
            }
            let own_sums = self.own_sums.get(place * sums..).unwrap_or_default();
            let all = self.sums.get_mut(own.group * sums..).unwrap_or_default();
            for (index, (((sum, spread), of), own)) in all.iter_mut().zip(&self.grouping.sums).zip(own_sums).enumerate() {
                if own_values.get(of.value).is_some_and(|rows| *rows > 0) {
                    spread.add(own.number());
                    sum.add(*own).filter(|()| spread.absolute.is_finite()).ok_or_else(|| self.grouping.too_large(index))?;
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
        columns.push(Arc::new(self.groups.iter().map(|group| Some(group.subjects)).collect::<Int64Array>()));
        columns.push(Arc::new(self.groups.iter().map(|group| Some(group.rows)).collect::<Int64Array>()));
        columns.push(spreads(self.groups.iter().map(|group| group.spread)));
        let values = |index| self.values.iter().skip(index).step_by(width.max(1));
        for index in 0..width {
            columns.push(Arc::new(values(index).map(|value| Some(value.values)).collect::<Int64Array>()));
            columns.push(Arc::new(values(index).map(|value| Some(value.contributors)).collect::<Int64Array>()));
            columns.push(spreads(values(index).map(|value| value.spread)));
        }
        let sums = self.grouping.sums.len();
        for (index, (of, (_, kind, _))) in self.grouping.sums.iter().zip(self.grouping.summed()).enumerate() {
            let all = || self.sums.iter().skip(index).step_by(sums);
            let there = all().zip(values(of.value)).map(|((sum, _), value)| Some(*sum).filter(|_| value.values > 0));
            columns.push(match kind {
                ColumnType::Integer => {
                    let whole = there.map(|sum| if let Some(Sum::Whole(sum)) = sum { Some(sum) } else { None });
                    Arc::new(whole.collect::<Int64Array>())
                }
                _ => Arc::new(there.map(|sum| sum.map(Sum::number)).collect::<Float64Array>()),
            });
            columns.push(spreads(all().map(|(_, spread)| *spread)));
        }
        let plain = |(field, column): (&Arc<Field>, &ArrayRef)| field.as_ref().clone().with_data_type(column.data_type().clone());
        let schema = Schema::new(self.schema.fields().iter().zip(&columns).map(plain).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(self.groups.len()));
        let part = RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).map_err(|_| GroupError::Schema)?;
        self.places.clear();
        self.keys.clear();
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

#[expect(clippy::cast_precision_loss, reason = "a number of rows, exact below 2^53")]
fn number(rows: i64) -> f64 {
    rows as f64
}

fn spreads(all: impl Iterator<Item = Spread>) -> ArrayRef {
    let bytes: Vec<u8> = all.flat_map(|spread| spread.to_bytes()).collect();
    Arc::new(FixedSizeBinaryArray::new(SPREAD_BYTES as i32, bytes.into(), None))
}
