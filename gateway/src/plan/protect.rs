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
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use datafusion::physical_planner::PhysicalPlanner as _;
use futures::TryStreamExt as _;

pub(super) use rule::{Condition, Kind, Rest, Rule, Value};

use self::bounds::Bounds;
use super::grouped::Copies;
use super::margins::Expand;
use super::operator::{Operator, Planned, Planner, at_the_end, over};
use super::sharing::Sharing;
use super::tally::Counted;

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

impl Planned for Protect {
    fn planned(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema: SchemaRef = Arc::new(self.schema.as_arrow().clone());
        over(Arc::new(ProtectExec { rule: self.rule.clone(), schema }), input)
    }
}

/// The operator.
#[derive(Debug)]
struct ProtectExec {
    rule: Arc<Rule>,
    schema: SchemaRef,
}

impl Operator for ProtectExec {
    const NAME: &'static str = "ProtectExec";
    const WHOLE: bool = true;

    fn properties(&self, _input: &Arc<dyn ExecutionPlan>) -> Result<Arc<PlanProperties>> {
        Ok(at_the_end(self.schema.clone()))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "minimum_subjects={}", self.rule.minimum)
    }

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        out: SchemaRef,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (rule, schema) = (self.rule.clone(), input.schema());
        let input = input.execute(partition, Arc::clone(&context))?;
        let of_output = out.clone();
        let protected = async move {
            let batches: Vec<RecordBatch> = input.try_collect().await?;
            let groups = concat_batches(&schema, &batches)?;
            // Totals of a large result take a second or more. When the query ends, nobody waits any more.
            let (bounds, _waiting) = Bounds::begin(context.memory_pool()).await?;
            let protected = tokio::task::spawn_blocking(move || rule.apply(&groups, out, &bounds)).await;
            protected.map_err(|e| internal_datafusion_err!("Protect was not finished: {e}"))?
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(of_output, futures::stream::once(protected))))
    }
}

/// The planner of a session, with [`Protect`], `Tally`, `Expand` and `RowsOfFew` known to it.
#[derive(Debug)]
pub(super) struct QueryPlanner;

#[async_trait]
impl datafusion::execution::context::QueryPlanner for QueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn datafusion::catalog::Session) -> Result<Arc<dyn ExecutionPlan>> {
        datafusion::physical_planner::DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(Planner::<Protect>::new()),
            Arc::new(Planner::<Counted>::new()),
            Arc::new(Planner::<Expand>::new()),
            Arc::new(Planner::<Sharing>::new()),
            Arc::new(Planner::<Copies>::new()),
        ])
        .create_physical_plan(plan, session)
        .await
    }
}
