//! A list of whose choices reach other data, kept by changes, is what is told to whoever has none; nobody leaves it by being erased.

use std::collections::BTreeSet;

use concordat_policy::Basis;
use concordat_policy::consent::Term;

use super::super::reach::{Kind, Since};
use super::*;
use crate::pseudonym::{DomainKey, Pseudonym, Pseudonyms};

/// What a node tells.
struct Told {
    whole: bool,
    changes: concordat_proto::reach::Changes,
}

/// Everybody on the list.
fn whole(importing: &Importing, key: &DomainKey, basis: &Basis, now: i64) -> BTreeSet<Pseudonym> {
    let (told, _) = told(importing, key, basis, None, now);
    assert_eq!((told.whole, told.changes.removed), (true, Vec::new()));
    told.changes.added.into_iter().collect()
}

/// What is told from `since` on at the moment `now`, unless `since` cannot be followed, and where the list then stands.
fn told(importing: &Importing, key: &DomainKey, basis: &Basis, since: Option<Since>, now: i64) -> (Told, Since) {
    let since = since.filter(|since| importing.consent.follows(since.version).unwrap());
    let snapshot = importing.consent.catch_up().unwrap().snapshot.at(now);
    let relevant = ["opportunity.measure", "opportunity"].map(name);
    let view = snapshot.view("nino", relevant.iter());
    let kind = Kind { label: "nino".into(), pseudonyms: Pseudonyms::private(key, "reach"), view };
    let changes = importing.consent.reach(since, now, basis, &relevant, vec![kind]).unwrap();
    (Told { whole: since.is_none(), changes }, Since { version: snapshot.version(), moment: now })
}

#[test]
fn changes_tell_what_the_whole_list_tells_also_of_corrections_of_the_erased_and_of_times_that_come() {
    const PEOPLE: [&str; 3] = ["AB100001A", "AB100002A", "AB100003A"];
    let key = DomainKey::random().unwrap();
    let bases = [Basis::Consent { text: "I agree".into() }, Basis::Statutory { power: "an Act".into(), honours_objections: true }];
    let (mut reached, mut left, mut kept, mut followed) = (0, 0, 0, 0);
    // What an erasure keeps is judged by the clock: no time of this test is over.
    let begin = Utc::now().timestamp() + 3_600;
    arbtest::arbtest(|u| {
        let importing = Importing::new();
        let basis = u.choose(&bases)?;
        let (mut now, mut held, mut list) = (begin, None, BTreeSet::new());
        for _ in 0..u.int_in_range(2..=8)? {
            let identifier = *u.choose(&PEOPLE)?;
            match u.int_in_range(0..=4)? {
                0 => now += u.int_in_range(0..=20)?,
                1 => {
                    let place = u.int_in_range(1..=8)?;
                    let asked = importing.intake.ask("nino", std::iter::once(identifier), None).unwrap();
                    let _ = importing.consent.correct(&asked, place, None);
                }
                2 => {
                    let before = whole(&importing, &key, basis, now);
                    let asked = importing.intake.ask("nino", std::iter::once(identifier), None).unwrap();
                    importing.consent.erase(&asked, &importing.intake, None).unwrap();
                    assert!(whole(&importing, &key, basis, now).is_superset(&before), "whoever was withheld stays withheld");
                    kept += before.len();
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
                let (Told { whole: anew, changes }, since) = told(&importing, &key, basis, held, now);
                if anew {
                    list.clear();
                } else {
                    followed += 1;
                }
                (reached, left) = (reached + changes.added.len(), left + changes.removed.len());
                list.extend(changes.added);
                list.retain(|known| !changes.removed.contains(known));
                // Of an empty ledger the list is whole again.
                held = (since.version > 0).then_some(since);
                assert_eq!(whole(&importing, &key, basis, now), list);
            }
        }
        Ok(())
    })
    .size_min(256)
    .budget_ms(5_000);
    assert!(
        reached > 0 && left > 0 && kept > 0 && followed > 0,
        "{reached} told, {left} taken back, {kept} on a list when somebody was erased, {followed} times of changes"
    );
}

#[test]
fn whoever_is_erased_stays_on_the_list_until_what_was_kept_is_wrong() {
    let importing = Importing::new();
    let (key, now) = (DomainKey::random().unwrap(), Utc::now().timestamp() + 3_600);
    let basis = Basis::Statutory { power: "an Act".into(), honours_objections: true };
    let ask = |identifier| importing.intake.ask("nino", std::iter::once(identifier), None).unwrap();
    let erase = |identifier| importing.consent.erase(&ask(identifier), &importing.intake, None).unwrap().version;
    let one = BTreeSet::from([Pseudonyms::private(&key, "reach").one("AB100001A")]);
    importing.consent.record(&[record("AB100001A", "opportunity", Event::Objected)]).unwrap();
    importing.consent.record(&[record("AB100002A", "opportunity", Event::Given)]).unwrap();
    let (_, since) = told(&importing, &key, &basis, None, now);
    // Whoever only agreed was never told of: nothing is told anew.
    erase("AB100002A");
    assert!(importing.consent.follows(since.version).unwrap());
    let kept = erase("AB100001A");
    assert_eq!(whole(&importing, &key, &basis, now), one, "without a list from before");
    let (changed, since) = told(&importing, &key, &basis, Some(since), now);
    assert_eq!((changed.whole, changed.changes.removed), (false, Vec::new()));
    // What was kept was wrong: nothing is kept of the identifier, and whoever had a list is told another.
    importing.consent.correct(&ask("AB100001A"), kept, None).unwrap();
    assert!(!importing.consent.follows(since.version).unwrap());
    let (changed, since) = told(&importing, &key, &basis, Some(since), now);
    assert_eq!((changed.whole, changed.changes.added), (true, Vec::new()));
    assert!(importing.consent.follows(since.version).unwrap());
    let ledger = rusqlite::Connection::open(importing.consent.state.join("consent.sqlite")).unwrap();
    let sealed = "SELECT count(*) FROM records WHERE length(sealed) > 0";
    assert_eq!(ledger.query_row(sealed, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}
