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
//!   under, and while every file of the source is the one that was read: the same in number, place, size and time of last change. One of
//!   a database or a store of objects, which do not say whether anything changed without being read, answers for as long as its
//!   department says after they were read (`snapshot_minutes`), which may be never, and no longer than the agreement does.
//! - It holds rows that no order may have: of subjects who withhold them, and of identifiers that are not valid. None of them, and
//!   nothing that depends on them, is in what is released, but the counts that a release told before there were snapshots.
//! - What is on disk, also while one is made, is sealed under a key that only this process has, in files without a name
//!   ([`super::sealed`]).
//! - Snapshots take no more of the disk than they are given, those too that are let go of and still read, and leave room to others:
//!   where that is short none is made, and those that there are go. One that finds no room is tried again after an hour; those that
//!   nobody asked for so long make room.
//! - One that cannot be read is of no further order.
//! - Where some files of a source changed, came or went, and others make up half of it, the next snapshot takes over the rows of those
//!   others from this one ([`base`]), which answers nobody any more and is let go of after half an hour. That one is made when the files
//!   have settled and the node rests, without an order, as long as orders asked for it within a day, and each in a tenth of the time at most.
//! - The next one of a database whose department says what changes with a row takes over rows whose keys and changes are as they were, in
//!   one transaction with those that are not; twice a day it is made of all rows. It is made after an order only.

mod base;
mod choose;
mod decide;
mod gather;
mod made;
mod make;
#[cfg(test)]
mod tests;
mod texts;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use concordat_operate::metrics::{Level, Metrics};
use concordat_policy::{Agreement, LinkageDomain, Name, Refusal};
use tokio::sync::Semaphore;

use self::base::Before;
pub(crate) use self::base::{Base, BlockRows};
pub(crate) use self::choose::{Chosen, Pieces, own_values};
pub(crate) use self::made::Snapshot;
use super::sealed::Room;
use super::worker::Rules;
use crate::datasets::{Apart, Datasets, Known, Parts, Versions, can_be_told_apart};
use crate::orders::Recipe;
use crate::pseudonym::Pseudonym;
use crate::source::{Seen, Shape, SourceFile, touched};

/// How long a snapshot is kept that no order asks for.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// A file that changed so short a time before it was looked at may change again and look the same: of its clock only seconds are
/// trusted.
const SETTLED: Duration = Duration::from_secs(3);
/// How often it is waited for that.
const SETTLES: u32 = 3;
/// After how long without an order a snapshot keeps its newest decision only.
const RECENT: Duration = Duration::from_secs(60);
/// After how long one is tried again whose source changed meanwhile or could not be read yet.
const SOON: Duration = Duration::from_secs(60);
/// After how long one that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// How long one is kept whose source is no longer as it was, so that the next takes over rows of it.
const OUTDATED: Duration = Duration::from_secs(30 * 60);
/// For how long snapshots of a database take over rows, before one is made of all: what its department says changes with a row may not
/// always.
const WHOLE: Duration = Duration::from_secs(12 * 60 * 60);
/// The next is not made without an order before so many times have passed as this one took; half as long as outdated ones are kept at most.
const PAUSE: u32 = 10;
/// The most memory for rows that are sorted to make one: nobody waits for it.
const SORTING: usize = 128 << 20;
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

/// How long files have to be left alone yet; `None` when they have been, and of what is not in files.
fn unsettled(seen: &Seen) -> Option<Duration> {
    let Seen::Files(files) = seen else { return None };
    let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(touched(files)).unwrap_or(0));
    let since = SystemTime::now().duration_since(changed).unwrap_or_default();
    SETTLED.checked_sub(since).filter(|left| !left.is_zero())
}

/// The snapshots of a node.
pub(crate) struct Snapshots {
    folder: PathBuf,
    room: Arc<Room>,
    /// For what is sorted to make one.
    sorting: Arc<Room>,
    memory: usize,
    /// The one used last stands first.
    kept: Mutex<VecDeque<Kept>>,
    waiting: Mutex<Vec<Of>>,
    failed: Mutex<Vec<Failed>>,
    making: Semaphore,
    /// Rows read so far for the one that is made.
    gathered: Arc<AtomicU64>,
    levels: Option<Levels>,
}

struct Levels {
    waiting: Level,
    kept: Level,
    disk: Level,
    memory: Level,
}

struct Kept {
    of: Of,
    /// By which it is made again.
    recipe: Recipe,
    seen: Seen,
    shape: Shape,
    snapshot: Arc<Snapshot>,
    /// When an order last asked for it.
    used: Instant,
    /// Before when it is not made again without one.
    next: Instant,
    /// When one was last made that took over nothing.
    whole: Seen,
    /// Since when its source is no longer as it was.
    outdated: Option<Instant>,
}

/// One that could not be made.
struct Failed {
    of: Of,
    until: Instant,
    /// Files of which there will be none: it is larger than it may be.
    larger: Option<Seen>,
}

/// What it takes to make one.
pub(crate) struct Plan {
    pub(crate) recipe: Recipe,
    pub(crate) rules: Rules,
    pub(crate) datasets: Arc<Datasets>,
    /// How long it answers after its source was read, where that is all that is known of it.
    pub(crate) lasts: Option<Duration>,
    /// When an order last asked for it; `None` where one does.
    pub(crate) used: Option<Instant>,
}

/// A snapshot whose files are no longer as they were.
pub(crate) struct Outdated {
    pub(crate) of: Of,
    pub(crate) recipe: Recipe,
    /// As they are.
    pub(crate) seen: Seen,
    /// When an order last asked for it.
    pub(crate) used: Instant,
}

impl Kept {
    /// Whether it answers orders now, or the one that will can take over rows of it.
    fn is_of_use(&mut self, required: &Seen) -> bool {
        if self.seen.answers(required) {
            self.outdated = None;
            return true;
        }
        let since = *self.outdated.get_or_insert_with(Instant::now);
        since.elapsed() < OUTDATED
            && match (&self.seen, required) {
                (Seen::Files(then), Seen::Files(now)) => self.tells_apart(then) && can_be_told_apart(now) && stayed(then, now),
                _ => self.tells_versions(),
            }
    }

    /// Whether it knows of each row which of these files it is of.
    fn tells_apart(&self, files: &[SourceFile]) -> bool {
        files.len() == 1 || self.snapshot.apart == Some(Apart::Files)
    }

    /// Whether it knows of each row which version it is, and rows may be told by that yet.
    fn tells_versions(&self) -> bool {
        let earliest = Seen::at(WHOLE);
        self.snapshot.apart == Some(Apart::Versions) && earliest.is_some_and(|earliest| self.whole.answers(&earliest))
    }

    /// Whether it is to be made again without an order.
    fn is_due(&self) -> bool {
        let files = matches!(self.seen, Seen::Files(_));
        files && self.outdated.is_some_and(|since| since.elapsed() >= SETTLED) && self.next <= Instant::now()
    }
}

/// Whether the files that are in both make up half of each.
fn stayed(then: &[SourceFile], now: &[SourceFile]) -> bool {
    let before: HashSet<&SourceFile> = then.iter().collect();
    let stayed: u64 = now.iter().filter(|file| before.contains(file)).map(|file| file.bytes).sum();
    stayed > 0 && stayed >= bytes(now).max(bytes(then)) / 2
}

fn bytes(files: &[SourceFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

/// A snapshot that is to be made. No longer, when this is dropped.
pub(crate) struct Waiting {
    snapshots: Arc<Snapshots>,
    of: Of,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.snapshots.waiting();
        waiting.retain(|waiting| *waiting != self.of);
        self.snapshots.tell_waiting(&waiting);
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshots({} kept)", self.kept().len())
    }
}

impl Snapshots {
    /// In `folder`, of `most` bytes, of whose disk `reserve` is left to others, made with so much memory for rows that are sorted at most.
    pub(crate) fn new(folder: &Path, most: u64, reserve: Option<u64>, memory: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            room: Arc::new(Room::new(most, reserve)),
            sorting: Arc::new(Room::new(u64::MAX, reserve)),
            memory: memory.min(SORTING),
            failed: Mutex::default(),
            kept: Mutex::default(),
            waiting: Mutex::default(),
            making: Semaphore::new(1),
            gathered: Arc::default(),
            levels: None,
        }
    }

    /// Tells in `metrics` how many there are and what they take.
    pub(crate) fn measured(mut self, metrics: &Metrics) -> Self {
        let (rows, gathered) =
            (metrics.level("snapshot_rows_read", "Rows read so far for the linked snapshot that is made"), Arc::clone(&self.gathered));
        metrics.before_reading(move || rows.set(&[], i64::try_from(gathered.load(Ordering::Relaxed)).unwrap_or(i64::MAX)));
        self.levels = Some(Levels {
            waiting: metrics.level("snapshots_waiting", "Linked snapshots that are made or wait to be"),
            kept: metrics.level("snapshots", "Linked snapshots that are kept"),
            disk: metrics.level("snapshots_disk_bytes", "Bytes on disk of linked snapshots"),
            memory: metrics.level("snapshots_memory_bytes", "Bytes in memory of linked snapshots"),
        });
        self
    }

    /// The snapshot that answers orders about `of`, if it has seen what is `required` and its data's freshness is permitted.
    pub(crate) fn find(&self, of: &Of, required: &Seen, permitted: impl Fn(i64) -> bool) -> Option<Arc<Snapshot>> {
        let mut kept = self.kept();
        let now = Instant::now();
        let answers = |kept: &Kept| kept.seen.answers(required) && permitted(kept.snapshot.freshness);
        kept.retain_mut(|kept| {
            now.saturating_duration_since(kept.used) < IDLE
                && !kept.snapshot.is_broken()
                && (kept.of.dataset != of.dataset || kept.is_of_use(required))
                && (kept.of != *of || !kept.seen.answers(required) || answers(kept) || kept.tells_versions())
        });
        let place = kept.iter().position(|kept| kept.of == *of);
        let found = place.and_then(|place| kept.remove(place)).map(|found| Kept { used: now, ..found });
        let snapshot = found.as_ref().filter(|found| answers(found)).map(|found| Arc::clone(&found.snapshot));
        if let Some(found) = found {
            kept.push_front(found);
        }
        self.tell(&kept);
        snapshot
    }

    /// Lets go of the snapshots of agreements that `wanted` names.
    pub(crate) fn stop(&self, wanted: impl Fn(&Agreement) -> bool) {
        let mut kept = self.kept();
        kept.retain(|kept| !wanted(&kept.recipe.agreement));
        self.tell(&kept);
    }

    /// Whether a snapshot of `of` would be made of what was `seen`: not where none are kept, one waits already, or none could be made of late.
    pub(crate) fn wants(&self, of: &Of, seen: &Seen) -> bool {
        self.wanted(&self.waiting(), of, seen)
    }

    /// The same, and from now on it waits.
    pub(crate) fn waits(self: &Arc<Self>, of: &Of, seen: &Seen) -> Option<Waiting> {
        let mut waiting = self.waiting();
        if !self.wanted(&waiting, of, seen) {
            return None;
        }
        waiting.push(of.clone());
        self.tell_waiting(&waiting);
        Some(Waiting { snapshots: Arc::clone(self), of: of.clone() })
    }

    fn wanted(&self, waiting: &[Of], of: &Of, seen: &Seen) -> bool {
        let mut failed = self.failed();
        failed.retain(|failed| match &failed.larger {
            Some(larger) => failed.of.dataset != of.dataset || larger == seen,
            None => Instant::now() < failed.until,
        });
        self.room.most > 0 && waiting.len() < WAITING && !waiting.contains(of) && !failed.iter().any(|failed| failed.of == *of)
    }

    /// Lets go of snapshots that have not seen what is `required` now, of those that nobody asks for, of decisions that nobody
    /// asked for of late, and of all snapshots where the disk has too little room for others. Gives those that should be made again. Blocks.
    pub(crate) fn look(&self, required: impl Fn(&Name) -> Option<Seen>) -> Vec<Outdated> {
        let none = self.kept().is_empty();
        if !none && self.left().is_err() {
            self.stop(|_| true);
        }
        let datasets: BTreeSet<Name> = self.kept().iter().map(|kept| kept.of.dataset.clone()).collect();
        let mut outdated = Vec::new();
        for dataset in datasets {
            let required = required(&dataset);
            let mut kept = self.kept();
            kept.retain_mut(|kept| {
                kept.of.dataset != dataset
                    || kept.used.elapsed() < IDLE && required.as_ref().is_some_and(|required| kept.is_of_use(required))
            });
            let Some(seen) = required.filter(|required| unsettled(required).is_none()) else { continue };
            let due = kept.iter().filter(|kept| kept.of.dataset == dataset && kept.is_due());
            outdated.extend(due.map(|kept| Outdated {
                of: kept.of.clone(),
                recipe: kept.recipe.clone(),
                seen: seen.clone(),
                used: kept.used,
            }));
        }
        let kept = self.kept();
        kept.iter().filter(|kept| kept.used.elapsed() >= RECENT).for_each(|kept| kept.snapshot.keeps(1));
        self.tell(&kept);
        outdated
    }

    /// The snapshot of `of` whose rows may be taken over by one of a source that is as it is seen `now`. Where it cannot be read, or the
    /// disk that snapshots may take is too small for both, it is let go of. Blocks.
    fn before(&self, of: &Of, now: &Seen) -> Option<Before> {
        let kept = self.kept();
        let found = kept.iter().find(|kept| kept.of == *of)?;
        let (snapshot, whole, shape) = (Arc::clone(&found.snapshot), found.whole.clone(), found.shape.clone());
        // The next is larger as its files are.
        let (files, next) = match (&found.seen, now) {
            (Seen::Files(then), Seen::Files(now)) if found.tells_apart(then) => {
                let next = u128::from(snapshot.bytes()) * u128::from(bytes(now)) / u128::from(bytes(then).max(1));
                (Some(then.clone()), next)
            }
            (Seen::At(..), Seen::At(..)) if found.tells_versions() => (None, u128::from(snapshot.bytes())),
            _ => return None,
        };
        drop(kept);
        let room = u128::from(self.room.taken.load(Ordering::Acquire)) + next <= u128::from(self.room.most);
        let parts = match files {
            _ if !room => None,
            Some(files) => Some(Parts::Files(files)),
            None => snapshot.versions().ok().flatten().map(|versions| Parts::Versions(Arc::new(versions))),
        };
        if parts.is_none() && room && !snapshot.is_broken() {
            let (dataset, most) = (of.dataset.as_str(), Versions::MOST);
            tracing::warn!(
                dataset,
                most,
                "snapshots are read whole: a row has no key or no change, two have one key, or they are too many"
            );
        }
        let Some(parts) = parts.filter(|_| !snapshot.is_broken()) else {
            self.forget(of);
            return None;
        };
        Some(Before { snapshot, known: Known { parts, shape }, whole })
    }

    /// Whether there is one of `of`, whatever it answers.
    fn is_kept(&self, of: &Of) -> bool {
        self.kept().iter().any(|kept| kept.of == *of)
    }

    /// Lets go of the snapshot of `of`; whether there was one.
    pub(crate) fn forget(&self, of: &Of) -> bool {
        let mut kept = self.kept();
        let before = kept.len();
        kept.retain(|kept| kept.of != *of);
        self.tell(&kept);
        kept.len() < before
    }

    /// Fails where the disk has too little room for others.
    fn left(&self) -> Result<(), Refusal> {
        self.room.left(File::open(&self.folder).map_err(Refusal::internal)?)
    }

    fn failed(&self) -> MutexGuard<'_, Vec<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, new: Kept) {
        let mut kept = self.kept();
        // An order may have asked meanwhile.
        let used = kept.iter().find(|kept| kept.of == new.of).map_or(new.used, |before| before.used.max(new.used));
        kept.retain(|kept| kept.of != new.of);
        if used.elapsed() >= IDLE {
            return self.tell(&kept);
        }
        let new = Kept { used, ..new };
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

    fn tell_waiting(&self, waiting: &[Of]) {
        if let Some(levels) = &self.levels {
            levels.waiting.set(&[], i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Of>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
