//! Who reads a log at once: few, so that nobody keeps it or its program from others, and no organisation all of its places.

use std::sync::{Arc, Mutex, PoisonError};

/// At once, of one reader.
pub const OF_ONE: usize = 2;

/// At once, of one organisation's readers.
pub const OF_ORGANISATION: usize = 4;

/// At once, of all of them.
pub const OF_ALL: usize = 16;

/// The readers of a log. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readers(Arc<Mutex<Vec<Reader>>>);

/// One reading, until it is dropped.
#[derive(Debug)]
pub struct Place {
    readers: Readers,
    reader: Reader,
}

/// Which limit was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// [`OF_ONE`].
    One,
    /// [`OF_ORGANISATION`].
    Organisation,
    /// [`OF_ALL`].
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reader {
    who: String,
    organisation: Option<String>,
}

impl Readers {
    /// A place for `who`, a name that is the same for one reader each time, of an organisation where the log's readers are of several.
    ///
    /// # Errors
    /// The first of the limits that is met.
    pub fn enter(&self, who: &str, organisation: Option<&str>) -> Result<Place, Full> {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reading.iter().filter(|reader| reader.who == who).count() >= OF_ONE {
            return Err(Full::One);
        }
        let colleague = |reader: &&Reader| organisation.is_some() && reader.organisation.as_deref() == organisation;
        if reading.iter().filter(colleague).count() >= OF_ORGANISATION {
            return Err(Full::Organisation);
        }
        if reading.len() >= OF_ALL {
            return Err(Full::All);
        }
        let reader = Reader { who: who.to_owned(), organisation: organisation.map(str::to_owned) };
        reading.push(reader.clone());
        drop(reading);
        Ok(Place { readers: self.clone(), reader })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut reading = self.readers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = reading.iter().position(|reader| *reader == self.reader) {
            reading.swap_remove(place);
        }
    }
}

impl Full {
    /// What a reader of `log` is told.
    #[must_use]
    pub fn sentence(self, log: &str) -> String {
        match self {
            Self::One => format!("you read {log} {OF_ONE} times at once already"),
            Self::Organisation => format!("your organisation reads {log} {OF_ORGANISATION} times at once already"),
            Self::All => format!("{log} is read {OF_ALL} times at once already"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reader_has_two_places_and_all_have_as_many_as_there_are() {
        let readers = Readers::default();
        let enter = |who: &str| readers.enter(who, None);
        let (one, two) = (enter("a").unwrap(), enter("a").unwrap());
        assert_eq!(enter("a").unwrap_err(), Full::One);
        drop(one);
        let _three = enter("a").unwrap();
        assert_eq!(enter("a").unwrap_err(), Full::One);
        let others: Vec<Place> = (0..OF_ALL - 2).map(|i| enter(&i.to_string()).unwrap()).collect();
        assert_eq!(enter("b").unwrap_err(), Full::All);
        drop((two, others));
        assert!(enter("b").is_ok());
        assert_eq!(readers.0.lock().unwrap().len(), 1, "who left is forgotten");
    }

    #[test]
    fn an_organisation_leaves_places_to_others() {
        let readers = Readers::default();
        let enter = |who: &str, organisation| readers.enter(who, Some(organisation));
        let mut places: Vec<Place> = ["a", "a", "b", "c"].into_iter().map(|who| enter(who, "dfe").unwrap()).collect();
        assert_eq!(enter("d", "dfe").unwrap_err(), Full::Organisation);
        assert_eq!(enter("a", "dfe").unwrap_err(), Full::One, "each hears of the limit that is theirs");
        let _other = enter("d", "dwp").unwrap();
        places.pop();
        assert!(enter("d", "dfe").is_ok());
    }

    #[test]
    fn which_limit_was_met_is_said() {
        for (full, says) in [
            (Full::One, "you read the log 2 times at once already"),
            (Full::Organisation, "your organisation reads the log 4 times at once already"),
            (Full::All, "the log is read 16 times at once already"),
        ] {
            assert_eq!(full.sentence("the log"), says);
        }
    }
}
