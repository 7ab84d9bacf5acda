//! The two levels of an aggregate over subjects' rows: first per group and subject, then per group, so that contributors are counted
//! exactly while streams stay sorted.
//!
//! ```text
//! Protect min=10
//!   Projection keys, values, contributors per value
//!     Aggregate by keys:            sum(part) … , count(*) FILTER (subject contributes)
//!       Aggregate by keys, subject: part = sum(arg) FILTER (…), n = count(arg), hits = count(*) FILTER (condition)
//!         Projection keys, subject, arguments, conditions
//! ```
//! Of GROUPING SETS, ROLLUP and CUBE the totals are made between the two levels (`margins.rs`). Rows that a dataset itself holds
//! several of per subject do weigh: `Protect` looks at how a value is spread over its contributors (`contributions.rs`). Where a full
//! join lets a row be of either department, a value counts as many contributors as the one of them that has the fewest, but any: no
//! department lifts another's few with subjects it made up. (That there are none of the other it can tell from a few: else whoever is in
//! one department only would never be counted.)

use std::collections::BTreeSet;
use std::sync::Arc;

use concordat_policy::{Code, DatasetName, Disclosure, Refusal};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result};
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, sum};
use datafusion::logical_expr::{Aggregate, Expr, ExprFunctionExt as _, Extension, LogicalPlan, LogicalPlanBuilder, cast, when};
use datafusion::prelude::{coalesce, lit};

use super::super::contributions::contributions;
use super::super::protect::{Kind, Rule, Value};
use super::super::rewrite::Rewriter;
use super::super::safe::bare;
use super::super::shape::{Origin, Present, Rows, refuse};
use super::super::tally::{Counted, Part, Tally};
use super::summary::{Measure, Summary};

impl Rewriter<'_> {
    /// The inner level. Columns of the result: `k0 … `, `s`, through a link dataset `o` (the subject of the other identifier type, or
    /// the row's own where it has none), then per summary `p` (partial), `n` (values), `h` (condition hits), `v` (rows that
    /// the condition chose among).
    pub(super) fn by_subject(&mut self, keys: &[(Expr, Origin)], summaries: &[Summary], rows: Rows) -> Result<LogicalPlan> {
        let mut projected: Vec<Expr> = keys.iter().enumerate().map(|(i, (key, _))| bare(key).clone().alias(format!("__k{i}"))).collect();
        projected.push(Expr::Column(rows.subject.clone()).alias("__s"));
        let other = rows.linked.as_ref().map(|linked| {
            projected.push(coalesce(vec![Expr::Column(linked.column.clone()), Expr::Column(rows.subject.clone())]).alias("__o"));
            named("__o")
        });
        for (i, summary) in summaries.iter().enumerate() {
            projected.push(summary.argument.clone().alias(format!("__a{i}")));
            let filter = summary.filter.clone().unwrap_or_else(|| lit(true));
            projected.push(decided(filter.clone())?.alias(format!("__f{i}")));
            // A hit is decided row by row: the condition and the value must hold together, in one row.
            let hit = summary.condition.clone().map_or(filter.clone(), |c| filter.and(c).and(summary.argument.clone().is_not_null()));
            projected.push(decided(hit)?.alias(format!("__c{i}")));
            projected.extend(summary.among.iter().map(|among| among.clone().alias(format!("__m{i}"))));
        }
        let parts = joined_parts(&rows, &mut projected);
        let suppliers = suppliers(&parts, summaries)?;
        let through = other.as_ref().map(|_| "__o");
        let groups: Vec<Expr> = (0..keys.len()).map(|i| named(&format!("__k{i}"))).chain([named("__s")]).chain(other).collect();
        let mut partials = Vec::new();
        for (i, summary) in summaries.iter().enumerate() {
            let (argument, filter, hit) = (named(&format!("__a{i}")), named(&format!("__f{i}")), named(&format!("__c{i}")));
            let plain = summary.filter.is_none();
            let counted = if plain { count(argument.clone()) } else { count(argument.clone()).filter(filter.clone()).build()? };
            if matches!(summary.measure, Measure::Sum | Measure::Average) {
                let added = if plain { sum(argument) } else { sum(argument).filter(filter).build()? };
                partials.push(added.alias(format!("__p{i}")));
            }
            partials.push(counted.alias(format!("__n{i}")));
            if summary.condition.is_some() {
                partials.push(count(lit(1i64)).filter(hit).build()?.alias(format!("__h{i}")));
            }
            if summary.among.is_some() {
                partials.push(count(named(&format!("__m{i}"))).alias(format!("__v{i}")));
            }
        }
        for (dataset, column) in suppliers {
            partials.push(count(named(&column)).alias(present_name(&dataset)));
        }
        let mut plan = LogicalPlanBuilder::from(rows.plan).project(projected)?.build()?;
        if parts.len() > 1 {
            let tally = Arc::new(Tally::new("__s", through, parts));
            self.tallies.push(tally.clone());
            plan = LogicalPlan::Extension(Extension { node: Arc::new(Counted::new(plan, tally)) });
        }
        LogicalPlanBuilder::from(plan).aggregate(groups, partials)?.build()
    }

    /// The outer level: keys and values under the statement's own names, then what stands behind each value, the group's subjects
    /// last; and where each of it stands. Through a link dataset the contributors of a value are those of the identifier type that
    /// has fewer.
    pub(super) fn by_key(
        &mut self,
        aggregate: &Aggregate,
        keys: usize,
        summaries: &[Summary],
        inner: LogicalPlan,
        linked: bool,
        rules: &Disclosure,
    ) -> Result<(LogicalPlan, Vec<Value>)> {
        let groups: Vec<Expr> = (0..keys).map(|i| named(&format!("__k{i}"))).collect();
        // Of bytes of any length, which DataFusion counts in less memory than those of a fixed one.
        let distinct = |name: &str| count_distinct(cast(named(name), DataType::Binary));
        // DISTINCT is said again beside the FILTER: DataFusion's builder forgets that of the expression that it begins with.
        let distinct_where = |name: &str, condition: Expr| distinct(name).filter(condition).distinct().build();
        let subjects = if linked { distinct("__s") } else { count(lit(1i64)) };
        let mut totals = vec![subjects.alias("__subjects")];
        totals.extend(linked.then(|| distinct("__o").alias("__others")));
        let (mut projected, mut behind, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (relation, field)) in aggregate.schema.iter().enumerate().take(keys) {
            let key = cast_if_needed(named(&format!("__k{i}")), field.data_type(), false);
            projected.push(key.alias_qualified(relation.cloned(), field.name()));
        }
        let mut place = keys + summaries.len();
        // Adds a column of what stands behind a value, and says where.
        let mut put = |expr: Expr| {
            behind.push(expr);
            place += 1;
            place - 1
        };
        for (i, (summary, (relation, field))) in summaries.iter().zip(aggregate.schema.iter().skip(keys)).enumerate() {
            let (n, h) = (named(&format!("__n{i}")), named(&format!("__h{i}")));
            let contributes = if summary.condition.is_some() { h } else { n.clone() }.gt(lit(0i64));
            let magnitude = matches!(summary.measure, Measure::Sum | Measure::Average);
            if magnitude {
                totals.push(sum(named(&format!("__p{i}"))).alias(format!("__tp{i}")));
            }
            totals.push(sum(n.clone()).alias(format!("__tn{i}")));
            let own = format!("__tc{i}");
            let mut fewest = named(&own);
            if linked {
                totals.push(distinct_where("__s", contributes.clone())?.alias(&own));
                totals.push(distinct_where("__o", contributes.clone())?.alias(format!("__to{i}")));
                fewest = fewer(fewest, named(&format!("__to{i}")))?;
            } else {
                totals.push(count(lit(1i64)).filter(contributes.clone()).build()?.alias(&own));
            }
            for dataset in summary.of.iter().filter(|_| summary.of.len() > 1) {
                let name = format!("__td{i}_{}", present_name(dataset));
                let there = contributes.clone().and(named(&present_name(dataset)).gt(lit(0i64)));
                totals.push(count(lit(1i64)).filter(there).build()?.alias(&name));
                let some = when(named(&name).gt(lit(0i64)), named(&name)).otherwise(named(&own))?;
                fewest = fewer(fewest, some)?;
            }
            let value = match summary.measure {
                Measure::Subjects if summary.of_linked => named(&format!("__to{i}")),
                Measure::Subjects => named(&own),
                Measure::Sum => named(&format!("__tp{i}")),
                Measure::Average => {
                    cast(named(&format!("__tp{i}")), DataType::Float64) / cast(named(&format!("__tn{i}")), DataType::Float64)
                }
                Measure::Rows | Measure::Values => coalesce(vec![named(&format!("__tn{i}")), lit(0i64)]),
            };
            projected.push(cast_if_needed(value, field.data_type(), true).alias_qualified(relation.cloned(), field.name()));
            let contributors = put(fewest.alias(format!("__b{i}")));
            let others = match &summary.among {
                Some(_) => {
                    let could = named(&format!("__v{i}")).gt(lit(0i64));
                    let (all, of_other) = (format!("__tv{i}"), format!("__tw{i}"));
                    if linked {
                        totals.push(distinct_where("__s", could.clone())?.alias(&all));
                        totals.push(distinct_where("__o", could)?.alias(&of_other));
                        let left = [(all, own.clone()), (of_other, format!("__to{i}"))].map(|(all, own)| named(&all) - named(&own));
                        let [one, other] = left;
                        Some(put(fewer(one, other)?.alias(format!("__r{i}"))))
                    } else {
                        totals.push(count(lit(1i64)).filter(could).build()?.alias(&all));
                        Some(put((named(&all) - named(&own)).alias(format!("__r{i}"))))
                    }
                }
                None => None,
            };
            let number = (summary.measure == Measure::Average).then(|| put(named(&format!("__tn{i}"))));
            let mut contributed = Vec::new();
            if magnitude || Rule::looks_at_contributions(rules) {
                let one = match summary.measure {
                    Measure::Subjects => lit(1f64),
                    Measure::Rows | Measure::Values => cast(n, DataType::Float64),
                    Measure::Sum | Measure::Average => cast(named(&format!("__p{i}")), DataType::Float64),
                };
                // A pair of subjects is one row of the inner level; of each kind a subject may stand in several.
                let ways: &[(&str, bool)] = match (linked, summary.measure) {
                    (false, _) => &[("__s", false)],
                    (true, Measure::Subjects) if summary.of_linked => &[("__o", true)],
                    (true, Measure::Subjects) => &[("__s", true)],
                    (true, _) => &[("__s", true), ("__o", true)],
                };
                for (subject, several) in ways {
                    let name = format!("__x{i}{subject}");
                    let secret = rules.perturbation.is_some().then(|| self.secret.clone());
                    let found = contributions(one.clone(), named(subject), contributes.clone(), secret, *several)?;
                    totals.push(found.alias(&name));
                    contributed.push(put(named(&name)));
                }
            }
            let kind = match summary.measure {
                Measure::Subjects => Kind::Subjects,
                Measure::Rows | Measure::Values => Kind::Rows,
                Measure::Sum => Kind::Sum,
                Measure::Average => Kind::Mean,
            };
            values.push(Value { kind, column: keys + i, contributors, others, contributed, number });
        }
        behind.push(if linked { fewer(named("__subjects"), named("__others"))?.alias("__subjects") } else { named("__subjects") });
        let outer = LogicalPlanBuilder::from(inner).aggregate(groups, totals)?;
        Ok((outer.project(projected.into_iter().chain(behind))?.build()?, values))
    }
}

/// Of values to which rows of several departments contribute, the columns that say whose a row is.
fn suppliers(parts: &[Part], summaries: &[Summary]) -> Result<Vec<(DatasetName, String)>> {
    let needed: BTreeSet<&DatasetName> = summaries.iter().map(|summary| &summary.of).filter(|of| of.len() > 1).flatten().collect();
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
fn present_name(dataset: &DatasetName) -> String {
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
fn fewer(one: Expr, other: Expr) -> Result<Expr> {
    when(other.clone().lt(one.clone()), other).otherwise(one)
}

/// True or false, never unknown.
fn decided(condition: Expr) -> Result<Expr> {
    when(condition, lit(true)).otherwise(lit(false))
}

fn cast_if_needed(expr: Expr, to: &DataType, value: bool) -> Expr {
    if value { cast(expr, to.clone()) } else { expr }
}

fn named(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}
