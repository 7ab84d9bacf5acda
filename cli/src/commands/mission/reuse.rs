//! `mission reuse`: which datasets and views are used by whom, and where departments publish the same.

use std::collections::BTreeSet;

use chrono::Utc;
use clap::Args;
use concordat_mission::reuse::Reuse;
use serde_json::json;

use super::{Offline, Output};
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct ReuseCommand {
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

impl ReuseCommand {
    pub(super) fn run(self) -> miette::Result<()> {
        let known = self.place.known()?;
        let reuse = known.estate.composition(&known.missions, Utc::now()).reuse();
        let text = match self.output {
            Output::Json => format!("{}\n", json!(reuse)),
            Output::Table => text(&reuse),
        };
        Ok(out::result(&text)?)
    }
}

fn text(reuse: &Reuse) -> String {
    let mut parts = Vec::new();
    let mut add = |titles: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            parts.push(Table::of(titles, rows).text(out::colour()));
        }
    };
    let datasets = reuse.datasets.iter();
    add(
        &["dataset", "missions", "agreements", "views", "outcomes"],
        datasets
            .map(|one| vec![one.dataset.to_string(), all(&one.missions), all(&one.agreements), all(&one.views), all(&one.outcomes)])
            .collect(),
    );
    let views = reuse.views.iter();
    add(
        &["view", "used by views", "outcomes", "datasets"],
        views.map(|one| vec![one.view.to_string(), all(&one.views), all(&one.outcomes), all(&one.datasets)]).collect(),
    );
    let overlaps = reuse.overlaps.iter();
    add(
        &["perhaps the same", "type", "of subjects by", "columns"],
        overlaps.map(|one| vec![one.called.clone(), one.kind.clone(), one.identifier.clone(), all(&one.columns)]).collect(),
    );
    parts.join("\n")
}

fn all<T: ToString>(names: &BTreeSet<T>) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
