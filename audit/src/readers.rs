//! Who reads a log at once: few, so that nobody keeps it or its program from others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// At once, of one reader.
pub const OF_ONE: usize = 2;

/// At once, of all of them.
pub const OF_ALL: usize = 16;

/// The readers of a log. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readers(Arc<Mutex<HashMap<String, usize>>>);

/// One reading, until it is dropped.
#[derive(Debug)]
pub struct Place {
    readers: Readers,
    who: String,
}

impl Readers {
    /// A place for `who`: a name that is the same for one reader each time. `None` where they have [`OF_ONE`], or all have [`OF_ALL`].
    #[must_use]
    pub fn enter(&self, who: &str) -> Option<Place> {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, all) = (reading.get(who).copied().unwrap_or_default(), reading.values().sum::<usize>());
        if own >= OF_ONE || all >= OF_ALL {
            return None;
        }
        reading.insert(who.to_owned(), own.saturating_add(1));
        drop(reading);
        Some(Place { readers: self.clone(), who: who.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut reading = self.readers.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reading.get_mut(&self.who) {
            Some(own) if *own > 1 => *own = own.saturating_sub(1),
            _ => drop(reading.remove(&self.who)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reader_has_two_places_and_all_have_as_many_as_there_are() {
        let readers = Readers::default();
        let (one, two) = (readers.enter("a").unwrap(), readers.enter("a").unwrap());
        assert!(readers.enter("a").is_none());
        drop(one);
        let _three = readers.enter("a").unwrap();
        assert!(readers.enter("a").is_none());
        let others: Vec<Place> = (0..OF_ALL - 2).map(|i| readers.enter(&i.to_string()).unwrap()).collect();
        assert!(readers.enter("b").is_none(), "all places are taken");
        drop((two, others));
        assert!(readers.enter("b").is_some());
        assert_eq!(readers.0.lock().unwrap().len(), 1, "who left is forgotten");
    }
}
