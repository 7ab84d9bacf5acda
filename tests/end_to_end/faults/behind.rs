//! A node that signs receipts and shows nobody the log of which they speak.

use std::time::Duration;

use concordat_policy::Code;

use super::peer::{Peer, ROWS, Script};
use crate::sandbox::{Sandbox, refused};
use crate::unwitnessed::at_most;
use crate::witness::{all_seen, at_rest};

const DFE: &str = "SELECT count(*) AS n FROM dfe.attainment";

#[tokio::test]
async fn a_node_whose_log_stays_behind_its_receipts_is_not_used_and_a_restart_forgets_nothing() {
    let mut sandbox = Sandbox::with(300, |_| {}, |layout| at_most(layout, "8s")).await;
    sandbox.query("SELECT count(*) AS n FROM dwp.claims").await.unwrap();
    let seen = sandbox.log("gateway").iter().rev().find_map(|e| e["facts"]["sources"][0]["consent_version"].as_u64()).unwrap();
    all_seen(&sandbox).await;
    at_rest(&sandbox).await;
    // It has the department's keys and certificate, and no log to show.
    let peer = Peer::instead_of_dwp(&mut sandbox, Script::ledger(0, seen + 5)).await;
    peer.says(&mut sandbox, Script::ledger(0, seen + 5)).await;
    sandbox.query(ROWS).await.unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let behind = |outcome| {
        let failure = refused(outcome, Code::Unwitnessed, "has not shown the gateway's witness a checkpoint");
        assert_eq!(failure.department.as_deref(), Some("dwp"));
        let told = format!("{} {}", failure.message, failure.advice.unwrap_or_default());
        for said in ["'opportunity' of dfe, ", "for more than 8 seconds", "acknowledge-log --department dwp"] {
            assert!(told.contains(said), "'{said}' is not in: {told}");
        }
    };
    behind(sandbox.query(ROWS).await.map(drop));
    sandbox.query(DFE).await.unwrap();
    sandbox.running.restart_gateway().await.unwrap();
    behind(sandbox.query(ROWS).await.map(drop));
}
