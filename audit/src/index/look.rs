//! One search: by the index as far as it goes, else through the log.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use rusqlite::types::Value;

use super::indexed::Indexed;
use super::table::{Trouble, View};
use super::{Found, Page, Search, SearchError};
use crate::facts::{Asked, Facts};
use crate::filter::Filter;
use crate::integrate::Shared;
use crate::proved::Proved;
use crate::query::{Parts, Query};
use crate::tile::damaged;
use crate::tree::leaf_hash;

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

impl From<Unindexed> for SearchError {
    fn from(unindexed: Unindexed) -> Self {
        match unindexed {
            Unindexed::Search(error) => error,
            Unindexed::Differs => Self::Log(damaged("the index of the log is not what the log says".into())),
        }
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
pub(super) fn query(view: &View, log: &Shared, id: &str, deadline: Instant) -> Result<Option<Query>, Unindexed> {
    let filter = Filter { query_id: Some(id.to_owned()), ..Filter::default() };
    let search = Search { filter, concerning: None, before: None, limit: 16, bytes: usize::MAX };
    let mut looking = Looking::new(&search, log.proved(), deadline);
    let conditions = vec![(OPENED_OR_ENDED, Value::Text(id.to_owned()))];
    for row in view.last(conditions, (view.extent.first, view.extent.end), search.limit)? {
        looking.take(row, view)?;
    }
    let mut parts = Parts::of(id);
    for Found { number, entry, .. } in looking.found {
        if let Some(found) = parts.take(number.saturating_sub(1), &entry) {
            return Ok(Some(found));
        }
    }
    Ok(parts.read(log, view.extent.end, deadline)?)
}

/// A search under way.
pub(super) struct Looking<'s> {
    search: &'s Search,
    log: Proved,
    /// The last ones, in the log's order.
    found: VecDeque<Found>,
    bytes: usize,
    /// Earlier ones were found and left out.
    cut: bool,
    deadline: Instant,
}

impl<'s> Looking<'s> {
    pub(super) fn new(search: &'s Search, log: Proved, deadline: Instant) -> Self {
        Self { search, log, found: VecDeque::new(), bytes: 0, cut: false, deadline }
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
    pub(super) fn indexed(&mut self, view: &View, end: u64) -> Result<(), Unindexed> {
        self.read(view.extent.end, end, Some(view))?;
        let mut top = view.extent.end.min(end);
        while top > view.extent.first && !self.is_full() {
            self.in_time()?;
            let bottom = top.saturating_sub(WINDOW).max(view.extent.first);
            let wanted = self.search.limit.saturating_sub(self.found.len());
            let rows = view.last(self.search.conditions(), (bottom, top), wanted)?;
            top = bottom;
            for row in rows {
                if self.is_full() {
                    break;
                }
                self.in_time()?;
                self.take(row, view)?;
            }
        }
        Ok(())
    }

    /// The entry of a row, if it is what the row says, and who asked is who the entry says that opened the query.
    pub(super) fn take(&mut self, row: Indexed, view: &View) -> Result<(), Unindexed> {
        // If the log itself was changed, the index is not to blame.
        let entry = self.log.entry(row.position)?.ok_or(Unindexed::Differs)?;
        let read = Facts::read(&entry);
        let asker = match read.query_id.as_deref().filter(|_| read.ends()) {
            Some(query_id) => view.asker(&self.log, query_id, row.position)?,
            None => None,
        };
        let facts = read.asked_by(asker.as_ref());
        if leaf_hash(&entry) != row.leaf || facts != row.facts || !self.search.takes(&facts) {
            return Err(Unindexed::Differs);
        }
        let found = Found { number: row.position.saturating_add(1), entry, facts };
        self.bytes = self.bytes.saturating_add(found.bytes());
        self.found.push_front(found);
        Ok(())
    }

    /// Without the index.
    pub(super) fn read(&mut self, begin: u64, end: u64, view: Option<&View>) -> Result<(), Unindexed> {
        if begin >= end {
            return Ok(());
        }
        let mut asked = Asked::default();
        for read in self.log.read(begin, |_| None)? {
            let (position, entry) = read?;
            if position.is_multiple_of(LOOK) {
                self.in_time()?;
            }
            if position >= end {
                break;
            }
            let facts = Facts::read(&entry);
            let facts = match view {
                Some(view) => asked.complete_or(facts, |query_id| view.asker(&self.log, query_id, view.extent.end))?,
                None => asked.complete(facts),
            };
            if !self.search.takes(&facts) {
                continue;
            }
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
