//! The gateway's entries in the access log: opened before work, closed before the first result byte.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use concordat_audit::filter::Filter;
use concordat_audit::refusals::Source as _;
use concordat_audit::{Entry, Log, LogError, Promise};
use concordat_policy::{Code, Decision, Name, Refusal};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::authenticate::{Caller, Identity};
use crate::deliver::Stated;
use crate::explain::Proposal;
use crate::limits::{Source, reason};

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// An answer.
    Answer,
    /// The schema of an answer.
    Describe,
    /// The catalogue.
    Catalogue,
    /// The departments' state.
    Departments,
    /// Delivery of linkage keys.
    Relay,
    /// An answer without anybody who waits for it.
    AnswerDetached,
    /// To have a statement answered so.
    Detach,
    /// To stop that.
    CancelDetached,
    /// What would become of a statement.
    Explain,
}

impl Intent {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Describe => "describe",
            Self::Catalogue => "catalogue",
            Self::Departments => "departments",
            Self::Relay => "relay_linkage_keys",
            Self::AnswerDetached => "answer_detached",
            Self::Detach => "detach",
            Self::CancelDetached => "cancel_detached",
            Self::Explain => "explain",
        }
    }
}

/// Closes an entry whose work was dropped before it ended, because its caller left or the gateway stops.
#[derive(Debug)]
struct Closing {
    log: Log,
    entries: TaskTracker,
    query_id: String,
    entry: u64,
    since: Instant,
    /// What is known by now of what is asked, whatever becomes of it.
    known: Mutex<Known>,
    /// The gateway does not end while it exists.
    open: Option<TaskTrackerToken>,
}

/// What an entry that closes another says beside the outcome.
#[derive(Debug, Default)]
struct Known {
    /// The views that the statement names.
    views: Vec<String>,
    /// The datasets that it names, itself or through them, as far as the caller may use them.
    datasets: Vec<String>,
    /// The digest of the guard rails by which was decided last whether the caller may ask at all.
    guard_rails: Option<String>,
}

impl Closing {
    /// What closes the entry.
    fn with(&self, event: &'static str) -> Entry {
        let milliseconds = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let known = self.known();
        let entry = Entry::new(event).query(&self.query_id).field("opened_by", self.entry).field("milliseconds", milliseconds).closes();
        let entry = if known.views.is_empty() { entry } else { entry.field("views", known.views.as_slice()) };
        // What was answered says it of each source.
        let unsaid = !known.datasets.is_empty() && event != "query.closed";
        let entry = if unsaid { entry.field("datasets", known.datasets.as_slice()) } else { entry };
        known.guard_rails.iter().fold(entry, |entry, digest| entry.field("guard_rails_digest", digest.as_str()))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what closes the entry, also when the caller leaves meanwhile. Where it says more than an entry holds, nothing is answered, and
    /// a short one closes it.
    async fn close(mut self, entry: Entry) -> Result<u64, Refusal> {
        let (log, open) = (self.log.clone(), self.open.take());
        let short = Entry::new("query.refused").query(&self.query_id).field("opened_by", self.entry);
        let short = short.field("code", Code::LogUnavailable.as_str()).closes();
        let appended = self.entries.spawn(async move {
            let appended = log.append(entry).await;
            if let Err(LogError::TooLong) = &appended
                && let Err(e) = log.append(short).await
            {
                tracing::error!(cause = %e, "the entry of a query that says too much could not be closed");
            }
            drop(open);
            appended
        });
        appended.await.map_err(Refusal::internal)?.map_err(unavailable)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let (Some(open), Ok(runtime)) = (self.open.take(), tokio::runtime::Handle::try_current()) else { return };
        let entry = self.with("query.refused").field("code", Code::Cancelled.as_str());
        let (log, query_id) = (self.log.clone(), self.query_id.clone());
        let close = async move {
            tracing::info!(query.id = query_id, "query dropped");
            if let Err(e) = log.append(entry).await {
                tracing::error!(cause = %e, query.id = query_id, "a query's entry in the access log could not be closed");
            }
            drop(open);
        };
        self.entries.spawn_on(close, &runtime);
    }
}

/// An entry that is durable in the log. Deciding and working take one, so that nothing is done unlogged.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) caller: Caller,
    pub(crate) query_id: String,
    closing: Closing,
}

/// An answer of which the log has a durable entry. [`crate::deliver::deliver`] takes nothing else.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) stated: Stated,
    pub(crate) query_id: String,
    /// The number of the closing entry.
    pub(crate) entry: u64,
    /// The log's word that it stays there, and is of this answer.
    pub(crate) promise: Promise,
    /// The digest of the guard rails by which was decided.
    pub(crate) guard_rails: Option<String>,
}

/// Opens an entry. `statement` stands in it as a keyed digest only.
///
/// # Errors
/// [`Code::LogUnavailable`].
pub(crate) async fn open(
    (log, entries): (&Log, &TaskTracker),
    caller: Caller,
    intent: Intent,
    statement: &[u8],
    detached: Option<&str>,
) -> Result<Opened, Refusal> {
    let open = Some(entries.token());
    let query_id = uuid::Uuid::now_v7().to_string();
    let entry = Entry::new("query.opened")
        .query(&query_id)
        .field("intent", intent.as_str())
        .by(caller.issuer(), &caller.subject, Some(caller.token()))
        .field("address", address(caller.circumstances().address))
        .field("organisation", caller.organisation.as_str())
        .field("roles", json!(caller.roles))
        .field("purpose", caller.purpose.as_str())
        .field("statement_digest", log.digest(statement));
    let entry = detached.into_iter().fold(entry, |entry, id| entry.field("detached", id));
    // On its own: a caller who leaves meanwhile leaves an entry that is closed at once.
    let (log, tracker, id) = (log.clone(), entries.clone(), query_id.clone());
    let opening = entries.spawn(async move {
        let entry = log.append(entry).await?;
        Ok::<_, LogError>(Closing { log, entries: tracker, query_id: id, entry, since: Instant::now(), known: Mutex::default(), open })
    });
    let closing = opening.await.map_err(Refusal::internal)?.map_err(unavailable)?;
    Ok(Opened { caller, query_id, closing })
}

/// Records the refusal of a request for which no entry was opened: by whom, or from where.
///
/// # Errors
/// [`Code::LogUnavailable`].
pub(crate) async fn refused(log: &Log, source: &Source, from: Option<IpAddr>, refusal: &Refusal) -> Result<(), Refusal> {
    let entry = source.describe(Entry::new("caller.refused")).field("code", refusal.code.as_str()).field("reason", reason(refusal));
    let entry = entry.field("address", address(from));
    log.append(entry).await.map(drop).map_err(unavailable)
}

/// Records that a kept answer is about to be sent to its owner.
///
/// # Errors
/// [`Code::LogUnavailable`]: then it must not be.
pub(crate) async fn collected(log: &Log, caller: &Caller, query_id: &str) -> Result<(), Refusal> {
    let entry = Entry::new("answer.collected")
        .query(query_id)
        .by(caller.issuer(), &caller.subject, Some(caller.token()))
        .field("address", address(caller.circumstances().address))
        .field("organisation", caller.organisation.as_str())
        .field("purpose", caller.purpose.as_str());
    log.append(entry).await.map(drop).map_err(unavailable)
}

/// Records that a user looked into the catalogue.
///
/// # Errors
/// [`Code::LogUnavailable`].
pub(crate) async fn looked_up(log: &Log, identity: &Identity) -> Result<(), Refusal> {
    log.append(by(Entry::new("catalogue.read"), identity)).await.map(drop).map_err(unavailable)
}

/// The entry with who they are.
fn by(entry: Entry, identity: &Identity) -> Entry {
    entry
        .by(identity.issuer(), identity.subject(), Some(identity.token()))
        .field("address", address(identity.address()))
        .field("organisation", identity.organisation())
        .field("roles", json!(identity.roles()))
}

/// The address of a connection, as the log has it.
fn address(address: Option<IpAddr>) -> Option<String> {
    address.map(|address| address.to_canonical().to_string())
}

/// What is read of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read<'r> {
    pub(crate) what: &'static str,
    pub(crate) query_id: Option<&'r str>,
    /// Which fields are asked for stands in the log, and never what for.
    pub(crate) filter: Option<&'r Filter>,
    /// How many entries are handed out.
    pub(crate) entries: Option<u64>,
}

impl Read<'_> {
    /// Nothing more than `what`.
    pub(crate) fn of(what: &'static str) -> Self {
        Self { what, query_id: None, filter: None, entries: None }
    }
}

/// Records what a user reads of the log: entries, proofs, or the receipt of a query.
///
/// # Errors
/// [`Code::LogUnavailable`]: then it must not be handed out.
pub(crate) async fn read(log: &Log, identity: &Identity, read: &Read<'_>) -> Result<(), Refusal> {
    let entry = by(Entry::new("log.read").field("what", read.what), identity);
    let entry = read.query_id.into_iter().fold(entry, Entry::query);
    let entry = read.filter.into_iter().fold(entry, |entry, filter| entry.field("filter", json!(filter.shape())));
    let entry = read.entries.into_iter().fold(entry, |entry, entries| entry.field("entries", entries));
    log.append(entry).await.map(drop).map_err(unavailable)
}

/// Records that a user is told who the gateway takes them for.
///
/// # Errors
/// [`Code::LogUnavailable`].
pub(crate) async fn introduced(log: &Log, identity: &Identity) -> Result<(), Refusal> {
    log.append(by(Entry::new("caller.introduced"), identity)).await.map(drop).map_err(unavailable)
}

impl Opened {
    /// Notes by which guard rails was decided whether the caller may ask at all.
    pub(crate) fn decided_by(&self, guard_rails: Option<String>) {
        self.closing.known().guard_rails = guard_rails;
    }

    /// Notes which views the statement names, and which datasets that the caller may use.
    pub(crate) fn names(&self, views: Vec<String>, datasets: Vec<String>) {
        let mut known = self.closing.known();
        (known.views, known.datasets) = (views, datasets);
    }

    /// The number of the entry.
    pub(crate) fn entry(&self) -> u64 {
        self.closing.entry
    }

    /// Closes the entry of an answer.
    ///
    /// # Errors
    /// The refusal that the work ended in, once it is recorded; [`Code::LogUnavailable`] when it cannot be, or the log does not promise
    /// to keep it.
    pub(crate) async fn close(self, outcome: Result<Stated, Refusal>) -> Result<Closed, Refusal> {
        let (query_id, log) = (self.query_id.clone(), self.closing.log.clone());
        let answered = outcome.as_ref().ok().map(|stated| stated.answered(&query_id));
        let facts = outcome.as_ref().ok().zip(answered.as_ref()).map_or(Value::Null, |(stated, answered)| {
            let protected = &stated.protected;
            json!({
                "mission": protected.mission,
                "agreements": protected.agreements,
                "sources": protected.sources.iter().map(|s| json!({
                    "department": s.department, "dataset": s.dataset, "order": s.order, "agreement_digest": s.agreement_digest, "rows": s.rows,
                    "subjects": s.subjects, "matched": s.partners.map(|partners| partners.subjects),
                    "consent_version": s.consent_version, "consent_generation": s.consent_generation, "freshness": s.freshness,
                })).collect::<Vec<_>>(),
                "consent": protected.consent,
                "columns": protected.decision.columns,
                "tables": protected.decision.tables,
                "rules": protected.decision.rules,
                "minimum_subjects": protected.minimum,
                // These as the caller sees them.
                "withheld": stated.cells_withheld(),
                "answer_rows": answered.rows,
                "answer_digest": answered.digest_text(),
            })
        });
        let guard_rails = self.closing.known().guard_rails.clone();
        let (entry, stated) = self.finish(outcome, facts).await?;
        // Its leaf hash is still in memory.
        let promise = log.promise_answer(entry, stated.answered(&query_id)).map_err(unavailable)?;
        Ok(Closed { stated, query_id, entry, promise, guard_rails })
    }

    /// Closes the entry of an explanation: what was permitted, or the refusal that was explained.
    ///
    /// # Errors
    /// [`Code::LogUnavailable`]: then nothing is explained.
    pub(crate) async fn explained(self, outcome: Result<(&str, &Decision), (&Refusal, Option<&Proposal>)>) -> Result<(), Refusal> {
        let entry = self.closing.with("query.explained");
        let entry = match outcome {
            Ok((mission, decision)) => {
                let agreements: BTreeSet<&Name> = decision.tables.iter().map(|table| &table.agreement).collect();
                let facts = json!({
                    "mission": mission,
                    "agreements": agreements,
                    "columns": decision.columns,
                    "tables": decision.tables,
                    "rules": decision.rules,
                });
                entry.field("decision", "permit").field("facts", facts)
            }
            Err((refusal, proposal)) => {
                let entry = refusing(entry.field("decision", "deny"), refusal);
                // Under what the caller was told that a query would be permitted; never its text.
                let proposed = |p: &Proposal| json!({ "purpose": p.purpose, "mission": p.mission });
                proposal.into_iter().fold(entry, |entry, proposal| entry.field("proposed", proposed(proposal)))
            }
        };
        tracing::info!(query.id = self.query_id, "query explained");
        self.closing.close(entry).await.map(drop)
    }

    /// Closes the entry of anything else and passes the outcome on.
    ///
    /// # Errors
    /// As [`Opened::close`].
    #[tracing::instrument(name = "close", skip_all)]
    pub(crate) async fn finish<T>(self, outcome: Result<T, Refusal>, facts: Value) -> Result<(u64, T), Refusal> {
        let entry = match &outcome {
            Ok(_) => {
                tracing::info!(query.id = self.query_id, "query closed");
                self.closing.with("query.closed").field("facts", facts)
            }
            Err(refusal) => {
                tracing::info!(query.id = self.query_id, code = refusal.code.as_str(), operator = refusal.operator, "query refused");
                refusing(self.closing.with("query.refused"), refusal)
            }
        };
        let entry = self.closing.close(entry).await?;
        Ok((entry, outcome?))
    }
}

/// A refusal as the log keeps it: never its sentences, which may hold words of the statement.
fn refusing(entry: Entry, refusal: &Refusal) -> Entry {
    let entry = entry.field("code", refusal.code.as_str()).field("department", refusal.department.clone());
    refusal.cause().into_iter().fold(entry, |entry, cause| entry.field("cause", json!(cause)))
}

/// The refusal of everything while the log cannot be written.
pub(crate) fn unavailable(error: LogError) -> Refusal {
    tracing::error!(error = %error, cause = ?std::error::Error::source(&error), "access log unavailable");
    Refusal::new(Code::LogUnavailable, "the access log cannot be written, so nothing may leave")
        .advice("the gateway's operator must free or repair the log's disk")
        .operator(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_says_more_than_an_entry_holds_is_closed_by_a_short_one() {
        let folder = tempfile::tempdir().unwrap();
        let (log, entries) = (Log::open(folder.path(), "concordat/gateway").unwrap(), TaskTracker::new());
        let entry = log.append(Entry::new("query.opened").query("q")).await.unwrap();
        let open = Some(entries.token());
        let closing =
            Closing { log: log.clone(), entries, query_id: "q".into(), entry, since: Instant::now(), known: Mutex::default(), open };
        let long = closing.with("query.closed").field("facts", "x".repeat(70_000));
        assert_eq!(closing.close(long).await.unwrap_err().code, Code::LogUnavailable, "nothing is answered");
        let (_, last) = concordat_audit::read(folder.path(), 0).unwrap().last().unwrap().unwrap();
        let last: Value = serde_json::from_slice(&last).unwrap();
        let says = ["event", "query_id", "code"].map(|field| last[field].as_str().unwrap_or_default());
        assert_eq!((says, &last["opened_by"]), (["query.refused", "q", Code::LogUnavailable.as_str()], &Value::from(entry)));
    }
}
