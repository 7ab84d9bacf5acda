//! How many witnesses must have seen a checkpoint of the gateway's log, and who counts.
//!
//! A quorum of none cannot be configured: that a quorum sees the log is what the departments sign (`max_unwitnessed`), and whoever
//! runs the gateway must not be able to take it away alone. A single department is a majority of one.

use std::collections::BTreeSet;
use std::fmt;

use concordat_audit::quorum::QuorumError;
use concordat_policy::Name;

use crate::estate::Estate;

/// The witnesses, and how many of them are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quorum {
    departments: BTreeSet<Name>,
    outside: usize,
    stated: Option<usize>,
}

impl Quorum {
    /// Of an estate's departments and so many witnesses outside; a majority of the departments where no number is stated.
    ///
    /// # Errors
    /// [`QuorumError::Quorum`] for a number that nobody needs to meet, or nobody can.
    pub(crate) fn of(stated: Option<usize>, estate: &Estate, outside: usize) -> Result<Self, QuorumError> {
        Self::new(stated, estate.departments.iter().map(|department| department.id.clone()).collect(), outside)
    }

    /// Of these departments and so many witnesses outside.
    ///
    /// # Errors
    /// As [`Quorum::of`].
    pub(super) fn new(stated: Option<usize>, departments: BTreeSet<Name>, outside: usize) -> Result<Self, QuorumError> {
        let witnesses = departments.len().saturating_add(outside);
        match stated {
            Some(quorum) if quorum == 0 || quorum > witnesses => Err(QuorumError::Quorum { quorum, witnesses }),
            _ => Ok(Self { departments, outside, stated }),
        }
    }

    /// How many are needed.
    pub(crate) fn needed(&self) -> usize {
        self.stated.unwrap_or(self.departments.len() / 2 + 1)
    }

    /// How many there are that count.
    pub(crate) fn witnesses(&self) -> usize {
        self.departments.len().saturating_add(if self.stated.is_some() { self.outside } else { 0 })
    }

    /// The departments whose witnesses count.
    pub(crate) fn departments(&self) -> impl Iterator<Item = &Name> {
        self.departments.iter()
    }

    /// Whether these departments and so many witnesses outside are enough. Outside witnesses replace no department in a majority.
    pub(crate) fn is_met(&self, by: &BTreeSet<Name>, outside: usize) -> bool {
        let departments = by.intersection(&self.departments).count();
        let outside = if self.stated.is_some() { outside.min(self.outside) } else { 0 };
        departments.saturating_add(outside) >= self.needed()
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} must have seen the access log", self.needed(), self.witnesses())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &str) -> BTreeSet<Name> {
        names.split_whitespace().map(|name| Name::parse(name).unwrap()).collect()
    }

    #[test]
    fn a_majority_of_departments_or_the_number_that_is_configured() {
        for (departments, outside, stated, by, of_outside, met) in [
            ("a b c", 0, None, "a", 0, false),
            ("a b c", 0, None, "a c", 0, true),
            ("a b c d", 0, None, "a b", 0, false),
            ("a b c d", 0, None, "a b d", 0, true),
            ("a", 0, None, "", 0, false),
            ("a", 0, None, "a", 0, true),
            ("", 0, None, "a", 0, false),
            // Who left the estate does not count.
            ("a b c", 0, None, "a x y", 0, false),
            ("a b c", 0, Some(1), "x", 0, false),
            // Outside witnesses count where the number says so.
            ("a b c", 2, None, "a", 2, false),
            ("a b c", 2, Some(3), "a", 2, true),
            ("a b c", 2, Some(5), "a b c", 1, false),
            ("a b c", 1, Some(3), "a", 9, false),
            ("a b c", 0, Some(3), "a b", 0, false),
        ] {
            let quorum = Quorum::new(stated, names(departments), outside).unwrap();
            assert_eq!(quorum.is_met(&names(by), of_outside), met, "{departments} {outside} {stated:?} {by} {of_outside}");
        }
    }

    #[test]
    fn a_quorum_that_nobody_needs_to_meet_or_can_is_refused() {
        for (departments, outside, stated, refused) in [
            ("a b c", 0, 0, true),
            ("a", 0, 0, true),
            ("a b c", 0, 3, false),
            ("a b c", 0, 4, true),
            ("a b c", 1, 4, false),
            ("a b c", 1, 5, true),
            ("", 0, 1, true),
        ] {
            let made = Quorum::new(Some(stated), names(departments), outside);
            assert_eq!(made.is_err(), refused, "{departments} {outside} {stated}");
        }
        let told = Quorum::new(Some(4), names("a b c"), 0).unwrap_err().to_string();
        assert_eq!(told, "a quorum of 4 among 3 witnesses cannot be: give a number from 1 to 3");
        assert_eq!(Quorum::new(None, names("a b c"), 4).unwrap().to_string(), "2 of 3 must have seen the access log");
        assert_eq!(Quorum::new(Some(4), names("a b c"), 4).unwrap().to_string(), "4 of 7 must have seen the access log");
    }
}
