//! The law: index and plain reading select the same; and what becomes of an index that is not the log's.

mod million;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

pub(crate) use super::table::FILE;
use super::table::Table;
use super::*;
use crate::Entry;
use crate::facts::Asked;
use crate::log::tests::{close, copy, forge, open};

const FAR: Duration = Duration::from_secs(60);

fn search(texts: &[(&str, &str)]) -> Search {
    let filter = Filter::parse(texts.iter().copied()).unwrap();
    Search { filter, concerning: None, before: None, limit: 10_000, bytes: 64 << 20 }
}

fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until all that the log has is under a checkpoint, and in the index.
pub(crate) fn caught_up(index: &Index) {
    until("the index has everything", || {
        let size = index.log.size();
        let last = crate::read(&index.shared.folder, 0).unwrap().last().map(|entry| entry.unwrap().0 + 1);
        last == Some(size) && index.is_usable() && View::open(&index.shared.folder).is_ok_and(|view| view.extent.end == size)
    });
}

/// Ends both, and waits until nobody has a file of theirs.
fn end(index: Index, log: Log, folder: &Path) {
    let thread = Arc::downgrade(&index.shared);
    drop(index);
    close(log, folder);
    until("the index's thread has ended", || thread.strong_count() == 0);
}

/// By a plain reading of the files.
fn plain(folder: &Path, search: &Search) -> Vec<u64> {
    let mut asked = Asked::default();
    let read = crate::read(folder, 0).unwrap().map(Result::unwrap);
    let taken = read.filter_map(|(index, bytes)| search.takes(&asked.complete(Facts::read(&bytes))).then_some(index + 1));
    taken.collect()
}

fn numbers(page: &Page) -> Vec<u64> {
    page.entries.iter().rev().map(|found| found.number).collect()
}

/// An entry of many kinds, by a number.
fn entry(i: usize) -> Entry {
    let (id, person) = (format!("q{}", i / 5), ["5f0c1b8a9d3e00", "5f0c1b8a9d3e01", "0123456789ab"][i % 3]);
    let department = ["dfe", "dwp", "hmrc"][i % 3];
    let sources =
        json!({ "sources": [{ "department": department, "dataset": "d", "rows": i }], "tables": [{ "dataset": "dfe.odd\u{0}name" }] });
    match i % 11 {
        0 | 5 => Entry::new("query.opened")
            .query(&id)
            .field("organisation", ["unit", "other"][i % 2])
            .field("purpose", "p")
            .field("person", person),
        1 | 6 => Entry::new("query.closed").query(&id).field("facts", sources),
        2 | 7 => Entry::new("query.refused").query(&id).field("code", "denied").field("department", department),
        3 => Entry::new("query.explained").query(&id).field("decision", "deny").field("organisation", "own"),
        4 => Entry::new("release.completed").field("dataset", "attainment").field("organisation", json!(7)),
        8 => Entry::new("caller.refused").field("organisation", "unit\u{1f}x").field("reason", "=cmd()"),
        9 => Entry::new("log.read").query(&id),
        _ => Entry::new("answer.collected").query(&id).field("organisation", "unit").field("purpose", "p.narrow"),
    }
}

async fn filled(log: &Log, from: usize, to: usize) {
    for i in from..to {
        log.append(entry(i)).await.unwrap();
    }
    until("all is under a checkpoint", || log.size() >= to as u64);
}

/// Every single condition, and pairs of them, right and wrong.
fn filters(folder: &Path) -> Vec<Search> {
    let time = |index: u64| {
        let (_, bytes) = crate::read(folder, index).unwrap().next().unwrap().unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()["time"].as_str().unwrap().to_owned()
    };
    let (early, late) = (time(100), time(400));
    let single: Vec<(&str, &str)> = vec![
        ("organisation", "unit"),
        ("organisation", "other"),
        ("organisation", "nobody"),
        ("person", "5f0c1b8a9d3e"),
        ("person", "5f0c1b8a9d3e01"),
        ("department", "dfe"),
        ("department", "d"),
        ("dataset", "dwp.d"),
        ("dataset", "attainment"),
        ("purpose", "p"),
        ("decision", "permit"),
        ("decision", "deny"),
        ("event", "query.closed"),
        ("event", "query.*"),
        ("event", "log.read"),
        ("query_id", "q20"),
        // It was read of.
        ("query_id", "q19"),
        ("from", early.as_str()),
        ("to", late.as_str()),
    ];
    let pairs = single.iter().flat_map(|one| single.iter().map(move |other| search(&[*one, *other])));
    let concerning = single.iter().map(|one| Search { concerning: Some("dwp".into()), ..search(&[*one]) });
    single.iter().map(|one| search(&[*one])).chain(pairs).chain(concerning).chain([search(&[])]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn index_and_plain_reading_select_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    filled(&log, 0, 200).await;
    let index = Index::open(&log).unwrap();
    // Queries stay open over the batches by which the index grows.
    caught_up(&index);
    filled(&log, 200, 331).await;
    caught_up(&index);
    filled(&log, 331, 600).await;
    caught_up(&index);
    let mut found = BTreeSet::new();
    for search in filters(folder.path()) {
        let expected = plain(folder.path(), &search);
        let page = index.search(&search, Instant::now() + FAR).unwrap();
        assert_eq!(numbers(&page), expected, "{search:?}");
        assert_eq!(page.before, None);
        found.insert(expected.len());
        // Page by page it is the same.
        let (mut before, mut paged) = (None, Vec::new());
        for _ in 0..expected.len() + 2 {
            let page = index.search(&Search { before, limit: 7, bytes: 900, ..search.clone() }, Instant::now() + FAR).unwrap();
            paged.extend(page.entries.iter().map(|found| found.number));
            before = page.before;
            if before.is_none() {
                break;
            }
        }
        paged.reverse();
        assert_eq!((before, paged), (None, expected.clone()), "{search:?}");
        // And as it comes, one after the other.
        let (mut follow, mut followed) = (index.follow(search.clone(), 0), Vec::new());
        while follow.is_behind() {
            followed.extend(follow.step().unwrap().into_iter().map(|found| found.number));
        }
        assert_eq!(followed, expected, "{search:?}");
    }
    assert!(found.len() > 10, "the filters tell much apart: {found:?}");
    assert_eq!(index.rebuilt(), 0, "it was made once, and added to");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_of_a_query_a_thousand_times_does_not_push_it_out_of_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    log.append(Entry::new("query.opened").query("q")).await.unwrap();
    log.append(Entry::new("query.closed").query("q")).await.unwrap();
    for _ in 0..1_100 {
        log.append(Entry::new("log.read").query("q")).await.unwrap();
    }
    let index = Index::open(&log).unwrap();
    caught_up(&index);
    let of = |texts: &[(&str, &str)]| Search { limit: 1_000, ..search(texts) };
    for usable in [true, false] {
        index.shared.usable.store(usable, Ordering::Release);
        let page = index.search(&of(&[("query_id", "q")]), Instant::now() + FAR).unwrap();
        assert_eq!((numbers(&page), page.before), (vec![1, 2], None), "{usable}");
    }
    let readings = index.search(&of(&[("query_id", "q"), ("event", "log.read")]), Instant::now() + FAR).unwrap();
    assert_eq!((readings.entries.len(), readings.before), (1_000, Some(103)));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_index_the_log_is_read_through() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    filled(&log, 0, 500).await;
    let index = Index::open(&log).unwrap();
    caught_up(&index);
    index.shared.usable.store(false, Ordering::Release);
    for search in filters(folder.path()).into_iter().take(40) {
        let looking = |view: bool| {
            let mut looking = Looking::new(&search, log.shared.proved(), Instant::now() + FAR);
            let view = View::open(folder.path()).ok().filter(|_| view);
            match view {
                Some(view) => assert!(looking.indexed(&view, log.size()).is_ok()),
                None => assert!(looking.read(0, log.size(), None).is_ok()),
            }
            numbers(&looking.page(0, 0))
        };
        assert_eq!(looking(true), looking(false), "{search:?}");
    }
    let late = index.search(&search(&[]), Instant::now());
    assert!(matches!(late, Err(SearchError::Deadline)), "{late:?}");
}

/// What the log says of its index.
fn causes(folder: &Path) -> Vec<String> {
    let entries = crate::read(folder, 0).unwrap().map(|entry| serde_json::from_slice::<Value>(&entry.unwrap().1).unwrap());
    entries.filter(|e| e["event"] == "log.reindexed").map(|e| e["cause"].as_str().unwrap().to_owned()).collect()
}

fn sql(folder: &Path, statement: &str) {
    let connection = rusqlite::Connection::open(folder.join(FILE)).unwrap();
    assert_eq!(connection.execute(statement, []).unwrap(), 1, "{statement}");
}

fn batch(folder: &Path, statements: &str) {
    rusqlite::Connection::open(folder.join(FILE)).unwrap().execute_batch(statements).unwrap();
}

/// SQLite's index over the rows leaves one out, and says that it does not.
fn hidden(folder: &Path, position: u64) {
    batch(
        folder,
        &format!(
            "PRAGMA writable_schema = ON; CREATE TABLE kept AS SELECT sql FROM sqlite_schema WHERE name = 'queries'; DROP INDEX queries;
             CREATE INDEX queries ON entries (query_id, position) WHERE query_id IS NOT NULL AND position <> {position};
             UPDATE sqlite_schema SET sql = (SELECT sql FROM kept) WHERE name = 'queries'; DROP TABLE kept"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_damaged_or_edited_is_made_anew_and_the_log_says_so_and_one_that_is_gone_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = open(path);
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 300).await;
    caught_up(&index);
    assert!(causes(path).is_empty(), "a new log's index is no matter");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path.join(FILE)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    end(index, log, path);

    let edits: [(&str, &dyn Fn()); 11] = [
        ("absent", &|| fs::remove_file(path.join(FILE)).unwrap()),
        ("damaged", &|| fs::write(path.join(FILE), b"not a database at all, but long enough to be taken for one".repeat(40)).unwrap()),
        ("damaged", &|| fs::write(path.join(FILE), b"").unwrap()),
        ("edited", &|| sql(path, "UPDATE entries SET organisation = 'nobody' WHERE position = 0")),
        ("edited", &|| sql(path, "DELETE FROM entries WHERE position = 7")),
        ("edited", &|| sql(path, "DELETE FROM entries WHERE position = (SELECT max(position) FROM entries)")),
        ("edited", &|| sql(path, "UPDATE head SET until = until - 1")),
        ("edited", &|| batch(path, "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries WHERE position = 3; END")),
        ("damaged", &|| hidden(path, 5)),
        ("edited", &|| batch(path, "DROP INDEX queries; CREATE INDEX queries ON entries (query_id, position) WHERE position <> 5")),
        ("other_version", &|| drop(rusqlite::Connection::open(path.join(FILE)).unwrap().pragma_update(None, "user_version", 99))),
    ];
    let mut expected: Vec<&str> = Vec::new();
    for (cause, edit) in edits {
        edit();
        let log = open(path);
        let index = Index::open(&log).unwrap();
        // One that is gone hides nothing. An empty file has no version.
        expected.extend((cause != "absent").then_some(if cause == "damaged" && expected.last() == Some(&"damaged") {
            "other_version"
        } else {
            cause
        }));
        until("the log says so", || causes(path).len() == expected.len());
        caught_up(&index);
        assert_eq!(causes(path), expected);
        let all = index.search(&search(&[]), Instant::now() + FAR).unwrap();
        assert_eq!(numbers(&all), (1..=all.size).collect::<Vec<_>>());
        end(index, log, path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_edited_under_a_running_program_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 300).await;
    caught_up(&index);
    let asked = search(&[("organisation", "unit")]);
    let before = plain(folder.path(), &asked);
    sql(folder.path(), &format!("UPDATE entries SET organisation = 'nobody' WHERE position = {}", before[0] - 1));
    until("it is made anew", || index.rebuilt() == 1);
    caught_up(&index);
    until("the log says so", || causes(folder.path()) == ["edited"]);
    assert_eq!(numbers(&index.search(&asked, Instant::now() + FAR).unwrap()), plain(folder.path(), &asked));

    // A reader who finds a row that is not the log's does not wait for that: an entry that the row claims for itself is not handed out.
    let seals = index.shared.seals.clone();
    let view = View::open(folder.path()).unwrap();
    let mut row = view.last(Vec::new(), (0, 9), 1).unwrap().remove(0);
    row.facts.event = Some("forged".into());
    let mut looking = Looking::new(&asked, log.shared.proved(), Instant::now() + FAR);
    assert!(matches!(looking.take(row, &view), Err(Unindexed::Differs)));
    drop(view);
    // It opens only as it was sealed.
    end(index, log, folder.path());
    assert!(Table::open(folder.path(), "another log's key", &seals).is_err());
}

/// Who can write in the folder of a stopped log and does not have `log.key` has every other secret there, or puts an own one in its place.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_somebody_else_sealed_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = open(path);
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 300).await;
    caught_up(&index);
    let (asked, key) = (search(&[("organisation", "unit")]), log.verifier_key());
    end(index, log, path);
    let mut rows = View::open(path).unwrap().last(Vec::new(), (0, 400), 400).unwrap();
    rows.reverse();
    let before = plain(path, &asked);
    rows[usize::try_from(before[0] - 1).unwrap()].facts.asker.organisation = Some("nobody".into());
    fs::write(path.join("digest.key"), [7; 32]).unwrap();
    let own = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    Table::create(path, &key, 0, &own).unwrap().add(&rows, &own).unwrap();
    assert!(Table::open(path, &key, &own).is_ok(), "as a forger would see it");

    let log = open(path);
    let index = Index::open(&log).unwrap();
    caught_up(&index);
    assert_eq!((index.rebuilt(), causes(path)), (1, vec!["edited".to_owned()]));
    assert_eq!(numbers(&index.search(&asked, Instant::now() + FAR).unwrap()), plain(path, &asked));
    end(index, log, path);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_back_or_is_another_gets_an_index_of_its_own() {
    let (folder, earlier) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path();
    let log = open(path);
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 100).await;
    caught_up(&index);
    end(index, log, path);
    copy(path, earlier.path());
    let log = open(path);
    let index = Index::open(&log).unwrap();
    filled(&log, 100, 300).await;
    caught_up(&index);
    end(index, log, path);
    let later = fs::read(path.join(FILE)).unwrap();

    // The log of before, with the index of later; then written on, beyond it, in another history.
    for (more, cause) in [(100, "log_went_back"), (400, "other_history")] {
        let back = tempfile::tempdir().unwrap();
        copy(earlier.path(), back.path());
        let log = open(back.path());
        filled(&log, 100, more).await;
        close(log, back.path());
        fs::write(back.path().join(FILE), &later).unwrap();
        let log = open(back.path());
        let index = Index::open(&log).unwrap();
        until("the log says so", || !causes(back.path()).is_empty());
        caught_up(&index);
        assert_eq!(causes(back.path()), [cause]);
        let all = search(&[]);
        assert_eq!(numbers(&index.search(&all, Instant::now() + FAR).unwrap()), plain(back.path(), &all));
        end(index, log, back.path());
    }
    // Another log's index.
    let other = tempfile::tempdir().unwrap();
    let log = open(other.path());
    filled(&log, 0, 5).await;
    fs::write(other.path().join(FILE), &later).unwrap();
    let index = Index::open(&log).unwrap();
    until("the log says so", || causes(other.path()) == ["other_log"]);
    caught_up(&index);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_to_an_archive_is_left_out_and_does_not_stay_in_the_index() {
    let (folder, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(folder.path());
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 600).await;
    // The tail lets go of what checkpoints cover when the next entry comes.
    filled(&log, 600, 601).await;
    caught_up(&index);
    let later = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let moved = crate::archive::archive(folder.path(), to.path(), later).unwrap().unwrap();
    assert_eq!((moved.first, moved.last), (1, 512));
    until("the index begins after it", || View::open(folder.path()).is_ok_and(|view| view.extent.first == 512));
    caught_up(&index);
    for search in filters(folder.path()).into_iter().take(40) {
        let page = index.search(&search, Instant::now() + FAR).unwrap();
        assert_eq!((numbers(&page), page.moved, page.before), (plain(folder.path(), &search), 512, None), "{search:?}");
    }
    assert!(causes(folder.path()).is_empty(), "log.archived tells of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_says_that_entries_were_moved_hides_none_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let log = open(path);
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 600).await;
    caught_up(&index);
    let all = search(&[]);
    let found = || {
        let page = index.search(&all, Instant::now() + FAR).unwrap();
        (numbers(&page) == (page.moved + 1..=page.size).collect::<Vec<_>>(), page.moved)
    };
    // Within the log, and beyond it.
    for said in ["512\n", "1024000\n"] {
        fs::write(path.join("archived"), said).unwrap();
        for _ in 0..20 {
            assert_eq!(found(), (true, 0), "{said}");
            std::thread::sleep(Duration::from_millis(40));
        }
    }
    assert!((index.rebuilt(), causes(path)) == (0, Vec::new()) && log.size() == 600, "there is nothing to tell of");
    // With a bundle that was taken away, of which no entry tells. What is put back is found again.
    let (bundle, aside) = (path.join("tile/entries/000"), path.join("aside"));
    fs::rename(&bundle, &aside).unwrap();
    let begins = |at: u64| until("the index begins there", || View::open(path).is_ok_and(|view| view.extent.first == at));
    begins(256);
    caught_up(&index);
    assert_eq!(found(), (true, 256));
    until("the log says so", || causes(path) == ["archived"]);
    fs::rename(&aside, &bundle).unwrap();
    assert_eq!(found(), (true, 0), "at once");
    begins(0);
    caught_up(&index);
    assert_eq!(found(), (true, 0));
    // Who does it again and again does not fill the log.
    fs::rename(&bundle, &aside).unwrap();
    until("it is left for a while", || index.trouble().is_some_and(|trouble| trouble.contains("again and again")));
    fs::rename(&aside, &bundle).unwrap();
    assert_eq!((causes(path).len(), found()), (1, (true, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_in_the_place_of_its_own_is_not_believed_and_one_that_is_removed_is_made_again() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path();
    let log = open(path);
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 100).await;
    caught_up(&index);
    end(index, log, path);
    // An older one of its own, in which an entry is hidden.
    fs::copy(path.join(FILE), other.path().join(FILE)).unwrap();
    let asked = search(&[("organisation", "unit")]);
    let hidden = plain(path, &asked)[0];
    sql(other.path(), &format!("UPDATE entries SET organisation = 'nobody' WHERE position = {}", hidden - 1));
    let log = open(path);
    let index = Index::open(&log).unwrap();
    filled(&log, 100, 300).await;
    caught_up(&index);
    let found = || numbers(&index.search(&asked, Instant::now() + FAR).unwrap());
    let remove = |names: [&str; 2]| names.iter().for_each(|name| drop(fs::remove_file(path.join(format!("{FILE}{name}")))));
    remove(["-wal", "-shm"]);
    fs::rename(other.path().join(FILE), path.join(FILE)).unwrap();
    assert_eq!(found(), plain(path, &asked), "at once");
    until("it is made anew", || index.rebuilt() == 1);
    until("the log says so", || causes(path) == ["replaced"]);
    caught_up(&index);
    assert_eq!(found(), plain(path, &asked));
    for gone in ["", "-wal"] {
        remove([gone, gone]);
        assert_eq!(found(), plain(path, &asked), "at once");
        if gone.is_empty() {
            until("it is made again", || path.join(FILE).exists());
            caught_up(&index);
            assert_eq!(found(), plain(path, &asked));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_is_who_the_entry_says_that_opened_the_query() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let opened = |id: &str, organisation: &str| Entry::new("query.opened").query(id).field("organisation", organisation);
    log.append(opened("a", "unit")).await.unwrap();
    log.append(opened("b", "other")).await.unwrap();
    log.append(Entry::new("query.closed").query("a").closes()).await.unwrap();
    until("all is under a checkpoint", || log.size() == 3);
    let index = Index::open(&log).unwrap();
    caught_up(&index);
    let all = search(&[]);
    let take = |change: &dyn Fn(&mut Facts)| {
        let view = View::open(folder.path()).unwrap();
        let mut row = view.last(Vec::new(), (0, 3), 1).unwrap().remove(0);
        change(&mut row.facts);
        Looking::new(&all, log.shared.proved(), Instant::now() + FAR).take(row, &view).map_err(|e| matches!(e, Unindexed::Differs))
    };
    assert_eq!(take(&|facts| assert_eq!(facts.asker.organisation.as_deref(), Some("unit"))), Ok(()));
    assert_eq!(take(&|facts| facts.asker.organisation = Some("other".into())), Err(true), "another one");
    assert_eq!(take(&|facts| facts.asker.person = Some("0123456789ab".into())), Err(true), "more than it says");
    assert_eq!(take(&|facts| facts.asker.organisation = None), Err(true), "nobody");
    // Where the index names another query's entry for the one that opened it.
    let edit = "UPDATE entries SET query_id = CASE position WHEN 0 THEN 'b' ELSE 'a' END WHERE position = 1";
    sql(folder.path(), edit);
    assert_eq!(take(&|facts| facts.asker.organisation = Some("other".into())), Err(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_edited_is_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 300).await;
    caught_up(&index);
    let bundle = folder.path().join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    let at = bytes.windows(4).position(|window| window == b"unit").unwrap();
    bytes[at] = b'U';
    fs::write(&bundle, bytes).unwrap();
    let all = index.search(&search(&[]), Instant::now() + FAR);
    assert!(matches!(all, Err(SearchError::Log(_))), "{all:?}");
    // Nor is it passed over, as what the filter does not take any more.
    let unit = search(&[("organisation", "unit")]);
    let plainly = || Looking::new(&unit, log.shared.proved(), Instant::now() + FAR).read(0, log.size(), None);
    assert!(matches!(plainly(), Err(Unindexed::Search(SearchError::Log(_)))));
    // What lies in other bundles still is.
    assert!(!index.search(&Search { limit: 5, ..search(&[]) }, Instant::now() + FAR).unwrap().entries.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_edited_with_its_tile_is_not_handed_out_either() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 300).await;
    caught_up(&index);
    forge(folder.path(), 0);
    let all = index.search(&search(&[]), Instant::now() + FAR);
    assert!(matches!(&all, Err(SearchError::Log(error)) if error.to_string().contains("tile/0/000")), "{all:?}");
    assert!(index.follow(search(&[]), 0).step().is_err(), "nor as it comes");
    let found = crate::query::find(&log.shared, "018bcfe5-6800-7abc-8def-012345678901", Instant::now() + FAR);
    assert!(found.is_err(), "nor is it passed over where a query is looked for: {found:?}");
    assert!(!index.search(&Search { limit: 5, ..search(&[]) }, Instant::now() + FAR).unwrap().entries.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_of_what_comes_says_that_what_it_was_to_begin_with_was_moved() {
    let (folder, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(folder.path());
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 600).await;
    filled(&log, 600, 601).await;
    crate::archive::archive(folder.path(), to.path(), chrono::Utc::now() + chrono::TimeDelta::hours(1)).unwrap().unwrap();
    for (after, moved) in [(3, 512), (255, 512), (512, 0), (550, 0)] {
        let mut follow = index.follow(search(&[]), after);
        let found = follow.step().unwrap();
        assert_eq!((found[0].number, follow.moved()), (moved.max(after) + 1, moved), "{after}");
    }
    // The last ones that were moved may stand in the tail still: then nothing is left out.
    let mut follow = index.follow(search(&[]), 511);
    let found = follow.step().unwrap();
    assert!([(512, 0), (513, 512)].contains(&(found[0].number, follow.moved())), "{} {}", found[0].number, follow.moved());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_handed_on_until_the_reader_or_the_program_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let index = Index::open(&log).unwrap();
    filled(&log, 0, 40).await;
    let follow = index.follow(search(&[("event", "log.read")]), log.size());
    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let handing = tokio::spawn(async move {
        let mut count = 0;
        let handed = follow.hand_on(&send, |found, number, _| (found, number), async { drop(ended.await) }, &mut count).await;
        (handed.is_ok(), count)
    });
    let (found, number) = receive.recv().await.unwrap();
    assert_eq!((found, number), (Vec::new(), 40), "the first message comes at once");
    filled(&log, 40, 80).await;
    let expected: Vec<u64> = (41..=80).filter(|number| (number - 1) % 11 == 9).collect();
    let mut found: Vec<u64> = Vec::new();
    while found.len() < expected.len() {
        found.extend(receive.recv().await.unwrap().0.into_iter().map(|found: Found| found.number));
    }
    assert_eq!(found, expected);
    end.send(()).unwrap();
    assert_eq!(handing.await.unwrap(), (true, found.len() as u64));

    let (send, receive) = tokio::sync::mpsc::channel(1);
    drop(receive);
    let mut count = 0;
    index.follow(search(&[]), 0).hand_on(&send, |found, _, _| found, std::future::pending(), &mut count).await.unwrap();
    assert_eq!(count, 0, "nobody was there");
}
