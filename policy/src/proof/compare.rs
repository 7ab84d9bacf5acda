//! The crate's decisions against the plain evaluator's: no difference is allowed, and every kind of answer must occur.

use std::collections::BTreeMap;

use chrono::DateTime;

use super::evaluator::{self, Answer, Ask, Basis, Lacks, World};
use super::world::{self, Read, use_of};
use super::{Seeded, number};
use crate::consent::{Event, Latest, allows, relevant};
use crate::disclosure::{Margins, Telling};
use crate::{Caller, Cause, Code, ColumnUses, DatasetName, Decision, Name, Permit, Refusal, authorize};

/// Requests that are put to one world.
const OF_ONE_WORLD: u64 = 50;

/// Each kind of answer, so that a kind that never occurs is noticed.
const KINDS: [&str; 10] = [
    "permitted",
    "denied: no agreement for the caller",
    "denied: a purpose that only looks like one",
    "denied: nothing binds",
    "denied: a dataset of which nothing is told",
    "denied: a dataset whose agreement lacks a signature",
    "denied: a use that is not written",
    "invalid: several missions",
    "invalid: two agreements cover a dataset",
    "denied: a dataset of which only its existence is told",
];

const FAULTS: [&str; 11] = [
    "is missing",
    "cannot be read",
    "does not verify: it was altered, or made up",
    "is another department's",
    "is for another agreement",
    "signs another text",
    "is made with another key than the agreement names",
    "is made with a key that was replaced, and was not seen here before",
    "is made with a revoked key",
    "is void: another key of it is revoked that counts here, or the agreement names another party by a key that took its place",
    "was made more than 30 s in the future",
];

#[test]
fn no_request_is_decided_differently() {
    let requests = number("CONCORDAT_PROOF_REQUESTS", 100_000);
    let first = number("CONCORDAT_PROOF_SEED", 0);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for seed in (first..).take(usize::try_from(requests.div_ceil(OF_ONE_WORLD)).unwrap()) {
        let mut random = Seeded::new(seed);
        let world = world::world(&mut random);
        let read = world::read(&world);
        for request in 0..OF_ONE_WORLD {
            let ask = world::ask(&mut random, &world);
            let expected = evaluator::answer(&world, &ask);
            match same(&expected, &ask, &read) {
                Ok(kinds) => kinds.into_iter().for_each(|kind| *seen.entry(kind).or_default() += 1),
                Err(difference) => panic!("seed {seed}, request {request}: {difference}\n{expected:#?}\n{ask:#?}\n{world:#?}"),
            }
            let person = people(&mut random, &world, &read, &ask);
            match person {
                Ok(kinds) => kinds.into_iter().for_each(|kind| *seen.entry(kind).or_default() += 1),
                Err(difference) => panic!("seed {seed}, request {request}: {difference}\n{world:#?}"),
            }
        }
    }
    let told = seen.iter().map(|(kind, times)| format!("{times:>9} {kind}\n")).collect::<String>();
    println!("{told}");
    for kind in KINDS {
        assert!(seen.contains_key(kind), "never: {kind}\n{told}");
    }
    for fault in FAULTS {
        assert!(seen.contains_key(&format!("a signature {fault}")), "never: {fault}\n{told}");
    }
    for basis in [Basis::Consent, Basis::Power, Basis::PowerHonouringObjections] {
        for counts in [true, false] {
            let possible = counts || basis != Basis::Power;
            assert_eq!(seen.contains_key(&person(basis, counts)), possible, "{basis:?} {counts}\n{told}");
        }
    }
    assert_eq!(KINDS.iter().map(|kind| seen[*kind]).sum::<u64>(), requests.div_ceil(OF_ONE_WORLD) * OF_ONE_WORLD);
}

/// What the crate answers, or nothing where the purpose is no name at all.
pub(super) fn decide(ask: &Ask, read: &Read) -> Option<Result<(Permit, ColumnUses), Refusal>> {
    let caller = caller(ask)?;
    let mission = ask.mission.as_ref().map(|mission| Name::parse(mission).unwrap());
    let now = DateTime::from_timestamp_millis(ask.millisecond).unwrap();
    let permit = authorize(&caller, mission.as_ref(), &read.agreements, &read.signatures, &read.purposes, now);
    let uses = uses(ask);
    Some(permit.and_then(|permit| permit.judge(&uses).map(|()| (permit, uses))))
}

pub(super) fn caller(ask: &Ask) -> Option<Caller> {
    let purpose = Name::parse(&ask.purpose).ok()?;
    Some(Caller { subject: "u".into(), organisation: ask.organisation.clone(), roles: ask.roles.iter().cloned().collect(), purpose })
}

fn uses(ask: &Ask) -> ColumnUses {
    let mut uses = ColumnUses::default();
    for (department, name) in &ask.reads {
        uses.touch(&dataset(department, name));
    }
    for (department, name, column, used) in &ask.does {
        uses.add(&dataset(department, name), column, use_of(used));
    }
    uses
}

pub(super) fn dataset(department: &str, name: &str) -> DatasetName {
    DatasetName::new(Name::parse(department).unwrap(), Name::parse(name).unwrap())
}

/// The kinds of the answer that both give, or how they differ.
fn same(expected: &Answer, ask: &Ask, read: &Read) -> Result<Vec<String>, String> {
    let Some(decided) = decide(ask, read) else {
        return if *expected == Answer::NoAgreement { Ok(vec![KINDS[2].into()]) } else { Err("the purpose is not a name".into()) };
    };
    let differs = || format!("decided {decided:#?}");
    let mut kinds = Vec::new();
    let (kind, good) = match (expected, &decided) {
        (Answer::Permitted { mission, tables, minimum, disclosure }, Ok((permit, uses))) => {
            (KINDS[0], permitted(permit, uses, mission, tables, *minimum) && strictest(permit, uses, disclosure))
        }
        (Answer::NoAgreement, Err(refusal)) => {
            // The very words of one for whom nothing was ever agreed.
            let nothing = Read { agreements: Vec::new(), signatures: read.signatures.clone(), purposes: read.purposes.clone() };
            let stranger = decide(ask, &nothing).and_then(Result::err);
            let cause = matches!(refusal.because.as_deref(), Some(Cause::Purpose { purpose, mission })
                if purpose.as_str() == ask.purpose && mission.as_ref().map(Name::as_str) == ask.mission.as_deref());
            (KINDS[1], cause && refusal.code == Code::Denied && stranger.as_ref() == Some(refusal))
        }
        (Answer::NothingBinds(candidates), Err(refusal)) => (KINDS[3], lacks_one(refusal, candidates, &mut kinds)),
        (Answer::HiddenDataset, Err(refusal)) => {
            let hidden = matches!(refusal.because.as_deref(), Some(Cause::Hidden { column: None }));
            (KINDS[4], hidden && refusal.code == Code::Denied && refusal.department.is_none())
        }
        (Answer::KnownDataset(department, name), Err(refusal)) => {
            let cause = Cause::Known { dataset: dataset(department, name) };
            let owner = refusal.department.as_ref() == Some(department) && cause.owner().as_ref() == Some(department);
            (KINDS[9], owner && refusal.code == Code::Denied && refusal.because.as_deref() == Some(&cause))
        }
        (Answer::UnsignedDataset(candidates), Err(refusal)) => (KINDS[5], lacks_one(refusal, candidates, &mut kinds)),
        (Answer::Use { department, dataset: name, column, used, agreement }, Err(refusal)) => {
            let cause = Cause::Use {
                dataset: dataset(department, name),
                column: column.clone(),
                used: use_of(used),
                agreement: Name::parse(agreement).unwrap(),
            };
            let owner = refusal.department.as_ref() == Some(department) && cause.owner().as_ref() == Some(department);
            (KINDS[6], owner && refusal.code == Code::Denied && refusal.because.as_deref() == Some(&cause))
        }
        (Answer::SeveralMissions, Err(refusal)) => {
            (KINDS[7], refusal.code == Code::Invalid && refusal.department.is_none() && refusal.message.contains("several missions"))
        }
        (Answer::Ambiguous(department, name, agreements), Err(refusal)) => {
            let [first, second, ..] = agreements.as_slice() else { return Err(differs()) };
            let says = format!("two agreements cover '{department}.{name}' for this purpose: '{first}' and '{second}'");
            let owner = refusal.department.as_ref() == Some(department);
            (KINDS[8], owner && refusal.code == Code::Invalid && refusal.message == says)
        }
        _ => return Err(differs()),
    };
    kinds.push(kind.to_owned());
    if good { Ok(kinds) } else { Err(differs()) }
}

fn permitted(permit: &Permit, uses: &ColumnUses, mission: &str, tables: &[(String, String, String)], minimum: u32) -> bool {
    // What a log keeps of it names the same tables, agreements and minimum.
    let decision = Decision::of(permit, uses, minimum, true);
    let named = decision.tables.iter().map(|table| (table.dataset.clone(), table.agreement.to_string()));
    let expected = tables.iter().map(|(department, name, agreement)| (format!("{department}.{name}"), agreement.clone()));
    // Over no dataset at all the strictest rule there is.
    let strictest = if tables.is_empty() { u32::MAX } else { minimum };
    permit.mission().as_str() == mission && named.eq(expected) && permit.minimum_subjects(uses.datasets()) == strictest
}

/// Whether the rules for all that is read are these; over no dataset at all there is nothing to protect.
fn strictest(permit: &Permit, uses: &ColumnUses, expected: &evaluator::Disclosure) -> bool {
    if uses.datasets().next().is_none() {
        return true;
    }
    let found = permit.disclosure(uses.datasets());
    let kept_back = [
        ("complement", found.complement == Telling::Withheld),
        ("homogeneous", found.homogeneous == Telling::Withheld),
        ("margins", found.margins == Margins::Protected),
        ("zeros", found.zeros == Telling::Withheld),
    ];
    let found = evaluator::Disclosure {
        dominance: found.dominance.iter().map(|rule| (rule.largest, rule.share)).collect(),
        p_percent: found.p_percent,
        round_to: found.round_to,
        kept_back: kept_back.into_iter().filter_map(|(what, kept)| kept.then_some(what)).collect(),
        noise: found.perturbation.map(|noise| (noise.variance, noise.most)),
    };
    found == *expected
}

/// Whether the refusal names one of the agreements, every party that it lacks in the agreement's order, of each something
/// that is wrong, and a department only where it is one department's alone.
fn lacks_one(refusal: &Refusal, candidates: &[Lacks], kinds: &mut Vec<String>) -> bool {
    let Some(Cause::Signature { agreement, lacking }) = refusal.because.as_deref() else { return false };
    kinds.extend(lacking.iter().map(|(_, fault)| format!("a signature {fault}")));
    let fits = |candidate: &&Lacks| {
        candidate.agreement == agreement.as_str()
            && candidate.parties.len() == lacking.len()
            && candidate
                .parties
                .iter()
                .zip(lacking)
                .all(|((party, wrong), (named, fault))| party == named.as_str() && wrong.contains(&fault.as_str()))
    };
    let owner = match lacking.as_slice() {
        [(only, _)] => Some(only.to_string()),
        _ => None,
    };
    refusal.code == Code::Denied && refusal.department == owner && candidates.iter().any(|candidate| fits(&candidate))
}

fn person(basis: Basis, counts: bool) -> String {
    format!("a person {} under {basis:?}", if counts { "counts" } else { "does not count" })
}

/// One person's choices, for the request's purpose, under each basis.
fn people(random: &mut Seeded, world: &World, read: &Read, ask: &Ask) -> Result<Vec<String>, String> {
    let Ok(purpose) = Name::parse(&ask.purpose) else { return Ok(Vec::new()) };
    let records = world::records(random, world);
    let mut latest = Latest::default();
    for speaking in relevant(&read.purposes, &purpose) {
        let mut own = Latest::default();
        for record in records.iter().filter(|record| record.purpose == speaking.as_str()) {
            own.record(Event::parse(record.event).unwrap(), record.place);
        }
        latest = latest.and(own);
    }
    let mut kinds = Vec::new();
    for basis in [Basis::Consent, Basis::Power, Basis::PowerHonouringObjections] {
        let law = match basis {
            Basis::Consent => crate::Basis::Consent { text: String::new() },
            Basis::Power => crate::Basis::Statutory { power: String::new(), honours_objections: false },
            Basis::PowerHonouringObjections => crate::Basis::Statutory { power: String::new(), honours_objections: true },
        };
        let expected = evaluator::person_counts(world, basis, &records, &ask.purpose);
        if allows(&law, latest) != expected {
            return Err(format!("a person of {records:?} for '{purpose}' under {basis:?}: expected {expected}"));
        }
        kinds.push(person(basis, expected));
    }
    Ok(kinds)
}
