//! Nodes over protected values. Their work is to carry the mask along, so that a value computed from a withheld one is
//! itself shown as withheld, and a total over groups of which some were withheld is withheld. A condition that meets a withheld
//! value is neither true nor false: the row is not in the answer, and the answer says that this rule was at work.

use std::collections::BTreeSet;
use std::sync::Arc;

use concordat_policy::{Code, Refusal};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Column, ExprSchema as _, JoinConstraint, JoinType, NullEquality, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::bit_or;
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable as _, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, binary_expr, when,
};
use datafusion::prelude::{coalesce, lit};

use super::expression::not_offered;
use super::margins::Sets;
use super::rewrite::Rewriter;
use super::shape::{Safe, Shape, refuse};
use super::values::values;

/// The most columns that a mask can speak of.
pub(super) const MAX_MASKED: usize = 64;

impl Rewriter<'_> {
    /// SELECT list: each new column is withheld where any column that it reads was.
    pub(super) fn project_safe(&mut self, safe: Safe, exprs: Vec<Expr>) -> Result<Safe> {
        let (visible, width) = (safe.visible(), exprs.len());
        let (mut projected, mut moved) = (Vec::new(), Vec::new());
        let enclosing = self.beside.replace(Vec::new());
        for (position, expr) in exprs.into_iter().enumerate() {
            let mut read = BTreeSet::new();
            projected.push(self.safe_expression(expr, &visible, &mut read)?);
            moved.push((read, position));
        }
        let beside = std::mem::replace(&mut self.beside, enclosing).unwrap_or_default();
        let safe = beside.into_iter().try_fold(safe, |safe, value| self.cross_joined(safe, value))?;
        let mask = safe.mask();
        if let Some(mask) = &mask {
            let is_value = values(&safe.plan)?;
            for (expr, (read, _)) in projected.iter_mut().zip(&moved) {
                let read = read.iter().copied().filter(|place| is_value.get(*place) == Some(&true));
                *expr = unless_withheld(expr.clone(), mask, bits(read)?, &safe.plan)?;
            }
            projected.push(self.moved_mask(mask, &moved)?);
        }
        let plan = LogicalPlan::Projection(Projection::try_new(projected, Arc::new(safe.plan))?);
        Ok(Safe { plan, width, masked: mask.is_some() })
    }

    fn cross_joined(&mut self, left: Safe, right: Safe) -> Result<Safe> {
        let (l, r) = (Arc::new(left.plan.clone()), Arc::new(right.plan.clone()));
        let join = Join::try_new(l, r, vec![], None, JoinType::Inner, JoinConstraint::On, NullEquality::NullEqualsNothing, false)?;
        self.join_safe(join, left, right)
    }

    /// A mask whose bit `to` is set where any of the bits `from` of `mask` is.
    fn moved_mask(&mut self, mask: &Column, moved: &[(BTreeSet<usize>, usize)]) -> Result<Expr> {
        let mut parts = Vec::new();
        for (from, to) in moved {
            let from = bits(from.iter().copied())?;
            if from != 0 {
                parts.push(when(touches(mask, from), lit(bits([*to])?)).otherwise(lit(0u64))?);
            }
        }
        let name = self.fresh("withheld");
        Ok(parts.into_iter().reduce(|a, b| binary_expr(a, Operator::BitwiseOr, b)).unwrap_or_else(|| lit(0u64)).alias(name))
    }

    pub(super) fn join_safe(&mut self, join: Join, left: Safe, right: Safe) -> Result<Safe> {
        use JoinType::{LeftAnti, LeftSemi, RightAnti, RightSemi};
        if matches!(join.join_type, JoinType::LeftMark | JoinType::RightMark) {
            return not_offered("", "this kind of join");
        }
        let (keep_left, keep_right) = (!matches!(join.join_type, RightSemi | RightAnti), !matches!(join.join_type, LeftSemi | LeftAnti));
        let sides: Vec<Column> = left.visible().into_iter().chain(right.visible()).collect();
        let mut conditions: Vec<Expr> = Vec::new();
        for (l, r) in join.on {
            conditions.push(binary_expr(
                l,
                if join.null_equality == NullEquality::NullEqualsNull { Operator::IsNotDistinctFrom } else { Operator::Eq },
                r,
            ));
        }
        conditions.extend(join.filter.map(split_conjunction_owned).unwrap_or_default());
        let on = conditions
            .into_iter()
            .map(|c| self.safe_expression(c, &sides, &mut BTreeSet::new()))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .reduce(Expr::and);
        self.undecided |= on.is_some() && (left.masked || right.masked);
        let mut columns: Vec<Column> = Vec::new();
        let mut mask: Option<Expr> = None;
        for (side, keep) in [(&left, keep_left), (&right, keep_right)] {
            if !keep {
                continue;
            }
            if let Some(own) = side.mask() {
                let own = coalesce(vec![Expr::Column(own), lit(0u64)]);
                let shifted =
                    if columns.is_empty() { own } else { binary_expr(own, Operator::BitwiseShiftLeft, lit(columns.len() as u64)) };
                mask = Some(match mask {
                    Some(mask) => binary_expr(mask, Operator::BitwiseOr, shifted),
                    None => shifted,
                });
            }
            columns.extend(side.visible());
        }
        if mask.is_some() {
            bits([columns.len().saturating_sub(1)])?;
        }
        let (width, masked) = (columns.len(), mask.is_some());
        let plan = LogicalPlan::Join(Join::try_new(
            Arc::new(left.plan),
            Arc::new(right.plan),
            vec![],
            on,
            join.join_type,
            JoinConstraint::On,
            join.null_equality,
            join.null_aware,
        )?);
        let name = self.fresh("withheld");
        let exprs = columns.into_iter().map(Expr::Column).chain(mask.map(|m| m.alias(name)));
        let plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
        Ok(Safe { plan, width, masked })
    }

    /// An aggregate over protected values: withheld where any value that went into it was. A key that a row's grouping set leaves out
    /// is not: it is null because the row is a total.
    pub(super) fn aggregate_safe(&mut self, aggregate: Aggregate, safe: Safe) -> Result<Shape> {
        let (visible, mask) = (safe.visible(), safe.mask());
        let sets = Sets::of(&aggregate)?;
        let keys = grouping_set_to_exprlist(&aggregate.group_expr)?;
        let number = sets.as_ref().map(|_| keys.len());
        let mut moved = Vec::new();
        for expr in keys.into_iter().chain(&aggregate.aggr_expr) {
            // The column with the set's number stands after the keys, and reads none.
            let position = moved.len() + usize::from(number.is_some_and(|number| moved.len() >= number));
            let mut read = BTreeSet::new();
            match bare(expr) {
                Expr::AggregateFunction(function) => {
                    if !matches!(function.func.name(), "count" | "sum" | "avg" | "min" | "max") || !function.params.order_by.is_empty() {
                        return not_offered("the aggregate", function.func.name());
                    }
                    for part in function.params.args.iter().chain(function.params.filter.as_deref()) {
                        self.as_it_stands(part, &visible, &mut read)?;
                    }
                }
                other => self.as_it_stands(other, &visible, &mut read)?,
            }
            moved.push((read, position));
        }
        let names = aggregate.schema.columns();
        let (width, masked) = (names.len(), mask.is_some());
        let (mut keys, mut aggregates) = (aggregate.group_expr, aggregate.aggr_expr);
        if let Some(mask) = &mask {
            keys = keys.into_iter().map(|expr| key(expr, &visible, mask, &safe.plan)).collect::<Result<_>>()?;
            aggregates.push(bit_or(Expr::Column(mask.clone())).alias(self.fresh("withheld")));
        }
        let plan = LogicalPlanBuilder::from(safe.plan).aggregate(keys, aggregates)?.build()?;
        if !masked {
            return Ok(Shape::Safe(Safe { plan, width, masked }));
        }
        let columns = plan.schema().columns();
        let Some((merged, columns)) = columns.split_last() else { return refuse(Refusal::internal("an aggregate without columns")) };
        let mut projected = Vec::new();
        for (position, column) in columns.iter().enumerate() {
            let from = moved.iter().filter(|(_, to)| *to == position).flat_map(|(from, _)| from.iter().copied());
            let from = bits(from)?;
            let value = Expr::Column(column.clone());
            projected.push(if from == 0 {
                value
            } else {
                let null = ScalarValue::try_from(plan.schema().field_from_column(column)?.data_type())?;
                when(touches(merged, from), lit(null)).otherwise(value)?.alias_qualified(column.relation.clone(), column.name.clone())
            });
        }
        let mut mask = self.moved_mask(merged, &moved)?;
        if let (Some(sets), Some(number)) = (&sets, number.and_then(|number| columns.get(number))) {
            mask = sets.of_shown_keys(mask.unalias(), number)?.alias(self.fresh("withheld"));
        }
        projected.push(mask);
        let plan = LogicalPlanBuilder::from(plan).project(projected)?.build()?;
        Ok(Shape::Safe(Safe { plan, width, masked }))
    }

    /// UNION of protected parts. Rows about subjects cannot be put together before they are summarised: the walker could not
    /// say any more whose rows they are.
    pub(super) fn union(&mut self, inputs: Vec<Shape>) -> Result<Shape> {
        let mut parts = Vec::new();
        for input in inputs {
            match input {
                Shape::Safe(safe) => parts.push(safe),
                Shape::Rows(_) => {
                    return refuse(
                        Refusal::new(Code::Disclosure, "UNION, INTERSECT and EXCEPT of subjects' rows are not offered")
                            .advice("summarise each part first, then put the summaries together"),
                    );
                }
            }
        }
        let (width, masked) = (parts.first().map_or(0, |p| p.width), parts.iter().any(|p| p.masked));
        let mask_name = self.fresh("withheld");
        let mut united: Option<LogicalPlanBuilder> = None;
        for part in parts {
            let plan = if masked {
                let mask = part.mask().map_or_else(|| lit(0u64), Expr::Column).alias(&mask_name);
                let columns: Vec<Expr> = part.visible().into_iter().map(Expr::Column).chain([mask]).collect();
                LogicalPlanBuilder::from(part.plan).project(columns)?.build()?
            } else {
                part.plan
            };
            united = Some(match united {
                Some(builder) => builder.union(plan)?,
                None => LogicalPlanBuilder::from(plan),
            });
        }
        let Some(united) = united else { return refuse(Refusal::internal("a union of nothing")) };
        Ok(Shape::Safe(Safe { plan: united.build()?, width, masked }))
    }
}

/// What is computed of protected values: null where one of them is withheld, whatever `coalesce` or CASE make of a null.
fn unless_withheld(expr: Expr, mask: &Column, bits: u64, input: &LogicalPlan) -> Result<Expr> {
    if bits == 0 || matches!(bare(&expr), Expr::Column(_)) {
        return Ok(expr);
    }
    let (relation, field) = expr.to_field(input.schema())?;
    let null = ScalarValue::try_from(field.data_type())?;
    Ok(when(touches(mask, bits), lit(null)).otherwise(expr.unalias())?.alias_qualified(relation, field.name()))
}

/// A group's key, or the keys of a grouping set, null where a value that it is computed from is withheld.
fn key(expr: Expr, visible: &[Column], mask: &Column, input: &LogicalPlan) -> Result<Expr> {
    if matches!(expr, Expr::GroupingSet(_)) {
        return Ok(expr.map_children(|expr| key(expr, visible, mask, input).map(Transformed::yes))?.data);
    }
    let read = expr.column_refs().into_iter().filter_map(|column| visible.iter().position(|known| known == column));
    let read = bits(read)?;
    unless_withheld(expr, mask, read, input)
}

/// The expression below its aliases.
pub(super) fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}

fn touches(mask: &Column, bits: u64) -> Expr {
    binary_expr(Expr::Column(mask.clone()), Operator::BitwiseAnd, lit(bits)).not_eq(lit(0u64))
}

fn bits(positions: impl IntoIterator<Item = usize>) -> Result<u64> {
    let mut all = 0u64;
    for position in positions {
        let Some(bit) = u32::try_from(position).ok().and_then(|p| 1u64.checked_shl(p)) else {
            return refuse(
                Refusal::new(Code::LimitExceeded, format!("a result with protected values may have at most {MAX_MASKED} columns"))
                    .advice("ask for fewer columns"),
            );
        };
        all |= bit;
    }
    Ok(all)
}
