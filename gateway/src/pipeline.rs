//! The gateway in one sentence: authenticate → open → authorize → plan → execute → state → close → deliver.
//!
//! Each step takes what only the step before can give: [`Caller`], `Opened`, [`Permit`], [`Plan`], `Protected`, `Stated`, `Closed`,
//! [`Answer`]. A step that is left out does not compile. Authorize and plan together are [`judge`]: what answers, describes and
//! explains a statement decides by it, and until it has decided no order is placed.

mod explain;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use concordat_guard::ClaimGuard;
use concordat_operate::listener::prove;
use concordat_policy::{Cause, Code, Permit, Refusal, authorize};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

pub(crate) use self::explain::explain;
use crate::authenticate::{Caller, Identity, bearer};
use crate::deliver::{Answer, Cells, deliver, state};
use crate::estate::{Estate, Texts, View};
use crate::execute::{agreements_of, execute};
use crate::explain::judged;
use crate::fetch::{leaves, orderable};
use crate::guard;
use crate::limits::{Allowance, Key, QueryMemory, Source, reason};
use crate::plan::{Plan, Statement, VIEWS, examples, named};
use crate::planned::{Found, FoundPlan, Names, Question};
use crate::record::{self, Intent, Opened, unavailable};
use crate::terms::{Stop, Terms};
use crate::{Gateway, runtime};

/// A refusal, and the id under which the log has it, once there is one.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) query_id: Option<String>,
}

/// What an answer would look like, and the texts of agreements by which that was decided.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) schema: SchemaRef,
    pub(crate) texts: Texts,
    /// Whether the status of each cell is part of it.
    pub(crate) cells: Cells,
}

impl Described {
    fn of(plan: &Plan, cells: Cells) -> Result<Self, Refusal> {
        Ok(Self { schema: cells.schema(plan)?, texts: Texts::of(plan)?, cells })
    }
}

/// Where a request comes from: what it says of itself, and the peer's address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'m> {
    pub(crate) metadata: &'m MetadataMap,
    pub(crate) peer: Option<IpAddr>,
    extensions: &'m tonic::Extensions,
}

impl<'m> Origin<'m> {
    pub(crate) fn of<T>(request: &'m tonic::Request<T>) -> Self {
        Self { metadata: request.metadata(), peer: request.remote_addr().map(|a| a.ip()), extensions: request.extensions() }
    }
}

/// Answers one statement, unless it is cancelled.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: Caller,
    statement: &Statement,
    cancelled: &CancellationToken,
) -> Result<Answer, Refused> {
    answer_on(gateway, caller, statement, Terms::of_caller_who_waits(gateway, cancelled.clone())).await
}

/// Answers one statement on the terms of who asks: how long it may wait and run, and what stops it.
pub(crate) async fn answer_on(gateway: &Gateway, caller: Caller, statement: &Statement, terms: Terms) -> Result<Answer, Refused> {
    let opened = opened(gateway, caller, terms.intent, statement, terms.detached.as_deref()).await?;
    let refused = refused_as(&opened);
    let stated = async {
        let Judged { permit, plan, allowance, stop, .. } = judge(gateway, &opened, statement, &terms).await?;
        // Before anything is read: it may be refused.
        let schema = opened.caller.cells().schema(&plan)?;
        let mut protected = execute(gateway, &opened, &permit, plan, allowance, &stop).await?;
        protected.schema = schema;
        gateway.workers.run(async move { state(protected) }).await?
    };
    let stated = stated.await;
    gateway.observed.query(&stated);
    Ok(deliver(opened.close(stated).await.map_err(refused)?))
}

/// Says what the answer to a statement would look like; reads no data.
pub(crate) async fn describe(gateway: &Gateway, caller: Caller, statement: &Statement) -> Result<Described, Refused> {
    let opened = open(gateway, caller, Intent::Describe, statement).await?;
    let refused = refused_as(&opened);
    let described = async {
        let terms = Terms::of_caller_who_waits(gateway, CancellationToken::new());
        let Judged { plan, question, .. } = judge(gateway, &opened, statement, &terms).await?;
        gateway.limits.under(&agreements_of(&gateway.estate.now(), &plan)?, false)?;
        Ok((Described::of(&plan, opened.caller.cells())?, question, plan))
    };
    let described = described.await;
    let (_, (described, question, plan)) = opened.finish(described, serde_json::Value::Null).await.map_err(refused)?;
    gateway.planned.ready(&question, plan);
    Ok(described)
}

/// Prepares a statement: the types of its parameters and, where they do not depend on values, its answer's columns. Reads no data.
pub(crate) async fn prepare(gateway: &Gateway, caller: Caller, sql: &str) -> Result<(Vec<DataType>, Option<Described>), Refused> {
    let opened = open(gateway, caller, Intent::Describe, &sql.into()).await?;
    let refused = refused_as(&opened);
    let prepared = async {
        let terms = Terms::of_caller_who_waits(gateway, CancellationToken::new());
        let (permit, allowance) = admitted(gateway, &opened, &terms).await?;
        let stop = terms.stop();
        stop.unless(note_names(gateway, &opened, &permit, sql)).await?;
        let types = stop.unless(parameters(gateway, &permit, sql, &allowance)).await?;
        let statement = Statement { sql: sql.to_owned(), parameters: examples(&types) };
        match stop.unless(plan(gateway, &permit, &statement, &allowance.memory)).await {
            Ok(plan) => {
                gateway.limits.under(&agreements_of(&gateway.estate.now(), &plan)?, false)?;
                Ok((types, Some(Described::of(&plan, opened.caller.cells())?)))
            }
            // The example is not what will stand there: what it makes of the statement decides nothing.
            Err(refusal) if !types.is_empty() && may_be_of_examples(&refusal) => Ok((types, None)),
            Err(refusal) => Err(refusal),
        }
    };
    let prepared = prepared.await;
    opened.finish(prepared, serde_json::Value::Null).await.map(|(_, prepared)| prepared).map_err(refused)
}

/// Whether a refusal may be of the values that stand in a statement for its parameters, and not of the statement.
fn may_be_of_examples(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::Invalid | Code::Internal) || matches!(refusal.cause(), Some(Cause::Unlisted { .. }))
}

/// Hands the answer of a detached query to its owner, if the agreements still let it.
pub(crate) async fn collect(gateway: &Gateway, caller: Caller, ticket: &[u8]) -> Result<Answer, Refused> {
    let found = gateway.detached.answer(ticket, &caller).and_then(|found| {
        let permit = authorized(&gateway.estate.now(), &caller, Utc::now())?;
        still_permitted(&permit, &found.1)?;
        still_agreed(gateway, &found.1.texts)?;
        caller.at_least().check_kept(&found.1.summary)?;
        Ok(found)
    });
    let (query_id, answer) = match found {
        Ok(found) => found,
        Err(refusal) => return Err(refused_unopened(gateway, &caller, refusal).await),
    };
    record::collected(&gateway.log, &caller, &query_id).await.map_err(Refused::unlogged)?;
    Ok(answer)
}

/// An answer that was kept may be handed out while every agreement behind it is in force for its owner.
fn still_permitted(permit: &Permit, answer: &Answer) -> Result<(), Refusal> {
    let now: BTreeSet<&str> = permit.datasets().map(|d| d.agreement.as_str()).collect();
    let behind = answer.summary.get("agreements").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if behind.iter().all(|agreement| agreement.as_str().is_some_and(|id| now.contains(id))) {
        return Ok(());
    }
    Err(Refusal::new(Code::Denied, "an agreement behind the answer is no longer in force for you")
        .advice("ask again: `concordat catalogue` lists what you may use"))
}

/// That what was planned under these texts may still be used.
///
/// # Errors
/// [`Code::Denied`], naming the agreement.
pub(crate) fn still_agreed(gateway: &Gateway, texts: &Texts) -> Result<(), Refusal> {
    gateway.estate.now().still(texts, Utc::now())
}

/// Decides anew whether a caller may still use what was prepared under `texts`, and records that it was announced again.
pub(crate) async fn announced_again(gateway: &Gateway, caller: Caller, statement: &Statement, texts: &Texts) -> Result<(), Refused> {
    let opened = open(gateway, caller, Intent::Describe, statement).await?;
    let refused = refused_as(&opened);
    let permitted = permit(gateway, &opened).and_then(|_| still_agreed(gateway, texts));
    opened.finish(permitted, serde_json::Value::Null).await.map(drop).map_err(refused)
}

/// Authenticates a caller with exactly one purpose; a failure is recorded.
pub(crate) async fn authenticate(gateway: &Gateway, from: &Origin<'_>) -> Result<Caller, Refused> {
    let identity = identify(gateway, from).await?;
    match identity.clone().with_purpose((None, None)) {
        Ok(caller) => Ok(caller),
        Err(refusal) => Err(turned_away(gateway, &identity, refusal).await),
    }
}

/// Authenticates a user, for what needs no purpose; a failure is recorded, a request counted.
#[tracing::instrument(name = "authenticate", skip_all)]
pub(crate) async fn identify(gateway: &Gateway, from: &Origin<'_>) -> Result<Identity, Refused> {
    let (source, now) = (Source::of(from.peer), Instant::now());
    let token = from.metadata.get("authorization").map(|v| v.as_encoded_bytes()).unwrap_or_default();
    let plausible = || bearer(from.metadata).is_ok_and(|token| gateway.issuers.holds_key_of(token));
    if let Err(refusal) = gateway.limits.proofs.look(&source, token, plausible, now) {
        return Err(noted(gateway, &source, from.peer, refusal).await);
    }
    match Identity::authenticate(&gateway.issuers, from.metadata, from.peer, Utc::now().timestamp()).await {
        Ok(identity) => {
            prove(from.extensions);
            gateway.limits.proofs.good(token, now);
            let key = Key::of_identity(&identity);
            match gateway.limits.request(&key) {
                Ok(()) => Ok(identity),
                Err(refusal) => Err(noted(gateway, &Source::Caller(key), from.peer, refusal).await),
            }
        }
        Err(refusal) => {
            if refusal.code == Code::Unauthenticated && !token.is_empty() {
                gateway.limits.proofs.bad(&source, now);
            }
            Err(noted(gateway, &source, from.peer, refusal).await)
        }
    }
}

/// Records the refusal of a request for which no entry was opened: a ticket that is not the caller's, too many of them.
pub(crate) async fn refused_unopened(gateway: &Gateway, caller: &Caller, refusal: Refusal) -> Refused {
    noted(gateway, &Source::Caller(Key::of(caller)), caller.circumstances().address, refusal).await
}

/// The same, of a user whose purpose is not settled.
pub(crate) async fn turned_away(gateway: &Gateway, identity: &Identity, refusal: Refusal) -> Refused {
    noted(gateway, &Source::Caller(Key::of_identity(identity)), identity.address(), refusal).await
}

/// Records that a user looked into the catalogue.
pub(crate) async fn looked_up(gateway: &Gateway, identity: &Identity) -> Result<(), Refused> {
    record::looked_up(&gateway.log, identity).await.map_err(Refused::unlogged)
}

/// Records a refusal, or counts it where its source floods.
async fn noted(gateway: &Gateway, source: &Source, from: Option<IpAddr>, refusal: Refusal) -> Refused {
    let now = (Instant::now(), Utc::now());
    if !gateway.limits.refusals.note(source, refusal.code.as_str(), reason(&refusal), now) {
        return Refused::unlogged(refusal);
    }
    Refused::unlogged(record::refused(&gateway.log, source, from, &refusal).await.err().unwrap_or(refusal))
}

/// Opens the log's entry.
#[tracing::instrument(name = "open", skip_all)]
pub(crate) async fn open(gateway: &Gateway, caller: Caller, intent: Intent, statement: &Statement) -> Result<Opened, Refused> {
    opened(gateway, caller, intent, statement, None).await
}

async fn opened(
    gateway: &Gateway,
    caller: Caller,
    intent: Intent,
    statement: &Statement,
    detached: Option<&str>,
) -> Result<Opened, Refused> {
    gateway.estate.replaced.write(&gateway.log).await.map_err(|e| Refused::unlogged(unavailable(e)))?;
    record::open((&gateway.log, &gateway.entries), caller, intent, &statement.digested(), detached).await.map_err(Refused::unlogged)
}

/// What was decided about a statement, and all that running it needs. Its place is given back when it is dropped.
struct Judged {
    permit: Permit,
    plan: Plan,
    /// What it was made from.
    question: Question,
    allowance: Allowance,
    stop: Stop,
}

/// Decides about a statement: may its caller ask at all, may it be asked. No order is placed.
async fn judge(gateway: &Gateway, opened: &Opened, statement: &Statement, terms: &Terms) -> Result<Judged, Refusal> {
    let (permit, allowance) = admitted(gateway, opened, terms).await?;
    let stop = terms.stop();
    let question = Question::new(Key::of(&opened.caller), statement, &permit, gateway.estate.now());
    let plan = match gateway.planned.take(&question) {
        Some(found) => stop.unless(planned_before(gateway, opened, found, &allowance.memory)).await?,
        None => {
            let names = stop.unless(note_names(gateway, opened, &permit, &statement.sql)).await?;
            let plan = stop.unless(plan(gateway, &permit, statement, &allowance.memory)).await?;
            gateway.planned.keep(question.clone(), names, plan.made());
            plan
        }
    };
    Ok(Judged { permit, plan, question, allowance, stop })
}

/// Waits for a place, which who may not ask does not take. What lets a query run was decided when it has its place: by then the first
/// decision can be a day old, and agreements, guard rails and the hour are others.
async fn admitted(gateway: &Gateway, opened: &Opened, terms: &Terms) -> Result<(Permit, Allowance), Refusal> {
    permit(gateway, opened)?;
    let allowance = terms.admit(&gateway.limits, &opened.caller).await?;
    Ok((permit(gateway, opened)?, allowance))
}

/// Decides whether the caller may ask at all.
#[tracing::instrument(name = "authorize", skip_all)]
pub(crate) fn permit(gateway: &Gateway, opened: &Opened) -> Result<Permit, Refusal> {
    let (estate, caller) = (gateway.estate.now(), &opened.caller);
    // The very rails that decide are those of which the entry tells.
    let rails = estate.guard.fixed();
    opened.decided_by(rails.loaded().map(|loaded| loaded.digest));
    authorized_by(&estate, &rails, caller, Utc::now())
}

/// Decides by an estate and its guard rails.
pub(crate) fn authorized(estate: &Estate, caller: &Caller, now: DateTime<Utc>) -> Result<Permit, Refusal> {
    authorized_by(estate, &estate.guard, caller, now)
}

/// Agreements first, so that who may not ask anyway learns of no guard rail.
fn authorized_by(estate: &Estate, rails: &ClaimGuard, caller: &Caller, now: DateTime<Utc>) -> Result<Permit, Refusal> {
    let permit = authorize(caller, caller.mission(), &estate.agreements, &estate.signatures, &estate.purposes, now);
    let guarded = permit.and_then(|permit| guard::decide(rails, caller, &permit, now).map(|()| permit));
    guarded.map_err(|refusal| estate.with_contact(refusal))
}

/// Notes for the log which views of the mission and which datasets of the permit a statement names, on the threads of queries.
async fn note_names(gateway: &Gateway, opened: &Opened, permit: &Permit, sql: &str) -> Result<Names, Refusal> {
    let (estate, permit, sql) = (gateway.estate.now(), permit.clone(), sql.to_owned());
    let found = gateway.workers.plan(async move { named(&sql, &permit, &estate.views) });
    // What does not parse names none.
    let (views, datasets) = found.await?;
    opened.names(views.clone(), datasets.clone());
    Ok((views, datasets))
}

/// Plans on the threads of queries: a hard statement must not keep the listener from answering.
#[tracing::instrument(name = "plan", skip_all)]
pub(crate) async fn plan(gateway: &Gateway, permit: &Permit, statement: &Statement, memory: &Arc<QueryMemory>) -> Result<Plan, Refusal> {
    let estate = gateway.estate.now();
    let (permit, statement, planned_in, engine) = (permit.clone(), statement.clone(), estate.clone(), gateway.engine(memory.clone())?);
    let planned = gateway.workers.plan(async move { judged(&permit, &statement, &planned_in, engine).await });
    planned.await?.map_err(|refusal| estate.with_contact(memory.explain(refusal)))
}

/// The plan that waits for a question, or another one of what was made of it before, on the same threads.
#[tracing::instrument(name = "plan", skip_all)]
async fn planned_before(gateway: &Gateway, opened: &Opened, found: Found, memory: &Arc<QueryMemory>) -> Result<Plan, Refusal> {
    let Found { names: (views, datasets), plan } = found;
    opened.names(views, datasets);
    let (estate, runtime) = (gateway.estate.now(), runtime(memory.clone())?);
    let planned = async {
        let plan = match plan {
            FoundPlan::Ready(plan) => plan.in_memory(runtime),
            FoundPlan::Made(made) => gateway.workers.plan(async move { Plan::of(made, runtime).await }).await??,
        };
        // Two agreements may have come into different epochs since.
        orderable(&leaves(plan.physical())?, &estate.agreements)?;
        Ok(plan)
    };
    planned.await.map_err(|refusal| estate.with_contact(memory.explain(refusal)))
}

/// A view as this permit would answer it; `None` where it would not, and then it is nobody's business that there is one. Views
/// are the operator's statements, so planning one takes memory of its caller and no place of a query.
pub(crate) async fn view(gateway: &Gateway, permit: &Permit, view: &View, caller: &Key) -> Option<Plan> {
    let statement = format!("SELECT * FROM {VIEWS}.{}", view.name);
    plan(gateway, permit, &statement.as_str().into(), &gateway.limits.memory(caller)).await.ok()
}

/// The types of a statement's parameters, found on the same threads.
async fn parameters(gateway: &Gateway, permit: &Permit, sql: &str, allowance: &Allowance) -> Result<Vec<DataType>, Refusal> {
    let estate = gateway.estate.now();
    let (permit, sql, planned_in, engine) = (permit.clone(), sql.to_owned(), estate.clone(), gateway.engine(allowance.memory.clone())?);
    let found = gateway.workers.plan(async move { Plan::parameters(&permit, &sql, &planned_in.views, engine).await });
    found.await?.map_err(|refusal| estate.with_contact(refusal))
}

/// Names the log's entry in a refusal.
pub(crate) fn refused_as(opened: &Opened) -> impl FnOnce(Refusal) -> Refused + use<> {
    let query_id = Some(opened.query_id.clone());
    move |refusal| Refused { refusal, query_id }
}

impl Refused {
    pub(crate) fn unlogged(refusal: Refusal) -> Self {
        Self { refusal, query_id: None }
    }

    pub(crate) fn status(&self) -> tonic::Status {
        concordat_proto::status::to_status(&self.refusal, self.query_id.as_deref())
    }
}
