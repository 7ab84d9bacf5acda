//! Entries as they come, on their way to a reader who may be slow or gone.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::{Follow, Found, SearchError};

/// A reader hears at least so often that there is nothing new, so that one who is gone is noticed.
const STILL: Duration = Duration::from_secs(10);

impl Follow {
    /// Hands on what `told` makes of entries and of the number of the last one that was looked at: at once, and then as entries come, until
    /// the reader is gone or `end` is ready. Counts the entries that were handed on in `count`.
    ///
    /// # Errors
    /// [`SearchError::Log`]: then nothing more comes.
    pub async fn hand_on<T>(
        mut self,
        to: &Sender<T>,
        told: impl Fn(Vec<Found>, u64) -> T,
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
                let message = told(found, self.number());
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
