//! What has to be done now and then, and before the gateway ends: counted refusals are recorded, lapsed answers dropped, the log is
//! told what was replaced of the estate, agreements are carried between departments, and lists of whose choices reach other
//! departments' data are brought up to date ahead of need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use crate::Gateway;

/// How often.
const PERIOD: Duration = Duration::from_secs(5);
/// How often departments are asked for agreements that they offer to others.
const ROUND: Duration = Duration::from_secs(10);
/// How long queries may take to close their entries when the gateway ends.
const ENDING: Duration = Duration::from_secs(5);
/// How long a quorum may take to cosign the last checkpoint, and how often it is looked whether it has.
const COSIGNED: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);
/// How long nodes may take to take orders back.
const TAKEN_BACK: Duration = Duration::from_secs(1);

impl Gateway {
    /// Tends the gateway as long as the returned handle is kept.
    pub(crate) fn tend(self: &Arc<Self>) -> AbortOnDropHandle<()> {
        let gateway = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PERIOD);
            loop {
                ticks.tick().await;
                gateway.detached.sweep(Instant::now());
                gateway.planned.forget();
                gateway.tell_log();
                gateway.refresh_lists();
                gateway.record_counted();
            }
        }))
    }

    /// Has refusals that were only counted recorded. While the log cannot be written, they are counted on.
    fn record_counted(self: &Arc<Self>) {
        let gateway = self.clone();
        self.entries.spawn(async move {
            if let Err(e) = gateway.limits.refusals.record(&gateway.log, Instant::now(), false).await {
                tracing::error!(cause = %e, "counted refusals are not in the access log yet");
            }
        });
    }

    /// Has the lists of those whose choices reach other departments' data brought up to date.
    fn refresh_lists(self: &Arc<Self>) {
        let gateway = self.clone();
        tokio::spawn(async move {
            let estate = gateway.estate.now();
            gateway.fetcher.refresh_lists(&estate.agreements, &estate.signatures).await;
        });
    }

    /// Carries agreements between departments as long as the returned handle is kept.
    pub(crate) fn carry(self: &Arc<Self>) -> AbortOnDropHandle<()> {
        let gateway = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + ROUND, ROUND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                gateway.courier.round(&gateway.fetcher.nodes, &gateway.estate.now(), &gateway.log).await;
            }
        }))
    }

    /// Has the log told what was replaced of the estate. Until it is, nothing is opened.
    pub(crate) fn tell_log(self: &Arc<Self>) {
        let gateway = self.clone();
        self.entries.spawn(async move {
            if let Err(e) = gateway.estate.replaced.write(&gateway.log).await {
                tracing::error!(cause = %e, "what was replaced of the estate is not in the access log yet");
            }
        });
    }

    /// Ends what still runs, waits until every entry is closed, and records what was only counted. The listener must have stopped,
    /// the tending too.
    pub(crate) async fn drain(&self) {
        self.ending.cancel();
        self.detached.end(ENDING).await;
        self.entries.close();
        if tokio::time::timeout(ENDING, self.entries.wait()).await.is_err() {
            tracing::error!(entries = self.entries.len(), "entries of the access log could not be closed in time");
        }
        // What nodes do not take now lapses there by itself.
        self.fetcher.nodes.gave_back(TAKEN_BACK).await;
        if let Err(e) = self.limits.refusals.record(&self.log, Instant::now(), true).await {
            tracing::error!(cause = %e, "counted refusals could not be recorded");
        }
    }

    /// Has the last entries covered by a checkpoint, and waits for a quorum that has cosigned others to cosign it too. The log must be
    /// witnessed still.
    pub(crate) async fn settle(&self) {
        let log = self.log.clone();
        if !matches!(tokio::task::spawn_blocking(move || log.settle(ENDING)).await, Ok(true)) {
            tracing::error!("the last entries of the access log are under no checkpoint until the gateway starts again");
        }
        let until = Instant::now() + COSIGNED;
        while self.witnessed.is_awaited() && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        self.keep_witnessed().await;
    }
}
