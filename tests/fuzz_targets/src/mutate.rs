//! Mutations. The generic ones change any bytes; those of release streams know messages and where lengths stand in headers.

use concordat_proto::release_stream::ReleaseMessage;
use prost::bytes::Bytes;

use crate::release_stream::{Input, MAX_COLUMNS};
use crate::tamper::places;

/// Lengths that lie.
pub const LYING: [i64; 18] =
    [-1, 0, 1, 2, 7, 8, 63, 64, 65, 4096, 1 << 20, (1 << 31) - 1, 1 << 32, 1 << 33, 1 << 38, 1 << 62, i64::MAX, i64::MIN];

/// Numbers from a seed (SplitMix64).
#[derive(Debug, Clone, Copy)]
pub struct Draw(pub u64);

impl Draw {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound.max(1) as u64).unwrap_or(0)
    }

    fn lie(&mut self) -> i64 {
        LYING[self.below(LYING.len())]
    }
}

/// Changes a few bytes, anywhere.
pub fn bytes(data: &mut Vec<u8>, draw: &mut Draw) {
    for _ in 0..=draw.below(3) {
        let at = draw.below(data.len() + 1);
        match draw.below(7) {
            0 => data.insert(at, draw.number() as u8),
            1 if !data.is_empty() => drop(data.drain(at.min(data.len() - 1)..(at + 1 + draw.below(8)).min(data.len()))),
            2 => {
                let part = data[at..(at + draw.below(32)).min(data.len())].to_vec();
                let to = draw.below(data.len() + 1);
                data.splice(to..to, part);
            }
            3 => put(data, at & !7, &draw.lie().to_le_bytes()),
            4 => put(data, at & !3, &(draw.lie() as i32).to_le_bytes()),
            5 => data.truncate(at.max(1)),
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << draw.below(8);
                }
            }
        }
    }
}

fn put(data: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = data.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// Changes a release stream as whoever wrote it might: a length in a header, a body under a header that fits, the order of
/// messages, the columns that were ordered. `generic` mutates bytes without knowing what they are.
pub fn stream(data: &[u8], draw: &mut Draw, generic: &mut dyn FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let mut input = Input::read(data);
    if input.messages.is_empty() {
        let mut plain = data.to_vec();
        generic(&mut plain);
        return plain;
    }
    for _ in 0..=draw.below(2) {
        let at = draw.below(input.messages.len());
        match draw.below(12) {
            0..=3 => lie(&mut input.messages[at], draw),
            4 => header(&mut input.messages[at], generic),
            5 => body(&mut input.messages[at], draw, generic),
            6 => bits(&mut input.messages[at], draw),
            7 => {
                let copy = input.messages[at].clone();
                input.messages.insert(draw.below(input.messages.len() + 1), copy);
            }
            8 => drop(input.messages.remove(at)),
            9 => {
                let other = draw.below(input.messages.len());
                input.messages.swap(at, other);
            }
            10 => input.kinds = (0..draw.below(MAX_COLUMNS + 1)).map(|_| draw.number() as u8).collect(),
            _ => input.partition = draw.number() as u8,
        }
        if input.messages.is_empty() {
            break;
        }
    }
    input.write()
}

/// Writes a lie where a length, an offset or a count stands.
fn lie(message: &mut ReleaseMessage, draw: &mut Draw) {
    let all = places(&message.header).all();
    if all.is_empty() {
        return;
    }
    let at = all[draw.below(all.len())];
    let mut header = message.header.to_vec();
    let now = header.get(at..at + 8).map_or(0, |b| i64::from_le_bytes(b.try_into().unwrap_or_default()));
    let then = if draw.below(3) == 0 { now.wrapping_add(draw.below(129) as i64 - 64) } else { draw.lie() };
    put(&mut header, at, &then.to_le_bytes());
    message.header = header.into();
}

fn header(message: &mut ReleaseMessage, generic: &mut dyn FnMut(&mut Vec<u8>)) {
    let mut header = message.header.to_vec();
    generic(&mut header);
    message.header = header.into();
}

/// Changes the body's bytes and length, and has the header state the new length.
fn body(message: &mut ReleaseMessage, draw: &mut Draw, generic: &mut dyn FnMut(&mut Vec<u8>)) {
    let mut body = message.body.to_vec();
    if draw.below(2) == 0 {
        body.resize(draw.below(body.len() + 65), 0)
    } else {
        generic(&mut body)
    }
    if let Some(at) = places(&message.header).body_length {
        let mut header = message.header.to_vec();
        put(&mut header, at, &(body.len() as i64).to_le_bytes());
        message.header = header.into();
    }
    message.body = body.into();
}

fn bits(message: &mut ReleaseMessage, draw: &mut Draw) {
    let mut body = message.body.to_vec();
    for _ in 0..=draw.below(4) {
        let at = draw.below(body.len());
        if let Some(byte) = body.get_mut(at) {
            *byte = if draw.below(2) == 0 { *byte ^ (1 << draw.below(8)) } else { draw.number() as u8 };
        }
    }
    message.body = Bytes::from(body);
}
