//! Columns whose use `filter` is limited to comparison with their listed values, or with the thresholds of their bands: every condition
//! that reads one, wherever it stands (WHERE, ON, FILTER, CASE), must be AND, OR and NOT of comparisons that a release order can state
//! and that the agreement permits.
//! The node judges the order's own predicate by the same rule; this covers what stays in the plan too.

use concordat_policy::{Cause, Code, ColumnRule, ColumnType, Permit, Refusal};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::{BinaryExpr, Cast, TryCast};
use datafusion::logical_expr::{Expr, Operator};

use super::predicate::typed;
use super::shape::{Origin, SourceColumn, Visible, find, refuse};

/// Refuses a condition that compares such a column otherwise. `condition` was checked as an expression over `visible`.
pub(super) fn listed_only(permit: &Permit, condition: &Expr, visible: &[Visible]) -> Result<()> {
    match condition {
        Expr::Alias(alias) => listed_only(permit, &alias.expr, visible),
        Expr::Not(part) => listed_only(permit, part, visible),
        // What is asked of a whole condition, not of a column.
        Expr::IsNull(part) | Expr::IsNotNull(part) if !matches!(part.as_ref(), Expr::Column(_)) => listed_only(permit, part, visible),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            listed_only(permit, left, visible)?;
            listed_only(permit, right, visible)
        }
        comparison => compared(permit, comparison, visible),
    }
}

/// One comparison, without AND and OR around it.
fn compared(permit: &Permit, comparison: &Expr, visible: &[Visible]) -> Result<()> {
    let mut origins: Vec<&Origin> = Vec::new();
    comparison.apply(|part| {
        if let Expr::Column(column) = part {
            origins.extend(find(visible, column).map(|visible| &visible.origin));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let limited = |source: &SourceColumn| rule(permit, source).is_some_and(|rule| rule.filter.is_some());
    let Some(source) = origins.iter().flat_map(|origin| origin.sources()).find(limited) else { return Ok(()) };
    // Neither computed from it, nor compared with another column.
    let alone = origins.iter().all(|origin| matches!(origin, Origin::Source(other) if *other == source));
    if alone && permitted(permit, comparison, &source)? {
        return Ok(());
    }
    let (dataset, column) = source;
    let found = permit.dataset(&dataset).and_then(|permit| Some((permit.agreement.clone(), permit.dataset.columns.get(&column)?)));
    let Some((agreement, rule)) = found else { return refuse(Refusal::internal("a column of a dataset without a permit")) };
    let department = dataset.department.clone();
    let cause = Cause::Unlisted { dataset, column, agreement, limit: rule.filter.unwrap_or_default() };
    refuse(Refusal::because(Code::Denied, cause).department(department).advice(rule.comparable()))
}

fn rule<'a>(permit: &'a Permit, (dataset, column): &SourceColumn) -> Option<&'a ColumnRule> {
    permit.dataset(dataset)?.dataset.columns.get(column)
}

/// Whether a comparison that names no column but `source` is one that its rule permits.
fn permitted(permit: &Permit, comparison: &Expr, source: &SourceColumn) -> Result<bool> {
    let (Some(rule), Some(dataset)) = (rule(permit, source), permit.dataset(&source.0)) else { return Ok(false) };
    // Under the agreement's name, and without the planner's casts that change no comparison.
    let plain = comparison.clone().transform(|part| {
        Ok(match part {
            Expr::Column(_) => Transformed::yes(Expr::Column(Column::new_unqualified(source.1.clone()))),
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })
                if matches!(expr.as_ref(), Expr::Column(_)) && changes_nothing(rule.kind, field.data_type()) =>
            {
                Transformed::yes(*expr)
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(typed(&plain.data).is_some_and(|predicate| predicate.beyond_limits(&dataset.dataset.columns).is_none()))
}

/// Whether a column that is cast so compares as it does without: a dictionary's text as plain text, a whole number as a number beside
/// one. Whole numbers that round are larger than any that a number of the statement counts as.
fn changes_nothing(kind: ColumnType, to: &DataType) -> bool {
    match kind {
        ColumnType::Text => text(to),
        ColumnType::Integer => *to == DataType::Float64,
        ColumnType::Number | ColumnType::Boolean | ColumnType::Date => false,
    }
}

fn text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => text(value),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}
