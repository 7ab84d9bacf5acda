//! Many write and many read at once: whatever was acknowledged before a reading began is in it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

const WRITERS: usize = 4;
const READERS: usize = 4;
const EACH: usize = 40;

#[test]
fn what_was_acknowledged_is_in_every_reading_that_begins_afterwards() {
    let state = tempfile::tempdir().unwrap();
    let open = || Consent::open(state.path(), name("dfe")).unwrap();
    let person = |number: usize| format!("P{number}");
    let people: Vec<Record> = (0..WRITERS * EACH).map(|number| record(&person(number), "p", Event::Given)).collect();
    let node = open();
    node.record(&people).unwrap();
    let acknowledged: Vec<AtomicBool> = (0..WRITERS * EACH).map(|_| AtomicBool::new(false)).collect();
    let (writing, read) = (AtomicUsize::new(WRITERS), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (acknowledged, writing, node) = (&acknowledged, &writing, &node);
            // Every other one is another process, as commands are.
            let own = (writer % 2 == 1).then(open);
            scope.spawn(move || {
                let consent = own.as_ref().unwrap_or(node);
                for (number, known) in acknowledged.iter().enumerate().skip(writer * EACH).take(EACH) {
                    consent.record(&[record(&format!("P{number}"), "p", Event::Withdrawn)]).unwrap();
                    known.store(true, Ordering::SeqCst);
                }
                writing.fetch_sub(1, Ordering::SeqCst);
            });
        }
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut version = 0;
                loop {
                    let last = writing.load(Ordering::SeqCst) == 0;
                    let before: Vec<bool> = acknowledged.iter().map(|known| known.load(Ordering::SeqCst)).collect();
                    let snapshot = node.catch_up().unwrap().snapshot;
                    assert!(snapshot.version() >= version, "versions only rise");
                    version = snapshot.version();
                    let people: Vec<String> = (0..WRITERS * EACH).map(person).collect();
                    let mut found = Vec::new();
                    let purposes = [name("p")];
                    snapshot.view("nino", purposes.iter()).latest(people.iter().map(String::as_str), &mut Vec::new(), &mut found);
                    for (number, (latest, before)) in found.iter().zip(before).enumerate() {
                        assert!(!before || latest.withdrawn > latest.given, "{number} had withdrawn before version {version} was read");
                    }
                    let withdrawn = found.iter().filter(|latest| latest.withdrawn.is_some()).count();
                    assert_eq!(version as usize, WRITERS * EACH + withdrawn, "a version is its records, neither more nor fewer");
                    read.fetch_add(1, Ordering::SeqCst);
                    if last {
                        assert_eq!(withdrawn, WRITERS * EACH);
                        break;
                    }
                }
            });
        }
    });
    assert!(read.load(Ordering::SeqCst) > READERS);
}
