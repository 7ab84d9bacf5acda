//! What snapshots say of their answers, held to what the gateway's log has of these.
//!
//! The log's entry has the view, the purpose, who was asked under which texts, and what departments delivered; a store that was edited,
//! its chain made anew, contradicts it. Not in the log are the view's text, the outcome and the period that an answer is kept for, and the
//! stated path: these stay the word of who keeps the store.

use std::collections::BTreeMap;
use std::fmt::Debug;

use concordat_mission::interval::{Noise, Precision};
use concordat_mission::snapshot::{Consent, Source};
use concordat_mission::{Snapshot, Taken};
use concordat_policy::Disclosure;
use concordat_policy::decision::{Rule, Table, stated as rules_stated};
use concordat_policy::denominator::{Grain, OF_LINK_DATASET};
use serde::Deserialize;
use serde_json::Value;

use crate::client::promise;
use crate::failure::{Failure, Result};

/// Answers of a log that was verified, by the query's id: the entry's number, from 1, and the entry, with who asked and for what.
pub(crate) type Answers = BTreeMap<String, (u64, Value)>;

/// That each snapshot says what the log does, of whose entries so many are signed.
///
/// # Errors
/// The first that does not, and of what.
pub(super) fn held(snapshots: &[Snapshot], answers: &Answers, signed: u64) -> Result<()> {
    for snapshot in snapshots {
        let refused = |what: String| {
            Failure::new(format!("nothing is published: snapshot {}: {what}", snapshot.number)).advice(
                "rely on none of it, and show both to whoever reviews the gateway's log; of entries that were moved, name the --archive",
            )
        };
        let Some((number, entry)) = answers.get(&snapshot.taken.stated.query_id) else {
            let entry = snapshot.taken.stated.log_entry;
            if entry > signed {
                return Err(Failure::new(format!(
                    "nothing is published: snapshot {}: its entry {entry} of the log is not signed yet, {signed} are",
                    snapshot.number
                ))
                .advice("ask again in a minute, or of a newer copy of the log"));
            }
            return Err(refused("the log, as far as it is signed and was read, has no answer to its query".into()));
        };
        contradiction(&snapshot.taken, *number, entry).map_err(|what| refused(format!("{what} (entry {number} of the log)")))?;
    }
    Ok(())
}

/// What an entry has of an answer.
#[derive(Debug, Deserialize)]
struct Entry {
    views: Vec<String>,
    purpose: String,
    organisation: String,
    #[serde(default)]
    guard_rails_digest: Option<String>,
    facts: Facts,
}

#[derive(Debug, Deserialize)]
struct Facts {
    mission: String,
    sources: Vec<Logged>,
    consent: Vec<Consent>,
    tables: Vec<Table>,
    rules: Vec<Rule>,
    minimum_subjects: u32,
    withheld: u64,
    answer_rows: usize,
    answer_digest: String,
}

#[derive(Debug, Deserialize)]
struct Logged {
    department: String,
    dataset: String,
    agreement_digest: String,
    subjects: u64,
    #[serde(default)]
    matched: Option<u64>,
    consent_version: u64,
    consent_generation: u32,
    freshness: i64,
}

impl Logged {
    fn name(&self) -> String {
        format!("{}.{}", self.department, self.dataset)
    }
}

/// The first thing that both say, and not alike.
fn contradiction(taken: &Taken, number: u64, entry: &Value) -> std::result::Result<(), String> {
    let stated = &taken.stated;
    let Entry { views, purpose, organisation, guard_rails_digest, facts } =
        Entry::deserialize(entry).map_err(|e| format!("the log does not say of its answer what is compared: {e}"))?;
    same("the entry's number", &stated.log_entry, &number)?;
    same("the mission", taken.mission.as_str(), facts.mission.as_str())?;
    same("the view", std::slice::from_ref(&taken.view), views.as_slice())?;
    same("the purpose", &stated.purpose, &purpose)?;
    same("the organisation that asked", &taken.asked_by.organisation, &organisation)?;
    same("the digest of the guard rails", &stated.guard_rails_digest, &guard_rails_digest)?;
    same("the agreements, by their digests", &stated.agreement_digests, &texts(&facts))?;
    same("the fewest subjects", &stated.minimum_subjects, &facts.minimum_subjects)?;
    same("how closely numbers are told (round_to, noise)", &stated.precision, &precision(&facts.rules))?;
    let rules = rules_stated(&facts.rules, &facts.tables, facts.minimum_subjects);
    same("the rules that were at work", &stated.rules, &rules)?;
    same("the number of rows", &taken.rows.len(), &facts.answer_rows)?;
    let withheld: u64 = stated.withheld.iter().filter_map(|one| one.get("cells")?.as_u64()).sum();
    same("how many cells are withheld", &withheld, &facts.withheld)?;
    let summary = serde_json::json!({ "query_id": stated.query_id, "log_entry": stated.log_entry, "promise": stated.promise });
    let promised = promise(&summary).map_err(|failure| failure.message)?.answer.map(|answer| answer.digest_text());
    same("the answer's digest", &promised, &Some(facts.answer_digest))?;
    same("the versions of consent ledgers", &stated.consent, &facts.consent)?;
    let names = stated.sources.iter().map(Source::name).collect::<Vec<_>>();
    same("the sources", &names, &facts.sources.iter().map(Logged::name).collect::<Vec<_>>())?;
    let disclosure = Disclosure { round_to: stated.precision.round_to, ..Disclosure::default() };
    // Under noise no such number is told.
    let grain = Grain::of(stated.minimum_subjects, &disclosure).filter(|_| stated.precision.noise.is_none());
    // Behind a link dataset others stand whom the log does not count: of few of them a number is not told.
    let linked =
        stated.sources.iter().any(|source| source.counts.as_ref().is_some_and(|counts| counts.to_string().contains(OF_LINK_DATASET)));
    stated.sources.iter().zip(&facts.sources).try_for_each(|(source, logged)| of_source(source, logged, grain, linked))
}

fn of_source(source: &Source, logged: &Logged, grain: Option<Grain>, linked: bool) -> std::result::Result<(), String> {
    let of = |what: &str| format!("{what} of {}", logged.name());
    same(&of("the freshness"), &source.freshness.timestamp(), &logged.freshness)?;
    same(
        &of("the version of the consent ledger"),
        &(source.consent_generation, source.consent_version),
        &(logged.consent_generation, logged.consent_version),
    )?;
    let counts = source.counts.as_ref().and_then(|counts| counts.get("subjects"));
    if counts.is_none() && source.counts.as_ref().and_then(|counts| counts.get("not_told")?.as_str()).is_none() {
        return Err(format!("it says neither {} nor why not", of("who stands behind the rows")));
    }
    let told = |name: &str| counts.and_then(|counts| counts.get(name)?.as_u64());
    let unit = told("rounded_to").and_then(|unit| u32::try_from(unit).ok());
    let grain = grain.zip(unit).map(|(grain, unit)| grain.at_least(unit)).filter(|grain| Some(grain.unit()) == unit);
    for (name, exact) in [("delivered", Some(logged.subjects)), ("matched", logged.matched)] {
        let Some(told) = told(name) else {
            let there = counts.is_none_or(|counts| counts.get(name).is_some() || exact.is_none());
            let few = || linked || grain.zip(exact).and_then(|(grain, exact)| grain.told(exact, exact)).is_none();
            if there && (counts.is_none() || few()) {
                continue;
            }
            return Err(format!("{} is not told, and the log has a number that would be", of(&format!("'{name}'"))));
        };
        // The log alone has the exact number: it must be told as this one, by the one rule of how such numbers are.
        if grain.zip(exact).and_then(|(grain, exact)| grain.told(exact, exact)) != Some(told) {
            let unit = unit.map_or_else(|| "no unit".to_owned(), |unit| unit.to_string());
            return Err(format!("{} is told as {told}, to the nearest {unit}, and the log has another number", of(&format!("'{name}'"))));
        }
    }
    considered(counts).map_err(|what| format!("{what} {}", of("'considered'")))
}

/// That the whole is the sum of its parts. These are their department's numbers, which the log does not have.
fn considered(counts: Option<&Value>) -> std::result::Result<(), String> {
    let told = |name: &str| counts.and_then(|counts| counts.get(name));
    match told("considered") {
        None if told("invalid_identifiers").or(told("withheld")).is_some() => Err("its parts are told, and not".into()),
        None => Ok(()),
        Some(whole) => {
            let parts = ["delivered", "invalid_identifiers", "withheld"].into_iter().filter_map(|name| told(name)?.as_u64());
            let sum = parts.reduce(u64::saturating_add).filter(|_| told("considered_not_told").is_none());
            if whole.as_u64() == sum { Ok(()) } else { Err(format!("its parts come to {sum:?}, and not to")) }
        }
    }
}

fn same<T: PartialEq + Debug + ?Sized>(what: &str, here: &T, logged: &T) -> std::result::Result<(), String> {
    if here == logged { Ok(()) } else { Err(format!("{what}: {here:?}, and the log has {logged:?}")) }
}

/// Each agreement with the digest of its text, by which datasets were read.
fn texts(facts: &Facts) -> BTreeMap<String, String> {
    let agreement =
        |source: &Logged| facts.tables.iter().find(|table| table.dataset == source.name()).map(|table| table.agreement.to_string());
    facts.sources.iter().filter_map(|source| Some((agreement(source)?, source.agreement_digest.clone()))).collect()
}

/// As the gateway states it of these rules.
fn precision(rules: &[Rule]) -> Precision {
    let round_to = rules.iter().find_map(|rule| if let Rule::Rounded { to, .. } = rule { Some(*to) } else { None });
    let noise = rules.iter().find_map(|rule| match rule {
        Rule::Perturbed { variance, most, .. } => Some(Noise { variance: *variance, most: *most }),
        _ => None,
    });
    Precision { round_to: round_to.unwrap_or(1), noise }
}

#[cfg(test)]
mod tests {
    use concordat_policy::decision::Whose;
    use serde_json::json;

    use super::*;

    fn taken() -> Taken {
        let digest = "A".repeat(43) + "=";
        let source = |dataset: &str| {
            json!({
                "department": "a", "dataset": dataset, "freshness": 1_775_000_000, "consent_version": 3, "consent_generation": 0,
                "counts": { "subjects": {
                    "rounded_to": 10, "delivered": 4_310, "matched": 2_980, "withheld": 240, "invalid_identifiers": null, "considered": 4_550,
                } },
            })
        };
        let taken = json!({
            "mission": "m", "outcome": "fewer", "period": null, "taken_at": "2026-04-02T12:00:00Z",
            "asked_by": { "issuer": "i", "subject": "mission-m", "organisation": "unit" }, "definition": "d", "view": "v",
            "aim": {
                "every": "month", "from": "2026-04-01", "ends": "2029-03-31", "standing": [], "direction": "down",
                "baseline": { "value": 0.5, "on": "2026-04-01" }, "target": { "value": 0.4, "on": "2028-12-26" },
            },
            "stated": {
                "query_id": "q", "purpose": "m.measure", "log_entry": 7, "agreement_digests": { "agreed": "d1", "areas": "d2" },
                "guard_rails_digest": "g", "precision": { "round_to": 5, "noise": null }, "minimum_subjects": 10, "rules": [Rule::Rounded { to: 5, whose: Whose::default() }.says()],
                "withheld": [{ "column": "share", "cells": 2, "reason": "few" }, { "column": "persons", "cells": 1, "reason": "few" }],
                "consent": [{ "department": "a", "consent_version": 3 }], "sources": [source("people"), source("homes")],
                "promise": {
                    "version": "concordat.promise/v2", "origin": "concordat/gateway", "index": 6, "leaf_hash": digest,
                    "answer": { "query_id": "q", "rows": 1, "salt": digest, "digest": digest },
                    "time": "2026-04-02T12:00:00.000Z", "signature": "A".repeat(86) + "==",
                },
            },
            "columns": [{ "name": "share", "protected": true }], "rows": [[{ "value": 0.5, "status": "rounded" }]],
            "supersedes": null, "because": null,
        });
        serde_json::from_value(taken).unwrap()
    }

    fn logged() -> Value {
        let source = |dataset: &str, digest: &str| {
            json!({
                "department": "a", "dataset": dataset, "order": "o", "agreement_digest": digest, "rows": 5_000, "subjects": 4_312,
                "matched": 2_978, "consent_version": 3, "consent_generation": 0, "freshness": 1_775_000_000,
            })
        };
        let whose = json!({ "agreements": ["agreed"], "departments": ["a"] });
        let table = |dataset: &str, agreement: &str| json!({ "dataset": dataset, "agreement": agreement, "basis": "consent" });
        json!({
            "event": "query.closed", "query_id": "q", "views": ["v"], "purpose": "m.measure", "organisation": "unit",
            "guard_rails_digest": "g",
            "facts": {
                "mission": "m", "agreements": ["agreed", "areas"], "sources": [source("people", "d1"), source("homes", "d2")],
                "consent": [{ "department": "a", "consent_version": 3 }], "columns": [],
                "tables": [table("a.homes", "areas"), table("a.people", "agreed")],
                "rules": [{ "rule": "rounded", "to": 5, "agreements": whose["agreements"], "departments": whose["departments"] }],
                "minimum_subjects": 10, "withheld": 3, "answer_rows": 1, "answer_digest": "A".repeat(43) + "=",
            },
        })
    }

    #[test]
    fn what_says_what_the_log_does_is_held_to_it() {
        assert_eq!(contradiction(&taken(), 7, &logged()), Ok(()));
    }

    type Edit<'a> = &'a dyn Fn(&mut Taken);

    #[test]
    fn each_thing_that_was_edited_is_named() {
        let count = |t: &mut Taken, name: &str, value: Value| t.stated.sources[0].counts.as_mut().unwrap()["subjects"][name] = value;
        let edits: [(&str, Edit<'_>); 27] = [
            ("the entry's number", &|t| t.stated.log_entry = 8),
            ("the mission", &|t| t.mission = concordat_policy::Name::parse("other").unwrap()),
            // Another view's answer, said to be this outcome's.
            ("the view", &|t| t.view = "w".into()),
            ("the purpose", &|t| t.stated.purpose = "m.other".into()),
            ("the organisation", &|t| t.asked_by.organisation = "another".into()),
            ("guard rails", &|t| t.stated.guard_rails_digest = None),
            ("the agreements", &|t| drop(t.stated.agreement_digests.insert("agreed".into(), "d3".into()))),
            ("the agreements", &|t| drop(t.stated.agreement_digests.remove("areas"))),
            ("the fewest subjects", &|t| t.stated.minimum_subjects = 3),
            ("round_to", &|t| t.stated.precision.round_to = 1),
            ("the number of rows", &|t| t.rows.push(t.rows[0].clone())),
            ("cells are withheld", &|t| t.stated.withheld.clear()),
            ("consent ledgers", &|t| t.stated.consent[0].consent_version = 9),
            ("the sources", &|t| drop(t.stated.sources.pop())),
            ("the freshness of a.homes", &|t| t.stated.sources[1].freshness += chrono::TimeDelta::days(30)),
            ("the consent ledger of a.people", &|t| t.stated.sources[0].consent_version = 4),
            ("'matched' of a.people", &|t| t.stated.sources[0].counts.as_mut().unwrap()["subjects"]["matched"] = json!(3_980)),
            ("the rules that were at work", &|t| t.stated.rules.push("nothing is withheld".into())),
            ("the rules that were at work", &|t| t.stated.rules.clear()),
            ("'considered' of a.people", &|t| count(t, "considered", json!(9_550))),
            ("'considered' of a.people", &|t| count(t, "withheld", json!(0))),
            ("'considered' of a.people", &|t| count(t, "invalid_identifiers", json!(100))),
            ("'matched' of a.people is not told", &|t| count(t, "matched", Value::Null)),
            ("'delivered' of a.people is not told", &|t| {
                drop(t.stated.sources[0].counts.as_mut().unwrap()["subjects"].as_object_mut().unwrap().remove("delivered"));
            }),
            ("who stands behind the rows of a.people", &|t| t.stated.sources[0].counts = None),
            // A unit in which almost anything would be near.
            ("'delivered' of a.people", &|t| {
                let counts = t.stated.sources[0].counts.as_mut().unwrap();
                (counts["subjects"]["rounded_to"], counts["subjects"]["delivered"]) = (json!(10_000), json!(10_000));
            }),
            ("'delivered' of a.people", &|t| drop(t.stated.sources[0].counts.as_mut().unwrap()["subjects"]["rounded_to"].take())),
        ];
        for (says, edit) in edits {
            let mut edited = taken();
            edit(&mut edited);
            let found = contradiction(&edited, 7, &logged()).unwrap_err();
            assert!(found.contains(says), "{says}: {found}");
        }
        // Another answer's rows, with its own promise under this query's id.
        let mut other = logged();
        other["facts"]["answer_digest"] = json!("B".repeat(43) + "=");
        assert!(contradiction(&taken(), 7, &other).unwrap_err().contains("the answer's digest"));
        other["facts"].as_object_mut().unwrap().remove("rules");
        assert!(contradiction(&taken(), 7, &other).unwrap_err().contains("does not say"), "what is not there is not alike");
    }

    #[test]
    fn an_answer_that_the_log_does_not_have_is_refused() {
        let snapshot = Snapshot { number: 3, taken: taken(), previous: String::new(), digest: String::new() };
        let mut answers = Answers::new();
        let refused = held(std::slice::from_ref(&snapshot), &answers, 7).unwrap_err().message;
        assert!(refused.contains("snapshot 3") && refused.contains("no answer to its query"), "{refused}");
        let early = held(std::slice::from_ref(&snapshot), &answers, 6).unwrap_err();
        assert!(early.message.contains("its entry 7 of the log is not signed yet") && !early.advice.unwrap().contains("rely on none"));
        answers.insert("q".into(), (7, logged()));
        assert!(held(std::slice::from_ref(&snapshot), &answers, 7).is_ok());
        let edited = Snapshot { taken: Taken { view: "w".into(), ..taken() }, ..snapshot };
        let refused = held(&[edited], &answers, 7).unwrap_err().message;
        assert!(refused.contains("snapshot 3: the view") && refused.contains("entry 7"), "{refused}");
    }
}
