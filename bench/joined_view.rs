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
//! All take turns; medians; Markdown tables out. `BENCH_ROWS` sets the rows per department (default `1000000`; several, apart by commas; the
//! sample's 8 M people give 5.6 M at most), `BENCH_RUNS` how often each is run (default 5), `BENCH_PEERS` against whom (default
//! `duckdb,prepared,polars,postgres`). Peers but PostgreSQL run in a Python process of their own; `tests/run --bench` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "../tests/end_to_end/postgres.rs"]
mod postgres;
#[path = "../tests/end_to_end/python.rs"]
mod python;
#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use concordat::client::Client;
use concordat::federation::{Federation, Layout, adopt};
use concordat_policy::{Disclosure, Use};
use postgres::Postgres;
use sandbox::{Sandbox, disclosing};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Of the sample's people, the share that each department records.
const RECORDED: f64 = 0.703;
const DEPARTMENTS: [&str; 5] = ["dfe", "dwp", "dhsc", "dbt", "dsit"];
const QUESTIONS: [&str; 6] = ["Q1", "Q2", "Q3", "Q4", "Q5", "view"];

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
    for rows in set("BENCH_ROWS", "1000000").split(',') {
        measure(rows.trim().parse().unwrap(), runs, &peers.split(',').map(str::trim).collect::<Vec<_>>()).await;
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
}

async fn measure(rows: u32, runs: usize, peers: &[&str]) {
    let people = (f64::from(rows) / RECORDED).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few million")]
    let sandbox = Sandbox::with(people as u64, agreed, watched).await;
    let (files, questions) = (files(&sandbox), questions(&sandbox));
    let mut engines: Vec<Engine> = peers.iter().map(|peer| Engine::start(peer, &files, &questions)).collect();
    let client = sandbox.client().await;
    let sql = |question: &str| questions[question].as_str().unwrap();
    let nodes: Vec<u32> = DEPARTMENTS.iter().map(|department| sandbox.running.process_id(department).unwrap()).collect();
    let gateway = sandbox.running.process_id("gateway").unwrap();
    let mut all: Vec<Taken> = QUESTIONS.iter().map(|_| Taken { peers: vec![Vec::new(); engines.len()], ..Taken::default() }).collect();
    let mut rows_of = Vec::new();
    for question in QUESTIONS {
        rows_of.push(asked(&client, sql(question)).await.1);
    }
    let made = snapshots(&sandbox, sql("view")).await;
    for _ in 0..runs {
        for ((question, taken), expected) in QUESTIONS.iter().zip(&mut all).zip(&rows_of) {
            let used = || (busy(gateway), nodes.iter().map(|node| busy(*node)).sum::<f64>());
            let (before, bytes) = (used(), moved(&sandbox).await);
            let (time, found) = asked(&client, sql(question)).await;
            assert_eq!(found, *expected, "{question}");
            taken.ours.push(time);
            let after = used();
            (taken.gateway, taken.nodes) = (taken.gateway + after.0 - before.0, taken.nodes + after.1 - before.1);
            taken.moved = moved(&sandbox).await - bytes;
            for (engine, times) in engines.iter_mut().zip(&mut taken.peers) {
                times.extend(engine.run(question));
            }
        }
    }
    let peak = |process: u32| peak(process).to_string();
    let peaks: Vec<String> = nodes.iter().map(|node| peak(*node)).collect();
    let peaks = format!("gateway {}, nodes {}", peak(gateway), peaks.join(", "));
    for _ in 0..runs {
        for (question, taken) in QUESTIONS.iter().zip(&mut all).filter(|(question, _)| ["Q1", "view"].contains(*question)) {
            files.iter().for_each(|file| touch(Path::new(file["path"].as_str().unwrap())));
            taken.cold.push(asked(&client, sql(question)).await.0);
            // Whatever goes on in the background is over before the next run.
            snapshots(&sandbox, sql(question)).await;
        }
    }
    println!("\n{rows} rows per department; snapshots made in {:.1} s after the first answers.\n", made.as_secs_f64());
    let names: Vec<String> = peers.iter().map(|peer| format!(" {peer} | × |")).collect();
    println!("| question | warm | cold | processor s: gateway | nodes | moved, MiB |{}", names.concat());
    println!("|---|---|---|---|---|---|{}", "---|---|".repeat(peers.len()));
    let each = f64::from(u32::try_from(runs).unwrap());
    let shown = |time: Option<Duration>| time.map_or_else(|| "–".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()));
    for (question, taken) in QUESTIONS.iter().zip(all) {
        let ours = median(taken.ours).unwrap();
        let cold = median(taken.cold);
        let of = |times: Vec<Duration>| {
            let time = median(times);
            let ratio = |ours: Duration| time.map(|time| format!("{:.2}", ours.as_secs_f64() / time.as_secs_f64()));
            let cold = cold.and_then(ratio).map(|cold| format!(" (cold {cold})")).unwrap_or_default();
            format!(" {} | {}{cold} |", shown(time), ratio(ours).unwrap_or_else(|| "–".to_owned()))
        };
        let beside: String = taken.peers.into_iter().map(of).collect();
        let (gateway, nodes) = (taken.gateway / each, taken.nodes / each);
        let moved = f64::from(u32::try_from(taken.moved >> 10).unwrap()) / 1024.0;
        println!("| {question} | {} | {} | {gateway:.2} | {nodes:.2} | {moved:.1} |{beside}", shown(Some(ours)), shown(cold));
    }
    let of_peers = engines.iter().filter_map(|engine| Some(format!("{} {}", engine.name, peak(engine.process()?)))).collect::<Vec<_>>();
    println!("\nPeak memory, MiB: {peaks}; {}.\n", of_peers.join(", "));
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

/// Gateway and nodes tell their metrics: the bytes of releases, and how many snapshots are kept.
fn watched(layout: &Layout) {
    let nodes = DEPARTMENTS.iter().map(|department| layout.node(department).join("node.toml"));
    for path in nodes.chain([layout.gateway().join("gateway.toml")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\n[operations]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    }
    let stated = "name = \"attainment\"\n";
    let rows = "row_level = { k = 10, over = [\"region\", \"disadvantage_band\"], rows_per_day = 4000000000 }\n";
    let path = layout.estate().join("agreements/opportunity.toml");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(stated));
    adopt(layout, &text.replacen(stated, &format!("{stated}{rows}"), 1)).unwrap();
}

/// Waits until every node that a question reads from keeps a snapshot, and as long as that took.
async fn snapshots(sandbox: &Sandbox, question: &str) -> Duration {
    let since = Instant::now();
    for department in DEPARTMENTS.iter().filter(|department| question.contains(&format!(" {department}."))) {
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

/// A peer.
struct Engine {
    name: String,
    runs: Runs,
}

enum Runs {
    /// A process that reads from a pipe which question to answer, and writes how long that took.
    Python { child: Child, input: ChildStdin, output: BufReader<ChildStdout> },
    /// The databases, and what it is asked.
    Postgres { server: Box<Postgres>, questions: Value },
}

impl Engine {
    fn start(name: &str, files: &[Value], questions: &Value) -> Self {
        let runs = match name {
            "postgres" => Runs::Postgres { server: Box::new(federated(files)), questions: questions.clone() },
            _ => python_peer(&json!({ "engine": name, "files": files, "questions": questions })),
        };
        let mut engine = Self { name: name.to_owned(), runs };
        // What is read once is read before anything is measured.
        for question in QUESTIONS {
            engine.run(question);
        }
        engine
    }

    /// How long a question took; nothing of one that is not for this peer.
    fn run(&mut self, question: &str) -> Option<Duration> {
        match &mut self.runs {
            Runs::Python { input, output, .. } => {
                writeln!(input, "{question}").unwrap();
                let mut line = String::new();
                output.read_line(&mut line).unwrap();
                Some(Duration::from_secs_f64(line.split_whitespace().next().unwrap().parse().unwrap()))
            }
            Runs::Postgres { server, questions } => (question == "Q1").then(|| {
                let start = Instant::now();
                server.sql("hub", questions[question].as_str().unwrap());
                start.elapsed()
            }),
        }
    }

    fn process(&self) -> Option<u32> {
        match &self.runs {
            Runs::Python { child, .. } => Some(child.id()),
            Runs::Postgres { .. } => None,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Runs::Python { child, .. } = &mut self.runs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn python_peer(world: &Value) -> Runs {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/peers.py");
    let mut child = Command::new(python::with_clients()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{world}").unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    Runs::Python { child, input, output }
}

/// A database for each of Q1's departments with its table, as it was loaded and analysed, and one that joins them.
fn federated(files: &[Value]) -> Postgres {
    let folder = tempfile::tempdir().unwrap();
    let world = json!({ "engine": "export", "folder": folder.path(), "files": files, "questions": {} });
    let Runs::Python { mut child, input, .. } = python_peer(&world) else { panic!("a peer of another kind") };
    drop(input);
    assert!(child.wait().unwrap().success());
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE hub");
    server.sql("hub", "CREATE EXTENSION postgres_fdw");
    for (department, table) in [("dfe", "attainment"), ("dwp", "claims"), ("dhsc", "health")] {
        server.sql("postgres", &format!("CREATE DATABASE {department}"));
        let of = |kind: &str| folder.path().join(format!("{department}.{table}.{kind}"));
        server.sql(department, &std::fs::read_to_string(of("sql")).unwrap());
        let mut script = format!("COPY {table} FROM STDIN (FORMAT csv, HEADER);\n").into_bytes();
        script.extend(std::fs::read(of("csv")).unwrap());
        script.extend(b"\\.\n");
        server.feed(department, &script);
        server.sql(department, &format!("CREATE INDEX ON {table} (subject); VACUUM ANALYZE {table}"));
        let (host, port) = (server.socket().display(), server.port);
        server.sql(
            "hub",
            &format!(
                "CREATE SCHEMA {department}; CREATE SERVER {department} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}', \
                 dbname '{department}', use_remote_estimate 'true', fetch_size '50000'); \
                 CREATE USER MAPPING FOR postgres SERVER {department} OPTIONS (user 'postgres', password_required 'false'); \
                 IMPORT FOREIGN SCHEMA public FROM SERVER {department} INTO {department}"
            ),
        );
        server.sql("hub", &format!("ANALYZE {department}.{table}"));
    }
    server
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

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
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
