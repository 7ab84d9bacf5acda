//! The entries of the gateway's log, for auditors: listed, of one query, and as they come. Each reading stands in the log before anything
//! is handed out.
//!
//! ```text
//! token ─▶ auditor ─▶ place ─▶ filter ─▶ index and log ─▶ hidden from a department: others' numbers, salts, tokens ─▶ log.read ─▶ answer
//! ```

mod hide;

use std::sync::Arc;
use std::time::Duration;

use concordat_audit::filter::Filter;
use concordat_audit::index::{Follow, Search};
use concordat_audit::readers::Place;
use concordat_operate::drain::Stopping;
use concordat_operate::reading::{self, Coming, TAIL, Words};
use concordat_policy::Refusal;
use concordat_proto::status::to_status;
use concordat_proto::v1;
use concordat_proto::v1::log_reading_server::LogReading;
use tonic::{Request, Response, Status};

use crate::Gateway;
use crate::auditors::Scope;
use crate::authenticate::Identity;
use crate::pipeline::{Origin, identify, turned_away};
use crate::record::{self, Read};

/// The service.
#[derive(Clone)]
pub(crate) struct Reading {
    gateway: Arc<Gateway>,
    log: reading::Reading,
}

/// An auditor whose turn it is.
struct Reader {
    scope: Scope,
    place: Place,
}

impl Reading {
    pub(crate) fn new(gateway: Arc<Gateway>, stopping: Stopping) -> Self {
        let words = Words { log: "the gateway's log", operator: "the gateway's operator", department: None };
        let log = reading::Reading::new(&gateway.log, &gateway.index, words).until(stopping);
        Self { gateway, log }
    }

    /// Who may read, if they do not read enough already.
    fn reader(&self, identity: &Identity) -> Result<Reader, Refusal> {
        let scope = self.gateway.auditors.admits(identity)?;
        let who = String::from_utf8_lossy(&identity.owner()).into_owned();
        let place = self.log.enter(&who, Some(identity.organisation()))?;
        Ok(Reader { scope, place })
    }

    async fn listed(&self, identity: &Identity, asked: &v1::LogListRequest) -> Result<(v1::LogListResponse, Filter), Refusal> {
        let reader = self.reader(identity)?;
        let search = self.log.list(asked, concerning(&reader.scope))?;
        let filter = search.filter.clone();
        let (page, reader) = self.log.search(reader, search).await?;
        Ok((self.log.listed(page, |found| hide::told(found, &reader.scope)), filter))
    }

    async fn of_query(&self, identity: &Identity, asked: &v1::LogQueryRequest) -> Result<v1::LogQueryResponse, Refusal> {
        let reader = self.reader(identity)?;
        let search = self.log.query(asked)?;
        let (mut page, mut reader) = self.log.search(reader, search.clone()).await?;
        // To a department, a query that is not about its data or rules is none. Which it is about, any of its entries may say.
        if let Some(department) = concerning(&reader.scope)
            && !page.entries.iter().any(|found| found.facts.departments.contain(&department))
        {
            let any = Search { concerning: Some(department), before: None, limit: 1, ..search };
            let (about, same) = self.log.search(reader, any).await?;
            if about.entries.is_empty() {
                (page.entries, page.before) = (Vec::new(), None);
            }
            reader = same;
        }
        Ok(self.log.of_query(page, |found| hide::told(found, &reader.scope)))
    }

    fn followed(&self, identity: &Identity, asked: &v1::LogTailRequest) -> Result<(Reader, Follow, Filter), Refusal> {
        let reader = self.reader(identity)?;
        let (follow, filter) = self.log.follow(asked, concerning(&reader.scope))?;
        Ok((reader, follow, filter))
    }

    /// Hands entries on, at the longest for as long as the token is valid, and then logs how many they were.
    fn hand_on(&self, identity: Identity, (Reader { scope, place }, follow, filter): (Reader, Follow, Filter)) -> Coming {
        let left = u64::try_from(identity.expires().saturating_sub(chrono::Utc::now().timestamp())).unwrap_or_default();
        let log = self.gateway.log.clone();
        let ended = async move |entries| {
            record::read(&log, &identity, &Read { filter: Some(&filter), entries: Some(entries), ..Read::of("tail.ended") }).await
        };
        let told = move |found| hide::told(found, &scope);
        let (handing, coming) = self.log.hand_on((follow, place), TAIL.min(Duration::from_secs(left)), told, ended);
        self.gateway.entries.spawn(handing);
        coming
    }

    async fn refused<T>(&self, identity: &Identity, outcome: Result<T, Refusal>) -> Result<T, Status> {
        match outcome {
            Ok(done) => Ok(done),
            Err(refusal) => Err(turned_away(&self.gateway, identity, refusal).await.status()),
        }
    }

    async fn logged(&self, identity: &Identity, read: &Read<'_>) -> Result<(), Status> {
        record::read(&self.gateway.log, identity, read).await.map_err(|r| to_status(&r, None))
    }
}

#[tonic::async_trait]
impl LogReading for Reading {
    type TailStream = Coming;

    async fn list(&self, request: Request<v1::LogListRequest>) -> Result<Response<v1::LogListResponse>, Status> {
        let identity = identify(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let outcome = self.listed(&identity, request.get_ref()).await;
        let (told, filter) = self.refused(&identity, outcome).await?;
        let read = Read { filter: Some(&filter), entries: Some(told.entries.len() as u64), ..Read::of("list") };
        self.logged(&identity, &read).await?;
        Ok(Response::new(told))
    }

    async fn query(&self, request: Request<v1::LogQueryRequest>) -> Result<Response<v1::LogQueryResponse>, Status> {
        let identity = identify(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let asked = request.into_inner();
        let outcome = self.of_query(&identity, &asked).await;
        let told = self.refused(&identity, outcome).await?;
        let read = Read { query_id: Some(&asked.query_id), entries: Some(told.entries.len() as u64), ..Read::of("query") };
        self.logged(&identity, &read).await?;
        Ok(Response::new(told))
    }

    async fn tail(&self, request: Request<v1::LogTailRequest>) -> Result<Response<Coming>, Status> {
        let identity = identify(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let outcome = self.followed(&identity, request.get_ref());
        let followed = self.refused(&identity, outcome).await?;
        self.logged(&identity, &Read { filter: Some(&followed.2), ..Read::of("tail") }).await?;
        Ok(Response::new(self.hand_on(identity, followed)))
    }
}

fn concerning(scope: &Scope) -> Option<String> {
    match scope {
        Scope::All => None,
        Scope::Department(department) => Some(department.to_string()),
    }
}
