//! What changes with a row of a database: only rows that did are read again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use concordat::federation::Layout;
use concordat_node::config::Config;
use concordat_node::datasets::{Datasets, Known, LeftOut, PART, Parts, Selection, Versions, values};
use concordat_node::source::{CHANGED, Changes, Opened};
use concordat_policy::{ColumnType, Comparison, Name, Predicate, Value};
use datafusion::common::DataFusionError;
use datafusion::prelude::{Expr, ident, lit};
use futures::StreamExt as _;

use super::reading::{shown, source};
use super::{Copied, STATEMENTS, data, into_postgres, into_the_office};
use crate::oracle::rows;
use crate::postgres::Postgres;
use crate::sandbox::{Sandbox, until};

async fn opened(postgres: &Postgres, relation: &str, column: &str) -> Opened {
    let changes = Changes { key: "id".into(), column: column.into() };
    source(postgres, relation).open(&|_| None, Some(&changes), 2).await.unwrap()
}

async fn read(frame: datafusion::dataframe::DataFrame, columns: &[&str]) -> Vec<Vec<String>> {
    let wanted: Vec<Expr> = columns.iter().map(|column| ident(*column)).collect();
    let mut rows = shown(&frame.select(wanted).unwrap().collect().await.unwrap());
    rows.sort();
    rows
}

const TABLE: &str = "CREATE SCHEMA office; CREATE TABLE office.rows (id bigint, small smallint, at timestamptz, local timestamp, day date);
    INSERT INTO office.rows VALUES (1, 1, '2026-01-01 00:00:00.000001+00', '2026-01-01', '2026-01-01'),
    (2, 2, '2026-01-01 00:00:01+00', '2026-01-01 00:00:01', '2026-01-01'), (3, 3, '2026-06-01 12:00:00+01', '2026-06-01 11:00', '2026-06-01'),
    (4, 4, NULL, NULL, NULL), (5, NULL, 'infinity', '-infinity', 'infinity'), (6, 6, '0001-01-01 BC', '9999-12-31', NULL);
    GRANT USAGE ON SCHEMA office TO reader; GRANT SELECT ON office.rows TO reader;";

#[tokio::test]
async fn changes_are_read_before_rows_in_one_transaction() {
    let postgres = Postgres::start();
    postgres.sql("postgres", TABLE);
    for relation in ["office.rows", "SELECT * FROM office.rows WHERE id > 0"] {
        let opened = opened(&postgres, relation, "at").await;
        let changed = read(opened.first.unwrap(), &["id", CHANGED]).await;
        // Microseconds since 2000.
        let june = (9_648 * 86_400 + 11 * 3_600) * 1_000_000i64;
        assert_eq!(changed[2], ["3", &june.to_string()]);
        assert_eq!((changed.len(), changed[3][1].as_str(), &changed[4][1]), (6, "-", &i64::MAX.to_string()));
        assert!(!opened.state.is_one(), "rows come yet");
        postgres.sql("postgres", "UPDATE office.rows SET at = now() WHERE id = 1; DELETE FROM office.rows WHERE id = 3");
        let since = opened.frame.filter(ident(CHANGED).gt_eq(lit(june))).unwrap();
        // What is infinite is later than all; the row that was deleted since is there yet, the one that was changed is not yet.
        assert_eq!(read(since, &["id"]).await, [["3"], ["5"]]);
        assert!(opened.state.is_one());
        postgres.sql("postgres", "DROP SCHEMA office CASCADE");
        postgres.sql("postgres", TABLE);
    }
}

#[tokio::test]
async fn conditions_on_changes_select_the_same_at_the_server_whatever_its_zone() {
    let postgres = Postgres::start();
    postgres.sql("postgres", TABLE);
    postgres.sql("postgres", "ALTER ROLE reader SET timezone = 'America/New_York'; ALTER DATABASE postgres SET datestyle = 'German'");
    for (column, numbers) in [("at", true), ("local", true), ("small", true), ("id", true), ("day", false), ("none", false)] {
        let found = opened(&postgres, "office.rows", column).await;
        assert_eq!(found.first.is_some(), numbers, "{column}");
        let Some(first) = found.first else { continue };
        let all = read(first, &["id", CHANGED]).await;
        let mut values: Vec<i64> = all.iter().filter_map(|row| row[1].parse().ok()).collect();
        values.extend(values.clone().iter().flat_map(|value| [value.checked_sub(1), value.checked_add(1)]).flatten());
        for value in values {
            let frame = opened(&postgres, "office.rows", column).await.frame.filter(ident(CHANGED).gt_eq(lit(value))).unwrap();
            let expected: Vec<_> = all.iter().filter(|row| row[1].parse::<i64>().is_ok_and(|own| own >= value)).cloned().collect();
            assert_eq!(read(frame, &["id", CHANGED]).await, expected, "{column} from {value}");
        }
    }
}

/// A node's datasets, of which the claims have a key and a change.
async fn datasets(layout: &Layout, from: &str) -> Datasets {
    let path = layout.node("dwp").join("node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replacen("table = \"office.claims\"", from, 1);
    std::fs::write(&path, changed).unwrap();
    let datasets = Datasets::open(&Config::load(&path).unwrap()).await;
    std::fs::write(&path, text).unwrap();
    datasets.unwrap()
}

fn selection(condition: Option<Predicate>) -> Selection {
    Selection {
        dataset: Name::parse("claims").unwrap(),
        linked: false,
        columns: vec![("months_claiming".into(), ColumnType::Integer)],
        condition,
        predicate: None,
        predicate_types: [("months_claiming".to_owned(), ColumnType::Integer)].into(),
        coded: BTreeMap::new(),
    }
}

/// What a scan gives: how many rows, whether some are left out, and of all what is known for the next, if that tells them apart.
async fn scanned(
    datasets: &Datasets,
    selection: &Selection,
    known: Option<&Known>,
) -> Result<(usize, bool, Option<Known>), DataFusionError> {
    let scan = datasets.scan_apart(selection, 2, known).await.unwrap();
    let (mut rows, mut versions) = (0, Vec::new());
    for mut stream in scan.streams {
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            versions.extend(values(batch.column_by_name(PART).unwrap().as_fixed_size_binary()));
        }
    }
    assert!(scan.witness.unchanged().is_ok());
    let known = Versions::new(versions).map(|versions| Known { parts: Parts::Versions(Arc::new(versions)), shape: scan.shape });
    Ok((rows, matches!(scan.left_out, LeftOut::Versions(_)), known))
}

#[tokio::test]
async fn rows_are_read_that_are_new_or_changed_and_all_where_that_cannot_be_told() {
    let (data, postgres, sandbox) = prepared(1_000).await;
    let sql = |text: &str| postgres.sql("postgres", text);
    sql("CREATE VIEW office.seen AS SELECT * FROM office.claims; GRANT SELECT ON office.seen TO reader");
    let columns = named(&data);
    let only = Predicate::Compare { column: "months_claiming".into(), comparison: Comparison::GreaterOrEqual, value: Value::Integer(20) };
    for (turn, (from, condition)) in [
        ("table = \"office.claims\"", None),
        ("query = \"SELECT * FROM office.claims\"", None),
        ("table = \"office.seen\"", None),
        ("table = \"office.claims\"", Some(only)),
    ]
    .into_iter()
    .enumerate()
    {
        let (datasets, meant) = (datasets(&sandbox.layout, from).await, if condition.is_some() { "months_claiming >= 20" } else { "true" });
        let selection = selection(condition);
        let scan = async |known: &Option<Known>| scanned(&datasets, &selection, known.as_ref()).await.unwrap();
        let count = |only: &str| sql(&format!("SELECT count(*) FROM office.claims WHERE {meant} AND {only}")).parse::<usize>().unwrap();
        let (rows, left_out, known) = scan(&None).await;
        assert_eq!((rows, left_out), (count("true"), false), "{from}");
        let (rows, left_out, _) = scan(&known).await;
        assert_eq!((rows, left_out), (0, true), "{from}: nothing changed");
        // Changed, deleted, and new ones whose change is of long ago.
        let [later, earlier] = [2027, 2025].map(|year| format!("'{year}-06-0{}'", turn + 1));
        sql(&format!(
            "UPDATE office.claims SET months_claiming = months_claiming + 1, changed = {later} WHERE id % 20 = 3; \
             DELETE FROM office.claims WHERE id % 20 = 4; \
             INSERT INTO office.claims ({columns}, changed) SELECT {columns}, {earlier} FROM office.claims WHERE id % 20 = 5"
        ));
        let expected = count(&format!("changed IN ({later}, {earlier})"));
        let (rows, left_out, _) = scan(&known).await;
        assert!(left_out && rows > 0 && rows == expected, "{from}: {rows} of {expected}");
        // A row without a change, and a key that is there twice: all is read, and nothing is known of it.
        let (first, last) = ("(SELECT min(id) FROM office.claims)", "(SELECT max(id) FROM office.claims)");
        sql(&format!("UPDATE office.claims SET months_claiming = 30 WHERE id IN ({first}, {last})"));
        let known = scan(&None).await.2;
        for (odd, even) in [
            (format!("changed = NULL WHERE id = {first}"), "changed = '2026-01-01' WHERE changed IS NULL".to_owned()),
            (
                format!("id = {last} WHERE id = {first}"),
                format!("id = 0 WHERE ctid = (SELECT min(ctid) FROM office.claims WHERE id = {last})"),
            ),
        ] {
            sql(&format!("UPDATE office.claims SET {odd}"));
            let (rows, left_out, none) = scan(&known).await;
            assert!(!left_out && rows == count("true") && none.is_none(), "{from}, {odd}: {rows}");
            sql(&format!("UPDATE office.claims SET {even}"));
        }
        // A table that was written anew, or another view, is unknown; what a query reads is not looked into.
        let known = scan(&None).await.2;
        sql(&format!("CREATE OR REPLACE VIEW office.seen AS SELECT * FROM office.claims WHERE id >= -{turn}"));
        sql("VACUUM FULL office.claims");
        let (rows, left_out, _) = scan(&known).await;
        assert_eq!((rows == 0, left_out), (from.starts_with("query"), from.starts_with("query")), "{from}");
    }
}

/// The names of the columns of the sample, as they stand in a statement.
fn named(data: &Copied) -> String {
    data.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_source_whose_two_readings_differ_gives_nothing() {
    let (data, _postgres, sandbox) = prepared(1_000).await;
    let changed = "CASE WHEN id % 50 = 1 THEN (random() * 1e9)::bigint ELSE 1 END AS changed";
    let volatile = format!(r#"query = """SELECT {}, id, {changed} FROM office.claims""""#, named(&data));
    let datasets = datasets(&sandbox.layout, &volatile).await;
    let known = scanned(&datasets, &selection(None), None).await.unwrap().2;
    let error = scanned(&datasets, &selection(None), known.as_ref()).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("two readings within one transaction gave other rows"), "{error}");
}

/// The sample, of which `dwp` has its claims in a database, with a key and the time of each one's last change.
async fn prepared(people: u64) -> (Copied, Postgres, Sandbox) {
    let data = data(people).await;
    let postgres = Postgres::start();
    into_postgres(&postgres, &data);
    postgres.sql(
        "postgres",
        "ALTER TABLE office.claims ADD id bigserial, ADD changed timestamptz; \
         UPDATE office.claims SET changed = timestamptz '2026-01-01' + id * interval '1 second'",
    );
    postgres.sql("postgres", "VACUUM FULL office.claims");
    postgres.sql("postgres", "CREATE INDEX ON office.claims (id); CREATE INDEX ON office.claims (changed); ANALYZE office.claims");
    let layout = |layout: &Layout| {
        into_the_office(layout, &postgres);
        kept(layout);
    };
    let sandbox = Sandbox::with(people, |_| {}, layout).await;
    (data, postgres, sandbox)
}

/// Answers for a minute after `dwp` read its claims; the next snapshot takes over what did not change.
fn kept(layout: &Layout) {
    let path = layout.node("dwp").join("node.toml");
    let (text, of) = (std::fs::read_to_string(&path).unwrap(), "connection = \"office\"\n");
    assert!(text.contains(of));
    let changes = "snapshot_minutes = 1\nchanges = { key = \"id\", column = \"changed\" }\n";
    std::fs::write(path, text.replacen(of, &format!("{of}{changes}"), 1)).unwrap();
}

/// Of each snapshot that was made: its rows, those that were taken over, and how many milliseconds it took.
fn made(sandbox: &Sandbox) -> Vec<[u64; 3]> {
    let text = sandbox.diagnostics("dwp");
    let number = |line: &str, name: &str| {
        let digits = line.split_once(&format!(" {name}=")).unwrap().1.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().unwrap()
    };
    let lines = text.lines().filter(|line| line.contains("a linked snapshot was made"));
    lines.map(|line| ["rows", "taken_over", "milliseconds"].map(|name| number(line, name))).collect()
}

#[tokio::test]
async fn the_next_snapshot_reads_what_changed_and_takes_over_the_rest() {
    taken_over(5_000).await;
}

#[tokio::test]
#[ignore = "measures; `tests/run --long` runs it"]
async fn it_takes_less_time_than_all_rows() {
    let [(rows, whole), (stayed, next)] = taken_over(1_400_000).await;
    let share = next as f64 / whole as f64;
    println!("of {rows} rows {stayed} stayed: {next} ms, all of them {whole} ms: {share:.2} ×");
    assert!(share < 0.9);
}

/// The rows of a snapshot of all claims, those that the next one took over, and how many milliseconds either took.
async fn taken_over(people: u64) -> [(u64, u64); 2] {
    let (data, postgres, sandbox) = prepared(people).await;
    let (keys, both) = STATEMENTS[0];
    let before = sandbox.query(both).await.unwrap();
    until("a snapshot is made", || made(&sandbox).len() == 1).await;
    let [[all, 0, whole]] = made(&sandbox)[..] else { panic!("{:?}", made(&sandbox)) };
    // Deleted, changed, and new ones whose change is of long ago, as of who commits late.
    let columns = named(&data);
    let counts = postgres.sql(
        "postgres",
        &format!(
            "DELETE FROM office.claims WHERE id % 100 = 1; \
             UPDATE office.claims SET months_claiming = months_claiming + 100, changed = now() WHERE id % 100 = 2; \
             INSERT INTO office.claims ({columns}, changed) SELECT {columns}, changed FROM office.claims WHERE id % 100 = 3 AND id > {}; \
             SELECT count(*) FROM office.claims; \
             SELECT count(*) FROM office.claims WHERE id <= {all} AND id % 100 <> 2",
            all * 9 / 10
        ),
    );
    let counts: Vec<u64> = counts.lines().map(|count| count.parse().unwrap()).collect();
    let [now, stayed] = counts[..] else { panic!("{counts:?}") };
    // For a minute the first one answers.
    let since = Instant::now();
    let mut read = before.clone();
    while made(&sandbox).len() < 2 {
        assert!(since.elapsed() < Duration::from_secs(240), "no other snapshot is made");
        read = sandbox.query(both).await.unwrap();
        // It is made when the node rests.
        let asked = Instant::now();
        while made(&sandbox).len() < 2 && asked.elapsed() < Duration::from_secs(15) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let [has, taken_over, next] = made(&sandbox)[1];
    assert!(all > now && [has, taken_over] == [now, stayed], "{now} rows, of which {stayed} stayed: {has}, {taken_over}");
    drop(postgres);
    let kept = sandbox.query(both).await.unwrap();
    let [before, read, kept] = [before, read, kept].map(|answer| rows(&answer.batches, keys));
    assert!(before != kept && read.len() > 3 && read.len() == kept.len());
    for (key, row) in &read {
        assert!(row.iter().zip(&kept[key]).all(|((name, one), (same, other))| name == same && one.agrees(other)), "{key}");
    }
    [(all, whole), (taken_over, next)]
}
