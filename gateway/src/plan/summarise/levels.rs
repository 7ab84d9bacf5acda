//! The two levels of an aggregate over subjects' rows: first per group and subject, then per group, so that contributors are counted
//! exactly while streams stay sorted.
//!
//! ```text
//! Protect min=10
//!   Projection keys, values, contributors per value                                          (outer.rs)
//!     Aggregate by keys:            sum(part) … , count(*) FILTER (subject contributes)      (outer.rs)
//!       Aggregate by keys, subject: part = sum(arg) FILTER (…), n = count(arg), hits = count(*) FILTER (condition)
//!         Projection keys, subject, arguments, conditions
//! ```
//! Of GROUPING SETS, ROLLUP and CUBE the totals are made between the two levels (`margins.rs`). Rows that a dataset itself holds
//! several of per subject do weigh: `Protect` looks at how a value is spread over its contributors (`contributions.rs`). Where a full
//! join lets a row be of either department, a value counts as many contributors as the one of them that has the fewest, but any: no
//! department lifts another's few with subjects it made up. (That there are none of the other it can tell from a few: else whoever is in
//! one department only would never be counted.) So do a key that may be of either, and what a condition leaves over.

use std::collections::BTreeSet;
use std::sync::Arc;

use concordat_policy::{Code, DatasetName, Refusal};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, ExprFunctionExt as _, Extension, LogicalPlan, LogicalPlanBuilder, cast, when};
use datafusion::prelude::{coalesce, lit};

use super::super::kinds;
use super::super::rewrite::Rewriter;
use super::super::safe::bare;
use super::super::shape::{Origin, Present, Rows, refuse};
use super::super::tally::{Counted, Part, Tally};
use super::summary::{Measure, Of, Summary};
use super::together::MET;

impl Rewriter<'_> {
    /// The inner level. Columns of the result: `k0 … `, `s`, through a link dataset `o` (the subject of the other identifier type, or
    /// the row's own where it has none) and `g` (rows that have one), then per summary `p` (partial), `n` (values), `h` (condition
    /// hits), and per condition `v`
    /// (rows that it chose among), `l` (those that it left over) and `q` (their partial); of full joins `d` (rows of a dataset); of several
    /// conditions `met` (which of them each row does, as `kinds.rs` says).
    pub(super) fn by_subject(
        &mut self,
        keys: &[(Expr, Origin)],
        summaries: &[Summary],
        key_of: &BTreeSet<DatasetName>,
        met: Option<Expr>,
        rows: Rows,
    ) -> Result<LogicalPlan> {
        let mut projected: Vec<Expr> = keys.iter().enumerate().map(|(i, (key, _))| bare(key).clone().alias(format!("__k{i}"))).collect();
        projected.push(Expr::Column(rows.subject.clone()).alias("__s"));
        let other = rows.linked.as_ref().map(|linked| {
            projected.push(coalesce(vec![Expr::Column(linked.column.clone()), Expr::Column(rows.subject.clone())]).alias("__o"));
            projected.push(Expr::Column(linked.column.clone()).alias("__y"));
            named("__o")
        });
        for (i, summary) in summaries.iter().enumerate() {
            projected.push(summary.argument.clone().alias(format!("__a{i}")));
            let filter = summary.filter.clone().unwrap_or_else(|| lit(true));
            projected.push(decided(filter.clone())?.alias(format!("__f{i}")));
            // A hit is decided row by row: the condition and the value must hold together, in one row.
            let hit = summary.condition.clone().map_or(filter.clone(), |c| filter.and(c).and(summary.argument.clone().is_not_null()));
            projected.push(decided(hit)?.alias(format!("__c{i}")));
            for (j, left) in summary.lefts.iter().enumerate() {
                projected.push(left.could.clone().alias(format!("__m{i}_{j}")));
                projected.push(left.left.clone().alias(format!("__e{i}_{j}")));
            }
        }
        let of_rows = met.map(|met| {
            projected.push(met.alias("__row"));
            kinds::met(named("__row")).alias(MET)
        });
        let parts = joined_parts(&rows, &mut projected);
        let suppliers = suppliers(&parts, summaries, key_of)?;
        let through = other.as_ref().map(|_| "__y");
        let groups: Vec<Expr> = (0..keys.len()).map(|i| named(&format!("__k{i}"))).chain([named("__s")]).chain(other).collect();
        let mut partials: Vec<Expr> = through.map(|through| count(named(through)).alias(HAS_OTHER)).into_iter().collect();
        for (i, summary) in summaries.iter().enumerate() {
            let (argument, filter, hit) = (named(&format!("__a{i}")), named(&format!("__f{i}")), named(&format!("__c{i}")));
            let plain = summary.filter.is_none();
            let counted = if plain { count(argument.clone()) } else { count(argument.clone()).filter(filter.clone()).build()? };
            if summary.magnitude() {
                let added = if plain { sum(argument) } else { sum(argument).filter(filter).build()? };
                partials.push(added.alias(format!("__p{i}")));
            }
            partials.push(counted.alias(format!("__n{i}")));
            if summary.condition.is_some() {
                partials.push(count(lit(1i64)).filter(hit).build()?.alias(format!("__h{i}")));
            }
            partials.extend(left_over(i, summary));
        }
        partials.extend(of_rows);
        for (dataset, column) in suppliers {
            partials.push(count(named(&column)).alias(present_name(&dataset)));
        }
        let mut plan = LogicalPlanBuilder::from(rows.plan).project(projected)?.build()?;
        if parts.len() > 1 {
            let counted = Counted::new(plan, Arc::new(Tally::new("__s", through, parts)));
            plan = LogicalPlan::Extension(Extension { node: Arc::new(counted) });
        }
        LogicalPlanBuilder::from(plan).aggregate(groups, partials)?.build()
    }
}

/// The column of the inner level that says how many of a pair's rows have a subject of the other identifier type.
pub(super) const HAS_OTHER: &str = "__g";

/// Per condition of an aggregate: a subject's rows that it chose among, those that it left over, and their part of a sum.
fn left_over(i: usize, summary: &Summary) -> Vec<Expr> {
    let mut partials = Vec::new();
    for (j, left) in summary.lefts.iter().enumerate() {
        partials.push(count(named(&format!("__m{i}_{j}"))).alias(format!("__v{i}_{j}")));
        if summary.measure == Measure::Subjects {
            continue;
        }
        let over = named(&format!("__e{i}_{j}"));
        partials.push(count(over.clone()).alias(format!("__l{i}_{j}")));
        if summary.magnitude() && left.of != Of::Number {
            partials.push(sum(cast(over, DataType::Float64)).alias(format!("__q{i}_{j}")));
        }
    }
    partials
}

/// Of values to which rows of several departments contribute, what their conditions leave over and keys that may be of either, the
/// columns that say whose a row is.
fn suppliers(parts: &[Part], summaries: &[Summary], key_of: &BTreeSet<DatasetName>) -> Result<Vec<(DatasetName, String)>> {
    let conditional = |summary: &&Summary| !summary.lefts.is_empty();
    let all = summaries.iter().map(|summary| &summary.of).chain(summaries.iter().filter(conditional).map(|summary| &summary.fills));
    let needed: BTreeSet<&DatasetName> = all.filter(|of| of.len() > 1).flatten().chain(key_of).collect();
    let column = |dataset: &DatasetName| parts.iter().find(|part| part.dataset == *dataset)?.column.clone();
    let found: Vec<_> = needed.iter().filter_map(|dataset| Some(((*dataset).clone(), column(dataset)?))).collect();
    if found.len() == needed.len() {
        return Ok(found);
    }
    refuse(
        Refusal::new(
            Code::Disclosure,
            "rows that may be of either department, as a full join makes them, are counted for each; after GROUP BY a subject it is not \
             known any more whose they are",
        )
        .advice("summarise the joined rows directly"),
    )
}

/// The column of the inner level that says how many of a subject's rows have one of `dataset`.
pub(super) fn present_name(dataset: &DatasetName) -> String {
    format!("__d_{}_{}", dataset.department, dataset.dataset)
}

/// The datasets of a statement's joins for [`Tally`], and the pseudonyms that it reads beside the row's own.
fn joined_parts(rows: &Rows, projected: &mut Vec<Expr>) -> Vec<Part> {
    if rows.present.len() < 2 {
        return Vec::new();
    }
    let part = |(i, present): (usize, &Present)| {
        let column = present.column.as_ref().map(|column| {
            let name = format!("__w{i}");
            projected.push(Expr::Column(column.clone()).alias(&name));
            name
        });
        Part { dataset: present.dataset.clone(), column, apart: present.label != rows.label }
    };
    rows.present.iter().enumerate().map(part).collect()
}

/// The smaller of two counts.
pub(super) fn fewer(one: Expr, other: Expr) -> Result<Expr> {
    when(other.clone().lt(one.clone()), other).otherwise(one)
}

/// True or false, never unknown.
pub(super) fn decided(condition: Expr) -> Result<Expr> {
    when(condition, lit(true)).otherwise(lit(false))
}

pub(super) fn named(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}
