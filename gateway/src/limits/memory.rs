//! Memory in three layers: a query's own, its caller's share, the gateway's total. Work takes from all three or from none.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use concordat_policy::{Code, Refusal};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

use super::Key;
use crate::plan::refusal_of;

/// A number of bytes that several take from.
#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }

    fn take_anyway(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The gateway's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    all: Arc<Budget>,
    of_one: usize,
    callers: Mutex<HashMap<Key, Weak<Budget>>>,
}

impl Memory {
    /// `total` bytes, of which one caller gets `of_one` at most.
    pub(crate) fn new(total: usize, of_one: usize) -> Self {
        Self { all: Arc::new(Budget::new(total)), of_one, callers: Mutex::default() }
    }

    /// A pool for one query of `caller`, of at most `limit` bytes.
    pub(crate) fn pool(&self, caller: &Key, limit: usize) -> Arc<QueryMemory> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.retain(|_, budget| budget.strong_count() > 0);
        let share = callers.get(caller).and_then(Weak::upgrade).unwrap_or_else(|| Arc::new(Budget::new(self.of_one)));
        callers.insert(caller.clone(), Arc::downgrade(&share));
        Arc::new(QueryMemory { own: Budget::new(limit), caller: share, all: self.all.clone(), short: AtomicU8::new(0) })
    }

    /// Bytes that queries and answers under way have taken.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.all.used.load(Ordering::Acquire)
    }
}

/// What becomes of DataFusion's error when memory runs short.
fn exhausted() -> Refusal {
    refusal_of(DataFusionError::ResourcesExhausted(String::new()))
}

/// Memory of one query.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    own: Budget,
    caller: Arc<Budget>,
    all: Arc<Budget>,
    /// Which layer ran short last: 1 the query's own, 2 the caller's, 3 all.
    short: AtomicU8,
}

impl QueryMemory {
    /// A reservation for what is not DataFusion's: the answer.
    pub(crate) fn reservation(self: &Arc<Self>, what: &str) -> MemoryReservation {
        let pool: Arc<dyn MemoryPool> = self.clone();
        MemoryConsumer::new(what).register(&pool)
    }

    /// Says whose memory ran short, where that is why the query failed.
    pub(crate) fn explain(&self, refusal: Refusal) -> Refusal {
        if refusal != exhausted() {
            return refusal;
        }
        let (whose, advice) = match self.short.load(Ordering::Acquire) {
            2 => ("your queries and unread answers together", "wait for them to end, or read their answers"),
            3 => ("all queries together", "try again in a minute"),
            _ => return refusal,
        };
        Refusal::new(Code::LimitExceeded, format!("{whose} need more memory than the gateway's limit")).advice(advice)
    }

    fn take(&self, bytes: usize) -> std::result::Result<(), u8> {
        if !self.own.take(bytes) {
            return Err(1);
        }
        if !self.caller.take(bytes) {
            self.own.give(bytes);
            return Err(2);
        }
        if !self.all.take(bytes) {
            self.own.give(bytes);
            self.caller.give(bytes);
            return Err(3);
        }
        Ok(())
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("query memory")
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &'static str {
        "query memory"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.own.take_anyway(additional);
        self.caller.take_anyway(additional);
        self.all.take_anyway(additional);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.own.give(shrink);
        self.caller.give(shrink);
        self.all.give(shrink);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Result<()> {
        self.take(additional).map_err(|short| {
            self.short.store(short, Ordering::Release);
            DataFusionError::ResourcesExhausted("memory limit".into())
        })
    }

    fn reserved(&self) -> usize {
        self.own.used.load(Ordering::Acquire)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.own.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(subject: &str) -> Key {
        Key { issuer: "i".into(), organisation: "unit".into(), subject: subject.into() }
    }

    #[test]
    fn each_layer_holds_and_is_named_and_everything_is_given_back() {
        let memory = Memory::new(100, 50);
        let (a1, a2, b) = (memory.pool(&key("a"), 40), memory.pool(&key("a"), 40), memory.pool(&key("b"), 60));
        let first = a1.reservation("x");
        first.try_grow(40).unwrap();
        assert!(first.try_grow(1).is_err(), "a query's own limit");
        assert!(a1.explain(exhausted()).message.contains("one query"));
        let second = a2.reservation("x");
        assert!(second.try_grow(11).is_err(), "a caller gets half of all");
        assert!(a2.explain(exhausted()).message.contains("your queries"));
        second.try_grow(10).unwrap();
        let third = b.reservation("x");
        third.try_grow(50).unwrap();
        let other = memory.pool(&key("c"), 40);
        assert!(other.reservation("x").try_grow(1).is_err(), "all together");
        assert!(other.explain(exhausted()).message.contains("all queries"));
        let late = Refusal::new(Code::LimitExceeded, "late");
        assert_eq!(other.explain(late.clone()), late, "other refusals are not touched");
        assert_eq!(memory.used(), 100);
        drop((first, second, third));
        assert_eq!(memory.used(), 0);
        drop((a1, a2, b, other));
        drop(memory.pool(&key("d"), 1));
        assert!(memory.callers.lock().unwrap().len() <= 1, "callers who have gone are forgotten");
    }
}
