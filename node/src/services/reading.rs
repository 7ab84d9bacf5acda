//! The entries of the node's own log, for the department's administrators and auditors: listed, of one query, and as they come. Each
//! reading stands in the log before anything is handed out.

use std::sync::Arc;

use concordat_audit::Entry;
use concordat_audit::readers::Place;
use concordat_operate::reading::{Coming, Reading, TAIL, Words, whole};
use concordat_policy::Refusal;
use concordat_policy::agreement::Fingerprint;
use concordat_proto::{peer, v1};
use serde_json::json;
use tonic::{Request, Response, Status};

use super::Control;
use crate::node::Node;

/// How the node's log is read.
pub(super) fn of(node: &Node) -> Reading {
    let words =
        Words { log: "this department's log", operator: "the department's operator", department: Some(node.department.to_string()) };
    Reading::new(&node.log, &node.index, words)
}

/// What the log says of a reading.
fn read(what: &'static str, certificate: &Fingerprint) -> Entry {
    Entry::new("log.read").field("what", what).field("certificate", certificate.as_str())
}

impl Control {
    /// Who reads, and their place.
    fn log_reader(&self, certificate: Option<Fingerprint>) -> Result<(Fingerprint, Place), Refusal> {
        let certificate = self.node.callers.auditor(certificate)?;
        // All of them are the department's own.
        let place = self.reading.enter(certificate.as_str(), None)?;
        Ok((certificate, place))
    }

    async fn list_log(&self, asked: &v1::LogListRequest, certificate: Option<Fingerprint>) -> Result<v1::LogListResponse, Refusal> {
        let (certificate, place) = self.log_reader(certificate)?;
        let search = self.reading.list(asked, None)?;
        let read = read("list", &certificate).field("filter", json!(search.filter.shape()));
        let (page, _) = self.reading.search(place, search).await?;
        self.node.log(read.field("entries", page.entries.len())).await?;
        Ok(self.reading.listed(page, whole))
    }

    async fn query_log(&self, asked: &v1::LogQueryRequest, certificate: Option<Fingerprint>) -> Result<v1::LogQueryResponse, Refusal> {
        let (certificate, place) = self.log_reader(certificate)?;
        let (page, _) = self.reading.search(place, self.reading.query(asked)?).await?;
        self.node.log(read("query", &certificate).query(&asked.query_id).field("entries", page.entries.len())).await?;
        Ok(self.reading.of_query(page, whole))
    }

    async fn tail_log(&self, asked: &v1::LogTailRequest, certificate: Option<Fingerprint>) -> Result<Coming, Refusal> {
        let (certificate, place) = self.log_reader(certificate)?;
        let (follow, filter) = self.reading.follow(asked, None)?;
        let read = move |what| read(what, &certificate).field("filter", json!(filter.shape()));
        self.node.log(read("tail")).await?;
        let node = Arc::clone(&self.node);
        let ended = async move |entries| node.log(read("tail.ended").field("entries", entries)).await.map(drop);
        let (handing, coming) = self.reading.hand_on((follow, place), TAIL, whole, ended);
        tokio::spawn(handing);
        Ok(coming)
    }
}

#[tonic::async_trait]
impl v1::log_reading_server::LogReading for Control {
    type TailStream = Coming;

    async fn list(&self, request: Request<v1::LogListRequest>) -> Result<Response<v1::LogListResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.list_log(request.get_ref(), certificate.clone()).await;
        self.answer("log.refused", certificate.as_ref(), outcome).await
    }

    async fn query(&self, request: Request<v1::LogQueryRequest>) -> Result<Response<v1::LogQueryResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.query_log(request.get_ref(), certificate.clone()).await;
        self.answer("log.refused", certificate.as_ref(), outcome).await
    }

    async fn tail(&self, request: Request<v1::LogTailRequest>) -> Result<Response<Coming>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.tail_log(request.get_ref(), certificate.clone()).await;
        self.answer("log.refused", certificate.as_ref(), outcome).await
    }
}
