//! How far away a node is, which stands for how narrow the line to it is. Over a long line releases are ordered dense: it is narrower
//! than the machines are quick, which is not so between neighbours (a join of three datasets of five million rows took a seventh longer
//! with dense releases on one machine).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// From how long a small call takes on, there and back, its node is far away. In one building it takes less.
const FAR: Duration = Duration::from_millis(3);

/// The least time that a small call took, and how many were made: the first one may have waited for its connection. The least of all, since
/// calls take longer where a machine is busy; it is forgotten with the connection's certificate.
#[derive(Debug, Default)]
pub(super) struct Distance(Mutex<Option<(Duration, usize)>>);

impl Distance {
    /// Notes how long a call took.
    pub(super) fn note(&self, took: Duration) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = Some(noted.map_or((took, 1), |(least, calls)| (least.min(took), calls.saturating_add(1))));
    }

    /// It may be elsewhere now.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it is far away, as far as that is known.
    pub(super) fn is_far(&self) -> bool {
        let noted = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.is_some_and(|(least, calls)| calls > 1 && least >= FAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_far_once_no_call_was_quick_and_not_by_the_first_alone() {
        let distance = Distance::default();
        let after = |milliseconds| {
            distance.note(Duration::from_millis(milliseconds));
            distance.is_far()
        };
        assert!(!Distance::default().is_far());
        assert_eq!([after(60), after(21), after(20), after(2), after(500)], [false, true, true, false, false]);
        distance.forget();
        assert_eq!([after(60), after(500)], [false, true]);
    }
}
