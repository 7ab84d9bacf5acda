//! How many different conditions one statement may count people under.
//!
//! Each count under another condition is an equation about the same people, and some dozens of them in one statement tell what every one
//! of them hides (`tests/end_to_end/redteam/reconstruct.rs`). So they are counted over the whole statement, views, WITH, UNION and
//! subqueries included: it makes no difference where a condition stands.
//!
//! | what | counts as |
//! |---|---|
//! | `FILTER`, `CASE` inside an aggregate | one for each that is different; a `CASE` under a `FILTER`: one for both, and the `FILTER` |
//! | the rows of an aggregate, where they are chosen (`WHERE`, joins) and the statement aggregates others too | one |
//! | a computed key of `GROUP BY` | one, and each beside the largest as many as it has `WHEN`s; one more for each `coalesce` and `nullif` |
//!
//! These two say which values are taken together, as a `WHEN` does, and a partition that they make from a column's own counts as another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use concordat_policy::{Code, Refusal};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The most of them.
pub(super) const MAX_CONDITIONS: usize = 8;

/// Rows, as the statement says which.
type Source = Arc<LogicalPlan>;

/// What a computed key divides people by.
#[derive(Clone, Copy, Default)]
struct Parts {
    whens: usize,
    /// `coalesce` and `nullif`.
    joined: usize,
}

/// Those of a statement.
#[derive(Default)]
pub(super) struct Conditions {
    /// What is aggregated, and whether it is chosen.
    sources: HashMap<Source, bool>,
    /// Conditions of aggregates, of the rows of each.
    of_aggregates: HashSet<(Source, Expr)>,
    /// Computed keys, with how many groups they name, and how often they take values together.
    of_keys: HashMap<(Source, Expr), Parts>,
}

impl Conditions {
    /// An aggregate over these rows, under these conditions, by these computed keys.
    pub(super) fn add<'a>(
        &mut self,
        source: &Source,
        conditions: impl Iterator<Item = Expr>,
        keys: impl Iterator<Item = &'a Expr>,
    ) -> Result<()> {
        let mut parts = Parts::default();
        let mut chosen = false;
        source.apply_with_subqueries(|node| {
            chosen |= !matches!(node, LogicalPlan::TableScan(_) | LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_));
            node.apply_expressions(|expr| {
                parts.add(expr)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        self.sources.insert(Arc::clone(source), chosen);
        self.of_aggregates.extend(conditions.map(|condition| (Arc::clone(source), condition)));
        for key in keys {
            // What a subquery computes stands in the rows.
            let mut parts = parts;
            parts.add(key)?;
            self.of_keys.insert((Arc::clone(source), key.clone()), parts);
        }
        Ok(())
    }

    /// Why they are too many, if they are.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let rows = self.sources.values().filter(|chosen| **chosen && self.sources.len() > 1).count();
        let groups = || self.of_keys.values().map(|parts| parts.whens.max(usize::from(parts.joined == 0)));
        let largest = groups().max().unwrap_or(0);
        let keys = groups().sum::<usize>() - largest + largest.min(1) + self.of_keys.values().map(|parts| parts.joined).sum::<usize>();
        let all = self.of_aggregates.len() + rows + keys;
        (all > MAX_CONDITIONS).then(|| {
            Refusal::new(
                Code::LimitExceeded,
                format!("the statement counts people under {all} different conditions, of {MAX_CONDITIONS}: more tell what each hides"),
            )
            .advice(
                "GROUP BY the column rather than ask for each of its values; each FILTER and CASE counts, each computed key, and the WHERE of \
                 each of several SELECTs",
            )
        })
    }
}

impl Parts {
    fn add(&mut self, expr: &Expr) -> Result<()> {
        expr.apply(|part| {
            match part {
                Expr::Case(case) => self.whens = self.whens.saturating_add(case.when_then_expr.len()),
                Expr::ScalarFunction(function) if matches!(function.name(), "coalesce" | "nullif") => {
                    self.joined = self.joined.saturating_add(1);
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }
}
