//! Parameters of a question: `--param region=London` for `$region` in SQL.
//!
//! A parameter may stand several times. The gateway says of which type each is; the text is read as that type:
//!
//! | `--param` | value |
//! |---|---|
//! | `x=London` | the text, number, truth value (`true`, `false`) or date (`2026-04-01`) |
//! | `x=` | the empty text; refused where no text is expected |
//! | `x` | null |

mod scan;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::failure::{Failure, Result};

/// The parameters that are given.
#[derive(Debug, Clone, Default)]
pub struct Parameters(Vec<(String, Option<String>)>);

/// A statement whose parameters are positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// With `$1`, `$2`, … for names.
    pub(crate) sql: String,
    /// The names in the order of their positions.
    pub(crate) names: Vec<String>,
}

impl Parameters {
    /// Reads `name=value`, `name=` and `name`.
    ///
    /// # Errors
    /// For what is no name, and for a name that stands twice.
    pub fn parse<T: AsRef<str>>(given: &[T]) -> Result<Self> {
        let mut all: Vec<(String, Option<String>)> = Vec::new();
        for text in given {
            let (name, value) = match text.as_ref().split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text.as_ref(), None),
            };
            if !is_name(name) {
                return Err(Failure::usage(format!("'{name}' cannot name a parameter"))
                    .advice("write --param name=value, the name of letters, digits and _, not starting with a digit"));
            }
            if all.iter().any(|(other, _)| other == name) {
                return Err(Failure::usage(format!("the parameter {name} is given twice")).advice("keep one of the two"));
            }
            all.push((name.to_owned(), value));
        }
        Ok(Self(all))
    }

    /// Puts positions in the place of names.
    pub(crate) fn number(&self, sql: &str) -> Result<Numbered> {
        let mut numbered = Numbered { sql: String::with_capacity(sql.len()), names: Vec::new() };
        let mut copied = 0;
        for found in scan::parameters(sql) {
            if !is_name(&found.name) {
                return Err(Failure::usage(format!("the statement has the parameter ${} by position", found.name))
                    .advice("name it, for example $region, and give --param region=…"));
            }
            let known = numbered.names.iter().position(|name| *name == found.name);
            let position = known.unwrap_or_else(|| {
                numbered.names.push(found.name.clone());
                numbered.names.len() - 1
            });
            numbered.sql.push_str(sql.get(copied..found.span.start).unwrap_or_default());
            numbered.sql.push_str(&format!("${}", position + 1));
            copied = found.span.end;
        }
        numbered.sql.push_str(sql.get(copied..).unwrap_or_default());
        if let Some(missing) = numbered.names.iter().find(|name| self.value(name).is_none()) {
            return Err(Failure::usage(format!("the statement's parameter ${missing} has no value"))
                .advice(format!("give it: --param {missing}=…, or --param {missing} for null")));
        }
        if let Some((unused, _)) = self.0.iter().find(|(name, _)| !numbered.names.contains(name)) {
            return Err(Failure::usage(format!("the statement has no parameter ${unused}"))
                .advice(format!("write ${unused} where its value belongs, outside of quotes; or leave --param {unused} out")));
        }
        Ok(numbered)
    }

    fn value(&self, name: &str) -> Option<Option<&str>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_deref())
    }

    /// The values in the order of `names`, as they were given; `None` for null.
    pub(crate) fn texts(&self, names: &[String]) -> Vec<Option<String>> {
        names.iter().map(|name| self.value(name).flatten().map(str::to_owned)).collect()
    }

    /// The values in the order of `names`, as one row of the `types` that the gateway stated.
    pub(crate) fn row(&self, names: &[String], types: &SchemaRef) -> Result<RecordBatch> {
        if types.fields().len() != names.len() {
            let message = format!("the gateway sees {} parameters in the statement, not {}", types.fields().len(), names.len());
            return Err(Failure::new(message).advice("name each parameter $name, outside of quotes and comments"));
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            let position = index + 1;
            // Servers name the fields by position, or leave it at their order.
            let by_name = types.fields().iter().find(|f| f.name().trim_start_matches('$') == position.to_string());
            let stated = by_name.or_else(|| types.fields().get(index)).ok_or_else(|| Failure::new("a parameter has no type"))?;
            let kind = plain(stated.data_type());
            columns.push(read(name, self.value(name).flatten(), &kind)?);
            fields.push(Field::new(stated.name(), kind, true));
        }
        // In the order in which the gateway stated them.
        let order = |field: &Field| types.fields().iter().position(|f| f.name() == field.name());
        let mut both: Vec<(Field, ArrayRef)> = fields.into_iter().zip(columns).collect();
        both.sort_by_key(|(field, _)| order(field));
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = both.into_iter().unzip();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|e| Failure::new(format!("the parameters cannot be put together: {e}")))
    }
}

fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c.is_alphabetic() || c == '_') && characters.all(|c| c.is_alphanumeric() || c == '_')
}

/// The type in which a value is sent: dictionaries and unknown types as text.
fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Dictionary(_, value) => plain(value),
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}

fn read(name: &str, value: Option<&str>, kind: &DataType) -> Result<ArrayRef> {
    let Some(text) = value else { return Ok(new_null_array(kind, 1)) };
    let wanted = expected(kind);
    if text.is_empty() && !is_text(kind) {
        return Err(Failure::usage(format!("the parameter {name} is empty, but {wanted} is expected"))
            .advice(format!("give a value, or write --param {name} without '=' for null")));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&StringArray::from(vec![text]), kind, &options)
        .map_err(|_| Failure::usage(format!("the parameter {name} is not what is expected there: {wanted}")))
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A type in words.
fn expected(kind: &DataType) -> String {
    match kind {
        kind if is_text(kind) => "a text".into(),
        kind if kind.is_integer() => "a whole number".into(),
        kind if kind.is_numeric() => "a number".into(),
        DataType::Boolean => "true or false".into(),
        DataType::Date32 | DataType::Date64 => "a date such as 2026-04-01".into(),
        other => format!("a value of type {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::{Date32Type, Float64Type, Int64Type};

    fn numbered(sql: &str, given: &[&str]) -> Result<(String, String)> {
        Parameters::parse(given)?.number(sql).map(|n| (n.sql, n.names.join(" ")))
    }

    #[test]
    fn names_become_positions_in_the_order_in_which_they_first_stand() {
        let both = numbered("a = $b OR c = $a OR d = $b -- $b", &["a=1", "b=2"]).unwrap();
        assert_eq!(both, ("a = $1 OR c = $2 OR d = $1 -- $b".into(), "b a".into()));
        assert_eq!(numbered("SELECT '$a'", &[]).unwrap(), ("SELECT '$a'".into(), String::new()));
        let given = Parameters::parse(&["a=1", "b", "c="]).unwrap();
        let names = ["c", "a", "b", "a"].map(str::to_owned);
        assert_eq!(given.texts(&names), [Some(String::new()), Some("1".into()), None, Some("1".into())]);
    }

    #[test]
    fn what_does_not_fit_together_is_said() {
        for (sql, given, says) in [
            ("a = $a", &[] as &[&str], "$a has no value"),
            ("a = '$a'", &["a=1"], "no parameter $a"),
            ("a = $1", &["a=1"], "by position"),
            ("a = $a", &["a=1", "a=2"], "twice"),
            ("a = $a", &["1=1"], "cannot name"),
            ("a = $a", &["=1"], "cannot name"),
            ("a = $a", &["a b=1"], "cannot name"),
        ] {
            let failure = numbered(sql, given).unwrap_err();
            assert!(failure.message.contains(says) && failure.exit == crate::failure::USAGE, "{sql}: {failure}");
        }
    }

    fn row(types: Vec<(&str, DataType)>, names: &[&str], given: &[&str]) -> Result<RecordBatch> {
        let fields: Vec<Field> = types.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        Parameters::parse(given)?.row(&names, &Arc::new(Schema::new(fields)))
    }

    #[test]
    fn values_are_read_by_the_types_that_the_gateway_states() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let types = vec![
            ("$1", DataType::Int64),
            ("$2", DataType::Float64),
            ("$3", DataType::Boolean),
            ("$4", DataType::Date32),
            ("$5", dictionary),
            ("$6", DataType::Utf8),
            ("$7", DataType::Null),
            ("$8", DataType::Decimal128(10, 2)),
        ];
        let given = ["a=-7", "b=1.5", "c=true", "d=1970-01-02", "e=it's = 5", "f=", "g", "h=12.34"];
        let batch = row(types, &["a", "b", "c", "d", "e", "f", "g", "h"], &given).unwrap();
        let column = |index: usize| batch.column(index);
        assert_eq!(column(0).as_primitive::<Int64Type>().value(0), -7);
        assert_eq!(column(1).as_primitive::<Float64Type>().value(0), 1.5);
        assert!(column(2).as_boolean().value(0));
        assert_eq!(column(3).as_primitive::<Date32Type>().value(0), 1);
        assert_eq!(column(4).as_string::<i32>().value(0), "it's = 5");
        assert_eq!((column(5).as_string::<i32>().value(0), column(5).is_null(0)), ("", false));
        assert!(column(6).is_null(0));
        assert_eq!(column(7).data_type(), &DataType::Decimal128(10, 2));
    }

    #[test]
    fn a_value_of_another_type_is_refused_without_repeating_it() {
        for (kind, given, says) in [
            (DataType::Int64, "a=1.5", "a whole number"),
            (DataType::Int64, "a=", "without '='"),
            (DataType::Int64, "a=99999999999999999999", "a whole number"),
            (DataType::Date32, "a=2026-02-30", "a date"),
            (DataType::Boolean, "a=secret", "true or false"),
            (DataType::Float64, "a=secret", "a number"),
        ] {
            let failure = row(vec![("$1", kind)], &["a"], &[given]).unwrap_err();
            let text = format!("{} {}", failure.message, failure.advice.unwrap_or_default());
            assert!(text.contains(says) && !text.contains("secret"), "{given}: {text}");
        }
    }

    #[test]
    fn fields_are_matched_by_position_whatever_their_order() {
        let batch = row(vec![("$2", DataType::Int64), ("$1", DataType::Utf8)], &["a", "b"], &["a=x", "b=2"]).unwrap();
        assert_eq!((batch.schema().field(0).name().as_str(), batch.column(0).data_type()), ("$2", &DataType::Int64));
        assert_eq!(batch.column(1).as_string::<i32>().value(0), "x");
        let unnamed = row(vec![("p", DataType::Utf8)], &["a"], &["a=x"]).unwrap();
        assert_eq!(unnamed.column(0).as_string::<i32>().value(0), "x");
        assert!(row(vec![], &["a"], &["a=x"]).is_err());
    }
}
