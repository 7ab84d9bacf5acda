//! Pseudonyms ascend, and stay inside their partition's part of the range.

use arrow::array::{Array as _, RecordBatch};

use super::StreamError;
use crate::schema::{PSEUDONYM_BYTES, partition_of, pseudonyms, split_points};

/// Checks one partition's batches as they come.
pub(super) struct Ascending {
    partition: usize,
    splits: Vec<[u8; PSEUDONYM_BYTES]>,
    last: u128,
}

impl Ascending {
    pub(super) fn new(partition: usize, partitions: u32) -> Self {
        Self { partition, splits: split_points(partitions), last: 0 }
    }

    /// # Errors
    /// [`StreamError::Descending`], [`StreamError::Partition`], [`StreamError::Null`].
    pub(super) fn check(&mut self, batch: &RecordBatch) -> Result<(), StreamError> {
        let column = batch.columns().first().ok_or(StreamError::Schema)?;
        let subjects = pseudonyms(column).ok_or(StreamError::Schema)?;
        if column.null_count() > 0 {
            return Err(StreamError::Null);
        }
        let (Some(first), Some(last)) = (subjects.first(), subjects.last()) else { return Ok(()) };
        let mut before = self.last;
        for subject in subjects.iter().map(|subject| u128::from_be_bytes(*subject)) {
            if subject < before {
                return Err(StreamError::Descending);
            }
            before = subject;
        }
        // Ascending, so what lies between the first and the last lies in their partition.
        if [first, last].iter().any(|subject| partition_of(*subject, &self.splits) != self.partition) {
            return Err(StreamError::Partition);
        }
        self.last = before;
        Ok(())
    }
}
