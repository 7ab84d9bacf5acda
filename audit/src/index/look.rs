//! One search: by the index as far as it goes, else through the log.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Instant;

use rusqlite::types::Value;

use super::indexed::Indexed;
use super::table::{Trouble, View};
use super::{Found, Page, Search, SearchError};
use crate::archive::archived;
use crate::facts::{Asked, Facts};
use crate::filter::Filter;
use crate::query::{Parts, Query};
use crate::tile::{Tiles, damaged};
use crate::tree::{Hash, Hashes as _, WIDTH, leaf_hash};

/// Positions that are looked through before the time is looked at.
const WINDOW: u64 = 200_000;

/// Entries that are read before it is.
const LOOK: u64 = 256;

/// Why the index does not serve.
pub(super) enum Unindexed {
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

impl From<Trouble> for Unindexed {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Io(error) => error.into(),
            Trouble::Rebuild(_) => Self::Differs,
        }
    }
}

/// The entries of a query by which [`query`] finds it.
const OPENED_OR_ENDED: &str = "event IN ('query.opened', 'query.closed', 'query.refused', 'query.explained') AND query_id = ?";

/// A query by the index, and by the log itself what is not in it yet.
pub(super) fn query(view: &View, folder: &Path, id: &str, deadline: Instant) -> Result<Option<Query>, Unindexed> {
    let filter = Filter { query_id: Some(id.to_owned()), ..Filter::default() };
    let search = Search { filter, concerning: None, before: None, limit: 16, bytes: usize::MAX };
    let mut looking = Looking::new(&search, folder, deadline);
    let conditions = vec![(OPENED_OR_ENDED, Value::Text(id.to_owned()))];
    for row in view.last(conditions, (view.extent.first, view.extent.end), search.limit)? {
        looking.take(row)?;
    }
    let mut parts = Parts::of(id);
    for Found { number, entry, .. } in looking.found {
        if let Some(found) = parts.take(number.saturating_sub(1), &entry) {
            return Ok(Some(found));
        }
    }
    Ok(parts.read(folder, view.extent.end, deadline)?)
}

/// A search under way.
pub(super) struct Looking<'s> {
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
    pub(super) fn new(search: &'s Search, folder: &'s Path, deadline: Instant) -> Self {
        Self { search, log: Bundles::of(folder), tiles: Tiles::of(folder), found: VecDeque::new(), bytes: 0, cut: false, deadline }
    }

    pub(super) fn page(self, moved: u64, size: u64) -> Page {
        let full = self.is_full();
        let before = self.found.front().map(|first| first.number).filter(|first| full && first.saturating_sub(1) > moved);
        Page { entries: self.found.into_iter().rev().collect(), before, moved, size }
    }

    fn in_time(&self) -> Result<(), SearchError> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(SearchError::Deadline) }
    }

    /// By the index, and by the log itself what is not in it yet.
    pub(super) fn indexed(&mut self, view: &View, moved: u64, end: u64) -> Result<(), Unindexed> {
        self.read(view.extent.end.max(moved), end, Some(view))?;
        let first = view.extent.first.max(moved);
        let mut top = view.extent.end.min(end);
        while top > first && !self.is_full() {
            self.in_time()?;
            let bottom = top.saturating_sub(WINDOW).max(first);
            let wanted = self.search.limit.saturating_sub(self.found.len());
            let rows = view.last(self.search.conditions(), (bottom, top), wanted)?;
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
    pub(super) fn take(&mut self, row: Indexed) -> Result<(), Unindexed> {
        let Some(entry) = self.log.entry(row.position)? else {
            // It may have been moved meanwhile.
            return if archived(self.log.folder)? > row.position { Ok(()) } else { Err(Unindexed::Differs) };
        };
        // If the log itself was changed, the index is not to blame.
        let leaf = leaf_hash(&entry);
        is_leaf(&self.tiles, row.position, &leaf)?;
        let read = Facts::read(&entry);
        let same = Facts { asker: row.facts.asker.clone(), ..read.clone() } == row.facts && read.asker.is_within(&row.facts.asker);
        if leaf != row.leaf || !same || !self.search.takes(&row.facts) {
            return Err(Unindexed::Differs);
        }
        let found = Found { number: row.position.saturating_add(1), entry, facts: row.facts };
        self.bytes = self.bytes.saturating_add(found.bytes());
        self.found.push_front(found);
        Ok(())
    }

    /// Without the index.
    pub(super) fn read(&mut self, begin: u64, end: u64, view: Option<&View>) -> Result<(), SearchError> {
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
            is_leaf(&self.tiles, position, &leaf_hash(&entry))?;
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

/// Whether the tree was built over the entry with this hash there.
pub(super) fn is_leaf(tiles: &Tiles, position: u64, leaf: &Hash) -> io::Result<()> {
    if tiles.hashes(0, position, 1)?.first() == Some(leaf) {
        return Ok(());
    }
    Err(damaged(format!("entry {} is not what the tree was built over", position.saturating_add(1))))
}
