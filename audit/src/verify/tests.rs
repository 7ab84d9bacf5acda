//! A log that the real writer made is changed in many ways, and each is found as what it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::log::tests::{copy, forge};
use crate::note::{Algorithm, Note, Signer};
use crate::{Entry, Log, LogError, is_written};

const ORIGIN: &str = "concordat/dwp/node";

/// Seeded numbers: a failing run is repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }
}

/// A log of `count` entries, all under a checkpoint, whose writer has ended.
fn written(folder: &Path, count: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let log = Log::open(folder, ORIGIN).unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for i in log.size()..count {
            let log = log.clone();
            tasks.spawn(async move {
                // Who writes faster than the tree grows is refused, and comes again.
                while let Err(error) = log.append(Entry::new("query.opened").field("n", i)).await {
                    assert!(matches!(error, LogError::Behind), "{error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
            if tasks.len() == 1000 {
                all(&mut tasks).await;
            }
        }
        all(&mut tasks).await;
    });
    while log.size() < count {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(log);
    while is_written(folder) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn all(tasks: &mut tokio::task::JoinSet<()>) {
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// A log's key, from its folder.
fn signer(folder: &Path) -> Signer {
    Signer::parse(fs::read_to_string(folder.join("log.key")).unwrap().trim_end()).unwrap()
}

fn check(folder: &Path, key: &VerifierKey, against: Option<&[u8]>, witnesses: &Witnesses) -> Result<Report, Finding> {
    verify(&Request { folder, archives: &[], key: Some(key), against, witnesses, now: 2_000_000_000 })
}

/// The files that a verifier reads of a log of 600 entries.
const READ: [&str; 9] = [
    "checkpoint",
    "tail",
    "tile/0/000",
    "tile/0/001",
    "tile/0/002.p/88",
    "tile/1/000.p/2",
    "tile/entries/000",
    "tile/entries/001",
    "tile/entries/002.p/88",
];

/// The kinds that a change to a file's bytes may be found as.
fn expected(file: &str) -> &'static [Kind] {
    match file {
        "checkpoint" => &[Kind::Checkpoint, Kind::Missing, Kind::Form],
        "tail" => &[Kind::Tail, Kind::Missing],
        _ if file.starts_with("tile/1/") => &[Kind::Tile, Kind::Form, Kind::Missing],
        _ => &[Kind::Entry, Kind::Form, Kind::Missing],
    }
}

#[test]
fn every_change_to_a_log_is_found_as_what_it_is() {
    let world = tempfile::tempdir().unwrap();
    let (good, rolled): (PathBuf, PathBuf) = (world.path().join("good"), world.path().join("rolled"));
    written(&good, 300);
    copy(&good, &rolled);
    let early = fs::read(good.join("checkpoint")).unwrap();
    written(&good, 600);
    let key = signer(&good).key().clone();
    let witness = Signer::generate("dfe", Algorithm::Cosignature).unwrap();
    let witnesses = Witnesses::new(vec![witness.key().clone()], None).unwrap();
    let latest = fs::read(good.join("checkpoint")).unwrap();
    let mut note = Note::parse(&latest).unwrap();
    let cosignature = witness.sign(note.text(), 1_900_000_000);
    note.add(cosignature);
    fs::write(good.join("checkpoint.cosigned"), note.to_string()).unwrap();
    let report = check(&good, &key, Some(&early), &witnesses).unwrap();
    assert_eq!((report.entries, report.beyond, report.torn), (600, 0, false));
    assert_eq!((report.witnessed, report.against, report.own_key), (Some(600), Some(300), false));
    // The same keys, another history.
    let fork = world.path().join("fork");
    fs::create_dir(&fork).unwrap();
    for name in ["log.key", "log.vkey", "digest.key"] {
        fs::copy(good.join(name), fork.join(name)).unwrap();
    }
    fs::remove_file(fork.join("log.vkey")).unwrap();
    fork_from(&fork, &good);
    let none = Witnesses::none();
    assert_eq!(check(&rolled, &key, Some(&latest), &none).unwrap_err().kind, Kind::RolledBack);
    assert_eq!(check(&fork, &key, Some(&early), &none).unwrap_err().kind, Kind::Forked);
    assert_eq!(check(&fork, &key, None, &witnesses).unwrap_err().kind, Kind::Unwitnessed);
    let rounds = std::env::var("CONCORDAT_MUTATIONS").map_or(300, |rounds| rounds.parse().unwrap());
    for seed in 0..rounds {
        let mut random = Random(seed);
        for _ in 0..4 {
            random.below(1);
        }
        let what = random.below(6);
        let name = READ[random.below(READ.len())];
        let path = good.join(name);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        match what {
            0 => changed[random.below(bytes.len())] ^= 1 << random.below(8),
            1 => changed.truncate(random.below(bytes.len())),
            2 => drop(changed.remove(random.below(bytes.len()))),
            // At the tail's end it is what a crash leaves of an entry that was never acknowledged.
            5 if name != "tail" => changed.push(b'x'),
            5 => {}
            3 => {
                let (a, b) = (random.below(bytes.len()), random.below(bytes.len()));
                changed.swap(a, b);
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        if what == 4 || changed != bytes {
            if what != 4 {
                fs::write(&path, &changed).unwrap();
            }
            match check(&good, &key, Some(&early), &witnesses) {
                Ok(report) => panic!("seed {seed}: a change of kind {what} to {name} was not found: {report:?}"),
                Err(found) => assert!(expected(name).contains(&found.kind), "seed {seed}: {name}: {found:?}"),
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    check(&good, &key, Some(&early), &witnesses).unwrap();
}

/// Another history of as many entries, signed with the log's own key.
fn fork_from(fork: &Path, good: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let log = Log::open(fork, ORIGIN).unwrap();
    for _ in 0..600 {
        runtime.block_on(log.append(Entry::new("query.refused"))).unwrap();
    }
    while log.size() < 600 {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(log);
    while is_written(fork) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(signer(fork).key(), signer(good).key());
}

#[test]
fn the_first_bad_entry_is_named() {
    let world = tempfile::tempdir().unwrap();
    written(world.path(), 600);
    let key = signer(world.path()).key().clone();
    let path = world.path().join("tile/entries/001");
    let text = fs::read(&path).unwrap();
    let at = text.windows(11).position(|w| w == b"\"entry\":400").unwrap();
    let mut changed = text.clone();
    changed[at + 8] = b'5';
    fs::write(&path, changed).unwrap();
    let found = check(world.path(), &key, None, &Witnesses::none()).unwrap_err();
    assert_eq!((found.kind, found.entry), (Kind::Entry, Some(400)));
    fs::write(&path, text).unwrap();
    // Whoever has the log's key can sign any tree, and not one that follows from other entries.
    let signer = signer(world.path());
    let text = Checkpoint { origin: ORIGIN.into(), size: 600, root: [7; 32] }.text();
    fs::write(world.path().join("checkpoint"), Note::new(&text, signer.sign(&text, 0)).to_string()).unwrap();
    assert_eq!(check(world.path(), &key, None, &Witnesses::none()).unwrap_err().kind, Kind::Root);
}

#[test]
fn an_entry_that_was_changed_with_its_tile_is_not_laid_to_an_earlier_checkpoint() {
    let world = tempfile::tempdir().unwrap();
    written(world.path(), 300);
    let early = fs::read(world.path().join("checkpoint")).unwrap();
    written(world.path(), 600);
    fs::write(world.path().join("checkpoint.cosigned"), &early).unwrap();
    let key = signer(world.path()).key().clone();
    forge(world.path(), 0);
    for against in [None, Some(early.as_slice())] {
        let found = check(world.path(), &key, against, &Witnesses::none()).unwrap_err();
        assert_eq!((found.kind, found.entry), (Kind::Tile, Some(1)), "{found}");
    }
}

/// A lane of `tests/run --long`.
#[test]
#[ignore = "a measurement, in release: tests/run --long"]
fn a_million_entries_are_verified_within_half_a_minute() {
    let world = tempfile::tempdir().unwrap();
    written(world.path(), 1_000_000);
    let key = signer(world.path()).key().clone();
    let start = std::time::Instant::now();
    let report = check(world.path(), &key, None, &Witnesses::none()).unwrap();
    assert_eq!(report.entries, 1_000_000);
    println!("a million entries verified in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}
