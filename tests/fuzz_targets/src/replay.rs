//! The short lane: every input of the corpora, then a bounded number of mutations of them, always the same ones.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mutate::{Draw, bytes, stream};
use crate::{TARGETS, Target};

/// How many mutations of each target's inputs the short lane tries.
const MUTATIONS: usize = 40_000;
/// The largest corpus, in bytes.
const MAX_CORPUS: u64 = 1 << 20;

/// Allocations of all threads are counted together: who counts runs alone.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Runs one input; where it fails, says which it was.
fn run(target: &Target, input: &[u8]) {
    if std::panic::catch_unwind(|| (target.run)(input)).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} fails for the input {hex}", target.name);
    }
}

#[test]
fn corpora_and_their_mutations_hold() {
    let _alone = alone();
    let mut size = 0;
    for (number, target) in TARGETS.iter().enumerate() {
        let mut inputs = corpus(target);
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        size += inputs.iter().map(|input| input.len() as u64).sum::<u64>();
        inputs.extend((target.seeds)());
        inputs.iter().for_each(|input| run(target, input));
        let mut draw = Draw(number as u64);
        for _ in 0..MUTATIONS {
            let input = &inputs[draw.below(inputs.len())];
            let mutated = if target.name == "release_stream" && draw.below(8) > 0 {
                let mut generic = draw;
                draw.number();
                stream(input, &mut draw, &mut |data| bytes(data, &mut generic))
            } else {
                let mut mutated = input.clone();
                bytes(&mut mutated, &mut draw);
                mutated
            };
            run(target, &mutated);
        }
    }
    assert!(size <= MAX_CORPUS, "the corpora have grown to {size} bytes: minimise them");
}
