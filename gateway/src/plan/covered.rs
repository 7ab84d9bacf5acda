//! The last look at a rewritten plan: no scan is reached from where the caller sees values without passing `Protect`.
//!
//! The walk puts `Protect` in. This knows nothing of how it does so: where it forgets a part of a plan, nothing runs.
//!
//! ```text
//! Aggregate sum(n + (SELECT sum(c.amount) FROM claims c))     the subquery is a value that the caller sees: its scan is bare
//!   Protect                                                   the scan below is covered
//!     Aggregate count(*) … Scan people
//! ```

use concordat_policy::Refusal;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::protect::NAME;
use super::shape::refuse;

/// Refuses a plan in which a scan is bare. `rows` says that the plan's own rows are about subjects: each of their values was judged
/// as put out. A subquery that is used as a value is never of that kind.
pub(super) fn check(plan: &LogicalPlan, rows: bool) -> Result<()> {
    if matches!(plan, LogicalPlan::TableScan(_)) && !rows {
        return refuse(Refusal::internal("a scan that no Protect covers"));
    }
    let covered = rows || matches!(plan, LogicalPlan::Extension(extension) if extension.node.name() == NAME);
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            match part {
                Expr::ScalarSubquery(subquery) => check(&subquery.subquery, false)?,
                // A condition on subjects: it selects rows, and is none.
                Expr::Exists(exists) => check(&exists.subquery.subquery, covered)?,
                Expr::InSubquery(within) => check(&within.subquery.subquery, covered)?,
                Expr::SetComparison(compared) => check(&compared.subquery.subquery, false)?,
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    plan.inputs().into_iter().try_for_each(|input| check(input, covered))
}
