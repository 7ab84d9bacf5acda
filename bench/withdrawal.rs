//! How long a withdrawal takes until a department's node has acknowledged it: over gRPC under mutual TLS as the department's
//! administrator, with the node's log and a signed receipt. On an idle node, and beside 100 queries a second through the gateway,
//! each of which reads that department's data.
//!
//! Fails where the 99th percentile beside queries is over 50 ms. `BENCH_WITHDRAWALS` sets how many are measured each time (default
//! 1,000). `consent.rs` measures the ledger alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "../tests/end_to_end/recording.rs"]
mod recording;
#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use concordat_proto::v1;
use recording::{Ledger, generous, ledger, withdrawn};
use sandbox::Sandbox;

/// The department that records, and a small view of its data.
const DEPARTMENT: &str = "dhsc";
const VIEW: &str = "SELECT age_band, count(*) AS n, avg(wellbeing_score) AS wellbeing FROM dhsc.health GROUP BY age_band";
const PEOPLE: u64 = 500;
/// Queries a second, and how many callers take turns to ask them.
const QUERIES: u32 = 100;
const CALLERS: u32 = 8;
/// Withdrawals before the first that is measured.
const UNMEASURED: usize = 50;
/// What one may take at most in the 99th percentile.
const BAR: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let count: usize = std::env::var("BENCH_WITHDRAWALS").unwrap_or_else(|_| "1000".into()).parse().unwrap();
    let sandbox = Sandbox::with(PEOPLE, |_| {}, |layout| generous(layout, DEPARTMENT)).await;
    let mut people = 0..1_000_000;
    let mut ledger = ledger(&sandbox, DEPARTMENT).await;
    sandbox.query(VIEW).await.unwrap();
    acknowledged(&mut ledger, &mut people, UNMEASURED).await;
    let idle = acknowledged(&mut ledger, &mut people, count).await;
    let (rate, beside) = beside(&sandbox, &mut ledger, &mut people, count).await;
    let told = |what: &str, [half, most]: [Duration; 2]| {
        let [half, most] = [half, most].map(|took| took.as_secs_f64() * 1e3);
        println!("withdrawal acknowledged by a node, {what}: p50 {half:.2} ms, p99 {most:.2} ms");
    };
    told("idle", idle);
    told(&format!("beside {rate:.0} queries a second ({QUERIES} were due)"), beside);
    let [half, most] = [0, 1].map(|at| beside[at].as_secs_f64() / idle[at].as_secs_f64());
    println!("beside queries against idle: p50 {half:.2} ×, p99 {most:.2} ×; {count} withdrawals each");
    assert!(rate >= 0.95 * f64::from(QUERIES), "the machine answers {rate:.0} queries a second, of {QUERIES} that are to run beside");
    assert!(beside[1] <= BAR, "beside queries the 99th percentile is over {} ms", BAR.as_millis());
}

/// Withdraws for so many people, one after the other: how long half of them took at most, and 99 in a hundred.
async fn acknowledged(ledger: &mut Ledger, people: &mut Range<u32>, count: usize) -> [Duration; 2] {
    let mut took = Vec::with_capacity(count);
    for person in people.take(count) {
        let records = vec![withdrawn(format!("ZX{person:06}A"), "opportunity")];
        let request = v1::RecordRequest { records, id: format!("withdrawal-{person}") };
        let since = Instant::now();
        let answer = ledger.record(request).await.unwrap().into_inner();
        took.push(since.elapsed());
        assert!(answer.receipts.len() == 1 && !answer.recorded_before);
        // As people come: not all at once.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    took.sort_unstable();
    [took[count / 2], took[count * 99 / 100]]
}

/// The same while queries are asked, and how many of these were answered a second.
async fn beside(sandbox: &Sandbox, ledger: &mut Ledger, people: &mut Range<u32>, count: usize) -> (f64, [Duration; 2]) {
    let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for turn in 0..CALLERS {
        clients.push((turn, sandbox.client().await));
    }
    let began = Instant::now();
    let ask = |(turn, client): (u32, concordat::client::Client)| {
        let (ended, answered) = (Arc::clone(&ended), Arc::clone(&answered));
        tokio::spawn(async move {
            // Each when it is due, or late.
            for query in (turn..).step_by(CALLERS as usize) {
                tokio::time::sleep_until((began + Duration::from_secs(1) / QUERIES * query).into()).await;
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                client.query(VIEW).await.unwrap();
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let callers: Vec<_> = clients.into_iter().map(ask).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let beside = acknowledged(ledger, people, count).await;
    let rate = answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    (rate, beside)
}
