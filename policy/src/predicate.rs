//! The typed predicate of a release order: small enough that a department's security officer can read it.
//!
//! SQL's three-valued logic: a comparison with null is unknown, and a row is released only where the predicate is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::NaiveDate;

use crate::ColumnRule;

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

    /// The first column whose use `filter` its rule limits, and that this compares otherwise than the limit lets: a column of listed
    /// values by order, one of bands by equality, either with another value. Whether it is null may be asked. What an agreement
    /// demands of rows is not judged by this.
    #[must_use]
    pub fn beyond_limits(&self, rules: &BTreeMap<String, ColumnRule>) -> Option<&str> {
        let beyond = |column: &str, comparison, values: &[Value]| match rules.get(column) {
            Some(rule) if rule.filter.is_none() => false,
            // Of no value: only an unlimited column may be used so.
            Some(rule) => values.is_empty() || !values.iter().all(|value| rule.lets_compare(comparison, value)),
            None => true,
        };
        let (column, is_beyond) = match self {
            Self::Compare { column, comparison, value } => (column, beyond(column, *comparison, std::slice::from_ref(value))),
            Self::In { column, values } => (column, beyond(column, Comparison::Equal, values)),
            Self::IsTrue { column } => (column, beyond(column, Comparison::Equal, &[])),
            Self::IsNull { .. } => return None,
            Self::And(parts) | Self::Or(parts) => return parts.iter().find_map(|part| part.beyond_limits(rules)),
            Self::Not(part) => return part.beyond_limits(rules),
        };
        is_beyond.then_some(column)
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
            assert_eq!(permitted.beyond_limits(rules), None, "{permitted:?}");
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
            assert_eq!(refused.beyond_limits(rules), Some("year"), "{refused:?}");
        }
    }

    #[test]
    fn a_filter_of_bands_compares_with_their_thresholds_alone_and_half_open() {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let columns = "[dataset.columns]\n\
                       mark = { type = \"number\", classification = \"personal\", uses = [\"filter\"], filter = \"bands\", bands = [\"30\", \"40.5\"] }\n\
                       day = { type = \"date\", classification = \"personal\", uses = [\"filter\"], filter = \"bands\", bands = [\"2020-01-01\", \"2021-01-01\"] }\n\
                       whole = { type = \"integer\", classification = \"personal\", uses = [\"filter\"], filter = \"bands\", bands = [\"-5\", \"7\"] }\n";
        let agreement = Agreement::parse(&AGREEMENT.replacen("[dataset.columns]\n", columns, 1)).unwrap();
        let rules = &agreement.datasets[0].columns;
        let compare = |column: &str, comparison, value| Predicate::Compare { column: column.into(), comparison, value };
        let day = |text: &str| Value::Date(text.parse().unwrap());
        let not = |part| Predicate::Not(Box::new(part));
        let is_null = Predicate::IsNull { column: "mark".into() };
        // The thresholds in each spelling that equals them.
        for (column, value) in [
            ("mark", Value::Number(30.0)),
            ("mark", Value::Integer(30)),
            ("mark", Value::Number(40.5)),
            ("day", day("2021-01-01")),
            ("whole", Value::Integer(-5)),
            ("whole", Value::Number(7.0)),
        ] {
            for comparison in [Less, GreaterOrEqual] {
                let permitted = compare(column, comparison, value.clone());
                assert_eq!(permitted.beyond_limits(rules), None, "{permitted:?}");
                assert_eq!(not(Predicate::And(vec![permitted, not(is_null.clone())])).beyond_limits(rules), None);
            }
            for comparison in [Equal, NotEqual, LessOrEqual, Greater] {
                let refused = compare(column, comparison, value.clone());
                assert_eq!(refused.beyond_limits(rules), Some(column), "{refused:?}");
                assert_eq!(Predicate::Or(vec![is_null.clone(), not(refused)]).beyond_limits(rules), Some(column));
            }
            let one = Predicate::In { column: column.into(), values: vec![value] };
            assert_eq!(one.beyond_limits(rules), Some(column), "{one:?}");
        }
        for (column, value) in [
            ("mark", Value::Number(30.000_000_000_000_004)),
            ("mark", Value::Integer(31)),
            ("mark", Value::Number(f64::INFINITY)),
            ("mark", Value::Text("30".into())),
            ("day", day("2020-01-02")),
            ("whole", Value::Number(6.999_999_999_999_999)),
            ("whole", Value::Integer(i64::MAX)),
        ] {
            for comparison in [Less, GreaterOrEqual] {
                let refused = compare(column, comparison, value.clone());
                assert_eq!(refused.beyond_limits(rules), Some(column), "{value:?}");
            }
        }
        for part in [Predicate::IsTrue { column: "mark".into() }, Predicate::In { column: "mark".into(), values: vec![] }] {
            assert_eq!(part.beyond_limits(rules), Some("mark"), "{part:?}");
        }
        let (mark, advice) = (&rules["mark"], "compare it by < or >= with one of 30, 40.5; instead of BETWEEN write x >= a AND x < b");
        assert_eq!((mark.comparable().as_str(), mark.limit_in_words().as_deref()), (advice, Some("filter only by < and >= with 30, 40.5")));
    }
}
