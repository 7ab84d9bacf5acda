//! What a snapshot takes over of the one before it: the rows of files that are as they were, which are not read, made pseudonymous and
//! sorted again.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt16Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use concordat_policy::Refusal;

use super::super::buckets::Buckets;
use super::super::runs::Loaded;
use super::made::{Snapshot, number};
use crate::datasets::Known;
use crate::source::SourceFile;

/// The snapshot before, and what it is of.
pub(super) struct Before {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) known: Known,
}

/// Rows that are taken over.
pub(crate) struct Base {
    snapshot: Arc<Snapshot>,
    // By a file's number then: its number now, unless it is gone or changed.
    numbers: Vec<Option<u16>>,
    schema: SchemaRef,
    // By bucket.
    rows: Vec<u32>,
}

/// A block, with the files' numbers of now, and which of its rows are taken over.
pub(crate) struct BlockRows {
    index: usize,
    batch: RecordBatch,
    taken: BooleanBuffer,
}

impl Base {
    /// What a snapshot in the form of `schema` takes over: the rows of files that its scan `left_out`, by their numbers now. Blocks.
    pub(super) fn new(before: &Before, left_out: &HashMap<SourceFile, u16>, schema: SchemaRef, buckets: &Buckets) -> Result<Self, Refusal> {
        let numbers = before.known.files.iter().map(|file| left_out.get(file).copied()).collect();
        let mut base = Self { snapshot: Arc::clone(&before.snapshot), numbers, schema, rows: vec![0; buckets.len()] };
        for index in 0..base.snapshot.blocks().len() {
            let block = base.block(index)?;
            let subjects = base.snapshot.subjects(block)?;
            let (_, taken) = base.numbered(index)?;
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

    /// Of each row of a block, its file's number now, and whether it is taken over.
    fn numbered(&self, index: usize) -> Result<(Vec<u16>, BooleanBuffer), Refusal> {
        let block = self.block(index)?;
        // One that is of a single file does not say so row by row.
        let single = (self.numbers.len() == 1).then(|| UInt16Array::from(vec![0; block.valid.len()]));
        let then = self.snapshot.numbers(block)?.or(single);
        let then = then.ok_or_else(|| Refusal::internal("a snapshot that does not say of which files its rows are"))?;
        let now = |then: &u16| self.numbers.get(usize::from(*then)).copied().flatten();
        let taken = BooleanBuffer::collect_bool(then.len(), |row| then.values().get(row).is_some_and(|then| now(then).is_some()));
        Ok((then.values().iter().map(|then| now(then).unwrap_or_default()).collect(), taken))
    }

    fn read(&self, index: usize) -> Result<BlockRows, Refusal> {
        let (snapshot, block) = (&self.snapshot, self.block(index)?);
        let (numbers, taken) = self.numbered(index)?;
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
            columns.push(Arc::new(UInt16Array::from(numbers)));
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(Refusal::internal)?;
        Ok(BlockRows { index, batch, taken })
    }
}
