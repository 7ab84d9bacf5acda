//! Top and bottom coding: values of a column beyond a bound stand as the bound, so that an extreme makes nobody known.
//!
//! A node codes its own scan by its own copy of the agreement, before anything else sees a value: conditions of orders meet coded
//! values too, else `WHERE income > 200000` would tell who is beyond. The agreement's own `rows` are the owner's, and meet values as
//! the owner holds them. Null stays null.
//!
//! Source: Hundepool et al., *Statistical Disclosure Control* (Wiley, 2012): top and bottom coding.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ColumnRule, ColumnType, Value};

/// The largest whole number up to which every one has its own `f64`.
const EXACT: u64 = 1 << 53;

/// The bounds of a column.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coded {
    /// Smaller values stand as it.
    #[serde(default)]
    pub at_least: Option<Bound>,
    /// Larger values stand as it.
    #[serde(default)]
    pub at_most: Option<Bound>,
}

/// A number of an agreement, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number")]
pub enum Bound {
    /// A whole one.
    Integer(i64),
    /// Any.
    Number(f64),
}

impl Bound {
    /// A value of a column of that type; `None` where it is none.
    #[must_use]
    pub fn value(self, kind: ColumnType) -> Option<Value> {
        match (self, kind) {
            (Self::Integer(whole), ColumnType::Integer) => Some(Value::Integer(whole)),
            (Self::Integer(whole), ColumnType::Number) if whole.unsigned_abs() <= EXACT => Some(Value::Number(whole as f64)),
            (Self::Number(number), ColumnType::Number) if number.is_finite() => Some(Value::Number(number)),
            _ => None,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(whole) => whole.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Coded {
    /// `below 0 as 0, above 100000 as 100000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = self.at_least.map(|bound| format!("below {bound} as {bound}"));
        let above = self.at_most.map(|bound| format!("above {bound} as {bound}"));
        f.write_str(&below.into_iter().chain(above).collect::<Vec<_>>().join(", "))
    }
}

impl Coded {
    /// What is wrong with it on a column with this rule, and what to do.
    pub(crate) fn fault(&self, rule: &ColumnRule) -> Option<(String, &'static str)> {
        if !matches!(rule.kind, ColumnType::Integer | ColumnType::Number) {
            return Some((
                format!("values of type {} have no bounds to be coded by", rule.kind),
                "leave coded out, or publish a banded column",
            ));
        }
        let mut bounds = Vec::new();
        for bound in self.at_least.iter().chain(&self.at_most) {
            let Some(value) = bound.value(rule.kind) else {
                return Some((format!("coded: {bound} is no value of type {}", rule.kind), "write a bound of the column's type"));
            };
            if rule.values.is_some() && !rule.lists(&value) {
                let remedy = "list the bound too: it stands for every value beyond";
                return Some((format!("coded: {bound} is not among the column's listed values"), remedy));
            }
            bounds.push(value);
        }
        let sound = match bounds.as_slice() {
            [Value::Integer(least), Value::Integer(most)] => least < most,
            [Value::Number(least), Value::Number(most)] => least < most,
            other => other.len() == 1,
        };
        (!sound).then(|| ("coded needs at_least, at_most or both, the first the smaller".into(), "write coded = { at_most = 100000 }"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::AGREEMENT;
    use crate::{Agreement, Problem};

    /// The agreement with `coded` on an integer column, or another column in its place.
    fn with(coded: &str, column: &str) -> Result<Agreement, Vec<Problem>> {
        let text = AGREEMENT.replacen("amount = { type = \"integer\"", &format!("amount = {{ coded = {coded}, {column}"), 1);
        Agreement::parse(&text)
    }

    #[test]
    fn bounds_are_values_of_the_column() {
        for (coded, column, words) in [
            ("{ at_most = 100000 }", "type = \"integer\"", "above 100000 as 100000"),
            ("{ at_least = -5, at_most = 7 }", "type = \"integer\"", "below -5 as -5, above 7 as 7"),
            ("{ at_least = 0, at_most = 99.5 }", "type = \"number\"", "below 0 as 0, above 99.5 as 99.5"),
            ("{ at_least = 1 }", "values = [\"1\", \"2\"], type = \"integer\"", "below 1 as 1"),
        ] {
            let agreement = with(coded, column).unwrap_or_else(|problems| panic!("{coded}: {problems:?}"));
            let rule = &agreement.datasets[1].columns["amount"];
            assert_eq!(rule.coded.unwrap().to_string(), words);
        }
        let value = |bound: Bound, kind| bound.value(kind);
        assert!(value(Bound::Integer(3), ColumnType::Number) == Some(Value::Number(3.0)));
        assert!(value(Bound::Number(3.0), ColumnType::Integer).is_none() && value(Bound::Integer(3), ColumnType::Date).is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (coded, column, cause) in [
            ("{}", "type = \"integer\"", "coded needs at_least"),
            ("{ at_least = 7, at_most = 7 }", "type = \"integer\"", "the first the smaller"),
            ("{ at_least = 8.5, at_most = 7 }", "type = \"number\"", "the first the smaller"),
            ("{ at_most = 7.5 }", "type = \"integer\"", "7.5 is no value of type integer"),
            ("{ at_most = inf }", "type = \"number\"", "inf is no value of type number"),
            ("{ at_most = nan }", "type = \"number\"", "NaN is no value of type number"),
            ("{ at_most = 9007199254740993 }", "type = \"number\"", "is no value of type number"),
            ("{ at_most = 3 }", "type = \"text\"", "values of type text have no bounds"),
            ("{ at_most = 3 }", "values = [\"1\", \"2\"], type = \"integer\"", "3 is not among the column's listed values"),
            ("{ at_most = \"3\" }", "type = \"integer\"", "a number"),
            ("{ above = 3 }", "type = \"integer\"", "unknown field"),
        ] {
            let problems = with(coded, column).unwrap_err();
            assert!(problems.iter().any(|problem| problem.cause.contains(cause) && !problem.remedy.is_empty()), "{coded}: {problems:?}");
        }
    }
}
