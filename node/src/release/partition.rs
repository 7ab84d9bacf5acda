//! One partition of a release: its buckets in order, sorted as they are read, in batches of the wire's schema.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use concordat_policy::{Code, Refusal};
use concordat_proto::receipt::Denominators;

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

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({} batches ready)", self.ready.len())
    }
}

impl Partition {
    pub(super) fn sorted(sorted: Arc<Sorted>, schema: SchemaRef, partition: u32) -> Self {
        let buckets = sorted.buckets_of(partition);
        Self { rows: Rows::Sorted(BucketReader::new(sorted), buckets), schema, ready: VecDeque::new() }
    }

    pub(super) fn chosen(chosen: Arc<Chosen>, schema: SchemaRef, partition: u32) -> Self {
        Self { rows: Rows::Chosen(Pieces::new(chosen, partition)), schema, ready: VecDeque::new() }
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
        while self.ready.is_empty() {
            let batches = match &mut self.rows {
                Rows::Sorted(_, buckets) if Range::is_empty(buckets) => break,
                Rows::Sorted(reader, buckets) => load(reader, buckets)?,
                Rows::Chosen(pieces) => match pieces.next_rows()? {
                    Some(batch) => vec![batch],
                    None => break,
                },
            };
            for batch in batches {
                self.emit(&batch)?;
            }
        }
        Ok(self.ready.pop_front())
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
