//! Versions of a database's rows: of each, a hash of its key and of what stands in the column that changes with it. By them two readings
//! tell which rows stayed as they were, those that were deleted and those whose change was committed late included.
//!
//! Hashes are keyed with what only this process knows, so that nobody prepares rows that are taken for one another.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{AsArray as _, BooleanBufferBuilder, Int64Array, UInt64Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, cast, create_udf};

/// Of a row without a key or a change, or whose time of change is infinite: it stays the same whatever is changed.
const NONE: u64 = 0;
/// The most rows that are compared: they take twelve bytes each in memory.
const MOST: usize = 1 << 24;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

static FUNCTION: LazyLock<ScalarUDF> = LazyLock::new(|| {
    create_udf("version", vec![DataType::Utf8, DataType::Int64], DataType::UInt64, Volatility::Immutable, Arc::new(evaluate))
});

/// The version of a row, of its key and what changes with it.
pub(super) fn version(key: Expr, changed: Expr) -> Expr {
    FUNCTION.call(vec![cast(key, DataType::Utf8), cast(changed, DataType::Int64)])
}

fn evaluate(values: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(values)?;
    let [keys, changed] = arrays.as_slice() else { return datafusion::common::internal_err!("a version is of a key and a change") };
    let (keys, changed) = (keys.as_string::<i32>(), changed.as_primitive::<Int64Type>());
    let version = |(key, changed): (Option<&str>, Option<i64>)| match (key, changed) {
        (Some(key), Some(changed)) if ![i64::MIN, i64::MAX].contains(&changed) => HASHER.hash_one((key, changed)).max(NONE + 1),
        _ => NONE,
    };
    Ok(ColumnarValue::Array(Arc::new(UInt64Array::from_iter_values(keys.iter().zip(changed).map(version)))))
}

/// The versions of all rows that were read.
pub(crate) struct Versions {
    sorted: Vec<u64>,
    // Where those begin that have the same first bits, and the end.
    starts: Vec<u32>,
    shift: u32,
}

impl Versions {
    /// `None` where they do not tell rows apart: one row has none, two have the same, or they are too many.
    pub(crate) fn new(mut all: Vec<u64>) -> Option<Self> {
        if all.is_empty() || all.len() > MOST {
            return None;
        }
        all.sort_unstable();
        if all.first() == Some(&NONE) || all.windows(2).any(|pair| pair.first() == pair.last()) {
            return None;
        }
        // One or two of each range.
        let bits = all.len().ilog2();
        let shift = u64::BITS - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        for version in &all {
            if let Some(count) = starts.get_mut(range(*version, shift) + 1) {
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

    fn place(&self, version: u64) -> Option<usize> {
        let range = range(version, self.shift);
        let (from, to) = (*self.starts.get(range)? as usize, *self.starts.get(range + 1)? as usize);
        self.sorted.get(from..to)?.iter().position(|known| *known == version).map(|place| from + place)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as many bits as there are ranges")]
fn range(version: u64, shift: u32) -> usize {
    version.checked_shr(shift).unwrap_or(0) as usize
}

/// Those that were found again.
#[derive(Clone)]
pub(crate) struct Stayed {
    known: Arc<Versions>,
    found: BooleanBuffer,
}

impl Stayed {
    /// Those of `known` that are among those of now.
    #[cfg(test)]
    pub(crate) fn of(known: &Arc<Versions>, now: impl Iterator<Item = u64>) -> Self {
        let mut comparison = Comparison::with(Arc::clone(known));
        now.filter_map(|version| known.place(version)).for_each(|place| comparison.found.set_bit(place, true));
        Self { known: Arc::clone(known), found: comparison.found.finish() }
    }

    /// Whether a row of this version was known, and is there yet.
    pub(crate) fn holds(&self, version: u64) -> bool {
        self.known.place(version).is_some_and(|place| self.found.value(place))
    }
}

/// Looks for what is known among the versions that a source has now.
pub(super) struct Comparison {
    known: Arc<Versions>,
    found: BooleanBufferBuilder,
    rows: usize,
    stayed: usize,
    // Whether each row can be told from the others.
    tells: bool,
    // The first change of rows that are not known, and the last of all.
    first: Option<i64>,
    last: i64,
}

impl Comparison {
    pub(super) fn with(known: Arc<Versions>) -> Self {
        let mut found = BooleanBufferBuilder::new(known.sorted.len());
        found.append_n(known.sorted.len(), false);
        Self { known, found, rows: 0, stayed: 0, tells: true, first: None, last: i64::MIN }
    }

    pub(super) fn take(&mut self, versions: &UInt64Array, changed: &Int64Array) {
        self.rows += versions.len();
        for (version, changed) in versions.values().iter().zip(changed.values()) {
            self.tells &= *version != NONE;
            self.last = self.last.max(*changed);
            match self.known.place(*version) {
                Some(place) => {
                    self.tells &= !self.found.get_bit(place);
                    self.found.set_bit(place, true);
                    self.stayed += 1;
                }
                None => self.first = Some(self.first.map_or(*changed, |first| first.min(*changed))),
            }
        }
    }

    /// What stayed, and since when others changed; `None` where rows cannot be told apart, or less than half of then or now stayed.
    pub(super) fn done(mut self) -> Option<(Stayed, i64)> {
        if !self.tells || self.stayed * 2 < self.rows.max(self.known.sorted.len()) {
            return None;
        }
        let since = self.first.or_else(|| self.last.checked_add(1))?;
        Some((Stayed { known: self.known, found: self.found.finish() }, since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(Option<&str>, Option<i64>)]) -> UInt64Array {
        let keys = datafusion::arrow::array::StringArray::from_iter(rows.iter().map(|row| row.0));
        let changed = Int64Array::from_iter(rows.iter().map(|row| row.1));
        let versions = evaluate(&[ColumnarValue::Array(Arc::new(keys)), ColumnarValue::Array(Arc::new(changed))]).unwrap();
        let ColumnarValue::Array(versions) = versions else { panic!("of each row one") };
        versions.as_primitive().clone()
    }

    /// What a comparison of rows with those of before says: which of the new rows stayed, and since when there are others.
    fn compared(before: &[(&str, i64)], now: &[(&str, i64)]) -> Option<(Vec<bool>, i64)> {
        let some = |rows: &[(&str, i64)]| rows.iter().map(|(key, changed)| (Some(key.to_string()), Some(*changed))).collect::<Vec<_>>();
        let versions = |rows: &[(&str, i64)]| of(&some(rows).iter().map(|(key, changed)| (key.as_deref(), *changed)).collect::<Vec<_>>());
        let known = Versions::new(versions(before).values().to_vec())?;
        let (versions, changed) = (versions(now), Int64Array::from_iter_values(now.iter().map(|row| row.1)));
        let mut comparison = Comparison::with(Arc::new(known));
        // In two parts, as a stream comes.
        let half = now.len() / 2;
        comparison.take(&versions.slice(0, half), &changed.slice(0, half));
        comparison.take(&versions.slice(half, now.len() - half), &changed.slice(half, now.len() - half));
        let (stayed, since) = comparison.done()?;
        Some((versions.values().iter().map(|version| stayed.holds(*version)).collect(), since))
    }

    #[test]
    fn rows_stay_that_have_the_same_key_and_change_and_others_are_told_from_their_first_change_on() {
        let before = [("a", 1), ("b", 2), ("c", 3), ("d", -4)];
        assert_eq!(compared(&before, &before), Some((vec![true; 4], 4)), "nothing is read again");
        // Changed, deleted, new, and committed late.
        assert_eq!(compared(&before, &[("d", -4), ("a", 1), ("b", 9), ("c", 3)]), Some((vec![true, true, false, true], 9)));
        assert_eq!(compared(&before, &[("c", 3), ("a", 1)]), Some((vec![true; 2], 4)));
        assert_eq!(compared(&before, &[("e", 2), ("c", 3), ("a", 1), ("f", 7)]), Some((vec![false, true, true, false], 2)));
        // Another row's key, or its change, is another version.
        assert_eq!(compared(&before, &[("a", 2), ("b", 2), ("c", 3)]), Some((vec![false, true, true], 2)));
    }

    #[test]
    fn nothing_stays_where_rows_cannot_be_told_apart_or_most_changed() {
        let before = [("a", 1), ("b", 2), ("c", 3), ("d", 4)];
        assert_eq!(compared(&before, &[("a", 1), ("b", 2), ("c", 3), ("c", 3)]), None, "one is there twice");
        assert_eq!(compared(&[("a", 1), ("a", 1)], &[("a", 1)]), None);
        assert_eq!(compared(&before, &[("a", 1), ("b", 5)]), None);
        assert_eq!(compared(&before[..1], &[("a", 1), ("b", 2), ("c", 3)]), None);
        assert_eq!(compared(&[], &before), None);
        assert_eq!(compared(&before, &[]), None);
        let none = of(&[(None, Some(1)), (Some("a"), None), (None, None), (Some("a"), Some(i64::MAX)), (Some("a"), Some(i64::MIN))]);
        assert_eq!(none.values(), &[NONE; 5]);
        assert!(Versions::new(vec![5, NONE, 7]).is_none());
        let mut comparison = Comparison::with(Arc::new(Versions::new(of(&[(Some("a"), Some(1))]).values().to_vec()).unwrap()));
        comparison.take(&of(&[(Some("a"), Some(1)), (None, Some(2))]), &Int64Array::from(vec![1, 2]));
        assert!(comparison.done().is_none());
    }

    #[test]
    fn each_of_many_is_found_and_nothing_else() {
        for count in [1, 2, 3, 1_000, 4_096, 50_000] {
            let all: Vec<u64> = (0..count).map(|number| HASHER.hash_one(number).max(1)).collect();
            let versions = Versions::new(all.clone()).unwrap();
            let mut places: Vec<usize> = all.iter().map(|version| versions.place(*version).unwrap()).collect();
            places.sort_unstable();
            assert_eq!(places, (0..all.len()).collect::<Vec<_>>());
            assert!((count..count + 1_000).all(|number| versions.place(HASHER.hash_one(number)).is_none()));
            assert!([0, u64::MAX].iter().all(|version| all.contains(version) || versions.place(*version).is_none()));
        }
    }
}
