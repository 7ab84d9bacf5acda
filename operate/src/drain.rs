//! Stopping: no new connections, running calls may end, then what is left is cut.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How long calls may take to end by themselves, and then connections to notice that they were cut.
const NOTICE: Duration = Duration::from_secs(1);

/// How often running calls are counted while they are to end.
const MOMENT: Duration = Duration::from_millis(10);

/// How long a client may take to close a connection on which nothing runs.
const IDLE: Duration = Duration::from_millis(500);

/// When a server stops, and how long its calls may go on then.
pub struct Stop(Pin<Box<dyn Future<Output = Option<Duration>> + Send>>);

impl Stop {
    /// On SIGTERM or Ctrl-C, with the time that the configuration gives.
    #[must_use]
    pub fn on_signals() -> Self {
        Self(Box::pin(async {
            signalled().await;
            None
        }))
    }

    /// When `asked` is ready.
    #[must_use]
    pub fn when(asked: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(async {
            asked.await;
            None
        }))
    }

    /// The same, but not before `last` is done: until then calls are served as before.
    #[must_use]
    pub fn after(self, last: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(async move {
            let time = self.0.await;
            last.await;
            time
        }))
    }

    /// Also when `asked` is ready, and then with no more time than `most`.
    #[must_use]
    pub fn or_when(self, asked: impl Future<Output = ()> + Send + 'static, most: Duration) -> Self {
        Self(Box::pin(async move {
            tokio::select! {
                time = self.0 => time,
                () = asked => Some(most),
            }
        }))
    }
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        },
        Err(_) => drop(interrupted.await),
    }
}

/// Whether a server's drain has begun. Of what is in no server it never does.
#[derive(Debug, Clone, Default)]
pub struct Stopping(pub(crate) CancellationToken);

impl Stopping {
    /// Waits until it has.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }
}

/// Where a server stands.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// No new connection is taken any more.
    pub stopping: CancellationToken,
    /// The time is over: calls that are left are to end by themselves, at once.
    pub ending: CancellationToken,
    /// Connections that are left are closed.
    pub cut: CancellationToken,
}

impl Drain {
    /// Serves until `stop`, then drains for `time` or less.
    pub(crate) async fn run<E>(
        &self,
        serving: impl Future<Output = Result<(), E>>,
        stop: Stop,
        time: Duration,
        metrics: &Metrics,
        stopping: impl FnOnce(),
    ) -> Result<(), E> {
        tokio::pin!(serving);
        let most = tokio::select! {
            ended = &mut serving => return ended,
            most = stop.0 => most,
        };
        let time = most.map_or(time, |most| most.min(time));
        stopping();
        tracing::info!(calls = metrics.calls_running(), seconds = time.as_secs(), "draining");
        self.stopping.cancel();
        tokio::select! {
            ended = &mut serving => {
                tracing::info!("drained");
                return ended;
            }
            // A client that does not answer while nothing of its runs must not hold the process.
            () = idle(metrics) => tracing::info!("drained; idle connections are closed"),
            () = tokio::time::sleep(time) => {
                tracing::warn!(calls = metrics.calls_running(), "calls were still running when the drain ended, and are cut");
                self.ending.cancel();
                let _ = tokio::time::timeout(NOTICE, ended(metrics)).await;
            }
        }
        self.cut.cancel();
        tokio::time::timeout(NOTICE, serving).await.unwrap_or(Ok(()))
    }
}

/// Ready when no call is running.
async fn ended(metrics: &Metrics) {
    while metrics.calls_running() > 0 {
        tokio::time::sleep(MOMENT).await;
    }
}

/// Ready when no call has been running for a moment.
async fn idle(metrics: &Metrics) {
    loop {
        tokio::time::sleep(IDLE).await;
        if metrics.calls_running() == 0 {
            return;
        }
    }
}
