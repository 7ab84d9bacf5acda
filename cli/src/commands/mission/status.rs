//! `mission status`: the board.

use std::fmt::Write as _;

use chrono::{NaiveDate, Utc};
use clap::Args;
use concordat_mission::interval::short;
use concordat_mission::snapshot::definition;
use concordat_mission::status::{OutcomeStatus, status};
use concordat_mission::{Mission, Snapshot};
use concordat_policy::Name;
use serde_json::{Value, json};

use super::{Known, Offline, Output, mission_name};
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Which missions; all where none is named
    #[arg(value_name = "MISSION", value_parser = mission_name)]
    missions: Vec<Name>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

impl Status {
    pub(super) fn run(self) -> miette::Result<()> {
        let known = self.place.known()?;
        let missions = known.named(&self.missions)?;
        let snapshots = self.place.snapshots()?;
        let today = Utc::now().date_naive();
        let text = match self.output {
            Output::Json => format!("{}\n", to_json(&known, &missions, &snapshots, today)),
            Output::Table => board(&known, &missions, &snapshots, today),
        };
        Ok(out::result(&text)?)
    }
}

/// How an outcome stands; what it measures now is by the estate's view.
pub(crate) fn of(known: &Known, mission: &Mission, snapshots: &[Snapshot], today: NaiveDate) -> Vec<OutcomeStatus> {
    let sql =
        |view: &str| known.estate.views.iter().find(|one| one.mission == mission.id && one.name == view).map_or("", |one| one.sql.as_str());
    mission.outcomes.iter().map(|outcome| status(mission, outcome, &definition(outcome, sql(&outcome.view)), snapshots, today)).collect()
}

fn to_json(known: &Known, missions: &[&Mission], snapshots: &[Snapshot], today: NaiveDate) -> Value {
    let mission = |mission: &&Mission| {
        let outcomes: Vec<Value> = of(known, mission, snapshots, today)
            .into_iter()
            .map(|one| {
                let hidden = one.hidden();
                let mut told = json!(one);
                if let Some(told) = told.as_object_mut() {
                    told.insert("hidden".into(), hidden.into());
                }
                told
            })
            .collect();
        json!({ "mission": mission.id, "title": mission.title, "owner": mission.owner, "outputs": mission.outputs, "outcomes": outcomes })
    };
    let head = snapshots.last().map(|last| format!("{}:{}", last.number, last.digest));
    json!({ "on": today, "head": head, "missions": missions.iter().map(mission).collect::<Vec<_>>() })
}

/// Everything as a table, with what belongs to each outcome below.
pub(crate) fn board(known: &Known, missions: &[&Mission], snapshots: &[Snapshot], today: NaiveDate) -> String {
    let (mut rows, mut notes) = (Vec::new(), String::new());
    for mission in missions {
        for one in of(known, mission, snapshots, today) {
            rows.push(row(mission, &one));
            let _ = writeln!(notes, "{}/{}: {} ({})", mission.id, one.outcome, one.verdict.as_str(), one.because);
            one.hidden().iter().for_each(|hidden| {
                let _ = writeln!(notes, "  {hidden}");
            });
            let missed: Vec<String> = one.missed().map(|day| day.to_string()).collect();
            if !missed.is_empty() {
                let _ = writeln!(notes, "  missed: {}", missed.join(", "));
            }
            if !one.of_another_definition.is_empty() {
                let numbers: Vec<String> = one.of_another_definition.iter().map(u64::to_string).collect();
                let _ = writeln!(notes, "  measured something else, and not compared: snapshot {}", numbers.join(", "));
            }
        }
    }
    let titles = ["mission", "outcome", "status", "value", "path", "target", "trend a year", "data of"];
    let head = snapshots.last().map_or_else(String::new, |last| format!("head {}:{}\n", last.number, last.digest));
    format!("{}\n{notes}{head}", Table::of(&titles, rows).text(out::colour()))
}

fn row(mission: &Mission, one: &OutcomeStatus) -> Vec<String> {
    let latest = one.latest.as_ref();
    let none = || "–".to_owned();
    let value = match latest.map(|latest| (latest.value, latest.interval)) {
        Some((Some(value), Some(bounds))) if bounds.high > bounds.low => format!("{} ({})", short(value), bounds.in_words()),
        Some((Some(value), _)) => short(value),
        Some((None, _)) => "withheld".to_owned(),
        None => none(),
    };
    let trend = one.trend.map_or_else(none, |trend| format!("{}: {}", trend.way.as_str(), trend.per_year.in_words()));
    vec![
        mission.id.to_string(),
        one.outcome.to_string(),
        one.verdict.as_str().to_owned(),
        value,
        one.path.map_or_else(none, short),
        format!("{} by {}", short(one.target.value), one.target.on),
        trend,
        latest.map_or_else(none, |latest| latest.as_of.to_string()),
    ]
}
