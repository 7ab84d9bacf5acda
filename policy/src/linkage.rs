//! Linkage domains: mission + purpose + epoch. Pseudonyms match inside one domain and never across two.
//!
//! ```text
//! the agreement's [linkage], signed by every party ─▶ LinkageDomain::at(now) ─▶ opportunity/opportunity.measure/229
//!                  rotation = 1                    ─▶                          opportunity/opportunity.measure/229.1
//! ```
//!
//! An epoch ends in two ways. By time, after `epoch_days`: releases that were ordered before finish in theirs. By rotation: the
//! parties sign a text with a higher `rotation`; what was begun under the old text ends, as under every text that was replaced. No
//! rotation travels in a request: the agreement's digest does, so both ends read it in one and the same text.

use std::fmt;
use std::ops::Range;

use chrono::{DateTime, Days, NaiveDate, Utc};

use crate::Name;
use crate::agreement::Linkage;

/// One linkage domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkageDomain {
    /// The mission.
    pub mission: Name,
    /// The purpose of the request.
    pub purpose: Name,
    /// The number of whole epochs since 1970-01-01T00:00:00Z.
    pub epoch: u32,
    /// How often the parties began anew, as their agreement states it.
    pub rotation: u32,
}

impl LinkageDomain {
    /// The domain in force at `now` where `linkage` was agreed; `None` before 1970 or for epochs of zero days.
    #[must_use]
    pub fn at(mission: Name, purpose: Name, linkage: &Linkage, now: DateTime<Utc>) -> Option<Self> {
        let days = u32::try_from(now.timestamp().div_euclid(86_400)).ok()?;
        Some(Self { mission, purpose, epoch: days.checked_div(linkage.epoch_days)?, rotation: linkage.rotation })
    }

    /// The days of its epoch where `linkage` was agreed; `None` where they are too late for a date.
    #[must_use]
    pub fn days(&self, linkage: &Linkage) -> Option<Range<NaiveDate>> {
        let day = |epoch: u64| NaiveDate::default().checked_add_days(Days::new(epoch.checked_mul(linkage.epoch_days.into())?));
        let epoch = u64::from(self.epoch);
        Some(day(epoch)?..day(epoch.checked_add(1)?)?)
    }
}

impl fmt::Display for LinkageDomain {
    /// `mission/purpose/epoch`, and `.rotation` after the first: unambiguous, because no [`Name`] holds a slash and an epoch is a
    /// number. Keys are derived from this text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.mission, self.purpose, self.epoch)?;
        if self.rotation == 0 { Ok(()) } else { write!(f, ".{}", self.rotation) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::TimeDelta;

    use super::*;

    fn at(days: u32, rotation: u32, now: DateTime<Utc>) -> LinkageDomain {
        let linkage = Linkage { keyholder: Name::parse("dfe").unwrap(), epoch_days: days, rotation };
        LinkageDomain::at(Name::parse("m").unwrap(), Name::parse("p.q").unwrap(), &linkage, now).unwrap()
    }

    #[test]
    fn every_epoch_and_every_rotation_of_it_is_another_domain() {
        let start = DateTime::from_timestamp(90 * 229 * 86_400, 0).unwrap();
        assert_eq!(at(90, 0, start).to_string(), "m/p.q/229");
        assert_eq!(at(90, 1, start).to_string(), "m/p.q/229.1");
        assert_eq!(at(90, 0, start - TimeDelta::seconds(1)).to_string(), "m/p.q/228");
        let days = (0..360).map(|day| start + TimeDelta::days(day));
        let domains: BTreeSet<String> = days.flat_map(|day| (0..3).map(move |rotation| at(90, rotation, day).to_string())).collect();
        assert_eq!(domains.len(), 4 * 3, "a rotation never has the name of a later epoch");
    }

    #[test]
    fn an_epoch_has_the_days_on_which_its_domain_is_in_force() {
        let linkage = Linkage { keyholder: Name::parse("dfe").unwrap(), epoch_days: 90, rotation: 0 };
        let start = DateTime::from_timestamp(90 * 229 * 86_400, 0).unwrap();
        let domain = at(90, 0, start);
        let days = domain.days(&linkage).unwrap();
        assert_eq!((days.start, days.end), (start.date_naive(), (start + TimeDelta::days(90)).date_naive()));
        assert_eq!(LinkageDomain { epoch: u32::MAX, ..domain }.days(&linkage), None);
    }

    #[test]
    fn there_is_no_domain_before_1970_or_of_no_days() {
        let linkage = |days| Linkage { keyholder: Name::parse("dfe").unwrap(), epoch_days: days, rotation: 0 };
        let at = |days, seconds| {
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            LinkageDomain::at(Name::parse("m").unwrap(), Name::parse("p").unwrap(), &linkage(days), now)
        };
        assert_eq!((at(90, -1), at(0, 0)), (None, None));
    }
}
