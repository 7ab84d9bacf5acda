//! `mission run`: snapshots as they fall due.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{NaiveDate, Utc};
use clap::Args;
use concordat_mission::schedule::{State, due, next, scheduled};
use concordat_mission::{Mission, Snapshots as _, SqliteStore};
use concordat_policy::Name;

use super::take::{self, As};
use super::{Gateway, Kept, Known, damaged, mission_name};
use crate::failure::{Failure, Result};
use crate::federation::Layout;
use crate::launch::interrupted;
use crate::out;

/// How long it waits after a snapshot that failed.
const AGAIN: Duration = Duration::from_secs(600);
/// The longest that it sleeps: clocks are set, machines are suspended.
const NAP: Duration = Duration::from_secs(3600);

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Which missions; all where none is named
    #[arg(value_name = "MISSION", value_parser = mission_name)]
    missions: Vec<Name>,
    /// Take what is due now, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    kept: Kept,
    #[command(flatten)]
    gateway: Gateway,
}

impl Run {
    pub(super) async fn run(self) -> miette::Result<()> {
        let mut reported = BTreeSet::new();
        loop {
            let round = self.round(&mut reported).await;
            if self.once {
                return match round? {
                    (0, _) => Ok(()),
                    (failed, _) => Err(Failure::new(format!("{failed} snapshot(s) that are due could not be taken, or file(s) are wrong"))
                        .advice("each line above says why")
                        .into()),
                };
            }
            // Missions' files are edited while it runs: what is wrong with one for a moment ends nothing.
            let wait = round.map_or_else(
                |report| {
                    out::progress(&format!("{report:?}"));
                    AGAIN
                },
                |(failed, next)| if failed > 0 { AGAIN } else { next },
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = interrupted() => return Ok(()),
            }
        }
    }

    /// Takes what is due, by the files as they are now. Returns how many could not be taken, and how long until more may be due.
    async fn round(&self, reported: &mut BTreeSet<(Name, Name, NaiveDate)>) -> miette::Result<(usize, Duration)> {
        let layout = Layout::new(&self.gateway.folder);
        let known = self.kept.known(&layout)?;
        let mut store = self.kept.store(&layout)?;
        known.verified(&store)?;
        let missions = known.named(&self.missions)?;
        missed(&missions, &store, Utc::now().date_naive(), reported)?;
        let mut tell = |line: String| out::result(&format!("{line}\n"));
        let failed = catch_up(&self.gateway, &known, &missions, &mut store, &mut tell).await?;
        // The missions of files that are wrong lose what is due of them.
        let lost = if self.missions.is_empty() { known.wrong } else { 0 };
        Ok((failed.saturating_add(lost), until_next(&missions)))
    }
}

/// Takes what is due of these missions. Returns how many could not be taken; each cause is told as it comes.
///
/// # Errors
/// That the store cannot be read, or what is told not be written.
pub(crate) async fn catch_up(
    gateway: &Gateway,
    known: &Known,
    missions: &[&Mission],
    store: &mut SqliteStore,
    tell: &mut dyn FnMut(String) -> Result<()>,
) -> Result<usize> {
    let mut failed = 0;
    for mission in missions {
        for outcome in &mission.outcomes {
            let Some(period) = due(mission, outcome, &store.all().map_err(damaged)?, Utc::now().date_naive()) else { continue };
            let of = As { period: Some(period.starts), corrects: None };
            match take::take(gateway, known, store, mission, outcome, of).await {
                Ok(snapshot) => tell(take::told(outcome, &snapshot))?,
                Err(failure) => {
                    let advice = failure.advice.as_ref().map_or_else(String::new, |advice| format!(" ({advice})"));
                    out::progress(&format!(
                        "no snapshot of {}/{} for the period from {}: {failure}{advice}",
                        mission.id, outcome.id, period.starts
                    ));
                    failed += 1;
                }
            }
        }
    }
    Ok(failed)
}

/// Takes the snapshots of the periods that hold a day and were missed, of the data that departments have now, which must be of them.
///
/// # Errors
/// The first that cannot be taken.
pub(crate) async fn of_the_past(gateway: &Gateway, known: &Known, store: &mut SqliteStore, day: NaiveDate) -> Result<()> {
    for mission in known.all() {
        for outcome in &mission.outcomes {
            let all = scheduled(mission, outcome, &store.all().map_err(damaged)?, Utc::now().date_naive());
            let missed = all.iter().find(|one| one.period.holds(day) && one.state == State::Missed);
            if let Some(missed) = missed {
                let of = As { period: Some(missed.period.starts), corrects: None };
                take::take(gateway, known, store, mission, outcome, of).await?;
            }
        }
    }
    Ok(())
}

impl Known {
    /// All missions.
    pub(crate) fn all(&self) -> Vec<&Mission> {
        self.missions.iter().collect()
    }
}

/// Says which periods have no snapshot and will have none, each once.
fn missed(missions: &[&Mission], store: &SqliteStore, today: NaiveDate, reported: &mut BTreeSet<(Name, Name, NaiveDate)>) -> Result<()> {
    let snapshots = store.all().map_err(damaged)?;
    for mission in missions {
        for outcome in &mission.outcomes {
            let all = scheduled(mission, outcome, &snapshots, today);
            let new = all.iter().filter(|one| matches!(one.state, State::Missed | State::Withdrawn(_))).map(|one| one.period.starts);
            let new: Vec<String> =
                new.filter(|day| reported.insert((mission.id.clone(), outcome.id.clone(), *day))).map(|day| day.to_string()).collect();
            if !new.is_empty() {
                out::progress(&format!(
                    "missed: {}/{} has no snapshot for the period(s) from {}; nobody can ask for data as it was, and only where data is still \
                     of one does `mission snapshot --period` catch it up",
                    mission.id,
                    outcome.id,
                    new.join(", ")
                ));
            }
        }
    }
    Ok(())
}

/// Until the next period of any outcome begins, an hour at most.
fn until_next(missions: &[&Mission]) -> Duration {
    let now = Utc::now();
    let days =
        missions.iter().flat_map(|mission| mission.outcomes.iter().filter_map(move |outcome| next(mission, outcome, now.date_naive())));
    let first = days.min().and_then(|day| day.and_hms_opt(0, 0, 0)).map(|start| start.and_utc() - now);
    first.and_then(|wait| wait.to_std().ok()).unwrap_or(NAP).min(NAP)
}
