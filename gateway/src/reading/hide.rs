//! What a department's auditor is shown of an entry of the gateway's log: who asked, why and by which rules, its own exact numbers, and no
//! other department's.
//!
//! | what | to the gateway's own auditors | to a department's |
//! |---|---|---|
//! | numbers of an object that names the department | shown | shown, but for `matched`: whom the others have too |
//! | any other number | shown | hidden, but for those that count nobody: [`KEPT`] |
//! | `salt`, `token`, `address` | shown | hidden: with the salt, guesses of hidden numbers could be tried against the entry's hash |
//!
//! A number that is new is hidden until somebody says here that it counts nobody.

use concordat_audit::index::Found;
use concordat_operate::reading::whole;
use concordat_policy::Name;
use concordat_proto::v1;
use serde_json::{Map, Value};

use crate::auditors::Scope;

/// Numbers that count nobody.
const KEPT: [&str; 13] = [
    "entry",
    "opened_by",
    "milliseconds",
    "minimum_subjects",
    "answer_rows",
    "consent_version",
    "consent_generation",
    "version",
    "generation",
    "freshness",
    "known_size",
    "size",
    "quorum",
];

/// What is agreed and decided: holds no count of anybody.
const PLAIN: [&str; 6] = ["columns", "tables", "rules", "cause", "roles", "agreements"];

/// What nobody else gets.
const SECRET: [&str; 4] = ["salt", "token", "address", "matched"];

/// An entry as a reader is told it.
pub(super) fn told(found: Found, scope: &Scope) -> v1::LogEntry {
    let whole = whole(found);
    match scope {
        Scope::All => whole,
        Scope::Department(department) => v1::LogEntry { entry: shown(&whole.entry, department), whole: false, ..whole },
    }
}

/// Of what is no JSON object, nothing.
fn shown(entry: &[u8], department: &Name) -> Vec<u8> {
    let fields: Map<String, Value> = serde_json::from_slice(entry).unwrap_or_default();
    Value::Object(object(fields, department, false)).to_string().into_bytes()
}

fn object(fields: Map<String, Value>, department: &Name, own: bool) -> Map<String, Value> {
    // Whose it is says the innermost object that names somebody.
    let own = fields.get("department").and_then(Value::as_str).map_or(own, |named| named == department.as_str());
    let shown = |(name, value): (String, Value)| {
        let name_as_str = name.as_str();
        if SECRET.contains(&name_as_str) {
            return None;
        }
        let plain = PLAIN.contains(&name_as_str) || (KEPT.contains(&name_as_str) && value.is_number());
        let value = if plain { Some(value) } else { part(value, department, own) };
        value.map(|value| (name, value))
    };
    fields.into_iter().filter_map(shown).collect()
}

fn part(value: Value, department: &Name, own: bool) -> Option<Value> {
    match value {
        Value::Number(_) => own.then_some(value),
        Value::Array(values) => Some(values.into_iter().filter_map(|value| part(value, department, own)).collect()),
        Value::Object(fields) => Some(Value::Object(object(fields, department, own))),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn to_dfe(entry: &Value) -> Value {
        serde_json::from_slice(&shown(entry.to_string().as_bytes(), &Name::parse("dfe").unwrap())).unwrap()
    }

    #[test]
    fn a_department_sees_its_own_numbers_and_no_other_departments() {
        let source = |department: &str| {
            json!({
                "department": department, "dataset": "d", "order": "o", "rows": 41, "subjects": 40, "matched": 17, "consent_version": 7,
                "new": 3, "sizes": [1, 2], "deep": { "rows": 5 },
            })
        };
        let rules = json!([{ "rule": "minimum_subjects", "subjects": 10, "department": "dwp" }]);
        let entry = json!({
            "entry": 9, "event": "query.closed", "milliseconds": 12, "salt": "s", "token": "t", "address": "10.0.0.1", "person": "c",
            "counted": 99,
            "facts": { "sources": [source("dfe"), source("dwp")], "rules": rules, "answer_rows": 3, "withheld": { "cells": 4 } },
        });
        let shown = to_dfe(&entry);
        let own = json!({
            "department": "dfe", "dataset": "d", "order": "o", "rows": 41, "subjects": 40, "consent_version": 7, "new": 3, "sizes": [1, 2],
            "deep": { "rows": 5 },
        });
        let other = json!({ "department": "dwp", "dataset": "d", "order": "o", "consent_version": 7, "sizes": [], "deep": {} });
        let expected = json!({
            "entry": 9, "event": "query.closed", "milliseconds": 12, "person": "c",
            "facts": { "sources": [own, other], "rules": rules, "answer_rows": 3, "withheld": {} },
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_of_a_department_is_its_own_and_what_is_of_nobody_is_nobodys() {
        let refused = |department: &str| json!({ "event": "ledger.refused", "department": department, "seen_version": 5 });
        assert_eq!(to_dfe(&refused("dfe")), refused("dfe"));
        assert_eq!(to_dfe(&refused("dwp")), json!({ "event": "ledger.refused", "department": "dwp" }));
        assert_eq!(to_dfe(&json!({ "rows": 7, "minimum_subjects": { "rows": 7 } })), json!({ "minimum_subjects": {} }), "kept are numbers");
        assert_eq!(shown(b"no entry", &Name::parse("dfe").unwrap()), b"{}");
    }

    #[test]
    fn only_who_sees_everything_gets_the_bytes_that_the_tree_was_built_over() {
        let found = || Found { number: 3, entry: br#"{"salt":"s"}"#.to_vec(), facts: concordat_audit::facts::Facts::default() };
        let all = told(found(), &Scope::All);
        assert_eq!((all.number, all.entry.as_slice(), all.whole), (3, &br#"{"salt":"s"}"#[..], true));
        let own = told(found(), &Scope::Department(Name::parse("dfe").unwrap()));
        assert_eq!((own.entry.as_slice(), own.whole), (&b"{}"[..], false));
    }
}
