//! Predicates on real files: SQL's three-valued logic, typed literals, exact column names.

use chrono::{NaiveDate, Utc};
use concordat_policy::{Comparison, Predicate, Value};
use concordat_proto::predicate::to_wire;
use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::datatypes::Float64Type;
use futures::StreamExt as _;

use super::*;
use crate::fixture::World;
use crate::orders::tests::verifier;

async fn open(world: &World) -> Datasets {
    Datasets::open(&Config::load(&world.path("node.toml")).unwrap()).await.unwrap()
}

/// The identifiers that a scan gives, as they stand in the source.
async fn identifiers(world: &World, datasets: &Datasets, predicate: Option<&Predicate>) -> Vec<String> {
    let now = Utc::now();
    let mut request = world.request(now);
    request.predicate = predicate.map(to_wire);
    let order = verifier(world).verify(&world.order(&request, now), &world.gateway.fingerprint, now).unwrap();
    let scan = datasets.scan(&order.selection(), 2).await.unwrap();
    let mut found = Vec::new();
    for mut stream in scan.streams {
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            assert_eq!(batch.num_columns(), 1 + order.columns.len());
            found.extend(batch.column(0).as_string::<i32>().iter().map(|id| id.unwrap_or("-").to_owned()));
        }
    }
    assert_eq!(scan.witness.unchanged(), Ok(()));
    found.sort();
    found
}

fn compare(column: &str, comparison: Comparison, value: Value) -> Predicate {
    Predicate::Compare { column: column.into(), comparison, value }
}

#[tokio::test]
async fn predicates_follow_three_valued_logic() {
    use Comparison::{Equal, Greater, LessOrEqual, NotEqual};
    let world = World::new();
    let datasets = open(&world).await;
    let text = |t: &str| Value::Text(t.into());
    let is_null = |c: &str| Predicate::IsNull { column: c.into() };
    let is_true = |c: &str| Predicate::IsTrue { column: c.into() };
    let not = |p: Predicate| Predicate::Not(Box::new(p));
    let day = NaiveDate::from_ymd_opt(2008, 1, 4).unwrap();
    let year = compare("cohort", Equal, Value::Integer(2024));
    let cases = [
        (None, 8),
        (Some(compare("region", Equal, text("Wales"))), 1),
        (Some(compare("region", NotEqual, text("London"))), 1),
        (Some(not(compare("region", Equal, text("London")))), 1),
        (Some(is_null("region")), 1),
        (Some(not(is_null("region"))), 7),
        (Some(year.clone()), 4),
        (Some(not(year.clone())), 3),
        (Some(Predicate::Or(vec![year.clone(), is_null("cohort")])), 5),
        (Some(Predicate::And(vec![year.clone(), is_true("fsm")])), 3),
        (Some(is_true("fsm")), 5),
        (Some(not(is_true("fsm"))), 2),
        (Some(Predicate::In { column: "cohort".into(), values: vec![Value::Integer(2023), Value::Integer(1999)] }), 3),
        (Some(not(Predicate::In { column: "cohort".into(), values: vec![Value::Integer(2023)] })), 4),
        (Some(Predicate::In { column: "cohort".into(), values: Vec::new() }), 0),
        (Some(compare("born", Greater, Value::Date(day))), 4),
        (Some(compare("born", LessOrEqual, Value::Date(day))), 3),
        (Some(Predicate::And(Vec::new())), 8),
        (Some(Predicate::Or(Vec::new())), 0),
    ];
    for (predicate, rows) in cases {
        assert_eq!(identifiers(&world, &datasets, predicate.as_ref()).await.len(), rows, "{predicate:?}");
    }
}

/// The scores that a scan gives for a predicate, in order; null where there is none.
async fn scores(world: &World, datasets: &Datasets, predicate: &Predicate) -> Vec<Option<f64>> {
    let now = Utc::now();
    let mut request = world.request(now);
    request.predicate = Some(to_wire(predicate));
    let order = verifier(world).verify(&world.order(&request, now), &world.gateway.fingerprint, now).unwrap();
    let mut found = Vec::new();
    for mut stream in datasets.scan(&order.selection(), 2).await.unwrap().streams {
        while let Some(batch) = stream.next().await {
            found.extend(batch.unwrap()["score"].as_primitive::<Float64Type>().iter());
        }
    }
    found.sort_by(|one, other| one.partial_cmp(other).unwrap());
    found
}

#[tokio::test]
async fn values_beyond_a_bound_leave_as_the_bound_and_no_predicate_tells_who_they_are() {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let mut world = World::new();
    let score = "score = { type = \"number\", classification = \"personal\", uses = [\"aggregate\"] }";
    let cohort = "cohort = { type = \"integer\", classification = \"personal\", uses = [\"filter\"] }";
    world.agree(score, &score.replace("[\"aggregate\"]", "[\"aggregate\", \"filter\"], coded = { at_least = 2, at_most = 6.5 }"));
    world.agree(cohort, &cohort.replace("[\"filter\"]", "[\"filter\"], coded = { at_most = 2023 }"));
    // Neither a NaN nor an infinity is anybody's largest number.
    world.replace("data/attainment.csv", "2.5", "NaN");
    world.replace("data/attainment.csv", "4.5", "-inf");
    let datasets = open(&world).await;
    let is = |comparison, bound: f64| compare("score", comparison, Value::Number(bound));
    let none = Predicate::IsNull { column: "score".into() };
    let (least, most) = (Some(2.0), Some(6.5));
    for (predicate, expected) in [
        (Predicate::And(Vec::new()), vec![None, None, None, least, Some(5.5), most, most, most]),
        (is(Greater, 6.5), vec![]),
        (is(GreaterOrEqual, 6.5), vec![most; 3]),
        (is(Equal, 8.5), vec![]),
        (is(Less, 2.0), vec![]),
        (is(LessOrEqual, 2.0), vec![least]),
        (Predicate::Not(Box::new(is(LessOrEqual, 6.5))), vec![]),
        (Predicate::In { column: "score".into(), values: vec![Value::Number(7.5), Value::Number(5.5)] }, vec![Some(5.5)]),
        (none.clone(), vec![None; 3]),
        (compare("cohort", Equal, Value::Integer(2024)), vec![]),
    ] {
        assert_eq!(scores(&world, &datasets, &predicate).await, expected, "{predicate:?}");
    }
    let recent = compare("cohort", Equal, Value::Integer(2023));
    assert_eq!(identifiers(&world, &datasets, Some(&recent)).await.len(), 7, "who is beyond stands with those at the bound");

    // The agreement's own condition meets what the department holds.
    world.agree("[dataset.columns]\nregion", "rows = [{ column = \"cohort\", at_least = 2024 }]\n[dataset.columns]\nregion");
    assert_eq!(identifiers(&world, &datasets, Some(&recent)).await.len(), 4);
}

#[tokio::test]
async fn a_source_that_changes_or_goes_is_noticed() {
    let world = World::new();
    let datasets = open(&world).await;
    let now = Utc::now();
    let order = verifier(&world).verify(&world.order(&world.request(now), now), &world.gateway.fingerprint, now).unwrap();
    let scan = datasets.scan(&order.selection(), 2).await.unwrap();
    world.replace("data/attainment.csv", "London", "Leeds");
    assert_eq!(scan.witness.unchanged().unwrap_err().code, Code::NodeFaulty);
    std::fs::remove_file(world.path("data/attainment.csv")).unwrap();
    let refusal = datasets.scan(&order.selection(), 2).await.map(|_| ()).unwrap_err();
    assert_eq!((refusal.code, refusal.department.as_deref()), (Code::NodeUnavailable, Some("dfe")));
    assert_eq!(refusal.message, "the source of 'dfe.attainment' cannot be read");
}

/// The fixture's rows in a file of SQLite, in which the column `cohort` of the last row holds `odd`.
fn in_sqlite(odd: &str) -> World {
    let world = World::new();
    let database = rusqlite::Connection::open(world.path("data/office.db")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE pupils (nino TEXT, REGION TEXT, score REAL, cohort INTEGER, fsm BOOLEAN, born DATE, secret TEXT, photo BLOB)",
        )
        .unwrap();
    let value = |text: &str| match text {
        "" => rusqlite::types::Value::Null,
        "true" | "false" => i64::from(text == "true").into(),
        text => text.to_owned().into(),
    };
    for line in crate::fixture::DATA.lines().skip(1) {
        let values = rusqlite::params_from_iter(line.split(',').map(value));
        database.execute("INSERT INTO pupils VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", values).unwrap();
    }
    if !odd.is_empty() {
        database.execute("UPDATE pupils SET cohort = ? WHERE rowid = 8", [odd]).unwrap();
    }
    let table = "connection = \"office\"\ntable = \"pupils\"\n";
    world.replace("node.toml", "source = \"data/attainment.csv\"\nformat = \"csv\"\n", table);
    world.replace("node.toml", "[[dataset]]", "[[connection]]\nname = \"office\"\nurl = \"sqlite:data/office.db\"\n\n[[dataset]]");
    world
}

#[tokio::test]
async fn sqlite_answers_as_files_do() {
    let (files, lite) = (World::new(), in_sqlite(""));
    let (of_files, of_lite) = (open(&files).await, open(&lite).await);
    let cohort = compare("cohort", Comparison::Less, Value::Integer(2024));
    let born = compare("born", Comparison::GreaterOrEqual, Value::Date(NaiveDate::from_ymd_opt(2008, 1, 4).unwrap()));
    for predicate in
        [None, Some(cohort.clone()), Some(Predicate::Not(Box::new(cohort))), Some(born), Some(Predicate::IsTrue { column: "fsm".into() })]
    {
        let (expected, found) =
            (identifiers(&files, &of_files, predicate.as_ref()).await, identifiers(&lite, &of_lite, predicate.as_ref()).await);
        assert_eq!(found, expected, "{predicate:?}");
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_fails_the_release_and_is_not_shown() {
    let world = in_sqlite("AB123456C");
    let datasets = open(&world).await;
    let now = Utc::now();
    let mut request = world.request(now);
    request.predicate = Some(to_wire(&compare("cohort", Comparison::Equal, Value::Integer(2024))));
    let order = verifier(&world).verify(&world.order(&request, now), &world.gateway.fingerprint, now).unwrap();
    let scan = datasets.scan(&order.selection(), 2).await.unwrap();
    let mut refusals = Vec::new();
    for mut stream in scan.streams {
        while let Some(batch) = stream.next().await {
            refusals.extend(batch.err().map(|e| scan.witness.unreadable(&e)));
        }
    }
    assert!(!refusals.is_empty());
    for refusal in refusals {
        assert_eq!((refusal.code, refusal.operator.as_deref()), (Code::NodeUnavailable, Some("a value of column 'cohort' is no integer")));
    }
    assert_eq!(scan.witness.unchanged().unwrap_err().code, Code::NodeFaulty);
}

#[tokio::test]
async fn columns_of_types_that_are_not_offered_are_refused_by_name() {
    let world = in_sqlite("");
    world.replace("node.toml", "source = \"secret\"", "source = \"photo\"");
    let found = Datasets::open(&Config::load(&world.path("node.toml")).unwrap()).await.unwrap_err();
    assert_eq!(found.findings.len(), 1);
    assert_eq!(found.findings[0].cause(), "dataset 'attainment': column 'unused' is of the type BLOB, which is not offered");
    let config = Config::load(&world.path("node.toml")).unwrap();
    let Source::Database(connection, _) = &config.datasets[0].source else { panic!("a database") };
    let listed = crate::source::inspect(connection).await.unwrap();
    assert_eq!((listed.len(), listed[0].name.to_string(), listed[0].columns.len()), (1, "pupils".into(), 8));
}

/// The rows of a scan, as text, but for their file's number, which is the last cell where there is one.
async fn rows(scan: Scan) -> Vec<Vec<String>> {
    use datafusion::arrow::util::display::array_value_to_string;
    let mut rows = Vec::new();
    for mut stream in scan.streams {
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            let row = |row| batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect();
            rows.extend((0..batch.num_rows()).map(row).collect::<Vec<Vec<String>>>());
        }
    }
    rows.sort();
    rows
}

#[tokio::test]
async fn a_scan_file_by_file_has_the_rows_of_a_scan_and_leaves_out_what_is_known() {
    for format in ["csv", "parquet"] {
        let world = World::new();
        let source = format!("source = \"files\"\nformat = \"{format}\"");
        world.replace("node.toml", "source = \"data/attainment.csv\"\nformat = \"csv\"", &source);
        let write = |number: usize, rows: std::ops::Range<usize>| {
            let context = SessionContext::new();
            let born = |row: usize| format!("date '2008-01-{:02}'", 1 + row % 28);
            let row =
                |row: usize| format!("('AB{row:06}A', 'London', {row}.5, {}, {}, {}, 'x')", 2000 + row, row.is_multiple_of(2), born(row));
            let values: Vec<String> = rows.map(row).collect();
            let names = "nino, \"REGION\", score, cohort, fsm, born, secret";
            // Of Parquet the second file has them in another order.
            let order = if format == "parquet" && number == 2 { "born, secret, fsm, nino, cohort, score, \"REGION\"" } else { names };
            let query = format!("SELECT {order} FROM (VALUES {}) AS t({names})", values.join(", "));
            let path = world.path("files").join(format!("{number}.{format}")).to_str().unwrap().to_owned();
            async move {
                let frame = context.sql(&query).await.unwrap();
                let options = datafusion::dataframe::DataFrameWriteOptions::new().with_single_file_output(true);
                if format == "csv" {
                    frame.write_csv(&path, options, None).await.unwrap();
                } else {
                    frame.write_parquet(&path, options, None).await.unwrap();
                }
            }
        };
        std::fs::create_dir(world.path("files")).unwrap();
        write(1, 1..1_000).await;
        let datasets = open(&world).await;
        let now = Utc::now();
        let order = verifier(&world).verify(&world.order(&world.request(now), now), &world.gateway.fingerprint, now).unwrap().selection();
        let known = |scan: &Scan| match &scan.seen {
            Some(Seen::Files(files)) => Known { parts: Parts::Files(files.clone()), shape: scan.shape.clone() },
            _ => panic!("files"),
        };
        let files = |known: &Known| match &known.parts {
            Parts::Files(files) => files.clone(),
            Parts::Versions(_) => panic!("files"),
        };
        let scan = datasets.scan_apart(&order, 2, None).await.unwrap();
        let first = known(&scan);
        assert!(scan.apart.is_none() && rows(scan).await == rows(datasets.scan(&order, 2).await.unwrap()).await, "of one file no number");
        // More than are split, too.
        for (all, from) in [(3, 2), (9, 4)] {
            for number in from..=all {
                write(number, number * 1_000..number * 1_000 + number).await;
            }
            let scan = datasets.scan_apart(&order, 2, None).await.unwrap();
            let (found, mut apart) = (known(&scan), rows(scan).await);
            let numbers = apart.iter_mut().map(|row| row.pop().unwrap().parse::<usize>().unwrap()).collect::<Vec<_>>();
            assert_eq!(apart, rows(datasets.scan(&order, 2).await.unwrap()).await, "{format}");
            let count = |file: usize| if file == 0 { 999 } else { file + 1 };
            assert!((0..all).all(|file| numbers.iter().filter(|number| **number == file).count() == count(file)), "{format}, {numbers:?}");
            let scan = datasets.scan_apart(&order, 2, Some(&first)).await.unwrap();
            assert!(scan.apart == Some(Apart::Files) && files(&known(&scan)) == files(&found));
            assert_eq!(rows(scan).await.len(), apart.len() - 999, "{format}");
            let scan = datasets.scan_apart(&order, 2, Some(&found)).await.unwrap();
            let LeftOut::Files(left_out) = &scan.left_out else { panic!("files") };
            assert_eq!(*left_out, (0..u16::try_from(all).unwrap()).map(Some).collect::<Vec<_>>());
            assert!(rows(scan).await.is_empty());
        }
        // A first file with other types: all are read in those now.
        if format == "parquet" {
            let found = known(&datasets.scan_apart(&order, 2, None).await.unwrap());
            let query = "SELECT 'AB000000A' AS nino, 'London' AS \"REGION\", 7 AS score, 2024 AS cohort, true AS fsm, date '2008-01-01' AS born, 'x' AS secret";
            let options = datafusion::dataframe::DataFrameWriteOptions::new().with_single_file_output(true);
            let path = world.path("files/0.parquet");
            let frame = SessionContext::new().sql(query).await.unwrap();
            frame.write_parquet(path.to_str().unwrap(), options, None).await.unwrap();
            let scan = datasets.scan_apart(&order, 2, Some(&found)).await.unwrap();
            assert!(scan.apart == Some(Apart::Files) && matches!(scan.left_out, LeftOut::Nothing));
            let unnumbered = |mut row: Vec<String>| (row.pop(), row).1;
            let mut apart: Vec<_> = rows(scan).await.into_iter().map(unnumbered).collect();
            apart.sort();
            assert_eq!(apart, rows(datasets.scan(&order, 2).await.unwrap()).await);
            std::fs::remove_file(path).unwrap();
        }
        // One file by two names: its rows are there twice, and nothing is left out.
        let found = known(&datasets.scan_apart(&order, 2, None).await.unwrap());
        std::os::unix::fs::symlink(world.path(&format!("files/1.{format}")), world.path(&format!("files/10.{format}"))).unwrap();
        let scan = datasets.scan_apart(&order, 2, Some(&found)).await.unwrap();
        assert!(scan.apart.is_none() && matches!(scan.left_out, LeftOut::Nothing));
        assert_eq!(rows(scan).await, rows(datasets.scan(&order, 2).await.unwrap()).await);
    }
}
