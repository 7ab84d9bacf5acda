//! The file behind the kill switch: durable, numbered, and never read as less than it said.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::book::{ChangeError, Outcome, Wanted, change};
use super::*;
use crate::fixture::name;

/// Both files in one folder.
fn both(folder: &Path) -> Folders {
    Folders::new(folder, folder)
}

fn act(state: &Path, act: Act, agreement: Option<&str>) -> Result<(Outcome, Book), ChangeError> {
    let (agreement, held) = (agreement.map(name), BTreeSet::from([name("one"), name("two")]));
    let wanted =
        Wanted { act, agreement: agreement.as_ref(), by: &Person::here().unwrap(), reason: Some("complaint 17"), held: Some(&held) };
    change(&both(state), &wanted)
}

/// Which of `one` and `two` a node permits that starts now.
fn permitted(state: &Path) -> [bool; 2] {
    let fresh = Suspensions::at(name("dfe"), both(state));
    ["one", "two"].map(|agreement| fresh.permits(&name(agreement)).is_ok())
}

#[test]
fn everything_and_single_agreements_are_independent_and_outlive_the_process() {
    use Act::{Resumed, Suspended};
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    assert_eq!(permitted(&state), [true, true], "nothing was ever suspended, not even the folder is there");
    let steps: [(Act, Option<&str>, Outcome, [bool; 2]); 7] = [
        (Suspended, Some("one"), Outcome::Changed(1), [false, true]),
        (Suspended, Some("one"), Outcome::Unchanged, [false, true]),
        (Suspended, None, Outcome::Changed(2), [false, false]),
        (Resumed, Some("two"), Outcome::Unchanged, [false, false]),
        (Resumed, None, Outcome::Changed(3), [false, true]),
        (Resumed, Some("one"), Outcome::Changed(4), [true, true]),
        (Resumed, None, Outcome::Unchanged, [true, true]),
    ];
    for (what, agreement, outcome, expected) in steps {
        assert_eq!(act(&state, what, agreement).unwrap().0, outcome, "{what:?} {agreement:?}");
        assert_eq!(permitted(&state), expected, "after {what:?} {agreement:?}");
    }
    let mode = fs::metadata(state.join("suspensions")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_has_ended_is_never_resumed() {
    use Act::{Ended, Resumed, Suspended};
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    let steps: [(Act, Option<&str>, Outcome, [bool; 2]); 7] = [
        (Suspended, Some("one"), Outcome::Changed(1), [false, true]),
        (Ended, Some("one"), Outcome::Changed(2), [false, true]),
        (Resumed, Some("one"), Outcome::Unchanged, [false, true]),
        (Suspended, Some("one"), Outcome::Unchanged, [false, true]),
        (Ended, Some("one"), Outcome::Unchanged, [false, true]),
        (Ended, Some("two"), Outcome::Changed(3), [false, false]),
        (Resumed, None, Outcome::Unchanged, [false, false]),
    ];
    for (what, agreement, outcome, expected) in steps {
        assert_eq!(act(state, what, agreement).unwrap().0, outcome, "{what:?} {agreement:?}");
        assert_eq!(permitted(state), expected, "after {what:?} {agreement:?}");
    }
    let refusal = Suspensions::at(name("dfe"), both(state)).permits(&name("one")).unwrap_err();
    assert!(refusal.code == Code::Denied && refusal.message.contains("has ended the agreement 'one'"), "{refusal}");
    let book = book::read(&both(state), 0).unwrap();
    let events: Vec<String> = book.changes.iter().map(|change| format!("{:?}", entry(change))).collect();
    assert!(events.last().unwrap().contains("agreement.ended"), "{events:?}");
}

#[test]
fn the_refusal_names_department_agreement_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    act(folder.path(), Act::Suspended, Some("one")).unwrap();
    let suspensions = Suspensions::at(name("dfe"), both(folder.path()));
    let refusal = suspensions.permits(&name("one")).unwrap_err();
    assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some("dfe")));
    assert!(refusal.message.contains("has suspended the agreement 'one'") && refusal.advice.is_some(), "{refusal:?}");
    assert!(!format!("{refusal:?}").contains("complaint"), "the reason is the department's own");
    act(folder.path(), Act::Suspended, None).unwrap();
    assert!(suspensions.permits(&name("two")).unwrap_err().message.contains("has suspended the agreement 'two'"));
}

#[test]
fn a_file_with_any_one_bit_changed_suspends_everything() {
    let folder = tempfile::tempdir().unwrap();
    act(folder.path(), Act::Suspended, Some("one")).unwrap();
    let path = folder.path().join("suspensions");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, bad).unwrap();
        assert_eq!(permitted(folder.path()), [false, false], "byte {at}");
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert_eq!(permitted(folder.path()), [false, false], "{length} bytes of it");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(permitted(folder.path()), [false, true]);
}

#[test]
fn a_file_that_is_gone_or_old_suspends_everything_and_tells_why() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    let path = state.join("suspensions");
    act(state, Act::Suspended, Some("one")).unwrap();
    let backup = fs::read(&path).unwrap();
    act(state, Act::Suspended, Some("two")).unwrap();
    let running = Suspensions::at(name("dfe"), both(state));
    fs::write(&path, &backup).unwrap();
    // A node that runs saw the newer one; one that starts knows it by what its log has.
    assert!(running.permits(&name("three")).unwrap_err().operator.unwrap().contains("an old copy"));
    assert_eq!(permitted(state), [false, true], "nobody can know yet");
    running.logged(2).unwrap();
    assert_eq!(permitted(state), [false, false]);
    fs::remove_file(&path).unwrap();
    let refusal = Suspensions::at(name("dfe"), both(state)).permits(&name("one")).unwrap_err();
    assert_eq!(refusal.code, Code::NodeRefused);
    let operator = refusal.operator.unwrap();
    assert!(operator.contains("is gone") && operator.contains("`concordat-node suspend`"), "{operator}");
    fs::create_dir(&path).unwrap();
    assert_eq!(permitted(state), [false, false], "not even a file");
}

#[test]
fn only_suspending_everything_mends_a_damaged_file_and_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    act(state, Act::Suspended, Some("one")).unwrap();
    for damaged in ["suspensions", "suspensions-logged"] {
        fs::write(state.join(damaged), "rubbish").unwrap();
        for (what, agreement) in [(Act::Suspended, Some("one")), (Act::Resumed, None), (Act::Resumed, Some("one"))] {
            assert!(matches!(act(state, what, agreement), Err(ChangeError::Damage(_))), "{damaged} {what:?}");
        }
        let (outcome, book) = act(state, Act::Suspended, None).unwrap();
        assert!(matches!(outcome, Outcome::Changed(_)) && book.changes.iter().all(|change| change.replaced_damaged_file));
        act(state, Act::Resumed, None).unwrap();
        assert_eq!(permitted(state), [false, false], "each is suspended by itself, too");
        act(state, Act::Resumed, Some("two")).unwrap();
        assert_eq!(permitted(state), [false, true]);
        let kept =
            fs::read_dir(state).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&format!("{damaged}.damaged-")));
        assert_eq!(kept.count(), 1, "the evidence of {damaged} is kept");
    }
}

#[test]
fn every_change_waits_for_the_log_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    let suspensions = Suspensions::at(name("dfe"), both(state));
    let numbers = || suspensions.news().1.iter().map(|change| change.number).collect::<Vec<_>>();
    act(state, Act::Suspended, Some("one")).unwrap();
    act(state, Act::Suspended, None).unwrap();
    act(state, Act::Resumed, Some("one")).unwrap();
    assert_eq!(numbers(), [1, 2, 3]);
    suspensions.logged(2).unwrap();
    assert_eq!(numbers(), [3]);
    let (_, book) = act(state, Act::Resumed, None).unwrap();
    assert_eq!(book.changes.iter().map(|change| change.number).collect::<Vec<_>>(), [3, 4], "what the log has need not be kept");
    let entry = entry(&suspensions.news().1[0]);
    assert_eq!(entry.get("agreement").unwrap(), "one");
    assert_eq!((entry.get("everything").unwrap(), entry.get("reason_given").unwrap()), (&false.into(), &true.into()));
    assert!(entry.get("user").is_some() && entry.get("uid").is_some() && !format!("{entry:?}").contains("complaint"));
}

#[test]
fn commands_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    std::thread::scope(|scope| {
        for index in 0..8 {
            scope.spawn(move || act(state, Act::Suspended, Some(&format!("a{index}"))).unwrap());
        }
    });
    let book = book::read(&both(state), 0).unwrap();
    assert_eq!((book.last, book.suspended.len(), book.changes.len()), (8, 8, 8));
    assert_eq!(book.changes.iter().map(|change| change.number).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_waits_learns_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let suspensions = Arc::new(Suspensions::at(name("dfe"), both(folder.path())));
    let waiting = tokio::spawn(Arc::clone(&suspensions).suspended(name("one")));
    act(folder.path(), Act::Suspended, Some("two")).unwrap();
    suspensions.look();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "another agreement");
    act(folder.path(), Act::Suspended, None).unwrap();
    suspensions.look();
    assert_eq!(waiting.await.unwrap().code, Code::Denied);
}

#[test]
fn a_state_folder_that_was_restored_lifts_no_suspension() {
    let (old, state, log) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folders = Folders::new(state.path(), log.path());
    let held = BTreeSet::from([name("one"), name("two")]);
    let change = |act, agreement: Option<&Name>, held| {
        change(&folders, &Wanted { act, agreement, by: &Person::here().unwrap(), reason: None, held })
    };
    change(Act::Suspended, Some(&name("two")), Some(&held)).unwrap();
    let (backup, file) = (old.path().join("suspensions"), state.path().join("suspensions"));
    fs::copy(&file, &backup).unwrap();
    let suspensions = Suspensions::at(name("dfe"), folders.clone());
    let (outcome, _) = change(Act::Suspended, Some(&name("one")), Some(&held)).unwrap();
    assert_eq!(outcome, Outcome::Changed(2));
    suspensions.logged(2).unwrap();
    drop(suspensions);
    for restore in [true, false] {
        // The file of the day before, or none.
        if restore {
            fs::copy(&backup, &file).unwrap();
        } else {
            fs::remove_file(&file).unwrap();
        }
        let fresh = Suspensions::at(name("dfe"), folders.clone());
        for agreement in ["one", "two"] {
            assert_eq!(fresh.permits(&name(agreement)).unwrap_err().code, Code::NodeRefused, "{restore} {agreement}");
        }
    }
    // While nobody can tell which agreements there are, a new file would forget some: everything stays suspended.
    assert!(matches!(change(Act::Suspended, None, None), Err(ChangeError::Damage(_))));
    change(Act::Suspended, None, Some(&held)).unwrap();
    change(Act::Resumed, None, Some(&held)).unwrap();
    let fresh = Suspensions::at(name("dfe"), folders);
    assert!(["one", "two"].iter().all(|agreement| fresh.permits(&name(agreement)).is_err()));
}
