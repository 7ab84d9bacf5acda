//! An answer that was saved, compared with what the log promised of it. Its file may come from anybody: no length in it is believed before
//! there are as many bytes, and nothing is decompressed but Parquet's pages, whose sizes are 31 bits.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::{MessageHeader, MetadataVersion, root_as_message};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use concordat_audit::Answered;
use concordat_proto::release_stream::within;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::client::Matching;
use crate::failure::{Failure, Result};

/// The longest header of a message; that of the columns has the gateway's statement, sources and all.
const MAX_HEADER: u32 = 16 << 20;

/// The magic of Arrow's file format with the zeros after it, which fill it up to what its writer aligns to: 8 bytes, or up to 64.
const MAX_MAGIC: u64 = 64;

/// What stands before a message.
const CONTINUED: [u8; 4] = [0xff; 4];

/// Compares the answer in a file with the promised one.
///
/// # Errors
/// Where it is another one, or the file cannot be read; of a file of text, what the promise is of.
pub(super) fn compare(path: &Path, answer: &Answered) -> Result<()> {
    let unread = |cause: &str| Failure::file("read", path, cause);
    let mut file = File::open(path).map_err(|e| Failure::file("read", path, e))?;
    let mut magic = Vec::new();
    (&mut file).take(MAX_MAGIC).read_to_end(&mut magic).map_err(|e| Failure::file("read", path, e))?;
    let begin = match magic.as_slice() {
        [b'A', b'R', b'R', b'O', b'W', b'1', padding @ ..] => 6 + padding.iter().take_while(|byte| **byte == 0).count() as u64,
        [0xff, 0xff, 0xff, 0xff, ..] => 0,
        [b'P', b'A', b'R', b'1', ..] => {
            return caught(|| parquet(file, answer)).unwrap_or_else(|| Err(unread("it is no whole Parquet file")));
        }
        _ => return Err(text(path, answer)),
    };
    file.seek(SeekFrom::Start(begin)).map_err(|e| Failure::file("read", path, e))?;
    let left = file.metadata().map_err(|e| Failure::file("read", path, e))?.len().saturating_sub(begin);
    stream(&mut Messages { from: BufReader::new(file), left }, answer).map_err(|why| match why {
        Why::Form(cause) => unread(cause),
        Why::Other(failure) => failure,
    })
}

/// What can be said of an answer in text, which does not tell types.
fn text(path: &Path, answer: &Answered) -> Failure {
    let (rows, digest) = (answer.rows, BASE64_STANDARD.encode(answer.digest));
    let what = format!("{} is no answer in Arrow or Parquet: the promise is of {rows} rows with the digest {digest}", path.display());
    Failure::new(what)
        .advice("text does not say what is compared, types and exact values: save answers with --to FILE.arrow or FILE.parquet")
}

enum Why {
    /// The file is not what it should be.
    Form(&'static str),
    Other(Failure),
}

impl From<Failure> for Why {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

fn parquet(file: File, answer: &Answered) -> Result<()> {
    let unread = |e: &dyn std::fmt::Display| Failure::new(format!("the answer's file cannot be read: {e}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unread(&e))?;
    let mut matching = Matching::begin(answer, builder.schema())?;
    for batch in builder.build().map_err(|e| unread(&e))? {
        matching.add(&batch.map_err(|e| unread(&e))?)?;
    }
    matching.finish()
}

/// The messages of Arrow's stream format, and of its file format, which is a stream between its magic and its footer.
struct Messages {
    from: BufReader<File>,
    left: u64,
}

impl Messages {
    fn bytes(&mut self, length: u64) -> std::result::Result<Vec<u8>, Why> {
        const CUT: Why = Why::Form("it is cut off");
        self.left = self.left.checked_sub(length).ok_or(CUT)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| CUT)?];
        self.from.read_exact(&mut bytes).map_err(|_| CUT)?;
        Ok(bytes)
    }

    fn word(&mut self) -> std::result::Result<[u8; 4], Why> {
        Ok(self.bytes(4)?.first_chunk().copied().unwrap_or_default())
    }

    /// The next message's header; `None` at the end.
    fn header(&mut self) -> std::result::Result<Option<Vec<u8>>, Why> {
        if self.word()? != CONTINUED {
            return Err(Why::Form("it is not the form of Arrow that answers are written in"));
        }
        match u32::from_le_bytes(self.word()?) {
            0 => Ok(None),
            length if length <= MAX_HEADER => self.bytes(length.into()).map(Some),
            _ => Err(Why::Form("a header in it is longer than one may be")),
        }
    }
}

fn stream(messages: &mut Messages, answer: &Answered) -> std::result::Result<(), Why> {
    const FORM: Why = Why::Form("it is not what Arrow writes");
    let mut columns: Option<(SchemaRef, Matching<'_>)> = None;
    while let Some(header) = messages.header()? {
        let message = root_as_message(&header).map_err(|_| FORM)?;
        let body = messages.bytes(u64::try_from(message.bodyLength()).map_err(|_| FORM)?)?;
        match (message.header_type(), &mut columns) {
            (MessageHeader::Schema, none @ None) => {
                let schema = message.header_as_schema().ok_or(FORM)?;
                let schema: SchemaRef = Arc::new(caught(|| fb_to_schema(schema)).ok_or(FORM)?);
                *none = Some((Arc::clone(&schema), Matching::begin(answer, &schema)?));
            }
            (MessageHeader::RecordBatch, Some((schema, matching))) => matching.add(&batch(&message, body, schema)?)?,
            _ => return Err(Why::Form("it has dictionaries, or its messages are out of order: no answer is written so")),
        }
    }
    let (_, matching) = columns.ok_or(FORM)?;
    Ok(matching.finish()?)
}

fn batch(message: &arrow::ipc::Message<'_>, body: Vec<u8>, schema: &SchemaRef) -> std::result::Result<RecordBatch, Why> {
    const FORM: Why = Why::Form("rows in it are not what Arrow writes, or are compressed, as no answer's are");
    let rows = message.header_as_record_batch().ok_or(FORM)?;
    within(&rows, body.len(), schema.fields().len(), buffers(schema).ok_or(FORM)?).map_err(|_| FORM)?;
    let none = std::collections::HashMap::new();
    let read = caught(|| read_record_batch(&Buffer::from_vec(body), rows, Arc::clone(schema), &none, None, &MetadataVersion::V5));
    read.and_then(std::result::Result::ok).ok_or(FORM)
}

/// How many buffers the columns of an answer have together; `None` where one is of a type that no answer is written with.
fn buffers(schema: &Schema) -> Option<usize> {
    let of = |kind: &DataType| match kind {
        DataType::Null => Some(0),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => Some(3),
        DataType::Boolean | DataType::FixedSizeBinary(_) => Some(2),
        other => other.primitive_width().map(|_| 2),
    };
    schema.fields().iter().map(|field| of(field.data_type())).sum()
}

/// What a decoder makes of bytes over which it may panic.
fn caught<T>(decode: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(decode)).ok()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, StringArray};
    use concordat_proto::answer::AnswerDigest;
    use serde_json::json;

    use super::*;
    use crate::output::{Format, Head, Sink, Writing};

    fn rows() -> RecordBatch {
        let columns: [(&str, ArrayRef); 4] = [
            ("region", Arc::new(StringArray::from(vec![Some("London"), None, Some("")]))),
            ("persons", Arc::new(Int64Array::from(vec![Some(12_345), None, Some(5)]))),
            ("mean", Arc::new(Float64Array::from(vec![0.5, 1.5, -0.0]))),
            ("day", Arc::new(Date32Array::from(vec![1, 2, 3]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    }

    fn answered(batch: &RecordBatch) -> Answered {
        let mut digest = AnswerDigest::of(&batch.schema()).unwrap();
        digest.add(batch).unwrap();
        Answered { query_id: "q".into(), rows: digest.rows(), salt: [3; 32], digest: digest.finish(&[3; 32]) }
    }

    fn written(path: &Path, format: Format, batches: &[RecordBatch]) {
        let (schema, summary) = (batches[0].schema(), json!({ "query_id": "q" }));
        let arrow_file = path.extension().is_some_and(|extension| extension == "arrow");
        let head = Head { view: None, schema: &schema, summary: &summary, colour: false, arrow_file };
        let mut writing = Writing::start(format, &head, Sink::file(path).unwrap()).unwrap();
        batches.iter().for_each(|batch| writing.write(batch.clone()).unwrap());
        writing.finish(&summary).unwrap();
    }

    #[test]
    fn a_saved_answer_is_the_promised_one_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, promised) = (rows(), answered(&rows()));
        for (name, format) in [("a.arrow", Format::Arrow), ("a.arrows", Format::Arrow), ("a.parquet", Format::Parquet)] {
            let path = folder.path().join(name);
            written(&path, format, &[whole.slice(0, 2), whole.slice(2, 1)]);
            compare(&path, &promised).unwrap();
            written(&path, format, &[whole.slice(0, 2)]);
            assert!(compare(&path, &promised).unwrap_err().message.contains("of another answer"), "{name}");
            written(&path, format, &[whole.slice(0, 0)]);
            compare(&path, &answered(&whole.slice(0, 0))).unwrap();
        }
        let path = folder.path().join("a.csv");
        written(&path, Format::Csv, &[whole]);
        let told = compare(&path, &promised).unwrap_err();
        assert!(told.message.contains("3 rows with the digest") && told.message.contains(&promised.digest_text()), "{}", told.message);
    }

    #[test]
    fn the_magic_is_filled_up_to_8_bytes_or_to_64() {
        let folder = tempfile::tempdir().unwrap();
        let (path, promised) = (folder.path().join("a.arrow"), answered(&rows()));
        written(&path, Format::Arrow, &[rows()]);
        let bytes = std::fs::read(&path).unwrap();
        let begin = bytes.windows(4).position(|window| window == CONTINUED).unwrap();
        for filled in [8, 16, 64] {
            let padding = vec![0_u8; filled - 6];
            std::fs::write(&path, [&b"ARROW1"[..], &padding, &bytes[begin..]].concat()).unwrap();
            compare(&path, &promised).unwrap();
        }
        for padding in [vec![0_u8; 59], vec![0; 200], [vec![0; 10], vec![1; 48]].concat()] {
            std::fs::write(&path, [&b"ARROW1"[..], &padding, &bytes[begin..]].concat()).unwrap();
            assert!(compare(&path, &promised).is_err(), "{}", padding.len());
        }
        std::fs::write(&path, b"ARROW1").unwrap();
        assert!(compare(&path, &promised).is_err());
    }

    #[test]
    fn a_file_that_lies_is_refused_at_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let promised = answered(&rows());
        for name in ["a.arrow", "a.arrows"] {
            let path = folder.path().join(name);
            written(&path, Format::Arrow, &[rows()]);
            let bytes = std::fs::read(&path).unwrap();
            let mut refused = 0;
            for at in 0..bytes.len() {
                for changed in [bytes[at] ^ 0x80, 0xff] {
                    let mut other = bytes.clone();
                    other[at] = changed;
                    std::fs::write(&path, other).unwrap();
                    // Padding, metadata and the footer are no part of an answer. Nothing aborts, whatever is said of lengths.
                    refused += usize::from(compare(&path, &promised).is_err());
                }
            }
            assert!(refused > bytes.len() / 4, "{refused} of {}", 2 * bytes.len());
            // Up to the end of its messages, eight bytes after its last row.
            let end = bytes.windows(8).rposition(|window| window == [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).unwrap() + 8;
            for at in 0..end {
                std::fs::write(&path, &bytes[..at]).unwrap();
                assert!(compare(&path, &promised).is_err(), "{name} cut at {at}");
            }
        }
    }
}
