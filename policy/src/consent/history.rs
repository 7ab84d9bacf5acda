//! A subject's whole history: which of its records still speak, and what remains of them when the subject is erased.
//!
//! | records, in the ledger's order | what still speaks |
//! |---|---|
//! | 1 *given*, 2 *withdrawn*, 3 *2 was wrong* | 1 *given* |
//! | 1 *withdrawn*, 2 *given*, 3 *1 was wrong* | 2 *given* |
//! | 1 *given*, 2 *objected*, 3 *erased*, 4 *objected* (kept) | 4 *objected* |
//! | …, 5 *given* | 4 *objected*, 5 *given*: the person is back, and the later record wins |
//!
//! A correction says that a record should never have been made, so that earlier ones speak again; what should have been recorded
//! is recorded anew. A correction is not corrected: that too is recorded anew. The history shows both.
//!
//! **Erasure.** The person's identifier goes from the ledger; its places and its version stay. What the person had given is gone
//! with it, so that nothing is released on the basis consent. What kept its data back is kept, under a keyed digest in the
//! identifier's stead: for each purpose the last *objected* (and *withdrawn*) that counts now, or that would count once all
//! that waits has taken effect and all that expires has expired. Kept records speak at once. So erasure never turns a no into a
//! yes; it may turn a yes that was to end, or that a *given* for a narrower purpose had reached, into a no.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Term, allows, latest, relevant};
use crate::{Basis, Name, PurposeTree};

/// What one record of a subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A choice, and when it speaks.
    Choice(Event, Term),
    /// The record at this place was wrong.
    Corrected(u64),
    /// What the ledger held of the subject until then is gone.
    Erased,
}

/// One record of a subject that still speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken<'a> {
    /// Its place in the ledger.
    pub place: u64,
    /// The purpose.
    pub purpose: &'a str,
    /// What was chosen.
    pub event: Event,
    /// When it speaks.
    pub term: Term,
}

/// The records that still speak, by place, among all those of one subject: place, purpose, what it says; in any order.
#[must_use]
pub fn speaking<'a>(records: impl Iterator<Item = (u64, &'a str, Said)> + Clone) -> Vec<Spoken<'a>> {
    let erased = records.clone().filter(|(.., said)| *said == Said::Erased).map(|(place, ..)| place).max();
    let corrected: BTreeSet<u64> = records
        .clone()
        .filter_map(|(place, _, said)| match said {
            // A record says nothing of later ones.
            Said::Corrected(of) if of < place => Some(of),
            _ => None,
        })
        .collect();
    let choice = |(place, purpose, said): (u64, &'a str, Said)| match said {
        Said::Choice(event, term) if Some(place) > erased && !corrected.contains(&place) => Some(Spoken { place, purpose, event, term }),
        _ => None,
    };
    let mut spoken: Vec<_> = records.filter_map(choice).collect();
    spoken.sort_by_key(|record| record.place);
    spoken
}

/// What is kept of an erased subject, by purpose. `now` in Unix seconds.
#[must_use]
pub fn kept(tree: &PurposeTree, spoken: &[Spoken<'_>], now: i64) -> Vec<(String, Event)> {
    // Between these moments nothing changes.
    let changes = spoken.iter().flat_map(|record| [record.term.effective_from(), record.term.expires_at()]).flatten();
    let moments: BTreeSet<i64> = changes.filter(|moment| *moment > now).chain([now]).collect();
    let mut last: BTreeMap<(&str, Event), u64> = BTreeMap::new();
    for record in spoken.iter().filter(|record| record.event != Event::Given) {
        last.insert((record.purpose, record.event), record.place);
    }
    let counts = |(purpose, event): (&str, Event)| {
        // A purpose that has left the tree still speaks for itself.
        let wider: Vec<&Name> = Name::parse(purpose).map(|name| relevant(tree, &name).collect()).unwrap_or_default();
        let speaks = |other: &str| other == purpose || wider.iter().any(|name| name.as_str() == other);
        let basis = match event {
            Event::Objected => Basis::Statutory { power: String::new(), honours_objections: true },
            Event::Given | Event::Withdrawn => Basis::Consent { text: String::new() },
        };
        moments.iter().any(|moment| !allows(&basis, latest(spoken, speaks, *moment)))
    };
    let mut kept: Vec<_> = last.into_iter().filter(|(of, _)| counts(*of)).collect();
    kept.sort_by_key(|(_, place)| *place);
    kept.into_iter().map(|((purpose, event), _)| (purpose.to_owned(), event)).collect()
}

#[cfg(test)]
mod tests {
    use super::Event::{Given, Objected, Withdrawn};
    use super::*;

    const TREE: &str = r#"purpose = [
      { id = "o", title = "O" },
      { id = "o.m", title = "M", parent = "o" },
      { id = "h", title = "H" },
    ]"#;

    fn plain(event: Event) -> Said {
        Said::Choice(event, Term::default())
    }

    fn until(time: i64) -> Said {
        Said::Choice(Given, Term::of(Given, None, Some(time)).unwrap())
    }

    fn from(event: Event, time: i64) -> Said {
        Said::Choice(event, Term::of(event, Some(time), None).unwrap())
    }

    /// Places count from 1.
    fn spoken<'a>(said: &[(&'a str, Said)]) -> Vec<Spoken<'a>> {
        speaking(said.iter().zip(1..).map(|((purpose, said), place)| (place, *purpose, *said)))
    }

    /// Basis, records in the ledger's order, and whether the data may be used at which moments.
    type Case<'a> = (&'a Basis, &'a [Said], &'a [(i64, bool)]);

    #[test]
    fn the_tables_of_the_headers() {
        let consent = Basis::Consent { text: String::new() };
        let honours = Basis::Statutory { power: String::new(), honours_objections: true };
        let (may, june, july) = (5, 6, 7);
        let cases: &[Case<'_>] = &[
            (&consent, &[until(june)], &[(may, true), (june, false)]),
            (&consent, &[plain(Given), until(june)], &[(may, true), (june, false)]),
            (&consent, &[from(Given, june), plain(Withdrawn)], &[(may, false), (july, false)]),
            (&consent, &[plain(Withdrawn), from(Given, june)], &[(may, false), (june, true)]),
            (&honours, &[plain(Objected), until(june)], &[(may, true), (june, false)]),
            (&honours, &[plain(Objected), plain(Given), until(june)], &[(may, true), (june, true)]),
            (&honours, &[from(Objected, june)], &[(may, true), (june, false)]),
            (&honours, &[from(Objected, june), plain(Given)], &[(may, true), (june, true)]),
            (&consent, &[plain(Given), plain(Withdrawn), Said::Corrected(2)], &[(may, true)]),
            (&consent, &[plain(Withdrawn), plain(Given), Said::Corrected(1)], &[(may, true)]),
            (&consent, &[plain(Withdrawn), plain(Given), Said::Corrected(2)], &[(may, false)]),
            (&consent, &[plain(Given), Said::Corrected(3), plain(Given)], &[(may, true)]),
            (&consent, &[plain(Given), Said::Erased], &[(may, false)]),
            (&honours, &[plain(Given), plain(Objected), Said::Erased, plain(Objected)], &[(may, false)]),
            (&honours, &[plain(Objected), Said::Erased, plain(Objected), plain(Given)], &[(may, true)]),
        ];
        for (basis, said, expected) in cases {
            let of_one: Vec<_> = said.iter().map(|said| ("o", *said)).collect();
            for (now, allowed) in *expected {
                assert_eq!(allows(basis, latest(&spoken(&of_one), |_| true, *now)), *allowed, "{said:?} at {now}");
            }
        }
    }

    /// Nobody has withdrawn whose consent has run out.
    #[test]
    fn what_has_expired_is_no_withdrawal() {
        let told = latest(&spoken(&[("o", plain(Objected)), ("o", until(6))]), |_| true, 6);
        assert_eq!((told.given, told.expired, told.withdrawn, told.objected, told.last()), (None, Some(2), None, Some(1), Some(2)));
        let given = latest(&spoken(&[("o", until(6))]), |_| true, 5);
        assert_eq!((given.given, given.expired), (Some(1), None));
    }

    #[test]
    fn what_is_kept_of_an_erased_subject() {
        let tree = PurposeTree::parse(TREE).unwrap();
        type Kept = &'static [(&'static str, Event)];
        let cases: &[(&[(&str, Said)], Kept)] = &[
            (&[], &[]),
            (&[("o", plain(Given))], &[]),
            (&[("o", plain(Given)), ("o", plain(Withdrawn))], &[("o", Withdrawn)]),
            (&[("o", plain(Withdrawn)), ("o", plain(Given))], &[]),
            (&[("o", plain(Objected)), ("o.m", plain(Given)), ("h", plain(Withdrawn))], &[("o", Objected), ("h", Withdrawn)]),
            (&[("o.m", plain(Objected)), ("o", plain(Given))], &[]),
            (&[("o", plain(Objected)), ("o", until(50))], &[("o", Objected)]),
            (&[("o", from(Objected, 50))], &[("o", Objected)]),
            (&[("o", plain(Objected)), ("o", from(Given, 50))], &[("o", Objected)]),
            (&[("o", plain(Objected)), ("o", until(30)), ("o", from(Given, 40))], &[("o", Objected)]),
            (&[("o", plain(Objected)), ("o", until(10)), ("o", from(Given, 10))], &[]),
            (&[("gone", plain(Objected))], &[("gone", Objected)]),
            (&[("o", plain(Objected)), ("o", Said::Corrected(1))], &[]),
            (&[("o", plain(Objected)), ("o", plain(Withdrawn))], &[("o", Objected), ("o", Withdrawn)]),
        ];
        for (said, expected) in cases {
            let kept = kept(&tree, &spoken(said), 20);
            let kept: Vec<_> = kept.iter().map(|(purpose, event)| (purpose.as_str(), *event)).collect();
            assert_eq!(kept, *expected, "{said:?}");
        }
    }
}
