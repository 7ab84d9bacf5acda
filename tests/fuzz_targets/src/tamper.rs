//! Where in an Arrow message's flatbuffer the numbers stand that a reader would index and allocate by.

use arrow::ipc::{Message, RecordBatch, root_as_message};

/// A field's position in its table, which is of a type that arrow does not name to others.
macro_rules! field {
    ($table:expr, $slot:expr) => {
        match $table.vtable().get($slot) {
            0 => None,
            offset => Some($table.loc() + usize::from(offset)),
        }
    };
}

/// Byte positions, each of a 64-bit little-endian number.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The length that the message states of its body.
    pub body_length: Option<usize>,
    /// The number of rows.
    pub rows: Option<usize>,
    /// Each column's number of values; the number of nulls stands eight bytes behind it.
    pub nodes: Vec<usize>,
    /// Each buffer's offset; its length stands eight bytes behind it.
    pub buffers: Vec<usize>,
}

impl Places {
    /// All of them, lengths and numbers of nulls too.
    #[must_use]
    pub fn all(&self) -> Vec<usize> {
        let pairs = self.nodes.iter().chain(&self.buffers).flat_map(|at| [*at, at + 8]);
        self.body_length.into_iter().chain(self.rows).chain(pairs).collect()
    }
}

/// Finds them; none in what is no Arrow message.
#[must_use]
pub fn places(header: &[u8]) -> Places {
    let Ok(message) = root_as_message(header) else { return Places::default() };
    let mut places = Places { body_length: field!(message._tab, Message::VT_BODYLENGTH), ..Places::default() };
    let batch = message.header_as_record_batch().or_else(|| message.header_as_dictionary_batch()?.data());
    let Some(batch) = batch else { return places };
    places.rows = field!(batch._tab, RecordBatch::VT_LENGTH);
    let position = |bytes: &[u8]| bytes.as_ptr() as usize - header.as_ptr() as usize;
    if let Some(nodes) = batch.nodes() {
        places.nodes = (0..nodes.len()).map(|i| position(nodes.bytes()) + 16 * i).collect();
    }
    if let Some(buffers) = batch.buffers() {
        places.buffers = (0..buffers.len()).map(|i| position(buffers.bytes()) + 16 * i).collect();
    }
    places
}

/// Overwrites the number at `at`.
pub fn set(header: &mut [u8], at: usize, value: i64) {
    header[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
