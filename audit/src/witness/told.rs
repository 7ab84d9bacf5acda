//! What was told of already: whoever refuses every second says so in the log once an hour, since an entry is a new checkpoint, and that
//! is refused again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After how long something is told again.
const AGAIN: Duration = Duration::from_secs(3600);

/// By whom or what it is about, and what it is.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeMap<(String, &'static str), Instant>>);

impl Told {
    /// Whether this is to be told now: it was not within the last hour, since the last [`Told::settled`].
    pub fn anew(&self, about: &str, what: &'static str, now: Instant) -> bool {
        let mut told = self.told();
        let key = (about.to_owned(), what);
        let lately = told.get(&key).is_some_and(|at| now.saturating_duration_since(*at) < AGAIN);
        if !lately {
            told.insert(key, now);
        }
        !lately
    }

    /// All is well with this again. Whether something else had been told of it.
    pub fn settled(&self, about: &str) -> bool {
        let mut told = self.told();
        let before = told.len();
        told.retain(|(of, _), _| of != about);
        told.len() < before
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<(String, &'static str), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_told_once_an_hour_until_it_is_settled() {
        let (told, now) = (Told::default(), Instant::now());
        let steps = [
            ("a", "fork", 0, true),
            ("a", "fork", 3599, false),
            ("a", "rollback", 1, true),
            ("b", "fork", 1, true),
            ("a", "fork", 3600, true),
        ];
        for (about, what, seconds, anew) in steps {
            assert_eq!(told.anew(about, what, now + Duration::from_secs(seconds)), anew, "{about} {what} {seconds}");
        }
        assert!(told.settled("a") && !told.settled("a"));
        assert!(told.anew("a", "fork", now) && !told.anew("b", "fork", now + Duration::from_secs(2)));
    }
}
