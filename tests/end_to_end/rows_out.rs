//! Rows of single subjects: only those that enough subjects share, only so many a day, and only where an agreement lets them out.

use std::collections::BTreeMap;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use concordat::federation::Federation;
use concordat_policy::{Code, Use};

use crate::commands::run;
use crate::fields::agreed;
use crate::oracle::Oracle;
use crate::sandbox::{Sandbox, refused};

const ROWS: &str = "SELECT region, disadvantage_band FROM dfe.attainment";
const MOST: usize = 3_000;

/// Two columns of which people's own values may be put out.
fn describe(federation: &mut Federation) {
    let dataset = federation.agreements[0].datasets.iter_mut().find(|d| d.department == "dfe").unwrap();
    for (name, uses) in &mut dataset.columns {
        if ["region", "disadvantage_band"].contains(&name.as_str()) {
            uses.push(Use::Output);
        }
    }
}

/// How often each row is there.
fn counted(batches: &[RecordBatch], columns: usize) -> BTreeMap<Vec<Option<String>>, usize> {
    let mut counted = BTreeMap::new();
    for batch in batches {
        let texts: Vec<_> = batch.columns().iter().take(columns).map(|column| cast(column, &DataType::Utf8).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let texts = texts.iter().map(|text| text.as_string::<i32>().iter().nth(row).unwrap().map(str::to_owned)).collect();
            *counted.entry(texts).or_insert(0) += 1;
        }
    }
    counted
}

/// The rows of the oracle's groups that at least `least` people share, as [`counted`] has them.
fn shared(groups: &[RecordBatch], columns: usize, least: i64) -> BTreeMap<Vec<Option<String>>, usize> {
    let mut shared: BTreeMap<Vec<Option<String>>, usize> = BTreeMap::new();
    for batch in groups {
        let (rows, n) = (batch["rows"].as_primitive::<Int64Type>(), batch["n"].as_primitive::<Int64Type>());
        for (row, (key, _)) in
            (0..batch.num_rows()).flat_map(|row| counted(&[batch.slice(row, 1)], columns).into_iter().map(move |k| (row, k)))
        {
            if n.value(row) >= least {
                *shared.entry(key).or_default() += usize::try_from(rows.value(row)).unwrap();
            }
        }
    }
    shared
}

#[tokio::test]
async fn only_rows_that_enough_people_share_go_out_and_only_so_many_a_day() {
    let stated: &[(&str, &str)] = &[(
        "name = \"attainment\"\n",
        "name = \"attainment\"\nrow_level = { k = 20, over = [\"region\", \"disadvantage_band\"], rows_per_day = 3000 }\n",
    )];
    let mut sandbox = Sandbox::with(2_000, describe, |layout| agreed(layout, stated)).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    let groups = |keys: &str| format!("SELECT {keys}, count(*) AS rows, count(DISTINCT subject) AS n FROM dfe.attainment GROUP BY {keys}");

    // The band is not shown, and counts all the same.
    let of_regions = sandbox.query("SELECT region FROM dfe.attainment").await.unwrap();
    let mut delivered: usize = of_regions.batches.iter().map(RecordBatch::num_rows).sum();
    let both = shared(&oracle.query(&groups("region, disadvantage_band")).await, 2, 20);
    let mut by_region: BTreeMap<Vec<Option<String>>, usize> = BTreeMap::new();
    for (row, rows) in both {
        *by_region.entry(row[..1].to_vec()).or_default() += rows;
    }
    assert_eq!(counted(&of_regions.batches, 1), by_region);
    let all = oracle.query(&groups("region")).await;
    assert_ne!(by_region, shared(&all, 1, 20), "the band makes a difference");
    let few: BTreeMap<_, _> = shared(&all, 1, 0).into_iter().filter(|(region, _)| !shared(&all, 1, 20).contains_key(region)).collect();
    assert!(few.contains_key(&vec![Some("Isles of Scilly".to_owned())]), "nine people live there: {few:?}");
    let rules = of_regions.summary["rules"].to_string();
    assert!(rules.contains("rows that fewer than 20 distinct subjects share are left out"), "{rules}");

    // LIMIT chooses among the rows that stay.
    let first = sandbox.query(&format!("{ROWS} ORDER BY region, disadvantage_band LIMIT 5")).await.unwrap();
    let kept = shared(&oracle.query(&groups("region, disadvantage_band")).await, 2, 20);
    let found = counted(&first.batches, 2);
    assert!(found.values().sum::<usize>() == 5 && found.keys().all(|row| kept.contains_key(row)), "{found:?}");
    delivered += 5;

    let explained = run(&sandbox, &["explain", ROWS]).text();
    assert!(explained.contains("rule: rows that fewer than 20 distinct subjects share are left out"), "{explained}");
    refused(sandbox.query(&format!("{ROWS} ORDER BY attainment8")).await, Code::Denied, "attainment8 may not be used for output");

    // As many answers as the day has rows for, then none, and no part of one.
    let mut answers = 0;
    let failure = loop {
        match sandbox.query(ROWS).await {
            Ok(answer) => {
                assert_eq!(counted(&answer.batches, 2), kept);
                delivered += answer.batches.iter().map(RecordBatch::num_rows).sum::<usize>();
                answers += 1;
            }
            Err(failure) => break failure,
        }
        assert!(answers < 10 && delivered <= MOST, "{delivered} rows were let out");
    };
    let says = "more rows of single subjects of dfe.attainment than are left today of the 3000";
    assert!(failure.message.contains(says) && failure.department.as_deref() == Some("dfe"), "{failure:?}");
    sandbox.running.restart_gateway().await.unwrap();
    refused(sandbox.query(ROWS).await, Code::LimitExceeded, says);
    sandbox.query("SELECT count(*) AS n FROM dfe.attainment").await.unwrap();
}

#[tokio::test]
async fn a_department_that_says_nothing_of_rows_gets_the_strictest_reading() {
    let sandbox = Sandbox::with(2_000, describe, |_| {}).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    let groups = "SELECT region, disadvantage_band, count(*) AS rows, count(DISTINCT subject) AS n FROM dfe.attainment GROUP BY region, disadvantage_band";
    let answer = sandbox.query(ROWS).await.unwrap();
    let kept = shared(&oracle.query(groups).await, 2, 10);
    assert!(!kept.is_empty());
    assert_eq!(counted(&answer.batches, 2), kept);
}

/// Who is in one department only does not make another's people enough: rows are alike where the same departments have them.
#[tokio::test]
async fn after_a_full_join_no_department_lifts_the_rows_of_another() {
    let describe = |federation: &mut Federation| {
        for (department, column) in [("dfe", "region"), ("dwp", "claiming")] {
            let dataset = federation.agreements[0].datasets.iter_mut().find(|d| d.department == department).unwrap();
            dataset.columns.iter_mut().find(|(name, _)| name == column).unwrap().1.push(Use::Output);
        }
    };
    let sandbox = Sandbox::with(2_000, describe, |_| {}).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    let joined = "FROM dfe.attainment a FULL JOIN dwp.claims c ON a.subject = c.subject";
    let by = |keys: &str| {
        let subjects = "count(DISTINCT coalesce(a.subject, c.subject)) AS n";
        format!("SELECT a.region, c.claiming, count(*) AS rows, {subjects} {joined} GROUP BY {keys}")
    };
    let answer = sandbox.query(&format!("SELECT a.region, c.claiming {joined}")).await.unwrap();
    let kept = shared(&oracle.query(&by("a.region, c.claiming, a.subject IS NULL, c.subject IS NULL")).await, 2, 10);
    assert!(kept.len() > 5, "{kept:?}");
    assert_eq!(counted(&answer.batches, 2), kept);
}
