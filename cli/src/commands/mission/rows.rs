//! An answer's rows as a snapshot keeps them: values with their statuses. And its bytes, by which the log's promise can be verified later.

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use concordat_mission::{Cell, Column};
use concordat_proto::status::STATUS_OF;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::table::WITHHELD;

/// Columns and rows. Statuses go to their cells; the column of reasons is left out, as the statuses say what it says.
pub(super) fn of(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(Vec<Column>, Vec<Vec<Cell>>)> {
    let failed = |e: ArrowError| Failure::new(format!("the answer cannot be kept: {e}"));
    let all = concat_batches(schema, batches).map_err(failed)?;
    let fields = || schema.fields().iter().zip(all.columns());
    let status_of = |name: &str| fields().find(|(field, _)| field.metadata().get(STATUS_OF).is_some_and(|of| of == name));
    let (mut columns, mut cells) = (Vec::new(), Vec::new());
    for (field, array) in fields().filter(|(field, _)| field.name() != WITHHELD && !field.metadata().contains_key(STATUS_OF)) {
        let statuses = status_of(field.name()).map(|(_, statuses)| texts(statuses)).transpose().map_err(failed)?;
        let mut values = values(array).map_err(failed)?.into_iter();
        let column: Vec<Cell> = (0..all.num_rows())
            .map(|row| Cell {
                value: values.next().unwrap_or(Value::Null),
                status: statuses.as_ref().and_then(|statuses| statuses.get(row).cloned()),
            })
            .collect();
        columns.push(Column { name: field.name().clone(), protected: statuses.is_some() });
        cells.push(column.into_iter());
    }
    let rows = (0..all.num_rows()).map(|_| cells.iter_mut().filter_map(Iterator::next).collect()).collect();
    Ok((columns, rows))
}

/// The answer in Arrow's IPC stream format.
pub(super) fn bytes(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let write = || -> std::result::Result<_, ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.into_inner()
    };
    write().map_err(|e| Failure::new(format!("the answer cannot be kept: {e}")))
}

/// What [`bytes`] wrote.
pub(super) fn read(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let read = || -> std::result::Result<_, ArrowError> {
        let reader = StreamReader::try_new(bytes, None)?;
        Ok((reader.schema(), reader.collect::<std::result::Result<Vec<_>, _>>()?))
    };
    read().map_err(|e| Failure::new(format!("a kept answer cannot be read: {e}")))
}

fn values(array: &ArrayRef) -> std::result::Result<Vec<Value>, ArrowError> {
    let of = |kind: &DataType| cast(array, kind);
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().iter().map(Value::from).collect(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            of(&DataType::Float64)?.as_primitive::<Float64Type>().iter().map(Value::from).collect()
        }
        kind if kind.is_unsigned_integer() => of(&DataType::UInt64)?.as_primitive::<UInt64Type>().iter().map(Value::from).collect(),
        kind if kind.is_signed_integer() => of(&DataType::Int64)?.as_primitive::<Int64Type>().iter().map(Value::from).collect(),
        _ => {
            let texts = texts(array)?.into_iter().enumerate();
            texts.map(|(row, text)| if array.is_null(row) { Value::Null } else { text.into() }).collect()
        }
    })
}

fn texts(array: &ArrayRef) -> std::result::Result<Vec<String>, ArrowError> {
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
    (0..array.len()).map(|row| formatter.value(row).try_to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int32Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use serde_json::json;

    use super::*;

    fn answer() -> (SchemaRef, RecordBatch) {
        let of = |name: &str| [(STATUS_OF.to_owned(), name.to_owned())].into();
        let schema = Arc::new(Schema::new(vec![
            Field::new("region", DataType::Utf8, true),
            Field::new("total", DataType::Int32, true),
            Field::new("meals", DataType::Boolean, true),
            Field::new("share", DataType::Float64, true),
            Field::new("share_status", DataType::Utf8, false).with_metadata(of("share")),
            Field::new(WITHHELD, DataType::Utf8, true),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("North"), None])),
            Arc::new(Int32Array::from(vec![0, 1])),
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(Float64Array::from(vec![None, Some(0.1 + 0.2)])),
            Arc::new(StringArray::from(vec!["withheld: few", "rounded"])),
            Arc::new(StringArray::from(vec![Some("share: few"), None])),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        (schema, batch)
    }

    #[test]
    fn each_cell_keeps_its_value_and_its_status() {
        let (schema, batch) = answer();
        let (columns, rows) = of(&schema, &[batch.slice(0, 1), batch.slice(1, 1)]).unwrap();
        let names: Vec<(&str, bool)> = columns.iter().map(|column| (column.name.as_str(), column.protected)).collect();
        assert_eq!(names, [("region", false), ("total", false), ("meals", false), ("share", true)]);
        let expected = json!([
            [{ "value": "North" }, { "value": 0 }, { "value": true }, { "value": null, "status": "withheld: few" }],
            [{ "value": null }, { "value": 1 }, { "value": null }, { "value": 0.1 + 0.2, "status": "rounded" }],
        ]);
        assert_eq!(serde_json::to_value(&rows).unwrap(), expected);
        assert_eq!((rows[0][3].number(), rows[1][3].number()), (None, Some(0.1 + 0.2)));
        assert!(of(&schema, &[]).unwrap().1.is_empty());
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let (schema, batch) = answer();
        let (again, batches) = read(&bytes(&schema, std::slice::from_ref(&batch)).unwrap()).unwrap();
        assert_eq!((&again, batches.as_slice()), (&schema, &[batch][..]));
        assert!(read(b"nonsense").is_err());
    }
}
