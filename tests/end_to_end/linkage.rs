//! The life of linkage domains between real programs, as `deploy/README.md` describes it: rotation, a party that leaves, a keyholder
//! that is gone, keys that were lost or replaced, keys at rest; and that the gateway never has a key or an identifier.

mod memory;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use concordat_node::linkage::Keypair;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Code};

use crate::commands::{Ran, command};
use crate::oracle::rows;
use crate::sandbox::{Sandbox, refused, until};

const BOTH: &str =
    "SELECT a.region, avg(c.months_claiming) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region";
/// Without the keyholder's data.
const OTHERS: &str =
    "SELECT h.age_band, avg(c.months_claiming) AS m FROM dhsc.health h JOIN dwp.claims c ON h.subject = c.subject GROUP BY h.age_band";
/// With a department that has had no key yet.
const NEW: &str =
    "SELECT a.region, count(*) AS n FROM dfe.attainment a JOIN dbt.apprenticeships b ON a.subject = b.subject GROUP BY a.region";
const PARTIES: [&str; 5] = ["dbt", "dfe", "dhsc", "dsit", "dwp"];

/// `concordat node …` with a node's configuration.
fn node(folder: &Path, arguments: &[&str]) -> Ran {
    let config = folder.join("node.toml");
    command([&["node"], arguments, &["--config", config.to_str().unwrap()]].concat()).output().unwrap().into()
}

#[track_caller]
fn done(ran: &Ran) -> String {
    assert_eq!(ran.exit, 0, "{}{}", ran.text(), ran.stderr);
    ran.text()
}

/// The agreement's text as the gateway holds it.
fn text(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.copy("gateway", "opportunity")).unwrap()
}

pub fn rotated(text: &str, rotation: u32) -> String {
    assert!(text.contains("[linkage]\n"));
    text.replacen("[linkage]\n", &format!("[linkage]\nrotation = {rotation}\n"), 1)
}

/// Gives a copy the text, signed by every party, and waits until its program goes by it.
async fn take(sandbox: &Sandbox, of: &str, text: &str) {
    fs::write(sandbox.copy(of, "opportunity"), text).unwrap();
    sandbox.sign(of, "opportunity");
    let digest = Agreement::parse(text).unwrap().digest;
    let last = || sandbox.log(of).into_iter().rfind(|entry| entry["event"] == "agreement.replaced" && entry["agreement"] == "opportunity");
    until(&format!("{of} takes the text"), || last().is_some_and(|entry| entry["digest"] == digest.as_str() && entry["binds"] == true))
        .await;
}

pub async fn take_all(sandbox: &Sandbox, parties: &[&str], text: &str) {
    for of in parties.iter().chain(&["gateway"]) {
        take(sandbox, of, text).await;
    }
}

async fn until_answered(sandbox: &Sandbox, sql: &str) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while let Err(failure) = sandbox.query(sql).await {
        assert!(Instant::now() < deadline, "{failure:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The files of a department's linkage keys.
fn keys(sandbox: &Sandbox, department: &str) -> Vec<PathBuf> {
    let folder = sandbox.layout.node(department).join("state/linkage");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_rotation_counts_when_all_have_taken_it_and_who_has_not_is_named() {
    let sandbox = Sandbox::start(600).await;
    let before = rows(&sandbox.query(BOTH).await.unwrap().batches, 1);
    let (dwp, next) = (sandbox.layout.node("dwp"), sandbox.layout.folder().join("next.toml"));
    let shown = done(&node(&dwp, &["linkage", "show"]));
    assert!(shown.contains("agreement 'opportunity': dfe makes the keys; rotation 0"), "{shown}");
    assert!(shown.contains("may be held by dbt, dfe, dhsc, dsit, dwp"), "{shown}");
    assert_eq!((keys(&sandbox, "dfe").len(), keys(&sandbox, "dwp").len(), keys(&sandbox, "dbt").len()), (1, 1, 0));

    // Any party may propose it, and nothing changes by that.
    let told = node(&dwp, &["linkage", "rotate", "opportunity", "--out", next.to_str().unwrap()]);
    assert!(done(&told).contains("rotation: \"0\" became \"1\""), "{}", told.text());
    assert_ne!(node(&dwp, &["linkage", "rotate", "opportunity", "--out", next.to_str().unwrap()]).exit, 0, "nothing is replaced");
    sandbox.query(BOTH).await.unwrap();
    let next = fs::read_to_string(next).unwrap();

    for of in ["dbt", "dfe", "dhsc", "dsit", "gateway"] {
        take(&sandbox, of, &next).await;
    }
    let failure = refused(sandbox.query(BOTH).await, Code::NodeRefused, "another text than the one in the request");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    assert!(!failure.message.contains("'dfe'") && failure.message.contains("'dwp'"), "{failure:?}");
    assert_eq!(keys(&sandbox, "dfe").len(), 1, "nobody was asked for a key");
    take(&sandbox, "dwp", &next).await;
    until_answered(&sandbox, BOTH).await;
    assert_eq!(rows(&sandbox.query(BOTH).await.unwrap().batches, 1), before, "the same people join");
    assert_eq!((keys(&sandbox, "dfe").len(), keys(&sandbox, "dwp").len()), (2, 2), "each rotation has a key of its own");
    let shown = done(&node(&dwp, &["linkage", "show"]));
    assert!(shown.contains("rotation 1") && shown.lines().any(|line| line.contains(".1, written ")), "{shown}");
}

#[tokio::test]
async fn a_party_that_leaves_gets_no_key_of_what_comes_after() {
    let sandbox = Sandbox::with(600, |federation| federation.views.clear(), |_| {}).await;
    sandbox.query(BOTH).await.unwrap();
    sandbox.query("SELECT count(*) AS n FROM dsit.connectivity").await.unwrap();
    assert_eq!(keys(&sandbox, "dsit").len(), 1);
    let left: Vec<&str> = PARTIES.into_iter().filter(|party| *party != "dsit").collect();
    let whole = text(&sandbox);
    let mut tables: Vec<&str> = whole.split("\n[[").collect();
    tables.retain(|table| !table.contains("department = \"dsit\""));
    let without = tables.join("\n[[");

    // Without a rotation the party that left could go on computing pseudonyms.
    take_all(&sandbox, &left, &without).await;
    refused(sandbox.query(BOTH).await, Code::NodeRefused, "may be held by 'dsit', which is no party any more");
    let next = rotated(&without, 1);
    take_all(&sandbox, &left, &next).await;
    until_answered(&sandbox, BOTH).await;
    assert_eq!((keys(&sandbox, "dfe").len(), keys(&sandbox, "dsit").len()), (2, 1), "the new key did not reach it");
}

#[tokio::test]
async fn another_party_makes_the_keys_when_the_keyholder_is_gone() {
    let mut sandbox = Sandbox::start(600).await;
    let before = rows(&sandbox.query(OTHERS).await.unwrap().batches, 1);
    sandbox.running.kill("dfe");
    assert_eq!(rows(&sandbox.query(OTHERS).await.unwrap().batches, 1), before, "the domain lives on until its epoch ends");
    // A new domain needs the keyholder.
    let others = ["dbt", "dhsc", "dsit", "dwp"];
    take_all(&sandbox, &others, &rotated(&text(&sandbox), 1)).await;
    let failure = refused(sandbox.query(OTHERS).await, Code::NodeUnavailable, "");
    assert_eq!(failure.department.as_deref(), Some("dfe"));

    let (dwp, next) = (sandbox.layout.node("dwp"), sandbox.layout.folder().join("next.toml"));
    let told = done(&node(&dwp, &["linkage", "rotate", "opportunity", "--keyholder", "dwp", "--out", next.to_str().unwrap()]));
    assert!(told.contains("keyholder: \"dfe\" became \"dwp\"") && told.contains("rotation: \"1\" became \"2\""), "{told}");
    take_all(&sandbox, &others, &fs::read_to_string(next).unwrap()).await;
    until_answered(&sandbox, OTHERS).await;
    assert_eq!(rows(&sandbox.query(OTHERS).await.unwrap().batches, 1), before);
}

#[tokio::test]
async fn a_department_that_lost_its_keys_is_brought_them_and_a_replaced_private_key_is_agreed_anew() {
    let mut sandbox = Sandbox::start(600).await;
    let before = rows(&sandbox.query(BOTH).await.unwrap().batches, 1);
    keys(&sandbox, "dwp").iter().for_each(|file| fs::remove_file(file).unwrap());
    refused(sandbox.query(BOTH).await, Code::NodeRefused, "does not hold the linkage key of the domain");
    assert_eq!(rows(&sandbox.query(BOTH).await.unwrap().batches, 1), before, "the next query brings it again");

    // Its private key is lost: a new one, of which the parties agree the fingerprint.
    sandbox.running.kill("dwp");
    let file = sandbox.layout.node("dwp").join("keys/linkage.key");
    let print = |hex: &str| Fingerprint::of(&Keypair::from_hex(hex.trim()).unwrap().public()).to_string();
    let (old, new) = (fs::read_to_string(&file).unwrap(), "5a".repeat(32));
    fs::write(&file, &new).unwrap();
    let check = node(&sandbox.layout.node("dwp"), &["check"]);
    assert!(check.exit != 0 && check.text().contains("the agreement states another linkage_key of 'dwp'"), "{}", check.text());
    let next = text(&sandbox).replacen(&print(&old), &print(&new), 1);
    for of in ["dbt", "dfe", "dhsc", "dsit", "gateway"] {
        take(&sandbox, of, &next).await;
    }
    fs::write(sandbox.copy("dwp", "opportunity"), &next).unwrap();
    sandbox.sign("dwp", "opportunity");
    // The other agreements that name the key; nothing is asked under them here.
    for other in ["healthy-life", "strong-economy"] {
        fs::remove_file(sandbox.copy("dwp", other)).unwrap();
    }
    sandbox.running.restart_node("dwp").await.unwrap();
    refused(sandbox.query(BOTH).await, Code::NodeRefused, "may be held by 'dwp', by a linkage key that it has replaced");
    take_all(&sandbox, &PARTIES, &rotated(&next, 1)).await;
    until_answered(&sandbox, BOTH).await;
    assert_eq!(rows(&sandbox.query(BOTH).await.unwrap().batches, 1), before);
}

#[tokio::test]
async fn a_keyholder_that_lost_a_key_is_never_joined_with_those_who_hold_the_first() {
    let sandbox = Sandbox::start(600).await;
    let before = rows(&sandbox.query(BOTH).await.unwrap().batches, 1);
    keys(&sandbox, "dfe").iter().for_each(|file| fs::remove_file(file).unwrap());
    // It makes another for a department that had none: these two agree, and the one that holds the first is never joined with them.
    sandbox.query(NEW).await.unwrap();
    for _ in 0..2 {
        let failure = refused(sandbox.query(BOTH).await, Code::NodeRefused, "already holds another key of the linkage domain");
        assert_eq!(failure.department.as_deref(), Some("dwp"));
    }
    take_all(&sandbox, &PARTIES, &rotated(&text(&sandbox), 1)).await;
    until_answered(&sandbox, BOTH).await;
    assert_eq!(rows(&sandbox.query(BOTH).await.unwrap().batches, 1), before);
}

/// A key store of a few lines, as a department would attach its own.
const STORE: &str = "read line\ncase \"$1\" in wrap) echo \"kept $line\" ;; unwrap) echo \"${line#kept }\" ;; esac\n";

#[tokio::test]
async fn keys_that_are_encrypted_at_rest_serve_as_others_do() {
    let protect = |layout: &concordat::federation::Layout| {
        let (dfe, dwp) = (layout.node("dfe"), layout.node("dwp"));
        fs::write(dfe.join("passphrase"), "correct horse battery staple\n").unwrap();
        fs::set_permissions(dfe.join("passphrase"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(dwp.join("store.sh"), STORE).unwrap();
        let command = format!("command = [\"/bin/sh\", {:?}]", dwp.join("store.sh"));
        for (folder, how) in [(&dfe, "passphrase_file = \"passphrase\""), (&dwp, command.as_str())] {
            let config = folder.join("node.toml");
            let text = fs::read_to_string(&config).unwrap();
            fs::write(&config, text.replacen("[gateway]\n", &format!("[keys.at_rest]\n{how}\n\n[gateway]\n"), 1)).unwrap();
            assert_ne!(node(folder, &["check"]).exit, 0, "in clear, though it should not be");
            assert!(done(&node(folder, &["linkage", "protect"])).contains("1 key(s) were written anew"));
        }
    };
    let sandbox = Sandbox::with(600, |_| {}, protect).await;
    sandbox.query(BOTH).await.unwrap();
    for (department, how) in [("dfe", "encrypted under a passphrase"), ("dwp", "encrypted under a key of the command in [keys.at_rest]")] {
        let folder = sandbox.layout.node(department);
        let files = [keys(&sandbox, department), vec![folder.join("keys/linkage.key")]].concat();
        assert_eq!(files.len(), 2);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("concordat key v1\n") && !text.contains("opportunity"), "{}: {text}", file.display());
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let check = node(&folder, &["check"]).text();
        assert!(check.contains(&format!("ok   linkage keys: 1 of domains, {how}")), "{check}");
    }
    assert!(node(&sandbox.layout.node("dbt"), &["check"]).text().contains("linkage keys: 0 of domains, in clear, in files of mode 0600"));
    let running = node(&sandbox.layout.node("dfe"), &["linkage", "protect"]);
    assert!(running.exit != 0 && running.stderr.contains("the node runs"), "{}", running.stderr);
}
