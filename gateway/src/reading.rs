//! The entries of the gateway's log, for auditors: listed, of one query, and as they come. Each reading stands in the log before anything
//! is handed out.
//!
//! ```text
//! token ─▶ auditor ─▶ place ─▶ filter ─▶ index and log ─▶ hidden from a department: others' numbers, salts, tokens ─▶ log.read ─▶ answer
//! ```

mod hide;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use concordat_audit::filter::Filter;
use concordat_audit::index::{Follow, Found, Page, Search, SearchError};
use concordat_audit::readers::{Place, Readers};
use concordat_operate::drain::Stopping;
use concordat_policy::{Code, Refusal};
use concordat_proto::status::to_status;
use concordat_proto::v1;
use concordat_proto::v1::log_reading_server::LogReading;
use futures::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::Gateway;
use crate::auditors::Scope;
use crate::authenticate::Identity;
use crate::pipeline::{Origin, identify, turned_away};
use crate::record::{self, Read};

/// How long a search may take.
const CALL: Duration = Duration::from_secs(20);
/// How long entries are handed on as they come.
const TAIL: Duration = Duration::from_secs(15 * 60);
/// The most entries of an answer, how many there are where nothing is said, and their bytes.
const MOST: usize = 1_000;
const SOME: usize = 100;
const BYTES: usize = 512 << 10;
/// Entries of one message of a tail.
const TOGETHER: usize = 200;

/// The service.
#[derive(Clone)]
pub(crate) struct Reading {
    gateway: Arc<Gateway>,
    readers: Readers,
    stopping: Stopping,
}

/// An auditor whose turn it is.
struct Reader {
    scope: Scope,
    place: Place,
}

impl Reading {
    pub(crate) fn new(gateway: Arc<Gateway>, stopping: Stopping) -> Self {
        Self { gateway, readers: Readers::default(), stopping }
    }

    /// Who may read, if they do not read enough already.
    fn reader(&self, identity: &Identity) -> Result<Reader, Refusal> {
        let scope = self.gateway.auditors.admits(identity)?;
        let who = String::from_utf8_lossy(&identity.owner()).into_owned();
        let place = self.readers.enter(&who, Some(identity.organisation())).map_err(|full| {
            Refusal::new(Code::LimitExceeded, full.sentence("the gateway's log"))
                .advice("wait until one of these readings has ended, or end a tail")
        })?;
        Ok(Reader { scope, place })
    }

    /// Answers one call: searches, logs, hands out.
    async fn answer<T>(
        &self,
        (identity, read): (&Identity, Read<'_>),
        outcome: Result<Vec<v1::LogEntry>, Refusal>,
        told: impl FnOnce(Vec<v1::LogEntry>) -> T,
    ) -> Result<Response<T>, Status> {
        let entries = match outcome {
            Ok(entries) => entries,
            Err(refusal) => return Err(turned_away(&self.gateway, identity, refusal).await.status()),
        };
        let read = Read { entries: Some(entries.len() as u64), ..read };
        record::read(&self.gateway.log, identity, &read).await.map_err(|r| to_status(&r, None))?;
        Ok(Response::new(told(entries)))
    }

    /// The entries that are asked for, as far as this reader may see them. The place is held until the search has ended, whether the
    /// caller waits for it or not.
    async fn found(&self, reader: Reader, search: Search) -> Result<(Page, Reader), Refusal> {
        let (index, deadline) = (self.gateway.index.clone(), Instant::now() + CALL);
        let searched = tokio::task::spawn_blocking(move || (index.search(&search, deadline), reader));
        let (page, reader) = searched.await.map_err(Refusal::internal)?;
        Ok((page.map_err(unread)?, reader))
    }

    async fn listed(&self, identity: &Identity, asked: &v1::LogListRequest) -> Result<(Vec<v1::LogEntry>, Page), Refusal> {
        let reader = self.reader(identity)?;
        let limit = match usize::try_from(asked.limit).unwrap_or(usize::MAX) {
            0 => SOME,
            limit if limit <= MOST => limit,
            _ => return Err(Refusal::new(Code::Invalid, "at most 1,000 entries are listed at once").advice("ask page by page")),
        };
        let search = Search {
            filter: filter(asked.filter.as_ref())?,
            concerning: concerning(&reader.scope),
            before: (asked.before > 0).then_some(asked.before),
            limit,
            bytes: BYTES,
        };
        let (mut page, reader) = self.found(reader, search).await?;
        let told = std::mem::take(&mut page.entries).into_iter().map(|found| hide::told(found, &reader.scope)).collect();
        Ok((told, page))
    }

    async fn of_query(&self, identity: &Identity, asked: &v1::LogQueryRequest) -> Result<(Vec<v1::LogEntry>, Page), Refusal> {
        let reader = self.reader(identity)?;
        let v1::LogQueryRequest { query_id, before } = asked;
        if query_id.is_empty() {
            return Err(Refusal::new(Code::Invalid, "no query is named").advice("its id stands in answers, refusals and explanations"));
        }
        let filter = filter(Some(&v1::LogFilter { query_id: query_id.clone(), ..v1::LogFilter::default() }))?;
        let search = Search { filter, concerning: None, before: (*before > 0).then_some(*before), limit: MOST, bytes: BYTES };
        let (mut page, mut reader) = self.found(reader, search.clone()).await?;
        let found = std::mem::take(&mut page.entries);
        // To a department, a query that is not about its data or rules is none. Which it is about, any of its entries may say.
        if let Some(department) = concerning(&reader.scope)
            && !found.iter().any(|found| found.facts.departments.contain(&department))
        {
            let (about, same) = self.found(reader, Search { concerning: Some(department), before: None, limit: 1, ..search }).await?;
            if about.entries.is_empty() {
                return Ok((Vec::new(), Page { before: None, ..page }));
            }
            reader = same;
        }
        Ok((found.into_iter().rev().map(|found| hide::told(found, &reader.scope)).collect(), page))
    }

    fn followed(&self, identity: &Identity, asked: &v1::LogTailRequest) -> Result<(Follow, Reader, Filter), Refusal> {
        let reader = self.reader(identity)?;
        let filter = filter(asked.filter.as_ref())?;
        let search = Search { filter: filter.clone(), concerning: concerning(&reader.scope), before: None, limit: TOGETHER, bytes: BYTES };
        let follow = self.gateway.index.follow(search, asked.after.unwrap_or_else(|| self.gateway.log.size()));
        Ok((follow, reader, filter))
    }

    /// Hands entries on until the reader leaves, the time is over or the gateway stops, and then logs how many they were.
    fn hand_on(
        &self,
        identity: Identity,
        (follow, reader, filter): (Follow, Reader, Filter),
    ) -> mpsc::Receiver<Result<v1::LogTailResponse, Status>> {
        let (send, receive) = mpsc::channel(1);
        let (log, stopping) = (self.gateway.log.clone(), self.stopping.clone());
        let left = u64::try_from(identity.expires().saturating_sub(chrono::Utc::now().timestamp())).unwrap_or_default();
        let time = TAIL.min(Duration::from_secs(left));
        self.gateway.entries.spawn(async move {
            let Reader { scope, place } = reader;
            let told = |found: Vec<Found>, number| {
                let entries = found.into_iter().map(|found| hide::told(found, &scope)).collect();
                Ok(v1::LogTailResponse { entries, number })
            };
            let end = async {
                tokio::select! {
                    () = stopping.begun() => {}
                    () = tokio::time::sleep(time) => {}
                }
            };
            let mut entries = 0;
            let handed = follow.hand_on(&send, told, end, &mut entries).await;
            drop(place);
            let read = Read { filter: Some(&filter), entries: Some(entries), ..Read::of("tail.ended") };
            let logged = record::read(&log, &identity, &read).await;
            if let Err(refusal) = handed.map_err(unread).and(logged) {
                // Nobody may be there any more.
                let _ = send.send(Err(to_status(&refusal, None))).await;
            }
        });
        receive
    }
}

#[tonic::async_trait]
impl LogReading for Reading {
    type TailStream = Pin<Box<dyn Stream<Item = Result<v1::LogTailResponse, Status>> + Send>>;

    async fn list(&self, request: Request<v1::LogListRequest>) -> Result<Response<v1::LogListResponse>, Status> {
        let identity = identify(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let asked = request.into_inner();
        // What is no filter was refused by then.
        let filter = filter(asked.filter.as_ref()).ok();
        let (outcome, page) = apart(self.listed(&identity, &asked).await);
        let read = Read { filter: filter.as_ref(), ..Read::of("list") };
        let origin = self.gateway.log.origin().to_owned();
        let told = |entries| v1::LogListResponse {
            entries,
            before: page.before.unwrap_or_default(),
            archived: page.moved,
            origin,
            number: page.size,
        };
        self.answer((&identity, read), outcome, told).await
    }

    async fn query(&self, request: Request<v1::LogQueryRequest>) -> Result<Response<v1::LogQueryResponse>, Status> {
        let identity = identify(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let asked = request.into_inner();
        let (outcome, page) = apart(self.of_query(&identity, &asked).await);
        let read = Read { query_id: Some(&asked.query_id), ..Read::of("query") };
        let origin = self.gateway.log.origin().to_owned();
        let told = |entries| v1::LogQueryResponse { entries, more: page.before.is_some(), archived: page.moved, origin };
        self.answer((&identity, read), outcome, told).await
    }

    async fn tail(&self, request: Request<v1::LogTailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let identity = identify(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let followed = match self.followed(&identity, request.get_ref()) {
            Ok(followed) => followed,
            Err(refusal) => return Err(turned_away(&self.gateway, &identity, refusal).await.status()),
        };
        let read = Read { filter: Some(&followed.2), ..Read::of("tail") };
        record::read(&self.gateway.log, &identity, &read).await.map_err(|r| to_status(&r, None))?;
        let mut receive = self.hand_on(identity, followed);
        Ok(Response::new(Box::pin(futures::stream::poll_fn(move |context| receive.poll_recv(context)))))
    }
}

/// The entries, and the rest of their page.
fn apart(outcome: Result<(Vec<v1::LogEntry>, Page), Refusal>) -> (Result<Vec<v1::LogEntry>, Refusal>, Page) {
    match outcome {
        Ok((entries, page)) => (Ok(entries), page),
        Err(refusal) => (Err(refusal), Page::default()),
    }
}

fn concerning(scope: &Scope) -> Option<String> {
    match scope {
        Scope::All => None,
        Scope::Department(department) => Some(department.to_string()),
    }
}

fn filter(asked: Option<&v1::LogFilter>) -> Result<Filter, Refusal> {
    let Some(asked) = asked else { return Ok(Filter::default()) };
    Filter::parse(asked.texts()).map_err(|e| {
        Refusal::new(Code::Invalid, format!("the filter of log entries cannot be used: {e}"))
            .advice("correct it; `concordat audit list --help` lists what can be asked for")
    })
}

fn unread(error: SearchError) -> Refusal {
    match error {
        SearchError::Deadline => Refusal::new(Code::LimitExceeded, "the gateway's log could not be looked through in time")
            .advice("ask for less, with --from; after a start it takes a while until an index makes looking fast"),
        SearchError::Log(error) => {
            tracing::error!(cause = %error, "entries of the access log cannot be read, or are not what its tree was built over");
            Refusal::new(Code::Internal, "entries of the gateway's log cannot be read, or are not what it signed, so nothing is shown")
                .advice("the gateway's operator and its witnesses must look: `concordat audit verify` names the first bad entry")
                .operator(error)
        }
    }
}
