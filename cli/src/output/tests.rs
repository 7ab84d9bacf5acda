//! Each format read back.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use super::*;

fn batch() -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("region", Arc::new(StringArray::from(vec!["London", "Isles of Scilly"]))),
        ("persons", Arc::new(Int64Array::from(vec![Some(12_345), None]))),
        ("withheld", Arc::new(StringArray::from(vec![None, Some("persons: fewer than 10")]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

fn summary() -> Value {
    json!({
        "query_id": "q1", "log_entry": 7, "rules": ["a rule"], "promise": { "origin": "o", "index": 6, "time": "t" },
        "withheld": [{ "column": "persons", "reason": "fewer than 10" }, { "column": "x", "reason": "fewer than 10" }],
        "sources": [{ "department": "dfe", "dataset": "attainment" }, { "department": "dwp", "dataset": "claims" }],
    })
}

fn written(format: Format, arrow_file: bool) -> (tempfile::TempDir, File, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answer");
    let (batch, summary) = (batch(), summary());
    let head = Head { view: None, schema: &batch.schema(), summary: &summary, colour: false, arrow_file };
    let mut writing = Writing::start(format, &head, Sink::file(&path).unwrap()).unwrap();
    writing.write(batch.clone()).unwrap();
    writing.write(batch.slice(1, 1)).unwrap();
    let notes = writing.finish(&summary).unwrap();
    let file = File::open(&path).unwrap();
    (folder, file, notes)
}

fn joined(batches: impl Iterator<Item = RecordBatch>) -> RecordBatch {
    let batches: Vec<RecordBatch> = batches.collect();
    let plain = Arc::new(Schema::new(batches[0].schema().fields().clone()));
    let batches: Vec<_> = batches.into_iter().map(|b| RecordBatch::try_new(plain.clone(), b.columns().to_vec()).unwrap()).collect();
    arrow::compute::concat_batches(&plain, &batches).unwrap()
}

#[test]
fn arrow_and_parquet_hold_the_rows_and_the_statement() {
    let expected = joined([batch(), batch().slice(1, 1)].into_iter());
    let (_folder, file, _) = written(Format::Arrow, false);
    let stream = StreamReader::try_new(file, None).unwrap();
    assert_eq!(stream.schema().metadata()["concordat.query_id"], "q1");
    assert_eq!(stream.schema().metadata()["concordat.rules"], "[\"a rule\"]");
    assert_eq!(joined(stream.map(|batch| batch.unwrap())), expected);
    let (_folder, file, _) = written(Format::Arrow, true);
    let reader = FileReader::try_new(file, None).unwrap();
    assert_eq!(reader.schema().metadata()["concordat.log_entry"], "7");
    assert_eq!(joined(reader.map(|batch| batch.unwrap())), expected);
    let (_folder, file, _) = written(Format::Parquet, false);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let pairs = builder.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let value = |key: &str| pairs.iter().find(|p| p.key == key).and_then(|p| p.value.clone());
    assert_eq!(value("concordat.query_id").as_deref(), Some("q1"));
    let promise: serde_json::Value = serde_json::from_str(&value("concordat.promise").unwrap()).unwrap();
    assert_eq!(promise, serde_json::json!({ "index": 6, "origin": "o", "time": "t" }));
    assert!(value("concordat.withheld").unwrap().contains("fewer than 10"));
    assert_eq!(joined(builder.build().unwrap().map(|batch| batch.unwrap())), expected);
}

#[test]
fn people_are_told_what_is_withheld_by_which_rules_and_from_where() {
    for format in [Format::Table, Format::Csv] {
        let (_folder, _, notes) = written(format, false);
        let expected = [
            "withheld: fewer than 10",
            "rule: a rule",
            "from dfe.attainment, dwp.claims · query q1 · log entry 7",
            "promised by the log o at t to stay there: --receipt FILE keeps the promise",
        ];
        assert_eq!(notes, expected);
    }
    assert!(written(Format::Json, false).2.is_empty(), "the object says it itself");
    assert!(statements(&json!({})).is_empty());
}

#[test]
fn a_files_name_says_the_format() {
    for (name, format) in [("a.csv", Some(Format::Csv)), ("a.arrow", Some(Format::Arrow)), ("a.b", None), ("csv", None)] {
        assert_eq!(Format::of_file(std::path::Path::new(name)), format, "{name}");
    }
    for format in <Format as clap::ValueEnum>::value_variants() {
        assert_eq!(<Format as clap::ValueEnum>::from_str(format.name(), false), Ok(*format));
    }
}
