//! The schema message against the agreed schema: compared, never turned into a schema of its own.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc;

use super::StreamError;

/// The agreed schema with the ids that the stream gives its dictionaries, and those ids in the columns' order.
pub(super) struct Agreed {
    pub(super) schema: SchemaRef,
    pub(super) dictionaries: Vec<Option<i64>>,
}

impl Agreed {
    /// Compares, column by column.
    ///
    /// # Errors
    /// [`StreamError::Schema`], [`StreamError::Metadata`].
    pub(super) fn new(agreed: &Schema, stream: &ipc::Schema<'_>) -> Result<Self, StreamError> {
        let fields = stream.fields().ok_or(StreamError::Schema)?;
        if fields.len() != agreed.fields().len() || stream.endianness() != ipc::Endianness::Little {
            return Err(StreamError::Schema);
        }
        if stream.custom_metadata().is_some_and(|m| !m.is_empty()) {
            return Err(StreamError::Metadata);
        }
        let (mut out, mut dictionaries) = (Vec::with_capacity(fields.len()), Vec::with_capacity(fields.len()));
        for (agreed, field) in agreed.fields().iter().zip(fields) {
            if field.custom_metadata().is_some_and(|m| !m.is_empty()) {
                return Err(StreamError::Metadata);
            }
            let same = field.name() == Some(agreed.name())
                && field.nullable() == agreed.is_nullable()
                && field.children().is_none_or(|children| children.is_empty())
                && type_is(agreed.data_type(), &field);
            if !same {
                return Err(StreamError::Schema);
            }
            let id = field.dictionary().map(|dictionary| dictionary.id());
            if id.is_some() && dictionaries.contains(&id) {
                return Err(StreamError::Schema);
            }
            dictionaries.push(id);
            out.push(with_id(agreed, id));
        }
        Ok(Self { schema: Arc::new(Schema::new(out)), dictionaries })
    }
}

fn with_id(agreed: &Field, id: Option<i64>) -> Field {
    let Some(id) = id else { return agreed.clone() };
    #[expect(deprecated, reason = "arrow's public decoder finds dictionaries by the id in the field")]
    Field::new_dict(agreed.name(), agreed.data_type().clone(), agreed.is_nullable(), id, false)
}

fn type_is(agreed: &DataType, field: &ipc::Field<'_>) -> bool {
    let plain = field.dictionary().is_none();
    let signed = |i: ipc::Int<'_>, bits| i.is_signed() && i.bitWidth() == bits;
    match agreed {
        DataType::Dictionary(..) => field.dictionary().is_some_and(|d| {
            field.type_type() == ipc::Type::Utf8
                && d.indexType().is_some_and(|i| signed(i, 32))
                && !d.isOrdered()
                && d.dictionaryKind() == ipc::DictionaryKind::DenseArray
        }),
        DataType::FixedSizeBinary(width) => plain && field.type_as_fixed_size_binary().is_some_and(|t| t.byteWidth() == *width),
        DataType::Int64 => plain && field.type_as_int().is_some_and(|i| signed(i, 64)),
        DataType::Float64 => plain && field.type_as_floating_point().is_some_and(|t| t.precision() == ipc::Precision::DOUBLE),
        DataType::Boolean => plain && field.type_type() == ipc::Type::Bool,
        DataType::Date32 => plain && field.type_as_date().is_some_and(|t| t.unit() == ipc::DateUnit::DAY),
        _ => false,
    }
}
