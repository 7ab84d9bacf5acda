//! Tables in CSV and Parquet files. Types of CSV columns are the narrowest that every row of every file fits.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::csv::reader::Format as CsvFormat;
use datafusion::arrow::datatypes::{DataType, Schema};
use futures::FutureExt as _;

use super::profile::looks_like_data;
use super::table::{Column, InspectError, Rows, Table};
use super::write::quoted;
use crate::config::Format;
use crate::source::{Files, SourceError};

/// Every table at `path`: a file is one; a folder has one per file in it, and one per folder in it that holds files of one kind.
///
/// # Errors
/// [`InspectError`]: for the first table that cannot be read, and when there is none.
pub async fn tables(path: &Path) -> Result<Vec<Table>, InspectError> {
    let mut tables = Vec::new();
    for path in places(path)? {
        tables.push(table(&path).await?);
    }
    Ok(tables)
}

/// The table in one file, or in a folder's files of one kind.
///
/// # Errors
/// [`InspectError`].
pub async fn table(path: &Path) -> Result<Table, InspectError> {
    let failed = |cause: String| InspectError::new(path.display(), cause, "name a CSV or Parquet file, or a folder of them");
    let place = path.canonicalize().map_err(|e| failed(format!("cannot be read: {e}")))?;
    let text = place.to_str().ok_or_else(|| failed("has a path that is not UTF-8".into()))?.to_owned();
    let format = format_of(&place)?;
    let source = Files { path: place.clone(), format };
    let schema = match format {
        Format::Csv => tokio::task::spawn_blocking(move || csv_schema(&place)).await.map_err(|e| failed(e.to_string()))??,
        Format::Parquet => schema(&source).await.map_err(|e| failed(e.to_string()))?,
    };
    let names = schema.fields().iter().map(|field| field.name().as_str());
    if let Some(twice) = twice(names) {
        return Err(InspectError::new(path.display(), format!("has two columns '{twice}'"), "give each column a name of its own"));
    }
    let name = path.file_stem().or(path.file_name()).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kind = match format {
        Format::Csv => "csv",
        Format::Parquet => "parquet",
    };
    Ok(Table {
        name,
        place: text.clone(),
        source: vec![("source", quoted(&text)), ("format", quoted(kind))],
        columns: schema.fields().iter().map(|f| Column::of(f.name(), f.data_type().to_string(), f.data_type())).collect(),
        rows: rows(source),
    })
}

/// Rows as the node itself reads them; CSV as text, so that nothing of an identifier is lost.
fn rows(source: Files) -> Rows {
    Box::new(move || {
        let source = source.clone();
        async move {
            let files = source.files()?;
            let frame = source.frame(&files, &|_| None, 1).await?;
            Ok::<_, SourceError>(frame.execute_stream().await?)
        }
        .boxed()
    })
}

async fn schema(source: &Files) -> Result<Arc<Schema>, SourceError> {
    let frame = source.frame(&source.files()?, &|_| None, 1).await?;
    Ok(Arc::clone(frame.schema().inner()))
}

fn twice<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}

/// What a path holds, by name.
fn places(path: &Path) -> Result<Vec<PathBuf>, InspectError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable =
        |e: std::io::Error| InspectError::new(path.display(), format!("cannot be read: {e}"), "correct the path or its permissions");
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let mut places = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    places.retain(|place| format_of(place).is_ok());
    places.sort();
    if places.is_empty() {
        return Err(InspectError::new(path.display(), "holds no CSV and no Parquet file", "name the folder that holds them"));
    }
    Ok(places)
}

/// The format of a file, or of every file of a folder.
///
/// # Errors
/// [`InspectError`] when it is neither CSV nor Parquet, or both.
pub fn format_of(path: &Path) -> Result<Format, InspectError> {
    let files = files_of(path);
    let of = |path: &PathBuf| match path.extension().and_then(|end| end.to_str()) {
        Some("csv") => Some(Format::Csv),
        Some("parquet") => Some(Format::Parquet),
        _ => None,
    };
    let format = files.first().and_then(of).filter(|format| files.iter().all(|file| of(file) == Some(*format)));
    format.ok_or_else(|| {
        InspectError::new(
            path.display(),
            "is neither .csv nor .parquet, nor a folder of one of them",
            "name a CSV or Parquet file, or a folder of them",
        )
    })
}

/// The file, or the folder's files that a source would read.
fn files_of(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let readable = |path: &PathBuf| path.is_file() && !hidden(path) && path.extension().is_some_and(|end| end == "csv" || end == "parquet");
    let mut files: Vec<PathBuf> = entries.filter(readable).collect();
    files.sort();
    files
}

/// The types of a CSV's columns.
fn csv_schema(path: &Path) -> Result<Arc<Schema>, InspectError> {
    let mut merged: Option<Schema> = None;
    for file in files_of(path) {
        let found = csv_file(&file)?;
        merged = Some(match merged {
            None => found,
            Some(so_far) if names(&so_far) == names(&found) => wider(&so_far, &found),
            Some(_) => {
                return Err(InspectError::new(
                    file.display(),
                    "has another header row than the folder's first file",
                    "keep one kind of file per folder",
                ));
            }
        });
    }
    let merged = merged.unwrap_or_else(Schema::empty);
    // A column without any value is text.
    let text = |kind: &DataType| if *kind == DataType::Null { DataType::Utf8 } else { kind.clone() };
    let fields = merged.fields().iter().map(|field| field.as_ref().clone().with_data_type(text(field.data_type())));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

fn csv_file(path: &Path) -> Result<Schema, InspectError> {
    let failed = |cause: String, remedy: &str| InspectError::new(path.display(), cause, remedy);
    let file = File::open(path).map_err(|e| failed(format!("cannot be read: {e}"), "correct the path or its permissions"))?;
    // The library's own words could quote a row.
    let (schema, _) = CsvFormat::default().with_header(true).infer_schema(BufReader::new(file), None).map_err(|_| {
        failed(
            "is not UTF-8 text with commas, a header row, and rows as long as that".into(),
            "export it as CSV (RFC 4180) with a header row",
        )
    })?;
    if schema.fields().iter().any(|field| looks_like_data(field.name())) {
        return Err(failed(
            "has a first row that looks like data, not like the columns' names".into(),
            "add a header row: else a person's values would become names",
        ));
    }
    Ok(schema)
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

/// The columns in types that hold both files' values.
fn wider(a: &Schema, b: &Schema) -> Schema {
    let kind = |a: &DataType, b: &DataType| match (a, b) {
        (DataType::Null, other) | (other, DataType::Null) => other.clone(),
        (a, b) if a == b => a.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        _ => DataType::Utf8,
    };
    let fields = a.fields().iter().zip(b.fields());
    let fields = fields.map(|(a, b)| a.as_ref().clone().with_data_type(kind(a.data_type(), b.data_type())));
    Schema::new(fields.collect::<Vec<_>>())
}
