//! Which cells of a result are withheld, by its mask: the last column, a bit for each of the columns before it.

use arrow::array::{Array as _, RecordBatch, UInt64Array};
use concordat_policy::Refusal;

use crate::execute::Protected;

/// Whether the column at `place` is withheld in a row. A row without a mask has all of its values withheld.
pub(super) fn is_withheld(mask: Option<u64>, place: usize) -> bool {
    place < 64 && mask.is_none_or(|mask| mask >> place & 1 == 1)
}

impl Protected {
    /// The mask of one batch, where something may be withheld.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] when it is not there.
    pub(super) fn mask<'b>(&self, batch: &'b RecordBatch) -> Result<Option<&'b UInt64Array>, Refusal> {
        if !self.masked {
            return Ok(None);
        }
        let last = batch.columns().last().and_then(|mask| mask.as_any().downcast_ref::<UInt64Array>());
        last.map(Some).ok_or_else(|| Refusal::internal("no mask"))
    }

    /// How many cells of each column are withheld: as the caller sees it, so that it tells nothing more.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] when the result does not have the shape that was planned.
    pub(crate) fn withheld(&self) -> Result<Vec<u64>, Refusal> {
        let mut cells = vec![0u64; self.columns.fields().len()];
        for batch in &self.batches {
            for mask in self.mask(batch)?.into_iter().flatten() {
                let withheld = cells.iter_mut().enumerate().filter(|(place, _)| is_withheld(mask, *place));
                withheld.for_each(|(_, cells)| *cells += 1);
            }
        }
        Ok(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_is_a_column_and_no_mask_is_all_of_them() {
        let withheld = |mask| (0..4).filter(|place| is_withheld(mask, *place)).collect::<Vec<_>>();
        assert_eq!(withheld(Some(0)), [0usize; 0]);
        assert_eq!(withheld(Some(0b1010)), [1, 3]);
        assert_eq!(withheld(None), [0, 1, 2, 3]);
        assert!(!is_withheld(Some(u64::MAX), 64), "no bit is left for it");
    }
}
