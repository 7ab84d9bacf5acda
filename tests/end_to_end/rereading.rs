//! Agreements, signatures and revoked keys that change while nodes and gateway serve: nothing is restarted here but where it says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use concordat::client::Answer;
use concordat::failure::Failure;
use concordat_policy::{Agreement, Code, Name};
use concordat_proto::signature::files::{REVOKED, beside};
use concordat_proto::v1::DetachedState;

use crate::commands::{Ran, command};
use crate::oracle::rows;
use crate::sandbox::{Sandbox, refused, until};

const DWP: &str = "SELECT count(*) AS n FROM dwp.claims";
const DFE: &str = "SELECT count(*) AS n FROM dfe.attainment";
const BOTH: &str =
    "SELECT a.region, avg(c.months_claiming) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region";
const PARTIES: [&str; 5] = ["dbt", "dfe", "dhsc", "dsit", "dwp"];

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn copy(sandbox: &Sandbox, of: &str) -> Agreement {
    Agreement::parse(&std::fs::read_to_string(sandbox.copy(of, "opportunity")).unwrap()).unwrap()
}

/// `revoked.toml` of the gateway or a department, and a list with the key by which `dwp` signs.
fn list(sandbox: &Sandbox, of: &str, table: &str, since: &str) -> (PathBuf, String) {
    let key = copy(sandbox, "gateway").party(&name("dwp")).unwrap().signing_key.clone();
    let text = format!("[[{table}]]\nfingerprint = \"{key}\"\nreason = \"the machine was stolen\"\nsince = \"{since}\"\n");
    (sandbox.copy(of, "opportunity").with_file_name(REVOKED), text)
}

fn stderr(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("stderr.log")).unwrap()
}

fn check(folder: &Path, kind: &str) -> Ran {
    let config = folder.join(format!("{kind}.toml"));
    command([kind, "check", "--config", config.to_str().unwrap()]).output().unwrap().into()
}

/// Waits until a program goes by its copy as it is now, signed.
async fn taken(sandbox: &Sandbox, of: &str) {
    let digest = copy(sandbox, of).digest;
    let last = || sandbox.log(of).into_iter().rfind(|entry| entry["event"] == "agreement.replaced" && entry["agreement"] == "opportunity");
    until(&format!("{of} takes the text"), || last().is_some_and(|entry| entry["digest"] == digest.as_str() && entry["binds"] == true))
        .await;
}

/// Asks until the answer is as expected, and gives the refusal.
async fn until_refused(sandbox: &Sandbox, sql: &str, code: Code, says: &str) -> Failure {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match sandbox.query(sql).await {
            Err(failure) if failure.message.contains(says) => return refused::<()>(Err(failure), code, says),
            other => assert!(Instant::now() < deadline, "{says}: {:?}", other.err()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
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
async fn a_new_text_counts_at_once_and_nothing_that_was_planned_under_the_old_one_does() {
    let sandbox = Sandbox::start(400).await;
    let client = sandbox.client().await;
    client.query(DWP).await.unwrap();
    let ticket = client.flight_info(DWP).await.unwrap().endpoint[0].ticket.clone().unwrap();
    let kept = client.detach(DWP).await.unwrap();
    while client.detached(&kept, 5).await.unwrap().state() != DetachedState::Done {}
    let process = sandbox.running.process_id("gateway");
    let before = copy(&sandbox, "gateway").digest;

    sandbox.edit("gateway", "opportunity", "Measuring", "measuring");
    sandbox.sign("gateway", "opportunity");
    taken(&sandbox, "gateway").await;
    let failure = refused(client.query(DWP).await, Code::NodeRefused, "another text than the one in the request");
    assert!(failure.department.is_some());
    let says = "the agreement 'opportunity' has another text than when this was planned";
    refused(client.collect(ticket).await, Code::Denied, says);
    refused(client.result(&kept).await, Code::Denied, says);
    let first = sandbox.log("gateway").into_iter().find(|entry| entry["event"] == "agreement.replaced").unwrap();
    assert_eq!(first["digest_before"], before.as_str(), "{first}");

    for party in PARTIES {
        std::fs::copy(sandbox.copy("gateway", "opportunity"), sandbox.copy(party, "opportunity")).unwrap();
        sandbox.sign(party, "opportunity");
    }
    for party in PARTIES {
        taken(&sandbox, party).await;
    }
    client.query(DWP).await.unwrap();
    assert_eq!(sandbox.running.process_id("gateway"), process);
}

#[tokio::test]
async fn what_cannot_be_used_leaves_everything_as_it_was() {
    let sandbox = Sandbox::start(300).await;
    let (gateway, dwp) = (sandbox.layout.gateway(), sandbox.layout.node("dwp"));
    for (of, folder, kind) in [("gateway", &gateway, "gateway"), ("dwp", &dwp, "node")] {
        let bad = sandbox.copy(of, "broken");
        std::fs::write(&bad, "id = 1\n").unwrap();
        until("the file is reported", || stderr(folder).contains("broken.toml:1") && stderr(folder).contains("not reloaded")).await;
        let shown = check(folder, kind);
        assert!(shown.exit != 0 && shown.text().contains("broken.toml:1"), "{}", shown.text());
        sandbox.query(DWP).await.unwrap();
        std::fs::remove_file(bad).unwrap();
    }
    // Views need the agreement: without it they fit no more.
    let copy = sandbox.copy("gateway", "opportunity");
    std::fs::rename(&copy, gateway.join("aside")).unwrap();
    until("the view is reported", || stderr(&gateway).contains("no agreement of mission 'opportunity' covers the dataset")).await;
    sandbox.query(DWP).await.unwrap();
    std::fs::rename(gateway.join("aside"), &copy).unwrap();
    let departments = sandbox.layout.estate().join("departments.toml");
    let text = std::fs::read_to_string(&departments).unwrap();
    std::fs::write(&departments, text.replacen("server_name = \"", "server_name = \"x", 1)).unwrap();
    until("other addresses are reported", || stderr(&gateway).contains("states other departments, addresses or server names")).await;
    std::fs::write(&departments, text).unwrap();
    sandbox.query(DWP).await.unwrap();
    assert!(!sandbox.log("gateway").iter().any(|entry| entry["event"] == "agreement.replaced"), "nothing was taken");

    // A department takes its own copy away.
    let copy = sandbox.copy("dwp", "opportunity");
    std::fs::rename(&copy, dwp.join("aside")).unwrap();
    let failure = until_refused(&sandbox, DWP, Code::NodeRefused, "holds no agreement of that name").await;
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    sandbox.query(DFE).await.unwrap();
    std::fs::rename(dwp.join("aside"), &copy).unwrap();
    until_answered(&sandbox, DWP).await;
}

#[tokio::test]
async fn a_revoked_key_counts_at_once_and_stays_revoked_when_the_list_is_gone() {
    let mut sandbox = Sandbox::start(300).await;
    let says = "the signature of 'dwp' is made with a revoked key";
    let (path, revokes) = list(&sandbox, "gateway", "key", "2026-05-01T10:00:00Z");
    std::fs::write(&path, revokes).unwrap();
    until_refused(&sandbox, DFE, Code::Denied, says).await;
    until("the log has it", || sandbox.log("gateway").iter().any(|entry| entry["event"] == "key.revoked")).await;

    let forgets = "the list of revoked keys no longer holds";
    std::fs::remove_file(&path).unwrap();
    let gateway = sandbox.layout.gateway();
    until("it is noticed", || stderr(&gateway).contains(forgets)).await;
    refused(sandbox.query(DFE).await, Code::Denied, says);
    sandbox.running.restart_gateway().await.unwrap();
    refused(sandbox.query(DFE).await, Code::Denied, says);
    assert!(check(&gateway, "gateway").text().contains(&format!("warn revoked keys: {forgets}")));

    let (_, reinstates) = list(&sandbox, "gateway", "reinstated", "2026-05-02T10:00:00Z");
    std::fs::write(&path, reinstates).unwrap();
    until_answered(&sandbox, DFE).await;
    until("the log has it", || sandbox.log("gateway").iter().any(|entry| entry["event"] == "key.reinstated")).await;
    assert!(!check(&gateway, "gateway").text().contains(forgets));
}

#[tokio::test]
async fn nothing_that_is_wrong_elsewhere_keeps_a_revoked_key_in_force() {
    let sandbox = Sandbox::start(300).await;
    let gateway = sandbox.layout.gateway();
    let departments = sandbox.layout.estate().join("departments.toml");
    let text = std::fs::read_to_string(&departments).unwrap();
    std::fs::write(&departments, text.replacen("server_name = \"", "server_name = \"x", 1)).unwrap();
    until("other addresses are reported", || stderr(&gateway).contains("states other departments, addresses or server names")).await;
    let bad = sandbox.copy("dwp", "broken");
    std::fs::write(&bad, "id = 1\n").unwrap();

    // At the node: then also a list that nobody can read.
    let node = "its own signature is made with a revoked key";
    let (path, revokes) = list(&sandbox, "dwp", "key", "2026-05-01T10:00:00Z");
    std::fs::write(&path, revokes).unwrap();
    until_refused(&sandbox, DWP, Code::NodeRefused, node).await;
    until("the log has it", || sandbox.log("dwp").iter().any(|entry| entry["event"] == "key.revoked")).await;
    std::fs::remove_file(bad).unwrap();
    let (_, reinstates) = list(&sandbox, "dwp", "reinstated", "2026-05-02T10:00:00Z");
    std::fs::write(&path, &reinstates).unwrap();
    until_answered(&sandbox, DWP).await;
    let damaged = "cannot be relied on: the list of revoked keys is damaged";
    std::fs::write(&path, "rubbish").unwrap();
    until_refused(&sandbox, DWP, Code::NodeRefused, damaged).await;
    std::fs::write(&path, &reinstates).unwrap();
    until_answered(&sandbox, DWP).await;

    // At the gateway.
    let (path, revokes) = list(&sandbox, "gateway", "key", "2026-05-01T10:00:00Z");
    std::fs::write(&path, "rubbish").unwrap();
    until_refused(&sandbox, DFE, Code::Denied, damaged).await;
    until("it is reported", || stderr(&gateway).contains("until it is mended, no signature counts")).await;
    std::fs::remove_file(&path).unwrap();
    until_answered(&sandbox, DFE).await;
    std::fs::write(&path, revokes).unwrap();
    until_refused(&sandbox, DFE, Code::Denied, "the signature of 'dwp' is made with a revoked key").await;
    until("the log has it", || sandbox.log("gateway").iter().any(|entry| entry["event"] == "key.revoked")).await;
}

/// Has two callers ask again and again, changes something meanwhile, and asks on for as long as it may take to count. Gives how many were
/// answered; every other was refused with one of `says`.
async fn meanwhile(sandbox: Arc<Sandbox>, change: impl FnOnce(), says: &'static [(Code, &'static str)]) -> usize {
    let whole = rows(&sandbox.query(BOTH).await.unwrap().batches, 1);
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let (sandbox, stop, answers) = (Arc::clone(&sandbox), Arc::clone(&stop), Arc::clone(&answers));
            tokio::spawn(async move {
                let mut outcomes: Vec<(Instant, Result<Answer, Failure>)> = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let outcome = sandbox.query(BOTH).await;
                    answers.fetch_add(usize::from(outcome.is_ok()), Ordering::SeqCst);
                    let refused = outcome.is_err();
                    outcomes.push((Instant::now(), outcome));
                    if refused {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                outcomes
            })
        })
        .collect();
    until("both asked more than once", || answers.load(Ordering::SeqCst) > 3).await;
    change();
    let changed = Instant::now();
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    stop.store(true, Ordering::SeqCst);
    let (mut answered, mut refusals) = (0, 0);
    for asker in asking {
        for (ended, outcome) in asker.await.unwrap() {
            match outcome {
                Ok(answer) => {
                    answered += 1;
                    assert_eq!(rows(&answer.batches, 1), whole, "a smaller answer");
                    assert!(ended < changed + Duration::from_secs(2), "a query went on for {:?}", ended - changed);
                }
                Err(failure) => {
                    refusals += 1;
                    let expected = says.iter().any(|(code, says)| failure.code == Some(*code) && failure.message.contains(says));
                    assert!(expected, "{failure:?}");
                }
            }
        }
    }
    assert!(refusals > 0);
    answered
}

#[tokio::test]
async fn queries_under_way_end_within_two_seconds_when_a_key_is_revoked_at_a_node() {
    let sandbox = Arc::new(Sandbox::start(100_000).await);
    let (path, revokes) = list(&sandbox, "dwp", "key", "2026-05-01T10:00:00Z");
    let says = &[(Code::NodeRefused, "its own signature is made with a revoked key")];
    assert!(meanwhile(sandbox, move || std::fs::write(path, revokes).unwrap(), says).await > 0);
}

#[tokio::test]
async fn queries_under_way_end_within_two_seconds_when_a_signature_leaves_the_gateway() {
    let sandbox = Arc::new(Sandbox::start(100_000).await);
    let signature = beside(&sandbox.copy("gateway", "opportunity"), &name("dwp"));
    let says = &[(Code::Denied, "the agreement 'opportunity' does not bind: the signature of 'dwp' is missing")];
    assert!(meanwhile(sandbox, move || std::fs::remove_file(signature).unwrap(), says).await > 0);
}
