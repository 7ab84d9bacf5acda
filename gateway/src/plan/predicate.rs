//! Conditions that can be stated in a release order: DataFusion expressions to typed predicates. `None` where a predicate cannot
//! say exactly the same; then the gateway applies the condition itself, if the column may leave its department at all.

use concordat_policy::column::{LINKED, SUBJECT};
use concordat_policy::predicate::{MAX_DEPTH, MAX_LIST};
use concordat_policy::{Comparison, Predicate, Value};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::{Expr, Operator};

/// The typed predicate that says the same as `expr`.
pub(super) fn typed(expr: &Expr) -> Option<Predicate> {
    at(expr, 0)
}

fn at(expr: &Expr, depth: usize) -> Option<Predicate> {
    if depth + 1 >= MAX_DEPTH {
        return None;
    }
    let inner = |e: &Expr| at(e, depth + 1);
    let not = |p: Predicate| Predicate::Not(Box::new(p));
    Some(match expr {
        Expr::Alias(alias) => inner(&alias.expr)?,
        Expr::Column(_) => Predicate::IsTrue { column: column(expr)? },
        Expr::Not(e) => not(inner(e)?),
        Expr::IsNull(e) => Predicate::IsNull { column: column(e)? },
        Expr::IsNotNull(e) => not(Predicate::IsNull { column: column(e)? }),
        // `x IS TRUE` is false for null, where `x` alone is unknown: under NOT the two differ.
        Expr::IsTrue(e) => Predicate::And(vec![Predicate::IsTrue { column: column(e)? }, not(Predicate::IsNull { column: column(e)? })]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => Predicate::And(vec![inner(left)?, inner(right)?]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => Predicate::Or(vec![inner(left)?, inner(right)?]),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (column(left), literal(right)) {
            (Some(column), Some(value)) => Predicate::Compare { column, comparison: comparison(*op)?, value },
            _ => Predicate::Compare { column: column(right)?, comparison: comparison(op.swap()?)?, value: literal(left)? },
        },
        Expr::Between(Between { expr, negated, low, high }) => {
            let compare = |comparison, value| Some(Predicate::Compare { column: column(expr)?, comparison, value: literal(value)? });
            let between = Predicate::And(vec![compare(Comparison::GreaterOrEqual, low)?, compare(Comparison::LessOrEqual, high)?]);
            if *negated { not(between) } else { between }
        }
        Expr::InList(InList { expr, list, negated }) if list.len() <= MAX_LIST => {
            let list = Predicate::In { column: column(expr)?, values: list.iter().map(literal).collect::<Option<_>>()? };
            if *negated { not(list) } else { list }
        }
        _ => return None,
    })
}

/// A dataset's column; never the pseudonym: its values must not travel to another department's node.
fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) if column.name != SUBJECT && column.name != LINKED => Some(column.name.clone()),
        _ => None,
    }
}

fn comparison(op: Operator) -> Option<Comparison> {
    Some(match op {
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// A literal that is not null: comparisons with null are left to the gateway.
fn literal(expr: &Expr) -> Option<Value> {
    let Expr::Literal(value, _) = expr else { return None };
    scalar(value)
}

fn scalar(value: &ScalarValue) -> Option<Value> {
    Some(match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => Value::Text(text.clone()),
        ScalarValue::Dictionary(_, inner) => scalar(inner)?,
        ScalarValue::Int64(Some(v)) => Value::Integer(*v),
        ScalarValue::Float64(Some(v)) if !v.is_nan() => Value::Number(*v),
        ScalarValue::Boolean(Some(v)) => Value::Boolean(*v),
        ScalarValue::Date32(Some(days)) => {
            Value::Date(chrono::NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(chrono::TimeDelta::days(i64::from(*days)))?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    #[test]
    fn what_can_be_said_is_said_exactly() {
        let compare = |comparison, value| Some(Predicate::Compare { column: "a".into(), comparison, value });
        assert_eq!(typed(&col("a").gt(lit(3i64))), compare(Comparison::Greater, Value::Integer(3)));
        assert_eq!(typed(&lit(3i64).gt(col("a"))), compare(Comparison::Less, Value::Integer(3)), "the column moves to the left");
        assert_eq!(typed(&col("a").is_not_null()), Some(Predicate::Not(Box::new(Predicate::IsNull { column: "a".into() }))));
        let is_true = Predicate::IsTrue { column: "a".into() };
        let not_null = Predicate::Not(Box::new(Predicate::IsNull { column: "a".into() }));
        assert_eq!(typed(&col("a").is_true()), Some(Predicate::And(vec![is_true, not_null])), "false, not unknown, for null");
        assert_eq!(typed(&col("a")), Some(Predicate::IsTrue { column: "a".into() }));
        assert!(typed(&col("a").in_list(vec![lit("x"), lit("y")], true)).is_some());
        assert!(typed(&col("a").between(lit(1i64), lit(2i64))).is_some());
    }

    #[test]
    fn what_cannot_be_said_exactly_stays_here() {
        let null = Expr::Literal(ScalarValue::Int64(None), None);
        for expr in [
            col("a").gt(col("b")),
            col("a").eq(null.clone()),
            col("a").in_list(vec![lit(1i64), null], false),
            (col("a") + lit(1i64)).gt(lit(3i64)),
            col("a").like(lit("x%")),
            col(SUBJECT).eq(lit("x")),
            col(SUBJECT).is_null(),
            col(LINKED).eq(lit("x")),
            col("a").gt(lit(f64::NAN)),
            col("a").in_list((0..=256).map(lit).collect(), false),
        ] {
            assert_eq!(typed(&expr), None, "{expr}");
        }
    }
}
