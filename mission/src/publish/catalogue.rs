//! What the data is, for programs: CSV on the Web (W3C, Model for Tabular Data and Metadata, 2015) and DCAT 3 (W3C, 2024).
//!
//! Addresses are relative to the file that names them, since nobody here knows where the site will be. Those of vocabularies are names:
//! nothing is loaded from there by a page.

use serde_json::{Value, json};

use super::record::{COLUMNS, text};
use super::{Publication, Published, register};
use crate::mission::{Mission, Outcome};
use crate::schedule::Every;

/// The metadata of an outcome's CSV.
pub(super) fn of_figures(mission: &Mission, outcome: &Outcome) -> String {
    let column = |name: &str| {
        let (datatype, required, says): (Value, bool, &str) = match name {
            "date" => (
                json!({ "base": "date", "format": "yyyy-MM-dd" }),
                true,
                "The day that the data is of; of a period that was missed or withdrawn, its first day",
            ),
            "breakdown" => (json!("string"), true, "By what the group was told apart; Headline for the outcome as a whole"),
            "group" => (json!("string"), true, "The group; Headline for the outcome as a whole"),
            "value" => (json!("number"), false, "The value as it was told; empty where none is told, which is not zero"),
            "unit" => (json!("string"), true, "What value, lower and upper are measured in"),
            "lower" => (json!("number"), false, "The unrounded value is not below it"),
            "upper" => (json!("number"), false, "The unrounded value is not above it"),
            "status" => (
                json!({ "base": "string", "format": "told|withheld|missing|missed|withdrawn" }),
                true,
                "Whether a value is told, and why not",
            ),
            "reason" => (json!("string"), false, "Why none is told, in words"),
            _ => (json!("integer"), false, "The number of the snapshot; its receipt is in the folder receipts"),
        };
        json!({ "name": name, "titles": name, "datatype": datatype, "required": required, "dc:description": says })
    };
    text(&json!({
        "@context": ["http://www.w3.org/ns/csvw", { "@language": "en-GB" }],
        "url": format!("{}.csv", outcome.id),
        "dc:title": format!("{}: {}", mission.title, outcome.title),
        "dc:description": outcome.description,
        "dialect": { "encoding": "utf-8", "lineTerminators": ["\r\n"], "header": true },
        "tableSchema": { "columns": COLUMNS.map(column) },
    }))
}

/// The metadata of the register's CSV.
pub(super) fn of_register() -> String {
    let column = |name: &str| {
        let (datatype, says): (Value, &str) = match name {
            "agreement" => (json!("string"), "The agreement's identifier"),
            "purpose" => (json!("string"), "For which purpose was asked"),
            "month" => (json!("gYearMonth"), "The month in which the answer was given (UTC)"),
            _ => (json!({ "base": "integer", "minimum": 1 }), "How many queries were answered; months without any have no line"),
        };
        json!({ "name": name, "titles": name, "datatype": datatype, "required": true, "dc:description": says })
    };
    text(&json!({
        "@context": ["http://www.w3.org/ns/csvw", { "@language": "en-GB" }],
        "url": "register.csv",
        "dc:title": "Use of agreements",
        "dialect": { "encoding": "utf-8", "lineTerminators": ["\r\n"], "header": true },
        "tableSchema": { "columns": register::COLUMNS.map(column) },
    }))
}

/// `catalog.jsonld`.
pub(super) fn catalogue(publication: &Publication<'_>) -> String {
    let datasets = publication
        .missions
        .iter()
        .flat_map(|published| published.mission.outcomes.iter().map(|outcome| dataset(publication, published, outcome)));
    text(&json!({
        "@context": {
            "dcat": "http://www.w3.org/ns/dcat#", "dct": "http://purl.org/dc/terms/", "foaf": "http://xmlns.com/foaf/0.1/",
            "xsd": "http://www.w3.org/2001/XMLSchema#",
        },
        "@id": "catalog.jsonld",
        "@type": "dcat:Catalog",
        "dct:title": { "@value": "Missions and outcomes", "@language": "en-GB" },
        "dct:provenance": { "@type": "dct:ProvenanceStatement", "dct:description": publication.receipts.says() },
        "dct:modified": date(publication.on),
        "dct:language": { "@id": "http://publications.europa.eu/resource/authority/language/ENG" },
        "foaf:homepage": { "@id": "index.html" },
        "dcat:dataset": datasets.collect::<Vec<_>>(),
    }))
}

fn dataset(publication: &Publication<'_>, published: &Published<'_>, outcome: &Outcome) -> Value {
    let (mission, english) = (published.mission, |text: &str| json!({ "@value": text, "@language": "en-GB" }));
    let folder = format!("missions/{}/{}", mission.id, outcome.id);
    let status = published.statuses.iter().find(|status| status.outcome == outcome.id);
    let days = || status.into_iter().flat_map(|status| &status.history).map(|measured| measured.as_of);
    let distribution = |suffix: &str, media: &str, title: &str| {
        let file = format!("{folder}/{}.{suffix}", outcome.id);
        let mut value = json!({
            "@id": format!("{file}#distribution"), "@type": "dcat:Distribution", "dct:title": english(title), "dcat:downloadURL": { "@id": file },
            "dcat:accessURL": { "@id": format!("{folder}/index.html") },
            "dcat:mediaType": { "@id": format!("https://www.iana.org/assignments/media-types/{media}") },
        });
        if let (true, Some(fields)) = (suffix == "csv", value.as_object_mut()) {
            fields.insert("dct:conformsTo".into(), json!({ "@id": "https://www.w3.org/TR/tabular-metadata/" }));
        }
        value
    };
    let (frequency, resolution) = match outcome.every {
        Every::Day => ("DAILY", "P1D"),
        Every::Week => ("WEEKLY", "P1W"),
        Every::Month => ("MONTHLY", "P1M"),
        Every::Quarter => ("QUARTERLY", "P3M"),
    };
    let mut value = json!({
        "@id": format!("{folder}/index.html#dataset"),
        "@type": "dcat:Dataset",
        "dct:identifier": format!("{}/{}", mission.id, outcome.id),
        "dct:title": english(&outcome.title),
        "dct:description": english(if outcome.description.is_empty() { &mission.goal } else { &outcome.description }),
        "dct:publisher": { "@type": "foaf:Organization", "foaf:name": mission.owner },
        "dct:accrualPeriodicity": { "@id": format!("http://publications.europa.eu/resource/authority/frequency/{frequency}") },
        "dcat:temporalResolution": { "@value": resolution, "@type": "xsd:duration" },
        "dct:modified": date(days().max().unwrap_or(publication.on)),
        "dcat:landingPage": { "@id": format!("{folder}/index.html") },
        "dcat:distribution": [
            distribution("csv", "text/csv", "Figures as CSV, described by CSVW metadata"),
            distribution("json", "application/json", "Figures and what they rest on as JSON"),
        ],
    });
    if let (Some(first), Some(last), Some(fields)) = (days().min(), days().max(), value.as_object_mut()) {
        let temporal = json!({ "@type": "dct:PeriodOfTime", "dcat:startDate": date(first), "dcat:endDate": date(last) });
        fields.insert("dct:temporal".into(), temporal);
    }
    value
}

fn date(on: chrono::NaiveDate) -> Value {
    json!({ "@value": on, "@type": "xsd:date" })
}
