//! Old entries of a log in an archive: moved, read and verified by the real program.

use std::path::Path;
use std::time::Duration;

use concordat::failure::LOCAL;
use concordat_audit::{Entry, Log, is_written};
use serde_json::Value;

use crate::commands::{Ran, command};

fn audit(arguments: &[&str]) -> Ran {
    command(["audit"].iter().chain(arguments)).output().unwrap().into()
}

/// Writes a log on its own until it has `count` entries, and closes it.
pub async fn written(folder: &Path, count: u64) {
    let log = Log::open(folder, "concordat/dwp/node").unwrap();
    let mut checkpoints = log.checkpoints();
    // With the last one alone, the tail lets go of what full bundles hold.
    for count in [count - 1, count] {
        for n in log.size()..count {
            log.append(Entry::new("query.opened").by("https://id.example", "analyst-1", None).query(&format!("q-{n}"))).await.unwrap();
        }
        while log.size() < count {
            checkpoints.changed().await.unwrap();
        }
    }
    drop(log);
    while is_written(folder) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn old_entries_are_moved_and_still_listed_and_verified() {
    let world = tempfile::tempdir().unwrap();
    let (log, to) = (world.path().join("log"), world.path().join("archive"));
    written(&log, 600).await;
    let (log, to) = (log.to_str().unwrap(), to.to_str().unwrap());
    let count = |more: &[&str]| {
        let ran = audit(&[&["list", "--log", log, "--event", "query.opened", "--output", "json"][..], more].concat());
        assert_eq!(ran.exit, 0, "{}", ran.stderr);
        (ran.text().lines().count(), ran.stderr)
    };
    assert_eq!(count(&[]).0, 600);
    let none = audit(&["archive", "--log", log, "--to", to, "--before", "2020-01-01T00:00:00Z"]);
    assert!(none.exit == 0 && none.text().contains("nothing to move"), "{} {}", none.text(), none.stderr);
    let moved = audit(&["archive", "--log", log, "--to", to, "--before", "2999-01-01T00:00:00Z"]);
    assert!(moved.exit == 0 && moved.text().contains("moved entries 1 to 512"), "{} {}", moved.text(), moved.stderr);
    let (left, says) = count(&[]);
    assert!(left == 88 && says.contains("512") && says.contains("--archive"), "{left} {says}");
    let (all, says) = count(&["--archive", to]);
    assert!(all == 600 && !says.contains("--archive"), "{all} {says}");
    let shown = audit(&["show", "q-3", "--log", log, "--archive", to]);
    assert!(shown.exit == 0 && shown.text().contains("analyst-1"), "{} {}", shown.text(), shown.stderr);
    assert_eq!(audit(&["show", "q-3", "--log", log]).exit, i32::from(LOCAL));
    let proof = |more: &[&str]| audit(&[&["proof", "--log", log, "--entry", "4"][..], more].concat());
    let (unread, read) = (proof(&[]), proof(&["--archive", to]));
    assert!(unread.exit == i32::from(LOCAL) && unread.stderr.contains("moved to an archive"), "{}", unread.stderr);
    assert_eq!(read.exit, 0, "{}", read.stderr);
    let why = |more: &[&str]| Ran::from(command(["why", "q-3", "--log", log].iter().chain(more)).output().unwrap());
    assert!(why(&[]).stderr.contains("entries 1 to 512") && why(&["--archive", to]).text().contains("it has not ended yet"));
    let verified = |more: &[&str]| audit(&[&["verify", "--log", log, "--output", "json"][..], more].concat());
    let (alone, both): (Value, Value) = (verified(&[]).json(), verified(&["--archive", to]).json());
    assert_eq!((&alone["verified"], &alone["unread"]), (&true.into(), &512.into()));
    // Beside them the one that tells of the archive.
    assert_eq!((&both["verified"], &both["unread"], &both["entries"]), (&true.into(), &0.into(), &601.into()));
    // One byte of an archived entry.
    let path = Path::new(to).join("tile/entries/001");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let changed = verified(&["--archive", to]);
    assert!(changed.exit == i32::from(LOCAL) && changed.json()["verified"] == false, "{}", changed.text());
    // The log tells of it when it goes on.
    written(Path::new(log), 620).await;
    let told = audit(&["list", "--log", log, "--event", "log.archived", "--output", "json"]).json();
    assert_eq!((&told["first"], &told["last"]), (&1.into(), &512.into()));
}
