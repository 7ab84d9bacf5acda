//! Backups that were restored: an older consent ledger is noticed by the gateway whatever the node itself remembers, refused, and
//! used again only after the department has acknowledged it.

use std::process::{Command, Output, Stdio};

use concordat_policy::Code;
use concordat_proto::receipt::Standing;
use serde_json::Value;

use super::peer::{Peer, ROWS, Script};
use crate::consent::record;
use crate::sandbox::{Sandbox, copied, program, refused};

const HEALTH: &str = "SELECT count(*) AS n FROM dhsc.health";

fn acknowledge(sandbox: &Sandbox, department: &str, arguments: &[&str]) -> Output {
    let config = sandbox.layout.node(department).join("node.toml");
    let mut command = Command::new(program());
    command.args(["node", "acknowledge-restore"]).args(arguments).arg("--config").arg(config).stdin(Stdio::null());
    command.output().unwrap()
}

fn of<'l>(log: &'l [Value], event: &str) -> Vec<&'l Value> {
    log.iter().filter(|entry| entry["event"] == event).collect()
}

async fn version(sandbox: &Sandbox) -> (u64, Option<u64>) {
    let answer = sandbox.query(HEALTH).await.unwrap();
    let source = &answer.summary["sources"][0];
    (source["consent_version"].as_u64().unwrap(), source["consent_generation"].as_u64())
}

#[tokio::test]
async fn yesterdays_backup_of_a_whole_node_is_refused_until_it_is_acknowledged() {
    let mut sandbox = Sandbox::start(500).await;
    let (state, saved) = (sandbox.layout.node("dhsc").join("state"), tempfile::tempdir().unwrap());
    let saved = saved.path().join("state");
    let (first, _) = version(&sandbox).await;
    sandbox.running.kill("dhsc");
    copied(&state, &saved);
    sandbox.running.restart_node("dhsc").await.unwrap();
    for _ in 0..3 {
        record(&sandbox, "dhsc", "opportunity", "withdrawn", &sandbox.sample.somebody().unwrap());
    }
    assert_eq!(version(&sandbox).await, (first + 3, None));

    // The folder comes back with everything that the node itself remembers.
    sandbox.running.kill("dhsc");
    std::fs::remove_dir_all(&state).unwrap();
    copied(&saved, &state);
    sandbox.running.restart_node("dhsc").await.unwrap();
    let restored = |outcome| {
        let failure = refused(outcome, Code::NodeFaulty, "a backup was restored");
        assert_eq!(failure.department.as_deref(), Some("dhsc"));
        assert!(failure.message.contains("concordat-node acknowledge-restore --config node.toml"), "{failure:?}");
    };
    restored(sandbox.query(HEALTH).await.map(drop));
    sandbox.running.restart_gateway().await.unwrap();
    restored(sandbox.query(HEALTH).await.map(drop));
    let departments = sandbox.client().await.departments().await.unwrap();
    let dhsc = departments.iter().find(|d| d.id == "dhsc").unwrap();
    assert!(!dhsc.reachable && dhsc.fault.contains("a backup was restored"), "{dhsc:?}");
    sandbox.query("SELECT count(*) AS n FROM dfe.attainment").await.unwrap();
    let log = sandbox.log("gateway");
    let entry = of(&log, "ledger.refused")[0].clone();
    assert_eq!((&entry["department"], &entry["seen_version"], &entry["version"]), (&"dhsc".into(), &(first + 3).into(), &first.into()));

    // Nobody accepts by mistake.
    let asked = acknowledge(&sandbox, "dhsc", &[]);
    assert!(!asked.status.success());
    let said = String::from_utf8(asked.stderr).unwrap();
    assert!(said.contains(&format!("'dhsc' is at version {first} of generation 0")) && said.contains("--yes"), "{said}");
    restored(sandbox.query(HEALTH).await.map(drop));

    let accepted = acknowledge(&sandbox, "dhsc", &["--yes"]);
    assert!(accepted.status.success(), "{accepted:?}");
    assert_eq!(version(&sandbox).await, (first, Some(1)), "the running node honours it at once");
    // A version of the generation before says nothing now, however small it is.
    for (least, vouched) in [(format!("dhsc={first}"), false), (format!("dhsc=1.{first}"), true), ("dhsc=2.0".to_owned(), false)] {
        let outcome = sandbox.client().await.at_least(std::slice::from_ref(&least)).query(HEALTH).await;
        if vouched {
            outcome.unwrap();
        } else {
            refused(outcome, Code::Outdated, "of generation 1 of the consent ledger of 'dhsc'");
        }
    }
    let log = sandbox.log("gateway");
    let entry = of(&log, "ledger.restored")[0];
    assert_eq!((&entry["seen_generation"], &entry["generation"], &entry["version"]), (&0.into(), &1.into(), &first.into()), "{entry}");
    let own = sandbox.log("dhsc");
    let entry = of(&own, "ledger.restored")[0];
    assert_eq!((&entry["generation"], &entry["consent_version"]), (&1.into(), &first.into()), "{entry}");
    let released = own.iter().rposition(|e| e["event"] == "release.intended").unwrap();
    assert!(own.iter().position(|e| e["event"] == "ledger.restored").unwrap() < released, "logged before it was used");
    record(&sandbox, "dhsc", "opportunity", "withdrawn", &sandbox.sample.somebody().unwrap());
    assert_eq!(version(&sandbox).await, (first + 1, Some(1)));
    sandbox.running.restart_gateway().await.unwrap();
    assert_eq!(version(&sandbox).await, (first + 1, Some(1)));
    assert_eq!(of(&sandbox.log("gateway"), "ledger.restored").len(), 1);
}

#[tokio::test]
async fn a_ledger_that_the_node_itself_refuses_is_released_by_the_same_command() {
    let mut sandbox = Sandbox::start(300).await;
    let state = sandbox.layout.node("dhsc").join("state");
    let (first, _) = version(&sandbox).await;
    sandbox.running.kill("dhsc");
    std::fs::write(state.join("consent-version"), format!("{}\n", first + 40)).unwrap();
    sandbox.running.restart_node("dhsc").await.unwrap();
    refused(sandbox.query(HEALTH).await, Code::NodeRefused, "acknowledge-restore");
    let accepted = acknowledge(&sandbox, "dhsc", &["--yes"]);
    let said = String::from_utf8(accepted.stderr).unwrap();
    assert!(accepted.status.success() && said.contains("40 records are missing for certain"), "{said}");
    assert_eq!(version(&sandbox).await, (first, Some(1)));
}

#[tokio::test]
async fn a_node_cannot_go_back_nor_leap_whatever_it_signs() {
    let mut sandbox = Sandbox::start(300).await;
    sandbox.query("SELECT count(*) AS n FROM dwp.claims").await.unwrap();
    let seen = sandbox.log("gateway").iter().rev().find_map(|e| e["facts"]["sources"][0]["consent_version"].as_u64()).unwrap();
    let peer = Peer::instead_of_dwp(&mut sandbox, Script::ledger(0, seen + 5)).await;
    let steps: [(u32, u64, Option<&str>); 9] = [
        (0, seen + 5, None),
        (0, seen + 4, Some("a backup was restored")),
        (0, seen + 6, None),
        (1, 2, None),
        (0, seen + 6, Some("a backup was restored")),
        (0, u64::MAX, Some("a backup was restored")),
        (102, 2, Some("more backups")),
        (u32::MAX, 0, Some("more backups")),
        (4, 0, None),
    ];
    for (generation, version, wrong) in steps {
        peer.says(&mut sandbox, Script::ledger(generation, version)).await;
        let outcome = sandbox.query(ROWS).await;
        match wrong {
            None => drop(outcome.unwrap_or_else(|failure| panic!("({generation}, {version}): {failure:?}"))),
            Some(says) => {
                let failure = refused(outcome, Code::NodeFaulty, says);
                assert_eq!(failure.department.as_deref(), Some("dwp"));
            }
        }
    }
    let log = sandbox.log("gateway");
    assert_eq!((of(&log, "ledger.restored").len(), of(&log, "ledger.refused").len()), (2, 5), "each stands in the log");

    // It describes itself well, and signs for an older one: the receipt counts.
    let (described, applied) = (Standing { generation: 4, version: 9 }, Standing { generation: 3, version: 700 });
    peer.now_says(Script { described, applied, ..Script::of_version(2) });
    refused(sandbox.query(ROWS).await, Code::NodeFaulty, "a backup was restored");
    // Speaking an older contract, in which there are no generations, is no way around it.
    peer.says(&mut sandbox, Script { described: applied, applied, ..Script::of_version(1) }).await;
    refused(sandbox.query(ROWS).await, Code::NodeFaulty, "a backup was restored");
    peer.says(&mut sandbox, Script::ledger(4, 9)).await;
    sandbox.query(ROWS).await.unwrap();
}
