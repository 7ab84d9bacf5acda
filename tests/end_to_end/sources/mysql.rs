//! What is read of MariaDB, how exactly, and who gets in.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;
use chrono::Utc;
use concordat::federation::Authority;
use concordat_node::source::connection::Server;
use concordat_node::source::settings::{Host, Settings, Tls};
use concordat_node::source::{Connection, Opened, Relation, Source, SourceError, inspect};
use concordat_operate::certificate::Files;
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionContext, ident, lit, not};

use super::reading::{conditions, dropped, number, one_snapshot, shown, source_of};
use crate::mariadb::Mariadb;
use crate::postgres::{PASSWORD, secret};

/// The user `reader` over the socket.
fn connection(mariadb: &Mariadb) -> Arc<Connection> {
    let password_file = mariadb.path("reader.password");
    secret(&password_file, PASSWORD);
    let settings = Settings {
        host: Host::Socket(mariadb.socket()),
        port: mariadb.port,
        user: "reader".into(),
        database: "office".into(),
        password_file: Some(password_file),
        tls: None,
    };
    Arc::new(Connection { name: "office".into(), server: Server::Mysql(Arc::new(settings)) })
}

fn source(mariadb: &Mariadb, relation: &str) -> Source {
    source_of(connection(mariadb), relation)
}

async fn open(mariadb: &Mariadb, relation: &str) -> Opened {
    source(mariadb, relation).open(&|_| None, None, 2).await.unwrap()
}

const TYPES: &str = r#"
USE office;
SET time_zone = '+01:00', NAMES utf8mb4;
CREATE TABLE everything (
  i1 tinyint, i2 smallint, i3 mediumint, i4 int, i8 bigint, u8 bigint unsigned, yr year, n10 decimal(10,0), n decimal(25,5), n52 decimal(5,2),
  f4 float, f8 double, yes boolean, bit1 bit(1), t text, v varchar(10) CHARACTER SET latin1, c char(5), e enum('glad', 'it''s "odd"'), s set('x', 'y'),
  d date, dt datetime(6), ts timestamp(3) NULL, u uuid, j json, b varbinary(10), bl blob, `Odd ``name` text,
  ti time, bits bit(3), g point
) CHARACTER SET utf8mb4;
INSERT INTO everything VALUES (
  -128, -32768, -8388608, 2147483647, -9223372036854775808, 9223372036854775807, 2024, 9999999999, 12345678901234567890.12345, 1.50,
  1.5, 0.1, true, b'1', 'Grüße', 'é', 'ab', 'it''s "odd"', 'x,y',
  '2024-02-29', '2024-01-31 09:00:00.25', '2024-07-01 09:00:00', '11111111-2222-3333-4444-555555555555', '{"a": 1}', X'00ff', X'00ff', 'odd',
  '09:00', b'101', POINT(1, 2));
INSERT INTO everything () VALUES ();
"#;

#[tokio::test]
async fn every_type_is_read_exactly_or_refused_by_name() {
    let mariadb = Mariadb::start();
    mariadb.sql(TYPES);
    let opened = open(&mariadb, "everything").await;
    let (text, integer, number, boolean) = (DataType::Utf8, DataType::Int64, DataType::Float64, DataType::Boolean);
    let expected = [
        ("i1", "tinyint", &integer, "-128"),
        ("i2", "smallint", &integer, "-32768"),
        ("i3", "mediumint", &integer, "-8388608"),
        ("i4", "int", &integer, "2147483647"),
        ("i8", "bigint", &integer, "-9223372036854775808"),
        ("u8", "bigint unsigned", &integer, "9223372036854775807"),
        ("yr", "year", &integer, "2024"),
        ("n10", "decimal(10,0)", &integer, "9999999999"),
        ("n", "decimal(25,5)", &number, "1.2345678901234567e19"),
        ("n52", "decimal(5,2)", &number, "1.5"),
        ("f4", "float", &number, "1.5"),
        ("f8", "double", &number, "0.1"),
        ("yes", "tinyint(1)", &boolean, "true"),
        ("bit1", "bit(1)", &boolean, "true"),
        ("t", "text", &text, "Grüße"),
        ("v", "varchar", &text, "é"),
        ("c", "char", &text, "ab"),
        ("e", "enum", &text, "it's \"odd\""),
        ("s", "set", &text, "x,y"),
        ("d", "date", &DataType::Date32, "2024-02-29"),
        ("dt", "datetime", &text, "2024-01-31T09:00:00.25"),
        ("ts", "timestamp", &text, "2024-07-01T08:00:00Z"),
        ("u", "char", &text, "11111111-2222-3333-4444-555555555555"),
        ("j", "text", &text, "{\"a\": 1}"),
        ("b", "varbinary", &text, "00ff"),
        ("bl", "blob", &text, "00ff"),
        ("Odd `name", "text", &text, "odd"),
    ];
    for ((name, native, read_as, _), column) in expected.iter().zip(&opened.shape.columns) {
        assert_eq!((*name, *native, Some(*read_as)), (column.name.as_str(), column.native.as_str(), column.read_as.as_ref()));
    }
    let others = opened.shape.columns.iter().skip(expected.len()).map(|column| (column.native.as_str(), column.read_as.as_ref()));
    assert_eq!(others.collect::<Vec<_>>(), ["time", "bit(3)", "geometry"].map(|native| (native, None)));
    let rows = shown(&opened.frame.collect().await.unwrap());
    assert_eq!(rows, [expected.map(|(.., value)| value.to_owned()).to_vec(), vec!["-".to_owned(); expected.len()]]);
    assert!(opened.state.is_one());

    // A `tinyint(1)` is an integer where the configuration wants one.
    let wanted = source(&mariadb, "SELECT yes, i1 FROM everything").open(&|_| Some(DataType::Int64), None, 1).await.unwrap();
    assert_eq!(
        wanted.shape.columns.iter().map(|column| column.read_as.clone()).collect::<Vec<_>>(),
        [Some(integer.clone()), Some(integer)]
    );

    let listed = inspect(&connection(&mariadb)).await.unwrap();
    assert_eq!((listed.len(), listed[0].name.to_string()), (1, "everything".into()));
    assert_eq!(listed[0].columns, opened.shape.columns);
}

#[tokio::test]
async fn values_that_no_column_holds_fail_the_scan_and_are_not_shown() {
    let mariadb = Mariadb::start();
    mariadb.sql(
        "USE office; SET sql_mode = 'ALLOW_INVALID_DATES';
         CREATE TABLE odd (id int, yes tinyint(1), big bigint unsigned, day date, at datetime);
         INSERT INTO odd VALUES (4711, 7, 18446744073709551615, '0000-00-00', '2026-02-31 04:07:11')",
    );
    for (query, says) in [
        ("SELECT id, yes AS secret FROM odd", "a value of column 'secret' is no boolean"),
        ("SELECT id, big AS secret FROM odd", "a value of column 'secret' is beyond 63 bits"),
        ("SELECT id, day AS secret FROM odd", "a value of column 'secret' is no day of the years 1 to 9999"),
        ("SELECT id, at AS secret FROM odd", "a value of column 'secret' is no time of the years 1 to 9999"),
    ] {
        let opened = open(&mariadb, query).await;
        let error = opened.frame.collect().await.unwrap_err();
        let datafusion::error::DataFusionError::External(inner) = error.find_root() else { panic!("{query}: {error}") };
        let ours = inner.downcast_ref::<SourceError>().unwrap().to_string();
        assert!(ours.contains(says) && !ours.contains("4711"), "{query}: {ours}");
        assert!(!opened.state.is_one());
    }
    // Whatever is asked of it: it is neither left out as true nor as false.
    for condition in [ident("yes"), not(ident("yes")), ident("yes").eq(lit(true)), ident("yes").eq(lit(false))] {
        let frame = open(&mariadb, "SELECT id, yes FROM odd").await.frame;
        let error = frame.filter(condition.clone()).unwrap().collect().await.unwrap_err();
        assert!(error.to_string().contains("'yes' is no boolean"), "{condition}: {error}");
    }
    for (query, says) in [
        ("SELEC 1", "error 1064"),
        ("SELECT * FROM everything", "error 1146"),
        ("SELECT 1 AS a, 2 AS A", "error 1060"),
        ("SELECT 1 AS id) AS source; DROP TABLE odd; SELECT (1", "error 1064"),
        ("SELECT user FROM mysql.user", "error 1142"),
    ] {
        let error = source(&mariadb, query).open(&|_| None, None, 1).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("connection 'office'") && error.contains(says), "{query}: {error}");
    }
    // A query that would write does not, whatever the user may do.
    mariadb.sql("USE office; CREATE SEQUENCE counting; GRANT ALL ON office.* TO reader@'%'");
    let writing = source(&mariadb, "SELECT nextval(counting) AS id").open(&|_| None, None, 1).await.map(|_| ());
    assert!(writing.unwrap_err().to_string().contains("the statement would write"));
    assert_eq!(mariadb.sql("SELECT next_not_cached_value FROM office.counting"), "1");
}

const COMPARED: &str = r"
USE office; SET NAMES utf8mb4;
CREATE TABLE compared (t text CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, c char(5), ci varchar(10) CHARACTER SET latin1, m enum('z','a','B'),
  i bigint, w decimal(10,0), f double, n decimal(30,5), d date, yes boolean) CHARACTER SET utf8mb4;
INSERT INTO compared VALUES
  ('a', 'a', 'a', 'a', 7, 7, 0.1, 0.1, '2024-02-29', true), ('A', 'A', 'A', 'z', -1, -1, -1.5, -1.5, '0001-01-01', false),
  ('b', 'b', 'b', 'B', 0, 0, 0, 0, '1969-12-31', NULL), ('é', 'é', 'é', 'a', 9223372036854775807, 8, NULL, NULL, '9999-12-31', true),
  ('it''s', 'it''s', 'it''s', 'z', -9223372036854775808, 9, 1e300, 2, '1970-01-01', false), ('', '', '', NULL, NULL, NULL, NULL, NULL, NULL, true),
  (NULL, NULL, NULL, 'a', 8, NULL, 2, 2, '2000-01-01', true), ('Z', 'Z', 'Z', 'B', 9, 1, 1e300, 2.5, '2010-01-01', false),
  ('a\\''b', 'a\\''b', 'a\\''b', 'a', 1, 2, NULL, 0.3, '2024-02-28', true), ('ab   ', 'ab', 'ab   ', 'a', 2, 2, 0.3, 0.3, '2024-02-27', true);
";

#[tokio::test]
async fn conditions_that_are_sent_select_what_the_engine_selects() {
    let mariadb = Mariadb::start();
    mariadb.sql(COMPARED);
    let whole = open(&mariadb, "compared").await.frame;
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
        let (theirs, ours) = (select(open(&mariadb, "compared").await.frame).await, select(memory.clone()).await);
        assert_eq!(theirs, ours, "{condition}");
        selected += ours.len();
    }
    assert!(selected > 500, "{selected}");
    // Beside a year, the server takes 24 for 2024; a number beyond 63 bits is more than any that an order names.
    mariadb.sql(
        "USE office; CREATE TABLE born (y year, u bigint unsigned); INSERT INTO born VALUES (1950, 0), (2009, 5), (2024, 7), (NULL, NULL)",
    );
    for literal in [24i64, 99, 1950, 2024, -1] {
        let conditions = [
            ident("y").gt(lit(literal)),
            not(ident("y").eq(lit(literal))),
            ident("y").in_list(vec![lit(literal)], true),
            ident("u").gt(lit(literal)),
        ];
        for condition in conditions {
            let sent = shown(&open(&mariadb, "born").await.frame.filter(condition.clone()).unwrap().collect().await.unwrap());
            let all = open(&mariadb, "born").await.frame;
            let schema = Arc::clone(all.schema().inner());
            let memory = MemTable::try_new(schema, vec![all.collect().await.unwrap()]).unwrap();
            let meant = SessionContext::new().read_table(Arc::new(memory)).unwrap().filter(condition.clone()).unwrap();
            assert_eq!(sent, shown(&meant.collect().await.unwrap()), "{condition}");
        }
    }

    let frame = open(&mariadb, "compared").await.frame;
    let condition = ident("t").eq(lit("it's")).and(not(number("n").gt(lit(1.5)))).and(ident("i").lt(lit(5i64)));
    frame.filter(condition).unwrap().select(vec![ident("d"), number("f").alias("f")]).unwrap().collect().await.unwrap();
    let statements = mariadb.statements();
    let sent = statements.lines().rfind(|line| line.contains("*/ `")).unwrap();
    for part in ["AS BINARY) = X'69742773'", "(`n` + 0e0) <= (1.5e0)", "(`i` < (5))"] {
        assert!(sent.contains(part), "{part}: {sent}");
    }
    let list = sent.split("FROM").next().unwrap();
    assert!(!list.contains("`m`") && !list.contains("`ci`"), "{sent}");
    let frame = open(&mariadb, "compared").await.frame;
    assert_eq!(shown(&frame.select(vec![ident("i")]).unwrap().limit(0, Some(3)).unwrap().collect().await.unwrap()).len(), 3);
    assert!(mariadb.statements().contains("*/ `i` FROM `compared` LIMIT 3"));
}

#[tokio::test]
async fn a_scan_reads_one_snapshot_and_one_that_is_dropped_ends_at_the_server() {
    let mariadb = Mariadb::start();
    mariadb.sql("USE office; CREATE TABLE counted AS SELECT seq AS id, 0 AS generation FROM seq_1_to_200000");
    // What the server would cut off, or close, for others.
    mariadb.sql("SET GLOBAL sql_select_limit = 500, GLOBAL completion_type = 2");
    let opened = open(&mariadb, "counted").await;
    one_snapshot(opened, || drop(mariadb.sql("USE office; UPDATE counted SET generation = 1; INSERT INTO counted VALUES (0, 1)"))).await;

    let running = || mariadb.sql("SELECT count(*) FROM information_schema.PROCESSLIST WHERE USER = 'reader'");
    for slow in ["SELECT 1 AS id FROM (SELECT sleep(500) AS s) AS s", "SELECT a.id AS id, sleep(0.0001) AS t FROM counted a, counted b"] {
        // Of itself it would run for minutes. It is looked at several times, over new connections.
        dropped(open(&mariadb, slow).await, slow, running, Duration::from_secs(5)).await;
    }
}

async fn signed_in(settings: Settings) -> Result<(), String> {
    let connection = Arc::new(Connection { name: "office".into(), server: Server::Mysql(Arc::new(settings)) });
    let opened = Source::Database(connection, Relation::Query("SELECT current_user() AS id".into())).open(&|_| None, None, 1).await;
    let rows = opened.map_err(|e| e.to_string())?.frame.collect().await.map_err(|e| e.to_string())?;
    assert_eq!(rows[0].num_rows(), 1);
    Ok(())
}

#[tokio::test]
async fn passwords_certificates_and_authorities() {
    let mut mariadb = Mariadb::start();
    let file = |name: &str, text: &str| {
        let path = mariadb.path(name);
        secret(&path, text);
        path
    };
    let password = file("password", &format!("{PASSWORD}\n"));
    let (ca, wrong) = (mariadb.path("ca.pem"), file("wrong", "another"));
    let stranger = Authority::new(Utc::now().date_naive()).unwrap();
    let wrong_ca = file("wrong.pem", stranger.pem());
    let client = |authority: &Authority, stem: &str| {
        let identity = authority.client("certified").unwrap();
        let certificate = file(&format!("{stem}.pem"), &identity.certificate);
        Files { certificate, key: file(&format!("{stem}.key"), &identity.key), ca: None }
    };
    let (own, forged) = (client(&mariadb.authority, "own"), client(&stranger, "forged"));
    let port = mariadb.port;
    let settings =
        |user: &str, host: &str, password_file: Option<&std::path::PathBuf>, ca: &std::path::PathBuf, identity: Option<&Files>| Settings {
            host: Host::Name(host.into()),
            port,
            user: user.into(),
            database: "office".into(),
            password_file: password_file.cloned(),
            tls: Some(Tls { ca: ca.clone(), identity: identity.cloned() }),
        };
    signed_in(settings("reader", "localhost", Some(&password), &ca, None)).await.unwrap();
    signed_in(settings("reader", "127.0.0.1", Some(&password), &ca, None)).await.unwrap();
    signed_in(settings("certified", "localhost", None, &ca, Some(&own))).await.unwrap();
    let sound = settings("reader", "localhost", Some(&password), &ca, None);
    for (settings, says) in [
        (settings("reader", "localhost", Some(&wrong), &ca, None), "the password is wrong"),
        (settings("reader", "localhost", None, &ca, None), "the password is wrong"),
        (settings("reader", "localhost", Some(&password), &wrong_ca, None), "invalid peer certificate"),
        (settings("certified", "localhost", None, &ca, None), "error 1045"),
        (settings("certified", "localhost", None, &ca, Some(&forged)), "connection 'office'"),
        (Settings { database: "none".into(), ..sound.clone() }, "may not use this database"),
        (Settings { port: 1, ..sound.clone() }, "refused"),
    ] {
        let shown = format!("{settings:?}");
        let error = signed_in(settings).await.unwrap_err();
        assert!(error.contains(says) && !error.contains(PASSWORD), "{shown}: {error}");
    }
    // A server without TLS is left before the password is said.
    mariadb.stop();
    for name in ["server.pem", "server.key", "ca.pem"] {
        std::fs::rename(mariadb.path(name), mariadb.path(&format!("kept.{name}"))).unwrap();
    }
    mariadb.run();
    let without = Settings { tls: Some(Tls { ca: mariadb.path("kept.ca.pem"), identity: None }), ..sound };
    assert_eq!(signed_in(without).await.unwrap_err(), "connection 'office': the server offers no TLS (have_ssl)");
}

#[tokio::test]
async fn rights_that_a_reader_does_not_need_are_told() {
    let mariadb = Mariadb::start();
    mariadb.sql("USE office; CREATE TABLE claims (id int)");
    let source = source(&mariadb, "claims");
    assert_eq!(source.excess().await.unwrap(), Vec::<String>::new());
    mariadb.sql("GRANT INSERT, UPDATE (id) ON office.claims TO reader@'%'; CREATE ROLE clerks; GRANT DELETE ON office.* TO clerks; GRANT clerks TO reader@'%'; SET DEFAULT ROLE clerks FOR reader@'%'");
    let told = source.excess().await.unwrap();
    assert!(told.iter().any(|line| line == "user 'reader' may do INSERT, UPDATE at office.claims"), "{told:?}");
    assert!(told.iter().any(|line| line == "user 'reader' may do DELETE at office.*"), "{told:?}");
}
