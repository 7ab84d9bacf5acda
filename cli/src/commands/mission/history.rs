//! What is checked of a history before anything is told, added or published by it.

use concordat_audit::note::VerifierKey;
use concordat_mission::history::{Heads, follows};
use concordat_mission::{Cell, Pivot, Pivots as _, Snapshot, Snapshots as _, SqliteStore};
use serde_json::json;

use super::{damaged, rows, take};
use crate::client::Answer;
use crate::failure::{Failure, Result};

/// A history that was found to be what was written, and each of its answers what the gateway's log promised, once and at its own time.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) pivots: Vec<Pivot>,
}

impl History {
    /// Reads and verifies it: both chains, each snapshot's rows by its answer, that answer by its promise, and where a key is given the
    /// promise by that.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub(crate) fn verified(store: &SqliteStore, log_key: Option<&VerifierKey>) -> Result<Self> {
        let snapshots = store.all().map_err(damaged)?;
        for (place, snapshot) in snapshots.iter().enumerate() {
            let before = snapshots.get(..place).unwrap_or_default();
            follows(before, &snapshot.taken).map_err(|e| wrong(snapshot, &e.to_string()))?;
            answer(store, snapshot, log_key)?;
        }
        // Each pivot saw a part of the history, which must be there still.
        let pivots = store.pivots().map_err(damaged)?;
        Ok(Self { snapshots, pivots })
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads::of(&self.snapshots, &self.pivots)
    }
}

fn wrong(snapshot: &Snapshot, what: &str) -> Failure {
    Failure::new(format!("snapshot {}: {what}", snapshot.number))
        .advice("rely on none of it, and show it to whoever reviews the gateway's log")
}

/// That a snapshot's rows are its answer's, and that the one that was promised.
fn answer(store: &SqliteStore, snapshot: &Snapshot, log_key: Option<&VerifierKey>) -> Result<()> {
    let wrong = |what: &str| wrong(snapshot, what);
    let taken = &snapshot.taken;
    let (schema, batches) = rows::read(&store.answer(snapshot.number).map_err(damaged)?)?;
    let (columns, rows) = rows::of(&schema, &batches)?;
    // As what is kept was read: a number's last digit may not survive the way through its text.
    let kept = serde_json::to_string(&rows).ok().and_then(|text| serde_json::from_str::<Vec<Vec<Cell>>>(&text).ok());
    if columns != taken.columns || kept.as_ref() != Some(&taken.rows) {
        return Err(wrong("its rows are not those of the answer that is kept beside them"));
    }
    let stated = &taken.stated;
    let summary = json!({ "query_id": stated.query_id, "log_entry": stated.log_entry, "promise": stated.promise });
    take::matches(&Answer { schema, batches, summary }, log_key).map_err(|failure| wrong(&failure.message))
}
