//! `concordat query --preview` tells how much of an answer is withheld, no value of it, and which coarser grouping keeps more.

use std::collections::BTreeMap;

use concordat::failure::USAGE;
use concordat_policy::Disclosure;
use serde_json::{Value, json};

use crate::commands::run;
use crate::sandbox::{Sandbox, disclosing};

const SQL: &str = "SELECT region, disadvantage_band, count(DISTINCT subject) AS persons, sum(attainment8) AS total FROM dfe.attainment \
                   WHERE region <> $but GROUP BY region, disadvantage_band ORDER BY 1, 2";

/// The value columns' cells, told and withheld, as the answer's own mask says.
fn mask(rows: &[Value]) -> BTreeMap<&'static str, (u64, u64)> {
    let of = |column: &'static str| {
        let withheld = rows.iter().filter_map(|row| row["withheld"].as_str()?.split_once(": "));
        let withheld = withheld.filter(|(columns, _)| columns.split(", ").any(|name| name == column)).count() as u64;
        (column, (rows.len() as u64 - withheld, withheld))
    };
    BTreeMap::from(["persons", "total"].map(of))
}

fn rows(answer: &Value) -> Vec<Value> {
    answer["rows"].as_array().unwrap().clone()
}

/// The numbers and words in a text, numbers without their thousands' commas.
fn tokens(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !(c.is_alphanumeric() || c == '.' || c == ','));
    parts.map(|part| part.replace(',', "")).filter(|part| !part.is_empty()).collect()
}

/// Asserts that no value of the answer stands in a preview: no key, and no number larger than the counts of cells that it may hold.
fn tells_no_value(preview: &str, answer: &[Value]) {
    let (tokens, cells) = (tokens(preview), answer.len() as f64 * 4.0);
    let mut compared = 0;
    for (name, value) in answer.iter().flat_map(|row| row.as_object().unwrap()).filter(|(name, _)| *name != "withheld") {
        // A code of one digit stands in counts too.
        if let Some(text) = value.as_str().filter(|text| text.len() > 1) {
            assert!(!preview.contains(text), "{name} {text}: {preview}");
        }
        if let Some(number) = value.as_f64().filter(|number| *number > cells) {
            assert!(!tokens.iter().any(|token| token.parse() == Ok(number)), "{name} {number}: {preview}");
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared}");
}

#[tokio::test]
async fn a_preview_counts_what_is_withheld_and_finds_the_coarser_grouping_that_keeps_more() {
    let sandbox = Sandbox::with(3_000, disclosing(Disclosure::default()), |_| {}).await;
    let ask = |more: &[&str]| run(&sandbox, &[&["query", "--sql", SQL, "--param", "but=London"], more].concat());
    let opened = || sandbox.log("gateway").iter().filter(|entry| entry["event"] == "query.opened").count();
    let real = ask(&["--output", "json"]).json();
    let once = opened();
    let (answer, told) = (rows(&real), mask(&rows(&real)));
    assert!(told.values().all(|(told, withheld)| *told > 0 && *withheld > 0), "{told:?}");

    let mut preview = ask(&["--preview", "--output", "json"]).json();
    assert_eq!(opened() - once, 3 * once, "the question and two coarser ones stand in the log like any other");

    // The counts are those of the answer's own mask, with its reasons and rules.
    assert_eq!((&preview["groups"], &preview["view"]), (&json!(answer.len()), &Value::Null));
    assert_eq!(preview["rules"], real["answer"]["rules"]);
    let columns = preview["columns"].as_array().unwrap();
    assert_eq!(
        columns.iter().map(|c| c["column"].as_str().unwrap()).collect::<Vec<_>>(),
        ["region", "disadvantage_band", "persons", "total"]
    );
    for column in columns {
        let (kept, withheld) = told.get(column["column"].as_str().unwrap()).copied().unwrap_or((answer.len() as u64, 0));
        assert_eq!((&column["told"], &column["withheld"]), (&json!(kept), &json!(withheld)), "{column}");
        assert_eq!(column["reason"].is_string(), withheld > 0, "{column}");
    }

    // The coarser statements are there to be run: what they keep is what their answers keep, the best first and no worse than now.
    let coarser = preview["coarser"].as_array().unwrap();
    let shares: Vec<f64> = coarser.iter().map(|one| one["share"].as_f64().unwrap()).collect();
    assert_eq!(shares.len(), 2, "{preview}");
    assert!(shares[0] >= shares[1] && shares[0] >= preview["numbers"]["share"].as_f64().unwrap(), "{preview}");
    for one in coarser {
        let again = run(&sandbox, &["query", "--sql", one["sql"].as_str().unwrap(), "--param", "but=London", "--output", "json"]).json();
        let all = mask(&rows(&again));
        let sum = |of: fn(&(u64, u64)) -> u64| all.values().map(of).sum::<u64>();
        assert_eq!((&one["told"], &one["withheld"]), (&json!(sum(|c| c.0)), &json!(sum(|c| c.1))), "{one}");
    }

    // No value of the answer is told, to programs or to people. The numbers under which questions are logged are no values.
    for id in ["query_id", "log_entry"] {
        preview[id].take();
        preview["coarser"].as_array_mut().unwrap().iter_mut().for_each(|one| drop(one[id].take()));
    }
    preview["coarser"].as_array_mut().unwrap().iter_mut().for_each(|one| drop(one["share"].take()));
    preview["numbers"]["share"].take();
    tells_no_value(&preview.to_string(), &answer);
    let people = ask(&["--preview"]);
    assert!(people.exit == 0 && people.text().contains("without region: "), "{}", people.text());
    tells_no_value(&people.text(), &answer);

    // A view hides its keys: it is counted, and no coarser question is asked of it.
    let view = run(&sandbox, &["query", "--preview", "--view", "opportunity_by_region", "--output", "json"]).json();
    assert!(view["view"] == "opportunity_by_region" && view["coarser"] == json!([]) && view["notes"][0].is_string(), "{view}");

    // What is no table is not written, and nothing is asked for it.
    let before = opened();
    let csv = ask(&["--preview", "--output", "csv"]);
    assert!(csv.exit == i32::from(USAGE) && csv.stdout.is_empty() && opened() == before, "{}", csv.stderr);
}
