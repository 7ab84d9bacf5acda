//! The proof of this crate's decisions: a second evaluator that must never differ, laws, and a matrix for people.
//!
//! ```text
//! world.rs ── a seeded estate, as plain data ──┬──▶ evaluator.rs: plain loops over the plain data ──┐
//!                                              └──▶ TOML ──▶ parse ──▶ authorize, judge, allows ────┴──▶ compare.rs: the same?
//! ```
//!
//! Longer runs: `CONCORDAT_PROOF_REQUESTS=10000000`; `CONCORDAT_PROOF_SEED` is the first world's. A difference names its
//! world's seed, and `CONCORDAT_PROOF_SEED=… CONCORDAT_PROOF_REQUESTS=1` shows it again.

mod apart;
mod choices;
mod compare;
mod evaluator;
mod laws;
mod matrix;
mod purposes;
mod world;

/// Random numbers that are the same everywhere: splitmix64 (Steele, Lea, Flood 2014).
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// `least` to `most` of them, in random order.
    pub(crate) fn some<T: Clone>(&mut self, of: &[T], least: usize, most: usize) -> Vec<T> {
        let mut all = of.to_vec();
        self.shuffle(&mut all);
        all.truncate(least + self.below(most - least + 1));
        all
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A number from the environment, for long runs.
pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}
