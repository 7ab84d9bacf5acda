//! Entries as they come, on their way to a reader who may be slow or gone.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::table::{Trouble, View};
use super::{Found, Index, Search, SearchError};
use crate::facts::{Asked, Asker, Facts};
use crate::proved::Proved;

/// Entries that one step reads.
const STEP: usize = 4096;

/// Queries of which it is kept who asked.
const KEPT: usize = 10_000;

/// A reader hears at least so often that there is nothing new, so that one who is gone is noticed.
const STILL: Duration = Duration::from_secs(10);

/// Follows a log.
#[derive(Debug)]
pub struct Follow {
    index: Index,
    search: Search,
    next: u64,
    /// Up to which entry some that it was to begin with were moved to an archive.
    moved: u64,
    asked: Asked,
}

impl Follow {
    pub(super) fn new(index: Index, search: Search, number: u64) -> Self {
        Self { index, search, next: number, moved: 0, asked: Asked::default() }
    }

    /// The number of the last entry that was looked at.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.next
    }

    /// Up to which entry some that were asked for are left out, as they were moved to an archive; zero where none are.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
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
        let log = &self.index.log.shared;
        let (tree, view) = (log.proved(), self.index.view(log.moved()?));
        self.asked.forget(KEPT);
        for read in tree.read(self.next, |_| None)?.take(STEP) {
            let (position, entry) = read?;
            if position > self.next {
                self.moved = position;
            }
            if position >= size || found.len() >= self.search.limit || bytes >= self.search.bytes {
                break;
            }
            let before = |id: &str| view.as_ref().map_or(Ok(None), |view| self.index.asker(view, &tree, id, position));
            let facts = self.asked.complete_or(Facts::read(&entry), before)?;
            if self.search.takes(&facts) {
                let taken = Found { number: position.saturating_add(1), entry, facts };
                bytes = bytes.saturating_add(taken.bytes());
                found.push(taken);
            }
            self.next = position.saturating_add(1);
        }
        Ok(found)
    }

    /// Hands on what `told` makes of entries, of the number of the last one that was looked at, and of [`Follow::moved`]: at once, and then as
    /// entries come, until the reader is gone or `end` is ready. Counts the entries that were handed on in `count`.
    ///
    /// # Errors
    /// [`SearchError::Log`]: then nothing more comes.
    pub async fn hand_on<T>(
        mut self,
        to: &Sender<T>,
        told: impl Fn(Vec<Found>, u64, u64) -> T,
        end: impl Future<Output = ()>,
        count: &mut u64,
    ) -> Result<(), SearchError> {
        let (mut checkpoints, mut last) = (self.index.log.checkpoints(), None::<Instant>);
        tokio::pin!(end);
        loop {
            let stepped = tokio::task::spawn_blocking(move || {
                let found = self.step();
                (self, found)
            });
            let (follow, found) = stepped.await.map_err(|e| SearchError::Log(io::Error::other(e)))?;
            self = follow;
            let found = found?;
            if !found.is_empty() || last.is_none_or(|last| last.elapsed() >= STILL) {
                let some = found.len() as u64;
                let message = told(found, self.number(), self.moved());
                tokio::select! {
                    sent = to.send(message) => if sent.is_err() { return Ok(()) },
                    () = &mut end => return Ok(()),
                }
                *count = count.saturating_add(some);
                last = Some(Instant::now());
            }
            if self.is_behind() {
                // What does not wait must not go on without looking whether it is to end.
                if to.is_closed() {
                    return Ok(());
                }
                tokio::task::yield_now().await;
                continue;
            }
            let still = tokio::time::sleep_until(last.map_or_else(Instant::now, |last| last + STILL));
            tokio::select! {
                () = &mut end => return Ok(()),
                () = to.closed() => return Ok(()),
                () = still => {}
                changed = checkpoints.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
}

impl Index {
    /// Who asked a query, where an index that is none any more does not keep it from being told.
    fn asker(&self, view: &View, log: &Proved, id: &str, position: u64) -> Result<Option<Asker>, SearchError> {
        match view.asker(log, id, position) {
            Ok(asker) => Ok(asker),
            Err(Trouble::Io(error)) => Err(error.into()),
            Err(Trouble::Rebuild(_)) => {
                self.differs(view.extent.first);
                Ok(None)
            }
        }
    }
}
