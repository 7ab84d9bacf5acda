//! A list of whose choices reach other data, kept by changes, is what is told to whoever has none.

use std::collections::BTreeSet;

use concordat_policy::Basis;
use concordat_policy::consent::Term;

use super::super::reach::{Kind, Since};
use super::*;
use crate::pseudonym::{DomainKey, Pseudonyms};

/// What is told from `since` on at the moment `now`, and where the list then stands.
fn told(importing: &Importing, key: &DomainKey, basis: &Basis, since: Option<Since>, now: i64) -> (concordat_proto::reach::Changes, Since) {
    let snapshot = importing.consent.catch_up().unwrap().snapshot.at(now);
    let relevant = ["opportunity.measure", "opportunity"].map(name);
    let view = snapshot.view("nino", relevant.iter());
    let kind = Kind { label: "nino".into(), pseudonyms: Pseudonyms::private(key, "reach"), view };
    let changes = importing.consent.reach(since, now, basis, &relevant, vec![kind]).unwrap();
    (changes, Since { version: snapshot.version(), moment: now })
}

#[test]
fn changes_tell_what_the_whole_list_tells_also_of_corrections_and_of_times_that_come() {
    const PEOPLE: [&str; 3] = ["AB100001A", "AB100002A", "AB100003A"];
    let key = DomainKey::random().unwrap();
    let bases = [Basis::Consent { text: "I agree".into() }, Basis::Statutory { power: "an Act".into(), honours_objections: true }];
    let (mut reached, mut left) = (0, 0);
    arbtest::arbtest(|u| {
        let importing = Importing::new();
        let basis = u.choose(&bases)?;
        let (mut now, mut held, mut list) = (1_000, None, BTreeSet::new());
        for _ in 0..u.int_in_range(2..=8)? {
            let identifier = *u.choose(&PEOPLE)?;
            match u.int_in_range(0..=3)? {
                0 => now += u.int_in_range(0..=20)?,
                1 => {
                    let place = u.int_in_range(1..=8)?;
                    let asked = importing.intake.ask("nino", std::iter::once(identifier), None).unwrap();
                    let _ = importing.consent.correct(&asked, place, None);
                }
                _ => {
                    let event = *u.choose(&[Event::Given, Event::Withdrawn, Event::Objected])?;
                    let mut time = || -> arbtest::arbitrary::Result<Option<i64>> {
                        Ok(if u.arbitrary()? { Some(now + u.int_in_range(1..=20)?) } else { None })
                    };
                    let term = Term::of(event, time()?, time()?).unwrap_or_default();
                    let purpose = *u.choose(&["opportunity", "opportunity.measure", "health"])?;
                    let details = Details { term, acting: None };
                    importing.consent.record(&[Record { details, ..record(identifier, purpose, event) }]).unwrap();
                }
            }
            if u.arbitrary()? {
                let (changes, since) = told(&importing, &key, basis, held, now);
                (reached, left) = (reached + changes.added.len(), left + changes.removed.len());
                list.extend(changes.added);
                list.retain(|known| !changes.removed.contains(known));
                // Of an empty ledger the list is whole again.
                held = (since.version > 0).then_some(since);
                let (whole, _) = told(&importing, &key, basis, None, now);
                assert_eq!((whole.added.into_iter().collect::<BTreeSet<_>>(), whole.removed), (list.clone(), Vec::new()));
            }
        }
        Ok(())
    });
    assert!(reached > 0 && left > 0, "{reached} told, {left} taken back");
}
