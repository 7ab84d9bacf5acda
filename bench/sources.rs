//! Rows a second from the department's own databases and stores into Arrow, against what a client of the same place does.
//!
//! | source | its peer |
//! |---|---|
//! | PostgreSQL, Unix socket | `psql -c "COPY … TO STDOUT (FORMAT binary)"` into `/dev/null` |
//! | MariaDB, Unix socket | `mariadb --quick -B`, a `SELECT` of the table into `/dev/null` |
//! | SQLite | none: it is compared with PostgreSQL's |
//! | Parquet and CSV in a store that speaks S3, TLS | Apache Arrow's own reader (C++, called from Python) with the same store, types inferred |
//!
//! Each scan is by the node's source; scan and peer alternate, medians. `BENCH_SOURCE_ROWS` sets the rows (default 2,000,000),
//! `BENCH_RUNS` how often each is run (default 5).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' servers")]

#[path = "../tests/end_to_end/mariadb.rs"]
mod mariadb;
#[path = "../tests/end_to_end/postgres.rs"]
mod postgres;
#[path = "../tests/end_to_end/store.rs"]
mod store;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::DataType;
use concordat_node::config::Format;
use concordat_node::source::connection::Server;
use concordat_node::source::settings::{Host, Settings};
use concordat_node::source::{Connection, Objects, Relation, Source, TableName};
use futures::StreamExt as _;
use mariadb::Mariadb;
use parquet::arrow::ArrowWriter;
use postgres::{PASSWORD, Postgres, secret};
use store::{BUCKET, KEY, SECRET, Store};

const COLUMNS: &str = "id, region, score, cohort, fsm, born";

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let set = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (rows, runs) = (set("BENCH_SOURCE_ROWS", 2_000_000), set("BENCH_RUNS", 5));
    let folder = tempfile::tempdir().unwrap();
    let (postgres, mariadb, store) = (Postgres::start(), Mariadb::start(), Store::start());
    postgres.sql("postgres", &in_postgres(rows));
    mariadb.sql(&in_mariadb(rows));
    let office = |server| Arc::new(Connection { name: "office".into(), server });
    let people = |schema: Option<&str>| Relation::Table(TableName { schema: schema.map(str::to_owned), name: "people".into() });
    let file = folder.path().join("people.sqlite");
    let elephant = Source::Database(office(Server::Postgres(Arc::new(as_postgres_reader(&postgres)))), people(Some("public")));
    let seal = Source::Database(office(Server::Mysql(Arc::new(as_mariadb_reader(&mariadb)))), people(Some("office")));
    let lite = Source::Database(office(Server::Sqlite(file.clone())), people(None));
    let lake = |format, key: &str| Source::Objects(Arc::new(store.source()), Objects { key: key.into(), format });
    let mut measured = Vec::new();

    psql(&postgres);
    scanned(&elephant, rows).await;
    // Before the rows are copied elsewhere, which takes them through this process's memory.
    let memory = peak();
    measured.push(compared("PostgreSQL", &elephant, "psql, COPY binary", || psql(&postgres), rows, runs).await);
    measured.push(compared("MariaDB", &seal, "mariadb, quick batch", || selected(&mariadb), rows, runs).await);
    into_sqlite(&postgres, &file);
    measured.push(compared("SQLite", &lite, "psql, COPY binary", || psql(&postgres), rows, runs).await);
    for (name, key, format) in [("Parquet on S3", "people.parquet", Format::Parquet), ("CSV on S3", "people.csv", Format::Csv)] {
        store.write(key, written(&elephant, format).await);
        let mut arrow = Arrow::start(&store, key, if key.ends_with("csv") { "csv" } else { "parquet" });
        measured.push(compared(name, &lake(format, key), "pyarrow", || arrow.scan(rows), rows, runs).await);
    }

    println!("| source | {rows} rows × 6 columns | rows/s | peer | rows/s | of the peer's rate |");
    println!("|---|---|---|---|---|---|");
    for (name, scan, peer, took) in measured {
        let rate = |time: Duration| rows as f64 / time.as_secs_f64();
        let (time, ratio) = (scan.as_secs_f64(), took.as_secs_f64() / scan.as_secs_f64());
        println!("| {name} | {time:.2} s | {:.0} | {peer} | {:.0} | {ratio:.2} |", rate(scan), rate(took));
    }
    println!(
        "\nMedians of {runs}, scan and peer alternating; {} cores; peak memory of the process that scans PostgreSQL {memory} MiB.",
        std::thread::available_parallelism().unwrap()
    );
}

/// The name, the median of its scans, its peer, and the median of the peer's.
async fn compared<'a>(
    name: &'a str,
    source: &Source,
    peer: &'a str,
    mut run: impl FnMut() -> Duration,
    rows: u64,
    runs: u64,
) -> (&'a str, Duration, &'a str, Duration) {
    // Both once before it counts.
    scanned(source, rows).await;
    run();
    let (mut scans, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        scans.push(scanned(source, rows).await);
        peers.push(run());
    }
    (name, median(scans), peer, median(peers))
}

fn in_postgres(rows: u64) -> String {
    format!(
        "CREATE TABLE people AS SELECT 'AB' || lpad(g::text, 7, '0') AS id, (ARRAY['London', 'Wales', 'North East', 'Scotland'])[1 + g % 4] AS region, \
         (g % 997) / 7.0::float8 AS score, 2000 + g % 25 AS cohort, g % 3 = 0 AS fsm, date '1990-01-01' + (g % 9000)::int AS born \
         FROM generate_series(1, {rows}) AS g; ALTER TABLE people ALTER score TYPE float8; GRANT SELECT ON people TO reader; VACUUM ANALYZE people"
    )
}

fn in_mariadb(rows: u64) -> String {
    format!(
        "USE office; CREATE TABLE people (id VARCHAR(9) NOT NULL, region VARCHAR(10), score DOUBLE, cohort INT, fsm BOOLEAN, born DATE); \
         INSERT INTO people SELECT CONCAT('AB', LPAD(seq, 7, '0')), ELT(1 + seq % 4, 'London', 'Wales', 'North East', 'Scotland'), \
         (seq % 997) / 7e0, 2000 + seq % 25, seq % 3 = 0, DATE '1990-01-01' + INTERVAL (seq % 9000) DAY FROM seq_1_to_{rows}; \
         ANALYZE TABLE people;"
    )
}

fn as_postgres_reader(postgres: &Postgres) -> Settings {
    let password_file = postgres.socket().join("reader.password");
    secret(&password_file, PASSWORD);
    Settings {
        host: Host::Socket(postgres.socket().to_owned()),
        port: postgres.port,
        user: "reader".into(),
        database: "postgres".into(),
        password_file: Some(password_file),
        tls: None,
    }
}

fn as_mariadb_reader(mariadb: &Mariadb) -> Settings {
    let password_file = mariadb.path("reader.password");
    secret(&password_file, PASSWORD);
    Settings {
        host: Host::Socket(mariadb.socket()),
        port: mariadb.port,
        user: "reader".into(),
        database: "office".into(),
        password_file: Some(password_file),
        tls: None,
    }
}

/// The source's rows as a file.
async fn written(source: &Source, format: Format) -> Vec<u8> {
    let opened = source.open(&|_| None, None, 1).await.unwrap();
    let mut stream = opened.frame.execute_stream().await.unwrap();
    let mut file = Vec::new();
    match format {
        Format::Parquet => {
            let mut writer = ArrowWriter::try_new(&mut file, stream.schema(), None).unwrap();
            while let Some(batch) = stream.next().await {
                writer.write(&batch.unwrap()).unwrap();
            }
            writer.close().unwrap();
        }
        Format::Csv => {
            let mut writer = arrow::csv::Writer::new(&mut file);
            while let Some(batch) = stream.next().await {
                writer.write(&batch.unwrap()).unwrap();
            }
        }
    }
    file
}

/// Apache Arrow's reader of stores, in a process of its own.
struct Arrow {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Arrow {
    fn start(store: &Store, key: &str, format: &str) -> Self {
        let python = Path::new(&std::env::var("CONCORDAT_CLIENTS").expect("run `tests/run --bench`")).join("bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/arrow_s3.py");
        let mut process = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let place = serde_json::json!({
            "key": KEY, "secret": SECRET, "endpoint": format!("https://localhost:{}", store.port), "region": "us-east-1",
            "ca": store.path("ca.pem"), "object": format!("{BUCKET}/{key}"), "format": format,
        });
        writeln!(process.stdin.as_mut().unwrap(), "{place}").unwrap();
        Self { process, answers }
    }

    fn scan(&mut self, rows: u64) -> Duration {
        writeln!(self.process.stdin.as_mut().unwrap(), "scan").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let (read, seconds) = line.trim().split_once(' ').expect("the scan of Apache Arrow failed");
        assert_eq!(read.parse::<u64>().unwrap(), rows);
        Duration::from_secs_f64(seconds.parse().unwrap())
    }
}

impl Drop for Arrow {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The same rows in a file.
fn into_sqlite(postgres: &Postgres, path: &Path) {
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

/// CSV's columns are read as what they are in the other sources.
fn declared(column: &str) -> Option<DataType> {
    Some(match column {
        "score" => DataType::Float64,
        "cohort" => DataType::Int32,
        "fsm" => DataType::Boolean,
        "born" => DataType::Date32,
        _ => return None,
    })
}

async fn scanned(source: &Source, rows: u64) -> Duration {
    let start = Instant::now();
    let opened = source.open(&declared, None, 1).await.unwrap();
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
    let copy = format!("COPY (SELECT {COLUMNS} FROM people) TO STDOUT (FORMAT binary)");
    assert!(postgres.psql("postgres").args(["-c", &copy]).stdout(Stdio::null()).status().unwrap().success());
    start.elapsed()
}

fn selected(mariadb: &Mariadb) -> Duration {
    let start = Instant::now();
    let select = format!("SELECT {COLUMNS} FROM office.people");
    assert!(mariadb.client().args(["--quick", "-e", &select]).stdout(Stdio::null()).status().unwrap().success());
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
