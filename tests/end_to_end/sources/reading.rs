//! What a real server holds, as the node reads it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use concordat_node::source::connection::Server;
use concordat_node::source::settings::{Host, Settings};
use concordat_node::source::{Connection, Opened, Relation, Source, SourceError, TableName, finite, inspect};
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, Expr, SessionContext, cast, ident, lit, not};
use datafusion::scalar::ScalarValue;
use futures::StreamExt as _;

use crate::postgres::{PASSWORD, Postgres, secret};

/// The role `reader` over the socket.
pub fn connection(postgres: &Postgres) -> Arc<Connection> {
    let password_file = postgres.socket().join("reader.password");
    secret(&password_file, PASSWORD);
    let settings = Settings {
        host: Host::Socket(postgres.socket().to_owned()),
        port: postgres.port,
        user: "reader".into(),
        database: "postgres".into(),
        password_file: Some(password_file),
        tls: None,
    };
    Arc::new(Connection { name: "office".into(), server: Server::Postgres(Arc::new(settings)) })
}

/// A table, or a query, which has a space.
pub fn source_of(connection: Arc<Connection>, relation: &str) -> Source {
    let relation = match TableName::parse(relation) {
        Some(table) if !relation.contains(' ') => Relation::Table(table),
        _ => Relation::Query(relation.into()),
    };
    Source::Database(connection, relation)
}

pub fn source(postgres: &Postgres, relation: &str) -> Source {
    source_of(connection(postgres), relation)
}

async fn open(postgres: &Postgres, relation: &str) -> Opened {
    source(postgres, relation).open(&|_| None, None, 2).await.unwrap()
}

/// Rows as text, in order; null is `-`.
pub fn shown(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let cell = |batch: &RecordBatch, column: usize, row: usize| {
        let array = batch.column(column);
        if array.is_null(row) { "-".to_owned() } else { array_value_to_string(array, row).unwrap() }
    };
    let rows = |batch: &RecordBatch| {
        (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|column| cell(batch, column, row)).collect()).collect::<Vec<_>>()
    };
    batches.iter().flat_map(rows).collect()
}

/// Reads 200,000 rows of the generation 0 to their end, although `change` puts others in their place after the first batch.
pub async fn one_snapshot(opened: Opened, change: impl FnOnce()) {
    let mut stream = opened.frame.execute_stream().await.unwrap();
    let mut rows = shown(&[stream.next().await.unwrap().unwrap()]);
    change();
    while let Some(batch) = stream.next().await {
        rows.extend(shown(&[batch.unwrap()]));
    }
    assert_eq!(rows.len(), 200_000);
    assert!(rows.iter().all(|row| row[1] == "0") && opened.state.is_one());
}

/// Begins to read what takes long and lets go of it: nothing of it is `running` at the server soon afterwards.
pub async fn dropped(opened: Opened, slow: &str, running: impl Fn() -> String, soon: Duration) {
    let mut stream = opened.frame.execute_stream().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
    assert_eq!(running(), "1", "{slow}");
    let dropped = Instant::now();
    drop(stream);
    while running() != "0" {
        assert!(dropped.elapsed() < soon, "still running: {slow}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!opened.state.is_one());
}

const TYPES: &str = r#"
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('glad', 'it''s "odd"');
CREATE DOMAIN score AS numeric(5,2) CHECK (VALUE >= 0);
CREATE TYPE pair AS (a int, b int);
CREATE TABLE everything (
  i2 smallint, i4 integer, i8 bigint, n10 numeric(10,0), n152 numeric(15,2), n52 score, f4 real, f8 double precision, yes boolean,
  t text, v varchar(10), c char(5), nm name, one "char", ci citext, m mood, d date, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb,
  b bytea, ai int[], at text[], am mood[], "Odd ""name""" text,
  iv interval, mo money, x xml, p pair, r int4range, ip inet, tm time, bits bit(3), aj jsonb[], o oid, n numeric, n16 numeric(16,2)
);
INSERT INTO everything VALUES (
  -32768, 2147483647, -9223372036854775808, 9999999999, 9999999999999.99, 1.50, 1.5, 0.1, true,
  'Grüße', 'v', 'ab', 'nm', 'x', 'CiText', 'it''s "odd"', '2024-02-29', '2024-01-31 09:00:00.25', '2024-07-01 09:00:00+01',
  '11111111-2222-3333-4444-555555555555', '{"a": 1}', '{"b":  2}', '\x00ff', '{1,NULL,3}', '{a,"b,c"}', '{glad}', 'odd',
  '1 day', '1.00', '<a/>', '(1,2)', '[1,2)', '10.0.0.1', '09:00', '101', '{"{}"}', 1, 12345678901234567890.12345, 1);
INSERT INTO everything DEFAULT VALUES;
GRANT SELECT ON everything TO reader;
"#;

#[tokio::test]
async fn every_type_is_read_exactly_or_refused_by_name() {
    let postgres = Postgres::start();
    postgres.sql("postgres", TYPES);
    let opened = open(&postgres, "public.everything").await;
    let (text, integer, number) = (Some(DataType::Utf8), Some(DataType::Int64), Some(DataType::Float64));
    let expected = [
        ("i2", "smallint", &integer, "-32768"),
        ("i4", "integer", &integer, "2147483647"),
        ("i8", "bigint", &integer, "-9223372036854775808"),
        ("n10", "numeric(10,0)", &integer, "9999999999"),
        ("n152", "numeric(15,2)", &number, "9999999999999.99"),
        ("n52", "numeric(5,2)", &number, "1.5"),
        ("f4", "real", &number, "1.5"),
        ("f8", "double precision", &number, "0.1"),
        ("yes", "boolean", &Some(DataType::Boolean), "true"),
        ("t", "text", &text, "Grüße"),
        ("v", "character varying(10)", &text, "v"),
        ("c", "character(5)", &text, "ab"),
        ("nm", "name", &text, "nm"),
        ("one", "\"char\"", &text, "x"),
        ("ci", "public.citext", &text, "CiText"),
        ("m", "public.mood", &text, "it's \"odd\""),
        ("d", "date", &Some(DataType::Date32), "2024-02-29"),
        ("ts", "timestamp without time zone", &text, "2024-01-31T09:00:00.250"),
        ("tz", "timestamp with time zone", &text, "2024-07-01T08:00:00Z"),
        ("u", "uuid", &text, "11111111-2222-3333-4444-555555555555"),
        ("j", "json", &text, "{\"a\": 1}"),
        ("jb", "jsonb", &text, "{\"b\": 2}"),
        ("b", "bytea", &text, "00ff"),
        ("ai", "integer[]", &text, "[1,null,3]"),
        ("at", "text[]", &text, "[\"a\",\"b,c\"]"),
        ("am", "public.mood[]", &text, "[\"glad\"]"),
        ("Odd \"name\"", "text", &text, "odd"),
    ];
    let refused = [
        "interval",
        "money",
        "xml",
        "public.pair",
        "int4range",
        "inet",
        "time without time zone",
        "bit(3)",
        "jsonb[]",
        "oid",
        "numeric",
        "numeric(16,2)",
    ];
    for ((name, native, read_as, _), column) in expected.iter().zip(&opened.shape.columns) {
        assert_eq!((*name, *native, *read_as), (column.name.as_str(), column.native.as_str(), &column.read_as));
    }
    let others: Vec<_> =
        opened.shape.columns.iter().skip(expected.len()).map(|column| (column.native.as_str(), column.read_as.as_ref())).collect();
    assert_eq!(others, refused.map(|native| (native, None)));
    let rows = shown(&opened.frame.collect().await.unwrap());
    assert_eq!(rows, [expected.map(|(.., value)| value.to_owned()).to_vec(), vec!["-".to_owned(); expected.len()]]);
    assert!(opened.state.is_one());

    let listed = inspect(&connection(&postgres)).await.unwrap();
    let everything = listed.iter().find(|table| table.name.to_string() == "public.everything").unwrap();
    assert_eq!(everything.columns, opened.shape.columns);
}

#[tokio::test]
async fn values_that_no_column_holds_fail_the_scan_and_are_not_shown() {
    let postgres = Postgres::start();
    for (query, says) in [
        ("SELECT 1 AS id, 'infinity'::date AS secret", "a value of column 'secret' is an infinite date"),
        ("SELECT 1 AS id, '-infinity'::timestamptz AS secret", "a value of column 'secret' is an infinite time"),
        ("SELECT 1 AS id, timestamp '12345-01-01 00:00:00' AS secret", "a value of column 'secret' is an infinite time"),
        ("SELECT 1 AS id, t::int AS secret FROM (SELECT 'x4711'::text AS t OFFSET 0) AS s", "SQLSTATE 22P02"),
        ("SELECT id, 4711 / (id - 1) AS secret FROM (SELECT 1 AS id OFFSET 0) AS s", "SQLSTATE 22012"),
        ("SELECT id, repeat('4711', 5000000) AS secret FROM (SELECT 1 AS id OFFSET 0) AS s", "longer than 16 MiB"),
    ] {
        let opened = open(&postgres, query).await;
        let error = opened.frame.collect().await.unwrap_err();
        let root = error.find_root();
        let datafusion::error::DataFusionError::External(inner) = root else { panic!("{query}: {error}") };
        let ours = inner.downcast_ref::<SourceError>().unwrap().to_string();
        assert!(ours.contains(says) && !ours.contains("4711"), "{query}: {ours}");
        assert!(!opened.state.is_one());
    }
    for (query, says) in [
        ("SELEC 1", "SQLSTATE 42601"),
        ("SELECT * FROM everything", "SQLSTATE 42P01"),
        ("SELECT 1 AS a, 2 AS a", "two columns are called 'a'"),
        ("DELETE FROM pg_class RETURNING *", "SQLSTATE"),
        ("SELECT 1 AS id) AS source; DROP TABLE x; SELECT (1", "SQLSTATE"),
    ] {
        let error = source(&postgres, query).open(&|_| None, None, 1).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("connection 'office'") && error.contains(says), "{query}: {error}");
    }
}

/// A column as a release compares it.
pub fn number(column: &str) -> Expr {
    finite(cast(ident(column), DataType::Float64))
}

pub fn conditions() -> Vec<Expr> {
    let texts = ["", "a", "B", "é", "it's", "a\\'b", "ab   ", "z", "%"];
    let numbers = [-1.5, 0.0, -0.0, 0.1, 1e300, 2.0, f64::INFINITY];
    let mut simple = Vec::new();
    for text in texts {
        let (column, literal) = (|| ident("t"), || lit(text));
        simple.extend([column().eq(literal()), column().lt(literal()), column().gt_eq(literal()), column().not_eq(literal())]);
        simple.push(ident("c").eq(literal()));
        simple.push(ident("ci").eq(literal()));
        simple.push(ident("m").gt(literal()));
    }
    for literal in numbers {
        for column in ["f", "n", "i"] {
            simple.extend([number(column).lt(lit(literal)), number(column).gt(lit(literal)), number(column).eq(lit(literal))]);
            simple.push(number(column).not_eq(lit(literal)));
        }
    }
    for literal in [i64::MIN, -1, 0, 7, i64::MAX] {
        simple.extend([ident("i").lt(lit(literal)), ident("i").eq(lit(literal)), lit(literal).lt(ident("i"))]);
        simple.push(ident("i").in_list(vec![lit(literal), lit(7i64), lit(8i64), lit(9i64)], false));
        simple.push(ident("w").eq(lit(literal)));
    }
    for days in [-800_000, -1, 0, 19_782, 3_000_000] {
        simple.push(ident("d").lt_eq(Expr::Literal(ScalarValue::Date32(Some(days)), None)));
    }
    simple.extend([ident("yes"), ident("t").is_null(), number("f").is_null(), number("n").is_not_null(), ident("yes").eq(lit(false))]);
    simple.push(ident("t").in_list(["a", "B", "é", "it's"].map(lit).to_vec(), true));
    let mut all = simple.clone();
    all.extend(simple.iter().cloned().map(not));
    for (left, right) in simple.iter().zip(simple.iter().rev()) {
        all.push(left.clone().and(not(right.clone())));
        all.push(not(left.clone().or(right.clone())));
    }
    all
}

const COMPARED: &str = r"
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('z', 'a', 'B');
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
CREATE TABLE compared (t text COLLATE blind, c char(5), ci citext, m mood, i bigint, w numeric(10,0), f double precision, n numeric(15,2), d date, yes boolean);
INSERT INTO compared
  SELECT t, t, t, m, i, w, f, n, d, yes FROM
    (VALUES ('a', 'a'::mood, 7, 7, 0.1, 0.1, date '2024-02-29', true), ('A', 'z', -1, -1, -1.5, -1.5, '0001-01-01', false), ('b', 'B', 0, 0, 0, 0, '1969-12-31', NULL),
            ('é', 'a', 9223372036854775807, 8, 'NaN', 'NaN', '9999-12-31', true), ('it''s', 'z', -9223372036854775808, 9, '-Infinity', 9999999999999.99, '1970-01-01', false),
            ('', NULL, NULL, NULL, NULL, NULL, NULL, true), (NULL, 'a', 8, NULL, 'Infinity', 2, '2000-01-01', true), ('Z', 'B', 9, 1, 1e300, 2.5, '2010-01-01', false),
            ('a\''b', 'a', 1, 2, 'NaN', 0.3, '2024-02-28', true)) AS v(t, m, i, w, f, n, d, yes);
GRANT SELECT ON compared TO reader;
";

#[tokio::test]
async fn conditions_that_are_sent_select_what_the_engine_selects() {
    let postgres = Postgres::start();
    postgres.sql("postgres", COMPARED);
    let whole = open(&postgres, "public.compared").await.frame;
    let schema = Arc::clone(whole.schema().inner());
    let rows = whole.collect().await.unwrap();
    let memory = SessionContext::new().read_table(Arc::new(MemTable::try_new(schema, vec![rows]).unwrap())).unwrap();
    let mut selected = 0;
    for condition in conditions() {
        let select = async |frame: DataFrame| {
            let mut rows = shown(&frame.filter(condition.clone()).unwrap().collect().await.unwrap());
            rows.sort();
            rows
        };
        let (theirs, ours) = (select(open(&postgres, "public.compared").await.frame).await, select(memory.clone()).await);
        assert_eq!(theirs, ours, "{condition}");
        selected += ours.len();
    }
    assert!(selected > 500, "{selected}");
}

#[tokio::test]
async fn projection_conditions_and_limit_reach_the_server() {
    let postgres = Postgres::start();
    postgres.sql("postgres", COMPARED);
    postgres.sql("postgres", "ALTER ROLE reader SET log_statement = 'all'");
    let frame = open(&postgres, "public.compared").await.frame;
    let condition = ident("t").eq(lit("it's")).and(not(number("f").gt(lit(1.5)))).and(ident("i").lt(lit(5i64)));
    frame.filter(condition).unwrap().select(vec![ident("d"), number("n").alias("n")]).unwrap().collect().await.unwrap();
    let log = postgres.log();
    let copy = log.lines().find(|line| line.contains("COPY (SELECT")).unwrap();
    for part in ["COLLATE pg_catalog.\"C\") = 'it''s'", "NULLIF(NULLIF(NULLIF(\"f\"", "(\"i\" < (5)::pg_catalog.int8)"] {
        assert!(copy.contains(part), "{part}: {copy}");
    }
    let list = copy.split("FROM").next().unwrap();
    assert!(!list.contains("\"m\"") && !list.contains("\"ci\""), "{copy}");

    let frame = open(&postgres, "public.compared").await.frame;
    assert_eq!(shown(&frame.select(vec![ident("i")]).unwrap().limit(0, Some(3)).unwrap().collect().await.unwrap()).len(), 3);
    assert!(postgres.log().contains("SELECT \"i\" FROM \"public\".\"compared\" LIMIT 3)"), "{}", postgres.log());
}

#[tokio::test]
async fn a_scan_reads_one_snapshot_whatever_is_written_meanwhile() {
    let postgres = Postgres::start();
    postgres.sql(
        "postgres",
        "CREATE TABLE counted AS SELECT g AS id, 0 AS generation FROM generate_series(1, 200000) g; GRANT SELECT ON counted TO reader",
    );
    let opened = open(&postgres, "public.counted").await;
    one_snapshot(opened, || drop(postgres.sql("postgres", "UPDATE counted SET generation = 1; INSERT INTO counted VALUES (0, 1)"))).await;
}

#[tokio::test]
async fn a_scan_that_is_dropped_ends_at_the_server_within_a_second() {
    let postgres = Postgres::start();
    let running = || postgres.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'");
    for slow in [
        "SELECT 1 AS id FROM (SELECT pg_sleep(600)) AS s",
        "SELECT g AS id, pg_sleep(0.0001)::text AS t FROM generate_series(1, 100000000) g",
    ] {
        dropped(open(&postgres, slow).await, slow, running, Duration::from_secs(1)).await;
    }
}
