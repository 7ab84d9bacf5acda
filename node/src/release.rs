//! Releases: from a verified order to sorted partitions of pseudonymised, consented, minimised rows.
//!
//! ```text
//! source ─▶ scan ─▶ normalise · consent · pseudonym (worker, one per stream) ─▶ runs, by bucket (memory, then private files)
//!                                                                                │
//!   DoGet of partition i ◀─ batches of the wire's schema, ascending ◀─ buckets of i, in order: load, sort
//! ```
//! Where an order asks for groups, a partition's batches become its groups as they are read ([`concordat_proto::grouped`]).
//!
//! Where the same was asked before and the source has not changed, rows come sorted from a snapshot ([`snapshots`]).
//!
//! Invariants
//! - Nothing is released before the whole scan has succeeded, its source was found unchanged, and its rows are charged.
//! - Rows in memory stay within the configured budget; what is beyond it lies in a folder of the release's own (mode 0700)
//!   that is removed with the release: when it ends, is dropped, expires, or at the node's next start.
//! - Readers pull: a slow one holds no more than the batch it is at. When one leaves early, the release ends for all.

mod behind;
mod buckets;
mod ending;
mod partition;
mod rest;
mod runs;
mod sealed;
mod snapshots;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Code, Name, Refusal};
use concordat_proto::receipt::Standing;
use concordat_proto::schema::release_schema;
use futures::FutureExt as _;
use tempfile::TempDir;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument as _;

use self::buckets::Buckets;
pub use self::partition::{Partition, Step};
pub(crate) use self::runs::Sorted;
use self::runs::Spill;
use self::snapshots::Chosen;
pub(crate) use self::snapshots::{Of, Outdated, Plan, Snapshot, Snapshots};
pub use self::worker::{Counts, Linked, Rules};
use self::worker::{Work, Worker};
use crate::datasets::Scan;
use crate::endings::{Ended, Endings};
use crate::orders::VerifiedOrder;
use crate::private;
use crate::source::Seen;
use crate::workers::{Workers, streams};

/// How long a ticket may wait to be redeemed.
pub const TICKET_SECONDS: u64 = 60;

/// The releases that are under way.
#[derive(Debug)]
pub struct Releases {
    department: Name,
    spill: PathBuf,
    memory: usize,
    endings: Arc<Endings>,
    permits: Arc<Semaphore>,
    workers: Workers,
    pub(crate) snapshots: Arc<Snapshots>,
    most: usize,
    running: Mutex<BTreeMap<String, Arc<Release>>>,
    admitted: Arc<Mutex<Vec<Admitted>>>,
}

/// Where a release's rows come from.
pub(crate) enum Rows {
    /// The source.
    Scanned(Box<Scan>),
    /// A snapshot of it as it is.
    Kept(Arc<Snapshot>),
}

impl Rows {
    /// The source as it was seen, if a snapshot of it could be made for the next order.
    pub(crate) fn could_be_kept(&self) -> Option<&Seen> {
        match self {
            Self::Scanned(scan) => scan.seen.as_ref(),
            Self::Kept(_) => None,
        }
    }

    /// How old the data is, Unix seconds.
    pub(crate) fn freshness(&self) -> i64 {
        match self {
            Self::Scanned(scan) => scan.freshness,
            Self::Kept(snapshot) => snapshot.freshness,
        }
    }
}

/// An order that was admitted, and whether it was given back since. Locked after `running`.
type Admitted = (String, Arc<AtomicBool>);

/// The right to run one release.
#[derive(Debug)]
pub struct Admission {
    given_back: Arc<AtomicBool>,
    admitted: Arc<Mutex<Vec<Admitted>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        admitted.retain(|(_, given_back)| !Arc::ptr_eq(given_back, &self.given_back));
    }
}

/// One release.
#[derive(Debug)]
pub struct Release {
    /// The order it answers.
    pub order: VerifiedOrder,
    /// The schema of its batches.
    pub schema: SchemaRef,
    /// Where the consent ledger stood that was applied.
    pub standing: Standing,
    /// When the source last changed, Unix seconds.
    pub freshness: i64,
    /// The entry of the node's log that announced it.
    pub log_entry: u64,
    progress: watch::Receiver<Progress>,
    redeemed: Mutex<BTreeSet<u32>>,
    ended: OnceLock<Ended>,
    endings: Arc<Endings>,
    task: AbortHandle,
    _admission: Admission,
}

#[derive(Debug, Clone)]
enum Progress {
    Scanning,
    Sorted(Arc<Sorted>),
    Chosen(Arc<Chosen>),
    Failed(Refusal),
}

impl Releases {
    /// Prepares the spill folder, private and empty, and the threads. `endings` are told of releases that end without a receipt.
    ///
    /// # Errors
    /// When the folder cannot be made so, or there are no threads.
    pub(crate) fn open(
        department: Name,
        spill: &Path,
        memory: usize,
        most: usize,
        snapshots: Snapshots,
        endings: Arc<Endings>,
    ) -> std::io::Result<Self> {
        private::folder(spill)?;
        for entry in std::fs::read_dir(spill)? {
            let entry = entry?;
            // Only what a release left behind: the folder may have been named by mistake.
            if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self {
            department,
            spill: spill.to_owned(),
            memory,
            endings,
            permits: Arc::new(Semaphore::new(most)),
            workers: Workers::new(streams())?,
            snapshots: Arc::new(snapshots),
            most,
            running: Mutex::default(),
            admitted: Arc::default(),
        })
    }

    /// The threads on which releases are read and encoded.
    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Admits one more release, for the order `id`.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when too many are under way.
    pub fn admit(&self, id: &str) -> Result<Admission, Refusal> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            Refusal::new(Code::LimitExceeded, "this department's node is at its limit of releases at a time")
                .department(&self.department)
                .advice("ask again in a minute")
        })?;
        let given_back = Arc::new(AtomicBool::new(false));
        self.admitted().push((id.to_owned(), Arc::clone(&given_back)));
        Ok(Admission { given_back, admitted: Arc::clone(&self.admitted), _permit: permit })
    }

    /// Starts a release. Its rows, once they are known, are told to `charge`, which may refuse them. It ends by itself when its
    /// tickets have expired unredeemed.
    ///
    /// # Errors
    /// [`Code::Internal`] when the spill folder cannot be made, [`Code::Replayed`] when the order was given back meanwhile.
    pub(crate) fn start(
        self: &Arc<Self>,
        order: VerifiedOrder,
        rows: Rows,
        rules: Rules,
        admission: Admission,
        log_entry: u64,
        charge: impl FnOnce(u64) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Arc<Release>, Refusal> {
        let (standing, freshness, rules) = (rules.standing, rows.freshness(), Arc::new(rules));
        let (sender, progress) = watch::channel(Progress::Scanning);
        let scanning = tracing::info_span!("scan");
        let work = match rows {
            Rows::Scanned(scan) => {
                let folder = Arc::new(folder_in(&self.spill)?);
                let sorting = Sorting { folder, memory: self.memory, buckets: Buckets::new(order.partitions), rules };
                let snapshots = Arc::clone(&self.snapshots);
                async move { charged(sorting, *scan, &snapshots, charge).await.map(|sorted| Progress::Sorted(Arc::new(sorted))) }.boxed()
            }
            Rows::Kept(snapshot) => {
                let asked = order.predicate.clone().map(|predicate| (predicate, order.predicate_types.clone()));
                let partitions = order.partitions;
                let choose = blocking(move || {
                    let asked = asked.as_ref().map(|(predicate, types)| (predicate, types));
                    Chosen::of(snapshot, &rules, asked, partitions)
                });
                async move {
                    let chosen = choose.await?;
                    let rows = chosen.counts().released;
                    blocking(move || charge(rows)).await?;
                    Ok(Progress::Chosen(Arc::new(chosen)))
                }
                .boxed()
            }
        };
        let work = async move {
            let _ = sender.send(work.await.unwrap_or_else(Progress::Failed));
        };
        let task = self.workers.start(work.instrument(scanning));
        let schema = Arc::new(match &order.grouping {
            Some(grouping) => grouping.schema(),
            None => release_schema(order.linked, order.columns.iter().map(|(name, kind)| (name.as_str(), *kind))),
        });
        let (id, given_back) = (order.id.clone(), Arc::clone(&admission.given_back));
        let release = Arc::new(Release {
            order,
            schema,
            standing,
            freshness,
            log_entry,
            progress,
            redeemed: Mutex::default(),
            ended: OnceLock::new(),
            endings: Arc::clone(&self.endings),
            task,
            _admission: admission,
        });
        {
            let mut running = self.running();
            if given_back.load(Ordering::Acquire) {
                release.ends(Ended::GivenBack);
                return Err(Refusal::new(Code::Replayed, "this release order was given back before it was answered")
                    .department(&self.department)
                    .advice("every order is used once; sign a new one"));
            }
            running.insert(id.clone(), Arc::clone(&release));
        }
        let releases = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(TICKET_SECONDS)).await;
            if let Some(releases) = releases.upgrade() {
                releases.forget(&id, Ended::Deadline);
            }
        });
        Ok(release)
    }

    /// Redeems the ticket of one partition. Each is redeemed once.
    ///
    /// # Errors
    /// [`Code::Replayed`] when it was redeemed before or the release has ended.
    pub fn redeem(&self, id: &str, partition: u32) -> Result<Arc<Release>, Refusal> {
        let mut running = self.running();
        let used = || {
            Refusal::new(Code::Replayed, "this ticket was redeemed before, or its release has ended")
                .department(&self.department)
                .advice("order the release again")
        };
        let release = running.get(id).cloned().filter(|release| partition < release.order.partitions).ok_or_else(used)?;
        let mut redeemed = release.redeemed.lock().unwrap_or_else(PoisonError::into_inner);
        if !redeemed.insert(partition) {
            return Err(used());
        }
        // The readers keep the release; nobody else needs to find it.
        if redeemed.len() == release.order.partitions as usize {
            running.remove(id);
        }
        drop(redeemed);
        Ok(release)
    }

    /// Ends a release early: its scan stops, and no more tickets are redeemed.
    pub(crate) fn abandon(&self, release: &Release, how: Ended) {
        release.task.abort();
        release.ends(how);
        self.forget(&release.order.id, how);
    }

    /// Ends the release of an order that its gateway gives back; one that has not started yet will not. The release, if a ticket
    /// of it was still to be redeemed: one whose tickets all were ends with its readers.
    pub fn give_back(&self, id: &str, certificate: &Fingerprint) -> Option<Arc<Release>> {
        let mut running = self.running();
        let Some(release) = running.get(id).cloned() else {
            self.admitted()
                .iter()
                .filter(|(admitted, _)| admitted == id)
                .for_each(|(_, given_back)| given_back.store(true, Ordering::Release));
            return None;
        };
        (release.order.certificate == *certificate).then(|| {
            release.task.abort();
            release.ends(Ended::GivenBack);
            running.remove(id);
            release
        })
    }

    /// Ends the releases that were ordered under agreements that `wanted` names, and lets go of snapshots.
    pub fn stop(&self, wanted: impl Fn(&Agreement) -> bool) {
        self.snapshots.stop(&wanted);
        self.running().retain(|_, release| {
            let stopped = wanted(&release.order.agreement);
            if stopped {
                release.task.abort();
                release.ends(Ended::Cut);
            }
            !stopped
        });
    }

    /// Lets go of every release, because the node stops: what was read is closed by its readers.
    pub(crate) fn end(&self) {
        let ended = std::mem::take(&mut *self.running());
        ended.values().for_each(|release| release.ends(Ended::Stopped));
    }

    fn admitted(&self) -> MutexGuard<'_, Vec<Admitted>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: &str, how: Ended) {
        let forgotten = self.running().remove(id);
        forgotten.iter().for_each(|release| release.ends(how));
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Release>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PREFIX: &str = "release-";

/// A folder of a release's own.
fn folder_in(spill: &Path) -> Result<TempDir, Refusal> {
    let private = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix(PREFIX).permissions(private).tempdir_in(spill).map_err(Refusal::internal)
}

impl Release {
    /// Waits for the scan, then opens one partition.
    ///
    /// # Errors
    /// The scan's refusal, or [`Code::NodeFaulty`] when it was stopped.
    pub async fn partition(&self, partition: u32) -> Result<Partition, Refusal> {
        let mut progress = self.progress.clone();
        let stopped = || Refusal::new(Code::NodeFaulty, "the release was stopped before it was complete").advice("order it again");
        let end = progress.wait_for(|progress| !matches!(progress, Progress::Scanning)).await.map_err(|_| stopped())?.clone();
        match end {
            Progress::Sorted(sorted) => {
                Ok(Partition::sorted(sorted, Arc::clone(&self.schema), partition).grouped(self.order.grouping.clone()))
            }
            Progress::Chosen(chosen) => {
                Ok(Partition::chosen(chosen, Arc::clone(&self.schema), partition).grouped(self.order.grouping.clone()))
            }
            Progress::Failed(refusal) => Err(refusal),
            Progress::Scanning => Err(stopped()),
        }
    }
}

/// What it takes to sort one release.
struct Sorting {
    folder: Arc<TempDir>,
    memory: usize,
    buckets: Buckets,
    rules: Arc<Rules>,
}

impl Sorting {
    /// Runs the whole scan. All or nothing.
    async fn run(self, scan: Scan) -> Result<Sorted, Refusal> {
        let share = self.memory / scan.streams.len().max(1);
        let spill = Spill::Clear(self.folder);
        let worker = |index| vec![Worker::new(Arc::clone(&self.rules), self.buckets.clone(), spill.clone(), share, index)];
        let ends = work(scan, worker).await?;
        let mut sorted = Sorted::new(self.buckets, spill, &self.rules);
        ends.into_iter().flatten().for_each(|end| sorted.add(end));
        Ok(sorted)
    }
}

/// Runs the whole scan, and has its rows charged before one of them can be read. Where there is no room on the disk to sort them, what
/// snapshots take is given back for the next.
async fn charged(
    sorting: Sorting,
    scan: Scan,
    snapshots: &Snapshots,
    charge: impl FnOnce(u64) -> Result<(), Refusal> + Send + 'static,
) -> Result<Sorted, Refusal> {
    let sorted = sorting.run(scan).await.inspect_err(|refusal| {
        if refusal.code == Code::LimitExceeded {
            snapshots.stop(|_| true);
        }
    })?;
    let rows = sorted.counts().released;
    blocking(move || charge(rows)).await?;
    Ok(sorted)
}

/// Counts what releases under each of `rules` would hold and withhold, in one scan. No row is kept.
///
/// # Errors
/// As a release's scan.
pub(crate) async fn count(scan: Scan, rules: &[Arc<Rules>]) -> Result<Vec<Counts>, Refusal> {
    let ends = work(scan, |_| rules.iter().map(|rules| Worker::counting(Arc::clone(rules))).collect()).await?;
    let mut sums = vec![Counts::default(); rules.len()];
    for end in ends {
        sums.iter_mut().zip(end).for_each(|(sum, end)| sum.add(end.counts));
    }
    Ok(sums)
}

/// Gives every batch of a scan to each worker of its stream, to the end; the source must not have changed meanwhile.
pub(crate) async fn work<W: Work>(scan: Scan, workers: impl Fn(usize) -> Vec<W>) -> Result<Vec<Vec<W::End>>, Refusal> {
    let witness = Arc::new(scan.witness);
    let mut tasks = JoinSet::new();
    for (index, mut stream) in scan.streams.into_iter().enumerate() {
        let (mut workers, witness) = (workers(index), Arc::clone(&witness));
        tasks.spawn(async move {
            use futures::StreamExt as _;
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|e| witness.unreadable(&e))?;
                workers = blocking(move || workers.iter_mut().try_for_each(|worker| worker.take(&batch)).map(|()| workers)).await?;
            }
            blocking(move || workers.into_iter().map(Work::finish).collect::<Result<Vec<_>, _>>()).await
        });
    }
    let mut ends = Vec::new();
    while let Some(end) = tasks.join_next().await {
        ends.push(end.map_err(Refusal::internal)??);
    }
    blocking(move || witness.unchanged()).await?;
    Ok(ends)
}

/// Runs work that keeps a processor or a disk busy where it does not hold up the server.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(Refusal::internal)?
}

#[cfg(test)]
mod tests;
