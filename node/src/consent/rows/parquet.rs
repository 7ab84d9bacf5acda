//! Parquet. Columns of any type that can be written as text are read as text.

use std::fs::File;

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{At, COLUMNS, FileError, Raw, RowError, positions, raw};

/// Rows that are read at once.
const BATCH: usize = 8192;

/// As [`super::read`].
pub(super) fn read<E: From<FileError>>(
    file: &File,
    only_type: Option<&str>,
    mut each: impl FnMut(At, Result<Raw<'_>, RowError>) -> Result<(), E>,
) -> Result<(), E> {
    let file = file.try_clone().map_err(FileError::from)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|_| FileError::Parquet)?;
    let positions = positions(builder.schema().fields().iter().map(|field| field.name().as_str()), only_type)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), positions.into_iter().flatten());
    let reader = builder.with_projection(mask).with_batch_size(BATCH).build().map_err(|_| FileError::Parquet)?;
    let mut record = 0;
    for batch in reader {
        let batch = batch.map_err(|_| FileError::Parquet)?;
        // Absent only where `positions` lets it be.
        let column = |(name, position): (&str, Option<usize>)| position.map(|_| text(&batch, name)).transpose();
        let columns: Vec<Option<StringArray>> = COLUMNS.into_iter().zip(positions).map(column).collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            record += 1;
            let mut values = [""; 8];
            for (slot, column) in values.iter_mut().zip(&columns) {
                *slot = column.as_ref().map_or("", |column| value(column, row));
            }
            let found = raw(values);
            let only_type = only_type.filter(|_| positions[1].is_none());
            each(At::Record(record), Ok(Raw { identifier_type: only_type.unwrap_or(found.identifier_type), ..found }))?;
        }
    }
    Ok(())
}

fn text(batch: &RecordBatch, name: &str) -> Result<StringArray, FileError> {
    let column = batch.column_by_name(name).ok_or(FileError::Parquet)?;
    let text = cast(column, &DataType::Utf8).map_err(|_| FileError::Parquet)?;
    text.as_string_opt().cloned().ok_or(FileError::Parquet)
}

/// A null is an empty text: no identifier, no purpose, no event.
fn value(column: &StringArray, row: usize) -> &str {
    if column.is_valid(row) { column.value(row) } else { "" }
}
