//! `Protect`: disclosure control as an operator in the plan, directly above the aggregate.
//!
//! Input, one row per group: the keys, the values, the contributors of each value (`Int64`, distinct subjects), the group's
//! subjects. Output: the keys, the values, a `UInt64` mask.
//! - A value whose contributors are fewer than the minimum becomes null and its bit in the mask is set. Never zero.
//! - Where the keys have a published domain, every combination of it is in the output, groups without any subject among
//!   them: a small group and an empty one look alike.
//! - A small group whose keys are outside that domain, or for which there is none, is left out: its key could tell about
//!   one person.
//!
//! Nothing above reads anything but this output: HAVING, ORDER BY, LIMIT and arithmetic cannot see an exact small number.
//! Filters are never pushed below it.
//!
//! Its place is kept for what follows: dominance, rounding, secondary suppression and the cross-query ledger.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt64Array, new_null_array};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch, nullif};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::cast::as_int64_array;
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result, internal_datafusion_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::TryStreamExt as _;

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

/// What is applied.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    keys: usize,
    values: usize,
    /// The least number of distinct subjects behind a value.
    minimum: u32,
    /// The published combinations of the keys.
    domain: Option<RecordBatch>,
    mask: String,
}

impl Protect {
    /// `input`: `keys` key columns, `values` value columns, as many `Int64` contributor columns, and the group's subjects.
    pub(super) fn try_new(
        input: LogicalPlan,
        keys: usize,
        values: usize,
        minimum: u32,
        domain: Option<RecordBatch>,
        mask: String,
    ) -> Result<Self> {
        Self::with(input, Arc::new(Rule { keys, values, minimum, domain, mask }))
    }

    fn with(input: LogicalPlan, rule: Arc<Rule>) -> Result<Self> {
        if input.schema().fields().len() != rule.keys + 2 * rule.values + 1 {
            return Err(internal_datafusion_err!("Protect over an input of another shape"));
        }
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .take(rule.keys + rule.values)
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
        (self.rule.keys, self.rule.values, self.rule.minimum, &self.rule.mask).hash(state);
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
        let input = self.input.execute(0, context)?;
        let (rule, schema, out) = (self.rule.clone(), self.input.schema(), self.schema());
        let protected = async move {
            let batches: Vec<RecordBatch> = input.try_collect().await?;
            rule.apply(&concat_batches(&schema, &batches)?, out)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::once(protected))))
    }
}

impl Rule {
    fn apply(&self, groups: &RecordBatch, out: SchemaRef) -> Result<RecordBatch> {
        let subjects = contributors(groups, self.keys + 2 * self.values)?;
        let keep = self.shown(groups, subjects)?;
        let groups = filter_record_batch(groups, &keep)?;
        let mut masks = vec![0u64; groups.num_rows()];
        let mut columns: Vec<ArrayRef> = groups.columns().iter().take(self.keys).cloned().collect();
        for value in 0..self.values {
            let behind = contributors(&groups, self.keys + self.values + value)?;
            let few: BooleanArray = behind.iter().map(|n| Some(self.too_few(n))).collect();
            for (mask, few) in masks.iter_mut().zip(few.values().iter()) {
                *mask |= u64::from(few) << (self.keys + value);
            }
            columns.push(nullif(groups.column(self.keys + value), &few)?);
        }
        columns.push(Arc::new(UInt64Array::from(masks)));
        let shown = RecordBatch::try_new(out.clone(), columns)?;
        match &self.domain {
            Some(domain) => Ok(concat_batches(&out, [&shown, &self.missing(domain, &shown, out.clone())?])?),
            None => Ok(shown),
        }
    }

    fn too_few(&self, contributors: Option<i64>) -> bool {
        contributors.is_none_or(|n| n < i64::from(self.minimum))
    }

    /// Which groups may be shown at all.
    fn shown(&self, groups: &RecordBatch, subjects: &Int64Array) -> Result<BooleanArray> {
        if self.keys == 0 {
            return Ok(vec![true; groups.num_rows()].into());
        }
        let published = match &self.domain {
            Some(domain) => {
                let (known, own) = (rows_of(domain, self.keys, groups)?, rows_of(groups, self.keys, groups)?);
                let known: HashSet<Vec<u8>> = known.into_iter().collect();
                own.into_iter().map(|row| known.contains(&row)).collect()
            }
            None => vec![false; groups.num_rows()],
        };
        Ok(subjects.iter().zip(published).map(|(n, published)| Some(published || !self.too_few(n))).collect())
    }

    /// The combinations of the domain that no group has: every value withheld.
    fn missing(&self, domain: &RecordBatch, shown: &RecordBatch, out: SchemaRef) -> Result<RecordBatch> {
        let present: HashSet<Vec<u8>> = rows_of(shown, self.keys, shown)?.into_iter().collect();
        let absent: BooleanArray = rows_of(domain, self.keys, shown)?.into_iter().map(|row| Some(!present.contains(&row))).collect();
        let absent = filter_record_batch(domain, &absent)?;
        let rows = absent.num_rows();
        let bits = (0..self.values).fold(0u64, |bits, value| bits | 1 << (self.keys + value));
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (position, field) in out.fields().iter().enumerate() {
            columns.push(match absent.columns().get(position) {
                Some(key) => cast(key, field.data_type())?,
                None if position < self.keys + self.values => new_null_array(field.data_type(), rows),
                None => Arc::new(UInt64Array::from(vec![bits; rows])),
            });
        }
        Ok(RecordBatch::try_new(out, columns)?)
    }
}

fn contributors(batch: &RecordBatch, column: usize) -> Result<&Int64Array> {
    let array = batch.columns().get(column).ok_or_else(|| internal_datafusion_err!("Protect lacks a contributor column"))?;
    as_int64_array(array)
}

/// The first `keys` columns of `batch`, cast to the types of `like`, as comparable bytes.
fn rows_of(batch: &RecordBatch, keys: usize, like: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let mut plain = Vec::new();
    for (own, like) in batch.columns().iter().zip(like.columns()).take(keys) {
        let kind = match like.data_type() {
            DataType::Dictionary(_, value) => value.as_ref().clone(),
            other => other.clone(),
        };
        plain.push(cast(own, &kind)?);
    }
    let fields = plain.iter().map(|a| SortField::new(a.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&plain).map_err(DataFusionError::from)?;
    Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
}

/// The planner of a session, with [`Protect`], `Tally` and `RowsOfFew` known to it.
#[derive(Debug)]
pub(super) struct QueryPlanner;

#[async_trait]
impl datafusion::execution::context::QueryPlanner for QueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn datafusion::catalog::Session) -> Result<Arc<dyn ExecutionPlan>> {
        datafusion::physical_planner::DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(ProtectPlanner),
            Arc::new(TallyPlanner),
            Arc::new(SharingPlanner),
        ])
        .create_physical_plan(plan, session)
        .await
    }
}
