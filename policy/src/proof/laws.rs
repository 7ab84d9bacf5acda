//! Laws that hold in every estate, whatever the rules are in detail.

use std::collections::BTreeSet;

use chrono::{DateTime, Days, NaiveDate};

use super::Seeded;
use super::compare::{caller, dataset, decide};
use super::evaluator::{Agreement, Ask, Recipient, World};
use super::world::{self, COLUMNS, DATASETS, DEPARTMENTS, Read, USES, read, use_of};
use crate::difference::difference;
use crate::{Code, ColumnUses, DatasetName, Decision, Name, Permit, Refusal, authorize};

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
    random.shuffle(&mut world.successions);
    random.shuffle(&mut world.sightings);
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
            Ok(Decision::of(&permit, &uses, minimum, true))
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
        let decision = Decision::of(&permit, &uses, minimum, true);
        assert!(decision == Decision::of(&permit, &again, minimum, true) && !decision.rules.is_empty(), "seed {seed}");
        // A dataset that may not be read is as strict as can be.
        assert_eq!(permit.minimum_subjects(a.iter().chain([&dataset("dft", "homes")])), u32::MAX, "seed {seed}");
        compared += 1;
    }
    assert!(compared > 1_000, "{compared}");
}
