//! Pseudonyms ascend, and stay inside their partition's part of the range.

use arrow::array::{Array as _, FixedSizeBinaryArray, RecordBatch};

use super::StreamError;
use crate::schema::{PSEUDONYM_BYTES, partition_of, split_points};

/// Checks one partition's batches as they come.
pub(super) struct Ascending {
    partition: usize,
    splits: Vec<[u8; PSEUDONYM_BYTES]>,
    last: [u8; PSEUDONYM_BYTES],
}

impl Ascending {
    pub(super) fn new(partition: usize, partitions: u32) -> Self {
        Self { partition, splits: split_points(partitions), last: [0; PSEUDONYM_BYTES] }
    }

    /// # Errors
    /// [`StreamError::Descending`], [`StreamError::Partition`], [`StreamError::Null`].
    pub(super) fn check(&mut self, batch: &RecordBatch) -> Result<(), StreamError> {
        let subjects = batch.columns().first().and_then(|c| c.as_any().downcast_ref::<FixedSizeBinaryArray>());
        let subjects = subjects.ok_or(StreamError::Schema)?;
        if subjects.null_count() > 0 {
            return Err(StreamError::Null);
        }
        let Some(end) = subjects.len().checked_sub(1) else { return Ok(()) };
        let mut last = self.last.as_slice();
        for subject in subjects.iter().flatten() {
            if subject < last {
                return Err(StreamError::Descending);
            }
            last = subject;
        }
        // Ascending, so what lies between the first and the last lies in their partition.
        if [0, end].iter().any(|index| partition_of(subjects.value(*index), &self.splits) != self.partition) {
            return Err(StreamError::Partition);
        }
        self.last = last.try_into().map_err(|_| StreamError::Schema)?;
        Ok(())
    }
}
