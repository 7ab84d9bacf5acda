//! Imports consent records from a CSV or Parquet file with the columns `identifier`, `purpose`, `event` and, where the department
//! has identifiers of several types, `identifier_type`; in the order in which they were made.
//!
//! A file is imported once (by its SHA-256), all of it or nothing. Records with invalid identifiers are left out and counted:
//! rows with such identifiers are never released. An unknown purpose, event or type stops the import, because leaving out a
//! withdrawal would be wrong.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use concordat_policy::agreement::hex;
use datafusion::logical_expr::cast;
use datafusion::prelude::ident;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::Consent;
use super::intake::{Intake, IntakeError};
use super::ledger::{LedgerError, Record};
use crate::config::Format;
use crate::source::{Files, SourceError};

/// Why a file was not imported; nothing of it was recorded. Holds no identifier.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// Its content.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A record, counted from 1 without the header.
    #[error("{0}: record {1}: {2}")]
    Record(PathBuf, u64, IntakeError),
    /// Several types of identifiers, and no column that tells which.
    #[error("{0}: has no column 'identifier_type', and this department's datasets have identifiers of several types, or none")]
    NoType(PathBuf),
    /// Work that was stopped.
    #[error("the import was stopped; nothing was recorded")]
    Stopped,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// The file had been imported before.
    Before,
    /// Records added, and records left out for invalid identifiers.
    Now {
        /// Added.
        records: u64,
        /// Left out.
        invalid: u64,
    },
}

/// Imports `path`.
///
/// # Errors
/// [`ImportError`].
pub async fn import(consent: Arc<Consent>, intake: Intake, path: PathBuf) -> Result<Imported, ImportError> {
    let digest = tokio::task::spawn_blocking({
        let path = path.clone();
        move || digest(&path).map_err(|e| ImportError::File(path, e))
    });
    let digest = digest.await.map_err(|_| ImportError::Stopped)??;
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (sender, mut receiver) = mpsc::channel::<Result<Vec<Record>, ()>>(4);
    let writing = tokio::task::spawn_blocking(move || {
        // A channel that closes without the end's mark means that reading failed: nothing is kept.
        let mut ended = false;
        let next = || match receiver.blocking_recv() {
            Some(Ok(records)) if records.is_empty() => {
                ended = true;
                Ok(None)
            }
            Some(Ok(records)) => Ok(Some(records)),
            Some(Err(())) => Err(()),
            None if ended => Ok(None),
            None => Err(()),
        };
        let imported = consent.ledger().import(&digest, &file, next)?;
        consent.remember().map(|()| imported)
    });
    let read = read(&path, &intake, &sender).await;
    // The end's mark; the writer may have stopped listening when it knows the file.
    let _ = sender.send(read.as_ref().map(|_| Vec::new()).map_err(|_| ())).await;
    drop(sender);
    let written = writing.await.map_err(|_| ImportError::Stopped)?;
    match (read, written) {
        (_, Ok(None)) => Ok(Imported::Before),
        (Err(e), _) => Err(e),
        (Ok(invalid), Ok(Some(records))) => Ok(Imported::Now { records, invalid }),
        (Ok(_), Err(e)) => Err(e.into()),
    }
}

/// Sends all records, in order; returns how many were left out.
async fn read(path: &Path, intake: &Intake, sender: &mpsc::Sender<Result<Vec<Record>, ()>>) -> Result<u64, ImportError> {
    let format = if path.extension().is_some_and(|e| e == "parquet") { Format::Parquet } else { Format::Csv };
    let source = Files { path: path.to_owned(), format };
    // One partition: the order of records is their meaning.
    let frame = source.frame(&source.files()?, |_| None, 1).await?;
    let typed = frame.schema().has_column_with_unqualified_name("identifier_type");
    let fixed = intake.only_type().unwrap_or_default().to_owned();
    if !typed && fixed.is_empty() {
        return Err(ImportError::NoType(path.to_owned()));
    }
    let mut columns = vec!["identifier", "purpose", "event"];
    columns.extend(typed.then_some("identifier_type"));
    let wanted = columns.into_iter().map(|column| cast(ident(column), DataType::Utf8).alias(column));
    let engine = |e| ImportError::Source(SourceError::Engine(e));
    let mut stream = frame.select(wanted).map_err(engine)?.execute_stream().await.map_err(engine)?;
    let (mut place, mut invalid, mut scratch) = (0, 0, String::new());
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(engine)?;
        let mut records = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            place += 1;
            let kind = if typed { text(&batch, 3, row) } else { &fixed };
            match intake.record(text(&batch, 0, row), kind, text(&batch, 1, row), text(&batch, 2, row), &mut scratch) {
                Ok(record) => records.push(record),
                Err(IntakeError::Identifier(_)) => invalid += 1,
                Err(e) => return Err(ImportError::Record(path.to_owned(), place, e)),
            }
        }
        // An empty list would be the end's mark.
        if !records.is_empty() && sender.send(Ok(records)).await.is_err() {
            break;
        }
    }
    Ok(invalid)
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> &str {
    let column: Option<&StringArray> = batch.columns().get(column).and_then(|column| column.as_string_opt());
    column.filter(|column| row < column.len() && column.is_valid(row)).map_or("", |column| column.value(row))
}

fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = io::Read::read(&mut file, &mut buffer)?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}
