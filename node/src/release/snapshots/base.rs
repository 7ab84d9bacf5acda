//! What a snapshot takes over of the one before it: the rows of files, or of a database, that are as they were, which are not read, made
//! pseudonymous and sorted again.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray, RecordBatch, UInt16Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{SchemaRef, UInt16Type};
use concordat_policy::Refusal;

use super::super::buckets::Buckets;
use super::super::runs::Loaded;
use super::made::{Snapshot, number};
use crate::datasets::{Known, LeftOut, values};
use crate::source::Seen;

/// The snapshot before, and what it is of.
pub(super) struct Before {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) known: Known,
    /// When a snapshot was last made that took over nothing.
    pub(super) whole: Seen,
}

/// Rows that are taken over.
pub(crate) struct Base {
    snapshot: Arc<Snapshot>,
    left_out: LeftOut,
    schema: SchemaRef,
    // By bucket.
    rows: Vec<u32>,
}

/// A block, with what tells its rows apart now, and which of its rows are taken over.
pub(crate) struct BlockRows {
    index: usize,
    batch: RecordBatch,
    taken: BooleanBuffer,
}

impl Base {
    /// What a snapshot in the form of `schema` takes over of the one before: what its scan `left_out`. Blocks.
    pub(super) fn new(snapshot: Arc<Snapshot>, left_out: LeftOut, schema: SchemaRef, buckets: &Buckets) -> Result<Self, Refusal> {
        let mut base = Self { snapshot, left_out, schema, rows: vec![0; buckets.len()] };
        for index in 0..base.snapshot.blocks().len() {
            let block = base.block(index)?;
            let subjects = base.snapshot.subjects(block)?;
            let (_, taken) = base.parts(index)?;
            for row in taken.set_indices() {
                if let Some(rows) = base.rows.get_mut(buckets.of(number(subjects.value(row)))) {
                    *rows += 1;
                }
            }
        }
        Ok(base)
    }

    /// How many rows a bucket has of it.
    pub(in super::super) fn rows(&self, bucket: usize) -> usize {
        self.rows.get(bucket).map_or(0, |rows| *rows as usize)
    }

    /// Loads the rows between two pseudonyms. The block that was read last is kept in `last`.
    pub(in super::super) fn load(
        &self,
        (from, to): (u128, Option<u128>),
        last: &mut Option<BlockRows>,
        loaded: &mut Loaded,
    ) -> Result<(), Refusal> {
        for index in self.snapshot.between(from, to) {
            let block = match last.take().filter(|last| last.index == index) {
                Some(block) => block,
                None => self.read(index)?,
            };
            let block = last.insert(block);
            let wanted = |row, key| block.taken.value(row) && key >= from && to.is_none_or(|to| key < to);
            loaded.some(block.batch.clone(), wanted)?;
        }
        Ok(())
    }

    fn block(&self, index: usize) -> Result<&super::made::Block, Refusal> {
        self.snapshot.blocks().get(index).ok_or_else(|| Refusal::internal("a snapshot without a block"))
    }

    /// Of each row of a block, what tells it apart now, and whether it is taken over.
    fn parts(&self, index: usize) -> Result<(ArrayRef, BooleanBuffer), Refusal> {
        let missing = || Refusal::internal("a snapshot that does not tell its rows apart");
        let block = self.block(index)?;
        let parts = self.snapshot.parts(block)?;
        match &self.left_out {
            LeftOut::Nothing => Err(missing()),
            LeftOut::Files(numbers) => {
                // One that is of a single file does not say so row by row.
                let single = || (numbers.len() == 1).then(|| Arc::new(UInt16Array::from(vec![0; block.valid.len()])) as ArrayRef);
                let parts = parts.or_else(single).ok_or_else(missing)?;
                let then = parts.as_primitive_opt::<UInt16Type>().ok_or_else(missing)?.values();
                let now = |then: &u16| numbers.get(usize::from(*then)).copied().flatten();
                let taken = BooleanBuffer::collect_bool(then.len(), |row| then.get(row).and_then(now).is_some());
                Ok((Arc::new(then.iter().map(|then| now(then).unwrap_or_default()).collect::<UInt16Array>()), taken))
            }
            LeftOut::Versions(stayed) => {
                let parts = parts.ok_or_else(missing)?;
                let versions = parts.as_fixed_size_binary_opt().ok_or_else(missing)?;
                let taken = values(versions).map(|version| stayed.holds(version)).collect();
                Ok((parts, taken))
            }
        }
    }

    fn read(&self, index: usize) -> Result<BlockRows, Refusal> {
        let (snapshot, block) = (&self.snapshot, self.block(index)?);
        let (parts, taken) = self.parts(index)?;
        let valid = BooleanArray::new(block.valid.clone(), None);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(snapshot.subjects(block)?), Arc::new(valid), Arc::new(snapshot.choices(block)?)];
        if snapshot.links {
            columns.push(Arc::new(snapshot.linked(block)?));
            columns.push(Arc::new(snapshot.linked_choices(block)?));
        }
        for (column, field) in (0..snapshot.columns.len()).zip(self.schema.fields().iter().skip(columns.len())) {
            columns.push(cast(&snapshot.column(block, column)?, field.data_type()).map_err(Refusal::internal)?);
        }
        if columns.len() < self.schema.fields().len() {
            columns.push(parts);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(Refusal::internal)?;
        Ok(BlockRows { index, batch, taken })
    }
}
