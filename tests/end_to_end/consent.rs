//! A person's choice counts in the next query.

use std::io::Write as _;
use std::process::{Command, Stdio};

use concordat_policy::Code;

use crate::oracle::{Cell, rows};
use crate::sandbox::{Sandbox, program, refused};

const JOINED: &str =
    "SELECT count(DISTINCT a.subject) AS n, count(h.subject) AS k FROM dfe.attainment a LEFT JOIN dhsc.health h ON h.subject = a.subject";

async fn counts(sandbox: &Sandbox) -> (f64, f64, u64) {
    let answer = sandbox.query(JOINED).await.unwrap();
    let row = rows(&answer.batches, 0).into_values().next().unwrap();
    let number = |i: usize| if let Cell::Number(n) = row[i].1 { n } else { panic!("{row:?}") };
    let sources = answer.summary["sources"].as_array().unwrap();
    let version = sources.iter().find(|s| s["department"] == "dhsc").unwrap()["consent_version"].as_u64().unwrap();
    (number(0), number(1), version)
}

/// Records an event as the department's administrator does, beside the running node.
pub fn record(sandbox: &Sandbox, department: &str, purpose: &str, event: &str, identifier: &str) {
    let config = sandbox.layout.node(department).join("node.toml");
    let mut child = Command::new(program())
        .args([
            "node",
            "consent",
            "record",
            "--identifier-type",
            "nino",
            "--purpose",
            purpose,
            "--event",
            event,
            "--identifiers",
            "-",
            "--config",
        ])
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{identifier}").unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn a_withdrawal_an_objection_and_a_change_of_mind_count_in_the_next_query() {
    let sandbox = Sandbox::start(3_000).await;
    let somebody = sandbox.sample.somebody().unwrap();
    let (n, k, version) = counts(&sandbox).await;
    record(&sandbox, "dhsc", "opportunity.measure", "withdrawn", &somebody);
    let (n1, k1, version1) = counts(&sandbox).await;
    assert_eq!((n1, k1), (n, k - 1.0), "withdrawn from DHSC's data only");
    assert_eq!(version1, version + 1, "the answer states the version that was applied");
    record(&sandbox, "dhsc", "opportunity", "given", &somebody.to_lowercase());
    assert_eq!(counts(&sandbox).await.1, k, "consent to the parent purpose, given again, counts");
    record(&sandbox, "dhsc", "health", "withdrawn", &somebody);
    assert_eq!(counts(&sandbox).await.1, k, "a withdrawal from another purpose does not");
    record(&sandbox, "dfe", "opportunity", "objected", &somebody);
    let (n2, k2, _) = counts(&sandbox).await;
    assert_eq!((n2, k2), (n - 1.0, k - 1.0), "an objection at DfE takes the row out of the left join");
}

#[tokio::test]
async fn a_restored_backup_of_the_ledger_is_refused() {
    let mut sandbox = Sandbox::start(500).await;
    let state = sandbox.layout.node("dhsc").join("state");
    let saved = tempfile::tempdir().unwrap();
    sandbox.running.kill("dhsc");
    let ledger = |from: &std::path::Path, to: &std::path::Path| {
        for file in std::fs::read_dir(from)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("consent.sqlite"))
        {
            std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    };
    ledger(&state, saved.path());
    sandbox.running.restart_node("dhsc").await.unwrap();
    record(&sandbox, "dhsc", "opportunity", "withdrawn", &sandbox.sample.somebody().unwrap());
    counts(&sandbox).await;
    sandbox.running.kill("dhsc");
    for file in std::fs::read_dir(&state)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("consent.sqlite"))
    {
        std::fs::remove_file(file).unwrap();
    }
    ledger(saved.path(), &state);
    // Whether the node refuses to start or refuses the release: no answer rests on the older ledger.
    if sandbox.running.restart_node("dhsc").await.is_ok() {
        let failure = refused(sandbox.query(JOINED).await, Code::NodeRefused, "dhsc");
        assert_eq!(failure.department.as_deref(), Some("dhsc"));
    }
}
