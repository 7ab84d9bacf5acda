//! The index against a plain model: whatever is recorded, settled and merged, each snapshot says what the records said then.

use concordat_policy::agreement::hex;
use concordat_policy::consent::{Event, Term};

use super::super::tests::order;
use super::*;
use crate::fixture::name;
use crate::pseudonym::DomainKey;

const PURPOSES: [&str; 3] = ["p", "p.q", "r"];
const EVENTS: [Event; 3] = [Event::Given, Event::Withdrawn, Event::Objected];
const TYPES: [&str; 2] = ["nino", "upn"];

/// Type, subject, purpose, event and when it speaks; in the order of places.
type Records = Vec<Told>;
/// No event: all before it is forgotten.
type Told = (usize, usize, usize, Option<(Event, Term)>);

fn index(limits: Limits) -> Index {
    Index { limits, ..Index::new(Arc::new(Pseudonyms::private(&DomainKey::new([3; 32]), "consent"))) }
}

fn plain(event: Event) -> Option<(Event, Term)> {
    Some((event, Term::default()))
}

fn apply(index: &mut Index, (kind, subject, purpose, told): Told) {
    let identifier = format!("subject {subject}");
    let digest = hex(&index.hasher.one(&identifier)[..10]);
    // Whether the identifier stands in the row, or what is kept in its stead, the subject is the same.
    let subject = if subject.is_multiple_of(5) { Subject::Erased(&digest) } else { Subject::Identifier(&identifier) };
    let step = told.map_or(Step::Forget, |(event, term)| Step::Choice { purpose: PURPOSES[purpose], event, term });
    index.apply(Row { identifier_type: TYPES[kind], subject, sealed: None, step }).unwrap();
}

fn expected(records: &Records, kind: usize, subject: usize, purposes: &[usize], now: i64) -> Latest {
    let mut latest = Latest::default();
    for ((.., purpose, told), place) in records.iter().zip(1..).filter(|((k, s, ..), _)| (*k, *s) == (kind, subject)) {
        match told {
            None => latest = Latest::default(),
            Some((event, term)) if purposes.contains(purpose) => latest.hear(*event, *term, place, now),
            Some(_) => {}
        }
    }
    latest
}

fn verify(snapshot: &Snapshot, records: &Records, subjects: usize) {
    for (purposes, now) in [&[0][..], &[1, 0], &[2], &[0, 1, 2], &[]].into_iter().flat_map(|purposes| [(purposes, 1), (purposes, 3)]) {
        let snapshot = snapshot.clone().at(now);
        let names: Vec<Name> = purposes.iter().map(|p| name(PURPOSES[*p])).chain([name("unknown")]).collect();
        for (kind, label) in TYPES.iter().enumerate() {
            let identifiers: Vec<String> = (0..=subjects).map(|subject| format!("subject {subject}")).collect();
            let mut found = vec![Latest { given: Some(9), ..Latest::default() }; 3];
            snapshot.view(label, names.iter()).latest(identifiers.iter().map(String::as_str), &mut Vec::new(), &mut found);
            assert_eq!(found.len(), subjects + 1);
            for (subject, found) in found.into_iter().enumerate() {
                assert_eq!(order(found), order(expected(records, kind, subject, purposes, now)), "{label} {subject} {purposes:?} at {now}");
            }
        }
    }
}

#[test]
fn every_snapshot_says_what_the_records_said_then() {
    arbtest::arbtest(|u| {
        let limits = *u.choose(&[
            Limits { few: |_| 0, many: |_| 1 },
            Limits { few: |_| 3, many: |_| 5 },
            Limits { few: |base| base / 2, many: |_| 7 },
            Limits { few: |_| 1000, many: |_| 1000 },
        ])?;
        let subjects = u.int_in_range(1..=12)?;
        let (mut index, mut records, mut snapshots) = (index(limits), Records::new(), Vec::new());
        for _ in 0..u.int_in_range(0..=60)? {
            let term = match u.int_in_range(0..=9)? {
                0 => Term::of(Event::Given, Some(u.int_in_range(0..=2)?), Some(u.int_in_range(3..=4)?)),
                1 => Term::of(Event::Given, None, Some(u.int_in_range(0..=4)?)),
                2 => Term::of(Event::Given, Some(u.int_in_range(0..=4)?), None),
                _ => Ok(Term::default()),
            }
            .unwrap();
            let event = if term.is_plain() { *u.choose(&EVENTS)? } else { Event::Given };
            let told = (!u.ratio(1, 12)?).then_some((event, term));
            let record = (u.choose_index(2)?, u.choose_index(subjects)?, u.choose_index(3)?, told);
            apply(&mut index, record);
            records.push(record);
            if u.ratio(1, 3)? {
                index.advance(records.len() as u64).unwrap();
                snapshots.push((index.snapshot(0), records.clone()));
                if u.arbitrary()? {
                    snapshots.remove(u.choose_index(snapshots.len())?);
                }
            }
        }
        // Records that were taken but not settled, because reading failed, come again.
        let settled = usize::try_from(index.version()).unwrap();
        records[settled..].iter().for_each(|record| apply(&mut index, *record));
        index.advance(records.len() as u64).unwrap();
        snapshots.push((index.snapshot(0), records));
        for (snapshot, records) in &snapshots {
            assert_eq!(snapshot.version(), records.len() as u64);
            let everybody: std::collections::BTreeSet<_> = records.iter().map(|(kind, subject, ..)| (kind, subject)).collect();
            assert_eq!(snapshot.subjects(), everybody.len());
            verify(snapshot, records, subjects);
        }
        Ok(())
    });
}

/// With the limits that nodes have: a bulk, then few changes, then many, each read by somebody.
#[test]
fn bulks_and_changes_merge_at_scale() {
    let mut index = index(Limits::default());
    let subjects = 1_100_000;
    let record = |index: &mut Index, subject: usize, event| apply(index, (0, subject, 0, plain(event)));
    (0..subjects).for_each(|subject| record(&mut index, subject, Event::Given));
    index.advance(1).unwrap();
    let bulk = index.snapshot(0);
    (0..100).for_each(|subject| record(&mut index, subject * 7, Event::Withdrawn));
    index.advance(2).unwrap();
    let few = index.snapshot(0);
    (0..50_000).for_each(|subject| record(&mut index, subject * 7 + 1, Event::Objected));
    index.advance(3).unwrap();
    let many = index.snapshot(0);
    let bytes = many.bytes() as f64 / many.subjects() as f64;
    assert!(many.subjects() == subjects && (14.0..16.0).contains(&bytes), "{bytes} bytes a subject");
    for (snapshot, withdrawn, objected) in [(bulk, 0, 0), (few, 100, 0), (many, 100, 50_000)] {
        let identifiers: Vec<String> = (0..subjects).map(|subject| format!("subject {subject}")).collect();
        let mut found = Vec::new();
        let purposes = [name("p")];
        snapshot.view("nino", purposes.iter()).latest(identifiers.iter().map(String::as_str), &mut Vec::new(), &mut found);
        for (subject, latest) in found.into_iter().enumerate() {
            let mut events = vec![Event::Given];
            events.extend((subject.is_multiple_of(7) && subject / 7 < withdrawn).then_some(Event::Withdrawn));
            events.extend((subject % 7 == 1 && subject / 7 < objected).then_some(Event::Objected));
            assert_eq!(order(latest), events, "{subject}");
        }
    }
}

/// A merge leaves only the histories that somebody still has.
#[test]
fn histories_that_nobody_has_are_forgotten() {
    let mut index = index(Limits { few: |_| 0, many: |_| 1000 });
    for round in 0..50 {
        apply(&mut index, (0, 1, round % 3, plain(EVENTS[round / 3 % 3])));
        index.advance(round as u64 + 1).unwrap();
    }
    let table = index.snapshot(0).tables["nino"].clone();
    assert_eq!(table.histories(), 2, "the empty one and the subject's");
}
