//! Laws of the purpose tree: narrower is covered, wider and look-alike never.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::Seeded;
use super::compare::decide;
use super::evaluator::{Agreement, Ask, Basis, Dataset, Disclosure, Party, Purpose, Recipient, World};
use super::world::{self, look_alikes, read};
use crate::{Code, PurposeTree};

/// An estate of one agreement for one purpose, signed, that gives one column.
pub(super) fn estate(purposes: &[Purpose], agreed: &str) -> World {
    let party = Party { department: "dfe".into(), key: "key".into() };
    let columns = vec![("score".to_owned(), vec!["aggregate"])];
    let dataset = Dataset { department: "dfe".into(), name: "people".into(), basis: Basis::Power, known_to: Vec::new(), columns };
    let agreement = Agreement {
        document: 0,
        id: "one".into(),
        mission: "growth".into(),
        purposes: vec![agreed.into()],
        first_day: "2026-01-01".into(),
        last_day: "2026-12-31".into(),
        minimum_subjects: 10,
        disclosure: Disclosure { dominance: vec![(2, 90)], round_to: 1, ..Disclosure::default() },
        parties: vec![party.clone()],
        recipients: vec![Recipient { organisation: "mission-unit".into(), roles: vec!["analyst".into()] }],
        datasets: vec![dataset],
    };
    let signatures = vec![world::signature(&agreement, &party)];
    World { purposes: purposes.to_vec(), agreements: vec![agreement], signatures, ..World::default() }
}

fn for_purpose(purpose: &str) -> Ask {
    let now: DateTime<Utc> = "2026-06-01T12:00:00Z".parse().unwrap();
    Ask {
        organisation: "mission-unit".into(),
        roles: vec!["analyst".into()],
        purpose: purpose.into(),
        mission: None,
        day: now.date_naive().to_string(),
        millisecond: now.timestamp_millis(),
        reads: Vec::new(),
        does: vec![("dfe".into(), "people".into(), "score".into(), "aggregate")],
    }
}

/// Of every two purposes of a tree: an agreement for a parent covers its child; none covers a wider purpose, a sibling, or a
/// cousin; and a name that begins with another's has nothing of it.
#[test]
fn a_narrower_purpose_is_covered_and_never_the_reverse() {
    let (mut narrower, mut refused) = (0, 0);
    for seed in 0..400 {
        let mut random = Seeded::new(seed);
        let purposes = world::world(&mut random).purposes;
        let find = |id: &str| purposes.iter().find(|purpose| purpose.id == id).unwrap();
        let may: BTreeSet<(&str, &str)> = purposes
            .iter()
            .flat_map(|agreed| {
                let read = read(&estate(&purposes, &agreed.id));
                let asked = purposes.iter().filter(move |asked| decide(&for_purpose(&asked.id), &read).unwrap().is_ok());
                asked.map(|asked| (agreed.id.as_str(), asked.id.as_str())).collect::<Vec<_>>()
            })
            .collect();
        for agreed in &purposes {
            for asked in &purposes {
                let (of, to) = (agreed.id.as_str(), asked.id.as_str());
                let is_child = asked.parent.as_deref() == Some(of);
                let active = !agreed.retired && !asked.retired;
                assert!(active || !may.contains(&(of, to)), "seed {seed}: retired, {of} for {to}");
                if active && (of == to || is_child) {
                    assert!(may.contains(&(of, to)), "seed {seed}: {of} for {to}");
                }
                if may.contains(&(of, to)) && of != to {
                    assert!(!may.contains(&(to, of)), "seed {seed}: both ways, {of} and {to}");
                    // Step by step: whoever covers a narrower purpose covers what lies between.
                    let parent = find(to).parent.as_deref().unwrap();
                    assert!(may.contains(&(of, parent)), "seed {seed}: {of} for {to} and not for {parent}");
                    narrower += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    assert!(narrower > 500 && refused > 500, "{narrower} {refused}");
}

/// A text that people take for a purpose is not that purpose: it is no name at all, or a name that nobody declared.
#[test]
fn look_alike_purposes_are_refused() {
    let purposes: Vec<Purpose> = ["opportunity", "opportunity.measure", "back-to-work", "c"]
        .into_iter()
        .map(|id| Purpose { id: id.into(), parent: None, retired: false })
        .collect();
    let (mut no_name, mut unknown) = (0, 0);
    for purpose in &purposes {
        let read = read(&estate(&purposes, &purpose.id));
        assert!(decide(&for_purpose(&purpose.id), &read).unwrap().is_ok());
        // And in plain ASCII, where a look-alike is a name like any other.
        let ascii = [("o", "0"), ("i", "1"), ("m", "rn"), (".", "-"), (".", "_"), ("-", "_"), ("-", "."), ("c", "c.c"), ("c", "cc")];
        let ascii = ascii.into_iter().filter(|(from, _)| purpose.id.contains(from)).map(|(from, to)| purpose.id.replacen(from, to, 1));
        for text in look_alikes(&purpose.id).into_iter().chain(ascii) {
            match decide(&for_purpose(&text), &read) {
                None => {
                    no_name += 1;
                    // Neither a tree nor an agreement can bring it in.
                    let tree = format!("[[purpose]]\nid = {}\ntitle = \"T\"\n", toml::Value::from(text.as_str()));
                    assert!(PurposeTree::parse(&tree).is_err(), "{text:?}");
                    let agreement = world::written(&estate(&purposes, "c").agreements[0]);
                    let agreement = agreement.replace("purposes = [\"c\"]", &format!("purposes = [{}]", toml::Value::from(text.as_str())));
                    assert!(crate::Agreement::parse(&agreement).is_err(), "{text:?}");
                }
                Some(decided) => {
                    unknown += 1;
                    assert_eq!(decided.err().map(|refusal| refusal.code), Some(Code::Denied), "{text:?}");
                }
            }
        }
    }
    assert!(no_name > 60 && unknown >= 10, "{no_name} {unknown}");
}
