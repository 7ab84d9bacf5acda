//! Which rows of a dataset an agreement is about: conditions that data officers can read, all of which must hold.
//!
//! ```toml
//! rows = [
//!   { column = "region", is_in = ["North", "South"] },
//!   { column = "started", at_least = "2020-09-01" },
//! ]
//! ```
//! A row without a value in the column of a condition does not meet it, `is_not` included. The node applies them from its own
//! copy to every release; the gateway only tells of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::predicate::MAX_LIST;
use crate::{ColumnRule, ColumnType, Comparison, Predicate, Value};

/// The most conditions on one dataset.
pub(super) const MAX_CONDITIONS: usize = 16;

/// The largest whole number up to which every one has its own `f64`.
const EXACT: u64 = 1 << 53;

/// One condition on the rows of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The column. The agreement names it, with or without permitted uses.
    pub column: String,
    /// What its value must be.
    pub test: Test,
}

/// What a value must be. Literals are of the column's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// As this comparison with a literal says.
    Compare(Comparison, Value),
    /// One of these.
    OneOf(Vec<Value>),
}

impl From<&Condition> for Predicate {
    fn from(condition: &Condition) -> Self {
        let column = condition.column.clone();
        match &condition.test {
            Test::Compare(comparison, value) => Self::Compare { column, comparison: *comparison, value: value.clone() },
            Test::OneOf(values) => Self::In { column, values: values.clone() },
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.column, self.test)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compare(comparison, value) => {
                let is = match comparison {
                    Comparison::Equal => "is",
                    Comparison::NotEqual => "is not",
                    Comparison::Less => "is less than",
                    Comparison::LessOrEqual => "is at most",
                    Comparison::Greater => "is more than",
                    Comparison::GreaterOrEqual => "is at least",
                };
                write!(f, "{is} {}", written(value))
            }
            Self::OneOf(values) => write!(f, "is one of {}", values.iter().map(written).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// A literal for people. Text stands in quotes, so that it makes no words of ours.
fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(whole) => whole.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Date(day) => day.to_string(),
    }
}

/// A condition as the document has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConditionFile {
    pub(super) column: String,
    #[serde(default)]
    is: Option<Literal>,
    #[serde(default)]
    is_not: Option<Literal>,
    #[serde(default)]
    is_in: Option<Vec<Literal>>,
    #[serde(default)]
    at_least: Option<Literal>,
    #[serde(default)]
    at_most: Option<Literal>,
    #[serde(default)]
    more_than: Option<Literal>,
    #[serde(default)]
    less_than: Option<Literal>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, a number, true, false, or a day in quotes (\"2026-01-31\")")]
enum Literal {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// What is wrong with a condition, and what to do.
type Wrong = (String, &'static str);

impl ConditionFile {
    /// The condition, on one of `columns`.
    pub(super) fn check(self, columns: &BTreeMap<String, ColumnRule>) -> Result<Condition, Wrong> {
        let Self { column, is, is_not, is_in, at_least, at_most, more_than, less_than } = self;
        let Some(rule) = columns.get(&column) else {
            let remedy = "name it under [dataset.columns] with its type; uses = [] where it decides over rows only";
            return Err(("the condition is on a column that the agreement does not name".into(), remedy));
        };
        let compared = [
            (Comparison::Equal, is),
            (Comparison::NotEqual, is_not),
            (Comparison::GreaterOrEqual, at_least),
            (Comparison::LessOrEqual, at_most),
            (Comparison::Greater, more_than),
            (Comparison::Less, less_than),
        ];
        let mut tests = Vec::new();
        for (comparison, literal) in compared {
            let Some(literal) = literal else { continue };
            let ordered = !matches!(rule.kind, ColumnType::Text | ColumnType::Boolean);
            if !ordered && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
                return Err((format!("values of type {} have no order", rule.kind), "use is, is_not or is_in"));
            }
            let literal = value(literal, rule)?;
            tests.push(match (&rule.values, comparison) {
                (Some(listed), Comparison::NotEqual) => Test::OneOf(others(listed, &literal)?),
                _ => Test::Compare(comparison, literal),
            });
        }
        if let Some(list) = is_in {
            if !(1..=MAX_LIST).contains(&list.len()) {
                return Err((format!("is_in lists {} values", list.len()), "list 1 to 256 values"));
            }
            tests.push(Test::OneOf(list.into_iter().map(|literal| value(literal, rule)).collect::<Result<_, _>>()?));
        }
        match (tests.pop(), tests.is_empty()) {
            (Some(test), true) => Ok(Condition { column, test }),
            _ => Err((
                "a condition has exactly one of is, is_not, is_in, at_least, at_most, more_than and less_than".into(),
                "write a condition for each; all of them must hold",
            )),
        }
    }
}

/// Of a published list, all but one: what is not on the list, such as another spelling of it, is not meant either.
fn others(listed: &[String], not: &Value) -> Result<Vec<Value>, Wrong> {
    let others: Vec<Value> = listed.iter().cloned().map(Value::Text).filter(|value| value != not).collect();
    if (1..=MAX_LIST).contains(&others.len()) {
        return Ok(others);
    }
    Err((format!("is_not leaves {} of the column's listed values", others.len()), "name 1 to 256 of them with is_in"))
}

/// A literal in the column's type. What the column's published list does not have is a slip of the pen.
fn value(literal: Literal, rule: &ColumnRule) -> Result<Value, Wrong> {
    let typed = match (rule.kind, literal) {
        (ColumnType::Text, Literal::Text(text)) if rule.values.as_ref().is_some_and(|listed| !listed.contains(&text)) => {
            return Err((format!("{text:?} is not among the column's listed values"), "correct the spelling, or the list"));
        }
        (ColumnType::Text, Literal::Text(text)) => Some(Value::Text(text)),
        (ColumnType::Integer, Literal::Integer(whole)) => Some(Value::Integer(whole)),
        (ColumnType::Number, Literal::Integer(whole)) if whole.unsigned_abs() <= EXACT => Some(Value::Number(whole as f64)),
        (ColumnType::Number, Literal::Number(number)) if number.is_finite() => Some(Value::Number(number)),
        (ColumnType::Boolean, Literal::Boolean(boolean)) => Some(Value::Boolean(boolean)),
        (ColumnType::Date, Literal::Text(day)) => day.parse().ok().map(Value::Date),
        _ => None,
    };
    typed.ok_or_else(|| {
        let remedy = "write texts and days in quotes (\"2026-01-31\"), numbers, true and false without";
        (format!("the column is of type {}, and the condition's value is not", rule.kind), remedy)
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::AGREEMENT;
    use crate::{Agreement, Predicate, Problem};

    /// The first dataset with these conditions and columns of each type.
    fn with(rows: &str) -> Result<Agreement, Vec<Problem>> {
        let columns = "[dataset.columns]\n\
                       year = { type = \"integer\", classification = \"public\" }\n\
                       open = { type = \"boolean\", classification = \"public\" }\n\
                       born = { type = \"date\", classification = \"personal\" }\n";
        Agreement::parse(&AGREEMENT.replacen("[dataset.columns]\n", &format!("rows = [{rows}]\n{columns}"), 1))
    }

    #[test]
    fn conditions_of_each_type_are_read_and_put_into_words() {
        for (rows, words) in [
            ("{ column = \"region\", is = \"N\" }", "region is \"N\""),
            ("{ column = \"region\", is_not = \"N\" }", "region is one of \"S\""),
            ("{ column = \"region\", is_in = [\"N\", \"S\"] }", "region is one of \"N\", \"S\""),
            ("{ column = \"secret\", is = \"x\\n or \\u202e\" }", "secret is \"x\\n or \\u{202e}\""),
            ("{ column = \"year\", at_least = 2020 }", "year is at least 2020"),
            ("{ column = \"score\", less_than = 3 }", "score is less than 3"),
            ("{ column = \"score\", more_than = 0.5 }", "score is more than 0.5"),
            ("{ column = \"open\", is = true }", "open is true"),
            ("{ column = \"born\", at_most = \"2008-08-31\" }", "born is at most 2008-08-31"),
            (
                "{ column = \"year\", at_least = 2020 }, { column = \"year\", at_most = 2024 }",
                "year is at least 2020, and year is at most 2024",
            ),
        ] {
            let agreement = with(rows).unwrap_or_else(|problems| panic!("{rows}: {problems:?}"));
            assert_eq!(agreement.datasets[0].rows_in_words().as_deref(), Some(words), "{rows}");
            assert!(agreement.datasets[0].row_condition().is_some() && agreement.datasets[1].row_condition().is_none());
        }
        let every = with("").unwrap();
        assert_eq!((every.datasets[0].row_condition(), every.datasets[0].rows_in_words()), (None, None));
        let Some(Predicate::And(parts)) = with("{ column = \"region\", is_in = [\"N\"] }").unwrap().datasets[0].row_condition() else {
            panic!()
        };
        assert!(matches!(parts.as_slice(), [Predicate::In { column, values }] if column == "region" && values.len() == 1), "{parts:?}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let many = |count: usize| vec!["{ column = \"year\", is = 1 }"; count].join(", ");
        let list = (0..257).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        for (rows, cause) in [
            ("{ column = \"absent\", is = 1 }", "does not name"),
            ("{ column = \"subject\", is = \"AB123456C\" }", "does not name"),
            ("{ column = \"region\" }", "exactly one of"),
            ("{ column = \"year\", at_least = 1, at_most = 2 }", "exactly one of"),
            ("{ column = \"year\", is = 1, is_in = [1] }", "exactly one of"),
            ("{ column = \"year\", is_in = [] }", "is_in lists 0 values"),
            (&format!("{{ column = \"year\", is_in = [{list}] }}"), "is_in lists 257 values"),
            ("{ column = \"region\", is = \"n\" }", "\"n\" is not among the column's listed values"),
            ("{ column = \"secret\", at_least = \"a\" }", "have no order"),
            ("{ column = \"open\", more_than = false }", "have no order"),
            ("{ column = \"year\", is = \"2020\" }", "of type integer"),
            ("{ column = \"year\", is = 2020.0 }", "of type integer"),
            ("{ column = \"score\", is = nan }", "of type number"),
            ("{ column = \"score\", is = 9007199254740993 }", "of type number"),
            ("{ column = \"born\", is = \"yesterday\" }", "of type date"),
            ("{ column = \"born\", is = 2008-01-01 }", "a day in quotes"),
            ("{ column = \"year\", equals = 1 }", "unknown field"),
            (&many(17), "at most 16 conditions"),
        ] {
            let problems = with(rows).unwrap_err();
            assert!(problems.iter().any(|problem| problem.cause.contains(cause) && !problem.remedy.is_empty()), "{rows}: {problems:?}");
        }
        assert!(with(&many(16)).is_ok());
    }
}
