//! What the answer to an order must look like, and how a partition of it is read, row by row, to its receipt.
//!
//! What a node sends is read by [`ReleaseStream`]; here are the bounds in time and number. A partition holds [`AHEAD_KIB`] of
//! batches that wait for the join, or one batch where that is larger, and the message that is being read. A message must come
//! within [`PAUSE`], and all of them within the query's deadline.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::Ticket;
use chrono::{DateTime, TimeDelta, Utc};
use concordat_audit::witness::{FURTHEST, Moment, Owed};
use concordat_policy::agreement::DataAge;
use concordat_policy::{Code, DatasetName, Name, Refusal};
use concordat_proto::grouped::{GroupError, Grouping, Groups};
use concordat_proto::receipt::{Grouped, Receipt, Standing};
use concordat_proto::release_stream::{ReleaseStream, Taken};
use concordat_proto::token::{LEEWAY, Reason, VerifyingKey};
use concordat_proto::version::{GROUPS, WITNESSED};
use datafusion::common::Result as PlanResult;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::flight::Flight;
use super::ledgers::Ledgers;
use super::nodes::{failed, faulty, timeout};
use super::reach::{List, without};
use super::release::Progress;
use crate::observe::Observed;
use crate::witness::log_of;

/// How long a node may take to its next message. The first one waits for the node's scan and sort.
pub(super) const PAUSE: Duration = Duration::from_secs(60);
/// Batches that wait between network and join, per partition.
pub(super) const AHEAD: usize = 2;
/// KiB of batches that wait, per partition.
const AHEAD_KIB: u32 = 2 << 10;

/// A batch and the room that it takes until the join has it.
type Waiting = (PlanResult<RecordBatch>, Option<OwnedSemaphorePermit>);

/// What an order's answer must look like.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) department: Name,
    pub(super) dataset: Name,
    pub(super) query_id: String,
    pub(super) mission: Name,
    pub(super) purpose: Name,
    /// The version of the contract in which it was ordered.
    pub(super) spoken: u32,
    pub(super) jti: String,
    /// The agreement under which it was ordered.
    pub(super) agreement: Name,
    /// Of its text.
    pub(super) agreement_digest: String,
    /// How old data may be under it, at the time of the query.
    pub(super) max_data_age: Option<DataAge>,
    pub(super) asked: DateTime<Utc>,
    /// Whether the order has a condition.
    pub(super) conditional: bool,
    pub(super) key: VerifyingKey,
    /// Of its rows.
    pub(super) schema: SchemaRef,
    /// By what they are grouped: by the node, or here where it speaks a version without groups.
    pub(super) grouping: Option<Arc<Grouping>>,
    /// Whether its bodies may be dense.
    pub(super) dense: bool,
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

impl Expected {
    /// Reads a partition, and hands its batches on.
    pub(super) async fn stream(
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
            grouping => {
                let stream = ReleaseStream::new(self.schema.clone(), partition, self.partitions);
                (stream.dense(self.dense), grouping.clone().map(Groups::new))
            }
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
            let taken = stream.take(&message).map_err(|e| self.wrong(&format!("sent what was not agreed ({e})"), format!("{e:?}")))?;
            // A dense body is not kept beside what it unfolded to.
            drop(message);
            match taken {
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
        let now = Utc::now().timestamp();
        let receipt = Receipt::verify(token, &self.department, &self.key, now).map_err(|e| match e {
            Reason::NotYet | Reason::Expired => self
                .wrong("signed a receipt for another time: its clock is more than 30 s off, or ours", e)
                .advice("the clocks must be corrected (NTP)"),
            _ => unverified(&e),
        })?;
        let same = receipt.sub == self.jti
            && receipt.query_id == self.query_id
            && receipt.dataset == self.dataset.as_str()
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
        if let Some(most) = self.max_data_age {
            let dataset = DatasetName::new(self.department.clone(), self.dataset.clone());
            // Theirs and our clock may differ.
            let asked = self.asked - TimeDelta::seconds(LEEWAY);
            most.permits(&self.agreement, &dataset, receipt.freshness, [asked, Utc::now()])?;
        }
        Ok(receipt)
    }

    /// Notes, durably, that the node owes a checkpoint which covers the last entry that its receipts name, and is newer than the order.
    pub(super) async fn owes(&self, entry: u64) -> Result<(), Refusal> {
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
