//! Callers in a log: never by name, always with a row, and erased for good.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::{Entry, Log, LogError, is_written};

const ORIGIN: &str = "concordat/gateway";
const ISSUER: &str = "https://id.example";

fn open(folder: &Path) -> Log {
    while is_written(folder) {
        std::thread::sleep(Duration::from_millis(1));
    }
    Log::open(folder, ORIGIN).unwrap()
}

fn asked(subject: &str, token: Option<&str>) -> Entry {
    Entry::new("query.opened").by(ISSUER, subject, token).field("organisation", "unit")
}

fn entries(folder: &Path) -> Vec<Value> {
    crate::read(folder, 0).unwrap().map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap()).collect()
}

fn persons(folder: &Path) -> Persons {
    Persons::read(folder).unwrap().unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..5_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{what}: never");
}

/// Whether any file under `folder` holds these bytes. One that the log takes away meanwhile holds nothing.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => holds(&path, needle),
        false => fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle)),
    })
}

#[tokio::test]
async fn entries_carry_commitments_that_only_the_store_opens() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    for (subject, token) in [("analyst-1", Some("t-1")), ("analyst-1", Some("t-2")), ("analyst-2", Some("t-1")), ("analyst-1", None)] {
        log.append(asked(subject, token)).await.unwrap();
    }
    log.append(Entry::new("query.opened").by("https://other.example", "analyst-1", Some("t-1"))).await.unwrap();
    drop(log);
    let log = open(folder.path());
    log.append(asked("analyst-1", Some("t-1"))).await.unwrap();
    let found = entries(folder.path());
    let field = |at: usize, name: &str| found[at][name].as_str().map(str::to_owned);
    let (person, token) = (|at| field(at, "person").unwrap(), |at| field(at, "token"));
    assert_eq!((person(1), person(3), person(5)), (person(0), person(0), person(0)), "one person, also after a restart");
    assert_eq!((token(5), token(3)), (token(0), None), "one token");
    let apart: BTreeSet<String> = [person(0), person(2), person(4)].into();
    assert_eq!(apart.len(), 3, "a subject's name means nothing without its issuer");
    let tokens: BTreeSet<_> = [0, 1, 2, 4].map(token).into();
    assert_eq!(tokens.len(), 4, "the same id is another token for each person");
    assert_eq!((field(0, "issuer").as_deref(), person(0).len()), (Some(ISSUER), 64));
    for part in ["tail", "tile", "checkpoint"].map(|part| folder.path().join(part)) {
        let told = if part.is_dir() { holds(&part, b"analyst") } else { fs::read_to_string(&part).unwrap().contains("analyst") };
        assert!(!told, "{}", part.display());
    }
    let persons = persons(folder.path());
    let opened = persons.open(&person(2)).unwrap();
    assert_eq!((opened.issuer.as_str(), opened.subject.as_str()), (ISSUER, "analyst-2"));
    assert_eq!((persons.called("analyst-1", None).len(), persons.called("analyst-1", Some(ISSUER))[0].commitment.clone()), (2, person(0)));
    assert_eq!(persons.beginning(&person(4)[..16])[0].commitment, person(4));
    assert!(persons.open("").is_none() && persons.called("analyst", None).is_empty());
    assert_eq!(fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!format!("{:?}", asked("analyst-1", Some("t-1"))).contains("analyst"), "nor where it is printed for debugging");
}

#[tokio::test]
async fn an_erased_person_cannot_be_opened_and_the_log_still_verifies() {
    for running in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        for n in 0..300 {
            log.append(asked(&format!("analyst-{n}"), Some("t"))).await.unwrap();
        }
        let old = entries(folder.path())[7]["person"].as_str().unwrap().to_owned();
        let connection = Connection::open(folder.path().join(FILE)).unwrap();
        let key: Vec<u8> = connection.query_row("SELECT key FROM persons WHERE subject = 'analyst-7'", [], |row| row.get(0)).unwrap();
        drop(connection);
        assert!(holds(folder.path(), &key) && holds(folder.path(), b"analyst-7"));
        let running = Some(log).filter(|_| running);
        while running.is_none() && is_written(folder.path()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(erase(folder.path(), &old).unwrap() && !erase(folder.path(), &old).unwrap());
        assert!(!holds(folder.path(), &key), "the key is in no file any more");
        assert!(persons(folder.path()).open(&old).is_none() && persons(folder.path()).called("analyst-7", None).is_empty());
        assert!(running.is_some() || is_untold(folder.path()).unwrap());
        let log = running.unwrap_or_else(|| open(folder.path()));
        until("it is told", || !is_untold(folder.path()).unwrap()).await;
        let told = entries(folder.path()).pop().unwrap();
        assert_eq!((&told["event"], &told["person"]), (&"person.erased".into(), &old.clone().into()));
        log.append(asked("analyst-7", Some("t"))).await.unwrap();
        log.append(asked("analyst-8", Some("t"))).await.unwrap();
        let (found, eight) = (entries(folder.path()), persons(folder.path()).called("analyst-8", None)[0].commitment.clone());
        assert_ne!(found[301]["person"], old, "who comes again has another key");
        assert_eq!((&found[302]["person"], &found[8]["person"]), (&eight.clone().into(), &eight.into()), "nobody else does");
        until("all is covered", || log.size() == 303).await;
        drop(log);
        while is_written(folder.path()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let witnesses = crate::quorum::Witnesses::none();
        let request =
            crate::verify::Request { folder: folder.path(), archives: &[], key: None, against: None, witnesses: &witnesses, now: 0 };
        assert_eq!(crate::verify::verify(&request).unwrap().entries, 303);
    }
}

#[tokio::test]
async fn a_store_that_was_removed_stops_the_log_and_a_new_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    log.append(asked("analyst-1", None)).await.unwrap();
    fs::remove_file(folder.path().join(FILE)).unwrap();
    assert!(matches!(log.append(asked("analyst-2", None)).await, Err(LogError::Write(_))));
    assert!(log.is_failing());
    assert!(matches!(log.append(Entry::new("log.tried")).await, Err(LogError::Write(_))), "until it works again");
    assert_eq!(log.append(Entry::new("query.closed").closes()).await.unwrap(), 2, "what is open is closed");
    drop(log);
    let log = open(folder.path());
    log.append(asked("analyst-1", None)).await.unwrap();
    until("it is told", || !is_untold(folder.path()).unwrap()).await;
    let found = entries(folder.path());
    assert_eq!(found[2]["event"], "persons.begun");
    assert_ne!(found[3]["person"], found[0]["person"]);
    assert!(persons(folder.path()).open(found[0]["person"].as_str().unwrap()).is_none());
}

#[tokio::test]
async fn a_store_that_cannot_be_written_refuses_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let blocker = Connection::open(folder.path().join(FILE)).unwrap();
    blocker.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(matches!(log.append(asked("analyst-1", None)).await, Err(LogError::Write(_))));
    assert!(log.is_failing());
    blocker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(log.append(asked("analyst-1", None)).await.unwrap(), 1);
    assert!(!log.is_failing());
    let found = entries(folder.path());
    assert_eq!(persons(folder.path()).open(found[0]["person"].as_str().unwrap()).unwrap().subject, "analyst-1");
}

#[test]
fn a_store_that_is_none_is_not_opened_and_one_that_is_not_there_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Persons::read(folder.path()).unwrap().is_none());
    assert!(erase(folder.path(), "c").is_err() && !folder.path().join(FILE).exists());
    fs::write(folder.path().join(FILE), "no database").unwrap();
    assert!(Persons::read(folder.path()).is_err() && Log::open(folder.path(), ORIGIN).is_err());
}

/// A program that is killed while it writes, again and again: no entry is about somebody who has no row.
#[test]
fn no_entry_is_without_its_person_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = 7u64;
    let count = || crate::read(folder.path(), 0).map_or(0, Iterator::count);
    for round in 0..12 {
        let before = count();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "persons::tests::the_program_that_is_killed", "--ignored"])
            .env("CONCORDAT_KILLED_LOG", folder.path())
            .env("CONCORDAT_KILLED_ROUND", round.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It has begun to write, or it ended on its own, which is a failure below.
        while count() <= before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(random >> 59));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let (found, persons) = (entries(folder.path()), persons(folder.path()));
        let about: BTreeSet<&str> = found.iter().map(|entry| entry["person"].as_str().unwrap()).collect();
        assert!(about.len() > round, "{} persons", about.len());
        assert!(about.iter().all(|person| persons.open(person).is_some()), "round {round}");
    }
}

#[test]
#[ignore = "started and killed by another test"]
fn the_program_that_is_killed() {
    let (folder, round) = (std::env::var("CONCORDAT_KILLED_LOG").unwrap(), std::env::var("CONCORDAT_KILLED_ROUND").unwrap());
    let log = Log::open(Path::new(&folder), ORIGIN).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0.. {
        runtime.block_on(log.append(asked(&format!("analyst-{round}-{n}"), Some("t")))).unwrap();
    }
}

/// What `statements` do to the store, as who can write in the folder can.
fn edit(folder: &Path, statements: &str) {
    Connection::open(folder.join(FILE)).unwrap().execute_batch(statements).unwrap();
}

fn told(folder: &Path, event: &str) -> Vec<Value> {
    entries(folder).into_iter().filter(|entry| entry["event"] == event).collect()
}

#[tokio::test]
async fn what_is_done_to_the_store_past_the_log_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = open(path);
    for n in 0..3 {
        log.append(asked(&format!("analyst-{n}"), None)).await.unwrap();
    }
    let commitments: Vec<Value> = entries(path).iter().map(|entry| entry["person"].clone()).collect();
    let erased = |person: &Value| format!("json_object('person', '{}', 'erased_at', '2027-04-01T00:00:00Z')", person.as_str().unwrap());
    // Somebody is gone, another key is another's, a row that nobody asked for, and events that are none or not true.
    edit(
        path,
        &format!(
            "BEGIN; DELETE FROM persons WHERE subject = 'analyst-0'; UPDATE persons SET key = zeroblob(32) WHERE subject = 'analyst-1';
             INSERT INTO persons VALUES ('i', 's', zeroblob(32), '', '');
             INSERT INTO untold (event, fields) VALUES ('query.opened', '{{}}'), ('person.erased', '{{\"x\":1}}'), ('person.erased', {});
             COMMIT",
            erased(&commitments[2])
        ),
    );
    until("it is told", || told(path, "persons.edited").len() == 1 && !is_untold(path).unwrap()).await;
    let edited = told(path, "persons.edited").remove(0);
    let gone: BTreeSet<&str> = edited["persons"].as_array().unwrap().iter().map(|person| person.as_str().unwrap()).collect();
    assert_eq!(gone, commitments[..2].iter().map(|person| person.as_str().unwrap()).collect());
    assert_eq!((&edited["gone"], &edited["added"]), (&2.into(), &2.into()));
    assert!(told(path, "person.erased").is_empty() && told(path, "query.opened").len() == 3);
    // Who comes again has a key that is kept; who was erased in order is told of by that alone.
    log.append(asked("analyst-0", None)).await.unwrap();
    let again = entries(path).pop().unwrap()["person"].clone();
    assert!(again != commitments[0] && persons(path).open(again.as_str().unwrap()).is_some());
    assert!(erase(path, again.as_str().unwrap()).unwrap());
    until("it is told", || told(path, "person.erased").len() == 1 && !is_untold(path).unwrap()).await;
    assert_eq!(told(path, "persons.edited").iter().map(|edited| edited["gone"].as_u64().unwrap()).sum::<u64>(), 2);
}

#[tokio::test]
async fn a_store_in_which_something_else_was_put_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = open(path);
    log.append(asked("analyst-1", None)).await.unwrap();
    let silenced = "CREATE TRIGGER t BEFORE INSERT ON untold BEGIN SELECT RAISE(IGNORE); END";
    edit(path, silenced);
    assert!(matches!(log.append(asked("analyst-2", None)).await, Err(LogError::Write(_))));
    assert!(log.is_failing() && Persons::read(path).is_err());
    assert!(erase(path, "c").is_err(), "it would not be told");
    edit(path, "DROP TRIGGER t");
    log.append(asked("analyst-2", None)).await.unwrap();
    assert!(!log.is_failing());
    drop(log);
    while is_written(path) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    edit(path, silenced);
    let refused = Log::open(path, ORIGIN).unwrap_err();
    assert!(refused.with_cause().contains("somebody changed its tables"), "{refused:?}");
    assert!(refused.remedy().contains("take that out with DROP"), "{}", refused.remedy());
}

/// One file of the folder is damaged: nobody is told to restore all of it, and so to take entries away.
#[tokio::test]
async fn a_store_that_is_damaged_is_restored_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path(), folder.path().join(FILE));
    let state = tempfile::tempdir().unwrap();
    let log = open(path);
    log.append(asked("analyst-1", None)).await.unwrap();
    close(log, path);
    let whole = fs::read(&file).unwrap();
    let mut page = whole.clone();
    page[4096..4112].fill(0xff);
    let damages: [(&str, &dyn Fn()); 5] = [
        ("no database", &|| fs::write(&file, b"garbage".repeat(1000)).unwrap()),
        ("a page", &|| fs::write(&file, &page).unwrap()),
        ("a key that is none", &|| edit(path, "UPDATE persons SET key = x'00'")),
        ("a statistics table", &|| edit(path, "ANALYZE")),
        ("tables of another", &|| edit(path, "DROP TABLE untold; PRAGMA user_version = 0")),
    ];
    for (what, damaged) in damages {
        fs::write(&file, &whole).unwrap();
        damaged();
        let refused = Log::open(path, ORIGIN).err().unwrap_or_else(|| panic!("{what}"));
        assert!(refused.with_cause().contains(FILE), "{what}: {}", refused.with_cause());
        let remedy = refused.remedy();
        assert!(
            ["this file only, never the folder", "move it away", "persons.begun"].iter().all(|says| remedy.contains(says)),
            "{what}: {remedy}"
        );
        let checked = Log::check(path, ORIGIN, state.path()).unwrap_err();
        assert_eq!(checked.with_cause(), refused.with_cause(), "{what}");
    }
    // The ways on that are told.
    fs::write(&file, &whole).unwrap();
    edit(path, "ANALYZE");
    edit(path, "DROP TABLE sqlite_stat1; DROP TABLE IF EXISTS sqlite_stat4");
    let log = open(path);
    assert!(log.append(asked("analyst-1", None)).await.is_ok());
    close(log, path);
    fs::remove_file(&file).unwrap();
    let log = open(path);
    log.append(asked("analyst-1", None)).await.unwrap();
    assert_eq!(told(path, "persons.begun").len(), 1);
}

/// A dump keeps tables and rows, and not the version.
#[tokio::test]
async fn a_store_that_was_restored_from_a_dump_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = open(path);
    log.append(asked("analyst-1", None)).await.unwrap();
    close(log, path);
    edit(path, "PRAGMA user_version = 0");
    assert_eq!(persons(path).all.len(), 1);
    let log = open(path);
    log.append(asked("analyst-1", None)).await.unwrap();
    assert_eq!(entries(path)[0]["person"], entries(path)[1]["person"]);
    close(log, path);
    let version = |c: &Connection| c.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(version(&Connection::open(path.join(FILE)).unwrap()), VERSION);
    assert!(told(path, "persons.begun").is_empty());
}

#[tokio::test]
async fn an_event_that_only_the_log_itself_tells_is_not_told_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = open(path);
    log.append(asked("analyst-1", None)).await.unwrap();
    edit(path, "INSERT INTO untold (event, fields) VALUES ('log.reindexed', '{\"cause\":\"edited\"}')");
    until("it is let go of", || told(path, "persons.edited").len() == 1).await;
    assert!(told(path, "persons.edited")[0]["strange"] == 1 && told(path, "log.reindexed").is_empty());
    close(log, path);
}

fn close(log: Log, folder: &Path) {
    drop(log);
    while is_written(folder) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
