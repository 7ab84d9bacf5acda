//! `concordat audit show`: one query as every log tells it.

use std::path::PathBuf;

use clap::Args;
use concordat_audit::facts::datasets;
use serde_json::{Value, json};

use super::door::Doors;
use super::form::{Form, rows};
use super::read::{Archives, NodeLog, of_query, text, time};
use super::{inert, online, persons};
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// What an answer, a refusal or an explanation gave as its query id
    #[arg(value_name = "QUERY_ID")]
    query_id: String,
    /// The folder of the gateway's log; without it, the running programs are asked
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// With --log: a department and the folder of its node's log
    #[arg(long = "node", value_name = "DEPARTMENT=FOLDER", requires = "log")]
    nodes: Vec<NodeLog>,
    #[command(flatten)]
    archives: Archives,
    #[command(flatten)]
    doors: Doors,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

pub(super) async fn run(show: &Show) -> Result<()> {
    let Some(log) = &show.log else {
        let timeline = online::timeline(&show.doors, &show.query_id).await?;
        if timeline.entries.is_empty() {
            return Err(unfound(&show.query_id, "no log that you may read"));
        }
        told(show.output, timeline.entries.clone(), &timeline.unread())?;
        return timeline.complete();
    };
    let logs = std::iter::once(("gateway", log)).chain(show.nodes.iter().map(|node| (node.department.as_str(), &node.folder)));
    let mut found: Vec<(String, Value)> = Vec::new();
    for (who, log) in logs {
        found.extend(of_query(log, &show.archives, &show.query_id)?.into_iter().map(|entry| (who.to_owned(), entry)));
    }
    if found.is_empty() {
        return Err(unfound(&show.query_id, "no log that is named"));
    }
    told(show.output, found, &[])
}

fn unfound(query_id: &str, nowhere: &str) -> Failure {
    Failure::new(format!("{nowhere} has an entry of the query '{}'", inert::inert(query_id)))
        .advice("the query id stands in answers, refusals and explanations; --log is the gateway's folder, --node a department's")
}

/// Prints what each side says, by time, and in JSON also whose log could not be read.
fn told(form: Form, mut found: Vec<(String, Value)>, unread: &[(String, String)]) -> Result<()> {
    // Stable: each log's own order stays where times are the same.
    found.sort_by_key(|(_, entry)| time(entry));
    let first = found.first().and_then(|(_, entry)| time(entry));
    let after = |entry: &Value| time(entry).zip(first).map(|(time, first)| (time - first).num_milliseconds());
    if form == Form::Json {
        let line =
            |(who, entry): &(String, Value)| inert::json(&json!({ "log": who, "after_milliseconds": after(entry), "entry": entry })) + "\n";
        let missing = unread.iter().map(|(who, cause)| inert::json(&json!({ "log": who, "unread": cause })) + "\n");
        return out::result(&found.iter().map(line).chain(missing).collect::<String>());
    }
    let told = found.iter().map(|(who, entry)| {
        let after = after(entry).map(|milliseconds| milliseconds.to_string());
        let field = |name: &str| entry.get(name).map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        let event = text(entry, "event").unwrap_or_default().to_owned();
        let datasets = datasets(entry).into_iter().collect::<Vec<_>>().join(" ");
        let (after, caller) = (after.unwrap_or_default(), persons::caller(entry));
        vec![who.clone(), field("entry"), field("time"), after, event, caller, datasets, field("rows"), field("code")]
    });
    out::result(&rows(form, true, &["log", "entry", "time", "ms", "event", "caller", "datasets", "rows", "code"], told.collect()))
}
