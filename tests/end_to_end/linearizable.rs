//! Withdrawals of many writers beside queries of many readers: the node, the gateway and some of the writers are processes of their own.
//! Each withdrawal that was acknowledged before a query began is honoured by it, and versions never go back.
//!
//! Everybody keeps a history: when what they did began, when its answer was there, and what it said. The histories are checked together,
//! by the clock of this process. Only withdrawals are recorded, each of somebody who had agreed, so that an answer tells how many
//! records it rests on; [`reached`] has two departments, and people who change their minds. `CONCORDAT_RACE_SECONDS` sets for how long
//! they are recorded.

mod history;
mod mixed;
mod reached;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use concordat::client::{Answer, Client};
use concordat_proto::v1;

use self::history::{Read, Write, faults};
use crate::consent::record;
use crate::consent_killed::number;
use crate::oracle::{Cell, Oracle, agree, rows};
use crate::recording::{Ledger, generous, ledger, withdrawn};
use crate::sandbox::Sandbox;

const DEPARTMENT: &str = "dhsc";
const PURPOSE: &str = "opportunity";
/// Systems with connections of their own, and commands that run beside the node, one process after the other.
const CONNECTIONS: usize = 4;
const COMMANDS: usize = 2;
const READERS: usize = 3;
/// Who withdraws is in each of these.
const STATEMENTS: [&str; 2] = [
    "SELECT count(DISTINCT subject) AS n FROM dhsc.health",
    "SELECT count(DISTINCT h.subject) AS n FROM dfe.attainment a JOIN dhsc.health h ON h.subject = a.subject",
];

/// People of an answer, and the version of the ledger it rests on.
fn told(answer: &Answer) -> (u64, u64) {
    let row = rows(&answer.batches, 0).into_values().next().unwrap();
    let (_, Cell::Number(people)) = &row[0] else { panic!("{row:?}") };
    let sources = answer.summary["sources"].as_array().unwrap();
    let version = sources.iter().find(|source| source["department"] == DEPARTMENT).unwrap()["consent_version"].as_u64().unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "people are counted")]
    let people = *people as u64;
    (people, version)
}

/// Whom both statements count.
async fn known(oracle: &Oracle) -> Vec<String> {
    let sql = "SELECT DISTINCT h.subject FROM dhsc.health h JOIN dfe.attainment a ON a.subject = h.subject ORDER BY h.subject";
    let of = |batch: &RecordBatch| {
        let subjects = cast(batch.column(0), &DataType::Utf8).unwrap();
        subjects.as_string::<i32>().iter().map(|subject| subject.unwrap().to_owned()).collect::<Vec<_>>()
    };
    oracle.query(sql).await.iter().flat_map(of).collect()
}

/// When all of it began and until when there are withdrawals.
#[derive(Clone, Copy)]
struct Race {
    began: Instant,
    lasts: Duration,
}

impl Race {
    fn now(self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }

    fn over(self) -> bool {
        self.began.elapsed() > self.lasts
    }

    /// Each of these people withdraws, over one connection.
    async fn connection(self, mut ledger: Ledger, people: Vec<String>) -> (Vec<String>, Vec<Write>) {
        let (mut done, mut writes) = (Vec::new(), Vec::new());
        for person in people {
            if self.over() {
                break;
            }
            let request = v1::RecordRequest { records: vec![withdrawn(person.clone(), PURPOSE)], id: String::new() };
            let began = self.now();
            let version = ledger.record(request).await.unwrap().into_inner().consent_version;
            writes.push(Write { began, acknowledged: self.now(), version: Some(version) });
            done.push(person);
        }
        (done, writes)
    }

    /// Each of these people withdraws, by a process of its own.
    fn commands(self, sandbox: &Sandbox, people: Vec<String>) -> (Vec<String>, Vec<Write>) {
        let (mut done, mut writes) = (Vec::new(), Vec::new());
        for person in people {
            if self.over() {
                break;
            }
            let began = self.now();
            record(sandbox, DEPARTMENT, PURPOSE, "withdrawn", &person);
            writes.push(Write { began, acknowledged: self.now(), version: None });
            done.push(person);
        }
        (done, writes)
    }

    /// Asks until nobody withdraws any more, and once more.
    async fn read(self, client: Client, first: usize, before: [u64; 2], writing: Arc<AtomicUsize>) -> Vec<Read> {
        let mut reads = Vec::new();
        for turn in first.. {
            let (last, at) = (writing.load(Ordering::SeqCst) == 0, turn % STATEMENTS.len());
            let began = self.now();
            let answer = client.query(STATEMENTS[at]).await.unwrap();
            let ended = self.now();
            let (people, version) = told(&answer);
            let withdrawn = before[at].checked_sub(people).expect("somebody is counted who was not before");
            reads.push(Read { began, ended, version, withdrawn });
            if last {
                break;
            }
        }
        reads
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_honours_every_withdrawal_that_was_acknowledged_before_it_began() {
    let seconds = number("CONCORDAT_RACE_SECONDS", 4);
    let sandbox = Arc::new(Sandbox::with(1_000 + 400 * seconds, |_| {}, |layout| generous(layout, DEPARTMENT)).await);
    let oracle = Oracle::over(&sandbox.layout).await;
    let mut people = known(&oracle).await;
    // Enough stay to be counted.
    people.truncate(people.len() - 100);
    let (mut before, mut base) = ([0; 2], 0);
    for (at, sql) in STATEMENTS.iter().enumerate() {
        let answer = sandbox.query(sql).await.unwrap();
        assert!(agree(&answer, &oracle.query(sql).await, 0) > 0);
        (before[at], base) = told(&answer);
    }

    let writing = Arc::new(AtomicUsize::new(CONNECTIONS + COMMANDS));
    let mut ledgers = Vec::new();
    for _ in 0..CONNECTIONS {
        ledgers.push(ledger(&sandbox, DEPARTMENT).await);
    }
    let mut clients = Vec::new();
    for _ in 0..READERS {
        clients.push(sandbox.client().await);
    }
    let mut parts = people.chunks(people.len().div_ceil(CONNECTIONS + COMMANDS)).map(<[String]>::to_vec);
    let race = Race { began: Instant::now(), lasts: Duration::from_secs(seconds) };
    let mut writers = Vec::new();
    for ledger in ledgers {
        let (part, writing) = (parts.next().unwrap(), Arc::clone(&writing));
        writers.push(tokio::spawn(async move {
            let written = race.connection(ledger, part).await;
            writing.fetch_sub(1, Ordering::SeqCst);
            written
        }));
    }
    for part in parts {
        let (sandbox, writing) = (Arc::clone(&sandbox), Arc::clone(&writing));
        writers.push(tokio::task::spawn_blocking(move || {
            let written = race.commands(&sandbox, part);
            writing.fetch_sub(1, Ordering::SeqCst);
            written
        }));
    }
    let readers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(first, client)| tokio::spawn(race.read(client, first, before, Arc::clone(&writing))))
        .collect();

    let (mut gone, mut writes, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for writer in writers {
        // One that failed ends the test: readers would ask for ever.
        let (done, written) = writer.await.unwrap();
        gone.extend(done);
        writes.extend(written);
    }
    for reader in readers {
        reads.extend(reader.await.unwrap());
    }
    let faults = faults(&writes, &reads, base);
    assert!(faults.is_empty(), "{} faults, the first: {:?}", faults.len(), faults.first());
    let (all, between) = (writes.len() as u64, |read: &&Read| read.withdrawn > 0 && read.withdrawn < writes.len() as u64);
    let beside = reads.iter().filter(between).count();
    eprintln!(
        "{all} withdrawals by {} writers beside {} queries, {beside} of them while some had withdrawn",
        CONNECTIONS + COMMANDS,
        reads.len()
    );
    assert!(beside >= READERS, "queries and withdrawals did not meet");
    assert!(writes.iter().any(|write| write.version.is_none()), "no process withdrew for anybody");

    // In the end it is these people and nobody else.
    let after = Oracle::after(&sandbox.layout, &[(DEPARTMENT, "withdrawn", gone)]).await;
    for sql in STATEMENTS {
        let answer = sandbox.query(sql).await.unwrap();
        assert!(agree(&answer, &after.query(sql).await, 0) > 0);
        assert_eq!(told(&answer).1, base + all);
    }
}
