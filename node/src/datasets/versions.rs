//! Versions of a database's rows: of each, a hash of its key, and what stands in the column that changes with it. By them two readings
//! tell which rows stayed as they were, those that were deleted and those whose change was committed late included.
//!
//! Keys are hashed with what only this process knows, so that nobody prepares some that are taken for one another, and none lies in a
//! snapshot.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array as _, AsArray as _, BooleanBufferBuilder, FixedSizeBinaryArray};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, cast, create_udf};

/// Of a row without a key or a change, or whose time of change is infinite: it stays the same whatever is changed.
const NONE: u64 = 0;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

static FUNCTION: LazyLock<ScalarUDF> = LazyLock::new(|| {
    let arguments = vec![DataType::Utf8, DataType::Int64];
    create_udf("version", arguments, DataType::FixedSizeBinary(16), Volatility::Immutable, Arc::new(evaluate))
});

/// The version of a row, of its key and what changes with it.
pub(super) fn version(key: Expr, changed: Expr) -> Expr {
    FUNCTION.call(vec![cast(key, DataType::Utf8), cast(changed, DataType::Int64)])
}

fn evaluate(values: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(values)?;
    let [keys, changed] = arrays.as_slice() else { return internal_err!("a version is of a key and a change") };
    let mut flat = Vec::with_capacity(16 * keys.len());
    for (key, changed) in keys.as_string::<i32>().iter().zip(changed.as_primitive::<Int64Type>()) {
        let version = match (key, changed) {
            (Some(key), Some(changed)) if ![i64::MIN, i64::MAX].contains(&changed) => of(HASHER.hash_one(key).max(NONE + 1), changed),
            _ => of(NONE, 0),
        };
        flat.extend_from_slice(&version.to_be_bytes());
    }
    Ok(ColumnarValue::Array(Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(flat), None)?)))
}

fn of(key: u64, changed: i64) -> u128 {
    (u128::from(key) << 64) | u128::from(changed.cast_unsigned())
}

fn key(version: u128) -> u64 {
    (version >> 64) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn changed(version: u128) -> i64 {
    (version as u64).cast_signed()
}

/// The versions in a column [`super::PART`]: 16 bytes each, the hash of the key and then the change, both as their highest bytes first. A
/// null, or another length, is of no row that can be told apart.
pub fn values(versions: &FixedSizeBinaryArray) -> impl Iterator<Item = u128> + '_ {
    versions.iter().map(|version| version.and_then(|version| version.try_into().ok()).map_or(of(NONE, 0), u128::from_be_bytes))
}

/// The versions of all rows that were read, by the hashes of their keys, of which none is there twice.
pub struct Versions {
    sorted: Vec<u128>,
    // Where those begin whose keys have the same first bits, and the end.
    starts: Vec<u32>,
    shift: u32,
}

impl Versions {
    /// The most rows that are compared: they take twenty bytes each in memory.
    pub const MOST: usize = 1 << 23;

    /// `None` where they do not tell rows apart: one row has none, two have the same key, or they are too many.
    #[must_use]
    pub fn new(mut all: Vec<u128>) -> Option<Self> {
        if all.is_empty() || all.len() > Self::MOST {
            return None;
        }
        all.sort_unstable();
        let twice = |pair: &[u128]| pair.first().map(|version| key(*version)) == pair.last().map(|version| key(*version));
        if all.first().is_some_and(|first| key(*first) == NONE) || all.windows(2).any(twice) {
            return None;
        }
        // One or two of each range.
        let bits = all.len().ilog2();
        let shift = u64::BITS - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        for version in &all {
            if let Some(count) = starts.get_mut(range(key(*version), shift) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Some(Self { sorted: all, starts, shift })
    }

    /// The place of a key, and the version that it had.
    fn find(&self, wanted: u64) -> Option<(usize, u128)> {
        let range = range(wanted, self.shift);
        let (from, to) = (*self.starts.get(range)? as usize, *self.starts.get(range + 1)? as usize);
        let known = self.sorted.get(from..to)?.iter().zip(from..);
        known.map(|(version, place)| (place, *version)).find(|(_, version)| key(*version) == wanted)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as many bits as there are ranges")]
fn range(key: u64, shift: u32) -> usize {
    key.checked_shr(shift).unwrap_or(0) as usize
}

/// The versions of rows that were known and are there yet, key and change.
#[derive(Clone)]
pub struct Stayed {
    known: Arc<Versions>,
    found: BooleanBuffer,
}

impl Stayed {
    /// Those of `known` that are among those of now.
    #[cfg(test)]
    pub(crate) fn of(known: &Arc<Versions>, now: impl Iterator<Item = u128>) -> Self {
        let mut found = nothing(known.sorted.len());
        now.filter_map(|version| known.find(key(version)).filter(|(_, known)| *known == version))
            .for_each(|(place, _)| found.set_bit(place, true));
        Self { known: Arc::clone(known), found: found.finish() }
    }

    /// Whether a row of this version was known, and is there yet.
    #[must_use]
    pub fn holds(&self, version: u128) -> bool {
        self.known.find(key(version)).is_some_and(|(place, known)| known == version && self.found.value(place))
    }
}

fn nothing(length: usize) -> BooleanBufferBuilder {
    let mut bits = BooleanBufferBuilder::new(length);
    bits.append_n(length, false);
    bits
}

/// How many versions there were, and the sum of their hashes: two readings of the same rows agree in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(u64, u64);

impl Sum {
    pub(super) fn add(&mut self, version: u128) {
        *self = Self(self.0 + 1, self.1.wrapping_add(HASHER.hash_one(version)));
    }
}

/// Looks for what is known among the versions that a source has now.
pub(super) struct Comparison {
    known: Arc<Versions>,
    // Of what is known: whose key was met, and who stayed.
    met: BooleanBufferBuilder,
    found: BooleanBufferBuilder,
    rows: usize,
    stayed: usize,
    // Whether each row can be told from the others.
    tells: bool,
    others: Sum,
    // The first change of the others, and the last of all.
    first: Option<i64>,
    last: i64,
}

/// What a comparison says.
pub(super) struct Compared {
    /// Rows that are as they were.
    pub(super) stayed: Stayed,
    /// From which change on there are others.
    pub(super) since: i64,
    /// These others.
    pub(super) others: Sum,
}

impl Comparison {
    pub(super) fn with(known: Arc<Versions>) -> Self {
        let [met, found] = [nothing(known.sorted.len()), nothing(known.sorted.len())];
        Self { known, met, found, rows: 0, stayed: 0, tells: true, others: Sum::default(), first: None, last: i64::MIN }
    }

    pub(super) fn take(&mut self, versions: &FixedSizeBinaryArray) {
        self.rows += versions.len();
        for version in values(versions) {
            let (key, changed) = (key(version), changed(version));
            self.tells &= key != NONE;
            self.last = self.last.max(changed);
            let known = self.known.find(key);
            if let Some((place, _)) = known {
                self.tells &= !self.met.get_bit(place);
                self.met.set_bit(place, true);
            }
            match known.filter(|(_, known)| *known == version) {
                Some((place, _)) => {
                    self.found.set_bit(place, true);
                    self.stayed += 1;
                }
                None => {
                    self.others.add(version);
                    self.first = Some(self.first.map_or(changed, |first| first.min(changed)));
                }
            }
        }
    }

    /// `None` where rows cannot be told apart, or less than half of then or now stayed.
    pub(super) fn done(mut self) -> Option<Compared> {
        if !self.tells || self.stayed * 2 < self.rows.max(self.known.sorted.len()) {
            return None;
        }
        let since = self.first.or_else(|| self.last.checked_add(1))?;
        Some(Compared { stayed: Stayed { known: self.known, found: self.found.finish() }, since, others: self.others })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;

    fn versions(rows: &[(Option<&str>, Option<i64>)]) -> FixedSizeBinaryArray {
        let keys = StringArray::from_iter(rows.iter().map(|row| row.0));
        let changed = Int64Array::from_iter(rows.iter().map(|row| row.1));
        let versions = evaluate(&[ColumnarValue::Array(Arc::new(keys)), ColumnarValue::Array(Arc::new(changed))]).unwrap();
        let ColumnarValue::Array(versions) = versions else { panic!("of each row one") };
        versions.as_fixed_size_binary().clone()
    }

    fn some(rows: &[(&str, i64)]) -> FixedSizeBinaryArray {
        versions(&rows.iter().map(|(key, changed)| (Some(*key), Some(*changed))).collect::<Vec<_>>())
    }

    /// What a comparison of rows with those of before says: which of the new rows stayed, and since when there are others.
    fn compared(before: &[(&str, i64)], now: &[(&str, i64)]) -> Option<(Vec<bool>, i64)> {
        let known = Versions::new(values(&some(before)).collect())?;
        let versions = some(now);
        let mut comparison = Comparison::with(Arc::new(known));
        // In two parts, as a stream comes.
        let half = now.len() / 2;
        comparison.take(&versions.slice(0, half));
        comparison.take(&versions.slice(half, now.len() - half));
        let Compared { stayed, since, others } = comparison.done()?;
        let stays: Vec<bool> = values(&versions).map(|version| stayed.holds(version)).collect();
        let mut sum = Sum::default();
        values(&versions).zip(&stays).filter(|(_, stays)| !**stays).for_each(|(version, _)| sum.add(version));
        assert_eq!(sum, others);
        Some((stays, since))
    }

    #[test]
    fn rows_stay_that_have_the_same_key_and_change_and_others_are_told_from_their_first_change_on() {
        let before = [("a", 1), ("b", 2), ("c", 3), ("d", -4)];
        assert_eq!(compared(&before, &before), Some((vec![true; 4], 4)), "nothing is read again");
        // Changed, deleted, new, and committed late.
        assert_eq!(compared(&before, &[("d", -4), ("a", 1), ("b", 9), ("c", 3)]), Some((vec![true, true, false, true], 9)));
        assert_eq!(compared(&before, &[("c", 3), ("a", 1)]), Some((vec![true; 2], 4)));
        assert_eq!(compared(&before, &[("e", 2), ("c", 3), ("a", 1), ("f", 7)]), Some((vec![false, true, true, false], 2)));
        // Another row's change, or an earlier one, is another version.
        assert_eq!(compared(&before, &[("a", 2), ("b", 2), ("c", 3)]), Some((vec![false, true, true], 2)));
        assert_eq!(compared(&before, &[("a", 1), ("b", -2), ("c", 3)]), Some((vec![true, false, true], -2)));
    }

    #[test]
    fn nothing_stays_where_rows_cannot_be_told_apart_or_most_changed() {
        let before = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];
        assert_eq!(compared(&before, &[("a", 1), ("b", 2), ("c", 3), ("c", 3)]), None, "one is there twice");
        assert_eq!(compared(&before, &[("a", 1), ("b", 2), ("c", 3), ("c", 9)]), None, "one key is");
        // Each of two rows with one key changes, one to what the other was.
        assert_eq!(compared(&[("a", 1), ("a", 2), ("b", 1), ("c", 1)], &[("a", 2), ("a", 3), ("b", 1), ("c", 1)]), None);
        assert_eq!(compared(&before, &[("a", 1), ("b", 5)]), None);
        assert_eq!(compared(&before[..1], &[("a", 1), ("b", 2), ("c", 3)]), None);
        assert_eq!(compared(&[], &before), None);
        assert_eq!(compared(&before, &[]), None);
        let none = versions(&[(None, Some(1)), (Some("a"), None), (None, None), (Some("a"), Some(i64::MAX)), (Some("a"), Some(i64::MIN))]);
        assert!(values(&none).all(|version| version == of(NONE, 0)));
        assert!(Versions::new(vec![of(5, 1), of(NONE, 0), of(7, 1)]).is_none());
        let mut comparison = Comparison::with(Arc::new(Versions::new(values(&some(&[("a", 1)])).collect()).unwrap()));
        comparison.take(&versions(&[(Some("a"), Some(1)), (None, Some(2))]));
        assert!(comparison.done().is_none());
    }

    #[test]
    fn two_readings_agree_in_number_and_sum_of_the_same_rows_only() {
        let sum = |rows: &[(&str, i64)]| {
            let mut sum = Sum::default();
            values(&some(rows)).for_each(|version| sum.add(version));
            sum
        };
        let rows = [("a", 1), ("b", -2), ("c", 3)];
        assert_eq!(sum(&rows), sum(&[rows[2], rows[0], rows[1]]));
        for others in [&rows[..2], &[("a", 1), ("b", -1), ("c", 3)], &[("a", 1), ("b", -2), ("d", 3)], &[("a", -2), ("b", 1), ("c", 3)]] {
            assert_ne!(sum(&rows), sum(others));
        }
    }

    #[test]
    fn each_of_many_is_found_and_nothing_else() {
        for count in [1, 2, 3, 1_000, 4_096, 50_000] {
            let hash = |number: i64| HASHER.hash_one(number).max(1);
            let all: Vec<u128> = (0..count).map(|number| of(hash(number), -number)).collect();
            let versions = Versions::new(all.clone()).unwrap();
            let found = |number: i64| {
                let (place, version) = versions.find(hash(number)).unwrap();
                assert_eq!((key(version), changed(version)), (hash(number), -number));
                place
            };
            let mut places: Vec<usize> = (0..count).map(found).collect();
            places.sort_unstable();
            assert_eq!(places, (0..all.len()).collect::<Vec<_>>());
            assert!((count..count + 1_000).all(|number| versions.find(hash(number)).is_none()));
            assert!([0, u64::MAX].iter().all(|wanted| versions.find(*wanted).is_none_or(|(_, version)| key(version) == *wanted)));
        }
    }
}
