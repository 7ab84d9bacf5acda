//! A database's table or query as a table of the engine: projection, conditions and limit become part of the one statement that
//! is sent.
//!
//! Every condition is `Inexact`: the engine evaluates it again over what comes back, so that the database's notions of text,
//! numbers and null decide nothing but how much is sent.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::SourceError;

/// A table or query in an open transaction, to be read once.
pub(crate) trait Reading: fmt::Debug + Send + Sync {
    /// The columns that can be read.
    fn schema(&self) -> SchemaRef;

    /// The database's words for a condition; `None` where there are none that select at least the rows for which it is true.
    fn condition(&self, filter: &Expr) -> Option<String>;

    /// Begins to read. The stream's batches have the wanted columns in the wanted order.
    ///
    /// # Errors
    /// [`SourceError`], also when it was read before, unless more was to be read ([`Wanted::more`]) and that reading has ended.
    fn rows(&self, wanted: &Wanted) -> std::result::Result<SendableRecordBatchStream, SourceError>;
}

/// What is read. `Debug` hides the conditions: they hold literals.
pub(crate) struct Wanted {
    /// The columns, by their places in [`Reading::schema`].
    pub(crate) columns: Vec<usize>,
    /// Their schema.
    pub(crate) schema: SchemaRef,
    /// Conditions in the database's words; rows for which one is not true may be left out.
    pub(crate) conditions: Vec<String>,
    /// How many rows are enough.
    pub(crate) limit: Option<usize>,
    /// Whether more is read afterwards, in the same transaction.
    pub(crate) more: bool,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = self.conditions.len();
        f.debug_struct("Wanted").field("columns", &self.columns).field("conditions", &conditions).field("limit", &self.limit).finish()
    }
}

/// A [`Reading`] as a table.
#[derive(Debug)]
pub(super) struct Table {
    schema: SchemaRef,
    reading: Arc<dyn Reading>,
    more: bool,
}

impl Table {
    pub(super) fn new(reading: Arc<dyn Reading>) -> Self {
        Self { schema: reading.schema(), reading, more: false }
    }

    /// One that is read before another, in the same transaction.
    pub(super) fn first(reading: Arc<dyn Reading>) -> Self {
        Self { more: true, ..Self::new(reading) }
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.reading.condition(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: Arc<Schema> = Arc::new(self.schema.project(&columns)?);
        let conditions: Vec<String> = filters.iter().filter_map(|filter| self.reading.condition(filter)).collect();
        let wanted = Wanted { columns, schema: Arc::clone(&schema), conditions, limit, more: self.more };
        let stream = Arc::new(Once { reading: Arc::clone(&self.reading), wanted });
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![stream], None, Vec::new(), false, limit)?))
    }
}

/// The one partition of a scan.
#[derive(Debug)]
struct Once {
    reading: Arc<dyn Reading>,
    wanted: Wanted,
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.wanted.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.reading.rows(&self.wanted).unwrap_or_else(|error| {
            let failed = futures::stream::once(std::future::ready(Err(error.into())));
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.wanted.schema), failed))
        })
    }
}
