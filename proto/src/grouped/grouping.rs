//! What is asked for in the place of rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use concordat_policy::ColumnType;
use concordat_protect::behind::SPREAD_BYTES;

use super::{GroupError, MAX_KEYS, MAX_VALUES, ROWS, SUBJECTS, contributors, key, spread, sum, values};
use crate::schema::wire_type;
use crate::v1;

/// By what rows are grouped, and what each group states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    pub(super) keys: Vec<(String, ColumnType)>,
    pub(super) values: Vec<(String, ColumnType)>,
    pub(super) sums: Vec<Summed>,
}

/// A value that is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summed {
    /// Which of the values it is.
    pub(super) value: usize,
    /// An integer, as a number.
    pub(super) as_number: bool,
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

    /// Groups in the types of the wire: [`super::Groups`] makes text that is plain.
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
    pub(super) fn summed(&self) -> impl Iterator<Item = (&str, ColumnType, bool)> {
        self.sums.iter().filter_map(|sum| {
            let (name, kind) = self.values.get(sum.value)?;
            Some((name.as_str(), if sum.as_number { ColumnType::Number } else { *kind }, sum.as_number))
        })
    }

    pub(super) fn too_large(&self, sum: usize) -> GroupError {
        GroupError::TooLarge(self.summed().nth(sum).map(|(name, ..)| name.to_owned()).unwrap_or_default())
    }
}
