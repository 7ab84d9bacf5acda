//! A person's choice counts in the next query.

use std::io::Write as _;
use std::process::{Command, Stdio};

use concordat_policy::Code;

use crate::oracle::{Cell, rows};
use crate::sandbox::{Sandbox, program, refused};

const JOINED: &str =
    "SELECT count(DISTINCT a.subject) AS n, count(h.subject) AS k FROM dfe.attainment a LEFT JOIN dhsc.health h ON h.subject = a.subject";

/// Rows of DfE, those with data of DHSC, and the version of DHSC's ledger.
pub async fn counts(sandbox: &Sandbox) -> (f64, f64, u64) {
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

/// `concordat consent …` at a department of the sandbox, with these identifiers on standard input.
pub fn consent(sandbox: &Sandbox, department: &str, arguments: &[&str], identifiers: &str) -> std::process::Output {
    let mut child = Command::new(program())
        .arg("consent")
        .args(arguments)
        .args(["--department", department, "--folder"])
        .arg(sandbox.layout.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses before it reads has closed it.
    let _ = child.stdin.take().unwrap().write_all(identifiers.as_bytes());
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn an_administrator_withdraws_and_looks_and_the_log_says_so() {
    let sandbox = Sandbox::start(1_000).await;
    let somebody = sandbox.sample.somebody().unwrap();
    let (_, k, version) = counts(&sandbox).await;
    let done = consent(&sandbox, "dhsc", &["withdraw", "--purpose", "opportunity"], &format!("\n{}\n", somebody.to_lowercase()));
    assert!(done.status.success(), "{done:?}");
    assert_eq!(counts(&sandbox).await.1, k - 1.0);
    let shown = consent(&sandbox, "dhsc", &["show", "--purpose", "opportunity.measure", "--output", "json"], &somebody);
    assert!(shown.status.success(), "{shown:?}");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let last = shown["records"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["event"], &last["place"], &last["purpose"]), (&"withdrawn".into(), &(version + 1).into(), &"opportunity".into()));
    assert_eq!(shown["standing"][0]["under_consent"], false);
    assert_eq!(shown["standing"][0]["honouring_objections"], true);
    let text = consent(&sandbox, "dhsc", &["show"], &somebody);
    assert!(String::from_utf8_lossy(&text.stdout).contains("may not be used on consent"), "{text:?}");
    for (arguments, identifiers, says) in [
        (vec!["show"], "\nsecret person\n", "line 2: the identifier is not a valid nino"),
        (vec!["show"], "", "1 to 1000"),
        (vec!["withdraw", "--purpose", "no-such-purpose"], somebody.as_str(), "purpose tree"),
    ] {
        let refused = consent(&sandbox, "dhsc", &arguments, identifiers);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(says) && !said.contains("secret"), "{said}");
        assert!(refused.stdout.is_empty());
    }
    // In the log before the next release, without the identifier and with the digest that was printed.
    counts(&sandbox).await;
    let log = sandbox.log("dhsc");
    let commands: Vec<_> = log.iter().filter(|entry| entry["command"] == true).map(|entry| entry["event"].as_str().unwrap()).collect();
    assert_eq!(commands, ["consent.recorded", "consent.shown", "consent.shown"]);
    let shows = log.iter().filter(|entry| entry["event"] == "consent.shown");
    assert!(shows.map(|entry| &entry["subjects"][0]).all(|digest| *digest == shown["digest"]));
    assert!(!log.iter().any(|entry| entry.to_string().to_uppercase().contains(&somebody)));
}

/// Waits until an import is well into its writing, or has ended.
async fn writing(import: &mut std::process::Child, log: &std::path::Path) {
    let length = || std::fs::metadata(log).map_or(0, |file| file.len());
    let before = length();
    crate::sandbox::until("the import writes", || length() > before + (8 << 20) || import.try_wait().unwrap().is_some()).await;
}

/// An import that is killed while it writes leaves nothing behind; afterwards, and while another one writes, the node answers.
#[tokio::test]
async fn an_import_that_is_killed_leaves_nothing_behind() {
    let sandbox = Sandbox::start(500).await;
    let node = sandbox.layout.node("dhsc");
    let (.., version) = counts(&sandbox).await;
    let records = 1_000_000u32;
    let file = sandbox.layout.folder().join("many.csv");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
    writeln!(out, "identifier,purpose,event").unwrap();
    for number in 0..records {
        writeln!(out, "ZX{number:06}A,health,given").unwrap();
    }
    out.into_inner().unwrap().sync_all().unwrap();
    let import = || {
        let mut command = Command::new(program());
        command.args(["node", "consent", "import", "--progress", "--config"]).arg(node.join("node.toml")).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let log = node.join("state/consent.sqlite-wal");
    let mut child = import().spawn().unwrap();
    writing(&mut child, &log).await;
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it had ended before it was killed: make the file longer");
    assert_eq!(counts(&sandbox).await.2, version);
    record(&sandbox, "dhsc", "opportunity", "given", &sandbox.sample.somebody().unwrap());
    assert_eq!(counts(&sandbox).await.2, version + 1, "its lock is gone too");
    let left: Vec<_> = std::fs::read_dir(node.join("state")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("tmp")), "{left:?}");
    let mut whole = import().spawn().unwrap();
    writing(&mut whole, &log).await;
    // Releases read on while it writes: all of it counts, or nothing.
    let (meanwhile, after) = (counts(&sandbox).await.2, version + 1 + u64::from(records));
    assert!(meanwhile == version + 1 || meanwhile == after, "{meanwhile}");
    let whole = whole.wait_with_output().unwrap();
    assert!(whole.status.success() && String::from_utf8_lossy(&whole.stderr).contains("1000000 record(s) imported"), "{whole:?}");
    assert_eq!(counts(&sandbox).await.2, after);
    let again = import().output().unwrap();
    assert!(String::from_utf8_lossy(&again.stderr).contains("imported before"), "{again:?}");
    // One bad line at the end, and nothing of a large file is recorded.
    let mut out = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    writeln!(out, "ZX12345A,health,withdrawn").unwrap();
    let refused = import().output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("line 1000002: the identifier is not a valid nino"), "{said}");
    assert_eq!(counts(&sandbox).await.2, after);
}
