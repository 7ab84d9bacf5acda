//! Streams of releases. An input is what was ordered, then what came:
//!
//! ```text
//! number of columns │ a byte for each: its type │ partition │ messages, each behind its length as in protobuf's delimited form
//! ```
//! Where the partition's highest bit is set, groups were ordered in the place of rows.

use std::sync::Arc;

use arrow::array::{Array, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use concordat_policy::ColumnType;
use concordat_proto::grouped::{Grouping, Groups};
use concordat_proto::release_stream::{MAX_BODY, ReleaseMessage, ReleaseStream, StreamError, Taken, dense};
use concordat_proto::schema::{partition_of, release_schema, split_points};
use prost::Message as _;
use prost::bytes::Buf as _;

use crate::memory::within;
use crate::sample;

/// The most columns beside the pseudonym.
pub const MAX_COLUMNS: usize = 8;
/// Partitions of every release.
const PARTITIONS: u32 = 2;
/// The bit of the partition that says that groups were ordered.
const GROUPED: u8 = 0x80;

/// An input.
#[derive(Debug, Clone, Default)]
pub struct Input {
    pub kinds: Vec<u8>,
    pub partition: u8,
    pub messages: Vec<ReleaseMessage>,
}

impl Input {
    /// Reads as much of the bytes as is an input.
    pub fn read(mut data: &[u8]) -> Self {
        let mut byte = || if data.has_remaining() { data.get_u8() } else { 0 };
        let columns = usize::from(byte()) % (MAX_COLUMNS + 1);
        let kinds = (0..columns).map(|_| byte()).collect();
        let partition = byte();
        let messages = std::iter::from_fn(|| ReleaseMessage::decode_length_delimited(&mut data).ok()).collect();
        Self { kinds, partition, messages }
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![self.kinds.len() as u8];
        out.extend(&self.kinds);
        out.push(self.partition);
        for message in &self.messages {
            out.extend(message.encode_length_delimited_to_vec());
        }
        out
    }

    fn columns(&self) -> Vec<(String, ColumnType)> {
        self.kinds.iter().enumerate().map(|(i, kind)| (format!("c{i}"), kind_of(*kind))).collect()
    }

    /// By what rows are grouped: every second column, if it can be a key; of the others groups state the values.
    fn grouping(&self) -> Option<Grouping> {
        let is_key = |(i, (_, kind)): &(usize, (String, ColumnType))| i.is_multiple_of(2) && *kind != ColumnType::Number;
        let (keys, values): (Vec<_>, Vec<_>) = self.columns().into_iter().enumerate().partition(is_key);
        let [keys, values] = [keys, values].map(|columns| columns.into_iter().map(|(_, column)| column).collect::<Vec<_>>());
        let of = |kinds: &[ColumnType]| values.iter().filter(|(_, kind)| kinds.contains(kind)).cloned().collect::<Vec<_>>();
        let (numbers, integers) = (of(&[ColumnType::Integer, ColumnType::Number]), of(&[ColumnType::Integer]));
        let grouping = Grouping::new(keys, values).adding(&numbers, &integers).unwrap();
        (self.partition & GROUPED != 0).then_some(grouping)
    }

    /// The schema of the rows.
    pub fn rows(&self) -> SchemaRef {
        Arc::new(release_schema(false, self.columns().iter().map(|(name, kind)| (name.as_str(), *kind))))
    }

    /// The ordered schema.
    pub fn schema(&self) -> SchemaRef {
        self.grouping().map_or_else(|| self.rows(), |grouping| Arc::new(grouping.schema()))
    }

    fn stream(&self) -> ReleaseStream {
        let rows = || ReleaseStream::new(self.rows(), self.partition(), PARTITIONS).dense(true);
        self.grouping().map_or_else(rows, ReleaseStream::of_groups)
    }

    fn partition(&self) -> usize {
        usize::from(self.partition & !GROUPED) % PARTITIONS as usize
    }
}

fn kind_of(byte: u8) -> ColumnType {
    [ColumnType::Text, ColumnType::Integer, ColumnType::Number, ColumnType::Boolean, ColumnType::Date][usize::from(byte) % 5]
}

/// The target.
pub fn release_stream(data: &[u8]) {
    let input = Input::read(data);
    let schema = input.schema();
    let batches = read(&input, &schema);
    if !batches.is_empty() {
        let again = Input { messages: encode(&schema, &batches), ..input };
        let read_again = read(&again, &schema);
        // A number that is none differs from itself; bytes do not.
        assert_eq!(encode(&schema, &read_again), again.messages, "what was taken is not what is read again");
        assert_eq!(read_again.len(), batches.len());
    }
}

/// Reads the messages until one is refused, and checks what was taken.
fn read(input: &Input, schema: &SchemaRef) -> Vec<RecordBatch> {
    let mut stream = input.stream();
    let (mut batches, mut last) = (Vec::new(), [0; 16]);
    for message in &input.messages {
        // What a dense body unfolds to is bounded as a message is.
        let body = if message.metadata == dense::MARK { MAX_BODY } else { message.body.len() };
        let limit = 4 * (message.header.len() + body) + (64 << 10);
        match within(limit, || stream.take(message)) {
            Ok(Taken::Part) => {}
            Ok(Taken::Batch(batch, bytes)) => {
                assert!(bytes >= message.body.len());
                check(&batch, schema);
                if input.grouping().is_none() {
                    ascends(&batch, input.partition(), &mut last);
                }
                batches.push(batch);
            }
            Ok(Taken::Receipt(_)) => {
                assert!(matches!(stream.take(message), Err(StreamError::Order)), "something was taken after the receipt");
                break;
            }
            Err(StreamError::Panic) => panic!("the guard let something pass over which the decoder panics"),
            Err(_) => {
                assert!(stream.take(message).is_err(), "something was taken after a fault");
                break;
            }
        }
    }
    assert_eq!(stream.rows(), batches.iter().map(|b| b.num_rows() as u64).sum::<u64>());
    batches
}

fn check(batch: &RecordBatch, schema: &SchemaRef) {
    assert_eq!(batch.schema_ref(), schema);
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        assert_eq!((column.data_type(), column.len()), (field.data_type(), batch.num_rows()));
        assert!(field.is_nullable() || column.null_count() == 0);
        column.to_data().validate_full().unwrap();
        if let Some(dictionary) = column.as_any().downcast_ref::<arrow::array::Int32DictionaryArray>() {
            let values = dictionary.values().len().max(1);
            assert!(dictionary.keys().values().iter().all(|key| usize::try_from(*key).is_ok_and(|key| key < values)));
            assert_eq!(dictionary.values().null_count(), 0);
        }
    }
}

fn ascends(batch: &RecordBatch, partition: usize, last: &mut [u8; 16]) {
    let subjects = batch.column(0).as_any().downcast_ref::<FixedSizeBinaryArray>().unwrap();
    for subject in subjects.iter().flatten() {
        assert!(subject >= last.as_slice());
        assert_eq!(partition_of(subject, &split_points(PARTITIONS)), partition);
        last.copy_from_slice(subject);
    }
}

/// A release as the encoder of a node writes it, without the receipt.
pub fn encode(schema: &Schema, batches: &[RecordBatch]) -> Vec<ReleaseMessage> {
    let (options, mut tracker, mut context) = (IpcWriteOptions::default(), DictionaryTracker::new(false), IpcWriteContext::default());
    let generator = IpcDataGenerator::default();
    let mut messages = vec![message(generator.schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options))];
    for batch in batches {
        let (dictionaries, batch) = generator.encode(batch, &mut tracker, &options, &mut context).unwrap();
        messages.extend(dictionaries.into_iter().map(message));
        messages.push(message(batch));
    }
    messages
}

fn message(encoded: EncodedData) -> ReleaseMessage {
    ReleaseMessage { header: encoded.ipc_message.into(), body: encoded.arrow_data.into(), ..ReleaseMessage::default() }
}

/// The same with dense bodies, where they are smaller.
fn denser(schema: &Schema, messages: Vec<ReleaseMessage>) -> Vec<ReleaseMessage> {
    let one = |message: ReleaseMessage| match dense::pack(schema, &message.header, &message.body) {
        Some(body) => ReleaseMessage { body: body.into(), metadata: dense::MARK.into(), ..message },
        None => message,
    };
    messages.into_iter().map(one).collect()
}

/// Releases as nodes send them: of each type, empty, without dictionaries, with several batches, with dense bodies.
pub fn seeds() -> Vec<Vec<u8>> {
    let receipt = ReleaseMessage { metadata: b"a.b.c".as_slice().into(), ..ReleaseMessage::default() };
    let orders: [(&[u8], u8, &[usize]); 11] = [
        (&[], 0, &[3]),
        (&[0], 1, &[4, 2]),
        (&[1, 2], 0, &[9]),
        (&[3, 4], 1, &[70, 1]),
        (&[0, 0], 0, &[5, 5, 5]),
        (&[0, 1, 2, 3, 4], 0, &[65]),
        (&[0, 3], 0, &[0]),
        (&[0], 0, &[]),
        (&[], GROUPED, &[3]),
        (&[0, 1, 3, 2, 4], GROUPED, &[40, 30]),
        (&[1, 2, 0, 0], GROUPED + 1, &[9]),
    ];
    let seed = |(kinds, partition, rows): (&[u8], u8, &[usize])| {
        let mut input = Input { kinds: kinds.to_vec(), partition, messages: Vec::new() };
        let schema = input.rows();
        let mut first = 0;
        let batch = |rows: &usize| {
            first += rows;
            sample::batch(&schema, input.partition(), first - rows, *rows)
        };
        let mut batches: Vec<RecordBatch> = rows.iter().map(batch).collect();
        if let Some(grouping) = input.grouping() {
            let mut groups = Groups::new(Arc::new(grouping.clone()));
            let mut parts: Vec<RecordBatch> = batches.iter().flat_map(|batch| groups.take(batch).unwrap()).collect();
            parts.extend(groups.finish().unwrap());
            batches = parts.iter().map(|part| grouping.as_sent(part).unwrap()).collect();
        }
        input.messages = encode(&input.schema(), &batches);
        if rows.len() == 1 && partition & GROUPED == 0 {
            input.messages = denser(&schema, input.messages);
        }
        input.messages.push(receipt.clone());
        input.write()
    };
    orders.into_iter().map(seed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_sends_is_taken_to_its_end() {
        let _alone = crate::replay::alone();
        let mut dense = 0;
        for seed in seeds() {
            let input = Input::read(&seed);
            dense += input.messages.iter().filter(|message| message.metadata == dense::MARK).count();
            let mut stream = input.stream();
            let taken: Vec<Taken> = input.messages.iter().map(|message| stream.take(message).unwrap()).collect();
            assert!(matches!(taken.last(), Some(Taken::Receipt(_))));
            assert_eq!(input.write(), seed);
        }
        assert!(dense > 1);
    }
}
