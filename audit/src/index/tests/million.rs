//! What the index is worth over a million entries, each time beside what a plain reading of the same log with the same filter takes, as
//! `concordat audit list --log` does it.

use std::collections::VecDeque;

use super::*;
use crate::LogError;

const ENTRIES: u64 = 1_000_000;
const DEPARTMENTS: [&str; 5] = ["dfe", "dwp", "dhsc", "dsit", "dbt"];

/// Entries of as many bytes and fields as a gateway's: a query that is asked, and answered from two or three departments, refused once in
/// nine times, and read of now and then.
fn entry(i: u64) -> Entry {
    let (query, of) = (i / 2, usize::try_from(i / 2).unwrap());
    let id = format!("018bcfe5-{:04x}-7abc-8def-{:012x}", query >> 16, query);
    let hash = |n: u64| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(4);
    if i.is_multiple_of(2) {
        return Entry::new("query.opened")
            .query(&id)
            .field("organisation", ["mission-unit", "treasury", "audit-office"][of % 3])
            .field("person", hash(query % 200))
            .field("token", hash(query))
            .field("roles", json!(["analyst"]))
            .field("address", format!("10.0.{}.{}", query % 7, query % 251))
            .field("purpose", ["opportunity.measure", "health.prevention"][of % 2])
            .field("statement_digest", hash(query + 1))
            .field("kind", "statement");
    }
    match query % 27 {
        0..3 => Entry::new("query.refused").query(&id).field("code", "denied").field("rule", "columns").field("department", "dwp").closes(),
        3 => Entry::new("log.read").query(&id).field("what", "query").field("entries", 4),
        _ => {
            // The last department is rare.
            let departments = DEPARTMENTS.iter().enumerate().filter(|(d, _)| if *d == 4 { query % 100 == 7 } else { of % 4 != *d });
            let source = |(d, department): (usize, &&str)| {
                json!({
                    "department": department, "dataset": "attainment", "order": hash(query + d as u64), "agreement": "opportunity",
                    "agreement_digest": hash(7), "consent_version": 70_000 + i, "consent_generation": 0, "freshness": 1_800_000_000_u64,
                    "rows": query * 31 % 1_000_000, "columns": { "region": ["group_by"], "score": ["aggregate"] },
                })
            };
            let sources: Vec<Value> = departments.map(source).collect();
            Entry::new("query.closed")
                .query(&id)
                .field("answer_rows", query % 40)
                .field("milliseconds", query % 900)
                .field("facts", json!({ "sources": sources, "suppressed": query % 5 }))
                .closes()
        }
    }
}

fn written(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let log = open(folder);
    for first in (0..ENTRIES).step_by(1000) {
        runtime.block_on(async {
            let append = |i: u64| {
                let log = log.clone();
                async move {
                    // Who writes faster than the tree grows is refused, and comes again.
                    while let Err(error) = log.append(entry(i)).await {
                        assert!(matches!(error, LogError::Behind), "{error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            };
            let mut tasks: tokio::task::JoinSet<()> = (first..first + 1000).map(append).collect();
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
            }
        });
    }
    until("all is under a checkpoint", || log.size() >= ENTRIES);
    close(log, folder);
}

/// Opens log and index, and waits until the index has everything.
fn opened(folder: &Path) -> (Log, Index, Duration) {
    let log = open(folder);
    let since = Instant::now();
    let index = Index::open(&log).unwrap();
    let all = || index.is_usable() && View::open(folder).is_ok_and(|view| view.extent.end == log.size());
    let deadline = since + Duration::from_secs(600);
    while !all() {
        assert!(Instant::now() < deadline, "the index is not made");
        std::thread::sleep(Duration::from_millis(5));
    }
    (log, index, since.elapsed())
}

/// By a plain reading: the numbers of the last entries that are asked for.
fn read_through(folder: &Path, search: &Search) -> (Vec<u64>, Duration) {
    let (since, mut asked, mut last) = (Instant::now(), Asked::default(), VecDeque::new());
    for read in crate::read(folder, 0).unwrap() {
        let (position, bytes) = read.unwrap();
        if search.takes(&asked.complete(Facts::read(&bytes))) {
            last.push_back(position + 1);
            if last.len() > search.limit {
                last.pop_front();
            }
        }
    }
    (last.into(), since.elapsed())
}

fn by_index(index: &Index, search: &Search) -> (Vec<u64>, Duration) {
    let run = || {
        let since = Instant::now();
        let page = index.search(search, since + FAR).unwrap();
        (numbers(&page), since.elapsed())
    };
    (0..5).map(|_| run()).min_by_key(|(_, took)| *took).unwrap()
}

/// A lane of `tests/run --long`.
#[test]
#[ignore = "a measurement, in release: tests/run --long"]
fn a_million_entries_are_found_by_their_index() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    written(folder);
    let (_, plain) = read_through(folder, &search(&[]));
    let times = |took: Duration| took.as_secs_f64() / plain.as_secs_f64();
    println!("a plain reading of a million entries: {plain:.2?}");
    let (log, index, built) = opened(folder);
    println!("the index is built in {built:.2?}: {:.1} such readings", times(built));
    assert!(index.rebuilt() == 0 && times(built) < 10.0, "{built:?}");
    end(index, log, folder);
    let (log, index, again) = opened(folder);
    let bytes = fs::metadata(folder.join(FILE)).unwrap().len();
    println!("one that stands is opened, and read whole, in {again:.2?}: {:.2} readings; it has {} MB", times(again), bytes / 1_000_000);
    assert!(times(again) < 1.0, "{again:?}");

    let time = |at: u64| {
        let (_, bytes) = crate::read(folder, at).unwrap().next().unwrap().unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()["time"].as_str().unwrap().to_owned()
    };
    let (from, to) = (time(ENTRIES / 10 * 4), time(ENTRIES / 10 * 5));
    let rare = "018bcfe5-0001-7abc-8def-000000011170";
    // How many of a plain reading's time each may take, at most.
    for (what, texts, bar) in [
        ("a page without a filter", vec![], 0.05),
        ("a department's page in a tenth of the time", vec![("department", "dwp"), ("from", &from), ("to", &to)], 0.05),
        ("a rare department's page in a tenth of the time", vec![("department", "dbt"), ("from", &from), ("to", &to)], 0.05),
        ("one query", vec![("query_id", rare)], 0.05),
        ("a dataset that no entry names", vec![("dataset", "none.such")], 0.05),
    ] as [(&str, Vec<(&str, &str)>, f64); 5]
    {
        let search = Search { limit: 100, bytes: 512 << 10, ..search(&texts) };
        let ((expected, plain), (found, took)) = (read_through(folder, &search), by_index(&index, &search));
        let ratio = took.as_secs_f64() / plain.as_secs_f64();
        println!("{what}: {took:.2?}, read through {plain:.2?}: 1/{:.0}", 1.0 / ratio);
        assert!(found == expected && (texts.is_empty() || found.len() <= 100), "{what}: {found:?} {expected:?}");
        assert!(ratio <= bar, "{what}: {ratio} of a plain reading");
    }
    end(index, log, folder);
}
