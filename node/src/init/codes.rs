//! Which short lists of values could be published: those behind whose every value stand enough different subjects.
//!
//! Rows are no measure: ten rows may be of one person. So subjects are counted, by their valid identifiers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use concordat_policy::IdentifierType;
use datafusion::arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use futures::StreamExt as _;

use super::table::{InspectError, Table};
use crate::source::kind;

/// The longest list.
const MOST_VALUES: usize = 50;
/// The longest value, in bytes: what is longer is no code.
const LONGEST: usize = 80;
/// How many different subjects must stand behind each value: fewer would tell of single people.
const LEAST_SUBJECTS: usize = 10;

/// What a reading of every row found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// Rows.
    pub rows: u64,
    /// Rows with a valid identifier.
    pub valid: u64,
    /// The lists that could be published, by the column's name in the source.
    pub lists: BTreeMap<String, Vec<String>>,
}

/// Reads every row of `table` once. Only columns in `wanted` (by their names in the source) are considered.
///
/// # Errors
/// [`InspectError`].
pub async fn codes(
    table: &Table,
    identifier_column: &str,
    identifier: &IdentifierType,
    wanted: &BTreeSet<&str>,
) -> Result<Codes, InspectError> {
    let failed =
        |cause: String| InspectError::new(&table.place, cause, "look whether the node's user may read it, and whether it is whole");
    let mut columns: Vec<(&str, Values)> =
        wanted.iter().filter(|name| **name != identifier_column).map(|name| (*name, Values::default())).collect();
    let (mut found, mut subjects) = (Codes::default(), Subjects::new(identifier));
    let mut stream = (table.rows)().await.map_err(|e| failed(e.to_string()))?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| failed(format!("cannot be read: {}", kind(&e))))?;
        found.rows += batch.num_rows() as u64;
        let of_rows = subjects.of(&batch, identifier_column).map_err(&failed)?;
        found.valid += of_rows.iter().flatten().count() as u64;
        for (name, values) in &mut columns {
            if let Some(array) = batch.column_by_name(name) {
                values.take(array, &of_rows).map_err(&failed)?;
            }
        }
    }
    found.lists = columns.into_iter().filter_map(|(name, values)| Some((name.to_owned(), values.published()?))).collect();
    Ok(found)
}

/// Tells subjects apart without keeping their identifiers.
struct Subjects<'a> {
    identifier: &'a IdentifierType,
    hasher: RandomState,
    scratch: String,
}

impl<'a> Subjects<'a> {
    fn new(identifier: &'a IdentifierType) -> Self {
        Self { identifier, hasher: RandomState::new(), scratch: String::new() }
    }

    fn of(&mut self, batch: &RecordBatch, column: &str) -> Result<Vec<Option<u64>>, String> {
        let texts = text(batch.column_by_name(column).ok_or_else(|| format!("has no column '{column}' that can be read"))?)?;
        let of = |text: Option<&str>| {
            let valid = self.identifier.normalise(text?, &mut self.scratch);
            valid.then(|| self.hasher.hash_one(&self.scratch))
        };
        Ok(texts.iter().map(of).collect())
    }
}

fn text(array: &ArrayRef) -> Result<StringArray, String> {
    let texts = cast(array, &DataType::Utf8).map_err(|_| "a column has no form as text".to_owned())?;
    Ok(texts.as_string::<i32>().clone())
}

/// A column's distinct values with some of their subjects, as long as they are few.
#[derive(Default)]
struct Values {
    subjects: BTreeMap<String, HashSet<u64>>,
    many: bool,
}

impl Values {
    fn take(&mut self, array: &ArrayRef, of_rows: &[Option<u64>]) -> Result<(), String> {
        if self.many {
            return Ok(());
        }
        for (value, subject) in text(array)?.iter().zip(of_rows) {
            let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
            if !self.subjects.contains_key(value) {
                if self.subjects.len() == MOST_VALUES || value.len() > LONGEST {
                    *self = Self { many: true, ..Self::default() };
                    return Ok(());
                }
                self.subjects.insert(value.to_owned(), HashSet::new());
            }
            if let (Some(subject), Some(known)) = (subject, self.subjects.get_mut(value))
                && known.len() < LEAST_SUBJECTS
            {
                known.insert(*subject);
            }
        }
        Ok(())
    }

    fn published(self) -> Option<Vec<String>> {
        let enough = !self.many && !self.subjects.is_empty() && self.subjects.values().all(|subjects| subjects.len() >= LEAST_SUBJECTS);
        enough.then(|| self.subjects.into_keys().collect())
    }
}
