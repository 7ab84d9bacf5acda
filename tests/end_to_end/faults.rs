//! Nodes that are slow or gone, logs that cannot be written: a typed refusal, never a part of an answer.

mod behind;
mod departments;
mod machines;
mod matrix;
mod peer;
pub mod proxy;
mod restored;
mod versions;

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use concordat_audit::{Entry, Log, is_written};
use concordat_policy::Code;

use crate::sandbox::{Sandbox, refused};

const BOTH: &str =
    "SELECT a.region, avg(c.months_claiming) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region";
const ONE: &str = "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region";

#[tokio::test]
async fn a_node_that_is_gone_is_named_and_the_others_still_answer() {
    let mut sandbox = Sandbox::start(500).await;
    sandbox.query(BOTH).await.unwrap();
    sandbox.running.kill("dwp");
    let failure = refused(sandbox.query(BOTH).await, Code::NodeUnavailable, "dwp");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    sandbox.query(ONE).await.unwrap();
    let departments = sandbox.client().await.departments().await.unwrap();
    for department in departments {
        assert_eq!(department.reachable, department.id != "dwp", "{department:?}");
        assert_eq!(department.fault.is_empty(), department.reachable);
    }
    sandbox.running.restart_node("dwp").await.unwrap();
    // The gateway reaches for it again within a second.
    let since = std::time::Instant::now();
    while let Err(failure) = sandbox.query(BOTH).await {
        assert!(since.elapsed() < Duration::from_secs(5), "{failure:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_node_killed_while_it_streams_fails_the_query() {
    let mut sandbox = Sandbox::start(200_000).await;
    sandbox.query(BOTH).await.unwrap();
    // Sooner each time until the kill falls into the query.
    for milliseconds in [100u64, 60, 40, 25, 15, 8, 4, 2, 1] {
        let client = sandbox.client().await;
        let query = tokio::spawn(async move { client.query(BOTH).await });
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        sandbox.running.kill("dwp");
        if let Err(failure) = query.await.unwrap() {
            assert!(matches!(failure.code, Some(Code::NodeUnavailable | Code::NodeFaulty)), "{failure:?}");
            assert_eq!(failure.department.as_deref(), Some("dwp"), "{failure:?}");
            return;
        }
        sandbox.running.restart_node("dwp").await.unwrap();
    }
    panic!("the node was never killed inside a query");
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_a_timeout() {
    let sandbox = Sandbox::start(300).await;
    sandbox.query(BOTH).await.unwrap();
    let node = sandbox.running.process_id("dwp").unwrap().to_string();
    assert!(Command::new("kill").args(["-STOP", &node]).status().unwrap().success());
    let failure = refused(sandbox.query(BOTH).await, Code::NodeTimeout, "dwp");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    assert!(Command::new("kill").args(["-CONT", &node]).status().unwrap().success());
}

#[tokio::test]
async fn a_gateway_whose_log_cannot_be_written_answers_nothing() {
    let sandbox = Sandbox::with(300, |_| {}, |layout| full(&layout.gateway())).await;
    refused(sandbox.query(ONE).await, Code::LogUnavailable, "log");
    refused(sandbox.client().await.catalogue().await, Code::LogUnavailable, "log");
    let released = sandbox.log("dfe").iter().any(|e| e["event"] == "release.intended");
    assert!(!released, "nothing was ordered");
}

#[tokio::test]
async fn a_node_whose_log_fills_up_stops_releasing() {
    // The node starts with a log that is all but as long as its files may become.
    let sandbox = Sandbox::with(
        300,
        |_| {},
        |layout| {
            const LIMIT: u64 = 1 << 20;
            fill(layout.node("dwp").join("log"), "concordat/dwp/node", LIMIT - 2_600);
            let limited = format!(
                "#!/bin/bash\ncase \"$*\" in *nodes/dwp/*) trap '' XFSZ; ulimit -f {};; esac\nexec {} \"$@\"\n",
                LIMIT / 1024,
                crate::sandbox::program().display()
            );
            let program = layout.folder().join("program");
            std::fs::write(&program, limited).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        },
    )
    .await;
    let mut answered = 0;
    let failure = loop {
        match sandbox.query(BOTH).await {
            Ok(_) => answered += 1,
            Err(failure) => break failure,
        }
        assert!(answered < 10, "the log never filled up");
    };
    refused::<()>(Err(failure), Code::NodeRefused, "log_unavailable");
    let failure = refused(sandbox.query(BOTH).await, Code::NodeRefused, "log_unavailable");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    sandbox.query(ONE).await.unwrap();
    // Every entry that is in the log is whole: what was refused left nothing behind.
    assert!(sandbox.log("dwp").len() > 200);
}

/// Writes a log until its tail is all but `length` bytes long, with fewer entries than its bundle holds.
fn fill(folder: PathBuf, origin: &'static str, length: u64) {
    let filled = std::thread::spawn(move || {
        let log = Log::open(&folder, origin).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        loop {
            let left = length.saturating_sub(std::fs::metadata(folder.join("tail")).unwrap().len());
            let Some(filler @ 1..) = left.min(4_300).checked_sub(100) else { break };
            runtime.block_on(log.append(Entry::new("filler").field("x", "y".repeat(filler as usize)))).unwrap();
        }
        drop(log);
        while is_written(&folder) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    filled.join().unwrap();
}

/// A log on a full disk.
fn full(folder: &std::path::Path) {
    let log = folder.join("log");
    std::fs::create_dir_all(&log).unwrap();
    symlink("/dev/full", log.join("tail")).unwrap();
}

#[tokio::test]
async fn limits_of_answers_and_time_are_typed() {
    let sandbox = Sandbox::with(2_000, |f| f.limits.answer_mib = Some(0), |_| {}).await;
    refused(sandbox.query(ONE).await, Code::LimitExceeded, "larger than");
    drop(sandbox);
    let sandbox = Sandbox::with(2_000, |f| f.limits.deadline_seconds = Some(0), |_| {}).await;
    refused(sandbox.query(BOTH).await, Code::LimitExceeded, "longer than");
}

#[tokio::test]
async fn orders_that_come_to_nothing_do_not_block_a_department() {
    let mut sandbox = Sandbox::start(300).await;
    sandbox.query(BOTH).await.unwrap();
    sandbox.running.kill("dwp");
    // Each places an order at DfE, and fails for DWP: twice as often as a node takes releases at a time.
    for _ in 0..16 {
        refused(sandbox.query(BOTH).await, Code::NodeUnavailable, "dwp");
    }
    sandbox.query(ONE).await.unwrap();
    let many = (1..6).map(|i| format!(" AND subject IN (SELECT a{i}.subject FROM dfe.attainment a{i})")).collect::<String>();
    refused(sandbox.query(&format!("SELECT count(*) FROM dwp.claims WHERE true{many}")).await, Code::LimitExceeded, "more than 4 times");
}

#[tokio::test]
async fn a_source_that_stops_fitting_is_refused_without_telling_its_rows() {
    let sandbox = Sandbox::start(300).await;
    let file = sandbox.layout.node("dbt").join("data/apprenticeships.csv");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, first) = (text.lines().next().unwrap(), text.lines().nth(1).unwrap());
    let broken: Vec<&str> = first.split(',').map(|_| "not-a-value-of-AB123456C").collect();
    std::fs::write(&file, format!("{head}\n{first}\n{}\n", broken.join(","))).unwrap();
    let failure =
        refused(sandbox.query("SELECT sector, avg(level) AS m FROM dbt.apprenticeships GROUP BY sector").await, Code::NodeRefused, "dbt");
    let diagnostics = std::fs::read_to_string(sandbox.layout.node("dbt").join("stderr.log")).unwrap();
    assert!(!diagnostics.contains("AB123456C") && !format!("{failure:?}").contains("AB123456C"), "{diagnostics}");
}
