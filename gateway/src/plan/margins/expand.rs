//! `Expand`: each row once for each grouping set, with the keys that are not in the set null, and the set's number as a column more.
//!
//! A row's copies follow one another, so that rows which come ordered by their subject leave so: the aggregate above puts each
//! subject's parts together in constant memory, whatever the number of subjects.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{nullif, take};
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _, Partitioning, PlanProperties};
use futures::TryStreamExt as _;

use super::super::operator::{Operator, Planned, over};
use super::Sets;

/// The logical node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::plan) struct Expand {
    input: LogicalPlan,
    sets: Arc<Sets>,
    /// The name of the column with the set's number.
    number: String,
    schema: DFSchemaRef,
}

impl Expand {
    /// `input`: the keys, then columns of which none is named `number`. The output has that one after them.
    pub(super) fn try_new(input: LogicalPlan, sets: Arc<Sets>, number: String) -> Result<Self> {
        let nullable = |key: bool, field: &Field| field.clone().with_nullable(key || field.is_nullable());
        let columns = input.schema().iter().enumerate();
        let mut fields: Vec<_> = columns
            .map(|(position, (relation, field))| (relation.cloned(), Arc::new(nullable(position < sets.keys, field.as_ref()))))
            .collect();
        fields.push((None, Arc::new(Field::new(&number, sets.kind.clone(), false))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(Self { input, sets, number, schema })
    }
}

impl PartialOrd for Expand {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Expand {
    fn name(&self) -> &str {
        "Expand"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expand: sets={}", self.sets.numbers.len())
    }
    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.into_iter().next().ok_or_else(|| internal_datafusion_err!("Expand without input"))?;
        Self::try_new(input, self.sets.clone(), self.number.clone())
    }
}

impl Planned for Expand {
    fn planned(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        over(Arc::new(ExpandExec { sets: self.sets.clone(), schema: Arc::new(self.schema.as_arrow().clone()) }), input)
    }
}

/// The operator.
#[derive(Debug)]
struct ExpandExec {
    sets: Arc<Sets>,
    schema: SchemaRef,
}

/// What stays true of the input: order and partitioning by columns other than the keys, which keep their places.
fn properties(input: &Arc<dyn ExecutionPlan>, sets: &Sets, schema: SchemaRef) -> Result<PlanProperties> {
    let mut equivalence = EquivalenceProperties::new(schema);
    for (position, field) in input.schema().fields().iter().enumerate().skip(sets.keys) {
        let by_column = PhysicalSortExpr::new(Arc::new(Column::new(field.name(), position)) as _, Default::default());
        if input.equivalence_properties().ordering_satisfy([by_column.clone()])? {
            equivalence.add_ordering([by_column]);
        }
    }
    let stays = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().is_some_and(|column| column.index() >= sets.keys);
    let partitioning = input.output_partitioning();
    let stays = match partitioning {
        Partitioning::Range(range) => range.ordering().iter().all(|key| stays(&key.expr)),
        Partitioning::Hash(keys, _) => keys.iter().all(stays),
        _ => false,
    };
    let partitioning = if stays { partitioning.clone() } else { Partitioning::UnknownPartitioning(partitioning.partition_count()) };
    Ok(PlanProperties::new(equivalence, partitioning, input.pipeline_behavior(), input.boundedness()))
}

impl Operator for ExpandExec {
    const NAME: &'static str = "ExpandExec";
    const WHOLE: bool = false;

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<PlanProperties>> {
        Ok(Arc::new(properties(input, &self.sets, self.schema.clone())?))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sets={}", self.sets.numbers.len())
    }

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (sets, out) = (self.sets.clone(), schema.clone());
        let rows = (context.session_config().batch_size() / sets.numbers.len().max(1)).max(1);
        let batches = input.execute(partition, context)?.map_ok(move |batch| {
            let (sets, schema) = (sets.clone(), schema.clone());
            let parts = (0..batch.num_rows()).step_by(rows).map(move |start| {
                let part = batch.slice(start, rows.min(batch.num_rows().saturating_sub(start)));
                sets.expand(&part, schema.clone())
            });
            futures::stream::iter(parts)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(out, batches.try_flatten())))
    }
}

impl Sets {
    /// Each row once for each set.
    pub(super) fn expand(&self, batch: &RecordBatch, schema: SchemaRef) -> Result<RecordBatch> {
        let (rows, copies) = (batch.num_rows(), self.numbers.len());
        let source = UInt64Array::from_iter_values((0..rows as u64).flat_map(|row| std::iter::repeat_n(row, copies)));
        let mut columns = Vec::new();
        for (position, column) in batch.columns().iter().enumerate() {
            let copied = take(column, &source, None)?;
            columns.push(if position < self.keys {
                let pattern: Vec<bool> = self.numbers.iter().map(|&number| self.leaves_out(number, position)).collect();
                nullif(&copied, &BooleanArray::from(pattern.repeat(rows)))?
            } else {
                copied
            });
        }
        columns.push(self.typed(self.numbers.repeat(rows))?);
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}
