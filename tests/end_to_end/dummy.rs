//! Rows of nobody have the columns, types and codes that the catalogue tells, and no department is asked for them.

use std::collections::BTreeSet;
use std::fs::File;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::commands::run;
use crate::sandbox::Sandbox;

/// The type of a column's values in a JSON answer.
fn arrow_type(kind: &str) -> &str {
    match kind {
        "pseudonym" | "text" => "Utf8",
        "integer" => "Int64",
        "number" => "Float64",
        "boolean" => "Boolean",
        "date" => "Date32",
        other => panic!("{other}"),
    }
}

fn texts(rows: &Value, column: &str) -> BTreeSet<String> {
    rows.as_array().unwrap().iter().filter_map(|row| row[column].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn dummies_look_like_what_they_stand_for_and_rest_on_no_row() {
    let sandbox = Sandbox::start(300).await;
    let catalogue = run(&sandbox, &["catalogue", "--output", "json"]).json();
    for dataset in catalogue["datasets"].as_array().unwrap() {
        let name = dataset["name"].as_str().unwrap();
        let ran = run(&sandbox, &["dummy", name, "--rows", "2000", "--output", "json"]);
        assert!(ran.stderr.contains(&format!("dummy of {name}: made up from the catalogue")), "{}", ran.stderr);
        let dummy = ran.json();
        assert!(dummy["answer"]["dummy"].is_string() && dummy["rows"].as_array().unwrap().len() == 2000, "{name}: {}", dummy["answer"]);
        let columns = dataset["columns"].as_array().unwrap();
        let told = columns.iter().map(|c| json!({ "name": c["name"], "type": arrow_type(c["type"].as_str().unwrap()) }));
        assert_eq!(dummy["columns"], told.collect::<Value>(), "{name}");
        for column in columns.iter().filter(|c| c["type"] == "text") {
            let found = texts(&dummy["rows"], column["name"].as_str().unwrap());
            let listed: BTreeSet<String> = column["values"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
            if listed.is_empty() {
                assert!(found.iter().all(|text| text.starts_with("dummy ")), "{name}.{}", column["name"]);
            } else {
                assert_eq!(found, listed, "{name}.{}", column["name"]);
            }
        }
        assert!(texts(&dummy["rows"], "subject").iter().all(|subject| subject.starts_with("dummy-")), "{name}");
    }

    // A view's columns are those of its answer; each combination of its codes has one row.
    let view = "opportunity_by_region";
    let (real, dummy) =
        (run(&sandbox, &["query", "--view", view, "--output", "json"]).json(), run(&sandbox, &["dummy", view, "--output", "json"]).json());
    assert_eq!(dummy["columns"], real["columns"]);
    let regions = texts(&dummy["rows"], "region");
    assert!(texts(&real["rows"], "region").is_subset(&regions) && !regions.is_empty());
    assert_eq!(dummy["rows"].as_array().unwrap().len(), 2 * regions.len());
    assert_eq!(dummy["view"], view);

    // The same seed makes the same bytes; files say what they are; what is not there is said so.
    let csv = |more: &[&str]| run(&sandbox, &[&["dummy", "dwp.claims", "--rows", "50", "--output", "csv"][..], more].concat()).stdout;
    assert!(csv(&[]) == csv(&["--seed", "1"]) && csv(&[]) != csv(&["--seed", "2"]) && !csv(&[]).is_empty());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claims.parquet");
    assert_eq!(run(&sandbox, &["dummy", "dwp.claims", "--to", path.to_str().unwrap()]).exit, 0);
    let parquet = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let pairs = parquet.metadata().file_metadata().key_value_metadata().cloned().unwrap();
    assert!(
        pairs.iter().any(|pair| pair.key == "concordat.dummy" && pair.value.as_ref().is_some_and(|v| v.contains("made up"))),
        "{pairs:?}"
    );
    let absent = run(&sandbox, &["dummy", "dfe.absent"]);
    assert!(absent.exit == 2 && absent.stdout.is_empty() && absent.stderr.contains("is called 'dfe.absent'"), "{}", absent.stderr);

    // Only the one real query had departments release anything.
    let releases = sandbox.log("dwp").into_iter().filter(|entry| entry["event"] == "release.intended").count();
    assert_eq!(releases, 1);
}
