//! Snapshots of what says nothing of its changes: a database, a store of objects.

use std::time::{Duration, SystemTime};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use concordat::federation::{Layout, adopt};
use concordat_policy::Code;
use serde_json::{Value, json};

use super::{STATEMENTS, data, into_postgres, into_the_office, into_the_store};
use crate::commands::run;
use crate::oracle::{Oracle, agree};
use crate::postgres::Postgres;
use crate::sandbox::{Sandbox, refused, until};
use crate::store::Store;

const PEOPLE: u64 = 5_000;

#[tokio::test]
async fn a_database_or_a_store_that_is_gone_is_answered_for_as_long_as_its_department_says() {
    let data = data(PEOPLE).await;
    let files = Sandbox::start(PEOPLE).await;
    let expected = Oracle::over(&files.layout).await.query(STATEMENTS[0].1).await;
    drop(files);
    for keeps in [true, false] {
        let postgres = Postgres::start();
        into_postgres(&postgres, &data);
        let sandbox = Sandbox::with(
            PEOPLE,
            |_| {},
            |layout| {
                into_the_office(layout, &postgres);
                kept(layout, "office", keeps);
            },
        );
        without(&sandbox.await, postgres, &expected, keeps).await;
        let store = Store::start();
        let sandbox = Sandbox::with(
            PEOPLE,
            |_| {},
            |layout| {
                into_the_store(layout, &store, None);
                kept(layout, "lake", keeps);
            },
        );
        without(&sandbox.await, store, &expected, keeps).await;
    }
}

#[tokio::test]
async fn data_that_is_older_than_agreed_is_refused_until_it_is_brought_up_to_date() {
    let sandbox = Sandbox::with(
        500,
        |_| {},
        |layout| {
            let text = std::fs::read_to_string(layout.estate().join("agreements/opportunity.toml")).unwrap();
            let (name, stated) = ("name = \"claims\"\n", "name = \"claims\"\nmax_data_age = \"1h\"\n");
            assert!(text.contains(name));
            adopt(layout, &text.replacen(name, stated, 1)).unwrap();
        },
    )
    .await;
    let changed = |ago: Duration| {
        let folder = sandbox.layout.node("dwp");
        let config: toml::Value = toml::from_str(&std::fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap();
        let source = folder.join(config["dataset"][0]["source"].as_str().unwrap());
        let files =
            if source.is_dir() { std::fs::read_dir(&source).unwrap().map(|file| file.unwrap().path()).collect() } else { vec![source] };
        for file in files {
            std::fs::File::options().append(true).open(file).unwrap().set_modified(SystemTime::now() - ago).unwrap();
        }
    };
    let both = STATEMENTS[0].1;
    sandbox.query(both).await.unwrap();
    // Who asks is told beforehand.
    for (asked, of) in [(vec!["explain", both], "dataset"), (vec!["catalogue"], "name")] {
        let told = run(&sandbox, &[&asked[..], &["--output", "json"]].concat()).json();
        let tables = told["tables"].as_array().or(told["datasets"].as_array()).unwrap();
        let most = |name: &str| tables.iter().find(|table| table[of] == name).unwrap()["max_data_age"].clone();
        assert_eq!((most("dwp.claims"), most("dfe.attainment")), (json!("1 hour"), Value::Null), "{asked:?}");
        let text = run(&sandbox, &asked).text();
        assert!(text.contains("1 hour"), "{text}");
    }
    changed(Duration::from_secs(2 * 3600));
    let failure = refused(sandbox.query(both).await, Code::Outdated, "'dwp.claims' be used that is at most 1 hour old");
    assert!(failure.department.as_deref() == Some("dwp") && failure.message.contains("department 'dwp' refused (outdated)"), "{failure:?}");
    sandbox.query("SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region").await.unwrap();
    changed(Duration::ZERO);
    sandbox.query(both).await.unwrap();
}

#[tokio::test]
async fn a_file_more_is_in_a_snapshot_before_anybody_asks_for_it() {
    let both = STATEMENTS[0].1;
    let folder = |layout: &Layout| layout.node("dwp").join("claims");
    let sandbox = Sandbox::with(
        PEOPLE,
        |_| {},
        |layout| {
            let node = layout.node("dwp");
            let text = std::fs::read_to_string(node.join("node.toml")).unwrap();
            let config: toml::Value = toml::from_str(&text).unwrap();
            let source = config["dataset"][0]["source"].as_str().unwrap();
            std::fs::create_dir(folder(layout)).unwrap();
            std::fs::copy(node.join(source), folder(layout).join("1.parquet")).unwrap();
            std::fs::write(node.join("node.toml"), text.replacen(&format!("source = \"{source}\""), "source = \"claims\"", 1)).unwrap();
        },
    )
    .await;
    let made = |some: bool| {
        let text = sandbox.diagnostics("dwp");
        let mut made = text.lines().filter(|line| line.contains("a linked snapshot was made"));
        made.any(|line| !some || !line.contains("taken_over=0") && !line.contains("\"taken_over\":0"))
    };
    let before = sandbox.query(both).await.unwrap();
    until("a snapshot is made", || made(false)).await;
    let folder = folder(&sandbox.layout);
    // The same rows once more.
    std::fs::copy(folder.join("1.parquet"), folder.join("part")).unwrap();
    std::fs::rename(folder.join("part"), folder.join("2.parquet")).unwrap();
    until("it is made again, of the rows that it had and those of the other file", || made(true)).await;
    let doubled = sandbox.query(both).await.unwrap();
    let twice = |batches: &[RecordBatch], times: i64| -> Vec<i64> {
        let counts = batches.iter().flat_map(|batch| batch.column_by_name("c").unwrap().as_primitive::<Int64Type>().values().iter());
        let mut counts: Vec<i64> = counts.map(|count| count * times).collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(twice(&doubled.batches, 1), twice(&before.batches, 2));
    std::fs::remove_file(folder.join("2.parquet")).unwrap();
    let gone = sandbox.query(both).await.unwrap();
    assert_eq!(twice(&gone.batches, 1), twice(&before.batches, 1), "what is gone is gone at once");
}

/// Has snapshots be kept of what `dwp` reads by a connection, for far longer than the test takes, or not.
fn kept(layout: &Layout, connection: &str, keeps: bool) {
    let path = layout.node("dwp").join("node.toml");
    let (text, of) = (std::fs::read_to_string(&path).unwrap(), format!("connection = \"{connection}\"\n"));
    assert!(text.contains(&of));
    let minutes = if keeps { "snapshot_minutes = 60\n" } else { "" };
    std::fs::write(path, text.replacen(&of, &format!("{of}{minutes}"), 1)).unwrap();
}

/// Asks, has the server end, and asks again.
async fn without<Server>(sandbox: &Sandbox, server: Server, expected: &[RecordBatch], keeps: bool) {
    let (keys, both) = STATEMENTS[0];
    let before = sandbox.query(both).await.unwrap();
    assert!(agree(&before, expected, keys) > 0, "nothing was compared");
    if keeps {
        until("a snapshot is made", || sandbox.diagnostics("dwp").contains("a linked snapshot was made")).await;
    }
    drop(server);
    let after = sandbox.query(both).await;
    if keeps {
        assert!(agree(&after.unwrap(), expected, keys) > 0, "nothing was compared");
    } else {
        refused(after, Code::NodeRefused, "the source of 'dwp.claims' cannot be read");
    }
}
