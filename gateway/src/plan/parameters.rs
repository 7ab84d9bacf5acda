//! Parameters: `$1`, `$2`, … or `?`. Values go into the parsed statement as literals, never into its text, so that everything
//! after the parser treats them as if they had been written there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use concordat_policy::{Code, Refusal};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    DataType as SqlType, Expr, TimezoneInfo, TypedString, UnaryOperator, Value, ValueWithSpan, visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::statement::{Statement, parse};

/// The most parameters of one statement.
pub(crate) const MAX_PARAMETERS: usize = 64;
/// The longest text that a parameter may hold, in bytes.
const MAX_TEXT: usize = 4 << 10;

/// Numbers every `?` by its place in the text, and returns how many parameters there are.
///
/// # Errors
/// [`Code::Invalid`] when `?` and `$1` are mixed, a name is used, a number is left out; [`Code::LimitExceeded`].
pub(super) fn numbered(statement: &mut Parsed) -> Result<usize, Refusal> {
    let Parsed::Statement(ast) = statement else { return Ok(0) };
    let (mut marks, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let mut other = false;
    let _: ControlFlow<()> = visit_expressions(ast.as_ref(), |expr| {
        if let Some((text, at)) = placeholder(expr) {
            match text.strip_prefix('$').map(str::parse::<usize>) {
                _ if text == "?" => drop(marks.insert((at.line, at.column))),
                Some(Ok(number)) => drop(numbers.insert(number)),
                _ => other = true,
            }
        }
        ControlFlow::Continue(())
    });
    if other || (!marks.is_empty() && !numbers.is_empty()) {
        return Err(Refusal::new(Code::Invalid, "parameters are written either ? or $1, $2, …").advice("use one of the two throughout"));
    }
    let count = marks.len().max(numbers.len());
    if count > MAX_PARAMETERS {
        return Err(Refusal::new(Code::LimitExceeded, format!("a statement may have at most {MAX_PARAMETERS} parameters")));
    }
    if numbers.iter().copied().ne(1..=numbers.len()) {
        return Err(Refusal::new(Code::Invalid, "the parameters are not numbered $1, $2, … without a gap"));
    }
    let _: ControlFlow<()> = visit_expressions_mut(ast.as_mut(), |expr| {
        if let Some(("?", at)) = placeholder(expr) {
            let place = marks.iter().position(|mark| *mark == (at.line, at.column)).map_or(0, |index| index + 1);
            *expr = literal(Value::Placeholder(format!("${place}")));
        }
        ControlFlow::Continue(())
    });
    Ok(count)
}

/// Puts `values` where `$1`, `$2`, … stand.
///
/// # Errors
/// [`Code::Invalid`] when their number or a type does not fit.
pub(super) fn bind(statement: &mut Parsed, values: &[ScalarValue]) -> Result<(), Refusal> {
    let count = numbered(statement)?;
    if count != values.len() {
        return Err(Refusal::new(Code::Invalid, format!("the statement has {count} parameters, and {} values were given", values.len()))
            .advice("bind one value to each"));
    }
    let Parsed::Statement(ast) = statement else { return Ok(()) };
    let literals = values.iter().map(sql).collect::<Result<Vec<_>, _>>()?;
    let _: ControlFlow<()> = visit_expressions_mut(ast.as_mut(), |expr| {
        let number = placeholder(expr).and_then(|(text, _)| text.strip_prefix('$')?.parse::<usize>().ok());
        if let Some(value) = number.and_then(|n| literals.get(n.checked_sub(1)?)) {
            *expr = value.clone();
        }
        ControlFlow::Continue(())
    });
    Ok(())
}

/// A value of each type, to plan with before any is bound. Not null: a condition on a column that may only filter cannot be
/// stated with a null.
pub(crate) fn examples(types: &[DataType]) -> Vec<ScalarValue> {
    let example = |kind: &DataType| ScalarValue::new_zero(kind).or_else(|_| ScalarValue::new_default(kind)).unwrap_or(ScalarValue::Null);
    types.iter().map(example).collect()
}

/// A statement whose values are texts, with each of them read as the type that is expected where it stands.
///
/// # Errors
/// [`Code::Invalid`] for a text that is none of that type. How many values there are is [`bind`]'s matter.
pub(crate) fn read_as(asked: &Statement, types: &[DataType]) -> Result<Statement, Refusal> {
    if types.len() != asked.parameters.len() {
        return Ok(asked.clone());
    }
    let read = |(index, (value, kind)): (usize, (&ScalarValue, &DataType))| match value.cast_to(kind) {
        Ok(read) if read.is_null() == value.is_null() => Ok(read),
        _ => Err(Refusal::new(Code::Invalid, format!("parameter {} cannot be read as {kind}", index + 1))
            .advice("give a value of that type: dates are written 2026-12-31")),
    };
    let parameters = asked.parameters.iter().zip(types).enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(Statement { sql: asked.sql.clone(), parameters })
}

/// The text of a statement with its values in their places.
///
/// # Errors
/// As [`bind`], and where it does not parse.
pub(crate) fn written_out(asked: &Statement) -> Result<String, Refusal> {
    if asked.parameters.is_empty() {
        return Ok(asked.sql.clone());
    }
    let mut statement = parse(&asked.sql)?;
    bind(&mut statement, &asked.parameters)?;
    Ok(statement.to_string())
}

/// The parameters of a statement, as they are written: `$region`, `$1`, `?`.
///
/// # Errors
/// Where it does not parse.
pub(crate) fn placeholders(sql: &str) -> Result<BTreeSet<String>, Refusal> {
    let mut found = BTreeSet::new();
    if let Parsed::Statement(ast) = parse(sql)? {
        let _: ControlFlow<()> = visit_expressions(ast.as_ref(), |expr| {
            found.extend(placeholder(expr).map(|(text, _)| text.to_owned()));
            ControlFlow::Continue(())
        });
    }
    Ok(found)
}

/// The text of a statement with values in the places of its named parameters, each of which has one.
///
/// # Errors
/// As [`bind`], and where it does not parse.
pub(crate) fn bound(sql: &str, values: &BTreeMap<String, ScalarValue>) -> Result<String, Refusal> {
    let mut statement = parse(sql)?;
    if let Parsed::Statement(ast) = &mut statement {
        let _: ControlFlow<()> = visit_expressions_mut(ast.as_mut(), |expr| {
            let place =
                placeholder(expr).and_then(|(text, _)| values.keys().position(|name| text.strip_prefix('$') == Some(name.as_str())));
            if let Some(place) = place {
                *expr = literal(Value::Placeholder(format!("${}", place + 1)));
            }
            ControlFlow::Continue(())
        });
    }
    bind(&mut statement, &values.values().cloned().collect::<Vec<_>>())?;
    let text = statement.to_string();
    // The printer takes two quotes inside a text for one that is written twice already, and may not give other things back either.
    if parse(&text).ok().as_ref() != Some(&statement) {
        return Err(Refusal::new(Code::Invalid, "the statement with its values in their places cannot be written as it was meant")
            .advice("write no two quotes beside each other inside a text"));
    }
    Ok(text)
}

fn placeholder(expr: &Expr) -> Option<(&str, Location)> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(text), span }) => Some((text.as_str(), span.start)),
        _ => None,
    }
}

fn literal(value: Value) -> Expr {
    Expr::Value(ValueWithSpan { value, span: Span::empty() })
}

/// A value as the literal that stands for it.
fn sql(value: &ScalarValue) -> Result<Expr, Refusal> {
    if value.is_null() {
        return Ok(literal(Value::Null));
    }
    let number = |text: String| {
        // As written by hand: a sign is an operator of its own.
        match text.strip_prefix('-') {
            Some(rest) => Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(literal(Value::Number(rest.to_owned(), false))) },
            None => literal(Value::Number(text, false)),
        }
    };
    let shown = |kind: SqlType, value: &ScalarValue| {
        let text = value.cast_to(&DataType::Utf8).ok().and_then(|v| v.try_as_str().flatten().map(str::to_owned)).ok_or_else(unsupported)?;
        Ok(typed(kind, text))
    };
    match value {
        ScalarValue::Boolean(Some(b)) => Ok(literal(Value::Boolean(*b))),
        ScalarValue::Int8(_)
        | ScalarValue::Int16(_)
        | ScalarValue::Int32(_)
        | ScalarValue::Int64(_)
        | ScalarValue::UInt8(_)
        | ScalarValue::UInt16(_)
        | ScalarValue::UInt32(_)
        | ScalarValue::UInt64(_) => Ok(number(value.to_string())),
        ScalarValue::Float32(Some(n)) if n.is_finite() => Ok(number(format!("{n:?}"))),
        ScalarValue::Float64(Some(n)) if n.is_finite() => Ok(number(format!("{n:?}"))),
        ScalarValue::Decimal128(..) | ScalarValue::Decimal64(..) | ScalarValue::Decimal32(..) => {
            let text =
                value.cast_to(&DataType::Utf8).ok().and_then(|v| v.try_as_str().flatten().map(str::to_owned)).ok_or_else(unsupported)?;
            Ok(number(text))
        }
        ScalarValue::Date32(_) | ScalarValue::Date64(_) => {
            shown(SqlType::Date, &value.cast_to(&DataType::Date32).map_err(|_| unsupported())?)
        }
        ScalarValue::TimestampSecond(_, None)
        | ScalarValue::TimestampMillisecond(_, None)
        | ScalarValue::TimestampMicrosecond(_, None)
        | ScalarValue::TimestampNanosecond(_, None) => shown(SqlType::Timestamp(None, TimezoneInfo::None), value),
        ScalarValue::Dictionary(_, inner) => sql(inner),
        text => match text.try_as_str().flatten() {
            Some(text) if text.len() <= MAX_TEXT => Ok(literal(Value::SingleQuotedString(text.to_owned()))),
            Some(_) => Err(Refusal::new(Code::LimitExceeded, format!("a text parameter may be at most {MAX_TEXT} bytes long"))),
            None => Err(unsupported()),
        },
    }
}

fn typed(data_type: SqlType, text: String) -> Expr {
    Expr::TypedString(TypedString {
        data_type,
        value: ValueWithSpan { value: Value::SingleQuotedString(text), span: Span::empty() },
        uses_odbc_syntax: false,
    })
}

fn unsupported() -> Refusal {
    Refusal::new(Code::Invalid, "a parameter is of a type that is not offered")
        .advice("boolean, integer, finite number, decimal, text, date or timestamp; a pseudonym is no parameter")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(sql: &str, values: &[ScalarValue]) -> Result<String, Refusal> {
        let mut statement = parse(sql)?;
        bind(&mut statement, values)?;
        Ok(statement.to_string())
    }

    #[test]
    fn values_become_literals_and_never_sql() {
        let text = |t: &str| ScalarValue::from(t);
        assert_eq!(bound("SELECT $1", &[text("x' OR 1=1 --")]).unwrap(), "SELECT 'x'' OR 1=1 --'");
        assert_eq!(bound("SELECT $2, $1", &[ScalarValue::from(1i64), ScalarValue::from(true)]).unwrap(), "SELECT true, 1");
        assert_eq!(bound("SELECT ?, ? WHERE ? = 3", &[1i64.into(), ScalarValue::Null, 3i32.into()]).unwrap(), "SELECT 1, NULL WHERE 3 = 3");
        assert_eq!(
            bound("SELECT a FROM t WHERE d = ?", &[ScalarValue::Date32(Some(19_723))]).unwrap(),
            "SELECT a FROM t WHERE d = DATE '2024-01-01'"
        );
        assert_eq!(bound("SELECT '?', \"$1\", $1", &[ScalarValue::from(-5i64)]).unwrap(), "SELECT '?', \"$1\", -5");
        assert_eq!(bound("SELECT ?", &[ScalarValue::Decimal128(Some(1250), 6, 2)]).unwrap(), "SELECT 12.50");
    }

    #[test]
    fn a_template_that_would_be_printed_otherwise_than_it_was_written_is_refused() {
        let value = |text: &str| BTreeMap::from([("region".to_owned(), ScalarValue::from(text))]);
        let template = |literal: &str| format!("SELECT a FROM t WHERE b = $region AND c = {literal} AND d > DATE '2026-01-01'");
        let written = super::bound(&template("'it''s'"), &value("O'Hare")).unwrap();
        assert_eq!(written, "SELECT a FROM t WHERE b = 'O''Hare' AND c = 'it''s' AND d > DATE '2026-01-01'");
        assert!(super::bound(&template("'a\\b'"), &value("x")).is_ok());
        for (literal, of) in [("'a''''b'", "x"), ("'a'", "a''b")] {
            let refused = super::bound(&template(literal), &value(of)).unwrap_err();
            assert!(refused.message.contains("as it was meant"), "{literal} {of}: {refused:?}");
        }
    }

    #[test]
    fn texts_are_read_as_the_types_that_are_expected_and_written_out_as_literals() {
        let texts = |texts: &[Option<&str>]| texts.iter().map(|text| ScalarValue::Utf8(text.map(str::to_owned))).collect::<Vec<_>>();
        let asked =
            |values: &[Option<&str>]| Statement { sql: "SELECT a FROM t WHERE b > $1 AND c = $2".into(), parameters: texts(values) };
        let types = [DataType::Int64, DataType::Utf8];
        let read = read_as(&asked(&[Some("3"), Some("it's")]), &types).unwrap();
        assert_eq!(read.parameters, [ScalarValue::from(3i64), ScalarValue::from("it's")]);
        assert_eq!(written_out(&read).unwrap(), "SELECT a FROM t WHERE b > 3 AND c = 'it''s'");
        let null = read_as(&asked(&[None, Some("")]), &types).unwrap();
        assert_eq!(written_out(&null).unwrap(), "SELECT a FROM t WHERE b > NULL AND c = ''");
        for wrong in ["secret", "", "1.5"] {
            let refusal = read_as(&asked(&[Some(wrong), None]), &types).unwrap_err();
            assert!(refusal.code == Code::Invalid && refusal.message.starts_with("parameter 1 cannot be read as Int64"), "{refusal}");
            assert!(!format!("{refusal:?}").contains("secret"));
        }
        let one = asked(&[Some("3")]);
        assert_eq!(written_out(&read_as(&one, &types).unwrap()).unwrap_err().code, Code::Invalid, "one value for two parameters");
    }

    #[test]
    fn the_marks_count_in_the_order_of_the_text() {
        let values: Vec<ScalarValue> = (1..=4i64).map(ScalarValue::from).collect();
        assert_eq!(
            bound("WITH c AS (SELECT ? AS a) SELECT ? FROM c WHERE a = ? LIMIT ?", &values).unwrap(),
            "WITH c AS (SELECT 1 AS a) SELECT 2 FROM c WHERE a = 3 LIMIT 4"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let one = [ScalarValue::from(1i64)];
        for (sql, values) in [
            ("SELECT $1", &[][..]),
            ("SELECT 1", &one[..]),
            ("SELECT $1, ?", &one[..]),
            ("SELECT $2", &one[..]),
            ("SELECT $name", &one[..]),
            ("SELECT $0", &one[..]),
            ("SELECT $1", &[ScalarValue::Float64(Some(f64::NAN))][..]),
            ("SELECT $1", &[ScalarValue::FixedSizeBinary(16, Some(vec![0; 16]))][..]),
        ] {
            assert_eq!(bound(sql, values).unwrap_err().code, Code::Invalid, "{sql}");
        }
        let long = [ScalarValue::from("x".repeat(MAX_TEXT + 1))];
        assert_eq!(bound("SELECT $1", &long).unwrap_err().code, Code::LimitExceeded);
    }
}
