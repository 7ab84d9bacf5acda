//! Finding entries of a running log: an index beside it, which is made from the log and never in place of it.
//!
//! ```text
//! filter ─▶ index: positions ─▶ the log: bytes ─▶ proved up to the signed root, their facts are the index's ─▶ handed out
//!             └─ what it has not got yet, or all where it cannot be used: the log is read through
//! ```
//!
//! Invariants
//! - What is handed out are the log's own bytes, proved up to the root of a signed checkpoint, and so is who asked; what a filter passes over
//!   without an index is proved before it is passed over.
//! - Index and log select the same: a row goes by the same [`Facts`] as an entry does.
//! - An index that was edited, damaged, or is of another log or history is made anew, and before that the log tells so (`log.reindexed`),
//!   past every file, once that is noticed: when the index is opened, when another program has written it through SQLite or put another file
//!   in its place, and when a row that was selected is not its entry's. Bytes of the file that are changed past SQLite while the program runs
//!   may hide entries until the index is opened again.
//! - Reading holds nothing that the log's writer needs; each call ends at its deadline.
//!
//! It is sealed under a secret that only `log.key` gives: who can write in the folder and does not have that key seals none. Whoever has
//! it can also sign another log; that an index hides no entry, who reads the folder without it (`concordat audit list --log`) sees.

mod coming;
mod follow;
mod indexed;
mod look;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

pub use self::coming::Follow;
use self::look::{Looking, Unindexed};
use self::table::{Place, View, place};
use crate::facts::{Asker, Facts};
use crate::filter::Filter;
use crate::query::{self, Sought};
use crate::{Log, LogError};

/// Why an index was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Absent,
    Damaged,
    Edited,
    OtherLog,
    WentBack,
    OtherHistory,
    Version,
    Archived,
    Replaced,
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
            Self::Replaced => "replaced",
        }
    }
}

/// What the thread and readers share.
pub(crate) struct Shared {
    pub(crate) folder: PathBuf,
    /// Under what the index is sealed.
    seals: hmac::Key,
    /// It was read whole, and is of this log.
    pub(crate) usable: AtomicBool,
    /// A reader found that it does not say what the log says.
    suspect: AtomicBool,
    /// The files that were opened; what bears their names later is another index.
    place: Mutex<Option<Place>>,
    rebuilt: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Index").field(&self.folder).finish()
    }
}

impl Shared {
    /// Keeps what the trouble is now; whether it is another one than before.
    fn trouble(&self, trouble: Option<&str>) -> bool {
        let mut kept = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *kept, trouble.map(str::to_owned)).as_deref() != trouble
    }

    fn is_at(&self, opened: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
    }

    /// Whether its files are in their place.
    fn is_in_place(&self) -> bool {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) == Some(place(&self.folder))
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
    pub(crate) log: Log,
    pub(crate) shared: Arc<Shared>,
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

impl Index {
    /// Opens the index of `log` in its folder, and follows the log beside its writer for as long as both are used.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn open(log: &Log) -> Result<Self, LogError> {
        Self::open_telling(log, |_| {})
    }

    /// The same; what keeps it from being kept is told once, until it is something else.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn open_telling(log: &Log, tell: impl Fn(&str) + Send + 'static) -> Result<Self, LogError> {
        let folder = log.shared.disk.folder.clone();
        let failed = |source: io::Error| LogError::Open { folder: folder.clone(), source: Arc::new(source) };
        let shared = Arc::new(Shared {
            folder: folder.clone(),
            seals: log.shared.key.derived(b"concordat.index.seal/v1").map_err(failed)?,
            usable: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            place: Mutex::default(),
            rebuilt: AtomicU64::new(0),
            trouble: Mutex::default(),
        });
        let (index, followed) = (Arc::clone(&shared), Arc::downgrade(&log.shared));
        std::thread::Builder::new().name("audit-index".into()).spawn(move || follow::follow(&index, &followed, tell)).map_err(failed)?;
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

    /// Why it cannot be kept now, for the operator; until it can, entries are found by reading the log through.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last entries that are asked for, of those under a checkpoint. Blocks.
    ///
    /// # Errors
    /// [`SearchError`].
    pub fn search(&self, search: &Search, deadline: Instant) -> Result<Page, SearchError> {
        let (size, moved) = (self.log.size(), self.log.shared.moved()?);
        let end = search.before.map_or(u64::MAX, |before| before.saturating_sub(1)).min(size);
        let mut looking = Looking::new(search, self.log.shared.proved(), deadline);
        if let Some(view) = self.view(moved) {
            match looking.indexed(&view, end) {
                Ok(()) => return Ok(looking.page(moved, size)),
                Err(Unindexed::Search(error)) => return Err(error),
                Err(Unindexed::Differs) => self.differs(moved),
            }
            looking = Looking::new(search, self.log.shared.proved(), deadline);
        }
        looking.read(moved, end, None)?;
        Ok(looking.page(moved, size))
    }

    /// A query that has ended, also where no checkpoint covers that yet. Blocks.
    ///
    /// # Errors
    /// [`SearchError`].
    pub fn query(&self, id: &str, deadline: Instant) -> Result<Sought, SearchError> {
        let (log, moved) = (&self.log.shared, self.log.shared.moved()?);
        let found = match self.view(moved).map(|view| look::query(&view, log, id, deadline)) {
            Some(Ok(found)) => found,
            Some(Err(Unindexed::Search(error))) => return Err(error),
            unindexed => {
                if unindexed.is_some() {
                    self.differs(moved);
                }
                query::find(log, id, deadline)?
            }
        };
        Ok(found.map_or_else(|| Sought::nothing(log, id), |found| Ok(Sought::Ended(found)))?)
    }

    /// The index, where it can be used for a log that begins after `moved` entries.
    fn view(&self, moved: u64) -> Option<View> {
        let view = if self.is_usable() { View::open(&self.shared.folder).ok()? } else { return None };
        (self.shared.is_in_place() && view.extent.first == moved).then_some(view)
    }

    /// It is not what the log says, unless entries were moved to an archive meanwhile.
    fn differs(&self, moved: u64) {
        let same = self.log.shared.moved().is_ok_and(|now| now == moved);
        self.shared.suspect.fetch_or(same, Ordering::AcqRel);
    }

    /// Entries as they come, from the one after `number` on.
    #[must_use]
    pub fn follow(&self, search: Search, number: u64) -> Follow {
        Follow::new(self.clone(), search, number)
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
