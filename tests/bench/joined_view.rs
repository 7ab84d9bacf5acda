//! The joined view through the real processes with everything on (mutual TLS, consent, pseudonyms, policy, log, `Protect`)
//! against one plain DataFusion session on default settings over the same files, with none of these. Alternating runs in one
//! process, medians of seven. `PEOPLE` in the environment sets the size; each department records about 71 % of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "../end_to_end/sandbox.rs"]
mod sandbox;

use std::time::{Duration, Instant};

use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionContext};
use sandbox::Sandbox;

const RUNS: usize = 7;

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let people = std::env::var("PEOPLE").ok().and_then(|p| p.parse().ok()).unwrap_or(1_410_000u64);
    let started = Instant::now();
    let sandbox = Sandbox::start(people).await;
    println!("{people} people generated, nodes up, consent imported: {:.1} s", started.elapsed().as_secs_f64());
    let plain = plain(&sandbox).await;
    let view = std::fs::read_to_string(sandbox.layout.estate().join("views/opportunity_by_region.sql")).unwrap();
    let rows = plain.sql("SELECT count(*) FROM dfe.attainment").await.unwrap().collect().await.unwrap();
    println!("rows at one department: {:?}", rows[0].column(0));
    let client = sandbox.client().await;
    let first = Instant::now();
    client.query(&view).await.unwrap();
    println!("first answer: {:.2} s", first.elapsed().as_secs_f64());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = Instant::now();
        client.query(&view).await.unwrap();
        ours.push(start.elapsed());
        let start = Instant::now();
        plain.sql(&view).await.unwrap().collect().await.unwrap();
        theirs.push(start.elapsed());
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!("\n| joined view, five departments | median of {RUNS} |\n|---|---|");
    println!("| Concordat, everything on | {:.2} s |", ours.as_secs_f64());
    println!("| plain DataFusion, same files, no policy | {:.2} s |", theirs.as_secs_f64());
    println!("| ratio | {:.2} |", ours.as_secs_f64() / theirs.as_secs_f64());
    for name in ["gateway", "dfe", "dwp", "dhsc", "dbt", "dsit"] {
        let id = sandbox.running.process_id(name).unwrap();
        println!("| peak memory of {name} | {} MiB |", peak(id));
    }
}

/// The departments' files under the names of the view, nothing else done to them.
async fn plain(sandbox: &Sandbox) -> SessionContext {
    let session = SessionContext::new();
    for department in sandbox.layout.departments().unwrap() {
        let folder = sandbox.layout.node(&department);
        let config: toml::Value = toml::from_str(&std::fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap();
        session.sql(&format!("CREATE SCHEMA {department}")).await.unwrap();
        for dataset in config["dataset"].as_array().unwrap() {
            let text = |key: &str| dataset[key].as_str().unwrap();
            let path = folder.join(text("source"));
            let (path, raw) = (path.to_str().unwrap(), format!("raw_{department}"));
            match text("format") {
                "csv" => session.register_csv(&raw, path, CsvReadOptions::new()).await.unwrap(),
                _ => session.register_parquet(&raw, path, ParquetReadOptions::default()).await.unwrap(),
            }
            let renamed = dataset["columns"]
                .as_table()
                .unwrap()
                .iter()
                .map(|(name, column)| format!("\"{}\" AS {name}", column.get("source").and_then(|s| s.as_str()).unwrap_or(name)));
            let subject = format!("\"{}\" AS subject", dataset["identifier"]["column"].as_str().unwrap());
            let columns = std::iter::once(subject).chain(renamed).collect::<Vec<_>>().join(", ");
            // The sample's placeholder would join everybody who has it with everybody else: 2,000 people to the fifth power.
            let identifier = dataset["identifier"]["column"].as_str().unwrap();
            let select = format!("SELECT {columns} FROM {raw} WHERE \"{identifier}\" <> 'UNKNOWN'");
            session.sql(&format!("CREATE VIEW {department}.{} AS {select}", text("name"))).await.unwrap();
        }
    }
    session
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
