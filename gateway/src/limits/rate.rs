//! Token buckets: so many a minute, as many at once. Bounded memory: a bucket that is full again is forgotten.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most buckets that are kept.
const MOST: usize = 16_384;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub(super) per_second: f64,
    pub(super) burst: f64,
}

impl Flow {
    pub(super) fn per_minute(count: u32) -> Self {
        Self { per_second: f64::from(count) / 60.0, burst: f64::from(count) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
    flow: Flow,
}

impl Bucket {
    fn level(&self, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * self.flow.per_second;
        (self.level + filled).min(self.flow.burst)
    }
}

/// A bucket for each key.
#[derive(Debug)]
pub(super) struct Rate<K> {
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    pub(super) fn new() -> Self {
        Self { buckets: Mutex::default() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one again.
    pub(super) fn take(&self, key: &K, flow: Flow, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST && !buckets.contains_key(key) {
            buckets.retain(|_, b| b.level(now) < b.flow.burst);
            if buckets.len() >= MOST {
                // More active keys than can be counted: the newcomer waits, the others are not forgotten.
                return Err(Duration::from_secs(60));
            }
        }
        let bucket = buckets.entry(key.clone()).or_insert(Bucket { level: flow.burst, at: now, flow });
        let level = bucket.level(now);
        *bucket = Bucket { level, at: now, flow };
        if level < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - level) / flow.per_second.max(0.001)));
        }
        bucket.level = level - 1.0;
        Ok(())
    }

    /// Whether there is none left, without taking one.
    pub(super) fn is_empty(&self, key: &K, now: Instant) -> bool {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.get(key) {
            Some(bucket) => bucket.level(now) < 1.0,
            None => buckets.len() >= MOST && buckets.values().all(|b| b.level(now) < b.flow.burst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_refills_and_is_forgotten() {
        let rate = Rate::new();
        let start = Instant::now();
        let flow = Flow::per_minute(60);
        for _ in 0..60 {
            rate.take(&1, flow, start).unwrap();
        }
        let wait = rate.take(&1, flow, start).unwrap_err();
        assert!(wait <= Duration::from_secs(1) && wait > Duration::from_millis(900), "{wait:?}");
        assert!(rate.is_empty(&1, start) && !rate.is_empty(&2, start));
        rate.take(&2, flow, start).unwrap();
        rate.take(&1, flow, start + Duration::from_secs(1)).unwrap();
        assert!(rate.take(&1, flow, start + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn keys_beyond_the_bound_are_refused_until_others_are_idle() {
        let rate = Rate::new();
        let start = Instant::now();
        let flow = Flow::per_minute(60);
        for key in 0..MOST {
            rate.take(&key, flow, start).unwrap();
        }
        assert!(rate.take(&MOST, flow, start).is_err());
        assert!(rate.take(&0, flow, start).is_ok(), "who is known is served");
        rate.take(&MOST, flow, start + Duration::from_secs(2)).unwrap();
        assert!(rate.buckets.lock().unwrap().len() < 10);
    }
}
