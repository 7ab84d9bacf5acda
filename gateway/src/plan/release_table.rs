//! A dataset as a table, and its release as the leaf of an execution plan: sorted, range-declared streams.
//!
//! | column | type |
//! |---|---|
//! | `subject` | `FixedSizeBinary(16)`, not null, ascending |
//! | `linked_subject`, of a link dataset | `FixedSizeBinary(16)`, not null, in no order |
//! | each column with some permitted use | its wire type, nullable |
//!
//! Rows of subjects whose choices reach from other departments are removed here, below every join, aggregate and count.
//!
//! What it offers the planner is little, on purpose: no statistics (else a side may be collected), no predicate on the
//! pseudonym (it would carry one department's pseudonyms to another), no runtime filters, no limits.

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use concordat_policy::authorize::DatasetPermit;
use concordat_policy::column::{LINKED, SUBJECT};
use concordat_policy::{Cause, Code, ColumnType, DatasetName, LinkageDomain, Permit, Predicate, Refusal};
use concordat_proto::grouped::{Grouping, MAX_KEYS, few};
use concordat_proto::schema::{release_schema, split_points};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue, SplitPoint, internal_datafusion_err, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr, RangePartitioning};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt as _;

use super::predicate::typed;
use super::shape::refuse;
use crate::fetch::{List, Placed};

/// One dataset, as far as the permit lets it be seen.
#[derive(Debug, Clone)]
pub(super) struct ReleaseTable {
    permit: Arc<DatasetPermit>,
    schema: SchemaRef,
    label: String,
    partitions: u32,
    mission_and_purpose: (concordat_policy::Name, concordat_policy::Name),
}

impl ReleaseTable {
    pub(super) fn new(permit: &Permit, dataset: &DatasetPermit, partitions: u32) -> Self {
        let used = dataset.dataset.columns.iter().filter(|(_, rule)| !rule.uses.is_empty());
        Self {
            schema: Arc::new(release_schema(dataset.dataset.is_link(), used.map(|(name, rule)| (name.as_str(), rule.kind)))),
            label: dataset.dataset.identifier.label(),
            permit: Arc::new(dataset.clone()),
            partitions,
            mission_and_purpose: (permit.mission().clone(), permit.purpose().clone()),
        }
    }

    pub(super) fn dataset(&self) -> &DatasetName {
        &self.permit.dataset.name
    }

    pub(super) fn identifier_label(&self) -> &str {
        &self.label
    }

    /// The identifier type of a link dataset's second pseudonym.
    pub(super) fn linked_label(&self) -> Option<String> {
        self.permit.dataset.linked.as_ref().map(|linked| linked.identifier.label())
    }

    /// The columns to order, for the positions the planner wants; a column with `filter` use alone never leaves its node.
    fn ordered(&self, projection: &[usize]) -> Result<Vec<String>> {
        let mut columns = Vec::new();
        for position in projection {
            let Some(field) = self.schema.fields().get(*position) else { return plan_err!("no such column") };
            if field.name() == SUBJECT {
                continue;
            }
            if field.name() == LINKED {
                columns.insert(0, LINKED.to_owned());
                continue;
            }
            if !self.permit.dataset.columns.get(field.name()).is_some_and(concordat_policy::ColumnRule::crosses_the_wire) {
                let (dataset, column) = (self.dataset().clone(), field.name().clone());
                return refuse(
                    Refusal::because(Code::Denied, Cause::Kept { dataset, column, agreement: self.permit.agreement.clone() })
                        .department(&self.dataset().department)
                        .advice("use it in WHERE, compared with literals: =, <>, <, >, BETWEEN, IN (…), IS NULL, joined by AND, OR, NOT"),
                );
            }
            columns.push(field.name().clone());
        }
        // Whoever is linked may have withdrawn elsewhere: without the pseudonym, nobody could be removed by it.
        if self.permit.reached && self.permit.dataset.is_link() && columns.first().is_none_or(|column| column != LINKED) {
            columns.insert(0, LINKED.to_owned());
        }
        Ok(columns)
    }

    /// What is ordered of rows for which all of `filters` hold.
    fn spec(&self, columns: Vec<String>, filters: &[Expr], grouping: Option<Arc<Grouping>>) -> Result<ReleaseSpec> {
        let Some(mut conditions) = filters.iter().map(typed).collect::<Option<Vec<Predicate>>>() else {
            return refuse(Refusal::internal("the planner pushed a condition that was not offered"));
        };
        let predicate = if conditions.len() > 1 { Some(Predicate::And(conditions)) } else { conditions.pop() };
        let kinds = columns.iter().filter_map(|c| self.permit.dataset.columns.get(c).map(|rule| (c.as_str(), rule.kind)));
        Ok(ReleaseSpec {
            rows: Arc::new(release_schema(columns.iter().any(|column| column == LINKED), kinds)),
            permit: self.permit.clone(),
            mission_and_purpose: self.mission_and_purpose.clone(),
            columns,
            grouping,
            predicate,
            partitions: self.partitions,
            placed: OnceLock::new(),
            withheld: OnceLock::new(),
        })
    }

    /// Whether rows may be grouped by these columns at the node.
    pub(super) fn groups_by<'c>(&self, columns: impl Iterator<Item = &'c str>) -> bool {
        let rules: Option<Vec<_>> = columns.map(|column| self.permit.dataset.columns.get(column)).collect();
        rules.is_some_and(|rules| rules.len() <= MAX_KEYS && few(rules))
    }

    /// A column's type, if it crosses the wire.
    pub(super) fn kind(&self, column: &str) -> Option<ColumnType> {
        self.permit.dataset.columns.get(column).filter(|rule| rule.crosses_the_wire()).map(|rule| rule.kind)
    }

    /// Whether rows may be grouped at the node: nobody is to be removed from them here, and no second pseudonym is wanted.
    pub(super) fn groups_there(&self) -> bool {
        !self.permit.reached && !self.permit.dataset.is_link()
    }

    /// The same dataset as a table of groups of the rows for which all of `filters` hold.
    pub(super) fn grouped(&self, grouping: Grouping, filters: &[Expr]) -> Result<GroupedTable> {
        let (schema, columns, grouping) = (Arc::new(grouping.schema()), grouping.columns(), Arc::new(grouping));
        // Judged here as by the scan in whose place it stands.
        self.spec(columns.clone(), filters, None)?;
        Ok(GroupedTable { of: self.clone(), schema, columns, grouping, filters: filters.to_vec() })
    }
}

/// Groups of a dataset's rows, as a table ([`concordat_proto::grouped`]).
#[derive(Debug)]
pub(super) struct GroupedTable {
    of: ReleaseTable,
    schema: SchemaRef,
    columns: Vec<String>,
    pub(super) grouping: Arc<Grouping>,
    filters: Vec<Expr>,
}

#[async_trait]
impl TableProvider for GroupedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let spec = self.of.spec(self.columns.clone(), &self.filters, Some(Arc::clone(&self.grouping)))?;
        let wanted = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => Arc::clone(&self.schema),
        };
        Ok(Arc::new(ReleaseExec::try_new(Arc::new(spec), wanted)?))
    }
}

#[async_trait]
impl TableProvider for ReleaseTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let supported =
            |f: &&Expr| if typed(f).is_some() { TableProviderFilterPushDown::Exact } else { TableProviderFilterPushDown::Unsupported };
        Ok(filters.iter().map(supported).collect())
    }
    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        let spec = self.spec(self.ordered(projection)?, filters, None)?;
        let wanted = Arc::new(self.schema.project(projection)?);
        Ok(Arc::new(ReleaseExec::try_new(Arc::new(spec), wanted)?))
    }
}

/// What one leaf of the plan orders from a node, and the placed order once there is one.
#[derive(Debug)]
pub(crate) struct ReleaseSpec {
    /// The schema of the rows: `subject` and the ordered columns, `linked_subject` first among them.
    pub(crate) rows: SchemaRef,
    /// The obligations.
    pub(crate) permit: Arc<DatasetPermit>,
    mission_and_purpose: (concordat_policy::Name, concordat_policy::Name),
    /// The ordered columns.
    pub(crate) columns: Vec<String>,
    /// By what rows are grouped, where their groups stand in their place.
    pub(crate) grouping: Option<Arc<Grouping>>,
    /// The rows.
    pub(crate) predicate: Option<Predicate>,
    /// The number of partitions.
    pub(crate) partitions: u32,
    placed: OnceLock<Placed>,
    /// Who is removed from what comes.
    withheld: OnceLock<Vec<Arc<List>>>,
}

impl ReleaseSpec {
    /// Whose dataset it is, and which.
    pub(crate) fn dataset(&self) -> &DatasetName {
        &self.permit.dataset.name
    }

    /// The linkage domain at `now`.
    pub(crate) fn domain(&self, now: chrono::DateTime<chrono::Utc>) -> Option<LinkageDomain> {
        let (mission, purpose) = self.mission_and_purpose.clone();
        LinkageDomain::at(mission, purpose, &self.permit.linkage, now)
    }

    /// Notes the order that was placed.
    pub(crate) fn place(&self, placed: Placed) -> Result<(), Refusal> {
        self.placed.set(placed).map_err(|_| Refusal::internal("an order was placed twice"))
    }

    /// Notes who is removed from what comes, by other departments' lists.
    pub(crate) fn withhold(&self, lists: Vec<Arc<List>>) -> Result<(), Refusal> {
        self.withheld.set(lists).map_err(|_| Refusal::internal("the lists of a release were set twice"))
    }

    /// The placed order.
    pub(crate) fn placed(&self) -> Option<&Placed> {
        self.placed.get()
    }
}

/// A release as a leaf of the plan.
#[derive(Debug)]
pub(crate) struct ReleaseExec {
    spec: Arc<ReleaseSpec>,
    /// For each column of the output, its position in the release.
    positions: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl ReleaseExec {
    fn try_new(spec: Arc<ReleaseSpec>, output: Arc<Schema>) -> Result<Self> {
        let schema = spec.grouping.as_ref().map_or_else(|| spec.rows.clone(), |grouping| Arc::new(grouping.schema()));
        let positions = output.fields().iter().map(|f| schema.index_of(f.name())).collect::<std::result::Result<Vec<_>, _>>()?;
        let mut equivalence = EquivalenceProperties::new(output.clone());
        let mut partitioning = Partitioning::UnknownPartitioning(spec.partitions as usize);
        if let Ok(position) = output.index_of(SUBJECT) {
            let sorted = || PhysicalSortExpr::new(Arc::new(Column::new(SUBJECT, position)) as _, Default::default());
            equivalence.add_ordering([sorted()]);
            let ordering = LexOrdering::new([sorted()]).ok_or_else(|| internal_datafusion_err!("an ordering without a key"))?;
            let splits = split_points(spec.partitions)
                .into_iter()
                .map(|bound| SplitPoint::new(vec![ScalarValue::FixedSizeBinary(16, Some(bound.to_vec()))]))
                .collect();
            partitioning = Partitioning::Range(RangePartitioning::try_new(ordering, splits)?);
        }
        let properties = Arc::new(PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded));
        Ok(Self { spec, positions, properties })
    }

    pub(crate) fn spec(&self) -> &Arc<ReleaseSpec> {
        &self.spec
    }
}

impl DisplayAs for ReleaseExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseExec: {}, columns={:?}, condition={}", self.spec.dataset(), self.spec.columns, self.spec.predicate.is_some())?;
        if self.spec.grouping.is_some() { f.write_str(", grouped") } else { Ok(()) }
    }
}

impl ExecutionPlan for ReleaseExec {
    fn name(&self) -> &str {
        "ReleaseExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }
    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn apply_expressions(&self, _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        Ok(FilterDescription::all_unsupported(&filters, &self.children()))
    }
    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; result.parent_filters.len()]))
    }
    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(placed) = self.spec.placed() else { return refuse(Refusal::internal("a release was read before its order was placed")) };
        // Every release has its lists, be they none: without them nobody knows who is to be removed.
        let Some(withheld) = self.spec.withheld.get().cloned() else {
            return refuse(Refusal::internal("a release was read before it was known who is removed from it"));
        };
        let positions = self.positions.clone();
        let batches = placed.read(partition, withheld)?.map(move |batch| Ok(batch?.project(&positions)?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
