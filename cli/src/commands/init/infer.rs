//! Looks at a CSV or Parquet source: its columns, their types, and the short lists of values among them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use concordat_policy::agreement::column_name_ok;
use concordat_policy::column::SUBJECT;
use concordat_policy::{Classification, ColumnType, IdentifierType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::failure::{Failure, Result};
use crate::federation::describe::{Column, Format};

/// The longest list of values that is published.
const MOST_VALUES: usize = 50;
/// In how many rows each published value must stand: rarer ones would tell of single people.
const LEAST_ROWS: u64 = 10;

/// What a source holds.
pub(super) struct Inferred {
    pub(super) source: String,
    pub(super) format: Format,
    pub(super) columns: Vec<Column>,
    /// Columns of types that cannot be offered, with the reason.
    pub(super) skipped: Vec<String>,
    pub(super) rows: u64,
    pub(super) valid_identifiers: u64,
}

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>>>;

/// Reads the whole source once.
pub(super) fn infer(path: &Path, identifier_column: &str, identifier: &IdentifierType) -> Result<Inferred> {
    let unreadable = |e: &dyn std::fmt::Display| Failure::file("read", path, e);
    let source = fs::canonicalize(path).map_err(|e| unreadable(&e).advice("name a CSV or Parquet file, or a folder of them"))?;
    let (format, files) = files(&source)?;
    let schema = match format {
        Format::Csv => csv_schema(&files, identifier_column)?,
        Format::Parquet => Arc::clone(open_parquet(files.first().unwrap_or(&source))?.schema()),
    };
    let named = schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>();
    if !named.contains(&identifier_column) {
        return Err(Failure::usage(format!("{} has no column '{identifier_column}'", path.display()))
            .advice(format!("its columns are: {}", named.join(", "))));
    }
    let mut lists: BTreeMap<String, Values> = BTreeMap::new();
    let (mut rows, mut valid_identifiers) = (0, 0);
    for file in &files {
        for batch in open(file, format, &schema)? {
            let batch = batch.map_err(|e| unreadable(&e))?;
            rows += batch.num_rows() as u64;
            valid_identifiers += valid(&batch, identifier_column, identifier).map_err(|e| unreadable(&e))?;
            for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
                lists.entry(field.name().clone()).or_default().count(array).map_err(|e| unreadable(&e))?;
            }
        }
    }
    let (columns, skipped) = columns(&schema, identifier_column, &lists);
    let source = source.to_str().ok_or_else(|| Failure::file("used", path, "its path is not UTF-8"))?.to_owned();
    Ok(Inferred { source, format, columns, skipped, rows, valid_identifiers })
}

/// The file, or the folder's files of one kind.
fn files(source: &Path) -> Result<(Format, Vec<PathBuf>)> {
    let format = |path: &Path| match path.extension().and_then(|end| end.to_str()) {
        Some("csv") => Some(Format::Csv),
        Some("parquet") => Some(Format::Parquet),
        _ => None,
    };
    let mut files = vec![source.to_owned()];
    if source.is_dir() {
        let entries = fs::read_dir(source).map_err(|e| Failure::file("read", source, e))?;
        files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| format(path).is_some()).collect();
        files.sort();
    }
    let kind = files.first().and_then(|file| format(file)).filter(|kind| files.iter().all(|file| format(file) == Some(*kind)));
    let kind =
        kind.ok_or_else(|| Failure::usage(format!("{} is neither .csv nor .parquet, nor a folder of one of them", source.display())))?;
    Ok((kind, files))
}

fn open_parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|e| Failure::file("read", path, e))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| Failure::file("read", path, e))
}

fn open(path: &Path, format: Format, schema: &Arc<Schema>) -> Result<Batches> {
    if format == Format::Parquet {
        let reader = open_parquet(path)?.build().map_err(|e| Failure::file("read", path, e))?;
        return Ok(Box::new(reader));
    }
    let file = File::open(path).map_err(|e| Failure::file("read", path, e))?;
    let reader = arrow::csv::ReaderBuilder::new(Arc::clone(schema)).with_header(true).build(file);
    Ok(Box::new(reader.map_err(|e| Failure::file("read", path, e))?))
}

/// The types of a CSV's columns: the narrowest that every file's every row fits. The identifier is text, so that leading
/// zeros stay.
fn csv_schema(files: &[PathBuf], identifier_column: &str) -> Result<Arc<Schema>> {
    let mut merged: Vec<Field> = Vec::new();
    for path in files {
        let mut file = BufReader::new(File::open(path).map_err(|e| Failure::file("read", path, e))?);
        file.rewind().map_err(|e| Failure::file("read", path, e))?;
        let format = arrow::csv::reader::Format::default().with_header(true);
        let (schema, _) = format.infer_schema(file, None).map_err(|e| Failure::file("read", path, e))?;
        if merged.is_empty() {
            merged = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        }
        let names = |fields: &mut dyn Iterator<Item = &str>| fields.map(str::to_owned).collect::<Vec<_>>();
        if names(&mut merged.iter().map(|f| f.name().as_str())) != names(&mut schema.fields().iter().map(|f| f.name().as_str())) {
            return Err(Failure::file("used", path, "its header differs from the folder's first file"));
        }
        for (field, other) in merged.iter_mut().zip(schema.fields()) {
            let kind = if field.name() == identifier_column { DataType::Utf8 } else { wider(field.data_type(), other.data_type()) };
            field.set_data_type(kind);
        }
    }
    Ok(Arc::new(Schema::new(merged)))
}

fn wider(a: &DataType, b: &DataType) -> DataType {
    match (a, b) {
        (DataType::Null, other) | (other, DataType::Null) => {
            if *other == DataType::Null {
                DataType::Utf8
            } else {
                other.clone()
            }
        }
        (a, b) if a == b => a.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        _ => DataType::Utf8,
    }
}

/// How many rows of the batch hold a valid identifier.
fn valid(batch: &RecordBatch, column: &str, identifier: &IdentifierType) -> std::result::Result<u64, ArrowError> {
    let Some(column) = batch.column_by_name(column) else { return Ok(0) };
    let texts = cast(column, &DataType::Utf8)?;
    let mut out = String::new();
    Ok(texts.as_string::<i32>().iter().flatten().filter(|text| identifier.normalise(text, &mut out)).count() as u64)
}

/// The offered columns, and what cannot be offered.
fn columns(schema: &Schema, identifier_column: &str, lists: &BTreeMap<String, Values>) -> (Vec<Column>, Vec<String>) {
    let (mut columns, mut skipped): (Vec<Column>, _) = (Vec::new(), Vec::new());
    for field in schema.fields().iter().filter(|field| field.name() != identifier_column) {
        let Some(kind) = column_type(field.data_type()) else {
            skipped.push(format!("'{}': values of the type {} cannot be offered", field.name(), field.data_type()));
            continue;
        };
        let name = sql_name(field.name());
        if columns.iter().any(|column| column.name == name) {
            skipped.push(format!("'{}': another column is called {name} already", field.name()));
            continue;
        }
        let listed = matches!(kind, ColumnType::Text | ColumnType::Integer);
        let values = lists.get(field.name()).filter(|_| listed).and_then(Values::published);
        let source = Some(field.name().clone()).filter(|source| *source != name);
        columns.push(Column { name, kind, classification: Classification::Personal, title: None, values, source });
    }
    (columns, skipped)
}

fn column_type(kind: &DataType) -> Option<ColumnType> {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(ColumnType::Text),
        DataType::Dictionary(_, value) => column_type(value).filter(|kind| *kind == ColumnType::Text),
        DataType::Boolean => Some(ColumnType::Boolean),
        DataType::Date32 => Some(ColumnType::Date),
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => Some(ColumnType::Number),
        DataType::UInt64 => None,
        kind if kind.is_integer() => Some(ColumnType::Integer),
        _ => None,
    }
}

/// A name that SQL needs no quotes for.
fn sql_name(source: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut name: String = source.trim().chars().map(plain).take(60).collect();
    if !column_name_ok(&name) {
        name.insert_str(0, "c_");
    }
    if name == SUBJECT { format!("{name}_") } else { name }
}

/// A column's distinct values, as long as they are few.
#[derive(Default)]
struct Values {
    rows: BTreeMap<String, u64>,
    many: bool,
}

impl Values {
    fn count(&mut self, array: &ArrayRef) -> std::result::Result<(), ArrowError> {
        let counted = array.data_type().is_integer() || column_type(array.data_type()) == Some(ColumnType::Text);
        if self.many || !counted {
            return Ok(());
        }
        let texts = cast(array, &DataType::Utf8)?;
        for text in texts.as_string::<i32>().iter().flatten() {
            if let Some(rows) = self.rows.get_mut(text) {
                *rows += 1;
            } else if self.rows.len() < MOST_VALUES {
                self.rows.insert(text.to_owned(), 1);
            } else {
                self.many = true;
                break;
            }
        }
        Ok(())
    }

    /// The list, if it is short and each value is common.
    fn published(&self) -> Option<Vec<String>> {
        let publishable = !self.many && !self.rows.is_empty() && self.rows.values().all(|rows| *rows >= LEAST_ROWS);
        publishable.then(|| self.rows.keys().cloned().collect())
    }
}
