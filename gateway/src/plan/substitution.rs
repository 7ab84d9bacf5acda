//! How large conditions become when the optimiser moves them down.
//!
//! It replaces each column of a condition by the expression that computes it below. In `WITH b AS (SELECT a + a AS a FROM …),
//! c AS (SELECT a + a AS a FROM b) … WHERE a > 0` the condition doubles with every step. So what each condition would become is
//! counted before the optimiser sees the plan.

use concordat_policy::{Code, Refusal};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::shape::refuse;

/// The most parts of one condition, with every column replaced.
const MAX_PARTS: u64 = 20_000;

/// Refuses plans whose conditions would become too large.
pub(super) fn bounded(plan: &LogicalPlan) -> Result<()> {
    sizes(plan).map(drop)
}

/// The size of what computes each column of `plan`.
fn sizes(plan: &LogicalPlan) -> Result<Vec<u64>> {
    let inputs = plan.inputs();
    let below = inputs.iter().map(|input| sizes(input)).collect::<Result<Vec<_>>>()?;
    let all: Vec<u64> = below.iter().flatten().copied().collect();
    plan.apply_subqueries(|subquery| sizes(subquery).map(|_| TreeNodeRecursion::Continue))?;
    let width = plan.schema().fields().len();
    Ok(match plan {
        LogicalPlan::Projection(projection) => projection.expr.iter().map(|e| size(e, projection.input.schema(), &all)).collect(),
        LogicalPlan::Aggregate(aggregate) => {
            let keys = aggregate.group_expr.iter().map(|e| size(e, aggregate.input.schema(), &all));
            keys.chain(std::iter::repeat(1)).take(width).collect()
        }
        LogicalPlan::Filter(filter) => {
            judge(size(&filter.predicate, filter.input.schema(), &all))?;
            all
        }
        LogicalPlan::Join(join) => {
            let sides = join.left.schema().join(join.right.schema());
            let most = all.iter().copied().max().unwrap_or(1);
            for condition in join.on.iter().flat_map(|(l, r)| [l, r]).chain(&join.filter) {
                judge(sides.as_ref().map_or_else(|_| parts(condition).saturating_mul(most), |sides| size(condition, sides, &all)))?;
            }
            if all.len() == width { all } else { vec![most; width] }
        }
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) if all.len() == width => all,
        // Others compute nothing, or keep conditions where they are; the largest column stands for all.
        _ => vec![all.iter().copied().max().unwrap_or(1); width],
    })
}

fn judge(size: u64) -> Result<()> {
    if size <= MAX_PARTS {
        return Ok(());
    }
    refuse(
        Refusal::new(
            Code::LimitExceeded,
            format!("a condition of the statement comes to more than {MAX_PARTS} parts, counting computed columns in full"),
        )
        .advice("compute columns once, and not from themselves several times over"),
    )
}

/// How many parts all expressions of a plan have, those of its subqueries among them.
pub(super) fn all_parts(plan: &LogicalPlan) -> u64 {
    let mut count = 0u64;
    // The closures never fail.
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            count = count.saturating_add(parts(expr));
            Ok(TreeNodeRecursion::Continue)
        })
    });
    count
}

fn parts(expr: &Expr) -> u64 {
    let mut count = 0u64;
    // The closure never fails.
    let _ = expr.apply(|_| {
        count = count.saturating_add(1);
        Ok(TreeNodeRecursion::Continue)
    });
    count
}

/// The size of `expr` with each column of `schema` replaced by what computes it.
fn size(expr: &Expr, schema: &DFSchema, columns: &[u64]) -> u64 {
    let mut total = 0u64;
    // The closure never fails.
    let _ = expr.apply(|part| {
        let own = match part {
            Expr::Column(column) => schema.maybe_index_of_column(column).and_then(|i| columns.get(i)).copied().unwrap_or(1),
            _ => 1,
        };
        total = total.saturating_add(own);
        Ok(TreeNodeRecursion::Continue)
    });
    total
}
