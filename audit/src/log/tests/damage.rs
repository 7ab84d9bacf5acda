//! Files that were cut, changed or removed while the log was closed.

use super::*;
use crate::key::LogKey;

#[tokio::test]
async fn a_torn_line_is_cut_off_and_kept_as_evidence() {
    let folder = written(1).await;
    let path = folder.path().join("tail");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(b"{\"entry\":2,\"ti");
    std::fs::write(&path, bytes).unwrap();
    let log = open(folder.path());
    assert_eq!(log.append(Entry::new("b")).await.unwrap(), 2);
    assert_eq!(objects(folder.path()).len(), 2);
    assert_eq!(std::fs::read(folder.path().join("torn-after-1")).unwrap(), b"{\"entry\":2,\"ti");
}

/// Each file, cut at every byte (long ones near their ends and at every 97th): the log stands as it was, or says what is wrong.
#[tokio::test]
async fn a_file_cut_at_any_byte_is_noticed() {
    let folder = written(260).await;
    let whole = entries(folder.path());
    let mut names: Vec<PathBuf> = files(folder.path(), "tile");
    names.extend(["checkpoint".into(), "tail".into()]);
    let needed = ["tile/0/001.p/4", "tile/1/000.p/1", "tile/entries/001.p/4", "checkpoint", "tail"];
    assert!(needed.iter().all(|needed| names.contains(&PathBuf::from(needed))), "{names:?}");
    for name in names {
        let path = folder.path().join(&name);
        let bytes = std::fs::read(&path).unwrap();
        for length in (0..bytes.len()).filter(|at| *at < 70 || at + 70 > bytes.len() || at % 97 == 0) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            match refusal(folder.path()) {
                Some(why) => assert!(["entry", "tile/", "checkpoint"].iter().any(|what| why.contains(what)), "{}: {why}", name.display()),
                None => {
                    wait(folder.path());
                    // A tail that lacks but the end of its last line has every entry.
                    let is_whole = name.ends_with("tail") && length + 1 == bytes.len();
                    assert!(is_whole || !needed.contains(&name.to_str().unwrap()), "{} cut at {length}", name.display());
                }
            }
            std::fs::write(&path, &bytes).unwrap();
        }
    }
    assert_eq!(refusal(folder.path()), None);
    assert_eq!(entries(folder.path()), whole);
}

/// Lines as the log in `folder`, whose last entry is `last`, would write them next.
fn next(folder: &Path, mut last: Vec<u8>, numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
    let salts = LogKey::open(&Disk::at(folder), ORIGIN).unwrap().salts().unwrap();
    let line = |number| {
        let bare = format!("{{\"entry\":{number},\"event\":\"a\",\"time\":\"2099-01-01T00:00:00.000Z\"}}");
        last = salts.salted(number, &leaf_hash(&last), bare.as_bytes());
        format!("{}\n", String::from_utf8(last.clone()).unwrap())
    };
    numbers.map(line).collect()
}

/// What no checkpoint covers yet has no other witness than the tail: of it, whole entries count, and the rest is kept as evidence.
#[tokio::test]
async fn a_tail_cut_after_the_checkpoint_keeps_whole_entries() {
    let folder = written(3).await;
    let path = folder.path().join("tail");
    let covered = std::fs::read(&path).unwrap();
    let lines = next(folder.path(), entries(folder.path()).pop().unwrap(), 4..=5);
    let added = lines.concat();
    for length in 0..=added.len() {
        // A file that had grown before it was written holds zeros there.
        for zeros in [0, if length % 16 == 0 { 70_000 } else { 1 }] {
            let other = tempfile::tempdir().unwrap();
            copy(folder.path(), other.path());
            let cut = &added.as_bytes()[..length];
            std::fs::write(other.path().join("tail"), [&covered, cut, &vec![0; zeros]].concat()).unwrap();
            let told = checked(other.path());
            let log = open(other.path());
            let left = cut.iter().filter(|byte| **byte == b'}').count();
            assert_eq!(log.append(Entry::new("b")).await.unwrap(), 4 + left as u64, "{length} {zeros}");
            let rest = if cut.ends_with(b"}") { &[] } else { &cut[lines[..left].concat().len()..] };
            let torn = std::fs::read(other.path().join(format!("torn-after-{}", 3 + left))).unwrap_or_default();
            let expected = if cut.ends_with(b"}") { Vec::new() } else { [rest, &vec![0; zeros]].concat() };
            assert!(torn == expected, "{length} {zeros}");
            // Whoever only verifies says the same of it.
            let told = told.unwrap();
            assert_eq!((told.beyond, told.torn), (left as u64, !expected.is_empty()), "{length} {zeros}");
        }
    }
}

/// Who can write in the folder and does not have its key adds nothing to a stopped log, and changes nothing that no checkpoint covers.
#[tokio::test]
async fn entries_that_the_log_did_not_write_are_not_signed() {
    let folder = written(3).await;
    let covered = std::fs::read_to_string(folder.path().join("tail")).unwrap();
    let lines = next(folder.path(), entries(folder.path()).pop().unwrap(), 4..=6);
    let swapped = lines[0].replace("2099", "2098");
    let of_another = {
        let other = written(3).await;
        next(other.path(), entries(folder.path()).pop().unwrap(), 4..=4).concat()
    };
    let salted = |number| format!("{{\"entry\":{number},\"event\":\"query.opened\",\"time\":\"\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAA\"}}\n");
    let bare = "{\"entry\":4,\"event\":\"query.opened\",\"salt\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"time\":\"\"}\n";
    for (what, added, first) in [
        ("a query that nobody asked", format!("{}{}", salted(4), salted(5)), 4),
        ("as an earlier version wrote it", bare.to_owned(), 4),
        ("without the end of its line", salted(4).trim_end().to_owned(), 4),
        ("after entries that are the log's", format!("{}{}", lines[..2].concat(), salted(6)), 6),
        ("one that was changed", format!("{swapped}{}", lines[1..].concat()), 4),
        ("one whose beginning is gone", lines[1].replace("\"entry\":5", "\"entry\":4"), 4),
        ("another log's", of_another, 4),
    ] {
        let other = tempfile::tempdir().unwrap();
        copy(folder.path(), other.path());
        let tail = format!("{covered}{added}");
        std::fs::write(other.path().join("tail"), &tail).unwrap();
        let why = refusal(other.path()).unwrap_or_else(|| panic!("{what} was not noticed"));
        assert!(why.starts_with(&format!("entry {first}, in line {first} of the tail")), "{what}: {why}");
        assert_eq!(std::fs::read_to_string(other.path().join("tail")).unwrap(), tail, "{what} was written over");
        // The way on that the error tells.
        let left: String = tail.lines().take(first - 1).map(|line| format!("{line}\n")).collect();
        std::fs::write(other.path().join("tail"), left).unwrap();
        assert_eq!(open(other.path()).append(Entry::new("b")).await.unwrap(), first as u64, "{what}");
    }
    // All that the log wrote itself is taken.
    std::fs::write(folder.path().join("tail"), format!("{covered}{}", lines.concat())).unwrap();
    assert_eq!(open(folder.path()).append(Entry::new("b")).await.unwrap(), 7);
}

/// Where one file is lost or damaged, nobody is told to restore all of them.
#[tokio::test]
async fn what_is_to_be_done_is_told_by_what_is_wrong() {
    let folder = written(3).await;
    let of = |name: &str, bytes: Option<&[u8]>| {
        let other = tempfile::tempdir().unwrap();
        copy(folder.path(), other.path());
        match bytes {
            Some(bytes) => std::fs::write(other.path().join(name), bytes).unwrap(),
            None => std::fs::remove_file(other.path().join(name)).unwrap(),
        }
        let refused = Log::open(other.path(), ORIGIN).unwrap_err();
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Log::check(other.path(), ORIGIN, state.path()).unwrap_err().with_cause(), refused.with_cause(), "{name}");
        (refused.with_cause(), refused.remedy(), other)
    };
    let (why, remedy, _) = of("log.key", None);
    assert!(why.contains("log.key is missing") && remedy.contains("restore this file from where it is kept apart"), "{why}: {remedy}");
    let (why, remedy, other) = of("checkpoint", Some(b"\xff\xfe"));
    let verify = format!("audit verify --log {}`", other.path().display());
    assert!(why.contains("the checkpoint is not what this log's key signed") && remedy.contains(&verify), "{why}: {remedy}");
}

fn checked(folder: &Path) -> Result<crate::verify::Report, crate::verify::Finding> {
    let witnesses = crate::quorum::Witnesses::none();
    crate::verify::verify(&crate::verify::Request {
        folder,
        archives: &[],
        key: None,
        against: None,
        witnesses: &witnesses,
        now: 2_000_000_000,
    })
}

/// What no crash leaves is a damage, though no checkpoint covers it, and the tail stays as it is.
#[tokio::test]
async fn an_end_that_no_crash_leaves_is_reported() {
    let folder = written(3).await;
    let covered = std::fs::read(folder.path().join("tail")).unwrap();
    let line = "{\"entry\":4,\"event\":\"a\",\"time\":\"2099-01-01T00:00:00.000Z\"}";
    for (what, end) in [
        ("another text", "something else".to_owned()),
        ("a changed byte", line[..20].replace("\"event", "\u{1}event")),
        ("a hole", format!("{}\0\0\0\0{}", &line[..10], &line[14..])),
        ("a hole before whole lines", format!("\0\0\0\0{}\n", &line[4..])),
        ("another number", line.replace('4', "5")),
        ("something behind it", format!("{line}{line}")),
        ("no object", "[".to_owned()),
        ("a line that is too long", format!("{{\"entry\":4,\"x\":\"{}", "x".repeat(70_000))),
    ] {
        let other = tempfile::tempdir().unwrap();
        copy(folder.path(), other.path());
        let tail = [&covered, end.as_bytes()].concat();
        std::fs::write(other.path().join("tail"), &tail).unwrap();
        let why = refusal(other.path()).unwrap_or_else(|| panic!("{what} was not noticed"));
        assert!(why.contains("entry 4, in line 4 of the tail, is under no checkpoint, and it is not what was written"), "{what}: {why}");
        assert!(std::fs::read(other.path().join("tail")).unwrap() == tail, "{what} was written over");
        assert!(checked(other.path()).is_err(), "{what}");
        let remedy = Log::open(other.path(), ORIGIN).unwrap_err().remedy();
        assert!(remedy.contains("its first 3 line(s) stay") && !remedy.contains("backup"), "{what}: {remedy}");
        std::fs::write(other.path().join("tail"), &covered).unwrap();
        assert_eq!(refusal(other.path()), None, "{what}");
    }
    // Nor is anything cut off where an entry is missing that the checkpoint covers.
    let cut = &covered[..covered.len() - 10];
    std::fs::write(folder.path().join("tail"), cut).unwrap();
    assert!(refusal(folder.path()).unwrap().contains("entry 3 is missing"));
    assert!(std::fs::read(folder.path().join("tail")).unwrap() == cut && !folder.path().join("torn-after-2").exists());
}

fn wait(folder: &Path) {
    while is_written(folder) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

type Damage = fn(&Path);

fn edit(path: PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn lines(path: PathBuf, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(|line| format!("{line}\n")).collect();
    change(&mut lines);
    std::fs::write(path, lines.concat()).unwrap();
}

/// Changes the last place of a word.
fn last(bytes: &mut [u8], word: &[u8]) {
    let at = bytes.windows(word.len()).rposition(|window| window == word).unwrap();
    bytes[at] ^= 0x20;
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_and_named() {
    let folder = written(300).await;
    let cases: [(&str, Damage, &str); 14] = [
        ("no tail", |f| std::fs::remove_file(f.join("tail")).unwrap(), "the tail is missing"),
        ("an empty tail", |f| std::fs::write(f.join("tail"), "").unwrap(), "entry 257 is missing"),
        ("no checkpoint", |f| std::fs::remove_file(f.join("checkpoint")).unwrap(), "the checkpoint is missing"),
        ("no key", |f| std::fs::remove_file(f.join("log.key")).unwrap(), "without its key"),
        ("a line fewer at the end", |f| lines(f.join("tail"), |l| drop(l.pop())), "entry 300 is missing"),
        ("the first line fewer", |f| lines(f.join("tail"), |l| drop(l.remove(0))), "is missing: the tail begins"),
        ("a line fewer within", |f| lines(f.join("tail"), |l| drop(l.remove(7))), "in the tail is not what was written"),
        ("two lines swapped", |f| lines(f.join("tail"), |l| l.swap(3, 4)), "in the tail is not what was written"),
        ("a word changed in the tail", |f| edit(f.join("tail"), |b| last(b, b"opened")), "entry 300 in the tail is not what the tree"),
        ("a word changed in a bundle", |f| edit(f.join("tile/entries/001.p/44"), |b| last(b, b"opened")), "entry 300 is not what"),
        ("a bit of a leaf", |f| edit(f.join("tile/0/001.p/44"), |b| b[3 * 32] ^= 1), "entry 260 is not what"),
        ("a bit of a higher tile", |f| edit(f.join("tile/1/000.p/1"), |b| b[3] ^= 1), "do not give the root"),
        ("a tile removed", |f| std::fs::remove_file(f.join("tile/1/000.p/1")).unwrap(), "tile/1/000.p/1 is missing"),
        ("a size changed", |f| lines(f.join("checkpoint"), |l| l[1] = "256\n".into()), "not what this log's key signed"),
    ];
    for (what, damage, says) in cases {
        let other = tempfile::tempdir().unwrap();
        copy(folder.path(), other.path());
        damage(other.path());
        let found = || ["tail", "checkpoint"].map(|name| std::fs::read(other.path().join(name)).ok());
        let before = found();
        let why = refusal(other.path()).unwrap_or_else(|| panic!("{what} was not noticed"));
        assert!(why.contains(says), "{what}: {why}");
        assert!(before == found(), "{what} was written over");
    }
}

/// Under the open log: nothing is acknowledged before the tail has again what was.
#[tokio::test]
async fn a_tail_that_is_cut_or_moved_while_the_log_is_open_stops_it() {
    let cases: [(&str, Damage); 5] = [
        ("cut", |tail| edit(tail.to_owned(), |bytes| bytes.truncate(bytes.len() - 10))),
        ("emptied", |tail| std::fs::write(tail, "").unwrap()),
        ("moved", |tail| std::fs::rename(tail, tail.with_extension("aside")).unwrap()),
        ("removed", |tail| std::fs::remove_file(tail).unwrap()),
        ("replaced", |tail| {
            let new = tail.with_extension("new");
            std::fs::copy(tail, &new).unwrap();
            edit(new.clone(), |bytes| last(bytes, b"opened"));
            std::fs::rename(new, tail).unwrap();
        }),
    ];
    for covered in [true, false] {
        for (what, damage) in cases {
            let folder = tempfile::tempdir().unwrap();
            let has_entries = |folder: &Path| std::fs::metadata(folder.join("tail")).is_ok_and(|tail| tail.len() > 0);
            let stuck = move |step, path: &Path| match step == crate::disk::Step::Rename && path.ends_with("checkpoint") {
                true if !covered && path.parent().is_some_and(has_entries) => Err(io::Error::other("stuck")),
                _ => Ok(()),
            };
            let log = opened(folder.path(), Arc::new(stuck)).unwrap();
            for _ in 0..3 {
                log.append(Entry::new("query.opened").closes()).await.unwrap();
            }
            if covered {
                until_covered(&log, 3).await;
            }
            let tail = folder.path().join("tail");
            let whole = std::fs::read(&tail).unwrap();
            damage(&tail);
            for round in 0..3 {
                let refused = log.append(Entry::new("b").closes()).await;
                let Err(LogError::Write(cause)) = refused else { panic!("{what}: {refused:?}") };
                let says = if round == 0 { "the tail was changed while the log is open" } else { "entr" };
                assert!(cause.to_string().contains(says), "{what}: {cause}");
            }
            assert!(log.is_failing(), "{what}");
            std::fs::write(&tail, &whole).unwrap();
            assert_eq!(log.append(Entry::new("b").closes()).await.unwrap(), 4, "{what}");
            let now = std::fs::read(&tail).unwrap();
            assert!(now.starts_with(&whole) && now.len() > whole.len(), "{what}");
        }
    }
    // What somebody added is kept as evidence, and what was acknowledged stays.
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    append(&log, 3).await;
    edit(folder.path().join("tail"), |bytes| bytes.extend(b"{\"entry\":4}\n"));
    assert!(matches!(log.append(Entry::new("b")).await, Err(LogError::Write(_))));
    assert_eq!(log.append(Entry::new("b")).await.unwrap(), 4);
    assert_eq!(std::fs::read(folder.path().join("torn-after-3")).unwrap(), b"{\"entry\":4}\n");
}

#[tokio::test]
async fn an_older_checkpoint_is_signed_anew_over_the_same_entries() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    append(&log, 280).await;
    until_covered(&log, 280).await;
    let old = std::fs::read(folder.path().join("checkpoint")).unwrap();
    append(&log, 20).await;
    until_covered(&log, 300).await;
    let root = log.shared.key.read(&log.checkpoint()).unwrap().root;
    close(log, folder.path());
    // As after a crash before the last checkpoint.
    std::fs::write(folder.path().join("checkpoint"), old).unwrap();
    let log = open(folder.path());
    until_covered(&log, 300).await;
    assert_eq!(log.shared.key.read(&log.checkpoint()).unwrap().root, root);
    assert_eq!(entries(folder.path()).len(), 300);
}
