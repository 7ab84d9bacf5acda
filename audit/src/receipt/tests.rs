//! Receipts that the real log gave, and ones of a log that lies.

use std::time::Duration;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::note::{Note, Signer};
use crate::proof::root_over;
use crate::proof::tests::{consistency, path};
use crate::{Answered, Entry, Log, promise_message};

const ORIGIN: &str = "concordat/gateway";
const NOW: u64 = 2_000_000_000;

/// A log of 7 entries that is written here, its promise of the fifth, and two witnesses.
struct World {
    log: Signer,
    witnesses: [Signer; 2],
    leaves: Vec<Hash>,
}

fn entry(index: u8) -> Vec<u8> {
    format!("{{\"entry\":{index}}}").into_bytes()
}

impl World {
    fn new() -> Self {
        let witness = |name: &str| Signer::generate(name, Algorithm::Cosignature).unwrap();
        let log = Signer::generate(ORIGIN, Algorithm::Ed25519).unwrap();
        Self { log, witnesses: [witness("dfe"), witness("dwp")], leaves: (0..7).map(|i| leaf_hash(&entry(i))).collect() }
    }

    fn promise(&self, index: u64, leaf_hash: Hash) -> Promise {
        self.promise_of(index, leaf_hash, None)
    }

    fn promise_of(&self, index: u64, leaf_hash: Hash, answer: Option<Answered>) -> Promise {
        let time = "2027-04-01T10:00:00.000Z".to_owned();
        let signature = self.log.sign_message(&promise_message(ORIGIN, index, &leaf_hash, answer.as_ref(), &time));
        Promise { origin: ORIGIN.into(), index, leaf_hash, answer, time, signature }
    }

    fn checkpoint(&self, leaves: &[Hash], witnesses: usize) -> String {
        let root = root_over(leaves).unwrap();
        let text = Checkpoint { origin: ORIGIN.into(), size: leaves.len() as u64, root }.text();
        let mut note = Note::new(&text, self.log.sign(&text, 0));
        self.witnesses.iter().take(witnesses).for_each(|witness| note.add(witness.sign(&text, 1_900_000_000)));
        note.to_string()
    }

    fn receipt(&self, index: u8, leaves: &[Hash], witnesses: usize) -> Receipt {
        let at = usize::from(index);
        Receipt {
            index: index.into(),
            leaf_hash: leaves[at],
            entry: Some(entry(index)),
            promise: Some(self.promise(index.into(), leaves[at])),
            proof: path(at, leaves),
            checkpoint: self.checkpoint(leaves, witnesses),
        }
    }

    fn both(&self) -> Witnesses {
        Witnesses::new(self.witnesses.iter().map(|witness| witness.key().clone()).collect(), Some(2)).unwrap()
    }

    fn request<'a>(&'a self, witnesses: &'a Witnesses) -> Request<'a> {
        Request { key: self.log.key(), witnesses, promise: None, checkpoint: None, consistency: None, now: NOW }
    }
}

/// A receipt with another leaf at the place of the fifth entry, as a log that rewrote its history gives it.
fn rewritten(world: &World) -> Receipt {
    let mut leaves = world.leaves.clone();
    leaves[4] = leaf_hash(b"something else");
    Receipt { entry: None, promise: None, ..world.receipt(4, &leaves, 2) }
}

#[test]
fn a_receipt_proves_its_entry_and_names_who_cosigned() {
    let world = World::new();
    let (both, nobody) = (world.both(), Witnesses::none());
    let receipt = world.receipt(4, &world.leaves, 2);
    let read = Receipt::read(receipt.write().as_bytes()).unwrap();
    assert_eq!((&read, read.cosignatures()), (&receipt, 2));
    let verified = world.request(&both).verify(&read).unwrap();
    assert_eq!((verified.origin.as_str(), verified.number, verified.size), (ORIGIN, 5, 7));
    assert_eq!(verified.promised.as_deref(), Some("2027-04-01T10:00:00.000Z"));
    assert_eq!(verified.cosigned, [("dfe".to_owned(), 1_900_000_000), ("dwp".to_owned(), 1_900_000_000)]);
    assert!(world.request(&nobody).verify(&read).unwrap().cosigned.is_empty());
    // Neither the entry's bytes nor a promise is needed for the proof.
    let bare = Receipt { entry: None, promise: None, ..receipt };
    assert_eq!(world.request(&both).verify(&bare).unwrap().promised, None);
    assert!(!bare.write().contains("entry") && !bare.write().contains("promise"));
}

#[test]
fn no_byte_of_a_receipt_can_be_another_one() {
    let world = World::new();
    let both = world.both();
    let text = world.receipt(4, &world.leaves, 2).write().into_bytes();
    for at in 0..text.len() {
        for other in [text[at] ^ 1, text[at] ^ 0x20, b' ', b'\n', b'0', b'A'] {
            let mut changed = text.clone();
            changed[at] = other;
            if changed != text {
                let found = Receipt::read(&changed).and_then(|receipt| world.request(&both).verify(&receipt));
                let found = found.expect_err(&format!("byte {at} as {other}"));
                assert!(!matches!(found, ReceiptError::Misbehaviour(_)), "byte {at} as {other}: a change is no proof against the log");
            }
        }
        let cut = Receipt::read(&text[..at]).and_then(|receipt| world.request(&both).verify(&receipt));
        assert!(cut.is_err(), "cut at {at}");
    }
}

#[test]
fn no_byte_of_a_promise_can_be_another_one() {
    let world = World::new();
    for promise in [world.promise(4, world.leaves[4]), world.promise_of(4, world.leaves[4], Some(answered("q-1")))] {
        let text = promise.write().into_bytes();
        assert_eq!(Promise::read(&text).unwrap(), promise);
        let compact = serde_json::to_vec(&serde_json::to_value(&promise).unwrap()).unwrap();
        assert_eq!(Promise::read(&compact).unwrap().verify(world.log.key()), Ok(()), "in any spacing");
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            let found = Promise::read(&changed).and_then(|promise| promise.verify(world.log.key()));
            assert!(found.is_err(), "byte {at}");
        }
    }
}

fn answered(query_id: &str) -> Answered {
    Answered { query_id: query_id.into(), rows: 3, salt: [1; 32], digest: [2; 32] }
}

#[test]
fn a_promise_is_of_one_answer_alone() {
    let world = World::new();
    let of = |answer: Option<Answered>| world.promise_of(4, world.leaves[4], answer);
    // What is signed of one answer, or of none, is not signed of another.
    let promise = of(Some(answered("q-1")));
    let others = [
        Promise { answer: None, ..promise.clone() },
        Promise { answer: Some(answered("q-2")), ..promise.clone() },
        Promise { answer: Some(Answered { rows: 4, ..answered("q-1") }), ..promise.clone() },
        Promise { answer: Some(Answered { salt: [2; 32], ..answered("q-1") }), ..promise.clone() },
        Promise { answer: Some(Answered { digest: [1; 32], ..answered("q-1") }), ..promise.clone() },
        Promise { answer: Some(answered("q-1")), ..of(None) },
    ];
    for other in others {
        assert_eq!(other.verify(world.log.key()), Err(ReceiptError::Promise(ORIGIN.into())), "{other:?}");
    }
    let text = promise.write();
    for (changed, says) in [
        (text.replace("promise/v2", "promise/v1"), "is not 'concordat.promise/v2'"),
        (text.replace("q-1", "q\\n1"), "query id or number of rows"),
        (text.replace("q-1", ""), "query id or number of rows"),
        (text.replace("q-1", &"q".repeat(65)), "query id or number of rows"),
        (text.replace("\"rows\": 3", "\"rows\": -3"), "not what it should be"),
        (of(None).write().replace("promise/v1", "promise/v2"), "is not 'concordat.promise/v1'"),
    ] {
        let found = Promise::read(changed.as_bytes()).unwrap_err().to_string();
        assert!(found.contains(says), "{says}: {found}");
    }
}

#[test]
fn a_promise_with_the_entry_of_another_answer_is_proof_of_misbehaviour() {
    let mut world = World::new();
    let nobody = Witnesses::none();
    let (digest, other) = (answered("q-1").digest_text(), Answered { digest: [9; 32], ..answered("q-1") }.digest_text());
    for (query_id, digest, is_of) in [("q-1", &digest, true), ("q-2", &digest, false), ("q-1", &other, false)] {
        let bytes = format!("{{\"entry\":5,\"query_id\":\"{query_id}\",\"facts\":{{\"answer_digest\":\"{digest}\"}}}}").into_bytes();
        world.leaves[4] = leaf_hash(&bytes);
        let promise = world.promise_of(4, world.leaves[4], Some(answered("q-1")));
        let whole = Receipt { entry: Some(bytes), promise: None, ..world.receipt(4, &world.leaves, 0) };
        let verify = |receipt: &Receipt| Request { promise: Some(&promise), ..world.request(&nobody) }.verify(receipt);
        match verify(&whole) {
            Ok(verified) => assert!(is_of && verified.answer == promise.answer, "{query_id}"),
            Err(found) => assert!(!is_of && found.to_string().contains("is of something else"), "{query_id}: {found}"),
        }
        // Who sees its hash alone cannot tell, and holds the log's word for who can.
        assert_eq!(verify(&Receipt { entry: None, ..whole }).unwrap().answer, promise.answer);
    }
    assert!(!answered("q-1").is_of(b"no JSON"));
}

#[test]
fn a_promise_that_was_not_kept_is_proof_of_misbehaviour() {
    let world = World::new();
    let (both, nobody) = (world.both(), Witnesses::none());
    let promise = world.promise(4, world.leaves[4]);
    let other = rewritten(&world);
    // The rewritten history is sound in itself: only the promise shows what was done.
    assert!(world.request(&both).verify(&other).is_ok());
    let kept_by_the_caller = Request { promise: Some(&promise), ..world.request(&nobody) }.verify(&other);
    let in_the_receipt = world.request(&both).verify(&Receipt { promise: Some(promise.clone()), ..other.clone() });
    for found in [kept_by_the_caller, in_the_receipt] {
        let found = found.unwrap_err();
        assert!(matches!(found, ReceiptError::Misbehaviour(_)), "{found}");
        let words = found.to_string();
        assert!(
            words.contains("proof of misbehaviour") && words.contains("promised entry 5") && words.contains("another entry"),
            "{words}"
        );
    }
    // What the log did not sign proves nothing against it.
    let stranger = World::new();
    let forged = stranger.promise(4, world.leaves[4]);
    let found = Request { promise: Some(&forged), ..world.request(&nobody) }.verify(&other);
    assert_eq!(found, Err(ReceiptError::Promise(ORIGIN.into())));
    let unsigned = Receipt { checkpoint: stranger.checkpoint(&world.leaves, 0), ..other.clone() };
    let found = Request { promise: Some(&promise), ..world.request(&nobody) }.verify(&unsigned);
    assert!(matches!(found, Err(ReceiptError::Checkpoint(_))), "{found:?}");
    let another = world.promise(3, world.leaves[3]);
    let found = Request { promise: Some(&another), ..world.request(&nobody) }.verify(&other);
    assert_eq!(found, Err(ReceiptError::Another { promised: 4, number: 5 }));
}

#[test]
fn two_histories_of_one_size_are_proof_of_misbehaviour() {
    let world = World::new();
    let nobody = Witnesses::none();
    let (receipt, other) = (world.receipt(4, &world.leaves, 0), rewritten(&world));
    let against = |checkpoint: &str| Request { checkpoint: Some(checkpoint.as_bytes()), ..world.request(&nobody) }.verify(&receipt);
    let found = against(&other.checkpoint).unwrap_err();
    assert!(found.to_string().contains("two different histories of 7 entries"), "{found}");
    assert!(against(&receipt.checkpoint).is_ok());
    assert!(matches!(against(&World::new().checkpoint(&world.leaves, 0)), Err(ReceiptError::Checkpoint(_))));
}

#[test]
fn another_checkpoint_needs_a_proof_and_brings_its_cosignatures() {
    let world = World::new();
    let both = world.both();
    let receipt = world.receipt(1, &world.leaves[..4], 0);
    let later = world.checkpoint(&world.leaves, 2);
    let proof = consistency(4, &world.leaves);
    let good = Consistency { from: 4, to: 7, proof };
    assert_eq!(Consistency::read(good.write().as_bytes()).unwrap(), good);
    let verify = |consistency: Option<&Consistency>| {
        Request { checkpoint: Some(later.as_bytes()), consistency, ..world.request(&both) }.verify(&receipt)
    };
    assert_eq!(verify(Some(&good)).unwrap().cosigned.len(), 2);
    assert_eq!(world.request(&both).verify(&receipt), Err(ReceiptError::Unwitnessed { cosigned: 0, quorum: 2 }));
    let mut wrong = good.clone();
    wrong.proof[0][0] ^= 1;
    for bad in [None, Some(&wrong), Some(&Consistency { from: 3, ..good.clone() })] {
        assert!(matches!(verify(bad), Err(ReceiptError::Consistency(_))), "{bad:?}");
    }
}

#[test]
fn what_proves_nothing_says_why() {
    let world = World::new();
    let (both, nobody) = (world.both(), Witnesses::none());
    let good = world.receipt(4, &world.leaves, 2);
    let stranger = Signer::generate(ORIGIN, Algorithm::Ed25519).unwrap();
    let elsewhere = Request { key: stranger.key(), ..world.request(&nobody) }.verify(&good).unwrap_err();
    assert!(elsewhere.to_string().contains("no signature of the log"), "{elsewhere}");
    let cases: [(&str, Receipt, &str); 5] = [
        ("later", Receipt { checkpoint: world.checkpoint(&world.leaves[..4], 2), ..good.clone() }, "has 4 entries, and this is entry 5"),
        ("bytes", Receipt { entry: Some(entry(3)), ..good.clone() }, "bytes are not those"),
        ("leaf", Receipt { leaf_hash: world.leaves[3], entry: None, ..good.clone() }, "not proven to be under the checkpoint"),
        ("place", Receipt { index: 5, ..good.clone() }, "not proven to be under the checkpoint"),
        ("few", Receipt { checkpoint: world.checkpoint(&world.leaves, 1), ..good.clone() }, "1 of the witnesses cosigned, and 2"),
    ];
    for (what, receipt, says) in cases {
        let found = world.request(&both).verify(&receipt).unwrap_err();
        assert!(found.to_string().contains(says), "{what}: {found}");
    }
    let text = good.write();
    let long = format!("{text}{}", " ".repeat(MAX_RECEIPT));
    for (changed, says) in [
        (text.replace("receipt/v1", "receipt/v2"), "is not 'concordat.receipt/v1'"),
        (text.replace("  \"index\"", "  \"more\": 1,\n  \"index\""), "unknown or not"),
        (text.replace("  \"index\"", " \"index\""), "formatted anew"),
        (text.replace("\"index\": 4,\n  \"leaf", "\"index\": -4,\n  \"leaf"), "not a receipt"),
        (long, "is longer than"),
        (String::new(), "not a receipt"),
    ] {
        let found = Receipt::read(changed.as_bytes()).unwrap_err().to_string();
        assert!(found.contains(says), "{says}: {found}");
    }
}

#[tokio::test]
async fn the_logs_own_receipts_verify_and_are_those_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), ORIGIN).unwrap();
    for i in 0..300 {
        log.append(Entry::new("query.opened").field("i", i)).await.unwrap();
    }
    let last = log.append(Entry::new("query.closed").field("rows", 7)).await.unwrap();
    let promise = log.promise(last).unwrap();
    let of_answer = log.promise_answer(last, answered("q-1")).unwrap();
    assert_eq!((of_answer.leaf_hash, &of_answer.answer), (promise.leaf_hash, &Some(answered("q-1"))));
    let mut checkpoints = log.checkpoints();
    while log.size() < last {
        tokio::time::timeout(Duration::from_secs(10), checkpoints.changed()).await.unwrap().unwrap();
    }
    let key = VerifierKey::parse(&log.verifier_key()).unwrap();
    let nobody = Witnesses::none();
    of_answer.verify(&key).unwrap();
    let request = Request { key: &key, witnesses: &nobody, promise: Some(&promise), checkpoint: None, consistency: None, now: NOW };
    let without = log.receipt(last, false).unwrap().unwrap();
    assert_eq!((without.entry.clone(), log.leaf(last - 1).unwrap()), (None, promise.leaf_hash));
    let whole = log.receipt(last, true).unwrap().unwrap();
    assert!(String::from_utf8(whole.entry.clone().unwrap()).unwrap().contains("\"rows\":7"));
    for receipt in [&without, &whole, &crate::inclusion(folder.path(), last - 1).unwrap()] {
        let read = Receipt::read(receipt.write().as_bytes()).unwrap();
        assert_eq!(request.verify(&read).unwrap().number, last);
    }
    assert!(log.receipt(last + 1, false).is_err() && log.leaf(last).is_err() && crate::inclusion(folder.path(), last).is_err());
    // The checkpoint that witnesses have signed counts before a newer one without cosignatures.
    let cosigned = log.checkpoint();
    log.add_cosignatures(&cosigned, "— witness.example AAAAAAAA\n", |by| !by.is_empty()).unwrap();
    let next = log.append(Entry::new("query.opened")).await.unwrap();
    while log.size() < next {
        tokio::time::timeout(Duration::from_secs(10), checkpoints.changed()).await.unwrap().unwrap();
    }
    let receipt = log.receipt(last, false).unwrap().unwrap();
    assert_eq!((receipt.cosignatures(), log.cosigned().unwrap()), (1, receipt.checkpoint.clone()));
    assert_eq!(log.receipt(next, false).unwrap().unwrap().checkpoint, *log.checkpoint(), "it does not cover the newest");
    let later = log.checkpoint();
    let consistency = crate::consistency(folder.path(), last, next).unwrap();
    let request = Request { checkpoint: Some(later.as_bytes()), consistency: Some(&consistency), ..request };
    assert!(request.verify(&receipt).is_ok());
    assert!(crate::consistency(folder.path(), last, next + 1).is_err());
}
