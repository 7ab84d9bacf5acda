//! One partition of a release: its buckets in order, sorted as they are read, in batches of the wire's schema; or the groups of its rows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use concordat_policy::{Code, Refusal};
use concordat_proto::grouped::{GroupError, Grouping, Groups};
use concordat_proto::receipt::{Denominators, Grouped};

use super::runs::{BucketReader, Sorted};
use super::snapshots::{Chosen, Pieces, own_values};
use super::worker::Counts;

/// The most rows of a batch.
pub(crate) const BATCH_ROWS: usize = 65_536;
/// The most bytes of a batch; far below what the contract lets a message hold.
const BATCH_BYTES: usize = 16 << 20;
/// The most rows that one bucket may hold: beyond it, too many rows share too few subjects.
const BUCKET_ROWS: usize = 8 << 20;

/// One partition of a release, read once, from the lowest pseudonym to the highest.
pub struct Partition {
    rows: Rows,
    // What becomes of them, where groups were ordered.
    groups: Option<Groups>,
    schema: SchemaRef,
    ready: VecDeque<RecordBatch>,
}

/// Where its rows come from.
enum Rows {
    /// Buckets, which are sorted as they are read.
    Sorted(BucketReader, Range<usize>),
    /// A snapshot, which is.
    Chosen(Pieces),
}

/// How far a partition was read.
#[derive(Debug)]
pub enum Step {
    /// To a batch.
    Batch(RecordBatch),
    /// To none yet.
    More,
    /// To its end.
    End,
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({} batches ready)", self.ready.len())
    }
}

impl Partition {
    pub(super) fn sorted(sorted: Arc<Sorted>, schema: SchemaRef, partition: u32) -> Self {
        let buckets = sorted.buckets_of(partition);
        Self { rows: Rows::Sorted(BucketReader::new(sorted), buckets), groups: None, schema, ready: VecDeque::new() }
    }

    pub(super) fn chosen(chosen: Arc<Chosen>, schema: SchemaRef, partition: u32) -> Self {
        Self { rows: Rows::Chosen(Pieces::new(chosen, partition)), groups: None, schema, ready: VecDeque::new() }
    }

    /// With groups in the place of rows, if they are asked for.
    pub(super) fn grouped(self, by: Option<Arc<Grouping>>) -> Self {
        Self { groups: by.map(Groups::new), ..self }
    }

    /// The rows of which there are groups so far, and their subjects; `None` where rows were ordered.
    #[must_use]
    pub fn made_of(&self) -> Option<Grouped> {
        self.groups.as_ref().map(Groups::made_of)
    }

    /// What was released and withheld, in the whole release.
    #[must_use]
    pub fn counts(&self) -> Counts {
        match &self.rows {
            Rows::Sorted(reader, _) => reader.sorted().counts(),
            Rows::Chosen(pieces) => pieces.chosen().counts(),
        }
    }

    /// What may be told outside of the department of subjects whose rows were withheld; nothing of a link dataset.
    #[must_use]
    pub fn denominators(&self) -> Option<Denominators> {
        match &self.rows {
            Rows::Sorted(reader, _) => reader.sorted().denominators(),
            Rows::Chosen(pieces) => pieces.chosen().denominators(),
        }
    }

    /// The next batch; `None` at the end. Blocks.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] for rows or buckets that are too large, [`Code::Internal`] when a spilled file cannot be read.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, Refusal> {
        loop {
            match self.step()? {
                Step::Batch(batch) => return Ok(Some(batch)),
                Step::More => {}
                Step::End => return Ok(None),
            }
        }
    }

    /// Reads on, no longer than a batch of rows takes: groups have none to put out until many were read. Blocks.
    ///
    /// # Errors
    /// As [`Partition::next_batch`].
    pub fn step(&mut self) -> Result<Step, Refusal> {
        if self.ready.is_empty() {
            let rows = self.rows.next(self.groups.is_some())?;
            let last = rows.is_empty();
            for batch in grouped(&mut self.groups, rows)? {
                self.emit(&batch)?;
            }
            if self.ready.is_empty() {
                return Ok(if last { Step::End } else { Step::More });
            }
        }
        Ok(self.ready.pop_front().map_or(Step::More, Step::Batch))
    }

    /// Readies a batch for the wire, in as many pieces as its size asks for.
    fn emit(&mut self, batch: &RecordBatch) -> Result<(), Refusal> {
        let rows = batch.num_rows();
        let own;
        let batch = match self.rows {
            Rows::Sorted(..) => batch,
            Rows::Chosen(_) => {
                own = own_values(batch)?;
                &own
            }
        };
        if bytes(batch)? <= BATCH_BYTES {
            self.ready.push_back(wire(batch, &self.schema)?);
            return Ok(());
        }
        if rows < 2 {
            return Err(Refusal::new(Code::LimitExceeded, "a row of this dataset is larger than 16 MiB"));
        }
        self.emit(&batch.slice(0, rows / 2))?;
        self.emit(&batch.slice(rows / 2, rows - rows / 2))
    }
}

impl Rows {
    /// The next batches, full ones unless they are `added_up`; none at the end.
    fn next(&mut self, added_up: bool) -> Result<Vec<RecordBatch>, Refusal> {
        match self {
            Self::Sorted(_, buckets) if Range::is_empty(buckets) => Ok(Vec::new()),
            Self::Sorted(reader, buckets) => load(reader, buckets),
            Self::Chosen(pieces) => Ok(if added_up { pieces.next_piece() } else { pieces.next_rows() }?.into_iter().collect()),
        }
    }
}

/// What rows become: themselves, or where there are `groups` those that are complete; of no rows, which is the end, all that are left.
fn grouped(groups: &mut Option<Groups>, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, Refusal> {
    let Some(groups) = groups else { return Ok(rows) };
    let failed = |e: GroupError| match e {
        GroupError::TooLarge(_) | GroupError::TooMany => Refusal::new(Code::LimitExceeded, e.to_string()).advice(e.advice()),
        GroupError::Schema => Refusal::internal(e),
    };
    if rows.is_empty() {
        return groups.finish().map(|last| last.into_iter().collect()).map_err(failed);
    }
    let mut parts = Vec::new();
    for rows in rows {
        parts.extend(groups.take(&rows).map_err(failed)?);
    }
    Ok(parts)
}

/// Loads as many buckets as fill a batch, at least one, and sorts their rows.
fn load(reader: &mut BucketReader, buckets: &mut Range<usize>) -> Result<Vec<RecordBatch>, Refusal> {
    let start = buckets.start;
    let mut rows = 0;
    while !Range::is_empty(buckets) {
        let more = reader.sorted().rows(buckets.start);
        if more > BUCKET_ROWS {
            return Err(Refusal::new(Code::LimitExceeded, "too many rows of this dataset share too few subjects to be released sorted"));
        }
        if rows > 0 && rows + more > BATCH_ROWS {
            break;
        }
        rows += more;
        buckets.start += 1;
    }
    let mut loaded = reader.load(start..buckets.start)?;
    loaded.rows.sort_unstable();
    loaded.rows.chunks(BATCH_ROWS).map(|rows| loaded.gathered(rows)).collect()
}

fn bytes(batch: &RecordBatch) -> Result<usize, Refusal> {
    batch.columns().iter().try_fold(0, |sum, column| Ok(sum + column.to_data().get_slice_memory_size().map_err(Refusal::internal)?))
}

/// Text becomes a dictionary of this batch's own.
fn wire(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Refusal> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>().map_err(Refusal::internal)?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(Refusal::internal)
}
