//! Histories: which choices a subject has made, the last one of each kind for each purpose, in the order in which they were made.
//!
//! Whether a subject's data may be used depends on which of these choices came later, never on their absolute places in the
//! ledger. There are few such histories (*given*; *given*, then *withdrawn*; …) and many subjects, so each is kept once. Choices
//! with times are rare: each different one is kept beside the histories, and has a number.

use std::collections::HashMap;
use std::sync::Arc;

use concordat_policy::consent::{Event, Term};

use super::super::ledger::LedgerError;

/// One kind of choice for one purpose, or one choice with times, which a number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Choice(u32);

/// The mark of choices with times.
const TIMED: u32 = 1 << 31;
/// In a waiting record: the number is that of a special choice.
const SPECIAL: u32 = 3;

impl Choice {
    /// Bits of a choice without times, and of what stands for any other while it waits.
    pub(super) const BITS: u32 = 22;
    /// How many purposes can be told apart.
    pub(super) const PURPOSES: usize = 1 << (Self::BITS - 2);
    /// Forgets all choices before it. Stands in no history.
    pub(super) const FORGET: Self = Self(u32::MAX);

    /// `purpose` is less than [`Choice::PURPOSES`].
    pub(super) fn new(purpose: u32, event: Event) -> Self {
        let event = match event {
            Event::Given => 0,
            Event::Withdrawn => 1,
            Event::Objected => 2,
        };
        Self(purpose << 2 | event)
    }

    /// The choice with times of this number.
    pub(super) fn timed(number: u32) -> Option<Self> {
        Some(Self(TIMED | number)).filter(|choice| number < TIMED && *choice != Self::FORGET)
    }

    /// Its number, if it has times.
    pub(super) fn number(self) -> Option<usize> {
        (self.0 & TIMED != 0 && self != Self::FORGET).then_some((self.0 & !TIMED) as usize)
    }

    /// What waits in the stead of the special choice at `place`, which is less than [`Choice::PURPOSES`].
    pub(super) fn special(place: u32) -> Self {
        Self(place << 2 | SPECIAL)
    }

    /// The place of the special choice that this one waits for.
    pub(super) fn is_special(self) -> Option<usize> {
        (self.0 & TIMED == 0 && self.0 & 3 == SPECIAL).then_some((self.0 >> 2) as usize)
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) fn purpose(self) -> usize {
        (self.0 >> 2) as usize
    }

    pub(super) fn event(self) -> Event {
        match self.0 & 3 {
            0 => Event::Given,
            1 => Event::Withdrawn,
            _ => Event::Objected,
        }
    }
}

/// A choice with times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Timed {
    pub(super) purpose: u32,
    pub(super) event: Event,
    pub(super) term: Term,
}

/// Makes `choice` the last of `history`, in which each stands at most once.
pub(super) fn append(history: &mut Vec<Choice>, choice: Choice) {
    if choice == Choice::FORGET {
        history.clear();
        return;
    }
    history.retain(|earlier| *earlier != choice);
    history.push(choice);
}

/// The number of a history. 0 is the empty one.
pub(super) type Number = u32;

/// The histories, by number. Only ever added to.
#[derive(Clone, Default)]
pub(super) struct Texts {
    choices: Vec<Choice>,
    /// Where each history ends, without the empty one.
    ends: Vec<u32>,
}

impl Texts {
    /// The history of that number.
    pub(super) fn get(&self, number: Number) -> &[Choice] {
        let end = |number: u32| number.checked_sub(1).map_or(Some(0), |at| self.ends.get(at as usize).copied());
        let range = number.checked_sub(1).and_then(|before| Some(end(before)? as usize..end(number)? as usize));
        range.and_then(|range| self.choices.get(range)).unwrap_or_default()
    }

    /// How many there are, the empty one among them.
    pub(super) fn len(&self) -> usize {
        self.ends.len() + 1
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Choice>() * self.choices.capacity() + size_of::<u32>() * self.ends.capacity()
    }

    fn push(&mut self, history: &[Choice]) -> Result<Number, LedgerError> {
        let full = |_| LedgerError::Full("different histories of choices");
        let number = u32::try_from(self.len()).map_err(full)?;
        let end = u32::try_from(self.choices.len() + history.len()).map_err(full)?;
        self.choices.extend_from_slice(history);
        self.ends.push(end);
        Ok(number)
    }
}

/// The most steps from one history to the next that are remembered.
const STEPS: usize = 1 << 16;

/// Histories and their numbers.
#[derive(Default)]
pub(super) struct Histories {
    texts: Arc<Texts>,
    numbers: HashMap<Box<[Choice]>, Number>,
    steps: HashMap<(Number, Choice), Number>,
    scratch: Vec<Choice>,
}

impl Histories {
    pub(super) fn texts(&self) -> &Arc<Texts> {
        &self.texts
    }

    pub(super) fn get(&self, number: Number) -> &[Choice] {
        self.texts.get(number)
    }

    /// The number of `history`.
    pub(super) fn number(&mut self, history: &[Choice]) -> Result<Number, LedgerError> {
        if history.is_empty() {
            return Ok(0);
        }
        if let Some(number) = self.numbers.get(history) {
            return Ok(*number);
        }
        let number = Arc::make_mut(&mut self.texts).push(history)?;
        self.numbers.insert(history.into(), number);
        Ok(number)
    }

    /// The number of the history of `number`, after one more choice.
    pub(super) fn after(&mut self, number: Number, choice: Choice) -> Result<Number, LedgerError> {
        if self.get(number).last() == Some(&choice) {
            return Ok(number);
        }
        if let Some(next) = self.steps.get(&(number, choice)) {
            return Ok(*next);
        }
        let mut history = std::mem::take(&mut self.scratch);
        history.clear();
        history.extend_from_slice(self.get(number));
        append(&mut history, choice);
        let next = self.number(&history);
        self.scratch = history;
        if self.steps.len() >= STEPS {
            self.steps.clear();
        }
        let next = next?;
        self.steps.insert((number, choice), next);
        Ok(next)
    }
}
