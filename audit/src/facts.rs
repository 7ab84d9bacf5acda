//! What of an entry it can be looked for by.
//!
//! What ends a query repeats neither who asked nor for what: [`Asked`] tells it from the entry that opened the query.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::filter::Ruling;

/// Between names; in none that anybody can ask for.
const BETWEEN: char = '\u{1f}';

/// Of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// When it was made, in microseconds since 1970.
    pub time: Option<i64>,
    /// The kind of entry.
    pub event: Option<String>,
    /// Of which query.
    pub query_id: Option<String>,
    /// Who asked, and for what.
    pub asker: Asker,
    /// Departments whose data or rule it is about.
    pub departments: Names,
    /// Datasets: `department.dataset` at the gateway, without the department at a node.
    pub datasets: Names,
    /// What was decided.
    pub decision: Option<Ruling>,
    /// Of a refusal.
    pub code: Option<String>,
}

/// Who asked, and for what, as far as an entry says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asker {
    /// The caller's organisation.
    pub organisation: Option<String>,
    /// The caller's commitment.
    pub person: Option<String>,
    /// The stated purpose.
    pub purpose: Option<String>,
}

/// Names in one text, each between two marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub(crate) String);

impl Names {
    fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let joined = names.into_iter().fold(String::new(), |joined, name| joined + name + "\u{1f}");
        Self(if joined.is_empty() { joined } else { format!("{BETWEEN}{joined}") })
    }

    /// As it is looked for in the text.
    pub(crate) fn marked(name: &str) -> String {
        format!("{BETWEEN}{name}{BETWEEN}")
    }

    /// Whether one of them is `name`.
    #[must_use]
    pub fn contain(&self, name: &str) -> bool {
        self.0.contains(&Self::marked(name))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(BETWEEN).filter(|name| !name.is_empty())
    }
}

impl Facts {
    /// Of an entry's bytes; of what is no JSON object there are none.
    #[must_use]
    pub fn read(entry: &[u8]) -> Self {
        serde_json::from_slice(entry).map(|entry| Self::of(&entry)).unwrap_or_default()
    }

    /// Of an entry.
    #[must_use]
    pub fn of(entry: &Value) -> Self {
        let own = |name: &str| text(entry, name).map(str::to_owned);
        let datasets = datasets(entry);
        let owners = datasets.iter().filter_map(|name| name.split_once('.')).map(|(owner, _)| owner);
        let departments: BTreeSet<&str> = owners.chain(text(entry, "department")).collect();
        Self {
            time: time(entry).map(|time| time.timestamp_micros()),
            event: own("event"),
            query_id: own("query_id"),
            asker: Asker { organisation: own("organisation"), person: own("person"), purpose: own("purpose") },
            departments: Names::of(departments),
            decision: ruling(entry),
            code: own("code"),
            datasets: Names::of(datasets.iter().map(String::as_str)),
        }
    }

    pub(crate) fn opens(&self) -> bool {
        self.event.as_deref() == Some("query.opened")
    }

    pub(crate) fn ends(&self) -> bool {
        self.event.as_deref().is_some_and(|event| ENDS.contains(&event))
    }

    /// With who asked, where it does not say that itself.
    pub(crate) fn asked_by(self, asker: Option<&Asker>) -> Self {
        match asker {
            Some(asker) => Self { asker: self.asker.or(asker), ..self },
            None => self,
        }
    }

    /// Puts who asked, and for what, into the entry where it does not say it.
    pub fn fill(&self, entry: &mut Value) {
        let Some(fields) = entry.as_object_mut() else { return };
        let Asker { organisation, person, purpose } = &self.asker;
        for (name, value) in [("organisation", organisation), ("person", person), ("purpose", purpose)] {
            if let Some(value) = value {
                fields.entry(name).or_insert_with(|| value.as_str().into());
            }
        }
    }
}

impl Asker {
    /// With what another says where this one says nothing.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let or = |own: Option<String>, other: &Option<String>| own.or_else(|| other.clone());
        Self {
            organisation: or(self.organisation, &other.organisation),
            person: or(self.person, &other.person),
            purpose: or(self.purpose, &other.purpose),
        }
    }
}

/// What ends a query.
pub(crate) const ENDS: [&str; 3] = ["query.closed", "query.refused", "query.explained"];

/// Who asked, of queries that are open, as entries come one after the other.
#[derive(Debug, Default)]
pub struct Asked(HashMap<String, Option<Asker>>);

impl Asked {
    /// The facts with who asked, where the entry ends a query that one before it opened.
    #[must_use]
    pub fn complete(&mut self, facts: Facts) -> Facts {
        let Ok(completed) = self.complete_or::<Infallible>(facts, |_| Ok(None));
        if let Some(query_id) = completed.query_id.as_deref().filter(|_| completed.ends()) {
            self.0.remove(query_id);
        }
        completed
    }

    /// The same; who asked, of queries that were opened before the first entry that was seen here, `before` tells.
    pub(crate) fn complete_or<E>(&mut self, facts: Facts, before: impl FnOnce(&str) -> Result<Option<Asker>, E>) -> Result<Facts, E> {
        let Some(query_id) = facts.query_id.clone().filter(|_| facts.opens() || facts.ends()) else { return Ok(facts) };
        if facts.opens() {
            self.0.insert(query_id, Some(facts.asker.clone()));
            return Ok(facts);
        }
        // What was ended once is not looked for again.
        let asker = match self.0.insert(query_id.clone(), None) {
            Some(known) => known,
            None => before(&query_id)?,
        };
        Ok(facts.asked_by(asker.as_ref()))
    }

    /// Forgets all where there are more than `most`: for who has a `before` that knows them by then.
    pub(crate) fn forget(&mut self, most: usize) {
        if self.0.len() > most {
            self.0.clear();
        }
    }
}

fn ruling(entry: &Value) -> Option<Ruling> {
    match (text(entry, "decision"), text(entry, "event")?) {
        (Some("permit"), _) | (None, "query.closed" | "release.intended" | "release.completed") => Some(Ruling::Permit),
        (Some("deny"), _) => Some(Ruling::Deny),
        (None, event) if event.ends_with(".refused") => Some(Ruling::Deny),
        _ => None,
    }
}

/// When the entry of these bytes was made.
pub(crate) fn time_of(entry: &[u8]) -> Option<DateTime<Utc>> {
    time(&serde_json::from_slice(entry).ok()?)
}

/// When an entry was made.
#[must_use]
pub fn time(entry: &Value) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text(entry, "time")?).ok().map(|time| time.to_utc())
}

fn text<'a>(entry: &'a Value, field: &str) -> Option<&'a str> {
    entry.get(field).and_then(Value::as_str)
}

/// The datasets that an entry names, `department.dataset`, or without its department in a node's.
#[must_use]
pub fn datasets(entry: &Value) -> BTreeSet<String> {
    let sources = entry.pointer("/facts/sources").and_then(Value::as_array).into_iter().flatten();
    let sources = sources.filter_map(|s| Some(format!("{}.{}", text(s, "department")?, text(s, "dataset")?)));
    let tables = entry.pointer("/facts/tables").and_then(Value::as_array).into_iter().flatten();
    let tables = tables.filter_map(|table| text(table, "dataset").map(str::to_owned));
    // Of what was refused: the dataset that it is for, and those that the statement names.
    let cause = entry.pointer("/cause/dataset").and_then(|of| Some(format!("{}.{}", text(of, "department")?, text(of, "dataset")?)));
    let named = entry.get("datasets").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    sources.chain(tables).chain(cause).chain(named.chain(text(entry, "dataset")).map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_ends_a_query_is_told_with_who_asked_once() {
        let opened = Facts::of(&json!({ "event": "query.opened", "query_id": "q", "organisation": "unit", "person": "c", "purpose": "p" }));
        let closed = || Facts::of(&json!({ "event": "query.closed", "query_id": "q", "purpose": "own" }));
        let mut asked = Asked::default();
        assert_eq!(asked.complete(closed()), closed(), "nobody opened it");
        assert_eq!(asked.complete(opened.clone()), opened);
        let told = asked.complete(closed()).asker;
        assert_eq!((told.organisation.as_deref(), told.person.as_deref(), told.purpose.as_deref()), (Some("unit"), Some("c"), Some("own")));
        assert_eq!(asked.complete(closed()), closed(), "it was ended already");
        let mut entry = json!({ "event": "query.closed", "purpose": "own" });
        Facts { asker: told, ..Facts::default() }.fill(&mut entry);
        assert_eq!(entry, json!({ "event": "query.closed", "purpose": "own", "organisation": "unit", "person": "c" }));
    }

    #[test]
    fn departments_and_datasets_are_those_that_are_named() {
        let facts = Facts::of(&json!({
            "event": "query.closed", "time": "2027-01-01T00:00:00.001Z", "department": "dhsc",
            "facts": { "sources": [{ "department": "dfe", "dataset": "attainment" }], "tables": [{ "dataset": "dwp.claims" }] },
        }));
        assert_eq!(facts.departments.iter().collect::<Vec<_>>(), ["dfe", "dhsc", "dwp"]);
        assert_eq!(facts.datasets.iter().collect::<Vec<_>>(), ["dfe.attainment", "dwp.claims"]);
        assert!(facts.datasets.contain("dwp.claims") && !facts.datasets.contain("claims") && !facts.departments.contain(""));
        assert_eq!((facts.time, facts.decision), (Some(1_798_761_600_001_000), Some(Ruling::Permit)));
        assert_eq!(Facts::read(b"no entry"), Facts::default());
    }

    #[test]
    fn what_was_refused_is_of_the_datasets_of_its_cause_and_its_statement() {
        let refused = |more: Value| {
            let mut entry = json!({ "event": "query.refused", "query_id": "q", "code": "denied", "department": "dhsc" });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Facts::of(&entry)
        };
        let facts = refused(json!({
            "cause": { "kind": "known", "dataset": { "department": "dfe", "dataset": "attainment" } }, "datasets": ["dwp.claims", 7],
        }));
        assert_eq!(facts.departments.iter().collect::<Vec<_>>(), ["dfe", "dhsc", "dwp"]);
        assert_eq!(facts.datasets.iter().collect::<Vec<_>>(), ["dfe.attainment", "dwp.claims"]);
        assert_eq!(facts.decision, Some(Ruling::Deny));
        for none in [json!({ "cause": { "kind": "hidden" } }), json!({ "cause": { "dataset": "attainment" }, "datasets": "dwp.claims" })] {
            let facts = refused(none);
            assert_eq!((facts.departments.iter().collect::<Vec<_>>(), facts.datasets), (vec!["dhsc"], Names::default()));
        }
    }
}
