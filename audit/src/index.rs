//! Finding entries of a running log: an index beside it, which is made from the log and never in place of it.
//!
//! ```text
//! filter ─▶ index: positions ─▶ the log: bytes ─▶ their hash is the tree's leaf, their facts are the index's ─▶ handed out
//!             └─ what it has not got yet, or all where it cannot be used: the log is read through
//! ```
//!
//! Invariants
//! - What is handed out are the log's own bytes, under a signed checkpoint, and their hash is the leaf that the tree was built over.
//! - Index and log select the same: a row goes by the same [`Facts`] as an entry does.
//! - An index that was edited, damaged, or is of another log or history is made anew, and the log tells so (`log.reindexed`).
//! - Reading holds nothing that the log's writer needs; each call ends at its deadline.
//!
//! Who can write in the log's folder and read its `digest.key` can seal an index of their own. It cannot show an entry that is not in the
//! log; that it hides none, who reads the folder without it (`concordat audit list --log`) sees.

mod follow;
mod hand_on;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::table::{Indexed, Trouble, View};
use crate::archive::archived;
use crate::facts::{Asked, Asker, Facts};
use crate::filter::Filter;
use crate::tile::Tiles;
use crate::tree::{Hashes as _, WIDTH, leaf_hash};
use crate::{DigestKey, Log, LogError};

/// Positions that are looked through before the time is looked at.
const WINDOW: u64 = 200_000;

/// Entries that are read before it is.
const LOOK: u64 = 256;

/// Entries that one step of following reads.
const STEP: usize = 4096;

/// Queries of which it is kept who asked while a log is followed.
const KEPT: usize = 10_000;

/// Why an index was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Absent,
    Damaged,
    Edited,
    OtherLog,
    WentBack,
    OtherHistory,
    Version,
    Archived,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Damaged => "damaged",
            Self::Edited => "edited",
            Self::OtherLog => "other_log",
            Self::WentBack => "log_went_back",
            Self::OtherHistory => "other_history",
            Self::Version => "other_version",
            Self::Archived => "archived",
        }
    }
}

/// What the thread and readers share.
struct Shared {
    folder: PathBuf,
    seals: DigestKey,
    /// It was read whole, and is of this log.
    usable: AtomicBool,
    /// A reader found that it does not say what the log says.
    suspect: AtomicBool,
    rebuilt: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Index").field(&self.folder).finish()
    }
}

impl Shared {
    fn failed(&self, error: &io::Error) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    /// Pauses; whether nobody needs the index any more.
    fn wait(self: &Arc<Self>, pause: Duration) -> bool {
        std::thread::sleep(pause);
        Arc::strong_count(self) == 1
    }
}

/// The index of an open log. Clones share it.
#[derive(Debug, Clone)]
pub struct Index {
    log: Log,
    shared: Arc<Shared>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Search {
    /// Which entries.
    pub filter: Filter,
    /// Only what is about this department's data or rules.
    pub concerning: Option<String>,
    /// Only entries with lower numbers; from the end without it.
    pub before: Option<u64>,
    /// At most so many entries.
    pub limit: usize,
    /// And not many more bytes of them.
    pub bytes: usize,
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number, from 1.
    pub number: u64,
    /// As the tree was built over it.
    pub entry: Vec<u8>,
    /// With who asked, where it ends a query.
    pub facts: Facts,
}

impl Found {
    /// How many bytes it takes to tell it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Asker { organisation, person, purpose } = &self.facts.asker;
        let asker = [organisation, person, purpose].into_iter().flatten().map(String::len);
        asker.fold(self.entry.len(), usize::saturating_add)
    }
}

/// Some of the entries that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The last one first.
    pub entries: Vec<Found>,
    /// What [`Search::before`] is to be for more; `None` where there are no more.
    pub before: Option<u64>,
    /// How many entries, from the first on, were moved to an archive: they are left out.
    pub moved: u64,
    /// The number of the log's last entry under a checkpoint when it was looked through.
    pub size: u64,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// It took too long.
    #[error("the log could not be looked through in time")]
    Deadline,
    /// The log's files are not what its tree was built over, or cannot be read.
    #[error("the log cannot be read")]
    Log(#[source] io::Error),
}

impl From<io::Error> for SearchError {
    fn from(error: io::Error) -> Self {
        Self::Log(error)
    }
}

/// Why the index does not serve.
enum Unindexed {
    Search(SearchError),
    /// It does not say what the log says.
    Differs,
}

impl From<SearchError> for Unindexed {
    fn from(error: SearchError) -> Self {
        Self::Search(error)
    }
}

impl From<io::Error> for Unindexed {
    fn from(error: io::Error) -> Self {
        Self::Search(SearchError::Log(error))
    }
}

impl Index {
    /// Opens the index of `log` in its folder, and follows the log beside its writer for as long as both are used.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn open(log: &Log) -> Result<Self, LogError> {
        let folder = log.shared.disk.folder.clone();
        let failed = |source: io::Error| LogError::Open { folder: folder.clone(), source: Arc::new(source) };
        let shared = Arc::new(Shared {
            folder: folder.clone(),
            seals: DigestKey::of(&folder)?,
            usable: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            rebuilt: AtomicU64::new(0),
            trouble: Mutex::default(),
        });
        let (index, followed) = (Arc::clone(&shared), Arc::downgrade(&log.shared));
        std::thread::Builder::new().name("audit-index".into()).spawn(move || follow::follow(&index, &followed)).map_err(failed)?;
        Ok(Self { log: log.clone(), shared })
    }

    /// How often it was made anew since it was opened.
    #[must_use]
    pub fn rebuilt(&self) -> u64 {
        self.shared.rebuilt.load(Ordering::Relaxed)
    }

    /// Whether entries are found by it now, and else are read through.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.shared.usable.load(Ordering::Acquire) && !self.shared.suspect.load(Ordering::Acquire)
    }

    /// The last failure to keep it, for the operator.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last entries that are asked for, of those under a checkpoint. Blocks.
    ///
    /// # Errors
    /// [`SearchError`].
    pub fn search(&self, search: &Search, deadline: Instant) -> Result<Page, SearchError> {
        let folder = &self.shared.folder;
        let (moved, size) = (archived(folder)?, self.log.size());
        let end = search.before.map_or(u64::MAX, |before| before.saturating_sub(1)).min(size);
        let mut looking = Looking::new(search, folder, deadline);
        if let Some(view) = self.view() {
            match looking.indexed(&view, moved, end) {
                Ok(()) => return Ok(looking.page(moved, size)),
                Err(Unindexed::Search(error)) => return Err(error),
                Err(Unindexed::Differs) => self.shared.suspect.store(true, Ordering::Release),
            }
            looking = Looking::new(search, folder, deadline);
        }
        looking.read(moved, end, None)?;
        Ok(looking.page(moved, size))
    }

    fn view(&self) -> Option<View> {
        if self.is_usable() { View::open(&self.shared.folder).ok() } else { None }
    }

    /// Entries as they come, from the one after `number` on.
    #[must_use]
    pub fn follow(&self, search: Search, number: u64) -> Follow {
        Follow { index: self.clone(), search, next: number, asked: Asked::default() }
    }
}

/// Follows a log.
#[derive(Debug)]
pub struct Follow {
    index: Index,
    search: Search,
    next: u64,
    asked: Asked,
}

impl Follow {
    /// The number of the last entry that was looked at.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.next
    }

    /// Whether there are entries under a checkpoint that were not looked at.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.next < self.index.log.size()
    }

    /// Those of the next entries that are asked for, in order: a few thousand are looked at, and there may be none among them. Blocks.
    ///
    /// # Errors
    /// [`SearchError::Log`].
    pub fn step(&mut self) -> Result<Vec<Found>, SearchError> {
        let (mut found, mut bytes, size) = (Vec::new(), 0_usize, self.index.log.size());
        if self.next >= size {
            return Ok(found);
        }
        let folder = &self.index.shared.folder;
        let (tiles, view) = (Tiles::of(folder), self.index.view());
        self.asked.forget(KEPT);
        for read in crate::read(folder, self.next)?.take(STEP) {
            let (position, entry) = read?;
            if position >= size || found.len() >= self.search.limit || bytes >= self.search.bytes {
                break;
            }
            is_leaf(&tiles, position, &entry)?;
            let facts = self.asked.complete_or(Facts::read(&entry), |id| view.as_ref()?.asker(id, position));
            if self.search.takes(&facts) {
                let taken = Found { number: position.saturating_add(1), entry, facts };
                bytes = bytes.saturating_add(taken.bytes());
                found.push(taken);
            }
            self.next = position.saturating_add(1);
        }
        Ok(found)
    }
}

impl Search {
    fn takes(&self, facts: &Facts) -> bool {
        self.filter.takes(facts) && self.concerning.as_deref().is_none_or(|department| facts.departments.contain(department))
    }

    /// The same as conditions on the index's columns.
    fn conditions(&self) -> Vec<(&'static str, rusqlite::types::Value)> {
        let concerning = Filter { department: self.concerning.clone(), ..Filter::default() };
        self.filter.conditions().into_iter().chain(concerning.conditions()).collect()
    }
}

/// A search under way.
struct Looking<'s> {
    search: &'s Search,
    log: Bundles<'s>,
    tiles: Tiles,
    /// The last ones, in the log's order.
    found: VecDeque<Found>,
    bytes: usize,
    /// Earlier ones were found and left out.
    cut: bool,
    deadline: Instant,
}

impl<'s> Looking<'s> {
    fn new(search: &'s Search, folder: &'s Path, deadline: Instant) -> Self {
        Self { search, log: Bundles::of(folder), tiles: Tiles::of(folder), found: VecDeque::new(), bytes: 0, cut: false, deadline }
    }

    fn page(self, moved: u64, size: u64) -> Page {
        let full = self.is_full();
        let before = self.found.front().map(|first| first.number).filter(|first| full && first.saturating_sub(1) > moved);
        Page { entries: self.found.into_iter().rev().collect(), before, moved, size }
    }

    fn in_time(&self) -> Result<(), SearchError> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(SearchError::Deadline) }
    }

    /// By the index, and by the log itself what is not in it yet.
    fn indexed(&mut self, view: &View, moved: u64, end: u64) -> Result<(), Unindexed> {
        self.read(view.extent.end.max(moved), end, Some(view))?;
        let first = view.extent.first.max(moved);
        let mut top = view.extent.end.min(end);
        while top > first && !self.is_full() {
            self.in_time()?;
            let bottom = top.saturating_sub(WINDOW).max(first);
            let wanted = self.search.limit.saturating_sub(self.found.len());
            let rows = view.last(self.search.conditions(), (bottom, top), wanted).map_err(|trouble| match trouble {
                Trouble::Io(error) => Unindexed::Search(SearchError::Log(error)),
                Trouble::Rebuild(_) => Unindexed::Differs,
            })?;
            top = bottom;
            for row in rows {
                if self.is_full() {
                    break;
                }
                self.in_time()?;
                self.take(row)?;
            }
        }
        Ok(())
    }

    /// The entry of a row, if the log has it there and it is what the row says.
    fn take(&mut self, row: Indexed) -> Result<(), Unindexed> {
        let Some(entry) = self.log.entry(row.position)? else {
            // It may have been moved meanwhile.
            return if archived(self.log.folder)? > row.position { Ok(()) } else { Err(Unindexed::Differs) };
        };
        // If the log itself was changed, the index is not to blame.
        is_leaf(&self.tiles, row.position, &entry)?;
        let read = Facts::read(&entry);
        let same = Facts { asker: row.facts.asker.clone(), ..read.clone() } == row.facts && read.asker.is_within(&row.facts.asker);
        if leaf_hash(&entry) != row.leaf || !same || !self.search.takes(&row.facts) {
            return Err(Unindexed::Differs);
        }
        let found = Found { number: row.position.saturating_add(1), entry, facts: row.facts };
        self.bytes = self.bytes.saturating_add(found.bytes());
        self.found.push_front(found);
        Ok(())
    }

    /// Without the index.
    fn read(&mut self, begin: u64, end: u64, view: Option<&View>) -> Result<(), SearchError> {
        if begin >= end {
            return Ok(());
        }
        let mut asked = Asked::default();
        for read in crate::read(self.log.folder, begin)? {
            let (position, entry) = read?;
            if position.is_multiple_of(LOOK) {
                self.in_time()?;
            }
            if position >= end {
                break;
            }
            let facts = Facts::read(&entry);
            let facts = match view {
                Some(view) => asked.complete_or(facts, |query_id| view.asker(query_id, view.extent.end)),
                None => asked.complete(facts),
            };
            if !self.search.takes(&facts) {
                continue;
            }
            is_leaf(&self.tiles, position, &entry)?;
            let found = Found { number: position.saturating_add(1), entry, facts };
            self.bytes = self.bytes.saturating_add(found.bytes());
            self.found.push_back(found);
            while self.found.len() > self.search.limit || (self.bytes > self.search.bytes && self.found.len() > 1) {
                let before = self.found.pop_front().map_or(0, |found| found.bytes());
                self.bytes = self.bytes.saturating_sub(before);
                self.cut = true;
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.cut || self.found.len() >= self.search.limit || self.bytes >= self.search.bytes
    }
}

/// The entries of the bundle that was read last.
struct Bundles<'f> {
    folder: &'f Path,
    kept: Option<(u64, Vec<Vec<u8>>)>,
}

impl<'f> Bundles<'f> {
    fn of(folder: &'f Path) -> Self {
        Self { folder, kept: None }
    }

    fn entry(&mut self, position: u64) -> io::Result<Option<Vec<u8>>> {
        let first = position - position % WIDTH;
        if self.kept.as_ref().is_none_or(|(kept, _)| *kept != first) {
            let mut entries = Vec::new();
            for (expected, read) in (first..first.saturating_add(WIDTH)).zip(crate::read(self.folder, first)?) {
                let (index, bytes) = read?;
                if index != expected {
                    break;
                }
                entries.push(bytes);
            }
            self.kept = Some((first, entries));
        }
        let entries = self.kept.as_ref().map(|(_, entries)| entries);
        Ok(usize::try_from(position - first).ok().and_then(|at| entries?.get(at).cloned()))
    }
}

fn is_leaf(tiles: &Tiles, position: u64, entry: &[u8]) -> io::Result<()> {
    if tiles.hashes(0, position, 1)?.first() == Some(&leaf_hash(entry)) {
        return Ok(());
    }
    Err(damage(format!("entry {} is not what the tree was built over", position.saturating_add(1))))
}

fn damage(what: String) -> io::Error {
    crate::tile::damaged(what)
}
