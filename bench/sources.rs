//! Rows a second from the department's own databases into Arrow, against what the database's own client does with the same table.
//!
//! PostgreSQL: a scan by the node's source, and `psql -c "COPY … TO STDOUT (FORMAT binary)"` into `/dev/null`, over the same Unix
//! socket, alternating, medians. `BENCH_SOURCE_ROWS` sets the rows (default 2,000,000), `BENCH_RUNS` how often each is run (default 5).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' server")]

#[path = "../tests/end_to_end/postgres.rs"]
mod postgres;

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use concordat_node::source::connection::Server;
use concordat_node::source::settings::{Host, Settings};
use concordat_node::source::{Connection, Relation, Source, TableName};
use futures::StreamExt as _;
use postgres::{PASSWORD, Postgres, secret};

const COPY: &str = "COPY (SELECT id, region, score, cohort, fsm, born FROM people) TO STDOUT (FORMAT binary)";

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let set = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (rows, runs) = (set("BENCH_SOURCE_ROWS", 2_000_000), set("BENCH_RUNS", 5));
    let postgres = Postgres::start();
    postgres.sql("postgres", &table(rows));
    let file = tempfile::NamedTempFile::new().unwrap();
    let office = |server| Arc::new(Connection { name: "office".into(), server });
    let people = |schema: Option<&str>| Relation::Table(TableName { schema: schema.map(str::to_owned), name: "people".into() });
    let ours = Source::Database(office(server(&postgres)), people(Some("public")));
    let lite = Source::Database(office(Server::Sqlite(file.path().to_owned())), people(None));
    psql(&postgres);
    scanned(&ours, rows).await;
    // Before the rows are copied to SQLite, which takes them through this process's memory.
    let memory = peak();
    into_sqlite(&postgres, file.path());
    let (mut scans, mut copies, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        scans.push(scanned(&ours, rows).await);
        copies.push(psql(&postgres));
        files.push(scanned(&lite, rows).await);
    }
    let (scan, copy, file) = (median(scans), median(copies), median(files));
    println!("| source | {rows} rows × 6 columns | rows/s | of psql's rate |");
    println!("|---|---|---|---|");
    for (name, time) in [("psql, COPY binary to /dev/null", copy), ("PostgreSQL", scan), ("SQLite", file)] {
        println!(
            "| {name} | {:.2} s | {:.0} | {:.2} |",
            time.as_secs_f64(),
            rows as f64 / time.as_secs_f64(),
            copy.as_secs_f64() / time.as_secs_f64()
        );
    }
    println!(
        "\nMedians of {runs}, alternating in one run; {} cores; peak memory of the process that scans PostgreSQL {memory} MiB.",
        std::thread::available_parallelism().unwrap()
    );
}

fn table(rows: u64) -> String {
    format!(
        "CREATE TABLE people AS SELECT 'AB' || lpad(g::text, 7, '0') AS id, (ARRAY['London', 'Wales', 'North East', 'Scotland'])[1 + g % 4] AS region, \
         (g % 997) / 7.0::float8 AS score, 2000 + g % 25 AS cohort, g % 3 = 0 AS fsm, date '1990-01-01' + (g % 9000)::int AS born \
         FROM generate_series(1, {rows}) AS g; ALTER TABLE people ALTER score TYPE float8; GRANT SELECT ON people TO reader; VACUUM ANALYZE people"
    )
}

fn server(postgres: &Postgres) -> Server {
    let password_file = postgres.socket().join("reader.password");
    secret(&password_file, PASSWORD);
    Server::Postgres(Arc::new(Settings {
        host: Host::Socket(postgres.socket().to_owned()),
        port: postgres.port,
        user: "reader".into(),
        database: "postgres".into(),
        password_file: Some(password_file),
        tls: None,
    }))
}

/// The same rows in a file.
fn into_sqlite(postgres: &Postgres, path: &std::path::Path) {
    let text = postgres.sql("postgres", "SELECT concat_ws('|', id, region, score, cohort, fsm::int, born) FROM people");
    let mut database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch("CREATE TABLE people (id TEXT, region TEXT, score REAL, cohort INTEGER, fsm BOOLEAN, born DATE)").unwrap();
    let transaction = database.transaction().unwrap();
    let mut insert = transaction.prepare("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?)").unwrap();
    for line in text.lines() {
        insert.execute(rusqlite::params_from_iter(line.split('|'))).unwrap();
    }
    drop(insert);
    transaction.commit().unwrap();
}

async fn scanned(source: &Source, rows: u64) -> Duration {
    let start = Instant::now();
    let opened = source.open(&|_| None, 1).await.unwrap();
    let mut stream = opened.frame.execute_stream().await.unwrap();
    let mut read = 0;
    while let Some(batch) = stream.next().await {
        read += batch.unwrap().num_rows() as u64;
    }
    assert!(read == rows && opened.state.is_one());
    start.elapsed()
}

fn psql(postgres: &Postgres) -> Duration {
    let start = Instant::now();
    assert!(postgres.psql("postgres").args(["-c", COPY]).stdout(Stdio::null()).status().unwrap().success());
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
