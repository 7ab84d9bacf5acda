//! A table as an inspector finds it, wherever it lies: its columns, and a way to read its rows.

use concordat_policy::ColumnType;
use concordat_policy::agreement::column_name_ok;
use concordat_policy::column::SUBJECT;
use datafusion::arrow::datatypes::DataType;
use datafusion::execution::SendableRecordBatchStream;
use futures::future::BoxFuture;

use crate::source::SourceError;

/// What cannot be inspected, why, and what to do. Never holds a value.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{place}: {cause}")]
#[diagnostic(help("{remedy}"))]
pub struct InspectError {
    /// A file, folder, table or column.
    pub place: String,
    /// What is wrong with it.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl InspectError {
    /// All three.
    pub fn new(place: impl std::fmt::Display, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.to_string(), cause: cause.into(), remedy: remedy.into() }
    }
}

/// Reads the rows from their beginning: batches of those of the table's columns that can be read. Called several times.
pub type Rows = Box<dyn Fn() -> BoxFuture<'static, Result<SendableRecordBatchStream, SourceError>> + Send + Sync>;

/// One table.
pub struct Table {
    /// What the source calls it.
    pub name: String,
    /// Where it is, for people.
    pub place: String,
    /// How `node.toml` names the source: keys and values, already as TOML.
    pub source: Vec<(&'static str, String)>,
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Rows,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({}, {} columns)", self.name, self.columns.len())
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the source.
    pub name: String,
    /// The source's own name of its type.
    pub native: String,
    /// The type of a dataset's column that holds every value, or why there is none.
    pub kind: Result<ColumnType, String>,
}

impl Column {
    /// A column of an Arrow type.
    #[must_use]
    pub fn of(name: &str, native: String, found: &DataType) -> Self {
        let kind = column_type(found).ok_or_else(|| format!("values of the type {native} cannot be offered"));
        Self { name: name.to_owned(), native, kind }
    }
}

/// The type of a dataset's column that holds every value of an Arrow type.
#[must_use]
pub fn column_type(kind: &DataType) -> Option<ColumnType> {
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

/// A name for which SQL needs no quotes.
#[must_use]
pub fn sql_name(source: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut name: String = source.trim().chars().map(plain).take(60).collect();
    if !column_name_ok(&name) {
        name.insert_str(0, "c_");
    }
    if name == SUBJECT { format!("{name}_") } else { name }
}
