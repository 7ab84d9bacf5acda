//! The gateway in one sentence: authenticate → open → authorize → plan → execute → close → deliver.
//!
//! Each step takes what only the step before can give: [`Caller`], `Opened`, [`Permit`], [`Plan`], `Protected`, `Closed`,
//! [`Answer`]. A step that is left out does not compile.

use concordat_policy::{Permit, Refusal, authorize};
use datafusion::arrow::datatypes::SchemaRef;
use tonic::metadata::MetadataMap;

use crate::Gateway;
use crate::authenticate::{Caller, Identity};
use crate::deliver::{Answer, deliver};
use crate::execute::execute;
use crate::plan::{Plan, Statement};
use crate::record::{self, Intent, Opened};

/// A refusal, and the id under which the log has it, once there is one.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) query_id: Option<String>,
}

/// Where a request comes from: what it says of itself, and the peer's address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'m> {
    pub(crate) metadata: &'m MetadataMap,
    pub(crate) peer: Option<std::net::IpAddr>,
}

impl<'m> Origin<'m> {
    pub(crate) fn of<T>(request: &'m tonic::Request<T>) -> Self {
        Self { metadata: request.metadata(), peer: request.remote_addr().map(|a| a.ip()) }
    }
}

/// Answers one statement.
pub(crate) async fn answer(gateway: &Gateway, caller: Caller, statement: &Statement) -> Result<Answer, Refused> {
    let opened = open(gateway, caller, Intent::Answer, &statement.sql).await?;
    let refused = refused_as(&opened);
    let protected = async {
        let permit = permit(gateway, &opened)?;
        let plan = plan(gateway, &permit, statement).await?;
        execute(gateway, &opened, &permit, plan).await
    };
    let protected = protected.await;
    gateway.observed.query(&protected);
    let closed = opened.close(protected).await.map_err(refused)?;
    deliver(closed).map_err(Refused::unlogged)
}

/// Says what the answer to a statement would look like; reads no data.
pub(crate) async fn describe(gateway: &Gateway, caller: Caller, statement: &Statement) -> Result<SchemaRef, Refused> {
    let opened = open(gateway, caller, Intent::Describe, &statement.sql).await?;
    let refused = refused_as(&opened);
    let schema = async {
        let permit = permit(gateway, &opened)?;
        plan(gateway, &permit, statement).await.map(|plan| plan.answer_schema())
    };
    let schema = schema.await;
    let (_, schema) = opened.finish(schema, serde_json::Value::Null).await.map_err(refused)?;
    Ok(schema)
}

/// Authenticates a caller with exactly one purpose; a failure is recorded.
pub(crate) async fn authenticate(gateway: &Gateway, from: &Origin<'_>) -> Result<Caller, Refused> {
    let identity = identify(gateway, from).await?;
    match identity.with_purpose((None, None)) {
        Ok(caller) => Ok(caller),
        Err(refusal) => Err(unauthenticated(gateway, from, refusal).await),
    }
}

/// Authenticates a user, for what needs no purpose; a failure is recorded.
#[tracing::instrument(name = "authenticate", skip_all)]
pub(crate) async fn identify(gateway: &Gateway, from: &Origin<'_>) -> Result<Identity, Refused> {
    match Identity::authenticate(&gateway.issuers, from.metadata, chrono::Utc::now().timestamp()).await {
        Ok(identity) => Ok(identity),
        Err(refusal) => Err(unauthenticated(gateway, from, refusal).await),
    }
}

async fn unauthenticated(gateway: &Gateway, _from: &Origin<'_>, refusal: Refusal) -> Refused {
    Refused::unlogged(record::refused(&gateway.log, None, &refusal).await.err().unwrap_or(refusal))
}

/// Records the refusal of a request for which no entry was opened: a ticket that is not the caller's, too many of them.
pub(crate) async fn refused_unopened(gateway: &Gateway, caller: &Caller, refusal: Refusal) -> Refused {
    Refused::unlogged(record::refused(&gateway.log, Some(caller), &refusal).await.err().unwrap_or(refusal))
}

/// Opens the log's entry.
#[tracing::instrument(name = "open", skip_all)]
pub(crate) async fn open(gateway: &Gateway, caller: Caller, intent: Intent, statement: &str) -> Result<Opened, Refused> {
    record::open(&gateway.log, caller, intent, statement).await.map_err(Refused::unlogged)
}

/// Decides whether the caller may ask at all.
#[tracing::instrument(name = "authorize", skip_all)]
pub(crate) fn permit(gateway: &Gateway, opened: &Opened) -> Result<Permit, Refusal> {
    let estate = &gateway.estate;
    authorize(&opened.caller, opened.caller.mission(), &estate.agreements, &estate.purposes, chrono::Utc::now())
}

#[tracing::instrument(name = "plan", skip_all)]
async fn plan(gateway: &Gateway, permit: &Permit, statement: &Statement) -> Result<Plan, Refusal> {
    Plan::new(permit, statement, &gateway.estate.views, gateway.partitions, gateway.runtime()?).await
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
