//! Predicates, wire to domain and back. Parsing bounds depth, size and list lengths before anything is built on them.

use chrono::{Days, NaiveDate};
use concordat_policy::predicate::{MAX_DEPTH, MAX_LIST, MAX_NODES};
use concordat_policy::{Comparison, Predicate, Value};

use crate::v1::{self, predicate::Condition, value::Value as WireValue};

const EPOCH: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();

/// Why a predicate was refused: the field and the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PredicateError {
    /// A required part is absent or of an unknown kind.
    #[error("predicate: a condition, comparison or value is missing or unknown")]
    Missing,
    /// Deeper than [`MAX_DEPTH`].
    #[error("predicate: nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// More than [`MAX_NODES`] conditions.
    #[error("predicate: more than {MAX_NODES} conditions")]
    TooLarge,
    /// A list longer than [`MAX_LIST`].
    #[error("predicate: a list of more than {MAX_LIST} values")]
    ListTooLong,
    /// A number that is not one, or a day out of range.
    #[error("predicate: a value is out of range")]
    Range,
}

/// Parses a predicate.
///
/// # Errors
/// [`PredicateError`].
pub fn parse(wire: &v1::Predicate) -> Result<Predicate, PredicateError> {
    parse_at(wire, 0, &mut 0)
}

fn parse_at(wire: &v1::Predicate, depth: usize, nodes: &mut usize) -> Result<Predicate, PredicateError> {
    *nodes += 1;
    if depth >= MAX_DEPTH {
        return Err(PredicateError::TooDeep);
    }
    if *nodes > MAX_NODES {
        return Err(PredicateError::TooLarge);
    }
    let mut all = |parts: &v1::Predicates| parts.parts.iter().map(|p| parse_at(p, depth + 1, nodes)).collect::<Result<Vec<_>, _>>();
    Ok(match wire.condition.as_ref().ok_or(PredicateError::Missing)? {
        Condition::Compare(compare) => Predicate::Compare {
            column: compare.column.clone(),
            comparison: comparison(compare.comparison())?,
            value: value(compare.value.as_ref())?,
        },
        Condition::In(list) if list.values.len() > MAX_LIST => return Err(PredicateError::ListTooLong),
        Condition::In(list) => {
            Predicate::In { column: list.column.clone(), values: list.values.iter().map(|v| value(Some(v))).collect::<Result<_, _>>()? }
        }
        Condition::IsNull(column) => Predicate::IsNull { column: column.clone() },
        Condition::IsTrue(column) => Predicate::IsTrue { column: column.clone() },
        Condition::And(parts) => Predicate::And(all(parts)?),
        Condition::Or(parts) => Predicate::Or(all(parts)?),
        Condition::Not(part) => Predicate::Not(Box::new(parse_at(part, depth + 1, nodes)?)),
    })
}

fn comparison(wire: v1::Comparison) -> Result<Comparison, PredicateError> {
    Ok(match wire {
        v1::Comparison::Unspecified => return Err(PredicateError::Missing),
        v1::Comparison::Equal => Comparison::Equal,
        v1::Comparison::NotEqual => Comparison::NotEqual,
        v1::Comparison::Less => Comparison::Less,
        v1::Comparison::LessOrEqual => Comparison::LessOrEqual,
        v1::Comparison::Greater => Comparison::Greater,
        v1::Comparison::GreaterOrEqual => Comparison::GreaterOrEqual,
    })
}

fn value(wire: Option<&v1::Value>) -> Result<Value, PredicateError> {
    Ok(match wire.and_then(|v| v.value.as_ref()).ok_or(PredicateError::Missing)? {
        WireValue::Text(text) => Value::Text(text.clone()),
        WireValue::Integer(integer) => Value::Integer(*integer),
        WireValue::Number(number) if number.is_nan() => return Err(PredicateError::Range),
        WireValue::Number(number) => Value::Number(*number),
        WireValue::Boolean(boolean) => Value::Boolean(*boolean),
        WireValue::Date(days) => {
            let magnitude = Days::new(u64::from(days.unsigned_abs()));
            let day = if *days < 0 { EPOCH.checked_sub_days(magnitude) } else { EPOCH.checked_add_days(magnitude) };
            Value::Date(day.ok_or(PredicateError::Range)?)
        }
    })
}

/// The wire form of a predicate.
#[must_use]
pub fn to_wire(predicate: &Predicate) -> v1::Predicate {
    let all = |parts: &[Predicate]| v1::Predicates { parts: parts.iter().map(to_wire).collect() };
    let condition = match predicate {
        Predicate::Compare { column, comparison, value } => Condition::Compare(v1::Compare {
            column: column.clone(),
            comparison: comparison_to_wire(*comparison).into(),
            value: Some(value_to_wire(value)),
        }),
        Predicate::In { column, values } => {
            Condition::In(v1::In { column: column.clone(), values: values.iter().map(value_to_wire).collect() })
        }
        Predicate::IsNull { column } => Condition::IsNull(column.clone()),
        Predicate::IsTrue { column } => Condition::IsTrue(column.clone()),
        Predicate::And(parts) => Condition::And(all(parts)),
        Predicate::Or(parts) => Condition::Or(all(parts)),
        Predicate::Not(part) => Condition::Not(Box::new(to_wire(part))),
    };
    v1::Predicate { condition: Some(condition) }
}

fn comparison_to_wire(comparison: Comparison) -> v1::Comparison {
    match comparison {
        Comparison::Equal => v1::Comparison::Equal,
        Comparison::NotEqual => v1::Comparison::NotEqual,
        Comparison::Less => v1::Comparison::Less,
        Comparison::LessOrEqual => v1::Comparison::LessOrEqual,
        Comparison::Greater => v1::Comparison::Greater,
        Comparison::GreaterOrEqual => v1::Comparison::GreaterOrEqual,
    }
}

fn value_to_wire(value: &Value) -> v1::Value {
    let value = match value {
        Value::Text(text) => WireValue::Text(text.clone()),
        Value::Integer(integer) => WireValue::Integer(*integer),
        Value::Number(number) => WireValue::Number(*number),
        Value::Boolean(boolean) => WireValue::Boolean(*boolean),
        // chrono's range of days fits: ±2^31 days are some 5.8 million years.
        Value::Date(day) => WireValue::Date(i32::try_from(day.signed_duration_since(EPOCH).num_days()).unwrap_or(i32::MAX)),
    };
    v1::Value { value: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicates_survive_the_wire() {
        let day = NaiveDate::from_ymd_opt(1961, 2, 3).unwrap();
        let compare = |column: &str, value| Predicate::Compare { column: column.into(), comparison: Comparison::LessOrEqual, value };
        let predicate = Predicate::And(vec![
            compare("a", Value::Integer(-3)),
            Predicate::Or(vec![compare("b", Value::Number(0.5)), Predicate::Not(Box::new(Predicate::IsNull { column: "c".into() }))]),
            Predicate::In { column: "d".into(), values: vec![Value::Text("x".into()), Value::Boolean(true), Value::Date(day)] },
            Predicate::IsTrue { column: "e".into() },
        ]);
        assert_eq!(parse(&to_wire(&predicate)), Ok(predicate));
    }

    #[test]
    fn limits_hold() {
        let mut deep = Predicate::IsTrue { column: "a".into() };
        for _ in 0..MAX_DEPTH {
            deep = Predicate::Not(Box::new(deep));
        }
        assert_eq!(parse(&to_wire(&deep)), Err(PredicateError::TooDeep));
        let wide = Predicate::Or(vec![Predicate::IsTrue { column: "a".into() }; MAX_NODES]);
        assert_eq!(parse(&to_wire(&wide)), Err(PredicateError::TooLarge));
        let long = Predicate::In { column: "a".into(), values: vec![Value::Integer(1); MAX_LIST + 1] };
        assert_eq!(parse(&to_wire(&long)), Err(PredicateError::ListTooLong));
        assert_eq!(parse(&v1::Predicate { condition: None }), Err(PredicateError::Missing));
        let nan = Predicate::Compare { column: "a".into(), comparison: Comparison::Equal, value: Value::Number(f64::NAN) };
        assert_eq!(parse(&to_wire(&nan)), Err(PredicateError::Range));
    }
}
