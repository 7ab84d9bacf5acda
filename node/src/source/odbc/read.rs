//! One transaction's table or query as something to read once.

use std::fmt;
use std::mem::discriminant;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt as _, stream};
use odbc_api::buffers::{BufferDesc, ColumnarDynBuffer};
use odbc_api::{BlockCursor, Cursor, DataType as Sql, Error};
use tokio::sync::{mpsc, oneshot};

use super::columns::{Column, described, typed};
use super::decode::{self, Wrong};
use super::session::{OdbcError, Session};
use crate::source::batch::Batch;
use crate::source::{Ending, Reading, SourceError, Wanted};

/// Batches that wait between the driver and whoever reads them.
const AHEAD: usize = 2;
/// Bytes into which a driver fetches, unless a single row takes more.
const FETCHED: usize = 8 << 20;
/// Rows that a driver is asked for at a time.
const FETCHED_ROWS: usize = 8_192;
/// Bytes that a single row may take: as many as some five hundred columns of unlimited text.
const ROW: usize = 64 << 20;

pub(super) struct Rows {
    connection: String,
    from: String,
    schema: SchemaRef,
    columns: Vec<Column>,
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
        Self { connection: connection.to_owned(), from, schema, columns, session: Mutex::new(Some(session)), ending }
    }

    fn failed(&self, cause: &str) -> SourceError {
        SourceError::Database { connection: self.connection.clone(), cause: cause.to_owned() }
    }
}

impl Reading for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// None: what a comparison means differs from database to database, and a driver does not tell which it is.
    fn condition(&self, _filter: &Expr) -> Option<String> {
        None
    }

    fn rows(&self, wanted: &Wanted) -> Result<SendableRecordBatchStream, SourceError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = session.ok_or_else(|| self.failed("a transaction is read once"))?;
        let columns: Vec<Column> = wanted.columns.iter().filter_map(|place| self.columns.get(*place)).cloned().collect();
        let names: Vec<String> = columns.iter().map(|column| session.name(&column.name)).collect();
        // A row of no columns is still a row.
        let select = if names.is_empty() { "1 AS one".to_owned() } else { names.join(", ") };
        let select = Select {
            connection: self.connection.clone(),
            statement: format!("SELECT {select} FROM {}", self.from),
            columns,
            schema: Arc::clone(&wanted.schema),
            limit: wanted.limit.unwrap_or(usize::MAX),
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (ended, end) = oneshot::channel();
        let (connection, ending) = (self.connection.clone(), self.ending.clone());
        // Not one of the runtime's: a driver may keep it for minutes, and the program's end does not wait for that.
        let thread = std::thread::Builder::new().name("odbc scan".into()).spawn(move || {
            let read = select.read(session, &sender).map(|()| ending.whole());
            drop(ended.send(read.map_err(|broken| DataFusionError::from(broken.error(&select)))));
        });
        thread.map_err(|_| self.failed("no thread can be had"))?;
        let batches = stream::unfold(receiver, |mut receiver: mpsc::Receiver<RecordBatch>| async move {
            let batch = receiver.recv().await?;
            Some((Ok(batch), receiver))
        });
        // A thread that ends without a word has failed: its rows are not all.
        let last = stream::once(end).filter_map(move |end| {
            let failed = SourceError::Database { connection: connection.clone(), cause: "the driver failed".into() };
            std::future::ready(end.unwrap_or_else(|_| Err(failed.into())).err().map(Err))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&wanted.schema), batches.chain(last))))
    }
}

/// Why the rows ended before their end.
enum Broken {
    Driver(OdbcError),
    Value(Wrong),
    Engine(DataFusionError),
    Unwanted,
}

impl From<OdbcError> for Broken {
    fn from(error: OdbcError) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        match error {
            Error::TooLargeValueForBuffer { buffer_index, .. } => Self::Value((buffer_index, "is longer than its column says")),
            error => Self::Driver(error.into()),
        }
    }
}

impl Broken {
    fn error(self, select: &Select) -> SourceError {
        let connection = select.connection.clone();
        match self {
            Self::Driver(error) => SourceError::Database { connection, cause: error.to_string() },
            Self::Value((place, cause)) => {
                SourceError::Value { column: select.columns.get(place).map(|column| column.name.clone()).unwrap_or_default(), cause }
            }
            Self::Engine(error) => SourceError::Engine(error),
            Self::Unwanted => SourceError::Database { connection, cause: "nobody wants the rows any more".into() },
        }
    }
}

/// What is read, on a thread of its own.
struct Select {
    connection: String,
    statement: String,
    columns: Vec<Column>,
    schema: SchemaRef,
    limit: usize,
}

impl Select {
    fn read(&self, session: Session, sender: &mpsc::Sender<RecordBatch>) -> Result<(), Broken> {
        let mut cursor = session.rows(&self.statement)?;
        self.check(&mut cursor)?;
        let mut block = cursor.bind_buffer(self.room()?)?;
        let sent = self.send(&mut block, sender);
        // By hand, because dropping a cursor panics with the driver's own words when the server is gone.
        let (cursor, _) = block.unbind()?;
        drop(cursor.into_stmt());
        sent?;
        Ok(session.end()?)
    }

    /// Between describing and reading somebody may have altered the table: no value is converted from a type that was not described.
    fn check(&self, cursor: &mut impl Cursor) -> Result<(), OdbcError> {
        // How many digits a driver tells of after a statement has run can depend on its rows.
        let plain = |kind| match kind {
            Sql::Decimal { .. } | Sql::Numeric { .. } => Sql::Decimal { precision: 1, scale: 0 },
            kind => kind,
        };
        let buffer = |kind| typed(plain(kind), None).1.map(|form| discriminant(&form.buffer()));
        let now: Vec<_> = described(cursor)?.into_iter().map(|(_, kind)| buffer(kind)).collect();
        let then = self.columns.iter().map(|column| Some(discriminant(&column.form.buffer())));
        if self.columns.is_empty() || then.eq(now) { Ok(()) } else { Err(OdbcError::Driver("the columns changed while they were read")) }
    }

    /// What the rows are fetched into.
    fn room(&self) -> Result<ColumnarDynBuffer, Broken> {
        let mut buffers: Vec<BufferDesc> = self.columns.iter().map(|column| column.form.buffer()).collect();
        if buffers.is_empty() {
            buffers.push(BufferDesc::I32 { nullable: true });
        }
        let row: usize = buffers.iter().map(BufferDesc::bytes_per_row).sum();
        if row > ROW {
            return Err(OdbcError::Driver("a row may take more than 64 MiB: leave out columns of unlimited length, or cast them").into());
        }
        let rows = (FETCHED / row.max(1)).clamp(1, FETCHED_ROWS);
        Ok(ColumnarDynBuffer::try_from_descs(rows, buffers)?)
    }

    fn send<C: Cursor>(&self, block: &mut BlockCursor<C, ColumnarDynBuffer>, sender: &mpsc::Sender<RecordBatch>) -> Result<(), Broken> {
        let mut batch = Batch::new(Arc::clone(&self.schema));
        let mut left = self.limit;
        let finish = |batch: &mut Batch| match batch.finish().map_err(Broken::Engine)? {
            Some(batch) => sender.blocking_send(batch).map_err(|_| Broken::Unwanted),
            None => Ok(()),
        };
        while left > 0 {
            let Some(fetched) = block.fetch_with_truncation_check(true)? else { break };
            if sender.is_closed() {
                return Err(Broken::Unwanted);
            }
            let rows = fetched.num_rows().min(left);
            left -= rows;
            decode::take(&mut batch, fetched, rows, &self.columns).map_err(Broken::Value)?;
            if batch.is_full() {
                finish(&mut batch)?;
            }
        }
        finish(&mut batch)
    }
}
