//! What tells the rows of a source apart, so that a scan leaves out those that are known and stayed as they were: of several files, which
//! one each is of; of a database whose department names what changes with a row, its version ([`versions`]).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray as _, BooleanArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::lit;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::ident;
use futures::StreamExt as _;

use super::versions::{self, Comparison, Stayed, Versions};
use super::{Dataset, Selection};
use crate::source::{CHANGED, Changes, Files, SourceColumn, SourceError, SourceFile, session};

/// The column of a scan that tells rows apart. No dataset has one of this name.
pub(crate) const PART: &str = "part of the source";
/// The most files that are told apart.
const PARTS: usize = 4_096;

/// By what rows are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apart {
    /// By their file's place among all.
    Files,
    /// By their version.
    Versions,
}

impl Apart {
    /// The type of [`PART`].
    pub(crate) fn kind(self) -> DataType {
        match self {
            Self::Files => DataType::UInt16,
            Self::Versions => DataType::UInt64,
        }
    }
}

/// What was read before, and the columns of the source, in whose types its rows are.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) parts: Parts,
    pub(crate) columns: Vec<SourceColumn>,
}

/// What was read before.
#[derive(Clone)]
pub(crate) enum Parts {
    /// Of these files.
    Files(Vec<SourceFile>),
    /// Rows of these versions.
    Versions(Arc<Versions>),
}

/// What a scan leaves out because it is known.
pub(crate) enum LeftOut {
    Nothing,
    /// Rows of these files, each with its number.
    Files(HashMap<SourceFile, u16>),
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

/// A stream whose last column is of versions, without those that stayed.
fn others(stream: SendableRecordBatchStream, stayed: Stayed) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let only = move |batch: datafusion::common::Result<_>| {
        let batch: datafusion::arrow::array::RecordBatch = batch?;
        let versions = batch.columns().last().and_then(|versions| versions.as_primitive_opt::<UInt64Type>()).ok_or_else(unversioned)?;
        Ok(filter_record_batch(&batch, &BooleanArray::from_unary(versions, |version| !stayed.holds(version)))?)
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, stream.map(only)))
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
        let known: HashSet<&SourceFile> = match known {
            Some(Parts::Files(known)) => known.iter().collect(),
            _ => HashSet::new(),
        };
        let (known, unread) = found.iter().zip(0u16..).partition::<Vec<_>, _>(|(file, _)| known.contains(file));
        let left_out = match known.as_slice() {
            [] => LeftOut::Nothing,
            known => LeftOut::Files(known.iter().map(|(file, number)| ((*file).clone(), *number)).collect()),
        };
        let unread = unread.into_iter().map(|(file, number)| (file, apart.map(|_| number)));
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

    /// Streams over the rows of a database with their versions; without those that are known and there yet, which `before` tells.
    pub(super) async fn by_version(
        &self,
        order: &Selection,
        frame: DataFrame,
        before: Option<DataFrame>,
        changes: &Changes,
        known: Option<&Parts>,
    ) -> Result<Told, SourceError> {
        let version = || versions::version(ident(&changes.key), ident(CHANGED));
        let compared = match (before, known) {
            (Some(before), Some(Parts::Versions(known))) => {
                let narrowed = self.narrowed(order, before)?;
                let mut compared = Comparison::with(Arc::clone(known));
                let mut rows = narrowed.select(vec![version().alias(PART), ident(CHANGED)])?.execute_stream().await?;
                while let Some(batch) = rows.next().await {
                    let batch = batch?;
                    let [versions, changed] = batch.columns() else { return Err(unversioned().into()) };
                    let changed = changed.as_primitive_opt::<Int64Type>().ok_or_else(unversioned)?;
                    compared.take(versions.as_primitive_opt::<UInt64Type>().ok_or_else(unversioned)?, changed);
                }
                compared.done()
            }
            _ => None,
        };
        let Some((stayed, since)) = compared else {
            let streams = self.streams(order, frame, Some(version())).await?;
            return Ok(Told { streams, apart: Some(Apart::Versions), left_out: LeftOut::Nothing });
        };
        let streams = self.streams(order, frame.filter(ident(CHANGED).gt_eq(lit(since)))?, Some(version())).await?;
        let streams = streams.into_iter().map(|stream| others(stream, stayed.clone())).collect();
        Ok(Told { streams, apart: Some(Apart::Versions), left_out: LeftOut::Versions(stayed) })
    }
}
