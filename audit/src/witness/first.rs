//! What is seen for the first time is told before it is remembered, and by one process once, also where it cannot be remembered.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

/// What was told and is not remembered yet.
#[derive(Debug, Default)]
pub(super) struct First(Mutex<BTreeSet<String>>);

impl First {
    /// Has `what` told by `tell`, which must be durable, then remembered. Another process may tell it again: one that follows this, which
    /// ended between the two.
    ///
    /// # Errors
    /// Of either.
    pub(super) fn met(
        &self,
        what: &str,
        tell: impl FnOnce() -> io::Result<()>,
        remember: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(what) {
            tell()?;
            told.insert(what.to_owned());
        }
        remember()?;
        told.remove(what);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_first_and_once_however_often_it_cannot_be_remembered() {
        let (first, done) = (First::default(), Mutex::new(Vec::new()));
        let step = |what: &'static str, works: bool| {
            let done = &done;
            move || {
                done.lock().unwrap().push(what);
                if works { Ok(()) } else { Err(io::Error::other(what)) }
            }
        };
        for (tells, remembers, says) in [(false, true, "told"), (true, false, "kept"), (false, false, "kept")] {
            let failed = first.met("key", step("told", tells), step("kept", remembers)).unwrap_err();
            assert_eq!(failed.to_string(), says);
        }
        first.met("key", step("told", false), step("kept", true)).unwrap();
        assert_eq!(std::mem::take(&mut *done.lock().unwrap()), ["told", "told", "kept", "kept", "kept"]);
        // Forgotten meanwhile, it is news.
        first.met("key", step("told", true), step("kept", true)).unwrap();
        assert_eq!(std::mem::take(&mut *done.lock().unwrap()), ["told", "kept"]);
    }
}
