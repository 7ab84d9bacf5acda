//! The order's typed predicate as an expression of the engine. Columns are named exactly and cast to their declared types, so
//! that literals compare as the agreement's types do.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use concordat_policy::{ColumnType, Comparison, Predicate, Value};
use datafusion::logical_expr::{Expr, Operator, binary_expr, lit, not};
use datafusion::scalar::ScalarValue;

/// The expression; `None` for a column that `column` does not know.
pub(super) fn expression(
    predicate: &Predicate,
    column: &impl Fn(&str) -> Option<Expr>,
    types: &BTreeMap<String, ColumnType>,
) -> Option<Expr> {
    let literal = |name: &str, value: &Value| Some(literal(value, *types.get(name)?));
    Some(match predicate {
        Predicate::Compare { column: name, comparison, value } => binary_expr(column(name)?, operator(*comparison), literal(name, value)?),
        Predicate::In { column: name, values } => {
            let values = values.iter().map(|value| literal(name, value)).collect::<Option<Vec<_>>>()?;
            column(name)?.in_list(values, false)
        }
        Predicate::IsNull { column: name } => column(name)?.is_null(),
        // The bare column: false and null alike do not release the row, and `NOT` leaves null unknown.
        Predicate::IsTrue { column: name } => column(name)?,
        Predicate::And(parts) => all(parts, column, types, true)?,
        Predicate::Or(parts) => all(parts, column, types, false)?,
        Predicate::Not(part) => not(expression(part, column, types)?),
    })
}

fn all(parts: &[Predicate], column: &impl Fn(&str) -> Option<Expr>, types: &BTreeMap<String, ColumnType>, and: bool) -> Option<Expr> {
    let parts = parts.iter().map(|part| expression(part, column, types)).collect::<Option<Vec<_>>>()?;
    let joined = parts.into_iter().reduce(|left, right| if and { left.and(right) } else { left.or(right) });
    Some(joined.unwrap_or_else(|| lit(and)))
}

fn operator(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Equal => Operator::Eq,
        Comparison::NotEqual => Operator::NotEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessOrEqual => Operator::LtEq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterOrEqual => Operator::GtEq,
    }
}

pub(super) fn literal(value: &Value, kind: ColumnType) -> Expr {
    match (value, kind) {
        (Value::Text(text), _) => lit(text.clone()),
        // Exact: the order was refused otherwise.
        (Value::Integer(whole), ColumnType::Number) => lit(*whole as f64),
        (Value::Integer(whole), _) => lit(*whole),
        (Value::Number(number), _) => lit(*number),
        (Value::Boolean(boolean), _) => lit(*boolean),
        (Value::Date(day), _) => {
            Expr::Literal(ScalarValue::Date32(i32::try_from(day.signed_duration_since(NaiveDate::default()).num_days()).ok()), None)
        }
    }
}
