//! Answers as CSV: RFC 4180, with CRLF and a header line.
//!
//! A withheld or absent value is an empty cell, an empty text is `""`; the column `withheld` stays and says why. Numbers are exact.
//! Texts are written as they are: one that begins with `=`, `+`, `-`, `@`, a tab or a return may be taken for a formula by a
//! spreadsheet, so [`Csv::formulas`] tells whether there was one. Changing it would make the answer inexact.

use std::borrow::Cow;
use std::io::{self, Write};

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// An answer on its way.
pub(super) struct Csv<W> {
    to: W,
    formulas: bool,
}

impl<W: Write> Csv<W> {
    /// The header line.
    pub(super) fn start(to: W, schema: &Schema) -> io::Result<Self> {
        let mut csv = Self { to, formulas: false };
        let names: Vec<_> = schema.fields().iter().map(|field| Some((field.name().clone(), true))).collect();
        csv.line(&names)?;
        Ok(csv)
    }

    /// Rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let options = FormatOptions::default();
        let mut columns = Vec::new();
        for array in batch.columns() {
            let formatter = ArrayFormatter::try_new(array, &options).map_err(io::Error::other)?;
            columns.push((array, is_text(array.data_type()), formatter));
        }
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(columns.len());
            for (array, text, formatter) in &columns {
                let cell = if array.is_null(row) { None } else { Some(formatter.value(row).try_to_string().map_err(io::Error::other)?) };
                cells.push(cell.map(|cell| (cell, *text)));
            }
            self.line(&cells)?;
        }
        Ok(())
    }

    /// Whether a spreadsheet could take one of the texts for a formula.
    pub(super) fn formulas(&self) -> bool {
        self.formulas
    }

    /// The end.
    pub(super) fn finish(self) -> W {
        self.to
    }

    /// One line of cells, each with whether it is a text.
    fn line(&mut self, cells: &[Option<(String, bool)>]) -> io::Result<()> {
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                self.to.write_all(b",")?;
            }
            if let Some((cell, text)) = cell {
                self.formulas |= *text && cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
                self.to.write_all(quoted(cell).as_bytes())?;
            } else if cells.len() == 1 {
                // An empty line would be no row at all.
                self.to.write_all(b"\"\"")?;
            }
        }
        self.to.write_all(b"\r\n")
    }
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..))
}

fn quoted(cell: &str) -> Cow<'_, str> {
    if cell.is_empty() || cell.contains(['"', ',', '\r', '\n']) {
        Cow::Owned(format!("\"{}\"", cell.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn text(columns: Vec<(&str, ArrayRef)>) -> (String, bool) {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
        let mut csv = Csv::start(Vec::new(), &batch.schema()).unwrap();
        csv.write(&batch).unwrap();
        let formulas = csv.formulas();
        (String::from_utf8(csv.finish()).unwrap(), formulas)
    }

    #[test]
    fn cells_are_quoted_where_needed_and_null_is_not_the_empty_text() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a,b", Arc::new(StringArray::from(vec![Some("x \"y\""), Some(""), None, Some("two\r\nlines")]))),
            ("n", Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), None, Some(-1.0), Some(1e300)]))),
        ];
        let expected = "\"a,b\",n\r\n\"x \"\"y\"\"\",0.30000000000000004\r\n\"\",\r\n,-1.0\r\n\"two\r\nlines\",1e300\r\n";
        assert_eq!(text(columns), (expected.to_owned(), false));
    }

    #[test]
    fn one_column_keeps_its_rows() {
        assert_eq!(text(vec![("n", Arc::new(Int64Array::from(vec![None, Some(1)])))]).0, "n\r\n\"\"\r\n1\r\n");
    }

    #[test]
    fn texts_that_a_spreadsheet_takes_for_formulas_are_noticed_and_left_as_they_are() {
        for (cell, noticed) in [("=1+1", true), ("@x", true), ("-x", true), ("x=1", false)] {
            let (text, formulas) = text(vec![("c", Arc::new(StringArray::from(vec![cell])))]);
            assert!(formulas == noticed && text.contains(cell), "{cell}");
        }
    }
}
