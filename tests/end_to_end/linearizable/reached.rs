//! Two departments whose people withdraw, agree again and withdraw once more, beside queries for the data of one of them, which the
//! other's withdrawals reach. Each answer honours what either acknowledged before it began, and neither's versions go back.
//!
//! The people of one department's writers are of one age, those of the other's of another, so that an answer by age tells how many
//! have withdrawn at each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use concordat::client::{Answer, Client};
use concordat::federation::Layout;
use concordat_proto::v1;

use super::mixed::{Change, Seen, Stated, faults};
use super::{PURPOSE, READERS, Race};
use crate::consent_killed::number;
use crate::oracle::{Cell, Oracle, agree, rows};
use crate::reach::reaching;
use crate::recording::{Ledger, generous, ledger, many_releases, withdrawn};
use crate::sandbox::Sandbox;

/// Who records, the age of whom, and what the version of an answer says: the first one's release states the version that it applied.
const RECORDING: [(&str, &str, Stated); 2] = [("dhsc", "30-39", Stated::Exactly), ("dwp", "40-49", Stated::AtLeast)];
/// Of each department.
const CONNECTIONS: usize = 2;
const BY_AGE: &str =
    "SELECT h.age_band, count(DISTINCT h.subject) AS n FROM dhsc.health h JOIN dwp.claims c ON c.subject = h.subject GROUP BY h.age_band";

/// Of each department: people of its age, and the version of its ledger.
fn told(answer: &Answer) -> [(u64, u64); 2] {
    let mut people = BTreeMap::new();
    for row in rows(&answer.batches, 1).into_values() {
        let [(_, Cell::Text(age)), (_, Cell::Number(n)), ..] = &row[..] else { panic!("{row:?}") };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "people are counted")]
        let n = *n as u64;
        people.insert(age.clone(), n);
    }
    RECORDING.map(|(department, age, stated)| {
        // What the release applied; or the earlier of that and the list.
        let all = &answer.summary[if stated == Stated::Exactly { "sources" } else { "consent" }];
        let of = all.as_array().unwrap().iter().find(|of| of["department"] == department).unwrap();
        (people[age], of["consent_version"].as_u64().unwrap())
    })
}

/// Whom an answer by age counts, of one age.
async fn known(oracle: &Oracle, age: &str) -> Vec<String> {
    let sql = "SELECT DISTINCT h.subject FROM dhsc.health h JOIN dwp.claims c ON c.subject = h.subject WHERE h.age_band = ";
    let mut all = Vec::new();
    for batch in oracle.query(&format!("{sql}'{age}' ORDER BY h.subject")).await {
        let subjects = cast(batch.column(0), &DataType::Utf8).unwrap();
        all.extend(subjects.as_string::<i32>().iter().map(|subject| subject.unwrap().to_owned()));
    }
    all
}

/// Each of these people withdraws, over one connection; of three one then agrees again, and one of them withdraws once more. Where
/// they stand in the end: who has withdrawn, and who is back.
async fn changes(race: Race, mut ledger: Ledger, people: Vec<String>) -> ([Vec<String>; 2], Vec<Change>) {
    let (mut stand, mut changes) = ([Vec::new(), Vec::new()], Vec::new());
    for (place, person) in people.into_iter().enumerate() {
        if race.over() {
            break;
        }
        let choices = &[true, false, true][..[1, 2, 3][place % 3]];
        for withdraws in choices {
            let event = if *withdraws { "withdrawn" } else { "given" }.to_owned();
            let records = vec![v1::ConsentRecord { event, ..withdrawn(person.clone(), PURPOSE) }];
            let began = race.now();
            let version = ledger.record(v1::RecordRequest { records, id: String::new() }).await.unwrap().into_inner().consent_version;
            changes.push(Change { began, acknowledged: race.now(), version, withdrawn: *withdraws });
        }
        stand[usize::from(choices.len() == 2)].push(person);
    }
    (stand, changes)
}

/// Asks until nobody records any more, and once more. What is seen of each department.
async fn read(race: Race, client: Client, before: [(u64, u64); 2], writing: Arc<AtomicUsize>) -> [Vec<Seen>; 2] {
    let mut seen = [Vec::new(), Vec::new()];
    loop {
        let last = writing.load(Ordering::SeqCst) == 0;
        let began = race.now();
        let answer = client.query(BY_AGE).await.unwrap();
        let ended = race.now();
        for (seen, ((people, version), (at_first, _))) in seen.iter_mut().zip(told(&answer).into_iter().zip(before)) {
            seen.push(Seen { began, ended, version, withdrawn: at_first.cast_signed() - people.cast_signed() });
        }
        if last {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_honours_every_choice_that_either_of_two_departments_acknowledged_before_it_began() {
    let seconds = number("CONCORDAT_RACE_SECONDS", 4);
    let files = |layout: &Layout| {
        reaching(layout, "opportunity", "15m");
        generous(layout, "dhsc");
        many_releases(layout, "dwp");
    };
    let sandbox = Sandbox::with(4_000 + 800 * seconds, |_| {}, files).await;
    let oracle = Oracle::reached(&sandbox.layout, &[]).await;
    let answer = sandbox.query(BY_AGE).await.unwrap();
    assert!(agree(&answer, &oracle.query(BY_AGE).await, 1) > 0);
    let before = told(&answer);

    let writing = Arc::new(AtomicUsize::new(CONNECTIONS * RECORDING.len()));
    let mut clients = Vec::new();
    for _ in 0..READERS {
        clients.push(sandbox.client().await);
    }
    let mut recorders = Vec::new();
    for (place, (department, age, _)) in RECORDING.into_iter().enumerate() {
        let mut people = known(&oracle, age).await;
        // Enough stay to be counted.
        people.truncate(people.len() - 50);
        for part in people.chunks(people.len().div_ceil(CONNECTIONS)) {
            recorders.push((place, ledger(&sandbox, department).await, part.to_vec()));
        }
    }
    assert_eq!(recorders.len(), writing.load(Ordering::SeqCst));
    let race = Race { began: Instant::now(), lasts: Duration::from_secs(seconds) };
    let mut writers = Vec::new();
    for (place, ledger, part) in recorders {
        let writing = Arc::clone(&writing);
        writers.push(tokio::spawn(async move {
            let written = changes(race, ledger, part).await;
            writing.fetch_sub(1, Ordering::SeqCst);
            (place, written)
        }));
    }
    let readers: Vec<_> = clients.into_iter().map(|client| tokio::spawn(read(race, client, before, Arc::clone(&writing)))).collect();

    let (mut recorded, mut later) = ([Vec::new(), Vec::new()], Vec::new());
    for writer in writers {
        // One that failed ends the test: readers would ask for ever.
        let (place, ([gone, back], changes)) = writer.await.unwrap();
        let department = RECORDING[place].0;
        later.extend([(department, "withdrawn", gone), (department, "withdrawn", back.clone()), (department, "given", back)]);
        recorded[place].extend(changes);
    }
    let mut seen = [Vec::new(), Vec::new()];
    for reader in readers {
        reader.await.unwrap().into_iter().zip(&mut seen).for_each(|(own, all)| all.extend(own));
    }
    for (place, (department, _, stated)) in RECORDING.into_iter().enumerate() {
        let (changes, seen) = (&recorded[place], &seen[place]);
        let faults = faults(changes, seen, before[place].1, stated);
        assert!(faults.is_empty(), "{department}: {} faults, the first: {:?}", faults.len(), faults.first());
        let withdrawals = changes.iter().filter(|change| change.withdrawn).count();
        let newest = before[place].1 + changes.len() as u64;
        let beside = seen.iter().filter(|one| one.version > before[place].1 && one.version < newest).count();
        eprintln!("{department}: {withdrawals} withdrawals of {} records, {beside} of {} queries beside them", changes.len(), seen.len());
        assert!(withdrawals > 0 && withdrawals < changes.len(), "{department}: both choices");
        assert!(beside >= READERS, "{department}: queries and records did not meet");
    }

    // In the end it is these people and nobody else.
    let after = Oracle::reached(&sandbox.layout, &later).await;
    assert!(agree(&sandbox.query(BY_AGE).await.unwrap(), &after.query(BY_AGE).await, 1) > 0);
}
