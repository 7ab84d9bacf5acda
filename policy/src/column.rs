//! Columns: their type, classification, list of values and permitted uses, and the uses a request makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::coded::{Bound, Coded};
use crate::in_words::listed;
use crate::{Comparison, DatasetName, Name, Value};

/// The name under which every dataset shows its pseudonym. Reserved: no source column may be called so.
pub const SUBJECT: &str = "subject";

/// The name under which a link dataset shows the pseudonym of its second identifier. Reserved too.
pub const LINKED: &str = "linked_subject";

/// The type of a column's values, and the Arrow type that carries it on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// `Dictionary(Int32, Utf8)`.
    Text,
    /// `Int64`.
    Integer,
    /// `Float64`. An infinity or a NaN is no number: it counts as null.
    Number,
    /// `Boolean`.
    Boolean,
    /// `Date32`.
    Date,
}

impl ColumnType {
    /// A value of the type, as a published list writes it; `None` where it is no such value.
    #[must_use]
    pub fn read(self, listed: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::Text(listed.to_owned())),
            Self::Integer => listed.parse().ok().map(Value::Integer),
            Self::Number => listed.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Number),
            Self::Boolean => listed.parse().ok().map(Value::Boolean),
            Self::Date => listed.parse().ok().map(Value::Date),
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
        })
    }
}

/// How sensitive a column is, as its department states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classification {
    /// About no person.
    Public,
    /// Personal data (UK GDPR Art. 4).
    Personal,
    /// Special category data (UK GDPR Art. 9).
    Special,
}

impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Personal => "personal",
            Self::Special => "special",
        })
    }
}

/// What may be done with a column. Nothing is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// A subject's own value may stand in the answer.
    Output,
    /// May be a key of groups.
    GroupBy,
    /// May be summarised.
    Aggregate,
    /// May decide which rows count. With this use alone the column never leaves its department.
    Filter,
    /// May link rows of several datasets.
    Join,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "output",
            Self::GroupBy => "group_by",
            Self::Aggregate => "aggregate",
            Self::Filter => "filter",
            Self::Join => "join",
        })
    }
}

/// The fewest and the most thresholds of bands.
pub const BANDS: std::ops::RangeInclusive<usize> = 2..=64;

/// How far the use `filter` of a column goes, where it is limited. Whether it is null may be asked in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterLimit {
    /// It may be compared with its listed values, for being one of them or not, and with nothing else.
    #[default]
    Listed,
    /// It may be compared with the thresholds of its bands, for being below one or not, and with nothing else. Comparisons that are
    /// closed on the other side (`<=`, `>`) would single out who is at a threshold: `x <= 30` without `x < 30`.
    Bands,
}

impl fmt::Display for FilterLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listed => "listed",
            Self::Bands => "bands",
        })
    }
}

/// What an agreement says of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnRule {
    /// The type of its values.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// How sensitive it is.
    pub classification: Classification,
    /// Its permitted uses; absent means none.
    #[serde(default)]
    pub uses: BTreeSet<Use>,
    /// The published list of its values, where it is a code. Required for `group_by`, so that a group's key never tells
    /// more than that list does.
    #[serde(default)]
    pub values: Option<Vec<String>>,
    /// How far the use `filter` goes; absent means any condition.
    #[serde(default)]
    pub filter: Option<FilterLimit>,
    /// The thresholds of its bands, ascending: what `filter = "bands"` lets conditions compare it with. Each is the first value of a
    /// band.
    #[serde(default)]
    pub bands: Option<Vec<String>>,
    /// Bounds beyond which its numbers stand as the bound; absent means none.
    #[serde(default)]
    pub coded: Option<Coded>,
    /// What it means, for people.
    #[serde(default)]
    pub title: Option<String>,
}

impl ColumnRule {
    /// Whether its values may leave the department at all: some use other than `filter`.
    #[must_use]
    pub fn crosses_the_wire(&self) -> bool {
        self.uses.iter().any(|u| *u != Use::Filter)
    }

    /// Whether the agreement lists `value` for it.
    #[must_use]
    pub fn lists(&self, value: &Value) -> bool {
        self.says(self.values.as_deref(), value)
    }

    /// Whether a condition may compare it with `value` in this way, as far as its use `filter` goes.
    #[must_use]
    pub fn lets_compare(&self, comparison: Comparison, value: &Value) -> bool {
        match self.filter {
            None => true,
            Some(FilterLimit::Listed) => matches!(comparison, Comparison::Equal | Comparison::NotEqual) && self.lists(value),
            Some(FilterLimit::Bands) => {
                matches!(comparison, Comparison::Less | Comparison::GreaterOrEqual) && self.says(self.bands.as_deref(), value)
            }
        }
    }

    /// How its use `filter` is limited, in words; `None` where it is not.
    #[must_use]
    pub fn limit_in_words(&self) -> Option<String> {
        Some(match self.filter? {
            FilterLimit::Listed => "filter only by its listed values".into(),
            FilterLimit::Bands => format!("filter only by < and >= with {}", listed(self.bands.iter().flatten())),
        })
    }

    /// What to do instead of a condition that its limit does not let through.
    #[must_use]
    pub fn comparable(&self) -> String {
        match self.filter {
            Some(FilterLimit::Bands) => format!(
                "compare it by < or >= with one of {}; instead of BETWEEN write x >= a AND x < b",
                listed(self.bands.iter().flatten())
            ),
            _ => "compare it with its listed values by =, <>, IN or NOT IN; `concordat catalogue` lists them".into(),
        }
    }

    /// Whether conditions may compare its numbers, days or texts, which have an order too, with any value: counts that step up as that value
    /// does tell its quantiles. Where it is coded, those between its bounds.
    #[must_use]
    pub fn tells_quantiles(&self) -> bool {
        let ordered = self.kind != ColumnType::Boolean;
        ordered && self.uses.contains(&Use::Filter) && self.filter.is_none() && self.values.is_none()
    }

    /// Whether one of these, as the agreement writes them, is `value`. Among numbers, 30 and 30.0 are one.
    fn says(&self, written: Option<&[String]>, value: &Value) -> bool {
        let value = number(value);
        written.into_iter().flatten().any(|written| self.kind.read(written).is_some_and(|read| number(&read) == value))
    }
}

/// A whole number as the number that it is, where there is one; any other value as it stands.
fn number(value: &Value) -> Value {
    let whole = if let Value::Integer(whole) = value { Bound::Integer(*whole).value(ColumnType::Number) } else { None };
    whole.unwrap_or_else(|| value.clone())
}

/// The uses that one request makes of each column of each dataset. Columns are named as in the agreement; the pseudonym
/// is [`SUBJECT`], a link dataset's second one [`LINKED`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnUses {
    uses: BTreeMap<DatasetName, BTreeMap<String, BTreeSet<Use>>>,
}

impl ColumnUses {
    /// Notes that the request reads `dataset`, even when it uses no column of it.
    pub fn touch(&mut self, dataset: &DatasetName) {
        self.uses.entry(dataset.clone()).or_default();
    }

    /// Notes one use of one column.
    pub fn add(&mut self, dataset: &DatasetName, column: &str, used: Use) {
        self.uses.entry(dataset.clone()).or_default().entry(column.to_owned()).or_default().insert(used);
    }

    /// The datasets that the request reads.
    pub fn datasets(&self) -> impl Iterator<Item = &DatasetName> {
        self.uses.keys()
    }

    /// The departments that the request reads from.
    #[must_use]
    pub fn departments(&self) -> BTreeSet<&Name> {
        self.uses.keys().map(|d| &d.department).collect()
    }

    /// Every (dataset, column, use), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&DatasetName, &str, Use)> {
        self.uses.iter().flat_map(|(dataset, columns)| {
            columns.iter().flat_map(move |(column, uses)| uses.iter().map(move |u| (dataset, column.as_str(), *u)))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::Agreement;
    use crate::testing::AGREEMENT;

    #[test]
    fn what_has_an_order_and_may_be_compared_with_anything_tells_its_quantiles() {
        let kind = |kind: &str| AGREEMENT.replace("amount = { type = \"integer\"", &format!("amount = {{ type = \"{kind}\""));
        let with = |more: &str| AGREEMENT.replace("amount = {", &format!("amount = {{ {more},"));
        for (text, tells) in [
            (AGREEMENT.to_owned(), true),
            (kind("number"), true),
            (kind("date"), true),
            (kind("text"), true),
            (kind("text").replace("amount = {", "amount = { values = [\"1\", \"2\"],"), false),
            (kind("boolean"), false),
            (with("filter = \"bands\", bands = [\"1\", \"2\"]"), false),
            (with("filter = \"listed\", values = [\"1\", \"2\"]"), false),
            (with("values = [\"1\", \"2\"]"), false),
            (with("coded = { at_most = 9 }"), true),
            (AGREEMENT.replace("uses = [\"filter\"] }", "uses = [\"aggregate\"] }"), false),
        ] {
            let agreement = Agreement::parse(&text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
            let rule = agreement.datasets.iter().find_map(|dataset| dataset.columns.get("amount")).unwrap();
            assert_eq!(rule.tells_quantiles(), tells, "{rule:?}");
        }
    }
}
