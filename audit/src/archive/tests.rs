//! Old entries move, whatever happens meanwhile, and all of them can still be read and verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::disk::{Faults, Step, noted};
use crate::log::tests::copy;
use crate::quorum::Witnesses;
use crate::verify::{Finding, Kind, Report, Request, verify};
use crate::{Entry, Log, is_written, read, read_with};

const ORIGIN: &str = "concordat/dwp/node";

/// A log that goes on until it has `count` entries, all under a checkpoint, and is closed.
fn written(folder: &Path, count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let log = Log::open(folder, ORIGIN).unwrap();
    appended(&runtime, &log, count);
    drop(log);
    closed(folder);
}

fn appended(runtime: &tokio::runtime::Runtime, log: &Log, count: u64) {
    // With the last ones alone, the tail lets go of what full bundles hold.
    for count in [count - 2, count] {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for i in log.size()..count {
                let log = log.clone();
                tasks.spawn(async move { log.append(Entry::new("query.opened").field("n", i)).await.unwrap() });
            }
            tasks.join_all().await;
        });
        while log.size() < count {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn closed(folder: &Path) {
    while is_written(folder) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn later() -> DateTime<Utc> {
    Utc::now() + chrono::TimeDelta::minutes(1)
}

fn checked(folder: &Path, archives: &[PathBuf]) -> Result<Report, Finding> {
    verify(&Request { folder, archives, key: None, against: None, witnesses: &Witnesses::none(), now: 2_000_000_000 })
}

fn bytes(folder: &Path, archives: &[PathBuf]) -> Vec<Vec<u8>> {
    let entries: Vec<_> = read_with(folder, archives, 0).unwrap().map(Result::unwrap).collect();
    assert!(entries.iter().zip(0..).all(|((index, _), expected)| *index == expected));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

#[test]
fn old_entries_move_and_all_are_read_and_verified_with_their_archives() {
    let world = tempfile::tempdir().unwrap();
    let (log, first, second) = (world.path().join("log"), world.path().join("first"), world.path().join("second"));
    written(&log, 600);
    let whole = bytes(&log, &[]);
    assert_eq!(archive(&log, &first, whole_time(&whole[255])).unwrap(), None, "the last entry of a bundle is as old as it");
    let signed = fs::read(log.join("checkpoint")).unwrap();
    assert_eq!(archive(&log, &first, later()).unwrap(), Some(Moved { first: 1, last: 512 }));
    assert_eq!(archive(&log, &first, later()).unwrap(), None, "nothing more is full");
    assert!(!log.join("tile/entries/000").exists() && log.join("tile/0/000").exists());
    assert_eq!(fs::read(first.join("manifest/000000000001-000000000512")).unwrap(), signed);
    // It tells of that, under a checkpoint, before an entry is gone.
    let all = bytes(&log, std::slice::from_ref(&first));
    assert_eq!((&all[..600], all.len()), (&whole[..], 601));
    let told: Value = serde_json::from_slice(&all[600]).unwrap();
    assert_eq!((&told["event"], &told["first"], &told["last"]), (&"log.archived".into(), &1.into(), &512.into()));
    assert_eq!(read(&log, 3).unwrap().next().unwrap().unwrap().0, 512, "without it, what was moved is passed over");
    assert!(!is_written(&log), "whoever moved them has let go of it");
    // The log goes on.
    written(&log, 1_100);
    let whole = bytes(&log, std::slice::from_ref(&first));
    assert_eq!(archive(&log, &second, later()).unwrap(), Some(Moved { first: 513, last: 1_024 }));
    let both = [first.clone(), second.clone()];
    let all = bytes(&log, &both);
    assert_eq!((&all[..whole.len()], all.len()), (&whole[..], whole.len() + 1));
    assert_eq!((archived(&log).unwrap(), checked(&log, &[]).unwrap().unread), (1_024, 1_024));
    let report = checked(&log, &both).unwrap();
    assert_eq!((report.entries, report.unread), (all.len() as u64, 0));
    // An archive that lacks something is no proof of it.
    assert_eq!(checked(&log, &both[..1]).unwrap_err().entry, Some(513));
    assert!(read_with(&log, &both[..1], 0).unwrap().nth(512).unwrap().unwrap_err().to_string().contains("none that is named has it"));
    // A full bundle at the end, with an empty tail, is no end where more was moved.
    let other = world.path().join("other");
    written(&other, 256);
    fs::write(other.join("tail"), "").unwrap();
    archive(&other, &world.path().join("third"), later()).unwrap();
    assert_eq!(bytes(&other, &[world.path().join("third")]).len(), 257);
    assert_eq!(read(&other, 0).unwrap().count(), 1, "that they were moved");
    assert_eq!(of_log(&log, &[first, world.path().join("third")]).unwrap().len(), 1, "archives of other logs are passed over");
    assert!(of_log(&log, &[world.path().join("nowhere")]).is_err());
}

fn whole_time(entry: &[u8]) -> DateTime<Utc> {
    time_of(entry).unwrap()
}

/// Stopped before each of its steps, and repeated: nothing is lost at any moment.
#[test]
fn it_may_be_stopped_before_any_step_and_repeated() {
    let world = tempfile::tempdir().unwrap();
    let good = world.path().join("good");
    written(&good, 520);
    let whole = bytes(&good, &[]);
    for step in 0..200 {
        let (log, to) = (world.path().join(format!("log-{step}")), world.path().join(format!("to-{step}")));
        copy(&good, &log);
        let left = Arc::new(AtomicUsize::new(step));
        let faults: Faults = {
            let left = Arc::clone(&left);
            Arc::new(move |_, _| match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => Ok(()),
                Err(_) => Err(io::Error::other("stopped")),
            })
        };
        let stopped = run(&Disk::with(&log, faults.clone()), &Disk::with(&to, faults), later());
        closed(&log);
        let archives = if to.join("log.vkey").exists() { vec![to.clone()] } else { Vec::new() };
        assert_eq!(bytes(&log, &archives)[..520], whole, "stopped at {step}");
        // At no moment is anything gone of which the log does not tell.
        checked(&log, &[]).unwrap_or_else(|found| panic!("stopped at {step}: {found}"));
        if stopped.is_ok() {
            assert!(step > 25, "{step} steps");
            return;
        }
        archive(&log, &to, later()).unwrap();
        assert_eq!(bytes(&log, std::slice::from_ref(&to))[..520], whole, "repeated after {step}");
        assert_eq!(checked(&log, std::slice::from_ref(&to)).unwrap().unread, 0);
        assert_eq!((archived(&log).unwrap(), log.join("tile/entries/001").exists()), (512, false), "{step}");
        written(&log, 540);
        fs::remove_dir_all(log).unwrap();
    }
    panic!("it took more steps than that");
}

/// Who repeats what an earlier run left half durable makes all of it durable before anything is removed.
#[test]
fn what_an_earlier_run_left_in_the_archive_is_made_durable_before_it_counts() {
    let world = tempfile::tempdir().unwrap();
    let (log, to) = (world.path().join("log"), world.path().join("to"));
    written(&log, 520);
    // An earlier run copied all, and was killed before anything of it was durable.
    for name in ["tile/entries/000", "tile/entries/001", "log.vkey"] {
        fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
        fs::copy(log.join(name), to.join(name)).unwrap();
    }
    fs::create_dir_all(to.join("manifest")).unwrap();
    fs::copy(log.join("checkpoint"), to.join("manifest/000000000001-000000000512")).unwrap();
    let (steps, faults) = noted();
    run(&Disk::with(&log, faults.clone()), &Disk::with(&to, faults), later()).unwrap().unwrap();
    let steps = steps.lock().unwrap();
    let at = |step: Step, path: &Path| steps.iter().position(|(done, of)| *done == step && of == path);
    let removed = at(Step::Remove, &log.join("tile/entries/000")).unwrap();
    let files = ["tile/entries/000", "tile/entries/001", "log.vkey", "manifest/000000000001-000000000512"];
    for name in files.into_iter().chain(["tile/entries", "tile", "manifest", ""]) {
        let path = if name.is_empty() { to.clone() } else { to.join(name) };
        assert!(at(Step::Settle, &path).is_some_and(|settled| settled < removed), "{name}: {steps:?}");
    }
}

#[test]
fn whoever_can_write_in_the_folder_cannot_say_that_entries_were_archived() {
    let world = tempfile::tempdir().unwrap();
    let (log, to) = (world.path().join("log"), world.path().join("to"));
    written(&log, 600);
    // Taken away, and said to have been moved.
    let forged = world.path().join("forged");
    copy(&log, &forged);
    fs::remove_file(forged.join("tile/entries/000")).unwrap();
    fs::write(forged.join("archived"), "256\n").unwrap();
    let found = checked(&forged, &[]).unwrap_err();
    assert_eq!((found.kind, found.entry), (Kind::Missing, Some(1)), "{found}");
    assert!(found.to_string().contains("log.archived"), "{found}");
    // Nor in the tail, which nobody signs.
    let mut tail = fs::read_to_string(forged.join("tail")).unwrap();
    tail.push_str("{\"entry\":601,\"event\":\"log.archived\",\"first\":1,\"last\":256,\"time\":\"2099-01-01T00:00:00.000Z\"}\n");
    fs::write(forged.join("tail"), tail).unwrap();
    assert_eq!(checked(&forged, &[]).unwrap_err().kind, Kind::Missing);
    // More than was moved.
    archive(&log, &to, later()).unwrap();
    written(&log, 1_100);
    checked(&log, &[]).unwrap();
    fs::remove_file(log.join("tile/entries/003")).unwrap();
    fs::write(log.join("archived"), "1024\n").unwrap();
    let found = checked(&log, &[]).unwrap_err();
    assert_eq!((found.kind, found.entry), (Kind::Missing, Some(769)), "{found}");
    assert_eq!(checked(&log, &[to]).unwrap_err().kind, Kind::Missing);
}

/// The folder says what it likes: nothing was moved whose bundle is there, nor anything after it.
#[test]
fn what_is_there_was_not_moved() {
    let world = tempfile::tempdir().unwrap();
    let log = world.path();
    let put = |name: &str| {
        let path = log.join("tile/entries").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    assert_eq!(archived(log).unwrap(), 0);
    fs::write(log.join("archived"), "512000000\n").unwrap();
    assert_eq!(archived(log).unwrap(), 512_000_000);
    for (name, index) in [
        ("+00", 2_000_000),
        ("003.p/7", 2_000_000),
        ("x001/x000/004", 1_000_004),
        ("x002/000", 2_000),
        ("x001/017", 1_017),
        ("999", 999),
        ("000", 0),
    ] {
        put(name);
        assert_eq!(archived(log).unwrap(), index * 256, "{name}");
    }
    assert_eq!(first_bundle(&world.path().join("none")).unwrap(), None);
}

#[test]
fn the_log_is_written_meanwhile() {
    let world = tempfile::tempdir().unwrap();
    let (folder, to) = (world.path().join("log"), world.path().join("to"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let log = Log::open(&folder, ORIGIN).unwrap();
    for count in [300, 700, 1_500] {
        appended(&runtime, &log, count);
        archive(&folder, &to, later()).unwrap();
        assert!(!log.is_failing() && log.inclusion(3, log.size()).is_ok() && log.promise(3).is_ok(), "its proofs need no bundle");
    }
    drop(log);
    closed(&folder);
    assert!(checked(&folder, &[to]).unwrap().entries >= 1_500);
    written(&folder, 1_600);
}

#[test]
fn what_is_not_what_was_signed_is_not_moved_and_a_changed_archive_is_found() {
    let world = tempfile::tempdir().unwrap();
    let (good, to) = (world.path().join("good"), world.path().join("to"));
    written(&good, 600);
    let log = world.path().join("changed");
    copy(&good, &log);
    let mut bundle = fs::read(log.join("tile/entries/001")).unwrap();
    let at = bundle.len() - 4;
    bundle[at] ^= 1;
    fs::write(log.join("tile/entries/001"), bundle).unwrap();
    assert!(archive(&log, &to, later()).unwrap_err().to_string().contains("entry 512"));
    assert!(log.join("tile/entries/000").exists() && archived(&log).unwrap() == 0, "nothing is moved");
    for (name, says) in
        [("tile/0/001", "entry 257"), ("tile/1/000.p/2", "entry 257"), ("checkpoint", "checkpoint"), ("log.vkey", "log.vkey")]
    {
        let path = good.join(name);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        changed[3] ^= 1;
        fs::write(&path, changed).unwrap();
        let refused = archive(&good, &world.path().join("never"), later()).unwrap_err().to_string();
        assert!(refused.contains(says), "{name}: {refused}");
        fs::write(&path, bytes).unwrap();
    }
    for inside in [good.clone(), good.join("inside"), world.path().to_owned()] {
        assert!(archive(&good, &inside, later()).is_err(), "{}", inside.display());
    }
    let other = world.path().join("other");
    written(&other, 300);
    archive(&other, &world.path().join("others"), later()).unwrap();
    let refused = archive(&good, &world.path().join("others"), later()).unwrap_err().to_string();
    assert!(refused.contains("another log"), "{refused}");
    assert_eq!(checked(&good, &[world.path().join("others")]).unwrap_err().kind, Kind::Form);

    let to = world.path().join("archive");
    archive(&good, &to, later()).unwrap();
    checked(&good, std::slice::from_ref(&to)).unwrap();
    for (name, kinds) in [
        ("tile/entries/001", &[Kind::Entry, Kind::Form][..]),
        ("manifest/000000000001-000000000512", &[Kind::Checkpoint][..]),
        ("log.vkey", &[Kind::Form][..]),
    ] {
        let path = to.join(name);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        changed[1] ^= 1;
        fs::write(&path, changed).unwrap();
        let found = checked(&good, std::slice::from_ref(&to)).unwrap_err();
        assert!(kinds.contains(&found.kind), "{name}: {found:?}");
        fs::remove_file(&path).unwrap();
        let removed = checked(&good, std::slice::from_ref(&to));
        assert!(removed.is_err() || name.starts_with("manifest"), "{name}");
        fs::write(&path, bytes).unwrap();
    }
    // Without the word of the log's folder, what is missing is missing.
    fs::remove_file(good.join("archived")).unwrap();
    assert_eq!(checked(&good, &[]).unwrap_err().kind, Kind::Missing);
    assert!(read(&good, 0).unwrap().next().unwrap().is_err());
    fs::write(good.join("archived"), "511\n").unwrap();
    assert!(archived(&good).is_err() && checked(&good, &[]).is_err());
    // An older log than its archive was rolled back.
    let rolled = world.path().join("rolled");
    fs::create_dir(&rolled).unwrap();
    fs::copy(good.join("log.key"), rolled.join("log.key")).unwrap();
    written(&rolled, 300);
    assert_eq!(checked(&rolled, std::slice::from_ref(&to)).unwrap_err().kind, Kind::RolledBack);
    written(&rolled, 700);
    assert_eq!(checked(&rolled, &[to]).unwrap_err().kind, Kind::Forked);
}
