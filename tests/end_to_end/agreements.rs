//! Agreements are signed, and both sides keep to it: each node to its own department's signature, the gateway to every party's.

use std::path::Path;

use concordat_policy::{Agreement, Code, Name};
use concordat_proto::signature::files::{REVOKED, beside};

use crate::commands::{Ran, command};
use crate::sandbox::{Sandbox, refused};

const DWP: &str = "SELECT count(*) AS n FROM dwp.claims";
const DFE: &str = "SELECT count(*) AS n FROM dfe.attainment";
const PARTIES: [&str; 5] = ["dbt", "dfe", "dhsc", "dsit", "dwp"];

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn run(arguments: &[&str]) -> Ran {
    command(arguments).output().unwrap().into()
}

/// A command beside a node or the gateway.
fn at(folder: &Path, kind: &str, arguments: &[&str]) -> Ran {
    let config = folder.join(format!("{kind}.toml"));
    run(&[&[kind][..], arguments, &["--config", config.to_str().unwrap()]].concat())
}

async fn restart(sandbox: &mut Sandbox, department: &str) {
    sandbox.running.kill(department);
    sandbox.running.restart_node(department).await.unwrap();
    // What the gateway delivered to the node's predecessor, it delivers again.
    sandbox.running.restart_gateway().await.unwrap();
}

#[tokio::test]
async fn a_department_that_has_not_signed_its_copy_releases_nothing_until_it_does() {
    let mut sandbox = Sandbox::start(400).await;
    sandbox.query(DWP).await.unwrap();
    let (folder, copy) = (sandbox.layout.node("dwp"), sandbox.copy("dwp", "opportunity"));
    assert!(at(&folder, "node", &["check"]).text().contains("ok   agreement 'opportunity': signed by this department at "));

    // One byte of the copy.
    sandbox.edit("dwp", "opportunity", "Measuring", "measuring");
    restart(&mut sandbox, "dwp").await;
    let failure = refused(sandbox.query(DWP).await, Code::NodeRefused, "another text than the one in the request");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    let check = at(&folder, "node", &["check"]);
    assert!(check.exit != 0 && check.text().contains("FAIL agreement 'opportunity': this department's own signature signs another text"));
    assert!(check.text().contains("`concordat-node agreement sign opportunity`"), "{}", check.text());
    sandbox.query(DFE).await.unwrap();
    // The text as it was is the text that was signed.
    sandbox.edit("dwp", "opportunity", "measuring", "Measuring");
    restart(&mut sandbox, "dwp").await;
    sandbox.query(DWP).await.unwrap();

    // The right text, and no signature.
    std::fs::remove_file(beside(&copy, &name("dwp"))).unwrap();
    restart(&mut sandbox, "dwp").await;
    let failure = refused(sandbox.query(DWP).await, Code::NodeRefused, "its own signature is missing");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    let refusals = sandbox.log("dwp").into_iter().filter(|entry| entry["event"] == "linkage.refused" || entry["event"] == "order.refused");
    let reasons: Vec<String> = refusals.map(|entry| entry["reason"].as_str().unwrap().to_owned()).collect();
    assert!(
        reasons.iter().any(|reason| reason.contains("not bound by the agreement 'opportunity': its own signature is missing")),
        "{reasons:?}"
    );
    let shown = at(&folder, "node", &["preview", "--agreement", "opportunity"]);
    assert!(shown.text().contains("NOT SIGNED by this department"), "{}{}", shown.text(), shown.stderr);
    let told = at(&sandbox.layout.gateway(), "gateway", &["check"]);
    assert!(told.text().contains("agreement 'opportunity' is not in force there"), "{}", told.text());

    // Nobody sits at a terminal here.
    let asked = at(&folder, "node", &["agreement", "sign", "opportunity"]);
    assert!(asked.exit != 0 && asked.stderr.contains("--yes") && !beside(&copy, &name("dwp")).exists(), "{}", asked.stderr);
    assert!(
        asked.stderr.contains("dwp is a party and gives claims") && asked.stderr.contains("never leaves the department"),
        "{}",
        asked.stderr
    );
    let signed = at(&folder, "node", &["agreement", "sign", "opportunity", "--yes"]);
    assert!(signed.exit == 0 && signed.text().contains("opportunity.toml.dwp.sig is written"), "{}{}", signed.text(), signed.stderr);
    restart(&mut sandbox, "dwp").await;
    sandbox.query(DWP).await.unwrap();
}

#[tokio::test]
async fn the_gateway_asks_nothing_under_a_text_that_a_party_has_not_signed() {
    let mut sandbox = Sandbox::start(400).await;
    let (gateway, copy) = (sandbox.layout.gateway(), sandbox.copy("gateway", "opportunity"));
    let path = copy.to_str().unwrap().to_owned();
    assert_eq!(run(&["agreement", "check", &path]).exit, 0);

    // Each party's signature, one after the other.
    for party in PARTIES {
        let sig = beside(&copy, &name(party));
        let kept = std::fs::read(&sig).unwrap();
        std::fs::remove_file(&sig).unwrap();
        let cause = format!("the signature of '{party}' is missing");
        let check = at(&gateway, "gateway", &["check"]);
        assert!(check.exit != 0 && check.text().contains(&format!("FAIL agreement 'opportunity': {cause}")), "{}", check.text());
        let check = run(&["agreement", "check", &path]);
        assert!(check.exit == 1 && check.text().contains(&format!("FAIL {cause}")), "{}{}", check.text(), check.stderr);
        sandbox.running.restart_gateway().await.unwrap();
        let failure = refused(sandbox.query(DWP).await, Code::Denied, &format!("the agreement 'opportunity' does not bind: {cause}"));
        assert_eq!(failure.department.as_deref(), Some(party));
        refused(sandbox.client().await.catalogue().await, Code::Denied, "does not bind");
        std::fs::write(&sig, kept).unwrap();
    }
    // Who could not use it anyway learns nothing of it; another agreement is not concerned.
    let elsewhere = sandbox.client_with(|c| c.purpose = Some("health".into())).await;
    refused(elsewhere.query(DWP).await, Code::Denied, "no agreement in force");
    sandbox.client_with(|c| c.purpose = Some("health.prevention".into())).await.query(DWP).await.unwrap();

    // One byte of the gateway's copy; signed by all again, it is still not the departments' text.
    sandbox.edit("gateway", "opportunity", "Measuring", "measuring");
    sandbox.running.restart_gateway().await.unwrap();
    let failure = refused(sandbox.query(DWP).await, Code::Denied, "the signature of 'dfe' signs another text");
    assert!(PARTIES.iter().all(|party| failure.message.contains(&format!("'{party}' signs another text"))), "{failure:?}");
    sandbox.sign("gateway", "opportunity");
    sandbox.running.restart_gateway().await.unwrap();
    refused(sandbox.query(DWP).await, Code::NodeRefused, "another text than the one in the request");
    for party in PARTIES {
        std::fs::copy(&copy, sandbox.copy(party, "opportunity")).unwrap();
        sandbox.sign(party, "opportunity");
        sandbox.running.kill(party);
        sandbox.running.restart_node(party).await.unwrap();
    }
    sandbox.running.restart_gateway().await.unwrap();
    sandbox.query(DWP).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_has_signed_nothing_and_a_damaged_list_of_them_stops_both_programs() {
    let mut sandbox = Sandbox::start(300).await;
    let text = std::fs::read_to_string(sandbox.copy("gateway", "opportunity")).unwrap();
    let key = Agreement::parse(&text).unwrap().party(&name("dwp")).unwrap().signing_key.clone();
    let list = format!("[[key]]\nfingerprint = \"{key}\"\nreason = \"the machine was stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n");
    let (gateway, node) =
        (sandbox.layout.estate().join("agreements").join(REVOKED), sandbox.layout.node("dwp").join("agreements").join(REVOKED));

    std::fs::write(&node, &list).unwrap();
    restart(&mut sandbox, "dwp").await;
    refused(sandbox.query(DWP).await, Code::NodeRefused, "its own signature is made with a revoked key");
    std::fs::write(&gateway, &list).unwrap();
    sandbox.running.restart_gateway().await.unwrap();
    let failure = refused(sandbox.query(DFE).await, Code::Denied, "the signature of 'dwp' is made with a revoked key");
    assert!(!failure.message.contains("stolen"), "the reason is for operators: {failure:?}");

    for (kind, folder, path) in [("gateway", sandbox.layout.gateway(), &gateway), ("node", sandbox.layout.node("dwp"), &node)] {
        std::fs::write(path, "[[key]]\nfingerprint = \"?\"\n").unwrap();
        let check = at(&folder, kind, &["check"]);
        assert!(check.exit != 0 && check.text().contains("revoked.toml:2"), "{kind}: {}", check.text());
    }
    assert!(sandbox.running.restart_gateway().await.is_err(), "a gateway that cannot tell which keys are revoked does not serve");
    sandbox.running.kill("dwp");
    assert!(sandbox.running.restart_node("dwp").await.is_err(), "nor a node");
}

#[tokio::test]
async fn a_department_ends_an_agreement_alone_and_for_good() {
    let mut sandbox = Sandbox::start(300).await;
    sandbox.query(DWP).await.unwrap();
    let folder = sandbox.layout.node("dwp");
    let asked = at(&folder, "node", &["agreement", "end", "opportunity"]);
    assert!(asked.exit != 0 && asked.stderr.contains("--yes"), "{}", asked.stderr);
    sandbox.query(DWP).await.unwrap();
    let told = at(&folder, "node", &["agreement", "end", "opportunity", "--yes", "--reason", "the pilot is over"]);
    assert!(
        told.exit == 0 && told.text().contains("Ended: agreement 'opportunity'. It cannot be resumed."),
        "{}{}",
        told.text(),
        told.stderr
    );
    let failure = refused(sandbox.query(DWP).await, Code::NodeRefused, "has ended the agreement 'opportunity'");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    sandbox.query(DFE).await.unwrap();
    let entry = sandbox.log("dwp").into_iter().find(|entry| entry["event"] == "agreement.ended").unwrap();
    assert!(entry["agreement"] == "opportunity" && entry["reason_given"] == true && !entry.to_string().contains("pilot"), "{entry}");
    let resumed = at(&folder, "node", &["resume", "opportunity"]);
    assert!(resumed.exit != 0 && resumed.stderr.contains("and cannot be resumed"), "{}", resumed.stderr);
    assert!(!beside(&sandbox.copy("dwp", "opportunity"), &name("dwp")).exists(), "its signature is set aside");
    // Not even a new signature brings it back.
    let again = at(&folder, "node", &["agreement", "sign", "opportunity", "--yes"]);
    assert!(again.exit != 0 && again.stderr.contains("'dwp' has ended it"), "{}", again.stderr);
    let signature = beside(&sandbox.copy("dwp", "opportunity"), &name("dwp"));
    std::fs::rename(format!("{}.ended", signature.display()), &signature).unwrap();
    restart(&mut sandbox, "dwp").await;
    refused(sandbox.query(DWP).await, Code::NodeRefused, "has ended the agreement 'opportunity'");
}

#[test]
fn from_an_empty_file_to_a_draft_and_from_one_text_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, new) = (path("old.toml"), path("new.toml"));
    assert_eq!(run(&["agreement", "new", &old, "--id", "fairness"]).exit, 0);
    assert_ne!(run(&["agreement", "new", &old]).exit, 0, "nothing is replaced");
    let check = run(&["agreement", "check", &old]);
    assert!(check.exit == 1 && check.text().contains("warn nobody may receive answers"), "{}", check.text());
    let shown = run(&["agreement", "show", &old]);
    assert!(shown.exit == 0 && shown.text().starts_with("Agreement 'fairness'"), "{}{}", shown.text(), shown.stderr);
    let text = std::fs::read_to_string(&old).unwrap();
    std::fs::write(
        &new,
        text.replace("score = { uses = []", "score = { uses = [\"aggregate\"]").replace("minimum_subjects = 10", "minimum_subjects = 12"),
    )
    .unwrap();
    let differs = run(&["agreement", "diff", &old, &new]).text();
    assert!(differs.contains("Newly permitted (wider):\n  department_a.dataset.score: aggregate"), "{differs}");
    assert!(differs.contains("minimum_subjects: \"10\" became \"12\" (narrower)") && !differs.contains("No longer"), "{differs}");
    assert!(
        run(&["agreement", "diff", &new, &old]).text().contains("No longer permitted (narrower):\n  department_a.dataset.score: aggregate")
    );
    std::fs::write(&new, text.replace("purposes = [\"mission.measure\"]", "purposes = []")).unwrap();
    let check = run(&["agreement", "check", &new]);
    assert!(check.exit == 1 && check.stderr.contains("an agreement without a purpose permits nothing"), "{}", check.stderr);
}
