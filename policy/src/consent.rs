//! What a subject's recorded choices mean for one request. The semantics stand here and nowhere else.
//!
//! **Order is the ledger's.** Records are ordered by their place in the department's ledger, whatever times they state; the later
//! record wins. A record for a purpose also speaks for every narrower one: who consents to `opportunity` consents to
//! `opportunity.measure`, and who withdraws from `opportunity` withdraws from both. A record for a narrower purpose says nothing
//! about a wider one.
//!
//! | basis | last relevant record | allowed |
//! |---|---|---|
//! | consent | none | no: consent must have been given |
//! | consent | *given* | yes |
//! | consent | *withdrawn* or *objected* | no |
//! | statutory, objections honoured | *objected* | no |
//! | statutory, objections honoured | anything else, or none | yes |
//! | statutory, objections not honoured | any | yes |
//!
//! Under a statutory basis, *withdrawn* changes nothing and does not undo an objection: there was no consent to withdraw.
//! A later *given* does undo an objection.
//!
//! **Times** ([`Term`]) only say when a record speaks, never where it stands. A *given* or *objected* with an effective time is
//! silent until then. A *given* that has expired ends consent as a *withdrawn* at its place would, and undoes no objection any
//! more; but nobody has withdrawn ([`Latest::expired`]). A release judges every record at the one moment of its start. In the
//! ledger's order, with the basis consent:
//!
//! | records | now | allowed |
//! |---|---|---|
//! | *given* until June | May | yes |
//! | *given* until June | June | no |
//! | *given*, then *given* until June | June | no: the later one was the person's last word |
//! | *given* from June, then *withdrawn* in May | July | no: it was recorded before the withdrawal |
//! | *withdrawn*, then *given* from June | May, June | no, yes |
//! | *objected*, then *given* until June (statutory, honoured) | May, June | yes, no: the objection stands again |
//!
//! **Acting for a subject** ([`Capacity`]): what a guardian chooses counts like the subject's own act, in the ledger's order;
//! the record says who acted and in which capacity.
//!
//! **Corrections and erasure** ([`history`]): a correction names the place of a record that was wrong, which says nothing from
//! the correction on. When a subject is erased, nothing of what it gave remains, and what kept its data back remains.
//!
//! What was recorded at one department reaches another's data only where the agreement says so: [`reaches`].

pub mod history;
mod term;

pub use self::history::{Said, Spoken};
pub use self::term::{Capacity, Term, TermError};

use serde::{Deserialize, Serialize};

use crate::{Basis, Name, PurposeTree};

/// One event of a consent record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The subject agreed.
    Given,
    /// The subject took consent back.
    Withdrawn,
    /// The subject objected (UK GDPR Art. 21).
    Objected,
}

impl Event {
    /// The event as it stands in files and the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Withdrawn => "withdrawn",
            Self::Objected => "objected",
        }
    }

    /// The event that [`Event::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Given, Self::Withdrawn, Self::Objected].into_iter().find(|e| e.as_str() == text)
    }
}

/// The last records of one subject for one purpose, as places in the ledger; `None` where there is none of the kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latest {
    /// The last *given* that has not expired.
    pub given: Option<u64>,
    /// The last *given* that has.
    pub expired: Option<u64>,
    /// The last *withdrawn*.
    pub withdrawn: Option<u64>,
    /// The last *objected*.
    pub objected: Option<u64>,
}

impl Latest {
    /// Takes one more record into account, in any order.
    pub fn record(&mut self, event: Event, place: u64) {
        let slot = match event {
            Event::Given => &mut self.given,
            Event::Withdrawn => &mut self.withdrawn,
            Event::Objected => &mut self.objected,
        };
        *slot = (*slot).max(Some(place));
    }

    /// Takes one more record into account as it speaks at the moment `now` (Unix seconds), in any order.
    pub fn hear(&mut self, event: Event, term: Term, place: u64, now: i64) {
        if term.has_expired(now) {
            self.expired = self.expired.max(Some(place));
        } else if term.is_in_effect(now) {
            self.record(event, place);
        }
    }

    /// The last record of any kind.
    #[must_use]
    pub fn last(self) -> Option<u64> {
        self.given.max(self.expired).max(self.withdrawn).max(self.objected)
    }

    /// The later of each kind.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            given: self.given.max(other.given),
            expired: self.expired.max(other.expired),
            withdrawn: self.withdrawn.max(other.withdrawn),
            objected: self.objected.max(other.objected),
        }
    }
}

/// The latest records of a subject, at the moment `now` (Unix seconds), among those that `relevant` says yes to by their purpose.
#[must_use]
pub fn latest(spoken: &[Spoken<'_>], relevant: impl Fn(&str) -> bool, now: i64) -> Latest {
    let mut latest = Latest::default();
    for record in spoken.iter().filter(|record| relevant(record.purpose)) {
        latest.hear(record.event, record.term, record.place, now);
    }
    latest
}

/// The purposes whose records speak for a request for `requested`: itself and its ancestors.
pub fn relevant<'a>(tree: &'a PurposeTree, requested: &Name) -> impl Iterator<Item = &'a Name> + use<'a> {
    tree.ancestry(requested).map(|purpose| &purpose.id)
}

/// Whether a subject's data may be used, from the subject's [`Latest`] over all [`relevant`] purposes.
#[must_use]
pub fn allows(basis: &Basis, latest: Latest) -> bool {
    match basis {
        Basis::Consent { .. } => latest.given > latest.withdrawn.max(latest.objected).max(latest.expired),
        Basis::Statutory { honours_objections: true, .. } => latest.objected.is_none() || latest.given > latest.objected,
        Basis::Statutory { honours_objections: false, .. } => true,
    }
}

/// Whether a choice that one department recorded reaches data of another, which are used on `basis`. Only where an agreement says so.
///
/// It counts there as it would count if it had been recorded there, but for silence: somebody of whom the recording department knows
/// nothing, or who only agreed there, is kept from nothing. A *withdrawn* reaches data used on consent and not data used under a
/// power; an *objected* reaches both, unless the power honours none. It is undone where it was recorded: the ledgers of two departments
/// have no common order, so a *given* elsewhere cannot be known to be later.
#[must_use]
pub fn reaches(basis: &Basis, latest: Latest) -> bool {
    match basis {
        Basis::Consent { .. } => latest.withdrawn.max(latest.objected) > latest.given,
        Basis::Statutory { honours_objections: true, .. } => latest.objected > latest.given,
        Basis::Statutory { honours_objections: false, .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Event::{Given, Objected, Withdrawn};
    use super::*;

    #[test]
    fn the_table_of_the_module_header() {
        let consent = Basis::Consent { text: "I agree".into() };
        let honours = Basis::Statutory { power: "DEA 2017 s.35".into(), honours_objections: true };
        let ignores = Basis::Statutory { power: "DEA 2017 s.35".into(), honours_objections: false };
        let cases: &[(&[Event], [bool; 3])] = &[
            (&[], [false, true, true]),
            (&[Given], [true, true, true]),
            (&[Given, Withdrawn], [false, true, true]),
            (&[Withdrawn, Given], [true, true, true]),
            (&[Given, Objected], [false, false, true]),
            (&[Objected], [false, false, true]),
            (&[Objected, Withdrawn], [false, false, true]),
            (&[Objected, Given], [true, true, true]),
            (&[Given, Withdrawn, Objected, Given, Withdrawn], [false, true, true]),
        ];
        for (events, expected) in cases {
            let mut latest = Latest::default();
            for (event, place) in events.iter().zip(1..) {
                latest.record(*event, place);
            }
            for (basis, expected) in [&consent, &honours, &ignores].into_iter().zip(expected) {
                assert_eq!(allows(basis, latest), *expected, "{events:?} under {basis:?}");
            }
        }
    }

    /// A withdrawal recorded last always counts, whatever came before and in whatever order records are read.
    #[test]
    fn the_last_withdrawal_wins() {
        arbtest::arbtest(|u| {
            let events: Vec<u8> = u.arbitrary()?;
            let mut records: Vec<(Event, u64)> =
                events.iter().map(|e| [Given, Withdrawn, Objected][usize::from(e % 3)]).chain([Withdrawn]).zip(1..).collect();
            let middle = u.choose_index(records.len())?;
            records.rotate_left(middle);
            let mut latest = Latest::default();
            for (event, place) in records {
                latest.record(event, place);
            }
            let basis = Basis::Consent { text: String::new() };
            assert!(!allows(&basis, latest));
            Ok(())
        });
    }

    #[test]
    fn what_reaches_elsewhere_is_a_choice_that_counts_at_home() {
        let [consent, honours, ignores] = [
            Basis::Consent { text: String::new() },
            Basis::Statutory { power: String::new(), honours_objections: true },
            Basis::Statutory { power: String::new(), honours_objections: false },
        ];
        let latest = |events: &[Event]| {
            let mut latest = Latest::default();
            events.iter().zip(1..).for_each(|(event, place)| latest.record(*event, place));
            latest
        };
        for (events, expected) in [
            (&[][..], [false; 3]),
            (&[Given], [false; 3]),
            (&[Withdrawn], [true, false, false]),
            (&[Given, Withdrawn], [true, false, false]),
            (&[Withdrawn, Given], [false; 3]),
            (&[Objected], [true, true, false]),
            (&[Objected, Withdrawn], [true, true, false]),
            (&[Objected, Given, Withdrawn], [true, false, false]),
        ] {
            for (basis, expected) in [&consent, &honours, &ignores].into_iter().zip(expected) {
                assert_eq!(reaches(basis, latest(events)), expected, "{events:?} to data on {basis:?}");
            }
        }
        arbtest::arbtest(|u| {
            let events: Vec<u8> = u.arbitrary()?;
            let events: Vec<Event> = events.iter().map(|e| [Given, Withdrawn, Objected][usize::from(e % 3)]).collect();
            for basis in [&consent, &honours, &ignores] {
                let latest = latest(&events);
                let chose = events.iter().any(|event| *event != Given);
                assert_eq!(reaches(basis, latest), chose && !allows(basis, latest), "{events:?} on {basis:?}");
            }
            Ok(())
        });
    }
}
