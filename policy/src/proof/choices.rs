//! People's histories, judged a second time: by walking through the ledger day by day, as the rules are told, and by its laws.

use super::{Seeded, number};
use crate::consent::history::{kept, speaking};
use crate::consent::{Event, Said, Spoken, Term, allows, latest, relevant};
use crate::{Basis, Name, PurposeTree};

const TREE: &str = r#"purpose = [
  { id = "a", title = "A" },
  { id = "a.b", title = "B", parent = "a" },
  { id = "a.b.c", title = "C", parent = "a.b" },
  { id = "d", title = "D" },
]"#;
const PURPOSES: [&str; 4] = ["a", "a.b", "a.b.c", "d"];
const DAYS: i64 = 12;

/// A record of one of two subjects, as plain data. Its place is its position in the ledger.
#[derive(Debug, Clone)]
struct Record {
    subject: usize,
    purpose: &'static str,
    says: &'static str,
    from: Option<i64>,
    until: Option<i64>,
    corrects: usize,
}

fn record(random: &mut Seeded, at: usize) -> Record {
    let says = random.one(&["given", "given", "given", "withdrawn", "objected", "objected", "corrected", "erased"]);
    let day = |random: &mut Seeded| i64::try_from(random.below(12)).unwrap();
    let from = (matches!(says, "given" | "objected") && random.percent(30)).then(|| day(random));
    let until = (says == "given" && random.percent(40)).then(|| from.unwrap_or(0) + 1 + day(random));
    Record { subject: random.below(2), purpose: random.one(&PURPOSES), says, from, until, corrects: random.below(at + 2) }
}

/// The ledger, in its order. Every day is written down by itself, and then the last word for the purpose is looked for.
fn counts(ledger: &[Record], subject: usize, purpose: &str, basis: &Basis, day: i64) -> bool {
    let mut standing: Vec<Option<&Record>> = Vec::new();
    for record in ledger {
        standing.push(None);
        if record.subject != subject {
            continue;
        }
        match record.says {
            "corrected" => {
                if record.corrects < standing.len() {
                    standing[record.corrects] = None;
                }
            }
            "erased" => standing.fill(None),
            _ => *standing.last_mut().unwrap() = Some(record),
        }
    }
    let (mut agreed, mut objected) = (false, false);
    for record in standing.into_iter().flatten() {
        let speaks = purpose == record.purpose || purpose.starts_with(&format!("{}.", record.purpose));
        if !speaks || record.from.is_some_and(|from| day < from) {
            continue;
        }
        let over = record.until.is_some_and(|until| day >= until);
        match record.says {
            "given" if over => agreed = false,
            "given" => (agreed, objected) = (true, false),
            "withdrawn" => agreed = false,
            _ => (agreed, objected) = (false, true),
        }
    }
    match basis {
        Basis::Consent { .. } => agreed,
        Basis::Statutory { honours_objections, .. } => !(objected && *honours_objections),
    }
}

fn said(record: &Record) -> Said {
    match record.says {
        "corrected" => Said::Corrected(record.corrects as u64),
        "erased" => Said::Erased,
        event => {
            let event = Event::parse(event).unwrap();
            Said::Choice(event, Term::of(event, record.from, record.until).unwrap())
        }
    }
}

fn of<'a>(ledger: &[(usize, &'a Record)], subject: usize) -> Vec<Spoken<'a>> {
    let own = ledger.iter().filter(|(_, record)| record.subject == subject);
    speaking(own.map(|(place, record)| (*place as u64, record.purpose, said(record))))
}

fn bases() -> [Basis; 3] {
    let power = |honours_objections| Basis::Statutory { power: String::new(), honours_objections };
    [Basis::Consent { text: String::new() }, power(true), power(false)]
}

fn allowed(tree: &PurposeTree, spoken: &[Spoken<'_>], purpose: &str, basis: &Basis, day: i64) -> bool {
    let speaking: Vec<&Name> = relevant(tree, &Name::parse(purpose).unwrap()).collect();
    allows(basis, latest(spoken, |of| speaking.iter().any(|name| name.as_str() == of), day))
}

fn ledger(random: &mut Seeded) -> Vec<Record> {
    (0..random.below(12)).map(|at| record(random, at)).collect()
}

/// Each question of one person, purpose, basis and day is answered alike; the order of delivery does not matter.
#[test]
fn no_history_is_judged_differently_in_whatever_order_it_is_delivered() {
    let tree = PurposeTree::parse(TREE).unwrap();
    let mut answers = [0u64; 2];
    for seed in 0..number("CONCORDAT_PROOF_HISTORIES", 2_000) {
        let mut random = Seeded::new(seed);
        let ledger = ledger(&mut random);
        let mut delivered: Vec<(usize, &Record)> = ledger.iter().enumerate().collect();
        random.shuffle(&mut delivered);
        for (subject, day) in (0..2).flat_map(|subject| (-1..=2 * DAYS).map(move |day| (subject, day))) {
            let spoken = of(&delivered, subject);
            for (purpose, basis) in PURPOSES.iter().flat_map(|purpose| bases().map(|basis| (purpose, basis))) {
                let expected = counts(&ledger, subject, purpose, &basis, day);
                let found = allowed(&tree, &spoken, purpose, &basis, day);
                assert_eq!(found, expected, "seed {seed}: {subject} for {purpose} under {basis:?} on {day}: {ledger:#?}");
                answers[usize::from(expected)] += 1;
            }
        }
    }
    assert!(answers.iter().all(|times| *times > 10_000), "{answers:?}");
}

/// Whatever one subject's record says, the other's answers stay as they were.
#[test]
fn a_record_of_one_subject_changes_nothing_for_another() {
    let tree = PurposeTree::parse(TREE).unwrap();
    for seed in 0..1_000 {
        let mut random = Seeded::new(seed);
        let mut ledger = ledger(&mut random);
        let own = |ledger: &[Record]| {
            let delivered: Vec<_> = ledger.iter().enumerate().collect();
            let spoken = of(&delivered, 0);
            let days = (0..DAYS).flat_map(|day| PURPOSES.map(|purpose| (day, purpose)));
            days.flat_map(|(day, purpose)| bases().map(|basis| allowed(&tree, &spoken, purpose, &basis, day))).collect::<Vec<_>>()
        };
        let before = own(&ledger);
        let other = Record { subject: 1, ..record(&mut random, ledger.len()) };
        ledger.push(other);
        assert_eq!(own(&ledger), before, "seed {seed}: {ledger:#?}");
    }
}

/// A later *given* without times undoes whatever was said before, and a later *withdrawn* ends every consent, on every day.
#[test]
fn the_last_plain_word_wins() {
    let tree = PurposeTree::parse(TREE).unwrap();
    for seed in 0..1_000 {
        let mut random = Seeded::new(seed);
        let mut ledger = ledger(&mut random);
        for (says, expected) in [("given", [true, true, true]), ("withdrawn", [false, true, true]), ("objected", [false, false, true])] {
            ledger.push(Record { subject: 0, purpose: "a", says, from: None, until: None, corrects: 0 });
            let delivered: Vec<_> = ledger.iter().enumerate().collect();
            let spoken = of(&delivered, 0);
            for (day, purpose) in (0..2 * DAYS).flat_map(|day| ["a", "a.b", "a.b.c"].map(|purpose| (day, purpose))) {
                let found = bases().map(|basis| allowed(&tree, &spoken, purpose, &basis, day));
                // What was objected before *given* and *withdrawn* is undone by the *given* between them.
                assert_eq!(found, expected, "seed {seed}: {says} for {purpose} on {day}: {ledger:#?}");
            }
        }
    }
}

/// Erasing never turns a no into a yes, on the day itself and on any later one.
#[test]
fn erasure_never_permits_what_was_withheld() {
    let tree = PurposeTree::parse(TREE).unwrap();
    let (mut kept_back, today) = (0, 6);
    let questions = || (today..=2 * DAYS).flat_map(|day| PURPOSES.map(|purpose| (day, purpose)));
    for seed in 0..3_000 {
        let mut random = Seeded::new(seed);
        let mut ledger = ledger(&mut random);
        let answers = |ledger: &[Record]| {
            let delivered: Vec<_> = ledger.iter().enumerate().collect();
            let spoken = of(&delivered, 0);
            questions().map(|(day, purpose)| bases().map(|basis| allowed(&tree, &spoken, purpose, &basis, day))).collect::<Vec<_>>()
        };
        let before = answers(&ledger);
        let delivered: Vec<_> = ledger.iter().enumerate().collect();
        let kept = kept(&tree, &of(&delivered, 0), today);
        drop(delivered);
        let plain = |purpose, says| Record { subject: 0, purpose, says, from: None, until: None, corrects: 0 };
        let purpose = |of: &str| PURPOSES.into_iter().find(|known| *known == of).unwrap();
        ledger.push(plain("a", "erased"));
        ledger.extend(kept.iter().map(|(of, event)| plain(purpose(of), event.as_str())));
        for ((question, before), after) in questions().zip(before).zip(answers(&ledger)) {
            assert!(!after[0], "nothing that was given remains");
            let only_narrower = before.iter().zip(after).all(|(before, after)| *before || !after);
            assert!(only_narrower, "seed {seed}: {question:?}: {before:?}, then {after:?}: {ledger:#?}");
        }
        kept_back += usize::from(!kept.is_empty());
    }
    assert!(kept_back > 500, "{kept_back}");
}
