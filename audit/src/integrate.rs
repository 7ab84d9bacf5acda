//! The second thread: brings durable entries into bundles and tiles and signs a checkpoint over them, beside the writer.
//!
//! ```text
//! durable in the tail ─▶ bundles and tiles durable ─▶ checkpoint signed and durable ─▶ the tail may forget full bundles
//! ```
//!
//! Nothing is covered by a checkpoint before all that it covers is durable. A pass that failed is tried again with the same entries.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::Entry;
use crate::archive::archived;
use crate::cosigned::Gathered;
use crate::disk::Disk;
use crate::key::LogKey;
use crate::proved::Proved;
use crate::recover::CHECKPOINT;
use crate::reserve::Reserve;
use crate::stood::Stood;
use crate::tile::{bundle, bundle_name, encode, tile_name, widths};
use crate::tree::{Edge, Hash, WIDTH, leaf_hash, levels, partial, tiles};
use crate::writer::Waiting;

/// How long entries gather before a pass: a checkpoint follows an entry within this and the time of two passes.
const GATHER: Duration = Duration::from_millis(150);

/// How long after a pass that failed it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The most entries and bytes of one pass.
const AT_ONCE: (usize, usize) = (4096, 16 << 20);

/// How many entries, and bytes, may be durable and not covered; beyond that the log takes no more.
const BEHIND: (usize, usize) = (8192, 64 << 20);

/// How long the writer waits for a tree that is only slow: a caller is rather served late than refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// Of how many entries the leaf hashes are kept: all that are not covered are among them.
const RECENT: usize = 2 * BEHIND.0;

/// What the writer, the second thread and the handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) key: LogKey,
    pub(crate) disk: Disk,
    pub(crate) reserve: Reserve,
    pending: Mutex<Pending>,
    wake: Condvar,
    /// How many entries the latest checkpoint covers.
    size: AtomicU64,
    /// Its tree's right edge, and when it was published.
    published: Mutex<(Arc<Edge>, Instant)>,
    pub(crate) health: Health,
    /// Where its program remembers how far it goes.
    pub(crate) stood: Option<Stood>,
    /// The latest checkpoint. Only changed under [`Shared::publishing`].
    checkpoint: watch::Sender<Arc<str>>,
    /// Whoever publishes holds it; within are the cosignatures that came lately.
    publishing: Mutex<Gathered>,
    /// Held as long as anybody may write.
    _lock: File,
}

/// Whether entries become durable, and find their way into the tree.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) writing: AtomicBool,
    pub(crate) tree: AtomicBool,
    /// Who entries are about cannot be kept.
    pub(crate) persons: AtomicBool,
    pub(crate) failures: AtomicU64,
}

impl Health {
    /// Notes that what `failing` tells of failed, once more.
    pub(crate) fn failed(&self, failing: &AtomicBool) {
        failing.store(true, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Pending {
    entries: VecDeque<(Vec<u8>, Hash)>,
    /// Of all entries that no checkpoint covers yet.
    count: usize,
    bytes: usize,
    /// The last leaf hashes, and the number of the last one.
    recent: VecDeque<Hash>,
    last: u64,
    closed: bool,
    /// Whether somebody waits for all of them to be covered.
    hurried: bool,
    /// What the log is to tell of itself.
    own: Vec<Waiting>,
}

impl Pending {
    fn are_many(&self) -> bool {
        self.count >= BEHIND.0 || self.bytes >= BEHIND.1
    }
}

impl Shared {
    pub(crate) fn new(lock: File, key: LogKey, disk: Disk, edge: Arc<Edge>, checkpoint: &str, stood: Option<Stood>) -> Arc<Self> {
        let size = edge.size;
        let reserve = Reserve::of(&disk);
        Arc::new(Self {
            key,
            disk,
            reserve,
            pending: Mutex::new(Pending { last: size, ..Pending::default() }),
            wake: Condvar::new(),
            size: AtomicU64::new(size),
            published: Mutex::new((edge, Instant::now())),
            health: Health::default(),
            stood,
            checkpoint: watch::Sender::new(checkpoint.into()),
            publishing: Mutex::default(),
            _lock: lock,
        })
    }

    /// Hands durable entries over.
    pub(crate) fn add(&self, entries: Vec<Vec<u8>>) {
        let hashed: Vec<_> = entries.into_iter().map(|entry| (leaf_hash(&entry), entry)).collect();
        let mut pending = self.pending();
        for (leaf, entry) in hashed {
            pending.count = pending.count.saturating_add(1);
            pending.bytes = pending.bytes.saturating_add(entry.len());
            pending.last = pending.last.saturating_add(1);
            if pending.recent.len() == RECENT {
                pending.recent.pop_front();
            }
            pending.recent.push_back(leaf);
            pending.entries.push_back((entry, leaf));
        }
        self.wake.notify_all();
    }

    /// Has all that is durable covered by a checkpoint at once, and waits for it; `false` where that takes longer.
    pub(crate) fn settle(&self, patience: Duration) -> bool {
        self.pending().hurried = true;
        self.wake.notify_all();
        let uncovered = |pending: &mut Pending| pending.count > 0;
        let (mut pending, _) = self.wake.wait_timeout_while(self.pending(), patience, uncovered).unwrap_or_else(PoisonError::into_inner);
        pending.hurried = false;
        pending.count == 0
    }

    /// Has the writer tell something of the log itself, and waits until it is durable: a second at most, unless it cannot be written.
    /// Not for threads of a runtime.
    pub(crate) fn tell(&self, entry: Entry) -> io::Result<()> {
        let closed = || io::Error::other("the log is closed");
        let (done, told) = oneshot::channel();
        let mut pending = self.pending();
        if pending.closed {
            return Err(closed());
        }
        pending.own.push(Waiting { entry, done });
        drop(pending);
        told.blocking_recv().map_err(|_| closed())?.map(drop).map_err(io::Error::other)
    }

    /// What [`Shared::tell`] was given since.
    pub(crate) fn own(&self) -> Vec<Waiting> {
        std::mem::take(&mut self.pending().own)
    }

    /// No entry will follow.
    pub(crate) fn close(&self) {
        let mut pending = self.pending();
        pending.closed = true;
        pending.own.clear();
        drop(pending);
        self.wake.notify_all();
    }

    /// Whether the tree cannot take entries, or so much is not covered that none should be added.
    pub(crate) fn is_behind(&self) -> bool {
        self.health.tree.load(Ordering::Relaxed) || self.pending().are_many()
    }

    /// Waits for a tree that has fallen behind, unless it fails.
    pub(crate) fn keep_pace(&self) {
        let slow = |pending: &mut Pending| pending.are_many() && !self.health.tree.load(Ordering::Relaxed);
        drop(self.wake.wait_timeout_while(self.pending(), PATIENCE, slow));
    }

    pub(crate) fn is_failing(&self) -> bool {
        let Health { writing, tree, persons, .. } = &self.health;
        [writing, tree, persons].iter().any(|failing| failing.load(Ordering::Relaxed)) || !self.reserve.is_held()
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn published(&self) -> (u64, Instant) {
        let (edge, at) = &*self.published.lock().unwrap_or_else(PoisonError::into_inner);
        (edge.size, *at)
    }

    /// The log under its latest checkpoint. It covers at least what [`Shared::size`] or a checkpoint said before.
    pub(crate) fn proved(&self) -> Proved {
        let edge = Arc::clone(&self.published.lock().unwrap_or_else(PoisonError::into_inner).0);
        Proved::of(&self.disk.folder, edge)
    }

    /// How many entries, from the first on, were moved to an archive; never one that no checkpoint covers, whatever the folder says.
    pub(crate) fn moved(&self) -> io::Result<u64> {
        let size = self.size();
        Ok(archived(&self.disk.folder)?.min(size - size % WIDTH))
    }

    /// The leaf hash of a recent entry.
    pub(crate) fn leaf(&self, number: u64) -> Option<Hash> {
        let pending = self.pending();
        let back = usize::try_from(pending.last.checked_sub(number)?).ok()?;
        pending.recent.get(pending.recent.len().checked_sub(back + 1)?).copied()
    }

    pub(crate) fn checkpoint(&self) -> watch::Receiver<Arc<str>> {
        self.checkpoint.subscribe()
    }

    /// Publishes a new checkpoint, and then says so.
    pub(crate) fn publish(&self, edge: Arc<Edge>, text: String) -> io::Result<()> {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        self.disk.publish(&[(CHECKPOINT.to_owned(), text.clone().into_bytes())])?;
        let size = edge.size;
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = (edge, Instant::now());
        self.size.store(size, Ordering::Release);
        self.checkpoint.send_replace(text.into());
        Ok(())
    }

    /// Publishes what `change` makes of the latest checkpoint: files, and the same checkpoint with more signatures.
    pub(crate) fn replace(&self, change: impl FnOnce(&str, &mut Gathered) -> io::Result<Change>) -> io::Result<()> {
        let mut gathered = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut files, text) = change(&Arc::clone(&self.checkpoint.borrow()), &mut gathered)?;
        files.extend(text.clone().map(|text| (CHECKPOINT.to_owned(), text.into_bytes())));
        self.disk.publish(&files)?;
        if let Some(text) = text {
            // Nobody is told: it is the same checkpoint.
            self.checkpoint.send_if_modified(|latest| {
                *latest = text.into();
                false
            });
        }
        Ok(())
    }

    /// The best checkpoint that has cosignatures.
    pub(crate) fn cosigned(&self) -> Option<String> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner).best()
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to do, and then for more of it; `false` at the end.
    fn wait(&self) -> bool {
        let idle = |pending: &mut Pending| pending.entries.is_empty() && !pending.closed;
        let pending = self.wake.wait_while(self.pending(), idle).unwrap_or_else(PoisonError::into_inner);
        let few = |pending: &mut Pending| !pending.closed && !pending.hurried && pending.entries.len() < AT_ONCE.0;
        let (pending, _) = self.wake.wait_timeout_while(pending, GATHER, few).unwrap_or_else(PoisonError::into_inner);
        !pending.entries.is_empty()
    }

    /// Waits before another try; `false` when the log was closed.
    fn pause(&self) -> bool {
        let open = |pending: &mut Pending| !pending.closed;
        let (pending, _) = self.wake.wait_timeout_while(self.pending(), AGAIN, open).unwrap_or_else(PoisonError::into_inner);
        !pending.closed
    }

    fn take(&self) -> Vec<(Vec<u8>, Hash)> {
        let (mut pending, mut taken, mut bytes) = (self.pending(), Vec::new(), 0usize);
        while taken.len() < AT_ONCE.0 && bytes < AT_ONCE.1 {
            let Some((entry, leaf)) = pending.entries.pop_front() else { break };
            bytes = bytes.saturating_add(entry.len());
            taken.push((entry, leaf));
        }
        taken
    }
}

/// Files by name, and the latest checkpoint where it changes.
pub(crate) type Change = (Vec<(String, Vec<u8>)>, Option<String>);

/// The second thread.
#[derive(Debug)]
pub(crate) struct Integrator {
    shared: Arc<Shared>,
    edge: Arc<Edge>,
    /// The entries of the bundle that is not full.
    bundle: Vec<Vec<u8>>,
}

/// What a pass puts into place, and the state after it.
struct Pass {
    edge: Edge,
    bundle: Vec<Vec<u8>>,
    files: Vec<(String, Vec<u8>)>,
}

impl Integrator {
    pub(crate) fn new(shared: Arc<Shared>, edge: Arc<Edge>, bundle: Vec<Vec<u8>>) -> Self {
        Self { shared, edge, bundle }
    }

    pub(crate) fn run(mut self) {
        while self.shared.wait() {
            let entries = self.shared.take();
            while let Err(error) = self.pass(&entries) {
                self.shared.health.failed(&self.shared.health.tree);
                self.shared.wake.notify_all();
                // With the reserve given back, the tree catches up at once.
                if !self.shared.reserve.give_back(&error) && !self.shared.pause() {
                    return;
                }
            }
            self.shared.health.tree.store(false, Ordering::Relaxed);
            let mut pending = self.shared.pending();
            pending.count = pending.count.saturating_sub(entries.len());
            pending.bytes = pending.bytes.saturating_sub(entries.iter().map(|(entry, _)| entry.len()).sum());
            drop(pending);
            self.shared.wake.notify_all();
        }
    }

    /// Brings entries into the tree and publishes the checkpoint that covers them, or leaves this as it was.
    fn pass(&mut self, entries: &[(Vec<u8>, Hash)]) -> io::Result<()> {
        let before = self.edge.size;
        let Pass { edge, bundle, files } = self.prepare(entries);
        self.shared.disk.publish(&files)?;
        let text = self.shared.key.checkpoint(edge.size, &edge.root());
        let edge = Arc::new(edge);
        self.shared.publish(Arc::clone(&edge), text)?;
        (self.edge, self.bundle) = (edge, bundle);
        // The log goes on without: the next checkpoint is remembered again.
        if self.shared.stood.as_ref().is_some_and(|stood| stood.keep(self.edge.size, &self.edge.root()).is_err()) {
            self.shared.health.failures.fetch_add(1, Ordering::Relaxed);
        }
        // What is left behind costs space only: an error here is not one of the log.
        let _ = self.tidy(before);
        Ok(())
    }

    fn prepare(&self, entries: &[(Vec<u8>, Hash)]) -> Pass {
        let mut pass = Pass { edge: Edge::clone(&self.edge), bundle: self.bundle.clone(), files: Vec::new() };
        for (entry, leaf) in entries {
            pass.bundle.push(entry.clone());
            pass.edge.push(*leaf, |level, index, tile| {
                if level == 0 {
                    let bytes = bundle(pass.bundle.drain(..).collect::<Vec<_>>().iter().map(Vec::as_slice));
                    pass.files.push((bundle_name(index, WIDTH), bytes));
                }
                pass.files.push((tile_name(level, index, WIDTH), encode(tile)));
            });
        }
        let (before, size) = (self.edge.size, pass.edge.size);
        for (level, tile) in (0..).zip(&pass.edge.levels) {
            let (index, width) = (tiles(size, level), partial(size, level));
            let same = (tiles(before, level), partial(before, level)) == (index, width);
            if width > 0 && !same {
                if level == 0 {
                    pass.files.push((bundle_name(index, width), bundle(pass.bundle.iter().map(Vec::as_slice))));
                }
                pass.files.push((tile_name(level, index, width), encode(tile)));
            }
        }
        pass
    }

    /// Removes partial files that the checkpoint before the last one, of `before` entries, does not need any more.
    fn tidy(&self, before: u64) -> io::Result<()> {
        let disk = &self.shared.disk;
        for level in 0..levels(before) {
            let (index, width) = (tiles(before, level), partial(before, level));
            let full = tiles(self.edge.size, level) > index;
            let bundles = (level == 0).then(|| bundle_name(index, 1));
            for name in bundles.into_iter().chain([tile_name(level, index, 1)]) {
                let Some((partials, _)) = name.rsplit_once('/') else { continue };
                for old in widths(&disk.folder, &name).into_iter().filter(|old| full || *old < width) {
                    disk.remove(&disk.path(&format!("{partials}/{old}")))?;
                }
                if full {
                    disk.remove(&disk.path(partials))?;
                }
            }
        }
        Ok(())
    }
}
