//! One answer in each format, read back with the format's own reader, is the same answer.

use std::fs::File;
use std::io::Cursor;
use std::process::Stdio;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::{VIEW, against, run};
use crate::sandbox::Sandbox;

/// The rows as JSON has them.
fn rows(batches: &[RecordBatch]) -> Value {
    let mut writer = arrow::json::WriterBuilder::new().with_explicit_nulls(true).build::<_, arrow::json::writer::JsonArray>(Vec::new());
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    serde_json::from_slice(&writer.into_inner()).unwrap()
}

fn streamed(bytes: &[u8]) -> (SchemaRef, Vec<RecordBatch>) {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
    (reader.schema(), reader.map(Result::unwrap).collect())
}

fn parquet(file: File) -> (Vec<(String, String)>, Vec<RecordBatch>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let pairs = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let pairs = pairs.into_iter().map(|p| (p.key, p.value.unwrap_or_default())).collect();
    (pairs, builder.build().unwrap().map(Result::unwrap).collect())
}

#[tokio::test]
async fn every_format_holds_the_same_rows_and_says_where_they_come_from() {
    let sandbox = Sandbox::start(2_000).await;
    let ask = |more: &[&str]| run(&sandbox, &[VIEW, more].concat());
    let json = ask(&["--output", "json"]).json();
    let expected = &json["rows"];
    assert!(expected.as_array().unwrap().len() > 10 && !json["answer"]["withheld"].as_array().unwrap().is_empty(), "{json}");

    let (schema, batches) = streamed(&ask(&["--output", "arrow"]).stdout);
    assert_eq!(&rows(&batches), expected);
    assert_eq!(schema.metadata()["concordat.sources"], json["answer"]["sources"].to_string());
    // Each query has a promise of its own.
    let promises = [schema.metadata()["concordat.promise"].clone(), json["answer"]["promise"].to_string()];
    let [own, other] = promises.map(|text| serde_json::from_str::<Value>(&text).unwrap());
    assert!(own["version"] == other["version"] && own["origin"] == "concordat/gateway" && own["index"] != other["index"], "{own} {other}");
    assert!(schema.metadata()["concordat.query_id"].len() == 36 && schema.metadata()["concordat.withheld"].contains("fewer than"));

    let csv = ask(&["--output", "csv"]);
    let plain = SchemaRef::new(arrow::datatypes::Schema::new(schema.fields().clone()));
    let reader = arrow::csv::ReaderBuilder::new(plain).with_header(true).build(Cursor::new(&csv.stdout)).unwrap();
    assert_eq!(&rows(&reader.map(Result::unwrap).collect::<Vec<_>>()), expected);
    assert!(csv.text().lines().next().unwrap().ends_with(",withheld") && csv.text().ends_with("\r\n"));
    assert!(csv.stderr.contains("withheld: fewer than") && csv.stderr.contains("from dfe.attainment"), "{}", csv.stderr);

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for name in ["a.parquet", "a.arrow", "a.arrows", "a.csv", "a.json"] {
        let ran = ask(&["--to", &path(name)]);
        assert!(ran.exit == 0 && ran.stdout.is_empty(), "{name}: {}", ran.stderr);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "nothing unfinished is left");
    let (pairs, batches) = parquet(File::open(path("a.parquet")).unwrap());
    assert_eq!(&rows(&batches), expected);
    for key in ["query_id", "sources", "withheld", "rules", "purpose", "promise"] {
        assert!(pairs.iter().any(|(k, v)| *k == format!("concordat.{key}") && !v.is_empty()), "{key}: {pairs:?}");
    }
    let file = FileReader::try_new(File::open(path("a.arrow")).unwrap(), None).unwrap();
    assert_eq!(file.schema().metadata()["concordat.mission"], "opportunity");
    assert_eq!(&rows(&file.map(Result::unwrap).collect::<Vec<_>>()), expected);
    assert_eq!(&rows(&streamed(&std::fs::read(path("a.arrows")).unwrap()).1), expected);
    assert_eq!(std::fs::read(path("a.csv")).unwrap(), csv.stdout);
    // What --output says counts before what the name says.
    assert!(ask(&["--to", &path("b.csv"), "--output", "json"]).exit == 0);
    assert_eq!(&serde_json::from_slice::<Value>(&std::fs::read(path("b.csv")).unwrap()).unwrap()["rows"], expected);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_quietly() {
    let sandbox = Sandbox::start(300).await;
    for format in ["table", "json", "csv", "arrow", "parquet"] {
        let mut command = against(&sandbox, &[VIEW, &["--output", format]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{format}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[tokio::test]
async fn an_answer_without_rows_is_an_answer_in_every_format() {
    let sandbox = Sandbox::start(300).await;
    let sql = "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region HAVING count(*) < 0";
    for format in ["table", "json", "csv", "arrow", "parquet"] {
        let ran = run(&sandbox, &["query", "--sql", sql, "--output", format]);
        assert!(ran.exit == 0 && !ran.stdout.is_empty(), "{format}: {}", ran.stderr);
    }
    assert_eq!(run(&sandbox, &["query", "--sql", sql, "--output", "json"]).json()["rows"], serde_json::json!([]));
    let (schema, batches) = streamed(&run(&sandbox, &["query", "--sql", sql, "--output", "arrow"]).stdout);
    assert!(schema.field_with_name("n").is_ok() && batches.iter().all(|b| b.num_rows() == 0));
}
