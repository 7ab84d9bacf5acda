//! The tools that people already have: ADBC, pandas, polars and DuckDB, and pyarrow as an attacker. The scripts stand in
//! `tests/clients`; `tests/run` installs the packages.

use std::path::Path;
use std::process::{Command, Stdio};

use chrono::Utc;
use concordat::federation::describe::Caller;
use serde_json::json;

use crate::python::with_clients;
use crate::sandbox::{Sandbox, until};

/// Runs a script's tests against `sandbox`; fails with their output.
async fn run(sandbox: &Sandbox, module: &str, tests: &[&str]) {
    let output = tokio::process::Command::new(with_clients())
        .arg("run.py")
        .arg(module)
        .args(tests)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients"))
        .env("CONCORDAT_WORLD", world(sandbox).to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{module}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn world(sandbox: &Sandbox) -> serde_json::Value {
    let connection = sandbox.connection();
    let somebody = |subject: &str, roles: &[&str]| {
        let caller = Caller { subject: subject.into(), roles: roles.iter().map(|&r| r.into()).collect(), ..sandbox.caller() };
        sandbox.issuer.token(&caller, 10, Utc::now()).unwrap()
    };
    let now = Utc::now().timestamp();
    json!({
        "uri": connection.gateway.replace("https://", "grpc+tls://"),
        "ca": connection.ca,
        "token": sandbox.token(),
        "colleague": somebody("analyst-2", &["analyst"]),
        "other_roles": somebody("analyst-1", &["analyst", "administrator"]),
        "visitor": somebody("visitor", &["visitor"]),
        "expired": sandbox.token_with(|c| (c["nbf"], c["iat"], c["exp"]) = (json!(now - 900), json!(now - 900), json!(now - 60))),
        "other_issuer": sandbox.token_with(|c| c["iss"] = json!("https://issuer.elsewhere.example")),
        "nonsense": "abc",
        "log": sandbox.layout.gateway().join("log"),
        "answers": sandbox.log("gateway").iter().filter(|e| e["intent"] == "answer").count(),
    })
}

#[tokio::test]
async fn adbc() {
    let sandbox = Sandbox::start(3_000).await;
    run(
        &sandbox,
        "adbc",
        &[
            "test_connects_without_a_warning_and_says_what_it_is",
            "test_the_tree_shows_missions_views_and_datasets_with_comments",
            "test_without_a_purpose_the_tree_shows_all_that_may_be_used_and_statements_say_what_is_missing",
            "test_patterns_filter",
            "test_a_stranger_learns_nothing",
            "test_dbapi",
            "test_parameters_are_typed_and_several_rows_ask_several_times",
            "test_each_offered_type_of_parameter",
            "test_a_session_carries_the_purpose",
            "test_the_status_of_each_cell_comes_on_request",
        ],
    )
    .await;
    assert!(sandbox.log("gateway").iter().any(|e| e["event"] == "catalogue.read"), "looking into the catalogue is on record");
}

#[tokio::test]
async fn adbc_cancels_a_running_query() {
    let sandbox = Sandbox::start(500).await;
    let node = sandbox.running.process_id("dwp").unwrap().to_string();
    let signal = |signal: &str| assert!(Command::new("kill").args([signal, &node]).status().unwrap().success());
    // Once, so that the gateway knows the node and has its keys there.
    sandbox.query("SELECT count(*) FROM dwp.claims").await.unwrap();
    signal("-STOP");
    run(&sandbox, "adbc", &["test_a_running_query_is_cancelled"]).await;
    let cancelled = |e: &serde_json::Value| e["event"] == "query.refused" && e["code"] == "cancelled";
    until("the cancelled query's entry is closed", || sandbox.log("gateway").iter().any(cancelled)).await;
    signal("-CONT");
    assert!(sandbox.query("SELECT count(*) FROM dwp.claims").await.is_ok());
}

#[tokio::test]
async fn pandas_polars_and_duckdb() {
    let sandbox = Sandbox::start(3_000).await;
    run(&sandbox, "frames", &[]).await;
}

#[tokio::test]
async fn an_attacker_with_pyarrow_gets_nothing() {
    let sandbox = Sandbox::start(1_000).await;
    run(&sandbox, "attacker", &[]).await;
    let log = sandbox.log("gateway");
    assert!(log.iter().any(|e| e["event"] == "caller.refused" && e["caller"] == "analyst-2"), "the thief is on record");
}
