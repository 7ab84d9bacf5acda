//! Conditions of a SELECT that edits take away or move: WHERE, HAVING, ON and FILTER, each a list of parts joined by AND.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Select, SelectItem, visit_expressions_mut,
};

use super::scope::{Scope, Target};

/// Takes the conditions on the target away, and returns them. The last part of an ON stays: without it the tables would not join.
pub(super) fn taken(select: &mut Select, scope: &Scope<'_>, target: &Target) -> Vec<Expr> {
    let about = |part: &Expr| scope.mentions(part, target);
    let mut taken = cut(&mut select.selection, about);
    taken.extend(cut(&mut select.having, about));
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        let Some(on) = on(join) else { continue };
        let (gone, kept): (Vec<Expr>, Vec<Expr>) = parts(on.clone()).into_iter().partition(about);
        if let Some(rest) = joined(kept) {
            *on = rest;
            taken.extend(gone);
        }
    }
    taken.extend(from_filters(&mut select.projection, about));
    taken
}

/// Takes conditions out of aggregates' FILTER, and returns them.
pub(super) fn from_filters(items: &mut Vec<SelectItem>, about: impl Fn(&Expr) -> bool) -> Vec<Expr> {
    let mut taken = Vec::new();
    let _: ControlFlow<()> = visit_expressions_mut(items, |expr| {
        if let Expr::Function(function) = expr
            && let Some(filter) = function.filter.take()
        {
            let mut filter = Some(*filter);
            taken.extend(cut(&mut filter, &about));
            function.filter = filter.map(Box::new);
        }
        ControlFlow::Continue(())
    });
    taken
}

/// Cuts the parts of a condition of which `gone` says so, and returns them.
pub(super) fn cut(condition: &mut Option<Expr>, gone: impl Fn(&Expr) -> bool) -> Vec<Expr> {
    let Some(whole) = condition.take() else { return Vec::new() };
    let (taken, kept): (Vec<Expr>, Vec<Expr>) = parts(whole).into_iter().partition(gone);
    *condition = joined(kept);
    taken
}

/// Adds a part to a condition.
pub(super) fn add(condition: &mut Option<Expr>, part: Expr) {
    *condition = joined(condition.take().into_iter().flat_map(parts).chain([part]).collect());
}

/// The parts that AND joins. Brackets around a part stay: it may hold an OR.
fn parts(condition: Expr) -> Vec<Expr> {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => parts(*left).into_iter().chain(parts(*right)).collect(),
        Expr::Nested(inner) if matches!(inner.as_ref(), Expr::BinaryOp { op: BinaryOperator::And, .. }) => parts(*inner),
        other => vec![other],
    }
}

fn joined(parts: Vec<Expr>) -> Option<Expr> {
    // A part that is an OR had the whole condition to itself: beside another it needs brackets.
    let several = parts.len() > 1;
    let bracketed = parts.into_iter().map(|part| match part {
        Expr::BinaryOp { op: BinaryOperator::Or, .. } if several => Expr::Nested(Box::new(part)),
        part => part,
    });
    bracketed.reduce(|left, right| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) })
}

fn on(join: &mut Join) -> Option<&mut Expr> {
    match &mut join.join_operator {
        JoinOperator::Join(JoinConstraint::On(on))
        | JoinOperator::Inner(JoinConstraint::On(on))
        | JoinOperator::Left(JoinConstraint::On(on))
        | JoinOperator::LeftOuter(JoinConstraint::On(on))
        | JoinOperator::Right(JoinConstraint::On(on))
        | JoinOperator::RightOuter(JoinConstraint::On(on))
        | JoinOperator::FullOuter(JoinConstraint::On(on)) => Some(on),
        _ => None,
    }
}
