//! The walk over a statement's logical plan: node kinds from an allow-list, every column's use noted, `Protect` put directly
//! above the first aggregate that does not group by the subject.
//!
//! ```text
//! before                                   after
//!   Projection region, avg(a.score)          Projection region, avg(a.score), mask
//!     Aggregate region, avg(a.score)           Protect min=10                       (protect.rs)
//!       Join a.subject = b.subject               Projection values, contributors    (summarise.rs)
//!         Scan a                                   Aggregate region
//!         Scan b                                     Aggregate region, subject
//!                                                      Join a.subject = b.subject …
//! ```
//!
//! What is not matched here is refused.

mod condition;
mod join;

use std::collections::BTreeSet;
use std::sync::Arc;

use concordat_policy::column::{LINKED, SUBJECT};
use concordat_policy::{Code, ColumnUses, DatasetName, Permit, Refusal, Use};
use concordat_protect::noise::Secret;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder, Projection, Sort, SubqueryAlias, TableScan};
use datafusion::prelude::col;

use super::conditions::Conditions;
use super::expression::{Place, Read, not_offered};
use super::release_table::ReleaseTable;
use super::rows_out::{RowsOut, compared};
use super::shape::{Linked, Origin, Present, Rows, Safe, Shape, SourceColumn, Visible, find, refuse};

/// The most nodes in one plan.
const MAX_NODES: usize = 500;

/// The walker and what it has noted so far.
pub(super) struct Rewriter<'a> {
    pub(super) permit: &'a Permit,
    /// Every dataset that the statement reads. Each number is protected by the strictest rules of all of them, as the answer says:
    /// arithmetic above `Protect` compares numbers of different datasets.
    pub(super) read: BTreeSet<DatasetName>,
    /// The uses of columns.
    pub(super) uses: ColumnUses,
    /// Datasets that subqueries of the node at hand read.
    pub(super) subquery_datasets: BTreeSet<DatasetName>,
    /// Whether a condition ties the subquery at hand to the enclosing query's subject.
    pub(super) correlated: bool,
    /// Subqueries in the SELECT list at hand that become columns beside its input; `None` elsewhere.
    pub(super) beside: Option<Vec<Safe>>,
    /// Subqueries in the expression at hand whose values may be withheld.
    pub(super) met: Vec<Expr>,
    /// The strictest minimum of subjects that any `Protect` applies.
    pub(super) minimum: u32,
    /// Whether some `Protect` protects sums or means.
    pub(super) magnitudes: bool,
    /// From which noise is derived.
    pub(super) secret: Secret,
    /// Whether some `Protect` leaves small groups out, because their keys have no published domain.
    pub(super) leaves_out: bool,
    /// Whether a condition may meet a withheld value: it is then neither true nor false, and the row is not in the answer.
    pub(super) undecided: bool,
    /// The columns by which rows are ordered.
    pub(super) sorted: BTreeSet<SourceColumn>,
    /// What binds the rows of single subjects that are put out, if any are.
    pub(super) out: Option<RowsOut>,
    /// Why the statement is refused even if every use of a column is permitted.
    pub(super) unfit: Option<Refusal>,
    /// The conditions under which people are counted.
    pub(super) conditions: Conditions,
    nodes: usize,
    names: usize,
}

impl<'a> Rewriter<'a> {
    /// Of the statement with this plan.
    pub(super) fn new(permit: &'a Permit, secret: Secret, plan: &LogicalPlan) -> Result<Self> {
        Ok(Self {
            permit,
            read: read_by(plan)?,
            uses: ColumnUses::default(),
            subquery_datasets: BTreeSet::new(),
            correlated: false,
            beside: None,
            met: Vec::new(),
            minimum: 0,
            magnitudes: false,
            secret,
            leaves_out: false,
            undecided: false,
            sorted: BTreeSet::new(),
            out: None,
            unfit: None,
            conditions: Conditions::default(),
            nodes: 0,
            names: 0,
        })
    }

    /// A column name that no statement can write.
    pub(super) fn fresh(&mut self, what: &str) -> String {
        self.names += 1;
        format!("__{what}_{}", self.names)
    }

    /// Rewrites one node and what is below it. `outer` holds the columns of the enclosing query, inside EXISTS.
    pub(super) fn rewrite(&mut self, plan: LogicalPlan, outer: Option<&[Visible]>) -> Result<Shape> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return refuse(
                Refusal::new(Code::LimitExceeded, format!("the statement needs more than {MAX_NODES} steps")).advice("split it"),
            );
        }
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.alias(alias, outer),
            LogicalPlan::Projection(projection) => self.projection(projection, outer),
            LogicalPlan::Filter(filter) => self.filter(filter, outer),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => {
                let input = self.rewrite(aggregate.input.as_ref().clone(), None)?;
                self.aggregate(aggregate, input)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.rewrite(input.as_ref().clone(), None)?;
                self.distinct(input)
            }
            LogicalPlan::Sort(sort) => self.sort(sort, outer),
            LogicalPlan::Limit(mut limit) => {
                for bound in limit.skip.iter().chain(&limit.fetch) {
                    self.as_it_stands(bound, &[], &mut BTreeSet::new())?;
                }
                match self.rewrite(limit.input.as_ref().clone(), outer)? {
                    Shape::Safe(safe) => {
                        limit.input = Arc::new(safe.plan);
                        Ok(Shape::Safe(Safe { plan: LogicalPlan::Limit(limit), ..safe }))
                    }
                    Shape::Rows(rows) => {
                        limit.input = Arc::new(rows.plan);
                        Ok(Shape::Rows(Rows { plan: LogicalPlan::Limit(limit), limited: true, ..rows }))
                    }
                }
            }
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.rewrite(input.as_ref().clone(), None)).collect::<Result<Vec<_>>>()?;
                self.union(inputs)
            }
            LogicalPlan::EmptyRelation(_) => Ok(Shape::Safe(Safe { width: plan.schema().fields().len(), plan, masked: false })),
            LogicalPlan::Values(values) => {
                for expr in values.values.iter().flatten() {
                    self.as_it_stands(expr, &[], &mut BTreeSet::new())?;
                }
                let plan = LogicalPlan::Values(values);
                Ok(Shape::Safe(Safe { width: plan.schema().fields().len(), plan, masked: false }))
            }
            LogicalPlan::Window(_) => not_offered("", "OVER (…), window functions,"),
            LogicalPlan::RecursiveQuery(_) => not_offered("", "WITH RECURSIVE"),
            LogicalPlan::Distinct(Distinct::On(_)) => not_offered("", "DISTINCT ON"),
            _ => not_offered("", "this kind of statement"),
        }
    }

    fn scan(&mut self, scan: TableScan) -> Result<Shape> {
        let provider = source_as_provider(&scan.source)?;
        let Some(table) = provider.downcast_ref::<ReleaseTable>() else {
            return refuse(Refusal::internal("a scan of something that is no dataset"));
        };
        let dataset = table.dataset().clone();
        let (label, linked) = (table.identifier_label().to_owned(), table.linked_label());
        self.uses.touch(&dataset);
        let plan = LogicalPlan::TableScan(scan);
        let visible: Vec<Visible> = plan
            .schema()
            .columns()
            .into_iter()
            .map(|column| {
                let source = (dataset.clone(), column.name.clone());
                let pseudonym = |label: &str| Origin::Subject { label: label.into(), nullable: false, columns: [source.clone()].into() };
                let origin = match column.name.as_str() {
                    SUBJECT => pseudonym(&label),
                    LINKED => pseudonym(linked.as_deref().unwrap_or_default()),
                    _ => Origin::Source(source),
                };
                Visible { column, origin }
            })
            .collect();
        let Some(subject) = visible.iter().find(|v| v.column.name == SUBJECT).map(|v| v.column.clone()) else {
            return refuse(Refusal::internal("a dataset without a pseudonym"));
        };
        let column = visible.iter().find(|v| v.column.name == LINKED).map(|v| v.column.clone());
        let linked = column.zip(linked).map(|(column, label)| Linked { label, column });
        let present = vec![Present { dataset: dataset.clone(), label: label.clone(), column: None }];
        let compared = compared(self.permit, &dataset, &visible);
        let (subject_of, datasets) = (BTreeSet::from([dataset.clone()]), BTreeSet::from([dataset]));
        let narrowed_by = Vec::new();
        Ok(Shape::Rows(Rows {
            plan,
            subject,
            label,
            linked,
            present,
            subject_of,
            visible,
            compared,
            datasets,
            narrowed_by,
            limited: false,
        }))
    }

    fn alias(&mut self, alias: SubqueryAlias, outer: Option<&[Visible]>) -> Result<Shape> {
        let requalify = |column: &Column| Column::new(Some(alias.alias.clone()), column.name.clone());
        match self.rewrite(alias.input.as_ref().clone(), outer)? {
            Shape::Safe(safe) => {
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(safe.plan), alias.alias)?);
                Ok(Shape::Safe(Safe { plan, ..safe }))
            }
            Shape::Rows(mut rows) => {
                rows.hidden().for_each(|column| *column = requalify(column));
                rows.visible.iter_mut().for_each(|v| v.column = requalify(&v.column));
                rows.plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(rows.plan), alias.alias)?);
                Ok(Shape::Rows(rows))
            }
        }
    }

    fn projection(&mut self, projection: Projection, outer: Option<&[Visible]>) -> Result<Shape> {
        match self.rewrite(projection.input.as_ref().clone(), outer)? {
            Shape::Safe(safe) => self.project_safe(safe, projection.expr).map(Shape::Safe),
            Shape::Rows(rows) => self.project_rows(rows, projection.expr).map(Shape::Rows),
        }
    }

    fn project_rows(&mut self, mut rows: Rows, exprs: Vec<Expr>) -> Result<Rows> {
        let (mut projected, mut origins) = (Vec::new(), Vec::new());
        for expr in exprs {
            let (expr, origin) = self.row_value(expr, &rows)?;
            projected.push(expr);
            origins.push(origin);
        }
        for column in rows.hidden() {
            let name = self.fresh(SUBJECT);
            projected.push(Expr::Column(column.clone()).alias(&name));
            *column = Column::new_unqualified(name);
        }
        let plan = LogicalPlan::Projection(Projection::try_new(projected, Arc::new(rows.plan))?);
        let visible = plan.schema().columns().into_iter().zip(origins).map(|(column, origin)| Visible { column, origin }).collect();
        Ok(Rows { plan, visible, ..rows })
    }

    /// An expression of a SELECT list or a group key over rows, and where its value comes from.
    pub(super) fn row_value(&mut self, expr: Expr, rows: &Rows) -> Result<(Expr, Origin)> {
        let mut bare = &expr;
        while let Expr::Alias(alias) = bare {
            bare = &alias.expr;
        }
        if let Expr::Column(column) = bare
            && let Some(visible) = find(&rows.visible, column)
        {
            let origin = visible.origin.clone();
            return Ok((expr, origin));
        }
        if let Some(origin) = self.coalesced_subject(bare, rows)? {
            return Ok((expr, origin));
        }
        let mut read = Read::default();
        let place = Place { visible: &rows.visible, subqueries: false };
        let (expr, met) = self.meeting(|walk| walk.row_expression(expr, place, &mut read))?;
        let expr = Self::computed_of(expr, met, &rows.plan)?;
        Ok((expr, Origin::Derived { columns: read.columns, present: read.present }))
    }

    /// `coalesce(a.subject, b.subject)`, as full joins need it: the row's own pseudonym.
    pub(super) fn coalesced_subject(&mut self, expr: &Expr, rows: &Rows) -> Result<Option<Origin>> {
        let Expr::ScalarFunction(function) = expr else { return Ok(None) };
        let origins: Vec<Origin> = function
            .args
            .iter()
            .filter_map(|arg| if let Expr::Column(c) = arg { find(&rows.visible, c) } else { None })
            .map(|v| v.origin.clone())
            .filter(|origin| matches!(origin, Origin::Subject { .. }))
            .collect();
        if function.name() != "coalesce" || origins.len() != function.args.len() {
            return Ok(None);
        }
        let mut columns = BTreeSet::new();
        let mut first: Option<(&Origin, String)> = None;
        for origin in &origins {
            let Origin::Subject { label, columns: of, .. } = origin else { continue };
            columns.extend(of.iter().cloned());
            match &first {
                Some((other, _)) => self.linked(other, origin)?,
                None => first = Some((origin, label.clone())),
            }
        }
        // Never null when it covers every dataset that can supply the row's own pseudonym.
        let nullable = !rows.subject_of.iter().all(|dataset| columns.contains(&(dataset.clone(), SUBJECT.to_owned())));
        Ok(first.map(|(_, label)| Origin::Subject { label, nullable, columns }))
    }

    fn sort(&mut self, mut sort: Sort, outer: Option<&[Visible]>) -> Result<Shape> {
        match self.rewrite(sort.input.as_ref().clone(), outer)? {
            Shape::Safe(safe) => {
                for key in &mut sort.expr {
                    key.expr = self.safe_expression(key.expr.clone(), &safe.visible(), &mut BTreeSet::new())?;
                }
                sort.input = Arc::new(safe.plan);
                Ok(Shape::Safe(Safe { plan: LogicalPlan::Sort(sort), ..safe }))
            }
            Shape::Rows(rows) => {
                for key in &mut sort.expr {
                    let (expr, origin) = self.row_value(key.expr.clone(), &rows)?;
                    key.expr = expr;
                    self.output(&origin.shown());
                    self.sorted.extend(origin.shown());
                }
                let limited = rows.limited || sort.fetch.is_some();
                sort.input = Arc::new(rows.plan);
                Ok(Shape::Rows(Rows { plan: LogicalPlan::Sort(sort), limited, ..rows }))
            }
        }
    }

    /// Notes that subjects' own values reach the caller.
    pub(super) fn output(&mut self, sources: &BTreeSet<SourceColumn>) {
        for (dataset, column) in sources {
            self.uses.add(dataset, column, Use::Output);
        }
    }

    /// Rows cut down to what the statement can name.
    pub(super) fn visible_only(&mut self, rows: Rows) -> Result<LogicalPlan> {
        LogicalPlanBuilder::from(rows.plan).project(rows.visible.into_iter().map(|v| Expr::Column(v.column)))?.build()
    }

    /// Values without their mask.
    pub(super) fn without_mask(&mut self, safe: Safe) -> Result<LogicalPlan> {
        if !safe.masked {
            return Ok(safe.plan);
        }
        let visible = safe.visible();
        LogicalPlanBuilder::from(safe.plan).project(visible.into_iter().map(col))?.build()
    }
}

/// The datasets of a plan, those of its subqueries too.
fn read_by(plan: &LogicalPlan) -> Result<BTreeSet<DatasetName>> {
    let mut datasets = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source)?;
            datasets.extend(provider.downcast_ref::<ReleaseTable>().map(|table| table.dataset().clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(datasets)
}
