//! Answers and lists as aligned text, for people: numbers to the right and rounded, what is withheld said so.

use std::collections::BTreeSet;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use concordat_proto::status::STATUS_OF;

use crate::failure::{Failure, Result};
use crate::out::thousands;

/// The column in which the gateway says why a row's numbers are withheld.
pub(crate) const WITHHELD: &str = "withheld";

/// What stands for a withheld value where its status is told.
const UNTOLD: &str = "·";

/// A table of texts.
#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    /// Lines below it.
    below: Vec<String>,
}

#[derive(Debug)]
struct Column {
    title: String,
    right: bool,
    cells: Vec<String>,
}

impl Table {
    /// A table of text columns.
    pub(crate) fn of(titles: &[&str], rows: Vec<Vec<String>>) -> Self {
        let mut columns: Vec<Column> =
            titles.iter().map(|title| Column { title: (*title).to_owned(), right: false, cells: Vec::new() }).collect();
        for row in rows {
            for (column, cell) in columns.iter_mut().zip(row) {
                column.cells.push(cell);
            }
        }
        Self { columns, below: Vec::new() }
    }

    /// The table of an answer, without its column [`WITHHELD`]: what that names is shown as withheld in its place. Nor with columns of
    /// statuses: where there are any, what is withheld is shown as [`UNTOLD`], and the statuses stand below.
    pub(crate) fn of_answer(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Self> {
        let failed = |e| Failure::new(format!("the answer cannot be shown: {e}"));
        let all = concat_batches(schema, batches).map_err(failed)?;
        let reasons = reasons(&all).map_err(failed)?;
        let (mut columns, mut statuses) = (Vec::new(), BTreeSet::new());
        let withheld = if schema.fields().iter().any(|field| field.metadata().contains_key(STATUS_OF)) { UNTOLD } else { WITHHELD };
        for (field, array) in schema.fields().iter().zip(all.columns()) {
            if field.name() == WITHHELD {
                continue;
            }
            if field.metadata().contains_key(STATUS_OF) {
                statuses.extend(cells(array).map_err(failed)?);
                continue;
            }
            let mut cells = cells(array).map_err(failed)?;
            for ((row, cell), reason) in cells.iter_mut().enumerate().zip(&reasons) {
                if array.is_null(row) && reason.as_ref().is_some_and(|columns| columns.split(", ").any(|name| name == field.name())) {
                    withheld.clone_into(cell);
                }
            }
            columns.push(Column { title: field.name().clone(), right: array.data_type().is_numeric(), cells });
        }
        let (untold, told): (Vec<String>, Vec<String>) = statuses.into_iter().partition(|status| status.starts_with(WITHHELD));
        let mut below: Vec<String> = untold.iter().map(|status| format!("{UNTOLD} {status}")).collect();
        below.extend((!told.is_empty()).then(|| format!("other values: {}", told.join(", "))));
        Ok(Self { columns, below })
    }

    /// The table as text, with a bold head where `colour` is wanted.
    pub(crate) fn text(&self, colour: bool) -> String {
        let width = |column: &Column| column.cells.iter().chain([&column.title]).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = self.columns.iter().map(width).collect();
        let line = |cells: Vec<&str>| {
            let padded = cells
                .iter()
                .zip(&self.columns)
                .zip(&widths)
                .map(|((cell, column), &width)| if column.right { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let head = line(self.columns.iter().map(|column| column.title.as_str()).collect());
        let rule = widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>().join("  ");
        let mut text = if colour { format!("\u{1b}[1m{head}\u{1b}[0m\n{rule}\n") } else { format!("{head}\n{rule}\n") };
        let rows = self.columns.first().map_or(0, |column| column.cells.len());
        for row in 0..rows {
            let cells = self.columns.iter().map(|column| column.cells.get(row).map_or("", String::as_str)).collect();
            text.push_str(&line(cells));
            text.push('\n');
        }
        self.below.iter().for_each(|line| text.extend([line.as_str(), "\n"]));
        text
    }
}

/// Per row, which columns are withheld: the gateway writes `persons, share: fewer than 10 distinct subjects`.
fn reasons(all: &RecordBatch) -> std::result::Result<Vec<Option<String>>, ArrowError> {
    let Some(column) = all.column_by_name(WITHHELD) else { return Ok(vec![None; all.num_rows()]) };
    let texts = cast(column, &DataType::Utf8)?;
    let parts = |text: &str| text.split_once(": ").map(|(columns, _)| columns.to_owned());
    Ok(texts.as_string::<i32>().iter().map(|text| text.and_then(parts)).collect())
}

fn cells(array: &ArrayRef) -> std::result::Result<Vec<String>, ArrowError> {
    match array.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let numbers = cast(array, &DataType::Float64)?;
            let numbers = numbers.as_primitive::<Float64Type>();
            let places = places(numbers.iter().flatten());
            Ok(numbers.iter().map(|n| n.map_or_else(String::new, |n| format!("{n:.places$}"))).collect())
        }
        kind if kind.is_integer() => {
            let numbers = cast(array, &DataType::Int64)?;
            Ok(numbers.as_primitive::<Int64Type>().iter().map(|n| n.map_or_else(String::new, whole)).collect())
        }
        _ => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
            (0..array.len()).map(|row| formatter.value(row).try_to_string()).collect()
        }
    }
}

/// Decimal places that a column of such numbers needs to be read: shares three, scores one.
fn places(numbers: impl Iterator<Item = f64>) -> usize {
    match numbers.filter(|n| n.is_finite()).fold(0.0, |largest: f64, n| largest.max(n.abs())) {
        largest if largest <= 1.0 => 3,
        largest if largest < 10.0 => 2,
        _ => 1,
    }
}

fn whole(number: i64) -> String {
    format!("{}{}", if number < 0 { "-" } else { "" }, thousands(number.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn batch(reason: Option<&str>) -> RecordBatch {
        let columns: [(&str, ArrayRef); 6] = [
            ("region", Arc::new(StringArray::from(vec!["London", "Isles of Scilly"]))),
            ("meals", Arc::new(BooleanArray::from(vec![true, false]))),
            ("persons", Arc::new(Int64Array::from(vec![Some(12_345), None]))),
            ("score", Arc::new(Float64Array::from(vec![Some(46.25), None]))),
            ("share", Arc::new(Float64Array::from(vec![Some(0.123_456), Some(1.0)]))),
            (WITHHELD, Arc::new(StringArray::from(vec![None, reason]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    }

    #[test]
    fn numbers_are_aligned_and_rounded_and_withheld_is_said() {
        let batch = batch(Some("persons, score: fewer than 10 persons"));
        let table = Table::of_answer(&batch.schema(), &[batch]).unwrap();
        let expected = "\
region           meals   persons     score  share
───────────────  ─────  ────────  ────────  ─────
London           true     12,345      46.2  0.123
Isles of Scilly  false  withheld  withheld  1.000
";
        assert_eq!(table.text(false), expected);
        assert!(table.text(true).starts_with("\u{1b}[1mregion"));
    }

    #[test]
    fn a_null_is_empty_unless_its_own_column_is_withheld() {
        for (reason, withheld) in [(Some("score: fewer than 10"), 1), (None, 0), (Some("persons, score: fewer than 10"), 2)] {
            let batch = batch(reason);
            let table = Table::of_answer(&batch.schema(), &[batch]).unwrap();
            assert_eq!(table.text(false).matches(WITHHELD).count(), withheld, "{reason:?}");
        }
    }

    #[test]
    fn statuses_stand_below_and_mark_what_is_withheld() {
        let plain = batch(Some("persons: fewer than 10 distinct subjects"));
        let status =
            Field::new("persons_status", DataType::Utf8, false).with_metadata([(STATUS_OF.to_owned(), "persons".to_owned())].into());
        let why = "withheld: fewer than 10 distinct subjects, or totals would tell a withheld number";
        let told: ArrayRef = Arc::new(StringArray::from(vec!["rounded", why]));
        let mut fields: Vec<_> = plain.schema().fields().iter().cloned().collect();
        let mut columns = plain.columns().to_vec();
        fields.insert(3, Arc::new(status));
        columns.insert(3, told);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let text = Table::of_answer(&batch.schema(), &[batch]).unwrap().text(false);
        assert!(!text.contains("persons_status"), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[3].starts_with("Isles of Scilly") && lines[3].contains(" · "), "{text}");
        assert_eq!(lines[4..], [format!("· {why}").as_str(), "other values: rounded"]);
    }

    #[test]
    fn an_empty_answer_has_its_head() {
        let batch = batch(None);
        let table = Table::of_answer(&batch.schema(), &[]).unwrap();
        assert_eq!(table.text(false).lines().count(), 2);
        assert_eq!(Table::of(&["a", "b"], vec![vec!["1".into(), "2".into()]]).text(false), "a  b\n─  ─\n1  2\n");
    }
}
