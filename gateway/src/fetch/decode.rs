//! Arrow IPC from a node, which may be hostile: nothing is decoded before its lengths have been checked.
//!
//! - The schema message is compared with what was agreed and never turned into a schema of its own.
//! - Body compression is refused: a lying length would make the reader allocate any amount.
//! - Every buffer must lie inside the body, every length must fit the batch, before the decoder sees them.
//! - A panic of the decoder is caught and is the node's fault like any other.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{self, MessageHeader, root_as_message};
use arrow_flight::FlightData;

/// The most rows in one batch.
const MAX_ROWS: i64 = 1 << 20;

/// Decodes one partition's stream.
pub(super) struct Decoder {
    agreed: SchemaRef,
    /// The agreed schema with the stream's dictionary ids; set by the schema message.
    stream: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl Decoder {
    pub(super) fn new(agreed: SchemaRef) -> Self {
        Self { agreed, stream: None, dictionaries: HashMap::new() }
    }

    /// Whether the schema message has come.
    pub(super) fn has_schema(&self) -> bool {
        self.stream.is_some()
    }

    /// Takes one message; returns a batch if it was one.
    ///
    /// # Errors
    /// What is wrong with the message, for the operator.
    pub(super) fn message(&mut self, data: &FlightData) -> Result<Option<RecordBatch>, String> {
        catch_unwind(AssertUnwindSafe(|| self.decode(data))).unwrap_or_else(|_| Err("the Arrow decoder panicked".into()))
    }

    fn decode(&mut self, data: &FlightData) -> Result<Option<RecordBatch>, String> {
        let message = root_as_message(&data.data_header).map_err(|_| "a message's header is no Arrow IPC")?;
        let body = Buffer::from(data.data_body.clone());
        match (message.header_type(), self.stream.clone()) {
            (MessageHeader::Schema, None) => {
                let schema = message.header_as_schema().ok_or("an empty schema message")?;
                self.stream = Some(Arc::new(agreed_with_ids(&self.agreed, &schema)?));
                Ok(None)
            }
            (MessageHeader::DictionaryBatch, Some(schema)) => {
                let dictionary = message.header_as_dictionary_batch().ok_or("an empty dictionary message")?;
                let batch = dictionary.data().ok_or("a dictionary without data")?;
                if dictionary.isDelta() {
                    return Err("delta dictionaries are not accepted".into());
                }
                within(&batch, body.len(), 1, 3)?;
                read_dictionary(&body, dictionary, &schema, &mut self.dictionaries, &message.version()).map_err(|e| e.to_string())?;
                Ok(None)
            }
            (MessageHeader::RecordBatch, Some(schema)) => {
                let batch = message.header_as_record_batch().ok_or("an empty batch message")?;
                within(&batch, body.len(), schema.fields().len(), 2 * schema.fields().len())?;
                let decoded =
                    read_record_batch(&body, batch, schema, &self.dictionaries, None, &message.version()).map_err(|e| e.to_string())?;
                RecordBatch::try_new(self.agreed.clone(), decoded.columns().to_vec()).map(Some).map_err(|e| e.to_string())
            }
            (kind, _) => Err(format!("a message of kind {kind:?} at the wrong place")),
        }
    }
}

/// Compares the stream's schema with the agreed one, field by field, and notes its dictionary ids.
fn agreed_with_ids(agreed: &Schema, stream: &ipc::Schema<'_>) -> Result<Schema, String> {
    let fields = stream.fields().ok_or("a schema without fields")?;
    if fields.len() != agreed.fields().len() {
        return Err(format!("{} columns came, {} were ordered", fields.len(), agreed.fields().len()));
    }
    if stream.endianness() != ipc::Endianness::Little {
        return Err("big-endian data is not accepted".into());
    }
    let mut ids = Vec::new();
    let mut out = Vec::new();
    for (agreed, field) in agreed.fields().iter().zip(fields) {
        if field.name() != Some(agreed.name()) || field.nullable() != agreed.is_nullable() || !type_is(agreed.data_type(), &field) {
            return Err(format!("column '{}' is not of the agreed name, type and nullability", agreed.name()));
        }
        out.push(match (agreed.data_type(), field.dictionary()) {
            (DataType::Dictionary(..), Some(dictionary)) => {
                if ids.contains(&dictionary.id()) {
                    return Err("two columns share a dictionary".into());
                }
                ids.push(dictionary.id());
                #[expect(deprecated, reason = "arrow's public decoder finds dictionaries by the id in the field")]
                Field::new_dict(agreed.name(), agreed.data_type().clone(), agreed.is_nullable(), dictionary.id(), false)
            }
            _ => agreed.as_ref().clone(),
        });
    }
    Ok(Schema::new(out))
}

fn type_is(agreed: &DataType, field: &ipc::Field<'_>) -> bool {
    let plain = field.dictionary().is_none();
    let int64 = |i: ipc::Int<'_>| i.is_signed() && i.bitWidth() == 64;
    match agreed {
        DataType::Dictionary(..) => {
            let index = field.dictionary().and_then(|d| d.indexType());
            field.type_type() == ipc::Type::Utf8 && index.is_some_and(|i| i.is_signed() && i.bitWidth() == 32)
        }
        DataType::FixedSizeBinary(width) => plain && field.type_as_fixed_size_binary().is_some_and(|t| t.byteWidth() == *width),
        DataType::Int64 => plain && field.type_as_int().is_some_and(int64),
        DataType::Float64 => plain && field.type_as_floating_point().is_some_and(|t| t.precision() == ipc::Precision::DOUBLE),
        DataType::Boolean => plain && field.type_type() == ipc::Type::Bool,
        DataType::Date32 => plain && field.type_as_date().is_some_and(|t| t.unit() == ipc::DateUnit::DAY),
        _ => false,
    }
}

/// Checks a batch's header against its body.
///
/// # Errors
/// What is wrong, for the operator.
pub(crate) fn within(batch: &ipc::RecordBatch<'_>, body: usize, nodes: usize, buffers: usize) -> Result<(), String> {
    if batch.compression().is_some() {
        return Err("compressed bodies are not accepted".into());
    }
    if !(0..=MAX_ROWS).contains(&batch.length()) {
        return Err("a batch of too many rows".into());
    }
    let own_nodes = batch.nodes().ok_or("a batch without nodes")?;
    let own_buffers = batch.buffers().ok_or("a batch without buffers")?;
    if own_nodes.len() != nodes || own_buffers.len() != buffers || batch.variadicBufferCounts().is_some_and(|v| !v.is_empty()) {
        return Err("a batch of another layout".into());
    }
    if own_nodes.iter().any(|n| n.length() != batch.length() || !(0..=n.length()).contains(&n.null_count())) {
        return Err("a column of another length than its batch".into());
    }
    let inside = |b: &ipc::Buffer| {
        let (offset, length) = (usize::try_from(b.offset()), usize::try_from(b.length()));
        matches!((offset, length), (Ok(o), Ok(l)) if o.checked_add(l).is_some_and(|end| end <= body))
    };
    if own_buffers.iter().all(inside) { Ok(()) } else { Err("a buffer outside the message".into()) }
}
