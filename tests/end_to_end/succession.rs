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
use crate::linkage::{rotated, take_all};
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

/// States that another signing key, and another linkage key where one is to be replaced, take the place of those of `dwp` from a time on.
/// Gives the statement's file; the keys lie beside the old ones.
fn state(sandbox: &Sandbox, from: DateTime<Utc>, also_linkage: bool) -> PathBuf {
    let folder = sandbox.layout.node("dwp");
    let (signing, linkage) = (folder.join("keys/next.signing.key.pem"), folder.join("keys/next.linkage.key"));
    private(&signing, &keys::signing_key().unwrap().0);
    private(&linkage, &"7a".repeat(32));
    let from = from.to_rfc3339_opts(SecondsFormat::Secs, true);
    let files = ["--next", signing.to_str().unwrap(), "--next-linkage", linkage.to_str().unwrap()];
    let files = if also_linkage { &files[..] } else { &files[..2] };
    let asked = at(&folder, "node", &[&["agreement", "succeed", "--from", &from][..], files].concat());
    assert!(asked.exit != 0 && asked.stderr.contains("--yes"), "{}", asked.stderr);
    let stated = at(&folder, "node", &[&["agreement", "succeed", "--yes", "--from", &from][..], files].concat());
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

/// Puts the new keys in the place of the old ones, and restarts the node.
async fn replace(sandbox: &mut Sandbox, keys: &[(&str, &str)]) {
    let folder = sandbox.layout.node("dwp").join("keys");
    for (new, old) in keys {
        std::fs::rename(folder.join(old), folder.join(format!("old.{old}"))).unwrap();
        std::fs::rename(folder.join(new), folder.join(old)).unwrap();
    }
    sandbox.running.kill("dwp");
    sandbox.running.restart_node("dwp").await.unwrap();
}

async fn until_known(sandbox: &Sandbox, statement: &Path) {
    let key = succession::read(&std::fs::read(statement).unwrap()).unwrap().key;
    for of in PARTIES.into_iter().chain(["gateway"]) {
        until(&format!("{of} knows"), || {
            sandbox.log(of).iter().any(|entry| entry["event"] == "key.succeeded" && entry["key"] == key.as_str())
        })
        .await;
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
    let statement = state(&sandbox, from, false);
    let key = succession::read(&std::fs::read(&statement).unwrap()).unwrap().key;
    hand_out(&sandbox, &statement);
    until_known(&sandbox, &statement).await;
    // Before its time nothing is different.
    if Utc::now() < from - chrono::TimeDelta::seconds(1) {
        sandbox.query(DWP).await.unwrap();
    }
    until("the time has come", || Utc::now() > from).await;
    let failure = refused(sandbox.query(DWP).await, Code::NodeFaulty, "signs with a key that is not the one in the agreement");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    let check = at(&folder, "node", &["check"]);
    assert!(check.exit != 0 && check.text().contains("another signing_key of 'dwp'"), "{}", check.text());

    replace(&mut sandbox, &[("next.signing.key.pem", "signing.key.pem")]).await;
    until_answered(&sandbox, DWP).await;
    assert!(at(&folder, "node", &["check"]).text().contains("'dwp' signs with "), "the succession is told");
    // Also after the gateway has lost what it holds in memory.
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

#[tokio::test]
async fn a_replaced_linkage_key_needs_a_rotation_and_then_keys_go_to_the_new_one() {
    let mut sandbox = Sandbox::start(300).await;
    sandbox.query(DWP).await.unwrap();
    until("signatures are seen", || sandbox.log("gateway").iter().filter(|entry| entry["event"] == "signature.seen").count() >= 5).await;
    let from = Utc::now() + chrono::TimeDelta::seconds(6);
    let statement = state(&sandbox, from, true);
    hand_out(&sandbox, &statement);
    until_known(&sandbox, &statement).await;
    until("the time has come", || Utc::now() > from).await;
    replace(&mut sandbox, &[("next.signing.key.pem", "signing.key.pem"), ("next.linkage.key", "linkage.key")]).await;
    // Whoever finds the old key opens with it what was sealed to it: no pseudonym is made by that any more.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let Err(failure) = sandbox.query(DWP).await else { panic!("answered by a key that the old one opens") };
        if failure.message.contains("may be held by 'dwp', by a linkage key that it has replaced") {
            break;
        }
        assert!(Instant::now() < deadline, "{failure:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The new text may as well name the present keys.
    let stated = succession::read(&std::fs::read(&statement).unwrap()).unwrap();
    let linkage = stated.linkage.unwrap();
    let mut text = std::fs::read_to_string(sandbox.copy("gateway", "opportunity")).unwrap();
    for (old, new) in [(&stated.key, &stated.next), (&linkage.key, &linkage.next)] {
        assert!(text.contains(old.as_str()), "{text}");
        text = text.replace(old.as_str(), new.as_str());
    }
    take_all(&sandbox, &PARTIES, &rotated(&text, 1)).await;
    until_answered(&sandbox, DWP).await;
}
