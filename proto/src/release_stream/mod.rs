//! The stream that answers a release order, as the gateway must read it: every byte comes from a node that may be hostile.
//!
//! ```text
//! ReleaseMessage ─▶ guard ─▶ Arrow's decoder ─▶ pseudonyms ascend ─▶ batch
//!                     │                                             (groups: their numbers can be)
//!                     │ schema, lengths, offsets, indices, before anything is indexed, copied or allocated by them
//!                     └─▶ StreamError: a fixed text, no byte of the node's
//! ```
//! It reads no network and no clock: messages go in, batches and in the end the receipt's token come out. One message costs
//! memory in proportion to its own length, whatever it says of itself; a dense one, to what its rows need, 32 MiB at most. What is not its work: verifying the receipt, limits on
//! the rows of a release, deadlines.
//!
//! - The schema must be the ordered one, and comes once, first. It is compared and never used.
//! - A body may be [dense], where that was ordered: it unfolds, to 32 MiB at most, into a plain one, to which all of this applies.
//! - No other compression, no delta dictionaries, no metadata, only metadata version 5, only little-endian.
//! - Buffers stand in order, as long as their rows need, with nothing but padding between them. So one byte is never used twice
//!   (a thousand columns over one buffer would be copied a thousand times), and no message keeps bytes alive that it does not use.
//! - A dictionary belongs to one column, is used by a batch before it is replaced, and holds no null. All that are kept at a
//!   time hold [`MAX_BODY`] bytes at most.
//! - Numbers that are not finite are null, whatever the node made of them ([`crate::finite`]).
//! - A panic of the decoder is caught and is the node's fault like any other; it is a gap in the guard, and has an error of its own.
//!
//! Why there is a guard: what arrow-ipc 59.3 alone makes of what a node can say, measured in processes of their own by
//! `cargo run --release -p concordat-fuzz-targets --example unguarded`, which prints every case.
//!
//! | what is said | arrow-ipc alone | here |
//! |---|---|---|
//! | a compressed body that states 2^38 or 2^62 bytes | **aborts the process** (2^33: an error) | [`StreamError::Compressed`] |
//! | a buffer that begins or ends outside of its body, a length of 2^33, 2^38, 2^62 or −1 | panics | [`StreamError::BufferOutside`] |
//! | a validity bitmap that is too short; text offsets whose length four does not divide | panics | [`StreamError::BufferLength`] |
//! | a null where the schema has none | panics | [`StreamError::Null`] |
//! | an integer of seven bits in the schema | panics | [`StreamError::Schema`] |
//! | 2^33, 2^62 or −1 rows | an error | [`StreamError::Rows`] |
//! | indices outside of the dictionary, descending offsets, text that is not UTF-8 | an error | [`StreamError::Index`], [`StreamError::Offsets`], [`StreamError::Text`] |
//! | another schema than was ordered; a second one | taken | [`StreamError::Schema`], [`StreamError::Order`] |
//! | a body of another length than is stated, with bytes that nothing uses | taken, and kept alive | [`StreamError::BodyLength`], [`StreamError::BufferOrder`] |
//! | nulls in a dictionary, a delta dictionary | taken | [`StreamError::Null`], [`StreamError::DeltaDictionary`] |
//!
//! What [`FlightData`](https://arrow.apache.org/docs/format/Flight.html) can hold beside [`ReleaseMessage`]'s fields is skipped
//! unread: its descriptor's path makes a message of 64 MiB twelve times as large in memory.

mod agreed;
mod ascending;
pub mod dense;
mod error;
mod guard;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{self, Message, MessageHeader, MetadataVersion, root_as_message};
use prost::bytes::Bytes;

use crate::finite::finite;
use crate::grouped::{Check, Grouping};
use crate::receipt::Grouped;
use agreed::Agreed;
use ascending::Ascending;
pub use error::StreamError;
pub use guard::within;

/// The most rows of one batch or dictionary. Nodes send batches of 65,536.
pub const MAX_ROWS: usize = 1 << 20;
/// The most bytes of one body, and of all dictionaries that a stream keeps. Nodes send batches of 16 MiB.
pub const MAX_BODY: usize = 32 << 20;
/// The longest header, in bytes. That of 256 columns with the longest names has 40 KiB.
pub const MAX_HEADER: usize = 256 << 10;
/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = MAX_BODY + MAX_HEADER + 1024;
/// The longest receipt, in bytes.
pub const MAX_RECEIPT: usize = 8 << 10;
/// The most batches without rows in one stream. A node sends one at most.
pub const MAX_EMPTY: usize = 16;

/// One message of a release: of `arrow.flight.protocol.FlightData`, the fields that a release uses.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReleaseMessage {
    /// An Arrow IPC message's flatbuffer; empty in the closing message.
    #[prost(bytes = "bytes", tag = "2")]
    pub header: Bytes,
    /// The receipt, in the closing message; of a batch, [`dense::MARK`] where its body is dense.
    #[prost(bytes = "bytes", tag = "3")]
    pub metadata: Bytes,
    /// The buffers, or what they are unfolded from.
    #[prost(bytes = "bytes", tag = "1000")]
    pub body: Bytes,
}

/// What a message brought.
#[derive(Debug)]
pub enum Taken {
    /// The schema or a dictionary.
    Part,
    /// Rows, and how many bytes of messages they keep alive.
    Batch(RecordBatch, usize),
    /// The token of the receipt; it has not been verified. Nothing may follow.
    Receipt(Bytes),
}

/// Reads the stream of one partition. After an error or the receipt it takes nothing more.
pub struct ReleaseStream {
    ordered: SchemaRef,
    /// Whether bodies may be dense.
    dense: bool,
    state: State,
    own: Own,
    rows: u64,
    empty: usize,
}

/// What its rows must be like, beside their schema.
enum Own {
    Ascending(Ascending),
    Groups(Check),
}

enum State {
    Begins,
    Runs(Box<Running>),
    Ended,
}

struct Running {
    agreed: Agreed,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Of each dictionary: the bytes of its body, and whether a batch came after it.
    kept: HashMap<i64, (usize, bool)>,
}

impl ReleaseStream {
    /// Begins the stream of partition `partition` of `partitions`, whose rows are to be of the schema `ordered`
    /// ([`crate::schema::release_schema`]).
    #[must_use]
    pub fn new(ordered: SchemaRef, partition: usize, partitions: u32) -> Self {
        Self { ordered, dense: false, state: State::Begins, own: Own::Ascending(Ascending::new(partition, partitions)), rows: 0, empty: 0 }
    }

    /// Its bodies may be [dense], if so `ordered`.
    #[must_use]
    pub fn dense(self, ordered: bool) -> Self {
        Self { dense: ordered, ..self }
    }

    /// Begins the stream of a partition that holds groups ([`crate::grouped`]) in the place of rows.
    #[must_use]
    pub fn of_groups(grouping: Grouping) -> Self {
        Self {
            ordered: Arc::new(grouping.schema()),
            dense: false,
            state: State::Begins,
            own: Own::Groups(Check::new(grouping)),
            rows: 0,
            empty: 0,
        }
    }

    /// Whether what came is made of what the receipt says: of rows, nothing is said.
    #[must_use]
    pub fn is_made_of(&self, stated: Option<Grouped>) -> bool {
        match (&self.own, stated) {
            (Own::Ascending(_), None) => true,
            (Own::Groups(check), Some(stated)) => check.is(stated),
            _ => false,
        }
    }

    /// Rows that came.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, message: &ReleaseMessage) -> Result<Taken, StreamError> {
        let taken = catch_unwind(AssertUnwindSafe(|| self.step(message))).unwrap_or(Err(StreamError::Panic));
        if !matches!(taken, Ok(Taken::Part | Taken::Batch(..))) {
            self.state = State::Ended;
        }
        taken
    }

    fn step(&mut self, message: &ReleaseMessage) -> Result<Taken, StreamError> {
        if message.header.is_empty() {
            return self.receipt(message);
        }
        let (header, body) = verified(message, self.dense)?;
        match (header.header_type(), &mut self.state) {
            (MessageHeader::Schema, state @ State::Begins) => {
                if !message.body.is_empty() {
                    return Err(StreamError::BodyLength);
                }
                let agreed = Agreed::new(&self.ordered, &header.header_as_schema().ok_or(StreamError::Header)?)?;
                *state = State::Runs(Box::new(Running { agreed, dictionaries: HashMap::new(), kept: HashMap::new() }));
                Ok(Taken::Part)
            }
            (MessageHeader::DictionaryBatch, State::Runs(running)) => {
                running.dictionary(header.header_as_dictionary_batch().ok_or(StreamError::Header)?, &message.body)?;
                Ok(Taken::Part)
            }
            (MessageHeader::RecordBatch, State::Runs(running)) => {
                let batch = running.batch(header.header_as_record_batch().ok_or(StreamError::Header)?, body)?;
                let columns = batch.columns().iter().map(finite).collect();
                let batch = RecordBatch::try_new(self.ordered.clone(), columns).map_err(|_| StreamError::Decoder)?;
                let bytes = body.length() + running.bytes();
                self.count(&batch)?;
                Ok(Taken::Batch(batch, bytes))
            }
            _ => Err(StreamError::Order),
        }
    }

    fn count(&mut self, batch: &RecordBatch) -> Result<(), StreamError> {
        match &mut self.own {
            Own::Ascending(ascending) => ascending.check(batch)?,
            Own::Groups(check) => check.check(batch).ok_or(StreamError::Groups)?,
        }
        self.rows += batch.num_rows() as u64;
        self.empty += usize::from(batch.num_rows() == 0);
        if self.empty > MAX_EMPTY { Err(StreamError::Empty) } else { Ok(()) }
    }

    fn receipt(&self, message: &ReleaseMessage) -> Result<Taken, StreamError> {
        if !matches!(self.state, State::Runs(_)) {
            return Err(StreamError::Order);
        }
        if !message.body.is_empty() || message.metadata.len() > MAX_RECEIPT {
            return Err(StreamError::Receipt);
        }
        Ok(Taken::Receipt(message.metadata.clone()))
    }
}

/// How a body came.
#[derive(Clone, Copy)]
enum Body<'m> {
    Plain(&'m Bytes),
    /// Dense, and how long it is unfolded.
    Dense(&'m Bytes, usize),
}

impl Body<'_> {
    fn length(self) -> usize {
        match self {
            Self::Plain(body) => body.len(),
            Self::Dense(_, length) => length,
        }
    }
}

/// The header of a message, once the message is one of the contract's, and its body, which may be `dense`.
fn verified(message: &ReleaseMessage, dense: bool) -> Result<(Message<'_>, Body<'_>), StreamError> {
    if message.header.len() > MAX_HEADER {
        return Err(StreamError::Header);
    }
    let header = root_as_message(&message.header).map_err(|_| StreamError::Header)?;
    if header.version() != MetadataVersion::V5 {
        return Err(StreamError::Version);
    }
    let dense = dense && message.metadata == dense::MARK && header.header_type() == MessageHeader::RecordBatch;
    if !(message.metadata.is_empty() || dense) || header.custom_metadata().is_some_and(|m| !m.is_empty()) {
        return Err(StreamError::Metadata);
    }
    let length = usize::try_from(header.bodyLength()).ok().filter(|length| *length <= MAX_BODY).ok_or(StreamError::BodyLength)?;
    match (dense, &message.body) {
        (true, body) if body.len() <= length => Ok((header, Body::Dense(body, length))),
        (false, body) if body.len() == length => Ok((header, Body::Plain(body))),
        _ => Err(StreamError::BodyLength),
    }
}

impl Running {
    fn dictionary(&mut self, dictionary: ipc::DictionaryBatch<'_>, body: &Bytes) -> Result<(), StreamError> {
        let id = dictionary.id();
        if !self.agreed.dictionaries.contains(&Some(id)) {
            return Err(StreamError::UnknownDictionary);
        }
        if dictionary.isDelta() {
            return Err(StreamError::DeltaDictionary);
        }
        if self.kept.get(&id).is_some_and(|(_, used)| !used) {
            return Err(StreamError::UnusedDictionary);
        }
        guard::dictionary(&dictionary.data().ok_or(StreamError::Layout)?, body)?;
        self.kept.insert(id, (body.len(), false));
        if self.bytes() > MAX_BODY {
            return Err(StreamError::Dictionaries);
        }
        // Lengths and offsets are as they must be: what is left to refuse is text that is not UTF-8.
        read_dictionary(&Buffer::from(body.clone()), dictionary, &self.agreed.schema, &mut self.dictionaries, &MetadataVersion::V5)
            .map_err(|_| StreamError::Text)
    }

    fn batch(&mut self, batch: ipc::RecordBatch<'_>, body: Body<'_>) -> Result<RecordBatch, StreamError> {
        let values = |id: &Option<i64>| match id {
            Some(id) => self.dictionaries.get(id).map(|values| Some(values.len())).ok_or(StreamError::MissingDictionary),
            None => Ok(None),
        };
        let values = self.agreed.dictionaries.iter().map(values).collect::<Result<Vec<_>, _>>()?;
        let body = match body {
            Body::Plain(body) => Buffer::from(body.clone()),
            Body::Dense(body, length) => dense::unpack(&batch, &self.agreed.schema, length, body)?.into(),
        };
        guard::batch(&batch, &body, &self.agreed.schema, &values)?;
        self.kept.values_mut().for_each(|(_, used)| *used = true);
        read_record_batch(&body, batch, self.agreed.schema.clone(), &self.dictionaries, None, &MetadataVersion::V5)
            .map_err(|_| StreamError::Decoder)
    }

    /// Bytes of the dictionaries that are kept.
    fn bytes(&self) -> usize {
        self.kept.values().map(|(bytes, _)| bytes).sum()
    }
}
