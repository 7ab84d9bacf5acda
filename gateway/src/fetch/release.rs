//! One placed order: its partitions are read once each, checked row by row, and count only with the node's receipt.
//!
//! What a node sends is read by [`ReleaseStream`]; here are the bounds in time and number. A partition holds [`AHEAD_KIB`] of
//! batches that wait for the join, or one batch where that is larger, and the message that is being read. A message must come
//! within [`PAUSE`], and all of them within the query's deadline, which drops [`Placed`] and with it every reader.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightInfo, Ticket};
use concordat_audit::witness::{FURTHEST, Moment, Owed};
use concordat_policy::column::LINKED;
use concordat_policy::{Code, DatasetName, Name, Refusal};
use concordat_proto::grouped::{GroupError, Grouping, Groups};
use concordat_proto::receipt::{Denominators, Grouped, Receipt, Standing};
use concordat_proto::release_stream::{MAX_RECEIPT, ReleaseStream, Taken};
use concordat_proto::schema::{PSEUDONYM_BYTES, pseudonyms};
use concordat_proto::token::{Reason, VerifyingKey};
use concordat_proto::version::{GROUPS, WITNESSED};
use datafusion::common::{DataFusionError, Result as PlanResult, internal_datafusion_err};
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span};

use super::flight::Flight;
use super::ledgers::Ledgers;
use super::nodes::{failed, faulty, timeout};
use super::reach::{List, without};
use super::sent::Sent;
use crate::observe::Observed;
use crate::plan::{MOST_OTHERS, Matched};
use crate::witness::log_of;

/// How long a node may take to its next message. The first one waits for the node's scan and sort.
const PAUSE: Duration = Duration::from_secs(60);
/// Batches that wait between network and join, per partition.
const AHEAD: usize = 2;
/// KiB of batches that wait, per partition.
const AHEAD_KIB: u32 = 2 << 10;

/// A task that ends with its handle: neither a query's end nor a wait for receipts that is given up leaves one behind.
type Reader = AbortOnDropHandle<Result<Receipt, Refusal>>;
/// A batch and the room that it takes until the join has it.
type Waiting = (PlanResult<RecordBatch>, Option<OwnedSemaphorePermit>);

/// What an order's answer must look like.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) department: Name,
    pub(super) dataset: String,
    pub(super) query_id: String,
    pub(super) mission: Name,
    pub(super) purpose: Name,
    /// The version of the contract in which it was ordered.
    pub(super) spoken: u32,
    pub(super) jti: String,
    /// Of the agreement's text under which it was ordered.
    pub(super) agreement_digest: String,
    /// Whether the order has a condition.
    pub(super) conditional: bool,
    pub(super) key: VerifyingKey,
    /// Of its rows.
    pub(super) schema: SchemaRef,
    /// By what they are grouped: by the node, or here where it speaks a version without groups.
    pub(super) grouping: Option<Arc<Grouping>>,
    pub(super) partitions: u32,
    /// The most rows of the release.
    pub(super) most_rows: u64,
    pub(super) observed: Observed,
    pub(super) ledgers: Arc<Ledgers>,
    pub(super) owed: Arc<Owed>,
    /// How many entries of the node's log were witnessed before the order was placed: its answer is in more.
    pub(super) log_seen: u64,
    /// Where the node said that its consent ledger stands, before the order: an earlier version is stale.
    pub(super) described: Standing,
    /// Where the department's consent ledger was seen before the order was placed.
    pub(super) ledger: Standing,
}

/// A placed order.
#[derive(Debug)]
pub(crate) struct Placed {
    expected: Arc<Expected>,
    node: Flight,
    sent: Sent,
    tickets: Mutex<Vec<Option<Ticket>>>,
    readers: Mutex<Vec<Reader>>,
    progress: Arc<Progress>,
    /// Where the ledger stood, and the last entry that receipts name; set when all of them have come.
    stated: OnceLock<(Standing, u64)>,
    /// The query's span: partitions are read by tasks of their own.
    span: Span,
}

/// How far the partitions of a release are.
#[derive(Debug, Default)]
struct Progress {
    /// Rows of partitions whose receipts have come.
    released: AtomicU64,
    /// Rows that came.
    arrived: AtomicU64,
    /// The distinct subjects of rows that were handed on.
    subjects: AtomicU64,
    /// Of a link dataset: the second pseudonyms among them, as far as it takes to know whether they are enough.
    others: Mutex<HashSet<[u8; PSEUDONYM_BYTES]>>,
    /// Partitions that are being read.
    reading: AtomicUsize,
}

/// What an answer states of one of its sources.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Source {
    /// The department.
    pub(crate) department: String,
    /// Its dataset.
    pub(crate) dataset: String,
    /// The order that it answers and the digest of its agreement's text. For the log.
    #[serde(skip)]
    pub(crate) order: String,
    #[serde(skip)]
    pub(crate) agreement_digest: String,
    /// The version of its consent ledger that was applied.
    pub(crate) consent_version: u64,
    /// The ledger's generation, where the department once acknowledged that it restored a backup.
    #[serde(skip_serializing_if = "never_restored")]
    pub(crate) consent_generation: u32,
    /// When the source last changed, Unix seconds.
    pub(crate) freshness: i64,
    /// How many subjects stand behind it, as callers are told; set once it is known who found a partner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<serde_json::Value>,
    /// Rows that came, and the distinct subjects of those that were handed on: without those whose choices reach the data from
    /// elsewhere. Exact: not for callers.
    #[serde(skip)]
    pub(crate) rows: u64,
    #[serde(skip)]
    pub(crate) subjects: u64,
    /// Of a link dataset whose second pseudonyms came: the distinct ones among them, at most [`MOST_OTHERS`].
    #[serde(skip)]
    pub(crate) others: Option<u64>,
    /// Those that found a partner in the statement's joins, where that was counted. For the log, too.
    #[serde(skip)]
    pub(crate) partners: Option<Matched>,
    /// What the department tells of subjects whose rows it did not release.
    #[serde(skip)]
    pub(crate) denominators: Option<Denominators>,
    /// Whether the statement's condition chose among the department's rows, at the department.
    #[serde(skip)]
    pub(crate) conditional: bool,
}

fn never_restored(generation: &u32) -> bool {
    *generation == 0
}

impl Placed {
    pub(super) fn new(expected: Expected, info: &FlightInfo, node: Flight, sent: Sent) -> Result<Self, Refusal> {
        let tickets: Vec<Option<Ticket>> =
            info.endpoint.iter().map(|e| e.ticket.clone().filter(|t| t.ticket.len() <= MAX_RECEIPT)).collect();
        if tickets.len() != expected.partitions as usize || tickets.iter().any(Option::is_none) {
            return Err(faulty(&expected.department, "answered an order with other tickets than one per partition", tickets.len()));
        }
        Ok(Self {
            expected: Arc::new(expected),
            node,
            sent,
            tickets: Mutex::new(tickets),
            readers: Mutex::new(Vec::new()),
            progress: Arc::default(),
            stated: OnceLock::new(),
            span: Span::current(),
        })
    }

    /// Starts to read a partition. The reader runs on its own to the receipt, even when the join needs no more rows.
    pub(crate) fn read(
        &self,
        partition: usize,
        withheld: Vec<Arc<List>>,
    ) -> PlanResult<impl Stream<Item = PlanResult<RecordBatch>> + Send + use<>> {
        let ticket = self.tickets.lock().unwrap_or_else(PoisonError::into_inner).get_mut(partition).and_then(Option::take);
        let ticket = ticket.ok_or_else(|| internal_datafusion_err!("partition {partition} was read twice or does not exist"))?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (expected, node, progress) = (self.expected.clone(), self.node.clone(), self.progress.clone());
        progress.reading.fetch_add(1, Ordering::AcqRel);
        let reading = async move {
            let outcome = expected.stream(&node, ticket, partition, &withheld, &progress, &sender).await;
            if let Ok(receipt) = &outcome {
                progress.released.fetch_add(receipt.dataset_rows(), Ordering::AcqRel);
                progress.reading.fetch_sub(1, Ordering::AcqRel);
            }
            if let Err(refusal) = &outcome {
                // The join may have gone already; the refusal is found again when receipts are collected.
                let _ = sender.send((Err(DataFusionError::External(Box::new(refusal.clone()))), None)).await;
            }
            outcome
        };
        let reader = AbortOnDropHandle::new(tokio::spawn(reading.instrument(self.span.clone())));
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        Ok(ReceiverStream::new(receiver).map(|(batch, _room)| batch))
    }

    /// Rows that the department has released and receipted so far.
    pub(crate) fn released(&self) -> u64 {
        self.progress.released.load(Ordering::Acquire)
    }

    /// The department, while partitions that are being read lack their receipts.
    pub(crate) fn awaited(&self) -> Option<&Name> {
        (self.progress.reading.load(Ordering::Acquire) > 0).then_some(&self.expected.department)
    }

    /// Waits for the receipts of every partition that was read, and returns what they say together. It counts once it is [noted](Self::note).
    ///
    /// # Errors
    /// The first reader's refusal; [`concordat_policy::Code::NodeFaulty`] when partitions state different consent versions.
    pub(crate) async fn settle(&self) -> Result<Option<Source>, Refusal> {
        let readers: Vec<Reader> = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut source, mut entry): (Option<Source>, _) = (None, 0);
        for reader in readers {
            let receipt = reader.await.map_err(Refusal::internal)??;
            entry = receipt.log_entry.max(entry);
            let (standing, rows) = (receipt.standing(), receipt.dataset_rows());
            match &mut source {
                None => {
                    source = Some(Source {
                        department: self.expected.department.to_string(),
                        dataset: receipt.dataset,
                        order: self.expected.jti.clone(),
                        agreement_digest: self.expected.agreement_digest.clone(),
                        consent_version: standing.version,
                        consent_generation: standing.generation,
                        freshness: receipt.freshness,
                        counts: None,
                        rows,
                        subjects: 0,
                        others: None,
                        partners: None,
                        denominators: receipt.denominators,
                        conditional: self.expected.conditional,
                    });
                }
                Some(source) if source.denominators != receipt.denominators => {
                    return Err(faulty(&self.expected.department, "told two numbers of subjects left out of one release", ""));
                }
                Some(source) if source.standing() == standing => source.rows += rows,
                Some(_) => return Err(faulty(&self.expected.department, "applied two versions of its consent ledger in one release", "")),
            }
        }
        if let Some(source) = &mut source {
            source.subjects = self.progress.subjects.load(Ordering::Acquire);
            let others = || self.progress.others.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
            source.others = self.expected.schema.column_with_name(LINKED).map(|_| others());
            let _ = self.stated.set((source.standing(), entry));
        }
        Ok(source)
    }

    /// Notes, durably, what the receipts that came oblige to.
    ///
    /// # Errors
    /// [`Code::Internal`] when that cannot be made durable: then nothing that came is used.
    pub(crate) async fn note(&self) -> Result<(), Refusal> {
        let Some((standing, entry)) = self.stated.get() else { return Ok(()) };
        self.expected.ledgers.note(&self.expected.department, *standing, &self.expected.query_id).await?;
        self.expected.owes(*entry).await
    }
}

impl Source {
    /// Whether it is of this dataset.
    pub(crate) fn is_of(&self, dataset: &DatasetName) -> bool {
        self.department == dataset.department.as_str() && self.dataset == dataset.dataset.as_str()
    }

    /// Where the ledger stood.
    pub(super) fn standing(&self) -> Standing {
        Standing { generation: self.consent_generation, version: self.consent_version }
    }
}

impl Progress {
    /// Counts the subjects of a batch that is handed on, which ascend. `last` is that of the batch before.
    fn deliver(&self, batch: &RecordBatch, last: &mut Option<u128>) -> Result<(), Refusal> {
        let column = batch.columns().first().and_then(|column| pseudonyms(column));
        let mut subjects = 0;
        for subject in column.ok_or_else(|| Refusal::internal("a batch without pseudonyms"))? {
            let subject = u128::from_be_bytes(*subject);
            subjects += u64::from(*last != Some(subject));
            *last = Some(subject);
        }
        if let Some(linked) = batch.column_by_name(LINKED).and_then(|column| column.as_fixed_size_binary_opt()) {
            let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            for other in linked.iter().flatten().filter_map(|other| other.try_into().ok()) {
                if others.len() >= MOST_OTHERS {
                    break;
                }
                others.insert(other);
            }
        }
        self.subjects.fetch_add(subjects, Ordering::AcqRel);
        Ok(())
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let tickets = std::mem::take(&mut *self.tickets.lock().unwrap_or_else(PoisonError::into_inner));
        let rest: Vec<Ticket> = tickets.into_iter().flatten().collect();
        if rest.is_empty() && self.progress.reading.load(Ordering::Acquire) == 0 {
            self.sent.settle();
        } else if let (false, Ok(runtime)) = (self.sent.gives_back(), tokio::runtime::Handle::try_current()) {
            // Every one: a small partition may be complete before its node notices that nobody reads it.
            let node = self.node.clone();
            runtime.spawn(async move {
                let taken = rest.into_iter().map(|ticket| tokio::time::timeout(PAUSE, node.redeem(ticket)));
                let _ = futures::future::join_all(taken).await;
            });
        }
    }
}

impl Expected {
    async fn stream(
        &self,
        node: &Flight,
        ticket: Ticket,
        partition: usize,
        withheld: &[Arc<List>],
        progress: &Progress,
        sender: &mpsc::Sender<Waiting>,
    ) -> Result<Receipt, Refusal> {
        let (since, mut bytes) = (Instant::now(), 0);
        let mut messages = match tokio::time::timeout(PAUSE, node.redeem(ticket)).await {
            Err(_) => return Err(timeout(&self.department)),
            Ok(redeemed) => redeemed.map_err(|status| failed(&self.department, &status))?,
        };
        let (mut stream, mut groups) = match &self.grouping {
            Some(grouping) if self.spoken >= GROUPS => (ReleaseStream::of_groups(grouping.as_ref().clone()), None),
            grouping => (ReleaseStream::new(self.schema.clone(), partition, self.partitions), grouping.clone().map(Groups::new)),
        };
        let grouped_there = self.grouping.is_some() && groups.is_none();
        if grouped_there && !withheld.is_empty() {
            return Err(Refusal::internal("groups were ordered of data that choices reach from elsewhere"));
        }
        let room = Arc::new(Semaphore::new(AHEAD_KIB as usize));
        let mut last = None;
        loop {
            let message = match tokio::time::timeout(PAUSE, messages.message()).await {
                Err(_) => return Err(timeout(&self.department)),
                Ok(Err(status)) => return Err(failed(&self.department, &status)),
                Ok(Ok(None)) => return Err(self.wrong("ended a release without a receipt", "")),
                Ok(Ok(Some(message))) => message,
            };
            bytes += message.encoded_len() as u64;
            match stream.take(&message).map_err(|e| self.wrong(&format!("sent what was not agreed ({e})"), format!("{e:?}")))? {
                Taken::Part => {}
                Taken::Batch(batch, size) => {
                    let batches = if grouped_there {
                        // The rows behind them are counted when the receipt tells their number; groups are no more than those may be.
                        self.within(stream.rows())?;
                        vec![batch]
                    } else {
                        self.count(progress, batch.num_rows() as u64)?;
                        // Whole, and before anything reads or counts it: its pseudonyms need not be among the columns that are wanted.
                        let batch = without(batch, withheld)?;
                        progress.deliver(&batch, &mut last)?;
                        self.grouped(groups.as_mut(), batch)?
                    };
                    let kib = u32::try_from(size >> 10).unwrap_or(AHEAD_KIB).clamp(1, AHEAD_KIB);
                    let room = room.clone().acquire_many_owned(kib).await.map_err(Refusal::internal)?;
                    let mut room = Some(room);
                    for batch in batches {
                        // Nobody listens when the join needed no more rows; the receipt is still wanted.
                        let _ = sender.send((Ok(batch), room.take())).await;
                    }
                }
                Taken::Receipt(token) => {
                    self.observed.release(self.department.as_str(), bytes, since.elapsed());
                    let receipt = self.receipt(&token, partition, &stream)?;
                    self.ledgers.check(&self.department, self.ledger, receipt.standing()).await?;
                    self.not_stale(receipt.standing())?;
                    if let Some(Grouped { rows, subjects }) = receipt.grouped {
                        self.count(progress, rows)?;
                        progress.subjects.fetch_add(subjects, Ordering::AcqRel);
                    }
                    let last = groups.as_mut().map(Groups::finish).transpose().map_err(|e| self.not_grouped(&e))?.flatten();
                    if let Some((last, grouping)) = last.zip(self.grouping.as_ref()) {
                        let last = grouping.as_sent(&last).map_err(|e| self.not_grouped(&e))?;
                        let _ = sender.send((Ok(last), None)).await;
                    }
                    return Ok(receipt);
                }
            }
        }
    }

    /// A batch, or the groups of it and what came before that are complete.
    fn grouped(&self, groups: Option<&mut Groups>, batch: RecordBatch) -> Result<Vec<RecordBatch>, Refusal> {
        let (Some(groups), Some(grouping)) = (groups, &self.grouping) else { return Ok(vec![batch]) };
        let parts = groups.take(&batch).map_err(|e| self.not_grouped(&e))?;
        parts.iter().map(|part| grouping.as_sent(part).map_err(|e| self.not_grouped(&e))).collect()
    }

    fn not_grouped(&self, e: &GroupError) -> Refusal {
        match e {
            GroupError::TooLarge(_) | GroupError::TooMany => {
                Refusal::new(Code::LimitExceeded, e.to_string()).department(&self.department).advice(e.advice())
            }
            GroupError::Schema => Refusal::internal(e),
        }
    }

    fn count(&self, progress: &Progress, rows: u64) -> Result<(), Refusal> {
        self.within(progress.arrived.fetch_add(rows, Ordering::AcqRel).saturating_add(rows))
    }

    fn within(&self, rows: u64) -> Result<(), Refusal> {
        if rows <= self.most_rows {
            return Ok(());
        }
        let what =
            format!("department '{}' released more than {} rows, the gateway's limit, and was stopped", self.department, self.most_rows);
        Err(Refusal::new(Code::LimitExceeded, what)
            .department(&self.department)
            .advice("narrow the query; if the dataset is so large, the gateway's operator can raise release_rows"))
    }

    fn receipt(&self, token: &[u8], partition: usize, stream: &ReleaseStream) -> Result<Receipt, Refusal> {
        let unverified = |e: &dyn std::fmt::Display| self.wrong("sent a receipt that does not verify", e);
        let token = std::str::from_utf8(token).map_err(|e| unverified(&e))?;
        let now = chrono::Utc::now().timestamp();
        let receipt = Receipt::verify(token, &self.department, &self.key, now).map_err(|e| match e {
            Reason::NotYet | Reason::Expired => self
                .wrong("signed a receipt for another time: its clock is more than 30 s off, or ours", e)
                .advice("the clocks must be corrected (NTP)"),
            _ => unverified(&e),
        })?;
        let same = receipt.sub == self.jti
            && receipt.query_id == self.query_id
            && receipt.dataset == self.dataset
            && receipt.partition as usize == partition
            && receipt.partitions == self.partitions;
        if !same {
            return Err(self.wrong("sent the receipt of another release", &receipt.sub));
        }
        if !receipt.is_for(&self.mission, &self.purpose, self.spoken) {
            let stated = [&receipt.mission, &receipt.purpose].map(|name| name.as_ref().map_or("none", Name::as_str));
            return Err(self.wrong("sent a receipt for another mission or purpose than the order's, or for none", stated.join(", ")));
        }
        if receipt.rows != stream.rows() {
            return Err(self.wrong("sent another number of rows than its receipt states", ""));
        }
        if !stream.is_made_of(receipt.grouped) {
            return Err(self.wrong("sent groups of other rows than its receipt states", ""));
        }
        can_be_shown(&self.owed, &self.department, receipt.log_entry).map_err(|what| self.wrong(&what, receipt.log_entry))?;
        Ok(receipt)
    }

    /// Notes, durably, that the node owes a checkpoint which covers the last entry that its receipts name, and is newer than the order.
    async fn owes(&self, entry: u64) -> Result<(), Refusal> {
        // Only a node from before there were witnesses, which never showed a log, owes none.
        if self.log_seen == 0 && self.spoken < WITNESSED {
            return Ok(());
        }
        let (owed, log, size) = (self.owed.clone(), log_of(&self.department), self.log_seen.saturating_add(1).max(entry));
        let noted = tokio::task::spawn_blocking(move || owed.owe(&log, size, Moment::now())).await.map_err(Refusal::internal)?;
        noted.map_err(|e| Refusal::internal(format!("what the departments' logs owe cannot be kept: {e}")))
    }

    /// What was described before the order was recorded before it: a release must honour it.
    fn not_stale(&self, standing: Standing) -> Result<(), Refusal> {
        if standing >= self.described {
            return Ok(());
        }
        let what = "applied an earlier version of its consent ledger than it had already described";
        Err(self.wrong(what, format!("{standing} after {}", self.described)))
    }

    fn wrong(&self, what: &str, operator: impl std::fmt::Display) -> Refusal {
        faulty(&self.department, what, operator)
            .advice("tell the department: its node, or something in its place, sends what the contract forbids")
    }
}

/// Whether a department's log can come to the entry that a receipt names. Else it would be owed for good. The error says what the
/// department did.
fn can_be_shown(owed: &Owed, department: &Name, entry: u64) -> Result<(), String> {
    if owed.can_be(&log_of(department), entry) {
        return Ok(());
    }
    Err(format!("signed a receipt for an entry of its access log that is more than {FURTHEST} after the last one that it has shown"))
}

#[cfg(test)]
mod tests {
    use concordat_audit::witness::Witness;

    use super::*;

    #[test]
    fn a_receipt_for_an_entry_that_no_log_comes_to_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        Witness::open(folder.path(), "concordat/gateway/witness").unwrap();
        let (owed, department) = (Owed::open(folder.path()).unwrap(), Name::parse("dwp").unwrap());
        assert_eq!(can_be_shown(&owed, &department, u64::MAX), Ok(()), "nothing was shown");
        owed.cosigned(&log_of(&department), 7, true).unwrap();
        assert_eq!(can_be_shown(&owed, &department, 7 + FURTHEST), Ok(()));
        assert!(can_be_shown(&owed, &department, 8 + FURTHEST).unwrap_err().contains("more than 10000000 after"));
    }
}
