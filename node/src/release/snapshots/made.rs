//! One linked snapshot: all rows of a dataset that an agreement lets leave it, sorted by pseudonym, in blocks of sealed columns.
//!
//! In memory are the bounds of each block, which rows have a valid identifier (a bit a row), the few different texts of a column, and
//! for the last consent records that were asked for, whom they allow (a bit a row).

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array as _, ArrayRef, AsArray as _, FixedSizeBinaryArray, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use concordat_policy::{ColumnType, Refusal};

use super::super::partition::Partition;
use super::super::runs::Sorted;
use super::super::sealed::{Place, Room, Sealed};
use super::super::worker::Rules;
use super::decide::Decided;
use super::gather;
use super::texts::{Meeting, Texts};
use crate::datasets::{Apart, Versions, storage_type, values};

/// In how many parts the rows are sorted that become one.
pub(super) const PARTITIONS: u32 = 2;

/// Where a block's columns begin, among its pieces: those of [`gather::schema`] but for the bits.
const SUBJECT: usize = 0;
const CHOICES: usize = 1;
const LINKED: usize = 2;
const LINKED_CHOICES: usize = 3;

/// A snapshot.
pub(crate) struct Snapshot {
    blocks: Vec<Block>,
    sealed: Sealed,
    /// The dataset's columns.
    pub(super) columns: Vec<(String, ColumnType)>,
    // Of each column of text.
    texts: Vec<Option<Texts>>,
    /// Whether it is of a link dataset.
    pub(super) links: bool,
    /// By what it tells its rows apart.
    pub(super) apart: Option<Apart>,
    /// How old the data is, Unix seconds.
    pub(crate) freshness: i64,
    /// The newest decisions over its rows.
    decided: Mutex<Vec<Arc<Decided>>>,
    /// Whether something of it could not be read.
    broken: AtomicBool,
}

/// Rows that stand together.
pub(super) struct Block {
    pub(super) first: u128,
    pub(super) last: u128,
    /// Which rows have a valid identifier.
    pub(super) valid: BooleanBuffer,
    pieces: Vec<Place>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} blocks)", self.blocks.len())
    }
}

impl Snapshot {
    /// Seals what was sorted, in a file in `folder`. Blocks.
    pub(super) fn make(
        sorted: Sorted,
        rules: &Rules,
        apart: Option<Apart>,
        freshness: i64,
        folder: &Path,
        room: Arc<Room>,
    ) -> Result<Self, Refusal> {
        let (sorted, schema) = (Arc::new(sorted), gather::schema(rules, apart));
        let mut sealed = Sealed::new(folder, room)?;
        let mut meeting: Vec<Option<Meeting>> =
            rules.columns.iter().map(|(_, kind)| (*kind == ColumnType::Text).then(Meeting::default)).collect();
        let mut blocks = Vec::new();
        for partition in 0..PARTITIONS {
            let mut rows = Partition::sorted(Arc::clone(&sorted), Arc::clone(&schema), partition);
            while let Some(batch) = rows.next_batch()? {
                blocks.extend(Block::make(&batch, &mut meeting, rules.linked.is_some(), &mut sealed)?);
            }
        }
        Ok(Self {
            blocks,
            sealed,
            columns: rules.columns.clone(),
            texts: meeting.into_iter().map(|meeting| meeting.map(Meeting::done)).collect(),
            links: rules.linked.is_some(),
            apart,
            freshness,
            decided: Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(super) fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.valid.len()).sum()
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.sealed.bytes()
    }

    /// Whether something of it could not be read: no further order is answered from it.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Bytes in memory.
    pub(super) fn memory(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| block.valid.inner().len() + size_of_val(block.pieces.as_slice())).sum();
        let decided: usize = self.decided().iter().map(|decided| decided.bytes()).sum();
        blocks + decided + self.texts.iter().flatten().map(Texts::bytes).sum::<usize>()
    }

    /// The blocks that can hold pseudonyms from `from` on, up to `to`.
    pub(super) fn between(&self, from: u128, to: Option<u128>) -> Range<usize> {
        let start = self.blocks.partition_point(|block| block.last < from);
        let end = to.map_or(self.blocks.len(), |to| self.blocks.partition_point(|block| block.first < to));
        start..end.max(start)
    }

    pub(super) fn subjects(&self, block: &Block) -> Result<FixedSizeBinaryArray, Refusal> {
        self.bytes_of(block, SUBJECT)
    }

    /// The hashes by which the choices of a block's subjects are found.
    pub(super) fn choices(&self, block: &Block) -> Result<FixedSizeBinaryArray, Refusal> {
        self.bytes_of(block, CHOICES)
    }

    /// Of a link dataset, the second pseudonyms.
    pub(super) fn linked(&self, block: &Block) -> Result<FixedSizeBinaryArray, Refusal> {
        self.bytes_of(block, if self.links { LINKED } else { usize::MAX })
    }

    /// Of a link dataset, the hashes for the second subjects.
    pub(super) fn linked_choices(&self, block: &Block) -> Result<FixedSizeBinaryArray, Refusal> {
        self.bytes_of(block, if self.links { LINKED_CHOICES } else { usize::MAX })
    }

    fn bytes_of(&self, block: &Block, piece: usize) -> Result<FixedSizeBinaryArray, Refusal> {
        let column = self.piece(block, piece)?;
        column.as_fixed_size_binary_opt().cloned().ok_or_else(|| Refusal::internal("a snapshot without pseudonyms"))
    }

    /// What tells the rows of a block apart, in the type that [`Apart::kind`] says; `None` where nothing does.
    pub(super) fn parts(&self, block: &Block) -> Result<Option<ArrayRef>, Refusal> {
        self.apart.map(|_| self.piece(block, self.own() + self.columns.len())).transpose()
    }

    /// The versions of its rows; `None` where it has none, they are too many, or they do not tell rows apart. Blocks.
    pub(super) fn versions(&self) -> Result<Option<Versions>, Refusal> {
        if self.rows() > Versions::MOST {
            return Ok(None);
        }
        let mut all = Vec::with_capacity(self.rows());
        for block in &self.blocks {
            let Some(versions) = self.parts(block)? else { return Ok(None) };
            let Some(versions) = versions.as_fixed_size_binary_opt() else { return Ok(None) };
            all.extend(values(versions));
        }
        Ok(Versions::new(all))
    }

    /// How many pieces a block has before those of the dataset's own columns.
    fn own(&self) -> usize {
        if self.links { LINKED_CHOICES + 1 } else { CHOICES + 1 }
    }

    /// A column of a block, in the type that [`Snapshot::kind`] says.
    pub(super) fn column(&self, block: &Block, column: usize) -> Result<ArrayRef, Refusal> {
        let found = self.piece(block, self.own() + column)?;
        self.texts.get(column).and_then(Option::as_ref).map_or(Ok(Arc::clone(&found)), |texts| texts.give(&found))
    }

    /// The type of a column inside the node: text may be a dictionary that all blocks share.
    pub(super) fn kind(&self, column: usize) -> DataType {
        let few = self.texts.get(column).and_then(Option::as_ref).is_some_and(Texts::are_few);
        let kind = self.columns.get(column).map_or(DataType::Null, |(_, kind)| storage_type(*kind));
        if few { DataType::Dictionary(Box::new(DataType::Int32), Box::new(kind)) } else { kind }
    }

    pub(super) fn column_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(column, _)| column == name)
    }

    fn piece(&self, block: &Block, piece: usize) -> Result<ArrayRef, Refusal> {
        let missing = || Refusal::internal("a snapshot without a column");
        let place = *block.pieces.get(piece).ok_or_else(missing)?;
        let read = self
            .sealed
            .read(place)
            .and_then(|batch| batch.columns().first().cloned().filter(|column| column.len() == block.valid.len()).ok_or_else(missing));
        read.inspect_err(|_| self.broken.store(true, Ordering::Release))
    }

    /// What was decided, the newest first.
    pub(super) fn decided(&self) -> MutexGuard<'_, Vec<Arc<Decided>>> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a decision in mind, and lets go of those of long ago.
    pub(super) fn keep(&self, decided: Arc<Decided>) {
        self.decided().insert(0, decided);
        self.keeps(DECISIONS);
    }

    /// Lets go of all decisions but the newest, of which so many are kept.
    pub(super) fn keeps(&self, most: usize) {
        self.decided().truncate(most);
    }

    #[cfg(test)]
    pub(super) fn spoil(&self) {
        self.sealed.spoil();
    }
}

/// The most decisions of a snapshot that are kept: orders for several purposes may take turns.
const DECISIONS: usize = 4;

impl Block {
    fn make(batch: &RecordBatch, meeting: &mut [Option<Meeting>], links: bool, sealed: &mut Sealed) -> Result<Option<Self>, Refusal> {
        let wrong = || Refusal::internal("rows of a snapshot in another form");
        let subjects = batch.columns().first().and_then(|column| column.as_fixed_size_binary_opt()).ok_or_else(wrong)?;
        let valid = batch.columns().get(1).and_then(|column| column.as_boolean_opt()).ok_or_else(wrong)?;
        let (Some(first), Some(last)) = (subjects.iter().flatten().next(), subjects.iter().flatten().next_back()) else { return Ok(None) };
        let own = if links { 5 } else { 3 };
        // Else the last byte of its bits may hold those of rows that follow, which are released or not on their own.
        let all = UInt32Array::from_iter_values((0..).take(batch.num_rows()));
        let batch = take_record_batch(batch, &all).map_err(Refusal::internal)?;
        let mut pieces = Vec::with_capacity(batch.num_columns());
        for (index, column) in batch.columns().iter().enumerate().filter(|(index, _)| *index != 1) {
            let met = index.checked_sub(own).and_then(|index| meeting.get_mut(index)).and_then(Option::as_mut);
            let column = met.map_or(Ok(Arc::clone(column)), |meeting| meeting.take(column))?;
            let schema = Arc::new(Schema::new(vec![Field::new("piece", column.data_type().clone(), true)]));
            pieces.push(sealed.write(&RecordBatch::try_new(schema, vec![column]).map_err(Refusal::internal)?)?);
        }
        Ok(Some(Self { first: number(first), last: number(last), valid: valid.values().clone(), pieces }))
    }
}

/// A pseudonym as a number.
pub(super) fn number(bytes: &[u8]) -> u128 {
    bytes.try_into().map_or(0, u128::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use arrow::array::BooleanArray;

    use super::*;

    #[test]
    fn the_last_byte_of_a_blocks_bits_holds_no_row_that_follows() {
        let folder = tempfile::tempdir().unwrap();
        let mut sealed = Sealed::new(folder.path(), Arc::new(Room::new(1 << 20, Some(0)))).unwrap();
        let bytes = || Arc::new(FixedSizeBinaryArray::try_from_iter((0..8u8).map(|row| [row; 16])).unwrap()) as ArrayRef;
        let valid = BooleanArray::from(vec![true; 8]);
        // Of eight rows, the last three have true, and the only values beside.
        let flags: BooleanArray = (0..8).map(|row| Some(row >= 5)).collect();
        let nulls: BooleanArray = (0..8).map(|row| (row >= 5).then_some(false)).collect();
        let columns: [(&str, ArrayRef); 5] =
            [("subject", bytes()), ("valid", Arc::new(valid)), ("choices", bytes()), ("flag", Arc::new(flags)), ("null", Arc::new(nulls))];
        let batch = RecordBatch::try_from_iter(columns).unwrap().slice(0, 5);
        let block = Block::make(&batch, &mut [None, None], false, &mut sealed).unwrap().unwrap();
        let read = |piece: usize| sealed.read(block.pieces[piece]).unwrap().column(0).as_boolean().clone();
        assert!(read(2).values().inner().iter().all(|byte| *byte == 0));
        let nulls = read(3);
        assert!(nulls.len() == 5 && nulls.nulls().unwrap().buffer().iter().all(|byte| *byte == 0));
    }
}
