//! A department replaces its keys by routine: no agreement gets a new text, and what was signed before stays signed where it was seen.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use concordat_node::init::keys;
use concordat_policy::{Code, Name};
use concordat_proto::signature::files::{REVOKED, beside};
use concordat_proto::signature::kept::SEEN;
use concordat_proto::signature::succession;

use crate::commands::{Ran, command};
use crate::sandbox::{Sandbox, refused, until};

const DWP: &str = "SELECT count(*) AS n FROM dwp.claims";
const DFE: &str = "SELECT count(*) AS n FROM dfe.attainment";
const PARTIES: [&str; 5] = ["dbt", "dfe", "dhsc", "dsit", "dwp"];

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A command beside a node or the gateway.
fn at(folder: &Path, kind: &str, arguments: &[&str]) -> Ran {
    let config = folder.join(format!("{kind}.toml"));
    command([&[kind][..], arguments, &["--config", config.to_str().unwrap()]].concat()).output().unwrap().into()
}

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// States that other keys take the place of those of `dwp` from a time on. Gives the statement's file; the keys lie beside the old ones.
fn state(sandbox: &Sandbox, from: DateTime<Utc>) -> PathBuf {
    let folder = sandbox.layout.node("dwp");
    let (signing, linkage) = (folder.join("keys/next.signing.key.pem"), folder.join("keys/next.linkage.key"));
    private(&signing, &keys::signing_key().unwrap().0);
    private(&linkage, &"7a".repeat(32));
    let from = from.to_rfc3339_opts(SecondsFormat::Secs, true);
    let files = ["--next", signing.to_str().unwrap(), "--next-linkage", linkage.to_str().unwrap()];
    let asked = at(&folder, "node", &[&["agreement", "succeed", "--from", &from][..], &files].concat());
    assert!(asked.exit != 0 && asked.stderr.contains("--yes"), "{}", asked.stderr);
    let stated = at(&folder, "node", &[&["agreement", "succeed", "--yes", "--from", &from][..], &files].concat());
    assert!(stated.exit == 0 && stated.stderr.contains("opportunity"), "{}{}", stated.text(), stated.stderr);
    let mut made = std::fs::read_dir(folder.join("agreements")).unwrap().map(|entry| entry.unwrap().path());
    made.find(|path| path.extension().is_some_and(|end| end == "succession")).unwrap()
}

/// Puts the statement beside the copies of the gateway and the other parties.
fn hand_out(sandbox: &Sandbox, statement: &Path) {
    for of in PARTIES.into_iter().filter(|of| *of != "dwp").chain(["gateway"]) {
        std::fs::copy(statement, sandbox.copy(of, "opportunity").with_file_name(statement.file_name().unwrap())).unwrap();
    }
}

async fn until_answered(sandbox: &Sandbox, sql: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(failure) = sandbox.query(sql).await {
        assert!(Instant::now() < deadline, "{failure:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn keys_are_replaced_by_routine_without_a_new_text() {
    let mut sandbox = Sandbox::start(300).await;
    sandbox.query(DWP).await.unwrap();
    until("signatures are seen", || sandbox.log("gateway").iter().filter(|entry| entry["event"] == "signature.seen").count() >= 5).await;
    let folder = sandbox.layout.node("dwp");
    let from = Utc::now() + chrono::TimeDelta::seconds(6);
    let statement = state(&sandbox, from);
    let key = succession::read(&std::fs::read(&statement).unwrap()).unwrap().key;
    hand_out(&sandbox, &statement);
    for of in PARTIES.into_iter().chain(["gateway"]) {
        until(&format!("{of} knows"), || {
            sandbox.log(of).iter().any(|entry| entry["event"] == "key.succeeded" && entry["key"] == key.as_str())
        })
        .await;
    }
    // Before its time nothing is different.
    if Utc::now() < from - chrono::TimeDelta::seconds(1) {
        sandbox.query(DWP).await.unwrap();
    }
    until("the time has come", || Utc::now() > from).await;
    let failure = refused(sandbox.query(DWP).await, Code::NodeFaulty, "signs with a key that is not the one in the agreement");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    let check = at(&folder, "node", &["check"]);
    assert!(check.exit != 0 && check.text().contains("another signing_key of 'dwp'"), "{}", check.text());

    for (new, old) in [("next.signing.key.pem", "signing.key.pem"), ("next.linkage.key", "linkage.key")] {
        std::fs::rename(folder.join("keys").join(old), folder.join("keys").join(format!("old.{old}"))).unwrap();
        std::fs::rename(folder.join("keys").join(new), folder.join("keys").join(old)).unwrap();
    }
    sandbox.running.kill("dwp");
    sandbox.running.restart_node("dwp").await.unwrap();
    until_answered(&sandbox, DWP).await;
    assert!(at(&folder, "node", &["check"]).text().contains("'dwp' signs with "), "the succession is told");
    // Also after the gateway has lost what it holds in memory: linkage keys go to the new key.
    sandbox.running.restart_gateway().await.unwrap();
    sandbox.query(DWP).await.unwrap();
    let shown: Ran = command(["agreement", "check", sandbox.copy("gateway", "opportunity").to_str().unwrap()]).output().unwrap().into();
    assert!(
        shown.exit == 0 && shown.text().contains("warn the signature of 'dwp' is made with a key that was replaced"),
        "{}",
        shown.text()
    );

    // A gateway that never saw the signature does not believe its time, until the same text is signed anew.
    std::fs::remove_file(sandbox.layout.gateway().join("state").join(SEEN)).unwrap();
    sandbox.running.restart_gateway().await.unwrap();
    refused(sandbox.query(DFE).await, Code::Denied, "the signature of 'dwp' is made with a key that was replaced");
    let signed = at(&folder, "node", &["agreement", "sign", "opportunity", "--yes"]);
    assert_eq!(signed.exit, 0, "{}", signed.stderr);
    let signature = |of: &str| beside(&sandbox.copy(of, "opportunity"), &name("dwp"));
    std::fs::copy(signature("dwp"), signature("gateway")).unwrap();
    until_answered(&sandbox, DWP).await;

    // What the old key signs now counts nowhere, and the statement's file may go: it was seen.
    std::fs::remove_file(sandbox.copy("gateway", "opportunity").with_file_name(statement.file_name().unwrap())).unwrap();
    let list = format!("[[key]]\nfingerprint = \"{key}\"\nreason = \"found on a disk\"\nsince = \"2026-05-01T10:00:00Z\"\n");
    until_answered(&sandbox, DWP).await;
    // Were it stolen after all, it named no successor that counts.
    std::fs::write(sandbox.copy("gateway", "opportunity").with_file_name(REVOKED), list).unwrap();
    until("the log has it", || sandbox.log("gateway").iter().any(|entry| entry["event"] == "key.revoked")).await;
    refused(sandbox.query(DFE).await, Code::Denied, "the signature of 'dwp' is");
}
