//! Entries of access logs read over the network: by auditors at the gateway and at nodes, and by nobody else; every reading is logged.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use concordat::client::LogDoor;
use concordat::failure::UNREACHABLE;
use concordat_audit::leaf_hash;
use concordat_policy::Code;
use concordat_proto::status::{exit_code, from_status};
use concordat_proto::v1;
use concordat_proto::v1::log_reading_client::LogReadingClient;
use serde_json::{Value, json};
use tonic::transport::Identity;

use crate::callers::auditor_of;
use crate::commands::{Ran, against, run};
use crate::receipts::{audited, auditor, client_of, with};
use crate::sandbox::{Sandbox, node, refused, until};
use crate::witness::until_cosigned;

const JOINED: &str = "SELECT a.region, count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region";
const SINGLE: &str = "SELECT count(*) AS n FROM dfe.attainment";

/// The file of an auditor's token, for the command line.
fn token_file(sandbox: &Sandbox, organisation: &str) -> String {
    let path = sandbox.layout.folder().join(format!("{organisation}.jwt"));
    std::fs::write(&path, auditor(sandbox, organisation)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn door(sandbox: &Sandbox, token: String) -> LogDoor {
    LogDoor::Gateway(Box::new(client_of(sandbox, token).await))
}

fn listing(fields: &[(&'static str, &str)]) -> v1::LogListRequest {
    let filter = v1::LogFilter::of(fields.iter().map(|(name, text)| (*name, (*text).to_owned())));
    v1::LogListRequest { filter: Some(filter), ..v1::LogListRequest::default() }
}

fn objects(entries: &[v1::LogEntry]) -> Vec<Value> {
    entries.iter().map(|entry| serde_json::from_slice(&entry.entry).unwrap()).collect()
}

/// Waits until a log has checkpoints over all that it has now: only such entries are handed out.
async fn covered(sandbox: &Sandbox, log: &str) {
    if log == "gateway" {
        // What was cosigned the program knows to be published; its file is there a moment before.
        return until_cosigned(sandbox, log, &[]).await;
    }
    let (count, folder) = (sandbox.log(log).len() as u64, sandbox.layout.node(log));
    let size = move || {
        let checkpoint = std::fs::read_to_string(folder.join("log/checkpoint")).unwrap();
        checkpoint.lines().nth(1).unwrap().parse::<u64>().unwrap()
    };
    until("a checkpoint covers everything", move || size() >= count).await;
}

fn reads(sandbox: &Sandbox, log: &str) -> Vec<Value> {
    sandbox.log(log).into_iter().filter(|entry| entry["event"] == "log.read").collect()
}

#[tokio::test]
async fn an_auditor_lists_shows_and_tails_the_gateways_log_and_each_reading_is_logged() {
    let sandbox = audited(500).await;
    let answer = sandbox.query(JOINED).await.unwrap();
    let id = answer.summary["query_id"].as_str().unwrap().to_owned();
    sandbox.query("SELECT nothing FROM dfe.attainment").await.unwrap_err();
    covered(&sandbox, "gateway").await;
    let token = token_file(&sandbox, "audit-office");
    let audit = |arguments: &[&str]| run(&sandbox, &[&["audit"][..], arguments, &["--token-file", token.as_str()]].concat());

    // The same as reading the folder.
    let log = sandbox.layout.gateway().join("log");
    let log = log.to_str().unwrap();
    let filters: [&[&str]; 5] = [
        &["--organisation", "mission-unit", "--event", "query.closed"],
        &["--decision", "deny", "--event", "query.refused"],
        &["--dataset", "dwp.claims"],
        &["--purpose", "opportunity.measure", "--department", "dfe"],
        &["--query-id", &id],
    ];
    for filter in filters {
        let asked = [&["list"][..], filter, &["--output", "json"]].concat();
        let online = audit(&asked);
        assert_eq!(online.exit, 0, "{}", online.stderr);
        let from_files: Vec<Value> = lines(&run(&sandbox, &[&["audit"][..], asked.as_slice(), &["--log", log]].concat()));
        let named = |entry: &Value| {
            let mut entry = entry.clone();
            entry.as_object_mut().unwrap().remove("caller");
            entry
        };
        // Who the caller is tells the store beside the log, which no program hands out.
        let expected: Vec<Value> = from_files.iter().filter(|entry| entry["event"] != "log.read").map(named).collect();
        let told: Vec<Value> = lines(&online).into_iter().filter(|entry| entry["event"] != "log.read").collect();
        assert!(!expected.is_empty() && told == expected, "{filter:?}: {told:?} {expected:?}");
    }
    let read = reads(&sandbox, "gateway");
    let shapes: Vec<(Value, Value)> = read.iter().map(|e| (e["what"].clone(), e["filter"].clone())).collect();
    assert_eq!(shapes.len(), filters.len());
    assert_eq!(shapes[0], (json!("list"), json!(["organisation", "event"])));
    assert!(read.iter().all(|e| e["caller"] == "auditor-1" && e["entries"].is_u64() && e["organisation"] == "audit-office"), "{read:?}");
    assert!(!sandbox.log_text("gateway").lines().any(|line| line.contains("log.read") && line.contains("mission-unit")), "only the shape");

    let csv = audit(&["list", "--limit", "1", "--event", "query.opened", "--output", "csv"]);
    assert!(csv.exit == 0 && csv.text().lines().count() == 2 && csv.stderr.contains("--limit"), "{} {}", csv.text(), csv.stderr);

    // One query, as every side tells it: by the gateway's token, and the certificates that lie in the folder.
    let shown = audit(&["show", &id, "--output", "json"]);
    assert_eq!(shown.exit, 0, "{}", shown.stderr);
    let told = lines(&shown);
    let events: Vec<(&str, &str)> =
        told.iter().map(|line| (line["log"].as_str().unwrap(), line["entry"]["event"].as_str().unwrap())).collect();
    assert_eq!(events.first(), Some(&("gateway", "query.opened")), "{events:?}");
    for expected in [("dfe", "release.intended"), ("dwp", "release.completed"), ("gateway", "query.closed")] {
        assert!(events.contains(&expected), "{events:?}");
    }
    let times: Vec<i64> = told.iter().map(|line| line["after_milliseconds"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");

    // What comes.
    let mut child = against(
        &sandbox,
        &["audit", "tail", "--lines", "0", "--follow", "--event", "query.closed", "--output", "json", "--token-file", &token],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    until("the tail is logged", || reads(&sandbox, "gateway").iter().any(|e| e["what"] == "tail")).await;
    let next = sandbox.query(SINGLE).await.unwrap().summary["query_id"].as_str().unwrap().to_owned();
    // What describes the statement is closed first, and has an id of its own.
    let (mut come, mut lines) = (Vec::<Value>::new(), BufReader::new(child.stdout.take().unwrap()).lines());
    while come.last().is_none_or(|entry| entry["query_id"] != json!(next)) {
        assert!(come.len() < 3, "{come:?}");
        come.push(serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap());
    }
    assert!(come.iter().all(|entry| entry["event"] == "query.closed" && entry["organisation"] == "mission-unit"), "{come:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    until("its end is logged", || reads(&sandbox, "gateway").iter().any(|e| e["what"] == "tail.ended" && e["entries"] == come.len())).await;
}

#[tokio::test]
async fn what_is_handed_out_are_the_bytes_that_the_tree_was_built_over() {
    let sandbox = audited(300).await;
    sandbox.query(SINGLE).await.unwrap();
    covered(&sandbox, "gateway").await;
    let door = door(&sandbox, auditor(&sandbox, "audit-office")).await;
    let first = door.list(v1::LogListRequest { limit: 2, ..v1::LogListRequest::default() }).await.unwrap();
    assert!(first.entries.len() == 2 && first.entries[0].number == first.number && first.origin == "concordat/gateway", "{first:?}");
    let rest = door.list(v1::LogListRequest { limit: 1_000, before: first.before, ..v1::LogListRequest::default() }).await.unwrap();
    let numbers: Vec<u64> = first.entries.iter().chain(&rest.entries).map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=first.number).rev().collect::<Vec<_>>(), "page by page, none twice and none left out");
    assert_eq!(rest.before, 0);
    let entries: Vec<Vec<u8>> =
        concordat_audit::read(&sandbox.layout.gateway().join("log"), 0).unwrap().map(|entry| entry.unwrap().1).collect();
    for told in first.entries.iter().chain(&rest.entries) {
        let index = usize::try_from(told.number).unwrap() - 1;
        assert!(told.whole && leaf_hash(&told.entry) == leaf_hash(&entries[index]), "{}", told.number);
    }
    for (asked, says) in [
        (listing(&[("from", "yesterday")]), "from is a time"),
        (listing(&[("person", "analyst-1")]), "person is 12 to 64"),
        (listing(&[("decision", "perhaps")]), "permit or deny"),
        (v1::LogListRequest { limit: 1_001, ..v1::LogListRequest::default() }, "at most 1,000"),
    ] {
        refused(door.list(asked).await, Code::Invalid, says);
    }
    refused(door.query("", 0).await, Code::Invalid, "no query is named");
    assert!(door.query("018bcfe5-6800-7abc-8def-012345678901", 0).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_departments_auditor_sees_what_concerns_it_without_other_departments_numbers() {
    let sandbox = audited(500).await;
    let joined = sandbox.query(JOINED).await.unwrap().summary["query_id"].as_str().unwrap().to_owned();
    let single = sandbox.query(SINGLE).await.unwrap().summary["query_id"].as_str().unwrap().to_owned();
    covered(&sandbox, "gateway").await;
    let dwp = door(&sandbox, auditor(&sandbox, "dwp")).await;
    let listed = dwp.list(listing(&[("event", "query.closed")])).await.unwrap();
    let closed = objects(&listed.entries);
    assert_eq!(closed.iter().map(|e| e["query_id"].as_str().unwrap()).collect::<Vec<_>>(), [joined.as_str()], "{closed:?}");
    assert!(listed.entries.iter().all(|entry| !entry.whole && entry.organisation == "mission-unit"));
    for department in ["dfe", "dwp"] {
        let sources = closed[0]["facts"]["sources"].as_array().unwrap();
        let source = sources.iter().find(|source| source["department"] == department).unwrap();
        assert_eq!(source["rows"].is_u64(), department == "dwp", "{source}");
        assert!(source["consent_version"].is_u64() && source.get("matched").is_none(), "{source}");
    }
    let of_query = dwp.query(&joined, 0).await.unwrap().entries;
    let shown = objects(&of_query);
    assert_eq!(shown[0]["event"], "query.opened", "who asked, and for what, belongs to it: {shown:?}");
    assert!(shown.iter().all(|e| e.get("salt").is_none() && e.get("token").is_none()), "{shown:?}");
    // So does a page of earlier entries, though the department may be named in none of these.
    let earlier = objects(&dwp.query(&joined, of_query[1].number).await.unwrap().entries);
    assert_eq!(earlier, shown[..1]);
    assert!(dwp.query(&single, 1_000).await.unwrap().entries.is_empty());
    // Another department's query and none are the same.
    assert!(dwp.query(&single, 0).await.unwrap().entries.is_empty());
    assert!(dwp.query("018bcfe5-6800-7abc-8def-012345678901", 0).await.unwrap().entries.is_empty());
    let mut coming = dwp.tail(v1::LogTailRequest { after: Some(0), filter: None }).await.unwrap();
    let mut told = Vec::new();
    while told.is_empty() {
        told.extend(objects(&coming.message().await.unwrap().unwrap().entries));
    }
    assert!(told.iter().any(|e| e["query_id"] == joined.as_str()) && told.iter().all(|e| e["query_id"] != single.as_str()), "{told:?}");
    assert!(told.iter().all(|e| e.get("salt").is_none()), "{told:?}");
    // The gateway's own auditor sees all of it.
    let all = door(&sandbox, auditor(&sandbox, "audit-office")).await.query(&joined, 0).await.unwrap();
    let closed = objects(&all.entries).into_iter().find(|e| e["event"] == "query.closed").unwrap();
    assert!(closed["facts"]["sources"].as_array().unwrap().iter().all(|source| source["rows"].is_u64()), "{closed}");
}

#[tokio::test]
async fn who_is_no_auditor_is_refused_with_a_reason_and_logged() {
    let sandbox = audited(300).await;
    covered(&sandbox, "gateway").await;
    for token in [sandbox.token(), auditor(&sandbox, "other-office")] {
        let door = door(&sandbox, token).await;
        refused(door.list(v1::LogListRequest::default()).await, Code::Denied, "only auditors may read");
        refused(door.query("q", 0).await, Code::Denied, "only auditors may read");
        refused(door.tail(v1::LogTailRequest::default()).await, Code::Denied, "only auditors may read");
    }
    for who in ["analyst-1", "auditor-1"] {
        let log = sandbox.log("gateway");
        let refusals = log.iter().filter(|e| e["event"] == "caller.refused" && e["caller"] == who && e["code"] == "denied").count();
        assert_eq!(refusals, 3, "{who}");
    }
    assert!(reads(&sandbox, "gateway").is_empty(), "who was refused has read nothing");
    let ran = run(&sandbox, &["audit", "list"]);
    assert!(ran.exit == i32::from(exit_code(Code::Denied)) && ran.stderr.contains("[[auditors]]"), "{}", ran.stderr);
}

#[tokio::test]
async fn one_auditor_reads_twice_at_once_and_no_more() {
    let sandbox = audited(300).await;
    let office = door(&sandbox, auditor(&sandbox, "audit-office")).await;
    let tail = || office.tail(v1::LogTailRequest::default());
    let (mut one, two) = (tail().await.unwrap(), tail().await.unwrap());
    assert!(one.message().await.unwrap().is_some(), "the first message comes at once");
    refused(tail().await, Code::LimitExceeded, "2 times at once");
    refused(office.list(v1::LogListRequest::default()).await, Code::LimitExceeded, "2 times at once");
    // Others are not kept waiting by that, and nobody's queries are.
    door(&sandbox, auditor(&sandbox, "dwp")).await.list(v1::LogListRequest::default()).await.unwrap();
    sandbox.query(SINGLE).await.unwrap();
    drop(two);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while office.list(v1::LogListRequest::default()).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "a place that was left stays taken");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // A gateway that stops ends what it hands on, and says in its log how much that was.
    sandbox.drained().await;
    while let Ok(Some(_)) = one.message().await {}
    assert_eq!(reads(&sandbox, "gateway").iter().filter(|e| e["what"] == "tail.ended").count(), 2);
}

#[tokio::test]
async fn a_nodes_log_is_read_by_its_own_auditor_and_administrator_only() {
    let sandbox = audited(500).await;
    let id = sandbox.query(JOINED).await.unwrap().summary["query_id"].as_str().unwrap().to_owned();
    let auditor = auditor_of(&sandbox, "dfe").await;
    covered(&sandbox, "dfe").await;
    let text = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let ca = text(sandbox.layout.ca().join("ca.pem"));
    let identity = |folder: std::path::PathBuf, name: &str| {
        Identity::from_pem(text(folder.join(format!("{name}.pem"))), text(folder.join(format!("{name}.key.pem"))))
    };
    let mut client = LogReadingClient::new(node(&sandbox, "dfe", Some(auditor.clone()), &ca).await.unwrap());
    let listed = client.list(listing(&[("event", "release.completed"), ("dataset", "attainment")])).await.unwrap().into_inner();
    let completed = objects(&listed.entries);
    assert!(!completed.is_empty() && completed.iter().all(|e| e["query_id"] == id.as_str() && e["rows"].is_u64()), "{completed:?}");
    assert!(listed.origin == "concordat/dfe/node" && listed.entries.iter().all(|entry| entry.whole));
    let of_query = client.query(v1::LogQueryRequest { query_id: id.clone(), before: 0 }).await.unwrap().into_inner();
    assert_eq!(objects(&of_query.entries)[0]["event"], "release.intended", "in order");
    let mut coming = client.tail(v1::LogTailRequest { after: Some(0), filter: None }).await.unwrap().into_inner();
    assert!(!coming.message().await.unwrap().unwrap().entries.is_empty());
    drop(coming);
    until("its end is logged", || reads(&sandbox, "dfe").iter().any(|e| e["what"] == "tail.ended")).await;
    let read = reads(&sandbox, "dfe");
    assert_eq!(read.iter().map(|e| e["what"].as_str().unwrap()).collect::<Vec<_>>(), ["list", "query", "tail", "tail.ended"]);
    assert!(read.iter().all(|e| e["certificate"].is_string()) && read[0]["filter"] == json!(["dataset", "event"]), "{read:?}");

    // An auditor only reads; the gateway, and other departments, do not.
    let own = sandbox.layout.node("dwp").join("tls");
    for (what, identity) in [
        ("the gateway", identity(sandbox.layout.gateway().join("tls"), "client")),
        ("another department's administrator", identity(own, "administrator")),
    ] {
        let mut client = LogReadingClient::new(node(&sandbox, "dfe", Some(identity), &ca).await.unwrap());
        let refusal = from_status(&client.list(v1::LogListRequest::default()).await.unwrap_err()).unwrap();
        assert!(refusal.code == Code::Unauthenticated && refusal.message.contains("administrators and auditors"), "{what}: {refusal:?}");
    }
    assert!(sandbox.log("dfe").iter().filter(|e| e["event"] == "log.refused" && e["code"] == "unauthenticated").count() >= 2);
    let refused = client.list(with(listing(&[("to", "tomorrow")]), None)).await.unwrap_err();
    assert_eq!(from_status(&refused).unwrap().code, Code::Invalid);

    // On the command line, by the administrator's certificate that lies in the node's folder.
    let ran = run(&sandbox, &["audit", "list", "--at", "dfe", "--event", "release.completed", "--output", "json"]);
    assert!(ran.exit == 0 && lines(&ran).iter().all(|e| e["event"] == "release.completed") && !ran.stdout.is_empty(), "{}", ran.stderr);
    let unknown = run(&sandbox, &["audit", "list", "--at", "moj"]);
    assert!(unknown.exit != 0 && unknown.stderr.contains("known: ") && unknown.stderr.contains("dfe"), "{}", unknown.stderr);
    let now = with(v1::LogTailRequest::default(), None);
    let first = client.tail(now).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(first.entries.is_empty() && first.number > 0, "only what comes: {first:?}");
}

#[tokio::test]
async fn a_trial_has_an_auditor_for_every_log() {
    let of_sample = |federation: &mut concordat::federation::Federation| {
        federation.auditor = concordat::sample::federation(chrono::Utc::now().date_naive()).auditor;
    };
    let sandbox = Sandbox::with(300, of_sample, |_| {}).await;
    sandbox.query(SINGLE).await.unwrap();
    let refusal = sandbox.query("SELECT nothing FROM dfe.attainment").await.unwrap_err();
    covered(&sandbox, "gateway").await;
    covered(&sandbox, "dfe").await;
    let denied = run(&sandbox, &["audit", "list", "--decision", "deny", "--output", "json"]);
    assert!(denied.exit == 0 && lines(&denied).iter().any(|e| e["event"] == "query.refused"), "{} {}", denied.text(), denied.stderr);
    assert!(reads(&sandbox, "gateway").iter().all(|e| e["caller"] == "auditor-1" && e["organisation"] == "audit-office"));
    let released = run(&sandbox, &["audit", "list", "--at", "dfe", "--event", "release.completed", "--output", "json"]);
    assert!(released.exit == 0 && !released.stdout.is_empty(), "{}", released.stderr);
    // By the auditor's certificate, which may do nothing else.
    let config = std::fs::read_to_string(sandbox.layout.node("dfe").join("node.toml")).unwrap();
    let auditors: toml::Table = config.parse().unwrap();
    assert_eq!(reads(&sandbox, "dfe")[0]["certificate"].as_str(), auditors["auditors"]["certificates"][0].as_str());
    assert_ne!(auditors["auditors"], auditors["administrators"]);
    // A receipt with the entry itself, which who asked does not get.
    let receipt = |more: &[&str]| {
        let always = ["audit", "receipt", refusal.query_id.as_deref().unwrap(), "--cosignatures", "0"];
        let ran = run(&sandbox, &[&always[..], more].concat());
        assert_eq!(ran.exit, 0, "{}", ran.stderr);
        ran.stdout
    };
    assert!(receipt(&["--as-auditor"]).len() > receipt(&[]).len());
    // Nobody else is one for that.
    refused(door(&sandbox, sandbox.token()).await.list(v1::LogListRequest::default()).await, Code::Denied, "only auditors may read");
}

#[tokio::test]
async fn a_timeline_says_whose_log_could_not_be_read() {
    let mut sandbox = audited(300).await;
    let id = sandbox.query(JOINED).await.unwrap().summary["query_id"].as_str().unwrap().to_owned();
    covered(&sandbox, "gateway").await;
    covered(&sandbox, "dfe").await;
    sandbox.running.kill("dwp");
    let token = token_file(&sandbox, "audit-office");
    let shown = run(&sandbox, &["audit", "show", &id, "--output", "json", "--token-file", &token]);
    assert!(shown.exit == i32::from(UNREACHABLE) && shown.stderr.contains("dwp"), "{} {}", shown.exit, shown.stderr);
    let told = lines(&shown);
    assert!(told.iter().any(|line| line["log"] == "dfe" && line["entry"]["event"] == "release.completed"), "{told:?}");
    assert!(told.iter().any(|line| line["log"] == "dwp" && line["unread"].is_string()), "{told:?}");
    let table = run(&sandbox, &["audit", "show", &id, "--token-file", &token]);
    assert!(
        table.exit == i32::from(UNREACHABLE) && table.text().contains("query.closed") && table.stderr.contains("dwp"),
        "{}",
        table.stderr
    );
}

#[tokio::test]
async fn an_index_that_somebody_edits_hides_nothing_from_an_auditor_and_the_log_tells_of_it() {
    let sandbox = audited(300).await;
    sandbox.query(SINGLE).await.unwrap();
    covered(&sandbox, "gateway").await;
    let office = door(&sandbox, auditor(&sandbox, "audit-office")).await;
    let asked = || listing(&[("event", "query.closed"), ("organisation", "mission-unit")]);
    let before = office.list(asked()).await.unwrap().entries;
    // What describes the statement, and what answers it.
    assert_eq!(before.len(), 2);
    let path = sandbox.layout.gateway().join("log/index.sqlite");
    let edit = || {
        let connection = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.execute("UPDATE entries SET organisation = 'nobody' WHERE event = 'query.closed'", [])
    };
    until("the index has the entries, and somebody has edited them", || edit() == Ok(2)).await;
    until("the log tells of it", || sandbox.log("gateway").iter().any(|e| e["event"] == "log.reindexed" && e["cause"] == "edited")).await;
    assert_eq!(office.list(asked()).await.unwrap().entries, before);
}
