//! Disks that fail while the log is open.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;
use crate::disk::{Step, noted};

/// Fails the steps that `which` names while `on`.
fn failing(on: &Arc<AtomicBool>, kind: io::ErrorKind, which: fn(Step, &Path) -> bool) -> Faults {
    let on = Arc::clone(on);
    Arc::new(move |step, path| {
        let fails = on.load(Ordering::SeqCst) && which(step, path);
        if fails { Err(io::Error::new(kind, "made to fail")) } else { Ok(()) }
    })
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

#[tokio::test]
async fn an_unwritable_tail_refuses_until_it_is_writable_and_loses_nothing() {
    for kind in [io::ErrorKind::Other, io::ErrorKind::ReadOnlyFilesystem] {
        let (folder, on) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
        let log = opened(folder.path(), failing(&on, kind, |step, _| step == Step::Append)).unwrap();
        append(&log, 3).await;
        on.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            assert!(matches!(log.append(Entry::new("refused").closes()).await, Err(LogError::Write(_))));
        }
        assert_eq!((log.is_failing(), log.failures()), (true, 3));
        on.store(false, Ordering::SeqCst);
        assert_eq!(log.append(Entry::new("taken")).await.unwrap(), 4);
        assert!(!log.is_failing());
        until_covered(&log, 4).await;
        assert_eq!(objects(folder.path())[3]["event"], "taken");
    }
}

#[tokio::test]
async fn a_tree_that_cannot_be_written_refuses_and_catches_up() {
    let which: [fn(Step, &Path) -> bool; 3] = [
        |step, path| step == Step::Write && path.ends_with("tile-0-000.p-3"),
        |step, path| step == Step::Rename && path.ends_with("checkpoint"),
        |step, path| step == Step::Settle && path.ends_with("tile/0/000.p"),
    ];
    for which in which {
        let (folder, on) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
        let log = opened(folder.path(), failing(&on, io::ErrorKind::Other, which)).unwrap();
        on.store(true, Ordering::SeqCst);
        append(&log, 3).await;
        until("the tree fails", || log.is_failing()).await;
        assert!(matches!(log.append(Entry::new("new")).await, Err(LogError::Behind)));
        assert_eq!(log.append(Entry::new("closing").closes()).await.unwrap(), 4);
        assert_eq!(log.size(), 0);
        on.store(false, Ordering::SeqCst);
        until_covered(&log, 4).await;
        until("it is healthy", || !log.is_failing()).await;
        assert_eq!(log.append(Entry::new("new")).await.unwrap(), 5);
        until_covered(&log, 5).await;
        close(log, folder.path());
        assert_eq!(open(folder.path()).size(), 5);
    }
}

/// A run that was killed may have made folders whose names are not durable: the next one does not take them for that.
#[tokio::test]
async fn folders_that_an_earlier_run_made_are_made_durable_before_a_checkpoint_rests_on_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("tile/entries/000.p")).unwrap();
    std::fs::create_dir_all(folder.path().join("tile/0")).unwrap();
    let (steps, faults) = noted();
    // Whose key is there: folders alone are no log.
    let log = Log::on(Disk::with(&folder.path().join("log"), Arc::clone(&faults)), ORIGIN, None).unwrap();
    close(log, &folder.path().join("log"));
    for name in ["log.key", "log.vkey", "checkpoint", "tail"] {
        std::fs::copy(folder.path().join("log").join(name), folder.path().join(name)).unwrap();
    }
    steps.lock().unwrap().clear();
    let log = opened(folder.path(), faults).unwrap();
    append(&log, 1).await;
    until_covered(&log, 1).await;
    let steps = steps.lock().unwrap().clone();
    let at = |step: Step, name: &str| {
        let path = if name.is_empty() { folder.path().to_owned() } else { folder.path().join(name) };
        steps.iter().position(|(done, of)| *done == step && *of == path)
    };
    let signed = at(Step::Rename, "checkpoint").unwrap();
    let tiles = at(Step::Rename, "tile/entries/000.p/1").unwrap();
    for name in ["tile/entries/000.p", "tile/entries", "tile/0/000.p", "tile/0", "tile"] {
        assert!(at(Step::Settle, name).is_some_and(|settled| settled > tiles && settled < signed), "{name}: {steps:?}");
    }
}

/// Callers who write faster than the tree grows are served late.
#[tokio::test]
async fn a_slow_tree_refuses_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let slow = |step, path: &Path| {
        if step == Step::Rename && path.ends_with("checkpoint") {
            std::thread::sleep(Duration::from_millis(400));
        }
        Ok(())
    };
    let log = opened(folder.path(), Arc::new(slow)).unwrap();
    for _ in 0..4 {
        append(&log, 4000).await;
    }
    assert_eq!((log.failures(), log.is_failing()), (0, false));
    until_covered(&log, 16_000).await;
}

/// A full disk: everything that takes space fails while the reserve is there.
#[tokio::test]
async fn a_full_disk_closes_what_is_open_and_takes_nothing_new() {
    let (folder, full) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
    let faults: Faults = {
        let (full, reserve) = (Arc::clone(&full), folder.path().join("reserve"));
        Arc::new(move |step, path| {
            let takes = matches!(step, Step::Append | Step::Write) && (reserve.exists() || path.ends_with("reserve"));
            if full.load(Ordering::SeqCst) && takes { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    };
    let log = opened(folder.path(), faults).unwrap();
    append(&log, 3).await;
    until_covered(&log, 3).await;
    assert!(folder.path().join("reserve").metadata().unwrap().len() >= 1 << 16);
    full.store(true, Ordering::SeqCst);
    let (new, closing) = tokio::join!(log.append(Entry::new("new")), log.append(Entry::new("closing").closes()));
    assert!(matches!(new, Err(LogError::Full)), "{new:?}");
    assert_eq!(closing.unwrap(), 4);
    assert!(log.is_failing() && !folder.path().join("reserve").exists());
    until_covered(&log, 4).await;
    for _ in 0..15 {
        assert!(matches!(log.append(Entry::new("new")).await, Err(LogError::Full)));
        log.append(Entry::new("closing").closes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    full.store(false, Ordering::SeqCst);
    for _ in 0..400 {
        if log.append(Entry::new("new")).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!log.is_failing() && folder.path().join("reserve").exists());
    assert_eq!(objects(folder.path()).last().unwrap()["event"], "new");
}

/// A machine that stops before any of its steps: nothing that was acknowledged is lost, nothing is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_crash_before_any_step_recovers() {
    for first in (0..400).step_by(16) {
        let tries: tokio::task::JoinSet<bool> = (first..first + 16).map(stops_before).collect();
        if tries.join_all().await.contains(&false) {
            assert!(first > 30, "{first} steps");
            return;
        }
    }
    panic!("the log took more steps than that");
}

/// Whether it came to that step.
async fn stops_before(step: usize) -> bool {
    let (folder, left) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(step)));
    let faults: Faults = {
        let left = Arc::clone(&left);
        Arc::new(move |_, _| match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("stopped")),
        })
    };
    let stopped = || left.load(Ordering::SeqCst) == 0;
    let mut acknowledged = Vec::new();
    if let Ok(log) = opened(folder.path(), faults) {
        for count in [1usize, 256, 60] {
            let mut tasks = tokio::task::JoinSet::new();
            for i in 0..count {
                let log = log.clone();
                tasks.spawn(async move { (i, log.append(Entry::new("a").field("of", count).field("i", i).closes()).await) });
            }
            let done = tasks.join_all().await;
            acknowledged.extend(done.into_iter().filter_map(|(i, number)| Some((number.ok()?, count, i))));
            until("covered or stopped", || stopped() || log.size() >= acknowledged.len() as u64).await;
        }
        close(log, folder.path());
    }
    let log = open(folder.path());
    let found = objects(folder.path());
    assert!(found.len() >= acknowledged.len(), "stopped at {step}");
    for (number, count, i) in &acknowledged {
        let entry = &found[*number as usize - 1];
        assert_eq!((&entry["of"], &entry["i"]), (&(*count).into(), &(*i).into()), "stopped at {step}");
    }
    let new = log.append(Entry::new("after")).await.unwrap();
    assert_eq!(new, found.len() as u64 + 1);
    until_covered(&log, new).await;
    close(log, folder.path());
    assert_eq!(refusal(folder.path()), None, "stopped at {step}");
    stopped()
}
