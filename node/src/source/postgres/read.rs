//! One transaction's table or query as something to read once, or first what changes with its rows.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Datelike as _};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::scalar::ScalarValue;
use tokio::sync::mpsc::Sender;

use super::columns::{Column, Form};
use super::decode::{Decoder, EPOCH_MICROSECONDS, Fault};
use super::session::Session;
use super::wire::WireError;
use crate::source::sql::{Dialect, Operand};
use crate::source::{CHANGED, Ending, Reading, SourceError, Wanted, sql};

/// Batches that wait between the server and whoever reads them.
const AHEAD: usize = 2;

pub(super) struct Rows {
    connection: String,
    from: String,
    schema: SchemaRef,
    columns: Vec<Column>,
    // Whether text has the server's encoding that the engine has: only then do both order it alike.
    utf8: bool,
    session: Place,
    ending: Ending,
}

/// Where the session waits to be read from.
type Place = Arc<Mutex<Option<Session>>>;

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Rows {
    pub(super) fn new(connection: &str, session: Session, from: String, columns: Vec<Column>, utf8: bool, ending: Ending) -> Self {
        let fields = columns.iter().map(|column| Field::new(&column.name, column.form.read_as(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { connection: connection.to_owned(), from, schema, columns, utf8, session: Arc::new(Mutex::new(Some(session))), ending }
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The words for "changed at that time or later", which an index of the column can answer.
    fn since(&self, filter: &Expr) -> Option<String> {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::GtEq, right }) = filter else { return None };
        let (Expr::Column(column), Expr::Literal(ScalarValue::Int64(Some(since)), _)) = (&**left, &**right) else { return None };
        let changed = self.column(CHANGED).filter(|_| column.name == CHANGED)?;
        let Form::Microseconds { zoned } = changed.form else { return None };
        let (kind, zone) = if zoned { ("timestamptz", "Z") } else { ("timestamp", "") };
        // From the second on in which it is: the engine looks again.
        let second = DateTime::from_timestamp(since.checked_add(EPOCH_MICROSECONDS)?.div_euclid(1_000_000), 0)?;
        let written = second.format("%Y-%m-%dT%H:%M:%S");
        (1..=9999).contains(&second.year()).then(|| format!("({} >= '{written}{zone}'::pg_catalog.{kind})", changed.select))
    }

    fn statement(&self, wanted: &Wanted) -> String {
        let select: Vec<&str> = wanted.columns.iter().filter_map(|place| self.columns.get(*place)).map(|c| c.select.as_str()).collect();
        let condition = if wanted.conditions.is_empty() { String::new() } else { format!(" WHERE {}", wanted.conditions.join(" AND ")) };
        let limit = wanted.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        format!("COPY (SELECT {} FROM {}{condition}{limit}) TO STDOUT (FORMAT binary)", select.join(", "), self.from)
    }
}

impl Reading for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn condition(&self, filter: &Expr) -> Option<String> {
        self.since(filter).or_else(|| sql::condition(filter, self))
    }

    fn rows(&self, wanted: &Wanted) -> Result<SendableRecordBatchStream, SourceError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = session
            .ok_or_else(|| SourceError::Database { connection: self.connection.clone(), cause: "a transaction is read once".into() })?;
        let columns: Vec<&Column> = wanted.columns.iter().filter_map(|place| self.columns.get(*place)).collect();
        let forms: Vec<Form> = columns.iter().map(|column| column.form).collect();
        let copy = Copy {
            connection: self.connection.clone(),
            statement: self.statement(wanted),
            names: columns.iter().map(|column| column.name.clone()).collect(),
            decoder: Decoder::new(Arc::clone(&wanted.schema), &forms),
            ending: self.ending.clone(),
            back: wanted.more.then(|| Arc::clone(&self.session)),
        };
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&wanted.schema), AHEAD);
        let sender = stream.tx();
        // Aborted when the stream is dropped; with it goes the session, which cancels its statement.
        stream.spawn(copy.run(session, sender));
        Ok(stream.build())
    }
}

impl Dialect for Rows {
    fn read_as(&self, column: &str) -> Option<&DataType> {
        self.schema.field_with_name(column).ok().map(Field::data_type)
    }

    fn operand(&self, operand: &Operand, compared_as: &DataType) -> Option<String> {
        let column = self.column(&operand.column)?;
        let sql = column.compare.clone()?;
        Some(match compared_as {
            // Bytes, whatever the column's collation; other encodings order otherwise.
            DataType::Utf8 if self.utf8 => format!("({sql} COLLATE pg_catalog.\"C\")"),
            DataType::Float64 if operand.finite => ["NaN", "Infinity", "-Infinity"]
                .into_iter()
                .fold(format!("{sql}::pg_catalog.float8"), |number, none| format!("NULLIF({number}, '{none}'::pg_catalog.float8)")),
            DataType::Int64 | DataType::Boolean | DataType::Date32 => sql,
            _ => return None,
        })
    }

    fn literal(&self, literal: &ScalarValue) -> Option<String> {
        match literal {
            ScalarValue::Utf8(Some(text)) => Some(format!("{}::pg_catalog.text", sql::quoted(text)?)),
            ScalarValue::Int64(Some(whole)) => Some(format!("({whole})::pg_catalog.int8")),
            ScalarValue::Float64(Some(number)) => Some(format!("'{number:e}'::pg_catalog.float8")),
            ScalarValue::Boolean(Some(boolean)) => Some(if *boolean { "true".into() } else { "false".into() }),
            ScalarValue::Date32(Some(days)) => sql::date(*days).map(|day| format!("'{day}'::pg_catalog.date")),
            _ => None,
        }
    }
}

/// One `COPY`.
struct Copy {
    connection: String,
    statement: String,
    names: Vec<String>,
    decoder: Decoder,
    ending: Ending,
    // Where the session goes, when it is read from again.
    back: Option<Place>,
}

/// Why the rows ended before their end.
enum Broken {
    Wire(WireError),
    Rows(Fault),
}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl Copy {
    async fn run(mut self, session: Session, sender: Sender<Result<RecordBatch, DataFusionError>>) -> Result<(), DataFusionError> {
        let read = self.read(session, &sender).await;
        read.map_err(|broken| DataFusionError::from(self.error(broken)))?
    }

    /// `Ok(Err(_))` is the engine's own error.
    async fn read(
        &mut self,
        mut session: Session,
        sender: &Sender<Result<RecordBatch, DataFusionError>>,
    ) -> Result<Result<(), DataFusionError>, Broken> {
        session.copy_out(&self.statement, self.names.len()).await?;
        loop {
            let decoder = &mut self.decoder;
            let more = session.copied(|body| decoder.take(body).map_err(Broken::Rows)).await?;
            match self.decoder.batch().transpose() {
                Ok(None) => {}
                Ok(Some(batch)) => {
                    // An error says that nobody wants more.
                    if sender.send(Ok(batch)).await.is_err() {
                        return Ok(Ok(()));
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
            if !more {
                break;
            }
        }
        if !self.decoder.ended() {
            return Err(Broken::Rows(Fault::Bytes("the rows end without their mark")));
        }
        match &self.back {
            Some(place) => *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(session),
            None => {
                session.commit().await?;
                self.ending.whole();
            }
        }
        Ok(Ok(()))
    }

    fn error(&self, broken: Broken) -> SourceError {
        let connection = self.connection.clone();
        match broken {
            Broken::Wire(error) => SourceError::Database { connection, cause: error.to_string() },
            Broken::Rows(Fault::Bytes(cause)) => SourceError::Database { connection, cause: format!("its rows cannot be read: {cause}") },
            Broken::Rows(Fault::Value(place, cause)) => {
                SourceError::Value { column: self.names.get(place).cloned().unwrap_or_default(), cause }
            }
        }
    }
}
