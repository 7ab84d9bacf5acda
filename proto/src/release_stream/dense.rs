//! The dense form of a batch's body, for orders that ask for it: what a line carries of a release is fewer bytes by about a third.
//!
//! The message is as it would be, with Arrow's header, but for its body, which is made of each buffer in the header's order that is not
//! empty: a byte that says how it stands there, then what follows from it. Numbers are little-endian; "packed" are numbers of equally
//! many bits, one behind the other, the lowest bit first.
//!
//! | byte | buffers | what follows |
//! |---|---|---|
//! | 0 | all | its bytes, as many as the header says |
//! | 1 | bitmaps | a byte, of which all are |
//! | 2 | values of 4 or 8 bytes | the least value, a byte with a number of bits up to 32 or 56, and packed, how far each is above the least |
//! | 3 | values of 8 bytes | a number of different values in 2 bytes, these, a byte with a number of bits up to 56, and packed, which of them each is |
//! | 4 | the subjects' pseudonyms | as [`keys`] says |
//!
//! What lies between buffers unfolds as zeros. How long a dense body is tells whoever watches the line more than a plain one's length does:
//! whether values repeat, how far they are apart.
//!
//! General compressors find nothing in pseudonyms, which are most of a release, and are slow at the rest; Arrow's own compressed bodies
//! stay refused. A body unfolds to the length that its header states, which is bounded before it is allocated, and is then guarded like
//! any other: whatever a dense body says, it says no more than a plain one could.

mod bits;
mod keys;

use std::collections::HashMap;

use arrow::buffer::MutableBuffer;
use arrow::datatypes::{DataType, Schema};
use arrow::ipc::{self, MessageHeader, root_as_message};

use self::bits::Numbers;
use super::{StreamError, guard};

/// What stands in the place of metadata where a body is dense.
pub const MARK: &[u8] = b"dense";

const PLAIN: u8 = 0;
const SAME: u8 = 1;
const NARROW: u8 = 2;
const FEW: u8 = 3;
const KEYS: u8 = 4;

/// The most different values that are told apart by their places in a list of them.
const MOST_VALUES: usize = 1 << 13;

/// What a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bits,
    /// Values of four bytes.
    Words,
    /// Values of eight bytes.
    Longs,
    /// Pseudonyms that ascend.
    Keys,
    /// Pseudonyms in no order.
    Linked,
}

impl Kind {
    /// Bytes of so many rows.
    fn bytes(self, rows: usize) -> usize {
        match self {
            Self::Bits => rows.div_ceil(8),
            Self::Words => 4 * rows,
            Self::Longs => 8 * rows,
            Self::Keys | Self::Linked => 16 * rows,
        }
    }
}

/// The kinds of a batch's buffers, two a column: its validity and its values.
fn kinds(schema: &Schema) -> impl Iterator<Item = Kind> {
    schema.fields().iter().enumerate().flat_map(|(column, field)| {
        let values = match field.data_type() {
            DataType::Boolean => Kind::Bits,
            DataType::Date32 | DataType::Dictionary(..) => Kind::Words,
            DataType::Int64 | DataType::Float64 => Kind::Longs,
            DataType::FixedSizeBinary(16) if column == 0 => Kind::Keys,
            _ => Kind::Linked,
        };
        [Kind::Bits, values]
    })
}

/// The body of a batch of `schema` in its dense form, of a message that Arrow's encoder made. `None` of other messages, and where it would
/// not be smaller.
#[must_use]
pub fn pack(schema: &Schema, header: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let message = root_as_message(header).ok().filter(|message| message.header_type() == MessageHeader::RecordBatch)?;
    let batch = message.header_as_record_batch()?;
    let mut out = Vec::with_capacity(body.len());
    for (buffer, kind) in batch.buffers()?.iter().zip(kinds(schema)) {
        let (start, end) = guard::inside(buffer, body.len()).ok()?;
        let bytes = body.get(start..end)?;
        if bytes.is_empty() {
            continue;
        }
        let begin = out.len();
        let denser = match kind {
            Kind::Bits => same(bytes, &mut out),
            Kind::Words => words(bytes, &mut out),
            Kind::Longs => longs(bytes, &mut out),
            Kind::Keys => {
                out.push(KEYS);
                keys::put(bytes.as_chunks().0, &mut out)
            }
            Kind::Linked => None,
        };
        if denser.is_none() || out.len() - begin > bytes.len() {
            out.truncate(begin);
            out.push(PLAIN);
            out.extend_from_slice(bytes);
        }
    }
    (out.len() < body.len()).then_some(out)
}

fn same(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let first = *bytes.first()?;
    bytes.iter().all(|byte| *byte == first).then(|| out.extend([SAME, first]))
}

fn words(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let values = || bytes.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word));
    let least = values().min()?;
    let above = |value: i32| u64::from(value.abs_diff(least));
    let bits = bits::needed(values().map(above).max()?);
    out.push(NARROW);
    out.extend(least.to_le_bytes());
    out.push(u8::try_from(bits).ok()?);
    bits::put(values().map(above), bits, out);
    Some(())
}

fn longs(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let values = || bytes.as_chunks().0.iter().map(|word| i64::from_le_bytes(*word));
    let least = values().min()?;
    let bits = bits::needed(values().map(|value| value.abs_diff(least)).max()?);
    // In fewer bits, a list of different values saves nothing.
    if bits > MOST_VALUES.ilog2()
        && let Some(Few { different, places }) = Few::of(values())
    {
        let each = bits::needed(different.len() as u64 - 1);
        if 64 * different.len() + each as usize * places.len() <= bits as usize * places.len() {
            out.push(FEW);
            out.extend(u16::try_from(different.len()).ok()?.to_le_bytes());
            different.iter().for_each(|value| out.extend(value.to_le_bytes()));
            out.push(u8::try_from(each).ok()?);
            bits::put(places.into_iter().map(u64::from), each, out);
            return Some(());
        }
    }
    if bits > bits::MOST {
        return None;
    }
    out.push(NARROW);
    out.extend(least.to_le_bytes());
    out.push(u8::try_from(bits).ok()?);
    bits::put(values().map(|value| value.abs_diff(least)), bits, out);
    Some(())
}

/// Values that are few different ones, and which of them each is.
struct Few {
    different: Vec<i64>,
    places: Vec<u16>,
}

impl Few {
    /// `None` where there are more than [`MOST_VALUES`].
    fn of(values: impl Iterator<Item = i64>) -> Option<Self> {
        let (mut known, mut few) = (HashMap::new(), Self { different: Vec::new(), places: Vec::new() });
        for value in values {
            let next = u16::try_from(few.different.len()).ok()?;
            let place = *known.entry(value).or_insert(next);
            if place == next {
                if few.different.len() >= MOST_VALUES {
                    return None;
                }
                few.different.push(value);
            }
            few.places.push(place);
        }
        (!few.different.is_empty()).then_some(few)
    }
}

/// The body of `length` bytes that a dense one stands for, by a batch's header.
///
/// # Errors
/// What is wrong with the header, or [`StreamError::Dense`].
pub(super) fn unpack(batch: &ipc::RecordBatch<'_>, schema: &Schema, length: usize, dense: &[u8]) -> Result<MutableBuffer, StreamError> {
    let columns = schema.fields().len();
    let rows = guard::header(batch, columns, 2 * columns)?;
    let (mut places, mut last) = (Vec::with_capacity(2 * columns), 0);
    for (buffer, kind) in batch.buffers().into_iter().flatten().zip(kinds(schema)) {
        let (start, end) = guard::inside(buffer, length)?;
        if start.checked_sub(last).is_none_or(|gap| gap >= guard::ALIGNMENT) {
            return Err(StreamError::BufferOrder);
        }
        if end - start != kind.bytes(rows) && !(kind == Kind::Bits && start == end) {
            return Err(StreamError::BufferLength);
        }
        last = end;
        places.push((start..end, kind));
    }
    // No more is allocated than the rows need.
    if length - last >= guard::ALIGNMENT {
        return Err(StreamError::BufferOrder);
    }
    let (mut body, mut rest) = (MutableBuffer::from_len_zeroed(length), dense);
    for (place, kind) in places {
        let to = body.as_slice_mut().get_mut(place).ok_or(StreamError::BufferOutside)?;
        if !to.is_empty() {
            unfold(&mut rest, kind, to).ok_or(StreamError::Dense)?;
        }
    }
    if rest.is_empty() { Ok(body) } else { Err(StreamError::Dense) }
}

fn unfold(rest: &mut &[u8], kind: Kind, to: &mut [u8]) -> Option<()> {
    match (*rest.split_off_first()?, kind) {
        (PLAIN, _) => to.copy_from_slice(rest.split_off(..to.len())?),
        (SAME, Kind::Bits) => to.fill(*rest.split_off_first()?),
        (NARROW, Kind::Words) => {
            let least = i32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?);
            let (to, []) = to.as_chunks_mut() else { return None };
            let above = packed(rest, to.len(), i32::BITS)?;
            for (row, to) in to.iter_mut().enumerate() {
                *to = least.wrapping_add_unsigned(above.at(row) as u32).to_le_bytes();
            }
        }
        (NARROW, Kind::Longs) => {
            let least = i64::from_le_bytes(*rest.split_off(..8)?.first_chunk()?);
            let (to, []) = to.as_chunks_mut() else { return None };
            let above = packed(rest, to.len(), bits::MOST)?;
            for (row, to) in to.iter_mut().enumerate() {
                *to = least.wrapping_add_unsigned(above.at(row)).to_le_bytes();
            }
        }
        (FEW, Kind::Longs) => {
            let different = usize::from(u16::from_le_bytes(*rest.split_off(..2)?.first_chunk()?));
            let (values, _) = rest.split_off(..8 * different)?.as_chunks::<8>();
            let (to, []) = to.as_chunks_mut() else { return None };
            let places = packed(rest, to.len(), bits::MOST)?;
            for (row, to) in to.iter_mut().enumerate() {
                *to = *values.get(usize::try_from(places.at(row)).ok()?)?;
            }
        }
        (KEYS, Kind::Keys) => {
            let (to, []) = to.as_chunks_mut() else { return None };
            keys::take(rest, to)?;
        }
        _ => return None,
    }
    Some(())
}

/// So many packed numbers, behind the byte that says of how many bits, which are not more than `most`.
fn packed<'m>(rest: &mut &'m [u8], numbers: usize, most: u32) -> Option<Numbers<'m>> {
    let bits = u32::from(*rest.split_off_first()?);
    let packed = (bits <= most).then(|| rest.split_off(..bits::bytes(numbers, bits))).flatten()?;
    Some(Numbers::new(packed, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unfolds_to_nothing_that_a_column_can_hold_is_refused() {
        let unfolds = |kind: Kind, dense: &[u8]| unfold(&mut &*dense, kind, &mut [0; 16]).is_some();
        let form = |form: u8, rest: &[&[u8]]| [&[form], rest.concat().as_slice()].concat();
        let narrow = |least: &[u8], bits: u8| form(NARROW, &[least, &[bits], &[0; 200]]);
        assert!(unfolds(Kind::Words, &narrow(&[0; 4], 32)) && unfolds(Kind::Longs, &narrow(&[0; 8], 56)));
        assert!(!unfolds(Kind::Words, &narrow(&[0; 4], 33)) && !unfolds(Kind::Longs, &narrow(&[0; 8], 57)));
        let few = |values: u16, places: u8| form(FEW, &[&values.to_le_bytes(), &vec![0; 8 * usize::from(values)], &[2], &[places]]);
        assert!(unfolds(Kind::Longs, &few(2, 0b0100)) && !unfolds(Kind::Longs, &few(2, 0b1000)), "a place behind the last value");
        assert!(!unfolds(Kind::Longs, &few(0, 0)) && !unfolds(Kind::Words, &few(2, 0)));
        assert!(unfolds(Kind::Bits, &[SAME, 0xFF]) && !unfolds(Kind::Words, &[SAME, 0xFF]) && !unfolds(Kind::Linked, &narrow(&[0; 8], 1)));
        assert!(unfolds(Kind::Linked, &[0; 17]) && !unfolds(Kind::Linked, &[0; 16]) && !unfolds(Kind::Bits, &[]));
        assert!(!unfolds(Kind::Linked, &form(KEYS, &[&[14, 0, 0], &[0; 16], &[0; 14]])) && !unfolds(Kind::Keys, &[9; 40]));
    }
}
