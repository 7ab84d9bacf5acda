//! Buckets: equal parts of the pseudonym's range, a whole number of them in each partition. Small enough to be sorted in memory
//! one after the other, and bounded exactly as [`concordat_proto::schema::split_points`] says.

use concordat_proto::schema::split_points;

/// Buckets of a release, at least; there are up to twice as many.
const LEAST: u32 = 512;

/// The bounds of a release's buckets.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    // The lower bound of each bucket; the first is 0.
    bounds: std::sync::Arc<[u128]>,
    per_partition: usize,
}

impl Buckets {
    pub(super) fn new(partitions: u32) -> Self {
        let partitions = partitions.max(1);
        // floor(i · k · 2^128 / (n · k)) is floor(i · 2^128 / n): every bound of a partition is a bound of buckets.
        let per_partition = LEAST.div_ceil(partitions);
        let bounds = std::iter::once(0).chain(split_points(partitions * per_partition).into_iter().map(u128::from_be_bytes)).collect();
        Self { bounds, per_partition: per_partition as usize }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    /// The buckets of one partition.
    pub(super) fn of_partition(&self, partition: u32) -> std::ops::Range<usize> {
        let first = partition as usize * self.per_partition;
        first..(first + self.per_partition).min(self.len())
    }

    /// Where some buckets begin, and where they end unless that is the end of all.
    pub(super) fn bounds(&self, buckets: &std::ops::Range<usize>) -> (u128, Option<u128>) {
        (self.bounds.get(buckets.start).copied().unwrap_or(u128::MAX), self.bounds.get(buckets.end).copied())
    }

    /// The bucket of a pseudonym.
    pub(super) fn of(&self, pseudonym: u128) -> usize {
        // The product's high half is the bucket or, at a rounded bound, the one below.
        let guess = (((pseudonym >> 64) * self.bounds.len() as u128) >> 64) as usize;
        let above = self.bounds.get(guess + 1).is_some_and(|bound| *bound <= pseudonym);
        let below = self.bounds.get(guess).is_some_and(|bound| *bound > pseudonym);
        (guess + usize::from(above)).saturating_sub(usize::from(below))
    }
}

#[cfg(test)]
mod tests {
    use concordat_proto::schema::partition_of;

    use super::*;

    #[test]
    fn buckets_are_those_of_the_contract_at_and_around_every_bound() {
        for partitions in 2..=64 {
            let buckets = Buckets::new(partitions);
            let splits = split_points(partitions);
            for (index, bound) in buckets.bounds.iter().enumerate() {
                for pseudonym in [*bound, bound.saturating_add(1), bound.saturating_sub(1), bound.saturating_add(1 << 64)] {
                    let bucket = buckets.of(pseudonym);
                    let expected = buckets.bounds.partition_point(|b| *b <= pseudonym) - 1;
                    assert_eq!(bucket, expected, "bound {index} of {partitions}");
                    let partition = u32::try_from(partition_of(&pseudonym.to_be_bytes(), &splits)).unwrap();
                    assert!(buckets.of_partition(partition).contains(&bucket));
                }
            }
            assert_eq!(buckets.of(u128::MAX), buckets.len() - 1);
        }
    }
}
