//! The departments' own databases as sources: real servers, started by the suite.

mod changes;
mod finite;
mod keeping;
mod mysql;
mod objects;
#[cfg(feature = "odbc")]
mod odbc;
mod reading;
mod signing_in;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use concordat::federation::Layout;
use concordat_policy::Code;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

use crate::mariadb::Mariadb;
use crate::oracle::{Oracle, agree};
use crate::postgres::Postgres;
use crate::sandbox::{Sandbox, program, refused};
use crate::store::Store;

const STATEMENTS: &[(usize, &str)] = &[
    (
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, count(*) AS c, avg(c.months_claiming) AS m, sum(a.attainment8) AS s FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region",
    ),
    (
        1,
        "SELECT a.region, count(DISTINCT a.subject) AS n, avg(c.months_claiming) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject WHERE c.claim_started >= DATE '2023-01-01' AND c.claiming GROUP BY a.region",
    ),
    (
        2,
        "SELECT a.region, a.cohort_year, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject WHERE c.conditionality IN ('none', 'working') AND c.claim_started IS NULL AND a.region <> 'London' AND a.attainment8 >= 20 AND a.attainment8 < 70 GROUP BY a.region, a.cohort_year",
    ),
    (
        0,
        "SELECT count(DISTINCT c.subject) AS n, sum(c.months_claiming) AS k FROM dwp.claims c WHERE NOT (c.claiming AND c.conditionality = 'none')",
    ),
];

/// A dataset of the sample on its way into a database: column names and types of the source, and its rows as CSV.
struct Copied {
    columns: Vec<(String, &'static str)>,
    rows: String,
}

async fn copied(layout: &Layout, department: &str) -> Copied {
    let folder = layout.node(department);
    let config: toml::Value = toml::from_str(&std::fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap();
    let dataset = &config["dataset"][0];
    let path = folder.join(dataset["source"].as_str().unwrap());
    let frame = SessionContext::new().read_parquet(path.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    let kind = |name: &str| {
        let mut declared = dataset["columns"].as_table().unwrap().iter();
        let found = declared.find(|(own, column)| column.get("source").and_then(|s| s.as_str()).unwrap_or(own) == name);
        match found.map(|(_, column)| column["type"].as_str().unwrap()) {
            Some("integer") => "bigint",
            Some("number") => "double precision",
            Some("boolean") => "boolean",
            Some("date") => "date",
            _ => "text",
        }
    };
    let columns = frame.schema().fields().iter().map(|field| (field.name().clone(), kind(field.name()))).collect();
    let mut csv = Vec::new();
    let mut writer = arrow::csv::WriterBuilder::new().with_header(false).build(&mut csv);
    for batch in frame.collect().await.unwrap() {
        writer.write(&batch).unwrap();
    }
    drop(writer);
    Copied { columns, rows: String::from_utf8(csv).unwrap() }
}

/// Has a department's first dataset read something else than its files.
fn instead(layout: &Layout, department: &str, source: &str, connection: &str) {
    let path = layout.node(department).join("node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let first = |lines: &[&str], start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
    lines.remove(first(&lines, "format = "));
    let at = first(&lines, "source = ");
    lines[at] = source;
    std::fs::write(path, lines.join("\n") + "\n" + connection).unwrap();
}

fn into_postgres(postgres: &Postgres, data: &Copied) {
    let columns: Vec<String> = data.columns.iter().map(|(name, kind)| format!("\"{name}\" {kind}")).collect();
    let create = format!("CREATE SCHEMA office; CREATE TABLE office.claims ({});", columns.join(", "));
    let grant = "GRANT USAGE ON SCHEMA office TO reader; GRANT SELECT ON office.claims TO reader;";
    postgres.feed("postgres", format!("{create} {grant}\nCOPY office.claims FROM STDIN (FORMAT csv);\n{}\\.\n", data.rows).as_bytes());
}

fn into_sqlite(path: &Path, data: &Copied) {
    let declared = data.columns.iter().map(|(name, kind)| format!("\"{name}\" {}", kind.to_uppercase())).collect::<Vec<_>>();
    let mut database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch(&format!("CREATE TABLE claims ({})", declared.join(", "))).unwrap();
    let marks = vec!["?"; data.columns.len()].join(", ");
    let transaction = database.transaction().unwrap();
    for row in data.rows.lines() {
        let values = row.split(',').zip(&data.columns).map(|(text, (_, kind))| -> rusqlite::types::Value {
            match (*kind, text) {
                (_, "") => rusqlite::types::Value::Null,
                ("boolean", text) => i64::from(text == "true").into(),
                (_, text) => text.to_owned().into(),
            }
        });
        transaction.execute(&format!("INSERT INTO claims VALUES ({marks})"), rusqlite::params_from_iter(values)).unwrap();
    }
    transaction.commit().unwrap();
}

fn into_mariadb(mariadb: &Mariadb, data: &Copied) {
    let kind = |kind: &str| if kind == "double precision" { "decimal(30,10)".to_owned() } else { kind.to_owned() };
    let columns: Vec<String> = data.columns.iter().map(|(name, own)| format!("`{name}` {}", kind(own))).collect();
    let value = |text: &str| match text {
        "" => "NULL".to_owned(),
        "true" | "false" => text.to_owned(),
        text => format!("'{text}'"),
    };
    let row = |row: &str| format!("({})", row.split(',').map(value).collect::<Vec<_>>().join(","));
    let mut script = format!("USE office; CREATE TABLE claims ({}) CHARACTER SET utf8mb4;\n", columns.join(", "));
    for rows in data.rows.lines().map(row).collect::<Vec<_>>().chunks(2_000) {
        let _ = writeln!(script, "INSERT INTO claims VALUES {};", rows.join(","));
    }
    mariadb.sql(&script);
}

/// Over TLS, as a database of another machine is reached.
fn into_the_mariadb(layout: &Layout, mariadb: &Mariadb) {
    crate::postgres::secret(&layout.node("dwp").join("keys/office.password"), crate::postgres::PASSWORD);
    let connection = format!(
        "\n[[connection]]\nname = \"office\"\nurl = \"mysql://reader@localhost:{}/office\"\npassword_file = \"keys/office.password\"\ntls = {{ ca = \"{}\" }}\n",
        mariadb.port,
        mariadb.path("ca.pem").display()
    );
    instead(layout, "dwp", "connection = \"office\"\ntable = \"claims\"", &connection);
}

/// The files that the dataset has now, or the same as CSV, in a store.
fn into_the_store(layout: &Layout, store: &Store, csv: Option<&str>) {
    let folder = layout.node("dwp");
    let config: toml::Value = toml::from_str(&std::fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap();
    let source = folder.join(config["dataset"][0]["source"].as_str().unwrap());
    let format = if let Some(csv) = csv {
        store.write("claims/all.csv", csv);
        "csv"
    } else {
        let files =
            if source.is_dir() { std::fs::read_dir(&source).unwrap().map(|file| file.unwrap().path()).collect() } else { vec![source] };
        for (number, file) in files.into_iter().enumerate() {
            store.write(&format!("claims/{number}.parquet"), std::fs::read(file).unwrap());
        }
        "parquet"
    };
    crate::postgres::secret(&folder.join("keys/lake.secret"), crate::store::SECRET);
    let connection = format!(
        "\n[[connection]]\nname = \"lake\"\nurl = \"s3://{}@localhost:{}/{}\"\npassword_file = \"keys/lake.secret\"\ntls = {{ ca = \"{}\" }}\n",
        crate::store::KEY,
        store.port,
        crate::store::BUCKET,
        store.path("ca.pem").display()
    );
    instead(layout, "dwp", &format!("connection = \"lake\"\nsource = \"claims/\"\nformat = \"{format}\""), &connection);
}

fn postgres_connection(postgres: &Postgres) -> String {
    format!(
        "\n[[connection]]\nname = \"office\"\nurl = \"postgresql://reader@/postgres?host={}&port={}\"\npassword_file = \"keys/office.password\"\n",
        postgres.socket().display(),
        postgres.port
    )
}

/// The sample with the claims of `dwp` in a server.
async fn with_claims_in(postgres: &Postgres, people: u64) -> Sandbox {
    let data = data(people).await;
    into_postgres(postgres, &data);
    Sandbox::with(people, |_| {}, |layout| into_the_office(layout, postgres)).await
}

fn into_the_office(layout: &Layout, postgres: &Postgres) {
    crate::postgres::secret(&layout.node("dwp").join("keys/office.password"), crate::postgres::PASSWORD);
    instead(layout, "dwp", "connection = \"office\"\ntable = \"office.claims\"", &postgres_connection(postgres));
}

/// The claims of a sample of this many people.
async fn data(people: u64) -> Copied {
    data_of(people, "dwp").await
}

/// A department's first dataset of a sample of this many people.
async fn data_of(people: u64, department: &str) -> Copied {
    let folder = tempfile::tempdir().unwrap();
    let today = chrono::Utc::now().date_naive();
    let made = concordat::federation::make(&concordat::sample::federation(today), &folder.path().join("world"), today).unwrap();
    concordat::sample::Sample::of(people).write(&made.layout).unwrap();
    copied(&made.layout, department).await
}

#[tokio::test]
async fn the_same_data_gives_the_same_answer_whatever_holds_it() {
    const PEOPLE: u64 = 20_000;
    let data = data(PEOPLE).await;
    let postgres = Postgres::start();
    into_postgres(&postgres, &data);
    let (mariadb, store) = (Mariadb::start(), Store::start());
    into_mariadb(&mariadb, &data);
    let parquet = Sandbox::start(PEOPLE).await;
    let oracle = Oracle::over(&parquet.layout).await;
    let mut expected = Vec::new();
    for (_, sql) in STATEMENTS {
        expected.push(oracle.query(sql).await);
    }
    drop(parquet);
    let header = data.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    type Change<'a> = Box<dyn Fn(&Layout) + 'a>;
    let csv = format!("{header}\n{}", data.rows);
    let kinds: [(&str, Change); _] = [
        ("parquet", Box::new(|_| {})),
        (
            "csv",
            Box::new(|layout| {
                std::fs::write(layout.node("dwp").join("claims.csv"), &csv).unwrap();
                instead(layout, "dwp", "source = \"claims.csv\"\nformat = \"csv\"", "");
            }),
        ),
        (
            "sqlite",
            Box::new(|layout| {
                into_sqlite(&layout.node("dwp").join("claims.db"), &data);
                let connection = "\n[[connection]]\nname = \"office\"\nurl = \"sqlite:claims.db\"\n";
                instead(layout, "dwp", "connection = \"office\"\nquery = \"SELECT * FROM claims\"", connection);
            }),
        ),
        ("postgresql", Box::new(|layout| into_the_office(layout, &postgres))),
        ("mariadb", Box::new(|layout| into_the_mariadb(layout, &mariadb))),
        ("parquet in a store", Box::new(|layout| into_the_store(layout, &store, None))),
        ("csv in a store", Box::new(|layout| into_the_store(layout, &store, Some(&csv)))),
        #[cfg(feature = "odbc")]
        (
            "postgresql by odbc",
            Box::new(|layout| odbc::into_odbc(layout, &odbc::keywords(&postgres), "office.claims", Some(crate::postgres::PASSWORD))),
        ),
        #[cfg(feature = "odbc")]
        (
            "sqlite by odbc",
            Box::new(|layout| {
                let file = layout.node("dwp").join("claims.db");
                into_sqlite(&file, &data);
                odbc::into_odbc(layout, &format!("Driver={{SQLite3}};Database={};StepAPI=1", file.display()), "claims", None);
            }),
        ),
    ];
    for (kind, change) in kinds {
        let sandbox = Sandbox::with(PEOPLE, |_| {}, change).await;
        for ((keys, sql), expected) in STATEMENTS.iter().zip(&expected) {
            let answer = sandbox.query(sql).await.unwrap_or_else(|e| panic!("{kind}: {sql}: {e:?}"));
            assert!(agree(&answer, expected, *keys) > 0, "{kind}: nothing was compared");
        }
    }
}

#[tokio::test]
async fn a_database_that_is_down_is_named_and_found_again() {
    let mut postgres = Postgres::start();
    let sandbox = with_claims_in(&postgres, 2_000).await;
    let (keys, both) = STATEMENTS[0];
    let before = sandbox.query(both).await.unwrap();
    postgres.stop();
    let failure = refused(sandbox.query(both).await, Code::NodeRefused, "the source of 'dwp.claims' cannot be read");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    // Who does not ask for it does not notice.
    sandbox.query("SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region").await.unwrap();
    postgres.run();
    let after = sandbox.query(both).await.unwrap();
    assert_eq!(crate::oracle::rows(&before.batches, keys).len(), crate::oracle::rows(&after.batches, keys).len());

    // A table whose column is of another type now is refused too, and what the log says of it holds no value.
    postgres.sql("postgres", "ALTER TABLE office.claims ALTER months_claiming TYPE text");
    refused(sandbox.query(both).await, Code::NodeRefused, "the source of 'dwp.claims' cannot be read");
    postgres.sql("postgres", "DROP TABLE office.claims");
    refused(sandbox.query(both).await, Code::NodeRefused, "the source of 'dwp.claims' cannot be read");
}

#[tokio::test]
async fn a_server_that_dies_within_a_scan_fails_the_query_and_nothing_smaller_comes() {
    let mut postgres = Postgres::start();
    let sandbox = with_claims_in(&postgres, 100_000).await;
    let (_, both) = STATEMENTS[0];
    sandbox.query(both).await.unwrap();
    // Sooner each time until the end falls into the scan.
    for milliseconds in [200u64, 120, 80, 50, 30, 20, 10, 5] {
        let client = sandbox.client().await;
        let query = tokio::spawn(async move { client.query(both).await });
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
        postgres.stop();
        if let Err(failure) = query.await.unwrap() {
            assert!(matches!(failure.code, Some(Code::NodeRefused | Code::NodeFaulty)), "{failure:?}");
            assert_eq!(failure.department.as_deref(), Some("dwp"), "{failure:?}");
            return;
        }
        postgres.run();
    }
    panic!("the server never ended inside a query");
}

#[tokio::test]
async fn check_refuses_types_by_name_and_tells_of_rights_that_a_reader_does_not_need() {
    let postgres = Postgres::start();
    let sandbox = with_claims_in(&postgres, 300).await;
    let config = sandbox.layout.node("dwp").join("node.toml");
    let check = || {
        let output = Command::new(program()).args(["node", "check", "--config", config.to_str().unwrap()]).output().unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        let _ = write!(text, "{}", String::from_utf8(output.stderr).unwrap());
        (output.status.success(), text)
    };
    let (sound, text) = check();
    assert!(sound && !text.contains("role 'reader'"), "{text}");

    let plain = std::fs::read_to_string(&config).unwrap();
    let parsed: toml::Value = toml::from_str(&plain).unwrap();
    let identifier = parsed["dataset"][0]["identifier"]["column"].as_str().unwrap();
    for (changes, found) in [
        ("snapshot_minutes = 1\nchanges = { key = \"IDENTIFIER\", column = \"months_claiming\" }", None),
        ("snapshot_minutes = 1\nchanges = { key = \"id\", column = \"id\" }", Some("tells it from no other")),
        ("changes = { key = \"IDENTIFIER\", column = \"months_claiming\" }", Some("changes are of use to snapshots only")),
        (
            "snapshot_minutes = 1\nchanges = { key = \"IDENTIFIER\", column = \"claiming\" }",
            Some("no column 'claiming' that is a whole number of at most 18 digits"),
        ),
        ("snapshot_minutes = 1\nchanges = { key = \"claiming\", column = \"months_claiming\" }", Some("no column 'claiming' that is text")),
        ("snapshot_minutes = 1\nchanges = { key = \"id\", column = \"changed\" }", Some("no column 'id' that is text")),
    ] {
        let changes = changes.replace("IDENTIFIER", identifier);
        std::fs::write(&config, plain.replacen("connection = \"office\"", &format!("connection = \"office\"\n{changes}"), 1)).unwrap();
        let (sound, text) = check();
        assert!(sound == found.is_none() && found.is_none_or(|found| text.contains(found)), "{changes}: {text}");
    }
    std::fs::write(&config, plain).unwrap();

    postgres.sql("postgres", "GRANT UPDATE (claiming), TRUNCATE ON office.claims TO reader");
    let (sound, text) = check();
    assert!(sound && text.contains("role 'reader' may do UPDATE, TRUNCATE at office.claims"), "{text}");
    postgres.sql("postgres", "ALTER TABLE office.claims OWNER TO reader; ALTER ROLE reader SUPERUSER");
    let (_, text) = check();
    assert!(text.contains("role 'reader' is a superuser") && text.contains("(it owns it)"), "{text}");

    postgres.sql(
        "postgres",
        "ALTER TABLE office.claims ALTER months_claiming TYPE interval USING make_interval(months => months_claiming::int)",
    );
    let (sound, text) = check();
    assert!(
        !sound && text.contains("'months_claiming' is of the type interval, which is not offered") && text.contains("cast it"),
        "{text}"
    );
    postgres.sql("postgres", "ALTER TABLE office.claims DROP months_claiming");
    let (sound, text) = check();
    assert!(!sound && text.contains("the source has no column 'months_claiming'"), "{text}");
}

/// The most memory, in MiB, that a preview of the claims takes at its node's program: it scans the whole source.
fn peak_of_a_scan(layout: &Layout) -> u64 {
    let config = layout.node("dwp").join("node.toml");
    let mut preview = Command::new(program())
        .args(["node", "preview", "--agreement", "opportunity", "--output", "json", "--config", config.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while preview.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", preview.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0).max(peak);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(preview.wait().unwrap().success());
    peak / 1024
}

#[tokio::test]
async fn a_scan_takes_the_same_memory_however_large_the_table_is() {
    let data = data(20_000).await;
    let (postgres, mariadb) = (Postgres::start(), Mariadb::start());
    into_postgres(&postgres, &data);
    into_mariadb(&mariadb, &data);
    #[cfg(feature = "odbc")]
    postgres.sql("postgres", "CREATE TABLE office.copied AS SELECT * FROM office.claims; GRANT SELECT ON office.copied TO reader");
    let double = |table: &str| format!("INSERT INTO {table} SELECT * FROM {table};").repeat(7);
    type Change<'a> = &'a dyn Fn(&Layout);
    type Grow<'a> = &'a dyn Fn();
    let kinds: [(&str, Change, Grow); _] = [
        ("postgresql", &|layout| into_the_office(layout, &postgres), &|| drop(postgres.sql("postgres", &double("office.claims")))),
        ("mariadb", &|layout| into_the_mariadb(layout, &mariadb), &|| drop(mariadb.sql(&format!("USE office; {}", double("claims"))))),
        #[cfg(feature = "odbc")]
        ("odbc", &|layout| odbc::into_odbc(layout, &odbc::keywords(&postgres), "office.copied", Some(crate::postgres::PASSWORD)), &|| {
            drop(postgres.sql("postgres", &double("office.copied")));
        }),
    ];
    for (kind, change, grow) in kinds {
        let sandbox = Sandbox::with(20_000, |_| {}, change).await;
        let small = peak_of_a_scan(&sandbox.layout);
        grow();
        let large = peak_of_a_scan(&sandbox.layout);
        eprintln!("{kind}: {small} MiB, with 128 times the rows {large} MiB");
        assert!(small > 20 && large < small + 48, "{kind}: {small} MiB, then {large} MiB");
    }
}
