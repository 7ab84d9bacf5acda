//! Both sides of a period compared: what nodes say they released, and what the gateway says it received, order by order.
//!
//! | difference | what it means |
//! |---|---|
//! | `not_received` | rows left a department, or may have, for an order that the gateway does not say it used: in a query that it answered, or does not know |
//! | `not_released` | the gateway says that it received what the department's log does not know |
//! | `not_completed` | the gateway says that it received what the department's log does not say it completed, every partition of it |
//! | `completed_twice` | a log says more than once that it completed one and the same thing |
//! | `rows`, `agreement_digest`, `consent_version`, `consent_generation`, `freshness`, `dataset`, `query_id` | both name the order, and say other things of it |
//!
//! | listed, and no difference | |
//! |---|---|
//! | `discarded` | released, or begun, for a query that was refused or ended with the gateway's process: by the gateway's own account, no answer rests on it |
//! | `given_up` | ended before a row left, by the department's own account |
//! | `open` | for a query that had not ended when the logs did |
//! | `archived` | one side does not know it, and it is from before that log's first entry that was read: those before were moved to an archive |
//!
//! A release is intended, and then each of its partitions completed or abandoned; one that is only intended may have let rows out, as far as
//! the department's log tells. In memory: what is said of each order, not the entries. An entry belongs to the period by its time; logs are
//! read whole, so that neither edge of the period makes a difference.

mod stated;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::Value;

use self::stated::{Asked, Stated};
use super::super::read::{Archives, NodeLog, entries, text, time};
use crate::failure::Result;

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
        !UNCOUNTED.contains(&self.kind)
    }
}

/// What a side says of an order whose entries it may have moved.
const MOVED: &str = "moved to an archive";

const NOT_RECEIVED: &str = "not_received";
pub(super) const DISCARDED: &str = "discarded";
pub(super) const GIVEN_UP: &str = "given_up";
const OPEN: &str = "open";
pub(super) const ARCHIVED: &str = "archived";

/// What is listed and is no difference; what tells least of an order first.
const UNCOUNTED: [&str; 4] = [ARCHIVED, OPEN, DISCARDED, GIVEN_UP];

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

/// What comes of the two sides.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// How many orders were.
    pub(super) orders: u64,
    /// Of how many of them both sides say the same.
    pub(super) agreed: u64,
    /// In the order of query ids.
    pub(super) found: Vec<Difference>,
}

/// An order of a department.
type Key = (String, String);

/// The two sides.
#[derive(Debug, Default)]
pub(super) struct Sides {
    released: HashMap<Key, Stated>,
    received: HashMap<Key, Stated>,
    /// What became of each query at the gateway.
    asked: HashMap<String, Asked>,
    /// Of streams that failed, departments' logs of older versions name the query alone.
    failed: HashMap<Key, String>,
    /// When the gateway's first entry was made that was read, where entries before it were moved to an archive.
    begin: Option<DateTime<Utc>>,
    /// The same of departments' logs.
    begins: HashMap<String, DateTime<Utc>>,
}

impl Sides {
    /// Reads the nodes' logs, then the gateway's: what a node released while they were read is looked for there.
    pub(super) fn of(gateway: &Path, nodes: &[NodeLog], archives: &Archives, period: Period) -> Result<Self> {
        let mut sides = Self::default();
        for node in nodes {
            for (at, entry) in entries(&node.folder, archives, 0)?.enumerate() {
                let (index, entry) = entry?;
                if at == 0 && index > 0 {
                    sides.begins.extend(time(&entry).map(|begin| (node.department.clone(), begin)));
                }
                sides.node(&node.department, &entry, period);
            }
        }
        let departments: BTreeSet<&str> = nodes.iter().map(|node| node.department.as_str()).collect();
        for (at, entry) in entries(gateway, archives, 0)?.enumerate() {
            let (index, entry) = entry?;
            if at == 0 && index > 0 {
                sides.begin = time(&entry);
            }
            sides.gateway(&departments, &entry, period);
        }
        Ok(sides)
    }

    fn node(&mut self, department: &str, entry: &Value, period: Period) {
        let (query_id, key) = (of(entry, "query_id"), (department.to_owned(), of(entry, "order")));
        let within = period.holds(entry);
        match text(entry, "event") {
            Some("release.intended") => self.released.entry(key).or_default().at(time(entry)).intended(&query_id, entry, within),
            Some("release.completed") => self.released.entry(key).or_default().at(time(entry)).completed(&query_id, entry, within),
            Some("release.abandoned") => self.released.entry(key).or_default().at(time(entry)).abandoned(&query_id, entry, within),
            Some("release.failed") => drop(self.failed.insert((key.0, query_id), of(entry, "code"))),
            _ => {}
        }
    }

    fn gateway(&mut self, departments: &BTreeSet<&str>, entry: &Value, period: Period) {
        let query_id = of(entry, "query_id");
        match text(entry, "event") {
            Some("query.opened") => {
                self.asked.entry(query_id).or_insert(Asked::Opened);
            }
            Some("query.refused") => drop(self.asked.insert(query_id, Asked::Refused(of(entry, "code")))),
            // Those of before died with the process that had opened them.
            Some("gateway.started") => {
                self.asked.values_mut().filter(|asked| **asked == Asked::Opened).for_each(|asked| *asked = Asked::Lost)
            }
            Some("query.closed") => {
                for source in entry.pointer("/facts/sources").and_then(Value::as_array).into_iter().flatten() {
                    let department = of(source, "department");
                    if departments.contains(department.as_str()) {
                        let key = (department, of(source, "order"));
                        self.received.entry(key).or_default().at(time(entry)).completed(&query_id, source, period.holds(entry));
                    }
                }
                self.asked.insert(query_id, Asked::Answered);
            }
            _ => {}
        }
    }

    /// Compares all that falls into the period.
    pub(super) fn compare(mut self) -> Compared {
        let (mut orders, mut agreed, mut found) = (0_u64, 0_u64, Vec::new());
        for (key, node) in std::mem::take(&mut self.released) {
            let gateway = self.received.remove(&key);
            if !node.within() && !gateway.as_ref().is_some_and(Stated::within) {
                continue;
            }
            orders = orders.saturating_add(1);
            let differences = match gateway {
                Some(gateway) => self.differences(&key, &node, &gateway),
                None => self.unreceived(&key, &node),
            };
            agreed = agreed.saturating_add(u64::from(differences.is_empty()));
            found.extend(differences);
        }
        for (key, gateway) in self.received.into_iter().filter(|(_, gateway)| gateway.within()) {
            orders = orders.saturating_add(1);
            // A release is before the entry that closes its query.
            let is_archived = gateway.is_before(self.begins.get(&key.0));
            let (kind, node) = if is_archived { (ARCHIVED, MOVED) } else { ("not_released", "nothing") };
            found.push(difference(kind, &key, &gateway, node.to_owned(), gateway.in_words(None)));
        }
        let archived = found.iter().filter(|difference| difference.kind == ARCHIVED).count() as u64;
        found.sort_by(|a, b| (&a.query_id, &a.department, &a.order, a.kind).cmp(&(&b.query_id, &b.department, &b.order, b.kind)));
        Compared { orders: orders.saturating_sub(archived), agreed, found }
    }

    /// What both name.
    fn differences(&self, key: &Key, node: &Stated, gateway: &Stated) -> Vec<Difference> {
        let mut found = Vec::new();
        if !node.is_completed() {
            found.push(difference("not_completed", key, node, self.node_in_words(key, node), gateway.in_words(None)));
        }
        if node.doubles().is_some() || gateway.doubles().is_some() {
            let [at_node, at_gateway] = [node, gateway].map(|side| side.doubles().unwrap_or_else(|| "once".to_owned()));
            found.push(difference("completed_twice", key, node, at_node, at_gateway));
        }
        let differing = node.differing(gateway);
        found.extend(differing.into_iter().map(|(kind, at_node, at_gateway)| difference(kind, key, node, at_node, at_gateway)));
        found
    }

    /// What the gateway does not say it used.
    fn unreceived(&self, key: &Key, node: &Stated) -> Vec<Difference> {
        // Where its entries name several queries, what counts most.
        let judged = node.queries().map(|query_id| self.judged(query_id, node));
        let judged = judged.min_by_key(|(kind, _)| UNCOUNTED.iter().position(|uncounted| uncounted == kind));
        let (kind, gateway) = judged.unwrap_or((NOT_RECEIVED, String::new()));
        let doubles = node.doubles().map(|at_node| difference("completed_twice", key, node, at_node, gateway.clone()));
        std::iter::once(difference(kind, key, node, self.node_in_words(key, node), gateway.clone())).chain(doubles).collect()
    }

    /// The same of one query: what that is, and what the gateway says.
    fn judged(&self, query_id: &str, node: &Stated) -> (&'static str, String) {
        let Some(asked) = self.asked.get(query_id) else {
            let is_archived = node.is_before(self.begin.as_ref());
            return if is_archived { (ARCHIVED, MOVED.to_owned()) } else { (NOT_RECEIVED, "never opened".to_owned()) };
        };
        match asked {
            Asked::Opened => (OPEN, asked.to_string()),
            _ if node.let_nothing_out() => (GIVEN_UP, asked.to_string()),
            Asked::Refused(_) | Asked::Lost => (DISCARDED, format!("{asked}, by the gateway's own account")),
            Asked::Answered => (NOT_RECEIVED, asked.to_string()),
        }
    }

    fn node_in_words(&self, (department, _): &Key, node: &Stated) -> String {
        let failed = node.queries().find_map(|query_id| self.failed.get(&(department.clone(), query_id.to_owned())));
        node.in_words(failed.map(String::as_str))
    }
}

fn of(entry: &Value, field: &str) -> String {
    text(entry, field).unwrap_or_default().to_owned()
}

fn difference(kind: &'static str, (department, order): &Key, of: &Stated, node: String, gateway: String) -> Difference {
    Difference { kind, query_id: of.query_id(), department: department.clone(), dataset: of.dataset(), order: order.clone(), node, gateway }
}

#[cfg(test)]
mod tests;
