//! One reader of one partition, and the one entry that closes it in the log: `release.completed` before its receipt, or
//! `release.abandoned` however else its stream ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow_flight::FlightData;
use chrono::Utc;
use concordat_audit::Entry;
use concordat_policy::{DatasetName, Refusal, Use};
use concordat_proto::receipt::{self, Denominators, Grouped, Receipt};
use concordat_proto::version::{DENOMINATORS, GENERATIONS, PURPOSES};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use crate::endings::Ended;
use crate::node::{Node, status};
use crate::release::{Counts, Partition, Release};

/// One reader of one partition. Dropped before it got a receipt or a refusal (its client left), it ends the release.
pub(super) struct Reader {
    node: Arc<Node>,
    release: Arc<Release>,
    partition: u32,
    /// Rows or groups that were handed to the connection: the gateway got no more.
    sent: AtomicU64,
    /// The rows behind groups: those that had been read by then.
    behind: AtomicU64,
    /// What is known at the end: set when the last batch is out.
    end: OnceLock<End>,
    /// Whether it is settled which entry closes it.
    closed: AtomicBool,
    /// Last, so that the node does not end before what closes it is on its way.
    _open: TaskTrackerToken,
}

/// The release's counts and what may be told of them, and of groups what they were made of.
#[derive(Clone, Copy)]
struct End {
    counts: Counts,
    denominators: Option<Denominators>,
    grouped: Option<Grouped>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.closes() {
            let how = if self.node.endings.stopping().is_cancelled() { Ended::Stopped } else { Ended::Dropped };
            self.node.releases.abandon(&self.release, how);
            self.node.outcome("abandoned");
            self.node.endings.add(self.abandoned(how));
            let query_id = self.release.order.query_id.as_str();
            tracing::info!(query.id = query_id, partition = self.partition, cause = how.as_str(), "a release was abandoned");
        }
    }
}

impl Reader {
    pub(super) fn new(node: Arc<Node>, release: Arc<Release>, partition: u32) -> Self {
        let open = node.endings.token();
        Self {
            node,
            release,
            partition,
            sent: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            end: OnceLock::new(),
            closed: AtomicBool::new(false),
            _open: open,
        }
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(super) fn release(&self) -> &Release {
        &self.release
    }

    /// The partition, once the scan has ended.
    pub(super) async fn open(&self) -> Result<Partition, Refusal> {
        self.release.partition(self.partition).await
    }

    /// Counts rows or groups that are handed to the connection.
    pub(super) fn sends(&self, rows: u64, partition: &Partition) {
        let sent = self.sent.fetch_add(rows, Ordering::AcqRel).saturating_add(rows);
        self.behind.store(partition.made_of().map_or(sent, |grouped| grouped.rows), Ordering::Release);
    }

    /// Notes that the last of them are.
    pub(super) fn sent_all(&self, partition: &Partition) {
        let (counts, denominators, grouped) = (partition.counts(), partition.denominators(), partition.made_of());
        let _ = self.end.set(End { counts, denominators, grouped });
    }

    /// Whether it is settled which entry closes it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Settles it. Whoever is told so writes that entry, and nobody else writes one.
    fn closes(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    fn abandoned(&self, how: Ended) -> Entry {
        let entry = self.release.closing("release.abandoned").field("partition", self.partition).field("cause", how.as_str());
        let entry = entry.field("rows", self.behind.load(Ordering::Acquire));
        if self.release.order.grouping.is_some() { entry.field("groups", self.sent.load(Ordering::Acquire)) } else { entry }
    }

    /// Closes it with a failure, unless another one of the same stream was the first: reading goes on beside what cuts it.
    pub(super) async fn failed(&self, refusal: Refusal) -> Status {
        let query_id = Some(self.release.order.query_id.as_str());
        // The scan was stopped for it, too: what ended the agreement is the cause.
        let agreement = &self.release.order.agreement;
        let (how, refusal) = match self.node.agreements.permits(&agreement.id, &agreement.digest) {
            Err(cut) => (Ended::Cut, cut),
            Ok(()) => (Ended::Failed, refusal),
        };
        let refusal = if refusal.department.is_some() { refusal } else { refusal.department(&self.node.department) };
        if !self.closes() {
            return status(&refusal, query_id);
        }
        self.release.ends(how);
        self.node.outcome(refusal.code.as_str());
        let cause = refusal.operator.as_deref().unwrap_or(&refusal.message);
        tracing::warn!(code = refusal.code.as_str(), query.id = query_id, partition = self.partition, cause, "a release failed");
        self.node.endings.add(because(self.abandoned(how), &refusal));
        match self.node.endings.write().await {
            Ok(()) => status(&refusal, query_id),
            Err(e) => status(&self.node.unwritable(e), query_id),
        }
    }

    /// Closes the partition in the log, then signs for it: to the end, also when the gateway leaves meanwhile.
    pub(super) async fn receipt(self: Arc<Self>) -> Result<FlightData, Status> {
        let reader = Arc::clone(&self);
        let closed = self.node.endings.spawn(async move { reader.close().await }).await;
        match closed.unwrap_or_else(|e| Err(Refusal::internal(e))) {
            Ok(token) => {
                self.node.outcome("completed");
                tracing::info!(query.id = self.release.order.query_id, partition = self.partition, "a partition was released");
                Ok(FlightData { app_metadata: token.into(), ..FlightData::default() })
            }
            Err(refusal) => Err(self.failed(refusal).await),
        }
    }

    async fn close(&self) -> Result<String, Refusal> {
        let end = *self.end.get().ok_or_else(|| Refusal::internal("a receipt before the end"))?;
        let (order, counts, sent) = (&self.release.order, end.counts, self.sent.load(Ordering::Acquire));
        self.node.agreements.permits(&order.agreement.id, &order.agreement.digest)?;
        if !self.closes() {
            return Err(Refusal::internal("a release that was abandoned is not completed"));
        }
        let entry = self
            .release
            .closing("release.completed")
            .field("partition", self.partition)
            .field("rows", end.grouped.map_or(sent, |grouped| grouped.rows))
            // Of the whole release, in each partition's entry.
            .field("release_rows", counts.released)
            .field("release_invalid_identifiers", counts.invalid_identifiers)
            .field("release_without_consent", counts.without_consent);
        let entry = if end.grouped.is_some() { entry.field("groups", sent) } else { entry };
        let log_entry = self.node.log(entry).await.inspect_err(|refusal| {
            self.release.ends(Ended::Failed);
            self.node.endings.add(because(self.abandoned(Ended::Failed), refusal));
        })?;
        self.signed(sent, log_entry, end)
    }

    /// The receipt.
    fn signed(&self, sent: u64, log_entry: u64, end: End) -> Result<String, Refusal> {
        let (order, now) = (&self.release.order, Utc::now().timestamp());
        let receipt = Receipt {
            iss: Receipt::issuer(&self.node.department),
            sub: order.id.clone(),
            aud: receipt::AUDIENCE.into(),
            nbf: now,
            exp: now + receipt::LIFETIME,
            query_id: order.query_id.clone(),
            // A gateway of version 1 would refuse claims that it does not know.
            mission: (order.contract_version >= PURPOSES).then(|| order.domain.mission.clone()),
            purpose: (order.contract_version >= PURPOSES).then(|| order.domain.purpose.clone()),
            dataset: order.dataset.to_string(),
            partition: self.partition,
            partitions: order.partitions,
            rows: sent,
            grouped: end.grouped,
            consent_version: self.release.standing.version,
            consent_generation: (order.contract_version >= GENERATIONS).then_some(self.release.standing.generation),
            freshness: self.release.freshness,
            log_entry,
            denominators: end.denominators.filter(|_| order.contract_version >= DENOMINATORS && self.counts_subjects()),
        };
        receipt.sign(&self.node.signing).map_err(Refusal::internal)
    }

    /// Whether the agreement lets the dataset's subjects be counted.
    fn counts_subjects(&self) -> bool {
        let order = &self.release.order;
        let dataset = order.agreement.dataset(&DatasetName::new(self.node.department.clone(), order.dataset.clone()));
        dataset.is_some_and(|dataset| dataset.subject_uses.contains(&Use::Aggregate))
    }
}

fn because(entry: Entry, refusal: &Refusal) -> Entry {
    entry.field("code", refusal.code.as_str()).field("reason", refusal.message.as_str())
}
