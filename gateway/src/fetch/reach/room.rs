//! Memory for lists, bounded over all of them together: room is taken before bytes arrive, and given back when a list is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all lists may take.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    most: usize,
    taken: Arc<Mutex<usize>>,
}

/// What one list takes.
#[derive(Debug)]
pub(super) struct Room {
    memory: Memory,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// The most bytes.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Room for nothing yet.
    pub(super) fn room(&self) -> Room {
        Room { memory: self.clone(), bytes: 0 }
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Takes `bytes` more, or none where there are not so many.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let mut taken = self.memory.taken();
        let free = self.memory.most.saturating_sub(*taken);
        if bytes > free {
            return false;
        }
        *taken += bytes;
        self.bytes += bytes;
        true
    }

    /// Gives back what is beyond `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        // Whatever is given back was taken.
        *self.memory.taken() -= back;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_there_is_and_what_is_dropped_is_free_again() {
        let memory = Memory::new(100);
        let (mut one, mut other) = (memory.room(), memory.room());
        assert!(one.grow(60) && !other.grow(41) && other.grow(40) && !one.grow(1));
        one.shrink(50);
        one.shrink(70);
        assert_eq!((one.bytes(), other.bytes()), (50, 40));
        assert!(other.grow(10) && !other.grow(usize::MAX));
        drop(one);
        assert!(other.grow(50));
        drop(other);
        assert_eq!(*memory.taken(), 0);
    }
}
