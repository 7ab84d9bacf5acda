//! Queries for the data of the department whose node or commands are killed: answers are what plain DataFusion says of what was made, and
//! rest on a ledger with that many records.

use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use concordat::client::Answer;
use concordat_policy::Code;

use crate::oracle::{Later, Oracle, agree};
use crate::sandbox::Sandbox;

pub const DEPARTMENT: &str = "dhsc";
pub const PURPOSE: &str = "opportunity";
/// With the number of their keys. The first one tells the version too.
const STATEMENTS: [(usize, &str); 3] = [
    (0, "SELECT count(DISTINCT subject) AS n, avg(wellbeing_score) AS m FROM dhsc.health"),
    (1, "SELECT age_band, count(DISTINCT subject) AS n, avg(wellbeing_score) AS m FROM dhsc.health GROUP BY age_band"),
    (
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, count(h.subject) AS k FROM dfe.attainment a \
         LEFT JOIN dhsc.health h ON h.subject = a.subject GROUP BY a.region",
    ),
];

/// A world in which many queries are asked.
pub async fn world() -> Sandbox {
    Sandbox::with(2_000, |f| f.limits.caller_requests_per_minute = Some(100_000), |_| {}).await
}

/// Whom the department has data of, all of whom have agreed.
pub async fn people(sandbox: &Sandbox) -> Vec<String> {
    let known = "SELECT DISTINCT subject FROM dhsc.health ORDER BY subject";
    let batches = Oracle::over(&sandbox.layout).await.query(known).await;
    let identifiers = batches.iter().flat_map(|batch| {
        let subjects = cast(batch.column(0), &DataType::Utf8).unwrap();
        subjects.as_string::<i32>().iter().map(|subject| subject.unwrap().to_owned()).collect::<Vec<_>>()
    });
    identifiers.collect()
}

/// At which version a query finds the ledger, which is its number of records.
pub async fn stands(sandbox: &Sandbox) -> u64 {
    let answer = answer(sandbox, STATEMENTS[0].1).await;
    let sources = answer.summary["sources"].as_array().unwrap();
    sources.iter().find(|source| source["department"] == DEPARTMENT).unwrap()["consent_version"].as_u64().unwrap()
}

/// An answer, also where the gateway has noticed that the node was gone and not yet that it is back.
async fn answer(sandbox: &Sandbox, sql: &str) -> Answer {
    let since = Instant::now();
    loop {
        match sandbox.query(sql).await {
            Ok(answer) => return answer,
            Err(failure) => {
                let waits = failure.code == Some(Code::NodeUnavailable) && since.elapsed() < Duration::from_secs(20);
                assert!(waits, "{failure:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Answers are what plain DataFusion says of what was made later.
pub async fn compare(sandbox: &Sandbox, later: Later<'_>, when: &str) {
    let oracle = Oracle::after(&sandbox.layout, later).await;
    for (keys, sql) in STATEMENTS {
        let compared = agree(&answer(sandbox, sql).await, &oracle.query(sql).await, keys);
        assert!(compared > 0, "{when}: nothing was compared");
    }
}
