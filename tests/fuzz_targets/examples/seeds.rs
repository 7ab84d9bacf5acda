//! Writes the inputs from which the corpora begin: `cargo run -p concordat-fuzz-targets --example seeds -- FOLDER`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a tool of the tests: a failure is a panic")]

fn main() {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).expect("the folder of the corpora"));
    for target in concordat_fuzz_targets::TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
}
