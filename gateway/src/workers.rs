//! Threads of their own for planning and joining, so that heavy statements never keep the listener from answering: they give way to
//! its own. Their stacks are large: planners recurse, and a stack that overflows ends the process.

use std::io;
use std::sync::Arc;

use concordat_operate::priority::give_way;
use concordat_policy::Refusal;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

/// Bytes of a thread's stack. Address space, not memory: pages count once they are touched.
const STACK: usize = 32 << 20;

/// The threads.
#[derive(Debug)]
pub(crate) struct Workers {
    handle: Handle,
    /// `Some` until it is dropped.
    runtime: Option<Runtime>,
    /// One for each statement that is planned at a time. Planning cannot be stopped from outside, so a statement keeps its
    /// permit until its planning has ended, even when its caller was told long ago that it takes too long.
    planners: Arc<Semaphore>,
    /// One search for a permitted query at a time: it plans many, and leaves the other planners to those who ask.
    searches: Arc<Semaphore>,
}

impl Workers {
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_stack_size(STACK)
            .thread_name("query")
            .on_thread_start(give_way)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            planners: Arc::new(Semaphore::new(threads)),
            searches: Arc::new(Semaphore::new(1)),
        })
    }

    /// Runs a query's work; it is stopped when the returned future is dropped.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] when it panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
        AbortOnDropHandle::new(self.handle.spawn(work.in_current_span())).await.map_err(Refusal::internal)
    }

    /// Runs a search of plannings, one search at a time.
    ///
    /// # Errors
    /// As [`Workers::plan`].
    pub(crate) async fn search<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
        let turn = self.searches.clone().acquire_owned().await.map_err(Refusal::internal)?;
        self.plan(async move {
            let found = work.await;
            drop(turn);
            found
        })
        .await
    }

    /// Runs planning, which never waits for anything, on a thread that may block.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] when it panicked.
    pub(crate) async fn plan<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
        let permit = self.planners.clone().acquire_owned().await.map_err(Refusal::internal)?;
        let (handle, work) = (self.handle.clone(), work.in_current_span());
        let planned = self.handle.spawn_blocking(move || {
            let planned = handle.block_on(work);
            drop(permit);
            planned
        });
        planned.await.map_err(Refusal::internal)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
