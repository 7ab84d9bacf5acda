//! What deciding, comparing and explaining must keep apart, and what they must not tell apart.

use std::collections::{BTreeMap, BTreeSet};

use super::Seeded;
use super::compare::{dataset, decide};
use super::evaluator::{self, Answer, Basis, Dataset, Party};
use super::purposes::estate;
use super::world::{self, read};
use crate::decision::{BasisKind, Table};
use crate::difference::difference;
use crate::{Decision, Name};

/// Where several agreements are at fault (none binds, one dataset is in several that do not, or in several that do), which of them
/// is told rests on themselves alone, so that two gateways with the same files say the same.
#[test]
fn order_of_agreements_changes_no_word() {
    let (mut differ, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for seed in 0..4_000 {
        let mut random = Seeded::new(seed);
        let world = world::world(&mut random);
        let mut other = world.clone();
        random.shuffle(&mut other.agreements);
        let (one, two) = (read(&world), read(&other));
        for _ in 0..4 {
            let ask = world::ask(&mut random, &world);
            let words = [&one, &two].map(|read| decide(&ask, read).map(Result::err));
            let kind = match evaluator::answer(&world, &ask) {
                Answer::NothingBinds(_) => "none binds",
                Answer::UnsignedDataset(_) => "a dataset of those that do not bind",
                Answer::Ambiguous(..) => "a dataset of several that bind",
                _ => "anything else",
            };
            seen.insert(kind);
            if words[0] != words[1] {
                differ.entry(kind).or_insert_with(|| format!("seed {seed}: {words:#?}"));
            }
        }
    }
    assert_eq!(seen.len(), 4, "each kind must occur: {seen:?}");
    assert!(differ.is_empty(), "{}", differ.iter().map(|(kind, first)| format!("{kind}: {first}\n")).collect::<String>());
}

/// Two datasets whose names, written with their dots, read the same (`a` gives `b.c`, `a.b` gives `c`)
/// are two.
#[test]
fn a_difference_keeps_names_apart_that_read_the_same() {
    let mut more = estate(&[], "c");
    let agreement = &mut more.agreements[0];
    agreement.parties = ["a", "a.b"].map(|department| Party { department: department.into(), key: format!("key of {department}") }).into();
    let columns = vec![("score".to_owned(), vec!["output"])];
    let of = |department: &str, name: &str| Dataset {
        department: department.into(),
        name: name.into(),
        basis: Basis::Power,
        known_to: Vec::new(),
        columns: columns.clone(),
    };
    agreement.datasets = vec![of("a", "b.c"), of("a.b", "c")];
    let mut less = more.agreements[0].clone();
    less.datasets[0].columns[0].1.clear();
    let [more, less] = [&more.agreements[0], &less].map(|agreement| crate::Agreement::parse(&world::written(agreement)).unwrap());
    let said = difference(&less, &more);
    assert_eq!(said.newly.len(), 1, "a subject's own score may leave, which it may not before: {said}");
}

/// The uses of one table are not told as those of another whose name begins with its own.
#[test]
fn a_decision_keeps_tables_apart_whose_names_begin_alike() {
    let table = |name: &str| Table {
        dataset: dataset("dfe", name).to_string(),
        agreement: Name::parse("one").unwrap(),
        basis: BasisKind::Statutory,
        rows: None,
        coded: None,
    };
    let columns = vec![format!("{}.score: output", dataset("dfe", "people.old"))];
    let decision = Decision { tables: vec![table("people"), table("people.old")], columns, rules: Vec::new() };
    assert_eq!(decision.uses_of(&decision.tables[1]).collect::<Vec<_>>(), [("score", "output")]);
    assert_eq!(decision.uses_of(&decision.tables[0]).collect::<Vec<_>>(), [], "nothing of this table is used");
}

/// A list is told apart from one text with commas.
#[test]
fn a_difference_keeps_lists_apart_that_read_the_same() {
    let one = estate(&[], "c").agreements.remove(0);
    let mut other = one.clone();
    other.recipients[0].roles = vec!["analyst".into(), "lead".into()];
    let mut joined = one.clone();
    joined.recipients[0].roles = vec!["analyst, lead".into()];
    let [roles, role] = [&other, &joined].map(|agreement| crate::Agreement::parse(&world::written(agreement)).unwrap());
    assert!(!difference(&role, &roles).is_empty(), "a role became two, and analysts may ask who could not");
    let values = |list: &str| {
        let text = world::written(&one).replace("values = [\"N\", \"S\"]", &format!("values = [{list}]"));
        crate::Agreement::parse(&text).unwrap()
    };
    assert!(!difference(&values("\"N, S\""), &values("\"N\", \"S\"")).is_empty(), "the published list of values has changed");
}
