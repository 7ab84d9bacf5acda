use super::*;
use crate::proof::{Hash, leaf_hash, tests as tree};

const ORIGIN: &str = "concordat/gateway";
const NAME: &str = "concordat/dwp/witness";

/// The HTTP status that is specified for a refusal.
fn status(refused: &Refused) -> u16 {
    match refused.reason {
        Reason::Malformed(_) | Reason::OldSize { .. } => 400,
        Reason::Unsigned(_) | Reason::OtherKey { .. } => 403,
        Reason::OtherLog { .. } => 404,
        Reason::Conflict { .. } => 409,
        Reason::Proof { .. } => 422,
        Reason::Unavailable(_) => 503,
    }
}

struct World {
    folder: tempfile::TempDir,
    log: Signer,
    leaves: Vec<Hash>,
}

impl World {
    fn new() -> (Self, Witness) {
        let log = Signer::generate(ORIGIN, Algorithm::Ed25519).unwrap();
        let leaves = (0..100u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let world = Self { folder: tempfile::tempdir().unwrap(), log, leaves };
        let witness = world.open().unwrap();
        (world, witness)
    }

    fn open(&self) -> io::Result<Witness> {
        Witness::open(self.folder.path(), NAME)
    }

    fn checkpoint(&self, size: usize, leaves: &[Hash]) -> String {
        let text = Checkpoint { origin: ORIGIN.into(), size: size as u64, root: tree::root(&leaves[..size]) }.text();
        Note::new(&text, self.log.sign(&text, 0)).to_string()
    }

    fn request(&self, old: usize, size: usize) -> AddCheckpoint {
        let proof = tree::consistency(old.min(size), &self.leaves[..size]);
        AddCheckpoint { old_size: old as u64, proof, checkpoint: self.checkpoint(size, &self.leaves) }
    }

    fn add(&self, witness: &Witness, request: &AddCheckpoint, now: u64) -> Result<Cosigned, Refused> {
        witness.add_checkpoint(ORIGIN, self.log.key(), request, now, |_| Ok(()))
    }

    fn size(&self) -> Option<u64> {
        known(self.folder.path(), ORIGIN).unwrap().map(|(_, checkpoint)| checkpoint.size)
    }

    fn evidence(&self, kind: &str) -> usize {
        let files = fs::read_dir(self.folder.path()).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with(kind)).count()
    }
}

#[test]
fn what_continues_is_cosigned_and_remembered_across_restarts() {
    let (world, mut witness) = World::new();
    let mut known = 0;
    for size in [1, 2, 7, 8, 8, 64, 100] {
        let request = world.request(known, size);
        let cosigned = world.add(&witness, &request, 1000 + size as u64).unwrap();
        assert_eq!((cosigned.first, cosigned.checkpoint.size), (known == 0, size as u64));
        let line = cosigned.cosignature.to_string();
        let others = format!("— somebody AAAAAAA=\n{line}");
        assert_eq!(verified(&request.checkpoint, &others, witness.key(), 1000 + size as u64).unwrap(), line);
        assert!(verified(&request.checkpoint, &line, witness.key(), 900 + size as u64).unwrap_err().contains("future"));
        assert!(verified(&world.checkpoint(3, &world.leaves), &line, witness.key(), 2000).is_err(), "another checkpoint's");
        let key = witness.key().to_string();
        drop(witness);
        witness = world.open().unwrap();
        assert_eq!((witness.key().to_string(), world.size()), (key, Some(size as u64)));
        assert_eq!(public(world.folder.path()).unwrap().as_ref(), Some(witness.key()));
        known = size;
    }
    let mut note = Note::parse(world.checkpoint(100, &world.leaves).as_bytes()).unwrap();
    note.add(world.add(&witness, &world.request(100, 100), 5).unwrap().cosignature);
    assert_eq!(note.signed_by(witness.key()).unwrap().unwrap().time, 1100, "the clock went back");
}

#[test]
fn a_log_is_remembered_only_after_it_was_told_of() {
    let (world, witness) = World::new();
    let request = world.request(0, 5);
    let full = |_: &Checkpoint| Err(io::Error::other("the log is full"));
    let refused = witness.add_checkpoint(ORIGIN, world.log.key(), &request, 1, full).unwrap_err();
    assert_eq!((status(&refused), world.size()), (503, None));
    let mut told = None;
    let tell = |checkpoint: &Checkpoint| {
        told = Some(checkpoint.size);
        Ok(())
    };
    witness.add_checkpoint(ORIGIN, world.log.key(), &request, 1, tell).unwrap();
    assert_eq!((told, world.size()), (Some(5), Some(5)));
    let never = |_: &Checkpoint| -> io::Result<()> { panic!("told again") };
    witness.add_checkpoint(ORIGIN, world.log.key(), &world.request(5, 9), 1, never).unwrap();
}

#[test]
fn a_cosignature_counts_only_when_it_says_about_now() {
    let (world, witness) = World::new();
    let (request, said) = (world.request(0, 40), 1_000_000);
    let line = world.add(&witness, &request, said).unwrap().cosignature.to_string();
    for (now, wrong) in [
        (said - SKEW - 1, Some("in the future by 31 s")),
        (said - SKEW, None),
        (said, None),
        (said + SKEW + AGE, None),
        (said + SKEW + AGE + 1, Some("in the past by 91 s")),
        (u64::MAX, Some("in the past")),
        (0, Some("in the future")),
    ] {
        let found = verified(&request.checkpoint, &line, witness.key(), now);
        assert_eq!(found.is_ok(), wrong.is_none(), "{now}");
        assert!(wrong.is_none_or(|wrong| found.as_ref().is_err_and(|found| found.contains(wrong))), "{now}: {found:?}");
    }
}

/// Killed after it was durable and before it answered: whoever asks again, from the size that the witness then states, is cosigned.
#[test]
fn an_answer_that_was_lost_is_given_again() {
    let (world, witness) = World::new();
    world.add(&witness, &world.request(0, 40), 1).unwrap();
    drop(world.add(&witness, &world.request(40, 50), 2).unwrap());
    let witness = world.open().unwrap();
    assert!(matches!(world.add(&witness, &world.request(40, 50), 3).unwrap_err().reason, Reason::Conflict { size: 50 }));
    let again = world.add(&witness, &world.request(50, 50), 3).unwrap();
    verified(&world.checkpoint(50, &world.leaves), &again.cosignature.to_string(), witness.key(), 3).unwrap();
    world.add(&witness, &world.request(50, 60), 4).unwrap();
}

#[test]
fn what_does_not_continue_is_refused_with_the_specified_code() {
    let (world, witness) = World::new();
    for (old, size) in [(0, 20), (20, 35), (35, 40)] {
        world.add(&witness, &world.request(old, size), 1).unwrap();
    }
    let mut forked = world.leaves.clone();
    forked[3] = [9; 32];
    let fork = |old: usize, size: usize| {
        let proof = tree::consistency(old, &forked[..size]);
        AddCheckpoint { old_size: old as u64, proof, checkpoint: world.checkpoint(size, &forked) }
    };
    let other = Signer::generate(ORIGIN, Algorithm::Ed25519).unwrap();
    let text = Checkpoint { origin: ORIGIN.into(), size: 41, root: [0; 32] }.text();
    let unsigned = AddCheckpoint { checkpoint: Note::new(&text, other.sign(&text, 0)).to_string(), ..world.request(40, 41) };
    let unknown = AddCheckpoint { checkpoint: world.request(40, 41).checkpoint.replace(ORIGIN, "another"), ..world.request(40, 41) };
    let malformed = AddCheckpoint { checkpoint: "x".into(), ..world.request(40, 41) };
    let no_proof = AddCheckpoint { proof: Vec::new(), ..world.request(40, 41) };
    let (forks, rollback, unproven) = (Some(Misconduct::Fork), Some(Misconduct::Rollback), Some(Misconduct::Unproven));
    for (case, request, code, says, misconduct) in [
        ("malformed", &malformed, 400, "not a signed note", None),
        ("another log's", &unknown, 403, "of the log 'another'", None),
        ("another key's", &unsigned, 403, "no signature of the log", None),
        ("old size above the checkpoint's", &world.request(60, 50), 400, "larger than", None),
        ("wrong old size", &world.request(39, 50), 409, "of 40 entries", None),
        ("asking for the size", &world.request(0, 50), 409, "of 40 entries", None),
        ("a claim that we cosigned more", &world.request(41, 50), 409, "of 40 entries", None),
        ("no proof", &no_proof, 422, "wrong number", unproven),
        ("a fork that grew", &fork(40, 50), 422, "another root", unproven),
        ("a fork of the same size", &fork(40, 40), 409, "of 40 entries", forks),
        ("a fork of a size before", &fork(20, 20), 409, "of 40 entries", forks),
        ("an old checkpoint again", &world.request(0, 20), 409, "of 40 entries", None),
        ("another old checkpoint again", &world.request(20, 35), 409, "of 40 entries", None),
        ("a rollback", &world.request(30, 30), 409, "of 40 entries", rollback),
        ("a rollback to nothing", &world.request(0, 0), 409, "of 40 entries", rollback),
    ] {
        let refused = world.add(&witness, request, 2).unwrap_err();
        assert_eq!((status(&refused), refused.alarm.as_ref().map(|alarm| alarm.misconduct)), (code, misconduct), "{case}");
        assert!(refused.to_string().contains(says), "{case}: {refused}");
        let evidence = refused.alarm.as_ref().and_then(|alarm| alarm.evidence.clone());
        assert_eq!(evidence.is_some(), misconduct.is_some() && misconduct != unproven, "{case}");
        if let Some(evidence) = evidence {
            let evidence: serde_json::Value = serde_json::from_slice(&fs::read(evidence).unwrap()).unwrap();
            let [known, sent] =
                ["known", "sent"].map(|side| SignedCheckpoint::open(evidence[side].as_str().unwrap().as_bytes(), world.log.key()).unwrap());
            let (known, sent) = (known.checkpoint(), sent.checkpoint());
            assert!(misconduct != forks || (known.size == sent.size && known.root != sent.root), "{case}: it proves a fork");
        }
        assert_eq!(world.size(), Some(40), "{case}");
    }
    assert_eq!((world.evidence("fork-"), world.evidence("rollback-"), world.evidence("unproven-")), (2, 2, 0));
    world.add(&witness, &fork(40, 40), 2).unwrap_err();
    assert_eq!(world.evidence("fork-"), 2, "the same evidence is kept once");
    world.add(&witness, &world.request(40, 50), 3).unwrap();
}

#[test]
fn a_log_that_was_refused_is_distrusted_over_restarts_until_it_continues_or_is_forgotten() {
    let (world, witness) = World::new();
    let distrusted = || distrusted(world.folder.path()).unwrap();
    world.add(&witness, &world.request(0, 40), 1).unwrap();
    // No misconduct: a replay, a wrong size, what is no checkpoint.
    for request in [world.request(39, 50), world.request(40, 41), AddCheckpoint { checkpoint: "x".into(), ..world.request(40, 41) }] {
        let _ = world.add(&witness, &request, 2);
        assert_eq!(distrusted(), []);
    }
    world.add(&witness, &world.request(30, 30), 3).unwrap_err();
    drop(witness);
    let witness = world.open().unwrap();
    assert_eq!(distrusted(), [(ORIGIN.to_owned(), Misconduct::Rollback)]);
    let no_proof = AddCheckpoint { proof: Vec::new(), ..world.request(41, 60) };
    world.add(&witness, &no_proof, 4).unwrap_err();
    assert_eq!(distrusted(), [(ORIGIN.to_owned(), Misconduct::Rollback)], "what happened first stays");
    world.add(&witness, &world.request(41, 60), 5).unwrap();
    assert_eq!(distrusted(), [], "the newer copy was found: it continues");
    let other = World { log: Signer::generate(ORIGIN, Algorithm::Ed25519).unwrap(), ..World::new().0 };
    let no_proof = AddCheckpoint { proof: Vec::new(), ..world.request(60, 70) };
    world.add(&witness, &no_proof, 6).unwrap_err();
    assert_eq!(distrusted(), [(ORIGIN.to_owned(), Misconduct::Unproven)]);
    witness.add_checkpoint(ORIGIN, other.log.key(), &other.request(0, 10), 6, |_| Ok(())).unwrap_err();
    assert_eq!(distrusted(), [(ORIGIN.to_owned(), Misconduct::OtherKey)]);
    forget(world.folder.path(), ORIGIN).unwrap();
    assert_eq!(distrusted(), []);
}

#[test]
fn rollbacks_leave_room_for_forks() {
    let (world, witness) = World::new();
    world.add(&witness, &world.request(0, 100), 1).unwrap();
    for at in 0..MOST.1 {
        fs::write(world.folder.path().join(format!("rollback-{at}.json")), "").unwrap();
    }
    let rollback = world.add(&witness, &world.request(30, 30), 2).unwrap_err();
    assert_eq!(rollback.alarm.map(|alarm| (alarm.misconduct, alarm.evidence.clone())), Some((Misconduct::Rollback, None)));
    let mut forked = world.leaves.clone();
    forked[3] = [9; 32];
    let fork = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint: world.checkpoint(100, &forked) };
    assert!(world.add(&witness, &fork, 2).unwrap_err().alarm.unwrap().evidence.is_some());
}

#[test]
fn without_its_state_or_its_key_it_does_not_start() {
    let (world, witness) = World::new();
    world.add(&witness, &world.request(0, 40), 1).unwrap();
    drop(witness);
    for file in ["witness.state", KEY] {
        let path = world.folder.path().join(file);
        let whole = fs::read(&path).unwrap();
        // The last byte of the key's file is its line's end.
        for end in 0..whole.len() - 1 {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(world.open().is_err(), "{file} cut at {end}");
        }
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            // Another seed is another key, and its id says so.
            assert!(world.open().is_err(), "{file} changed at {at}");
        }
        fs::remove_file(&path).unwrap();
        assert!(world.open().is_err(), "{file} missing");
        fs::write(&path, &whole).unwrap();
        world.open().unwrap();
    }
    assert!(Witness::open(world.folder.path(), "concordat/dfe/witness").is_err(), "another name");
    assert_eq!(world.size(), Some(40));
}

#[test]
fn what_cannot_be_written_is_not_cosigned() {
    let (world, witness) = World::new();
    // A folder stands where the new state would be written.
    fs::create_dir(world.folder.path().join("witness.state.new")).unwrap();
    let refused = world.add(&witness, &world.request(0, 40), 1).unwrap_err();
    assert_eq!((status(&refused), world.size()), (503, None));
    fs::remove_dir(world.folder.path().join("witness.state.new")).unwrap();
    world.add(&witness, &world.request(0, 40), 1).unwrap();
}

#[test]
fn of_requests_at_once_only_those_in_order_are_cosigned() {
    let (world, witness) = World::new();
    let (requests, world, witness): (Vec<_>, _, _) = ((1..=50).map(|size| world.request(0, size)).collect(), &world, &witness);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = requests.iter().map(|request| scope.spawn(move || world.add(witness, request, 1))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let size = usize::try_from(world.size().unwrap()).unwrap();
    assert!(answers[size - 1].is_ok());
    assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(|refused| status(refused) == 409));
}

#[test]
fn a_log_has_one_key_until_somebody_has_it_forgotten() {
    let (world, witness) = World::new();
    world.add(&witness, &world.request(0, 40), 1).unwrap();
    let restored = World { log: Signer::generate(ORIGIN, Algorithm::Ed25519).unwrap(), ..World::new().0 };
    let anew = restored.request(0, 10);
    let refused = witness.add_checkpoint(ORIGIN, restored.log.key(), &anew, 2, |_| Ok(())).unwrap_err();
    assert_eq!(
        (status(&refused), refused.alarm.map(|alarm| (alarm.misconduct, alarm.sizes))),
        (403, Some((Misconduct::OtherKey, (40, 10))))
    );
    for (origin, key) in [("concordat/dwp/node", world.log.key()), (ORIGIN, witness.key())] {
        assert_eq!(status(&witness.add_checkpoint(origin, key, &world.request(40, 41), 2, |_| Ok(())).unwrap_err()), 404);
    }
    // As a command does beside the running witness.
    forget(world.folder.path(), ORIGIN).unwrap();
    assert_eq!((world.size(), world.evidence("forgotten-")), (None, 1));
    assert!(witness.add_checkpoint(ORIGIN, restored.log.key(), &anew, 2, |_| Ok(())).unwrap().first);
    assert_eq!(status(&world.add(&witness, &world.request(40, 41), 3).unwrap_err()), 403, "the key before");
}
