//! Batches of a dataset's column types, made value by value: for sources whose values do not come as Arrow's.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, RecordBatch, RecordBatchOptions,
    StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::DataFusionError;

use super::BATCH_ROWS;

/// Bytes of text after which a batch is full, whatever its rows.
const BATCH_BYTES: usize = 8 << 20;

/// A batch in the making.
pub(super) struct Batch {
    schema: SchemaRef,
    columns: Vec<Builder>,
    rows: usize,
    bytes: usize,
}

/// A column in the making.
pub(super) enum Builder {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Text(StringBuilder),
}

impl Batch {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let builder = |field: &Arc<Field>| match field.data_type() {
            DataType::Boolean => Builder::Boolean(BooleanBuilder::new()),
            DataType::Int64 => Builder::Integer(Int64Builder::new()),
            DataType::Float64 => Builder::Number(Float64Builder::new()),
            kind @ DataType::Decimal128(..) => Builder::Decimal(Decimal128Builder::new().with_data_type(kind.clone())),
            DataType::Date32 => Builder::Date(Date32Builder::new()),
            _ => Builder::Text(StringBuilder::new()),
        };
        let columns = schema.fields().iter().map(builder).collect();
        Self { schema, columns, rows: 0, bytes: 0 }
    }

    /// Takes a row: `take` puts the value of each place into its column and tells how many bytes of text it has.
    pub(super) fn row<E>(&mut self, take: impl FnMut(usize, &mut Builder) -> Result<usize, E>) -> Result<(), E> {
        self.rows(1, take)
    }

    /// Takes so many rows: `take` puts that many values of each place into its column.
    pub(super) fn rows<E>(&mut self, rows: usize, mut take: impl FnMut(usize, &mut Builder) -> Result<usize, E>) -> Result<(), E> {
        for (place, column) in self.columns.iter_mut().enumerate() {
            self.bytes += take(place, column)?;
        }
        self.rows += rows;
        Ok(())
    }

    /// Whether it is time to finish it.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The batch, and a new one begins; `None` when it had no row.
    pub(super) fn finish(&mut self) -> Result<Option<RecordBatch>, DataFusionError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let arrays = self.columns.iter_mut().map(Builder::finish).collect();
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?))
    }
}

impl Builder {
    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Number(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
        }
    }

    pub(super) fn null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Number(builder) => builder.append_null(),
            Self::Decimal(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
        }
    }
}
