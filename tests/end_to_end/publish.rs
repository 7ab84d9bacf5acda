//! The published site: its figures are those of protected snapshots, its register is the log's, and a browser finds nothing wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{Datelike as _, Months, NaiveTime, Utc};
use concordat::failure::LOCAL;
use concordat_mission::{Cell, Snapshot, Snapshots as _, SqliteStore};
use serde_json::{Value, json};

use crate::commands::{Ran, run};
use crate::python::with_clients;
use crate::receipts::{audited, auditor};
use crate::sandbox::Sandbox;
use crate::witness::until_cosigned;

const OUTCOME: &str = "fewer-on-benefits";

fn done(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    let ran = run(sandbox, arguments);
    assert_eq!(ran.exit, 0, "{arguments:?}: {}{}", ran.text(), ran.stderr);
    ran
}

/// Takes a snapshot, and makes a history of it in another store: months before it with values made up, one withheld, one missed.
fn history(sandbox: &Sandbox) -> (PathBuf, Vec<Snapshot>) {
    done(sandbox, &["mission", "snapshot", "opportunity", "--outcome", OUTCOME]);
    let real = SqliteStore::read(&sandbox.layout.snapshots()).unwrap().unwrap();
    let (taken, answer) = (real.all().unwrap().remove(0).taken, real.answer(1).unwrap());
    let path = sandbox.layout.folder().join("history.sqlite");
    let mut store = SqliteStore::open(&path).unwrap();
    let measure = taken.columns.iter().rposition(|column| column.protected).unwrap();
    for before in [6_u32, 5, 4, 2, 1] {
        let mut earlier = taken.clone();
        let start = Utc::now().date_naive().with_day(1).unwrap().checked_sub_months(Months::new(before)).unwrap();
        let at = start.and_time(NaiveTime::from_hms_opt(12, 0, 0).unwrap()).and_utc();
        (earlier.period, earlier.taken_at) = (Some(start), at);
        earlier.stated.sources.iter_mut().for_each(|source| source.freshness = at);
        for cell in earlier.rows.iter_mut().map(|row| &mut row[measure]) {
            match cell.number() {
                Some(_) if before == 4 => {
                    *cell = Cell { value: Value::Null, status: Some("withheld: fewer than 10 distinct subjects".into()) }
                }
                Some(number) => cell.value = json!(number * (1.0 + f64::from(before) / 100.0)),
                None => {}
            }
        }
        store.add(earlier, &answer).unwrap();
    }
    store.add(taken, &answer).unwrap();
    // As if it had been due all along: a month that has none is missed.
    let objects = sandbox.layout.estate().join("missions/opportunity.toml");
    let text = std::fs::read_to_string(&objects).unwrap();
    let (before, after) = text.split_once("\nfrom = \"").unwrap();
    let first = Utc::now().date_naive().with_day(1).unwrap().checked_sub_months(Months::new(6)).unwrap();
    std::fs::write(&objects, format!("{before}\nfrom = \"{first}{}", &after[10..])).unwrap();
    let all = store.all().unwrap();
    (path, all)
}

/// `agreement,purpose,month,queries` of the log's own entries.
fn used(sandbox: &Sandbox) -> Vec<String> {
    let log = sandbox.log("gateway");
    let mut counted: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    // Descriptions end so too, and rest on nothing.
    for closed in log.iter().filter(|entry| entry["event"] == "query.closed" && entry["facts"]["sources"].is_array()) {
        let opened = log.iter().find(|entry| entry["event"] == "query.opened" && entry["query_id"] == closed["query_id"]).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for agreement in closed["facts"]["agreements"].as_array().unwrap() {
            let month = text(&closed["time"])[..7].to_owned();
            *counted.entry((text(agreement), month, text(&opened["purpose"]))).or_default() += 1;
        }
    }
    // Of the published mission's agreements.
    let own = counted.into_iter().filter(|((agreement, _, _), _)| agreement == "opportunity");
    own.map(|((agreement, month, purpose), count)| format!("{agreement},{purpose},{month},{count}")).collect()
}

/// What Chromium and axe-core say of every page; `CONCORDAT_SHOTS` names a folder for pictures.
fn looked_at(site: &Path) -> Value {
    let own = std::env::current_exe().unwrap();
    let modules = own.ancestors().nth(3).unwrap().join("browser");
    assert!(modules.join("node_modules/axe-core").is_dir(), "the suite's browser is not installed: run tests/run, which installs it");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/look.mjs");
    let options = json!({ "modules": modules, "site": site, "shots": std::env::var("CONCORDAT_SHOTS").ok() });
    let ran =
        Command::new("node").arg(script).arg(options.to_string()).output().expect("node is missing: run tests/run, which installs it");
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&ran.stderr)))
}

#[tokio::test]
async fn what_is_published_is_of_snapshots_and_of_the_log_and_can_be_read_by_everybody() {
    let sandbox = audited(3_000).await;
    let (store, snapshots) = history(&sandbox);
    let [store, to, log] =
        [store, sandbox.layout.folder().join("site"), sandbox.layout.gateway().join("log")].map(|path| path.to_str().unwrap().to_owned());
    let publish = |more: &[&str]| {
        let note = "Generated people: no figure is of anybody.";
        let always = ["publish", "opportunity", "--to", to.as_str(), "--store", store.as_str(), "--note", note];
        run(&sandbox, &[&always[..], more].concat())
    };
    let silent = publish(&[]);
    assert!(silent.exit == 0 && silent.stderr.contains("use is not stated"), "{}", silent.stderr);
    assert!(std::fs::read_to_string(Path::new(&to).join("register.html")).unwrap().contains("is not stated here"));
    let ran = publish(&["--log", &log]);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let file = |path: &str| std::fs::read_to_string(Path::new(&to).join(path)).unwrap();

    // The register: by the log's folder, and the same by an auditor who asks the gateway.
    let register = file("register.csv");
    let expected = used(&sandbox);
    assert!(!expected.is_empty());
    assert_eq!(register.lines().skip(1).collect::<Vec<_>>(), expected);
    until_cosigned(&sandbox, "gateway", &[]).await;
    let token = sandbox.layout.folder().join("auditor.jwt");
    std::fs::write(&token, auditor(&sandbox, "audit-office")).unwrap();
    let asked = publish(&["--auditor-token", token.to_str().unwrap()]);
    assert_eq!(asked.exit, 0, "{}", asked.stderr);
    assert_eq!(file("register.csv"), register);

    // Figures: each is a cell of the snapshot that it names, and none of them is withheld there.
    let folder = format!("missions/opportunity/{OUTCOME}");
    let told: Value = serde_json::from_str(&file(&format!("{folder}/{OUTCOME}.json"))).unwrap();
    let records = told["records"].as_array().unwrap();
    let of = |status: &str| records.iter().filter(|record| record["status"] == status).count();
    assert!(of("told") > 20 && of("withheld") > 5 && of("missed") >= 1, "{told}");
    for record in records.iter().filter(|record| record["status"] == "told") {
        let snapshot = snapshots.iter().find(|one| one.number == record["snapshot"]).unwrap();
        let value = record["value"].as_f64().unwrap();
        let near = |cell: &Cell| cell.number().is_some_and(|number| (number - value).abs() <= 1e-12 * value.abs());
        assert!(snapshot.taken.rows.iter().flatten().any(near), "{record}");
    }
    assert!(
        records.iter().filter(|record| record["status"] != "told").all(|record| record["value"].is_null() && record["reason"].is_string())
    );

    // A reader verifies the receipt with the log's key alone.
    let key = std::fs::read_to_string(sandbox.layout.gateway().join("log/log.vkey")).unwrap();
    let receipt = Path::new(&to).join(format!("{folder}/receipts/{}.json", snapshots.last().unwrap().number));
    let verified =
        crate::commands::command(["audit", "verify-receipt", receipt.to_str().unwrap(), "--log-key", key.trim()]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    // Programs that are not ours find each table as its metadata says, and the catalogue whole.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/published.py");
    let read = Command::new(with_clients()).arg(script).arg(&to).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));

    // And a browser: no request, no dead link, no rule of WCAG broken, in light, dark, narrow and wide.
    let seen = looked_at(Path::new(&to));
    assert_eq!(seen["problems"], json!([]), "{seen}");
    assert!(seen["pages"].as_u64().unwrap() >= 7 && seen["looks"].as_u64().unwrap() >= 35, "{seen}");
}

#[tokio::test]
async fn a_site_that_is_not_whole_or_not_ours_is_not_written() {
    let sandbox = Sandbox::start(500).await;
    let (store, _) = history(&sandbox);
    let folder = sandbox.layout.folder().join("mine");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("notes"), "mine").unwrap();
    let publish = |to: &Path| run(&sandbox, &["publish", "opportunity", "--to", to.to_str().unwrap(), "--store", store.to_str().unwrap()]);
    let foreign = publish(&folder);
    assert!(foreign.exit == i32::from(LOCAL) && foreign.stderr.contains("is not overwritten"), "{}", foreign.stderr);
    assert_eq!(std::fs::read_to_string(folder.join("notes")).unwrap(), "mine");
    // A history that was changed is published nowhere.
    let connection = rusqlite::Connection::open(&store).unwrap();
    connection.execute_batch("DROP TRIGGER snapshot_stays; UPDATE snapshot SET answer = x'00' WHERE number = 2").unwrap();
    let to = sandbox.layout.folder().join("site");
    let changed = publish(&to);
    assert!(changed.exit == i32::from(LOCAL) && changed.stderr.contains("was changed"), "{}", changed.stderr);
    assert!(!to.exists());
}
