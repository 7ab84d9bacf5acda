//! Catch-up, versions, imports and restored backups.

use concordat_policy::consent::{Event, Latest};

use super::import::{ImportError, Imported, import};
use super::intake::Intake;
use super::*;
use crate::config::Config;
use crate::fixture::{World, name};

fn record(identifier: &str, purpose: &str, event: Event) -> Record {
    Record { identifier_type: "nino".into(), identifier: identifier.into(), purpose: name(purpose), event }
}

fn latest(snapshot: &Snapshot, identifier: &str, purposes: &[&str]) -> Latest {
    let purposes: Vec<Name> = purposes.iter().map(|p| name(p)).collect();
    let mut out = Vec::new();
    snapshot.view("nino", purposes.iter()).latest(std::iter::once(identifier), &mut Vec::new(), &mut out);
    out[0]
}

#[test]
fn records_of_other_processes_are_honoured_and_snapshots_never_change() {
    let state = tempfile::tempdir().unwrap();
    let node = Consent::open(state.path(), name("dfe")).unwrap();
    let other = Consent::open(state.path(), name("dfe")).unwrap();
    assert_eq!(other.record(&[record("A", "p", Event::Given), record("B", "p", Event::Given)]).unwrap(), 2);
    let first = node.catch_up().unwrap().snapshot;
    assert_eq!(first.version(), 2);
    assert_eq!(other.record(&[record("A", "p", Event::Withdrawn), record("A", "q", Event::Objected)]).unwrap(), 4);
    let second = node.catch_up().unwrap();
    assert_eq!((second.from, second.snapshot.version()), (2, 4));
    assert_eq!(latest(&first, "A", &["p", "q"]), Latest { given: Some(1), withdrawn: None, objected: None });
    assert_eq!(latest(&second.snapshot, "A", &["p", "q"]), Latest { given: Some(1), withdrawn: Some(3), objected: Some(4) });
    assert_eq!(latest(&second.snapshot, "A", &["p"]).objected, None);
    assert_eq!(latest(&second.snapshot, "B", &["p"]).given, Some(2));
    assert_eq!(latest(&second.snapshot, "C", &["p"]), Latest::default());
    drop((first, second));
    // With no reader left the small table is folded into the big one; nothing is lost.
    other.record(&[record("B", "p", Event::Withdrawn)]).unwrap();
    let third = node.catch_up().unwrap().snapshot;
    assert_eq!(latest(&third, "A", &["p", "q"]), Latest { given: Some(1), withdrawn: Some(3), objected: Some(4) });
    assert_eq!(latest(&third, "B", &["p"]), Latest { given: Some(2), withdrawn: Some(5), objected: None });
}

#[test]
fn a_restored_backup_stops_releases_also_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let backup = tempfile::tempdir().unwrap();
    {
        let consent = Consent::open(state.path(), name("dfe")).unwrap();
        consent.record(&[record("A", "p", Event::Given)]).unwrap();
    }
    std::fs::copy(state.path().join("consent.sqlite"), backup.path().join("consent.sqlite")).unwrap();
    {
        let consent = Consent::open(state.path(), name("dfe")).unwrap();
        consent.record(&[record("A", "p", Event::Withdrawn)]).unwrap();
        consent.catch_up().unwrap();
    }
    for stale in ["consent.sqlite-wal", "consent.sqlite-shm"] {
        let _ = std::fs::remove_file(state.path().join(stale));
    }
    std::fs::copy(backup.path().join("consent.sqlite"), state.path().join("consent.sqlite")).unwrap();
    let consent = Consent::open(state.path(), name("dfe")).unwrap();
    let refusal = consent.catch_up().unwrap_err();
    assert_eq!(refusal.code, Code::NodeRefused);
    assert!(refusal.operator.unwrap().contains("version 1, and version 2 was seen"));
    // Once the lost record is entered again, and more, the ledger counts as the newest.
    consent.record(&[record("A", "p", Event::Withdrawn)]).unwrap();
    assert_eq!(consent.catch_up().unwrap().snapshot.version(), 2);
}

#[tokio::test]
async fn a_file_is_imported_once_and_as_a_whole() {
    let world = World::new();
    let config = Config::load(&world.path("node.toml")).unwrap();
    let intake = Intake::new(&config);
    let state = tempfile::tempdir().unwrap();
    let consent = Arc::new(Consent::open(state.path(), name("dfe")).unwrap());
    let file = world.path("consent.csv");
    let run = |file: std::path::PathBuf| import(Arc::clone(&consent), intake.clone(), file);
    assert_eq!(run(file.clone()).await.unwrap(), Imported::Now { records: 5, invalid: 1 });
    assert_eq!(run(file).await.unwrap(), Imported::Before);
    let snapshot = consent.catch_up().unwrap().snapshot;
    assert_eq!(
        latest(&snapshot, "AB100002A", &["opportunity.measure", "opportunity"]),
        Latest { given: Some(2), withdrawn: Some(5), objected: None }
    );

    world.write("bad.csv", "identifier,purpose,event\nAB100001A,opportunity,withdrawn\nAB100001A,opportunity,maybe\n");
    assert!(matches!(run(world.path("bad.csv")).await, Err(ImportError::Record(_, 2, _))));
    world.write("unknown.csv", "identifier,purpose,event\nAB100001A,surprise,given\n");
    assert!(matches!(run(world.path("unknown.csv")).await, Err(ImportError::Record(_, 1, _))));
    world.write("columns.csv", "identifier,event\nAB100001A,given\n");
    assert!(run(world.path("columns.csv")).await.is_err());
    assert_eq!(consent.catch_up().unwrap().snapshot.version(), 5, "nothing of a bad file is recorded");
}

use std::sync::Arc;
