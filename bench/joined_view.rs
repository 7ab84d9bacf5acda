//! Views over departments' data through the real processes with everything on (mutual TLS, consent, pseudonyms, policy, log, `Protect`),
//! beside engines that read copies of the same files with none of these.
//!
//! | question | |
//! |---|---|
//! | Q1 | three departments joined, by region and flag: distinct persons, two averages, a share |
//! | Q2 | one department, 90 groups |
//! | Q3 | rows of single subjects |
//! | Q4 | Q1 for one region and year |
//! | Q5 | five departments by left joins |
//! | view | `opportunity_by_region`: five departments by inner joins |
//!
//! Peers: DuckDB and Polars over the files as they are, on default settings; DuckDB over tables of its own that are sorted by what is joined on,
//! which it had time to make, as nodes have for their snapshots; PostgreSQL with a database for each department, joined by `postgres_fdw`
//! (Q1 alone). Warm: the nodes have linked snapshots. Cold: every department's file has just been touched, so that none of them is good.
//!
//! The gateway keeps in mind what it made of a question that comes again; peers plan theirs each time.
//!
//! All take turns; medians; Markdown tables out, with what each question moved from nodes to gateway, and the most memory that the gateway and the
//! largest node had. `BENCH_ROWS` sets the rows per department (default `1000000`; several, apart by commas: how Q1 grows is told), `BENCH_RUNS`
//! how often each is run (default 5), `BENCH_QUESTIONS` which (all), `BENCH_PEERS` against whom (default `duckdb,prepared,polars,postgres`; may be empty). Peers but PostgreSQL
//! run in a Python process of their own; `tests/run --bench` installs them.
//!
//! `BENCH_LINK=1000,20` has the gateway reach its nodes over a line of 1,000 megabits a second and 20 ms there and back (`link.rs`), and
//! tells beside each question how long its bytes alone take on it, and what copies of the files that the peers read do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "link.rs"]
mod link;
#[path = "peers.rs"]
mod peers;
#[path = "../tests/end_to_end/postgres.rs"]
mod postgres;
#[path = "processes.rs"]
mod processes;
#[path = "../tests/end_to_end/python.rs"]
mod python;
#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use concordat::client::Client;
use concordat::federation::{Federation, Layout, adopt};
use concordat_policy::{Disclosure, Use};
use link::Link;
use peers::Engine;
use processes::{DEPARTMENTS, busy, files, forget_peak, moved, peak, people, resident, size, snapshots, touch, watched};
use sandbox::{Sandbox, disclosing};
use serde_json::{Value, json};

const QUESTIONS: [&str; 6] = ["Q1", "Q2", "Q3", "Q4", "Q5", "view"];

/// Those that are asked: all, or what `BENCH_QUESTIONS` names.
fn chosen() -> Vec<&'static str> {
    let named = std::env::var("BENCH_QUESTIONS").unwrap_or_else(|_| QUESTIONS.join(","));
    let named: Vec<_> = named.split(',').map(str::trim).collect();
    let unknown: Vec<_> = named.iter().filter(|name| !QUESTIONS.contains(name)).collect();
    assert!(unknown.is_empty(), "BENCH_QUESTIONS names {unknown:?}: there are {QUESTIONS:?}");
    QUESTIONS.into_iter().filter(|question| named.contains(question)).collect()
}

/// The questions that are asked of departments whose files have just been touched.
const COLD: [&str; 2] = ["Q1", "view"];

fn questions(sandbox: &Sandbox) -> Value {
    let joined = |condition: &str| {
        format!(
            "SELECT a.region, a.free_school_meals, count(DISTINCT a.subject) AS persons, avg(a.attainment8) AS average_attainment8, \
             avg(h.wellbeing_score) AS average_wellbeing, avg(CASE WHEN c.claiming THEN 1.0 ELSE 0.0 END) AS share_claiming \
             FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject JOIN dhsc.health h ON h.subject = a.subject \
             {condition} GROUP BY a.region, a.free_school_meals"
        )
    };
    json!({
        "Q1": joined(""),
        "Q2": "SELECT region, disadvantage_band, free_school_meals, count(*) AS persons, avg(attainment8) AS average_attainment8 \
               FROM dfe.attainment GROUP BY region, disadvantage_band, free_school_meals",
        "Q3": "SELECT region, disadvantage_band FROM dfe.attainment WHERE cohort_year >= 2008",
        "Q4": joined("WHERE a.region = 'London' AND a.cohort_year = 2010"),
        "Q5": "SELECT a.region, a.free_school_meals, count(DISTINCT a.subject) AS persons, avg(c.months_claiming) AS months_claiming, \
               avg(h.wellbeing_score) AS wellbeing, avg(p.level) AS level, avg(b.download_mbps) AS download \
               FROM dfe.attainment a LEFT JOIN dwp.claims c ON c.subject = a.subject LEFT JOIN dhsc.health h ON h.subject = a.subject \
               LEFT JOIN dbt.apprenticeships p ON p.subject = a.subject LEFT JOIN dsit.connectivity b ON b.subject = a.subject \
               GROUP BY a.region, a.free_school_meals",
        "view": std::fs::read_to_string(sandbox.layout.estate().join("views/opportunity_by_region.sql")).unwrap(),
    })
}

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let set = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let runs: usize = set("BENCH_RUNS", "5").parse().unwrap();
    let peers = set("BENCH_PEERS", "duckdb,prepared,polars,postgres");
    let peers: Vec<_> = peers.split(',').map(str::trim).filter(|peer| !peer.is_empty()).collect();
    let mut before: Option<(u32, Duration)> = None;
    for rows in set("BENCH_ROWS", "1000000").split(',') {
        let rows = rows.trim().parse().unwrap();
        let took = measure(rows, runs, &peers).await;
        if let Some((fewer, less)) = before {
            println!("{} warm from {fewer} to {rows} rows: {:.2} × the time.\n", chosen()[0], took.as_secs_f64() / less.as_secs_f64());
        }
        before = Some((rows, took));
    }
    println!(
        "Medians of {runs}, in turns; {} cores shared by all of each side's processes.",
        std::thread::available_parallelism().unwrap()
    );
}

/// What one question took.
#[derive(Default)]
struct Taken {
    ours: Vec<Duration>,
    cold: Vec<Duration>,
    peers: Vec<Vec<Duration>>,
    /// Processor seconds of the gateway and of all nodes, and bytes that these released.
    gateway: f64,
    nodes: f64,
    moved: u64,
    /// The most memory that the gateway had, warm, and the node that had most of it, warm and cold: KiB.
    peaks: [u64; 3],
}

/// Tells what was measured, and how long the first question took, warm.
async fn measure(rows: u32, runs: usize, peers: &[&str]) -> Duration {
    let mut sandbox = Sandbox::with(people(rows), agreed, |layout| {
        watched(layout);
        rows_leave(layout);
    })
    .await;
    let link = std::env::var("BENCH_LINK").ok().map(|link| Link::of(&link));
    if let Some(link) = &link {
        link.before(&mut sandbox).await;
    }
    let (layout, questions) = (&sandbox.layout, questions(&sandbox));
    let files = files(layout);
    let sql = |question: &str| questions[question].as_str().unwrap();
    let nodes: Vec<u32> = DEPARTMENTS.iter().map(|department| sandbox.running.process_id(department).unwrap()).collect();
    let gateway = sandbox.running.process_id("gateway").unwrap();
    let at_rest = nodes.iter().map(|node| resident(*node)).max().unwrap();
    let most = |nodes: &[u32]| nodes.iter().map(|node| peak(*node)).max().unwrap();
    let mut engines: Vec<Engine> = peers.iter().map(|peer| Engine::start(peer, &files, &questions)).collect();
    let chosen = chosen();
    let mut all: Vec<Taken> = chosen.iter().map(|_| Taken { peers: vec![Vec::new(); engines.len()], ..Taken::default() }).collect();
    let (mut client, mut rows_of) = (sandbox.client().await, Vec::new());
    for question in &chosen {
        rows_of.push(asked(&client, sql(question)).await.1);
    }
    let since = Instant::now();
    for question in &chosen {
        snapshots(layout, sql(question)).await;
    }
    let made = since.elapsed();
    for _ in 0..runs {
        // Tokens live for minutes.
        client = sandbox.client().await;
        for ((question, taken), expected) in chosen.iter().zip(&mut all).zip(&rows_of) {
            nodes.iter().chain([&gateway]).for_each(|process| forget_peak(*process));
            let used = || (busy(gateway), nodes.iter().map(|node| busy(*node)).sum::<f64>());
            let (before, bytes) = (used(), moved(layout).await);
            let (time, found) = asked(&client, sql(question)).await;
            assert_eq!(found, *expected, "{question}");
            taken.ours.push(time);
            let after = used();
            (taken.gateway, taken.nodes) = (taken.gateway + after.0 - before.0, taken.nodes + after.1 - before.1);
            taken.moved = moved(layout).await - bytes;
            taken.peaks = [taken.peaks[0].max(peak(gateway)), taken.peaks[1].max(most(&nodes)), 0];
            for (engine, times) in engines.iter_mut().zip(&mut taken.peers) {
                times.extend(engine.run(question));
            }
        }
    }
    for _ in 0..runs {
        client = sandbox.client().await;
        for (question, taken) in chosen.iter().zip(&mut all).filter(|(question, _)| COLD.contains(*question)) {
            nodes.iter().for_each(|process| forget_peak(*process));
            files.iter().for_each(|file| touch(&file.path));
            taken.cold.push(asked(&client, sql(question)).await.0);
            // Whatever goes on in the background is over before the next run, and counted.
            snapshots(layout, sql(question)).await;
            taken.peaks[2] = taken.peaks[2].max(most(&nodes));
        }
    }
    println!("\n{rows} rows per department; snapshots made in {:.1} s after the first answers.\n", made.as_secs_f64());
    let first = median(&mut all[0].ours).unwrap();
    let bytes: Vec<u64> = all.iter().map(|taken| taken.moved).collect();
    table(all, runs, peers);
    if let Some(link) = link {
        for (question, moved) in chosen.iter().zip(bytes) {
            let read = files.iter().filter(|file| sql(question).contains(&format!("{}.{} ", file.department, file.table)));
            let copies = link.takes(read.map(|file| size(&file.path)).sum());
            println!(
                "{question} over the line: its bytes alone {}, copies of the files {}.",
                shown(Some(link.takes(moved))),
                shown(Some(copies))
            );
        }
    }
    let of_peers = engines.iter().filter_map(|engine| Some(format!("{} {}", engine.name, peak(engine.process()?) >> 10)));
    let of_peers = of_peers.collect::<Vec<_>>().join(", ");
    println!("\nPeaks are of the largest node, which had {} MiB before the first question. Peers', MiB: {of_peers}.\n", at_rest >> 10);
    first
}

fn table(all: Vec<Taken>, runs: usize, peers: &[&str]) {
    let names: Vec<String> = peers.iter().map(|peer| format!(" {peer} | × |")).collect();
    println!(
        "| question | warm | cold | processor s: gateway | nodes | moved, MiB | peak MiB: gateway | node | node, cold |{}",
        names.concat()
    );
    println!("|---|---|---|---|---|---|---|---|---|{}", "---|---|".repeat(peers.len()));
    let each = runs as f64;
    for (question, mut taken) in chosen().iter().zip(all) {
        let ours = median(&mut taken.ours).unwrap();
        let cold = median(&mut taken.cold);
        let of = |mut times: Vec<Duration>| {
            let time = median(&mut times);
            let ratio = |ours: Duration| time.map(|time| format!("{:.2}", ours.as_secs_f64() / time.as_secs_f64()));
            let cold = cold.and_then(ratio).map(|cold| format!(" (cold {cold})")).unwrap_or_default();
            format!(" {} | {}{cold} |", shown(time), ratio(ours).unwrap_or_else(|| "–".to_owned()))
        };
        let beside: String = taken.peers.into_iter().map(of).collect();
        let (gateway, nodes) = (taken.gateway / each, taken.nodes / each);
        let moved = taken.moved as f64 / f64::from(1 << 20);
        let [at_gateway, warm, making] = taken.peaks.map(|kib| if kib == 0 { "–".to_owned() } else { (kib >> 10).to_string() });
        let (ours, cold) = (shown(Some(ours)), shown(cold));
        println!("| {question} | {ours} | {cold} | {gateway:.2} | {nodes:.2} | {moved:.1} | {at_gateway} | {warm} | {making} |{beside}");
    }
}

fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}

/// Asks a question; how long the answer took, and its rows.
async fn asked(client: &Client, sql: &str) -> (Duration, usize) {
    let start = Instant::now();
    let answer = client.query(sql).await.unwrap();
    (start.elapsed(), answer.batches.iter().map(RecordBatch::num_rows).sum())
}

/// The default rules, and for Q3 rows of single subjects.
fn agreed(federation: &mut Federation) {
    disclosing(Disclosure::default())(federation);
    let attainment = federation.agreements[0].datasets.iter_mut().find(|dataset| dataset.department == "dfe").unwrap();
    for (_, uses) in attainment.columns.iter_mut().filter(|(name, _)| ["region", "disadvantage_band"].contains(&name.as_str())) {
        uses.push(Use::Output);
    }
}

/// Of attainment rows of single subjects may leave, as many as are asked for.
fn rows_leave(layout: &Layout) {
    let stated = "name = \"attainment\"\n";
    let rows = "row_level = { k = 10, over = [\"region\", \"disadvantage_band\"], rows_per_day = 4000000000 }\n";
    let path = layout.estate().join("agreements/opportunity.toml");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(stated));
    adopt(layout, &text.replacen(stated, &format!("{stated}{rows}"), 1)).unwrap();
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
