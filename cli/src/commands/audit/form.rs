//! How entries are printed.

use concordat_audit::facts::{Facts, datasets};
use concordat_audit::filter;
use serde_json::Value;

use super::inert;
use super::persons::caller;
use super::read::text;
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

const TITLES: [&str; 9] = ["entry", "time", "event", "query_id", "organisation", "caller", "purpose", "datasets", "outcome"];

fn cells(entry: &Value) -> Vec<String> {
    let field = |name: &str| entry.get(name).map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let outcome = text(entry, "code").or(Facts::of(entry).decision.map(filter::Ruling::as_str));
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
        let titles = head.then(|| inert::line(&titles.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>()));
        let rows = rows.into_iter().map(|row| inert::line(&row.iter().map(|text| inert::cell(text)).collect::<Vec<_>>()));
        return titles.into_iter().chain(rows).collect();
    }
    let rows = rows.into_iter().map(|row| row.iter().map(|text| inert::inert(text)).collect()).collect();
    Table::of(titles, rows).text(out::colour())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
