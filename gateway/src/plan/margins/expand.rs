//! `Expand`: each row once for each grouping set, with the keys that are not in the set null, and the set's number as a column more.
//!
//! A row's copies follow one another, so that rows which come ordered by their subject leave so: the aggregate above puts each
//! subject's parts together in constant memory, whatever the number of subjects.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{nullif, take};
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_datafusion_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties as _, Partitioning, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::TryStreamExt as _;

use super::Sets;

/// The logical node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Expand {
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

/// Plans [`Expand`].
#[derive(Debug)]
pub(in crate::plan) struct ExpandPlanner;

#[async_trait]
impl ExtensionPlanner for ExpandPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn datafusion::catalog::Session,
        _context: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(expand), [input]) = (node.as_any().downcast_ref::<Expand>(), inputs) else { return Ok(None) };
        let schema: SchemaRef = Arc::new(expand.schema.as_arrow().clone());
        Ok(Some(Arc::new(ExpandExec::try_new(input.clone(), expand.sets.clone(), schema)?)))
    }
}

/// The operator.
#[derive(Debug)]
struct ExpandExec {
    input: Arc<dyn ExecutionPlan>,
    sets: Arc<Sets>,
    properties: Arc<PlanProperties>,
}

impl ExpandExec {
    fn try_new(input: Arc<dyn ExecutionPlan>, sets: Arc<Sets>, schema: SchemaRef) -> Result<Self> {
        let properties = Arc::new(properties(&input, &sets, schema)?);
        Ok(Self { input, sets, properties })
    }
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

impl DisplayAs for ExpandExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExpandExec: sets={}", self.sets.numbers.len())
    }
}

impl ExecutionPlan for ExpandExec {
    fn name(&self) -> &str {
        "ExpandExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }
    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().ok_or_else(|| internal_datafusion_err!("Expand without input"))?;
        Ok(Arc::new(Self::try_new(input, self.sets.clone(), self.schema())?))
    }
    // Required by the trait although deprecated in favour of the method above.
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn apply_expressions(&self, _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        Ok(FilterDescription::all_unsupported(&parent_filters, &self.children()))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (sets, schema) = (self.sets.clone(), self.schema());
        let rows = (context.session_config().batch_size() / sets.numbers.len().max(1)).max(1);
        let batches = self.input.execute(partition, context)?.map_ok(move |batch| {
            let (sets, schema) = (sets.clone(), schema.clone());
            let parts = (0..batch.num_rows()).step_by(rows).map(move |start| {
                let part = batch.slice(start, rows.min(batch.num_rows().saturating_sub(start)));
                sets.expand(&part, schema.clone())
            });
            futures::stream::iter(parts)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches.try_flatten())))
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
