//! The Arrow schema of a release, and the split of the pseudonym's range into partitions.
//!
//! | field | type |
//! |---|---|
//! | `subject` | `FixedSizeBinary(16)`, not null, ascending (big-endian bytes) within and across partitions |
//! | `linked_subject`, of a link dataset where it is ordered | `FixedSizeBinary(16)`, not null, in no order |
//! | each ordered column, in order | `Dictionary(Int32, Utf8)`, `Int64`, `Float64`, `Boolean` or `Date32`, nullable |
//!
//! A `Float64` is finite or null.

use arrow::array::{Array, FixedSizeBinaryArray};
use arrow::datatypes::{DataType, Field, Schema};
use concordat_policy::ColumnType;
use concordat_policy::column::{LINKED, SUBJECT};

/// Bytes of a pseudonym.
pub const PSEUDONYM_BYTES: usize = 16;

/// The Arrow type that carries a column on the wire.
#[must_use]
pub fn wire_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Text => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        ColumnType::Integer => DataType::Int64,
        ColumnType::Number => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date => DataType::Date32,
    }
}

/// The field of the pseudonym.
#[must_use]
pub fn subject_field() -> Field {
    Field::new(SUBJECT, DataType::FixedSizeBinary(16), false)
}

/// The field of a link dataset's second pseudonym.
#[must_use]
pub fn linked_field() -> Field {
    Field::new(LINKED, DataType::FixedSizeBinary(16), false)
}

/// The schema of a release of `columns`, with the second pseudonym of a link dataset if it is `linked`.
#[must_use]
pub fn release_schema<'a>(linked: bool, columns: impl IntoIterator<Item = (&'a str, ColumnType)>) -> Schema {
    let fields = columns.into_iter().map(|(name, kind)| Field::new(name, wire_type(kind), true));
    let linked = linked.then(linked_field);
    Schema::new(std::iter::once(subject_field()).chain(linked).chain(fields).collect::<Vec<_>>())
}

/// The pseudonyms of a column of such, which is not asked whether any is null; `None` of another type.
#[must_use]
pub fn pseudonyms(column: &dyn Array) -> Option<&[[u8; PSEUDONYM_BYTES]]> {
    let column = column.as_any().downcast_ref::<FixedSizeBinaryArray>()?;
    let (pseudonyms, _) = column.value_data().as_chunks();
    (*column.data_type() == DataType::FixedSizeBinary(16)).then_some(pseudonyms)
}

/// The lower bounds of partitions 1 to `partitions` − 1: equal parts of the 128-bit range. A pseudonym equal to a bound
/// belongs to the partition above it. Every department splits alike, so that partition *i* meets only partition *i*.
#[must_use]
pub fn split_points(partitions: u32) -> Vec<[u8; PSEUDONYM_BYTES]> {
    let n = u128::from(partitions.max(1));
    // floor(i · 2^128 / n), from 2^128 = n · (MAX / n) + (MAX mod n) + 1.
    let (whole, rest) = (u128::MAX / n, u128::MAX % n + 1);
    (1..n).map(|i| (i * whole + i * rest / n).to_be_bytes()).collect()
}

/// The partition to which a pseudonym belongs.
#[must_use]
pub fn partition_of(pseudonym: &[u8], splits: &[[u8; PSEUDONYM_BYTES]]) -> usize {
    splits.partition_point(|bound| bound.as_slice() <= pseudonym)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_are_those_of_the_rows_also_of_a_slice() {
        let of = |size: usize| FixedSizeBinaryArray::try_from_iter((1..=3_u8).map(|byte| vec![byte; size])).unwrap();
        assert_eq!(pseudonyms(&of(16).slice(1, 2)), Some(&[[2; 16], [3; 16]][..]));
        assert_eq!(pseudonyms(&of(8)), None);
    }

    #[test]
    fn splits_are_equal_parts_for_powers_of_two_and_ordered_for_all() {
        assert_eq!(split_points(2), vec![(1u128 << 127).to_be_bytes()]);
        assert_eq!(split_points(4), [1u128 << 126, 2 << 126, 3 << 126].map(u128::to_be_bytes));
        for n in 1..=64u32 {
            let points = split_points(n);
            assert_eq!(points.len(), n as usize - 1);
            assert!(points.is_sorted() && points.windows(2).all(|w| w[0] != w[1]));
            for (index, point) in points.iter().enumerate() {
                assert_eq!(partition_of(point, &points), index + 1, "a bound belongs above");
                let below = (u128::from_be_bytes(*point) - 1).to_be_bytes();
                assert_eq!(partition_of(&below, &points), index);
            }
        }
    }
}
