//! Both sides of a period compared: what nodes say they released, and what the gateway says it received, order by order.
//!
//! | difference | what it means |
//! |---|---|
//! | `not_received` | a department released for an order that the gateway does not say it used, in a query that it closed, or does not know |
//! | `not_released` | the gateway says that it received what the department's log does not say it released |
//! | `rows`, `agreement_digest`, `consent_version`, `consent_generation`, `dataset` | both name the order, and say other things of it |
//! | `discarded` | released for a query that was refused or has not ended: no answer rests on it. Listed, and no difference |
//!
//! In memory: what is said of each order, not the entries. An entry belongs to the period by the time of its query's end at
//! the gateway or of its release at the node; logs are read whole, so that neither edge of the period makes a difference.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::read::{Archives, NodeLog, entries, text, time};
use crate::failure::Result;

/// What one side says of one order.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stated {
    query_id: String,
    dataset: String,
    rows: u64,
    /// What must be the same in every partition and on both sides.
    versions: BTreeMap<&'static str, BTreeSet<String>>,
    within: bool,
}

/// One thing in which the sides differ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub(super) kind: &'static str,
    pub(super) query_id: String,
    pub(super) department: String,
    pub(super) dataset: String,
    pub(super) order: String,
    pub(super) node: String,
    pub(super) gateway: String,
}

impl Difference {
    pub(super) fn counts(&self) -> bool {
        self.kind != DISCARDED
    }
}

const DISCARDED: &str = "discarded";
const VERSIONS: [&str; 3] = ["agreement_digest", "consent_version", "consent_generation"];

/// From when, and until before when.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Period {
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) to: Option<DateTime<Utc>>,
}

impl Period {
    /// Whether it holds the entry; one without a time it holds, so that nothing is left out.
    pub(super) fn holds(&self, entry: &Value) -> bool {
        time(entry).is_none_or(|time| self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time < to))
    }
}

/// The two sides.
#[derive(Debug, Default)]
pub(super) struct Sides {
    released: HashMap<(String, String), Stated>,
    received: HashMap<(String, String), Stated>,
    /// Queries that the gateway closed, and those that it opened.
    closed: HashSet<String>,
    opened: HashSet<String>,
}

impl Sides {
    /// Reads the nodes' logs, then the gateway's: what a node released while they were read is looked for there.
    pub(super) fn of(gateway: &Path, nodes: &[NodeLog], archives: &Archives, period: Period) -> Result<Self> {
        let mut sides = Self::default();
        for node in nodes {
            for entry in entries(&node.folder, archives, 0)? {
                sides.node(&node.department, &entry?.1, period);
            }
        }
        let departments: BTreeSet<&str> = nodes.iter().map(|node| node.department.as_str()).collect();
        for entry in entries(gateway, archives, 0)? {
            sides.gateway(&departments, &entry?.1, period);
        }
        Ok(sides)
    }

    fn node(&mut self, department: &str, entry: &Value, period: Period) {
        if text(entry, "event") == Some("release.completed") {
            let key = (department.to_owned(), of(entry, "order"));
            state(self.released.entry(key).or_default(), &of(entry, "query_id"), entry, period.holds(entry));
        }
    }

    fn gateway(&mut self, departments: &BTreeSet<&str>, entry: &Value, period: Period) {
        let query_id = of(entry, "query_id");
        match text(entry, "event") {
            Some("query.opened") => {
                self.opened.insert(query_id);
            }
            Some("query.closed") => {
                for source in entry.pointer("/facts/sources").and_then(Value::as_array).into_iter().flatten() {
                    let department = of(source, "department");
                    if departments.contains(department.as_str()) {
                        let key = (department, of(source, "order"));
                        state(self.received.entry(key).or_default(), &query_id, source, period.holds(entry));
                    }
                }
                self.closed.insert(query_id);
            }
            _ => {}
        }
    }

    /// Orders that were compared, and every difference, in the order of query ids.
    pub(super) fn compare(mut self) -> (u64, Vec<Difference>) {
        let (mut compared, mut found) = (0_u64, Vec::new());
        for ((department, order), node) in std::mem::take(&mut self.released) {
            let key = (department, order);
            let gateway = self.received.remove(&key);
            if !node.within && !gateway.as_ref().is_some_and(|gateway| gateway.within) {
                continue;
            }
            compared = compared.saturating_add(1);
            match gateway {
                Some(gateway) => found.extend(differences(&key, &node, &gateway)),
                None => {
                    let used = self.closed.contains(&node.query_id) || !self.opened.contains(&node.query_id);
                    let kind = if used { "not_received" } else { DISCARDED };
                    found.push(difference(kind, &key, &node, format!("{} rows", node.rows), String::new()));
                }
            }
        }
        for (key, gateway) in self.received.into_iter().filter(|(_, gateway)| gateway.within) {
            compared = compared.saturating_add(1);
            found.push(difference("not_released", &key, &gateway, String::new(), format!("{} rows", gateway.rows)));
        }
        found.sort_by(|a, b| (&a.query_id, &a.department, &a.order, a.kind).cmp(&(&b.query_id, &b.department, &b.order, b.kind)));
        (compared, found)
    }
}

fn of(entry: &Value, field: &str) -> String {
    text(entry, field).unwrap_or_default().to_owned()
}

/// Adds what an entry says: of one partition at a node, of the whole order at the gateway.
fn state(stated: &mut Stated, query_id: &str, entry: &Value, within: bool) {
    query_id.clone_into(&mut stated.query_id);
    stated.dataset = of(entry, "dataset");
    stated.rows = stated.rows.saturating_add(entry.get("rows").and_then(Value::as_u64).unwrap_or_default());
    stated.within |= within;
    for name in VERSIONS {
        let value =
            entry.get(name).map_or_else(|| "absent".to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        stated.versions.entry(name).or_default().insert(value);
    }
}

fn differences(key: &(String, String), node: &Stated, gateway: &Stated) -> Vec<Difference> {
    let joined = |stated: &Stated, name: &str| {
        stated.versions.get(name).map(|values| values.iter().map(String::as_str).collect::<Vec<_>>().join(" ")).unwrap_or_default()
    };
    let mut pairs = vec![
        ("query_id", node.query_id.clone(), gateway.query_id.clone()),
        ("dataset", node.dataset.clone(), gateway.dataset.clone()),
        ("rows", node.rows.to_string(), gateway.rows.to_string()),
    ];
    pairs.extend(VERSIONS.map(|name| (name, joined(node, name), joined(gateway, name))));
    let differ = pairs.into_iter().filter(|(_, node, gateway)| node != gateway);
    differ.map(|(kind, at_node, at_gateway)| difference(kind, key, node, at_node, at_gateway)).collect()
}

fn difference(kind: &'static str, (department, order): &(String, String), of: &Stated, node: String, gateway: String) -> Difference {
    let (query_id, dataset) = (of.query_id.clone(), of.dataset.clone());
    Difference { kind, query_id, department: department.clone(), dataset, order: order.clone(), node, gateway }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn released(change: impl FnOnce(&mut Value)) -> Value {
        let mut entry = json!({
            "event": "release.completed", "time": "2027-01-01T10:00:00Z", "query_id": "q", "order": "o", "dataset": "d", "partition": 0,
            "rows": 3, "agreement_digest": "a", "consent_version": 7, "consent_generation": 0,
        });
        change(&mut entry);
        entry
    }

    fn closed(change: impl FnOnce(&mut Value)) -> Value {
        let mut source = json!({
            "department": "dfe", "dataset": "d", "order": "o", "rows": 5, "agreement_digest": "a", "consent_version": 7, "consent_generation": 0,
        });
        change(&mut source);
        json!({ "event": "query.closed", "time": "2027-01-01T10:00:01Z", "query_id": "q", "facts": { "sources": [source] } })
    }

    fn kinds(node: &[Value], gateway: &[Value], period: Period) -> Vec<&'static str> {
        let mut sides = Sides::default();
        node.iter().for_each(|entry| sides.node("dfe", entry, period));
        gateway.iter().for_each(|entry| sides.gateway(&BTreeSet::from(["dfe"]), entry, period));
        sides.compare().1.into_iter().map(|difference| difference.kind).collect()
    }

    #[test]
    fn every_difference_is_found() {
        let same = || vec![released(|_| {}), released(|e| e["rows"] = 2.into())];
        let opened = json!({ "event": "query.opened", "query_id": "q" });
        let cases = [
            ("the same, in two partitions", same(), vec![closed(|_| {})], vec![]),
            ("a partition is missing", vec![released(|_| {})], vec![closed(|_| {})], vec!["rows"]),
            ("an entry is missing at the node", vec![], vec![closed(|_| {})], vec!["not_released"]),
            ("the gateway does not know the query", same(), vec![], vec!["not_received"]),
            ("the gateway names another order", same(), vec![closed(|s| s["order"] = "x".into())], vec!["not_received", "not_released"]),
            ("refused", same(), vec![opened], vec![DISCARDED]),
            ("another version", same(), vec![closed(|s| s["consent_version"] = 8.into())], vec!["consent_version"]),
            ("another generation", same(), vec![closed(|s| s["consent_generation"] = 1.into())], vec!["consent_generation"]),
            ("another text", same(), vec![closed(|s| s["agreement_digest"] = "b".into())], vec!["agreement_digest"]),
            ("another dataset", same(), vec![closed(|s| s["dataset"] = "e".into())], vec!["dataset"]),
            ("a department that was not asked for", vec![], vec![closed(|s| s["department"] = "dwp".into())], vec![]),
        ];
        for (case, node, gateway, expected) in cases {
            assert_eq!(kinds(&node, &gateway, Period::default()), expected, "{case}");
        }
    }

    #[test]
    fn an_edge_of_the_period_between_both_sides_makes_no_difference() {
        let at = |time: &str| DateTime::parse_from_rfc3339(time).unwrap().to_utc();
        let node = [released(|_| {}), released(|e| e["rows"] = 2.into())];
        let edge = at("2027-01-01T10:00:00.5Z");
        for period in [Period { from: Some(edge), to: None }, Period { from: None, to: Some(edge) }] {
            assert!(kinds(&node, &[closed(|_| {})], period).is_empty(), "{period:?}");
        }
        let later = Period { from: Some(at("2027-01-02T00:00:00Z")), to: None };
        assert!(kinds(&[], &[closed(|_| {})], later).is_empty(), "not in the period");
    }
}
