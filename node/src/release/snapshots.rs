//! Linked snapshots: what an agreement lets leave a dataset, sorted by the pseudonyms of one linkage domain, so that the next order
//! sorts nothing. Whom the consent records allow is decided for each order, by the records as they are then.
//!
//! ```text
//! an order ─┬─ the source is as it was ──▶ rows by consent and condition ──▶ batches of the wire
//!           └─ no snapshot, or another source ──▶ sorted for itself, and a snapshot is made once the node rests
//! ```
//!
//! Invariants
//! - A snapshot answers only orders under the very text of the agreement, in the linkage domain and under the keys that it was made
//!   under, and while every file of the source is the one that was read: the same in number, place, size and time of last change.
//! - It holds rows that no order may have: of subjects who withhold them, and of identifiers that are not valid. None of them, and
//!   nothing that depends on them, is in what is released, but the counts that a release told before there were snapshots.
//! - What is on disk is sealed under a key that only this process has, in files without a name ([`sealed`]).
//! - Snapshots take no more of the disk than they are given, those too that are let go of and still read. One that finds no room is
//!   tried again after an hour; those that nobody asked for so long make room.
//! - While one is made, rows beyond memory lie in the spill folder as those of a release do.
//!
//! Deliberately absent: databases and stores of objects. Neither says whether anything changed without being read.

mod choose;
mod decide;
mod gather;
mod made;
mod sealed;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use concordat_operate::metrics::{Level, Metrics};
use concordat_policy::{Agreement, LinkageDomain, Name, Refusal};
use tempfile::TempDir;
use tokio::sync::Semaphore;

pub(crate) use self::choose::{Chosen, Pieces, own_values};
use self::gather::Gatherer;
use self::made::PARTITIONS;
pub(crate) use self::made::Snapshot;
use self::sealed::Room;
use super::buckets::Buckets;
use super::runs::{Runs, Sorted};
use super::worker::Rules;
use super::{blocking, folder_in, work};
use crate::datasets::{Datasets, Scan, Selection};
use crate::pseudonym::Pseudonym;
use crate::source::{SourceFile, touched};
use crate::workers::streams;

/// How long a snapshot is kept that no order asks for.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// A file that changed so short a time before it was looked at may change again and look the same: of its clock only seconds are
/// trusted.
const SETTLED: Duration = Duration::from_secs(3);
/// After how long one that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// The most snapshots that wait to be made.
const WAITING: usize = 64;

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Of {
    pub(crate) dataset: Name,
    pub(crate) agreement: Name,
    pub(crate) digest: String,
    pub(crate) domain: LinkageDomain,
    /// What tells the keys of pseudonyms and of the consent index from others.
    pub(crate) keys: [Pseudonym; 2],
}

impl Of {
    /// Of what orders under `agreement` in `domain` are about, whose rows are decided over by `rules`.
    pub(crate) fn new(dataset: &Name, agreement: &Agreement, domain: &LinkageDomain, rules: &Rules) -> Self {
        Self {
            dataset: dataset.clone(),
            agreement: agreement.id.clone(),
            digest: agreement.digest.clone(),
            domain: domain.clone(),
            keys: [rules.pseudonyms.of_key(), rules.consent.hasher()],
        }
    }
}

/// How long the files of a scan have to be left alone yet; `None` when they have been.
fn unsettled(scan: &Scan) -> Option<Duration> {
    let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(touched(scan.witness.files()?)).unwrap_or(0));
    let since = SystemTime::now().duration_since(changed).unwrap_or_default();
    SETTLED.checked_sub(since).filter(|left| !left.is_zero())
}

/// The snapshots of a node.
pub(crate) struct Snapshots {
    folder: PathBuf,
    /// On disk; none where 0 bytes may be taken.
    room: Arc<Room>,
    memory: usize,
    /// The one used last stands first.
    kept: Mutex<VecDeque<Kept>>,
    waiting: Mutex<Vec<Of>>,
    /// Those that could not be made, and since when.
    failed: Mutex<Vec<(Of, Instant)>>,
    making: Semaphore,
    levels: Option<Levels>,
}

struct Levels {
    kept: Level,
    disk: Level,
    memory: Level,
}

struct Kept {
    of: Of,
    agreement: Agreement,
    source: Vec<SourceFile>,
    snapshot: Arc<Snapshot>,
    used: Instant,
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshots({} kept)", self.kept().len())
    }
}

impl Snapshots {
    /// In `folder`, of `most` bytes, made with so much memory for rows that are sorted.
    pub(crate) fn new(folder: &Path, most: u64, memory: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            room: Arc::new(Room { most, taken: AtomicU64::new(0) }),
            memory,
            failed: Mutex::default(),
            kept: Mutex::default(),
            waiting: Mutex::default(),
            making: Semaphore::new(1),
            levels: None,
        }
    }

    /// Tells in `metrics` how many there are and what they take.
    pub(crate) fn measured(mut self, metrics: &Metrics) -> Self {
        self.levels = Some(Levels {
            kept: metrics.level("snapshots", "Linked snapshots that are kept"),
            disk: metrics.level("snapshots_disk_bytes", "Bytes on disk of linked snapshots"),
            memory: metrics.level("snapshots_memory_bytes", "Bytes in memory of linked snapshots"),
        });
        self
    }

    /// The snapshot that answers orders about `of` while the source is `source`.
    pub(crate) fn find(&self, of: &Of, source: &[SourceFile]) -> Option<Arc<Snapshot>> {
        let mut kept = self.kept();
        let now = Instant::now();
        kept.retain(|kept| now.saturating_duration_since(kept.used) < IDLE && (kept.of.dataset != of.dataset || kept.source == source));
        let place = kept.iter().position(|kept| kept.of == *of);
        let found = place.and_then(|place| kept.remove(place)).map(|found| Kept { used: now, ..found });
        let snapshot = found.as_ref().map(|found| Arc::clone(&found.snapshot));
        if let Some(found) = found {
            kept.push_front(found);
        }
        self.tell(&kept);
        snapshot
    }

    /// Lets go of the snapshots of agreements that `wanted` names.
    pub(crate) fn stop(&self, wanted: impl Fn(&Agreement) -> bool) {
        let mut kept = self.kept();
        kept.retain(|kept| !wanted(&kept.agreement));
        self.tell(&kept);
    }

    /// Whether a snapshot of `of` would be made: not where none are kept, one waits already, or there was none to be made a while ago.
    pub(crate) fn wants(&self, of: &Of) -> bool {
        self.wanted(&self.waiting(), of)
    }

    /// The same, and from now on it waits. Who is told so calls [`Snapshots::make`].
    pub(crate) fn waits(&self, of: &Of) -> bool {
        let mut waiting = self.waiting();
        let wanted = self.wanted(&waiting, of);
        if wanted {
            waiting.push(of.clone());
        }
        wanted
    }

    fn wanted(&self, waiting: &[Of], of: &Of) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|(_, since)| since.elapsed() < AGAIN);
        self.room.most > 0 && waiting.len() < WAITING && !waiting.contains(of) && !failed.iter().any(|(failed, _)| failed == of)
    }

    /// Lets go of snapshots whose source, which `files` looks at, is not as it was, and of those that nobody asks for.
    pub(crate) fn look(&self, files: impl Fn(&Name) -> Option<Vec<SourceFile>>) {
        let datasets: BTreeSet<Name> = self.kept().iter().map(|kept| kept.of.dataset.clone()).collect();
        for dataset in datasets {
            let now = files(&dataset);
            self.kept().retain(|kept| kept.of.dataset != dataset || now.as_ref() == Some(&kept.source));
        }
        self.kept().retain(|kept| kept.used.elapsed() < IDLE);
        self.tell(&self.kept());
    }

    /// Makes the snapshot that waits, of what `selection` selects. One is made at a time.
    pub(crate) async fn make(&self, of: Of, agreement: Agreement, rules: Rules, datasets: Arc<Datasets>, selection: Selection) {
        let made = async {
            let _one = self.making.acquire().await.map_err(Refusal::internal)?;
            let mut opened = datasets.scan(&selection, streams()).await?;
            if let Some(left) = unsettled(&opened) {
                tokio::time::sleep(left).await;
                opened = datasets.scan(&selection, streams()).await?;
            }
            self.made(&of, agreement, rules, opened).await
        };
        let made = made.await;
        self.waiting().retain(|waiting| *waiting != of);
        let dataset = of.dataset.as_str();
        match made {
            Ok(Some((rows, bytes, took))) => tracing::info!(
                dataset,
                agreement = of.agreement.as_str(),
                rows,
                bytes,
                milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "a linked snapshot was made"
            ),
            Ok(None) => {}
            Err(refusal) => {
                // Not again for each order; and what was not used for as long makes room.
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).push((of.clone(), Instant::now()));
                self.kept().retain(|kept| kept.used.elapsed() < AGAIN);
                let cause = refusal.operator.as_deref().unwrap_or(&refusal.message);
                tracing::warn!(
                    dataset,
                    agreement = of.agreement.as_str(),
                    cause,
                    "no linked snapshot is kept; orders are sorted one by one"
                );
            }
        }
    }

    async fn made(&self, of: &Of, agreement: Agreement, rules: Rules, scan: Scan) -> Result<Option<(usize, u64, Duration)>, Refusal> {
        let Some(source) = scan.witness.files().map(<[_]>::to_vec).filter(|_| unsettled(&scan).is_none()) else { return Ok(None) };
        let (began, freshness) = (Instant::now(), scan.freshness);
        let folder = Arc::new(folder_in(&self.folder)?);
        let (rules, buckets, share) = (Arc::new(rules), Buckets::new(PARTITIONS), self.memory / scan.streams.len().max(1));
        let sorted = self.sorted(scan, &rules, buckets, &folder, share).await?;
        let (room, place) = (Arc::clone(&self.room), self.folder.clone());
        let snapshot = blocking(move || Snapshot::make(sorted, &rules, freshness, &place, room)).await?;
        let (rows, bytes) = (snapshot.rows(), snapshot.bytes());
        self.keep(Kept { of: of.clone(), agreement, source, snapshot: Arc::new(snapshot), used: Instant::now() });
        Ok(Some((rows, bytes, began.elapsed())))
    }

    async fn sorted(
        &self,
        scan: Scan,
        rules: &Arc<Rules>,
        buckets: Buckets,
        folder: &Arc<TempDir>,
        share: usize,
    ) -> Result<Sorted, Refusal> {
        let gatherer = |index| {
            let runs = Runs::new(gather::schema(rules), buckets.clone(), Arc::clone(folder), share, index);
            vec![Gatherer::new(Arc::clone(rules), runs)]
        };
        let ends = work(scan, gatherer).await?;
        let mut sorted = Sorted::new(buckets.clone(), Arc::clone(folder), rules);
        ends.into_iter().flatten().for_each(|end| sorted.add(end));
        Ok(sorted)
    }

    fn keep(&self, new: Kept) {
        let mut kept = self.kept();
        kept.retain(|kept| kept.of != new.of);
        kept.push_front(new);
        self.tell(&kept);
    }

    fn tell(&self, kept: &VecDeque<Kept>) {
        let Some(levels) = &self.levels else { return };
        let told = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        levels.kept.set(&[], told(kept.len() as u64));
        levels.disk.set(&[], told(self.room.taken.load(Ordering::Acquire)));
        levels.memory.set(&[], told(kept.iter().map(|kept| kept.snapshot.memory() as u64).sum()));
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Of>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
