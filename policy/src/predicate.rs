//! The typed predicate of a release order: small enough that a department's security officer can read it.
//!
//! SQL's three-valued logic: a comparison with null is unknown, and a row is released only where the predicate is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::NaiveDate;

use crate::{ColumnRule, FilterLimit};

/// A literal of a predicate. `Debug` hides it: literals can be identifiers.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Text, compared by bytes.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A floating-point number; never NaN.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// A calendar day.
    Date(NaiveDate),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "integer",
            Self::Number(_) => "number",
            Self::Boolean(_) => "boolean",
            Self::Date(_) => "date",
        })
    }
}

/// A comparison of a column with a literal, the column on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A condition on one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// `column op value`.
    Compare {
        /// The column.
        column: String,
        /// The comparison.
        comparison: Comparison,
        /// The literal.
        value: Value,
    },
    /// `column IN (values)`; at most [`MAX_LIST`] of them.
    In {
        /// The column.
        column: String,
        /// The literals.
        values: Vec<Value>,
    },
    /// `column IS NULL`.
    IsNull {
        /// The column.
        column: String,
    },
    /// A boolean column that is true.
    IsTrue {
        /// The column.
        column: String,
    },
    /// All hold; true when empty.
    And(Vec<Predicate>),
    /// One holds; false when empty.
    Or(Vec<Predicate>),
    /// Does not hold; unknown stays unknown.
    Not(Box<Predicate>),
}

/// What to do instead of a condition that [`Predicate::beyond_lists`] finds.
pub const COMPARE_WITH_LISTED: &str = "compare it with its listed values by =, <>, IN or NOT IN; `concordat catalogue` lists them";

/// The most literals in one list.
pub const MAX_LIST: usize = 256;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 16;
/// The most conditions in one predicate.
pub const MAX_NODES: usize = 512;

impl Predicate {
    /// The columns it reads.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        self.collect(&mut found);
        found
    }

    /// The first column that by its rule may be compared with its listed values only, and that this compares otherwise: by order, or
    /// with a value that is not listed. Whether it is null may be asked. What an agreement demands of rows is not judged by this.
    #[must_use]
    pub fn beyond_lists(&self, rules: &BTreeMap<String, ColumnRule>) -> Option<&str> {
        let listed = |column: &str, values: &[Value]| match rules.get(column) {
            Some(rule) => match rule.filter {
                None => true,
                Some(FilterLimit::Listed) => !values.is_empty() && values.iter().all(|value| rule.lists(value)),
            },
            None => false,
        };
        match self {
            Self::Compare { column, comparison: Comparison::Equal | Comparison::NotEqual, value } => {
                (!listed(column, std::slice::from_ref(value))).then_some(column)
            }
            Self::In { column, values } => (!listed(column, values)).then_some(column),
            // Of no value: only an unlimited column may be used so.
            Self::Compare { column, .. } | Self::IsTrue { column } => (!listed(column, &[])).then_some(column),
            Self::IsNull { .. } => None,
            Self::And(parts) | Self::Or(parts) => parts.iter().find_map(|part| part.beyond_lists(rules)),
            Self::Not(part) => part.beyond_lists(rules),
        }
    }

    fn collect<'a>(&'a self, found: &mut BTreeSet<&'a str>) {
        match self {
            Self::Compare { column, .. } | Self::In { column, .. } | Self::IsNull { column } | Self::IsTrue { column } => {
                found.insert(column);
            }
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|p| p.collect(found)),
            Self::Not(part) => part.collect(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Agreement, testing::AGREEMENT};

    #[test]
    fn a_filter_of_listed_values_compares_with_those_alone() {
        use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
        let columns = "[dataset.columns]\n\
                       year = { type = \"integer\", classification = \"personal\", uses = [\"filter\"], filter = \"listed\", values = [\"2020\", \"2021\"] }\n\
                       free = { type = \"integer\", classification = \"personal\", uses = [\"filter\"] }\n";
        let agreement = Agreement::parse(&AGREEMENT.replacen("[dataset.columns]\n", columns, 1)).unwrap();
        let rules = &agreement.datasets[0].columns;
        let compare =
            |column: &str, comparison, year| Predicate::Compare { column: column.into(), comparison, value: Value::Integer(year) };
        let year = |comparison, year| compare("year", comparison, year);
        let any = |years: &[i64]| Predicate::In { column: "year".into(), values: years.iter().copied().map(Value::Integer).collect() };
        let is_null = Predicate::IsNull { column: "year".into() };
        let not = |part| Predicate::Not(Box::new(part));
        for permitted in [
            year(Comparison::Equal, 2020),
            year(Comparison::NotEqual, 2021),
            any(&[2020, 2021]),
            not(any(&[2021])),
            not(is_null.clone()),
            Predicate::And(vec![is_null, not(year(Comparison::Equal, 2020)), compare("free", Comparison::Less, 3)]),
            compare("free", Comparison::Equal, 1),
        ] {
            assert_eq!(permitted.beyond_lists(rules), None, "{permitted:?}");
        }
        let mut refused = vec![
            year(Comparison::Equal, 2019),
            year(Comparison::NotEqual, 2019),
            any(&[2020, 2019]),
            any(&[]),
            not(any(&[2019])),
            Predicate::IsTrue { column: "year".into() },
            Predicate::Compare { column: "year".into(), comparison: Comparison::Equal, value: Value::Text("2020".into()) },
            Predicate::Or(vec![compare("free", Comparison::Equal, 1), not(year(Comparison::Less, 2020))]),
        ];
        refused.extend([Less, LessOrEqual, Greater, GreaterOrEqual].map(|comparison| year(comparison, 2020)));
        for refused in refused {
            assert_eq!(refused.beyond_lists(rules), Some("year"), "{refused:?}");
        }
    }
}
