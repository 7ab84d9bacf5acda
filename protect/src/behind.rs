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

/// Bytes of a [`Spread`] where it is written: its numbers in the order of its fields, 64 bits each, little-endian.
pub const SPREAD_BYTES: usize = 8 * (LARGEST + 4);

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

    /// Of so many contributions of one each.
    #[must_use]
    pub fn of_ones(number: u64) -> Self {
        let mut spread = Self::default();
        (0..number.min(LARGEST as u64)).for_each(|_| spread.add(1.0));
        #[expect(clippy::cast_precision_loss, reason = "a number of people, exact below 2^53")]
        let absolute = number as f64;
        Self { absolute, nonzero: number, ..spread }
    }

    /// As it is written.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SPREAD_BYTES] {
        let Self { absolute, largest, nonzero, lowest, highest } = *self;
        let numbers = std::iter::once(absolute).chain(largest).map(f64::to_bits).chain([nonzero, lowest.to_bits(), highest.to_bits()]);
        let mut bytes = [0; SPREAD_BYTES];
        bytes.as_chunks_mut().0.iter_mut().zip(numbers).for_each(|(to, number)| *to = number.to_le_bytes());
        bytes
    }

    /// Reads what [`Spread::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SPREAD_BYTES]) -> Self {
        let mut numbers = bytes.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number));
        let mut next = || numbers.next().unwrap_or_default();
        let absolute = f64::from_bits(next());
        let largest = std::array::from_fn(|_| f64::from_bits(next()));
        Self { absolute, largest, nonzero: next(), lowest: f64::from_bits(next()), highest: f64::from_bits(next()) }
    }

    /// Whether it can be of so many contributors: for whoever did not make it. A sum is not compared with its parts, which are rounded.
    #[must_use]
    pub fn can_be_of(&self, contributors: u64) -> bool {
        let Self { absolute, largest, nonzero, lowest, highest } = self;
        if contributors == 0 {
            return *self == Self::default();
        }
        let [most, ..] = largest;
        let beyond = usize::try_from(*nonzero).unwrap_or(LARGEST);
        let sizes = largest.iter().chain([absolute]).all(|size| size.is_finite() && *size >= 0.0);
        sizes
            && largest.is_sorted_by(|one, next| one >= next)
            && largest.iter().skip(beyond).all(|size| *size == 0.0)
            && largest.iter().take(beyond).all(|size| *size > 0.0)
            && absolute >= most
            && *nonzero <= contributors
            && lowest.is_finite()
            && highest.is_finite()
            && lowest <= highest
            && *most == lowest.abs().max(highest.abs())
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

    fn of(contributions: &[f64]) -> Spread {
        let mut spread = Spread::default();
        contributions.iter().for_each(|own| spread.add(*own));
        spread
    }

    #[test]
    fn a_spread_is_read_as_it_was_written_and_ones_are_what_they_add_up_to() {
        for spread in [Spread::default(), of(&[-7.5, 0.0, 3.0]), of(&[1e300; 9]), of(&[-0.0])] {
            assert_eq!(Spread::from_bytes(&spread.to_bytes()), spread);
        }
        for number in [0, 1, 4, 5, 6, 1_000] {
            assert_eq!(Spread::of_ones(number), of(&vec![1.0; usize::try_from(number).unwrap()]));
        }
    }

    #[test]
    fn what_no_contributions_add_up_to_is_none() {
        for own in [&[][..], &[0.0], &[-7.5, 0.0, 3.0], &[0.1; 1_000], &[-4.0; 3]] {
            assert!(of(own).can_be_of(own.len() as u64), "{own:?}");
        }
        let some = of(&[-7.5, 0.0, 3.0]);
        let wrong = [
            Spread { absolute: f64::NAN, ..some },
            Spread { absolute: f64::INFINITY, ..some },
            Spread { absolute: 7.0, ..some },
            Spread { nonzero: 4, ..some },
            Spread { nonzero: 1, ..some },
            Spread { largest: [3.0, 7.5, 0.0, 0.0, 0.0], ..some },
            Spread { largest: [7.5, 3.0, 1.0, 0.0, 0.0], ..some },
            Spread { largest: [7.5, f64::NAN, 0.0, 0.0, 0.0], ..some },
            Spread { lowest: f64::NEG_INFINITY, ..some },
            Spread { lowest: 4.0, ..some },
            Spread { highest: 9.0, ..some },
            Spread::default(),
        ];
        for wrong in wrong {
            assert!(!wrong.can_be_of(3), "{wrong:?}");
        }
        assert!(!some.can_be_of(0));
    }

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
