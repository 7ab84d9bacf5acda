//! From an answer to a proof that somebody else verifies: promises in answers, receipts for who asked and for auditors, offline.

use std::path::{Path, PathBuf};

use concordat::client::{Client, LogDoor};
use concordat::failure::{LOCAL, USAGE};
use concordat_audit::note::VerifierKey;
use concordat_audit::proof::{Hash, verify_consistency, verify_inclusion};
use concordat_audit::quorum::Witnesses;
use concordat_audit::receipt::{Receipt, ReceiptError, Request, Verified};
use concordat_audit::{Entry, Log, Promise};
use concordat_policy::Code;
use concordat_proto::answer::AnswerDigest;
use concordat_proto::status::from_status;
use concordat_proto::v1;
use concordat_proto::v1::access_log_client::AccessLogClient;
use serde_json::{Value, json};
use tonic::transport::{Channel, Identity};

use crate::callers::gateway;
use crate::commands::{Ran, command, run};
use crate::sandbox::{Sandbox, node, refused, until};
use crate::witness::until_cosigned;

const JOINED: &str = "SELECT a.region, count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region";
const SINGLE: &str = "SELECT count(*) AS n FROM dfe.attainment";

/// A sandbox whose gateway has auditors: of an office that sees all, and of two departments.
pub async fn audited(people: u64) -> Sandbox {
    let name_auditors = |layout: &concordat::federation::Layout| {
        let path = layout.gateway().join("gateway.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (organisation, sees) in [("audit-office", "all = true"), ("dwp", "department = \"dwp\""), ("dhsc", "department = \"dhsc\"")] {
            text.push_str(&format!("\n[[auditors]]\norganisation = \"{organisation}\"\nrole = \"auditor\"\n{sees}\n"));
        }
        std::fs::write(&path, text).unwrap();
    };
    Sandbox::with(people, |_| {}, name_auditors).await
}

pub fn auditor(sandbox: &Sandbox, organisation: &str) -> String {
    sandbox.token_with(|c| (c["sub"], c["organisation"], c["roles"]) = (json!("auditor-1"), json!(organisation), json!(["auditor"])))
}

pub async fn client_of(sandbox: &Sandbox, token: String) -> Client {
    // Receipts need no purpose.
    sandbox.client_with(|c| (c.token, c.purpose) = (Some(token), None)).await
}

/// A log's key, as its program published it.
fn key(log: &Path) -> VerifierKey {
    VerifierKey::parse(std::fs::read_to_string(log.join("log.vkey")).unwrap().trim()).unwrap()
}

fn gateways_log(sandbox: &Sandbox) -> PathBuf {
    sandbox.layout.gateway().join("log")
}

fn verified(receipt: &Receipt, key: &VerifierKey, promise: Option<&Promise>) -> Result<Verified, ReceiptError> {
    let witnesses = Witnesses::none();
    Request { key, witnesses: &witnesses, promise, checkpoint: None, consistency: None, now: 2_000_000_000 }.verify(receipt)
}

fn promise_in(summary: &Value) -> Promise {
    Promise::read(summary["promise"].to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_program_that_stops_signs_over_its_last_entries() {
    let sandbox = Sandbox::start(300).await;
    for _ in 0..3 {
        sandbox.query(SINGLE).await.unwrap();
    }
    // At once: most of what a query wrote is in no checkpoint yet.
    for (of, log) in [("gateway", gateways_log(&sandbox)), ("dfe", sandbox.layout.node("dfe").join("log"))] {
        sandbox.stopped(of).await;
        let checkpoint = std::fs::read_to_string(log.join("checkpoint")).unwrap();
        assert_eq!(checkpoint.lines().nth(1).unwrap().parse::<usize>().unwrap(), sandbox.log(of).len(), "{of}");
        let told = Ran::from(command(["audit", "verify", "--log", log.to_str().unwrap(), "--output", "json"]).output().unwrap()).json();
        assert_eq!((&told["verified"], &told["beyond"]), (&json!(true), &json!(0)), "{told}");
    }
}

/// The digest of an answer as its caller works it out.
fn digest_of(answer: &concordat::client::Answer, salt: &[u8; 32]) -> [u8; 32] {
    let mut digest = AnswerDigest::of(&answer.schema).unwrap();
    answer.batches.iter().for_each(|batch| digest.add(batch).unwrap());
    digest.finish(salt)
}

#[tokio::test]
async fn a_promise_is_of_the_answer_that_it_came_with() {
    let sandbox = audited(1_000).await;
    let client = sandbox.client().await;
    let log_key = key(&gateways_log(&sandbox));
    let answers = [client.query(JOINED).await.unwrap(), client.query(JOINED).await.unwrap(), client.query(SINGLE).await.unwrap()];
    let id = client.detach(SINGLE).await.unwrap();
    let kept = client.result(&id).await.unwrap();
    let mut digests = std::collections::BTreeSet::new();
    for answer in answers.iter().chain([&kept]) {
        let promise = promise_in(&answer.summary);
        promise.verify(&log_key).unwrap();
        let of = promise.answer.clone().unwrap();
        assert_eq!(Some(of.query_id.as_str()), answer.summary["query_id"].as_str());
        assert_eq!(of.rows, answer.batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>());
        assert_eq!(of.digest, digest_of(answer, &of.salt), "{}", answer.summary);
        // The same answer twice has two digests: whoever reads the log learns nothing of it.
        assert!(digests.insert(of.digest));
        let log = sandbox.log("gateway");
        let closed = log.iter().find(|e| e["event"] == "query.closed" && e["query_id"] == answer.summary["query_id"]).unwrap();
        assert_eq!(closed["facts"]["answer_digest"].as_str(), Some(of.digest_text().as_str()));
        assert_eq!(closed["facts"]["answer_rows"].as_u64(), Some(of.rows));
        let salt = serde_json::to_value(&promise).unwrap()["answer"]["salt"].as_str().unwrap().to_owned();
        assert!(log.iter().all(|entry| !entry.to_string().contains(&salt)), "the salt is the caller's");
    }
    // An auditor's receipt holds the entry: it is of the answer that the caller holds, and of no other.
    let auditor = client_of(&sandbox, auditor(&sandbox, "audit-office")).await;
    let whole = auditor.receipt(answers[0].summary["query_id"].as_str().unwrap(), 0, 0).await.unwrap();
    let promise = promise_in(&answers[0].summary);
    assert_eq!(verified(&whole, &log_key, Some(&promise)).unwrap().answer, promise.answer);
    // With the log's own key, another answer promised with the same entry is proof against who holds the key.
    let signer =
        concordat_audit::note::Signer::parse(std::fs::read_to_string(gateways_log(&sandbox).join("log.key")).unwrap().trim()).unwrap();
    let other = promise_in(&answers[1].summary).answer;
    let message = concordat_audit::promise_message(&promise.origin, promise.index, &promise.leaf_hash, other.as_ref(), &promise.time);
    let forged = Promise { signature: signer.sign_message(&message), answer: other, ..promise };
    let found = verified(&whole, &log_key, Some(&forged)).unwrap_err();
    assert!(matches!(&found, ReceiptError::Misbehaviour(what) if what.contains("of something else")), "{found}");
}

#[tokio::test]
async fn a_saved_answer_is_compared_with_its_promise_offline() {
    let sandbox = Sandbox::start(500).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let log_key = key(&gateways_log(&sandbox)).to_string();
    let promise = path("a.promise");
    let mut answers = Vec::new();
    for (name, sql) in [("a.arrow", SINGLE), ("a.parquet", JOINED), ("a.csv", SINGLE)] {
        let (answer, own) = (path(name), path(&format!("{name}.promise")));
        let asked = run(&sandbox, &["query", "--sql", sql, "--to", &answer, "--receipt", &own, "--log-key", &log_key]);
        assert_eq!(asked.exit, 0, "{}", asked.stderr);
        answers.push((answer, own));
    }
    std::fs::copy(&answers[0].1, &promise).unwrap();
    sandbox.drained().await;
    let verify = |arguments: &[&str]| Ran::from(command(["audit", "verify-receipt"].iter().chain(arguments)).output().unwrap());
    for (answer, own) in &answers[..2] {
        let told = verify(&[own, "--log-key", &log_key, "--answer", answer]);
        assert!(told.exit == 0 && told.text().contains("the answer is the promised one"), "{}{}", told.text(), told.stderr);
    }
    let json = verify(&[&promise, "--log-key", &log_key, "--answer", &answers[0].0, "--output", "json"]).json();
    assert_eq!((&json["verified"], &json["answer"]["compared"]), (&json!(true), &json!(true)), "{json}");
    for (answer, says) in
        [(answers[1].0.as_str(), "of another answer"), (&answers[2].0, "1 rows with the digest"), ("/nowhere", "cannot be read")]
    {
        let told = verify(&[&promise, "--log-key", &log_key, "--answer", answer]);
        assert!(told.exit == i32::from(LOCAL) && told.stderr.contains(says), "{answer}: {}", told.stderr);
    }
    let changed = path("changed.arrow");
    let mut bytes = std::fs::read(&answers[0].0).unwrap();
    // A value is eight bytes in the body of the rows: one of them is changed.
    let reader = arrow::ipc::reader::FileReader::try_new(std::fs::File::open(&answers[0].0).unwrap(), None).unwrap();
    let count = reader.map(Result::unwrap).find_map(|batch| {
        let counts = batch.column_by_name("n")?.as_any().downcast_ref::<arrow::array::Int64Array>()?.clone();
        counts.iter().flatten().find(|count| *count > 255)
    });
    let count = count.unwrap().to_le_bytes();
    let at = bytes.windows(8).position(|window| window == count).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    let told = verify(&[&promise, "--log-key", &log_key, "--answer", &changed]);
    assert!(told.exit == i32::from(LOCAL) && told.stderr.contains("of another answer"), "{}", told.stderr);
    let told = verify(&[&promise, "--log-key", &log_key, "--answer", &changed, "--output", "json"]).json();
    assert_eq!((&told["verified"], &told["misbehaviour"]), (&json!(false), &json!(false)), "{told}");
}

#[tokio::test]
async fn every_answer_is_promised_and_who_asked_has_the_proof() {
    let sandbox = audited(1_000).await;
    let client = sandbox.client().await;
    let log_key = key(&gateways_log(&sandbox));
    let answer = client.query(JOINED).await.unwrap();
    let promise = promise_in(&answer.summary);
    promise.verify(&log_key).unwrap();
    assert_eq!(answer.summary["log_entry"].as_u64(), Some(promise.index + 1));
    assert_eq!((promise.origin.as_str(), key(&sandbox.layout.node("dfe").join("log")).name()), (log_key.name(), "concordat/dfe/node"));
    // A kept answer has the promise that it was given.
    let id = client.detach(SINGLE).await.unwrap();
    let kept = client.result(&id).await.unwrap();
    promise_in(&kept.summary).verify(&log_key).unwrap();
    assert_eq!(promise_in(&kept.summary), promise_in(&client.result(&id).await.unwrap().summary));

    let query_id = answer.summary["query_id"].as_str().unwrap();
    let receipt = client.receipt(query_id, 0, 0).await.unwrap();
    let proven = verified(&receipt, &log_key, Some(&promise)).unwrap();
    assert_eq!((proven.number, proven.promised.as_deref()), (promise.index + 1, Some(promise.time.as_str())));
    assert_eq!(receipt.entry, None, "exact numbers of rows are not for who asked");
    // But for what witnesses have signed by now: none of them is asked for.
    let (note, signatures) = receipt.checkpoint.rsplit_once("\n\n").unwrap();
    let own = signatures.lines().find(|line| line.starts_with(&format!("— {} ", log_key.name()))).unwrap();
    let text = Receipt { checkpoint: format!("{note}\n\n{own}\n"), ..receipt.clone() }.write().into_bytes();
    verified(&Receipt::read(&text).unwrap(), &log_key, Some(&promise)).unwrap();
    for at in (0..text.len()).step_by(7) {
        let mut changed = text.clone();
        changed[at] ^= 1;
        let found = Receipt::read(&changed).and_then(|receipt| verified(&receipt, &log_key, Some(&promise)));
        assert!(found.is_err(), "byte {at}");
    }
    assert!(verified(&receipt, &key(&sandbox.layout.node("dfe").join("log")), None).is_err(), "another log's key");
    // What was refused has a receipt as well.
    let denied = refused(client.query("SELECT region, attainment8 FROM dfe.attainment").await, Code::Denied, "").query_id.unwrap();
    verified(&client.receipt(&denied, 0, 0).await.unwrap(), &log_key, None).unwrap();
}

#[tokio::test]
async fn receipts_are_for_who_asked_and_for_auditors_and_each_is_logged() {
    let sandbox = audited(1_000).await;
    let (log_key, answer) = (key(&gateways_log(&sandbox)), sandbox.query(JOINED).await.unwrap());
    let query_id = answer.summary["query_id"].as_str().unwrap();
    let whole = client_of(&sandbox, auditor(&sandbox, "audit-office")).await.receipt(query_id, 0, 0).await.unwrap();
    let proven = verified(&whole, &log_key, None).unwrap();
    let entry: Value = serde_json::from_slice(whole.entry.as_deref().unwrap()).unwrap();
    assert_eq!((entry["entry"].as_u64(), entry["query_id"].as_str()), (Some(proven.number), Some(query_id)));
    assert!(entry["facts"]["sources"].as_array().unwrap().iter().all(|source| source["rows"].is_u64()), "{entry}");
    // A department's auditor has the proof where its data went in, and never another department's numbers.
    let own = client_of(&sandbox, auditor(&sandbox, "dwp")).await.receipt(query_id, 0, 0).await.unwrap();
    assert_eq!((own.entry.clone(), verified(&own, &log_key, None).unwrap().number), (None, proven.number));

    let before = sandbox.log("gateway").iter().filter(|e| e["event"] == "log.read").count();
    assert_eq!(before, 2, "one for each receipt");
    let mut sentences = std::collections::BTreeSet::new();
    let colleague = |c: &mut Value| c["sub"] = json!("somebody-else");
    for (what, token) in [
        ("a colleague", sandbox.token_with(colleague)),
        ("the same name elsewhere", sandbox.token_with(|c| c["organisation"] = json!("other-unit"))),
        ("an auditor of a department that is not concerned", auditor(&sandbox, "dhsc")),
        ("an auditor of an organisation that is not named", auditor(&sandbox, "other-office")),
        ("the office in another role", sandbox.token_with(|c| c["organisation"] = json!("audit-office"))),
    ] {
        let client = client_of(&sandbox, token).await;
        let failure = refused(client.receipt(query_id, 0, 0).await, Code::Denied, "no query of yours");
        assert!(failure.query_id.is_none(), "{what}");
        sentences.insert(failure.message);
        let unknown = client.receipt("018bcfe5-6800-7abc-8def-012345678901", 0, 0).await;
        sentences.insert(refused(unknown, Code::Denied, "no query of yours").message);
        sentences.insert(refused(client.receipt("x", 0, 0).await, Code::Denied, "no query of yours").message);
    }
    assert_eq!(sentences.len(), 1, "another's query and none look the same: {sentences:?}");
    let log = sandbox.log("gateway");
    let reads: Vec<&Value> = log.iter().filter(|e| e["event"] == "log.read").collect();
    assert_eq!(reads.len(), before, "who was refused has read nothing");
    assert!(reads.iter().all(|e| e["query_id"] == query_id && e["what"] == "receipt" && e["caller"] == "auditor-1"), "{reads:?}");
    for who in ["somebody-else", "auditor-1"] {
        assert!(log.iter().any(|e| e["event"] == "caller.refused" && e["caller"] == who && e["code"] == "denied"), "{who} is on record");
    }
}

#[tokio::test]
async fn of_a_query_whose_time_was_moved_to_an_archive_everybody_is_told_so() {
    let sandbox = audited(300).await;
    let early = sandbox.query(SINGLE).await.unwrap().summary["query_id"].as_str().unwrap().to_owned();
    let office = LogDoor::Gateway(Box::new(client_of(&sandbox, auditor(&sandbox, "audit-office")).await));
    // Each reading is an entry.
    while sandbox.log("gateway").len() < 300 {
        office.list(v1::LogListRequest { limit: 1, ..v1::LogListRequest::default() }).await.unwrap();
    }
    let late = sandbox.query(SINGLE).await.unwrap().summary["query_id"].as_str().unwrap().to_owned();
    until_cosigned(&sandbox, "gateway", &[]).await;
    let (log, to) = (gateways_log(&sandbox), tempfile::tempdir().unwrap());
    let (log, to) = (log.to_str().unwrap(), to.path().to_str().unwrap());
    let moved: Ran = command(["audit", "archive", "--log", log, "--to", to, "--before", "2999-01-01T00:00:00Z"]).output().unwrap().into();
    assert!(moved.exit == 0 && moved.text().contains("moved entries 1 to 256"), "{} {}", moved.text(), moved.stderr);
    let client = sandbox.client().await;
    let told = refused(client.receipt(&early, 0, 0).await, Code::Denied, "entries up to 256 were moved to an archive");
    assert!(told.message.contains("audit proof"), "{told:?}");
    // Whose query it was, and whether there was one, nobody learns.
    let colleague = client_of(&sandbox, sandbox.token_with(|c| c["sub"] = json!("somebody-else"))).await;
    for (client, id) in [(&colleague, early.as_str()), (&client, "018bcfe5-6800-7abc-8def-012345678901")] {
        assert_eq!(refused(client.receipt(id, 0, 0).await, Code::Denied, "moved to an archive").message, told.message);
    }
    refused(colleague.receipt(&late, 0, 0).await, Code::Denied, "no query of yours");
    verified(&client.receipt(&late, 0, 0).await.unwrap(), &key(&gateways_log(&sandbox)), None).unwrap();
}

#[tokio::test]
async fn a_receipt_verifies_on_the_command_line_when_nobody_runs_any_more() {
    let sandbox = Sandbox::start(500).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (promise, receipt, wrong) = (path("a.promise"), path("a.receipt"), path("wrong.promise"));
    let log = gateways_log(&sandbox);
    let (log_key, other_key) = (key(&log).to_string(), key(&sandbox.layout.node("dfe").join("log")).to_string());

    let asked = run(&sandbox, &["query", "--sql", SINGLE, "--output", "json", "--receipt", &promise, "--log-key", &log_key]);
    assert_eq!(asked.exit, 0, "{}", asked.stderr);
    let id = asked.json()["answer"]["query_id"].as_str().unwrap().to_owned();
    let table = run(&sandbox, &["query", "--sql", SINGLE]);
    assert!(table.exit == 0 && table.stderr.contains("promised by the log concordat/gateway at "), "{}", table.stderr);
    let not_taken = run(&sandbox, &["query", "--sql", SINGLE, "--receipt", &wrong, "--log-key", &other_key]);
    assert!(not_taken.exit == i32::from(LOCAL) && not_taken.stdout.is_empty(), "{}", not_taken.text());
    assert!(not_taken.stderr.contains("the answer is not taken") && !Path::new(&wrong).exists(), "{}", not_taken.stderr);

    let fetched = run(&sandbox, &["audit", "receipt", &id, "--to", &receipt, "--cosignatures", "0"]);
    assert!(fetched.exit == 0 && fetched.stdout.is_empty(), "{}", fetched.stderr);
    let unknown = run(&sandbox, &["audit", "receipt", "no-such-query", "--wait", "0"]);
    assert!(unknown.stderr.contains("no query of yours") && unknown.exit != 0, "{}", unknown.stderr);
    // A second answer's promise is of another entry.
    let second = run(&sandbox, &["query", "--sql", SINGLE, "--receipt", &wrong]);
    assert_eq!(second.exit, 0, "{}", second.stderr);
    sandbox.drained().await;

    let verify = |arguments: &[&str]| Ran::from(command(["audit", "verify-receipt"].iter().chain(arguments)).output().unwrap());
    let told = verify(&[&receipt, "--log-key", &log_key, "--promise", &promise]);
    assert!(told.exit == 0 && told.text().contains("is in the log") && told.text().contains("was kept"), "{}{}", told.text(), told.stderr);
    let json = verify(&[&receipt, "--log-key", &log_key, "--output", "json"]).json();
    assert_eq!((&json["verified"], &json["origin"], &json["text"]), (&json!(true), &json!("concordat/gateway"), &Value::Null));
    let alone = verify(&[&promise, "--log-key", &log_key]);
    assert!(alone.exit == 0 && alone.text().contains("promised entry"), "{}", alone.stderr);
    let mut changed = std::fs::read(&receipt).unwrap();
    let at = changed.len() / 2;
    changed[at] ^= 1;
    let changed_receipt = path("changed.receipt");
    std::fs::write(&changed_receipt, changed).unwrap();
    for (arguments, exit, says) in [
        (vec![receipt.as_str(), "--log-key", &other_key], LOCAL, "does not verify"),
        (vec![promise.as_str(), "--log-key", &other_key], LOCAL, "does not verify"),
        (vec![receipt.as_str(), "--log-key", &log_key, "--promise", &wrong], LOCAL, "they say nothing of each other"),
        (vec![changed_receipt.as_str(), "--log-key", &log_key], LOCAL, "does not verify"),
        (vec![promise.as_str(), "--log-key", &log_key, "--promise", &promise], USAGE, "is a promise alone"),
        (vec![receipt.as_str()], USAGE, "--log-key"),
    ] {
        let told = verify(&arguments);
        assert!(told.exit == i32::from(exit) && told.stderr.contains(says), "{arguments:?}: {} {}", told.exit, told.stderr);
    }
    // From the folder alone: the same entry, with its bytes and without a promise; and an older log is the beginning of this one.
    let folder_log = log.to_str().unwrap();
    let number = json["entry"].as_u64().unwrap().to_string();
    let (from_folder, consistent) = (path("folder.receipt"), path("consistent"));
    let proof = |arguments: &[&str]| Ran::from(command(["audit", "proof", "--log", folder_log].iter().chain(arguments)).output().unwrap());
    assert_eq!(proof(&["--entry", &number, "--to", &from_folder]).exit, 0);
    let told = verify(&[&from_folder, "--log-key", &log_key, "--promise", &promise, "--output", "json"]).json();
    assert!(told["verified"] == true && told["text"].as_str().unwrap().contains(&id), "{told}");
    let older = json["entries"].as_u64().unwrap().to_string();
    let newer = told["entries"].as_u64().unwrap().to_string();
    assert_eq!(proof(&["--from", &older, "--to-size", &newer, "--to", &consistent]).exit, 0);
    let latest = log.join("checkpoint");
    let of_one_history = ["--checkpoint", latest.to_str().unwrap(), "--consistency", &consistent];
    let told = verify(&[&of_one_history[..], &[receipt.as_str(), "--log-key", &log_key]].concat());
    assert_eq!(told.exit, 0, "{}", told.stderr);
    assert_ne!(proof(&["--entry", "1000000"]).exit, 0);
    assert_eq!(proof(&[]).exit, i32::from(USAGE));
}

#[tokio::test]
async fn a_history_that_the_logs_own_key_wrote_anew_is_given_away_by_a_promise() {
    let sandbox = Sandbox::start(300).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (promise, forged, fork) = (path("a.promise"), path("forged.receipt"), path("fork"));
    let log_key = key(&gateways_log(&sandbox)).to_string();
    assert_eq!(run(&sandbox, &["query", "--sql", SINGLE, "--receipt", &promise]).exit, 0);
    sandbox.drained().await;
    // Who holds the key makes another log of the same name, with as many entries.
    std::fs::create_dir(&fork).unwrap();
    std::fs::copy(gateways_log(&sandbox).join("log.key"), Path::new(&fork).join("log.key")).unwrap();
    let number = Promise::read(&std::fs::read(&promise).unwrap()).unwrap().index + 1;
    let log = Log::open(Path::new(&fork), "concordat/gateway").unwrap();
    for _ in 0..number + 2 {
        log.append(Entry::new("query.closed")).await.unwrap();
    }
    until("a checkpoint covers the other history", || log.size() > number).await;
    let ran = |arguments: &[&str]| Ran::from(command(["audit"].iter().chain(arguments)).output().unwrap());
    let made = ran(&["proof", "--log", &fork, "--entry", &number.to_string(), "--to", &forged]);
    assert_eq!(made.exit, 0, "{}", made.stderr);
    let alone = ran(&["verify-receipt", &forged, "--log-key", &log_key]);
    assert_eq!(alone.exit, 0, "it is sound in itself: {}", alone.stderr);
    let with_promise = ["verify-receipt", &forged, "--log-key", &log_key, "--promise", &promise];
    let found = ran(&with_promise);
    assert!(found.exit == i32::from(LOCAL) && found.stderr.contains("this is proof of misbehaviour"), "{}", found.stderr);
    let json = ran(&[&with_promise[..], &["--output", "json"]].concat()).json();
    assert_eq!((&json["verified"], &json["misbehaviour"]), (&Value::Bool(false), &Value::Bool(true)), "{json}");
}

fn hashes(wire: &[Vec<u8>]) -> Vec<Hash> {
    wire.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect()
}

pub fn with<T>(message: T, token: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// Reads checkpoints and proofs over gRPC, and verifies them.
async fn proofs(channel: Channel, token: Option<&str>, key: &VerifierKey) {
    use concordat_audit::checkpoint::SignedCheckpoint;
    let mut client = AccessLogClient::new(channel);
    let signed = async |client: &mut AccessLogClient<Channel>| {
        let answer = client.checkpoint(with(v1::LogCheckpointRequest {}, token)).await.unwrap().into_inner();
        SignedCheckpoint::open(answer.checkpoint.as_bytes(), key).unwrap().checkpoint().clone()
    };
    let checkpoint = signed(&mut client).await;
    let (index, size) = (checkpoint.size / 2, checkpoint.size);
    let answer = client.inclusion(with(v1::LogInclusionRequest { index, size }, token)).await.unwrap().into_inner();
    let leaf: Hash = answer.leaf_hash.as_slice().try_into().unwrap();
    verify_inclusion(index, size, &leaf, &hashes(&answer.proof), &checkpoint.root).unwrap();
    let answer = client.consistency(with(v1::LogConsistencyRequest { from: size, to: size }, token)).await.unwrap().into_inner();
    verify_consistency(size, size, &checkpoint.root, &checkpoint.root, &hashes(&answer.proof)).unwrap();
    let beyond = [
        client.inclusion(with(v1::LogInclusionRequest { index: size, size }, token)).await.err(),
        client.inclusion(with(v1::LogInclusionRequest { index: 0, size: u64::MAX }, token)).await.err(),
        client.inclusion(with(v1::LogInclusionRequest { index: u64::MAX, size: u64::MAX }, token)).await.err(),
        client.consistency(with(v1::LogConsistencyRequest { from: size, to: size - 1 }, token)).await.err(),
    ];
    for status in beyond {
        assert_eq!(from_status(&status.unwrap()).unwrap().code, Code::Invalid);
    }
}

#[tokio::test]
async fn logs_give_checkpoints_and_proofs_to_auditors_gateways_and_administrators_only() {
    let sandbox = audited(500).await;
    sandbox.query(SINGLE).await.unwrap();
    let log_key = key(&gateways_log(&sandbox));
    until("the gateway's log has a checkpoint over the query", || {
        let checkpoint = std::fs::read_to_string(gateways_log(&sandbox).join("checkpoint")).unwrap();
        checkpoint.lines().nth(1).unwrap().parse::<u64>().unwrap() >= 3
    })
    .await;
    proofs(gateway(&sandbox).await, Some(&auditor(&sandbox, "audit-office")), &log_key).await;
    let reads = |of: &str| sandbox.log(of).into_iter().filter(|e| e["event"] == "log.read").collect::<Vec<_>>();
    let what: Vec<String> = reads("gateway").iter().map(|e| e["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(what, ["checkpoint", "inclusion", "consistency"]);
    // An analyst is refused, and that is logged.
    let token = sandbox.token();
    let refused = AccessLogClient::new(gateway(&sandbox).await).checkpoint(with(v1::LogCheckpointRequest {}, Some(&token))).await;
    let refusal = from_status(&refused.unwrap_err()).unwrap();
    assert!(refusal.code == Code::Denied && refusal.message.contains("only auditors may read"), "{refusal:?}");
    assert!(sandbox.log("gateway").iter().any(|e| e["event"] == "caller.refused" && e["caller"] == "analyst-1"));

    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    let ca = read(sandbox.layout.ca().join("ca.pem"));
    let identity = |folder: PathBuf, name: &str| {
        Some(Identity::from_pem(read(folder.join(format!("{name}.pem"))), read(folder.join(format!("{name}.key.pem")))))
    };
    let nodes_key = key(&sandbox.layout.node("dfe").join("log"));
    let by_gateway = node(&sandbox, "dfe", identity(sandbox.layout.gateway().join("tls"), "client"), &ca).await.unwrap();
    proofs(by_gateway, None, &nodes_key).await;
    assert!(reads("dfe").is_empty(), "what the gateway looks at brings no entries, which it would look at again");
    let administrator = identity(sandbox.layout.node("dfe").join("tls"), "administrator");
    proofs(node(&sandbox, "dfe", administrator, &ca).await.unwrap(), None, &nodes_key).await;
    let read = reads("dfe");
    assert!(read.len() == 3 && read.iter().all(|e| e["certificate"].is_string()), "{read:?}");
    assert!(sandbox.log("dfe").iter().any(|e| e["event"] == "log.refused" && e["code"] == "invalid"));
}
