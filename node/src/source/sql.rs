//! The engine's conditions as a database's SQL, where the two mean the same.
//!
//! Only what an order's typed predicate becomes is translated: comparisons of a column with a literal, lists, `IS NULL`, boolean
//! columns, `AND`, `OR`, `NOT`. Whatever else is there stays with the engine. Because `NOT` turns "too many rows" into "too few", every
//! translated part is true, false and unknown for exactly the same rows; where a dialect cannot promise that, it gives no words.

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Operator};
use datafusion::scalar::ScalarValue;

use super::finite;

/// A column in a condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operand {
    /// The column's name in the source.
    pub(crate) column: String,
    /// The type as which it is compared, when it is not the one in which it is read.
    pub(crate) cast: Option<DataType>,
    /// An infinity or a NaN counts as null.
    pub(crate) finite: bool,
}

/// How one database writes things.
pub(crate) trait Dialect {
    /// The type in which a column is read.
    fn read_as(&self, column: &str) -> Option<&DataType>;

    /// The column as one side of a comparison between values of the type: text compared by its UTF-8 bytes, numbers as 64-bit
    /// floating point.
    fn operand(&self, operand: &Operand, compared_as: &DataType) -> Option<String>;

    /// A literal, typed and quoted.
    fn literal(&self, literal: &ScalarValue) -> Option<String>;
}

/// The SQL of a condition.
pub(crate) fn condition(filter: &Expr, dialect: &dyn Dialect) -> Option<String> {
    match filter {
        Expr::BinaryExpr(binary) => self::binary(binary, dialect),
        Expr::Not(inner) => Some(format!("(NOT {})", condition(inner, dialect)?)),
        Expr::IsNull(inner) => Some(format!("({} IS NULL)", value(inner, dialect)?.0)),
        Expr::IsNotNull(inner) => Some(format!("({} IS NOT NULL)", value(inner, dialect)?.0)),
        Expr::InList(list) if !list.list.is_empty() => {
            let (operand, kind) = value(&list.expr, dialect)?;
            let literals = list.list.iter().map(|expr| literal(expr, &kind, dialect)).collect::<Option<Vec<_>>>()?;
            Some(format!("({operand} {}IN ({}))", if list.negated { "NOT " } else { "" }, literals.join(", ")))
        }
        _ => value(filter, dialect).filter(|(_, kind)| *kind == DataType::Boolean).map(|(sql, _)| sql),
    }
}

fn binary(binary: &BinaryExpr, dialect: &dyn Dialect) -> Option<String> {
    if let Operator::And | Operator::Or = binary.op {
        let (left, right) = (condition(&binary.left, dialect)?, condition(&binary.right, dialect)?);
        return Some(format!("({left} {} {right})", binary.op));
    }
    let swapped = matches!(*binary.left, Expr::Literal(..));
    let (column, other) = if swapped { (&binary.right, &binary.left) } else { (&binary.left, &binary.right) };
    let operator = match (binary.op, swapped) {
        (Operator::Eq, _) => "=",
        (Operator::NotEq, _) => "<>",
        (Operator::Lt, false) | (Operator::Gt, true) => "<",
        (Operator::LtEq, false) | (Operator::GtEq, true) => "<=",
        (Operator::Gt, false) | (Operator::Lt, true) => ">",
        (Operator::GtEq, false) | (Operator::LtEq, true) => ">=",
        _ => return None,
    };
    let (operand, kind) = value(column, dialect)?;
    Some(format!("({operand} {operator} {})", literal(other, &kind, dialect)?))
}

/// A column, and the type as which it is compared.
fn value(expr: &Expr, dialect: &dyn Dialect) -> Option<(String, DataType)> {
    let operand = operand(expr)?;
    let read_as = dialect.read_as(&operand.column)?;
    let kind = operand.cast.clone().unwrap_or_else(|| read_as.clone());
    // The engine orders numbers totally, NaN and both zeros apart; only with NaN taken out does SQL do the same.
    if (kind == DataType::Float64) != operand.finite {
        return None;
    }
    let widened = *read_as == DataType::Int64 && kind == DataType::Float64;
    (kind == *read_as || widened).then(|| dialect.operand(&operand, &kind)).flatten().map(|sql| (sql, kind))
}

fn operand(expr: &Expr) -> Option<Operand> {
    match expr {
        Expr::Column(column) => Some(Operand { column: column.name.clone(), cast: None, finite: false }),
        Expr::Cast(Cast { expr, field }) => match operand(expr)? {
            inner if inner.cast.is_none() && !inner.finite => Some(Operand { cast: Some(field.data_type().clone()), ..inner }),
            _ => None,
        },
        Expr::ScalarFunction(function) if function.name() == finite::NAME => match function.args.as_slice() {
            [number] => operand(number).filter(|inner| !inner.finite).map(|inner| Operand { finite: true, ..inner }),
            _ => None,
        },
        _ => None,
    }
}

fn literal(expr: &Expr, kind: &DataType, dialect: &dyn Dialect) -> Option<String> {
    let Expr::Literal(value, _) = expr else { return None };
    // To the engine the two zeros differ, to SQL they do not.
    let zero = matches!(value, ScalarValue::Float64(Some(number)) if *number == 0.0 || number.is_nan());
    (value.data_type() == *kind && !value.is_null() && !zero).then(|| dialect.literal(value)).flatten()
}

/// Text between single quotes, for databases in which a backslash is a character like any other.
pub(crate) fn quoted(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| format!("'{}'", text.replace('\'', "''")))
}

/// A name between double quotes.
pub(crate) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A day of the years 1 to 9999, which have one spelling.
pub(crate) fn date(days: i32) -> Option<String> {
    use chrono::{Datelike as _, Days, NaiveDate};
    let epoch = NaiveDate::default();
    let distance = Days::new(days.unsigned_abs().into());
    let day = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) }?;
    (1..=9999).contains(&day.year()).then(|| day.format("%Y-%m-%d").to_string())
}
