//! Whose turn it is to have a query searched for: a few searches run at once, and one of each caller, who waits for their own others first.
//! So nobody who asks for many keeps those out who ask for one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The turns of all.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// Of each caller who has a turn or waits for one.
    own: Arc<Mutex<HashMap<Vec<u8>, Weak<Semaphore>>>>,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Turns {
    /// So many at once.
    pub(super) fn of(many: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(many)), own: Arc::default() }
    }

    /// Waits for the turn of `who`.
    pub(super) async fn of_caller(&self, who: &[u8]) -> Result<Turn, AcquireError> {
        let own = self.own(who).acquire_owned().await?;
        let all = Arc::clone(&self.all).acquire_owned().await?;
        Ok(Turn { _all: all, _own: own })
    }

    fn own(&self, who: &[u8]) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|_, turns| turns.strong_count() > 0);
        own.get(who).and_then(Weak::upgrade).unwrap_or_else(|| {
            let turns = Arc::new(Semaphore::new(1));
            own.insert(who.to_owned(), Arc::downgrade(&turns));
            turns
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn who_asks_for_many_keeps_nobody_out() {
        let turns = Turns::of(2);
        let first = turns.of_caller(b"a").await.unwrap();
        let mut others: Vec<_> = (0..10).map(|_| Box::pin(turns.of_caller(b"a"))).collect();
        let mut context = Context::from_waker(Waker::noop());
        assert!(others.iter_mut().all(|other| other.as_mut().poll(&mut context).is_pending()), "one at a time");
        let second = turns.of_caller(b"b").await.unwrap();
        // No more than there are in all; then who waited first.
        let mut third = pin!(turns.of_caller(b"c"));
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(third.as_mut().poll(&mut context).is_ready());
        drop((others, second));
        assert_eq!(turns.own(b"d").available_permits(), 1);
        assert_eq!(turns.own.lock().unwrap().len(), 1, "who left is forgotten");
    }
}
