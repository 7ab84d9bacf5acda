use super::*;
use crate::checkpoint::Checkpoint;
use crate::note::{Algorithm, Note, Signer};
use crate::witness::{AddCheckpoint, Witness, forget};

const LOG: &str = "concordat/gateway";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn after(base: Moment, seconds: u64) -> Moment {
    Moment { wall: base.wall + s(seconds), steady: base.steady + s(seconds) }
}

/// A witness of a log whose root nobody looks at, and what is owed to it.
struct World {
    folder: tempfile::TempDir,
    witness: Witness,
    log: Signer,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let witness = Witness::open(folder.path(), "concordat/dfe/witness").unwrap();
        Self { folder, witness, log: Signer::generate(LOG, Algorithm::Ed25519).unwrap() }
    }

    fn owed(&self) -> Owed {
        Owed::open(self.folder.path()).unwrap()
    }

    /// Has the first checkpoint of the log cosigned.
    fn first(&self, size: u64) -> bool {
        let text = Checkpoint { origin: LOG.into(), size, root: [7; 32] }.text();
        let checkpoint = Note::new(&text, self.log.sign(&text, 0)).to_string();
        let request = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint };
        self.witness.add_checkpoint(LOG, self.log.key(), &request, 1, |_| Ok(())).unwrap().first
    }
}

#[test]
fn a_debt_counts_from_when_it_began_until_a_checkpoint_covers_it() {
    enum Step {
        Owes(u64, u64),
        Cosigned(u64),
    }
    use Step::{Cosigned, Owes};
    let base = Moment::now();
    for (what, steps, asked, overdue) in [
        ("nothing was ordered", &[Cosigned(5)][..], 1_000_000, 0),
        ("an order", &[Cosigned(5), Owes(6, 10)], 110, 100),
        ("more orders begin nothing anew", &[Owes(6, 10), Owes(7, 50), Owes(9, 90)], 110, 100),
        ("paid, and at rest for days", &[Owes(6, 10), Cosigned(6)], 1_000_000, 0),
        ("the first order of a morning", &[Owes(6, 10), Cosigned(8), Owes(9, 900_000)], 900_001, 1),
        ("the younger debt counts from its own time", &[Owes(6, 10), Owes(9, 50), Cosigned(8)], 110, 60),
        ("a checkpoint that covers too little", &[Owes(6, 10), Cosigned(5)], 110, 100),
        ("the same checkpoint again and again", &[Cosigned(5), Owes(6, 10), Cosigned(5), Cosigned(5)], 110, 100),
        ("what was cosigned before is not owed", &[Cosigned(9), Owes(7, 10)], 110, 0),
    ] {
        let world = World::new();
        let owed = world.owed();
        for step in steps {
            match *step {
                Owes(size, then) => owed.owe(LOG, size, after(base, then)).unwrap(),
                Cosigned(size) => owed.cosigned(LOG, size, false).unwrap(),
            }
        }
        assert_eq!(owed.overdue(LOG, after(base, asked)), s(overdue), "{what}");
        assert_eq!(owed.debts(after(base, asked)).len(), usize::from(overdue > 0), "{what}");
        assert_eq!(owed.overdue("concordat/dfe/node", after(base, asked)), Duration::ZERO, "another log owes nothing");
    }
}

#[test]
fn a_restart_begins_no_time_anew_and_remembers_what_was_paid() {
    let world = World::new();
    let ago = |seconds: u64| Moment { wall: SystemTime::now() - s(seconds), ..Moment::now() };
    world.owed().owe(LOG, 4, ago(100)).unwrap();
    let owed = world.owed();
    let overdue = owed.overdue(LOG, Moment::now());
    assert!(overdue >= s(99) && overdue < s(160), "{overdue:?}");
    assert_eq!(owed.debts(Moment::now()).first().map(|debt| (debt.size, debt.seen)), Some((4, 0)));
    // A younger debt does not take the place of the older one, in the file either.
    owed.owe(LOG, 9, ago(50)).unwrap();
    assert!(world.owed().overdue(LOG, Moment::now()) >= s(99));
    owed.cosigned(LOG, 4, false).unwrap();
    assert!(world.owed().overdue(LOG, Moment::now()) < s(90), "the younger one is kept once it is the oldest");
    // Cosigned durably, and killed before it was noted: paid.
    assert!(world.first(9));
    let owed = world.owed();
    assert_eq!((owed.overdue(LOG, Moment::now()), owed.seen(LOG)), (Duration::ZERO, 9));
}

#[test]
fn a_log_that_begins_anew_owes_nothing_of_before() {
    let world = World::new();
    let owed = world.owed();
    owed.owe(LOG, 1_000_000, Moment::now()).unwrap();
    assert!(world.first(40));
    owed.cosigned(LOG, 40, true).unwrap();
    for owed in [&owed, &world.owed()] {
        assert_eq!((owed.overdue(LOG, after(Moment::now(), 99)), owed.seen(LOG)), (Duration::ZERO, 40));
    }
    // A command has it forgotten beside the program: what is owed stays until the log is shown.
    owed.owe(LOG, 41, Moment::now()).unwrap();
    forget(world.folder.path(), LOG).unwrap();
    assert!(!world.owed().debts(after(Moment::now(), 99)).is_empty());
    assert!(world.first(3));
    owed.cosigned(LOG, 3, true).unwrap();
    assert!(world.owed().debts(after(Moment::now(), 99)).is_empty());
}

#[test]
fn what_cannot_be_kept_is_an_error_and_a_damaged_file_is_not_passed_over() {
    let world = World::new();
    let owed = world.owed();
    std::fs::create_dir(world.folder.path().join("owed.json.new")).unwrap();
    assert!(owed.owe(LOG, 4, Moment::now()).is_err());
    assert!(!owed.debts(after(Moment::now(), 9)).is_empty(), "and is owed all the same");
    std::fs::remove_dir(world.folder.path().join("owed.json.new")).unwrap();
    owed.owe(LOG, 5, Moment::now()).unwrap();
    assert_eq!(world.owed().debts(after(Moment::now(), 9)).len(), 1);
    std::fs::write(world.folder.path().join(FILE), "{\"concordat/gateway\":{\"size\":1}}").unwrap();
    assert!(Owed::open(world.folder.path()).is_err());
}

#[tokio::test]
async fn whoever_waits_is_told_when_it_is_paid() {
    let world = World::new();
    let owed = std::sync::Arc::new(world.owed());
    owed.owe(LOG, 4, Moment { wall: SystemTime::now() - s(100), ..Moment::now() }).unwrap();
    assert!(owed.paid(LOG, s(200), Duration::ZERO).await, "not too old");
    assert!(!owed.paid(LOG, s(10), Duration::from_millis(20)).await);
    let paying = std::sync::Arc::clone(&owed);
    let waits = tokio::spawn(async move { paying.paid(LOG, s(10), s(60)).await });
    tokio::task::yield_now().await;
    owed.cosigned(LOG, 4, false).unwrap();
    assert!(waits.await.unwrap());
}

#[test]
fn no_log_has_an_entry_that_is_far_beyond_what_was_cosigned() {
    let world = World::new();
    let owed = world.owed();
    assert!(owed.can_be(LOG, u64::MAX), "nothing is known of the log");
    owed.cosigned(LOG, 5, true).unwrap();
    for (entry, can_be) in [(0, true), (4, true), (5 + FURTHEST, true), (6 + FURTHEST, false), (u64::MAX, false)] {
        assert_eq!(owed.can_be(LOG, entry), can_be, "{entry}");
    }
    owed.cosigned(LOG, u64::MAX, false).unwrap();
    assert!(owed.can_be(LOG, u64::MAX));
}
