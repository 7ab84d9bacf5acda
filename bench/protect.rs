//! What rules of disclosure cost: the joined view `opportunity_by_region` through the real processes, under agreements with the default
//! rules, and with cell-key noise on top, beside the same view under the minimum of subjects alone.
//!
//! Three federations with the same people beside each other, queried in turns, each warm; medians, and each as a ratio to the last. Fails
//! where the default rules cost more than 15 %. `BENCH_ROWS` sets the rows per department (default `1000000`; several, apart by commas),
//! `BENCH_RUNS` how often each is run (default 9, 7 at least).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "processes.rs"]
mod processes;
#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::time::{Duration, Instant};

use arrow::array::{Array as _, RecordBatch};
use concordat::client::Client;
use concordat_policy::Disclosure;
use concordat_policy::disclosure::Perturbation;
use processes::{people, snapshots, watched};
use sandbox::{Sandbox, disclosing, exact};

/// The fewest runs of which a median says something.
const FEWEST: usize = 7;
/// What the default rules may cost, as a ratio.
const BAR: f64 = 1.15;
/// The column of the view that tells how many people a group has.
const PERSONS: &str = "persons";

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let set = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let runs = set("BENCH_RUNS", "9").parse::<usize>().unwrap().max(FEWEST);
    println!("| rows per department | minimum only | default rules | with noise | default × minimum | noise × minimum |");
    println!("|---|---|---|---|---|---|");
    let mut beyond = Vec::new();
    for rows in set("BENCH_ROWS", "1000000").split(',') {
        let rows = rows.trim().parse().unwrap();
        let ratio = measure(rows, runs).await;
        if ratio > BAR {
            beyond.push(format!("at {rows} rows {:.1} %", (ratio - 1.0) * 100.0));
        }
    }
    println!("\nMedians of {runs}, in turns; {} cores.", std::thread::available_parallelism().unwrap());
    let most = (BAR - 1.0) * 100.0;
    assert!(beyond.is_empty(), "the default rules of disclosure may add {most:.0} % to the joined view; they add {}", beyond.join(", "));
}

/// The view under the default rules as a ratio to the view under the minimum alone.
async fn measure(rows: u32, runs: usize) -> f64 {
    let noise = Disclosure { perturbation: Some(Perturbation { variance: 4, most: 6 }), ..Disclosure::default() };
    let mut sandboxes = Vec::new();
    for rules in [exact(), Disclosure::default(), noise] {
        sandboxes.push(Sandbox::with(people(rows), disclosing(rules), watched).await);
    }
    let view = std::fs::read_to_string(sandboxes[0].layout.estate().join("views/opportunity_by_region.sql")).unwrap();
    let mut clients = Vec::new();
    for sandbox in &sandboxes {
        let client = sandbox.client().await;
        let answer = client.query(&view).await.unwrap();
        assert!(answer.batches.iter().map(told).sum::<usize>() > 0, "every number is withheld: nothing is measured");
        snapshots(&sandbox.layout, &view).await;
        clients.push(client);
    }
    let mut times = vec![Vec::new(); clients.len()];
    for run in 0..runs {
        // Whoever is first is not always the same.
        for turn in 0..clients.len() {
            let at = (run + turn) % clients.len();
            times[at].push(timed(&clients[at], &view).await);
        }
    }
    let [minimum, default, noise] = [0, 1, 2].map(|at| median(times[at].clone()).as_secs_f64());
    let ratio = default / minimum;
    println!("| {rows} | {minimum:.2} s | {default:.2} s | {noise:.2} s | {ratio:.3} | {:.3} |", noise / minimum);
    ratio
}

/// How many groups are told of how many people they are.
fn told(batch: &RecordBatch) -> usize {
    batch.column_by_name(PERSONS).map_or(0, |persons| persons.len() - persons.null_count())
}

async fn timed(client: &Client, view: &str) -> Duration {
    let start = Instant::now();
    client.query(view).await.unwrap();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
