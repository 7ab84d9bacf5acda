//! Rows that a client binds to a prepared statement: Arrow IPC from outside, so nothing is decoded before its types and lengths
//! have been checked. Flat columns of plain types only; no dictionaries, no compression.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::{self, MessageHeader, root_as_message};
use arrow_flight::FlightData;
use concordat_policy::{Code, Refusal};
use concordat_proto::release_stream::within;
use futures::{Stream, TryStreamExt as _};
use tonic::Status;

use super::prepared::MAX_ROWS;
use crate::plan::MAX_PARAMETERS;

/// The most bytes of bound rows that are looked at.
const MAX_BYTES: usize = 1 << 20;

/// Reads bound rows.
///
/// # Errors
/// [`Code::Invalid`] for bytes that are no such record batches; [`Code::LimitExceeded`].
pub(super) async fn read(mut stream: impl Stream<Item = Result<FlightData, Status>> + Unpin) -> Result<Vec<RecordBatch>, Refusal> {
    let (mut schema, mut batches): (Option<SchemaRef>, Vec<RecordBatch>) = (None, Vec::new());
    let (mut size, mut rows) = (0usize, 0usize);
    while let Some(message) = stream.try_next().await.map_err(|status| invalid(format!("{:?}", status.code())))? {
        size += message.data_header.len() + message.data_body.len();
        if size > MAX_BYTES {
            return Err(Refusal::new(Code::LimitExceeded, format!("at most {} KiB of parameters can be bound at once", MAX_BYTES >> 10)));
        }
        // The descriptor's own message may carry no data.
        if message.data_header.is_empty() {
            continue;
        }
        let decoded =
            catch_unwind(AssertUnwindSafe(|| decode(&message, &mut schema))).unwrap_or_else(|_| Err("the decoder panicked".into()));
        if let Some(batch) = decoded.map_err(invalid)? {
            rows += batch.num_rows();
            if rows > MAX_ROWS {
                return Err(Refusal::new(Code::LimitExceeded, format!("at most {MAX_ROWS} rows of parameters can be bound at once"))
                    .advice("bind fewer; each row is a query of its own"));
            }
            batches.push(batch);
        }
    }
    Ok(batches)
}

fn invalid(operator: String) -> Refusal {
    Refusal::new(Code::Invalid, "the bound parameters are no plain Arrow record batches")
        .advice(
            "bind flat columns of boolean, integer, number, decimal, text, date or timestamp without a zone; uncompressed, no dictionaries",
        )
        .operator(operator)
}

fn decode(data: &FlightData, schema: &mut Option<SchemaRef>) -> Result<Option<RecordBatch>, String> {
    let message = root_as_message(&data.data_header).map_err(|_| "a message's header is no Arrow IPC")?;
    match (message.header_type(), schema.clone()) {
        (MessageHeader::Schema, None) => {
            let own = message.header_as_schema().ok_or("an empty schema message")?;
            *schema = Some(Arc::new(plain_schema(&own)?));
            Ok(None)
        }
        (MessageHeader::RecordBatch, Some(schema)) => {
            let batch = message.header_as_record_batch().ok_or("an empty batch message")?;
            let buffers = schema.fields().iter().map(|f| buffers(f.data_type())).sum();
            within(&batch, data.data_body.len(), schema.fields().len(), buffers).map_err(|e| e.to_string())?;
            if batch.length() > i64::try_from(MAX_ROWS).unwrap_or(0) {
                return Err("more rows than can be bound".into());
            }
            let body = Buffer::from(data.data_body.clone());
            read_record_batch(&body, batch, schema, &HashMap::new(), None, &message.version()).map(Some).map_err(|e| e.to_string())
        }
        (kind, _) => Err(format!("a message of kind {kind:?} at the wrong place")),
    }
}

fn plain_schema(schema: &ipc::Schema<'_>) -> Result<Schema, String> {
    if schema.endianness() != ipc::Endianness::Little {
        return Err("big-endian data is not accepted".into());
    }
    let fields = schema.fields().ok_or("a schema without fields")?;
    if fields.len() > MAX_PARAMETERS {
        return Err("too many columns".into());
    }
    let plain = |(index, field): (usize, ipc::Field<'_>)| {
        let kind = plain_type(&field).ok_or_else(|| format!("column {} is of a type that is not accepted", index + 1))?;
        Ok(Field::new(format!("${}", index + 1), kind, true))
    };
    Ok(Schema::new(fields.iter().enumerate().map(plain).collect::<Result<Vec<_>, String>>()?))
}

fn plain_type(field: &ipc::Field<'_>) -> Option<DataType> {
    if field.dictionary().is_some() || field.children().is_some_and(|children| !children.is_empty()) {
        return None;
    }
    Some(match field.type_type() {
        ipc::Type::Null => DataType::Null,
        ipc::Type::Bool => DataType::Boolean,
        ipc::Type::Utf8 => DataType::Utf8,
        ipc::Type::LargeUtf8 => DataType::LargeUtf8,
        ipc::Type::Int => {
            let int = field.type_as_int()?;
            match (int.is_signed(), int.bitWidth()) {
                (true, 8) => DataType::Int8,
                (true, 16) => DataType::Int16,
                (true, 32) => DataType::Int32,
                (true, 64) => DataType::Int64,
                (false, 8) => DataType::UInt8,
                (false, 16) => DataType::UInt16,
                (false, 32) => DataType::UInt32,
                (false, 64) => DataType::UInt64,
                _ => return None,
            }
        }
        ipc::Type::FloatingPoint => match field.type_as_floating_point()?.precision() {
            ipc::Precision::SINGLE => DataType::Float32,
            ipc::Precision::DOUBLE => DataType::Float64,
            _ => return None,
        },
        ipc::Type::Decimal => {
            let decimal = field.type_as_decimal()?;
            let (precision, scale) = (u8::try_from(decimal.precision()).ok()?, i8::try_from(decimal.scale()).ok()?);
            let fits = decimal.bitWidth() == 128 && (1..=38).contains(&precision) && (0..=38).contains(&scale);
            fits.then_some(DataType::Decimal128(precision, scale))?
        }
        ipc::Type::Date => match field.type_as_date()?.unit() {
            ipc::DateUnit::DAY => DataType::Date32,
            ipc::DateUnit::MILLISECOND => DataType::Date64,
            _ => return None,
        },
        ipc::Type::Timestamp => {
            let timestamp = field.type_as_timestamp()?;
            let unit = match timestamp.unit() {
                ipc::TimeUnit::SECOND => TimeUnit::Second,
                ipc::TimeUnit::MILLISECOND => TimeUnit::Millisecond,
                ipc::TimeUnit::MICROSECOND => TimeUnit::Microsecond,
                ipc::TimeUnit::NANOSECOND => TimeUnit::Nanosecond,
                _ => return None,
            };
            timestamp.timezone().is_none().then_some(DataType::Timestamp(unit, None))?
        }
        _ => return None,
    })
}

/// How many buffers a column of this type has.
fn buffers(kind: &DataType) -> usize {
    match kind {
        DataType::Null => 0,
        DataType::Utf8 | DataType::LargeUtf8 => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, ListArray, NullArray, StringArray, StringDictionaryBuilder};
    use arrow::datatypes::{Int32Type, Int64Type};
    use arrow_flight::encode::FlightDataEncoderBuilder;
    use arrow_flight::error::FlightError;

    async fn sent(batch: RecordBatch) -> Vec<FlightData> {
        FlightDataEncoderBuilder::new().build(futures::stream::iter([Ok::<_, FlightError>(batch)])).try_collect().await.unwrap()
    }

    async fn received(messages: Vec<FlightData>) -> Result<Vec<RecordBatch>, Refusal> {
        read(futures::stream::iter(messages.into_iter().map(Ok))).await
    }

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().enumerate().map(|(i, c)| (i.to_string(), c, true))).unwrap()
    }

    fn plain() -> RecordBatch {
        batch(vec![
            Arc::new(Int64Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec![Some("London"), None])),
            Arc::new(NullArray::new(2)),
        ])
    }

    #[tokio::test]
    async fn plain_rows_pass_and_others_do_not() {
        assert_eq!(received(sent(plain()).await).await.unwrap()[0].columns(), plain().columns());
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]));
        assert_eq!(received(sent(batch(vec![list])).await).await.unwrap_err().code, Code::Invalid);
        let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
        dictionary.append_value("a");
        let mut hydrated = sent(batch(vec![Arc::new(dictionary.finish())])).await;
        // The encoder sends a dictionary as plain text; what follows without its schema is refused.
        assert!(received(hydrated.clone()).await.is_ok());
        assert_eq!(received(hydrated.split_off(1)).await.unwrap_err().code, Code::Invalid);
        let many: ArrayRef = Arc::new(Int64Array::from(vec![1; MAX_ROWS + 1]));
        assert!(received(sent(batch(vec![many])).await).await.is_err());
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(MAX_BYTES)]));
        assert_eq!(received(sent(batch(vec![long])).await).await.unwrap_err().code, Code::LimitExceeded);
    }

    #[tokio::test]
    async fn damaged_bytes_never_panic() {
        let good = sent(plain()).await;
        for message in 0..good.len() {
            for index in 0..good[message].data_header.len() {
                for flip in [1u8, 0x80, 0xff] {
                    let mut bad = good.clone();
                    let mut header = bad[message].data_header.to_vec();
                    header[index] ^= flip;
                    bad[message].data_header = header.into();
                    // Some damage is harmless; none may end the process.
                    drop(received(bad).await);
                }
            }
            for length in 0..good[message].data_body.len() {
                let mut bad = good.clone();
                bad[message].data_body.truncate(length);
                drop(received(bad).await);
            }
        }
    }
}
