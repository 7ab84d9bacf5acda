//! Why a release was refused.

use super::{MAX_BODY, MAX_EMPTY, MAX_HEADER, MAX_RECEIPT, MAX_ROWS};

/// Why a message of a release was refused. The texts are fixed: nothing that a node sent stands in them, so that they are fit
/// for callers and for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StreamError {
    /// The flatbuffer does not verify, or is too long.
    #[error("a header that is not Arrow IPC, or is longer than {} KiB", MAX_HEADER >> 10)]
    Header,
    /// Another metadata version than 5.
    #[error("a message of another Arrow metadata version than 5")]
    Version,
    /// A schema that is not the first message, a batch before the schema, another kind of message, anything after the end.
    #[error("a message out of order: one schema, then dictionaries and batches, then one receipt")]
    Order,
    /// Schema, field, message or application metadata: the contract knows none, but what marks a dense body that was ordered.
    #[error("metadata where none was agreed")]
    Metadata,
    /// Not the ordered columns: another number, name, type or nullability, or a type written in another way.
    #[error("another schema than the one that was ordered")]
    Schema,
    /// The header states another length than the body has (a negative one, for example), or a shorter one than a dense body has, or the
    /// body is too long.
    #[error("a body of another length than its header states, or of more than {} MiB", MAX_BODY >> 20)]
    BodyLength,
    /// A compressed body.
    #[error("a compressed body")]
    Compressed,
    /// A dense body that does not say what its buffers hold.
    #[error("a dense body that does not unfold as its header states")]
    Dense,
    /// Another number of columns or buffers than the schema has.
    #[error("a batch of another number of columns or buffers than its schema")]
    Layout,
    /// A negative number of rows, or too many.
    #[error("a batch of a negative number of rows, or of more than {MAX_ROWS}")]
    Rows,
    /// A column that is shorter or longer than its batch, or states an impossible number of nulls.
    #[error("a column of another length than its batch, or of an impossible number of nulls")]
    ColumnLength,
    /// A null pseudonym, or a null in a dictionary.
    #[error("a null among pseudonyms or in a dictionary")]
    Null,
    /// A buffer that begins or ends outside of the body.
    #[error("a buffer that lies outside of its message")]
    BufferOutside,
    /// Buffers that overlap, descend, or leave more than padding between them.
    #[error("buffers that overlap, descend or leave gaps")]
    BufferOrder,
    /// A buffer that is shorter or longer than its rows need.
    #[error("a buffer of another length than its rows need")]
    BufferLength,
    /// Offsets of text that descend, or end elsewhere than the text.
    #[error("offsets of text that descend, or end elsewhere than the text")]
    Offsets,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Text,
    /// A dictionary that no column refers to.
    #[error("a dictionary that no column refers to")]
    UnknownDictionary,
    /// A dictionary that adds to an earlier one.
    #[error("a delta dictionary")]
    DeltaDictionary,
    /// A second dictionary of one column before the batch that would use the first.
    #[error("a dictionary that replaces one which no batch has used")]
    UnusedDictionary,
    /// A batch whose dictionary has not come.
    #[error("a batch before one of its dictionaries")]
    MissingDictionary,
    /// More bytes of dictionaries than a stream may keep.
    #[error("dictionaries of more than {} MiB", MAX_BODY >> 20)]
    Dictionaries,
    /// An index for which the dictionary has no value, be it in a null slot.
    #[error("an index outside of its dictionary")]
    Index,
    /// Pseudonyms that descend.
    #[error("pseudonyms that do not ascend")]
    Descending,
    /// A pseudonym outside of the stream's part of the range.
    #[error("a pseudonym of another partition")]
    Partition,
    /// Groups that no rows add up to.
    #[error("groups whose numbers contradict each other")]
    Groups,
    /// Too many batches without rows.
    #[error("more than {MAX_EMPTY} batches without rows")]
    Empty,
    /// A closing message with a body, or with a receipt that is too long to be one.
    #[error("a receipt with a body, or of more than {} KiB", MAX_RECEIPT >> 10)]
    Receipt,
    /// Arrow's decoder refused what the guard let pass.
    #[error("data that the Arrow decoder refuses")]
    Decoder,
    /// Arrow's decoder panicked over what the guard let pass: a gap in the guard.
    #[error("data over which the Arrow decoder panics")]
    Panic,
}
