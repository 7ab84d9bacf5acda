//! A department that does not answer is not hammered, and slows nobody: after a failure its calls are refused at once, with the
//! last cause, for a short time that doubles with each further failure; then one call is let through to try.
//!
//! ```text
//! up ──failure──▶ refused until T ──▶ one call tries ──answer──▶ up
//!                       ▲                    │
//!                       └──── 2 × longer ────┘ failure
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use concordat_policy::{Code, Refusal};

/// How long calls are refused after the first failure, at most.
const FIRST: Duration = Duration::from_millis(100);
/// How long they are refused at most after many.
const LONGEST: Duration = Duration::from_secs(15);

/// How one department's node stands.
#[derive(Debug, Default)]
pub(super) struct Recovery(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// The last cause, and until when calls are refused for it.
    down: Option<(Refusal, Instant)>,
    trying: bool,
}

/// A call that may be made. Dropped before it ended (its caller left), it tells nothing.
#[derive(Debug)]
pub(super) struct Attempt<'r> {
    recovery: &'r Recovery,
    tries: bool,
}

impl Recovery {
    /// Whether a call may be made now.
    ///
    /// # Errors
    /// The cause of the last failure, when not.
    pub(super) fn begin(&self, now: Instant) -> Result<Attempt<'_>, Refusal> {
        let mut state = self.state();
        refused(&state, now)?;
        let tries = state.down.is_some();
        state.trying |= tries;
        Ok(Attempt { recovery: self, tries })
    }

    /// Whether [`Recovery::begin`] would refuse.
    ///
    /// # Errors
    /// As [`Recovery::begin`].
    pub(super) fn refused(&self, now: Instant) -> Result<(), Refusal> {
        refused(&self.state(), now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(state: &State, now: Instant) -> Result<(), Refusal> {
    match &state.down {
        Some((cause, until)) if state.trying || now < *until => {
            let wait = until.saturating_duration_since(now).as_secs() + 1;
            let mut cause = cause.clone();
            cause.advice = Some(format!("it is tried again within {wait} s; `concordat departments` shows which nodes answer"));
            cause.operator =
                Some(format!("not asked: it failed {} time(s); {}", state.failures, cause.operator.as_deref().unwrap_or_default()));
            Err(cause)
        }
        _ => Ok(()),
    }
}

impl Attempt<'_> {
    /// How the call ended, `now`. `jitter` is any number.
    pub(super) fn ended<T>(self, outcome: &Result<T, Refusal>, now: Instant, jitter: u32) {
        let mut state = self.recovery.state();
        match outcome {
            Err(cause) if matches!(cause.code, Code::NodeUnavailable | Code::NodeTimeout) => {
                // Calls that failed together count once.
                if self.tries || state.down.as_ref().is_none_or(|(_, until)| now >= *until) {
                    state.failures = state.failures.saturating_add(1);
                    state.down = Some((cause.clone(), now + pause(state.failures, jitter)));
                }
            }
            _ => (state.failures, state.down) = (0, None),
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.tries {
            self.recovery.state().trying = false;
        }
    }
}

/// Between half of the doubled time and all of it, so that many gateways do not try at the same moment.
fn pause(failures: u32, jitter: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    whole / 2 + (whole / 2) * (jitter % 1_000) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone<T>() -> Result<T, Refusal> {
        Err(Refusal::new(Code::NodeUnavailable, "department 'dfe' cannot be reached").department("dfe").operator("no route"))
    }

    fn fail(recovery: &Recovery, now: Instant) {
        recovery.begin(now).unwrap().ended(&gone::<()>(), now, 999);
    }

    #[test]
    fn after_a_failure_calls_are_refused_for_the_last_cause_and_one_tries() {
        let (recovery, start) = (Recovery::default(), Instant::now());
        fail(&recovery, start);
        let refusal = recovery.begin(start).unwrap_err();
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::NodeUnavailable, Some("dfe")));
        assert!(refusal.message.contains("cannot be reached") && refusal.operator.unwrap().contains("no route"));
        let later = start + FIRST;
        let trying = recovery.begin(later).unwrap();
        assert!(recovery.begin(later).is_err() && recovery.refused(later).is_err(), "one at a time");
        trying.ended(&Ok(()), later, 0);
        recovery.begin(later).unwrap().ended(&Ok(()), later, 0);
    }

    #[test]
    fn the_pause_doubles_with_each_failure_up_to_a_bound_and_ends_with_an_answer() {
        let recovery = Recovery::default();
        let mut now = Instant::now();
        for failures in 1..=12u32 {
            fail(&recovery, now);
            let whole = FIRST.saturating_mul(1 << (failures - 1)).min(LONGEST);
            assert!(recovery.refused(now + whole / 2 - Duration::from_millis(1)).is_err(), "{failures}");
            now += whole;
            assert!(recovery.refused(now).is_ok(), "{failures}");
        }
        // A refusal is an answer: the node is there.
        let refused: Result<(), _> = Err(Refusal::new(Code::NodeRefused, "no"));
        recovery.begin(now).unwrap().ended(&refused, now, 0);
        fail(&recovery, now);
        assert!(recovery.refused(now + FIRST).is_ok(), "the pauses begin anew");
    }

    #[test]
    fn calls_that_fail_together_count_once_and_one_that_is_dropped_counts_nothing() {
        let (recovery, start) = (Recovery::default(), Instant::now());
        let together: Vec<_> = (0..20).map(|_| recovery.begin(start).unwrap()).collect();
        together.into_iter().for_each(|attempt| attempt.ended(&gone::<()>(), start, 999));
        assert!(recovery.refused(start + FIRST).is_ok());
        drop(recovery.begin(start + FIRST).unwrap());
        drop(recovery.begin(start + FIRST).unwrap());
    }

    #[test]
    fn pauses_lie_between_half_and_all() {
        for failures in [0, 1, 5, 8, 9, 40, u32::MAX] {
            let whole = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
            for jitter in [0, 1, 500, 999, 1_000, u32::MAX] {
                assert!((whole / 2..=whole).contains(&pause(failures, jitter)), "{failures} {jitter}");
            }
        }
    }
}
