//! An agreement travels from one department to the other by way of the gateway, and comes into force where each puts it in place.

use std::path::{Path, PathBuf};

use concordat_policy::Agreement;
use concordat_policy::Name;
use concordat_proto::signature::files::beside;
use concordat_proto::v1;
use concordat_proto::v1::agreements_client::AgreementsClient;
use tonic::transport::Identity;

use crate::commands::{Ran, command};
use crate::sandbox::{Sandbox, node, until};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn at(folder: &Path, kind: &str, arguments: &[&str]) -> Ran {
    let config = folder.join(format!("{kind}.toml"));
    command([&[kind][..], arguments, &["--config", config.to_str().unwrap()]].concat()).output().unwrap().into()
}

fn entries(sandbox: &Sandbox, of: &str, event: &str) -> usize {
    sandbox.log(of).iter().filter(|entry| entry["event"] == event && entry["agreement"] == "healthier-life").count()
}

/// Where a text waits at a node or the gateway.
fn waits(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder.join("state/inbox")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join("healthier-life.toml")).find(|path| path.exists())
}

#[tokio::test]
async fn a_text_is_proposed_countersigned_and_put_in_place_by_each_department_alone() {
    let sandbox = Sandbox::start(300).await;
    let (dhsc, dwp, gateway) = (sandbox.layout.node("dhsc"), sandbox.layout.node("dwp"), sandbox.layout.gateway());
    // A text that those two agree on beside the one that they have: nothing is used under it before it is due.
    let text = std::fs::read_to_string(sandbox.copy("dhsc", "healthy-life")).unwrap();
    let year = Agreement::parse(&text).unwrap().valid_from;
    let text = text
        .replace("id = \"healthy-life\"", "id = \"healthier-life\"")
        .replace(&format!("valid_from = \"{year}\""), "valid_from = \"2090-01-01\"");
    let agreement = Agreement::parse(&text.replacen("valid_until = \"", "valid_until = \"2091-12-31\" # \"", 1)).unwrap();
    let text = text.replacen("valid_until = \"", "valid_until = \"2091-12-31\" # \"", 1);
    assert_eq!(agreement.id.as_str(), "healthier-life");
    let own = sandbox.copy("dhsc", "healthier-life");
    std::fs::write(&own, &text).unwrap();
    let early = at(&dhsc, "node", &["agreement", "propose", "healthier-life"]);
    assert!(early.exit != 0 && early.stderr.contains("sign it first"), "{}", early.stderr);
    assert_eq!(at(&dhsc, "node", &["agreement", "sign", "healthier-life", "--yes"]).exit, 0);
    let proposed = at(&dhsc, "node", &["agreement", "propose", "healthier-life"]);
    assert_eq!(proposed.exit, 0, "{}", proposed.stderr);

    until("the other party has it", || waits(&dwp).is_some()).await;
    until("the log has it", || entries(&sandbox, "dwp", "agreement.received") == 1).await;
    let place = sandbox.copy("dwp", "healthier-life");
    assert!(!place.exists(), "nothing is in force by it");
    assert_eq!(std::fs::read_to_string(waits(&dwp).unwrap()).unwrap(), text, "byte for byte");
    // Whose it is is written last.
    let listed = || at(&dwp, "node", &["agreement", "inbox"]).text();
    until("the inbox says whose it is", || listed().contains("from dhsc, signed by dhsc")).await;
    assert!(listed().contains("healthier-life-"), "{}", listed());
    let read = at(&dwp, "node", &["agreement", "review", "healthier-life"]).text();
    assert!(
        read.starts_with("Agreement 'healthier-life'") && read.contains("the keys of 'dhsc' are its present ones by the agreement"),
        "{read}"
    );
    let asked = at(&dwp, "node", &["agreement", "accept", "healthier-life"]);
    assert!(asked.exit != 0 && asked.stderr.contains("--yes") && !place.exists(), "{}", asked.stderr);

    let accepted = at(&dwp, "node", &["agreement", "accept", "healthier-life", "--yes"]);
    assert_eq!(accepted.exit, 0, "{}{}", accepted.text(), accepted.stderr);
    assert_eq!(std::fs::read_to_string(&place).unwrap(), text);
    until("the proposer has the signature", || waits(&dhsc).is_some_and(|file| beside(&file, &name("dwp")).exists())).await;
    until("the gateway's operator has both", || {
        waits(&gateway).is_some_and(|file| ["dhsc", "dwp"].iter().all(|party| beside(&file, &name(party)).exists()))
    })
    .await;
    let waiting = waits(&gateway).unwrap();
    let alone: Ran = command(["agreement", "check", waiting.to_str().unwrap()]).output().unwrap().into();
    assert!(alone.exit == 1 && alone.text().contains("FAIL revoked keys and successions were not looked at"), "{}", alone.text());
    let (estate, state) = (sandbox.layout.estate(), gateway.join("state"));
    let by = ["--estate", estate.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let check: Ran = command([&["agreement", "check", waiting.to_str().unwrap()][..], &by].concat()).output().unwrap().into();
    assert_eq!(check.exit, 0, "{}{}", check.text(), check.stderr);
    assert!(!sandbox.copy("gateway", "healthier-life").exists(), "that is the operator's to do");
    assert!(at(&gateway, "gateway", &["check"]).text().contains("waits for its signatures, and for you"));
    for (of, event, count) in [
        ("dhsc", "agreement.proposed", 1),
        ("dhsc", "agreement.offered", 1),
        ("dhsc", "agreement.received", 1),
        ("dwp", "agreement.countersigned", 1),
        ("dwp", "agreement.offered", 1),
        ("gateway", "agreement.received", 2),
        ("gateway", "agreement.relayed", 2),
    ] {
        until(&format!("{of} logs {event}"), || entries(&sandbox, of, event) == count).await;
    }
    sandbox
        .client_with(|c| c.purpose = Some("health.prevention".into()))
        .await
        .query("SELECT count(*) AS n FROM dwp.claims")
        .await
        .unwrap();
    // What has ended is offered no longer.
    let ended = at(&dhsc, "node", &["agreement", "end", "healthier-life", "--yes"]);
    assert_eq!(ended.exit, 0, "{}{}", ended.text(), ended.stderr);
    assert_eq!(std::fs::read_dir(dhsc.join("state/outbox")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_gateway_cannot_make_a_department_sign_nor_pass_on_what_nobody_signed() {
    let sandbox = Sandbox::start(300).await;
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    let tls = sandbox.layout.gateway().join("tls");
    let identity = Identity::from_pem(read(tls.join("client.pem")), read(tls.join("client.key.pem")));
    let channel = node(&sandbox, "dwp", Some(identity), &read(sandbox.layout.ca().join("ca.pem"))).await.unwrap();
    let mut client = AgreementsClient::new(channel);
    let copy = sandbox.copy("dhsc", "healthy-life");
    let good = v1::SignedAgreement {
        text: std::fs::read(&copy).unwrap(),
        department: "dhsc".into(),
        signature: std::fs::read(beside(&copy, &name("dhsc"))).unwrap(),
    };
    let changed = String::from_utf8(good.text.clone()).unwrap().replacen("title = \"", "title = \"x", 1);
    let own = std::fs::read(beside(&sandbox.copy("dwp", "healthy-life"), &name("dwp"))).unwrap();
    for (what, bad, says) in [
        ("a changed text", v1::SignedAgreement { text: changed.into(), ..good.clone() }, "signs another text"),
        ("another name", v1::SignedAgreement { department: "dwp".into(), ..good.clone() }, "another department's"),
        ("its own", v1::SignedAgreement { department: "dwp".into(), signature: own, ..good.clone() }, "another one signed it"),
        ("too long", v1::SignedAgreement { text: vec![b'#'; (256 << 10) + 1], ..good.clone() }, "at most 256 KiB"),
        ("nothing", v1::SignedAgreement::default(), "no agreement"),
    ] {
        let status = client.deliver(bad).await.unwrap_err();
        assert!(status.message().contains(says), "{what}: {status:?}");
    }
    let refused = sandbox.log("dwp").iter().filter(|entry| entry["event"] == "agreement.refused").count();
    assert_eq!(refused, 5);
    assert!(!sandbox.layout.node("dwp").join("state/inbox").exists());
    client.deliver(good.clone()).await.unwrap();
    client.deliver(good).await.unwrap();
    assert_eq!(sandbox.log("dwp").iter().filter(|entry| entry["event"] == "agreement.received").count(), 1);
    let mut offered = client.offered(v1::OfferedRequest::default()).await.unwrap().into_inner();
    assert!(offered.message().await.unwrap().is_none(), "nothing is signed or offered by that");
}
