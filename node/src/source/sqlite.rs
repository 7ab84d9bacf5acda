//! SQLite: a table or query of a database file, opened read-only and read within one transaction. Not as `immutable`: whoever
//! writes to it meanwhile is seen by the next scan.
//!
//! SQLite's declared types bind nobody, so both are looked at: the declared type at `check`, and every value when it is read.
//!
//! | declared type holds | read as | values that fit |
//! |---|---|---|
//! | `INT` | integer, number, boolean | integers; 0 and 1 as booleans |
//! | `BOOL` | boolean, integer | 0 and 1 |
//! | `CHAR` `TEXT` `CLOB` `UUID` `JSON` `TIME` (also `DATETIME`) | text, date | text in UTF-8; `2026-01-31` as a date |
//! | `DATE` alone | date, text | text |
//! | `REAL` `FLOA` `DOUB` `NUMERIC` `DECIMAL` | number, integer | reals and integers; infinities are null |
//! | nothing (an expression of a query) | as the configuration declares it, else text | as that type |
//! | `BLOB`, anything else | refused | |
//!
//! Conditions stay with the engine: the file is on this machine, and nothing is saved by sending them.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use futures::StreamExt as _;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle, OpenFlags};
use tokio::sync::mpsc::Sender;

use super::batch::{Batch, Builder};
use super::connection::Found;
use super::{Declared, Ending, Reading, Relation, SourceColumn, SourceError, SourceTable, TableName, Wanted, sql};

/// Batches that wait for whoever reads them.
const AHEAD: usize = 2;
/// How long a lock of a writer is waited for.
const LOCKED: Duration = Duration::from_secs(4);

/// Opens a read transaction and looks at the columns.
pub(super) async fn open(connection: &str, path: &Path, relation: &Relation, declared: Declared<'_>) -> Result<Found, SourceError> {
    let from = from(relation);
    let (database, described) = blocking(connection, {
        let (path, from) = (path.to_owned(), from.clone());
        move || {
            let database = begin(&path)?;
            let described = described(&database, &from)?;
            Ok((database, described))
        }
    })
    .await?;
    let columns: Vec<SourceColumn> = described.into_iter().map(|(name, native)| column(name, native, declared)).collect();
    let ending = Ending::default();
    let rows = Rows::new(connection, database, from, &columns, ending.clone());
    Ok(Found { columns, definition: None, reading: Arc::new(rows), ending })
}

/// Every table and view.
pub(super) async fn tables(connection: &str, path: &Path) -> Result<Vec<SourceTable>, SourceError> {
    let path = path.to_owned();
    let found = blocking(connection, move || {
        let database = begin(&path)?;
        let list = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1";
        let names = database.prepare(list)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let found = names.into_iter().map(|name| {
            let name = TableName { schema: None, name };
            // A view over what is gone is listed without columns.
            let described = described(&database, &from_table(&name)).unwrap_or_default();
            (name, described)
        });
        Ok(found.collect::<Vec<_>>())
    });
    let table = |(name, described): (TableName, Vec<(String, Option<String>)>)| {
        let columns = described.into_iter().map(|(name, native)| column(name, native, &|_| None)).collect();
        SourceTable { name, columns }
    };
    Ok(found.await?.into_iter().map(table).collect())
}

async fn blocking<T: Send + 'static>(
    connection: &str,
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, SourceError> {
    let failed = |cause: String| SourceError::Database { connection: connection.to_owned(), cause };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| failed("the file's structure cannot be read".into()))?.map_err(|e| failed(cause(&e)))
}

/// SQLite's own texts can quote values; its codes do not.
fn cause(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode;
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => "the file cannot be opened: correct its path or permissions",
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => "the file is no database of SQLite, or a damaged one",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "the file stayed locked by a writer",
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => "the file may not be read",
        Some(ErrorCode::OperationInterrupted) => "the scan was stopped",
        Some(ErrorCode::ReadOnly) => "the statement would write",
        Some(ErrorCode::Unknown) | None => "the table or query does not fit the file: no such table or column, or invalid SQL",
        Some(_) => "SQLite failed",
    };
    what.into()
}

fn begin(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    database.busy_timeout(LOCKED)?;
    database.execute_batch("PRAGMA query_only = ON; BEGIN; SELECT count(*) FROM sqlite_schema")?;
    Ok(database)
}

/// The columns' names and declared types.
fn described(database: &Connection, from: &str) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let statement = database.prepare(&format!("SELECT * FROM {from} LIMIT 0"))?;
    Ok(statement.columns().map(|column| (column.name().to_owned(), column.decl_type().map(str::to_owned))).collect())
}

fn from(relation: &Relation) -> String {
    match relation {
        Relation::Table(table) => from_table(table),
        Relation::Query(query) => format!("({query}\n)"),
    }
}

fn from_table(table: &TableName) -> String {
    let schema = table.schema.as_deref().map(|schema| format!("{}.", sql::name(schema)));
    format!("{}{}", schema.unwrap_or_default(), sql::name(&table.name))
}

fn column(name: String, native: Option<String>, declared: Declared<'_>) -> SourceColumn {
    let wanted = declared(&name);
    let read_as = match native.as_deref() {
        None | Some("") => Some(wanted.unwrap_or(DataType::Utf8)),
        Some(native) => readings(native).map(|(usual, other)| wanted.filter(|wanted| other.contains(wanted)).unwrap_or(usual)),
    };
    let native = native.filter(|native| !native.is_empty()).unwrap_or_else(|| "no declared type".into());
    SourceColumn { name, native, read_as }
}

/// The type in which columns of a declared type are read, and those in which they can be.
fn readings(native: &str) -> Option<(DataType, &'static [DataType])> {
    let native = native.to_ascii_uppercase();
    let holds = |parts: &[&str]| parts.iter().any(|part| native.contains(part));
    Some(match () {
        () if holds(&["BOOL"]) => (DataType::Boolean, &[DataType::Int64]),
        () if holds(&["INT"]) => (DataType::Int64, &[DataType::Float64, DataType::Boolean]),
        () if native.trim() == "DATE" => (DataType::Date32, &[DataType::Utf8]),
        () if holds(&["CHAR", "TEXT", "CLOB", "UUID", "JSON", "TIME"]) => (DataType::Utf8, &[DataType::Date32]),
        () if holds(&["REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL"]) => (DataType::Float64, &[DataType::Int64]),
        () => return None,
    })
}

struct Rows {
    connection: String,
    from: String,
    schema: SchemaRef,
    database: Mutex<Option<Connection>>,
    ending: Ending,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Rows {
    fn new(connection: &str, database: Connection, from: String, columns: &[SourceColumn], ending: Ending) -> Self {
        let field = |column: &SourceColumn| Some(Field::new(&column.name, column.read_as.clone()?, true));
        let schema = Arc::new(Schema::new(columns.iter().filter_map(field).collect::<Vec<_>>()));
        Self { connection: connection.to_owned(), from, schema, database: Mutex::new(Some(database)), ending }
    }

    fn failed(&self, cause: String) -> SourceError {
        SourceError::Database { connection: self.connection.clone(), cause }
    }
}

impl Reading for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn condition(&self, _filter: &Expr) -> Option<String> {
        None
    }

    fn rows(&self, wanted: &Wanted) -> Result<SendableRecordBatchStream, SourceError> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner).take();
        let database = database.ok_or_else(|| self.failed("a transaction is read once".into()))?;
        let names: Vec<String> = wanted.schema.fields().iter().map(|field| sql::name(field.name())).collect();
        // A row of no columns is still a row.
        let select = if names.is_empty() { "1".to_owned() } else { names.join(", ") };
        let limit = wanted.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        let statement = format!("SELECT {select} FROM {}{limit}", self.from);
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&wanted.schema), AHEAD);
        let (sender, schema, connection, ending) = (stream.tx(), Arc::clone(&wanted.schema), self.connection.clone(), self.ending.clone());
        let stop = Stop(database.get_interrupt_handle());
        stream.spawn_blocking(move || {
            let read = read(&database, &statement, schema, &sender);
            read.map_err(|broken| DataFusionError::from(broken.error(connection)))?;
            ending.whole();
            Ok(())
        });
        let stream = stream.build().inspect(move |_| {
            // Held as long as the stream.
            let _ = &stop;
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&wanted.schema), stream)))
    }
}

/// Stops the statement when the stream is dropped.
struct Stop(InterruptHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

/// Why the rows ended before their end.
enum Broken {
    Database(rusqlite::Error),
    Value(String, &'static str),
    Engine(DataFusionError),
    Unwanted,
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Broken {
    fn error(self, connection: String) -> SourceError {
        match self {
            Self::Database(error) => SourceError::Database { connection, cause: cause(&error) },
            Self::Value(column, cause) => SourceError::Value { column, cause },
            Self::Engine(error) => SourceError::Engine(error),
            Self::Unwanted => SourceError::Database { connection, cause: "nobody wants the rows any more".into() },
        }
    }
}

type Sending = Sender<Result<RecordBatch, DataFusionError>>;

fn read(database: &Connection, statement: &str, schema: SchemaRef, sender: &Sending) -> Result<(), Broken> {
    let mut statement = database.prepare(statement)?;
    let mut rows = statement.query([])?;
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut batch = Batch::new(schema);
    while let Some(row) = rows.next()? {
        batch.row(|place, builder| {
            let wrong = |cause| Broken::Value(names.get(place).cloned().unwrap_or_default(), cause);
            take(builder, row.get_ref(place)?).map_err(wrong)
        })?;
        if batch.is_full() {
            send(&mut batch, sender)?;
        }
    }
    send(&mut batch, sender)?;
    drop(rows);
    drop(statement);
    Ok(database.execute_batch("COMMIT")?)
}

fn send(batch: &mut Batch, sender: &Sending) -> Result<(), Broken> {
    match batch.finish().map_err(Broken::Engine)? {
        Some(batch) => sender.blocking_send(Ok(batch)).map_err(|_| Broken::Unwanted),
        None => Ok(()),
    }
}

/// Takes a value, and tells how many bytes of text it has.
fn take(builder: &mut Builder, value: ValueRef<'_>) -> Result<usize, &'static str> {
    match (builder, value) {
        (builder, ValueRef::Null) => builder.null(),
        (Builder::Boolean(builder), ValueRef::Integer(whole @ (0 | 1))) => builder.append_value(whole == 1),
        (Builder::Boolean(_), _) => return Err("is no boolean: 0 and 1 are"),
        (Builder::Integer(builder), ValueRef::Integer(whole)) => builder.append_value(whole),
        (Builder::Integer(_), _) => return Err("is no integer"),
        (Builder::Number(builder), ValueRef::Integer(whole)) => builder.append_value(whole as f64),
        (Builder::Number(builder), ValueRef::Real(number)) => builder.append_value(number),
        (Builder::Number(_) | Builder::Decimal(_), _) => return Err("is no number"),
        (Builder::Date(builder), ValueRef::Text(text)) => builder.append_value(day(text).ok_or("is no date such as 2026-01-31")?),
        (Builder::Date(_), _) => return Err("is no date such as 2026-01-31"),
        (Builder::Text(builder), ValueRef::Text(text)) => {
            builder.append_value(std::str::from_utf8(text).map_err(|_| "is not UTF-8")?);
            return Ok(text.len());
        }
        (Builder::Text(_), _) => return Err("is no text"),
    }
    Ok(0)
}

fn day(text: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 10)?;
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(day.signed_duration_since(NaiveDate::default()).num_days()).ok()
}
