//! Detached queries: they run on without their caller, and their answers wait, in memory only, to be picked up.
//!
//! ```text
//! queued ─▶ running ─▶ done ───────▶ lapsed: as if it had never been
//!    └─────────┴──▶ refused (or cancelled) ──▶ lapsed
//! ```
//!
//! Invariants
//! - Only their owner, under the same purpose and mission, learns anything of them. Everybody else is told the same as of an id
//!   that never was.
//! - How many there are and how many bytes they keep is bounded, in all and of one caller.
//! - A restart loses them, and says so: ids begin with the run that made them. Their entries in the log stay.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::{DateTime, TimeDelta, Utc};
use concordat_policy::{Code, Name, Refusal};
use concordat_proto::v1::DetachedTicket;
use datafusion::execution::memory_pool::MemoryReservation;
use prost::Message as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Gateway;
use crate::authenticate::Caller;
use crate::deliver::Answer;
use crate::estate::Texts;
use crate::limits::{DetachedSettings, Key, Memory};
use crate::pipeline::{self, Refused};
use crate::plan::Statement;
use crate::terms::Terms;

/// How far a query is.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    /// It waits for a place.
    Queued,
    /// It is planned and executed.
    Running,
    /// Its answer waits.
    Done(Arc<Kept>),
    /// It was refused, and under which id the log has it.
    Refused(Refusal, Option<String>),
}

/// A kept answer.
#[derive(Debug)]
pub(crate) struct Kept {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    summary: Value,
    texts: Texts,
    /// Its memory; given back once it has lapsed and nobody reads it any more.
    _memory: MemoryReservation,
}

/// What its owner may know of a query.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) progress: Progress,
    pub(crate) since: DateTime<Utc>,
    /// When it will be forgotten; once it has ended.
    pub(crate) lapses: Option<DateTime<Utc>>,
}

/// Whose a query is.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    key: Key,
    roles: BTreeSet<String>,
    purpose: Name,
    mission: Option<Name>,
}

impl Owner {
    fn of(caller: &Caller) -> Self {
        Self { key: Key::of(caller), roles: caller.roles.clone(), purpose: caller.purpose.clone(), mission: caller.mission().cloned() }
    }
}

#[derive(Debug)]
struct Job {
    owner: Owner,
    since: DateTime<Utc>,
    /// When it ended.
    ended: Option<(Instant, DateTime<Utc>)>,
    progress: watch::Sender<Progress>,
    cancelled: CancellationToken,
}

type Id = [u8; 16];

/// The gateway's detached queries.
#[derive(Debug)]
pub(crate) struct Detached {
    settings: DetachedSettings,
    /// How the ids of this run of the gateway begin: others were lost with the run before.
    run: [u8; 4],
    jobs: Mutex<HashMap<Id, Job>>,
    memory: Memory,
    running: TaskTracker,
}

impl Detached {
    pub(crate) fn new(settings: DetachedSettings) -> Self {
        let memory = Memory::new(settings.answers_mib << 20, settings.answers_per_caller_mib << 20);
        let [.., a, b, c, d] = uuid::Uuid::now_v7().into_bytes();
        Self { settings, run: [a, b, c, d], jobs: Mutex::default(), memory, running: TaskTracker::new() }
    }

    /// What is known of a query, after waiting for at most `wait` for its end.
    ///
    /// # Errors
    /// [`Code::Denied`] for who is not its owner, and for ids that do not exist.
    pub(crate) async fn state(&self, id: &str, caller: &Caller, wait: Duration) -> Result<State, Refusal> {
        let id = parse(id)?;
        let mut progress = self.owned(&self.jobs(), &id, caller)?.progress.subscribe();
        let ended = progress.wait_for(|p| matches!(p, Progress::Done(_) | Progress::Refused(..)));
        // Whether it ended, was forgotten or still runs is looked up below.
        let _ = tokio::time::timeout(wait, ended).await;
        let jobs = self.jobs();
        let job = self.owned(&jobs, &id, caller)?;
        let lapses = job.ended.map(|(_, at)| at + TimeDelta::from_std(self.keep()).unwrap_or_default());
        Ok(State { progress: job.progress.borrow().clone(), since: job.since, lapses })
    }

    /// The answer behind a ticket, and the id under which the log has it.
    ///
    /// # Errors
    /// As [`Detached::state`]; also while there is no answer.
    pub(crate) fn answer(&self, ticket: &[u8], caller: &Caller) -> Result<(String, Answer), Refusal> {
        let ticket = DetachedTicket::decode(ticket).map_err(|_| unknown())?;
        let jobs = self.jobs();
        let progress = self.owned(&jobs, &parse(&ticket.id)?, caller)?.progress.borrow().clone();
        let Progress::Done(kept) = progress else { return Err(unknown()) };
        let query_id = kept.summary.get("query_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (schema, batches, summary) = (kept.schema.clone(), kept.batches.clone(), kept.summary.clone());
        Ok((query_id, Answer { schema, batches, summary, texts: kept.texts.clone(), held: Box::new(kept) }))
    }

    /// Stops a query and forgets it.
    ///
    /// # Errors
    /// As [`Detached::state`].
    pub(crate) fn cancel(&self, id: &str, caller: &Caller) -> Result<(), Refusal> {
        let id = parse(id)?;
        let mut jobs = self.jobs();
        self.owned(&jobs, &id, caller)?.cancelled.cancel();
        jobs.remove(&id);
        Ok(())
    }

    /// Forgets what has lapsed.
    pub(crate) fn sweep(&self, now: Instant) {
        let keep = self.keep();
        self.jobs().retain(|_, job| job.ended.is_none_or(|(at, _)| now.saturating_duration_since(at) < keep));
    }

    /// Stops all queries, and waits a while for their entries in the log to be closed.
    pub(crate) async fn end(&self, wait: Duration) {
        self.jobs().values().for_each(|job| job.cancelled.cancel());
        self.running.close();
        if tokio::time::timeout(wait, self.running.wait()).await.is_err() {
            tracing::warn!(queries = self.running.len(), "detached queries did not end in time");
        }
    }

    /// A new job, if there is room.
    fn enter(&self, caller: &Caller) -> Result<(Id, watch::Sender<Progress>, CancellationToken), Refusal> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(Refusal::internal)?;
        if let Some(run) = id.first_chunk_mut() {
            *run = self.run;
        }
        self.sweep(Instant::now());
        let (owner, cancelled, progress) = (Owner::of(caller), CancellationToken::new(), watch::Sender::new(Progress::Queued));
        let mut jobs = self.jobs();
        let (own, most) = (jobs.values().filter(|job| job.owner.key == owner.key).count(), self.settings.queries_per_caller);
        let full = |what: &str, most: usize| {
            Refusal::new(Code::LimitExceeded, format!("{what} ({most}): the gateway's limit"))
                .advice("cancel one with `concordat result ID --cancel`, or wait until one lapses")
        };
        if own >= most {
            return Err(full("you have as many detached queries as one caller may have", most));
        }
        if jobs.len() >= self.settings.queries {
            return Err(full("there are as many detached queries as there may be", self.settings.queries));
        }
        let job = Job { owner, since: Utc::now(), ended: None, progress: progress.clone(), cancelled: cancelled.clone() };
        jobs.insert(id, job);
        Ok((id, progress, cancelled))
    }

    /// Notes how a query ended, unless it was forgotten meanwhile.
    fn finish(&self, id: &Id, key: &Key, outcome: Result<Answer, Refused>) {
        let progress = match outcome {
            Ok(answer) => {
                let query_id = answer.summary.get("query_id").and_then(Value::as_str).map(str::to_owned);
                self.kept(key, answer).map_or_else(|refusal| Progress::Refused(refusal, query_id), |kept| Progress::Done(Arc::new(kept)))
            }
            Err(Refused { refusal, query_id }) => Progress::Refused(refusal, query_id),
        };
        if let Some(job) = self.jobs().get_mut(id) {
            job.ended = Some((Instant::now(), Utc::now()));
            job.progress.send_replace(progress);
        }
    }

    /// The answer in memory that is counted here, no longer among running queries.
    fn kept(&self, key: &Key, answer: Answer) -> Result<Kept, Refusal> {
        let bytes = answer.batches.iter().map(RecordBatch::get_array_memory_size).fold(0, usize::saturating_add);
        let most = self.settings.answers_per_caller_mib;
        let memory = self.memory.pool(key, most << 20).reservation("kept answer");
        memory.try_grow(bytes).map_err(|_| {
            Refusal::new(
                Code::LimitExceeded,
                format!("the answer does not fit into the gateway's memory for kept answers ({most} MiB for one caller)"),
            )
            .advice("ask for fewer rows or columns, or cancel answers that you no longer need")
        })?;
        Ok(Kept { schema: answer.schema, batches: answer.batches, summary: answer.summary, texts: answer.texts, _memory: memory })
    }

    fn owned<'j>(&self, jobs: &'j HashMap<Id, Job>, id: &Id, caller: &Caller) -> Result<&'j Job, Refusal> {
        let keep = self.keep();
        let theirs = |job: &&Job| job.owner == Owner::of(caller) && job.ended.is_none_or(|(at, _)| at.elapsed() < keep);
        jobs.get(id).filter(theirs).ok_or_else(|| if id.starts_with(&self.run) { unknown() } else { lost() })
    }

    fn keep(&self) -> Duration {
        Duration::from_secs(self.settings.keep_minutes * 60)
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<Id, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Starts a query that runs on without its caller, and returns its id.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when there are too many.
    pub(crate) fn detach(self: &Arc<Self>, caller: Caller, statement: Statement) -> Result<String, Refusal> {
        let (id, progress, cancelled) = self.detached.enter(&caller)?;
        let time = Duration::from_secs(self.detached.settings.deadline_seconds);
        let begins = Box::new(move || drop(progress.send_replace(Progress::Running)));
        let terms = Terms::of_detached(self, text(&id), time, cancelled, begins);
        let (gateway, key) = (self.clone(), Key::of(&caller));
        self.detached.running.spawn(async move {
            let outcome = pipeline::answer_on(&gateway, caller, &statement, terms).await;
            gateway.detached.finish(&id, &key, outcome);
        });
        Ok(text(&id))
    }
}

fn text(id: &Id) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse(text: &str) -> Result<Id, Refusal> {
    let digits = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(digits).collect();
    let plain = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    bytes.filter(|_| plain).and_then(|bytes| bytes.try_into().ok()).ok_or_else(unknown)
}

/// The answer to everybody who asks for what an earlier run of the gateway had, or nobody ever had.
fn lost() -> Refusal {
    Refusal::new(Code::Denied, "the gateway has restarted since a detached query of this id could have been asked, and lost it")
        .advice("ask again: its answer was kept in memory only")
}

/// The one answer to everybody who is not the owner.
fn unknown() -> Refusal {
    Refusal::new(Code::Denied, "no detached query of yours has this id, under this purpose, with an answer that waits")
        .advice("answers lapse, are gone after a restart, and are for who asked, under the same purpose; ask again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else() {
        let id: Id = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];
        assert_eq!(parse(&text(&id)).unwrap(), id);
        for bad in ["", "00", &"0".repeat(31), &"0".repeat(33), &"zz".repeat(16), &"+1".repeat(16), &"é".repeat(16)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
