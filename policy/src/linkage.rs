//! Linkage domains: mission + purpose + epoch. Pseudonyms match inside one domain and never across two.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::Name;

/// One linkage domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkageDomain {
    /// The mission.
    pub mission: Name,
    /// The purpose of the request.
    pub purpose: Name,
    /// The number of whole epochs since 1970-01-01T00:00:00Z.
    pub epoch: u32,
}

impl LinkageDomain {
    /// The domain in force at `now`, with epochs of `epoch_days` days; `None` before 1970 or for zero days.
    #[must_use]
    pub fn at(mission: Name, purpose: Name, epoch_days: u32, now: DateTime<Utc>) -> Option<Self> {
        let days = u32::try_from(now.timestamp().div_euclid(86_400)).ok()?;
        Some(Self { mission, purpose, epoch: days.checked_div(epoch_days)? })
    }
}

impl fmt::Display for LinkageDomain {
    /// `mission/purpose/epoch`: unambiguous, because no [`Name`] holds a slash. Keys are derived from this text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.mission, self.purpose, self.epoch)
    }
}
