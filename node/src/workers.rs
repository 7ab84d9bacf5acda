//! Threads of their own for releases. They give way to the rest of the node, so that reading, sorting and encoding what is released never
//! keeps somebody's withdrawal from being recorded: orders, the ledger, the log and TLS stay on the threads of the server.

use std::io;

use concordat_operate::priority::give_way;
use concordat_policy::Refusal;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument as _;

/// The threads.
#[derive(Debug)]
pub(crate) struct Workers {
    handle: Handle,
    /// `Some` until it is dropped.
    runtime: Option<Runtime>,
}

impl Workers {
    /// Starts so many threads; work that blocks has others, which give way too.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(threads).thread_name("release").on_thread_start(give_way).enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs work to its end; it is stopped when the returned future is dropped.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] when it panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
        let mut running = JoinSet::new();
        running.spawn_on(work.in_current_span(), &self.handle);
        let done = running.join_next().await.ok_or_else(|| Refusal::internal("work without an end"))?;
        done.map_err(Refusal::internal)
    }

    /// Starts work that goes on by itself, until it is aborted.
    pub(crate) fn start(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(work).abort_handle()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Streams of one scan, and threads for them: the processors, up to four.
pub(crate) fn streams() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(4))
}

#[cfg(test)]
mod tests {
    use concordat_operate::priority::{NICE, of_thread};

    use super::*;
    use crate::release::blocking;

    #[tokio::test]
    async fn what_releases_gives_way_to_what_records_wherever_it_runs() {
        let (own, workers) = (of_thread(), Workers::new(1).unwrap());
        let of_work = workers.run(async { (of_thread(), blocking(|| Ok(of_thread())).await.unwrap()) }).await.unwrap();
        let lowered = own.map(|own| own.max(NICE));
        assert_eq!(of_work, (lowered, lowered));
        assert_eq!((of_thread(), blocking(|| Ok(of_thread())).await.unwrap()), (own, own), "the server's threads stay as they were");
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_is_stopped_and_a_panic_is_a_refusal() {
        let workers = Workers::new(1).unwrap();
        let (held, released) = tokio::sync::oneshot::channel::<()>();
        let waiting = workers.run(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), waiting).await.is_err());
        assert!(released.await.is_err(), "what the work held is gone");
        let panicked = workers.run(async { std::hint::black_box(None::<u8>).unwrap() }).await;
        assert_eq!(panicked.unwrap_err().code, concordat_policy::Code::Internal);
    }
}
