//! Numbers that are not finite are null wherever they come from: one of them withholds no sum, and tells of nobody.

use arrow::array::AsArray as _;
use arrow::datatypes::{Float64Type, Int64Type};
use concordat::client::Answer;
use concordat::federation::Layout;

use super::{Copied, data_of, instead, into_sqlite};
use crate::oracle::rows;
use crate::sandbox::Sandbox;

const PEOPLE: u64 = 2_000;
const SQL: &str = "SELECT region, count(*) AS n, count(attainment8) AS scores, avg(attainment8) AS mean FROM dfe.attainment GROUP BY region ORDER BY region";

/// The data with these texts, one after the other, in place of the number of every fortieth row.
fn with(data: &Copied, texts: &[&str]) -> Copied {
    let place = data.columns.iter().position(|(_, kind)| *kind == "double precision").unwrap();
    let row = |(number, row): (usize, &str)| {
        let mut cells: Vec<&str> = row.split(',').collect();
        if number % 40 == 0 {
            cells[place] = texts[number / 40 % texts.len()];
        }
        cells.join(",") + "\n"
    };
    Copied { columns: data.columns.clone(), rows: data.rows.lines().enumerate().map(row).collect() }
}

fn as_csv(data: &Copied) -> impl FnOnce(&Layout) {
    let header = data.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    let text = format!("{header}\n{}", data.rows);
    move |layout| {
        std::fs::write(layout.node("dfe").join("scores.csv"), text).unwrap();
        instead(layout, "dfe", "source = \"scores.csv\"\nformat = \"csv\"", "");
    }
}

fn as_sqlite(data: &Copied) -> impl FnOnce(&Layout) {
    move |layout| {
        into_sqlite(&layout.node("dfe").join("scores.db"), data);
        let connection = "\n[[connection]]\nname = \"office\"\nurl = \"sqlite:scores.db\"\n";
        instead(layout, "dfe", "connection = \"office\"\nquery = \"SELECT * FROM claims\"", connection);
    }
}

/// How many people and scores each region has, and the mean.
fn told(answer: &Answer) -> Vec<(Option<i64>, Option<i64>, Option<f64>)> {
    let numbers = answer.batches.iter().flat_map(|batch| {
        let counts = ["n", "scores"].map(|name| batch[name].as_primitive::<Int64Type>());
        let means = batch["mean"].as_primitive::<Float64Type>();
        counts[0].iter().zip(counts[1]).zip(means).map(|((n, scores), mean)| (n, scores, mean)).collect::<Vec<_>>()
    });
    numbers.collect()
}

#[tokio::test]
async fn an_infinite_number_withholds_nothing_and_counts_as_absent() {
    let data = data_of(PEOPLE, "dfe").await;
    let sandbox = Sandbox::with(PEOPLE, |_| {}, as_csv(&with(&data, &[""]))).await;
    let answer = sandbox.query(SQL).await.unwrap();
    let (expected, regions) = (told(&answer), rows(&answer.batches, 1).len());
    drop(sandbox);
    assert!(expected.iter().filter(|(.., mean)| mean.is_some()).count() > 5, "{expected:?}");
    // Of SQLite's, a NaN is null already.
    let (csv, sqlite) = (with(&data, &["inf", "NaN", "-inf", "1e999"]), with(&data, &["9e999", "-9e999"]));
    type Change<'a> = Box<dyn FnOnce(&Layout) + 'a>;
    let changes: [(&str, Change); 2] = [("csv", Box::new(as_csv(&csv))), ("sqlite", Box::new(as_sqlite(&sqlite)))];
    for (kind, change) in changes {
        let sandbox = Sandbox::with(PEOPLE, |_| {}, change).await;
        let answer = sandbox.query(SQL).await.unwrap_or_else(|e| panic!("{kind}: {e:?}"));
        let found = told(&answer);
        assert_eq!((found.len(), rows(&answer.batches, 1).len()), (expected.len(), regions), "{kind}");
        for (found, expected) in found.iter().zip(&expected) {
            let alike = found.2.zip(expected.2).map_or(found.2 == expected.2, |(one, other)| (one - other).abs() < 1e-6);
            assert!((found.0, found.1) == (expected.0, expected.1) && alike, "{kind}: {found:?}, and with nulls {expected:?}");
        }
    }
}
