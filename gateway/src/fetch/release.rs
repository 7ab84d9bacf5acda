//! One placed order: its partitions are read once each, checked row by row, and count only with the node's receipt.
//!
//! How a partition is read stands in [`super::expected`]. Readers end with the query's deadline, which drops [`Placed`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{AsArray as _, RecordBatch};
use arrow_flight::{FlightInfo, Ticket};
use concordat_policy::column::LINKED;
use concordat_policy::{DatasetName, Name, Refusal};
use concordat_proto::receipt::{Denominators, Receipt, Standing};
use concordat_proto::release_stream::MAX_RECEIPT;
use concordat_proto::schema::{PSEUDONYM_BYTES, pseudonyms};
use datafusion::common::{DataFusionError, Result as PlanResult, internal_datafusion_err};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span};

use super::expected::{AHEAD, Expected, PAUSE};
use super::flight::Flight;
use super::nodes::faulty;
use super::reach::List;
use super::sent::Sent;
use crate::plan::{MOST_OTHERS, Matched};

/// A task that ends with its handle: neither a query's end nor a wait for receipts that is given up leaves one behind.
type Reader = AbortOnDropHandle<Result<Receipt, Refusal>>;

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
pub(super) struct Progress {
    /// Rows of partitions whose receipts have come.
    released: AtomicU64,
    /// Rows that came.
    pub(super) arrived: AtomicU64,
    /// The distinct subjects of rows that were handed on.
    pub(super) subjects: AtomicU64,
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
    /// [`concordat_policy::Code::Internal`] when that cannot be made durable: then nothing that came is used.
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
    pub(super) fn deliver(&self, batch: &RecordBatch, last: &mut Option<u128>) -> Result<(), Refusal> {
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
