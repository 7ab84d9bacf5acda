//! `mission compare`: what changed where an output is, against where it is not.

use std::fmt::Write as _;

use chrono::NaiveDate;
use clap::Args;
use concordat_mission::compare::{Comparison, Question, Refused, Side};
use concordat_mission::inert::inert;
use concordat_mission::interval::short;
use concordat_mission::snapshot::definition;
use concordat_mission::{Mission, Outcome, Snapshot, compare};
use concordat_policy::Name;
use serde_json::json;

use super::{Known, Offline, Output, mission_name};
use crate::failure::{Failure, Result};
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The mission
    #[arg(value_name = "MISSION", value_parser = mission_name)]
    mission: Name,
    /// One of its outcomes
    #[arg(long, value_name = "OUTCOME", value_parser = mission_name)]
    outcome: Name,
    #[command(flatten)]
    groups: Groups,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

/// Which groups are compared, and when.
#[derive(Debug, Clone, Args)]
pub(crate) struct Groups {
    /// The column of a breakdown by which groups are told apart
    #[arg(long, value_name = "COLUMN")]
    pub(crate) by: String,
    /// A group with the output; repeat it
    #[arg(long, value_name = "GROUP", required = true)]
    pub(crate) with: Vec<String>,
    /// A group without it; repeat it. All others where none is named
    #[arg(long, value_name = "GROUP")]
    pub(crate) without: Vec<String>,
    /// The output, as in the mission's file. Where it runs there as planned, it began on its `since`, unless --began says otherwise
    #[arg(long, value_name = "OUTPUT", value_parser = mission_name)]
    pub(crate) of: Option<Name>,
    /// The output's first day
    #[arg(long, value_name = "DATE", required_unless_present = "of")]
    pub(crate) began: Option<NaiveDate>,
    /// The last day that counts
    #[arg(long, value_name = "DATE")]
    pub(crate) until: Option<NaiveDate>,
    /// A group that got or lost the output on another day; repeat it
    #[arg(long, value_name = "GROUP=DATE", value_parser = moved)]
    pub(crate) changed_hands: Vec<(String, NaiveDate)>,
}

/// `GROUP=DATE`.
pub(super) fn moved(text: &str) -> std::result::Result<(String, NaiveDate), String> {
    let parsed = text.rsplit_once('=').and_then(|(group, on)| Some((group.to_owned(), on.parse().ok()?)));
    parsed.filter(|(group, _)| !group.is_empty()).ok_or_else(|| "write GROUP=DATE, as 'North East=2027-04-01'".into())
}

impl Compare {
    pub(super) fn run(self) -> miette::Result<()> {
        let known = self.place.known()?;
        let mission = known.mission(&self.mission)?;
        let outcome = outcome(mission, &self.outcome)?;
        let snapshots = self.place.snapshots(&known)?;
        let compared = self.groups.compare(&known, mission, outcome, &snapshots).map_err(|reasons| refused(&reasons))?;
        let text = match self.output {
            Output::Json => format!("{}\n", json!(compared)),
            Output::Table => text(&compared),
        };
        Ok(out::result(&text)?)
    }
}

impl Groups {
    /// Compares; what the outcome measures now is by the estate's view.
    pub(super) fn compare(
        &self,
        known: &Known,
        mission: &Mission,
        outcome: &Outcome,
        snapshots: &[Snapshot],
    ) -> std::result::Result<Comparison, Vec<Refused>> {
        let output = self.of.as_ref().map(|id| {
            let unknown = || vec![Refused::Groups(format!("the mission '{}' has no output '{id}'", mission.id))];
            mission.outputs.iter().find(|output| output.id == *id).ok_or_else(unknown)
        });
        let output = output.transpose()?;
        let began = match (self.began, output) {
            (Some(began), _) => began,
            (None, Some(output)) => output.began().ok_or_else(|| {
                let (id, status, since) = (&output.id, output.status.as_str(), output.since);
                vec![Refused::Groups(format!(
                    "the mission's file has '{id}' {status} since {since}, and not when it began: say that with --began DATE"
                ))]
            })?,
            (None, None) => return Err(vec![Refused::Groups("when the output began is not said".into())]),
        };
        let question = Question {
            mission,
            outcome,
            definition: &definition_now(known, mission, outcome),
            by: &self.by,
            with: self.with.iter().cloned().collect(),
            without: self.without.iter().cloned().collect(),
            output,
            began,
            until: self.until,
            changed_hands: self.changed_hands.clone(),
        };
        compare(&question, snapshots)
    }
}

/// What an outcome measures now, by the estate here: its view, and the views that this uses.
pub(super) fn definition_now(known: &Known, mission: &Mission, outcome: &Outcome) -> String {
    definition(outcome, &known.estate.statements(&mission.id, &outcome.view))
}

pub(super) fn outcome<'m>(mission: &'m Mission, id: &Name) -> Result<&'m Outcome> {
    mission.outcome(id.as_str()).ok_or_else(|| {
        let known: Vec<&str> = mission.outcomes.iter().map(|outcome| outcome.id.as_str()).collect();
        Failure::usage(format!("the mission '{}' has no outcome '{id}'", mission.id)).advice(format!("it has {}", known.join(", ")))
    })
}

fn refused(reasons: &[Refused]) -> Failure {
    let reasons: Vec<String> = reasons.iter().map(|reason| inert(&reason.to_string())).collect();
    Failure::new(format!("nothing is compared: {}", reasons.join("; ")))
        .advice("a comparison of what is left would mislead; `concordat mission status --output json` shows each group's values")
}

/// A comparison for people.
pub(super) fn text(one: &Comparison) -> String {
    let side = |side: &Side, called: &str| -> Vec<Vec<String>> {
        let group = |group: &concordat_mission::compare::GroupChange| {
            let part = format!("{:.0} %", group.part * 100.0);
            vec![inert(&group.group), called.to_owned(), part, short(group.before), short(group.after), group.change.in_words()]
        };
        let whole = vec![
            "(all)".to_owned(),
            called.to_owned(),
            String::new(),
            short(side.before),
            short(side.after),
            short(side.after - side.before),
        ];
        side.groups.iter().map(group).chain([whole]).collect()
    };
    let rows = side(&one.with, "with").into_iter().chain(side(&one.without, "without")).collect();
    let mut text = Table::of(&[inert(&one.by).as_str(), "output", "counts", "before", "after", "change"], rows).text(out::colour());
    let mut line = |said: String| {
        let _ = writeln!(text, "{said}");
    };
    line(format!("\n{}: {}", one.finding.as_str(), inert(&one.says)));
    line(format!(
        "effect {}, {:.0} % interval {}: rounding and noise alone {}, and chance {} on each side ({:.1} degrees of freedom)",
        short(one.effect),
        one.confidence * 100.0,
        one.interval.in_words(),
        one.rounding.in_words(),
        short(one.chance),
        one.degrees
    ));
    line(format!("before {}: snapshots {}; after: {}", one.began, numbers(&one.before), numbers(&one.after)));
    for left in one.left_out.iter().chain(&one.not_used) {
        line(format!("left out: {}: {}", inert(&left.what), inert(&left.why)));
    }
    line("\nWhat this cannot show".into());
    for said in &one.cannot_show {
        line(format!("- {}", inert(said)));
    }
    text
}

fn numbers(all: &[u64]) -> String {
    all.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
