//! What is read by ODBC: PostgreSQL by Debian's `psqlodbcw`, a file of SQLite by `libsqlite3odbc`. SQL Server and Oracle do not run here.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;
use concordat::federation::Layout;
use concordat_node::source::connection::Server;
use concordat_node::source::{Connection, Keywords, OdbcSettings, Opened, Relation, Source, SourceError, TableName, inspect};
use datafusion::prelude::{ident, lit};
use futures::StreamExt as _;

use super::reading::{dropped, one_snapshot, shown, source_of};
use super::{instead, with_claims_in};
use crate::postgres::{PASSWORD, Postgres, secret};
use crate::sandbox::program;

/// The server by its Unix socket, a thousand rows at a time: else the driver would take them all into memory.
pub fn keywords(postgres: &Postgres) -> String {
    format!(
        "Driver={{PostgreSQL Unicode}};Servername={};Port={};Database=postgres;UID=reader;BoolsAsChar=0;UseDeclareFetch=1;Fetch=1000",
        postgres.socket().display(),
        postgres.port
    )
}

/// Has the dataset of the claims read what a driver reaches; a file of SQLite has no password.
pub fn into_odbc(layout: &Layout, keywords: &str, table: &str, password: Option<&str>) {
    let mut connection = format!("\n[[connection]]\nname = \"office\"\nurl = \"odbc:{keywords}\"\n");
    if let Some(password) = password {
        secret(&layout.node("dwp").join("keys/office.password"), password);
        connection.push_str("password_file = \"keys/office.password\"\n");
    } else {
        connection.push_str("protected_by_driver = true\n");
    }
    instead(layout, "dwp", &format!("connection = \"office\"\ntable = \"{table}\""), &connection);
}

fn connection(postgres: &Postgres) -> Arc<Connection> {
    let password_file = postgres.socket().join("reader.password");
    secret(&password_file, PASSWORD);
    reached(&keywords(postgres), Some(password_file))
}

fn reached(keywords: &str, password_file: Option<std::path::PathBuf>) -> Arc<Connection> {
    let settings = OdbcSettings::new(Keywords::parse(keywords, true).unwrap(), password_file);
    Arc::new(Connection { name: "office".into(), server: Server::Odbc(Arc::new(settings)) })
}

fn source(postgres: &Postgres, relation: &str) -> Source {
    source_of(connection(postgres), relation)
}

async fn open(postgres: &Postgres, relation: &str) -> Opened {
    source(postgres, relation).open(&|_| None, None, 2).await.unwrap()
}

const TYPES: &str = r#"
CREATE TABLE everything (
  i2 smallint, i4 integer, i8 bigint, n10 numeric(10,0), n52 numeric(5,2), n38 numeric(38,10), f4 real, f8 double precision, yes boolean,
  t text, v varchar(10), c char(5), d date, ts timestamp, tz timestamptz, u uuid, b bytea, "Größe ""x""" varchar(5), tm time
);
INSERT INTO everything VALUES (
  -32768, 2147483647, -9223372036854775808, 9999999999, 1.50, -1234567890123456789012345678.0123456789, 1.5, 0.1, true,
  'Grüße 😀', 'v', 'ab', '2024-02-29', '2024-01-31 09:00:00.25', '2024-07-01 09:00:00+01', '11111111-2222-3333-4444-5555ABCDEF00',
  '\x00ff', 'odd', '09:00');
INSERT INTO everything DEFAULT VALUES;
GRANT SELECT ON everything TO reader;
"#;

#[tokio::test]
async fn every_type_is_read_exactly_or_refused_by_name() {
    let postgres = Postgres::start();
    postgres.sql("postgres", TYPES);
    let opened = open(&postgres, "public.everything").await;
    let (text, integer, number) = (DataType::Utf8, DataType::Int64, DataType::Float64);
    let (money, long) = (DataType::Decimal128(5, 2), DataType::Decimal128(38, 10));
    let expected = [
        ("i2", "smallint", &integer, "-32768"),
        ("i4", "integer", &integer, "2147483647"),
        ("i8", "bigint", &integer, "-9223372036854775808"),
        ("n10", "numeric(10,0)", &integer, "9999999999"),
        ("n52", "numeric(5,2)", &money, "1.50"),
        ("n38", "numeric(38,10)", &long, "-1234567890123456789012345678.0123456789"),
        ("f4", "real", &number, "1.5"),
        ("f8", "float", &number, "0.1"),
        ("yes", "bit", &DataType::Boolean, "true"),
        ("t", "wlongvarchar", &text, "Grüße 😀"),
        ("v", "wvarchar(10)", &text, "v"),
        ("c", "wchar(5)", &text, "ab"),
        ("d", "date", &DataType::Date32, "2024-02-29"),
        ("ts", "timestamp", &text, "2024-01-31T09:00:00.25"),
        ("tz", "timestamp", &text, "2024-07-01T08:00:00"),
        ("u", "guid", &text, "11111111-2222-3333-4444-5555abcdef00"),
        ("b", "longvarbinary", &text, "00ff"),
        ("Größe \"x\"", "wvarchar(5)", &text, "odd"),
    ];
    for ((name, native, read_as, _), column) in expected.iter().zip(&opened.shape.columns) {
        assert_eq!((*name, *native, Some(*read_as)), (column.name.as_str(), column.native.as_str(), column.read_as.as_ref()));
    }
    let others = opened.shape.columns.iter().skip(expected.len()).map(|column| (column.native.as_str(), column.read_as.as_ref()));
    assert_eq!(others.collect::<Vec<_>>(), [("time", None)]);
    let rows = shown(&opened.frame.collect().await.unwrap());
    assert_eq!(rows, [expected.map(|(.., value)| value.to_owned()).to_vec(), vec!["-".to_owned(); expected.len()]]);
    assert!(opened.state.is_one());

    let listed = inspect(&connection(&postgres)).await.unwrap();
    let everything = listed.iter().find(|table| table.name.to_string() == "public.everything").unwrap();
    assert_eq!(everything.columns, opened.shape.columns);

    // A day that is kept as a time, as Oracle keeps it.
    let day = "SELECT 1 AS id, timestamp '2024-02-29 00:00:00' AS day";
    let opened = source(&postgres, day).open(&|name| (name == "day").then_some(DataType::Date32), None, 1).await.unwrap();
    assert_eq!(shown(&opened.frame.collect().await.unwrap()), [["1", "2024-02-29"]]);
}

#[tokio::test]
async fn values_that_no_column_holds_fail_the_scan_and_are_not_shown() {
    let postgres = Postgres::start();
    for (query, says) in [
        // Nothing is cut off: neither by the cap nor by what the driver says of a length.
        ("SELECT 1 AS id, repeat('é4711', 20000) AS secret", "a value of column 'secret' is longer than its column says"),
        ("SELECT 1 AS id, repeat('4711', 300)::varchar AS secret", "a value of column 'secret' is longer than its column says"),
        ("SELECT 1 AS id, decode(repeat('4711', 70000), 'hex') AS secret", "a value of column 'secret' is longer than its column says"),
        ("SELECT 1 AS id, 4711.1234567::numeric AS secret", "a value of column 'secret' has more digits than its column says"),
        ("SELECT 1 AS id, timestamp '2024-01-31 04:07:11' AS day", "a value of column 'day' has a time of day"),
        ("SELECT 1 AS id, t::int AS secret FROM (SELECT 'x4711'::text AS t OFFSET 0) AS s", "SQLSTATE 22P02"),
    ] {
        let opened = source(&postgres, query).open(&|name| (name == "day").then_some(DataType::Date32), None, 1).await.unwrap();
        let error = opened.frame.collect().await.unwrap_err();
        let datafusion::error::DataFusionError::External(inner) = error.find_root() else { panic!("{query}: {error}") };
        let ours = inner.downcast_ref::<SourceError>().unwrap().to_string();
        assert!(ours.contains(says) && !ours.contains("4711"), "{query}: {ours}");
        assert!(!opened.state.is_one());
    }
    for (query, says) in [
        ("SELEC 1", "SQLSTATE 42601"),
        ("SELECT * FROM everything", "SQLSTATE 42P01"),
        ("SELECT 1 AS a, 2 AS A", "two columns are called 'a'"),
    ] {
        let error = source(&postgres, query).open(&|_| None, None, 1).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("connection 'office'") && error.contains(says), "{query}: {error}");
    }
    // A query that would write does not, whatever the role may do.
    postgres.sql("postgres", "CREATE SEQUENCE counting; GRANT ALL ON counting TO reader");
    let writing = open(&postgres, "SELECT nextval('counting') AS id").await.frame.collect().await;
    assert!(writing.unwrap_err().to_string().contains("SQLSTATE 25006"));
    assert_eq!(postgres.sql("postgres", "SELECT is_called FROM counting"), "f");
}

#[tokio::test]
async fn passwords_are_given_as_they_are_and_told_to_nobody() {
    let postgres = Postgres::start();
    let file = postgres.socket().join("odd.password");
    for password in ["plain", "a;Servername=nowhere", "a};UID=postgres;{", "}}{", "é + %41 = ' \""] {
        postgres.sql("postgres", &format!("ALTER ROLE reader PASSWORD '{}'", password.replace('\'', "''")));
        secret(&file, password);
        let found = inspect(&reached(&keywords(&postgres), Some(file.clone()))).await;
        assert!(found.is_ok(), "{password}: {found:?}");
    }
    secret(&file, "4711");
    for (keywords, says) in [
        (keywords(&postgres), "SQLSTATE 08001"),
        ("Driver={no such driver};UID=reader".to_owned(), "the driver's library cannot be loaded"),
        ("DSN=no such source".to_owned(), "knows no such driver or data source"),
    ] {
        let error = inspect(&reached(&keywords, Some(file.clone()))).await.unwrap_err().to_string();
        assert!(error.starts_with("connection 'office'") && error.contains(says), "{error}");
        assert!(!error.contains("4711") && !error.contains("reader") && !error.contains("no such source"), "{error}");
    }
}

#[tokio::test]
async fn projection_reaches_the_server_and_conditions_stay_here() {
    let postgres = Postgres::start();
    postgres
        .sql("postgres", "CREATE TABLE people AS SELECT g AS id, 'r' || g % 3 AS region, g * 2 AS twice FROM generate_series(1, 30000) g");
    postgres.sql("postgres", "GRANT SELECT ON people TO reader; ALTER ROLE reader SET log_statement = 'all'");
    let frame = open(&postgres, "public.people").await.frame.filter(ident("region").eq(lit("r1"))).unwrap();
    let rows = shown(&frame.select(vec![ident("id")]).unwrap().collect().await.unwrap());
    assert_eq!(rows.len(), 10_000);
    let log = postgres.log();
    let select = log.lines().rfind(|line| line.contains("\"people\"") && !line.contains("1 = 0")).unwrap();
    assert!(select.contains("\"id\"") && !select.contains("twice") && !select.contains("WHERE"), "{select}");

    let opened = open(&postgres, "public.people").await;
    assert_eq!(opened.frame.count().await.unwrap(), 30_000);
    assert!(opened.state.is_one());
    let few = open(&postgres, "public.people").await.frame.limit(0, Some(3)).unwrap();
    assert_eq!(few.collect().await.unwrap().iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 3);
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
async fn a_scan_that_is_dropped_ends_with_its_next_rows_and_a_server_that_dies_fails_it() {
    let mut postgres = Postgres::start();
    postgres.sql("postgres", "CREATE TABLE small AS SELECT g FROM generate_series(1, 1000) g; GRANT SELECT ON small TO reader");
    // Few sleeps that are long: a busy machine makes many short ones last many times as long.
    let slow = "SELECT a.g AS id, pg_sleep(CASE WHEN c.g % 100 = 0 THEN 0.01 ELSE 0 END)::text AS t FROM small a, small b, small c";
    let running = || postgres.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'");
    dropped(open(&postgres, slow).await, slow, running, Duration::from_secs(10)).await;

    let opened = open(&postgres, slow).await;
    let mut stream = opened.frame.execute_stream().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
    postgres.stop();
    let mut last = Ok(());
    while let Some(batch) = stream.next().await {
        last = batch.map(drop);
    }
    assert!(last.is_err() && !opened.state.is_one());
}

#[tokio::test]
async fn a_database_whose_connections_are_all_in_use_keeps_none_of_another() {
    let postgres = Postgres::start();
    let (slow, other) = (connection(&postgres), connection(&postgres));
    let open = async |connection: &Arc<Connection>| source_of(Arc::clone(connection), "SELECT 1 AS id").open(&|_| None, None, 1).await;
    let mut kept = Vec::new();
    for _ in 0..64 {
        kept.push(open(&slow).await.unwrap());
    }
    let error = open(&slow).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("64 connections to this database are open"), "{error}");
    let opened = open(&other).await.unwrap();
    assert_eq!(opened.frame.count().await.unwrap(), 1);
}

#[tokio::test]
async fn rights_beyond_reading_are_told_where_the_database_can_be_asked() {
    let postgres = Postgres::start();
    postgres.sql("postgres", TYPES);
    let everything = source(&postgres, "public.everything");
    assert_eq!(everything.excess().await.unwrap(), Vec::<String>::new());
    postgres.sql("postgres", "GRANT INSERT, TRUNCATE ON everything TO reader");
    let told = ["the account may do INSERT at public.everything", "the account may do TRUNCATE at public.everything"];
    assert_eq!(everything.excess().await.unwrap(), told);
    postgres.sql("postgres", "ALTER ROLE reader SUPERUSER");
    let told = everything.excess().await.unwrap();
    assert!(told.contains(&"the account may do everything at the server".to_owned()), "{told:?}");

    let file = tempfile::NamedTempFile::new().unwrap();
    let database = rusqlite::Connection::open(file.path()).unwrap();
    database.execute_batch("CREATE TABLE t (id INTEGER, name TEXT); INSERT INTO t VALUES (1, 'Grüße 😀'), (2, NULL)").unwrap();
    let connection = reached(&format!("Driver={{SQLite3}};Database={}", file.path().display()), None);
    let other = Source::Database(connection, Relation::Table(TableName { schema: None, name: "t".into() }));
    let told = other.excess().await.unwrap();
    assert!(told.iter().filter(|told| told.contains("cannot be told")).count() == 2, "{told:?}");
    let opened = other.open(&|_| None, None, 1).await.unwrap();
    assert_eq!(shown(&opened.frame.collect().await.unwrap()), [["1", "Grüße 😀"], ["2", "-"]]);
    assert!(opened.state.is_one());
}

#[tokio::test]
async fn check_and_init_take_a_driver_and_refuse_secrets_beside_it() {
    let postgres = Postgres::start();
    let sandbox = with_claims_in(&postgres, 300).await;
    let run = |arguments: &[&str]| {
        let output = Command::new(program()).args(["node"]).args(arguments).output().unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        let _ = write!(text, "{}", String::from_utf8(output.stderr).unwrap());
        (output.status.success(), text)
    };
    let folder = tempfile::tempdir().unwrap();
    let (password, made) = (folder.path().join("password"), folder.path().join("made"));
    secret(&password, PASSWORD);
    let init = |url: &str| {
        let paths = [password.to_str().unwrap(), made.to_str().unwrap()];
        run(&["init", "--department", "dwp", "--from", url, "--password-file", paths[0], "--out", paths[1]])
    };
    let (done, text) = init(&format!("odbc:{};PWD=4711", keywords(&postgres)));
    assert!(!done && text.contains("the keyword PWD holds a secret") && !text.contains("4711"), "{text}");
    let (done, text) = init("odbc:Driver=PostgreSQL Unicode;Servername=localhost;UID=reader");
    assert!(!done && text.contains("the keyword SSLmode is missing"), "{text}");
    let (done, text) = init("odbc:DSN=office");
    assert!(!done && text.contains("protected_by_driver"), "{text}");
    let url = format!("odbc:{}", keywords(&postgres));
    let (done, text) = init(&url);
    assert!(done, "{text}");
    let written = std::fs::read_to_string(made.join("node.toml")).unwrap();
    assert!(written.contains(&url) && written.contains("table = \"office.claims\"") && !written.contains(PASSWORD), "{written}");

    let config = sandbox.layout.node("dwp").join("node.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let lines =
        before.lines().map(|line| if line.starts_with("url = \"postgresql") { format!("url = \"{url}\"") } else { line.to_owned() });
    std::fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let check = || run(&["check", "--config", config.to_str().unwrap()]);
    let (sound, text) = check();
    assert!(sound && !text.contains("the account may do"), "{text}");
    postgres.sql(
        "postgres",
        "GRANT UPDATE ON office.claims TO reader; ALTER TABLE office.claims ALTER claim_started TYPE time USING '09:00'::time",
    );
    let (sound, text) = check();
    assert!(!sound && text.contains("'claim_started' is of the type time, which is not offered"), "{text}");
    postgres.sql("postgres", "ALTER TABLE office.claims ALTER claim_started TYPE date USING NULL");
    let (sound, text) = check();
    assert!(sound && text.contains("the account may do UPDATE at office.claims"), "{text}");
}
