//! Runs: rows held by bucket, in memory while the budget lasts, then on disk. Of a release they lie in Arrow IPC files of its own folder;
//! a run's file holds one batch per bucket, so that bucket *b* is batch *b*. Of a snapshot, whose rows may be such as no order may
//! have, they are sealed in files without a name, one piece per bucket; what it takes over of the snapshot before stays where it is.

use std::fs::{File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, FixedSizeBinaryArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::{interleave, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use concordat_policy::{Code, Refusal};
use concordat_proto::receipt::Denominators;
use concordat_proto::schema::{PSEUDONYM_BYTES, pseudonyms};
use tempfile::TempDir;

use super::behind::Behind;
use super::buckets::Buckets;
use super::sealed::{Place, Room, Sealed};
use super::snapshots::{Base, BlockRows};
use super::worker::{Counts, End, Rules};

/// The rows of some batches, in the order of their buckets.
struct ByBucket {
    batches: Vec<RecordBatch>,
    // (batch, row), bucket after bucket, and the pseudonym of each: read in their order, where the batches' are all over memory.
    rows: Vec<(u32, u32)>,
    keys: Vec<u128>,
    // Where each bucket's rows begin, and the end.
    starts: Vec<usize>,
}

impl ByBucket {
    /// A counting sort: linear, and it moves 24 bytes a row.
    fn new(batches: Vec<RecordBatch>, buckets: &Buckets) -> Result<Self, Refusal> {
        let mut of_rows: Vec<u32> = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        let mut starts = vec![0usize; buckets.len() + 1];
        for batch in &batches {
            for subject in subjects(batch)? {
                let bucket = buckets.of(u128::from_be_bytes(*subject));
                of_rows.push(u32::try_from(bucket).map_err(Refusal::internal)?);
                if let Some(count) = starts.get_mut(bucket + 1) {
                    *count += 1;
                }
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let (mut rows, mut keys) = (vec![(0, 0); of_rows.len()], vec![0; of_rows.len()]);
        let mut of_rows = of_rows.into_iter();
        for (index, batch) in (0u32..).zip(&batches) {
            for ((row, subject), bucket) in (0u32..).zip(subjects(batch)?).zip(&mut of_rows) {
                let Some(place) = next.get_mut(bucket as usize) else { continue };
                if let (Some(slot), Some(key)) = (rows.get_mut(*place), keys.get_mut(*place)) {
                    (*slot, *key) = ((index, row), u128::from_be_bytes(*subject));
                }
                *place += 1;
            }
        }
        Ok(Self { batches, rows, keys, starts })
    }

    fn range(&self, bucket: usize) -> std::ops::Range<usize> {
        let at = |bucket: usize| self.starts.get(bucket).or(self.starts.last()).copied().unwrap_or_default();
        at(bucket)..at(bucket + 1)
    }

    fn bucket(&self, bucket: usize) -> &[(u32, u32)] {
        self.rows.get(self.range(bucket)).unwrap_or_default()
    }

    fn keys(&self, bucket: usize) -> &[u128] {
        self.keys.get(self.range(bucket)).unwrap_or_default()
    }
}

/// Where runs go that are beyond memory.
#[derive(Debug, Clone)]
pub(super) enum Spill {
    /// Into a folder of a release's own, in clear: rows that may leave. It is removed when the last reader is gone.
    Clear(Arc<TempDir>),
    /// Into files in this folder that have no name, sealed: whoever's rows.
    Sealed(PathBuf, Arc<Room>),
}

/// One run.
pub(super) enum Run {
    /// In memory.
    Held(HeldRun),
    /// In a file; the rows of each bucket.
    Spilled(PathBuf, Vec<u32>),
    /// Sealed; the rows of each bucket, and where they lie unless there are none.
    Sealed(Sealed, Vec<(u32, Option<Place>)>),
    /// What is taken over of a snapshot.
    Kept(Base),
}

/// A run in memory.
pub(super) struct HeldRun(ByBucket);

impl Run {
    fn rows(&self, bucket: usize) -> usize {
        match self {
            Self::Held(held) => held.0.bucket(bucket).len(),
            Self::Spilled(_, rows) => rows.get(bucket).map_or(0, |rows| *rows as usize),
            Self::Sealed(_, rows) => rows.get(bucket).map_or(0, |(rows, _)| *rows as usize),
            Self::Kept(base) => base.rows(bucket),
        }
    }
}

/// The runs of one worker, while they grow.
pub(super) struct Runs {
    schema: SchemaRef,
    buckets: Buckets,
    spill: Spill,
    memory: usize,
    worker: usize,
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
    spilled: Vec<Run>,
}

impl Runs {
    pub(super) fn new(schema: SchemaRef, buckets: Buckets, spill: Spill, memory: usize, worker: usize) -> Self {
        Self { schema, buckets, spill, memory, worker, pending: Vec::new(), pending_bytes: 0, spilled: Vec::new() }
    }

    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), Refusal> {
        // Beside the arrays, 24 bytes a row for their order and pseudonyms, and four while it is made.
        self.pending_bytes += batch.get_array_memory_size() + 28 * batch.num_rows();
        self.pending.push(batch);
        if self.pending_bytes > self.memory { self.spill() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<Vec<Run>, Refusal> {
        let mut runs = std::mem::take(&mut self.spilled);
        if !self.pending.is_empty() {
            runs.push(Run::Held(HeldRun(ByBucket::new(self.pending, &self.buckets)?)));
        }
        Ok(runs)
    }

    fn spill(&mut self) -> Result<(), Refusal> {
        let sorted = ByBucket::new(std::mem::take(&mut self.pending), &self.buckets)?;
        self.pending_bytes = 0;
        let batches: Vec<&RecordBatch> = sorted.batches.iter().collect();
        let bucket = |bucket| {
            let rows: Vec<(usize, usize)> = sorted.bucket(bucket).iter().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
            let batch = interleave_record_batch(&batches, &rows).map_err(Refusal::internal)?;
            Ok::<_, Refusal>((u32::try_from(rows.len()).map_err(Refusal::internal)?, batch))
        };
        let buckets = (0..self.buckets.len()).map(bucket);
        let run = match &self.spill {
            Spill::Clear(folder) => {
                let path = folder.path().join(format!("{}-{}.arrow", self.worker, self.spilled.len()));
                clear(path, &self.schema, buckets)?
            }
            Spill::Sealed(folder, room) => sealed(folder, room, buckets)?,
        };
        self.spilled.push(run);
        Ok(())
    }
}

fn clear(path: PathBuf, schema: &SchemaRef, buckets: impl Iterator<Item = Result<(u32, RecordBatch), Refusal>>) -> Result<Run, Refusal> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(no_room)?;
    let mut writer = FileWriter::try_new(BufWriter::with_capacity(1 << 20, file), schema).map_err(no_room)?;
    let mut counts = Vec::new();
    for bucket in buckets {
        let (rows, batch) = bucket?;
        writer.write(&batch).map_err(no_room)?;
        counts.push(rows);
    }
    writer.finish().map_err(no_room)?;
    Ok(Run::Spilled(path, counts))
}

fn sealed(folder: &Path, room: &Arc<Room>, buckets: impl Iterator<Item = Result<(u32, RecordBatch), Refusal>>) -> Result<Run, Refusal> {
    let mut sealed = Sealed::new(folder, Arc::clone(room))?;
    let mut places = Vec::new();
    for bucket in buckets {
        let (rows, batch) = bucket?;
        places.push((rows, if rows > 0 { Some(sealed.write(&batch)?) } else { None }));
    }
    Ok(Run::Sealed(sealed, places))
}

fn no_room(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::LimitExceeded, "this department's node has no room on its disk to sort the release")
        .advice("the department's operator must make room for the spill folder, or raise release_memory_mib")
        .operator(format!("the spill folder cannot be written: {error}"))
}

/// All runs of a release whose scan has succeeded.
pub(crate) struct Sorted {
    buckets: Buckets,
    runs: Vec<Run>,
    counts: Counts,
    behind: Behind,
    // Of a release: its folder.
    _spill: Spill,
}

impl std::fmt::Debug for Sorted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sorted({} runs)", self.runs.len())
    }
}

impl Sorted {
    pub(super) fn new(buckets: Buckets, spill: Spill, rules: &Rules) -> Self {
        Self {
            buckets,
            runs: Vec::new(),
            counts: Counts::default(),
            behind: Behind::new(rules.told_in(), rules.conditional),
            _spill: spill,
        }
    }

    pub(super) fn add(&mut self, end: End) {
        self.runs.extend(end.runs);
        self.counts.add(end.counts);
        self.behind.add(&end.behind);
    }

    /// Adds the rows that are taken over of a snapshot.
    pub(super) fn take_over(&mut self, base: Base) {
        self.runs.push(Run::Kept(base));
    }

    pub(super) fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// What was released and withheld, in the whole release.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// What may be told outside of the department of subjects whose rows were withheld.
    pub(crate) fn denominators(&self) -> Option<Denominators> {
        self.behind.denominators()
    }

    #[cfg(test)]
    pub(super) fn spilled(&self) -> usize {
        self.runs.iter().filter(|run| !matches!(run, Run::Held(_))).count()
    }

    pub(super) fn buckets_of(&self, partition: u32) -> std::ops::Range<usize> {
        self.buckets.of_partition(partition)
    }

    pub(super) fn rows(&self, bucket: usize) -> usize {
        self.runs.iter().map(|run| run.rows(bucket)).sum()
    }

    /// How many rows there are.
    pub(super) fn all_rows(&self) -> usize {
        (0..self.buckets.len()).map(|bucket| self.rows(bucket)).sum()
    }
}

/// Reads buckets of a release; holds the open files.
pub(super) struct BucketReader {
    sorted: Arc<Sorted>,
    // One per run; `None` for runs in memory, sealed ones and files not opened yet.
    files: Vec<Option<FileReader<File>>>,
    // The block of a snapshot that was read last: it may go on in the next buckets.
    block: Option<BlockRows>,
}

/// The rows of some buckets: the batches they stand in, and each row's pseudonym, batch and place.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) rows: Vec<(u128, u32, u32)>,
}

impl BucketReader {
    pub(super) fn new(sorted: Arc<Sorted>) -> Self {
        let files = sorted.runs.iter().map(|_| None).collect();
        Self { sorted, files, block: None }
    }

    pub(super) fn sorted(&self) -> &Sorted {
        &self.sorted
    }

    pub(super) fn load(&mut self, buckets: std::ops::Range<usize>) -> Result<Loaded, Refusal> {
        let mut loaded = Loaded::default();
        for (run, file) in self.sorted.runs.iter().zip(&mut self.files) {
            match run {
                Run::Held(held) => held.load(buckets.clone(), &mut loaded)?,
                Run::Spilled(path, rows) => {
                    let reader = match file {
                        Some(reader) => reader,
                        None => {
                            file.insert(FileReader::try_new(File::open(path).map_err(Refusal::internal)?, None).map_err(Refusal::internal)?)
                        }
                    };
                    for bucket in buckets.clone().filter(|bucket| rows.get(*bucket).is_some_and(|rows| *rows > 0)) {
                        reader.set_index(bucket).map_err(Refusal::internal)?;
                        let batch =
                            reader.next().ok_or_else(|| Refusal::internal("a spilled bucket is missing"))?.map_err(Refusal::internal)?;
                        loaded.whole(batch)?;
                    }
                }
                Run::Sealed(sealed, rows) => {
                    for place in buckets.clone().filter_map(|bucket| rows.get(bucket)?.1) {
                        loaded.whole(sealed.read(place)?)?;
                    }
                }
                Run::Kept(base) => base.load(self.sorted.buckets.bounds(&buckets), &mut self.block, &mut loaded)?,
            }
        }
        Ok(loaded)
    }
}

impl HeldRun {
    fn load(&self, buckets: std::ops::Range<usize>, loaded: &mut Loaded) -> Result<(), Refusal> {
        let first = u32::try_from(loaded.batches.len()).map_err(Refusal::internal)?;
        for bucket in buckets {
            let rows = self.0.bucket(bucket).iter().zip(self.0.keys(bucket));
            loaded.rows.extend(rows.map(|((batch, row), key)| (*key, first + batch, *row)));
        }
        loaded.batches.extend(self.0.batches.iter().cloned());
        Ok(())
    }
}

impl Loaded {
    fn whole(&mut self, batch: RecordBatch) -> Result<(), Refusal> {
        self.some(batch, |_, _| true)
    }

    /// The rows of a batch for whose place and pseudonym `wanted` is true.
    pub(super) fn some(&mut self, batch: RecordBatch, wanted: impl Fn(usize, u128) -> bool) -> Result<(), Refusal> {
        let index = u32::try_from(self.batches.len()).map_err(Refusal::internal)?;
        let rows = (0u32..).zip(subjects(&batch)?).map(|(row, subject)| (u128::from_be_bytes(*subject), index, row));
        self.rows.extend(rows.filter(|(key, _, row)| wanted(*row as usize, *key)));
        self.batches.push(batch);
        Ok(())
    }

    /// Some of its rows, in this order.
    pub(super) fn gathered(&self, rows: &[(u128, u32, u32)]) -> Result<RecordBatch, Refusal> {
        let first = self.batches.first().ok_or_else(|| Refusal::internal("rows without a batch"))?;
        let places: Vec<(usize, usize)> = rows.iter().map(|(_, batch, row)| (*batch as usize, *row as usize)).collect();
        let keys = rows.iter().map(|(key, ..)| key.to_be_bytes()).collect::<Vec<_>>().into_flattened();
        let keys = FixedSizeBinaryArray::try_new(16, Buffer::from_vec(keys), None).map_err(Refusal::internal)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(keys)];
        for position in 1..first.num_columns() {
            let parts: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(position).as_ref()).collect();
            columns.push(match parts.iter().map(|part| part.as_boolean_opt()).collect::<Option<Vec<_>>>() {
                Some(flags) => Arc::new(booleans(&flags, &places)),
                None => interleave(&parts, &places).map_err(Refusal::internal)?,
            });
        }
        RecordBatch::try_new(first.schema(), columns).map_err(Refusal::internal)
    }
}

/// The values at (batch, row): `interleave` copies them by the general way, a call for each.
fn booleans(parts: &[&BooleanArray], places: &[(usize, usize)]) -> BooleanArray {
    let at =
        |(part, row): (usize, usize)| parts.get(part).filter(|part| row < part.len() && part.is_valid(row)).map(|part| part.value(row));
    places.iter().map(|place| at(*place)).collect()
}

fn subjects(batch: &RecordBatch) -> Result<&[[u8; PSEUDONYM_BYTES]], Refusal> {
    batch.columns().first().and_then(|column| pseudonyms(column)).ok_or_else(|| Refusal::internal("a batch without pseudonyms"))
}
