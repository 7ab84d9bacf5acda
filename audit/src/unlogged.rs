//! Entries of things that happen where nobody can wait for the log.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Entry, Log, LogError};

/// Entries that are still to be written, in order. What rests on what they tell calls [`Unlogged::write`] first.
#[derive(Debug, Default)]
pub struct Unlogged {
    entries: Mutex<VecDeque<Entry>>,
    turn: tokio::sync::Mutex<()>,
}

impl Unlogged {
    /// Adds entries.
    pub fn add(&self, entries: impl IntoIterator<Item = Entry>) {
        self.entries().extend(entries);
    }

    /// Returns once all of them are durable. Where a caller leaves meanwhile, one may be written twice.
    ///
    /// # Errors
    /// [`LogError`]; what is not written yet stays.
    pub async fn write(&self, log: &Log) -> Result<(), LogError> {
        if self.entries().is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        loop {
            let first = self.entries().front().cloned();
            let Some(entry) = first else { return Ok(()) };
            log.append(entry).await?;
            self.entries().pop_front();
        }
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_is_written_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), "concordat/test/node").unwrap();
        let unlogged = Unlogged::default();
        unlogged.write(&log).await.unwrap();
        unlogged.add([Entry::new("a"), Entry::new("b")]);
        let (one, other) = tokio::join!(unlogged.write(&log), unlogged.write(&log));
        one.and(other).unwrap();
        unlogged.write(&log).await.unwrap();
        let entries = crate::read(folder.path(), 0).unwrap().map(|entry| entry.unwrap().1);
        let events = entries.map(|entry| serde_json::from_slice::<serde_json::Value>(&entry).unwrap()["event"].clone());
        assert_eq!(events.collect::<Vec<_>>(), ["a", "b"]);
    }
}
