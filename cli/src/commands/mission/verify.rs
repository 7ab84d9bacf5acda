//! `mission verify`: that the history is the one that was written, and its answers those that the gateway's log promised.

use clap::Args;
use concordat_audit::note::VerifierKey;
use concordat_mission::{Snapshot, Snapshots as _, SqliteStore};
use serde_json::json;

use super::{Offline, Output, damaged, rows, take};
use crate::client::{Answer, promise};
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// What the history came to, as it was told elsewhere: a snapshot's number and digest
    #[arg(long, value_name = "NUMBER:DIGEST", value_parser = head)]
    head: Option<(u64, String)>,
    /// The key of the gateway's log: every receipt must be by it
    #[arg(long, value_name = "VKEY", value_parser = log_key)]
    log_key: Option<VerifierKey>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

fn head(text: &str) -> std::result::Result<(u64, String), String> {
    let parsed = text.split_once(':').and_then(|(number, digest)| Some((number.parse().ok()?, digest.to_owned())));
    parsed.filter(|(_, digest)| digest.len() == 64).ok_or_else(|| "write NUMBER:DIGEST, as `concordat mission status` tells it".into())
}

fn log_key(text: &str) -> std::result::Result<VerifierKey, String> {
    VerifierKey::parse(text).map_err(|e| e.to_string())
}

impl Verify {
    pub(super) fn run(self) -> miette::Result<()> {
        Ok(self.verify()?)
    }

    fn verify(self) -> Result<()> {
        let store = self.place.kept.read(&self.place.layout())?;
        let snapshots = store.as_ref().map(|store| store.all().map_err(damaged)).transpose()?.unwrap_or_default();
        if let Some((number, digest)) = &self.head
            && !snapshots.iter().any(|one| one.number == *number && one.digest == *digest)
        {
            let known = snapshots.last().map_or_else(|| "is empty".to_owned(), |last| format!("ends with {}:{}", last.number, last.digest));
            return Err(Failure::new(format!("the history does not hold {number}:{digest}: it {known}"))
                .advice("it was cut or made anew since that was told, or is another one; rely on none of it"));
        }
        for snapshot in &snapshots {
            if let Some(store) = &store {
                self.answer(store, snapshot)?;
            }
        }
        let head = snapshots.last().map(|last| format!("{}:{}", last.number, last.digest));
        if self.output == Output::Json {
            return out::result(&format!("{}\n", json!({ "verified": true, "snapshots": snapshots.len(), "head": head })));
        }
        let receipts = if self.log_key.is_some() { "by that key" } else { "not verified: add --log-key" };
        let end = head.map_or_else(String::new, |head| format!("\nhead {head}"));
        out::result(&format!(
            "ok   {} snapshot(s), an unbroken chain, each answer as it was promised; receipts {receipts}{end}\n",
            snapshots.len()
        ))
    }

    /// That a snapshot's rows are its answer's, and that the one that was promised.
    fn answer(&self, store: &SqliteStore, snapshot: &Snapshot) -> Result<()> {
        let wrong = |what: String| {
            Failure::new(format!("snapshot {}: {what}", snapshot.number))
                .advice("rely on none of it, and show it to whoever reviews the gateway's log")
        };
        let taken = &snapshot.taken;
        let (schema, batches) = rows::read(&store.answer(snapshot.number).map_err(damaged)?)?;
        let (columns, rows) = rows::of(&schema, &batches)?;
        // Both as they are read: a number's last digit may not survive the way through its text.
        let kept = |rows: &Vec<Vec<concordat_mission::Cell>>| {
            serde_json::to_string(rows).ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        };
        if columns != taken.columns || kept(&rows).map(|rows| rows.to_string()) != kept(&taken.rows).map(|rows| rows.to_string()) {
            return Err(wrong("its rows are not those of the answer that is kept beside them".into()));
        }
        let stated = &taken.stated;
        let summary = json!({ "query_id": stated.query_id, "log_entry": stated.log_entry, "promise": stated.promise });
        take::matches(&Answer { schema, batches, summary: summary.clone() }).map_err(|failure| wrong(failure.message))?;
        if let Some(key) = &self.log_key {
            promise(&summary)?.verify(key).map_err(|e| wrong(e.to_string()))?;
        }
        Ok(())
    }
}
