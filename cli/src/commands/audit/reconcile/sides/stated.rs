//! What one side says of one order, and of one query.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::super::super::read::text;

/// What must be the same in every entry and on both sides.
const VERSIONS: [&str; 3] = ["agreement_digest", "consent_version", "consent_generation"];

/// What one side says of one order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stated {
    /// One, where all of its entries are of one.
    queries: BTreeSet<String>,
    datasets: BTreeSet<String>,
    /// Of partitions that were completed.
    rows: u64,
    versions: BTreeMap<&'static str, BTreeSet<String>>,
    /// Of the dataset; a node says it when it intends the release.
    freshness: BTreeSet<String>,
    /// How many partitions the release has, where that is said.
    partitions: Option<u64>,
    /// How often each partition was; the gateway names none.
    completed: BTreeMap<Option<u64>, u64>,
    /// Rows that left without a receipt, and why there is none.
    left: Option<(u64, BTreeSet<String>)>,
    within: bool,
    /// When its first entry was made.
    first: Option<DateTime<Utc>>,
}

/// What became of a query at the gateway.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    Opened,
    Answered,
    Refused(String),
    /// The gateway started anew before it ended.
    Lost,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened => f.write_str("not ended"),
            Self::Answered => f.write_str("answered without it"),
            Self::Refused(code) => write!(f, "refused: {code}"),
            Self::Lost => f.write_str("ended with the gateway's process"),
        }
    }
}

impl Stated {
    /// Notes when an entry of it was made.
    pub(super) fn at(&mut self, time: Option<DateTime<Utc>>) -> &mut Self {
        self.first = [self.first, time].into_iter().flatten().min();
        self
    }

    /// Whether it is from before a log's first entry that was read.
    pub(super) fn is_before(&self, begin: Option<&DateTime<Utc>>) -> bool {
        self.first.as_ref().zip(begin).is_some_and(|(first, begin)| first < begin)
    }

    /// Before a node's first byte.
    pub(super) fn intended(&mut self, query_id: &str, entry: &Value, within: bool) {
        self.say(query_id, entry, within);
        self.partitions = self.partitions.max(entry.get("partitions").and_then(Value::as_u64));
    }

    /// One partition at a node, the whole order at the gateway.
    pub(super) fn completed(&mut self, query_id: &str, entry: &Value, within: bool) {
        self.say(query_id, entry, within);
        self.rows = self.rows.saturating_add(rows(entry));
        let times = self.completed.entry(entry.get("partition").and_then(Value::as_u64)).or_default();
        *times = times.saturating_add(1);
    }

    /// A partition, or what is left of the order, that ended without a receipt.
    pub(super) fn abandoned(&mut self, query_id: &str, entry: &Value, within: bool) {
        if self.queries.is_empty() {
            self.say(query_id, entry, within);
        }
        self.is_of(query_id, entry, within);
        let (left, causes) = self.left.get_or_insert_default();
        *left = left.saturating_add(rows(entry));
        causes.insert(text(entry, "cause").unwrap_or("given back").to_owned());
    }

    fn is_of(&mut self, query_id: &str, entry: &Value, within: bool) {
        self.queries.insert(query_id.to_owned());
        self.datasets.insert(text(entry, "dataset").unwrap_or_default().to_owned());
        self.within |= within;
    }

    fn say(&mut self, query_id: &str, entry: &Value, within: bool) {
        self.is_of(query_id, entry, within);
        for name in VERSIONS {
            self.versions.entry(name).or_default().insert(told(entry, name));
        }
        self.freshness.extend(entry.get("freshness").map(|_| told(entry, "freshness")));
    }

    /// The queries that its entries name.
    pub(super) fn queries(&self) -> impl Iterator<Item = &str> {
        self.queries.iter().map(String::as_str)
    }

    pub(super) fn query_id(&self) -> String {
        joined(&self.queries)
    }

    pub(super) fn dataset(&self) -> String {
        joined(&self.datasets)
    }

    /// Whether any of it falls into the period.
    pub(super) fn within(&self) -> bool {
        self.within
    }

    /// Whether a node closed all of it with receipts: every partition, where it is said how many there are.
    pub(super) fn is_completed(&self) -> bool {
        !self.completed.is_empty()
            && self.left.is_none()
            && self.partitions.is_none_or(|partitions| self.distinct(partitions) == partitions)
    }

    /// How many of so many partitions were completed.
    fn distinct(&self, partitions: u64) -> u64 {
        self.completed.keys().flatten().filter(|partition| **partition < partitions).count() as u64
    }

    /// What was completed more than once, in words.
    pub(super) fn doubles(&self) -> Option<String> {
        let doubles = self.completed.iter().filter(|(_, times)| **times > 1).map(|(partition, times)| match partition {
            Some(partition) => format!("partition {partition} completed {times} times"),
            None => format!("completed {times} times"),
        });
        Some(doubles.collect::<Vec<_>>().join(", ")).filter(|doubles| !doubles.is_empty())
    }

    /// Whether a node says that it ended before a row left.
    pub(super) fn let_nothing_out(&self) -> bool {
        self.completed.is_empty() && self.left.as_ref().is_some_and(|(rows, _)| *rows == 0)
    }

    /// In which points two sides differ: the point, and what each says.
    pub(super) fn differing(&self, gateway: &Self) -> Vec<(&'static str, String, String)> {
        let version = |side: &Self, name| side.versions.get(name).map(joined).unwrap_or_default();
        let mut pairs = vec![
            ("query_id", self.query_id(), gateway.query_id()),
            ("dataset", self.dataset(), gateway.dataset()),
            ("rows", self.rows.to_string(), gateway.rows.to_string()),
        ];
        pairs.extend(VERSIONS.map(|name| (name, version(self, name), version(gateway, name))));
        if !self.freshness.is_empty() && !gateway.freshness.is_empty() {
            pairs.push(("freshness", joined(&self.freshness), joined(&gateway.freshness)));
        }
        pairs.into_iter().filter(|(_, node, gateway)| node != gateway).collect()
    }

    /// What a side says of the order as a whole; `failed` is the code of a stream of its query that failed.
    pub(super) fn in_words(&self, failed: Option<&str>) -> String {
        let mut parts = Vec::new();
        let none = self.completed.is_empty();
        if !none {
            parts.push(format!("{} rows", self.rows));
        }
        if let Some(partitions) = self.partitions.filter(|partitions| !none && self.distinct(*partitions) < *partitions) {
            parts.push(format!("in {} of {partitions} partitions", self.distinct(partitions)));
        }
        if let Some((rows, causes)) = &self.left {
            let causes = causes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            parts.push(format!("abandoned after {rows} rows: {causes}"));
        } else if let Some(code) = failed.filter(|_| !self.is_completed()) {
            parts.push(format!("failed: {code}"));
        } else if none {
            parts.push("intended, and not ended".to_owned());
        }
        parts.join(", ")
    }
}

fn joined(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn rows(entry: &Value) -> u64 {
    entry.get("rows").and_then(Value::as_u64).unwrap_or_default()
}

fn told(entry: &Value, name: &str) -> String {
    entry.get(name).map_or_else(|| "absent".to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}
