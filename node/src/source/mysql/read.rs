//! One transaction's table or query as something to read once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{Datelike as _, NaiveDate};
use concordat_policy::agreement::hex;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::scalar::ScalarValue;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Row, Value};
use tokio::sync::mpsc::Sender;

use super::columns::{Column, Form};
use super::name;
use super::session::{MysqlError, SILENCE, Session, within};
use crate::source::batch::{Batch, Builder};
use crate::source::sql::{Dialect, Operand};
use crate::source::{Ending, Reading, SourceError, Wanted, sql};

/// Batches that wait between the server and whoever reads them.
const AHEAD: usize = 2;

pub(super) struct Rows {
    connection: String,
    from: String,
    schema: SchemaRef,
    columns: Vec<Column>,
    longest_text: u64,
    session: Mutex<Option<Session>>,
    ending: Ending,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Rows {
    pub(super) fn new(connection: &str, session: Session, from: String, columns: Vec<Column>, ending: Ending) -> Self {
        let fields = columns.iter().map(|column| Field::new(&column.name, column.form.read_as(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let longest_text = session.longest_text();
        Self { connection: connection.to_owned(), from, schema, columns, longest_text, session: Mutex::new(Some(session)), ending }
    }

    /// What stands behind `SELECT`.
    fn statement(&self, wanted: &Wanted, columns: &[Column]) -> String {
        let names: Vec<String> = columns.iter().map(|column| name(&column.name)).collect();
        // A row of no columns is still a row.
        let select = if names.is_empty() { "1".to_owned() } else { names.join(", ") };
        let condition = if wanted.conditions.is_empty() { String::new() } else { format!(" WHERE {}", wanted.conditions.join(" AND ")) };
        let limit = wanted.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        format!("{select} FROM {}{condition}{limit}", self.from)
    }
}

impl Reading for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn condition(&self, filter: &Expr) -> Option<String> {
        sql::condition(filter, self)
    }

    fn rows(&self, wanted: &Wanted) -> Result<SendableRecordBatchStream, SourceError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = session
            .ok_or_else(|| SourceError::Database { connection: self.connection.clone(), cause: "a transaction is read once".into() })?;
        let columns: Vec<Column> = wanted.columns.iter().filter_map(|place| self.columns.get(*place)).cloned().collect();
        let select = Select {
            connection: self.connection.clone(),
            statement: self.statement(wanted, &columns),
            columns,
            batch: Batch::new(Arc::clone(&wanted.schema)),
            ending: self.ending.clone(),
        };
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&wanted.schema), AHEAD);
        let sender = stream.tx();
        // Aborted when the stream is dropped; with it goes the session, which ends its statement.
        stream.spawn(select.run(session, sender));
        Ok(stream.build())
    }
}

impl Dialect for Rows {
    fn read_as(&self, column: &str) -> Option<&DataType> {
        self.schema.field_with_name(column).ok().map(Field::data_type)
    }

    fn operand(&self, operand: &Operand, compared_as: &DataType) -> Option<String> {
        let column = self.columns.iter().find(|column| column.name == operand.column)?;
        let sql = name(&operand.column);
        Some(match (column.form, compared_as) {
            // Bytes in UTF-8, whatever the column's character set and collation.
            (Form::Text, DataType::Utf8) if u64::from(column.length) < self.longest_text => {
                format!("CAST(CONVERT({sql} USING utf8mb4) AS BINARY)")
            }
            (Form::Number | Form::Decimal | Form::Integer | Form::Year | Form::Whole, DataType::Float64) => format!("({sql} + 0e0)"),
            (Form::Year, DataType::Int64) => format!("({sql} + 0)"),
            (Form::Integer | Form::Whole, DataType::Int64) | (Form::Date, DataType::Date32) => sql,
            // Nor booleans: a 7 among them is neither true nor false to SQL, and must fail the scan.
            _ => return None,
        })
    }

    fn literal(&self, literal: &ScalarValue) -> Option<String> {
        match literal {
            // A string of bytes, in which nothing has to be escaped.
            ScalarValue::Utf8(Some(text)) => Some(format!("X'{}'", hex(text.as_bytes()))),
            ScalarValue::Int64(Some(whole)) => Some(format!("({whole})")),
            ScalarValue::Float64(Some(number)) if number.is_finite() => Some(format!("({number:e})")),
            ScalarValue::Date32(Some(days)) => sql::date(*days).map(|day| format!("DATE'{day}'")),
            _ => None,
        }
    }
}

/// One statement.
struct Select {
    connection: String,
    statement: String,
    columns: Vec<Column>,
    batch: Batch,
    ending: Ending,
}

/// Why the rows ended before their end.
enum Broken {
    Server(MysqlError),
    Value(usize, &'static str),
    Engine(DataFusionError),
    Unwanted,
}

impl From<MysqlError> for Broken {
    fn from(error: MysqlError) -> Self {
        Self::Server(error)
    }
}

type Sending = Sender<Result<RecordBatch, DataFusionError>>;

impl Select {
    async fn run(mut self, session: Session, sender: Sending) -> Result<(), DataFusionError> {
        let connection = self.connection.clone();
        match self.read(session, &sender).await {
            Ok(()) | Err(Broken::Unwanted) => Ok(()),
            Err(Broken::Engine(error)) => Err(error),
            Err(Broken::Server(error)) => Err(SourceError::Database { connection, cause: error.to_string() }.into()),
            Err(Broken::Value(place, cause)) => {
                let column = self.columns.get(place).map(|column| column.name.clone()).unwrap_or_default();
                Err(SourceError::Value { column, cause }.into())
            }
        }
    }

    async fn read(&mut self, mut session: Session, sender: &Sending) -> Result<(), Broken> {
        // Prepared: numbers and times come in binary form, not as text.
        let (conn, statement) = session.running(&self.statement)?;
        let mut rows = within(SILENCE, async { Ok(conn.exec_iter(statement, ()).await?) }).await?;
        while let Some(row) = within(SILENCE, async { Ok(rows.next().await?) }).await? {
            self.take(row)?;
            if self.batch.is_full() {
                self.send(sender).await?;
            }
        }
        drop(rows);
        self.send(sender).await?;
        session.commit().await?;
        self.ending.whole();
        Ok(())
    }

    fn take(&mut self, row: Row) -> Result<(), Broken> {
        let values = row.unwrap_raw();
        let columns = &self.columns;
        self.batch.row(|place, builder| {
            // The engine may ask for no column at all; there is a value for each that it asks for.
            let (column, value) =
                columns.get(place).zip(values.get(place).and_then(Option::as_ref)).ok_or(Broken::Value(place, "is missing"))?;
            take(builder, column.form, value).map_err(|cause| Broken::Value(place, cause))
        })
    }

    async fn send(&mut self, sender: &Sending) -> Result<(), Broken> {
        match self.batch.finish().map_err(Broken::Engine)? {
            Some(batch) => sender.send(Ok(batch)).await.map_err(|_| Broken::Unwanted),
            None => Ok(()),
        }
    }
}

/// Takes a value, and tells how many bytes of text it has.
fn take(builder: &mut Builder, form: Form, value: &Value) -> Result<usize, &'static str> {
    match (builder, form, value) {
        (builder, _, Value::NULL) => builder.null(),
        (Builder::Boolean(builder), Form::Boolean, Value::Int(whole @ (0 | 1))) => builder.append_value(*whole == 1),
        (Builder::Boolean(builder), Form::Bit, Value::Bytes(bytes)) if matches!(bytes.as_slice(), [0 | 1]) => {
            builder.append_value(bytes.as_slice() == [1]);
        }
        (Builder::Boolean(_), ..) => return Err("is no boolean: 0 and 1 are"),
        (Builder::Integer(builder), Form::Integer | Form::Year, Value::Int(whole)) => builder.append_value(*whole),
        (Builder::Integer(builder), Form::Integer | Form::Year, Value::UInt(whole)) => {
            builder.append_value(i64::try_from(*whole).map_err(|_| "is beyond 63 bits")?);
        }
        (Builder::Integer(builder), Form::Whole, Value::Bytes(digits)) => builder.append_value(parsed(digits).ok_or("is no integer")?),
        (Builder::Integer(_), ..) => return Err("is no integer"),
        (Builder::Number(builder), Form::Number, Value::Float(number)) => builder.append_value(f64::from(*number)),
        (Builder::Number(builder), Form::Number, Value::Double(number)) => builder.append_value(*number),
        (Builder::Number(builder), Form::Decimal, Value::Bytes(digits)) => builder.append_value(parsed(digits).ok_or("is no number")?),
        (Builder::Number(_) | Builder::Decimal(_), ..) => return Err("is no number"),
        (Builder::Date(builder), Form::Date, Value::Date(year, month, day, ..)) => {
            builder.append_value(days(*year, *month, *day).ok_or("is no day of the years 1 to 9999")?);
        }
        (Builder::Date(_), ..) => return Err("is no date"),
        (Builder::Text(builder), Form::DateTime | Form::Instant, Value::Date(year, month, day, hour, minute, second, micros)) => {
            days(*year, *month, *day).ok_or("is no time of the years 1 to 9999")?;
            let fraction = if *micros == 0 { String::new() } else { format!(".{micros:06}").trim_end_matches('0').to_owned() };
            let zone = if form == Form::Instant { "Z" } else { "" };
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
            builder.append_value(&text);
            return Ok(text.len());
        }
        (Builder::Text(builder), Form::Text, Value::Bytes(text)) => {
            builder.append_value(std::str::from_utf8(text).map_err(|_| "is not UTF-8")?);
            return Ok(text.len());
        }
        (Builder::Text(builder), Form::Hex, Value::Bytes(bytes)) => {
            builder.append_value(hex(bytes));
            return Ok(2 * bytes.len());
        }
        (Builder::Text(_), ..) => return Err("is no text"),
    }
    Ok(0)
}

fn parsed<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn days(year: u16, month: u8, day: u8) -> Option<i32> {
    let date = NaiveDate::from_ymd_opt(year.into(), month.into(), day.into()).filter(|date| (1..=9999).contains(&date.year()))?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}
