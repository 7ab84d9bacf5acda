//! The subjects of one identifier type and the numbers of their histories.
//!
//! ```text
//! records ─▶ pending ─ settle ─┬─ few ──▶ recent (hash table, copied while somebody reads it)
//!                              └─ many ─▶ merged with recent into a new base (sorted, never changed)
//! ```
//!
//! A base is three arrays in the order of the keys (8, 2 and 4 bytes a subject) and a directory: where the keys with the same
//! first bits begin. Keys are uniform, so that each stretch holds some eight to sixteen of them, which one or two cache lines
//! hold. A merge reads the old base from end to end and leaves out the histories that nobody has any more.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use concordat_policy::Name;
use concordat_policy::consent::Event;

use super::super::ledger::LedgerError;
use super::history::{Choice, Histories, Number, Texts, append};
use crate::pseudonym::Pseudonym;

/// 80 bits of a subject's keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    high: u64,
    low: u16,
}

impl Key {
    const BITS: u32 = 80;

    pub(super) fn of(hash: Pseudonym) -> Self {
        Self::from_bits(u128::from_be_bytes(hash) >> (128 - Self::BITS))
    }

    fn bits(self) -> u128 {
        u128::from(self.high) << 16 | u128::from(self.low)
    }

    fn from_bits(bits: u128) -> Self {
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

type Recent = HashMap<Key, Number, BuildHasherDefault<AsItIs>>;

/// Sorted, and never changed.
#[derive(Default)]
struct Base {
    high: Box<[u64]>,
    low: Box<[u16]>,
    numbers: Box<[Number]>,
    /// Where each stretch begins, and where the last one ends.
    starts: Box<[u32]>,
    /// The bits of `high` that do not choose the stretch.
    shift: u32,
}

impl Base {
    fn len(&self) -> usize {
        self.high.len()
    }

    fn find(&self, key: Key) -> Option<Number> {
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

    fn key(&self, at: usize) -> Option<Key> {
        Some(Key { high: *self.high.get(at)?, low: *self.low.get(at)? })
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.high) + size_of_val(&*self.low) + size_of_val(&*self.numbers) + size_of_val(&*self.starts)
    }
}

/// A base in the making: keys come in ascending order.
struct Making {
    high: Vec<u64>,
    low: Vec<u16>,
    numbers: Vec<Number>,
}

impl Making {
    fn with_capacity(most: usize) -> Self {
        Self { high: Vec::with_capacity(most), low: Vec::with_capacity(most), numbers: Vec::with_capacity(most) }
    }

    fn push(&mut self, key: Key, number: Number) {
        self.high.push(key.high);
        self.low.push(key.low);
        self.numbers.push(number);
    }

    fn done(self) -> Result<Base, LedgerError> {
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

/// What readers hold.
#[derive(Clone, Default)]
pub(super) struct Shared {
    base: Arc<Base>,
    /// Everything of the subjects in it; what the base holds of them counts no more.
    recent: Arc<Recent>,
    texts: Arc<Texts>,
    purposes: Arc<Vec<String>>,
}

impl Shared {
    fn number(&self, key: Key) -> Option<Number> {
        let recent = if self.recent.is_empty() { None } else { self.recent.get(&key).copied() };
        recent.or_else(|| self.base.find(key))
    }

    /// The subject's history; empty for who has none.
    pub(super) fn history(&self, key: Key) -> &[Choice] {
        self.number(key).map_or(&[], |number| self.texts.get(number))
    }

    /// For each purpose by its number, whether it is one of `purposes`.
    pub(super) fn relevant<'a>(&self, purposes: impl Iterator<Item = &'a Name>) -> Vec<bool> {
        let mut relevant = vec![false; self.purposes.len()];
        for purpose in purposes {
            for (known, relevant) in self.purposes.iter().zip(&mut relevant) {
                *relevant |= known == purpose.as_str();
            }
        }
        relevant
    }

    pub(super) fn subjects(&self) -> usize {
        self.base.len() + self.recent.keys().filter(|key| self.base.find(**key).is_none()).count()
    }

    #[cfg(test)]
    pub(super) fn histories(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn bytes(&self) -> usize {
        // A hash table fills at most seven eighths of its places, and each has a byte of its own.
        let recent = self.recent.capacity() * 8 / 7 * (size_of::<(Key, Number)>() + 1);
        self.base.bytes() + recent + self.texts.bytes()
    }
}

/// When changes are merged, by the number of subjects of the base.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// The most changes that stay in the small table beside the base.
    pub(super) few: fn(usize) -> usize,
    /// The most records that wait: at most 2^26, which is how far they are numbered.
    pub(super) many: fn(usize) -> usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { few: |base| (base / 64).clamp(1 << 12, 1 << 18), many: |base| (base / 4).clamp(1 << 20, 1 << 23) }
    }
}

/// Bits that number the records that wait.
const SEQUENCE: u32 = u128::BITS - Key::BITS - Choice::BITS;

#[derive(Default)]
pub(super) struct Table {
    shared: Shared,
    histories: Histories,
    /// From the highest bit: key, sequence, choice. Sorted as numbers, each subject's records stand together and in order.
    pending: Vec<u128>,
    limits: Limits,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// Takes one more record. Readers see it once it is settled.
    pub(super) fn record(&mut self, key: Key, purpose: &str, event: Event) -> Result<(), LedgerError> {
        let choice = Choice::new(self.purpose(purpose)?, event);
        let sequence = (self.pending.len() as u128) << Choice::BITS;
        self.pending.push(key.bits() << (SEQUENCE + Choice::BITS) | sequence | u128::from(choice.bits()));
        if self.pending.len() >= (self.limits.many)(self.shared.base.len()) { self.merge() } else { Ok(()) }
    }

    /// Brings all records that were taken to where readers find them.
    pub(super) fn settle(&mut self) -> Result<(), LedgerError> {
        if self.pending.len() + self.shared.recent.len() > (self.limits.few)(self.shared.base.len()) {
            self.merge()?;
            // Waits for no more: what it held was room for a bulk.
            self.pending = Vec::new();
            return Ok(());
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let (base, histories) = (&self.shared.base, &mut self.histories);
        let changed = Arc::make_mut(&mut self.shared.recent);
        // What was taken over before a failure does no harm: the same records come again, in the same order.
        let outcome = pending.into_iter().map(parts).try_for_each(|(key, choice)| {
            let before = changed.get(&key).copied().or_else(|| base.find(key)).unwrap_or(0);
            changed.insert(key, histories.after(before, choice)?);
            Ok(())
        });
        self.shared.texts = Arc::clone(self.histories.texts());
        outcome
    }

    fn purpose(&mut self, purpose: &str) -> Result<u32, LedgerError> {
        let at = self.shared.purposes.iter().position(|known| known == purpose).unwrap_or_else(|| {
            Arc::make_mut(&mut self.shared.purposes).push(purpose.to_owned());
            self.shared.purposes.len() - 1
        });
        u32::try_from(at).ok().filter(|at| (*at as usize) < Choice::PURPOSES).ok_or(LedgerError::Full("purposes"))
    }

    /// Makes a new base of the old one, the recent changes and the records that wait.
    fn merge(&mut self) -> Result<(), LedgerError> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_unstable();
        let mut recent: Vec<(Key, Number)> = self.shared.recent.iter().map(|(key, number)| (*key, *number)).collect();
        recent.sort_unstable();
        let old = &self.shared.base;
        let mut moved = Moved::new(&self.histories);
        let mut making = Making::with_capacity(old.len() + recent.len() + pending.len());
        let (mut bases, mut recents, mut records) = (0, recent.iter().copied().peekable(), pending.iter().copied().peekable());
        loop {
            let base = old.key(bases);
            let (change, record) = (recents.peek().map(|(key, _)| *key), records.peek().map(|record| parts(*record).0));
            let Some(key) = [base, change, record].into_iter().flatten().min() else { break };
            let mut number = 0;
            if base == Some(key) {
                number = old.numbers.get(bases).copied().unwrap_or(0);
                bases += 1;
            }
            if let Some((_, changed)) = recents.next_if(|(changed, _)| *changed == key) {
                number = changed;
            }
            let choices = std::iter::from_fn(|| records.next_if(|record| parts(*record).0 == key)).map(|record| parts(record).1);
            making.push(key, moved.after(number, choices)?);
        }
        self.shared.base = Arc::new(making.done()?);
        self.shared.recent = Arc::default();
        self.histories = moved.new;
        self.shared.texts = Arc::clone(self.histories.texts());
        pending.clear();
        self.pending = pending;
        Ok(())
    }
}

fn parts(record: u128) -> (Key, Choice) {
    #[expect(clippy::cast_possible_truncation, reason = "the choice is the lowest 22 bits")]
    let choice = Choice::from_bits(record as u32 & ((1 << Choice::BITS) - 1));
    (Key::from_bits(record >> (SEQUENCE + Choice::BITS)), choice)
}

/// Histories that move to new numbers, those that are still somebody's.
struct Moved<'a> {
    old: &'a Histories,
    new: Histories,
    /// By old number; 0 for those that have not moved.
    numbers: Vec<Number>,
    scratch: Vec<Choice>,
}

impl<'a> Moved<'a> {
    fn new(old: &'a Histories) -> Self {
        Self { old, new: Histories::default(), numbers: vec![0; old.texts().len()], scratch: Vec::new() }
    }

    /// The new number of the history that was `number`, after `choices`.
    fn after(&mut self, number: Number, mut choices: impl Iterator<Item = Choice>) -> Result<Number, LedgerError> {
        let (first, second) = (choices.next(), choices.next());
        match (first, second) {
            (None, _) => self.moved(number),
            (Some(only), None) if number == 0 => self.new.after(0, only),
            (Some(first), second) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(self.old.get(number));
                for choice in [first].into_iter().chain(second).chain(choices) {
                    append(&mut self.scratch, choice);
                }
                self.new.number(&self.scratch)
            }
        }
    }

    fn moved(&mut self, number: Number) -> Result<Number, LedgerError> {
        let slot = self.numbers.get_mut(number as usize).ok_or(LedgerError::Full("different histories of choices"))?;
        if *slot == 0 {
            *slot = self.new.number(self.old.get(number))?;
        }
        Ok(*slot)
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

    #[test]
    fn what_waits_is_packed_and_unpacked() {
        arbtest::arbtest(|u| {
            let key = Key { high: u.arbitrary()?, low: u.arbitrary()? };
            let event = *u.choose(&[Event::Given, Event::Withdrawn, Event::Objected])?;
            let purpose = u.int_in_range(0..=u32::try_from(Choice::PURPOSES - 1).unwrap())?;
            let choice = Choice::new(purpose, event);
            let record = key.bits() << (SEQUENCE + Choice::BITS) | u128::from(u.int_in_range(0..=(1u32 << 26) - 1)?) << Choice::BITS;
            assert_eq!(parts(record | u128::from(choice.bits())), (key, choice));
            assert_eq!((choice.event(), choice.purpose()), (event, purpose as usize));
            Ok(())
        });
    }
}
