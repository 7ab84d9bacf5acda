//! Proofs of the gateway's log for auditors, and receipts of answers for who asked. Each call is logged before it is answered.
//!
//! A receipt proves an entry by its hash. The entry's bytes go to auditors of all departments only: they tell each department's exact
//! number of rows.

mod turns;

use std::sync::Arc;
use std::time::Duration;

use concordat_audit::index::SearchError;
use concordat_audit::receipt::Receipt;
use concordat_audit::{Log, LogError, Query, Sought};
use concordat_policy::{Code, Refusal};
use concordat_proto::status::to_status;
use concordat_proto::v1::access_log_server::AccessLog;
use concordat_proto::v1::answer_receipts_server::AnswerReceipts;
use concordat_proto::v1::{
    AnswerReceiptRequest, AnswerReceiptResponse, LogCheckpointRequest, LogCheckpointResponse, LogConsistencyRequest,
    LogConsistencyResponse, LogInclusionRequest, LogInclusionResponse,
};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Request, Response, Status};

use self::turns::Turns;
use crate::Gateway;
use crate::auditors::Scope;
use crate::authenticate::Identity;
use crate::pipeline::{Origin, Refused, identify, turned_away};
use crate::record::{self, Read};

/// How long a call may take; a search through many entries ends then.
const CALL: Duration = Duration::from_secs(30);
/// The longest that a call waits for cosignatures.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// The least that it waits for a checkpoint: one follows every entry within a second.
const COVERED: Duration = Duration::from_secs(3);
/// How often it looks for cosignatures.
const LOOK: Duration = Duration::from_millis(250);
/// How many queries are searched for at once: until there is an index, each reads many entries from the disk.
const SEARCHES: usize = 2;

/// Both services.
#[derive(Clone)]
pub(crate) struct Receipts {
    gateway: Arc<Gateway>,
    searches: Turns,
}

impl Receipts {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, searches: Turns::of(SEARCHES) }
    }

    /// Answers an auditor: works, logs, and then hands out.
    async fn to_auditor<R, T: Send + 'static>(
        &self,
        request: &Request<R>,
        what: &'static str,
        work: impl FnOnce(&Log) -> Result<T, LogError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let identity = identify(&self.gateway, &Origin::of(request)).await.map_err(|r| r.status())?;
        let log = self.gateway.log.clone();
        let outcome = match self.gateway.auditors.admits(&identity) {
            Ok(_) => blocking(move || work(&log).map_err(asked)).await,
            Err(refusal) => Err(refusal),
        };
        let answer = self.refused(&identity, outcome).await.map_err(|r| r.status())?;
        record::read(&self.gateway.log, &identity, &Read::of(what)).await.map_err(|r| to_status(&r, None))?;
        Ok(Response::new(answer))
    }

    async fn refused<T>(&self, identity: &Identity, outcome: Result<T, Refusal>) -> Result<T, Refused> {
        match outcome {
            Ok(done) => Ok(done),
            Err(refusal) => Err(turned_away(&self.gateway, identity, refusal).await),
        }
    }

    /// The receipt that a user may have of a query.
    async fn of_query(&self, identity: &Identity, asked: &AnswerReceiptRequest) -> Result<Receipt, Refusal> {
        let (issuer, subject) = (identity.issuer().to_owned(), identity.subject().to_owned());
        let turn = self.searches.of_caller(&identity.owner()).await.map_err(Refusal::internal)?;
        let (gateway, id, deadline) = (Arc::clone(&self.gateway), asked.query_id.clone(), std::time::Instant::now() + CALL);
        let search = move || {
            // Until it ends, whether the caller waits or not.
            let _turn = turn;
            let person = gateway.log.person(&issuer, &subject).map_err(Refusal::internal)?;
            let sought = gateway.index.query(&id, deadline).map_err(|e| match e {
                SearchError::Deadline => too_long(),
                SearchError::Log(error) => Refusal::internal(error),
            })?;
            Ok((sought, person))
        };
        let (sought, person) = blocking(search).await?;
        let found = match sought {
            Sought::Ended(found) => found,
            Sought::Unknown => return Err(unknown()),
            Sought::Moved(last) => return Err(moved(last)),
        };
        let scope = self.gateway.auditors.admits(identity).ok();
        let bytes = scope == Some(Scope::All);
        if is_theirs(&found, person.as_deref(), identity.organisation()) || scope.is_some_and(|scope| concerns(&found, &scope)) {
            return self.witnessed(found.number, bytes, asked).await;
        }
        Err(unknown())
    }

    /// The receipt of an entry, under a checkpoint with as many cosignatures as are asked for, or with most after that time.
    async fn witnessed(&self, number: u64, bytes: bool, asked: &AnswerReceiptRequest) -> Result<Receipt, Refusal> {
        let (log, now) = (&self.gateway.log, Instant::now());
        let patience = now + MAX_WAIT.min(Duration::from_secs(asked.wait_seconds.into()));
        let mut checkpoints = log.checkpoints();
        loop {
            let reading = log.clone();
            let receipt = blocking(move || reading.receipt(number, bytes).map_err(Refusal::internal)).await?;
            match receipt {
                Some(receipt) => {
                    let enough = receipt.cosignatures() as u64 >= u64::from(asked.cosignatures);
                    if enough || Instant::now() >= patience {
                        return Ok(receipt);
                    }
                    // Cosignatures are added to a checkpoint without a word; whether there is a new one is seen in the next round.
                    let _ = timeout(LOOK, checkpoints.changed()).await;
                }
                None => match timeout_at(now + COVERED, checkpoints.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return Err(uncovered()),
                },
            }
        }
    }
}

#[tonic::async_trait]
impl AccessLog for Receipts {
    async fn checkpoint(&self, request: Request<LogCheckpointRequest>) -> Result<Response<LogCheckpointResponse>, Status> {
        let work = |log: &Log| {
            Ok(LogCheckpointResponse { checkpoint: log.checkpoint().to_string(), cosigned: log.cosigned().unwrap_or_default() })
        };
        self.to_auditor(&request, "checkpoint", work).await
    }

    async fn inclusion(&self, request: Request<LogInclusionRequest>) -> Result<Response<LogInclusionResponse>, Status> {
        let LogInclusionRequest { index, size } = *request.get_ref();
        let work = move |log: &Log| {
            let proof = log.inclusion(index, size)?;
            Ok(LogInclusionResponse { leaf_hash: log.leaf(index)?.to_vec(), proof: wire(&proof) })
        };
        self.to_auditor(&request, "inclusion", work).await
    }

    async fn consistency(&self, request: Request<LogConsistencyRequest>) -> Result<Response<LogConsistencyResponse>, Status> {
        let LogConsistencyRequest { from, to } = *request.get_ref();
        let work = move |log: &Log| Ok(LogConsistencyResponse { proof: wire(&log.consistency(from, to)?) });
        self.to_auditor(&request, "consistency", work).await
    }
}

#[tonic::async_trait]
impl AnswerReceipts for Receipts {
    async fn receipt(&self, request: Request<AnswerReceiptRequest>) -> Result<Response<AnswerReceiptResponse>, Status> {
        let identity = identify(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let asked = request.into_inner();
        let outcome = timeout(CALL, self.of_query(&identity, &asked)).await.unwrap_or_else(|_| Err(too_long()));
        let receipt = self.refused(&identity, outcome).await.map_err(|r| r.status())?;
        let read = Read { query_id: Some(&asked.query_id), ..Read::of("receipt") };
        record::read(&self.gateway.log, &identity, &read).await.map_err(|r| to_status(&r, None))?;
        Ok(Response::new(AnswerReceiptResponse { receipt: receipt.write().into_bytes() }))
    }
}

/// Whether the query was asked by the user of this commitment, for this organisation. Who was erased has asked nothing.
fn is_theirs(query: &Query, person: Option<&str>, organisation: &str) -> bool {
    let is = |field: &str, of: &str| query.opened.get(field).and_then(Value::as_str) == Some(of);
    person.is_some_and(|person| is("person", person)) && is("organisation", organisation)
}

/// Whether data of an auditor's department went into the answer.
fn concerns(query: &Query, scope: &Scope) -> bool {
    let Scope::Department(department) = scope else { return true };
    let sources = query.closed.pointer("/facts/sources").and_then(Value::as_array).into_iter().flatten();
    sources.filter_map(|source| source.get("department")?.as_str()).any(|of| of == department.as_str())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(Refusal::internal)?
}

fn wire(hashes: &[concordat_audit::Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.to_vec()).collect()
}

/// The refusal of a proof of what the log does not have.
fn asked(error: LogError) -> Refusal {
    Refusal::new(Code::Invalid, "the gateway's log has no proof of that entry and size")
        .advice("ask for what its latest checkpoint covers: an index below the size, sizes in ascending order")
        .operator(error)
}

/// The one answer to everybody who may not have a receipt.
fn unknown() -> Refusal {
    Refusal::new(Code::Denied, "the gateway's log has no query of yours with this id that has ended")
        .advice("the id stands in answers, refusals and explanations; receipts are for who asked, and for auditors")
}

/// What everybody is told of an id from before the log's first entry: whether there was such a query, the log does not know any more.
fn moved(last: u64) -> Refusal {
    let cause = format!("a query of this id's time is not in the gateway's log any more: entries up to {last} were moved to an archive");
    Refusal::new(Code::Denied, cause)
        .advice("ask who runs the gateway: `concordat audit proof --archive FOLDER` makes the receipt of an entry that was moved")
}

fn uncovered() -> Refusal {
    Refusal::new(Code::LogUnavailable, "no checkpoint of the gateway's log covers the entry yet")
        .advice("try again in a moment; if it stays so, the gateway's operator must repair the log")
}

fn too_long() -> Refusal {
    Refusal::new(Code::LimitExceeded, "the query was not found in the gateway's log in time")
        .advice("try again when fewer receipts are asked for")
}

#[cfg(test)]
mod tests {
    use super::*;
    use concordat_policy::Name;
    use serde_json::json;

    fn query(opened: Value) -> Query {
        let closed = json!({ "facts": { "sources": [{ "department": "dfe", "rows": 7 }, { "department": "dwp", "rows": 8 }] } });
        Query { opened, closed, number: 2 }
    }

    #[test]
    fn a_query_is_its_askers_alone() {
        let asked = query(json!({ "person": "c1", "organisation": "unit" }));
        assert!(is_theirs(&asked, Some("c1"), "unit"));
        for (person, organisation) in [(Some("c2"), "unit"), (Some("c1"), "other"), (Some(""), ""), (None, "unit")] {
            assert!(!is_theirs(&asked, person, organisation), "{person:?} {organisation}");
        }
        assert!(!is_theirs(&query(json!({ "organisation": "unit" })), None, "unit"), "an entry that names nobody is nobody's");
    }

    #[test]
    fn a_departments_auditor_is_concerned_where_its_data_went_in() {
        let department = |name: &str| Scope::Department(Name::parse(name).unwrap());
        let asked = query(json!({}));
        assert!(concerns(&asked, &department("dfe")) && concerns(&asked, &department("dwp")) && !concerns(&asked, &department("dhsc")));
        assert!(concerns(&asked, &Scope::All));
        let refused = Query { closed: json!({ "code": "denied" }), ..asked };
        assert!(!concerns(&refused, &department("dfe")), "nothing went in");
    }
}
