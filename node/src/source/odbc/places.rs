//! How many connections to one database may be open at a time, with those whose statement nobody waits for any more: their number must not
//! grow with a slow database. Each `[[connection]]` has places of its own, so that a slow database keeps nobody from another.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As many as a node can have releases at a time.
const MOST: usize = 64;

/// The places of one connection. Clones share them.
#[derive(Clone)]
pub(super) struct Places(Arc<Semaphore>);

/// One of them, until it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Places").field(&self.0.available_permits()).finish()
    }
}

impl Places {
    /// A place, if one is free.
    pub(super) fn take(&self) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_whose_places_are_taken_keeps_none_of_another() {
        let (slow, other) = (Places::default(), Places::default());
        let mut taken: Vec<Place> = std::iter::from_fn(|| slow.take()).collect();
        assert_eq!(taken.len(), MOST);
        assert!(slow.clone().take().is_none(), "a clone has no further ones");
        assert!(other.take().is_some());
        drop(taken.pop());
        assert!(slow.take().is_some(), "a place that is given back is free");
    }
}
