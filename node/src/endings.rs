//! Entries that close what ended while nobody could wait for the log: a stream whose reader left, a release whose tickets lapsed.
//!
//! ```text
//! dropped ─▶ kept here ─▶ written by a task of its own        (again with what the node notices, five times a second)
//!                 └─ before the next release, and before the node ends
//! ```
//! While one of them cannot be written, nothing new is released.

use std::sync::Arc;
use std::time::Duration;

use concordat_audit::{Entry, Log, LogError, Unlogged};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How a release, or one partition of it, ended without its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The gateway left, or its connection was lost.
    Dropped,
    /// It could not be read to its end.
    Failed,
    /// The agreement was suspended, or binds no longer.
    Cut,
    /// Its tickets were not redeemed in time.
    Deadline,
    /// The gateway gave the order back.
    GivenBack,
    /// The node stops.
    Stopped,
}

impl Ended {
    /// As the log has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Cut => "cut",
            Self::Deadline => "deadline",
            Self::GivenBack => "given_back",
            Self::Stopped => "stopped",
        }
    }
}

/// The entries, and who may still add some.
#[derive(Debug)]
pub(crate) struct Endings {
    entries: Arc<Unlogged>,
    log: Log,
    open: TaskTracker,
    stopping: CancellationToken,
}

impl Endings {
    pub(crate) fn new(log: Log) -> Self {
        Self { entries: Arc::default(), log, open: TaskTracker::new(), stopping: CancellationToken::new() }
    }

    /// Adds an entry and has it written. Never waits.
    pub(crate) fn add(&self, entry: Entry) {
        self.entries.add([entry]);
        if Handle::try_current().is_ok() {
            drop(self.writing());
        }
    }

    /// Returns once every entry is durable, whether or not its caller waits for that.
    ///
    /// # Errors
    /// [`LogError`]; what is not written yet stays.
    pub(crate) async fn write(&self) -> Result<(), LogError> {
        self.writing().await.unwrap_or(Err(LogError::Closed))
    }

    fn writing(&self) -> JoinHandle<Result<(), LogError>> {
        let (entries, log) = (Arc::clone(&self.entries), self.log.clone());
        self.spawn(async move {
            let written = entries.write(&log).await;
            if let Err(e) = &written {
                tracing::error!(cause = %e, "what closes a release is not in the access log yet; nothing is released until it is");
            }
            written
        })
    }

    /// Runs work that must come to its end although its caller leaves. The node waits for it before it ends.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.open.spawn(work)
    }

    /// For who will add an entry: the node does not end while the token is held.
    pub(crate) fn token(&self) -> TaskTrackerToken {
        self.open.token()
    }

    /// Cancelled when what still runs is to be cut, because the node stops.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Waits until everybody has added their entries and all of them are written, for `time` at most.
    pub(crate) async fn drain(&self, time: Duration) {
        self.open.close();
        if tokio::time::timeout(time, self.open.wait()).await.is_err() {
            tracing::error!(releases = self.open.len(), "releases could not be closed in time");
        }
        // Reports its own failure.
        let _ = self.write().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes(folder: &std::path::Path) -> Vec<String> {
        let entries = concordat_audit::read(folder, 0).unwrap().map(|entry| entry.unwrap().1);
        let entries = entries.map(|entry| serde_json::from_slice::<serde_json::Value>(&entry).unwrap());
        entries.map(|entry| entry["cause"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn what_is_dropped_is_written_once_and_the_node_waits_for_who_still_reads() {
        let folder = tempfile::tempdir().unwrap();
        let endings = Arc::new(Endings::new(Log::open(folder.path(), "concordat/test/node").unwrap()));
        let entry = |how: Ended| Entry::new("release.abandoned").field("cause", how.as_str());
        endings.add(entry(Ended::Dropped));
        endings.write().await.unwrap();
        assert_eq!(causes(folder.path()), ["dropped"]);
        // A reader that is dropped while the node stops.
        let (token, late) = (endings.token(), Arc::clone(&endings));
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            late.add(entry(Ended::Stopped));
            drop(token);
        });
        endings.drain(Duration::from_secs(20)).await;
        assert_eq!(causes(folder.path()), ["dropped", "stopped"]);
        // Without a runtime it is kept for who writes next.
        let (outside, added) = (Arc::clone(&endings), entry(Ended::Failed));
        std::thread::spawn(move || outside.add(added)).join().unwrap();
        endings.write().await.unwrap();
        assert_eq!(causes(folder.path()), ["dropped", "stopped", "failed"]);
    }
}
