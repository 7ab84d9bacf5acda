//! `mission pivot` and `mission pivots`: what was decided of an output, with the evidence as it stood.

use std::fmt::Write as _;

use chrono::{NaiveDate, Utc};
use clap::Args;
use concordat_mission::inert::inert;
use concordat_mission::pivot::What;
use concordat_mission::status::status;
use concordat_mission::{Decided, Mission, Pivot, Pivots as _, Snapshot, Snapshots as _, SqliteStore};
use concordat_policy::Name;
use serde_json::{Value, json};

use super::compare::{Groups, definition_now, moved, outcome};
use super::{Known, Offline, Output, damaged, mission_name};
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Args)]
pub(crate) struct PivotCommand {
    /// The mission
    #[arg(value_name = "MISSION", value_parser = mission_name)]
    mission: Name,
    /// The output, as in the mission's file
    #[arg(value_name = "OUTPUT", value_parser = mission_name)]
    of: Name,
    /// It is stopped
    #[arg(long, required_unless_present = "changed", conflicts_with = "changed")]
    stopped: bool,
    /// It goes on otherwise
    #[arg(long)]
    changed: bool,
    /// From which day on
    #[arg(long, value_name = "DATE")]
    on: NaiveDate,
    /// Why
    #[arg(long, value_name = "WHY")]
    because: String,
    /// The organisation that decided, instead of the mission's owner
    #[arg(long, value_name = "ORGANISATION")]
    decided_by: Option<String>,
    /// Keep with it what `mission compare` says now of this outcome
    #[arg(long, value_name = "OUTCOME", value_parser = mission_name, requires = "by", requires = "with", requires = "began")]
    outcome: Option<Name>,
    /// As for `mission compare`
    #[arg(long, value_name = "COLUMN", requires = "outcome")]
    by: Option<String>,
    /// As for `mission compare`
    #[arg(long, value_name = "GROUP", requires = "outcome")]
    with: Vec<String>,
    /// As for `mission compare`
    #[arg(long, value_name = "GROUP", requires = "outcome")]
    without: Vec<String>,
    /// As for `mission compare`
    #[arg(long, value_name = "DATE", requires = "outcome")]
    began: Option<NaiveDate>,
    /// As for `mission compare`
    #[arg(long, value_name = "DATE", requires = "outcome")]
    until: Option<NaiveDate>,
    /// As for `mission compare`
    #[arg(long, value_name = "GROUP=DATE", value_parser = moved, requires = "outcome")]
    changed_hands: Vec<(String, NaiveDate)>,
    #[command(flatten)]
    place: Offline,
}

#[derive(Debug, Args)]
pub(crate) struct Pivots {
    /// Which missions; all where none is named
    #[arg(value_name = "MISSION", value_parser = mission_name)]
    missions: Vec<Name>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

impl PivotCommand {
    pub(super) fn run(self) -> miette::Result<()> {
        let known = self.place.known()?;
        let mission = known.mission(&self.mission)?;
        if !mission.outputs.iter().any(|output| output.id == self.of) {
            let outputs: Vec<&str> = mission.outputs.iter().map(|output| output.id.as_str()).collect();
            return Err(Failure::usage(format!("the mission '{}' has no output '{}'", mission.id, self.of))
                .advice(format!("it has {}", outputs.join(", ")))
                .into());
        }
        let decision = Decision {
            output: self.of.clone(),
            what: if self.stopped { What::Stopped } else { What::Changed },
            on: self.on,
            by: self.decided_by.clone(),
            because: self.because.clone(),
            compared: self.compared(),
        };
        let pivot = decide(&known, mission, &mut self.place.kept.store(&self.place.layout())?, decision)?;
        let (what, on) = (pivot.decided.what.as_str(), pivot.decided.on);
        out::progress(&format!(
            "state it in the mission's file too: status = \"{what}\", since = \"{on}\" and because of the output '{}'",
            self.of
        ));
        Ok(out::result(&text(&pivot))?)
    }

    fn compared(&self) -> Option<(Name, Groups)> {
        let (id, by, began) = (self.outcome.clone()?, self.by.clone()?, self.began?);
        let (with, without, changed_hands) = (self.with.clone(), self.without.clone(), self.changed_hands.clone());
        let (of, began) = (Some(self.of.clone()), Some(began));
        Some((id, Groups { by, with, without, of, began, until: self.until, changed_hands }))
    }
}

/// What is decided of an output.
pub(crate) struct Decision {
    pub(crate) output: Name,
    pub(crate) what: What,
    pub(crate) on: NaiveDate,
    /// The organisation that decided; none: the mission's owner.
    pub(crate) by: Option<String>,
    pub(crate) because: String,
    /// What is compared for it, of which outcome.
    pub(crate) compared: Option<(Name, Groups)>,
}

/// Records it with the evidence as it stands now.
///
/// # Errors
/// That there is no such outcome, or that the store cannot be read or added to.
pub(crate) fn decide(known: &Known, mission: &Mission, store: &mut SqliteStore, decision: Decision) -> Result<Pivot> {
    let all = store.all().map_err(damaged)?;
    let (snapshots, comparison) = evidence(known, mission, &decision, &all)?;
    let decided = Decided {
        mission: mission.id.clone(),
        output: decision.output,
        what: decision.what,
        on: decision.on,
        recorded_at: Utc::now(),
        by: decision.by.unwrap_or_else(|| mission.owner.clone()),
        because: decision.because,
        snapshots,
        comparison,
    };
    store.pivot(decided).map_err(damaged)
}

/// The snapshots that are looked at, and what a comparison says. Without one, or where it is refused: the newest snapshot of each outcome
/// that the output should move.
fn evidence(known: &Known, mission: &Mission, decision: &Decision, all: &[Snapshot]) -> Result<(Vec<u64>, Value)> {
    let newest = || newest(known, mission, &decision.output, all);
    let Some((id, groups)) = &decision.compared else { return Ok((newest(), Value::Null)) };
    Ok(match groups.compare(known, mission, outcome(mission, id)?, all) {
        Ok(compared) => (compared.before.iter().chain(&compared.after).copied().collect(), json!(compared)),
        Err(refused) => (newest(), json!({ "outcome": id, "refused": refused })),
    })
}

fn newest(known: &Known, mission: &Mission, output: &Name, all: &[Snapshot]) -> Vec<u64> {
    let should_move = |id: &Name| mission.outputs.iter().any(|one| one.id == *output && one.outcomes.contains(id));
    let today = Utc::now().date_naive();
    let outcomes = mission.outcomes.iter().filter(|outcome| should_move(&outcome.id));
    let latest = outcomes.filter_map(|outcome| status(mission, outcome, &definition_now(known, mission, outcome), all, today).latest);
    latest.map(|latest| latest.snapshot).collect()
}

impl Pivots {
    pub(super) fn run(self) -> miette::Result<()> {
        let store = self.place.kept.read(&self.place.layout())?;
        let mut pivots = store.as_ref().map(|store| store.pivots().map_err(damaged)).transpose()?.unwrap_or_default();
        pivots.retain(|pivot| self.missions.is_empty() || self.missions.contains(&pivot.decided.mission));
        let text = match self.output {
            Output::Json => format!("{}\n", json!({ "pivots": pivots })),
            Output::Table => pivots.iter().map(text).collect::<Vec<_>>().join("\n"),
        };
        Ok(out::result(&text)?)
    }
}

/// A pivot for people.
fn text(pivot: &Pivot) -> String {
    let Decided { mission, output, what, on, recorded_at, by, because, snapshots, comparison } = &pivot.decided;
    let mut text =
        format!("pivot {}: {mission}/{output} {} from {on}, by {}: {}\n", pivot.number, what.as_str(), inert(by), inert(because));
    let looked_at: Vec<String> = snapshots.iter().map(u64::to_string).collect();
    let looked_at = if looked_at.is_empty() { "none".to_owned() } else { looked_at.join(", ") };
    let recorded = recorded_at.format("%Y-%m-%dT%H:%M:%SZ");
    let _ = writeln!(
        text,
        "  recorded {recorded}, with the history at {}:{}; snapshots looked at: {looked_at}",
        pivot.history.number, pivot.history.digest
    );
    let said = |member: &str| comparison.get(member).and_then(Value::as_str);
    if let Some(says) = said("says") {
        let _ = writeln!(text, "  {}: {}", inert(said("outcome").unwrap_or_default()), inert(says));
    }
    for refused in comparison.get("refused").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(text, "  not compared: {}", inert(refused));
    }
    text
}
