//! Access logs read by the real program: listed, one query told by all sides, and both sides compared.

use std::fs;
use std::path::Path;

use concordat::failure::LOCAL;
use serde_json::Value;

use crate::commands::{Ran, command};
use crate::sandbox::Sandbox;

const JOINED: &str = "SELECT a.region, count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region";
const DEPARTMENTS: [&str; 2] = ["dfe", "dwp"];

fn audit(arguments: &[&str]) -> Ran {
    command(["audit"].iter().chain(arguments)).output().unwrap().into()
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn node(department: &str, log: &Path) -> String {
    format!("{department}={}", log.display())
}

#[tokio::test]
async fn a_query_is_listed_told_by_all_sides_and_reconciled() {
    let sandbox = Sandbox::start(1_000).await;
    let answer = sandbox.query(JOINED).await.unwrap();
    let id = answer.summary["query_id"].as_str().unwrap();
    sandbox.query("SELECT nothing FROM dfe.attainment").await.unwrap_err();
    let gateway = sandbox.layout.gateway().join("log");
    let gateway = gateway.to_str().unwrap();
    let nodes = DEPARTMENTS.map(|department| node(department, &sandbox.layout.node(department).join("log")));

    let listed = audit(&["list", "--log", gateway, "--department", "dwp", "--organisation", "mission-unit", "--output", "json"]);
    let listed = lines(&listed);
    assert!(listed.len() == 1 && listed[0]["event"] == "query.closed" && listed[0]["query_id"] == id, "{listed:?}");
    let denied = lines(&audit(&["list", "--log", gateway, "--decision", "deny", "--output", "json"]));
    assert!(denied.iter().any(|e| e["event"] == "query.refused" && e["caller"] == "analyst-1"), "{denied:?}");
    assert!(denied.iter().all(|e| e["query_id"] != id), "{denied:?}");
    let csv = audit(&["list", "--log", gateway, "--query-id", id, "--output", "csv"]);
    assert!(csv.exit == 0 && csv.text().starts_with("entry,time,event,") && csv.text().lines().count() == 3, "{}", csv.text());

    let shown = audit(&["show", id, "--log", gateway, "--node", &nodes[0], "--node", &nodes[1], "--output", "json"]);
    let told = lines(&shown);
    let events: Vec<(&str, &str)> =
        told.iter().map(|line| (line["log"].as_str().unwrap(), line["entry"]["event"].as_str().unwrap())).collect();
    assert!(events.first() == Some(&("gateway", "query.opened")) && events.last() == Some(&("gateway", "query.closed")), "{events:?}");
    for department in DEPARTMENTS {
        assert!(events.contains(&(department, "release.intended")) && events.contains(&(department, "release.completed")), "{events:?}");
    }
    let unknown = audit(&["show", "no-such-query", "--log", gateway]);
    assert!(unknown.exit == i32::from(LOCAL) && unknown.stderr.contains("no log that is named"), "{}", unknown.stderr);

    let compare = ["reconcile", "--gateway", gateway, "--node", &nodes[0], "--node", &nodes[1], "--output", "json"];
    let same = audit(&compare);
    assert!(
        same.exit == 0 && same.stdout.is_empty() && same.stderr.contains("2 orders compared, 0 differences: both sides say the same of 2"),
        "{}",
        same.stderr
    );

    // A department whose log tells other numbers, and one that tells nothing.
    let folder = tempfile::tempdir().unwrap();
    for (text, kind) in [(changed(&sandbox.log_text("dfe"), id), "rows"), (String::new(), "not_released")] {
        fs::write(folder.path().join("tail"), text).unwrap();
        let differ = audit(&["reconcile", "--gateway", gateway, "--node", &node("dfe", folder.path()), "--output", "json"]);
        let found = lines(&differ);
        assert!(differ.exit == i32::from(LOCAL) && found.len() == 1, "{found:?} {}", differ.stderr);
        assert_eq!((&found[0]["kind"], &found[0]["query_id"], &found[0]["department"]), (&kind.into(), &id.into(), &"dfe".into()));
    }
}

/// What `reconcile` finds, and how it ends.
fn reconciled(gateway: &Path, dfe: &Path) -> (Vec<Value>, u8) {
    let arguments = ["reconcile", "--gateway", gateway.to_str().unwrap(), "--node", &node("dfe", dfe), "--output", "json"];
    let ran = audit(&arguments);
    (lines(&ran), u8::try_from(ran.exit).unwrap())
}

/// A copy of a log in which entries of a query are others; nothing in the place of one that is left out.
fn edited(folder: &Path, log: &str, query_id: &str, change: impl Fn(&mut Value) -> bool) {
    let line = |line: &str| {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        if entry["query_id"] == query_id && !change(&mut entry) {
            entry = serde_json::json!({ "entry": entry["entry"], "time": entry["time"], "event": "something.else" });
        }
        format!("{entry}\n")
    };
    fs::write(folder.join("tail"), log.lines().map(line).collect::<String>()).unwrap();
}

#[tokio::test]
async fn every_difference_between_both_sides_is_found_and_says_what_each_says() {
    let sandbox = Sandbox::start(1_000).await;
    let answer = sandbox.query(JOINED).await.unwrap();
    let id = answer.summary["query_id"].as_str().unwrap();
    let (gateway, dfe) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let of = |event: &'static str, entry: &Value| entry["event"] == event;
    type Change<'c> = (&'c str, &'c dyn Fn(&mut Value) -> bool, &'c [&'c str], &'c str);
    let at_node: [Change<'_>; 8] = [
        ("as it is", &|_| true, &[], ""),
        ("no completion", &|e| !of("release.completed", e), &["not_completed", "rows"], "intended, and not ended"),
        ("one completion fewer", &|e| !(of("release.completed", e) && e["partition"] == 0), &["not_completed", "rows"], "partitions"),
        ("nothing", &|_| false, &["not_released"], "nothing"),
        (
            "abandoned",
            &|e| {
                if of("release.completed", e) {
                    (e["event"], e["cause"]) = ("release.abandoned".into(), "dropped".into());
                }
                true
            },
            &["not_completed", "rows"],
            "abandoned after",
        ),
        (
            "another consent version",
            &|e| {
                e["consent_version"] = 999_999.into();
                true
            },
            &["consent_version"],
            "999999",
        ),
        (
            "another text",
            &|e| {
                e["agreement_digest"] = "other".into();
                true
            },
            &["agreement_digest"],
            "other",
        ),
        (
            "older data",
            &|e| {
                if of("release.intended", e) {
                    e["freshness"] = 1.into();
                }
                true
            },
            &["freshness"],
            "1",
        ),
    ];
    edited(gateway.path(), &sandbox.log_text("gateway"), id, |_| true);
    for (case, change, kinds, says) in at_node {
        edited(dfe.path(), &sandbox.log_text("dfe"), id, change);
        let (found, exit) = reconciled(gateway.path(), dfe.path());
        assert_eq!(found.iter().map(|d| d["kind"].as_str().unwrap()).collect::<Vec<_>>(), kinds, "{case}: {found:?}");
        assert_eq!(exit, if kinds.is_empty() { 0 } else { LOCAL }, "{case}");
        assert!(found.is_empty() || found[0]["node"].as_str().unwrap().contains(says), "{case}: {found:?}");
        assert!(found.iter().all(|d| d["query_id"] == id && d["department"] == "dfe" && d["gateway"] != ""), "{case}: {found:?}");
    }
    let at_gateway: [Change<'_>; 4] = [
        ("never opened", &|_| false, &["not_received"], "never opened"),
        ("not ended", &|e| !of("query.closed", e), &["open"], "not ended"),
        (
            "refused",
            &|e| {
                if of("query.closed", e) {
                    (e["event"], e["code"]) = ("query.refused".into(), "cancelled".into());
                }
                true
            },
            &["discarded"],
            "refused: cancelled, by the gateway's own account",
        ),
        (
            "answered without it",
            &|e| {
                if of("query.closed", e) {
                    e["facts"]["sources"].as_array_mut().unwrap().retain(|source| source["department"] != "dfe");
                }
                true
            },
            &["not_received"],
            "answered without it",
        ),
    ];
    edited(dfe.path(), &sandbox.log_text("dfe"), id, |_| true);
    for (case, change, kinds, says) in at_gateway {
        edited(gateway.path(), &sandbox.log_text("gateway"), id, change);
        let (found, exit) = reconciled(gateway.path(), dfe.path());
        assert_eq!(found.iter().map(|d| d["kind"].as_str().unwrap()).collect::<Vec<_>>(), kinds, "{case}: {found:?}");
        assert_eq!(found[0]["gateway"], says, "{case}");
        assert_eq!(exit, if matches!(kinds, ["open" | "discarded"]) { 0 } else { LOCAL }, "{case}");
    }
}

/// A department that does not answer: what the others released meanwhile is listed, and no difference.
#[tokio::test]
async fn what_was_released_for_a_query_that_failed_is_no_difference() {
    let mut sandbox = Sandbox::start(500).await;
    sandbox.query(JOINED).await.unwrap();
    sandbox.running.kill("dwp");
    let failed = sandbox.query(JOINED).await.unwrap_err();
    sandbox.running.kill("gateway");
    let (found, exit) = reconciled(&sandbox.layout.gateway().join("log"), &sandbox.layout.node("dfe").join("log"));
    assert_eq!(exit, 0, "{found:?}");
    let query_id = failed.query_id.unwrap();
    assert!(
        found.iter().all(|d| matches!(d["kind"].as_str().unwrap(), "discarded" | "given_up") && d["query_id"] == query_id.as_str()),
        "{found:?}"
    );
}

/// A node's log in which each partition of a query's release has a row more.
fn changed(log: &str, query_id: &str) -> String {
    let change = |line: &str| {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        if entry["event"] == "release.completed" && entry["query_id"] == query_id {
            entry["rows"] = (entry["rows"].as_u64().unwrap() + 1).into();
        }
        format!("{entry}\n")
    };
    log.lines().map(change).collect()
}
