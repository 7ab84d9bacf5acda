//! A small deterministic generator of numbers, so that the same sample appears on every machine and in every version.
//!
//! SplitMix64 (Steele, Lea, Flood 2014), one independent stream per seed, person and topic. Only additions, multiplications
//! and shifts: no rounding differs between machines. Not for secrets.

/// What a stream of draws is about. Adding a topic never changes what another one draws.
#[derive(Clone, Copy)]
pub(crate) enum Topic {
    Person = 1,
    Membership = 2,
    Identifier = 3,
    Consent = 4,
    Firm = 5,
    Employer = 6,
    /// A column of `concordat dummy`.
    Dummy = 7,
    Past = 8,
    FirmsPast = 9,
}

/// One stream of draws.
pub(crate) struct Draw(u64);

impl Draw {
    /// The stream of one person and topic; `part` separates departments where the topic has one stream each.
    pub(crate) fn of(seed: u64, person: u64, topic: Topic, part: u64) -> Self {
        let mut draw = Self(seed);
        for word in [topic as u64, part, person] {
            draw.0 = draw.next().wrapping_add(word.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        }
        draw
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in [0, 1), uniform.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of probability `p` happens.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A whole number in 0..`bound` (0 for a bound of 0).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The bias is at most bound / 2^64: nothing a sample shows.
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// Roughly normal, mean 0, deviation 1, within ±3.5: the sum of four uniform numbers.
    pub(super) fn normal(&mut self) -> f64 {
        (self.unit() + self.unit() + self.unit() + self.unit() - 2.0) * 1.732
    }

    /// One of `values`.
    pub(super) fn pick<'a>(&mut self, values: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(values.len() as u64)).unwrap_or(0);
        values.get(index).copied().unwrap_or_default()
    }
}
