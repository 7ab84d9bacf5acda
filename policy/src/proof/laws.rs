//! Laws that hold in every estate, whatever the rules are in detail.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveDate};

use super::Seeded;
use super::compare::{caller, dataset, decide};
use super::evaluator::{self, Agreement, Answer, Ask, Basis, Dataset, Party, Purpose, Recipient, World};
use super::world::{self, COLUMNS, DATASETS, DEPARTMENTS, Read, USES, look_alikes, read, use_of};
use crate::decision::{BasisKind, Table};
use crate::difference::difference;
use crate::{Code, ColumnUses, DatasetName, Decision, Name, Permit, PurposeTree, Refusal, authorize};

type Uses = BTreeSet<(String, String, String, &'static str)>;

/// The permit for a request, or why there is none.
fn permit(ask: &Ask, read: &Read) -> Option<Result<Permit, Refusal>> {
    let mission = ask.mission.as_ref().map(|mission| Name::parse(mission).unwrap());
    let now = DateTime::from_timestamp_millis(ask.millisecond).unwrap();
    Some(authorize(&caller(ask)?, mission.as_ref(), &read.agreements, &read.signatures, &read.purposes, now))
}

/// Everything that the request's caller may do, each use asked by itself.
fn permitted(ask: &Ask, read: &Read) -> Uses {
    let mut found = Uses::new();
    let Some(Ok(permit)) = permit(ask, read) else { return found };
    for (department, name) in DEPARTMENTS.into_iter().flat_map(|department| DATASETS.map(|name| (department, name))) {
        let of = dataset(department, name);
        let mut touched = ColumnUses::default();
        touched.touch(&of);
        if permit.judge(&touched).is_err() {
            continue;
        }
        found.insert((department.into(), name.into(), String::new(), "read"));
        for (column, used) in COLUMNS.into_iter().flat_map(|column| USES.map(|used| (column, used))) {
            let mut uses = ColumnUses::default();
            uses.add(&of, column, use_of(used));
            if permit.judge(&uses).is_ok() {
                found.insert((department.into(), name.into(), column.into(), used));
            }
        }
    }
    found
}

/// What any one agreement permits when the others do not exist, so that nothing is ambiguous.
fn granted(ask: &Ask, world: &World) -> Uses {
    let alone = |agreement: &Agreement| permitted(ask, &read(&World { agreements: vec![agreement.clone()], ..world.clone() }));
    world.agreements.iter().flat_map(alone).collect()
}

/// Takes one permission away, and says which; nothing where there is none of the kind. The parties sign what remains.
fn take_away(random: &mut Seeded, world: &mut World) -> Option<&'static str> {
    let which = random.below(world.agreements.len());
    let agreement = &mut world.agreements[which];
    let day = |day: &str| day.parse::<NaiveDate>().unwrap();
    match random.below(12) {
        0 => {
            let which = pick(random, &agreement.datasets)?;
            let which_column = pick(random, &agreement.datasets[which].columns)?;
            let uses = &mut agreement.datasets[which].columns[which_column].1;
            let which = pick(random, uses)?;
            uses.remove(which);
            Some("a use")
        }
        1 => {
            let which = pick(random, &agreement.datasets)?;
            let which_column = pick(random, &agreement.datasets[which].columns)?;
            agreement.datasets[which].columns.remove(which_column);
            Some("a column")
        }
        2 => {
            let which = pick(random, &agreement.datasets)?;
            agreement.datasets.remove(which);
            Some("a dataset")
        }
        3 => {
            // An agreement without a purpose is none.
            let which = (agreement.purposes.len() > 1).then(|| random.below(agreement.purposes.len()))?;
            agreement.purposes.remove(which);
            Some("a purpose")
        }
        4 => {
            let which = pick(random, &agreement.recipients)?;
            agreement.recipients.remove(which);
            Some("a recipient")
        }
        5 => {
            let which = pick(random, &agreement.recipients)?;
            let which_role = pick(random, &agreement.recipients[which].roles)?;
            agreement.recipients[which].roles.remove(which_role);
            Some("a role")
        }
        6 | 7 if agreement.first_day == agreement.last_day => None,
        6 => {
            agreement.first_day = (day(&agreement.first_day) + Days::new(1)).to_string();
            Some("the first day")
        }
        7 => {
            agreement.last_day = (day(&agreement.last_day) - Days::new(1)).to_string();
            Some("the last day")
        }
        8 => {
            let which = pick(random, &world.signatures)?;
            world.signatures.remove(which);
            Some("a signature")
        }
        9 => {
            let party = random.one(&agreement.parties);
            world.revoked_keys = vec![party.key];
            Some("a key")
        }
        10 => {
            let which = random.below(world.purposes.len());
            world.purposes[which].retired = true;
            Some("a purpose of the tree")
        }
        _ => {
            world.agreements.remove(which);
            Some("an agreement")
        }
    }
}

fn pick<T>(random: &mut Seeded, of: &[T]) -> Option<usize> {
    (!of.is_empty()).then(|| random.below(of.len()))
}

/// What a world without something permits, the world with it granted. And what was refused before is refused after, unless it
/// was refused only because two agreements, or two missions, fitted at once.
#[test]
fn less_never_permits_more() {
    let mut mattered = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for seed in 0..6_000 {
        let mut random = Seeded::new(seed);
        let world = world::world(&mut random);
        let ask = world::ask(&mut random, &world);
        let mut less = world.clone();
        // A revocation list with one key replaces the world's, so that worlds that had one are left out.
        let Some(what) = take_away(&mut random, &mut less).filter(|what| *what != "a key" || world.revoked_keys.is_empty()) else {
            continue;
        };
        taken.insert(what);
        let (with, without) = (read(&world), read(&less));
        let after = permitted(&ask, &without);
        let widened: Vec<_> = after.difference(&granted(&ask, &world)).cloned().collect();
        assert!(widened.is_empty(), "seed {seed}: without {what}, newly {widened:?}\n{ask:#?}\n{world:#?}");
        let before = permitted(&ask, &with);
        let ambiguous = matches!(permit(&ask, &with), Some(Err(refusal)) if refusal.code == Code::Invalid);
        assert!(ambiguous || after.is_subset(&before), "seed {seed}: without {what}\n{ask:#?}\n{world:#?}");
        if after != before {
            mattered.insert(what);
        }
    }
    assert_eq!(taken.len(), 12, "{taken:?}");
    assert_eq!(mattered, taken, "each of them must matter to some request");
}

/// What `agreement diff` says of a permission that was taken away: something, and never that anything is new.
#[test]
fn a_difference_tells_what_was_taken_away() {
    let pairs = |agreement: &Agreement| -> BTreeSet<(String, String)> {
        let of =
            |recipient: &Recipient| recipient.roles.iter().map(|role| (recipient.organisation.clone(), role.clone())).collect::<Vec<_>>();
        agreement.recipients.iter().flat_map(of).collect()
    };
    let mut told = 0;
    for seed in 0..4_000 {
        let mut random = Seeded::new(seed);
        let mut world = world::world(&mut random);
        world.agreements.truncate(1);
        let mut less = world.clone();
        let Some(what) = take_away(&mut random, &mut less) else { continue };
        let same_readers = ["a recipient", "a role"].contains(&what) && pairs(&world.agreements[0]) == pairs(&less.agreements[0]);
        if less.agreements.is_empty() || same_readers || ["a signature", "a key", "a purpose of the tree"].contains(&what) {
            continue;
        }
        // The pseudonym is a dataset's in any case: without its uses nothing remains to be taken.
        let (with, without) = (read(&world), read(&less));
        let subject_without_uses = what == "a column"
            && without.agreements[0]
                .datasets
                .iter()
                .zip(&with.agreements[0].datasets)
                .all(|(less, more)| less.columns.len() == more.columns.len() && less.subject_uses == more.subject_uses);
        let said = difference(&with.agreements[0], &without.agreements[0]);
        assert!(said.newly.is_empty(), "seed {seed}: without {what}, {said}");
        assert_eq!(said.is_empty(), subject_without_uses, "seed {seed}: without {what}, {said}\n{world:#?}");
        told += 1;
    }
    assert!(told > 1_000, "{told}");
}

/// The same world, every list of it in another order.
fn shuffled(random: &mut Seeded, world: &World) -> World {
    let mut world = world.clone();
    random.shuffle(&mut world.agreements);
    random.shuffle(&mut world.purposes);
    random.shuffle(&mut world.signatures);
    random.shuffle(&mut world.revoked_keys);
    for agreement in &mut world.agreements {
        random.shuffle(&mut agreement.purposes);
        random.shuffle(&mut agreement.parties);
        random.shuffle(&mut agreement.recipients);
        agreement.recipients.iter_mut().for_each(|recipient| random.shuffle(&mut recipient.roles));
        random.shuffle(&mut agreement.datasets);
        for dataset in &mut agreement.datasets {
            random.shuffle(&mut dataset.columns);
            dataset.columns.iter_mut().for_each(|(_, uses)| random.shuffle(uses));
        }
    }
    world
}

/// The tables of a permitted request with their agreements, or the code of its refusal.
fn outcome(ask: &Ask, read: &Read) -> Result<Decision, Option<Code>> {
    match decide(ask, read) {
        Some(Ok((permit, uses))) => {
            let minimum = permit.minimum_subjects(uses.datasets());
            Ok(Decision::of(&permit, &uses, minimum))
        }
        Some(Err(refusal)) => Err(Some(refusal.code)),
        None => Err(None),
    }
}

#[test]
fn order_changes_no_decision() {
    for seed in 0..3_000 {
        let mut random = Seeded::new(seed);
        let world = world::world(&mut random);
        let other = shuffled(&mut random, &world);
        let (one, two) = (read(&world), read(&other));
        for _ in 0..4 {
            let ask = world::ask(&mut random, &world);
            let mut again = ask.clone();
            random.shuffle(&mut again.roles);
            random.shuffle(&mut again.reads);
            random.shuffle(&mut again.does);
            assert_eq!(outcome(&ask, &one), outcome(&again, &two), "seed {seed}\n{ask:#?}\n{world:#?}");
            assert_eq!(permitted(&ask, &one), permitted(&again, &two), "seed {seed}\n{ask:#?}\n{world:#?}");
            // A refusal of a use, a dataset or a purpose says the same, word for word.
            if let (Some(Err(one)), Some(Err(two))) = (decide(&ask, &one), decide(&again, &two))
                && !matches!(one.because.as_deref(), Some(crate::Cause::Signature { .. }))
                && one.code == Code::Denied
            {
                assert_eq!(one, two, "seed {seed}");
            }
        }
    }
}

/// Expected, and not so yet: where several agreements are at fault (none binds, one dataset is in several that do not, or in several
/// that do), the one that is told is the first by name, so that two gateways with the same files say the same. Today it is
/// the first of the list, or the last.
#[test]
#[ignore = "pending: which of several faults is told depends on the order of the agreements"]
fn order_of_agreements_changes_no_word() {
    let mut differ = BTreeMap::new();
    for seed in 0..3_000 {
        let mut random = Seeded::new(seed);
        let world = world::world(&mut random);
        let mut other = world.clone();
        random.shuffle(&mut other.agreements);
        let (one, two) = (read(&world), read(&other));
        for _ in 0..4 {
            let ask = world::ask(&mut random, &world);
            let words = [&one, &two].map(|read| decide(&ask, read).map(Result::err));
            if words[0] != words[1] {
                let kind = match evaluator::answer(&world, &ask) {
                    Answer::NothingBinds(_) => "none binds",
                    Answer::UnsignedDataset(_) => "a dataset of several that do not bind",
                    Answer::Ambiguous(_) => "a dataset of several that bind",
                    _ => "anything else",
                };
                differ.entry(kind).or_insert_with(|| format!("seed {seed}: {words:#?}"));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.iter().map(|(kind, first)| format!("{kind}: {first}\n")).collect::<String>());
}

/// Expected, and not so yet: two datasets whose names, written with their dots, read the same (`a` gives `b.c`, `a.b` gives `c`)
/// are two. Today a difference of one hides behind the other.
#[test]
#[ignore = "pending: names with dots that read the same pass for one in a difference"]
fn a_difference_keeps_names_apart_that_read_the_same() {
    let mut more = estate(&[], "c");
    let agreement = &mut more.agreements[0];
    agreement.parties = ["a", "a.b"].map(|department| Party { department: department.into(), key: "key".into() }).into();
    let columns = vec![("score".to_owned(), vec!["output"])];
    let of = |department: &str, name: &str| Dataset {
        department: department.into(),
        name: name.into(),
        basis: Basis::Power,
        columns: columns.clone(),
    };
    agreement.datasets = vec![of("a", "b.c"), of("a.b", "c")];
    let mut less = more.agreements[0].clone();
    less.datasets[0].columns[0].1.clear();
    let [more, less] = [&more.agreements[0], &less].map(|agreement| crate::Agreement::parse(&world::written(agreement)).unwrap());
    let said = difference(&less, &more);
    assert_eq!(said.newly.len(), 1, "a subject's own score may leave, which it may not before: {said}");
}

/// Expected, and not so yet: the uses of one table are not told as those of another whose name begins with its own.
#[test]
#[ignore = "pending: uses are found again by the beginning of their text"]
fn a_decision_keeps_tables_apart_whose_names_begin_alike() {
    let table = |name: &str| Table {
        dataset: dataset("dfe", name).to_string(),
        agreement: Name::parse("one").unwrap(),
        basis: BasisKind::Statutory,
    };
    let columns = vec![format!("{}.score: output", dataset("dfe", "people.old"))];
    let decision = Decision { tables: vec![table("people"), table("people.old")], columns, rules: Vec::new() };
    assert_eq!(decision.uses_of(&decision.tables[1]).collect::<Vec<_>>(), [("score", "output")]);
    assert_eq!(decision.uses_of(&decision.tables[0]).collect::<Vec<_>>(), [], "nothing of this table is used");
}

/// Expected, and not so yet: a list is told apart from one text with commas.
#[test]
#[ignore = "pending: lists are compared as one text joined by commas"]
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

/// A request may do several things at once exactly if it may do each of them by itself.
#[test]
fn a_request_is_judged_by_its_parts() {
    let mut several = 0;
    for seed in 0..6_000 {
        let mut random = Seeded::new(seed);
        let world = world::world(&mut random);
        let read = read(&world);
        let ask = world::ask(&mut random, &world);
        if !matches!(permit(&ask, &read), Some(Ok(_))) {
            continue;
        }
        let may = permitted(&ask, &read);
        let reads = ask.reads.iter().all(|(department, name)| may.contains(&(department.clone(), name.clone(), String::new(), "read")));
        let whole = decide(&ask, &read).unwrap().is_ok();
        assert_eq!(whole, reads && ask.does.iter().all(|used| may.contains(used)), "seed {seed}\n{ask:#?}\n{world:#?}");
        several += usize::from(ask.does.len() > 1);
    }
    assert!(several > 500, "{several}");
}

/// The strictest owner's minimum wins, however the datasets are grouped, repeated or ordered; and who states it is named.
#[test]
fn the_strictest_minimum_is_commutative_associative_and_idempotent() {
    let mut compared = 0;
    for seed in 0..8_000 {
        let mut random = Seeded::new(seed);
        let world = world::world(&mut random);
        let Some(Ok(permit)) = permit(&world::ask(&mut random, &world), &read(&world)) else { continue };
        let all: Vec<DatasetName> = permit.datasets().map(|permit| permit.dataset.name.clone()).collect();
        if all.is_empty() {
            continue;
        }
        let parts: [Vec<DatasetName>; 3] = std::array::from_fn(|_| random.some(&all, 1, all.len()));
        let [a, b, c] = &parts;
        let of = |groups: &[&Vec<DatasetName>]| permit.minimum_subjects(groups.iter().copied().flatten());
        assert_eq!(of(&[a, b]), of(&[b, a]), "seed {seed}");
        assert_eq!(of(&[a, a]), of(&[a]), "seed {seed}");
        assert_eq!(of(&[a, b, c]), of(&[a]).max(of(&[b]).max(of(&[c]))), "seed {seed}");
        assert_eq!(of(&[a, b, c]), of(&[a]).max(of(&[b])).max(of(&[c])), "seed {seed}");
        assert!(a.iter().all(|name| permit.dataset(name).unwrap().minimum_subjects <= of(&[a])), "no owner's is undercut, seed {seed}");
        let (mut uses, mut again) = (ColumnUses::default(), ColumnUses::default());
        parts.iter().flatten().for_each(|name| uses.touch(name));
        parts.iter().rev().flatten().rev().for_each(|name| again.touch(name));
        let minimum = of(&[a, b, c]);
        let decision = Decision::of(&permit, &uses, minimum);
        assert!(decision == Decision::of(&permit, &again, minimum) && !decision.rules.is_empty(), "seed {seed}");
        // A dataset that may not be read is as strict as can be.
        assert_eq!(permit.minimum_subjects(a.iter().chain([&dataset("dft", "homes")])), u32::MAX, "seed {seed}");
        compared += 1;
    }
    assert!(compared > 1_000, "{compared}");
}

/// An estate of one agreement for one purpose, signed, that gives one column.
fn estate(purposes: &[Purpose], agreed: &str) -> World {
    let party = Party { department: "dfe".into(), key: "key".into() };
    let columns = vec![("score".to_owned(), vec!["aggregate"])];
    let dataset = Dataset { department: "dfe".into(), name: "people".into(), basis: Basis::Power, columns };
    let agreement = Agreement {
        document: 0,
        id: "one".into(),
        mission: "growth".into(),
        purposes: vec![agreed.into()],
        first_day: "2026-01-01".into(),
        last_day: "2026-12-31".into(),
        minimum_subjects: 10,
        parties: vec![party.clone()],
        recipients: vec![Recipient { organisation: "mission-unit".into(), roles: vec!["analyst".into()] }],
        datasets: vec![dataset],
    };
    let signatures = vec![world::signature(&agreement, &party)];
    World { purposes: purposes.to_vec(), agreements: vec![agreement], signatures, revoked_keys: Vec::new() }
}

fn for_purpose(purpose: &str) -> Ask {
    let now: DateTime<chrono::Utc> = "2026-06-01T12:00:00Z".parse().unwrap();
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

/// Of every two purposes of a tree: an agreement for a parent covers its child; none covers a wider purpose, a sibling, or a cousin; and
/// a name that begins with another's has nothing of it.
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
