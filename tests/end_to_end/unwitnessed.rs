//! What happens where too few departments see the gateway's log: an alarm after a minute, no release after an agreement's
//! `max_unwitnessed`, and all as before when enough are back.

use std::time::{Duration, Instant};

use concordat::failure::Failure;
use concordat::federation::{Layout, sign_again};
use concordat_policy::Code;
use serde_json::Value;

use crate::commands::{Ran, command};
use crate::operations::watch::{append, endpoint, get};
use crate::reach::PARTIES;
use crate::sandbox::{Sandbox, refused};

const DFE: &str = "SELECT count(*) AS n FROM dfe.attainment";
/// Without these, two of five departments see the log.
const GONE: [&str; 3] = ["dbt", "dhsc", "dwp"];

/// Has every copy of the agreement say for how long the log may go unwitnessed.
pub fn at_most(layout: &Layout, time: &str) {
    let folders = PARTIES.iter().map(|department| layout.node(department)).chain([layout.estate()]);
    for copy in folders.map(|folder| folder.join("agreements/opportunity.toml")) {
        let text = std::fs::read_to_string(&copy).unwrap();
        assert!(text.contains("[linkage]\n"));
        std::fs::write(&copy, text.replacen("[linkage]\n", &format!("max_unwitnessed = \"{time}\"\n\n[linkage]\n"), 1)).unwrap();
        sign_again(layout, &copy).unwrap();
    }
}

fn watched(layout: &Layout) {
    append(&layout.gateway().join("gateway.toml"), "\n[operations]\nlisten = \"127.0.0.1:0\"\n");
}

fn of(sandbox: &Sandbox, event: &str) -> Vec<Value> {
    sandbox.log("gateway").into_iter().filter(|entry| entry["event"] == event).collect()
}

/// Asks until it is refused, and gives the refusal and how long that took.
async fn until_refused(sandbox: &Sandbox) -> (Failure, Duration) {
    let since = Instant::now();
    loop {
        match sandbox.query(DFE).await {
            Err(failure) => return (failure, since.elapsed()),
            Ok(_) => assert!(since.elapsed() < Duration::from_secs(60), "it is answered all the same"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn until_answered(sandbox: &Sandbox) {
    let since = Instant::now();
    while let Err(failure) = sandbox.query(DFE).await {
        assert_eq!(failure.code, Some(Code::Unwitnessed), "{failure:?}");
        assert!(since.elapsed() < Duration::from_secs(60), "{failure:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn releases_stop_while_too_few_departments_see_the_log_though_the_one_that_is_asked_does() {
    let files = |layout: &Layout| {
        at_most(layout, "8s");
        watched(layout);
    };
    let mut sandbox = Sandbox::with(300, |_| {}, files).await;
    // Longer than may go unwitnessed: every department sees the log as it grows.
    let since = Instant::now();
    until_answered(&sandbox).await;
    while since.elapsed() < Duration::from_secs(12) {
        sandbox.query(DFE).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    GONE.iter().for_each(|department| sandbox.running.kill(department));
    let (failure, after) = until_refused(&sandbox).await;
    let failure = refused::<()>(Err(failure), Code::Unwitnessed, "too few witnesses have seen");
    assert!(after > Duration::from_secs(4), "not before the time that is agreed: {after:?}");
    for said in ["'opportunity' of dfe, ", "for more than 8 seconds", "has entries since 2"] {
        assert!(failure.message.contains(said), "'{said}' is not in: {}", failure.message);
    }
    let id = failure.query_id.clone().unwrap();
    let entry = of(&sandbox, "query.refused").into_iter().find(|entry| entry["query_id"] == id.as_str()).unwrap();
    assert_eq!((&entry["code"], &entry["cause"]["kind"]), (&"unwitnessed".into(), &"unwitnessed".into()), "{entry}");
    let asked = sandbox.log("dfe").into_iter().any(|entry| entry["query_id"] == id.as_str());
    assert!(!asked, "the department is not asked");
    refused(sandbox.client().await.explain(DFE).await, Code::Unwitnessed, "'opportunity'");
    let why: Ran = command(["why", id.as_str(), "--log", sandbox.layout.gateway().join("log").to_str().unwrap()]).output().unwrap().into();
    assert!(why.text().contains("for more than 8 seconds"), "{}", why.text());
    let metrics = get(&endpoint(&sandbox.layout.gateway()), "/metrics").await.1;
    let seconds = metrics.lines().find_map(|line| line.strip_prefix("concordat_log_unwitnessed_seconds{log=\"access\"} "));
    assert!(seconds.is_some_and(|seconds| seconds.parse::<u64>().unwrap() >= 8), "{metrics}");
    // Neither asking again nor a new start of the gateway begins the time anew.
    sandbox.running.restart_gateway().await.unwrap();
    refused(sandbox.query(DFE).await, Code::Unwitnessed, "for more than 8 seconds");

    sandbox.running.restart_node("dwp").await.unwrap();
    until_answered(&sandbox).await;
}

#[tokio::test]
async fn an_alarm_after_a_minute_stops_nothing_and_is_told_once() {
    let mut sandbox = Sandbox::with(300, |_| {}, watched).await;
    let gateway = endpoint(&sandbox.layout.gateway());
    sandbox.query(DFE).await.unwrap();
    assert_eq!(get(&gateway, "/readyz/alarms").await, (200, "{\"alarms\":[]}\n".into()));
    GONE.iter().for_each(|department| sandbox.running.kill(department));
    sandbox.query(DFE).await.unwrap();
    let since = Instant::now();
    while get(&gateway, "/readyz/alarms").await.0 != 503 || of(&sandbox, "witness.missing").is_empty() {
        assert!(since.elapsed() < Duration::from_secs(120), "no alarm");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(since.elapsed() > Duration::from_secs(45), "{:?}", since.elapsed());
    let alarms: Value = serde_json::from_str(&get(&gateway, "/readyz/alarms").await.1).unwrap();
    assert_eq!(alarms["alarms"][0]["what"], "witnesses", "{alarms}");
    assert_eq!(get(&gateway, "/readyz").await.0, 200, "calls are answered");
    sandbox.query(DFE).await.unwrap();
    let missing = of(&sandbox, "witness.missing");
    assert_eq!((missing.len(), &missing[0]["quorum"], &missing[0]["witnesses"]), (1, &Value::from(3), &Value::from(5)), "{missing:?}");
    assert!(sandbox.diagnostics("gateway").contains("too few witnesses have seen the access log"));

    sandbox.running.restart_node("dhsc").await.unwrap();
    let since = Instant::now();
    while of(&sandbox, "witness.back").is_empty() || get(&gateway, "/readyz/alarms").await.0 != 200 {
        assert!(since.elapsed() < Duration::from_secs(60), "the alarm stays");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (missing, back) = (of(&sandbox, "witness.missing"), of(&sandbox, "witness.back"));
    assert_eq!((missing.len(), back.len()), (1, 1), "{missing:?} {back:?}");
    assert_eq!(missing[0]["since"], back[0]["since"]);
}

#[tokio::test]
async fn a_quorum_that_nobody_needs_to_meet_or_nobody_can_is_refused_before_the_start() {
    let mut sandbox = Sandbox::start(100).await;
    let config = sandbox.layout.gateway().join("gateway.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    for (quorum, good) in [(0, false), (6, false), (5, true), (1, true)] {
        std::fs::write(&config, format!("{text}\n[witnesses]\nquorum = {quorum}\n")).unwrap();
        let check: Ran = command(["gateway", "check", "--config", config.to_str().unwrap()]).output().unwrap().into();
        let told = check.text();
        assert_eq!(check.exit == 0, good, "{quorum}: {told}");
        let cannot = format!("a quorum of {quorum} among 5 witnesses cannot be: give a number from 1 to 5");
        assert_eq!(told.contains(&cannot), !good, "{quorum}: {told}");
        assert!(!good || told.contains(&format!("{quorum} of 5 must have seen the access log")), "{quorum}: {told}");
    }
    std::fs::write(&config, format!("{text}\n[witnesses]\nquorum = 6\n")).unwrap();
    let failure = sandbox.running.restart_gateway().await.unwrap_err();
    assert!(format!("{failure:?}").contains("a quorum of 6 among 5"), "{failure:?}");
}
