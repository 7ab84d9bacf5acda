//! `mission impact`: what would be lost if an agreement ended.

use std::fmt::Write as _;

use chrono::{NaiveDate, Utc};
use clap::Args;
use concordat_mission::reuse::{Impact, Other};
use concordat_policy::Name;
use serde_json::json;

use super::{Offline, Output, mission_name};
use crate::failure::Failure;
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct ImpactCommand {
    /// The agreement's id
    #[arg(value_name = "AGREEMENT", value_parser = mission_name)]
    agreement: Name,
    /// The first day without it, instead of the day after its last
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

impl ImpactCommand {
    pub(super) fn run(self) -> miette::Result<()> {
        let known = self.place.known()?;
        known.whole()?;
        let composition = known.estate.composition(&known.missions, Utc::now());
        let impact = composition.impact(&self.agreement, self.from).ok_or_else(|| {
            let ids: Vec<&str> = known.estate.agreements.iter().map(|agreement| agreement.id.as_str()).collect();
            Failure::usage(format!("the estate has no agreement '{}'", self.agreement)).advice(format!("it has {}", ids.join(", ")))
        })?;
        let text = match self.output {
            Output::Json => format!("{}\n", json!(impact)),
            Output::Table => text(&impact),
        };
        Ok(out::result(&text)?)
    }
}

fn text(impact: &Impact) -> String {
    let dataset = |one: &concordat_mission::reuse::Covered| {
        let others: Vec<String> = one.others.iter().map(other).collect();
        vec![one.dataset.to_string(), if others.is_empty() { "nothing".to_owned() } else { others.join("; ") }]
    };
    let outcome = |one: &concordat_mission::reuse::Losing| {
        let datasets: Vec<String> = one.datasets.iter().map(ToString::to_string).collect();
        let outputs: Vec<&str> = one.outputs.iter().map(Name::as_str).collect();
        let kept = one.kept_until.map_or_else(String::new, |until| format!(" until {until}"));
        vec![one.outcome.to_string(), format!("{}{kept}", one.loses.as_str()), datasets.join(", "), one.view.clone(), outputs.join(", ")]
    };
    let mut text = format!("Without the agreement '{}' of the mission '{}', from {} on\n\n", impact.agreement, impact.mission, impact.from);
    let datasets = impact.datasets.iter().map(dataset).collect();
    text.push_str(&Table::of(&["dataset", "also covered by"], datasets).text(out::colour()));
    if impact.outcomes.is_empty() {
        text.push_str("\nNo outcome rests on it.\n");
    } else {
        let outcomes = impact.outcomes.iter().map(outcome).collect();
        let titles = ["outcome", "loses", "for want of", "view", "outputs that nobody could judge"];
        let _ = write!(text, "\n{}", Table::of(&titles, outcomes).text(out::colour()));
    }
    if !impact.views.is_empty() {
        let views: Vec<String> = impact.views.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "\nviews that nothing would answer: {}", views.join(", "));
    }
    text
}

/// `claims until 2028-06-30, without the columns amount`.
fn other(other: &Other) -> String {
    let time = match (other.signed, other.in_force) {
        (false, _) => ", not signed".to_owned(),
        (true, true) => format!(" until {}", other.valid_until),
        (true, false) => format!(", in force {} to {} only", other.valid_from, other.valid_until),
    };
    let lacks: Vec<&str> = other.lacks.iter().map(String::as_str).collect();
    let lacks = if lacks.is_empty() { String::new() } else { format!(", without the columns {}", lacks.join(", ")) };
    format!("{}{time}{lacks}", other.agreement)
}
