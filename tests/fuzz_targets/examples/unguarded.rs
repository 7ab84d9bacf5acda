//! What arrow-ipc makes of each lie when nothing stands before it: `cargo run --release -p concordat-fuzz-targets --example unguarded`.
//! Each lie is told to a process of its own, because some end it. The table stands in `concordat_proto::release_stream`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a tool of the tests: a failure is a panic, and the table is its output"
)]

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{MessageHeader, root_as_message};
use concordat_fuzz_targets::lies::{Honest, Lie};
use concordat_policy::ColumnType;
use concordat_proto::release_stream::ReleaseMessage;

fn main() {
    if let Some(number) = std::env::args().nth(1) {
        let honest =
            Honest { columns: vec![("a".into(), ColumnType::Boolean), ("b".into(), ColumnType::Text)], partition: 0, partitions: 2 };
        match listen(&Lie::ALL[number.parse::<usize>().unwrap()].0.tell(&honest)) {
            Ok(rows) => println!("taken: {rows} rows"),
            Err(error) => println!("error: {error}"),
        }
        return;
    }
    println!("| lie | arrow-ipc alone | the guard |\n|---|---|---|");
    for (number, (lie, why)) in Lie::ALL.iter().enumerate() {
        let told = Command::new(std::env::current_exe().unwrap()).arg(number.to_string()).output().unwrap();
        let outcome = match (told.status.signal(), told.status.code()) {
            (Some(6), _) => "**aborts the process**".to_owned(),
            (Some(signal), _) => format!("**killed by signal {signal}**"),
            (None, Some(0)) => String::from_utf8(told.stdout).unwrap().split(':').next().unwrap().trim().to_owned(),
            _ => "*panics*".to_owned(),
        };
        println!("| {lie:?} | {outcome} | {why} |");
    }
}

/// Reads a stream as arrow-flight does.
fn listen(messages: &[ReleaseMessage]) -> Result<usize, String> {
    let (mut schema, mut dictionaries, mut rows): (Option<SchemaRef>, _, _) = (None, HashMap::new(), 0);
    for message in messages {
        let header = root_as_message(&message.header).map_err(|e| e.to_string())?;
        let body = Buffer::from(message.body.clone());
        match (header.header_type(), &schema) {
            (MessageHeader::Schema, _) => schema = Some(Arc::new(fb_to_schema(header.header_as_schema().unwrap()))),
            (MessageHeader::DictionaryBatch, Some(schema)) => {
                let dictionary = header.header_as_dictionary_batch().unwrap();
                read_dictionary(&body, dictionary, schema, &mut dictionaries, &header.version()).map_err(|e| e.to_string())?;
            }
            (MessageHeader::RecordBatch, Some(schema)) => {
                let batch = header.header_as_record_batch().unwrap();
                let batch = read_record_batch(&body, batch, schema.clone(), &dictionaries, None, &header.version());
                rows += batch.map_err(|e| e.to_string())?.num_rows();
            }
            _ => return Err("no schema".into()),
        }
    }
    Ok(rows)
}
