//! A gateway that orders and shows no more of its log: departments' nodes keep the agreement's `max_unwitnessed` themselves.

use std::time::{Duration, Instant};

use concordat_policy::Code;
use concordat_proto::status::from_status;
use serde_json::Value;

use crate::operations::watch::{append, endpoint, get};
use crate::orders::Rogue;
use crate::sandbox::{Sandbox, until};
use crate::unwitnessed::at_most;
use crate::witness::{all_seen, at_rest};

const CLAIMS: &str = "SELECT count(*) AS n FROM dwp.claims";

fn of(sandbox: &Sandbox, log: &str, event: &str) -> Vec<Value> {
    sandbox.log(log).into_iter().filter(|entry| entry["event"] == event).collect()
}

impl Rogue {
    /// Orders DWP's claims, as a gateway does that is no more to be seen. The code of the refusal, and what it says.
    async fn orders(&self, id: &str) -> Result<(), (Code, String)> {
        let request = self.request();
        let placed = self.place("dwp", &self.order(&request, id), &request, &self.key).await;
        placed.map(drop).map_err(|status| (from_status(&status).expect("a refusal of our own").code, status.message().to_owned()))
    }
}

#[tokio::test]
async fn a_gateway_that_stops_showing_its_log_gets_no_more_releases_until_it_shows_it() {
    let mut rogue = Rogue::with(|layout| at_most(layout, "8s")).await;
    // Each order states the entry that opened its query, and the department's log keeps it.
    let answer = rogue.sandbox.query(CLAIMS).await.unwrap();
    let id = answer.summary["query_id"].clone();
    let opened = of(&rogue.sandbox, "gateway", "query.opened").into_iter().find(|entry| entry["query_id"] == id).unwrap();
    let intended = of(&rogue.sandbox, "dwp", "release.intended").into_iter().find(|entry| entry["query_id"] == id).unwrap();
    assert_eq!(intended["opened_by"], opened["entry"]);

    // What was shown is paid, however long nothing is ordered; and nothing is left that departments have not seen of the gateway's log.
    all_seen(&rogue.sandbox).await;
    at_rest(&rogue.sandbox).await;
    rogue.sandbox.running.kill("gateway");
    tokio::time::sleep(Duration::from_secs(10)).await;
    rogue.orders("first").await.expect("the first order of a morning");
    rogue.orders("second").await.expect("before the time that is agreed");
    let since = Instant::now();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let refused = |outcome: Result<(), (Code, String)>| {
        let (code, says) = outcome.expect_err("it shows its log to nobody");
        assert_eq!(code, Code::Unwitnessed, "{says}");
        for part in ["has not shown this department's witness", "'opportunity' of dfe, ", "for more than 8 seconds", "acknowledge-log"] {
            assert!(says.contains(part), "'{part}' is not in: {says}");
        }
    };
    refused(rogue.orders("third").await);
    // A node that starts anew remembers.
    rogue.sandbox.running.restart_node("dwp").await.unwrap();
    refused(rogue.orders("fourth").await);
    assert!(since.elapsed() < Duration::from_secs(120), "it was long enough before the agreed time");
    let entries = of(&rogue.sandbox, "dwp", "order.refused");
    assert!(entries.len() == 2 && entries.iter().all(|entry| entry["code"] == "unwitnessed"), "{entries:?}");

    // An honest gateway shows its log before anybody notices that the node waited for it.
    rogue.sandbox.running.restart_gateway().await.unwrap();
    rogue.sandbox.query(CLAIMS).await.unwrap();
    rogue.orders("fifth").await.unwrap();
}

#[tokio::test]
async fn an_alarm_after_a_minute_is_told_once_and_is_over_when_the_log_is_shown() {
    let files = |layout: &concordat::federation::Layout| {
        append(&layout.node("dwp").join("node.toml"), "\n[operations]\nlisten = \"127.0.0.1:0\"\n")
    };
    let mut rogue = Rogue::with(files).await;
    at_rest(&rogue.sandbox).await;
    let node = endpoint(&rogue.sandbox.layout.node("dwp"));
    assert_eq!(get(&node, "/readyz/alarms").await, (200, "{\"alarms\":[]}\n".into()));
    rogue.sandbox.running.kill("gateway");
    rogue.orders("first").await.unwrap();
    let since = Instant::now();
    while of(&rogue.sandbox, "dwp", "witness.silent").is_empty() || get(&node, "/readyz/alarms").await.0 != 503 {
        assert!(since.elapsed() < Duration::from_secs(120), "no alarm");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(since.elapsed() > Duration::from_secs(45), "{:?}", since.elapsed());
    let alarms: Value = serde_json::from_str(&get(&node, "/readyz/alarms").await.1).unwrap();
    assert_eq!(alarms["alarms"][0]["what"], "witness", "{alarms}");
    assert_eq!(get(&node, "/readyz").await.0, 200, "orders are answered until the agreed time");
    let metrics = get(&node, "/metrics").await.1;
    let seconds = metrics.lines().find_map(|line| line.strip_prefix("concordat_witness_silent_seconds{log=\"concordat/gateway\"} "));
    assert!(seconds.is_some_and(|seconds| seconds.parse::<u64>().unwrap() >= 45), "{metrics}");
    rogue.orders("second").await.unwrap();

    rogue.sandbox.running.restart_gateway().await.unwrap();
    until("the log is shown", || !of(&rogue.sandbox, "dwp", "witness.back").is_empty()).await;
    let (silent, back) = (of(&rogue.sandbox, "dwp", "witness.silent"), of(&rogue.sandbox, "dwp", "witness.back"));
    assert_eq!((silent.len(), back.len(), &silent[0]["since"]), (1, 1, &back[0]["since"]), "{silent:?} {back:?}");
    assert!(silent[0]["size"].as_u64() > silent[0]["known_size"].as_u64(), "{silent:?}");
    let since = Instant::now();
    while get(&node, "/readyz/alarms").await.0 != 200 {
        assert!(since.elapsed() < Duration::from_secs(20), "the alarm stays");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
