use super::*;
use crate::proof::{Hash, leaf_hash, tests as tree};

const ORIGIN: &str = "concordat/centre/gateway";

struct World {
    folder: tempfile::TempDir,
    log: Signer,
    seed: [u8; 32],
    leaves: Vec<Hash>,
}

impl World {
    fn new() -> (Self, Witness) {
        let log = Signer::generate(ORIGIN, Algorithm::Ed25519).unwrap();
        let leaves = (0..100u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let world = Self { folder: tempfile::tempdir().unwrap(), log, seed: [7; 32], leaves };
        let witness = Witness::create(world.folder.path(), world.signer()).unwrap();
        witness.admit(world.log.key()).unwrap();
        (world, witness)
    }

    fn signer(&self) -> Signer {
        Signer::from_seed("dwp.example/witness", Algorithm::Cosignature, &self.seed).unwrap()
    }

    fn checkpoint(&self, size: usize, leaves: &[Hash]) -> String {
        let text = Checkpoint { origin: ORIGIN.into(), size: size as u64, root: tree::root(&leaves[..size]) }.text();
        Note::new(&text, self.log.sign(&text, 0)).to_string()
    }

    fn request(&self, old: usize, size: usize) -> AddCheckpoint {
        let proof = tree::consistency(old.min(size), &self.leaves[..size]);
        AddCheckpoint { old_size: old as u64, proof, checkpoint: self.checkpoint(size, &self.leaves) }
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
        let request = AddCheckpoint::parse(world.request(known, size).to_string().as_bytes()).unwrap();
        let cosignature = witness.add_checkpoint(&request, 1000 + size as u64).unwrap();
        let mut note = Note::parse(request.checkpoint.as_bytes()).unwrap();
        note.add(Signature::parse(cosignature.to_string().trim_end()).unwrap());
        assert_eq!(note.signed_by(witness.key()).unwrap().unwrap().time, 1000 + size as u64);
        drop(witness);
        witness = Witness::open(world.folder.path(), world.signer()).unwrap();
        assert_eq!(witness.latest(ORIGIN).unwrap().size, size as u64);
        known = size;
    }
    let mut note = Note::parse(world.checkpoint(100, &world.leaves).as_bytes()).unwrap();
    note.add(witness.add_checkpoint(&world.request(100, 100), 5).unwrap());
    assert_eq!(note.signed_by(witness.key()).unwrap().unwrap().time, 1100, "the clock went back");
}

#[test]
fn what_does_not_continue_is_refused_with_the_specified_code() {
    let (world, witness) = World::new();
    witness.add_checkpoint(&world.request(0, 40), 1).unwrap();
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
    let (forks, rollback) = (Some(Misconduct::Fork), Some(Misconduct::Rollback));
    for (case, request, status, body, misconduct) in [
        ("malformed", &malformed, 400, "not a signed note", None),
        ("unknown log", &unknown, 404, "its operator adds", None),
        ("another key", &unsigned, 403, "no signature of the log", None),
        ("old size above the checkpoint's", &world.request(60, 50), 400, "larger than", None),
        ("wrong old size", &world.request(39, 50), 409, "40\n", None),
        ("asking for the size", &world.request(0, 50), 409, "40\n", None),
        ("a claim that we cosigned more", &world.request(41, 50), 409, "40\n", None),
        ("no proof", &no_proof, 422, "wrong number", forks),
        ("fork of the same size", &fork(40, 40), 409, "40\n", forks),
        ("fork that grew", &fork(40, 50), 422, "another root", forks),
        ("rollback", &world.request(30, 30), 409, "40\n", rollback),
        ("rollback to nothing", &world.request(0, 0), 409, "40\n", rollback),
    ] {
        let refused = witness.add_checkpoint(request, 2).unwrap_err();
        assert_eq!((refused.status(), refused.alarm.as_ref().map(|alarm| alarm.misconduct)), (status, misconduct), "{case}");
        assert!(refused.body().contains(body), "{case}: {}", refused.body());
        if let Some(alarm) = refused.alarm {
            let evidence: serde_json::Value = serde_json::from_slice(&fs::read(alarm.evidence.unwrap()).unwrap()).unwrap();
            for side in ["known", "sent"] {
                SignedCheckpoint::open(evidence[side].as_str().unwrap().as_bytes(), world.log.key()).unwrap();
            }
        }
        assert_eq!(witness.latest(ORIGIN).unwrap().size, 40, "{case}");
    }
    assert_eq!((world.evidence("fork-"), world.evidence("rollback-")), (3, 2));
    witness.add_checkpoint(&fork(40, 40), 2).unwrap_err();
    assert_eq!(world.evidence("fork-"), 3, "the same evidence is kept once");
    witness.add_checkpoint(&world.request(40, 50), 3).unwrap();
}

#[test]
fn without_its_state_it_does_not_start() {
    let (world, witness) = World::new();
    witness.add_checkpoint(&world.request(0, 40), 1).unwrap();
    assert!(Witness::open(world.folder.path(), world.signer()).unwrap_err().to_string().contains("cannot be used"), "a second process");
    drop(witness);
    assert!(Witness::create(world.folder.path(), world.signer()).is_err(), "a second beginning");
    let path = world.folder.path().join("witness.state");
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(Witness::open(world.folder.path(), world.signer()).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert!(Witness::open(world.folder.path(), world.signer()).is_err(), "changed at {at}");
    }
    fs::remove_file(&path).unwrap();
    assert!(Witness::open(world.folder.path(), world.signer()).is_err(), "missing");
    fs::write(&path, &whole).unwrap();
    assert_eq!(Witness::open(world.folder.path(), world.signer()).unwrap().latest(ORIGIN).unwrap().size, 40);
}

#[test]
fn what_cannot_be_written_is_not_cosigned() {
    let (world, witness) = World::new();
    // A folder stands where the new state would be written.
    fs::create_dir(world.folder.path().join("witness.state.new")).unwrap();
    let refused = witness.add_checkpoint(&world.request(0, 40), 1).unwrap_err();
    assert_eq!((refused.status(), witness.latest(ORIGIN)), (503, None));
    fs::remove_dir(world.folder.path().join("witness.state.new")).unwrap();
    witness.add_checkpoint(&world.request(0, 40), 1).unwrap();
}

#[test]
fn of_requests_at_once_only_those_in_order_are_cosigned() {
    let (world, witness) = World::new();
    let (requests, witness): (Vec<_>, _) = ((1..=50).map(|size| world.request(0, size)).collect(), &witness);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = requests.iter().map(|request| scope.spawn(move || witness.add_checkpoint(request, 1))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let size = witness.latest(ORIGIN).unwrap().size;
    assert!(answers[size as usize - 1].is_ok());
    assert!(answers.iter().filter_map(|answer| answer.as_ref().err()).all(|refused| refused.status() == 409));
}

#[test]
fn a_log_has_one_key() {
    let (world, witness) = World::new();
    witness.admit(world.log.key()).unwrap();
    assert!(witness.admit(Signer::generate(ORIGIN, Algorithm::Ed25519).unwrap().key()).is_err());
    assert!(witness.admit(world.signer().key()).is_err(), "a witness's key is no log's");
    drop(witness);
    let log = Signer::generate("w", Algorithm::Ed25519).unwrap();
    assert!(Witness::open(world.folder.path(), log).is_err(), "a log's key cosigns nothing");
}
