//! Most subjects of one identifier type, sorted by their keys and never changed.
//!
//! Three arrays in the order of the keys (8, 2 and 4 bytes a subject) and a directory: where the keys with the same first bits
//! begin. Keys are uniform, so that each stretch holds some eight to sixteen of them, which one or two cache lines hold.

use std::hash::{Hash, Hasher};

use super::super::ledger::LedgerError;
use super::history::Number;
use crate::pseudonym::Pseudonym;

/// 80 bits of a subject's keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    high: u64,
    low: u16,
}

impl Key {
    pub(super) const BITS: u32 = 80;

    pub(super) fn of(hash: Pseudonym) -> Self {
        Self::from_bits(u128::from_be_bytes(hash) >> (128 - Self::BITS))
    }

    pub(super) fn bits(self) -> u128 {
        u128::from(self.high) << 16 | u128::from(self.low)
    }

    pub(super) fn from_bits(bits: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the key is cut into its two parts")]
        let (high, low) = ((bits >> 16) as u64, bits as u16);
        Self { high, low }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.high);
    }
}

/// Keys are uniform already.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // Keys are written by `write_u64`; anything else would still hash, only slowly.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Sorted, and never changed.
#[derive(Default)]
pub(super) struct Base {
    high: Box<[u64]>,
    low: Box<[u16]>,
    numbers: Box<[Number]>,
    /// Where each stretch begins, and where the last one ends.
    starts: Box<[u32]>,
    /// The bits of `high` that do not choose the stretch.
    shift: u32,
}

impl Base {
    pub(super) fn len(&self) -> usize {
        self.high.len()
    }

    pub(super) fn find(&self, key: Key) -> Option<Number> {
        let stretch = usize::try_from(key.high >> self.shift).ok()?;
        let (start, end) = (*self.starts.get(stretch)? as usize, *self.starts.get(stretch + 1)? as usize);
        let before = self.high.get(start..end)?.iter().take_while(|high| **high < key.high).count();
        // Different keys with the same first 64 bits stand side by side.
        let mut at = start + before;
        while at < end && *self.high.get(at)? == key.high {
            if *self.low.get(at)? == key.low {
                return self.numbers.get(at).copied();
            }
            at += 1;
        }
        None
    }

    pub(super) fn key(&self, at: usize) -> Option<Key> {
        Some(Key { high: *self.high.get(at)?, low: *self.low.get(at)? })
    }

    pub(super) fn number(&self, at: usize) -> Number {
        self.numbers.get(at).copied().unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.high) + size_of_val(&*self.low) + size_of_val(&*self.numbers) + size_of_val(&*self.starts)
    }
}

/// A base in the making: keys come in ascending order.
pub(super) struct Making {
    high: Vec<u64>,
    low: Vec<u16>,
    numbers: Vec<Number>,
}

impl Making {
    pub(super) fn with_capacity(most: usize) -> Self {
        Self { high: Vec::with_capacity(most), low: Vec::with_capacity(most), numbers: Vec::with_capacity(most) }
    }

    pub(super) fn push(&mut self, key: Key, number: Number) {
        self.high.push(key.high);
        self.low.push(key.low);
        self.numbers.push(number);
    }

    pub(super) fn done(self) -> Result<Base, LedgerError> {
        let full = |_| LedgerError::Full("subjects of one identifier type");
        // Eight to sixteen keys a stretch.
        let bits = (self.high.len() / 8).max(2).ilog2();
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, high) in self.high.iter().enumerate() {
            let at = u32::try_from(at).map_err(full)?;
            while starts.len() as u64 <= high >> shift {
                starts.push(at);
            }
        }
        let end = u32::try_from(self.high.len()).map_err(full)?;
        starts.resize((1 << bits) + 1, end);
        Ok(Base { high: self.high.into(), low: self.low.into(), numbers: self.numbers.into(), starts: starts.into(), shift })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that share their first 64 bits, or all bits that choose a stretch, are told apart.
    #[test]
    fn keys_side_by_side_are_told_apart() {
        let near = |high: u64| (0..5u16).map(move |low| Key { high, low: low * 7 });
        let keys: Vec<Key> = [0, 1, 2, 1 << 40, (1 << 40) + 1, u64::MAX - 1, u64::MAX].into_iter().flat_map(near).collect();
        for count in 0..=keys.len() {
            let mut making = Making::with_capacity(0);
            keys[..count].iter().zip(1..).for_each(|(key, number)| making.push(*key, number));
            let base = making.done().unwrap();
            for (key, number) in keys.iter().zip(1..) {
                assert_eq!(base.find(*key), (number as usize <= count).then_some(number), "{key:?} of {count}");
                assert_eq!(base.find(Key { low: key.low + 1, ..*key }), None);
            }
            assert_eq!(base.find(Key { high: 1 << 63, low: 0 }), None);
        }
    }
}
