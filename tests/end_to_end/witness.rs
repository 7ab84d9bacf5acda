//! Access logs that witness each other: the gateway's is cosigned by every department and by outside witnesses, the departments' by the
//! gateway; what went back is refused, told and kept as evidence, on both sides, until people acknowledge it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use concordat::failure::LOCAL;
use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::{Algorithm, Note, Signer};
use concordat_audit::proof::{Hash, verify_consistency};
use concordat_audit::{Entry, Log, is_written};
use concordat_policy::Code;
use serde_json::Value;

use crate::commands::{Ran, command};
use crate::sandbox::{Sandbox, copied, refused, until};

const DEPARTMENTS: [&str; 5] = ["dbt", "dfe", "dhsc", "dsit", "dwp"];
const ATTAINMENT: &str = "SELECT count(*) AS n FROM dfe.attainment";
const HEALTH: &str = "SELECT count(*) AS n FROM dhsc.health";

fn log(sandbox: &Sandbox, of: &str) -> PathBuf {
    if of == "gateway" { sandbox.layout.gateway().join("log") } else { sandbox.layout.node(of).join("log") }
}

fn witness(sandbox: &Sandbox, of: &str) -> PathBuf {
    log(sandbox, of).with_file_name("state").join("witness")
}

/// Where a program remembers how far its log went.
fn remembered(sandbox: &Sandbox, of: &str) -> PathBuf {
    log(sandbox, of).with_file_name("state").join("log.json")
}

fn vkey(sandbox: &Sandbox, of: &str) -> String {
    fs::read_to_string(witness(sandbox, of).join("witness.vkey")).unwrap().trim_end().to_owned()
}

/// How many entries `checkpoint.cosigned` covers, and the names below it; nothing where there is none.
fn cosigned(sandbox: &Sandbox, of: &str) -> (u64, Vec<String>) {
    let Ok(bytes) = fs::read(log(sandbox, of).join("checkpoint.cosigned")) else { return (0, Vec::new()) };
    let note = Note::parse(&bytes).unwrap();
    let names = note.signatures().iter().map(|line| line.name().to_owned()).collect();
    (Checkpoint::parse(note.text()).unwrap().size, names)
}

/// Waits until all that a log has now is cosigned by these witnesses, on one checkpoint.
pub async fn until_cosigned(sandbox: &Sandbox, of: &str, by: &[&str]) {
    let entries = sandbox.log(of).len() as u64;
    let names: Vec<String> =
        by.iter().map(|who| if who.contains('/') { (*who).into() } else { format!("concordat/{who}/witness") }).collect();
    until(&format!("{entries} entries of {of} are cosigned by {by:?}"), || {
        let (size, found) = cosigned(sandbox, of);
        size >= entries && names.iter().all(|name| found.contains(name))
    })
    .await;
}

/// Waits until the gateway has seen every department's log and witness: from then on, witnesses put nothing into its log. A gateway that
/// was killed between the entry and remembering the key says it again.
pub async fn all_seen(sandbox: &Sandbox) {
    let distinct = || entries(sandbox, "gateway", "witness.seen").iter().map(|entry| entry["key"].to_string()).collect::<BTreeSet<_>>();
    until("all keys are seen", || distinct().len() == 2 * DEPARTMENTS.len()).await;
}

/// Waits until all is cosigned and nothing of it is under way: until the next entry, the gateway asks nodes nothing of their logs.
pub async fn at_rest(sandbox: &Sandbox) {
    until_cosigned(sandbox, "gateway", &DEPARTMENTS).await;
    // The gateway looks at each node's log once more, half a second later, and each second until it has gone as far as its receipts.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
}

fn entries(sandbox: &Sandbox, of: &str, event: &str) -> Vec<Value> {
    sandbox.log(of).into_iter().filter(|entry| entry["event"] == event).collect()
}

fn restore(saved: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copied(saved, to);
}

fn verify(folder: &Path, key: &str, witnesses: &[String]) -> Ran {
    let quorum = witnesses.len().to_string();
    let mut arguments = vec!["audit", "verify", "--log", folder.to_str().unwrap(), "--key", key];
    arguments.extend(witnesses.iter().flat_map(|vkey| ["--witness", vkey.as_str()]));
    if !witnesses.is_empty() {
        arguments.extend(["--quorum", quorum.as_str()]);
    }
    command(arguments).output().unwrap().into()
}

#[tokio::test]
async fn every_department_cosigns_the_gateways_log_and_the_gateway_theirs() {
    let mut sandbox = Sandbox::start(300).await;
    sandbox.query(ATTAINMENT).await.unwrap();
    until_cosigned(&sandbox, "gateway", &DEPARTMENTS).await;
    until_cosigned(&sandbox, "dfe", &["gateway"]).await;
    for department in DEPARTMENTS {
        let seen = entries(&sandbox, department, "witness.seen");
        assert!(seen.iter().any(|entry| entry["log"] == "concordat/gateway"), "{department}: {seen:?}");
        assert!(entries(&sandbox, department, "witness.refused").is_empty());
    }
    all_seen(&sandbox).await;
    until_cosigned(&sandbox, "gateway", &DEPARTMENTS).await;
    // To be witnessed puts nothing more into a log: this one rests.
    let size = || DEPARTMENTS.iter().chain([&"gateway"]).map(|of| sandbox.log(of).len()).collect::<Vec<_>>();
    let before = size();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(size(), before);

    sandbox.drained().await;
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("gateway");
    copied(&log(&sandbox, "gateway"), &copy);
    let key = fs::read_to_string(copy.join("log.vkey")).unwrap().trim_end().to_owned();
    let witnesses = DEPARTMENTS.map(|department| vkey(&sandbox, department));
    let verified = verify(&copy, &key, &witnesses);
    assert!(verified.exit == 0 && verified.text().contains("a quorum of the witnesses has signed"), "{}", verified.stderr);
    sandbox.running.kill("dfe");
    let own = fs::read_to_string(log(&sandbox, "dfe").join("log.vkey")).unwrap();
    let verified = verify(&log(&sandbox, "dfe"), own.trim_end(), &[vkey(&sandbox, "gateway")]);
    assert!(verified.exit == 0 && verified.text().contains("a quorum of the witnesses has signed"), "{}", verified.stderr);

    // Whoever has the log's key writes another history: well signed, and seen by nobody.
    let forged = folder.path().join("forged");
    fs::create_dir(&forged).unwrap();
    for file in ["log.key", "log.vkey", "digest.key"] {
        fs::copy(copy.join(file), forged.join(file)).unwrap();
    }
    let other = Log::open(&forged, "concordat/gateway").unwrap();
    let mut checkpoints = other.checkpoints();
    other.append(Entry::new("query.opened")).await.unwrap();
    while other.size() < 1 {
        checkpoints.changed().await.unwrap();
    }
    drop((other, checkpoints));
    until("the log is let go", || !is_written(&forged)).await;
    assert_eq!(verify(&forged, &key, &[]).exit, 0);
    let unwitnessed = verify(&forged, &key, &witnesses);
    assert!(unwitnessed.exit == i32::from(LOCAL) && unwitnessed.stderr.contains("too few of the witnesses"), "{}", unwitnessed.stderr);
    fs::copy(copy.join("checkpoint.cosigned"), forged.join("checkpoint.cosigned")).unwrap();
    let rolled_back = verify(&forged, &key, &witnesses);
    assert!(rolled_back.exit == i32::from(LOCAL) && rolled_back.stderr.contains("it was rolled back"), "{}", rolled_back.stderr);
}

#[tokio::test]
async fn a_gateway_that_stops_in_order_leaves_no_entry_that_no_quorum_has_seen() {
    let sandbox = Sandbox::start(300).await;
    until_cosigned(&sandbox, "gateway", &DEPARTMENTS).await;
    // It is asked to stop before the next round.
    sandbox.query(ATTAINMENT).await.unwrap();
    sandbox.drained().await;
    let (size, by) = cosigned(&sandbox, "gateway");
    assert_eq!(size, sandbox.log("gateway").len() as u64);
    assert!(by.iter().filter(|name| name.ends_with("/witness")).count() > DEPARTMENTS.len() / 2, "{by:?}");
}

#[tokio::test]
async fn a_node_that_is_down_delays_its_own_cosignature_only() {
    let mut sandbox = Sandbox::start(300).await;
    until_cosigned(&sandbox, "gateway", &DEPARTMENTS).await;
    sandbox.running.kill("dwp");
    sandbox.query(ATTAINMENT).await.unwrap();
    let (there, away) = DEPARTMENTS.split_at(4);
    until_cosigned(&sandbox, "gateway", there).await;
    assert!(!cosigned(&sandbox, "gateway").1.contains(&"concordat/dwp/witness".to_owned()));
    sandbox.running.restart_node("dwp").await.unwrap();
    until_cosigned(&sandbox, "gateway", away).await;
    until_cosigned(&sandbox, "gateway", &DEPARTMENTS).await;
    assert!(entries(&sandbox, "gateway", "witness.refused").is_empty());
}

#[tokio::test]
async fn a_gateways_log_that_went_back_is_refused_by_every_department_until_it_is_acknowledged() {
    let mut sandbox = Sandbox::start(300).await;
    let (folder, own) = (tempfile::tempdir().unwrap(), log(&sandbox, "gateway"));
    let saved = folder.path().join("log");
    sandbox.query(ATTAINMENT).await.unwrap();
    until_cosigned(&sandbox, "gateway", &DEPARTMENTS).await;
    sandbox.running.kill("gateway");
    copied(&own, &saved);
    sandbox.running.restart_gateway().await.unwrap();
    for _ in 0..3 {
        sandbox.query(ATTAINMENT).await.unwrap();
    }
    until_cosigned(&sandbox, "gateway", &DEPARTMENTS).await;
    let known = cosigned(&sandbox, "gateway").0;

    sandbox.running.kill("gateway");
    restore(&saved, &own);
    let restored = cosigned(&sandbox, "gateway").0;
    assert!(sandbox.running.restart_gateway().await.is_err(), "it remembers that its log went further");
    fs::remove_file(remembered(&sandbox, "gateway")).unwrap();
    sandbox.running.restart_gateway().await.unwrap();
    assert_eq!(entries(&sandbox, "gateway", "log.state_missing").len(), 1);
    let refused = |department: &str| entries(&sandbox, department, "witness.refused");
    until("every department has refused the log", || DEPARTMENTS.iter().all(|department| !refused(department).is_empty())).await;
    for department in DEPARTMENTS {
        let entry = refused(department).remove(0);
        let kind = entry["kind"].as_str().unwrap();
        assert!(matches!(kind, "fork" | "rollback") && entry["code"] == "denied", "{entry}");
        assert!(entry["known_size"] == known && entry["size"].as_u64().unwrap() < known && entry["evidence_kept"] == true, "{entry}");
        let files = fs::read_dir(witness(&sandbox, department)).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let evidence: Vec<String> = files.filter(|file| file.starts_with(&format!("{kind}-"))).collect();
        assert!(!evidence.is_empty(), "{department}");
        let kept: Value = serde_json::from_slice(&fs::read(witness(&sandbox, department).join(&evidence[0])).unwrap()).unwrap();
        let [before, after] = ["known", "sent"].map(|side| Note::parse(kept[side].as_str().unwrap().as_bytes()).unwrap());
        assert!(before != after && kept["log"].as_str().unwrap().starts_with("concordat/gateway+"), "{kept}");
    }
    until("the gateway says so", || {
        DEPARTMENTS.iter().all(|d| entries(&sandbox, "gateway", "witness.refused").iter().any(|e| e["department"] == *d))
    })
    .await;
    assert!(sandbox.diagnostics("gateway").contains("a log is not witnessed"));
    // Nothing is released to it, and a node that starts anew remembers why.
    for restarted in [false, true] {
        if restarted {
            sandbox.running.restart_node("dfe").await.unwrap();
        }
        let failure = crate::sandbox::refused(
            sandbox.query(ATTAINMENT).await,
            Code::NodeRefused,
            "nothing is released to a gateway whose access log",
        );
        assert_eq!(failure.department.as_deref(), Some("dfe"));
    }

    // One department accepts that it was a restore, beside its running node; it cosigns again, and the others do not.
    let config = sandbox.layout.node("dfe").join("node.toml");
    let acknowledge = |arguments: &[&str]| -> Ran {
        command(["node", "acknowledge-log", "--config", config.to_str().unwrap()].iter().chain(arguments)).output().unwrap().into()
    };
    let asked = acknowledge(&[]);
    assert!(
        asked.exit != 0 && asked.stderr.contains(&format!("up to {known} entries")) && asked.stderr.contains("--yes"),
        "{}",
        asked.stderr
    );
    let accepted = acknowledge(&["--yes"]);
    assert!(accepted.exit == 0, "{}", accepted.stderr);
    let seen = || entries(&sandbox, "dfe", "witness.seen").iter().filter(|entry| entry["log"] == "concordat/gateway").count();
    until("the log is taken as new", || seen() == 2).await;
    sandbox.query(ATTAINMENT).await.unwrap();
    // One department is no quorum: what all had signed before stays what is shown.
    assert_eq!(cosigned(&sandbox, "gateway").0, restored);
}

#[tokio::test]
async fn a_department_whose_log_went_back_is_not_used_until_it_is_acknowledged() {
    let mut sandbox = Sandbox::start(300).await;
    let (folder, own) = (tempfile::tempdir().unwrap(), log(&sandbox, "dhsc"));
    let saved = folder.path().join("log");
    sandbox.query(HEALTH).await.unwrap();
    until_cosigned(&sandbox, "dhsc", &["gateway"]).await;
    sandbox.running.kill("dhsc");
    copied(&own, &saved);
    sandbox.running.restart_node("dhsc").await.unwrap();
    for _ in 0..3 {
        sandbox.query(HEALTH).await.unwrap();
    }
    // What the node wrote last is looked at in the gateway's next round.
    sandbox.query(ATTAINMENT).await.unwrap();
    until_cosigned(&sandbox, "dhsc", &["gateway"]).await;

    sandbox.running.kill("dhsc");
    restore(&saved, &own);
    let state = own.with_file_name("state");
    assert!(Log::check(&own, "concordat/dhsc/node", &state).is_err(), "the node remembers that its log went further");
    fs::remove_file(remembered(&sandbox, "dhsc")).unwrap();
    sandbox.running.restart_node("dhsc").await.unwrap();
    assert_eq!(entries(&sandbox, "dhsc", "log.state_missing").len(), 1);
    sandbox.query(ATTAINMENT).await.unwrap();
    let of_dhsc = |sandbox: &Sandbox, event: &str| {
        let all = entries(sandbox, "gateway", event).into_iter();
        all.filter(|entry| entry["department"] == "dhsc" && entry["log"] == "concordat/dhsc/node").collect::<Vec<_>>()
    };
    until("the gateway has refused the log", || !of_dhsc(&sandbox, "witness.refused").is_empty()).await;
    let entry = of_dhsc(&sandbox, "witness.refused").remove(0);
    assert!(entry["kind"].as_str().is_some_and(|kind| kind == "fork" || kind == "rollback") && entry["evidence_kept"] == true, "{entry}");
    let failure = refused(sandbox.query(HEALTH).await, Code::NodeFaulty, "acknowledge-log --department dhsc");
    assert_eq!(failure.department.as_deref(), Some("dhsc"));
    sandbox.query(ATTAINMENT).await.unwrap();
    // A gateway that starts anew remembers, before it has looked again.
    sandbox.running.restart_gateway().await.unwrap();
    refused(sandbox.query(HEALTH).await, Code::NodeFaulty, "acknowledge-log --department dhsc");

    let config = sandbox.layout.gateway().join("gateway.toml");
    let acknowledge = |arguments: &[&str]| -> Ran {
        let all = ["gateway", "acknowledge-log", "--department", "dhsc", "--config", config.to_str().unwrap()];
        command(all.iter().chain(arguments)).output().unwrap().into()
    };
    let asked = acknowledge(&[]);
    assert!(asked.exit != 0 && asked.stderr.contains("--yes"), "{}", asked.stderr);
    let accepted = acknowledge(&["--yes"]);
    assert!(accepted.exit == 0, "{}", accepted.stderr);
    until("the log is taken as new", || of_dhsc(&sandbox, "witness.seen").len() == 2).await;
    sandbox.query(HEALTH).await.unwrap();
}

#[tokio::test]
async fn a_witness_that_forgot_what_it_cosigned_is_told_of_by_whoever_has_its_cosignature() {
    let mut sandbox = Sandbox::start(300).await;
    let folder = tempfile::tempdir().unwrap();
    sandbox.query(HEALTH).await.unwrap();
    all_seen(&sandbox).await;
    at_rest(&sandbox).await;
    // A department's, restored from a backup; then the gateway's.
    for (of, log_of, told_by) in [("dhsc", "gateway", "gateway"), ("gateway", "dhsc", "dhsc")] {
        let (saved, own) = (folder.path().join(of), witness(&sandbox, of));
        sandbox.running.kill(of);
        copied(&own, &saved);
        restart(&mut sandbox, of).await;
        for _ in 0..2 {
            sandbox.query(HEALTH).await.unwrap();
        }
        at_rest(&sandbox).await;
        until_cosigned(&sandbox, "dhsc", &["gateway"]).await;
        sandbox.running.kill(of);
        restore(&saved, &own);
        assert!(entries(&sandbox, told_by, "witness.forgot").is_empty(), "{of}");
        restart(&mut sandbox, of).await;
        sandbox.query(HEALTH).await.unwrap();
        until(&format!("{told_by} tells of it"), || !entries(&sandbox, told_by, "witness.forgot").is_empty()).await;
        let entry = entries(&sandbox, told_by, "witness.forgot").remove(0);
        assert_eq!(entry["witness"], format!("concordat/{of}/witness"), "{entry}");
        assert!(entry["known_size"].as_u64() > entry["size"].as_u64(), "{entry}");
        // It has caught up, and is told of until somebody has looked at it. What was written last is looked at after the next query.
        sandbox.query(HEALTH).await.unwrap();
        at_rest(&sandbox).await;
        until_cosigned(&sandbox, log_of, &[of]).await;
        let (program, file) =
            if told_by == "gateway" { ("gateway", sandbox.layout.gateway()) } else { ("node", sandbox.layout.node(told_by)) };
        let config = file.join(format!("{program}.toml"));
        let acknowledge = |arguments: &[&str]| -> Ran {
            let department: &[&str] = if program == "gateway" { &["--department", "dhsc"] } else { &[] };
            let all = [program, "acknowledge-log", "--witness", "--config", config.to_str().unwrap()];
            command(all.iter().chain(department).chain(arguments)).output().unwrap().into()
        };
        let asked = acknowledge(&[]);
        assert!(asked.exit != 0 && asked.stderr.contains("--yes") && asked.stderr.contains("stood at"), "{}", asked.stderr);
        assert_eq!(acknowledge(&["--yes"]).exit, 0);
        let nothing = acknowledge(&["--yes"]);
        assert!(nothing.exit != 0 && nothing.stderr.contains("forgotten nothing"), "{}", nothing.stderr);
        assert_eq!(entries(&sandbox, told_by, "witness.forgot").len(), 1, "once");
    }
}

async fn restart(sandbox: &mut Sandbox, of: &str) {
    match of {
        "gateway" => sandbox.running.restart_gateway().await.unwrap(),
        department => sandbox.running.restart_node(department).await.unwrap(),
    }
}

/// A witness of nobody's, as c2sp.org/tlog-witness specifies it.
struct Stranger {
    signer: Signer,
    known: Option<Checkpoint>,
    cosigned: usize,
}

async fn add_checkpoint(State(stranger): State<Arc<Mutex<Stranger>>>, body: String) -> (StatusCode, String) {
    let mut stranger = stranger.lock().unwrap();
    let (head, checkpoint) = body.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
    let proof: Vec<Hash> = lines.map(|line| BASE64_STANDARD.decode(line).unwrap().try_into().unwrap()).collect();
    let note = Note::parse(checkpoint.as_bytes()).unwrap();
    let new = Checkpoint::parse(note.text()).unwrap();
    let known = stranger.known.as_ref().map_or(0, |known| known.size);
    if old != known {
        return (StatusCode::CONFLICT, format!("{known}\n"));
    }
    if let Some(known) = &stranger.known
        && verify_consistency(old, new.size, &known.root, &new.root, &proof).is_err()
    {
        return (StatusCode::UNPROCESSABLE_ENTITY, String::new());
    }
    stranger.known = Some(new);
    stranger.cosigned += 1;
    let time = u64::try_from(chrono::Utc::now().timestamp()).unwrap();
    (StatusCode::OK, stranger.signer.sign(note.text(), time).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_witnesses_cosign_over_http() {
    let signer = Signer::generate("witness.example/w", Algorithm::Cosignature).unwrap();
    let vkey = signer.key().to_string();
    let stranger = Arc::new(Mutex::new(Stranger { signer, known: None, cosigned: 0 }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/w/add-checkpoint", post(add_checkpoint)).with_state(Arc::clone(&stranger));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let configured = |layout: &concordat::federation::Layout| {
        let path = layout.gateway().join("gateway.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\n[[witnesses.outside]]\nurl = \"http://{address}/w\"\nvkey = \"{vkey}\"\n")).unwrap();
    };
    let mut sandbox = Sandbox::with(300, |_| {}, configured).await;
    sandbox.query(ATTAINMENT).await.unwrap();
    until_cosigned(&sandbox, "gateway", &["dfe", "dwp", "witness.example/w"]).await;
    // A gateway that was started anew learns from the witness where it stands.
    sandbox.running.restart_gateway().await.unwrap();
    until_cosigned(&sandbox, "gateway", &["dfe", "dwp", "witness.example/w"]).await;
    assert!(stranger.lock().unwrap().cosigned > 1);
    assert!(entries(&sandbox, "gateway", "witness.refused").is_empty());
    // It went back behind what this gateway knows of it: so it says, and is told from where.
    stranger.lock().unwrap().known = None;
    sandbox.query(ATTAINMENT).await.unwrap();
    until_cosigned(&sandbox, "gateway", &["witness.example/w"]).await;
    let forgot = entries(&sandbox, "gateway", "witness.forgot");
    assert!(forgot.len() == 1 && forgot[0]["witness"] == "witness.example/w" && forgot[0]["size"] == 0, "{forgot:?}");
}
