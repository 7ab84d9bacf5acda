//! Rows as a node would release them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringDictionaryBuilder,
};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};

/// `rows` rows, the pseudonyms counting up from `first` in `partition` of two.
pub(crate) fn batch(schema: &SchemaRef, partition: usize, first: usize, rows: usize) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| column(field.data_type(), partition, first, rows)).collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

fn column(kind: &DataType, partition: usize, first: usize, rows: usize) -> ArrayRef {
    let numbers = || (first..first + rows).map(|i| (i % 5 != 2).then_some(i));
    match kind {
        DataType::FixedSizeBinary(_) => {
            let subjects = (first..first + rows).map(|i| (((partition as u128) << 127) + (i as u128)).to_be_bytes());
            if rows == 0 {
                Arc::new(FixedSizeBinaryArray::new_null(16, 0))
            } else {
                Arc::new(FixedSizeBinaryArray::try_from_iter(subjects).unwrap())
            }
        }
        DataType::Int64 => Arc::new(numbers().map(|n| n.map(|n| n as i64 - 2)).collect::<Int64Array>()),
        DataType::Float64 => Arc::new(numbers().map(|n| n.map(|n| n as f64 / 4.0)).collect::<Float64Array>()),
        DataType::Boolean => Arc::new(numbers().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>()),
        DataType::Date32 => Arc::new(numbers().map(|n| n.map(|n| n as i32)).collect::<Date32Array>()),
        _ => {
            let mut text = StringDictionaryBuilder::<Int32Type>::new();
            numbers().for_each(|n| text.append_option(n.map(|n| ["London", "", "Ynys Môn", "N\u{ec}\u{301}"][n % 4])));
            Arc::new(text.finish())
        }
    }
}
