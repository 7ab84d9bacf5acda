//! What the gateway's own operators over one input have in common.
//!
//! Filters of the nodes above are never passed to the input: behind a group or a row would stand fewer subjects than there are. The
//! default would pass them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

/// What one operator does.
pub(super) trait Operator: fmt::Debug + Send + Sync + 'static {
    /// Its name in plans.
    const NAME: &'static str;
    /// Whether it reads all of its input as one partition. Others take each partition by itself, and keep its order.
    const WHOLE: bool;

    /// What its output is like.
    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<PlanProperties>>;

    /// What plans show beside its name.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Computes one partition; `schema` is the output's.
    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream>;
}

/// A logical node that an operator computes.
pub(super) trait Planned: UserDefinedLogicalNodeCore {
    fn planned(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>;
}

/// Plans the nodes of one kind.
pub(super) struct Planner<N>(PhantomData<fn() -> N>);

impl<N> Planner<N> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

#[async_trait]
impl<N: Planned> ExtensionPlanner for Planner<N> {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<N>(), inputs) else { return Ok(None) };
        node.planned(input.clone()).map(Some)
    }
}

/// The operator over `input`.
pub(super) fn over<O: Operator>(operator: Arc<O>, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let properties = operator.properties(&input)?;
    Ok(Arc::new(Over { input, operator, properties }))
}

/// Of an operator that has read all of its input before anything leaves.
pub(super) fn at_the_end(schema: SchemaRef) -> Arc<PlanProperties> {
    let (equivalence, partitioning) = (EquivalenceProperties::new(schema), Partitioning::UnknownPartitioning(1));
    Arc::new(PlanProperties::new(equivalence, partitioning, EmissionType::Final, Boundedness::Bounded))
}

#[derive(Debug)]
struct Over<O> {
    input: Arc<dyn ExecutionPlan>,
    operator: Arc<O>,
    properties: Arc<PlanProperties>,
}

impl<O: Operator> DisplayAs for Over<O> {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", O::NAME)?;
        self.operator.describe(f)
    }
}

impl<O: Operator> ExecutionPlan for Over<O> {
    fn name(&self) -> &str {
        O::NAME
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![if O::WHOLE { Distribution::SinglePartition } else { Distribution::UnspecifiedDistribution }]
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![!O::WHOLE]
    }
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }
    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().ok_or_else(|| internal_datafusion_err!("{} without input", O::NAME))?;
        over(self.operator.clone(), input)
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
        if O::WHOLE && partition != 0 {
            return Err(internal_datafusion_err!("{} has one partition", O::NAME));
        }
        self.operator.execute(&self.input, self.schema(), partition, context)
    }
}
