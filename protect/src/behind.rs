//! What stands behind a value.

/// What stands behind one value of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Behind {
    /// Distinct subjects who contribute to it: of the contributing department, or identifier type, that has the fewest.
    pub subjects: u64,
    /// Of a sum, a mean or a number of rows: how it is spread over them.
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

    /// Whether all contributions other than zero are equal, in size and sign.
    #[must_use]
    pub fn even(&self) -> bool {
        let [largest, ..] = self.largest;
        #[expect(clippy::cast_precision_loss, reason = "a number of people, exact below 2^53")]
        let equal = self.nonzero as f64 * largest;
        (equal - self.absolute).abs() <= 1e-9 * equal && (self.lowest >= 0.0 || self.highest <= 0.0)
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
        if self.largest.last().is_some_and(|least| size <= *least) {
            return;
        }
        for kept in &mut self.largest {
            if size > *kept {
                std::mem::swap(kept, &mut size);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_contributions_are_equal_in_size_and_sign() {
        for (contributions, even) in [
            (vec![], true),
            (vec![0.0; 4], true),
            (vec![1.0; 12], true),
            (vec![0.1; 1_000], true),
            (vec![-7.5, 0.0, -7.5], true),
            (vec![1.0, 1.0, 2.0], false),
            (vec![3.0, -3.0], false),
            (vec![f64::INFINITY, 1.0], false),
            (vec![f64::NAN, 1.0], false),
        ] {
            let mut spread = Spread::default();
            contributions.iter().for_each(|own| spread.add(*own));
            assert_eq!(spread.even(), even, "{contributions:?}");
        }
    }
}
