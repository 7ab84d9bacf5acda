//! Which of a plan's columns are values that passed `Protect`, or are computed from such: of these a cell can be withheld. Keys,
//! constants and what is computed from them alone are not.
//!
//! ```text
//! Projection region, a / b          false, true
//!   Protect region │ a, b           false, true, true
//! ```
//! It says what an answer tells of its cells, and decides nothing.

use datafusion::common::Result;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Distinct, Expr, JoinType, LogicalPlan};

use super::protect::Protect;

/// Of each column of the plan, in order.
pub(super) fn values(plan: &LogicalPlan) -> Result<Vec<bool>> {
    let width = plan.schema().fields().len();
    let mut found = match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<Protect>().map(Protect::values).unwrap_or_default(),
        LogicalPlan::Projection(list) => computed(list.expr.iter(), &list.input)?,
        LogicalPlan::Aggregate(aggregate) => {
            let mut found = computed(grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter(), &aggregate.input)?;
            // The number of a row's grouping set may stand between.
            found.resize(width.saturating_sub(aggregate.aggr_expr.len()), false);
            found.extend(computed(aggregate.aggr_expr.iter(), &aggregate.input)?);
            found
        }
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => values(&join.left)?,
            JoinType::RightSemi | JoinType::RightAnti => values(&join.right)?,
            _ => [values(&join.left)?, values(&join.right)?].concat(),
        },
        LogicalPlan::Union(union) => {
            let mut found = vec![false; width];
            for input in &union.inputs {
                found.iter_mut().zip(values(input)?).for_each(|(found, of_input)| *found |= of_input);
            }
            found
        }
        LogicalPlan::Filter(filter) => values(&filter.input)?,
        LogicalPlan::Sort(sort) => values(&sort.input)?,
        LogicalPlan::Limit(limit) => values(&limit.input)?,
        LogicalPlan::SubqueryAlias(alias) => values(&alias.input)?,
        LogicalPlan::Distinct(Distinct::All(input)) => values(input)?,
        _ => Vec::new(),
    };
    found.resize(width, false);
    Ok(found)
}

/// Of each expression, whether it reads such a column.
fn computed<'e>(exprs: impl Iterator<Item = &'e Expr>, input: &LogicalPlan) -> Result<Vec<bool>> {
    let (schema, of_input) = (input.schema(), values(input)?);
    let reads = |expr: &Expr| {
        let mut places = expr.column_refs().into_iter().filter_map(|column| schema.maybe_index_of_column(column));
        places.any(|place| of_input.get(place).is_some_and(|is_value| *is_value))
    };
    Ok(exprs.map(reads).collect())
}

#[cfg(test)]
mod tests {
    use crate::plan::tests::{AGREEMENT, agreed, permitted_by, planned_under};

    #[tokio::test]
    async fn what_is_computed_from_protected_values_is_one() {
        for (sql, expected) in [
            ("SELECT region, count(*), avg(score) FROM a.people GROUP BY region", vec![false, true, true]),
            (
                "SELECT n * 2 + 1 AS m, region, 1 AS one FROM (SELECT region, count(*) AS n FROM a.people GROUP BY region) AS t",
                vec![true, false, false],
            ),
            ("SELECT region, sum(persons), count(*) FROM views.by_region GROUP BY ROLLUP (region)", vec![false, true, false]),
            ("SELECT region, grouping(region) AS g, count(*) FROM a.people GROUP BY ROLLUP (region)", vec![false, false, true]),
            ("SELECT region, count(*) FROM a.people GROUP BY region UNION ALL SELECT 'x', 1", vec![false, true]),
            (
                "WITH x AS (SELECT region, count(*) AS n FROM a.people GROUP BY region) SELECT l.region, l.n, r.n FROM x l JOIN x r ON l.region = r.region WHERE l.n > 3 ORDER BY l.n LIMIT 3",
                vec![false, true, true],
            ),
            ("SELECT region, coalesce((SELECT count(*) FROM b.claims), 0) FROM by_region", vec![false, true]),
            ("SELECT coalesce((SELECT sum(amount) FROM b.claims) / (SELECT count(*) FROM b.claims), 0)", vec![true]),
            ("SELECT year FROM a.people", vec![false]),
            ("SELECT 1 + 1", vec![false]),
        ] {
            let plan = planned_under(permitted_by(&agreed(AGREEMENT)), sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
            assert_eq!(plan.values(), expected, "{sql}");
        }
    }
}
