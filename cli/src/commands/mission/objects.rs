//! `mission new`, `check`, `list`, `show`: the objects as the estate states them.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;

use chrono::Utc;
use clap::Args;
use concordat_mission::mission::{DRAFT, Direction, Kind, Row};
use concordat_mission::pivot::unlike;
use concordat_mission::{Mission, Outcome, Pivots as _, Snapshots as _, Unstated, unstated};
use concordat_policy::Name;
use serde_json::json;

use super::status::{Rests, rests};
use super::{Offline, Output, damaged, mission_name};
use crate::failure::{Failure, Result};
use crate::federation::layout::create_private;
use crate::federation::text::quoted;
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The mission, as in missions.toml
    #[arg(value_name = "MISSION", value_parser = mission_name)]
    mission: Name,
    #[command(flatten)]
    place: Offline,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    place: Offline,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The mission
    #[arg(value_name = "MISSION", value_parser = mission_name)]
    mission: Name,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

impl New {
    pub(super) fn run(self) -> miette::Result<()> {
        Ok(self.write()?)
    }

    fn write(self) -> Result<()> {
        let estate = self.place.kept.estate(&self.place.layout());
        let path = estate.join("missions.toml");
        let text = crate::federation::layout::read(&path)?;
        let declared: toml::Table = text.parse().map_err(|e: toml::de::Error| Failure::file("understood", &path, e.message()))?;
        let missions = declared.get("mission").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let of = |mission: &&toml::Value| mission.get("id").and_then(toml::Value::as_str) == Some(self.mission.as_str());
        let declared = missions.iter().find(of).ok_or_else(|| {
            Failure::usage(format!("the mission '{}' is not in {}", self.mission, path.display()))
                .advice("declare it there first: id, title, goal")
        })?;
        let mut draft = DRAFT.replacen("\"draft\"", &quoted(self.mission.as_str()), 1);
        for (key, placeholder) in [("title", "\"TITLE\""), ("goal", "\"GOAL\"")] {
            if let Some(said) = declared.get(key).and_then(toml::Value::as_str).filter(|said| !said.is_empty()) {
                draft = draft.replacen(placeholder, &quoted(said), 1);
            }
        }
        let folder = estate.join("missions");
        create_private(&folder)?;
        let path = folder.join(format!("{}.toml", self.mission));
        let made = OpenOptions::new().write(true).create_new(true).open(&path).and_then(|mut file| file.write_all(draft.as_bytes()));
        made.map_err(|e| Failure::file("written", &path, e).advice("it is made only where there is none: nothing is replaced"))?;
        out::progress(&format!("{} is written. Fill it in; then: {} mission check", path.display(), super::super::program()));
        Ok(())
    }
}

impl Check {
    pub(super) fn run(self) -> miette::Result<()> {
        let known = self.place.known()?;
        let store = self.place.kept.read(&self.place.layout())?;
        let snapshots = store.as_ref().map(|store| store.all().map_err(damaged)).transpose()?.unwrap_or_default();
        let pivots = store.map(|store| store.pivots().map_err(damaged)).transpose()?.unwrap_or_default();
        let mut text = String::new();
        for mission in &known.missions {
            let (outcomes, outputs) = (mission.outcomes.len(), mission.outputs.len());
            let _ = writeln!(text, "ok   mission '{}': {outcomes} outcome(s), {outputs} output(s)", mission.id);
            for outcome in mission.outcomes.iter().filter(|outcome| mission.outputs_of(outcome).next().is_none()) {
                let _ = writeln!(text, "warn no output should move the outcome '{}'", outcome.id);
            }
            for said in unlike(mission, &pivots).into_iter().chain(unstated(mission, &snapshots).iter().map(Unstated::says)) {
                let _ = writeln!(text, "warn {said}");
            }
            for outcome in &mission.outcomes {
                let Rests { ended, soon } = rests(&known, mission, outcome, Utc::now().date_naive());
                for said in ended.into_iter().chain(soon) {
                    let _ = writeln!(text, "warn the outcome '{}': {said}", outcome.id);
                }
            }
        }
        let stated = |id: &Name| known.missions.iter().chain(&known.unsound).any(|mission| mission.id == *id);
        for mission in known.estate.missions.iter().filter(|mission| !stated(&mission.id)) {
            let _ = writeln!(text, "warn the mission '{0}' states no outcome: concordat mission new {0}", mission.id);
        }
        for template in &known.estate.templates {
            let parameters: Vec<String> = template.parameters.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
            let (name, views) = (&template.name, if template.views.is_empty() { "no view".into() } else { template.views.join(", ") });
            let _ = writeln!(text, "ok   template '{name}' of the mission '{}' ({}): {views}", template.mission, parameters.join(", "));
        }
        out::result(&text)?;
        match known.wrong {
            0 => Ok(()),
            wrong => Err(Failure::new(format!("{wrong} file(s) are wrong")).advice("each report above says what").into()),
        }
    }
}

impl List {
    pub(super) fn run(self) -> miette::Result<()> {
        let known = self.place.known()?;
        if self.output == Output::Json {
            return Ok(out::result(&format!("{}\n", json!({ "missions": known.missions })))?);
        }
        let row = |mission: &Mission, outcome: &Outcome| {
            let outputs: Vec<&str> = mission.outputs_of(outcome).map(|output| output.id.as_str()).collect();
            let id = |name: &Name| name.to_string();
            vec![id(&mission.id), id(&outcome.id), outcome.title.clone(), path(outcome), id(&outcome.lead), outputs.join(", ")]
        };
        let rows = known.missions.iter().flat_map(|mission| mission.outcomes.iter().map(|outcome| row(mission, outcome))).collect();
        let titles = ["mission", "outcome", "title", "from → to", "lead", "outputs"];
        Ok(out::result(&Table::of(&titles, rows).text(out::colour()))?)
    }
}

impl Show {
    pub(super) fn run(self) -> miette::Result<()> {
        let known = self.place.known()?;
        let mission = known.mission(&self.mission)?;
        if self.output == Output::Json {
            return Ok(out::result(&format!("{}\n", json!(mission)))?);
        }
        Ok(out::result(&words(mission))?)
    }
}

/// `0.5 → 0.4 by 2028-12-26`.
pub(super) fn path(outcome: &Outcome) -> String {
    format!("{} → {} by {}", outcome.baseline.value, outcome.target.value, outcome.target.on)
}

/// A mission in plain words.
fn words(mission: &Mission) -> String {
    let mut text = format!("{}\n{}\n", mission.title, mission.goal);
    let mut line = |said: String| {
        text.push_str(&said);
        text.push('\n');
    };
    line(format!(
        "Mission '{}' of {}, {} to {}; snapshots are taken as '{}'.",
        mission.id, mission.owner, mission.starts, mission.ends, mission.identity
    ));
    for outcome in &mission.outcomes {
        let better = if outcome.direction == Direction::Up { "more" } else { "less" };
        line(format!("\nOutcome '{}': {}", outcome.id, outcome.title));
        if !outcome.description.is_empty() {
            line(format!("  {}", outcome.description));
        }
        line(format!(
            "  measured as {} of the view {}{}, in {}; {better} is better",
            measure(outcome),
            outcome.view,
            rows(&outcome.row),
            outcome.unit
        ));
        line(format!("  from {} on {} to {} on {}", outcome.baseline.value, outcome.baseline.on, outcome.target.value, outcome.target.on));
        for milestone in &outcome.milestones {
            line(format!("  by {}: {} ({})", milestone.on, milestone.value, milestone.title));
        }
        let contributing: Vec<&str> = outcome.contributing.iter().map(Name::as_str).collect();
        let with = if contributing.is_empty() { String::new() } else { format!(", with {}", contributing.join(", ")) };
        line(format!("  led by {}{with}; asked for the purpose {}", outcome.lead, outcome.purpose));
        for breakdown in &outcome.breakdowns {
            line(format!("  broken down by {} ({})", breakdown.by.join(", "), breakdown.title));
        }
        let every = serde_json::to_value(outcome.every).ok().and_then(|every| every.as_str().map(str::to_owned)).unwrap_or_default();
        line(format!("  a snapshot each {every} from {}; data counts for {} days", outcome.from, outcome.fresh_for_days));
    }
    for output in &mission.outputs {
        let outcomes: Vec<&str> = output.outcomes.iter().map(Name::as_str).collect();
        line(format!("\nOutput '{}': {}", output.id, output.title));
        line(format!("  {}: by {}, for {}", output.activity, output.owner, outcomes.join(", ")));
        let because = output.because.as_ref().map_or_else(String::new, |because| format!(": {because}"));
        line(format!("  {} since {}{because}", output.status.as_str(), output.since));
        for count in &output.counts {
            line(format!("  {} {} by {}, by its owner's count", count.value, count.what, count.on));
        }
    }
    text
}

fn measure(outcome: &Outcome) -> String {
    match &outcome.kind {
        Kind::Count => format!("the number '{}'", outcome.column),
        Kind::Share { counted } => format!("the share '{}' among '{counted}'", outcome.column),
        Kind::Mean { counted, largest } => format!("the mean '{}' over '{counted}', of values up to {largest}", outcome.column),
    }
}

fn rows(row: &Row) -> String {
    let conditions: Vec<String> = row.iter().map(|(column, value)| format!("{column} = {value}")).collect();
    if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) }
}
