//! Logs verified by an implementation that shares no code with this one: golang.org/x/mod/sumdb, from Debian (`golang-golang-x-mod-dev`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive::written;
use crate::commands::Ran;
use crate::sandbox::{Sandbox, copied};

/// Runs `tests/independent/verify.go`. What it compiles is kept beside what else was built.
fn independent(log: &Path, earlier: Option<&Path>) -> Ran {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/independent/verify.go");
    let mut go = Command::new("go");
    go.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go"));
    let ran = go.args(["run", program]).arg(log).args(earlier).output();
    ran.expect("install golang-go and golang-golang-x-mod-dev").into()
}

fn accepted(log: &Path, earlier: Option<&Path>, entries: &str) {
    let ran = independent(log, earlier);
    assert!(
        ran.exit == 0 && ran.text().contains("golang.org/x/mod/sumdb") && ran.text().contains(entries),
        "{} {}",
        ran.text(),
        ran.stderr
    );
    eprintln!("verified by another implementation: {}", ran.text().trim_end());
}

#[tokio::test]
async fn the_gateways_log_is_verified_by_another_implementation() {
    let sandbox = Sandbox::start(300).await;
    sandbox.query("SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region").await.unwrap();
    sandbox.drained().await;
    let log = sandbox.layout.gateway().join("log");
    let (copy, logged) = (tempfile::tempdir().unwrap(), sandbox.log("gateway").len());
    copied(&log, copy.path());
    // The last entries before the end may be under no checkpoint until the next start.
    let checkpoint = fs::read_to_string(log.join("checkpoint")).unwrap();
    let entries: usize = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    assert!(entries > 10 && entries <= logged, "{entries} of {logged}");
    accepted(copy.path(), None, &format!("concordat/gateway: {entries} entries"));
}

#[tokio::test]
async fn another_implementation_finds_what_was_changed() {
    let world = tempfile::tempdir().unwrap();
    let (log, early, fork) = (world.path().join("log"), world.path().join("early"), world.path().join("fork"));
    written(&log, 300).await;
    fs::copy(log.join("checkpoint"), &early).unwrap();
    copied(&log, &fork);
    written(&log, 600).await;
    accepted(&log, Some(&early), "600 entries, consistent with 300");
    let changes: [(&str, &[&str]); 5] = [
        ("tile/entries/000", &["root"]),
        ("tile/entries/002.p/88", &["root"]),
        ("tile/0/001", &["inconsistent tile", "invalid transparency proof"]),
        ("checkpoint", &["checkpoint"]),
        ("log.vkey", &["malformed verifier id", "invalid verifier hash"]),
    ];
    for (name, says) in changes {
        let path: PathBuf = log.join(name);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        fs::write(&path, changed).unwrap();
        let ran = independent(&log, Some(&early));
        assert!(ran.exit == 1 && says.iter().any(|says| ran.stderr.contains(says)), "{name}: {} {}", ran.text(), ran.stderr);
        fs::write(path, bytes).unwrap();
    }
    // Another history with the same key, of which the earlier checkpoint is no beginning.
    let other = world.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::copy(log.join("log.key"), other.join("log.key")).unwrap();
    written(&other, 600).await;
    accepted(&other, None, "600 entries");
    let forked = independent(&other, Some(&early));
    assert!(forked.exit == 1 && forked.stderr.contains("no beginning"), "{} {}", forked.text(), forked.stderr);
    let rolled_back = independent(&fork, Some(&log.join("checkpoint")));
    assert!(rolled_back.exit == 1 && rolled_back.stderr.contains("and the log has 300"), "{}", rolled_back.stderr);
    accepted(&log, Some(&early), "600 entries");
}
