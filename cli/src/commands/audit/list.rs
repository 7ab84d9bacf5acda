//! Which entries are asked for, and how they are printed.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};

use super::inert;
use super::persons::{Commitment, caller};
use super::read::{datasets, text};
use super::reconcile::Period;
use crate::out;
use crate::table::Table;

/// How entries are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Aligned text for people
    Table,
    /// One JSON object a line, with every field
    Json,
    /// RFC 4180; what a spreadsheet could take for a formula begins with an apostrophe
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ruling {
    /// Answered, explained as permitted, or released
    Permit,
    /// Refused, for whatever reason
    Deny,
}

/// What is asked for: all that is named must hold.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Not before this time, such as 2027-04-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// The caller's organisation
    #[arg(long)]
    organisation: Option<String>,
    /// The caller's commitment, or its first 12 characters or more: `audit person` tells it
    #[arg(long, value_name = "COMMITMENT")]
    person: Option<Commitment>,
    /// A department whose data or rule it is about
    #[arg(long)]
    department: Option<String>,
    /// A dataset: department.dataset at the gateway, its own name at a node
    #[arg(long)]
    dataset: Option<String>,
    /// The stated purpose
    #[arg(long)]
    purpose: Option<String>,
    /// What was decided
    #[arg(long, value_enum)]
    decision: Option<Ruling>,
    /// The kind of entry, such as query.refused
    #[arg(long)]
    event: Option<String>,
    /// Of one query
    #[arg(long, value_name = "QUERY_ID")]
    query_id: Option<String>,
}

/// Who asked for what, of queries that are open: what ends them does not repeat it.
#[derive(Debug, Default)]
pub(super) struct Asked(HashMap<String, Value>);

impl Asked {
    /// The entry with the caller, organisation and purpose of the one that opened its query.
    pub(super) fn complete(&mut self, mut entry: Value) -> Value {
        let Some(query_id) = text(&entry, "query_id").map(str::to_owned) else { return entry };
        match text(&entry, "event") {
            Some("query.opened") => {
                self.0.insert(
                    query_id,
                    json!({
                        "person": entry.get("person"), "caller": entry.get("caller"),
                        "organisation": entry.get("organisation"), "purpose": entry.get("purpose"),
                    }),
                );
            }
            Some("query.closed" | "query.refused" | "query.explained") => {
                if let (Some(Value::Object(asked)), Some(fields)) = (self.0.remove(&query_id), entry.as_object_mut()) {
                    asked.into_iter().filter(|(_, value)| !value.is_null()).for_each(|(name, value)| {
                        fields.entry(name).or_insert(value);
                    });
                }
            }
            _ => {}
        }
        entry
    }
}

impl Filter {
    /// Whether the entry is asked for.
    pub(super) fn takes(&self, entry: &Value) -> bool {
        let is = |wanted: &Option<String>, field: &str| wanted.as_deref().is_none_or(|wanted| text(entry, field) == Some(wanted));
        let datasets = datasets(entry);
        let of = |department: &str| datasets.iter().any(|name| name.split_once('.').is_some_and(|(owner, _)| owner == department));
        Period { from: self.from, to: self.to }.holds(entry)
            && is(&self.organisation, "organisation")
            && self.person.as_ref().is_none_or(|wanted| wanted.is_of(entry))
            && is(&self.purpose, "purpose")
            && is(&self.event, "event")
            && is(&self.query_id, "query_id")
            && self.department.as_deref().is_none_or(|wanted| text(entry, "department") == Some(wanted) || of(wanted))
            && self.dataset.as_ref().is_none_or(|wanted| datasets.contains(wanted))
            && self.decision.is_none_or(|wanted| ruling(entry) == Some(wanted))
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

const TITLES: [&str; 9] = ["entry", "time", "event", "query_id", "organisation", "caller", "purpose", "datasets", "outcome"];

fn cells(entry: &Value) -> Vec<String> {
    let field = |name: &str| entry.get(name).map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let outcome = text(entry, "code").or(match ruling(entry) {
        Some(Ruling::Permit) => Some("permit"),
        Some(Ruling::Deny) => Some("deny"),
        None => None,
    });
    let named = TITLES.iter().take(7).map(|name| if *name == "caller" { caller(entry) } else { field(name) });
    named.chain([datasets(entry).into_iter().collect::<Vec<_>>().join(" "), outcome.unwrap_or_default().to_owned()]).collect()
}

/// The entries as text; CSV with its header line where `head` is set.
pub(super) fn printed(form: Form, head: bool, entries: &[Value]) -> String {
    match form {
        Form::Json => entries.iter().map(|entry| inert::json(entry) + "\n").collect(),
        _ => rows(form, head, &TITLES, entries.iter().map(cells).collect()),
    }
}

/// Rows of texts, inert.
pub(super) fn rows(form: Form, head: bool, titles: &[&str], rows: Vec<Vec<String>>) -> String {
    if form == Form::Csv {
        let line = |cells: Vec<String>| cells.join(",") + "\r\n";
        let titles = head.then(|| line(titles.iter().map(|title| (*title).to_owned()).collect()));
        let rows = rows.into_iter().map(|row| line(row.iter().map(|text| inert::cell(text)).collect()));
        return titles.into_iter().chain(rows).collect();
    }
    let rows = rows.into_iter().map(|row| row.iter().map(|text| inert::inert(text)).collect()).collect();
    Table::of(titles, rows).text(out::colour())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_takes_and_leaves() {
        let entry = json!({
            "entry": 1, "time": "2027-01-01T00:00:00Z", "event": "query.closed", "query_id": "q", "organisation": "unit", "purpose": "p",
            "person": "5f0c1b8a9d3e5f0c",
            "facts": { "sources": [{ "department": "dfe", "dataset": "attainment" }] },
        });
        let some = |text: &str| Some(text.to_owned());
        let filter = |field: &str, wrong: bool| {
            let value = |right: &str| some(if wrong { "other" } else { right });
            let mut filter = Filter::default();
            match field {
                "organisation" => filter.organisation = value("unit"),
                "person" => filter.person = Some(if wrong { "0123456789ab" } else { "5f0c1b8a9d3e" }.parse().unwrap()),
                "department" => filter.department = value("dfe"),
                "dataset" => filter.dataset = value("dfe.attainment"),
                "purpose" => filter.purpose = value("p"),
                "event" => filter.event = value("query.closed"),
                "query_id" => filter.query_id = value("q"),
                "decision" => filter.decision = Some(if wrong { Ruling::Deny } else { Ruling::Permit }),
                _ => filter.to = Some(if wrong { DateTime::UNIX_EPOCH } else { DateTime::<Utc>::MAX_UTC }),
            }
            filter
        };
        for field in ["organisation", "person", "department", "dataset", "purpose", "event", "query_id", "decision", "to"] {
            assert!(filter(field, false).takes(&entry) && !filter(field, true).takes(&entry), "{field}");
        }
    }

    #[test]
    fn a_payload_in_any_field_stays_inert_in_every_form() {
        for payload in inert::PAYLOADS {
            for field in TITLES.into_iter().chain(["code", "dataset", "person"]) {
                let entry = json!({ field: payload });
                for form in [Form::Table, Form::Json, Form::Csv] {
                    let printed = printed(form, true, std::slice::from_ref(&entry));
                    assert!(!printed.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{200b}', '\t', '\u{7}']), "{form:?} {printed:?}");
                    assert!(printed.lines().count() <= 3, "{form:?} {printed:?}");
                    let formula = printed.contains("\n=") || printed.contains(",=") || printed.contains(",@");
                    assert!(form != Form::Csv || !formula, "{printed:?}");
                }
            }
        }
    }
}
