//! `mission status`: the board.

use std::fmt::Write as _;

use chrono::{NaiveDate, Utc};
use clap::Args;
use concordat_gateway::estate::Coverage;
use concordat_mission::inert::inert;
use concordat_mission::interval::short;
use concordat_mission::status::{OutcomeStatus, status};
use concordat_mission::{Mission, Outcome, Snapshot, unstated};
use concordat_policy::Name;
use serde_json::{Value, json};

use super::compare::definition_now;
use super::{Known, Offline, Output, mission_name};
use crate::out;
use crate::table::Table;

/// From how many days before its end on an agreement is named.
const SOON: i64 = 30;

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
        let missions = known.shown(&self.missions)?;
        let snapshots = self.place.snapshots(&known)?;
        let today = Utc::now().date_naive();
        let text = match self.output {
            Output::Json => format!("{}\n", to_json(&known, &missions, &snapshots, today)),
            Output::Table => board(&known, &missions, &snapshots, today),
        };
        Ok(out::result(&text)?)
    }
}

/// How outcomes stand; what each measures now is by the estate's views. One whose view or agreement is gone or ended is told from its
/// snapshots alone, as ended.
pub(crate) fn of(known: &Known, mission: &Mission, snapshots: &[Snapshot], today: NaiveDate) -> Vec<OutcomeStatus> {
    let one = |outcome: &Outcome| {
        let ended = rests(known, mission, outcome, today).ended;
        let newest = snapshots.iter().rev().find(|one| one.taken.mission == mission.id && one.taken.outcome == outcome.id);
        let gone = !known.estate.views.iter().any(|view| view.mission == mission.id && view.name == outcome.view);
        let definition = match newest {
            Some(newest) if gone => newest.taken.definition.clone(),
            _ => definition_now(known, mission, outcome),
        };
        let told = status(mission, outcome, &definition, snapshots, today);
        match ended {
            Some(why) => told.ended(&why),
            None => told,
        }
    };
    mission.outcomes.iter().map(one).collect()
}

/// Whose word it is that an agreement covers an outcome still.
const BY_FILES: &str =
    "as this estate's files say: a department that has ended or suspended one since is not seen here, until a snapshot is refused";

/// How long an outcome can be measured.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rests {
    /// Why it cannot be any more.
    pub(super) ended: Option<String>,
    /// What ends soon, or perhaps does not suffice.
    pub(super) soon: Vec<String>,
}

/// By its view and the agreements that cover what this reads.
pub(super) fn rests(known: &Known, mission: &Mission, outcome: &Outcome, today: NaiveDate) -> Rests {
    if !known.estate.views.iter().any(|view| view.mission == mission.id && view.name == outcome.view) {
        return Rests { ended: Some(format!("the view '{}' is gone", outcome.view)), soon: Vec::new() };
    }
    let covered = known.estate.covered(mission, outcome, Utc::now());
    let last = |one: &Coverage<'_>| (one.dataset.to_string(), one.by.as_ref().map(|(by, _)| (by.id.to_string(), by.valid_until)));
    let mut rests = until(covered.iter().map(last), &mission.owner, today);
    for one in &covered {
        if let Some((by, lacks)) = one.by.as_ref().filter(|(_, lacks)| !lacks.is_empty()) {
            let lacks = lacks.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            rests.soon.push(format!("perhaps it has no measure: the agreement '{}' does not name {lacks} of {}", by.id, one.dataset));
        }
    }
    if known.agreements_left_out > 0 && rests.ended.is_some() {
        rests = Rests { ended: None, soon: vec!["whether it can be measured cannot be told: a file of agreements/ is wrong".into()] };
    }
    rests
}

/// By datasets, each with the agreement that covers it longest and that one's last day.
fn until(covered: impl Iterator<Item = (String, Option<(String, NaiveDate)>)>, owner: &str, today: NaiveDate) -> Rests {
    let mut rests = Rests::default();
    for (dataset, by) in covered {
        match by {
            None => {
                rests.ended = Some(format!(
                    "no agreement that has begun, that every party signed and that answers '{owner}' covers the dataset '{dataset}' for its \
                     purpose"
                ));
            }
            Some((agreement, last)) if last < today => rests.ended = Some(format!("the agreement '{agreement}' ended on {last}")),
            Some((agreement, last)) if (last - today).num_days() <= SOON => {
                let said = format!("the agreement '{agreement}' ends on {last}");
                if !rests.soon.contains(&said) {
                    rests.soon.push(said);
                }
            }
            Some(_) => {}
        }
    }
    rests
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
        json!({
            "mission": mission.id, "title": mission.title, "owner": mission.owner, "outputs": mission.outputs, "outcomes": outcomes,
            "unstated": unstated(mission, snapshots),
        })
    };
    let head = snapshots.last().map(|last| format!("{}:{}", last.number, last.digest));
    json!({ "on": today, "head": head, "agreements_as_of": BY_FILES, "missions": missions.iter().map(mission).collect::<Vec<_>>() })
}

/// Everything as a table, with what belongs to each outcome below.
pub(crate) fn board(known: &Known, missions: &[&Mission], snapshots: &[Snapshot], today: NaiveDate) -> String {
    let (mut rows, mut notes) = (Vec::new(), String::new());
    for mission in missions {
        for one in of(known, mission, snapshots, today) {
            rows.push(row(mission, &one));
            let _ = writeln!(notes, "{}/{}: {} ({})", mission.id, one.outcome, one.verdict.as_str(), inert(&one.because));
            if let Some(outcome) = mission.outcome(one.outcome.as_str()) {
                rests(known, mission, outcome, today).soon.iter().for_each(|soon| {
                    let _ = writeln!(notes, "  {soon}");
                });
            }
            one.hidden().iter().chain(&one.restated).for_each(|said| {
                let _ = writeln!(notes, "  {}", inert(said));
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
        for gone in unstated(mission, snapshots) {
            let _ = writeln!(notes, "{}: {}", mission.id, inert(&gone.says()));
        }
    }
    let titles = ["mission", "outcome", "status", "value", "path", "target", "trend a year", "data of"];
    let head = snapshots.last().map_or_else(String::new, |last| format!("head {}:{}\n", last.number, last.digest));
    format!("{}\n{notes}agreements {BY_FILES}\n{head}", Table::of(&titles, rows).text(out::colour()))
}

fn row(mission: &Mission, one: &OutcomeStatus) -> Vec<String> {
    let latest = one.latest.as_ref();
    let none = || "–".to_owned();
    let value = match latest.map(|latest| (latest.value, latest.interval)) {
        Some((Some(value), Some(bounds))) if bounds.high > bounds.low => format!("{} ({})", short(value), bounds.in_words()),
        Some((Some(value), _)) => short(value),
        Some((None, _)) if latest.and_then(|latest| latest.untold.as_ref()).is_some_and(|why| why.starts_with("withheld")) => {
            "withheld".to_owned()
        }
        Some((None, _)) => "missing".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_and_what_ends_within_thirty_days_is_named() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let of = |last: Option<&str>| {
            let by = last.map(|last| ("claims".to_owned(), day(last)));
            until([("dwp.claims".to_owned(), by)].into_iter(), "unit", day("2027-03-01"))
        };
        assert_eq!(of(Some("2027-04-01")), Rests::default());
        assert_eq!(of(Some("2027-03-31")).soon, ["the agreement 'claims' ends on 2027-03-31"]);
        assert!(of(Some("2027-03-01")).ended.is_none(), "its last day is one of it");
        assert_eq!(of(Some("2027-02-28")).ended.as_deref(), Some("the agreement 'claims' ended on 2027-02-28"));
        assert!(of(None).ended.unwrap().contains("covers the dataset 'dwp.claims'"));
    }
}
