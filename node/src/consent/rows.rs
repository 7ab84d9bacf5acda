//! Reads consent records from a CSV or Parquet file with the columns `identifier`, `purpose`, `event` and, where the department
//! has identifiers of several types, `identifier_type`. It may have `effective_from` and `expires_at` (RFC 3339, whole seconds),
//! and `capacity` and `acted_by`: empty where a record does not say it. Other columns are not looked at.
//!
//! A CSV record is one line of at most 64 KiB: a field that holds a line break is refused, because a quotation mark that was
//! forgotten would else swallow the records that follow.

mod csv;
mod parquet;

use std::fmt;
use std::fs::File;
use std::io;

use super::intake::Raw;

/// The columns, in the order of [`Raw`]'s fields.
const COLUMNS: [&str; 8] = ["identifier", "identifier_type", "purpose", "event", "effective_from", "expires_at", "capacity", "acted_by"];
/// How many of them, the first ones, every file has.
const NEEDED: usize = 4;

/// Where a record stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A line of a CSV file, from 1, the header among them.
    Line(u64),
    /// A record of a Parquet file or a stream, from 1.
    Record(u64),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Record(record) => write!(f, "record {record}"),
        }
    }
}

/// Why a row is no record. Holds nothing of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// More or fewer fields than the header.
    #[error("it has {0} field(s), and the header has {1}")]
    Fields(usize, usize),
    /// A quotation mark without its partner, or text behind one.
    #[error("a quotation mark is not closed on its line, or text follows it (a field holds no line break)")]
    Quote,
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    Text,
    /// A very long line.
    #[error("the line is longer than 64 KiB")]
    Long,
}

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A column that must be there.
    #[error("it has no column '{0}'")]
    Column(&'static str),
    /// A column that is there twice.
    #[error("it has the column '{0}' twice")]
    Twice(&'static str),
    /// Several types of identifiers, and no column that tells which.
    #[error("it has no column 'identifier_type', and this department's datasets have identifiers of several types, or none")]
    NoType,
    /// The first line.
    #[error("line 1: {0}")]
    Header(RowError),
    /// Not Parquet, or a column that is not text.
    #[error("the Parquet file is damaged, or a column cannot be read as text")]
    Parquet,
}

/// How a file of consent records is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Csv,
    Parquet,
}

/// Calls `each` for every row, in order. `only_type` is the type of identifiers where no column tells it.
pub(super) fn read<E: From<FileError>>(
    file: &File,
    form: Form,
    only_type: Option<&str>,
    each: impl FnMut(At, Result<Raw<'_>, RowError>) -> Result<(), E>,
) -> Result<(), E> {
    match form {
        Form::Csv => csv::read(file, only_type, each),
        Form::Parquet => parquet::read(file, only_type, each),
    }
}

/// Where the columns stand among `names`.
fn positions<'a>(names: impl Iterator<Item = &'a str>, only_type: Option<&str>) -> Result<[Option<usize>; 8], FileError> {
    let mut found = [None; 8];
    for (at, name) in names.enumerate() {
        for (column, found) in COLUMNS.iter().zip(&mut found) {
            if *column == name && found.replace(at).is_some() {
                return Err(FileError::Twice(column));
            }
        }
    }
    for (column, found) in COLUMNS.iter().zip(found).take(NEEDED) {
        match found {
            None if *column != "identifier_type" => return Err(FileError::Column(column)),
            None if only_type.is_none() => return Err(FileError::NoType),
            _ => {}
        }
    }
    Ok(found)
}

/// A record of the columns' values, in their order.
fn raw<'a>(values: [&'a str; 8]) -> Raw<'a> {
    let [identifier, identifier_type, purpose, event, effective_from, expires_at, capacity, acted_by] = values;
    Raw { identifier, identifier_type, purpose, event, effective_from, expires_at, capacity, acted_by }
}
