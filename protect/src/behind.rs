//! What stands behind a value.

/// What stands behind one value of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Behind {
    /// Distinct subjects who contribute to it: of the contributing department, or identifier type, that has the fewest.
    pub subjects: u64,
    /// Where a condition inside the aggregate chose among them: the group's distinct subjects, chosen or not.
    pub among: Option<u64>,
    /// Of a sum or mean: how it is spread over them.
    pub spread: Option<Spread>,
}

/// How many of the largest contributions are kept.
pub const LARGEST: usize = concordat_policy::disclosure::MOST_LARGEST as usize;

/// How a sum is spread over its contributors; a contribution is one subject's own sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The sum of absolute contributions.
    pub absolute: f64,
    /// The largest absolute contributions, descending; zero where there are fewer.
    pub largest: [f64; LARGEST],
    /// Contributions other than zero.
    pub nonzero: u64,
    /// The lowest contribution; infinite where there is none.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { absolute: 0.0, largest: [0.0; LARGEST], nonzero: 0, lowest: f64::INFINITY, highest: f64::NEG_INFINITY }
    }
}

impl Spread {
    /// Adds one subject's own sum. The order does not matter.
    pub fn add(&mut self, own: f64) {
        let size = own.abs();
        self.absolute += size;
        self.nonzero += u64::from(own != 0.0);
        self.lowest = self.lowest.min(own);
        self.highest = self.highest.max(own);
        self.place(size);
    }

    /// Adds those of another part of the same group: other subjects.
    pub fn merge(&mut self, other: &Self) {
        self.absolute += other.absolute;
        self.nonzero += other.nonzero;
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
        other.largest.iter().for_each(|size| self.place(*size));
    }

    fn place(&mut self, mut size: f64) {
        for kept in &mut self.largest {
            if size > *kept {
                std::mem::swap(kept, &mut size);
            }
        }
    }
}
