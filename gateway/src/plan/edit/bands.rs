//! Comparisons of a column with other values than the thresholds of its bands, moved to the nearest of these, and half-open.

use std::ops::ControlFlow;

use chrono::{Datelike as _, NaiveDate};
use concordat_policy::{ColumnRule, ColumnType, Value as Typed};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Select, TypedString, UnaryOperator, Value, ValueWithSpan, visit_expressions_mut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

/// Moves the comparisons of the column that `is_column` finds. Whether one was changed by it.
pub(super) fn moved(select: &mut Select, rule: &ColumnRule, is_column: impl Fn(&Expr) -> bool) -> bool {
    let mut changed = false;
    let _: ControlFlow<()> = visit_expressions_mut(select, |expr| {
        if let Some(moved) = comparison(expr, rule, &is_column) {
            changed |= moved.to_string() != expr.to_string();
            *expr = moved;
        }
        ControlFlow::Continue(())
    });
    changed
}

fn comparison(expr: &Expr, rule: &ColumnRule, is_column: &impl Fn(&Expr) -> bool) -> Option<Expr> {
    match expr {
        Expr::BinaryOp { left, op, right } if is_column(left) => compared(left, op, nearest(rule, right)?),
        Expr::BinaryOp { left, op, right } if is_column(right) => compared(right, &swapped(op)?, nearest(rule, left)?),
        Expr::Between { expr, negated, low, high } if is_column(expr) => {
            let (low, high) = (nearest(rule, low)?, nearest(rule, high)?);
            // Nobody is between a threshold and itself.
            if low == high {
                return None;
            }
            let (low, high) = (compared(expr, &BinaryOperator::GtEq, low)?, compared(expr, &BinaryOperator::Lt, high)?);
            let within = Expr::BinaryOp { left: Box::new(low), op: BinaryOperator::And, right: Box::new(high) };
            let within = Expr::Nested(Box::new(within));
            Some(if *negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(within) } } else { within })
        }
        _ => None,
    }
}

fn compared(column: &Expr, op: &BinaryOperator, threshold: Value) -> Option<Expr> {
    let op = match op {
        BinaryOperator::Lt | BinaryOperator::LtEq => BinaryOperator::Lt,
        BinaryOperator::Gt | BinaryOperator::GtEq => BinaryOperator::GtEq,
        _ => return None,
    };
    let right = Expr::Value(ValueWithSpan { value: threshold, span: Span::empty() });
    Some(Expr::BinaryOp { left: Box::new(column.clone()), op, right: Box::new(right) })
}

fn swapped(op: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match op {
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::LtEq => BinaryOperator::GtEq,
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::LtEq,
        _ => return None,
    })
}

/// The threshold that is nearest to a literal, as a literal.
fn nearest(rule: &ColumnRule, literal: &Expr) -> Option<Value> {
    let wanted = place(rule.kind, literal)?;
    let distance = |band: &String| Some((rule.kind.read(band).and_then(|value| number(&value))? - wanted).abs());
    let bands = rule.bands.iter().flatten().filter_map(|band| Some((distance(band)?, band)));
    let (_, band) = bands.min_by(|(one, _), (other, _)| one.total_cmp(other))?;
    Some(match rule.kind {
        ColumnType::Date => Value::SingleQuotedString(band.clone()),
        _ => Value::Number(band.clone(), false),
    })
}

/// Where a literal lies among the values of a type.
fn place(kind: ColumnType, literal: &Expr) -> Option<f64> {
    match literal {
        Expr::Nested(inner) => place(kind, inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if kind != ColumnType::Date => Some(-place(kind, expr)?),
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) if kind != ColumnType::Date => text.parse().ok(),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. })
        | Expr::TypedString(TypedString { value: ValueWithSpan { value: Value::SingleQuotedString(text), .. }, .. })
            if kind == ColumnType::Date =>
        {
            text.parse::<NaiveDate>().ok().map(|day| day.num_days_from_ce().into())
        }
        _ => None,
    }
}

fn number(value: &Typed) -> Option<f64> {
    match value {
        Typed::Integer(whole) => Some(*whole as f64),
        Typed::Number(number) => Some(*number),
        Typed::Date(day) => Some(day.num_days_from_ce().into()),
        Typed::Text(_) | Typed::Boolean(_) => None,
    }
}
