//! What is checked of a message before Arrow's decoder sees it: everything that the decoder would index, copy or allocate by.

use arrow::datatypes::{DataType, Schema};
use arrow::ipc::{self, FieldNode};

use super::{MAX_ROWS, StreamError};

/// Padding after a buffer is less than this: encoders align buffers to 8, 16, 32 or 64 bytes.
pub(super) const ALIGNMENT: usize = 64;

/// How a column's values lie in its buffers, behind the validity bitmap.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// One bit each.
    Bits,
    /// So many bytes each.
    Bytes(usize),
    /// Offsets of 32 bits, then the text.
    Text,
}

fn layout(kind: &DataType) -> Option<Layout> {
    Some(match kind {
        DataType::Boolean => Layout::Bits,
        DataType::Date32 | DataType::Dictionary(..) => Layout::Bytes(4),
        DataType::Int64 | DataType::Float64 => Layout::Bytes(8),
        DataType::FixedSizeBinary(width) => Layout::Bytes(usize::try_from(*width).ok()?),
        DataType::Utf8 => Layout::Text,
        _ => return None,
    })
}

/// Checks a batch's header against the length of its body: compression, rows, the number of columns and buffers, and that each
/// buffer lies inside.
///
/// # Errors
/// What is wrong.
pub fn within(batch: &ipc::RecordBatch<'_>, body: usize, nodes: usize, buffers: usize) -> Result<(), StreamError> {
    header(batch, nodes, buffers)?;
    for buffer in batch.buffers().iter().flatten() {
        inside(buffer, body)?;
    }
    Ok(())
}

pub(super) fn header(batch: &ipc::RecordBatch<'_>, nodes: usize, buffers: usize) -> Result<usize, StreamError> {
    if batch.compression().is_some() {
        return Err(StreamError::Compressed);
    }
    let rows = usize::try_from(batch.length()).ok().filter(|rows| *rows <= MAX_ROWS).ok_or(StreamError::Rows)?;
    let (own_nodes, own_buffers) = (batch.nodes().ok_or(StreamError::Layout)?, batch.buffers().ok_or(StreamError::Layout)?);
    if own_nodes.len() != nodes || own_buffers.len() != buffers || batch.variadicBufferCounts().is_some_and(|v| !v.is_empty()) {
        return Err(StreamError::Layout);
    }
    if own_nodes.iter().any(|n| n.length() != batch.length() || !(0..=n.length()).contains(&n.null_count())) {
        return Err(StreamError::ColumnLength);
    }
    Ok(rows)
}

pub(super) fn inside(buffer: &ipc::Buffer, body: usize) -> Result<(usize, usize), StreamError> {
    let (Ok(start), Ok(length)) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length())) else {
        return Err(StreamError::BufferOutside);
    };
    start.checked_add(length).filter(|end| *end <= body).map(|end| (start, end)).ok_or(StreamError::BufferOutside)
}

/// Checks a record batch of `schema`, byte for byte: each buffer in its place and as long as its rows need, no byte of the body
/// unaccounted for, each dictionary index below its column's number of values (`values`, in the columns' order).
///
/// # Errors
/// What is wrong.
pub(super) fn batch(batch: &ipc::RecordBatch<'_>, body: &[u8], schema: &Schema, values: &[Option<usize>]) -> Result<(), StreamError> {
    let columns = schema.fields().len();
    let rows = header(batch, columns, 2 * columns)?;
    let mut walk = Walk::new(batch, body);
    let nodes = batch.nodes().into_iter().flatten();
    for ((field, node), values) in schema.fields().iter().zip(nodes).zip(values) {
        if !field.is_nullable() && node.null_count() != 0 {
            return Err(StreamError::Null);
        }
        let column = walk.column(node, rows, layout(field.data_type()).ok_or(StreamError::Schema)?)?;
        if let Some(values) = values {
            indices(column, rows, *values)?;
        }
    }
    walk.end()
}

/// Checks a dictionary of text in the same way, and its offsets. Returns its number of values.
///
/// # Errors
/// What is wrong.
pub(super) fn dictionary(batch: &ipc::RecordBatch<'_>, body: &[u8]) -> Result<usize, StreamError> {
    let rows = header(batch, 1, 3)?;
    let mut walk = Walk::new(batch, body);
    for node in batch.nodes().into_iter().flatten() {
        if node.null_count() != 0 {
            return Err(StreamError::Null);
        }
        walk.column(node, rows, Layout::Text)?;
    }
    walk.end()?;
    Ok(rows)
}

/// Walks over a batch's buffers in their order.
struct Walk<'m> {
    buffers: Box<dyn Iterator<Item = &'m ipc::Buffer> + 'm>,
    body: &'m [u8],
    /// Where the last buffer ended.
    end: usize,
}

impl<'m> Walk<'m> {
    fn new(batch: &ipc::RecordBatch<'m>, body: &'m [u8]) -> Self {
        Self { buffers: Box::new(batch.buffers().into_iter().flatten()), body, end: 0 }
    }

    fn next(&mut self) -> Result<&'m [u8], StreamError> {
        let (start, end) = inside(self.buffers.next().ok_or(StreamError::Layout)?, self.body.len())?;
        if start.checked_sub(self.end).is_none_or(|gap| gap >= ALIGNMENT) {
            return Err(StreamError::BufferOrder);
        }
        self.end = end;
        self.body.get(start..end).ok_or(StreamError::BufferOutside)
    }

    /// A column's buffers; returns its values.
    fn column(&mut self, node: &FieldNode, rows: usize, layout: Layout) -> Result<&'m [u8], StreamError> {
        let validity = self.next()?;
        // A bitmap may be left out where nothing is null.
        if !(validity.is_empty() && node.null_count() == 0) {
            exactly(validity, rows.div_ceil(8))?;
        }
        match layout {
            Layout::Bits => exactly(self.next()?, rows.div_ceil(8)),
            Layout::Bytes(width) => exactly(self.next()?, rows.checked_mul(width).ok_or(StreamError::Rows)?),
            Layout::Text => {
                let offsets = self.next()?;
                let offsets = if rows == 0 && offsets.is_empty() { offsets } else { exactly(offsets, (rows + 1) * 4)? };
                let text = self.next()?;
                ascending(offsets, text.len())?;
                Ok(text)
            }
        }
    }

    /// Nothing but padding may follow the last buffer.
    fn end(mut self) -> Result<(), StreamError> {
        if self.buffers.next().is_some() {
            return Err(StreamError::Layout);
        }
        if self.body.len() - self.end < ALIGNMENT { Ok(()) } else { Err(StreamError::BufferOrder) }
    }
}

/// Padding is no part of a buffer: the decoder panics over a length that its values do not divide.
fn exactly(buffer: &[u8], need: usize) -> Result<&[u8], StreamError> {
    if buffer.len() == need { Ok(buffer) } else { Err(StreamError::BufferLength) }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word))
}

/// Offsets never descend and end where the text does: a negative one is, unsigned, larger than any text.
fn ascending(offsets: &[u8], text: usize) -> Result<(), StreamError> {
    let mut last = 0;
    for offset in words(offsets) {
        if offset < last {
            return Err(StreamError::Offsets);
        }
        last = offset;
    }
    if last as usize == text { Ok(()) } else { Err(StreamError::Offsets) }
}

/// Every index names a value. A null slot holds such an index too, or zero: kernels read indices without looking at validity.
fn indices(column: &[u8], rows: usize, values: usize) -> Result<(), StreamError> {
    let limit = u32::try_from(values.max(1)).map_err(|_| StreamError::Rows)?;
    let greatest = words(column).take(rows).max().unwrap_or(0);
    if greatest < limit { Ok(()) } else { Err(StreamError::Index) }
}
