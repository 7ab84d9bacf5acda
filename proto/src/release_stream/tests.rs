//! The order of messages and the limits; what each lie is refused for is tested with the fuzz targets, which know how to lie.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, BooleanArray, Date32Array, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringDictionaryBuilder,
};
use arrow::datatypes::{Float64Type, Int32Type, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use concordat_policy::ColumnType;
use prost::Message as _;

use super::dense::{self, MARK};
use super::{MAX_BODY, MAX_EMPTY, MAX_RECEIPT, ReleaseMessage, ReleaseStream, StreamError, Taken};
use crate::schema::release_schema;

fn schema() -> SchemaRef {
    Arc::new(release_schema(false, [("n", ColumnType::Integer), ("t", ColumnType::Text)]))
}

fn batch(first: u128, rows: usize, text: &str) -> RecordBatch {
    let bytes: Vec<u8> = (0..rows as u128).flat_map(|i| (first + i).to_be_bytes()).collect();
    let mut texts = StringDictionaryBuilder::<Int32Type>::new();
    (0..rows).for_each(|_| texts.append_value(text));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::new(16, bytes.into(), None)),
        Arc::new(Int64Array::from_iter((0..rows as i64).map(|i| (i % 3 > 0).then_some(i)))),
        Arc::new(texts.finish()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn encoded(batches: &[RecordBatch]) -> Vec<ReleaseMessage> {
    let (options, mut tracker, mut context) = (IpcWriteOptions::default(), DictionaryTracker::new(false), IpcWriteContext::default());
    let generator = IpcDataGenerator::default();
    let message = |e: EncodedData| ReleaseMessage { header: e.ipc_message.into(), body: e.arrow_data.into(), ..Default::default() };
    let mut messages = vec![message(generator.schema_to_bytes_with_dictionary_tracker(&schema(), &mut tracker, &options))];
    for batch in batches {
        let (dictionaries, rows) = generator.encode(batch, &mut tracker, &options, &mut context).unwrap();
        messages.extend(dictionaries.into_iter().chain([rows]).map(message));
    }
    messages
}

fn receipt(bytes: usize) -> ReleaseMessage {
    ReleaseMessage { metadata: vec![b'x'; bytes].into(), ..Default::default() }
}

/// What becomes of each message, until one is refused.
fn taken(messages: &[ReleaseMessage]) -> Result<Vec<Taken>, StreamError> {
    let mut stream = ReleaseStream::new(schema(), 0, 2);
    messages.iter().map(|message| stream.take(message)).collect()
}

#[test]
fn a_release_is_taken_as_it_was_sent() {
    let sent = [batch(1, 3, "a"), batch(4, 1, "b"), batch(4, 2, "b")];
    let mut messages = encoded(&sent);
    messages.push(receipt(MAX_RECEIPT));
    let taken = taken(&messages).unwrap();
    let batches: Vec<&RecordBatch> = taken.iter().filter_map(|t| if let Taken::Batch(batch, _) = t { Some(batch) } else { None }).collect();
    assert_eq!(batches, sent.iter().collect::<Vec<_>>());
    assert!(matches!(taken.last(), Some(Taken::Receipt(token)) if token.len() == MAX_RECEIPT));
}

#[test]
fn numbers_that_are_not_finite_arrive_as_null() {
    let ordered: SchemaRef = Arc::new(release_schema(false, [("n", ColumnType::Number)]));
    let numbers = [1.5, f64::INFINITY, f64::NAN, f64::NEG_INFINITY];
    let subjects: Vec<u8> = (0..4u128).flat_map(u128::to_be_bytes).collect();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(FixedSizeBinaryArray::new(16, subjects.into(), None)), Arc::new(Float64Array::from(numbers.to_vec()))];
    let sent = RecordBatch::try_new(ordered.clone(), columns).unwrap();
    let (options, mut tracker, mut context) = (IpcWriteOptions::default(), DictionaryTracker::new(false), IpcWriteContext::default());
    let generator = IpcDataGenerator::default();
    let message = |e: EncodedData| ReleaseMessage { header: e.ipc_message.into(), body: e.arrow_data.into(), ..Default::default() };
    let first = message(generator.schema_to_bytes_with_dictionary_tracker(&ordered, &mut tracker, &options));
    let rows = message(generator.encode(&sent, &mut tracker, &options, &mut context).unwrap().1);
    let mut stream = ReleaseStream::new(ordered, 0, 1);
    stream.take(&first).unwrap();
    let Taken::Batch(batch, _) = stream.take(&rows).unwrap() else { panic!("no batch") };
    assert_eq!(batch["n"].as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(1.5), None, None, None]);
}

#[test]
fn messages_have_their_order_and_nothing_follows_a_fault() {
    let good = encoded(&[batch(1, 3, "a")]);
    let closing = receipt(9);
    assert_eq!(taken(std::slice::from_ref(&closing)).err(), Some(StreamError::Order), "a receipt alone");
    assert_eq!(taken(&[good.as_slice(), &[receipt(MAX_RECEIPT + 1)]].concat()).err(), Some(StreamError::Receipt));
    let with_body = ReleaseMessage { body: vec![0].into(), ..closing.clone() };
    assert_eq!(taken(&[good.as_slice(), &[with_body]].concat()).err(), Some(StreamError::Receipt));
    let with_metadata = ReleaseMessage { metadata: vec![0].into(), ..good[0].clone() };
    assert_eq!(taken(&[with_metadata]).err(), Some(StreamError::Metadata));
    let mut stream = ReleaseStream::new(schema(), 0, 2);
    stream.take(&good[0]).unwrap();
    assert_eq!(stream.take(&good[0]).err(), Some(StreamError::Order));
    assert_eq!(stream.take(&good[1]).err(), Some(StreamError::Order), "after a fault");
    assert_eq!(stream.take(&closing).err(), Some(StreamError::Order), "after a fault");
}

#[test]
fn batches_without_rows_and_dictionaries_without_batches_are_few() {
    let none = encoded(&[batch(1, 0, "")]);
    let empty = none.last().unwrap();
    let mut stream = ReleaseStream::new(schema(), 0, 2);
    none[..2].iter().for_each(|message| drop(stream.take(message).unwrap()));
    (0..MAX_EMPTY).for_each(|_| drop(stream.take(empty).unwrap()));
    assert_eq!(stream.take(empty).err(), Some(StreamError::Empty));
    let twice = encoded(&[batch(1, 1, "a")]);
    assert_eq!(taken(&[twice[0].clone(), twice[1].clone(), twice[1].clone()]).err(), Some(StreamError::UnusedDictionary));
    let long = encoded(&[batch(1, 1, &"x".repeat(MAX_BODY))]);
    assert_eq!(taken(&long).err(), Some(StreamError::BodyLength));
}

#[test]
fn dictionaries_together_are_bounded() {
    let ordered: SchemaRef = Arc::new(release_schema(false, [("s", ColumnType::Text), ("t", ColumnType::Text)]));
    let mut text = StringDictionaryBuilder::<Int32Type>::new();
    text.append_value("x".repeat(MAX_BODY / 2));
    let text: ArrayRef = Arc::new(text.finish());
    let subject: ArrayRef = Arc::new(FixedSizeBinaryArray::new(16, vec![0u8; 16].into(), None));
    let two = RecordBatch::try_new(ordered.clone(), vec![subject, text.clone(), text]).unwrap();
    let (options, mut tracker, mut context) = (IpcWriteOptions::default(), DictionaryTracker::new(false), IpcWriteContext::default());
    let generator = IpcDataGenerator::default();
    let message = |e: EncodedData| ReleaseMessage { header: e.ipc_message.into(), body: e.arrow_data.into(), ..Default::default() };
    let first = message(generator.schema_to_bytes_with_dictionary_tracker(&ordered, &mut tracker, &options));
    let dictionaries: Vec<ReleaseMessage> =
        generator.encode(&two, &mut tracker, &options, &mut context).unwrap().0.into_iter().map(message).collect();
    let mut stream = ReleaseStream::new(ordered, 0, 2);
    stream.take(&first).unwrap();
    stream.take(&dictionaries[0]).unwrap();
    assert_eq!(stream.take(&dictionaries[1]).err(), Some(StreamError::Dictionaries));
}

#[test]
fn what_a_release_does_not_use_is_not_read() {
    // A descriptor, field 1, of a path of empty names: field 3.
    let mut wire = vec![0x0a, 0x06, 0x1a, 0x00, 0x1a, 0x00, 0x1a, 0x00];
    let message = receipt(3);
    wire.extend(message.encode_to_vec());
    assert_eq!(ReleaseMessage::decode(wire.as_slice()), Ok(message));
}

/// The same release with its bodies dense, where they are smaller.
fn packed(messages: &[ReleaseMessage]) -> Vec<ReleaseMessage> {
    let dense = |message: &ReleaseMessage| match dense::pack(&schema(), &message.header, &message.body) {
        Some(body) => ReleaseMessage { body: body.into(), metadata: MARK.into(), header: message.header.clone() },
        None => message.clone(),
    };
    messages.iter().map(dense).collect()
}

fn unfolded(messages: &[ReleaseMessage], ordered: bool) -> Result<Vec<RecordBatch>, StreamError> {
    let mut stream = ReleaseStream::new(schema(), 0, 2).dense(ordered);
    let taken = messages.iter().map(|message| stream.take(message)).collect::<Result<Vec<_>, _>>()?;
    Ok(taken.into_iter().filter_map(|taken| if let Taken::Batch(batch, _) = taken { Some(batch) } else { None }).collect())
}

#[test]
fn a_dense_release_is_what_a_plain_one_is() {
    let sent = [batch(1, 3000, "a"), batch(9000, 1, "b"), batch(9000, 65_536, "c"), batch(1 << 40, 0, "")];
    let plain = encoded(&sent);
    let dense = packed(&plain);
    let bytes = |messages: &[ReleaseMessage]| messages.iter().map(|message| message.body.len()).sum::<usize>();
    assert!(3 * bytes(&dense) < 2 * bytes(&plain), "{} of {}", bytes(&dense), bytes(&plain));
    assert_eq!(unfolded(&dense, true).unwrap(), sent);
    assert_eq!(unfolded(&plain, true).unwrap(), sent, "a body may be plain all the same");
    assert_eq!(unfolded(&dense, false).err(), Some(StreamError::Metadata), "not ordered");
}

#[test]
fn numbers_and_dates_of_every_kind_unfold_as_they_were() {
    let kinds = [ColumnType::Integer, ColumnType::Number, ColumnType::Date, ColumnType::Boolean, ColumnType::Text];
    let names: Vec<String> = (0..kinds.len()).map(|i| format!("c{i}")).collect();
    let ordered: SchemaRef = Arc::new(release_schema(false, names.iter().map(String::as_str).zip(kinds)));
    for rows in [1usize, 7, 8, 64, 5000] {
        // Few different values, and as many as there are rows; the whole range, and a narrow one; some nulls, and none.
        let integers =
            [|i: i64| i % 7, |i: i64| i.wrapping_mul(0x0123_4567_89AB_CDEF), |i: i64| if i % 2 == 0 { i64::MIN } else { i64::MAX }];
        for (turn, integer) in integers.into_iter().enumerate() {
            let null = move |i: &i64| turn == 0 || i % 5 > 0;
            let each = || 0..rows as i64;
            let keys: Vec<u8> = each().flat_map(|i| ((i as u128 / 2) << 90).to_be_bytes()).collect();
            let mut texts = StringDictionaryBuilder::<Int32Type>::new();
            each().for_each(|i| texts.append_value(format!("t{}", i % 300)));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(FixedSizeBinaryArray::new(16, keys.into(), None)),
                Arc::new(each().map(|i| Some(integer(i)).filter(|_| null(&i))).collect::<Int64Array>()),
                Arc::new(each().map(|i| Some(integer(i) as f64 / 10.0).filter(|_| null(&i))).collect::<Float64Array>()),
                Arc::new(each().map(|i| Some(integer(i) as i32).filter(|_| null(&i))).collect::<Date32Array>()),
                Arc::new(each().map(|i| Some(integer(i) % 2 == 0).filter(|_| null(&i))).collect::<BooleanArray>()),
                Arc::new(texts.finish()),
            ];
            let sent = RecordBatch::try_new(ordered.clone(), columns).unwrap();
            let (options, mut tracker, mut context) =
                (IpcWriteOptions::default(), DictionaryTracker::new(false), IpcWriteContext::default());
            let generator = IpcDataGenerator::default();
            let message = |e: EncodedData| ReleaseMessage { header: e.ipc_message.into(), body: e.arrow_data.into(), ..Default::default() };
            let mut messages = vec![message(generator.schema_to_bytes_with_dictionary_tracker(&ordered, &mut tracker, &options))];
            let (dictionaries, last) = generator.encode(&sent, &mut tracker, &options, &mut context).unwrap();
            messages.extend(dictionaries.into_iter().chain([last]).map(message));
            let last = messages.last_mut().unwrap();
            let body = dense::pack(&ordered, &last.header, &last.body);
            assert!(body.is_some() || rows < 8, "{rows} rows, {turn}");
            if let Some(body) = body {
                (last.body, last.metadata) = (body.into(), MARK.into());
            }
            let mut stream = ReleaseStream::new(ordered.clone(), 0, 1).dense(true);
            let taken = messages.iter().map(|message| stream.take(message).unwrap()).last();
            let Some(Taken::Batch(batch, _)) = taken else { panic!("no batch") };
            assert_eq!(batch, sent, "{rows} rows, {turn}");
        }
    }
}

#[test]
fn a_dense_body_that_says_less_or_more_than_its_buffers_hold_is_refused() {
    let good = packed(&encoded(&[batch(1, 3000, "a")]));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut messages = good.clone();
        let last = messages.last_mut().unwrap();
        let mut body = last.body.to_vec();
        change(&mut body);
        last.body = body.into();
        unfolded(&messages, true).err()
    };
    assert_eq!(with(&|_| {}), None);
    assert_eq!(with(&|body| body.truncate(body.len() - 1)), Some(StreamError::Dense));
    assert_eq!(with(&|body| body.push(0)), Some(StreamError::Dense));
    assert_eq!(with(&|body| body.clear()), Some(StreamError::Dense));
    assert_eq!(with(&|body| body[0] = 9), Some(StreamError::Dense), "a form that is none");
    // What unfolds is guarded like any other: the first pseudonym's high bytes are those of another partition.
    assert_eq!(with(&|body| body[4] = 0xFF), Some(StreamError::Partition));
    assert_eq!(with(&|body| body.extend(vec![0; 1 << 20])), Some(StreamError::BodyLength), "longer than what it unfolds to");
    let on_schema = ReleaseMessage { metadata: MARK.into(), ..good[0].clone() };
    assert_eq!(unfolded(&[on_schema], true).err(), Some(StreamError::Metadata));
    let on_dictionary = ReleaseMessage { metadata: MARK.into(), ..good[1].clone() };
    assert_eq!(unfolded(&[good[0].clone(), on_dictionary], true).err(), Some(StreamError::Metadata));
    assert_eq!(unfolded(&[good[0].clone(), good[2].clone()], true).err(), Some(StreamError::MissingDictionary));
    let mut other = good.clone();
    other.last_mut().unwrap().metadata = b"denser".as_slice().into();
    assert_eq!(unfolded(&other, true).err(), Some(StreamError::Metadata));
}
