//! `Protect`: disclosure control as an operator in the plan, directly above the aggregate.
//!
//! Input, one row per group: the keys, the values and what stands behind each of them (`rule.rs`, `summarise/levels.rs`). Output: the
//! keys, the values, a `UInt64` mask.
//! - A value that the agreements' rules do not let be told becomes null and its bit in the mask is set. Never zero.
//! - What is told is rounded, with noise where an agreement asks for it.
//! - Where the keys have a published domain, every combination of it is in the output, groups without any subject among
//!   them: a small group and an empty one look alike.
//! - A small group whose keys are outside that domain, or for which there is none, is left out: its key could tell about
//!   one person.
//! - Where totals are taken to be known, further groups are withheld until no withheld value can be worked out from them, and all where
//!   that takes too long (`bounds.rs`).
//!
//! Nothing above reads anything but this output: HAVING, ORDER BY, LIMIT and arithmetic cannot see an exact small number.
//! Filters are never pushed below it.
//!
//! Its place is kept for what follows: the cross-query ledger and differential privacy.

mod bounds;
mod rule;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_datafusion_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::TryStreamExt as _;

pub(super) use rule::{Kind, Number, Rest, Rule, Value};

use self::bounds::Bounds;
use super::margins::ExpandPlanner;
use super::sharing::SharingPlanner;
use super::tally::TallyPlanner;

/// The logical node's name.
pub(super) const NAME: &str = "Protect";

/// The logical node.
#[derive(Debug, Clone)]
pub(super) struct Protect {
    input: LogicalPlan,
    rule: Arc<Rule>,
    schema: DFSchemaRef,
}

impl Protect {
    /// Over an input of the shape that `rule` says.
    pub(super) fn try_new(input: LogicalPlan, rule: Rule) -> Result<Self> {
        Self::with(input, Arc::new(rule))
    }

    /// Of its keys and values, in order, which are values.
    pub(super) fn values(&self) -> Vec<bool> {
        let Rule { keys, values, .. } = self.rule.as_ref();
        [vec![false; *keys], vec![true; values.len()]].concat()
    }

    fn with(input: LogicalPlan, rule: Arc<Rule>) -> Result<Self> {
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .take(rule.keys + rule.values.len())
            .map(|(relation, field)| (relation.cloned(), Arc::new(field.as_ref().clone().with_nullable(true))))
            .collect();
        fields.push((None, Arc::new(Field::new(&rule.mask, DataType::UInt64, false))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(Self { input, rule, schema })
    }
}

impl PartialEq for Protect {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.rule == other.rule
    }
}
impl Eq for Protect {}
impl Hash for Protect {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        (self.rule.keys, self.rule.values.len(), self.rule.minimum, &self.rule.mask).hash(state);
    }
}
impl PartialOrd for Protect {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Protect {
    fn name(&self) -> &str {
        NAME
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
        write!(f, "Protect: minimum_subjects={}", self.rule.minimum)
    }
    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.into_iter().next().ok_or_else(|| internal_datafusion_err!("Protect without input"))?;
        Self::with(input, self.rule.clone())
    }
}

/// Plans [`Protect`].
#[derive(Debug)]
pub(super) struct ProtectPlanner;

#[async_trait]
impl ExtensionPlanner for ProtectPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn datafusion::catalog::Session,
        _context: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(protect), [input]) = (node.as_any().downcast_ref::<Protect>(), inputs) else { return Ok(None) };
        let schema: SchemaRef = Arc::new(protect.schema.as_arrow().clone());
        Ok(Some(Arc::new(ProtectExec::new(input.clone(), protect.rule.clone(), schema))))
    }
}

/// The operator.
#[derive(Debug)]
struct ProtectExec {
    input: Arc<dyn ExecutionPlan>,
    rule: Arc<Rule>,
    properties: Arc<PlanProperties>,
}

impl ProtectExec {
    fn new(input: Arc<dyn ExecutionPlan>, rule: Arc<Rule>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, rule, properties: Arc::new(properties) }
    }
}

impl DisplayAs for ProtectExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtectExec: minimum_subjects={}", self.rule.minimum)
    }
}

impl ExecutionPlan for ProtectExec {
    fn name(&self) -> &str {
        "ProtectExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }
    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().ok_or_else(|| internal_datafusion_err!("Protect without input"))?;
        Ok(Arc::new(Self::new(input, self.rule.clone(), self.schema())))
    }
    // Required by the trait although deprecated in favour of the method above.
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<datafusion::common::tree_node::TreeNodeRecursion>,
    ) -> Result<datafusion::common::tree_node::TreeNodeRecursion> {
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    }
    // The default would pass filters of the nodes above to the input.
    fn gather_filters_for_pushdown(
        &self,
        _phase: datafusion::physical_plan::filter_pushdown::FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<datafusion::physical_plan::filter_pushdown::FilterDescription> {
        Ok(datafusion::physical_plan::filter_pushdown::FilterDescription::all_unsupported(&parent_filters, &self.children()))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(internal_datafusion_err!("Protect has one partition"));
        }
        let input = self.input.execute(0, Arc::clone(&context))?;
        let (rule, schema, out) = (self.rule.clone(), self.input.schema(), self.schema());
        let protected = async move {
            let batches: Vec<RecordBatch> = input.try_collect().await?;
            let groups = concat_batches(&schema, &batches)?;
            // Totals of a large result take a second or more. When the query ends, nobody waits any more.
            let (bounds, _waiting) = Bounds::begin(context.memory_pool()).await?;
            let protected = tokio::task::spawn_blocking(move || rule.apply(&groups, out, &bounds)).await;
            protected.map_err(|e| internal_datafusion_err!("Protect was not finished: {e}"))?
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::once(protected))))
    }
}

/// The planner of a session, with [`Protect`], `Tally`, `Expand` and `RowsOfFew` known to it.
#[derive(Debug)]
pub(super) struct QueryPlanner;

#[async_trait]
impl datafusion::execution::context::QueryPlanner for QueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn datafusion::catalog::Session) -> Result<Arc<dyn ExecutionPlan>> {
        datafusion::physical_planner::DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(ProtectPlanner),
            Arc::new(TallyPlanner),
            Arc::new(ExpandPlanner),
            Arc::new(SharingPlanner),
        ])
        .create_physical_plan(plan, session)
        .await
    }
}
