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
    /// Bytes of all callers.
    pub(super) bytes: usize,
    /// Bytes of one caller.
    pub(super) bytes_of_one: usize,
}

struct Entry<T> {
    thing: T,
    owner: Vec<u8>,
    bytes: usize,
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
    pub(super) fn keep(&self, owner: &[u8], bytes: usize, thing: T) -> Result<Id, Refusal> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(Refusal::internal)?;
        let mut all = self.lock();
        all.retain(|_, entry| entry.used.elapsed() < self.limits.age);
        let (mut own, mut own_bytes, mut all_bytes) = (0usize, bytes, bytes);
        for entry in all.values() {
            all_bytes = all_bytes.saturating_add(entry.bytes);
            if entry.owner == owner {
                own += 1;
                own_bytes = own_bytes.saturating_add(entry.bytes);
            }
        }
        let full = all.len() >= self.limits.most || own >= self.limits.most_of_one;
        if full || all_bytes > self.limits.bytes || own_bytes > self.limits.bytes_of_one {
            return Err(Refusal::new(Code::LimitExceeded, format!("too many {} are kept for you, or in all", self.limits.what))
                .advice(format!("fetch or close some; each lapses {} s after its last use", self.limits.age.as_secs())));
        }
        all.insert(id, Entry { thing, owner: owner.to_owned(), bytes, used: Instant::now() });
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
        Kept::new(Limits { what: "things", age, most: 3, most_of_one: 2, bytes: 100, bytes_of_one: 60 })
    }

    #[test]
    fn one_owner_cannot_fill_it_and_taking_makes_room() {
        let kept = store(Duration::from_secs(60));
        let first = kept.keep(b"a", 10, 1).unwrap();
        kept.keep(b"a", 10, 2).unwrap();
        assert_eq!(kept.keep(b"a", 10, 3).unwrap_err().code, Code::LimitExceeded);
        kept.keep(b"b", 10, 4).unwrap();
        assert_eq!(kept.keep(b"c", 10, 5).unwrap_err().code, Code::LimitExceeded);
        assert_eq!(kept.with(&first, |thing| std::mem::replace(thing, 9)), Some(1));
        assert_eq!((kept.take(&first), kept.take(&first)), (Some(9), None));
        assert!(kept.keep(b"c", 10, 5).is_ok());
        assert_eq!(kept.take(b"short"), None);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let kept = store(Duration::from_secs(60));
        kept.keep(b"a", 40, 1).unwrap();
        assert_eq!(kept.keep(b"a", 40, 2).unwrap_err().code, Code::LimitExceeded);
        kept.keep(b"b", 60, 3).unwrap();
        assert_eq!(kept.keep(b"c", 1, 4).unwrap_err().code, Code::LimitExceeded);
    }

    #[test]
    fn what_has_lapsed_is_gone() {
        let kept = store(Duration::ZERO);
        let id = kept.keep(b"a", 10, 1).unwrap();
        assert_eq!((kept.with(&id, |_| ()), kept.take(&id)), (None, None));
    }
}
