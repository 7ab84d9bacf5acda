//! The joined view `opportunity_by_region` through the real processes with everything on (mutual TLS, consent, pseudonyms,
//! policy, log, `Protect`), against plain DataFusion and DuckDB on default settings over the same files with none of these.
//!
//! Warm: the nodes have linked snapshots. Cold: every department's file has just been touched, so that none of them is good.
//! Alternating runs, medians; one Markdown table out. `BENCH_ROWS` sets the rows per department (default `1000000,5000000`; the
//! sample's 8 M people give 5.6 M at most), `BENCH_RUNS` how often each is run (default 5). DuckDB runs in a Python process of
//! its own that keeps its connection; `tests/run --bench` installs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "../tests/end_to_end/python.rs"]
mod python;
#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use concordat::federation::Layout;
use concordat_policy::Disclosure;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionContext};
use sandbox::{Sandbox, disclosing};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Of the sample's people, the share that each department records.
const RECORDED: f64 = 0.703;
const DEPARTMENTS: [&str; 5] = ["dfe", "dwp", "dhsc", "dbt", "dsit"];

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let set = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let runs: usize = set("BENCH_RUNS", "5").parse().unwrap();
    println!(
        "| rows per department | warm | cold | DataFusion | DuckDB | warm × DuckDB | cold × DuckDB | snapshots made in | processor s, warm: gateway | nodes | moved | peak MiB: gateway | nodes | DuckDB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for rows in set("BENCH_ROWS", "1000000,5000000").split(',') {
        measure(rows.trim().parse().unwrap(), runs).await;
    }
    println!("\nMedians of {runs}, alternating in one run; {} cores.", std::thread::available_parallelism().unwrap());
}

async fn measure(rows: u32, runs: usize) {
    let people = (f64::from(rows) / RECORDED).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few million")]
    let sandbox = Sandbox::with(people as u64, disclosing(Disclosure::default()), watched).await;
    let files = files(&sandbox);
    let plain = plain(&files).await;
    let view = std::fs::read_to_string(sandbox.layout.estate().join("views/opportunity_by_region.sql")).unwrap();
    let recorded = count(&plain, "SELECT count(*) FROM dfe.attainment").await;
    let mut duckdb = DuckDb::start(&files, &view);
    let client = sandbox.client().await;
    let mut cold = vec![timed(client.query(&view)).await];
    let made = snapshots(&sandbox).await;
    let before = moved(&sandbox).await;
    let (mut ours, mut datafusion, mut duck) = (Vec::new(), Vec::new(), Vec::new());
    let nodes: Vec<u32> = DEPARTMENTS.iter().map(|department| sandbox.running.process_id(department).unwrap()).collect();
    let gateway = sandbox.running.process_id("gateway").unwrap();
    let (mut of_gateway, mut of_nodes) = (0.0, 0.0);
    for _ in 0..runs {
        let used = || (busy(gateway), nodes.iter().map(|node| busy(*node)).sum::<f64>());
        let before = used();
        ours.push(timed(client.query(&view)).await);
        let after = used();
        (of_gateway, of_nodes) = (of_gateway + after.0 - before.0, of_nodes + after.1 - before.1);
        datafusion.push(timed(async { plain.sql(&view).await.unwrap().collect().await }).await);
        duck.push(duckdb.run());
    }
    let moved = (moved(&sandbox).await - before) / u64::try_from(runs).unwrap();
    for _ in 1..runs {
        files.iter().for_each(|file| touch(Path::new(file["path"].as_str().unwrap())));
        cold.push(timed(client.query(&view)).await);
        // Whatever goes on in the background is over before the next run.
        snapshots(&sandbox).await;
    }
    let each = f64::from(u32::try_from(runs).unwrap());
    let peaks: Vec<String> = nodes.iter().map(|node| peak(*node).to_string()).collect();
    let (ours, cold, datafusion, duck) = (median(ours), median(cold), median(datafusion), median(duck));
    println!(
        "| {recorded} | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {:.2} | {:.2} | {:.1} s | {:.2} | {:.2} | {} MiB | {} | {} | {} |",
        ours.as_secs_f64(),
        cold.as_secs_f64(),
        datafusion.as_secs_f64(),
        duck.as_secs_f64(),
        ours.as_secs_f64() / duck.as_secs_f64(),
        cold.as_secs_f64() / duck.as_secs_f64(),
        made.as_secs_f64(),
        of_gateway / each,
        of_nodes / each,
        moved >> 20,
        peak(gateway),
        peaks.join(", "),
        peak(duckdb.child.id()),
    );
}

/// Gateway and nodes tell their metrics: the bytes of releases, and how many snapshots are kept.
fn watched(layout: &Layout) {
    let nodes = DEPARTMENTS.iter().map(|department| layout.node(department).join("node.toml"));
    for path in nodes.chain([layout.gateway().join("gateway.toml")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\n[operations]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    }
}

/// Waits until every node keeps a snapshot, and as long as that took.
async fn snapshots(sandbox: &Sandbox) -> Duration {
    let since = Instant::now();
    for department in DEPARTMENTS {
        while metric(&sandbox.layout.node(department), "concordat_snapshots").await < 1.0 {
            assert!(since.elapsed() < Duration::from_secs(300), "no snapshot was made");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    since.elapsed()
}

/// Gives a file, or each of a folder, another time of change.
fn touch(path: &Path) {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().for_each(|entry| touch(&entry.unwrap().path()));
    }
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
}

async fn timed<T, E: std::fmt::Debug>(work: impl Future<Output = Result<T, E>>) -> Duration {
    let start = Instant::now();
    work.await.unwrap();
    start.elapsed()
}

/// One department's file, under the names of the views.
fn files(sandbox: &Sandbox) -> Vec<Value> {
    let mut files = Vec::new();
    for department in sandbox.layout.departments().unwrap() {
        let folder = sandbox.layout.node(&department);
        let config: toml::Value = toml::from_str(&std::fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap();
        for dataset in config["dataset"].as_array().unwrap() {
            let text = |key: &str| dataset[key].as_str().unwrap();
            let columns = dataset["columns"].as_table().unwrap().iter();
            let columns =
                columns.map(|(name, column)| (name.clone(), column.get("source").and_then(|s| s.as_str()).unwrap_or(name).to_owned()));
            let identifier = dataset["identifier"]["column"].as_str().unwrap();
            let columns = columns.chain([("subject".to_owned(), identifier.to_owned())]);
            let columns = columns.map(|(name, source)| format!("\"{source}\" AS {name}")).collect::<Vec<_>>().join(", ");
            // The sample's placeholder would join everybody who has it with everybody else: 2,000 people to the fifth power.
            files.push(json!({
                "schema": department, "table": text("name"), "format": text("format"), "path": folder.join(text("source")),
                "columns": columns, "condition": format!("\"{identifier}\" <> 'UNKNOWN'"),
            }));
        }
    }
    files
}

/// The files as tables of a plain session; nothing else is done to them.
async fn plain(files: &[Value]) -> SessionContext {
    let session = SessionContext::new();
    for file in files {
        let text = |key: &str| file[key].as_str().unwrap();
        session.sql(&format!("CREATE SCHEMA IF NOT EXISTS {}", text("schema"))).await.unwrap();
        let raw = format!("raw_{}_{}", text("schema"), text("table"));
        match text("format") {
            "csv" => session.register_csv(&raw, text("path"), CsvReadOptions::new()).await.unwrap(),
            _ => session.register_parquet(&raw, text("path"), ParquetReadOptions::default()).await.unwrap(),
        }
        let select = format!("SELECT {} FROM {raw} WHERE {}", text("columns"), text("condition"));
        session.sql(&format!("CREATE VIEW {}.{} AS {select}", text("schema"), text("table"))).await.unwrap();
    }
    session
}

async fn count(session: &SessionContext, sql: &str) -> i64 {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    let column = batches[0].column(0).clone();
    arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&column).value(0)
}

/// DuckDB in a Python process that keeps its connection.
struct DuckDb {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl DuckDb {
    fn start(files: &[Value], sql: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/duckdb_view.py");
        let mut child = Command::new(python::with_clients()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{}", json!({ "files": files, "sql": sql })).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn run(&mut self) -> Duration {
        writeln!(self.input, "run").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        Duration::from_secs_f64(line.trim().parse().unwrap())
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that the nodes released to the gateway so far, as the gateway's metrics state them.
async fn moved(sandbox: &Sandbox) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let total = metric(&sandbox.layout.gateway(), "concordat_release_bytes_total").await as u64;
    total
}

/// The sum of a metric of the program whose folder this is.
async fn metric(folder: &Path, name: &str) -> f64 {
    let address = std::fs::read_to_string(folder.join("state/operations-address")).unwrap();
    let mut stream = TcpStream::connect(address.trim()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: program\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let own = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Processor time that a process has used, in seconds: of the kernel's clock, which ticks a hundred times a second.
fn busy(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
