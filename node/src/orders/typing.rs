//! Whether the literals of a predicate are of their columns' types. A whole number may stand against a column of numbers;
//! nothing else is converted.

use concordat_policy::{ColumnType, Predicate, Value};

/// The largest whole number up to which every one has its own `Float64`.
const EXACT: u64 = 1 << 53;

/// Checks `predicate` against the types of its columns.
///
/// # Errors
/// A sentence that names the column, and no literal.
pub(super) fn check(predicate: &Predicate, kind: impl Fn(&str) -> Option<ColumnType> + Copy) -> Result<(), String> {
    match predicate {
        Predicate::Compare { column, value, .. } => fits(column, value, kind),
        Predicate::In { column, values } => values.iter().try_for_each(|value| fits(column, value, kind)),
        Predicate::IsNull { column } => kind(column).map(|_| ()).ok_or_else(|| format!("predicate: there is no column '{column}'")),
        Predicate::IsTrue { column } if kind(column) == Some(ColumnType::Boolean) => Ok(()),
        Predicate::IsTrue { column } => Err(format!("predicate: column '{column}' is not a boolean")),
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().try_for_each(|part| check(part, kind)),
        Predicate::Not(part) => check(part, kind),
    }
}

fn fits(column: &str, value: &Value, kind: impl Fn(&str) -> Option<ColumnType>) -> Result<(), String> {
    let Some(kind) = kind(column) else { return Err(format!("predicate: there is no column '{column}'")) };
    let fits = match (kind, value) {
        (ColumnType::Number, Value::Integer(whole)) => whole.unsigned_abs() <= EXACT,
        (ColumnType::Text, Value::Text(_))
        | (ColumnType::Integer, Value::Integer(_))
        | (ColumnType::Number, Value::Number(_))
        | (ColumnType::Boolean, Value::Boolean(_))
        | (ColumnType::Date, Value::Date(_)) => true,
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("predicate: column '{column}' is of type {kind} and is compared with a value of another type")) }
}
