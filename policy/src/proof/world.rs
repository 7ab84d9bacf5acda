//! Random estates near the boundaries, as plain data; and the same as this crate reads them.

use std::fmt::Write as _;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use super::Seeded;
use super::evaluator::{
    Agreement, Ask, Basis, Dataset, Disclosure, Party, Purpose, Recipient, Record, Says, Sighting, Signature, Succession, World,
};
use crate::column::SUBJECT;
use crate::fingerprint::{Fingerprint, hex};
use crate::signature::{Fault, Statement};
use crate::{Name, PurposeTree, Revocations, Seen, Signatures, Use};

pub(super) const DEPARTMENTS: [&str; 3] = ["dfe", "dwp", "hmrc"];
pub(super) const DATASETS: [&str; 3] = ["claims", "homes", "people"];
pub(super) const COLUMNS: [&str; 4] = ["amount", "region", "score", SUBJECT];
pub(super) const USES: [&str; 5] = ["output", "group_by", "aggregate", "filter", "join"];
const MISSIONS: [&str; 2] = ["growth", "health"];
const ORGANISATIONS: [&str; 3] = ["mission-unit", "other-unit", "Mission-unit"];
const ROLES: [&str; 3] = ["analyst", "lead", "visitor"];
/// Names that promise a tree; the tree is drawn without regard to them.
const PURPOSES: [&str; 8] = ["a", "a.b", "a.b.c", "a-b", "aa", "b", "b.a", "c"];
/// A document that nobody has.
const ANOTHER_DOCUMENT: u32 = u32::MAX;

/// The estate of a seed.
pub(super) fn world(random: &mut Seeded) -> World {
    let mut world = World { purposes: purposes(random), ..World::default() };
    let base: NaiveDate = random.one(&["2026-01-01", "2027-12-31", "2028-02-28"]).parse().unwrap();
    for document in 0..u32::try_from(1 + random.below(4)).unwrap() {
        let agreement = agreement(random, document, base, &world);
        world.agreements.push(agreement);
    }
    for agreement in world.agreements.clone() {
        let careful = random.percent(75);
        for party in &agreement.parties {
            if careful || random.percent(50) {
                world.signatures.push(signature(&agreement, party));
            } else if random.percent(80) {
                let wrong = wrong_signature(random, &agreement, party);
                world.signatures.push(wrong);
            }
        }
    }
    // Of several documents under one identifier, one signature of each department lies beside them.
    let mut seen = Vec::new();
    world.signatures.retain(|signature| {
        let place = (signature.beside.clone(), signature.of.clone());
        let first = !seen.contains(&place);
        seen.push(place);
        first
    });
    if random.percent(10) {
        world.revoked_keys.push(format!("key of {}", random.one(&DEPARTMENTS)));
    }
    if random.percent(25) {
        successions(random, base, &mut world);
    }
    world
}

/// One department's key is followed by another of its own, mostly; some signatures are made with that, some were seen.
fn successions(random: &mut Seeded, base: NaiveDate, world: &mut World) {
    let midnight = base.and_time(NaiveTime::MIN).and_utc();
    let around = |random: &mut Seeded| {
        let hours = i64::try_from(random.below(400)).unwrap() - 200;
        (midnight + TimeDelta::hours(hours)).timestamp_millis()
    };
    let of: String = random.one(&DEPARTMENTS).into();
    let another = format!("key of {}", random.one(&DEPARTMENTS));
    let own = format!("key of {of}");
    let next = if another == own || random.percent(90) { format!("next key of {of}") } else { another };
    let department = if random.percent(90) { of.clone() } else { random.one(&DEPARTMENTS).into() };
    let from_millisecond = around(random);
    world.successions.push(Succession { department, key: own, next: next.clone(), from_millisecond });
    if random.percent(30) {
        let from_millisecond = around(random);
        world.successions.push(Succession { department: of.clone(), key: next.clone(), next: "a third key".into(), from_millisecond });
    }
    if random.percent(20) && !world.revoked_keys.contains(&next) {
        world.revoked_keys.push(next.clone());
    }
    for signature in &mut world.signatures {
        let Says::Statement { speaks_for, agreement, document, key, .. } = &mut signature.says else { continue };
        if *speaks_for == of && random.percent(50) {
            *key = if random.percent(80) { next.clone() } else { "a third key".into() };
        }
        if random.percent(50) {
            let at_millisecond = around(random);
            world.sightings.push(Sighting {
                department: speaks_for.clone(),
                agreement: agreement.clone(),
                document: *document,
                key: key.clone(),
                at_millisecond,
            });
        }
    }
}

fn purposes(random: &mut Seeded) -> Vec<Purpose> {
    let mut purposes: Vec<Purpose> = Vec::new();
    for id in random.some(&PURPOSES, 2, PURPOSES.len()) {
        let parent = if purposes.is_empty() || random.percent(25) { None } else { Some(random.one(&purposes).id.clone()) };
        purposes.push(Purpose { id: id.to_owned(), parent, retired: random.percent(12) });
    }
    random.shuffle(&mut purposes);
    purposes
}

fn agreement(random: &mut Seeded, document: u32, base: NaiveDate, world: &World) -> Agreement {
    let (before, long) = random.one(&[(100, 500), (100, 500), (100, 500), (0, 0), (1, 1), (1, 29)]);
    let first_day = base - Days::new(before);
    let known: Vec<String> = world.purposes.iter().map(|purpose| purpose.id.clone()).collect();
    let mut purposes = random.some(&known, 1, known.len().min(3));
    if random.percent(10) {
        purposes.push("unheard-of".into());
    }
    let parties: Vec<Party> = random
        .some(&DEPARTMENTS, 1, 3)
        .into_iter()
        .map(|department| Party { department: department.into(), key: format!("key of {department}") })
        .collect();
    let mut datasets = Vec::new();
    for party in &parties {
        for name in random.some(&DATASETS, 0, 2) {
            let basis = random.one(&[Basis::Consent, Basis::Power, Basis::PowerHonouringObjections]);
            let known_to = if random.percent(15) { vec![random.one(&ORGANISATIONS).into()] } else { Vec::new() };
            let columns = columns(random);
            datasets.push(Dataset { department: party.department.clone(), name: name.into(), basis, known_to, columns });
        }
    }
    let recipients = (0..1 + random.below(3))
        .map(|_| {
            let organisation = random.one(&ORGANISATIONS[..2]).into();
            let least = usize::from(random.percent(90));
            Recipient { organisation, roles: random.some(&ROLES, least, 3).into_iter().map(Into::into).collect() }
        })
        .collect();
    let same = world.agreements.first().filter(|_| random.percent(4));
    Agreement {
        document,
        id: same.map_or_else(|| format!("agreement-{document}"), |first| first.id.clone()),
        mission: MISSIONS[usize::from(random.percent(20))].into(),
        purposes,
        first_day: first_day.to_string(),
        last_day: (first_day + Days::new(long)).to_string(),
        minimum_subjects: u32::try_from(3 + random.below(20)).unwrap(),
        disclosure: disclosure(random),
        parties,
        recipients,
        datasets,
    }
}

const KEPT_BACK: [&str; 4] = ["complement", "homogeneous", "margins", "zeros"];

fn disclosure(random: &mut Seeded) -> Disclosure {
    let number = |n: usize| u32::try_from(n).unwrap();
    let mut kept_back = random.some(&KEPT_BACK, 0, KEPT_BACK.len());
    kept_back.sort_unstable();
    let most = number(2 + random.below(19));
    let variance = 1 + number(random.below(usize::try_from(most * (most + 1) / 3).unwrap()));
    Disclosure {
        dominance: vec![(number(1 + random.below(5)), number(1 + random.below(100)))],
        p_percent: number(random.below(101)),
        round_to: number(1 + random.below(100)),
        kept_back,
        noise: random.percent(40).then_some((variance, most)),
    }
}

/// The table of an agreement's document.
fn written_disclosure(disclosure: &Disclosure) -> String {
    let Disclosure { dominance, p_percent, round_to, kept_back, noise } = disclosure;
    let mut text = format!("[disclosure]\np_percent = {p_percent}\nround_to = {round_to}\n");
    for (largest, share) in dominance {
        let _ = writeln!(text, "dominance = {{ largest = {largest}, share = {share} }}");
    }
    for what in KEPT_BACK {
        let word = match (what, kept_back.contains(&what)) {
            ("margins", true) => "protected",
            ("margins", false) => "open",
            (_, true) => "withheld",
            (_, false) => "shown",
        };
        let _ = writeln!(text, "{what} = {word:?}");
    }
    if let Some((variance, most)) = noise {
        let _ = writeln!(text, "perturbation = {{ variance = {variance}, most = {most} }}");
    }
    text
}

fn columns(random: &mut Seeded) -> Vec<(String, Vec<&'static str>)> {
    let mut columns: Vec<(String, Vec<&'static str>)> = Vec::new();
    for column in random.some(&COLUMNS[..3], 0, 3) {
        columns.push((column.into(), random.some(&USES[..4], 0, 4)));
    }
    columns.push((SUBJECT.into(), random.some(&["output", "group_by", "aggregate", "join"], 0, 4)));
    random.shuffle(&mut columns);
    columns
}

/// As it should be, made long ago.
pub(super) fn signature(agreement: &Agreement, party: &Party) -> Signature {
    let says = Says::Statement {
        speaks_for: party.department.clone(),
        agreement: agreement.id.clone(),
        document: agreement.document,
        key: party.key.clone(),
        at_millisecond: 0,
    };
    Signature { beside: agreement.id.clone(), of: party.department.clone(), says }
}

fn wrong_signature(random: &mut Seeded, agreement: &Agreement, party: &Party) -> Signature {
    let mut signature = signature(agreement, party);
    if random.percent(30) {
        signature.says = Says::Nothing(random.one(&["cannot be read", "does not verify: it was altered, or made up"]));
        return signature;
    }
    let edges = moments(agreement);
    let Says::Statement { speaks_for, agreement: id, document, key, at_millisecond } = &mut signature.says else { unreachable!() };
    for _ in 0..1 + random.below(2) {
        match random.below(6) {
            0 => *speaks_for = random.one(&["dfe", "dwp", "dft"]).into(),
            1 => *id = random.one(&["agreement-0", "agreement-9"]).into(),
            2 => *document = ANOTHER_DOCUMENT,
            3 => *key = random.one(&["key of dfe", "key of hmrc", "an old key"]).into(),
            // To the millisecond as far ahead as clocks may differ, or a millisecond more or less.
            _ => *at_millisecond = random.one(&edges).timestamp_millis() + random.one(&[29_999, 30_000, 30_001]),
        }
    }
    signature
}

/// The edges of an agreement's validity, and two moments inside it.
fn moments(agreement: &Agreement) -> Vec<DateTime<Utc>> {
    let first: NaiveDate = agreement.first_day.parse().unwrap();
    let last: NaiveDate = agreement.last_day.parse().unwrap();
    let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    let millisecond = TimeDelta::milliseconds(1);
    let end = midnight(last + Days::new(1));
    let middle = midnight(first) + (end - midnight(first)) / 2;
    vec![midnight(first) - millisecond, midnight(first), middle, middle + TimeDelta::days(1), end - millisecond, end]
}

/// A request that is likely to concern this world.
pub(super) fn ask(random: &mut Seeded, world: &World) -> Ask {
    let about = random.one(&world.agreements);
    let edges = moments(&about);
    let now = if random.percent(70) { edges[2] } else { random.one(&edges) };
    let recipient = random.one(&about.recipients);
    let likely = random.percent(85);
    let mut roles = if likely { recipient.roles.clone() } else { Vec::new() };
    roles.truncate(1 + random.below(2));
    if !likely {
        roles = random.some(&["analyst", "lead", "visitor", "Analyst", ""], 0, 2).into_iter().map(Into::into).collect();
    }
    let organisation = if random.percent(92) { recipient.organisation.clone() } else { random.one(&ORGANISATIONS).into() };
    let known = random.one(&world.purposes).id.clone();
    let purpose = match random.below(100) {
        0..25 => known,
        25..92 => random.one(&about.purposes),
        92..96 => random.one(&PURPOSES).into(),
        _ => random.one(&look_alikes(&known)),
    };
    let mission = match random.below(10) {
        0..4 => None,
        4..9 => Some(about.mission.clone()),
        _ => Some(random.one(&["growth", "health", "elsewhere"]).into()),
    };
    let mut ask = Ask {
        organisation,
        roles,
        purpose,
        mission,
        day: now.date_naive().to_string(),
        millisecond: now.timestamp_millis(),
        reads: Vec::new(),
        does: Vec::new(),
    };
    for _ in 0..random.below(4) {
        let some = random.one(&world.agreements);
        // Mostly datasets and uses of the agreement at hand; sometimes of another, or of none.
        let source = if random.percent(80) { about.clone() } else { some };
        if source.datasets.is_empty() || random.percent(4) {
            ask.reads.push((random.one(&DEPARTMENTS).into(), random.one(&DATASETS).into()));
            continue;
        }
        let dataset = random.one(&source.datasets);
        let (column, uses) = random.one(&dataset.columns);
        let (department, name) = (dataset.department, dataset.name);
        match random.below(10) {
            0 => ask.reads.push((department, name)),
            1 => ask.does.push((department, name, random.one(&["absent", "Region", "amount"]).into(), random.one(&USES))),
            2 => ask.does.push((department, name, column, random.one(&USES))),
            _ if uses.is_empty() => ask.reads.push((department, name)),
            _ => ask.does.push((department, name, column, random.one(&uses))),
        }
    }
    ask
}

/// What a person's ledger says, in the order of reading, which is not the order of events.
pub(super) fn records(random: &mut Seeded, world: &World) -> Vec<Record> {
    let mut places: Vec<u64> = (0..6).collect();
    random.shuffle(&mut places);
    places.truncate(random.below(7));
    let record = |place| Record {
        purpose: random.one(&world.purposes).id.clone(),
        event: random.one(&["given", "given", "withdrawn", "objected"]),
        place,
    };
    places.into_iter().map(record).collect()
}

/// Texts that people take for `purpose`, none of which it is. The names of worlds are too short for letters that look alike in
/// other ways than these.
pub(super) fn look_alikes(purpose: &str) -> Vec<String> {
    let mut texts = vec![
        format!("{purpose} "),
        format!(" {purpose}"),
        format!("{purpose}\u{a0}"),
        format!("{purpose}\u{200b}"),
        format!("\u{feff}{purpose}"),
        format!("\u{202e}{purpose}"),
        format!("{purpose}\n"),
        format!("{purpose}\0"),
        format!("{purpose}."),
        format!("{purpose}\u{301}"),
        format!("{purpose}\u{ad}"),
        purpose.to_uppercase(),
    ];
    // Cyrillic, Greek, full-width and mathematical letters; other dots and hyphens.
    for (from, to) in [
        ('a', "а"),
        ('a', "α"),
        ('a', "ａ"),
        ('a', "𝐚"),
        ('b', "Ь"),
        ('b', "ｂ"),
        ('c', "с"),
        ('c', "ϲ"),
        ('e', "е"),
        ('i', "і"),
        ('i', "ı"),
        ('o', "ο"),
        ('p', "р"),
        ('.', "․"),
        ('.', "。"),
        ('.', "．"),
        ('-', "‐"),
        ('-', "−"),
    ] {
        if purpose.contains(from) {
            texts.push(purpose.replacen(from, to, 1));
        }
    }
    texts
}

/// A world as this crate reads it.
pub(super) struct Read {
    pub(super) agreements: Vec<crate::Agreement>,
    pub(super) signatures: Signatures,
    pub(super) purposes: PurposeTree,
}

/// Writes the world's documents and reads them.
pub(super) fn read(world: &World) -> Read {
    let texts: Vec<(u32, String)> = world.agreements.iter().map(|agreement| (agreement.document, written(agreement))).collect();
    let agreements = texts.iter().map(|(_, text)| crate::Agreement::parse(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"))).collect();
    let mut purposes = String::new();
    for Purpose { id, parent, retired } in &world.purposes {
        let _ = writeln!(purposes, "[[purpose]]\nid = {id:?}\ntitle = \"T\"\nretired = {retired}");
        if let Some(parent) = parent {
            let _ = writeln!(purposes, "parent = {parent:?}");
        }
    }
    let mut revoked = String::new();
    for key in &world.revoked_keys {
        let key = Fingerprint::of(key.as_bytes());
        let _ = writeln!(revoked, "[[key]]\nfingerprint = \"{key}\"\nreason = \"stolen\"\nsince = \"2026-01-01T00:00:00Z\"");
    }
    let name = |text: &str| Name::parse(text).unwrap();
    let at = |millisecond: i64| DateTime::from_timestamp_millis(millisecond).unwrap();
    let sha256 = |document: u32| hex(&Sha256::digest(texts.iter().find(|(of, _)| *of == document).map_or("another", |(_, text)| text)));
    let mut seen = Seen::default();
    for Succession { department, key, next, from_millisecond } in &world.successions {
        let (key, next) = (Fingerprint::of(key.as_bytes()), Fingerprint::of(next.as_bytes()));
        seen.succeeds(crate::succession::Succession {
            department: name(department),
            key,
            next,
            from: at(*from_millisecond),
            linkage: None,
        })
        .unwrap();
    }
    for Sighting { department, agreement, document, key, at_millisecond } in &world.sightings {
        let statement = Statement {
            department: name(department),
            agreement: name(agreement),
            sha256: sha256(*document),
            signed_at: DateTime::UNIX_EPOCH,
            key: Fingerprint::of(key.as_bytes()),
        };
        seen.saw(&statement, at(*at_millisecond));
    }
    let mut signatures = Signatures::new(Revocations::parse(&revoked).unwrap(), seen);
    for Signature { beside, of, says } in &world.signatures {
        let found = match says {
            Says::Nothing("cannot be read") => Err(Fault::Unreadable("the operator's".into())),
            Says::Nothing(_) => Err(Fault::Forged),
            Says::Statement { speaks_for, agreement, document, key, at_millisecond } => Ok(Statement {
                department: name(speaks_for),
                agreement: name(agreement),
                sha256: sha256(*document),
                signed_at: at(*at_millisecond),
                key: Fingerprint::of(key.as_bytes()),
            }),
        };
        signatures.add(&name(beside), &name(of), found);
    }
    Read { agreements, signatures, purposes: PurposeTree::parse(&purposes).unwrap() }
}

/// The document of an agreement.
pub(super) fn written(agreement: &Agreement) -> String {
    let Agreement { document, id, mission, purposes, first_day, last_day, minimum_subjects, disclosure, parties, recipients, datasets } =
        agreement;
    let mut text = format!(
        "id = {id:?}\ntitle = \"document {document}\"\nmission = {mission:?}\npurposes = {purposes:?}\nvalid_from = {first_day:?}\n\
         valid_until = {last_day:?}\nminimum_subjects = {minimum_subjects}\nlinkage = {{ keyholder = {:?} }}\n",
        parties[0].department
    );
    text.push_str(&written_disclosure(disclosure));
    for Party { department, key } in parties {
        let (signing, linkage) = (Fingerprint::of(key.as_bytes()), Fingerprint::of(format!("linkage {key}").as_bytes()));
        let _ = writeln!(text, "[[party]]\ndepartment = {department:?}\nsigning_key = \"{signing}\"\nlinkage_key = \"{linkage}\"");
    }
    for Recipient { organisation, roles } in recipients {
        let _ = writeln!(text, "[[recipient]]\norganisation = {organisation:?}\nroles = {roles:?}");
    }
    for Dataset { department, name, basis, known_to, columns } in datasets {
        let basis = match basis {
            Basis::Consent => "basis = \"consent\"\nconsent_text = \"May we?\"",
            Basis::PowerHonouringObjections => "basis = \"statutory\"\npower = \"P\"\nhonours_objections = true",
            Basis::Power => "basis = \"statutory\"\npower = \"P\"\nhonours_objections = false",
        };
        let subject = columns.iter().find(|(column, _)| column == SUBJECT).map_or(&[][..], |(_, uses)| uses);
        let _ = writeln!(
            text,
            "[[dataset]]\ndepartment = {department:?}\nname = {name:?}\n{basis}\nknown_to = {known_to:?}\nidentifier = {{ type = \"nino\", uses = {subject:?} }}\n\
             [dataset.columns]"
        );
        for (column, uses) in columns.iter().filter(|(column, _)| column != SUBJECT) {
            let _ =
                writeln!(text, "{column} = {{ type = \"text\", classification = \"personal\", values = [\"N\", \"S\"], uses = {uses:?} }}");
        }
    }
    text
}

pub(super) fn use_of(word: &str) -> Use {
    match word {
        "output" => Use::Output,
        "group_by" => Use::GroupBy,
        "aggregate" => Use::Aggregate,
        "filter" => Use::Filter,
        _ => Use::Join,
    }
}
