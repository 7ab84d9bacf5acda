//! `concordat why`: from the gateway's log on disk, why a query was answered or refused. For security teams.

use std::path::PathBuf;

use clap::Args;
use concordat_policy::decision::denied_in_words;
use concordat_policy::{Cause, Code, Decision};
use concordat_proto::status::row;
use serde_json::{Value, json};

use super::Output;
use super::audit::persons::caller;
use super::audit::read::{Archives, moved, of_query};
use super::inert::{self, inert};
use crate::failure::{Failure, Result};
use crate::out::{self, thousands};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat why 0198c0de-7a51-7000-8000-000000000001 --log concordat-demo/gateway/log
  concordat why 0198c0de-7a51-7000-8000-000000000001 --log /var/lib/concordat-gateway/log --output json

Reads the log of the gateway, which may be running, and writes nothing. Says who asked, for which purpose, and the decision in the words
of `concordat explain`: agreements, uses of columns and rules, or the cause of a denial and whose rule it is. A statement stands in the
log as a keyed digest only, and so do the names that a caller wrote and could not use.")]
pub(crate) struct Why {
    /// What an answer, a refusal or an explanation gave as its query id
    #[arg(value_name = "QUERY_ID")]
    query_id: String,
    /// The folder of the gateway's log
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    #[command(flatten)]
    archives: Archives,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(crate) fn run(why: &Why) -> Result<()> {
    let entries = of_query(&why.log, &why.archives, &why.query_id)?;
    let moved = moved(&why.log, &why.archives)?;
    if entries.is_empty() {
        let advice = match moved {
            0 => "name the folder of the gateway's log, not of a node's; the query id stands in answers, refusals and explanations"
                .to_owned(),
            moved => elsewhere(moved),
        };
        return Err(
            Failure::new(format!("the log in {} has no entry of the query '{}'", why.log.display(), inert(&why.query_id))).advice(advice)
        );
    }
    let lines = told(&entries, moved);
    match why.output {
        Output::Table => out::result(&shown(&lines)),
        Output::Json => {
            let value = json!({ "query_id": why.query_id, "words": lines, "entries": entries });
            out::result(&(inert::json(&value) + "\n"))
        }
    }
}

/// Lines, of which nothing acts on a terminal.
fn shown(lines: &[String]) -> String {
    lines.iter().map(|line| inert(line) + "\n").collect()
}

/// Where the entries of a query may be.
fn elsewhere(moved: u64) -> String {
    format!(
        "entries 1 to {} are not in the log's folder: if they were moved to an archive, of which the log tells (log.archived), \
         --archive FOLDER reads those of this query there",
        thousands(moved)
    )
}

/// What a query's entries say, in lines; the first `moved` of the log are not read.
fn told(entries: &[Value], moved: u64) -> Vec<String> {
    let event = |name: &str| entries.iter().find(|entry| entry.get("event").and_then(Value::as_str) == Some(name));
    let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    let mut purpose = String::new();
    let opened = event("query.opened");
    let elsewhere = (opened.is_none() && moved > 0).then(|| elsewhere(moved));
    let is_elsewhere = elsewhere.is_some();
    lines.extend(elsewhere);
    if let Some(opened) = opened {
        purpose = text(opened, "purpose");
        lines.push(format!(
            "asked at {} by {} of {} (issuer {}), to {}",
            text(opened, "time"),
            caller(opened),
            text(opened, "organisation"),
            text(opened, "issuer"),
            text(opened, "intent"),
        ));
    }
    let ended = ["query.closed", "query.explained", "query.refused"].into_iter().find_map(event);
    match ended {
        Some(ended) if ended.get("code").is_some() => lines.extend(refused(ended, &purpose)),
        Some(ended) => {
            let facts = ended.get("facts").filter(|facts| facts.get("tables").is_some());
            match facts.and_then(|facts| Some((facts, serde_json::from_value::<Decision>(facts.clone()).ok()?))) {
                Some((facts, decision)) => lines.extend(decision.in_words(&purpose, &text(facts, "mission"))),
                None => lines.push(format!("permitted for the purpose '{purpose}': nothing of the data was answered")),
            }
        }
        None if is_elsewhere => {}
        None => lines.push("it has not ended yet, or the gateway was stopped before it did".into()),
    }
    lines
}

/// Why a query was refused: its cause, or what its code means where it rests on what the log does not keep.
fn refused(ended: &Value, purpose: &str) -> Vec<String> {
    let code = ended.get("code").and_then(Value::as_str).unwrap_or_default();
    let department = ended.get("department").and_then(Value::as_str);
    if let Some(cause) = ended.get("cause").cloned().and_then(|cause| serde_json::from_value::<Cause>(cause).ok()) {
        let owner = cause.owner().or_else(|| department.map(str::to_owned));
        return denied_in_words(purpose, &cause.to_string(), owner.as_deref());
    }
    let meaning = Code::parse(code).map_or("a code that this program does not know", |code| row(code).meaning);
    let department = department.map(|department| format!("department: {department}"));
    std::iter::once(format!("not answered for the purpose '{purpose}': {code}, {meaning}")).chain(department).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Value {
        json!({ "event": "query.opened", "purpose": "p", "caller": "a", "organisation": "unit", "issuer": "i", "intent": "answer", "time": "t" })
    }

    #[test]
    fn an_answer_a_denial_and_a_fault_are_told() {
        let facts = json!({
            "mission": "m",
            "columns": ["dfe.attainment.region: group_by"],
            "tables": [{ "dataset": "dfe.attainment", "agreement": "one", "basis": "consent" }],
            "rules": [{ "rule": "minimum_subjects", "subjects": 10, "agreements": ["one"], "departments": ["dfe"] }],
            "sources": [],
        });
        let words = told(&[opened(), json!({ "event": "query.closed", "facts": facts })], 0);
        assert_eq!(words[0], "asked at t by a of unit (issuer i), to answer");
        assert_eq!(words[1], "permitted for the purpose 'p' in the mission 'm'");
        assert!(words[2].contains("'one'") && words[3] == "  region: group_by" && words[4].contains("fewer than 10"), "{words:?}");
        let cause = json!({
            "kind": "use", "dataset": { "department": "dfe", "dataset": "attainment" }, "column": "score", "use": "output", "agreement": "one",
        });
        let words = told(&[opened(), json!({ "event": "query.refused", "code": "denied", "department": "dfe", "cause": cause })], 0);
        let says = "denied for the purpose 'p': dfe.attainment.score may not be used for output: agreement 'one' does not permit it";
        assert_eq!(words[1..], [says, "whose rule: dfe"]);
        let hidden = json!({ "event": "query.explained", "decision": "deny", "code": "denied", "cause": { "kind": "hidden" } });
        assert!(told(&[opened(), hidden], 0)[1].ends_with("or does not exist"));
        let words = told(&[opened(), json!({ "event": "query.refused", "code": "node_timeout", "department": "dwp" })], 0);
        assert!(words[1].contains("node_timeout, ") && words[2].ends_with("dwp"), "{words:?}");
        assert!(told(&[opened(), json!({ "event": "query.closed", "facts": null })], 0)[1].ends_with("was answered"));
        assert!(told(&[opened()], 0)[1].starts_with("it has not ended"));
    }

    #[test]
    fn what_an_entry_says_does_not_act_where_it_is_shown() {
        for payload in inert::PAYLOADS {
            let opened = Value::Object(
                opened()
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(name, value)| match name.as_str() {
                        "organisation" | "issuer" | "time" | "purpose" => (name.clone(), payload.into()),
                        _ => (name.clone(), value.clone()),
                    })
                    .collect(),
            );
            let refused = json!({ "event": "query.refused", "code": payload, "department": payload });
            let text = shown(&told(&[opened, refused], 0));
            assert_eq!(text.lines().count(), 3, "{text:?}");
            assert_eq!(text.lines().map(inert).collect::<Vec<_>>(), text.lines().collect::<Vec<_>>(), "{text:?}");
        }
    }

    #[test]
    fn a_query_whose_entries_were_moved_to_an_archive_is_not_said_to_run() {
        let collected = json!({ "event": "answer.collected" });
        let words = told(std::slice::from_ref(&collected), 1_280);
        assert!(words.len() == 1 && words[0].contains("entries 1 to 1,280") && words[0].contains("--archive"), "{words:?}");
        assert!(told(&[collected], 0)[0].starts_with("it has not ended"));
        assert!(told(&[opened()], 1_280)[1].starts_with("it has not ended"), "its own entries are there");
        let words = told(&[json!({ "event": "query.refused", "code": "node_timeout" })], 256);
        assert!(words[0].contains("--archive") && words[1].contains("node_timeout, "), "{words:?}");
    }
}
