//! What the access log costs.
//!
//! - **Decisions logged in a second** by 32 callers, each an entry that opens and one that closes, durable before the caller goes on;
//!   against the same entries in SQLite (write-ahead log, `synchronous = FULL`), a transaction each, the callers taking turns.
//!   Fails below 2,000.
//! - **The log's share of a small query**: one department's aggregate through the real processes under mutual TLS, on a federation
//!   whose logs are on the disk, and in turns on one whose logs are in memory (`/dev/shm`), where making an entry durable costs
//!   nothing. Four entries are made durable one after another: the query's opening, the release's intent and completion, the closing.
//!
//! `BENCH_SECONDS` sets how long is written each time (default 5, three times in turns), `BENCH_RUNS` how many queries of each kind are
//! measured (default 300).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use concordat::client::Client;
use concordat::federation::Layout;
use concordat_audit::{Entry, Log};
use rusqlite::Connection;
use sandbox::Sandbox;

const CALLERS: usize = 32;
/// How many decisions a second the log must take.
const BAR: f64 = 2000.0;
/// What a closing entry holds beside its number, time and event, in bytes: about a joined view's.
const FACTS: usize = 1500;
const VIEW: &str = "SELECT age_band, count(*) AS n, avg(wellbeing_score) AS wellbeing FROM dhsc.health GROUP BY age_band";
const PEOPLE: u64 = 500;
/// Where files are in memory.
const MEMORY: &str = "/dev/shm";

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let set = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let seconds = Duration::from_secs(set("BENCH_SECONDS", "5").parse().unwrap());
    share(set("BENCH_RUNS", "300").parse().unwrap()).await;
    let (mut ours, mut sqlite) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ours.push(decisions(seconds).await);
        sqlite.push(transactions(seconds));
    }
    let [ours, sqlite] = [ours, sqlite].map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("{CALLERS} callers: {ours:.0} decisions a second; SQLite {sqlite:.0}: {:.2} ×", ours / sqlite);
    assert!(ours >= BAR, "the log takes {ours:.0} decisions a second, {BAR} are the bar");
}

/// How many decisions a second the log takes.
async fn decisions(lasting: Duration) -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = Log::open(folder.path(), "concordat/bench").unwrap();
    let since = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let log = log.clone();
        callers.spawn(async move {
            let mut decided = 0_u64;
            while since.elapsed() < lasting {
                let opened = log.append(Entry::new("query.opened").field("purpose", "opportunity.measure")).await.unwrap();
                log.append(Entry::new("query.closed").field("opened_by", opened).field("facts", "x".repeat(FACTS)).closes()).await.unwrap();
                decided += 1;
            }
            decided
        });
    }
    let decided: u64 = callers.join_all().await.iter().sum();
    decided as f64 / since.elapsed().as_secs_f64()
}

/// The same in a table of SQLite.
fn transactions(lasting: Duration) -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let table = Connection::open(folder.path().join("log.sqlite")).unwrap();
    table
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE entry (number INTEGER PRIMARY KEY, json TEXT)")
        .unwrap();
    let table = Arc::new(Mutex::new(table));
    let since = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let table = Arc::clone(&table);
            std::thread::spawn(move || {
                let insert = |json: &str| {
                    let table = table.lock().unwrap();
                    table.prepare_cached("INSERT INTO entry (json) VALUES (?1)").unwrap().insert([json]).unwrap()
                };
                let mut decided = 0_u64;
                while since.elapsed() < lasting {
                    let opened = insert(r#"{"event":"query.opened","purpose":"opportunity.measure"}"#);
                    insert(&format!(r#"{{"event":"query.closed","opened_by":{opened},"facts":"{}"}}"#, "x".repeat(FACTS)));
                    decided += 1;
                }
                decided
            })
        })
        .collect();
    let decided: u64 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    decided as f64 / since.elapsed().as_secs_f64()
}

/// The log's share of a small query.
async fn share(runs: usize) {
    let memory = tempfile::tempdir_in(MEMORY).unwrap();
    let on_disk = Sandbox::start(PEOPLE).await;
    let in_memory = Sandbox::with(PEOPLE, |_| {}, |layout| move_logs(layout, memory.path())).await;
    let clients = [on_disk.client().await, in_memory.client().await];
    for client in &clients {
        for _ in 0..20 {
            client.query(VIEW).await.unwrap();
        }
    }
    let mut times = [Vec::new(), Vec::new()];
    for run in 0..runs {
        // Whoever is first is not always the same.
        for turn in 0..2 {
            let at = (run + turn) % 2;
            times[at].push(timed(&clients[at]).await);
        }
    }
    let [disk, memory] = times.map(|mut times| {
        times.sort_unstable();
        [times[times.len() / 2], times[times.len() * 99 / 100]].map(|took| took.as_secs_f64() * 1e3)
    });
    println!(
        "a small query: p50 {:.2} ms, p99 {:.2} ms; with its logs in memory {:.2} and {:.2} ms",
        disk[0], disk[1], memory[0], memory[1]
    );
    println!("the log's durability is {:.0} % of it (p50); {runs} queries each, in turns", (1.0 - memory[0] / disk[0]) * 100.0);
}

/// Puts the logs of the gateway and of every node into folders below this one.
fn move_logs(layout: &Layout, below: &Path) {
    let nodes = layout.departments().unwrap();
    let files = nodes.iter().map(|department| (department.clone(), layout.node(department).join("node.toml")));
    for (name, path) in files.chain([("gateway".to_owned(), layout.gateway().join("gateway.toml"))]) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\nlog = \"log\"\n"), "{text}");
        std::fs::write(&path, text.replace("\nlog = \"log\"\n", &format!("\nlog = \"{}\"\n", below.join(name).display()))).unwrap();
    }
}

async fn timed(client: &Client) -> Duration {
    let start = Instant::now();
    client.query(VIEW).await.unwrap();
    start.elapsed()
}
