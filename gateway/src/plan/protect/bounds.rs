//! What bounds the work on totals: how long it takes, how many results are worked on at once, its memory, and that it ends when nobody
//! waits for it any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest that a result's further values are looked for. After it everything is withheld: a refusal would tell of it.
const LONGEST: Duration = Duration::from_secs(10);

/// As many results at once as there are cores.
static AT_ONCE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))));

/// The bounds of one result. Its memory is held as long as these are.
pub(super) struct Bounds {
    until: Instant,
    stopped: Arc<AtomicBool>,
    held: MemoryReservation,
    _turn: Option<OwnedSemaphorePermit>,
}

/// Somebody waits for the result, until this is dropped.
pub(super) struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Bounds {
    /// Those of a result whose turn it is: its time begins.
    pub(super) async fn begin(pool: &Arc<dyn MemoryPool>) -> Result<(Self, Waiting)> {
        let turn = Arc::clone(&AT_ONCE).acquire_owned().await.map_err(|e| internal_datafusion_err!("Protect gets no turn: {e}"))?;
        let (bounds, waiting) = Self::of(LONGEST, pool);
        Ok((Self { _turn: Some(turn), ..bounds }, waiting))
    }

    pub(super) fn of(longest: Duration, pool: &Arc<dyn MemoryPool>) -> (Self, Waiting) {
        let stopped = Arc::new(AtomicBool::new(false));
        let held = MemoryConsumer::new("totals").register(pool);
        let bounds = Self { until: Instant::now() + longest, stopped: Arc::clone(&stopped), held, _turn: None };
        (bounds, Waiting(stopped))
    }

    /// How much longer it may take: nothing where nobody waits for it.
    pub(super) fn left(&self) -> Duration {
        if self.stopped.load(Ordering::Relaxed) { Duration::ZERO } else { self.until.saturating_duration_since(Instant::now()) }
    }

    /// Takes so much of the query's memory.
    ///
    /// # Errors
    /// There is not as much.
    pub(super) fn reserve(&self, bytes: usize) -> Result<()> {
        self.held.try_grow(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    fn pool(bytes: usize) -> Arc<dyn MemoryPool> {
        Arc::new(GreedyMemoryPool::new(bytes))
    }

    #[test]
    fn no_time_is_left_after_the_longest_or_when_nobody_waits() {
        let (bounds, waiting) = Bounds::of(Duration::from_secs(60), &pool(0));
        assert!(bounds.left() > Duration::from_secs(30));
        drop(waiting);
        assert_eq!(bounds.left(), Duration::ZERO);
        let (bounds, _waiting) = Bounds::of(Duration::ZERO, &pool(0));
        assert_eq!(bounds.left(), Duration::ZERO);
    }

    #[test]
    fn memory_is_the_querys_and_given_back() {
        let pool = pool(100);
        let (bounds, _waiting) = Bounds::of(LONGEST, &pool);
        bounds.reserve(60).unwrap();
        assert!(bounds.reserve(60).is_err());
        assert_eq!(pool.reserved(), 60);
        drop(bounds);
        assert_eq!(pool.reserved(), 0);
    }

    #[tokio::test]
    async fn more_results_than_cores_wait_for_their_turn() {
        let pool = pool(0);
        let mut begun = Vec::new();
        let next = loop {
            let mut next = Box::pin(Bounds::begin(&pool));
            match futures::poll!(next.as_mut()) {
                Poll::Ready(bounds) => begun.push(bounds.unwrap()),
                Poll::Pending => break next,
            }
        };
        assert!(begun.len() <= available_parallelism().unwrap().get());
        begun.clear();
        assert!(next.await.is_ok());
    }
}
