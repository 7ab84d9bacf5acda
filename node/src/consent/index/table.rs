//! The subjects of one identifier type and the numbers of their histories.
//!
//! ```text
//! records ─▶ pending ─ settle ─┬─ few ──▶ recent (hash table, copied while somebody reads it)
//!                              └─ many ─▶ merged with recent into a new base (sorted, never changed)
//! ```
//!
//! A merge reads the old base ([`super::base`]) from end to end and leaves out the histories that nobody has any more.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use concordat_policy::Name;
use concordat_policy::consent::{Event, Term};

use super::super::ledger::LedgerError;
use super::base::{AsItIs, Base, Key, Making};
use super::history::{Choice, Histories, Number, Texts, Timed, append};

type Recent = HashMap<Key, Number, BuildHasherDefault<AsItIs>>;

/// What readers hold.
#[derive(Clone, Default)]
pub(super) struct Shared {
    base: Arc<Base>,
    /// Everything of the subjects in it; what the base holds of them counts no more.
    recent: Arc<Recent>,
    texts: Arc<Texts>,
    /// Choices with times, by number. Only ever added to.
    timed: Arc<Vec<Timed>>,
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

    /// A choice's purpose by its number, its event, and when it speaks.
    pub(super) fn meant(&self, choice: Choice) -> Option<(usize, Event, Term)> {
        let Some(number) = choice.number() else { return Some((choice.purpose(), choice.event(), Term::default())) };
        self.timed.get(number).map(|timed| (timed.purpose as usize, timed.event, timed.term))
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

    /// Whether no choice has times.
    pub(super) fn is_timeless(&self) -> bool {
        self.timed.is_empty()
    }

    /// Which subjects can have other histories here than in `other`; `None` where their bases differ, and it could be any.
    pub(super) fn since<'a>(&'a self, other: &'a Self) -> Option<Changed<'a>> {
        let same = Arc::ptr_eq(&self.recent, &other.recent);
        let recent = if same { [None, None] } else { [Some(&*self.recent), Some(&*other.recent)] };
        Arc::ptr_eq(&self.base, &other.base).then_some(Changed(recent))
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
        self.base.bytes() + recent + self.texts.bytes() + self.timed.capacity() * size_of::<Timed>()
    }
}

/// Subjects whose histories may have changed: those that are in the small table of either side.
pub(super) struct Changed<'a>([Option<&'a Recent>; 2]);

impl Changed<'_> {
    pub(super) fn is_none(&self) -> bool {
        self.0.iter().flatten().all(|recent| recent.is_empty())
    }

    pub(super) fn holds(&self, key: Key) -> bool {
        self.0.iter().flatten().any(|recent| recent.contains_key(&key))
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
    /// The numbers of choices with times.
    numbers: HashMap<Timed, u32>,
    /// Those among the waiting choices that their bits cannot hold.
    specials: Vec<Choice>,
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
    pub(super) fn record(&mut self, key: Key, purpose: &str, event: Event, term: Term) -> Result<(), LedgerError> {
        let purpose = self.purpose(purpose)?;
        if term.is_plain() {
            return self.wait(key, Choice::new(purpose, event));
        }
        let timed = self.timed(Timed { purpose, event, term })?;
        self.special(key, timed)
    }

    /// Forgets what the subject chose before.
    pub(super) fn forget(&mut self, key: Key) -> Result<(), LedgerError> {
        self.special(key, Choice::FORGET)
    }

    fn special(&mut self, key: Key, choice: Choice) -> Result<(), LedgerError> {
        if self.specials.len() >= Choice::PURPOSES {
            self.merge()?;
        }
        let place = u32::try_from(self.specials.len()).map_err(|_| LedgerError::Full("waiting choices"))?;
        self.specials.push(choice);
        self.wait(key, Choice::special(place))
    }

    fn wait(&mut self, key: Key, choice: Choice) -> Result<(), LedgerError> {
        let sequence = (self.pending.len() as u128) << Choice::BITS;
        self.pending.push(key.bits() << (SEQUENCE + Choice::BITS) | sequence | u128::from(choice.bits()));
        if self.pending.len() >= (self.limits.many)(self.shared.base.len()) { self.merge() } else { Ok(()) }
    }

    /// The choice that stands for one with times.
    fn timed(&mut self, timed: Timed) -> Result<Choice, LedgerError> {
        let full = || LedgerError::Full("different times of choices");
        if let Some(number) = self.numbers.get(&timed) {
            return Choice::timed(*number).ok_or_else(full);
        }
        let number = u32::try_from(self.shared.timed.len()).map_err(|_| full())?;
        let choice = Choice::timed(number).ok_or_else(full)?;
        Arc::make_mut(&mut self.shared.timed).push(timed);
        self.numbers.insert(timed, number);
        Ok(choice)
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
        let (pending, specials) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.specials));
        let (base, histories) = (&self.shared.base, &mut self.histories);
        let changed = Arc::make_mut(&mut self.shared.recent);
        // What was taken over before a failure does no harm: the same records come again, in the same order.
        let outcome = pending.into_iter().map(|record| parts(record, &specials)).try_for_each(|(key, choice)| {
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
        let (mut pending, specials) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.specials));
        pending.sort_unstable();
        let mut recent: Vec<(Key, Number)> = self.shared.recent.iter().map(|(key, number)| (*key, *number)).collect();
        recent.sort_unstable();
        let old = &self.shared.base;
        let mut moved = Moved::new(&self.histories);
        let mut making = Making::with_capacity(old.len() + recent.len() + pending.len());
        let (mut bases, mut recents, mut records) = (0, recent.iter().copied().peekable(), pending.iter().copied().peekable());
        loop {
            let base = old.key(bases);
            let (change, record) = (recents.peek().map(|(key, _)| *key), records.peek().map(|record| key_of(*record)));
            let Some(key) = [base, change, record].into_iter().flatten().min() else { break };
            let mut number = 0;
            if base == Some(key) {
                number = old.number(bases);
                bases += 1;
            }
            if let Some((_, changed)) = recents.next_if(|(changed, _)| *changed == key) {
                number = changed;
            }
            let own = std::iter::from_fn(|| records.next_if(|record| key_of(*record) == key));
            let choices = own.map(|record| parts(record, &specials).1);
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

fn key_of(record: u128) -> Key {
    Key::from_bits(record >> (SEQUENCE + Choice::BITS))
}

fn parts(record: u128, specials: &[Choice]) -> (Key, Choice) {
    #[expect(clippy::cast_possible_truncation, reason = "the choice is the lowest 22 bits")]
    let waiting = Choice::from_bits(record as u32 & ((1 << Choice::BITS) - 1));
    // Each special choice is there as long as the record that waits for it.
    let choice = waiting.is_special().and_then(|place| specials.get(place)).copied().unwrap_or(waiting);
    (key_of(record), choice)
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

    #[test]
    fn what_waits_is_packed_and_unpacked() {
        arbtest::arbtest(|u| {
            let key = Key::from_bits(u.arbitrary::<u128>()? >> (u128::BITS - Key::BITS));
            let event = *u.choose(&[Event::Given, Event::Withdrawn, Event::Objected])?;
            let purpose = u.int_in_range(0..=u32::try_from(Choice::PURPOSES - 1).unwrap())?;
            let choice = Choice::new(purpose, event);
            let record = key.bits() << (SEQUENCE + Choice::BITS) | u128::from(u.int_in_range(0..=(1u32 << 26) - 1)?) << Choice::BITS;
            assert_eq!(parts(record | u128::from(choice.bits()), &[]), (key, choice));
            assert_eq!((choice.event(), choice.purpose()), (event, purpose as usize));
            assert_eq!((choice.number(), choice.is_special()), (None, None));
            let place = u.int_in_range(0..=2u32)?;
            let specials = [Choice::FORGET, Choice::timed(0).unwrap(), Choice::timed(u.int_in_range(0..=(1 << 31) - 2)?).unwrap()];
            assert_eq!(parts(record | u128::from(Choice::special(place).bits()), &specials), (key, specials[place as usize]));
            assert_eq!(Choice::special(purpose).is_special(), Some(purpose as usize));
            Ok(())
        });
    }
}
