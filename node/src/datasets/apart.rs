//! What tells the rows of a source apart, so that a scan leaves out those that are known and stayed as they were: of several files, which
//! one each is of; of a database whose department names what changes with a row, its version ([`versions`]).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{AsArray as _, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::lit;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::ident;
use futures::StreamExt as _;

use super::versions::{self, Compared, Comparison, Stayed, Sum, Versions};
use super::{Dataset, Selection};
use crate::source::{CHANGED, Changes, Files, Shape, SourceError, SourceFile, session};

/// The last column of a scan that tells rows apart, of the type that [`Apart`] says; never null. No dataset has one of this name.
pub const PART: &str = "part of the source";
/// The most files that are told apart.
const PARTS: usize = 4_096;

/// By what rows are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// By their file's place among all: `UInt16`.
    Files,
    /// By their version: `FixedSizeBinary(16)`, see [`values`](super::values).
    Versions,
}

impl Apart {
    /// The type of [`PART`].
    pub(crate) fn kind(self) -> DataType {
        match self {
            Self::Files => DataType::UInt16,
            Self::Versions => DataType::FixedSizeBinary(16),
        }
    }
}

/// What was read before, and what the source was made of, in the types of whose columns its rows are.
#[derive(Clone)]
pub struct Known {
    /// Which rows.
    pub parts: Parts,
    /// Of what.
    pub shape: Shape,
}

/// What was read before.
#[derive(Clone)]
pub enum Parts {
    /// Of these files.
    Files(Vec<SourceFile>),
    /// Rows of these versions.
    Versions(Arc<Versions>),
}

/// What a scan leaves out because it is known.
pub enum LeftOut {
    /// All is read.
    Nothing,
    /// Rows of files: by a file's number then, its number now, unless it is gone or changed.
    Files(Vec<Option<u16>>),
    /// Rows of versions that are known and there yet.
    Versions(Stayed),
}

/// Streams of rows, with what tells them apart.
pub(super) struct Told {
    pub(super) streams: Vec<SendableRecordBatchStream>,
    pub(super) apart: Option<Apart>,
    pub(super) left_out: LeftOut,
}

/// Whether rows can say of which file they are: not where a file is there twice, by another name.
pub(crate) fn can_be_told_apart(files: &[SourceFile]) -> bool {
    files.len() <= PARTS && files.iter().collect::<HashSet<_>>().len() == files.len()
}

/// Streams of one schema one after the other.
fn chained(streams: Vec<SendableRecordBatchStream>) -> Option<SendableRecordBatchStream> {
    let schema = streams.first()?.schema();
    Some(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(streams).flatten())))
}

/// The same, whichever has something: what the engine deals out to several does not wait for its turn.
fn together(streams: Vec<SendableRecordBatchStream>) -> Option<SendableRecordBatchStream> {
    let schema = streams.first()?.schema();
    Some(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::select_all(streams))))
}

/// A stream whose last column is of versions, without those that stayed. Fails at its end where the others are not those that were
/// announced: what is read twice in one transaction need not be the same, of foreign tables or volatile functions.
fn others(stream: SendableRecordBatchStream, stayed: Stayed, announced: Sum) -> SendableRecordBatchStream {
    let (schema, found) = (stream.schema(), Arc::new(Mutex::new(Sum::default())));
    let sum = Arc::clone(&found);
    let only = move |batch: datafusion::common::Result<RecordBatch>| {
        let batch = batch?;
        let versions = batch.columns().last().and_then(|versions| versions.as_fixed_size_binary_opt()).ok_or_else(unversioned)?;
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        let others = versions::values(versions).map(|version| {
            let other = !stayed.holds(version);
            if other {
                sum.add(version);
            }
            other
        });
        Ok(filter_record_batch(&batch, &others.collect::<Vec<_>>().into())?)
    };
    let end = async move {
        let found = *found.lock().unwrap_or_else(PoisonError::into_inner);
        (found != announced).then(|| Err(SourceError::Changed.into()))
    };
    let end = futures::stream::once(end).filter_map(std::future::ready);
    Box::pin(RecordBatchStreamAdapter::new(schema, stream.map(only).chain(end)))
}

fn unversioned() -> DataFusionError {
    DataFusionError::Internal("rows without versions".into())
}

impl Dataset {
    /// Streams over the rows of files, of several with their numbers; without those of files that are known.
    pub(super) async fn by_file(
        &self,
        order: &Selection,
        whole: &DataFrame,
        (files, found): (&Files, &[SourceFile]),
        known: Option<&Parts>,
        partitions: usize,
    ) -> Result<Told, SourceError> {
        let apart = (found.len() > 1).then_some(Apart::Files);
        let numbers: HashMap<&SourceFile, u16> = found.iter().zip(0..).collect();
        let then = match known {
            Some(Parts::Files(known)) => known.as_slice(),
            _ => &[],
        };
        let stayed: Vec<Option<u16>> = then.iter().map(|file| numbers.get(file).copied()).collect();
        let known: HashSet<u16> = stayed.iter().flatten().copied().collect();
        let unread = found.iter().zip(0u16..).filter(|(_, number)| !known.contains(number));
        let unread = unread.map(|(file, number)| (file, apart.map(|_| number)));
        let left_out = if known.is_empty() { LeftOut::Nothing } else { LeftOut::Files(stayed) };
        Ok(Told { streams: self.file_by_file(order, whole, files, unread.collect(), partitions).await?, apart, left_out })
    }

    /// Streams over some files, one after the other, each with its number if it has one.
    async fn file_by_file(
        &self,
        order: &Selection,
        whole: &DataFrame,
        files: &Files,
        mut unread: Vec<(&SourceFile, Option<u16>)>,
        partitions: usize,
    ) -> Result<Vec<SendableRecordBatchStream>, SourceError> {
        let partitions = partitions.max(1);
        // A file that is more than its share is split, of others each is read by who has least to read. The largest first: what the
        // engine deals out to several readers waits in memory for those who read something else.
        unread.sort_by_key(|(file, _)| Reverse(file.bytes));
        let [split, single] = [session(partitions)?, session(1)?];
        let share = unread.iter().map(|(file, _)| file.bytes).sum::<u64>() / partitions as u64;
        let mut lanes: Vec<(u64, Vec<SendableRecordBatchStream>)> = (0..partitions).map(|_| (0, Vec::new())).collect();
        for (file, number) in unread {
            let context = if file.bytes > share { &split } else { &single };
            let frame = files.alone(context, file, whole.schema().as_arrow()).await?;
            let streams = self.streams(order, frame, number.map(lit)).await?;
            let bytes = file.bytes / streams.len().max(1) as u64;
            lanes.sort_by_key(|(bytes, _)| *bytes);
            for (stream, lane) in streams.into_iter().zip((0..partitions).cycle()) {
                if let Some((read, lane)) = lanes.get_mut(lane) {
                    *read += bytes;
                    lane.push(stream);
                }
            }
        }
        Ok(lanes.into_iter().filter_map(|(_, streams)| chained(streams)).collect())
    }

    /// Streams over the rows of a database with their versions; without those that are known and there yet, which are read `first`.
    pub(super) async fn by_version(
        &self,
        order: &Selection,
        frame: DataFrame,
        first: Option<DataFrame>,
        changes: &Changes,
        known: Option<&Parts>,
    ) -> Result<Told, SourceError> {
        let version = || versions::version(ident(&changes.key), ident(CHANGED));
        let compared = match (first, known) {
            (Some(first), Some(Parts::Versions(known))) => {
                let mut compared = Comparison::with(Arc::clone(known));
                let mut rows = self.narrowed(order, first)?.select(vec![version()])?.execute_stream().await?;
                while let Some(batch) = rows.next().await {
                    let batch = batch?;
                    let versions = batch.columns().first().and_then(|versions| versions.as_fixed_size_binary_opt());
                    compared.take(versions.ok_or_else(unversioned)?);
                }
                compared.done()
            }
            _ => None,
        };
        let apart = Some(Apart::Versions);
        let Some(Compared { stayed, since, others: announced }) = compared else {
            return Ok(Told { streams: self.streams(order, frame, Some(version())).await?, apart, left_out: LeftOut::Nothing });
        };
        let streams = self.streams(order, frame.filter(ident(CHANGED).gt_eq(lit(since)))?, Some(version())).await?;
        let streams = together(streams).map(|stream| others(stream, stayed.clone(), announced)).into_iter().collect();
        Ok(Told { streams, apart, left_out: LeftOut::Versions(stayed) })
    }
}
