//! Groups and their totals equal plain DataFusion over the same files, and a small group hides the same way in each of them.

use arrow::array::RecordBatch;
use concordat::federation::Federation;
use concordat::federation::describe::View;

use crate::oracle::{Cell, Oracle, agree, rows};
use crate::sandbox::Sandbox;

/// Statements that both engines take: name, number of key columns, SQL. `grouping(…)` is a key too: it tells a total from a null.
const STATEMENTS: &[(&str, usize, &str)] = &[
    (
        "rollup",
        3,
        "SELECT a.region, a.cohort_year, grouping(a.region, a.cohort_year) AS g, count(DISTINCT a.subject) AS n, count(*) AS c, avg(a.attainment8) AS m, sum(a.attainment8) AS s FROM dfe.attainment a GROUP BY ROLLUP (a.region, a.cohort_year)",
    ),
    (
        "cube, inner",
        3,
        "SELECT a.region, a.free_school_meals, grouping(a.region, a.free_school_meals) AS g, count(DISTINCT a.subject) AS n, count(*) AS c, avg(c.months_claiming) AS m, sum(c.months_claiming) AS s FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY CUBE (a.region, a.free_school_meals)",
    ),
    (
        "cube, left",
        4,
        "SELECT a.region, a.disadvantage_band, grouping(a.region) AS g, grouping(a.disadvantage_band) AS h, count(DISTINCT a.subject) AS n, count(c.subject) AS k, sum(c.months_claiming) AS m FROM dfe.attainment a LEFT JOIN dwp.claims c ON a.subject = c.subject GROUP BY CUBE (a.region, a.disadvantage_band)",
    ),
    (
        "sets, right",
        3,
        "SELECT p.sector, a.region, grouping(a.region, p.sector) AS g, count(DISTINCT p.subject) AS n, count(a.subject) AS k, avg(a.attainment8) AS m FROM dfe.attainment a RIGHT JOIN dbt.apprenticeships p ON a.subject = p.subject GROUP BY GROUPING SETS ((p.sector), (p.sector, a.region), ())",
    ),
    (
        "rollup, full",
        2,
        "SELECT p.sector, grouping(p.sector) AS g, count(DISTINCT coalesce(a.subject, p.subject)) AS n, count(a.subject) AS k, count(p.subject) AS l, count(*) AS c, avg(a.attainment8) AS m FROM dfe.attainment a FULL JOIN dbt.apprenticeships p ON a.subject = p.subject GROUP BY ROLLUP (p.sector)",
    ),
    (
        "a key beside a rollup",
        3,
        "SELECT a.free_school_meals, a.region, grouping(a.region) AS g, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a WHERE a.region <> 'London' GROUP BY a.free_school_meals, ROLLUP (a.region)",
    ),
    (
        "filter and case",
        2,
        "SELECT a.disadvantage_band, grouping(a.disadvantage_band) AS g, count(DISTINCT a.subject) AS n, count(*) FILTER (WHERE c.claiming) AS k, avg(c.months_claiming) FILTER (WHERE c.claiming) AS f, avg(CASE WHEN c.claiming THEN 1.0 ELSE 0.0 END) AS share, sum(CASE WHEN a.free_school_meals THEN a.attainment8 END) AS s FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY ROLLUP (a.disadvantage_band)",
    ),
    (
        "having and arithmetic",
        2,
        "SELECT a.region, grouping(a.region) AS g, count(DISTINCT a.subject) AS n, sum(a.attainment8) / count(*) AS m FROM dfe.attainment a GROUP BY ROLLUP (a.region) HAVING grouping(a.region) = 1 OR count(*) > 500",
    ),
    (
        "per subject first",
        2,
        "SELECT t.region, grouping(t.region) AS g, count(DISTINCT t.subject) AS n, avg(t.total) AS m FROM (SELECT a.subject, a.region, sum(c.months_claiming) AS total FROM dwp.claims c JOIN dfe.attainment a ON a.subject = c.subject GROUP BY a.subject, a.region) AS t GROUP BY ROLLUP (t.region)",
    ),
    (
        "five departments",
        3,
        "SELECT a.region, a.free_school_meals, grouping(a.region, a.free_school_meals) AS g, count(DISTINCT a.subject) AS n, count(c.subject) AS k1, count(h.subject) AS k2, count(p.subject) AS k3, count(b.subject) AS k4, avg(h.wellbeing_score) AS w FROM dfe.attainment a LEFT JOIN dwp.claims c ON c.subject = a.subject LEFT JOIN dhsc.health h ON h.subject = a.subject LEFT JOIN dbt.apprenticeships p ON p.subject = a.subject LEFT JOIN dsit.connectivity b ON b.subject = a.subject GROUP BY ROLLUP (a.region, a.free_school_meals)",
    ),
    (
        "totals of summaries",
        2,
        "SELECT t.free_school_meals, grouping(t.free_school_meals) AS g, sum(t.n) AS n, max(t.m) AS m FROM (SELECT a.free_school_meals, a.disadvantage_band, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a WHERE a.free_school_meals IS NOT NULL GROUP BY a.free_school_meals, a.disadvantage_band) AS t WHERE t.n > 9 GROUP BY ROLLUP (t.free_school_meals)",
    ),
];

/// The view with totals in it, and the same question with its dataset named.
const VIEW: &str = "SELECT region, grouping(region) AS total, count(DISTINCT subject) AS n, avg(attainment8) AS m FROM dfe.attainment GROUP BY ROLLUP (region)";

fn describe(federation: &mut Federation) {
    let text = format!("-- mission: opportunity\n-- title: For the tests\n-- unit: persons\n-- description: Regions and all\n{VIEW}\n");
    federation.views.push(View { name: "margins".into(), text });
}

#[tokio::test]
async fn totals_equal_plain_datafusion_over_the_same_files() {
    let sandbox = Sandbox::with(20_000, describe, |_| {}).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    for (name, keys, sql) in STATEMENTS {
        let answer = sandbox.query(sql).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let expected = oracle.query(sql).await;
        let compared = agree(&answer, &expected, *keys);
        assert!(compared > 0, "{name}: nothing was compared");
    }
    let expected = oracle.query(VIEW).await;
    for sql in ["SELECT * FROM views.margins", "SELECT region, total, n, m FROM views.margins WHERE total < 2 ORDER BY total, region"] {
        assert!(agree(&sandbox.query(sql).await.unwrap(), &expected, 2) > 0, "{sql}");
    }
}

/// A set that stands twice is answered twice, alike.
#[tokio::test]
async fn the_same_set_twice_is_two_rows() {
    let sandbox = Sandbox::start(2_000).await;
    let sql = "SELECT count(DISTINCT subject) AS n FROM dfe.attainment GROUP BY GROUPING SETS ((), ())";
    let answer = sandbox.query(sql).await.unwrap();
    let counted: Vec<Cell> =
        answer.batches.iter().flat_map(each).map(|row| rows(&[row], 0).into_values().next().unwrap()[0].1.clone()).collect();
    assert!(counted.len() == 2 && counted[0] == counted[1] && counted[0] != Cell::Null, "{counted:?}");
}

fn each(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    (0..batch.num_rows()).map(move |row| batch.slice(row, 1))
}

/// In each set a few people look like nobody, and the total over everything is there even of them.
#[tokio::test]
async fn a_tiny_group_is_withheld_in_every_set_as_if_it_were_empty() {
    let sandbox = Sandbox::start(5_000).await;
    let why = || Cell::Text("persons: fewer than 10 distinct subjects".into());
    let sql = "SELECT region, free_school_meals, grouping(region, free_school_meals) AS g, count(*) AS persons FROM dfe.attainment GROUP BY CUBE (region, free_school_meals)";
    let all = rows(&sandbox.query(sql).await.unwrap().batches, 3);
    let tiny: Vec<_> = all.iter().filter(|(key, _)| key.contains("Isles of Scilly")).collect();
    // Alone, and beside each of the published values of the other key.
    assert_eq!(tiny.len(), 3, "{tiny:?}");
    for (key, row) in tiny {
        assert_eq!((&row[3].1, &row[4].1), (&Cell::Null, &why()), "{key}");
    }
    for of in ["region = 'Isles of Scilly'", "region = 'Isles of Scilly' AND attainment8 < 20"] {
        let sql =
            format!("SELECT region, grouping(region) AS g, count(*) AS persons FROM dfe.attainment WHERE {of} GROUP BY ROLLUP (region)");
        let all = rows(&sandbox.query(&sql).await.unwrap().batches, 2);
        assert_eq!(all.len(), 2, "{all:?}");
        for (key, row) in all {
            assert_eq!((&row[2].1, &row[3].1), (&Cell::Null, &why()), "{key}");
        }
    }
    // A total of summaries of which one was withheld is withheld.
    let sql = "SELECT region, grouping(region) AS g, sum(persons) AS persons FROM (SELECT region, count(*) AS persons FROM dfe.attainment GROUP BY region) AS t GROUP BY ROLLUP (region)";
    let all = rows(&sandbox.query(sql).await.unwrap().batches, 2);
    let total = all.values().find(|row| row[1].1 == Cell::Number(1.0)).unwrap();
    assert_eq!((&total[0].1, &total[2].1, &total[3].1), (&Cell::Null, &Cell::Null, &why()));
    // As a key, a withheld number is named; the key that a total leaves out is not, though it is null too.
    let sql = "SELECT t.persons, grouping(t.persons) AS g, count(*) AS regions FROM (SELECT region, count(*) AS persons FROM dfe.attainment GROUP BY region) AS t GROUP BY ROLLUP (t.persons)";
    let all = rows(&sandbox.query(sql).await.unwrap().batches, 2);
    let of = |set: f64| all.values().find(|row| row[0].1 == Cell::Null && row[1].1 == Cell::Number(set)).unwrap();
    assert_eq!((&of(0.0)[3].1, &of(1.0)[3].1), (&why(), &Cell::Null));
}
