//! With a real log: what counts as seen, across restarts, rollbacks and clocks that went back.

use concordat_audit::Entry;
use concordat_policy::Code;
use tempfile::TempDir;

use super::*;
use crate::plan::tests::{AGREEMENT, agreed};

const SECOND: Duration = Duration::from_secs(1);

/// A majority of these departments.
pub(super) fn quorum_of(departments: &[&str]) -> Quorum {
    Quorum::new(None, names(departments), 0).unwrap()
}

fn names(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|name| Name::parse(name).unwrap()).collect()
}

/// A log, and what witnesses have seen of it.
struct World {
    folder: TempDir,
    open: Option<(Log, Witnessed)>,
}

impl World {
    fn new() -> Self {
        let mut world = Self { folder: tempfile::tempdir().unwrap(), open: None };
        world.start();
        world
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn start(&mut self) {
        while concordat_audit::is_written(&self.folder()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let log = Log::open(&self.folder(), "concordat/gateway").unwrap();
        let witnessed = Witnessed::open(&log, &self.folder(), self.folder.path(), quorum_of(&["a", "b", "c"])).unwrap();
        self.open = Some((log, witnessed));
    }

    fn stop(&mut self) {
        self.witnessed().keep().unwrap();
        self.open = None;
    }

    fn witnessed(&self) -> &Witnessed {
        &self.open.as_ref().unwrap().1
    }

    /// Appends an entry, waits for its checkpoint, and gives its number.
    async fn logged(&self) -> u64 {
        let (log, _) = self.open.as_ref().unwrap();
        let number = log.append(Entry::new("query.opened")).await.unwrap();
        while log.published().0 < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        number
    }

    fn is_awaited(&self) -> bool {
        self.witnessed().is_awaited()
    }

    fn unwitnessed(&self, after: Duration) -> Duration {
        self.witnessed().unwitnessed(SystemTime::now() + after)
    }
}

#[tokio::test]
async fn only_a_quorum_stops_the_time_and_only_for_what_it_saw() {
    let world = World::new();
    assert_eq!(world.unwitnessed(100 * SECOND), Duration::ZERO, "an empty log");
    let first = world.logged().await;
    let since = SystemTime::now();
    assert!(world.unwitnessed(100 * SECOND) >= 100 * SECOND);
    for too_few in [&[][..], &["a"], &["a", "x", "y"]] {
        world.witnessed().cosigned(first, &names(too_few), 5);
        assert!(world.unwitnessed(100 * SECOND) >= 100 * SECOND, "{too_few:?}");
    }
    let second = world.logged().await;
    assert!(!world.is_awaited(), "nobody has cosigned anything yet");
    world.witnessed().cosigned(first, &names(&["a", "c"]), 0);
    assert!(world.is_awaited(), "the second entry");
    let left = world.unwitnessed(100 * SECOND);
    assert!(left >= 100 * SECOND && left <= 100 * SECOND + SystemTime::now().duration_since(since).unwrap(), "the second entry: {left:?}");
    world.witnessed().cosigned(second + 1, &names(&["a", "b", "c"]), 0);
    assert!(!world.unwitnessed(Duration::ZERO).is_zero(), "more than there is tells nothing");
    world.witnessed().cosigned(second, &names(&["b", "c"]), 0);
    assert!(world.unwitnessed(1_000_000 * SECOND).is_zero() && !world.is_awaited(), "idle, and seen");
    world.logged().await;
    assert!(world.unwitnessed(Duration::ZERO) < 60 * SECOND, "idleness before it does not count");
}

#[tokio::test]
async fn what_was_seen_outlives_a_restart_and_what_was_not_is_not_forgotten() {
    let mut world = World::new();
    world.logged().await;
    let second = world.logged().await;
    world.witnessed().cosigned(second, &names(&["a", "b"]), 0);
    world.stop();
    world.start();
    assert_eq!(world.unwitnessed(10_000 * SECOND), Duration::ZERO, "a long downtime of a log that was seen");
    let third = world.logged().await;
    let since = SystemTime::now();
    world.stop();
    tokio::time::sleep(SECOND).await;
    world.start();
    let left = world.unwitnessed(Duration::ZERO);
    assert!(left >= SECOND, "since it was logged, and not since the start: {left:?}");
    assert!(left < SystemTime::now().duration_since(since).unwrap() + 2 * SECOND, "{left:?}");
    world.witnessed().cosigned(third, &names(&["a", "b"]), 0);
    assert_eq!(world.unwitnessed(10_000 * SECOND), Duration::ZERO);
}

#[tokio::test]
async fn a_log_that_was_rolled_back_is_unseen_from_its_first_entry_on() {
    let mut world = World::new();
    let first = world.logged().await;
    world.witnessed().cosigned(first, &names(&["a", "b"]), 0);
    world.stop();
    std::fs::write(world.folder.path().join(FILE), "{\"entries\":7}").unwrap();
    tokio::time::sleep(SECOND).await;
    world.start();
    assert!(world.unwitnessed(Duration::ZERO) >= SECOND);
    world.stop();
    let kept = || std::fs::read_to_string(world.folder.path().join(FILE)).unwrap();
    assert_eq!(kept(), "{\"entries\":7}", "it is not forgotten that more was seen");
    std::fs::write(world.folder.path().join(FILE), "{\"entries\":").unwrap();
    let log = loop {
        match Log::open(&world.folder(), "concordat/gateway") {
            Ok(log) => break log,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(Witnessed::open(&log, &world.folder(), world.folder.path(), quorum_of(&["a"])).is_err(), "a damaged file is not passed over");
}

#[tokio::test]
async fn an_agreement_stops_releases_after_its_time() {
    let world = World::new();
    let strict = agreed(&format!("max_unwitnessed = \"1s\"\n{AGREEMENT}"));
    let ample = agreed(AGREEMENT);
    let first = world.logged().await;
    assert_eq!(world.witnessed().permits(&[&strict, &ample]), Ok(()));
    tokio::time::sleep(SECOND + SECOND / 10).await;
    assert_eq!(world.witnessed().permits(&[&ample]), Ok(()));
    assert_eq!(world.witnessed().permits(&[&ample, &strict]).unwrap_err().code, Code::Unwitnessed);
    world.witnessed().cosigned(first, &names(&["a", "b"]), 0);
    assert_eq!(world.witnessed().permits(&[&ample, &strict]), Ok(()));
}
