//! Groups made at the node. Where a statement summarises the rows of one dataset, the department adds them up, and no subject's row
//! crosses the network:
//!
//! ```text
//! Aggregate keys: what stands behind each value        Aggregate keys: sums of parts
//!   Aggregate keys, subject: parts              ─▶       TableScan groups (concordat_proto::grouped)
//!     TableScan rows
//! ```
//! Rows of single subjects that are alike are told by groups, too ([`rows`]).
//!
//! Done to a plan that is judged and optimised, only where the outcome is the same to the last column: rows without a second pseudonym,
//! nobody to be removed from them here, keys with few published values, sums and counts of columns, no condition but what the order
//! states, no noise (its keys are made of pseudonyms). Everything else is summarised here, as before.

mod rows;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use concordat_policy::ColumnType;
use concordat_policy::column::SUBJECT;
use concordat_proto::grouped::{Grouping, MAX_VALUES, ROWS, SUBJECTS, contributors, key, spread, sum, values};
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, TableReference, internal_datafusion_err};
use datafusion::functions_aggregate::expr_fn;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Operator, TableScan, cast, when};
use datafusion::prelude::lit;

use super::contributions::{adds_up, of_ones, of_spreads};
use super::release_table::ReleaseTable;
use super::safe::bare;
use rows::Alike;
pub(super) use rows::Copies;

/// The name of the groups' table in the plan.
const TABLE: &str = "groups";

/// The plan with groups of nodes in the place of rows, wherever they can stand there.
pub(super) fn at_nodes(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_down(|node| {
        let instead = match &node {
            LogicalPlan::Aggregate(outer) => Groups::of(outer).map(|groups| groups.instead_of(outer)),
            LogicalPlan::Projection(list) => Alike::of(list).map(Alike::instead),
            _ => None,
        };
        Ok(match instead {
            Some(plan) => Transformed::new(plan?, true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    })
    .map(|done| done.data)
}

/// The dataset that is scanned, if groups may be made of all its rows.
fn table_of(scan: &TableScan) -> Option<Arc<dyn TableProvider>> {
    let provider = source_as_provider(&scan.source).ok()?;
    let groups = provider.downcast_ref::<ReleaseTable>().is_some_and(|table| scan.fetch.is_none() && table.groups_there());
    groups.then_some(provider)
}

/// The groups of a scan's rows.
fn groups_of(scan: &TableScan, grouping: Grouping) -> Result<LogicalPlanBuilder> {
    let provider = source_as_provider(&scan.source)?;
    let table = provider.downcast_ref::<ReleaseTable>().ok_or_else(|| internal_datafusion_err!("groups of another table"))?;
    LogicalPlanBuilder::scan(TABLE, provider_as_source(Arc::new(table.grouped(grouping, &scan.filters)?)), None)
}

/// A column of the inner level.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Subject,
    Key(String),
    /// The subject's rows in the group.
    Rows,
    /// Those that have a value of the column.
    Values(String),
    /// What the column's values add up to, perhaps whole ones as numbers with a fraction.
    Sum(String, bool),
}

/// What a plan's columns are, in the columns of a plan below: nothing but projections lies between.
type Columns = HashMap<Column, Expr>;

/// The groups that can stand in the place of an outer level.
struct Groups {
    scan: TableScan,
    grouping: Grouping,
    keys: Vec<String>,
    /// The outer level's aggregates, over groups.
    totals: Vec<Expr>,
}

impl Groups {
    fn of(outer: &Aggregate) -> Option<Self> {
        let (LogicalPlan::Aggregate(inner), between) = beneath(&outer.input)? else { return None };
        let (LogicalPlan::TableScan(scan), below) = beneath(&inner.input)? else { return None };
        let provider = table_of(scan)?;
        let table = provider.downcast_ref::<ReleaseTable>()?;
        let parts = parts(inner, &below, table)?;
        let read = Outer { between: &between, parts: &parts, schema: &inner.schema };
        let key = |expr: &Expr| if let Some(Part::Key(key)) = read.part(&resolved(expr, &between)?) { Some(key.clone()) } else { None };
        let keys: Vec<String> = outer.group_expr.iter().map(key).collect::<Option<_>>()?;
        let kinds = outer.schema.fields().iter().skip(keys.len()).map(|field| field.data_type());
        let totals = outer.aggr_expr.iter().zip(kinds).map(|(expr, kind)| read.total(expr, kind)).collect::<Option<_>>()?;
        let typed = |kind: &dyn Fn(&Part) -> Option<String>| {
            let mut names: Vec<String> = parts.iter().filter_map(kind).collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().map(|name| table.kind(&name).map(|kind| (name, kind))).collect::<Option<Vec<_>>>()
        };
        let inner_keys = typed(&|part| if let Part::Key(name) = part { Some(name.clone()) } else { None })?;
        let own = typed(&|part| if let Part::Values(name) | Part::Sum(name, _) = part { Some(name.clone()) } else { None })?;
        let [sums, number_sums] = [false, true].map(|as_number| {
            typed(&|part| if let Part::Sum(name, how) = part { Some(name.clone()).filter(|_| *how == as_number) } else { None })
        });
        let fits = own.len() <= MAX_VALUES && table.groups_by(inner_keys.iter().map(|(name, _)| name.as_str()));
        let grouping = Grouping::new(inner_keys, own).adding(&sums?, &number_sums?).filter(|_| fits)?;
        Some(Self { scan: scan.clone(), grouping, keys, totals })
    }

    /// The plan that stands in the place of `outer`, with its columns.
    fn instead_of(self, outer: &Aggregate) -> Result<LogicalPlan> {
        let keys: Vec<Expr> = self.keys.iter().map(|name| of_group(&key(name))).collect();
        // A column may be a key under several names.
        let by = self.keys.iter().collect::<BTreeSet<_>>().into_iter().map(|name| of_group(&key(name))).collect::<Vec<_>>();
        let totals = self.totals.into_iter().enumerate().map(|(i, total)| total.alias(format!("__g{i}"))).collect::<Vec<_>>();
        let made: Vec<Expr> = (0..totals.len()).map(|i| Expr::Column(Column::new_unqualified(format!("__g{i}")))).collect();
        // What counts is 0 where there is nothing to count, as it was. Not `coalesce`: only the optimiser makes that run, and it has been here.
        let told = |(expr, nullable): (Expr, bool)| {
            if nullable { Ok(expr) } else { when(expr.clone().is_not_null(), expr).otherwise(lit(0_i64)) }
        };
        let nullable = outer.schema.fields().iter().map(|field| field.is_nullable());
        let columns = keys.iter().cloned().map(|key| (key, true)).chain(made.into_iter().zip(nullable.skip(keys.len()))).map(told);
        let named = columns.zip(outer.schema.iter());
        let named = named.map(|(expr, (relation, field))| Ok(expr?.alias_qualified(relation.cloned(), field.name())));
        let named: Vec<Expr> = named.collect::<Result<_>>()?;
        groups_of(&self.scan, self.grouping)?.aggregate(by, totals)?.project(named)?.build()
    }
}

/// How the outer level is read.
struct Outer<'a> {
    between: &'a Columns,
    /// The columns of the inner level, in the order of its schema.
    parts: &'a [Part],
    schema: &'a DFSchema,
}

impl Outer<'_> {
    /// What an expression in the columns of the inner level is.
    fn part(&self, resolved: &Expr) -> Option<&Part> {
        let Expr::Column(column) = resolved else { return None };
        self.parts.get(self.schema.maybe_index_of_column(column)?)
    }

    /// An aggregate of the outer level of the type `kind`, over groups.
    fn total(&self, expr: &Expr, kind: &DataType) -> Option<Expr> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = bare(expr) else { return None };
        if params.distinct || !params.order_by.is_empty() || params.null_treatment.is_some() {
            return None;
        }
        let filter = match params.filter.as_deref() {
            None => None,
            Some(filter) => Some(self.there(filter)?),
        };
        let args: Vec<Expr> = params.args.iter().map(|arg| resolved(arg, self.between)).collect::<Option<_>>()?;
        match (func.name(), args.as_slice(), filter) {
            ("sum", [own], None) => {
                let own = match self.part(uncast(own))? {
                    Part::Rows => of_group(ROWS),
                    Part::Values(name) => of_group(&values(name)),
                    Part::Sum(name, as_number) => of_group(&sum(name, *as_number)),
                    Part::Subject | Part::Key(_) => return None,
                };
                Some(expr_fn::sum(if *kind == DataType::Float64 { cast(own, DataType::Float64) } else { own }))
            }
            ("count", [Expr::Literal(one, _)], there) if !one.is_null() => Some(expr_fn::sum(people(there.unwrap_or(&Part::Rows))?)),
            (_, [own, subject], Some(there)) if adds_up(func) && self.part(subject) == Some(&Part::Subject) => {
                if matches!(own, Expr::Literal(ScalarValue::Float64(Some(one)), _) if *one == 1.0) {
                    return Some(of_ones(people(there)?));
                }
                // What has a value where its rows do, and nowhere else.
                let field = match (self.part(uncast(own))?, there) {
                    (Part::Rows, Part::Rows) => ROWS.to_owned(),
                    (Part::Values(name), Part::Values(there)) if name == there => values(name),
                    (Part::Sum(name, as_number), Part::Values(there)) if name == there => sum(name, *as_number),
                    _ => return None,
                };
                Some(of_spreads(of_group(&spread(&field))))
            }
            _ => None,
        }
    }

    /// Of whom `rows > 0` holds: of those who have such rows.
    fn there(&self, filter: &Expr) -> Option<&Part> {
        let Expr::BinaryExpr(compared) = resolved(filter, self.between)? else { return None };
        let zero = matches!(compared.right.as_ref(), Expr::Literal(ScalarValue::Int64(Some(0)), _));
        let part = self.part(&compared.left)?;
        (zero && compared.op == Operator::Gt && matches!(part, Part::Rows | Part::Values(_))).then_some(part)
    }
}

/// The number of subjects who have such rows.
fn people(rows: &Part) -> Option<Expr> {
    match rows {
        Part::Rows => Some(of_group(SUBJECTS)),
        Part::Values(name) => Some(of_group(&contributors(name))),
        _ => None,
    }
}

/// What the columns of the inner level are.
fn parts(inner: &Aggregate, below: &Columns, table: &ReleaseTable) -> Option<Vec<Part>> {
    let column = |expr: &Expr| if let Expr::Column(column) = resolved(expr, below)? { Some(column.name) } else { None };
    let mut parts = Vec::new();
    for expr in &inner.group_expr {
        let name = column(expr)?;
        parts.push(if name == SUBJECT { Part::Subject } else { table.kind(&name).map(|_| Part::Key(name))? });
    }
    if parts.iter().filter(|part| **part == Part::Subject).count() != 1 {
        return None;
    }
    for expr in &inner.aggr_expr {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = bare(expr) else { return None };
        let [argument] = params.args.as_slice() else { return None };
        if params.distinct || params.filter.is_some() || !params.order_by.is_empty() || params.null_treatment.is_some() {
            return None;
        }
        let argument = resolved(argument, below)?;
        parts.push(match (func.name(), &argument) {
            ("count", Expr::Literal(one, _)) if !one.is_null() => Part::Rows,
            ("count", _) => match number_of(&argument, table)? {
                name if name == SUBJECT => Part::Rows,
                name => table.kind(&name).map(|_| Part::Values(name))?,
            },
            ("sum", _) => {
                let name = number_of(&argument, table)?;
                let as_number = !matches!(argument, Expr::Column(_));
                matches!(table.kind(&name)?, ColumnType::Integer | ColumnType::Number).then_some(Part::Sum(name, as_number))?
            }
            _ => return None,
        });
    }
    Some(parts)
}

/// The column of an argument, perhaps a whole number as one with a fraction: then all have a value that had one.
fn number_of(argument: &Expr, table: &ReleaseTable) -> Option<String> {
    let Expr::Column(column) = uncast(argument) else { return None };
    let cast = argument != &Expr::Column(column.clone());
    (!cast || table.kind(&column.name)? == ColumnType::Integer).then(|| column.name.clone())
}

/// Without a cast to a number with a fraction.
fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(number) if *number.field.data_type() == DataType::Float64 => &number.expr,
        Expr::TryCast(number) if *number.field.data_type() == DataType::Float64 => &number.expr,
        other => other,
    }
}

fn of_group(field: &str) -> Expr {
    Expr::Column(Column::new(Some(TableReference::bare(TABLE)), field))
}

/// The plan beneath projections and other names, and what the columns above are in its own.
fn beneath(plan: &LogicalPlan) -> Option<(&LogicalPlan, Columns)> {
    let columns = |plan: &LogicalPlan, of: Vec<Expr>| plan.schema().columns().into_iter().zip(of).collect::<Columns>();
    match plan {
        LogicalPlan::Projection(projection) => {
            let (end, below) = beneath(&projection.input)?;
            let of = projection.expr.iter().map(|expr| resolved(expr, &below)).collect::<Option<Vec<_>>>()?;
            Some((end, columns(plan, of)))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (end, below) = beneath(&alias.input)?;
            let of = alias.input.schema().columns().iter().map(|column| below.get(column).cloned()).collect::<Option<Vec<_>>>()?;
            Some((end, columns(plan, of)))
        }
        _ => Some((plan, plan.schema().columns().into_iter().map(|column| (column.clone(), Expr::Column(column))).collect())),
    }
}

/// An expression in the columns of the plan beneath.
fn resolved(expr: &Expr, below: &Columns) -> Option<Expr> {
    let whole = bare(expr).clone().transform(|expr| {
        Ok(match &expr {
            Expr::Column(column) => match below.get(column) {
                Some(of) => Transformed::new(of.clone(), true, TreeNodeRecursion::Jump),
                None => return datafusion::common::plan_err!("no such column"),
            },
            _ => Transformed::no(expr),
        })
    });
    whole.ok().map(|whole| whole.data)
}
