//! What one caller, one agreement and all together may take; detached queries; statements that want too much.

use std::process::Command;
use std::time::{Duration, Instant};

use concordat::client::Client;
use concordat::failure::Failure;
use concordat_policy::Code;
use concordat_proto::v1::DetachedState;
use serde_json::json;

use crate::raw::Cost;
use crate::sandbox::{Sandbox, program, refused};

const ONE: &str = "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region ORDER BY region";
const OTHER: &str = "SELECT count(*) AS n FROM dwp.claims";

pub async fn user(sandbox: &Sandbox, subject: &str) -> Client {
    let token = sandbox.token_with(|c| c["sub"] = json!(subject));
    sandbox.client_with(|c| c.token = Some(token)).await
}

/// Stops a department's node, and lets it go on when dropped.
pub struct Stopped(String);

impl Stopped {
    pub fn node(sandbox: &Sandbox, department: &str) -> Self {
        let id = sandbox.running.process_id(department).unwrap().to_string();
        assert!(Command::new("kill").args(["-STOP", &id]).status().unwrap().success());
        Self(id)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0]).status();
    }
}

#[tokio::test]
async fn rows_of_a_day_are_counted_for_callers_and_agreements_and_survive_a_restart() {
    let mut sandbox = Sandbox::with(
        2_000,
        |f| {
            f.limits.caller_rows_per_day = Some(1_000);
            // One caller's query of the rows is less than this, two callers' are more.
            f.agreements.iter_mut().find(|a| a.id == "opportunity").unwrap().limits.rows_per_day = Some(2_500);
        },
        |_| {},
    )
    .await;
    user(&sandbox, "first").await.query(ONE).await.unwrap();
    let rows: u64 = sandbox.log("gateway").iter().filter_map(|e| e["facts"]["sources"][0]["rows"].as_u64()).sum();
    assert!((1_200..2_001).contains(&rows), "{rows}");
    let failure = refused(user(&sandbox, "first").await.query(ONE).await, Code::LimitExceeded, "1000 rows a day that the gateway");
    assert!(failure.message.contains("00:00 UTC"), "{failure:?}");
    sandbox.running.restart_gateway().await.unwrap();
    refused(user(&sandbox, "first").await.query(ONE).await, Code::LimitExceeded, "1000 rows a day that the gateway");
    user(&sandbox, "second").await.query(ONE).await.unwrap();
    let failure = refused(user(&sandbox, "third").await.query(ONE).await, Code::LimitExceeded, "agreement 'opportunity'");
    assert!(failure.message.contains("the agreement's limit") && failure.message.contains("2500"), "{failure:?}");
    // Who may not use the agreement learns nothing of its limits.
    let stranger = sandbox.client_with(|c| c.token = Some(sandbox.token_with(|c| c["organisation"] = json!("other")))).await;
    refused(stranger.query(ONE).await, Code::Denied, "no agreement in force");
}

#[tokio::test]
async fn requests_of_one_caller_are_limited_and_the_flood_is_counted() {
    let sandbox = Sandbox::with(300, |f| f.limits.caller_requests_per_minute = Some(10), |_| {}).await;
    let (eager, calm) = (user(&sandbox, "eager").await, user(&sandbox, "calm").await);
    let mut refusals = 0u64;
    for _ in 0..400 {
        if let Err(failure) = eager.catalogue().await {
            refused::<()>(Err(failure), Code::LimitExceeded, "more than 10 requests in a minute: the gateway's limit");
            refusals += 1;
        }
    }
    assert!(refusals >= 300, "{refusals}");
    calm.query(ONE).await.unwrap();
    let log = sandbox.log("gateway");
    let single = log.iter().filter(|e| e["event"] == "caller.refused" && e["caller"] == "eager").count();
    assert_eq!(single, 100, "the others are counted");
}

#[tokio::test]
async fn one_caller_cannot_take_all_places() {
    let limits = |f: &mut concordat::federation::describe::Federation| {
        f.limits.caller_concurrent_queries = Some(1);
        f.limits.concurrent_queries = Some(2);
        f.limits.wait_seconds = Some(0);
    };
    let sandbox = Sandbox::with(300, limits, |_| {}).await;
    let (greedy, other) = (user(&sandbox, "greedy").await, user(&sandbox, "other").await);
    greedy.query(OTHER).await.unwrap();
    let _stopped = Stopped::node(&sandbox, "dwp");
    let begin = || {
        let waits = greedy.clone();
        tokio::spawn(async move { waits.query(OTHER).await })
    };
    let mut first = begin();
    let deadline = Instant::now() + Duration::from_secs(30);
    let failure = loop {
        assert!(Instant::now() < deadline, "a second query at the same time was never refused");
        // The place may have gone to the other one: then this one was refused, and begins again.
        if first.is_finished() {
            first = begin();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Err(failure) = greedy.query(ONE).await {
            break failure;
        }
    };
    refused::<()>(Err(failure), Code::LimitExceeded, "1 at a time");
    assert!(!first.is_finished());
    other.query(ONE).await.unwrap();
    first.abort();
}

/// Waits until a detached query is in a state.
pub async fn until(client: &Client, id: &str, wanted: DetachedState) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let state = client.detached(id, 1).await.unwrap().state();
        if state == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{state:?}, not {wanted:?}");
    }
}

#[tokio::test]
async fn a_detached_query_is_for_its_owner_under_its_purpose_only() {
    let mut sandbox = Sandbox::start(2_000).await;
    let (owner, thief) = (sandbox.client().await, user(&sandbox, "thief").await);
    let expected = owner.query(ONE).await.unwrap();
    let id = owner.detach(ONE).await.unwrap();
    let answer = owner.result(&id).await.unwrap();
    assert_eq!((&answer.batches, &answer.schema), (&expected.batches, &expected.schema));
    assert_eq!(owner.result(&id).await.unwrap().batches, expected.batches, "as often as wanted");
    let state = owner.detached(&id, 0).await.unwrap();
    assert!(state.lapses > state.since && state.since > 0);
    let ticket = arrow_flight::Ticket::new(state.ticket);
    let narrower = sandbox.client_with(|c| c.purpose = Some("opportunity.measure.region".into())).await;
    let never = format!("{}{}", &id[..8], "0".repeat(24));
    let unknown = refused(owner.result(&never).await, Code::Denied, "no detached query");
    refused(owner.result(&"0".repeat(32)).await, Code::Denied, "has restarted");
    for other in [&thief, &narrower] {
        let failures: [Failure; 3] = [
            other.detached(&id, 0).await.unwrap_err(),
            other.collect(ticket.clone()).await.unwrap_err(),
            other.cancel_detached(&id).await.unwrap_err(),
        ];
        for failure in failures {
            assert_eq!((&failure.message, failure.code), (&unknown.message, unknown.code), "as of an id that never was");
        }
    }
    // The log has the query like any other, and each pick-up.
    let log = sandbox.log("gateway");
    let query = answer.summary["query_id"].as_str().unwrap();
    let of = |event: &str| log.iter().filter(|e| e["event"] == event && e["query_id"] == query).cloned().collect::<Vec<_>>();
    assert_eq!(of("query.opened")[0]["intent"], "answer_detached");
    assert_eq!((of("query.closed").len(), of("answer.collected").len()), (1, 2));
    assert_eq!(of("answer.collected")[0]["caller"], "analyst-1");
    // What is refused is said when it is asked for, with the query's id.
    let id = owner.detach("SELECT region, attainment8 FROM dfe.attainment").await.unwrap();
    let failure = refused(owner.result(&id).await, Code::Denied, "may not be used for output");
    assert!(failure.query_id.is_some() && failure.department.as_deref() == Some("dfe"), "{failure:?}");
    // The command line.
    let run = |arguments: &[&str]| {
        let folder = sandbox.layout.folder().to_owned();
        let output = Command::new(program()).args(arguments).arg("--folder").arg(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let id = run(&["query", "--detach", "--sql", ONE]).trim().to_owned();
    let text = run(&["result", &id, "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(json["rows"].as_array().is_some_and(|rows| !rows.is_empty()));
    assert_eq!(run(&["result", &id, "--state"]), "done\n");
    run(&["result", &id, "--cancel"]);
    // Kept in memory only.
    let id = owner.detach(ONE).await.unwrap();
    owner.result(&id).await.unwrap();
    sandbox.running.restart_gateway().await.unwrap();
    refused(sandbox.client().await.result(&id).await, Code::Denied, "the gateway has restarted");
}

#[tokio::test]
async fn detached_queries_are_bounded_can_be_cancelled_and_lapse() {
    let limits = |f: &mut concordat::federation::describe::Federation| {
        f.limits.detached_deadline_seconds = Some(8);
        f.limits.caller_concurrent_queries = Some(1);
    };
    let sandbox = Sandbox::with(300, limits, |_| {}).await;
    let owner = sandbox.client().await;
    owner.query(OTHER).await.unwrap();
    let stopped = Stopped::node(&sandbox, "dwp");
    let (first, second) = (owner.detach(OTHER).await.unwrap(), owner.detach(OTHER).await.unwrap());
    until(&owner, &first, DetachedState::Running).await;
    until(&owner, &second, DetachedState::Queued).await;
    owner.detach(OTHER).await.unwrap();
    owner.detach(OTHER).await.unwrap();
    refused(owner.detach(OTHER).await, Code::LimitExceeded, "as many detached queries as one caller may have (4)");
    owner.cancel_detached(&first).await.unwrap();
    refused(owner.detached(&first, 0).await, Code::Denied, "no detached query");
    until(&owner, &second, DetachedState::Refused).await;
    let failure = owner.result(&second).await.unwrap_err();
    refused::<()>(Err(failure), Code::LimitExceeded, "");
    drop(stopped);
    let log = sandbox.log("gateway");
    let opened = log.iter().filter(|e| e["intent"] == "answer_detached").count();
    assert_eq!(opened, 4);
    drop(sandbox);
    let sandbox = Sandbox::with(300, |f| f.limits.detached_keep_minutes = Some(0), |_| {}).await;
    let owner = sandbox.client().await;
    let id = owner.detach(ONE).await.unwrap();
    refused(owner.result(&id).await, Code::Denied, "lapse");
}

/// Each way to nest, 10,000 deep, and as deep as the limit of length lets through.
fn deep() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for n in [10_000usize, 4_000, 1_500, 500, 390, 190, 95, 45, 39] {
        let around = |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
        let chain = |first: &str, next: &str| format!("{first}{}", next.repeat(n));
        let ctes: String = (1..n).map(|i| format!(",t{i} AS(SELECT x FROM t{})", i - 1)).collect();
        all.extend([
            ("brackets", format!("SELECT {}", around("(", "1", ")"))),
            ("not", format!("SELECT {}", around("NOT ", "true", ""))),
            ("minus", format!("SELECT {}", around("- ", "1", ""))),
            ("case", format!("SELECT {}", around("CASE WHEN true THEN ", "1", " END"))),
            ("concatenation", format!("SELECT {}", chain("'a'", "||'a'"))),
            ("sum", format!("SELECT {}", chain("1", "+1"))),
            ("or", format!("SELECT {}", chain("true", " OR true"))),
            ("functions", format!("SELECT {}", around("abs(", "1", ")"))),
            ("casts", format!("SELECT {}", chain("1", "::int"))),
            ("subqueries", format!("SELECT {}", around("(SELECT ", "1", ")"))),
            ("tables", format!("SELECT * FROM {}", around("(SELECT * FROM ", "(VALUES (1)) v", ") t"))),
            ("exists", format!("SELECT 1 WHERE {}", around("EXISTS (SELECT 1 WHERE ", "true", ")"))),
            ("withs", format!("WITH t0 AS(SELECT 1 AS x){ctes} SELECT x FROM t{}", n - 1)),
            ("nested withs", around("WITH t AS (", "SELECT 1 AS x", ") SELECT x FROM t")),
            ("unions", chain("SELECT 1", " UNION ALL SELECT 1")),
            ("joins", chain("SELECT 1 FROM (VALUES (1)) v", " CROSS JOIN (VALUES (1)) v")),
            ("in", format!("SELECT 1 WHERE 1 IN ({})", chain("1", ",1"))),
            ("in nested", format!("SELECT 1 WHERE {}", around("1 IN (", "1", ")"))),
            ("between", format!("SELECT 1 WHERE {}", chain("1", " BETWEEN 0 AND 1"))),
            ("is", format!("SELECT {}", chain("true", " IS TRUE"))),
            ("array", format!("SELECT {}", around("[", "1", "]"))),
            ("types", format!("SELECT CAST(1 AS {})", around("ARRAY<", "INT", ">"))),
            ("struct", format!("SELECT {}", around("{'a':", "1", "}"))),
        ]);
    }
    all
}

#[tokio::test]
async fn the_gateway_survives_statements_that_are_too_deep() {
    let sandbox = Sandbox::with(300, |f| f.limits.caller_requests_per_minute = Some(100_000), |_| {}).await;
    let client = sandbox.client().await;
    client.query(ONE).await.unwrap();
    let before = Cost::of(&sandbox);
    for (what, sql) in deep() {
        let start = Instant::now();
        if let Err(failure) = client.flight_info(&sql).await {
            assert!(
                matches!(failure.code, Some(Code::Invalid | Code::LimitExceeded | Code::Denied | Code::Disclosure)),
                "{what}, {} bytes: {failure:?}",
                sql.len()
            );
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}, {} bytes: {:?}", sql.len(), start.elapsed());
    }
    let doubled: String = (1..60).map(|i| format!(",t{i} AS (SELECT a.x FROM t{} a, t{} b)", i - 1, i - 1)).collect();
    refused(client.query(&format!("WITH t0 AS (SELECT 1 AS x){doubled} SELECT x FROM t59")).await, Code::LimitExceeded, "WITH");
    let sums: String = (1..60).map(|i| format!(",t{i} AS (SELECT x+x AS x FROM t{})", i - 1)).collect();
    refused(client.query(&format!("WITH t0 AS (SELECT 1 AS x){sums} SELECT x FROM t59 WHERE x>0")).await, Code::LimitExceeded, "parts");
    let recursive = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t) SELECT count(*) FROM t";
    refused(client.query(recursive).await, Code::Invalid, "WITH RECURSIVE");
    client.query(ONE).await.unwrap();
    // Two threads' stacks of 32 MiB, touched to the bottom, and plans.
    before.grew_by_at_most(&sandbox, 200, 3_000);
}

#[tokio::test]
async fn products_of_tables_are_stopped_and_others_are_served_meanwhile() {
    let sandbox = Sandbox::with(
        1_000,
        |f| {
            // Long enough for the other's query beside four that take all they can get, on a busy machine.
            f.limits.deadline_seconds = Some(12);
            f.limits.answer_mib = Some(32);
            f.limits.memory_mib = Some(64);
        },
        |_| {},
    )
    .await;
    let (greedy, other) = (user(&sandbox, "greedy").await, user(&sandbox, "other").await);
    let expected = other.query(ONE).await.unwrap();
    let values = (0..60).map(|i| format!("({i})")).collect::<Vec<_>>().join(",");
    let product = |select: &str, tables: usize, rest: &str| {
        let tables: Vec<String> = (0..tables).map(|t| format!("v t{t}")).collect();
        format!("WITH v(x) AS (VALUES {values}) SELECT {select} FROM {} {rest}", tables.join(" CROSS JOIN "))
    };
    let columns = "t0.x AS a, t1.x AS b, t2.x AS c, t3.x AS d, t4.x AS e";
    let key = "t0.x + t1.x * 60 + t2.x * 3600 + t3.x * 216000";
    let hostile = [
        product(columns, 6, ""),
        product(columns, 6, "ORDER BY t0.x + t1.x, t2.x"),
        product(&format!("{key} AS k, count(*)"), 5, &format!("GROUP BY {key}")),
        product("count(*)", 6, "WHERE t0.x + t1.x + t2.x + t3.x + t4.x + t5.x < 0"),
        product(&format!("DISTINCT {columns}"), 5, ""),
        // Emits nothing until its end, so that only giving way inside lets it be stopped.
        format!(
            "SELECT sum(v0.x+v1.x+v2.x+v3.x+v4.x+v5.x+v6.x+v7.x) FROM {}",
            (0..8)
                .map(|i| format!(
                    "(SELECT column1 x FROM (VALUES {})) v{i}",
                    (0..14).map(|n| format!("({n})")).collect::<Vec<_>>().join(",")
                ))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        "SELECT count(*) FROM views.opportunity_by_region a, views.opportunity_by_region b, views.opportunity_by_region c, \
         views.opportunity_by_region d, views.opportunity_by_region e"
            .to_owned(),
        "SELECT count(*) FROM generate_series(1, 100000000000) a, generate_series(1, 100000000000) b".to_owned(),
    ];
    let before = Cost::of(&sandbox);
    let running: Vec<_> = hostile
        .into_iter()
        .map(|sql| {
            let greedy = greedy.clone();
            tokio::spawn(async move { (greedy.query(&sql).await, sql) })
        })
        .collect();
    while !running.iter().all(tokio::task::JoinHandle::is_finished) {
        let start = Instant::now();
        assert_eq!(other.query(ONE).await.unwrap().batches, expected.batches);
        assert!(start.elapsed() < Duration::from_secs(20), "waited {:?}", start.elapsed());
        // Below what a caller may ask in a minute, however fast the machine.
        tokio::time::sleep(Duration::from_millis(110)).await;
    }
    for query in running {
        let (outcome, sql) = query.await.unwrap();
        let failure = outcome.err().unwrap_or_else(|| panic!("answered: {sql}"));
        assert!(matches!(failure.code, Some(Code::LimitExceeded | Code::Denied | Code::Invalid)), "{sql}: {failure:?}");
    }
    // Four of the caller's at a time, each with 64 MiB of memory and 32 MiB of answer; twice for what is being copied.
    before.grew_by_at_most(&sandbox, 800, 10_000);
    // What was stopped does not run on.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let ticks = Cost::of(&sandbox).cpu_ticks;
        tokio::time::sleep(Duration::from_millis(500)).await;
        if Cost::of(&sandbox).cpu_ticks - ticks < 10 {
            break;
        }
        assert!(Instant::now() < deadline, "a query that was stopped still runs");
    }
}
