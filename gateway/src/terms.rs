//! On which terms a statement is answered: how long it may wait for a place, how long it may take, and what stops it.

use std::time::{Duration, Instant};

use concordat_policy::{Code, Refusal};
use tokio_util::sync::CancellationToken;

use crate::Gateway;
use crate::authenticate::Caller;
use crate::limits::{Allowance, Key, Limits, Patience};
use crate::record::Intent;

/// The terms.
pub(crate) struct Terms {
    pub(crate) intent: Intent,
    /// The id of the detached query, for the log.
    pub(crate) detached: Option<String>,
    patience: Patience,
    time: Duration,
    /// Until when, where waiting counts too.
    until: Option<Instant>,
    cancelled: CancellationToken,
    /// Told once it has its place.
    begins: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Terms {
    /// Of a caller who waits for the answer.
    pub(crate) fn of_caller_who_waits(gateway: &Gateway, cancelled: CancellationToken) -> Self {
        Self {
            intent: Intent::Answer,
            detached: None,
            patience: Patience::Short,
            time: gateway.limits.settings.deadline(),
            until: None,
            cancelled,
            begins: None,
        }
    }

    /// Of a detached query: `time` for waiting and working together.
    pub(crate) fn of_detached(id: String, time: Duration, cancelled: CancellationToken, begins: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            intent: Intent::AnswerDetached,
            detached: Some(id),
            patience: Patience::Long(time),
            time,
            until: Some(Instant::now() + time),
            cancelled,
            begins: Some(begins),
        }
    }

    /// Waits for a place.
    pub(crate) async fn admit(&self, limits: &Limits, caller: &Caller) -> Result<Allowance, Refusal> {
        let key = Key::of(caller);
        let allowance = tokio::select! {
            allowance = limits.admit(&key, self.patience) => allowance?,
            () = self.cancelled.cancelled() => return Err(cancelled()),
        };
        if let Some(begins) = &self.begins {
            begins();
        }
        Ok(allowance)
    }

    /// What stops planning and execution, from now on.
    pub(crate) fn stop(&self) -> Stop {
        Stop { until: self.until.unwrap_or_else(|| Instant::now() + self.time), time: self.time, cancelled: self.cancelled.clone() }
    }
}

/// Stops work at a time, or when it is cancelled.
pub(crate) struct Stop {
    until: Instant,
    time: Duration,
    cancelled: CancellationToken,
}

impl Stop {
    /// Does the work unless something stops it.
    ///
    /// # Errors
    /// The work's own; [`Code::LimitExceeded`] beyond the deadline.
    pub(crate) async fn unless<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        tokio::select! {
            done = work => done,
            () = tokio::time::sleep_until(self.until.into()) => Err(self.late()),
            () = self.cancelled.cancelled() => Err(cancelled()),
        }
    }

    /// Whether its time is over.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    fn late(&self) -> Refusal {
        Refusal::new(
            Code::LimitExceeded,
            format!("the query took longer than {} s, the gateway's limit, and was stopped", self.time.as_secs()),
        )
        .advice("narrow it, or let it run on with `concordat query --detach`")
    }
}

fn cancelled() -> Refusal {
    Refusal::new(Code::Cancelled, "the query was cancelled, or its caller left before the answer began")
}
