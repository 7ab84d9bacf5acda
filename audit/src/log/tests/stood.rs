//! What the program remembers of its log outside the log's folder.

use super::*;

/// A log's folder, and the folder of state of its program.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("log")
    }

    fn remembered(&self) -> PathBuf {
        self.path("state").join("log.json")
    }

    fn open(&self) -> Result<Log, LogError> {
        Log::open_remembered(&self.log(), ORIGIN, &self.path("state"))
    }

    /// Writes so many entries, and stops in order.
    async fn written(&self, count: usize) {
        let log = self.open().unwrap();
        append(&log, count).await;
        assert!(log.settle(Duration::from_secs(30)));
        close(log, &self.log());
    }

    /// The folder of the log is what it was when it was saved under this name.
    fn restored(&self, saved: &str) {
        std::fs::remove_dir_all(self.log()).unwrap();
        copy(&self.path(saved), &self.log());
    }

    fn events(&self) -> Vec<String> {
        objects(&self.log()).iter().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Why it is not opened; whoever checks it is told the same, and nothing is changed by either.
    fn refusal(&self) -> LogError {
        let before = (std::fs::read(self.log().join("tail")).ok(), std::fs::read(self.remembered()).ok());
        let refused = self.open().unwrap_err();
        let checked = Log::check(&self.log(), ORIGIN, &self.path("state")).unwrap_err();
        assert_eq!((checked.with_cause(), checked.remedy()), (refused.with_cause(), refused.remedy()));
        assert_eq!(before, (std::fs::read(self.log().join("tail")).ok(), std::fs::read(self.remembered()).ok()));
        refused
    }
}

#[tokio::test]
async fn a_log_that_was_cut_back_to_an_earlier_checkpoint_is_not_opened() {
    let world = World::new();
    world.written(300).await;
    copy(&world.log(), &world.path("earlier"));
    world.written(3).await;
    copy(&world.log(), &world.path("latest"));
    assert_eq!(world.events(), vec!["query.opened"; 303], "a log that begins has nothing to tell of that");
    assert!(Log::check(&world.log(), ORIGIN, &world.path("state")).is_ok());

    world.restored("earlier");
    assert!(checks_alone(&world.log()), "all of it fits together");
    let refused = world.refusal();
    assert!(refused.with_cause().contains("a checkpoint over 303 entries, and the log's is over 300: entries were cut off"), "{refused:?}");
    assert!(refused.remedy().contains("log.state_missing"), "{}", refused.remedy());

    // Written on past it, by whoever had the key for a while, it is another history.
    let other = open(&world.log());
    append(&other, 9).await;
    assert!(other.settle(Duration::from_secs(30)));
    close(other, &world.log());
    assert!(world.refusal().with_cause().contains("another history"));

    // Taken away whole it would begin anew.
    std::fs::remove_dir_all(world.log().join("tile")).unwrap();
    ["tail", "checkpoint", "log.vkey"].iter().for_each(|name| std::fs::remove_file(world.log().join(name)).unwrap());
    assert!(world.refusal().with_cause().contains("is over 0: entries were cut off"));
    // With what is remembered, it does, and tells so.
    let remembered = std::fs::read(world.remembered()).unwrap();
    std::fs::remove_file(world.remembered()).unwrap();
    world.written(1).await;
    assert_eq!(world.events(), ["log.state_missing", "query.opened"]);
    // Without its key it would be another log.
    std::fs::write(world.remembered(), remembered).unwrap();
    std::fs::remove_dir_all(world.log()).unwrap();
    assert!(world.refusal().with_cause().contains("this program remembers a log, and its folder has none"));
    assert!(!world.log().join("log.key").exists(), "no key was made in its place");

    world.restored("latest");
    world.written(1).await;
    assert_eq!(world.events(), vec!["query.opened"; 304]);
}

/// Whether the folder alone gives no reason to refuse it.
fn checks_alone(folder: &Path) -> bool {
    let state = tempfile::tempdir().unwrap();
    Log::check(folder, ORIGIN, state.path()).is_ok()
}

#[tokio::test]
async fn a_log_that_goes_further_than_is_remembered_is_continued() {
    let world = World::new();
    world.written(5).await;
    let remembered = std::fs::read(world.remembered()).unwrap();
    world.written(300).await;
    std::fs::write(world.remembered(), remembered).unwrap();
    world.written(1).await;
    assert_eq!(world.events(), vec!["query.opened"; 306]);
}

#[tokio::test]
async fn that_nothing_is_remembered_is_told_once_and_what_somebody_changed_is_refused() {
    let world = World::new();
    world.written(5).await;
    let whole = std::fs::read_to_string(world.remembered()).unwrap();
    for (what, changed) in [
        ("fewer", whole.replace("\"entries\":5", "\"entries\":4")),
        ("no entries", whole.replace("\"entries\":5", "\"entries\":0")),
        ("cut", whole[..whole.len() - 9].to_owned()),
        ("nothing", String::new()),
        ("another key", whole.replace("\"digests\":\"", "\"digests\":\"0")),
    ] {
        assert_ne!(changed, whole, "{what}");
        std::fs::write(world.remembered(), changed).unwrap();
        assert!(world.refusal().with_cause().contains("this log's key did not seal it"), "{what}");
    }
    std::fs::remove_file(world.remembered()).unwrap();
    world.written(1).await;
    assert_eq!(world.events()[5..], ["log.state_missing", "query.opened"]);
    world.written(1).await;
    assert_eq!(world.events()[7..], ["query.opened"], "it is remembered again");
}

/// Who puts a key of digests of their own in its place can tell what is digested from then on.
#[tokio::test]
async fn that_requests_are_digested_by_another_key_is_told() {
    let world = World::new();
    world.written(5).await;
    let before = world.open().unwrap();
    let digest = before.digest(b"x");
    close(before, &world.log());
    for changed in [Some([7; 32]), None] {
        match changed {
            Some(key) => std::fs::write(world.log().join("digest.key"), key).unwrap(),
            None => std::fs::remove_file(world.log().join("digest.key")).unwrap(),
        }
        world.written(1).await;
    }
    world.written(1).await;
    assert_eq!(world.events()[5..], ["digests.begun", "query.opened", "digests.begun", "query.opened", "query.opened"]);
    let told = objects(&world.log());
    assert!(told[5]["digests"] == told[7]["digests_before"] && told[5]["digests"] != told[5]["digests_before"], "{told:?}");
    assert_ne!(told[5]["digests"], digest.as_str());
}
