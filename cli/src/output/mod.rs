//! Answers on their way out: as text, JSON, CSV, Arrow or Parquet, written as they arrive where the format allows.
//!
//! | format | written | what the gateway states of the answer |
//! |---|---|---|
//! | `table` | when it is whole: columns are as wide as their widest cell | on standard error |
//! | `json` | as it arrives | member `answer` |
//! | `csv` | as it arrives | on standard error; why values are withheld in the column `withheld` |
//! | `arrow` | as it arrives: the IPC stream format, into a file `*.arrow` the IPC file format | metadata of the schema |
//! | `parquet` | as it arrives, by row groups | metadata of the file |
//!
//! The metadata has an entry for each member of the statement, `concordat.query_id`, `concordat.sources`, `concordat.withheld`,
//! `concordat.rules`, …: texts as they are, everything else as JSON.

mod counts;
mod csv;
mod json;
mod sink;

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use self::csv::Csv;
use self::json::Json;
pub(crate) use self::sink::Sink;
use crate::failure::{Failure, Result};
use crate::table::Table;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned text for people, numbers rounded
    Table,
    /// One JSON object for programs, exact
    Json,
    /// Comma-separated values (RFC 4180), exact; withheld cells are empty
    Csv,
    /// Apache Arrow: the stream format; into a file named *.arrow the file format
    Arrow,
    /// Apache Parquet
    Parquet,
}

impl Format {
    /// Whether a terminal cannot show it.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Self::Arrow | Self::Parquet)
    }

    /// Its name, as `--output` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// The format that a file's name says.
    pub(crate) fn of_file(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "txt" => Some(Self::Table),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "arrow" | "arrows" => Some(Self::Arrow),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// What an answer needs beside its rows.
pub(crate) struct Head<'a> {
    /// The view that was asked for.
    pub(crate) view: Option<&'a str>,
    /// The columns.
    pub(crate) schema: &'a SchemaRef,
    /// What the gateway has stated so far.
    pub(crate) summary: &'a Value,
    /// Whether text may be coloured.
    pub(crate) colour: bool,
    /// For Arrow: the file format instead of the stream format.
    pub(crate) arrow_file: bool,
}

/// An answer that is being written.
pub(crate) struct Writing(Kind);

enum Kind {
    Table { to: Sink, schema: SchemaRef, batches: Vec<RecordBatch>, colour: bool },
    Json(Json<Sink>),
    Csv(Csv<Sink>),
    Stream(Box<StreamWriter<Sink>>),
    File(Box<FileWriter<Sink>>),
    Parquet(Box<ArrowWriter<Sink>>),
}

impl Writing {
    /// Begins.
    pub(crate) fn start(format: Format, head: &Head<'_>, to: Sink) -> Result<Self> {
        let schema = head.schema;
        let described = || Schema::new_with_metadata(schema.fields().clone(), metadata(head.summary));
        Ok(Self(match format {
            Format::Table => Kind::Table { to, schema: schema.clone(), batches: Vec::new(), colour: head.colour },
            Format::Json => Kind::Json(Json::start(to, head.view, schema).map_err(unwritten)?),
            Format::Csv => Kind::Csv(Csv::start(to, schema).map_err(unwritten)?),
            Format::Arrow if head.arrow_file => Kind::File(Box::new(FileWriter::try_new(to, &described()).map_err(unwritten)?)),
            Format::Arrow => Kind::Stream(Box::new(StreamWriter::try_new(to, &described()).map_err(unwritten)?)),
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                Kind::Parquet(Box::new(ArrowWriter::try_new(to, schema.clone(), Some(properties)).map_err(unwritten)?))
            }
        }))
    }

    /// Rows.
    pub(crate) fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match &mut self.0 {
            Kind::Table { batches, .. } => batches.push(batch),
            Kind::Json(json) => json.write(&batch).map_err(unwritten)?,
            Kind::Csv(csv) => csv.write(&batch).map_err(unwritten)?,
            Kind::Stream(stream) => stream.write(&batch).map_err(unwritten)?,
            Kind::File(file) => file.write(&batch).map_err(unwritten)?,
            Kind::Parquet(parquet) => parquet.write(&batch).map_err(unwritten)?,
        }
        Ok(())
    }

    /// The end of a whole answer. Returns what people should be told beside it.
    pub(crate) fn finish(self, summary: &Value) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let to = match self.0 {
            Kind::Table { mut to, schema, batches, colour } => {
                let text = Table::of_answer(&schema, &batches)?.text(colour);
                std::io::Write::write_all(&mut to, text.as_bytes()).map_err(unwritten)?;
                notes = statements(summary);
                to
            }
            Kind::Json(json) => json.finish(summary).map_err(unwritten)?,
            Kind::Csv(csv) => {
                notes = statements(summary);
                if csv.formulas() {
                    notes.push("note: texts begin with =, +, - or @: import them as text, a spreadsheet could run them as formulas".into());
                }
                csv.finish()
            }
            Kind::Stream(stream) => stream.into_inner().map_err(unwritten)?,
            Kind::File(file) => file.into_inner().map_err(unwritten)?,
            Kind::Parquet(mut parquet) => {
                for (key, value) in metadata(summary) {
                    parquet.append_key_value_metadata(KeyValue::new(key, value));
                }
                parquet.into_inner().map_err(unwritten)?
            }
        };
        to.finish()?;
        Ok(notes)
    }
}

fn unwritten(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("the answer cannot be written: {error}"))
}

/// The statement as metadata.
fn metadata(summary: &Value) -> HashMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let members = summary.as_object().into_iter().flatten();
    members.map(|(key, value)| (format!("concordat.{key}"), text(value))).collect()
}

/// What the gateway states of the answer, in lines for people: what is withheld, who is missing, the rules at work, sources, log
/// entry and the log's promise of it.
fn statements(summary: &Value) -> Vec<String> {
    let list = |key: &str| summary.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> = list("withheld").iter().filter_map(|w| Some(format!("withheld: {}", text(w, "reason")?))).collect();
    lines.dedup();
    lines.extend(counts::lines(list("sources")));
    lines.extend(list("rules").iter().filter_map(Value::as_str).map(|rule| format!("rule: {rule}")));
    let named = list("sources").iter().filter_map(|s| Some(format!("{}.{}", text(s, "department")?, text(s, "dataset")?)));
    let named = named.collect::<Vec<_>>().join(", ");
    // Of departments whose data was not read.
    let reached = list("consent").iter().filter(|of| of.get("as_of").is_some()).filter_map(|of| text(of, "department"));
    let reached = reached.collect::<Vec<_>>().join(", ");
    lines.extend((!reached.is_empty()).then(|| format!("also without people who withdrew or objected at: {reached}")));
    let parts = [
        (!named.is_empty()).then(|| format!("from {named}")),
        text(summary, "query_id").map(|id| format!("query {id}")),
        text(summary, "log_entry").map(|entry| format!("log entry {entry}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    lines.extend((!parts.is_empty()).then(|| parts.join(" · ")));
    let promise = summary.get("promise").and_then(|promise| Some((text(promise, "origin")?, text(promise, "time")?)));
    lines.extend(promise.map(|(log, time)| format!("promised by the log {log} at {time} to stay there: --receipt FILE keeps the promise")));
    lines
}

fn text(value: &Value, key: &str) -> Option<String> {
    match value.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
