//! Releases that lie: what a hostile node can say in the messages of a stream. Each begins with what an honest node would send,
//! from the encoder that nodes use, and changes it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, StringDictionaryBuilder};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryHandling, DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use concordat_policy::ColumnType;
use concordat_proto::release_stream::{ReleaseMessage, StreamError};
use concordat_proto::schema::{release_schema, split_points};

use crate::release_stream::encode;
use crate::tamper::{Places, places, set};

/// Rows of the release.
pub const ROWS: usize = 100;

/// An honest release.
#[derive(Debug, Clone)]
pub struct Honest {
    /// The ordered columns: of text or truth values.
    pub columns: Vec<(String, ColumnType)>,
    pub partition: u32,
    pub partitions: u32,
}

impl Honest {
    pub fn schema(&self) -> Schema {
        release_schema(false, self.columns.iter().map(|(name, kind)| (name.as_str(), *kind)))
    }

    /// Rows, the pseudonyms counting up from `first`.
    pub fn batch(&self, first: usize, rows: usize) -> RecordBatch {
        self.changed(first, rows, |_, _| {})
    }

    /// The same after `change`.
    pub fn changed(&self, first: usize, rows: usize, change: impl FnOnce(&mut Vec<Field>, &mut Vec<ArrayRef>)) -> RecordBatch {
        let mut fields: Vec<Field> = self.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut columns: Vec<ArrayRef> = vec![self.pseudonyms(first, rows)];
        for field in &fields[1..] {
            columns.push(if field.data_type() == &DataType::Boolean { Arc::new(BooleanArray::from(vec![true; rows])) } else { text(rows) });
        }
        change(&mut fields, &mut columns);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn pseudonyms(&self, first: usize, rows: usize) -> ArrayRef {
        let low = self.partition.checked_sub(1).map_or(0, |i| u128::from_be_bytes(split_points(self.partitions)[i as usize]));
        let mut bytes = Vec::with_capacity(16 * rows);
        (first..first + rows).for_each(|i| bytes.extend((low + i as u128).to_be_bytes()));
        Arc::new(FixedSizeBinaryArray::new(16, bytes.into(), None))
    }

    /// A dictionary of one text of so many bytes.
    pub fn dictionary(&self, bytes: usize) -> ReleaseMessage {
        let batch = self.changed(0, 1, |_, columns| {
            let mut text = StringDictionaryBuilder::<Int32Type>::new();
            text.append_value("x".repeat(bytes));
            *dictionary_of(columns) = Arc::new(text.finish());
        });
        encode(&batch.schema(), &[batch])[1].clone()
    }
}

/// A batch with its dictionaries, without its schema.
pub fn rows_of(batch: &RecordBatch) -> Vec<ReleaseMessage> {
    encode(&batch.schema(), std::slice::from_ref(batch)).split_off(1)
}

fn text(rows: usize) -> ArrayRef {
    let mut text = StringDictionaryBuilder::<Int32Type>::new();
    (0..rows).for_each(|i| text.append_value(["none", "light touch", "full"][i % 3]));
    Arc::new(text.finish())
}

fn dictionary_of(columns: &mut [ArrayRef]) -> &mut ArrayRef {
    columns.iter_mut().find(|c| matches!(c.data_type(), DataType::Dictionary(..))).unwrap()
}

/// A lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lie {
    // Schemas.
    NoSchema,
    SchemaTwice,
    SchemaChanges,
    AnotherType,
    AnotherName,
    NeverNull,
    MissingColumn,
    ExtraColumn,
    DuplicateColumn,
    Metadata,
    /// An integer of seven bits.
    OddInteger,
    // Rows.
    Unsorted,
    AnotherPartition,
    NullPseudonym,
    // Lengths.
    Garbage,
    BufferBeyondMessage,
    BufferLength(i64),
    Rows(i64),
    BodyLength(i64),
    BufferOffset(i64),
    DescendingBuffers,
    OneBufferForAll,
    ShortValidity,
    HiddenBytes,
    // Text.
    Compressed,
    CompressedLength(i64),
    IndexOutOfRange,
    NegativeIndex,
    DescendingOffsets,
    InvalidText,
    NullInDictionary,
    NoDictionary,
    UnknownDictionary,
    DeltaDictionary,
}

impl Lie {
    /// Each, and why it is refused.
    pub const ALL: &'static [(Self, StreamError)] = &[
        (Self::NoSchema, StreamError::Order),
        (Self::SchemaTwice, StreamError::Order),
        (Self::SchemaChanges, StreamError::Order),
        (Self::AnotherType, StreamError::Schema),
        (Self::AnotherName, StreamError::Schema),
        (Self::NeverNull, StreamError::Schema),
        (Self::MissingColumn, StreamError::Schema),
        (Self::ExtraColumn, StreamError::Schema),
        (Self::DuplicateColumn, StreamError::Schema),
        (Self::Metadata, StreamError::Metadata),
        (Self::OddInteger, StreamError::Schema),
        (Self::Unsorted, StreamError::Descending),
        (Self::AnotherPartition, StreamError::Partition),
        (Self::NullPseudonym, StreamError::Null),
        (Self::Garbage, StreamError::Header),
        (Self::BufferBeyondMessage, StreamError::BufferOutside),
        (Self::BufferLength(1 << 33), StreamError::BufferOutside),
        (Self::BufferLength(1 << 38), StreamError::BufferOutside),
        (Self::BufferLength(1 << 62), StreamError::BufferOutside),
        (Self::BufferLength(-1), StreamError::BufferOutside),
        (Self::BufferOffset(1 << 62), StreamError::BufferOutside),
        (Self::BufferOffset(-64), StreamError::BufferOutside),
        (Self::Rows(1 << 33), StreamError::Rows),
        (Self::Rows(1 << 38), StreamError::Rows),
        (Self::Rows(1 << 62), StreamError::Rows),
        (Self::Rows(-1), StreamError::Rows),
        (Self::Rows(1 << 20), StreamError::BufferLength),
        (Self::BodyLength(-1), StreamError::BodyLength),
        (Self::BodyLength(1 << 33), StreamError::BodyLength),
        (Self::BodyLength(1 << 62), StreamError::BodyLength),
        (Self::DescendingBuffers, StreamError::BufferOrder),
        (Self::OneBufferForAll, StreamError::BufferOrder),
        (Self::ShortValidity, StreamError::BufferLength),
        (Self::HiddenBytes, StreamError::BufferOrder),
        (Self::Compressed, StreamError::Compressed),
        (Self::CompressedLength(1 << 33), StreamError::Compressed),
        (Self::CompressedLength(1 << 38), StreamError::Compressed),
        (Self::CompressedLength(1 << 62), StreamError::Compressed),
        (Self::IndexOutOfRange, StreamError::Index),
        (Self::NegativeIndex, StreamError::Index),
        (Self::DescendingOffsets, StreamError::Offsets),
        (Self::InvalidText, StreamError::Text),
        (Self::NullInDictionary, StreamError::Null),
        (Self::NoDictionary, StreamError::MissingDictionary),
        (Self::UnknownDictionary, StreamError::UnknownDictionary),
        (Self::DeltaDictionary, StreamError::DeltaDictionary),
    ];

    /// The messages of a release that lies so, without a receipt. The honest release must have a column of text, and another before it.
    pub fn tell(self, honest: &Honest) -> Vec<ReleaseMessage> {
        let truth = honest.batch(0, ROWS);
        let mut messages = encode(&truth.schema(), std::slice::from_ref(&truth));
        let (schema, dictionary, rows) = (0, 1, 2);
        match self {
            Self::NoSchema => drop(messages.remove(schema)),
            Self::SchemaTwice => messages.insert(1, messages[schema].clone()),
            Self::SchemaChanges => {
                let other = honest.changed(0, ROWS, |fields, columns| {
                    fields[1] = Field::new(fields[1].name(), DataType::Int64, true);
                    columns[1] = Arc::new(Int64Array::from(vec![1; ROWS]));
                });
                messages.extend(encode(&other.schema(), &[other]));
            }
            Self::AnotherType
            | Self::AnotherName
            | Self::NeverNull
            | Self::MissingColumn
            | Self::ExtraColumn
            | Self::DuplicateColumn
            | Self::Metadata => {
                let other = honest.changed(0, ROWS, |fields, columns| self.columns(fields, columns));
                messages = encode(&other.schema(), &[other]);
            }
            Self::OddInteger => {
                let mut other = Self::AnotherType.tell(honest);
                let bits = other[schema].header.windows(4).position(|w| w == 64u32.to_le_bytes()).unwrap();
                header(&mut other[schema], |h, _| h[bits] = 7);
                messages = other;
            }
            Self::Unsorted => {
                let body = messages[rows].body.to_vec();
                let (at, other) = (buffer(&messages[rows], 1) + 16 * 3, buffer(&messages[rows], 1) + 16 * 70);
                change_body(&mut messages[rows], |b| {
                    b[at..at + 16].copy_from_slice(&body[other..other + 16]);
                    b[other..other + 16].copy_from_slice(&body[at..at + 16]);
                });
            }
            Self::AnotherPartition => {
                let other = Honest { partition: (honest.partition + 1) % honest.partitions, ..honest.clone() };
                messages = encode(&truth.schema(), &[other.batch(0, ROWS)]);
            }
            Self::NullPseudonym => header(&mut messages[rows], |h, at| set(h, at.nodes[0] + 8, 1)),
            Self::Garbage => messages[rows].header = vec![0xab; 81].into(),
            Self::BufferBeyondMessage => {
                messages[rows].body.truncate(16);
                header(&mut messages[rows], |h, at| set(h, at.body_length.unwrap(), 16));
            }
            Self::BufferLength(lie) => header(&mut messages[rows], |h, at| set(h, at.buffers[1] + 8, lie)),
            Self::BufferOffset(lie) => header(&mut messages[rows], |h, at| set(h, at.buffers[1], lie)),
            Self::Rows(lie) => header(&mut messages[rows], |h, at| {
                set(h, at.rows.unwrap(), lie);
                at.nodes.iter().for_each(|node| set(h, *node, lie));
            }),
            Self::BodyLength(lie) => header(&mut messages[rows], |h, at| set(h, at.body_length.unwrap(), lie)),
            Self::DescendingBuffers => header(&mut messages[rows], |h, at| {
                let all = at.buffers;
                let (one, two) = (all[1], all[all.len() - 1]);
                let (first, second) = (h[one..one + 16].to_vec(), h[two..two + 16].to_vec());
                h[one..one + 16].copy_from_slice(&second);
                h[two..two + 16].copy_from_slice(&first);
            }),
            Self::OneBufferForAll => header(&mut messages[rows], |h, at| {
                let all = at.buffers;
                let first = h[all[1]..all[1] + 16].to_vec();
                all.iter().skip(1).step_by(2).for_each(|at| h[*at..at + 16].copy_from_slice(&first));
            }),
            Self::ShortValidity => header(&mut messages[rows], |h, at| {
                set(h, at.nodes[1] + 8, 50);
                set(h, at.buffers[2] + 8, 1);
            }),
            Self::HiddenBytes => {
                let body = [messages[rows].body.as_ref(), &[7; 8 << 20]].concat();
                header(&mut messages[rows], |h, at| set(h, at.body_length.unwrap(), body.len() as i64));
                messages[rows].body = body.into();
            }
            Self::Compressed | Self::CompressedLength(_) => messages = compressed(&truth, self),
            Self::IndexOutOfRange | Self::NegativeIndex => {
                let at = buffer(&messages[rows], 2 * text_column(&truth) + 1);
                let index = if self == Self::NegativeIndex { -1 } else { 1 << 30 };
                change_body(&mut messages[rows], |b| b[at..at + 4].copy_from_slice(&i32::to_le_bytes(index)));
            }
            Self::DescendingOffsets => {
                let at = buffer(&messages[dictionary], 1) + 4;
                change_body(&mut messages[dictionary], |b| b[at..at + 4].copy_from_slice(&1000u32.to_le_bytes()));
            }
            Self::InvalidText => {
                let at = buffer(&messages[dictionary], 2);
                change_body(&mut messages[dictionary], |b| b[at] = 0xff);
            }
            Self::NullInDictionary => {
                let other = honest.changed(0, ROWS, |_, columns| {
                    let column = dictionary_of(columns);
                    let keys = arrow::array::Int32Array::from(vec![1; ROWS]);
                    let values = StringArray::from(vec![Some("a"), None]);
                    *column = Arc::new(arrow::array::DictionaryArray::new(keys, Arc::new(values)));
                });
                messages = encode(&other.schema(), &[other]);
            }
            Self::NoDictionary => drop(messages.remove(dictionary)),
            Self::UnknownDictionary => messages.insert(2, another_dictionary(&truth)),
            Self::DeltaDictionary => messages.insert(3, delta_dictionary(honest)),
        }
        messages
    }

    fn columns(self, fields: &mut Vec<Field>, columns: &mut Vec<ArrayRef>) {
        let last = fields.len() - 1;
        match self {
            Self::AnotherType => {
                fields[1] = Field::new(fields[1].name(), DataType::Int64, true);
                columns[1] = Arc::new(Int64Array::from(vec![1; ROWS]));
            }
            Self::AnotherName => fields[1] = fields[1].clone().with_name("other"),
            Self::NeverNull => fields[1] = fields[1].clone().with_nullable(false),
            Self::MissingColumn => drop((fields.remove(last), columns.remove(last))),
            Self::ExtraColumn => {
                fields.push(Field::new("extra", DataType::Int64, true));
                columns.push(Arc::new(Int64Array::from(vec![1; ROWS])));
            }
            Self::DuplicateColumn => {
                fields.push(fields[1].clone());
                columns.push(columns[1].clone());
            }
            _ => fields[1] = fields[1].clone().with_metadata([("ARROW:extension:name".to_owned(), "x".to_owned())].into()),
        }
    }
}

fn header(message: &mut ReleaseMessage, change: impl FnOnce(&mut [u8], Places)) {
    let mut header = message.header.to_vec();
    change(&mut header, places(&message.header));
    message.header = header.into();
}

fn change_body(message: &mut ReleaseMessage, change: impl FnOnce(&mut [u8])) {
    let mut body = message.body.to_vec();
    change(&mut body);
    message.body = body.into();
}

/// Where in its body a message's buffer begins.
fn buffer(message: &ReleaseMessage, index: usize) -> usize {
    let at = places(&message.header).buffers[index];
    usize::try_from(i64::from_le_bytes(message.header[at..at + 8].try_into().unwrap())).unwrap()
}

fn text_column(batch: &RecordBatch) -> usize {
    batch.columns().iter().position(|c| matches!(c.data_type(), DataType::Dictionary(..))).unwrap()
}

/// The same release, compressed; the length that its first compressed buffer states of itself may lie.
fn compressed(batch: &RecordBatch, lie: Lie) -> Vec<ReleaseMessage> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let (mut tracker, mut context, generator) = (DictionaryTracker::new(false), IpcWriteContext::default(), IpcDataGenerator::default());
    let schema = generator.schema_to_bytes_with_dictionary_tracker(&batch.schema(), &mut tracker, &options);
    let (dictionaries, rows) = generator.encode(batch, &mut tracker, &options, &mut context).unwrap();
    let all = std::iter::once(schema).chain(dictionaries).chain([rows]);
    let mut messages: Vec<ReleaseMessage> =
        all.map(|e| ReleaseMessage { header: e.ipc_message.into(), body: e.arrow_data.into(), ..ReleaseMessage::default() }).collect();
    if let Lie::CompressedLength(length) = lie {
        for message in &mut messages[1..] {
            change_body(message, |b| b[..8].copy_from_slice(&length.to_le_bytes()));
        }
    }
    messages
}

/// The dictionary of a column that the release does not have.
fn another_dictionary(batch: &RecordBatch) -> ReleaseMessage {
    let text = text_column(batch);
    let mut fields: Vec<Field> = batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(fields[text].clone().with_name("another"));
    let columns = batch.columns().iter().cloned().chain([self::text(ROWS)]).collect();
    let wider = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    encode(&wider.schema(), &[wider])[2].clone()
}

/// What adds to the dictionary of the release.
fn delta_dictionary(honest: &Honest) -> ReleaseMessage {
    let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
    let (mut tracker, mut context, generator) = (DictionaryTracker::new(false), IpcWriteContext::default(), IpcDataGenerator::default());
    let first = honest.batch(0, 3);
    let second = honest.changed(0, 4, |_, columns| {
        let mut text = StringDictionaryBuilder::<Int32Type>::new();
        ["none", "light touch", "full", "more"].iter().for_each(|value| text.append_value(value));
        *dictionary_of(columns) = Arc::new(text.finish());
    });
    generator.schema_to_bytes_with_dictionary_tracker(&first.schema(), &mut tracker, &options);
    generator.encode(&first, &mut tracker, &options, &mut context).unwrap();
    let (dictionaries, _) = generator.encode(&second, &mut tracker, &options, &mut context).unwrap();
    let delta = dictionaries.into_iter().next().unwrap();
    ReleaseMessage { header: delta.ipc_message.into(), body: delta.arrow_data.into(), ..ReleaseMessage::default() }
}

#[cfg(test)]
mod tests {
    use concordat_proto::release_stream::ReleaseStream;

    use super::*;

    #[test]
    fn each_lie_is_refused_for_what_it_is() {
        let _alone = crate::replay::alone();
        let honest =
            Honest { columns: vec![("a".into(), ColumnType::Boolean), ("b".into(), ColumnType::Text)], partition: 1, partitions: 2 };
        for (lie, why) in Lie::ALL {
            let mut stream = ReleaseStream::new(Arc::new(honest.schema()), 1, 2);
            let refused = lie.tell(&honest).iter().find_map(|message| stream.take(message).err());
            assert_eq!(refused, Some(*why), "{lie:?}");
        }
    }
}
