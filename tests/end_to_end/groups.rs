//! Groups that nodes make: the same answers as of rows, told apart in every log, and no subject's row leaves for them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::oracle::{Oracle, agree};
use crate::sandbox::Sandbox;

/// Statements that one node groups: department, number of key columns, SQL.
const STATEMENTS: [(&str, usize, &str); 4] = [
    (
        "dfe",
        3,
        "SELECT region, disadvantage_band, free_school_meals, count(*) AS n, avg(attainment8) AS m FROM dfe.attainment \
         GROUP BY region, disadvantage_band, free_school_meals",
    ),
    ("dwp", 0, "SELECT count(DISTINCT subject) AS n, sum(months_claiming) AS s, avg(months_claiming) AS m FROM dwp.claims WHERE claiming"),
    ("dhsc", 1, "SELECT age_band, count(DISTINCT subject) AS n, avg(wellbeing_score) AS w FROM dhsc.health GROUP BY age_band"),
    (
        "dbt",
        1,
        "SELECT sector, count(DISTINCT subject) AS n, count(started) AS k, avg(level) AS m FROM dbt.apprenticeships GROUP BY sector",
    ),
];

#[tokio::test]
async fn groups_answer_as_rows_do_and_each_log_says_how_many_left() {
    let sandbox = Sandbox::start(20_000).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    for (department, keys, sql) in STATEMENTS {
        let answer = sandbox.query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert!(agree(&answer, &oracle.query(sql).await, keys) > 0, "{sql}: nothing was compared");
        let query = &answer.summary["query_id"];
        let log = sandbox.log(department);
        let of = |event: &str| log.iter().filter(|e| e["event"] == event && e["query_id"] == *query).collect::<Vec<_>>();
        let [intended] = of("release.intended")[..] else { panic!("{sql}: one order") };
        assert_eq!(intended["grouped_by"].as_array().map(Vec::len), Some(keys), "{sql}");
        let completed = of("release.completed");
        let sum = |field: &str| completed.iter().map(|e| e[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!(sum("rows"), completed[0]["release_rows"].as_u64().unwrap(), "rows are counted as where they leave");
        assert!(sum("groups") > 0 && sum("groups") < sum("rows") / 10, "{sql}: {} groups of {} rows", sum("groups"), sum("rows"));
        let gateway = sandbox.log("gateway");
        let closed = gateway.iter().find(|e| e["event"] == "query.closed" && e["query_id"] == *query).unwrap();
        assert_eq!(closed["facts"]["sources"][0]["rows"], sum("rows"), "and the gateway counts the same");
        let counts = &answer.summary["sources"][0]["counts"]["subjects"];
        assert!(counts["delivered"].as_u64().is_some_and(|n| n > 0), "subjects are told as where rows come: {counts}");
    }
}

/// What one question of one department says of its rows, in the order of its columns.
async fn asked(sandbox: &Sandbox, sql: &str) -> (BTreeMap<String, Vec<(String, crate::oracle::Cell)>>, Value) {
    let answer = sandbox.query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    (crate::oracle::rows(&answer.batches, 2), answer.summary["sources"][0]["counts"].clone())
}

#[tokio::test]
async fn what_is_withheld_of_groups_is_what_is_withheld_of_rows() {
    // Of so few people that much is withheld.
    let sandbox = Sandbox::start(2_000).await;
    let values = "count(*) AS c, count(DISTINCT subject) AS n, sum(attainment8) AS s, avg(attainment8) AS m FROM dfe.attainment";
    let grouped = format!("SELECT region, disadvantage_band, {values} GROUP BY region, disadvantage_band");
    // The same groups; but what is asked for in sets is grouped at the gateway.
    let in_sets = format!("SELECT region, disadvantage_band, {values} GROUP BY GROUPING SETS ((region, disadvantage_band))");
    let (one, other) = (asked(&sandbox, &grouped).await, asked(&sandbox, &in_sets).await);
    let by = |log: &[Value]| log.iter().filter(|e| e["event"] == "release.intended").map(|e| e["grouped_by"].clone()).collect::<Vec<_>>();
    assert_eq!(by(&sandbox.log("dfe")), [json!(["disadvantage_band", "region"]), Value::Null]);
    assert_eq!(one.1, other.1);
    assert_eq!(one.0.keys().collect::<Vec<_>>(), other.0.keys().collect::<Vec<_>>());
    let withheld = |rows: &[(String, crate::oracle::Cell)]| rows.iter().find(|(name, _)| name == "withheld").map(|(_, why)| why.clone());
    let mut reasons = 0;
    for (key, row) in &one.0 {
        assert_eq!(withheld(row), withheld(&other.0[key]), "{key}");
        reasons += usize::from(withheld(row) != Some(crate::oracle::Cell::Null));
        for ((name, own), (_, theirs)) in row.iter().zip(&other.0[key]) {
            assert!(own.agrees(theirs), "{name} of {key}: {own:?} and {theirs:?}");
        }
    }
    assert!(reasons > 0, "something is withheld");
}
