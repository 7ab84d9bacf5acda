//! The joined views equal plain DataFusion over the same files, with policy on, for every kind of join.

use crate::oracle::{Oracle, agree};
use crate::sandbox::Sandbox;

/// Statements that both engines take: name, number of key columns, SQL.
pub const STATEMENTS: &[(&str, usize, &str)] = &[
    (
        "one dataset",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, count(*) AS c, avg(a.attainment8) AS m, sum(a.attainment8) AS s FROM dfe.attainment a GROUP BY a.region",
    ),
    (
        "inner",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, avg(c.months_claiming) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region",
    ),
    (
        "left",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, count(c.subject) AS k, sum(c.months_claiming) AS m FROM dfe.attainment a LEFT JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region",
    ),
    (
        "right",
        1,
        "SELECT p.sector, count(DISTINCT p.subject) AS n, count(a.subject) AS k, avg(a.attainment8) AS m FROM dfe.attainment a RIGHT JOIN dbt.apprenticeships p ON a.subject = p.subject GROUP BY p.sector",
    ),
    (
        "full",
        0,
        "SELECT count(DISTINCT coalesce(c.subject, b.subject)) AS n, count(c.subject) AS l, count(b.subject) AS r, count(*) AS rows, avg(b.download_mbps) AS m FROM dwp.claims c FULL JOIN dsit.connectivity b ON c.subject = b.subject",
    ),
    (
        "in",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a WHERE a.subject IN (SELECT c.subject FROM dwp.claims c WHERE c.claiming) GROUP BY a.region",
    ),
    (
        "exists",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a WHERE EXISTS (SELECT 1 FROM dhsc.health h WHERE h.subject = a.subject) GROUP BY a.region",
    ),
    (
        "not in",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a WHERE a.subject NOT IN (SELECT c.subject FROM dwp.claims c) GROUP BY a.region",
    ),
    (
        "not exists",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a WHERE NOT EXISTS (SELECT 1 FROM dhsc.health h WHERE h.subject = a.subject) GROUP BY a.region",
    ),
    (
        "anti by null",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a LEFT JOIN dwp.claims c ON a.subject = c.subject WHERE c.subject IS NULL GROUP BY a.region",
    ),
    (
        "condition in the join",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, count(c.subject) AS k FROM dfe.attainment a LEFT JOIN dwp.claims c ON a.subject = c.subject AND c.claiming GROUP BY a.region",
    ),
    (
        "conditions at the nodes",
        2,
        "SELECT a.region, a.cohort_year, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject WHERE c.conditionality IN ('none', 'working') AND c.claim_started IS NULL AND a.region <> 'London' AND a.attainment8 >= 20 AND a.attainment8 < 70 GROUP BY a.region, a.cohort_year",
    ),
    (
        "filter and case",
        1,
        "SELECT a.disadvantage_band, count(DISTINCT a.subject) AS n, count(*) FILTER (WHERE c.claiming) AS k, avg(CASE WHEN c.claiming THEN 1.0 ELSE 0.0 END) AS share, sum(CASE WHEN a.free_school_meals THEN a.attainment8 END) AS s FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.disadvantage_band",
    ),
    (
        "nulls under NOT",
        0,
        "SELECT count(DISTINCT a.subject) AS n, count(p.subject) AS k FROM dfe.attainment a LEFT JOIN dbt.apprenticeships p ON a.subject = p.subject WHERE NOT (p.started IS TRUE)",
    ),
    (
        "per subject first",
        0,
        "SELECT count(DISTINCT t.subject) AS n, avg(t.total) AS m FROM (SELECT c.subject, sum(c.months_claiming) AS total FROM dwp.claims c JOIN dfe.attainment a ON a.subject = c.subject GROUP BY c.subject) AS t",
    ),
    (
        "arithmetic and having",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, sum(a.attainment8) / count(*) AS m, 100 * count(*) AS h FROM dfe.attainment a GROUP BY a.region HAVING count(*) > 50",
    ),
    (
        "five departments",
        2,
        "SELECT a.region, a.free_school_meals, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m, avg(h.wellbeing_score) AS w, avg(b.download_mbps) AS d, count(p.subject) AS k FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject JOIN dhsc.health h ON h.subject = a.subject JOIN dbt.apprenticeships p ON p.subject = a.subject JOIN dsit.connectivity b ON b.subject = a.subject GROUP BY a.region, a.free_school_meals",
    ),
    (
        "five departments, left",
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, count(c.subject) AS k1, count(h.subject) AS k2, count(p.subject) AS k3, count(b.subject) AS k4, avg(h.wellbeing_score) AS w FROM dfe.attainment a LEFT JOIN dwp.claims c ON c.subject = a.subject LEFT JOIN dhsc.health h ON h.subject = a.subject LEFT JOIN dbt.apprenticeships p ON p.subject = a.subject LEFT JOIN dsit.connectivity b ON b.subject = a.subject GROUP BY a.region",
    ),
];

#[tokio::test]
async fn answers_equal_plain_datafusion_over_the_same_files() {
    let sandbox = Sandbox::start(20_000).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    assert!(oracle.left_out > 500, "the sample holds people whom policy leaves out: {}", oracle.left_out);
    for (name, keys, sql) in STATEMENTS {
        let answer = sandbox.query(sql).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let compared = agree(&answer, &oracle.query(sql).await, *keys);
        assert!(compared > 0, "{name}: nothing was compared");
    }
}

#[tokio::test]
async fn every_view_of_the_estate_answers_and_states_its_sources() {
    let sandbox = Sandbox::start(5_000).await;
    for (purpose, views) in
        [("opportunity.measure", 5), ("opportunity.measure.region", 5), ("health.prevention", 1), ("economy.measure", 3)]
    {
        let client = sandbox.client_with(|c| c.purpose = Some(purpose.into())).await;
        let catalogue = client.catalogue().await.unwrap();
        assert_eq!(catalogue.views.len(), views, "{purpose}");
        for view in catalogue.views {
            let answer =
                client.query(&format!("SELECT * FROM views.{}", view.name)).await.unwrap_or_else(|e| panic!("{}: {e:?}", view.name));
            let rows: usize = answer.batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
            assert!(rows > 0, "{}", view.name);
            assert_eq!(answer.schema.fields().last().unwrap().name(), "withheld");
            assert!(!answer.summary["sources"].as_array().unwrap().is_empty(), "{}", answer.summary);
            assert!(answer.summary["log_entry"].is_u64());
        }
    }
}

#[tokio::test]
async fn a_tiny_region_is_null_with_a_reason_and_stays_hidden_from_having_and_order() {
    let sandbox = Sandbox::start(5_000).await;
    let by_region = "SELECT region, count(*) AS persons FROM dfe.attainment GROUP BY region";
    let answer = sandbox.query(by_region).await.unwrap();
    let rows = crate::oracle::rows(&answer.batches, 1);
    let tiny = rows.iter().find(|(key, _)| key.contains("Isles of Scilly")).expect("the region is in the published list").1;
    assert_eq!(tiny[1].1, crate::oracle::Cell::Null);
    assert_eq!(tiny[2].1, crate::oracle::Cell::Text("persons: fewer than 10 distinct subjects".into()));
    for exact in 0..10 {
        for having in [
            format!("count(*) = {exact}"),
            format!("count(*) <= {exact}"),
            format!("count(*) < 10 AND avg(attainment8) > 0 AND count(*) <> {exact}"),
        ] {
            let answer = sandbox.query(&format!("{by_region} HAVING {having}")).await.unwrap();
            assert_eq!(
                answer.batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(),
                0,
                "HAVING {having} saw a small number"
            );
        }
    }
    // Nor does a condition inside an aggregate single them out.
    for sql in [
        "SELECT sum(CASE WHEN region = 'Isles of Scilly' THEN attainment8 ELSE 0 END) AS v FROM dfe.attainment",
        "SELECT avg(attainment8) FILTER (WHERE region = 'Isles of Scilly') AS v FROM dfe.attainment",
        "SELECT sum(CASE WHEN a.region = 'Isles of Scilly' THEN c.months_claiming ELSE 0 END) AS v FROM dfe.attainment a LEFT JOIN dwp.claims c ON a.subject = c.subject",
    ] {
        let answer = sandbox.query(sql).await.unwrap();
        let row = crate::oracle::rows(&answer.batches, 0).into_values().next().unwrap();
        assert_eq!(row[0].1, crate::oracle::Cell::Null, "{sql}");
    }
    // A total over groups of which one was withheld is withheld, not silently smaller.
    let total = sandbox.query(&format!("SELECT sum(persons) AS total FROM ({by_region}) AS t")).await.unwrap();
    let total = crate::oracle::rows(&total.batches, 0);
    assert_eq!(total.values().next().unwrap()[0].1, crate::oracle::Cell::Null);
}
