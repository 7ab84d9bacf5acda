//! The published site: its figures are those of protected snapshots, its register is the log's, and a browser finds nothing wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{Days, NaiveDate, NaiveTime, Utc};
use concordat::failure::{LOCAL, USAGE};
use concordat::sample::month_before;
use concordat_mission::{Cell, Snapshot, Snapshots as _, SqliteStore, Taken};
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

/// Takes the snapshots of six months, each over the departments' data of its month; one month is missed.
fn history(sandbox: &Sandbox) -> (PathBuf, Vec<Snapshot>) {
    let today = Utc::now().date_naive();
    // As if it had been due all along: a month that has none is missed.
    let objects = sandbox.layout.estate().join("missions/opportunity.toml");
    let text = std::fs::read_to_string(&objects).unwrap();
    let (before, after) = text.split_once("\nfrom = \"").unwrap();
    std::fs::write(&objects, format!("{before}\nfrom = \"{}{}", month_before(today, 6), &after[10..])).unwrap();
    let take = |month: NaiveDate| {
        done(sandbox, &["mission", "snapshot", "opportunity", "--outcome", OUTCOME, "--period", &month.to_string()]);
    };
    for ago in [6, 5, 4, 2, 1] {
        let delivered = month_before(today, ago) + Days::new(9);
        sandbox.sample.months_ago(ago).deliver(&sandbox.layout, delivered.and_time(NaiveTime::MIN).and_utc()).unwrap();
        take(month_before(today, ago));
    }
    sandbox.sample.deliver(&sandbox.layout, Utc::now()).unwrap();
    take(today);
    let path = sandbox.layout.snapshots();
    let all = SqliteStore::read(&path).unwrap().unwrap().all().unwrap();
    assert_eq!(all.len(), 6);
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
    assert!(silent.exit == i32::from(USAGE) && silent.stderr.contains("no key of the gateway's log"), "{}", silent.stderr);
    assert!(!Path::new(&to).exists(), "a history that nobody vouches for is not published in silence");
    let silent = publish(&["--unverified"]);
    assert!(silent.exit == 0 && silent.stderr.contains("use is not stated"), "{}", silent.stderr);
    assert!(std::fs::read_to_string(Path::new(&to).join("index.html")).unwrap().contains("Nobody verified the receipts"));
    assert!(std::fs::read_to_string(Path::new(&to).join("register.html")).unwrap().contains("is not stated here"));
    until_cosigned(&sandbox, "gateway", &[]).await;
    let key = std::fs::read_to_string(sandbox.layout.gateway().join("log/log.vkey")).unwrap();
    // What an edited store says, its chain made anew over real answers, contradicts the log and nothing else.
    let edited = sandbox.layout.folder().join("edited.sqlite");
    let mut other = SqliteStore::open(&edited).unwrap();
    let real = SqliteStore::read(Path::new(&store)).unwrap().unwrap();
    let mut fresher = snapshots[0].taken.clone();
    fresher.stated.sources[0].freshness += chrono::TimeDelta::hours(1);
    other.add(fresher, &real.answer(1).unwrap()).unwrap();
    let forged = |more: &[&str]| {
        let site = sandbox.layout.folder().join("forged");
        let always = ["publish", "opportunity", "--to", site.to_str().unwrap(), "--store", edited.to_str().unwrap()];
        run(&sandbox, &[&always[..], more].concat())
    };
    assert_eq!(forged(&["--log-key", key.trim()]).exit, 0, "no signature covers it");
    let found = forged(&["--log", &log]);
    assert!(found.exit == i32::from(LOCAL) && found.stderr.contains("snapshot 1: the freshness of"), "{}", found.stderr);

    let ran = publish(&["--log", &log]);
    assert_eq!(ran.exit, 0, "the key in the log's own folder counts: {}", ran.stderr);
    let ran = publish(&["--log", &log, "--log-key", key.trim()]);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let file = |path: &str| std::fs::read_to_string(Path::new(&to).join(path)).unwrap();

    assert!(file("index.html").contains("was held to the log"), "{}", file("index.html"));
    // The register: by the log's folder, and the same by an auditor who asks the gateway.
    let register = file("register.csv");
    let expected = used(&sandbox);
    assert!(!expected.is_empty());
    assert_eq!(register.lines().skip(1).collect::<Vec<_>>(), expected);
    let token = sandbox.layout.folder().join("auditor.jwt");
    std::fs::write(&token, auditor(&sandbox, "audit-office")).unwrap();
    let asked = publish(&["--log-key", key.trim(), "--auditor-token", token.to_str().unwrap()]);
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
    let take = || done(&sandbox, &["mission", "snapshot", "opportunity", "--outcome", OUTCOME]);
    let store = sandbox.layout.snapshots();
    take();
    let older = sandbox.layout.folder().join("older.sqlite");
    std::fs::copy(&store, &older).unwrap();
    take();
    let (folder, to) = (sandbox.layout.folder().join("mine"), sandbox.layout.folder().join("site"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("notes"), "mine").unwrap();
    let key = std::fs::read_to_string(sandbox.layout.gateway().join("log/log.vkey")).unwrap();
    let publish_by = |key: &str, to: &Path, store: &Path, more: &[&str]| {
        let always = ["publish", "opportunity", "--to", to.to_str().unwrap(), "--store", store.to_str().unwrap(), "--log-key", key.trim()];
        run(&sandbox, &[&always[..], more].concat())
    };
    let publish = |to: &Path, store: &Path, more: &[&str]| publish_by(&key, to, store, more);
    let refused = |ran: Ran, says: &str| assert!(ran.exit == i32::from(LOCAL) && ran.stderr.contains(says), "{says}: {}", ran.stderr);
    refused(publish(&folder, &store, &[]), "is not overwritten");
    assert_eq!(std::fs::read_to_string(folder.join("notes")).unwrap(), "mine");
    refused(publish(&to, &sandbox.layout.folder().join("nowhere.sqlite"), &[]), "there are no snapshots");

    // Values that no answer told, under a real receipt in a chain that is whole; and an answer for a second time.
    let real = SqliteStore::read(&store).unwrap().unwrap();
    let (first, answer) = (real.all().unwrap().remove(0).taken, real.answer(1).unwrap());
    let forged = sandbox.layout.folder().join("forged.sqlite");
    let mut made_up: Taken = first.clone();
    let place = made_up.columns.iter().rposition(|column| column.protected).unwrap();
    let row = made_up.rows.iter_mut().find(|row| row[place].number().is_some()).unwrap();
    row[place].value = json!(0.1501);
    let mut other = SqliteStore::open(&forged).unwrap();
    other.add(made_up, &answer).unwrap();
    assert!(other.add(first, &answer).unwrap_err().to_string().contains("same query"));
    refused(publish(&to, &forged, &[]), "its rows are not those of the answer");
    refused(run(&sandbox, &["mission", "verify", "--store", forged.to_str().unwrap()]), "its rows are not those of the answer");
    let anothers = std::fs::read_to_string(sandbox.layout.node("dfe").join("log/log.vkey")).unwrap();
    refused(publish_by(&anothers, &to, &store, &[]), "snapshot 1");
    assert!(!to.exists());

    // An older history does not replace a newer one, unless it is said why.
    assert_eq!(publish(&to, &store, &[]).exit, 0);
    refused(publish(&to, &older, &[]), "which this history does not hold");
    assert_eq!(publish(&to, &older, &["--other-history", "the newer one was lost"]).exit, 0);
    assert!(std::fs::read_to_string(to.join("index.html")).unwrap().contains("the newer one was lost"));

    // A history that was changed is published nowhere, and one file that is wrong loses its own mission only.
    let economy = sandbox.layout.estate().join("missions/strong-economy.toml");
    let text = std::fs::read_to_string(&economy).unwrap();
    std::fs::write(&economy, "mission = ").unwrap();
    let published = publish(&to, &store, &[]);
    assert!(published.exit == 0 && published.stderr.contains("strong-economy.toml"), "{}", published.stderr);
    std::fs::write(&economy, text).unwrap();
    // So with an agreement whose file is gone: its outcomes are told from snapshots alone, as ended.
    for file in std::fs::read_dir(sandbox.layout.estate().join("agreements")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap() == "opportunity.toml" {
            std::fs::remove_file(path).unwrap();
        }
    }
    let ended = publish(&to, &store, &[]);
    let page = std::fs::read_to_string(to.join(format!("missions/opportunity/{OUTCOME}/index.html"))).unwrap();
    assert!(ended.exit == 0 && page.contains("ended</span>"), "{}{page}", ended.stderr);
    let status = done(&sandbox, &["mission", "status", "strong-economy"]).text();
    let line = status.lines().find(|line| line.contains("more-sell-abroad"));
    assert!(line.is_some_and(|line| !line.contains("ended")), "{status}");
    let connection = rusqlite::Connection::open(&store).unwrap();
    connection.execute_batch("DROP TRIGGER snapshot_stays; UPDATE snapshot SET answer = x'00' WHERE number = 2").unwrap();
    refused(publish(&sandbox.layout.folder().join("another"), &store, &[]), "was changed");
}
