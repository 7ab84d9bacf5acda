//! The rows of a snapshot that answer one order, and their parts in the form of the wire.
//!
//! What a reader sees depends on the rows that are released and on nothing else: batches are filled up again where rows were left
//! out, and dictionaries hold the values of their batch only, in alphabetical order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Int32Type, Schema, SchemaRef};
use arrow_select::dictionary::garbage_collect_dictionary;
use concordat_policy::{ColumnType, Predicate, Refusal};
use concordat_proto::receipt::Denominators;
use concordat_proto::schema::{linked_field, split_points, subject_field};
use datafusion::common::DFSchema;

use super::super::behind::Behind;
use super::super::partition::BATCH_ROWS;
use super::super::worker::{Counts, Rules};
use super::decide::Decided;
use super::made::{Block, Snapshot, number};
use crate::datasets::{condition, storage_type};

/// The condition of an order, with the types of its columns.
pub(crate) type Asked<'a> = Option<(&'a Predicate, &'a BTreeMap<String, ColumnType>)>;

/// The rows that answer an order.
pub(crate) struct Chosen {
    snapshot: Arc<Snapshot>,
    /// By block: which rows are released.
    rows: Vec<BooleanBuffer>,
    counts: Counts,
    told: Option<Denominators>,
    /// Whether the second pseudonym of a link dataset is released.
    linked: bool,
    // Of the snapshot's columns, in the order's order.
    columns: Vec<usize>,
    schema: SchemaRef,
    splits: Vec<u128>,
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chosen({:?})", self.counts)
    }
}

impl Chosen {
    /// Chooses by the records of consent and the order's condition. Blocks.
    pub(crate) fn of(snapshot: Arc<Snapshot>, rules: &Rules, asked: Asked<'_>, partitions: u32) -> Result<Self, Refusal> {
        let unknown = || Refusal::internal("a snapshot without an ordered column");
        let columns: Vec<usize> =
            rules.columns.iter().map(|(name, _)| snapshot.column_of(name).ok_or_else(unknown)).collect::<Result<_, _>>()?;
        let decided = Decided::by(rules, &snapshot)?;
        let wanted = asked.map(|(predicate, types)| wanted(&snapshot, predicate, types)).transpose()?;
        let mut counts = Counts::default();
        let mut rows = Vec::with_capacity(decided.allowed.len());
        for (index, (block, allowed)) in snapshot.blocks().iter().zip(&decided.allowed).enumerate() {
            let wanted = wanted.as_ref().and_then(|wanted| wanted.get(index));
            let among = |bits: &BooleanBuffer| wanted.map_or_else(|| bits.clone(), |wanted| bits & wanted);
            let (released, valid) = (among(allowed), among(&block.valid).count_set_bits());
            let all = wanted.map_or(block.valid.len(), BooleanBuffer::count_set_bits);
            counts.released += released.count_set_bits() as u64;
            counts.without_consent += (valid - released.count_set_bits()) as u64;
            counts.invalid_identifiers += (all - valid) as u64;
            rows.push(released);
        }
        let told = match &wanted {
            Some(wanted) => told(&snapshot, rules, &decided, Some(wanted))?,
            None => match decided.told.get() {
                Some(told) => *told,
                None => {
                    let told = told(&snapshot, rules, &decided, None)?;
                    *decided.told.get_or_init(|| told)
                }
            },
        };
        let linked = rules.linked.as_ref().is_some_and(|linked| linked.released);
        let fields = columns.iter().zip(&rules.columns).map(|(column, (name, _))| Field::new(name, snapshot.kind(*column), true));
        let fields = std::iter::once(subject_field()).chain(linked.then(linked_field)).chain(fields).collect::<Vec<_>>();
        let splits = std::iter::once(0).chain(split_points(partitions).into_iter().map(u128::from_be_bytes)).collect();
        Ok(Self { snapshot, rows, counts, told, linked, columns, schema: Arc::new(Schema::new(fields)), splits })
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn denominators(&self) -> Option<Denominators> {
        self.told
    }
}

/// By block: for which rows the condition is true.
fn wanted(snapshot: &Snapshot, predicate: &Predicate, types: &BTreeMap<String, ColumnType>) -> Result<Vec<BooleanBuffer>, Refusal> {
    let unknown = || Refusal::internal("a snapshot without a column of the condition");
    let mut columns: Vec<usize> =
        predicate.columns().into_iter().map(|name| snapshot.column_of(name).ok_or_else(unknown)).collect::<Result<_, _>>()?;
    columns.sort_unstable();
    columns.dedup();
    let field = |column: &usize| snapshot.columns.get(*column).map(|(name, kind)| Field::new(name, storage_type(*kind), true));
    let schema = Arc::new(Schema::new(columns.iter().filter_map(field).collect::<Vec<_>>()));
    let typed = DFSchema::try_from(schema.as_ref().clone()).map_err(Refusal::internal)?;
    let condition = condition(predicate, &typed, types).map_err(Refusal::internal)?;
    let of_block = |block: &Block| {
        // As a scan has them: the condition means the same.
        let plain = columns.iter().zip(schema.fields()).map(|(column, field)| {
            let column = snapshot.column(block, *column)?;
            cast(&column, field.data_type()).map_err(Refusal::internal)
        });
        let options = RecordBatchOptions::new().with_row_count(Some(block.valid.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), plain.collect::<Result<_, _>>()?, &options);
        let batch = batch.map_err(Refusal::internal)?;
        let met = condition.evaluate(&batch).and_then(|met| met.into_array(batch.num_rows())).map_err(Refusal::internal)?;
        let met = met.as_boolean_opt().ok_or_else(|| Refusal::internal("a condition that is neither true nor false"))?;
        Ok(met.nulls().map_or_else(|| met.values().clone(), |nulls| met.values() & nulls.inner()))
    };
    snapshot.blocks().iter().map(of_block).collect()
}

/// What may be told of subjects who are left out.
fn told(snapshot: &Snapshot, rules: &Rules, decided: &Decided, wanted: Option<&[BooleanBuffer]>) -> Result<Option<Denominators>, Refusal> {
    let mut behind = Behind::new(rules.told_in(), rules.conditional);
    if behind.counts_invalid() {
        for (index, (block, allowed)) in snapshot.blocks().iter().zip(&decided.allowed).enumerate() {
            let asked = wanted.and_then(|wanted| wanted.get(index));
            let invalid = !&block.valid;
            let withheld = if behind.counts_withheld() { &block.valid ^ allowed } else { BooleanBuffer::new_unset(block.valid.len()) };
            // Whatever the condition: how long it takes does not tell whether it is true of who is left out.
            if invalid.count_set_bits() + withheld.count_set_bits() == 0 {
                continue;
            }
            let among = |bits: BooleanBuffer| asked.map_or_else(|| bits.clone(), |wanted| &bits & wanted);
            let (invalid, withheld, subjects) = (among(invalid), among(withheld), snapshot.subjects(block)?);
            let subject = |row| subjects.value(row).try_into().unwrap_or_default();
            invalid.set_indices().for_each(|row| behind.invalid(|| subject(row)));
            withheld.set_indices().for_each(|row| behind.withheld(|| subject(row)));
        }
    }
    Ok(behind.denominators())
}

/// Reads one partition of what was chosen, from the lowest pseudonym to the highest.
pub(crate) struct Pieces {
    chosen: Arc<Chosen>,
    blocks: Range<usize>,
    from: u128,
    to: Option<u128>,
    // Fewer rows than fill a batch, or as many as one block more has.
    waiting: Vec<RecordBatch>,
}

impl Pieces {
    pub(crate) fn new(chosen: Arc<Chosen>, partition: u32) -> Self {
        let bound = |partition: usize| chosen.splits.get(partition).copied();
        let partition = partition as usize;
        let (from, to) = (bound(partition).unwrap_or(u128::MAX), bound(partition.saturating_add(1)));
        let blocks = chosen.snapshot.between(from, to);
        Self { chosen, blocks, from, to, waiting: Vec::new() }
    }

    pub(crate) fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// The next rows, as many as fill a batch if there are so many; `None` at the end. Blocks.
    pub(crate) fn next_rows(&mut self) -> Result<Option<RecordBatch>, Refusal> {
        let mut rows: usize = self.waiting.iter().map(RecordBatch::num_rows).sum();
        while rows < BATCH_ROWS
            && let Some(piece) = self.next_piece()?
        {
            rows += piece.num_rows();
            self.waiting.push(piece);
        }
        if rows == 0 {
            return Ok(None);
        }
        let all = match self.waiting.as_slice() {
            [only] => only.clone(),
            several => concat_batches(&self.chosen.schema, several).map_err(Refusal::internal)?,
        };
        let most = rows.min(BATCH_ROWS);
        self.waiting = if rows > most { vec![all.slice(most, rows - most)] } else { Vec::new() };
        Ok(Some(all.slice(0, most)))
    }

    /// The chosen rows of the next block that has any; `None` at the end. How many they are tells of rows that were left out: not for
    /// the wire. Blocks.
    pub(crate) fn next_piece(&mut self) -> Result<Option<RecordBatch>, Refusal> {
        while let Some(index) = self.blocks.next() {
            if let Some(piece) = self.piece(index)? {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The chosen rows of one block.
    fn piece(&self, index: usize) -> Result<Option<RecordBatch>, Refusal> {
        let (snapshot, missing) = (&self.chosen.snapshot, || Refusal::internal("a snapshot without a block"));
        let (block, chosen) = snapshot.blocks().get(index).zip(self.chosen.rows.get(index)).ok_or_else(missing)?;
        if chosen.count_set_bits() == 0 {
            return Ok(None);
        }
        let subjects = snapshot.subjects(block)?;
        let place = |bound: u128| partition_point(subjects.len(), |row| number(subjects.value(row)) < bound);
        let start = if block.first < self.from { place(self.from) } else { 0 };
        let end = self.to.filter(|to| block.last >= *to).map_or(subjects.len(), place);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(subjects)];
        if self.chosen.linked {
            columns.push(Arc::new(snapshot.linked(block)?));
        }
        for column in &self.chosen.columns {
            columns.push(snapshot.column(block, *column)?);
        }
        let whole = RecordBatch::try_new(Arc::clone(&self.chosen.schema), columns).map_err(Refusal::internal)?;
        // Out of the whole block: rows that a part of it had in full would be lent, and of bits the wire takes the rest of a byte, too,
        // which is of rows that follow.
        let chosen = &between(whole.num_rows(), start, end) & chosen;
        let piece = match chosen.count_set_bits() {
            0 => return Ok(None),
            all if all == whole.num_rows() => whole,
            _ => filter_record_batch(&whole, &BooleanArray::new(chosen, None)).map_err(Refusal::internal)?,
        };
        Ok(Some(piece))
    }
}

/// Of `length` places, those from `start` on, before `end`.
fn between(length: usize, start: usize, end: usize) -> BooleanBuffer {
    BooleanBuffer::collect_bool(length, |row| (start..end).contains(&row))
}

/// The first of `length` places, in order, for which `before` is not true.
fn partition_point(length: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// A batch whose texts are dictionaries that hold the values of its rows only, in alphabetical order; under a null stands the first of
/// them. What other rows hold, also such as are withheld, is nowhere in its buffers.
pub(crate) fn own_values(batch: &RecordBatch) -> Result<RecordBatch, Refusal> {
    let own = |column: &ArrayRef| {
        if let Some(texts) = column.as_dictionary_opt::<Int32Type>() {
            let texts = garbage_collect_dictionary(texts).map_err(Refusal::internal)?;
            let keys: Int32Array = texts.keys().iter().collect();
            return dictionary(keys, Arc::clone(texts.values()));
        }
        let Some(texts) = column.as_string_opt::<i32>() else { return Ok(Arc::clone(column)) };
        let mut values: Vec<&str> = texts.iter().flatten().collect();
        values.sort_unstable();
        values.dedup();
        let key = |text: Option<&str>| text.and_then(|text| i32::try_from(values.binary_search(&text).ok()?).ok());
        dictionary(texts.iter().map(key).collect(), Arc::new(StringArray::from_iter_values(&values)))
    };
    let columns = batch.columns().iter().map(own).collect::<Result<Vec<_>, Refusal>>()?;
    let fields = batch.schema_ref().fields().iter().zip(&columns);
    let fields = fields.map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()));
    let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), batch.schema_ref().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(Refusal::internal)
}

fn dictionary(keys: Int32Array, values: ArrayRef) -> Result<ArrayRef, Refusal> {
    Ok(Arc::new(DictionaryArray::try_new(keys, values).map_err(Refusal::internal)?))
}
