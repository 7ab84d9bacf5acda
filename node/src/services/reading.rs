//! The entries of the node's own log, for the department's administrators and auditors: listed, of one query, and as they come. Each
//! reading stands in the log before anything is handed out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use concordat_audit::Entry;
use concordat_audit::filter::Filter;
use concordat_audit::index::{Found, Page, Search, SearchError};
use concordat_audit::readers::{Place, Readers};
use concordat_operate::drain::Stopping;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Refusal};
use concordat_proto::{peer, v1};
use futures::stream::{self, BoxStream, StreamExt as _};
use serde_json::json;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::Control;
use crate::node::{Node, status};

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

/// Who reads, and when that must end.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    readers: Readers,
    pub(super) stopping: Stopping,
}

/// Somebody whose turn it is.
struct Reader {
    certificate: Fingerprint,
    /// Held until the reading has ended, whether somebody waits for it or not.
    place: Place,
}

type Handed = Result<v1::LogTailResponse, Status>;

impl Control {
    fn log_reader(&self, certificate: Option<Fingerprint>) -> Result<Reader, Refusal> {
        let certificate = self.node.callers.auditor(certificate)?;
        // All of them are the department's own.
        let place = self.reading.readers.enter(certificate.as_str(), None).map_err(|full| {
            Refusal::new(Code::LimitExceeded, full.sentence("this department's log"))
                .department(&self.node.department)
                .advice("wait until one of these readings has ended, or end a tail")
        })?;
        Ok(Reader { certificate, place })
    }

    async fn search_log(&self, reader: Reader, what: &'static str, search: Search) -> Result<Page, Refusal> {
        let (index, deadline) = (self.node.index.clone(), Instant::now() + CALL);
        let Reader { certificate, place } = reader;
        let (shape, query_id) = (search.filter.shape(), search.filter.query_id.clone());
        let searched = tokio::task::spawn_blocking(move || {
            let _place = place;
            index.search(&search, deadline)
        });
        let page = searched.await.map_err(Refusal::internal)?.map_err(|e| unread(&self.node, e))?;
        let read =
            Entry::new("log.read").field("what", what).field("certificate", certificate.as_str()).field("entries", page.entries.len());
        let read = match query_id.filter(|_| what == "query") {
            Some(query_id) => read.query(&query_id),
            None => read.field("filter", json!(shape)),
        };
        self.node.log(read).await?;
        Ok(page)
    }

    async fn list_log(&self, asked: v1::LogListRequest, certificate: Option<Fingerprint>) -> Result<v1::LogListResponse, Refusal> {
        let reader = self.log_reader(certificate)?;
        let limit = match usize::try_from(asked.limit).unwrap_or(usize::MAX) {
            0 => SOME,
            limit if limit <= MOST => limit,
            _ => return Err(self.invalid_reading("at most 1,000 entries are listed at once")),
        };
        let (filter, before) = (self.filter(asked.filter.as_ref())?, (asked.before > 0).then_some(asked.before));
        let search = Search { filter, concerning: None, before, limit, bytes: BYTES };
        let Page { entries, before, moved, size } = self.search_log(reader, "list", search).await?;
        Ok(v1::LogListResponse {
            entries: entries.into_iter().map(told).collect(),
            before: before.unwrap_or_default(),
            archived: moved,
            origin: self.node.log.origin().to_owned(),
            number: size,
        })
    }

    async fn query_log(&self, asked: v1::LogQueryRequest, certificate: Option<Fingerprint>) -> Result<v1::LogQueryResponse, Refusal> {
        let reader = self.log_reader(certificate)?;
        if asked.query_id.is_empty() {
            return Err(self.invalid_reading("no query is named"));
        }
        let filter = self.filter(Some(&v1::LogFilter { query_id: asked.query_id, ..v1::LogFilter::default() }))?;
        let before = (asked.before > 0).then_some(asked.before);
        let search = Search { filter, concerning: None, before, limit: MOST, bytes: BYTES };
        let Page { entries, before, moved, .. } = self.search_log(reader, "query", search).await?;
        Ok(v1::LogQueryResponse {
            entries: entries.into_iter().rev().map(told).collect(),
            more: before.is_some(),
            archived: moved,
            origin: self.node.log.origin().to_owned(),
        })
    }

    async fn tail_log(&self, asked: v1::LogTailRequest, certificate: Option<Fingerprint>) -> Result<mpsc::Receiver<Handed>, Refusal> {
        let reader = self.log_reader(certificate)?;
        let filter = self.filter(asked.filter.as_ref())?;
        let shape = json!(filter.shape());
        let search = Search { filter, concerning: None, before: None, limit: TOGETHER, bytes: BYTES };
        let follow = self.node.index.follow(search, asked.after.unwrap_or_else(|| self.node.log.size()));
        let Reader { certificate, place } = reader;
        let read = move |what: &'static str| {
            Entry::new("log.read").field("what", what).field("certificate", certificate.as_str()).field("filter", shape.clone())
        };
        self.node.log(read("tail")).await?;
        let (send, receive) = mpsc::channel(1);
        let (node, stopping) = (Arc::clone(&self.node), self.reading.stopping.clone());
        tokio::spawn(async move {
            let end = async {
                tokio::select! {
                    () = stopping.begun() => {}
                    () = tokio::time::sleep(TAIL) => {}
                }
            };
            let message = |found: Vec<Found>, number| Ok(v1::LogTailResponse { entries: found.into_iter().map(told).collect(), number });
            let mut entries = 0;
            let handed = follow.hand_on(&send, message, end, &mut entries).await;
            drop(place);
            let logged = node.log(read("tail.ended").field("entries", entries)).await;
            if let Err(refusal) = handed.map_err(|e| unread(&node, e)).and(logged) {
                // Nobody may be there any more.
                let _ = send.send(Err(status(&refusal, None))).await;
            }
        });
        Ok(receive)
    }

    fn filter(&self, asked: Option<&v1::LogFilter>) -> Result<Filter, Refusal> {
        let Some(asked) = asked else { return Ok(Filter::default()) };
        Filter::parse(asked.texts()).map_err(|e| self.invalid_reading(&format!("the filter of log entries cannot be used: {e}")))
    }

    fn invalid_reading(&self, cause: &str) -> Refusal {
        Refusal::new(Code::Invalid, cause)
            .department(&self.node.department)
            .advice("correct it; `concordat audit list --help` lists what can be asked for")
    }
}

fn told(found: Found) -> v1::LogEntry {
    let asker = found.facts.asker;
    v1::LogEntry {
        number: found.number,
        entry: found.entry,
        whole: true,
        organisation: asker.organisation.unwrap_or_default(),
        person: asker.person.unwrap_or_default(),
        purpose: asker.purpose.unwrap_or_default(),
    }
}

fn unread(node: &Node, error: SearchError) -> Refusal {
    let refusal = match error {
        SearchError::Deadline => Refusal::new(Code::LimitExceeded, "this department's log could not be looked through in time")
            .advice("ask for less, with --from; after a start it takes a while until an index makes looking fast"),
        SearchError::Log(error) => {
            tracing::error!(cause = %error, "entries of the log cannot be read, or are not what its tree was built over");
            Refusal::new(Code::Internal, "entries of this department's log cannot be read, or are not what it signed, so nothing is shown")
                .advice("the department's operator and the log's witnesses must look: `concordat audit verify` names the first bad entry")
                .operator(error)
        }
    };
    refusal.department(&node.department)
}

#[tonic::async_trait]
impl v1::log_reading_server::LogReading for Control {
    type TailStream = BoxStream<'static, Handed>;

    async fn list(&self, request: Request<v1::LogListRequest>) -> Result<Response<v1::LogListResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.list_log(request.into_inner(), certificate.clone()).await;
        self.answer("log.refused", certificate.as_ref(), outcome).await
    }

    async fn query(&self, request: Request<v1::LogQueryRequest>) -> Result<Response<v1::LogQueryResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.query_log(request.into_inner(), certificate.clone()).await;
        self.answer("log.refused", certificate.as_ref(), outcome).await
    }

    async fn tail(&self, request: Request<v1::LogTailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.tail_log(request.into_inner(), certificate.clone()).await;
        let mut receive = self.answer("log.refused", certificate.as_ref(), outcome).await?.into_inner();
        Ok(Response::new(stream::poll_fn(move |context| receive.poll_recv(context)).boxed()))
    }
}
