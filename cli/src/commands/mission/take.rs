//! Takes a snapshot: asks the gateway as any caller does, and keeps what it answered.

use chrono::{NaiveDate, Utc};
use clap::Args;
use concordat_audit::note::VerifierKey;
use concordat_mission::schedule::{State, due, is_of, scheduled};
use concordat_mission::snapshot::{Aim, AskedBy, statement};
use concordat_mission::{Mission, Outcome, Snapshot, Snapshots as _, SqliteStore, StoreError, Taken};
use concordat_policy::Name;

use super::compare::definition_now;
use super::{Gateway, Kept, Known, damaged, mission_name, rows};
use crate::client::{Answer, Client, Matching, promise};
use crate::commands::query::of_view;
use crate::failure::{Failure, Result};
use crate::federation::Layout;
use crate::federation::describe::Caller;
use crate::out;

#[derive(Debug, Args)]
pub(crate) struct SnapshotCommand {
    /// The mission
    #[arg(value_name = "MISSION", value_parser = mission_name)]
    of: Name,
    /// One of its outcomes; all where none is named
    #[arg(long, value_name = "OUTCOME", value_parser = mission_name)]
    outcome: Option<Name>,
    /// A day of a period that was missed: what is answered is kept for it if the departments' data is still of it
    #[arg(long, value_name = "DATE", conflicts_with = "supersedes")]
    period: Option<NaiveDate>,
    /// The number of the snapshot that this one corrects
    #[arg(long, value_name = "NUMBER", requires = "because", requires = "outcome")]
    supersedes: Option<u64>,
    /// Why it must be corrected
    #[arg(long, value_name = "WHY", requires = "supersedes")]
    because: Option<String>,
    #[command(flatten)]
    kept: Kept,
    #[command(flatten)]
    gateway: Gateway,
}

/// What a snapshot is of, beside its outcome.
#[derive(Debug, Clone, Default)]
pub(super) struct As {
    /// The period that it is the snapshot of.
    pub(super) period: Option<NaiveDate>,
    /// What it corrects, and why.
    pub(super) corrects: Option<(u64, String)>,
}

impl SnapshotCommand {
    pub(super) async fn run(self) -> miette::Result<()> {
        let layout = Layout::new(&self.gateway.folder);
        let known = self.kept.known(&layout)?;
        let mission = known.mission(&self.of)?;
        let outcomes: Vec<&Outcome> = match &self.outcome {
            None => mission.outcomes.iter().collect(),
            Some(id) => vec![mission.outcome(id.as_str()).ok_or_else(|| {
                let known: Vec<&str> = mission.outcomes.iter().map(|outcome| outcome.id.as_str()).collect();
                Failure::usage(format!("the mission '{}' has no outcome '{id}'", mission.id)).advice(format!("it has {}", known.join(", ")))
            })?],
        };
        let mut store = self.kept.store(&layout)?;
        // Before anybody is asked.
        let all = known.verified(&store)?.snapshots;
        let corrects = self.supersedes.zip(self.because.clone());
        let of = match &corrects {
            None => As::default(),
            Some((number, _)) => {
                let corrected = all.iter().find(|one| one.number == *number).ok_or_else(|| damaged(StoreError::Unknown(*number)))?;
                As { period: corrected.taken.period, corrects }
            }
        };
        for outcome in outcomes {
            let period = self.period.map(|day| missed_on(mission, outcome, &all, day)).transpose()?;
            if let Some(due) = due(mission, outcome, &all, Utc::now().date_naive()).filter(|_| period.is_none() && of.corrects.is_none()) {
                out::progress(&format!(
                    "a snapshot of '{id}' is due for the period from {starts}; this one is kept as one on demand, and --period {starts} takes that",
                    id = outcome.id,
                    starts = due.starts
                ));
            }
            let of = As { period: period.or(of.period), ..of.clone() };
            let snapshot = take(&self.gateway, &known, &mut store, mission, outcome, of).await?;
            out::result(&format!("{}\n", told(outcome, &snapshot)))?;
        }
        Ok(())
    }
}

/// The first day of the period around a day that has no snapshot, though one was due or is.
fn missed_on(mission: &Mission, outcome: &Outcome, snapshots: &[Snapshot], day: NaiveDate) -> Result<NaiveDate> {
    let period = outcome.every.period(day);
    let all = scheduled(mission, outcome, snapshots, Utc::now().date_naive());
    // What is over may have been longer or shorter.
    match all.iter().find(|one| one.period == period || one.period.holds(day)).map(|one| one.state) {
        Some(State::Missed | State::Due | State::Withdrawn(_)) => Ok(period.starts),
        Some(State::Taken(number)) => Err(damaged(StoreError::Twice(number))),
        None => Err(Failure::usage(format!("no snapshot of '{}' was due in the period from {}", outcome.id, period.starts))
            .advice("the mission's file says from when on, and until when")),
    }
}

/// Takes one.
///
/// # Errors
/// What the gateway refused, or that the answer is not one that can be kept, or not for that period; then nothing is.
pub(super) async fn take(
    gateway: &Gateway,
    known: &Known,
    store: &mut SqliteStore,
    mission: &Mission,
    outcome: &Outcome,
    of: As,
) -> Result<Snapshot> {
    let service = Caller {
        subject: mission.identity.clone(),
        organisation: mission.owner.clone(),
        roles: Vec::new(),
        purpose: outcome.purpose.to_string(),
    };
    let client = gateway.connect_as(service, mission.id.as_str()).await?;
    let asked_by = asked_by(&client, mission).await?;
    let catalogue = client.catalogue().await?;
    let not_the_gateways = |what: String| Failure::new(what).advice("compare views/ with the gateway's, or name its estate with --estate");
    if !catalogue.views.iter().any(|view| view.name == outcome.view) {
        return Err(not_the_gateways(format!("the gateway has no view '{}' for the purpose '{}'", outcome.view, outcome.purpose)));
    }
    // What is measured is told by texts here: the gateway must show each of them, and as its own.
    for (name, sql) in known.estate.statements(&mission.id, &outcome.view) {
        match catalogue.views.iter().find(|view| view.name == name) {
            Some(view) if statement(&view.sql) == statement(&sql) => {}
            Some(_) => return Err(not_the_gateways(format!("the view '{name}' of the gateway has another text than the estate's here"))),
            None => {
                let outer = &outcome.view;
                return Err(Failure::new(format!(
                    "the gateway does not show the view '{name}', which '{outer}' uses: what is measured cannot be known from here"
                ))
                .advice(format!("write it into '{outer}' as a subquery, or make it a view that is answered by itself")));
            }
        }
    }
    let definition = definition_now(known, mission, outcome);
    let answer = ask(&client, &of_view(&outcome.view), known.log_key.as_ref()).await?;
    let stated = serde_json::from_value(answer.summary.clone()).map_err(|e| {
        Failure::new(format!("the gateway does not state all that a snapshot keeps of its answer: {e}"))
            .advice("it is of an older version: ask its operator to renew it")
    })?;
    let (columns, rows) = rows::of(&answer.schema, &answer.batches)?;
    let correcting = of.corrects.is_some();
    let (supersedes, because) = of.corrects.unzip();
    let mut taken = Taken {
        mission: mission.id.clone(),
        outcome: outcome.id.clone(),
        period: of.period,
        taken_at: Utc::now(),
        asked_by,
        definition,
        aim: Aim::of(mission, outcome),
        view: outcome.view.clone(),
        stated,
        columns,
        rows,
        supersedes,
        because,
    };
    let strange = of
        .period
        .map(|starts| outcome.every.period(starts))
        .filter(|period| !is_of(&taken, *period) || taken.period != Some(period.starts));
    if correcting && strange.is_some() {
        // It withdraws its predecessor, and fills no period of which it is not.
        taken.period = None;
    } else if let Some(period) = strange {
        let newest = taken.days(&outcome.standing).newest;
        return Err(Failure::new(format!(
            "nothing is kept for the period from {}: the departments' data is of {newest}, and nobody can ask for it as it was",
            period.starts
        ))
        .advice("a snapshot without --period is kept as one on demand"));
    }
    if let Some(absent) = outcome.columns().find(|column| taken.column(column).is_none()) {
        return Err(Failure::new(format!("the answer has no column '{absent}', which the outcome '{}' needs", outcome.id))
            .advice("the estate here is not the gateway's: compare views/"));
    }
    if taken.rows_where(&outcome.row).count() > 1 {
        return Err(Failure::new(format!("several rows of the answer are the headline of the outcome '{}'", outcome.id))
            .advice("name one row by its columns' values, in `row` of the mission's file"));
    }
    let bytes = rows::bytes(&answer.schema, &answer.batches)?;
    store.add(taken, &bytes).map_err(damaged)
}

/// Whom the gateway takes the token for: it must be the mission's own identity.
async fn asked_by(client: &Client, mission: &Mission) -> Result<AskedBy> {
    let who = client.who_am_i().await?;
    if (who.subject.as_str(), who.organisation.as_str()) == (mission.identity.as_str(), mission.owner.as_str()) {
        return Ok(AskedBy { issuer: who.issuer, subject: who.subject, organisation: who.organisation });
    }
    let (identity, owner) = (&mission.identity, &mission.owner);
    Err(Failure::new(format!(
        "snapshots of the mission '{}' are taken as '{identity}' of '{owner}', and the token is of '{}' of '{}'",
        mission.id, who.subject, who.organisation
    ))
    .advice(
        "give the service identity's own token with --token-file or in client.toml, or correct identity and owner in the mission's file",
    ))
}

/// The whole answer with the status of each cell, which is the one that the gateway's log promised.
async fn ask(client: &Client, sql: &str, log_key: Option<&VerifierKey>) -> Result<Answer> {
    let answer = client.clone().cells(true).query(sql).await?;
    matches(&answer, log_key)?;
    Ok(answer)
}

/// That an answer is the one of its promise, and that by the key of the gateway's log where it is known.
pub(super) fn matches(answer: &Answer, log_key: Option<&VerifierKey>) -> Result<()> {
    let promise = promise(&answer.summary)?;
    log_key.map_or(Ok(()), |key| promise.verify(key)).map_err(|e| {
        Failure::new(e.to_string())
            .advice("compare the key with the one that the gateway's operator published, and report it if it is the same")
    })?;
    let of = promise.answer.as_ref().ok_or_else(|| {
        Failure::new("the gateway's promise does not say of which answer it is")
            .advice("it is of an older version: ask its operator to renew it")
    })?;
    let mut matching = Matching::begin(of, &answer.schema)?;
    answer.batches.iter().try_for_each(|batch| matching.add(batch))?;
    matching.finish()
}

/// A snapshot in a line.
pub(super) fn told(outcome: &Outcome, snapshot: &Snapshot) -> String {
    let taken = &snapshot.taken;
    let period = taken.period.map_or_else(|| "on demand".to_owned(), |period| format!("for the period from {period}"));
    let supersedes = taken.supersedes.map_or_else(String::new, |number| format!(", supersedes {number}"));
    format!(
        "snapshot {} of {}/{} {period}, data of {}{supersedes}: query {}, log entry {}, head {}:{}",
        snapshot.number,
        taken.mission,
        taken.outcome,
        taken.days(&outcome.standing).newest,
        taken.stated.query_id,
        taken.stated.log_entry,
        snapshot.number,
        snapshot.digest
    )
}
