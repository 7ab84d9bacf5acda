//! What the front door refuses, with which code and sentence; the plan's own cases stand in `gateway/src/plan/tests.rs`.

use concordat_policy::Code;

use crate::sandbox::{Sandbox, refused};

#[tokio::test]
async fn nothing_but_one_permitted_select_passes_the_front_door() {
    let sandbox = Sandbox::start(500).await;
    let client = sandbox.client().await;
    for sql in [
        "CREATE TABLE t (a INT)",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "DROP TABLE dfe.attainment",
        "INSERT INTO dfe.attainment VALUES (1)",
        "UPDATE dfe.attainment SET region = 'x'",
        "DELETE FROM dfe.attainment",
        "COPY dfe.attainment TO '/tmp/stolen.csv'",
        "COPY (SELECT count(*) FROM dfe.attainment) TO '/tmp/stolen.parquet'",
        "SET datafusion.execution.batch_size = 1",
        "EXPLAIN SELECT count(*) FROM dfe.attainment",
        "EXPLAIN ANALYZE SELECT count(*) FROM dfe.attainment",
        "DESCRIBE dfe.attainment",
        "SHOW TABLES",
    ] {
        refused(client.query(sql).await, Code::Invalid, "only SELECT");
    }
    refused(client.query("SELECT 1; SELECT 2").await, Code::Invalid, "several statements");
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'nodes/dfe/data/a.parquet'",
        "SELECT * FROM information_schema.tables",
        "SELECT count(*) FROM dfe.absent",
    ] {
        refused(client.query(sql).await, Code::Denied, "may not be used");
    }
    let failure = refused(client.query("SELECT count(*) FILTER (WHERE months_claiming > 3) FROM dwp.claims").await, Code::Denied, "");
    assert!(failure.advice.is_some() || failure.message.contains('('), "a refusal says what to do next: {failure:?}");
    let failure = refused(client.query("SELECT region, attainment8 FROM dfe.attainment").await, Code::Denied, "may not be used for output");
    assert_eq!(failure.department.as_deref(), Some("dfe"));
    assert!(failure.query_id.is_some(), "a refusal names its entry in the log");
    let recorded = sandbox.log("gateway");
    let entry = recorded.iter().rfind(|e| e["event"] == "query.refused").unwrap();
    assert_eq!(entry["query_id"].as_str(), failure.query_id.as_deref());
    assert_eq!(entry["code"], "denied");
}

#[tokio::test]
async fn logs_and_messages_hold_no_literal_no_identifier_and_no_token() {
    let sandbox = Sandbox::start(2_000).await;
    let somebody = sandbox.sample.somebody().unwrap();
    let client = sandbox.client().await;
    for sql in [
        format!("SELECT count(*) FROM dfe.attainment WHERE region = '{somebody}'"),
        format!("SELECT count(*) FROM dfe.attainment WHERE region = '{somebody}' AND"),
        format!("SELECT count(*) FROM dfe.attainment WHERE attainment8 = '{somebody}'"),
        format!("SELECT count(*) FROM \"{somebody}\""),
        format!("SELECT count(*) FROM dwp.claims WHERE conditionality = '{somebody}'"),
    ] {
        if let Err(failure) = client.query(&sql).await {
            assert!(!format!("{failure:?}").contains(&somebody) || sql.contains('"'), "{failure:?}");
        }
    }
    let token = sandbox.token();
    let signature = token.rsplit('.').next().unwrap();
    let mut seen = 0;
    for of in sandbox.layout.departments().unwrap().iter().map(String::as_str).chain(["gateway"]) {
        for text in [sandbox.log_text(of), sandbox.diagnostics(of)] {
            seen += text.len();
            assert!(!text.contains(&somebody), "{of} tells an identifier");
            assert!(!text.contains(signature) && !text.contains("Bearer ey"), "{of} tells a token");
            assert!(!text.contains("SELECT"), "{of} tells SQL");
        }
    }
    assert!(seen > 1_000, "there were logs to look at");
}

#[tokio::test]
async fn the_log_tells_who_asked_what_for_which_purpose_under_which_agreement() {
    let sandbox = Sandbox::start(1_000).await;
    let answer = sandbox.query("SELECT region, avg(attainment8) AS m FROM dfe.attainment GROUP BY region").await.unwrap();
    let id = answer.summary["query_id"].as_str().unwrap();
    let gateway = sandbox.log("gateway");
    let of_query =
        |event: &str| gateway.iter().find(|e| e["event"] == event && e["query_id"] == id).unwrap_or_else(|| panic!("no {event}")).clone();
    let (opened, closed) = (of_query("query.opened"), of_query("query.closed"));
    assert_eq!(
        (&opened["caller"], &opened["organisation"], &opened["purpose"]),
        (&"analyst-1".into(), &"mission-unit".into(), &"opportunity.measure".into())
    );
    assert_eq!(opened["address"], "127.0.0.1");
    assert!(opened["entry"].as_u64() < closed["entry"].as_u64());
    assert!(closed.get("views").is_none() && closed.get("guard_rails_digest").is_none(), "there are none: {closed}");
    assert_eq!(closed["entry"], answer.summary["log_entry"]);
    assert_eq!(closed["facts"]["agreements"], serde_json::json!(["opportunity"]));
    assert!(closed["facts"]["columns"].as_array().unwrap().iter().any(|c| c == "dfe.attainment.attainment8: aggregate"));
    let node = sandbox.log("dfe");
    let at_node = |event: &str| {
        node.iter().find(|e| e["event"] == event && e["query_id"] == id).unwrap_or_else(|| panic!("no {event} at the node")).clone()
    };
    let (intended, completed) = (at_node("release.intended"), at_node("release.completed"));
    assert_eq!(intended["address"], "127.0.0.1");
    assert!(intended["entry"].as_u64() < completed["entry"].as_u64());
    // One purpose from the caller's header to what the receipt rests on, and one mission.
    for stated in [&opened, &intended, &completed, &answer.summary] {
        assert_eq!(stated["purpose"], "opportunity.measure");
    }
    for stated in [&closed["facts"], &intended, &completed, &answer.summary] {
        assert_eq!(stated["mission"], "opportunity");
    }
    // Exact numbers of rows are for departments and auditors, never for callers.
    for source in answer.summary["sources"].as_array().unwrap() {
        let counts = source["counts"]["subjects"].as_object().unwrap();
        let rounded = counts.values().all(|count| count.is_null() || count.as_u64().unwrap().is_multiple_of(10));
        assert!(source.get("rows").is_none() && rounded, "{}", answer.summary);
    }
}

#[tokio::test]
async fn the_log_tells_which_views_were_named_and_how_much_was_withheld() {
    let sandbox = Sandbox::start(60).await;
    let client = sandbox.client().await;
    let entry = |id: &str, event: &str| {
        let log = sandbox.log("gateway");
        log.into_iter().find(|entry| entry["event"] == event && entry["query_id"] == id).unwrap_or_else(|| panic!("no {event} of {id}"))
    };
    let few = client.query("SELECT region, count(DISTINCT subject) AS n FROM dfe.attainment GROUP BY region").await.unwrap();
    let closed = entry(few.summary["query_id"].as_str().unwrap(), "query.closed");
    let told: u64 = few.summary["withheld"].as_array().unwrap().iter().map(|column| column["cells"].as_u64().unwrap()).sum();
    assert!(told > 0, "nobody was withheld: {}", few.summary);
    let rows: usize = few.batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
    assert_eq!((closed["facts"]["withheld"].as_u64(), closed["facts"]["answer_rows"].as_u64()), (Some(told), Some(rows as u64)));
    assert!(closed.get("views").is_none(), "{closed}");

    let view = client.query("SELECT * FROM opportunity_by_region").await.unwrap();
    let closed = entry(view.summary["query_id"].as_str().unwrap(), "query.closed");
    assert_eq!(closed["views"], serde_json::json!(["opportunity_by_region"]));
    // Also of what is refused; and never what the statement says beside the names of views that there are.
    let refused = client.query("SELECT nothing_of_the_kind FROM views.opportunity_by_region, views.no_such_view").await.unwrap_err();
    let entry = entry(refused.query_id.as_deref().unwrap(), "query.refused");
    assert_eq!(entry["views"], serde_json::json!(["opportunity_by_region"]));
    assert!(!sandbox.log_text("gateway").contains("no_such_view"));
}
