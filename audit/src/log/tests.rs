//! The log as its callers see it, and as a crash, a fault or somebody who edits it leaves it.

mod damage;
mod faults;
mod stood;
mod timing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::disk::{Faults, is_written};
use crate::note::{Algorithm, Note, Signer};
use crate::tile::{Tiles, bundle_name, tile_name, unbundle};
use crate::tree::tests::{naive, root};
use crate::tree::{WIDTH, leaf_hash};

const ORIGIN: &str = "concordat/dwp/node";

pub(crate) fn open(folder: &Path) -> Log {
    // The threads let go of the lock shortly after the last handle is dropped.
    for _ in 0..5_000 {
        if !is_written(folder) {
            return Log::open(folder, ORIGIN).unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the lock was not released");
}

fn opened(folder: &Path, faults: Faults) -> io::Result<Log> {
    Log::on(Disk::with(folder, faults), ORIGIN, None)
}

/// Why the log in `folder` is not opened.
fn refusal(folder: &Path) -> Option<String> {
    Log::open(folder, ORIGIN).err().map(|e| std::error::Error::source(&e).unwrap().to_string())
}

/// Drops a log and waits until its threads have ended.
pub(crate) fn close(log: Log, folder: &Path) {
    drop(log);
    while is_written(folder) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn entries(folder: &Path) -> Vec<Vec<u8>> {
    let entries: Vec<_> = crate::read(folder, 0).unwrap().map(Result::unwrap).collect();
    assert!(entries.iter().zip(0..).all(|((index, _), expected)| *index == expected));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn objects(folder: &Path) -> Vec<Value> {
    entries(folder).iter().map(|entry| serde_json::from_slice(entry).unwrap()).collect()
}

/// Appends `count` small entries at once and returns their numbers.
async fn append(log: &Log, count: usize) -> Vec<u64> {
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..count {
        let log = log.clone();
        tasks.spawn(async move { log.append(Entry::new("query.opened").field("i", i)).await.unwrap() });
    }
    let mut numbers = tasks.join_all().await;
    numbers.sort_unstable();
    numbers
}

/// Changes the first entry of a full bundle, and its hash in the tile with it, as who can write in the folder can.
pub(crate) fn forge(folder: &Path, index: u64) {
    let (bundle, tile) = (folder.join(bundle_name(index, WIDTH)), folder.join(tile_name(0, index, WIDTH)));
    let mut entries = unbundle(&std::fs::read(&bundle).unwrap()).unwrap();
    let salt = entries[0].windows(8).position(|window| window == b"\"salt\":\"").unwrap() + 8;
    entries[0][salt] = if entries[0][salt] == b'A' { b'B' } else { b'A' };
    std::fs::write(bundle, crate::tile::bundle(entries.iter().map(Vec::as_slice))).unwrap();
    let mut hashes = std::fs::read(&tile).unwrap();
    hashes[..32].copy_from_slice(&leaf_hash(&entries[0]));
    std::fs::write(tile, hashes).unwrap();
}

/// Entry and tile are changed together: nothing is signed of them, and no proof is given.
#[tokio::test]
async fn what_is_not_under_the_signed_root_is_neither_promised_nor_receipted() {
    let folder = written(600).await;
    let log = open(folder.path());
    assert!(log.receipt(1, true).unwrap().is_some());
    forge(folder.path(), 0);
    for refused in [log.promise(1).err(), log.receipt(1, false).err(), log.leaf(0).err(), log.inclusion(1, 600).err()] {
        let refused = refused.expect("it was changed");
        let source = std::error::Error::source(&refused).unwrap().to_string();
        assert!(source.contains("tile/0/000 does not lead to the root"), "{source}");
    }
    let receipt = log.receipt(300, true).unwrap().unwrap();
    assert_eq!(receipt.leaf_hash, leaf_hash(receipt.entry.as_ref().unwrap()), "the others still are");
    // A checkpoint of another history, with the log's own key: a folder that was restored and went on.
    let other = crate::checkpoint::Checkpoint { origin: ORIGIN.into(), size: 500, root: [7; 32] };
    let other = log.shared.key.checkpoint(other.size, &other.root);
    std::fs::write(folder.path().join("checkpoint.cosigned"), format!("{other}{}", signed(&other, "a", 7))).unwrap();
    assert!(log.receipt(300, false).is_ok(), "it is not looked at");
    log.take_up_cosignatures(&[witness("a").key().clone()]).unwrap();
    assert!(log.receipt(300, false).is_err());
}

async fn until_covered(log: &Log, size: u64) {
    let mut checkpoints = log.checkpoints();
    while log.size() < size {
        tokio::time::timeout(Duration::from_secs(10), checkpoints.changed()).await.expect("a checkpoint").unwrap();
    }
}

/// A folder with `count` entries, all under the checkpoint, its log closed.
async fn written(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    append(&log, count).await;
    until_covered(&log, count as u64).await;
    close(log, folder.path());
    folder
}

/// Copies a log's folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            // The reserve is made again, and large.
            false if entry.file_name() != "reserve" => drop(std::fs::copy(entry.path(), to).unwrap()),
            false => {}
        }
    }
}

#[tokio::test]
async fn entries_are_there_when_acknowledged_and_numbered_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    assert_eq!(append(&log, 100).await, (1..=100).collect::<Vec<_>>());
    assert_eq!(objects(folder.path()).len(), 100);
    let digest = log.digest(b"x");
    drop(log);
    let log = open(folder.path());
    assert_eq!(log.append(Entry::new("query.opened")).await.unwrap(), 101);
    assert_eq!(log.digest(b"x"), digest);
    assert_eq!(DigestKey::of(folder.path()).unwrap().digest(b"x"), digest, "while the log is open");
    assert_eq!(objects(folder.path())[100]["entry"], 101);
}

#[tokio::test]
async fn a_second_writer_and_another_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    assert!(is_written(folder.path()) && refusal(folder.path()).unwrap().contains("another process"));
    close(log, folder.path());
    assert!(matches!(Log::open(folder.path(), "concordat/dfe/node"), Err(LogError::Open { .. })));
}

#[tokio::test]
async fn too_long_entries_are_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let empty = log.append(Entry::new("a").field("x", "")).await.unwrap();
    let room = crate::tile::MAX_ENTRY - entries(folder.path())[0].len();
    assert!(matches!(log.append(Entry::new("a").field("x", "y".repeat(room + 1))).await, Err(LogError::TooLong)));
    assert_eq!(log.append(Entry::new("a").field("x", "y".repeat(room))).await.unwrap(), empty + 1, "the longest");
    assert_eq!(log.append(Entry::new("b").field("entry", 99)).await.unwrap(), empty + 2);
    until_covered(&log, 3).await;
    drop(log);
    let log = open(folder.path());
    assert_eq!((log.size(), objects(folder.path())[2]["entry"].clone()), (3, 3.into()));
}

#[tokio::test]
async fn checkpoints_sign_the_root_over_all_entries_and_the_tail_forgets_full_bundles() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    let mut size = 0;
    for (round, count) in [1usize, 254, 1, 1, 300, 700].into_iter().enumerate() {
        append(&log, count).await;
        size += count as u64;
        until_covered(&log, size).await;
        let entries = entries(folder.path());
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let signed = log.shared.key.read(&log.checkpoint()).unwrap();
        assert_eq!((signed.size, signed.root), (size, naive(&leaves)), "{size}");
        assert_eq!(std::fs::read_to_string(folder.path().join("checkpoint")).unwrap(), *log.checkpoint());
        assert_eq!(root(&Tiles::of(folder.path()), size).unwrap(), signed.root);
        for index in [0, 255, size / 2, size - 1].into_iter().filter(|index| *index < size) {
            let promise = log.promise(index + 1).unwrap();
            assert_eq!((promise.index, promise.leaf_hash), (index, leaves[index as usize]));
            assert_eq!(climb(leaves[index as usize], index, size, &log.inclusion(index, size).unwrap()), signed.root);
        }
        if round % 2 == 1 {
            drop(log);
            log = open(folder.path());
        }
    }
    log.append(Entry::new("a")).await.unwrap();
    assert!(log.inclusion(0, size + 2).is_err() && log.consistency(3, size + 2).is_err() && log.promise(size + 2).is_err());
    assert!(log.consistency(1, size).is_ok() && log.consistency(300, size).is_ok());
    until_covered(&log, size + 1).await;
    let tail = || std::fs::read_to_string(folder.path().join("tail")).unwrap().lines().count() as u64;
    log.append(Entry::new("a")).await.unwrap();
    close(log, folder.path());
    assert!(tail() <= 257, "{}", tail());
    assert!(!folder.path().join("tile/0/000.p").exists() && !folder.path().join("tile/entries/000.p").exists(), "full tiles only");
}

#[tokio::test]
async fn a_reader_beside_the_writer_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let (path, count) = (folder.path().to_owned(), 3_000u64);
    let reader = std::thread::spawn(move || {
        let (mut next, mut rounds) = (0u64, 0);
        while next < count {
            rounds += 1;
            for entry in crate::read(&path, next).unwrap() {
                let (index, entry) = entry.unwrap();
                assert_eq!((index, crate::tail::number(&entry)), (next, Some(next + 1)));
                next += 1;
            }
        }
        rounds
    });
    for _ in 0..30 {
        append(&log, 100).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap() > 3);
    assert_eq!(crate::read(folder.path(), 2_990).unwrap().count(), 10);
    assert_eq!(crate::read(folder.path(), 5_000).unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_acknowledged_is_under_a_checkpoint_when_the_log_was_settled() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    assert!(log.settle(Duration::ZERO), "nothing is to be covered");
    for count in 1..=20 {
        log.append(Entry::new("query.closed")).await.unwrap();
        assert!(log.settle(Duration::from_secs(10)));
        assert_eq!(log.size(), count);
        let said = std::fs::read_to_string(folder.path().join("checkpoint")).unwrap();
        assert_eq!(said.lines().nth(1).unwrap().parse::<u64>().unwrap(), count);
    }
    close(log, folder.path());
    let failing: Faults = Arc::new(|step, path| match step == crate::disk::Step::Rename && path.ends_with("checkpoint") {
        true => Err(io::Error::other("made to fail")),
        false => Ok(()),
    });
    let log = opened(folder.path(), failing).unwrap();
    log.append(Entry::new("query.closed")).await.unwrap();
    assert!(!log.settle(Duration::from_millis(50)) && log.size() == 20);
}

/// Lines as witnesses write them; the log takes its caller's word for them.
fn lines(names: &str) -> String {
    names.split_whitespace().map(|name| format!("— {name} AAAAAAA=\n")).collect()
}

fn witness(name: &str) -> Signer {
    Signer::from_seed(name, Algorithm::Cosignature, &[name.as_bytes()[0]; 32]).unwrap()
}

/// Lines that witnesses of these names make under a checkpoint.
fn signed(checkpoint: &str, names: &str, time: u64) -> String {
    let note = Note::parse(checkpoint.as_bytes()).unwrap();
    names.split_whitespace().map(|name| witness(name).sign(note.text(), time).to_string()).collect()
}

/// Two are enough.
fn two(by: &std::collections::BTreeSet<&str>) -> bool {
    by.len() >= 2
}

#[tokio::test]
async fn cosignatures_are_kept_though_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    append(&log, 3).await;
    until_covered(&log, 3).await;
    let (first, mut told) = (log.checkpoint(), log.checkpoints());
    told.mark_unchanged();
    log.add_cosignatures(&first, &lines("witness"), two).unwrap();
    log.add_cosignatures(&first, &lines("witness other"), two).unwrap();
    let both = format!("{first}{}", lines("witness other"));
    assert_eq!((&*log.checkpoint(), told.has_changed().unwrap()), (both.as_str(), false));
    append(&log, 1).await;
    until_covered(&log, 4).await;
    let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!((file("checkpoint.cosigned"), file("checkpoint")), (both.clone(), log.checkpoint().to_string()));
    log.add_cosignatures(&first, &lines("third"), two).unwrap();
    assert_eq!(file("checkpoint.cosigned"), format!("{both}{}", lines("third")));
    assert_eq!(file("checkpoint"), *log.checkpoint(), "the newer one has none");
    let own = first.lines().last().map(|line| format!("{line}\n")).unwrap();
    for bad in ["", "\n", "witness AAAAAAA=", "— w AAAA\n", "— w AAAAAAA=", "— w AAAAAAA=\n\n", "— a b c\n", "— a \tAAAAAAA=\n", &own]
    {
        assert!(matches!(log.add_cosignatures(&first, bad, two), Err(LogError::Asked(_))), "{bad:?}");
    }
    assert!(log.add_cosignatures(&first.replacen('3', "2", 1), &lines("a"), two).is_err());
    close(log, folder.path());
    assert_eq!(open(folder.path()).size(), 4);
}

#[tokio::test]
async fn a_checkpoint_that_fewer_have_seen_replaces_none_that_enough_have() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut checkpoints = Vec::new();
    for count in 1..=4 {
        append(&log, 1).await;
        until_covered(&log, count).await;
        checkpoints.push(log.checkpoint());
    }
    let kept = || {
        let text = std::fs::read_to_string(folder.path().join("checkpoint.cosigned")).unwrap();
        let names = text.lines().skip(5).map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>().join(" ");
        (text.lines().nth(1).unwrap().parse::<u64>().unwrap(), names)
    };
    // What comes, of which checkpoint, and what is kept then.
    for (size, names, expected) in [
        (2, "a", (2, "a")),
        (3, "b", (3, "b")),
        // Late, and more than the newer one has: the first line was not forgotten.
        (2, "b", (2, "a b")),
        (3, "a", (3, "b a")),
        (4, "a", (3, "b a")),
        (1, "a b c", (3, "b a")),
        (3, "c", (3, "b a c")),
        // Fewer than before, and enough.
        (4, "c", (4, "a c")),
        // One line for each key.
        (4, "a a c", (4, "a c")),
    ] {
        log.add_cosignatures(&checkpoints[size - 1], &signed(&checkpoints[size - 1], names, 7), two).unwrap();
        assert_eq!(kept(), (expected.0, expected.1.to_owned()), "{names} of {size}");
    }
    // A line that is made anew, later, stands in the place of the earlier one.
    let (earlier, later) = (signed(&checkpoints[3], "a", 7), signed(&checkpoints[3], "a", 8));
    log.add_cosignatures(&checkpoints[3], &later, two).unwrap();
    let text = std::fs::read_to_string(folder.path().join("checkpoint.cosigned")).unwrap();
    assert!(text.contains(&later) && !text.contains(&earlier), "{text}");
    assert_eq!(kept(), (4, "a c".to_owned()));
    // After a restart, what witnesses made counts as before, and what somebody else wrote there does not: names, a key's own name and
    // mark over another text, and a time that is yet to come.
    close(log, folder.path());
    let invented: String = (0..14).map(|n| format!("— w{n} AAAAAAA=\n")).collect();
    let invented = format!("{invented}{}{}", signed(&checkpoints[0], "b", 7), signed(&checkpoints[3], "d", 1 << 40));
    for name in ["checkpoint", "checkpoint.cosigned"] {
        let path = folder.path().join(name);
        let kept = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, kept + &invented).unwrap();
    }
    let mut log = open(folder.path());
    for (witnesses, expected) in [("", None), ("b d", None), ("a", Some("a")), ("a b c d", Some("a c"))] {
        assert_eq!((log.cosigned(), &log.checkpoint()), (None, &checkpoints[3]), "nobody has verified anything yet");
        let keys: Vec<VerifierKey> = witnesses.split_whitespace().map(|name| witness(name).key().clone()).collect();
        log.take_up_cosignatures(&keys).unwrap();
        let names = |text: &str| text.lines().skip(5).map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>().join(" ");
        assert_eq!(log.cosigned().map(|text| names(&text)).as_deref(), expected, "{witnesses}");
        assert_eq!(names(&log.checkpoint()), expected.unwrap_or_default(), "{witnesses}");
        let counted = log.receipt(1, false).unwrap().unwrap().cosignatures();
        assert_eq!(counted, expected.map_or(0, |names| names.split(' ').count()), "{witnesses}");
        if witnesses != "a b c d" {
            // What was not taken up stays in the folder for who asks better.
            std::fs::write(folder.path().join("checkpoint"), format!("{text}{invented}")).unwrap();
            close(log, folder.path());
            log = open(folder.path());
        }
    }
    append(&log, 1).await;
    until_covered(&log, 5).await;
    log.add_cosignatures(&log.checkpoint(), &signed(&log.checkpoint(), "a", 9), two).unwrap();
    assert_eq!((log.cosigned().unwrap().lines().nth(1), log.receipt(1, false).unwrap().unwrap().cosignatures()), (Some("4"), 2));
}

#[tokio::test]
async fn a_checkpoint_was_published_before_anybody_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let before = Instant::now();
    let log = open(folder.path());
    let (size, opened) = log.published();
    assert!(size == 0 && opened >= before);
    let mut told = log.checkpoints();
    append(&log, 2).await;
    tokio::time::timeout(Duration::from_secs(10), told.wait_for(|text| text.contains("\n2\n"))).await.unwrap().unwrap();
    let now = Instant::now();
    let (size, published) = log.published();
    assert!(size == 2 && opened < published && published <= now);
    log.add_cosignatures(&log.checkpoint(), &lines("witness"), two).unwrap();
    assert_eq!(log.published(), (2, published), "more signatures are no other checkpoint");
}

/// The root that a leaf and its audit path give (RFC 9162, section 2.1.3.2).
fn climb(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Hash {
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if at & 1 == 1 || at == last {
            hash = tree::node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = tree::node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    assert_eq!(last, 0);
    hash
}

fn files(folder: &Path, under: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.join(under)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() { found.extend(files(folder, &name)) } else { found.push(name.into()) }
    }
    found.sort();
    found
}
