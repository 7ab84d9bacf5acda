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
    assert!(same.exit == 0 && same.stdout.is_empty() && same.stderr.contains("2 orders compared, 0 differences"), "{}", same.stderr);

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
