//! Engines that answer the same questions from copies of all departments' files, with no rule at all (`peers.py`, and PostgreSQL).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::processes::File;
use crate::python;

/// A peer.
pub struct Engine {
    pub name: String,
    runs: Runs,
}

enum Runs {
    /// A process that reads from a pipe which question to answer, and writes how long that took.
    Python { child: Child, input: ChildStdin, output: BufReader<ChildStdout> },
    /// The databases, and what it is asked.
    Postgres { server: Box<Postgres>, questions: Value },
}

impl Engine {
    /// Starts it and has it answer every question once: what is read once is read before anything is measured.
    pub fn start(name: &str, files: &[File], questions: &Value) -> Self {
        let runs = match name {
            "postgres" => Runs::Postgres { server: Box::new(federated(files)), questions: questions.clone() },
            _ => python_peer(&json!({ "engine": name, "files": told(files), "questions": questions })),
        };
        let mut engine = Self { name: name.to_owned(), runs };
        for question in questions.as_object().unwrap().keys() {
            engine.run(question);
        }
        engine
    }

    /// How long a question took; nothing of one that is not for this peer.
    pub fn run(&mut self, question: &str) -> Option<Duration> {
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

    pub fn process(&self) -> Option<u32> {
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
fn federated(files: &[File]) -> Postgres {
    let folder = tempfile::tempdir().unwrap();
    let world = json!({ "engine": "export", "folder": folder.path(), "files": told(files), "questions": {} });
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

/// Files, as `peers.py` reads of them.
fn told(files: &[File]) -> Vec<Value> {
    let told = |file: &File| {
        let File { department, table, format, path, columns, condition } = file;
        json!({ "schema": department, "table": table, "format": format, "path": path, "columns": columns, "condition": condition })
    };
    files.iter().map(told).collect()
}
