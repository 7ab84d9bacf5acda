//! Things kept for callers between two calls, in memory: each lapses, and nobody can fill the store alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use concordat_policy::{Code, Refusal};

/// The number under which a thing is kept. Random, so that it tells nothing of others.
pub(super) type Id = [u8; 16];

/// A bounded store.
pub(super) struct Kept<T> {
    all: Mutex<HashMap<Id, Entry<T>>>,
    limits: Limits,
}

/// How long and how many.
pub(super) struct Limits {
    /// What is kept, for the refusal: `statements`.
    pub(super) what: &'static str,
    /// How long a thing is kept after it was last used.
    pub(super) age: Duration,
    /// The most of all callers.
    pub(super) most: usize,
    /// The most of one caller.
    pub(super) most_of_one: usize,
}

struct Entry<T> {
    thing: T,
    owner: Vec<u8>,
    used: Instant,
}

impl<T> Kept<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { all: Mutex::default(), limits }
    }

    /// Keeps a thing.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when too many are kept.
    pub(super) fn keep(&self, owner: &[u8], thing: T) -> Result<Id, Refusal> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(Refusal::internal)?;
        let mut all = self.lock();
        all.retain(|_, entry| entry.used.elapsed() < self.limits.age);
        let own = all.values().filter(|entry| entry.owner == owner).count();
        if all.len() >= self.limits.most || own >= self.limits.most_of_one {
            return Err(Refusal::new(Code::LimitExceeded, format!("too many {} are kept for you, or in all", self.limits.what))
                .advice(format!("fetch or close some; each lapses {} s after its last use", self.limits.age.as_secs())));
        }
        all.insert(id, Entry { thing, owner: owner.to_owned(), used: Instant::now() });
        Ok(id)
    }

    /// Takes a thing out.
    pub(super) fn take(&self, id: &[u8]) -> Option<T> {
        let id: Id = id.try_into().ok()?;
        self.lock().remove(&id).filter(|entry| entry.used.elapsed() < self.limits.age).map(|entry| entry.thing)
    }

    /// Looks at or changes a thing that stays.
    pub(super) fn with<R>(&self, id: &[u8], work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let id: Id = id.try_into().ok()?;
        let mut all = self.lock();
        let entry = all.get_mut(&id).filter(|entry| entry.used.elapsed() < self.limits.age)?;
        entry.used = Instant::now();
        Some(work(&mut entry.thing))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Entry<T>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(age: Duration) -> Kept<u8> {
        Kept::new(Limits { what: "things", age, most: 3, most_of_one: 2 })
    }

    #[test]
    fn one_owner_cannot_fill_it_and_taking_makes_room() {
        let kept = store(Duration::from_secs(60));
        let first = kept.keep(b"a", 1).unwrap();
        kept.keep(b"a", 2).unwrap();
        assert_eq!(kept.keep(b"a", 3).unwrap_err().code, Code::LimitExceeded);
        kept.keep(b"b", 4).unwrap();
        assert_eq!(kept.keep(b"c", 5).unwrap_err().code, Code::LimitExceeded);
        assert_eq!(kept.with(&first, |thing| std::mem::replace(thing, 9)), Some(1));
        assert_eq!((kept.take(&first), kept.take(&first)), (Some(9), None));
        assert!(kept.keep(b"c", 5).is_ok());
        assert_eq!(kept.take(b"short"), None);
    }

    #[test]
    fn what_has_lapsed_is_gone() {
        let kept = store(Duration::ZERO);
        let id = kept.keep(b"a", 1).unwrap();
        assert_eq!((kept.with(&id, |_| ()), kept.take(&id)), (None, None));
    }
}
