//! One placed order: its partitions are read once each, checked row by row, and count only with the node's receipt.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{Array as _, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightInfo, Ticket};
use concordat_operate::trace::Traced;
use concordat_policy::{Name, Refusal};
use concordat_proto::receipt::{Receipt, Standing};
use concordat_proto::schema::{PSEUDONYM_BYTES, partition_of, split_points};
use concordat_proto::token::{Reason, VerifyingKey};
use datafusion::common::{DataFusionError, Result as PlanResult, internal_datafusion_err};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{Instrument as _, Span};

use super::decode::Decoder;
use super::ledgers::Ledgers;
use super::nodes::{failed, faulty, timeout};
use crate::observe::Observed;

/// How long a node may take to its next message. The first one waits for the node's scan and sort.
const PAUSE: Duration = Duration::from_secs(60);
/// Batches that wait between network and join, per partition.
const AHEAD: usize = 2;
/// The longest ticket and receipt, in bytes.
const MAX_TOKEN: usize = 8 << 10;

type Client = FlightServiceClient<Traced>;
type Reader = JoinHandle<Result<Receipt, Refusal>>;

/// What an order's answer must look like.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) department: Name,
    pub(super) dataset: String,
    pub(super) query_id: String,
    pub(super) jti: String,
    pub(super) key: VerifyingKey,
    pub(super) schema: SchemaRef,
    pub(super) partitions: u32,
    pub(super) observed: Observed,
    pub(super) ledgers: Arc<Ledgers>,
    /// Where the department's consent ledger was seen before the order was placed.
    pub(super) ledger: Standing,
}

/// A placed order.
#[derive(Debug)]
pub(crate) struct Placed {
    expected: Arc<Expected>,
    client: Client,
    tickets: Mutex<Vec<Option<Ticket>>>,
    readers: Mutex<Vec<Reader>>,
    /// Rows of partitions whose receipts have come.
    released: Arc<AtomicU64>,
    /// The query's span: partitions are read by tasks of their own.
    span: Span,
}

/// What an answer states of one of its sources.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Source {
    /// The department.
    pub(crate) department: String,
    /// Its dataset.
    pub(crate) dataset: String,
    /// The version of its consent ledger that was applied.
    pub(crate) consent_version: u64,
    /// The ledger's generation, where the department once acknowledged that it restored a backup.
    #[serde(skip_serializing_if = "never_restored")]
    pub(crate) consent_generation: u32,
    /// When the source last changed, Unix seconds.
    pub(crate) freshness: i64,
    /// Rows that came. For the gateway's log, never for callers.
    #[serde(skip)]
    pub(crate) rows: u64,
}

fn never_restored(generation: &u32) -> bool {
    *generation == 0
}

impl Placed {
    pub(super) fn new(expected: Expected, info: &FlightInfo, client: Client) -> Result<Self, Refusal> {
        let tickets: Vec<Option<Ticket>> = info.endpoint.iter().map(|e| e.ticket.clone().filter(|t| t.ticket.len() <= MAX_TOKEN)).collect();
        if tickets.len() != expected.partitions as usize || tickets.iter().any(Option::is_none) {
            return Err(faulty(&expected.department, "answered an order with other tickets than one per partition", tickets.len()));
        }
        Ok(Self {
            expected: Arc::new(expected),
            client,
            tickets: Mutex::new(tickets),
            readers: Mutex::new(Vec::new()),
            released: Arc::default(),
            span: Span::current(),
        })
    }

    /// Starts to read a partition. The reader runs on its own to the receipt, even when the join needs no more rows.
    pub(crate) fn read(&self, partition: usize) -> PlanResult<ReceiverStream<PlanResult<RecordBatch>>> {
        let ticket = self.tickets.lock().unwrap_or_else(PoisonError::into_inner).get_mut(partition).and_then(Option::take);
        let ticket = ticket.ok_or_else(|| internal_datafusion_err!("partition {partition} was read twice or does not exist"))?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (expected, client, released) = (self.expected.clone(), self.client.clone(), self.released.clone());
        let reading = async move {
            let outcome = expected.stream(client, ticket, partition, &sender).await;
            if let Ok(receipt) = &outcome {
                released.fetch_add(receipt.rows, Ordering::AcqRel);
            }
            if let Err(refusal) = &outcome {
                // The join may have gone already; the refusal is found again when receipts are collected.
                let _ = sender.send(Err(DataFusionError::External(Box::new(refusal.clone())))).await;
            }
            outcome
        };
        let reader = tokio::spawn(reading.instrument(self.span.clone()));
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        Ok(ReceiverStream::new(receiver))
    }

    /// Rows that the department has released and receipted so far.
    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    /// Waits for the receipts of every partition that was read, and returns what they say together.
    ///
    /// # Errors
    /// The first reader's refusal; [`concordat_policy::Code::NodeFaulty`] when partitions state different consent versions.
    pub(crate) async fn settle(&self) -> Result<Option<Source>, Refusal> {
        let readers: Vec<Reader> = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut source: Option<Source> = None;
        for reader in readers {
            let receipt = reader.await.map_err(Refusal::internal)??;
            let standing = receipt.standing();
            match &mut source {
                None => {
                    source = Some(Source {
                        department: self.expected.department.to_string(),
                        dataset: receipt.dataset,
                        consent_version: standing.version,
                        consent_generation: standing.generation,
                        freshness: receipt.freshness,
                        rows: receipt.rows,
                    });
                }
                Some(source) if source.standing() == standing => source.rows += receipt.rows,
                Some(_) => return Err(faulty(&self.expected.department, "applied two versions of its consent ledger in one release", "")),
            }
        }
        if let Some(source) = &source {
            self.expected.ledgers.note(&self.expected.department, source.standing(), &self.expected.query_id).await?;
        }
        Ok(source)
    }
}

impl Source {
    fn standing(&self) -> Standing {
        Standing { generation: self.consent_generation, version: self.consent_version }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // An order that is not read holds a place at the node until its tickets lapse: taking one and leaving gives it back.
        let tickets = std::mem::take(&mut *self.tickets.lock().unwrap_or_else(PoisonError::into_inner));
        if let (Some(ticket), Ok(runtime)) = (tickets.into_iter().flatten().next(), tokio::runtime::Handle::try_current()) {
            let mut client = self.client.clone();
            runtime.spawn(async move { tokio::time::timeout(PAUSE, client.do_get(ticket)).await.map(drop) });
        }
        for reader in self.readers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            reader.abort();
        }
    }
}

impl Expected {
    async fn stream(
        &self,
        mut client: Client,
        ticket: Ticket,
        partition: usize,
        sender: &mpsc::Sender<PlanResult<RecordBatch>>,
    ) -> Result<Receipt, Refusal> {
        let wrong = |what: &str, operator: &str| faulty(&self.department, what, operator);
        let (since, mut bytes) = (Instant::now(), 0);
        let mut messages = match tokio::time::timeout(PAUSE, client.do_get(ticket)).await {
            Err(_) => return Err(timeout(&self.department)),
            Ok(Err(status)) => return Err(failed(&self.department, &status)),
            Ok(Ok(response)) => response.into_inner(),
        };
        let mut decoder = Decoder::new(self.schema.clone());
        let mut order = Ascending::new(partition, self.partitions);
        loop {
            let message = match tokio::time::timeout(PAUSE, messages.message()).await {
                Err(_) => return Err(timeout(&self.department)),
                Ok(Err(status)) => return Err(failed(&self.department, &status)),
                Ok(Ok(None)) => return Err(wrong("ended a release without a receipt", "")),
                Ok(Ok(Some(message))) => message,
            };
            if message.data_header.is_empty() {
                if !decoder.has_schema() || message.app_metadata.len() > MAX_TOKEN {
                    return Err(wrong("ended a release out of order", ""));
                }
                self.observed.release(self.department.as_str(), bytes, since.elapsed());
                let receipt = self.receipt(&message.app_metadata, partition, order.rows)?;
                self.ledgers.check(&self.department, self.ledger, receipt.standing()).await?;
                return Ok(receipt);
            }
            bytes += (message.data_header.len() + message.data_body.len()) as u64;
            let Some(batch) = decoder.message(&message).map_err(|e| wrong("sent data that is not what was agreed", &e))? else { continue };
            order.check(&batch).map_err(|e| wrong("sent rows out of order", e))?;
            // Nobody listens when the join needed no more rows; the receipt is still wanted.
            let _ = sender.send(Ok(batch)).await;
        }
    }

    fn receipt(&self, token: &[u8], partition: usize, rows: u64) -> Result<Receipt, Refusal> {
        let wrong = |what: &str, operator: &dyn std::fmt::Display| faulty(&self.department, what, operator);
        let token = std::str::from_utf8(token).map_err(|e| wrong("sent a receipt that does not verify", &e))?;
        let receipt = Receipt::verify(token, &self.department, &self.key, chrono::Utc::now().timestamp()).map_err(|e| match e {
            Reason::NotYet | Reason::Expired => wrong("signed a receipt for another time: its clock is more than 30 s off, or ours", &e)
                .advice("the clocks must be corrected (NTP)"),
            _ => wrong("sent a receipt that does not verify", &e),
        })?;
        let same = receipt.sub == self.jti
            && receipt.query_id == self.query_id
            && receipt.dataset == self.dataset
            && receipt.partition as usize == partition
            && receipt.partitions == self.partitions;
        if !same {
            return Err(wrong("sent the receipt of another release", &receipt.sub));
        }
        if receipt.rows != rows {
            return Err(wrong("sent another number of rows than its receipt states", &""));
        }
        Ok(receipt)
    }
}

/// Checks that pseudonyms ascend and stay inside their partition.
struct Ascending {
    partition: usize,
    splits: Vec<[u8; PSEUDONYM_BYTES]>,
    last: [u8; PSEUDONYM_BYTES],
    rows: u64,
}

impl Ascending {
    fn new(partition: usize, partitions: u32) -> Self {
        Self { partition, splits: split_points(partitions), last: [0; PSEUDONYM_BYTES], rows: 0 }
    }

    fn check(&mut self, batch: &RecordBatch) -> Result<(), &'static str> {
        let subjects = batch.columns().first().and_then(|c| c.as_any().downcast_ref::<FixedSizeBinaryArray>()).ok_or("no pseudonyms")?;
        if subjects.null_count() > 0 {
            return Err("a null pseudonym");
        }
        let Some(end) = subjects.len().checked_sub(1) else { return Ok(()) };
        if partition_of(subjects.value(0), &self.splits) != self.partition
            || partition_of(subjects.value(end), &self.splits) != self.partition
        {
            return Err("a pseudonym of another partition");
        }
        let mut last = self.last.as_slice();
        for subject in subjects.iter().flatten() {
            if subject < last {
                return Err("pseudonyms that do not ascend");
            }
            last = subject;
        }
        self.last = last.try_into().map_err(|_| "a pseudonym of another length")?;
        self.rows += subjects.len() as u64;
        Ok(())
    }
}
