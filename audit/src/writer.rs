//! The writer: one thread per log that takes waiting entries together, writes them, syncs once and then acknowledges each. Before any of
//! them, who they are about is durable in the store of persons.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::Entry;
use crate::integrate::Shared;
use crate::log::{LogError, QUEUE};
use crate::persons::{Store, Untold};
use crate::recover::fits;
use crate::salt::Salts;
use crate::stood::Stood;
use crate::tail::Tail;
use crate::tile::MAX_ENTRY;
use crate::tree::{Hash, WIDTH, leaf_hash};

/// How often it is looked whether something was left for the log to tell.
const LOOK: Duration = Duration::from_secs(1);

/// An entry and who waits for it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) entry: Entry,
    pub(crate) done: oneshot::Sender<Result<u64, LogError>>,
}

/// The thread's state.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// `None` after a failure that could not be undone, until reopening works.
    tail: Option<Tail>,
    persons: Store,
    salts: Salts,
    /// The number of the last entry that was acknowledged, and its leaf hash.
    last: (u64, Hash),
    /// What was found when the log was opened, until it has told it.
    found: Option<Entry>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Writer {
    /// `last` is the leaf hash of the tail's last entry.
    pub(crate) fn new(shared: Arc<Shared>, tail: Tail, persons: Store, (salts, last): (Salts, Hash), found: Option<Entry>) -> Self {
        Self { shared, salts, last: (tail.last(), last), tail: Some(tail), persons, found }
    }

    pub(crate) fn run(mut self, waiting: &Receiver<Waiting>) {
        loop {
            self.tell();
            let first = match waiting.recv_timeout(LOOK) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.shared.keep_pace();
            self.write(std::iter::once(first).chain(waiting.try_iter().take(QUEUE)).collect());
            self.forget();
        }
    }

    fn write(&mut self, group: Vec<Waiting>) {
        let mut group = Some(group);
        while let Some(some) = group.take() {
            group = self.commit(some);
        }
    }

    /// Writes a group with one sync and tells each waiter. Returns those for whom it makes sense to try again.
    fn commit(&mut self, group: Vec<Waiting>) -> Option<Vec<Waiting>> {
        let (mut entries, mut accepted) = (Vec::new(), Vec::new());
        let unkept = self.keep(&group).err();
        let (mut number, mut leaf) = self.last;
        for waiting in group {
            let refusal = match self.admits(&waiting.entry, unkept.as_ref()) {
                Ok(()) => match self.bytes(number.saturating_add(1), &leaf, &waiting.entry) {
                    Ok(bytes) => {
                        (number, leaf) = (number.saturating_add(1), leaf_hash(&bytes));
                        entries.push(bytes);
                        accepted.push(waiting);
                        continue;
                    }
                    Err(refusal) => refusal,
                },
                Err(refusal) => refusal,
            };
            drop(waiting.done.send(Err(refusal)));
        }
        if entries.is_empty() {
            return None;
        }
        let health = &self.shared.health;
        match append(&mut self.tail, &self.shared, self.last.0, &entries) {
            Ok(()) => {
                health.writing.store(false, Ordering::Relaxed);
                self.shared.add(entries);
                let first = self.last.0.saturating_add(1);
                self.last = (number, leaf);
                (first..).zip(accepted).for_each(|(number, Waiting { done, .. })| drop(done.send(Ok(number))));
                None
            }
            Err(error) => {
                health.failed(&health.writing);
                if self.shared.reserve.give_back(&error) {
                    return Some(accepted);
                }
                let error = LogError::Write(Arc::new(error));
                accepted.into_iter().for_each(|waiting| drop(waiting.done.send(Err(error.clone()))));
                None
            }
        }
    }

    /// Whether an entry is taken now. What closes something is, as long as it can be written at all and is about nobody who is not kept;
    /// nothing else is while persons cannot be.
    fn admits(&self, entry: &Entry, unkept: Option<&LogError>) -> Result<(), LogError> {
        let held = self.shared.reserve.hold();
        let is_kept = entry.person.as_ref().is_none_or(|person| self.persons.commitments(person).is_some());
        match unkept {
            _ if entry.closes && is_kept => Ok(()),
            _ if !held => Err(LogError::Full),
            _ if self.shared.is_behind() => Err(LogError::Behind),
            Some(unkept) => Err(unkept.clone()),
            None => Ok(()),
        }
    }

    /// Keeps who entries are about, unless there is no room for anything new. After a failure, all entries wait until it works again.
    fn keep(&mut self, group: &[Waiting]) -> Result<(), LogError> {
        if !self.shared.reserve.hold() {
            return Ok(());
        }
        let failing = &self.shared.health.persons;
        let probed = if failing.load(Ordering::Relaxed) { self.persons.probe() } else { Ok(()) };
        let people = group.iter().filter_map(|waiting| waiting.entry.person.as_ref());
        match probed.and_then(|()| self.persons.admit(people, Utc::now())) {
            Ok(()) => {
                failing.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.shared.health.failed(failing);
                Err(LogError::Write(Arc::new(error)))
            }
        }
    }

    /// Writes what the log has to tell of itself, and what others left for it to tell; of the latter, what cannot be written now is told
    /// later, and once more where it cannot be let go of.
    fn tell(&mut self) {
        self.tell_found();
        let own = self.shared.own();
        if !own.is_empty() {
            self.write(own);
        }
        let Ok(untold) = self.persons.untold().inspect_err(|_| self.shared.health.failed(&self.shared.health.persons)) else { return };
        for one in untold {
            let (Untold::Left(_, entry) | Untold::Edited(entry)) = &one;
            if self.told(entry) && self.persons.told(&one).is_err() {
                self.shared.health.failed(&self.shared.health.persons);
                return;
            }
        }
    }

    /// Tells what was found when the log was opened, and has it remembered from then on.
    fn tell_found(&mut self) {
        let has_begun = self.shared.stood.as_ref().is_none_or(Stood::has_begun);
        if has_begun || self.found.clone().is_some_and(|entry| !self.told(&entry)) {
            return;
        }
        self.found = None;
        self.shared.stood.iter().for_each(Stood::begin);
    }

    /// Writes one entry; whether it is durable.
    fn told(&mut self, entry: &Entry) -> bool {
        let (done, mut result) = oneshot::channel();
        self.write(vec![Waiting { entry: entry.clone(), done }]);
        matches!(result.try_recv(), Ok(Ok(_)))
    }

    /// The entry as it is kept, after the one with this leaf hash.
    fn bytes(&self, number: u64, previous: &Hash, entry: &Entry) -> Result<Vec<u8>, LogError> {
        let failed = |e: String| LogError::Write(Arc::new(io::Error::other(e)));
        let mut object = entry.fields.clone();
        if let Some(person) = &entry.person {
            let (person, token) = self.persons.commitments(person).ok_or_else(|| failed("the person is not kept".into()))?;
            object.insert("person".into(), person.into());
            object.extend(token.map(|token| ("token".to_owned(), token.into())));
        }
        object.insert("entry".into(), number.into());
        object.insert("time".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).into());
        object.insert("event".into(), entry.event.into());
        let bytes = serde_json::to_vec(&Value::Object(object)).map_err(|e| failed(e.to_string()))?;
        let bytes = self.salts.salted(number, previous, &bytes);
        if bytes.len() <= MAX_ENTRY { Ok(bytes) } else { Err(LogError::TooLong) }
    }

    /// Lets the tail go of what full bundles hold under a checkpoint.
    fn forget(&mut self) {
        let size = self.shared.size();
        let Some(mut tail) = self.tail.take() else { return };
        let covered = size - size % WIDTH;
        // After a failure it is opened anew.
        if covered < tail.first() || tail.forget(covered).is_ok() {
            self.tail = Some(tail);
        }
    }
}

/// Appends to the tail; tries to reopen it where an earlier failure closed it.
fn append(tail: &mut Option<Tail>, shared: &Shared, last: u64, entries: &[Vec<u8>]) -> io::Result<()> {
    let mut open = match tail.take() {
        Some(open) => open,
        None => {
            let tree = shared.proved();
            let (mut open, kept) = Tail::open(&shared.disk, tree.size(), Some(last))?;
            fits(&tree, &open, &kept, |number| shared.leaf(number))?;
            open.mend()?;
            open
        }
    };
    // Else it is opened anew, and read, when the next entries come.
    open.is_as_it_was_left()?;
    let appended = open.append(entries);
    if appended.is_ok() || open.cut_back().is_ok() {
        *tail = Some(open);
    }
    appended
}
