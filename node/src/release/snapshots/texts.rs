//! The different values of a column of text, as long as they are few.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use concordat_policy::Refusal;

/// The most values, and the most bytes of them, that a snapshot keeps in memory for a column.
const MOST: usize = 1 << 16;
const MOST_BYTES: usize = 1 << 22;

/// The values, while they are met.
#[derive(Default)]
pub(super) struct Meeting {
    numbers: HashMap<Box<str>, i32>,
    bytes: usize,
    /// They are too many: from here on text stays text.
    over: bool,
}

impl Meeting {
    /// The numbers of a batch's values; the values themselves once there are too many.
    pub(super) fn take(&mut self, column: &ArrayRef) -> Result<ArrayRef, Refusal> {
        let texts: &StringArray = column.as_string_opt().ok_or_else(|| Refusal::internal("a column of text that is none"))?;
        let mut numbers = Vec::with_capacity(texts.len());
        for text in texts {
            numbers.push(match text {
                None => None,
                Some(text) => match self.number(text) {
                    None => return Ok(Arc::clone(column)),
                    number => number,
                },
            });
        }
        Ok(Arc::new(Int32Array::from(numbers)))
    }

    fn number(&mut self, text: &str) -> Option<i32> {
        if let Some(number) = self.numbers.get(text) {
            return Some(*number).filter(|_| !self.over);
        }
        self.bytes += text.len();
        self.over |= self.numbers.len() >= MOST || self.bytes > MOST_BYTES;
        let number = i32::try_from(self.numbers.len()).ok().filter(|_| !self.over)?;
        self.numbers.insert(text.into(), number);
        Some(number)
    }

    pub(super) fn done(self) -> Texts {
        let mut met: Vec<(Box<str>, i32)> = self.numbers.into_iter().collect();
        met.sort_unstable();
        let mut places = vec![0; met.len()];
        for (place, (_, number)) in (0i32..).zip(&met) {
            if let Some(slot) = usize::try_from(*number).ok().and_then(|number| places.get_mut(number)) {
                *slot = place;
            }
        }
        let values = Arc::new(StringArray::from_iter_values(met.iter().map(|(text, _)| text)));
        Texts { values, places, over: self.over }
    }
}

/// The values in alphabetical order: that in which rows brought them, also rows that nobody may see, is not told.
pub(super) struct Texts {
    values: ArrayRef,
    // By the number under which a value was met.
    places: Vec<i32>,
    over: bool,
}

impl Texts {
    /// What [`Meeting::take`] was given: a dictionary that all batches share, or plain text where values were too many.
    pub(super) fn give(&self, column: &ArrayRef) -> Result<ArrayRef, Refusal> {
        let Some(numbers) = column.as_primitive_opt::<Int32Type>() else { return Ok(Arc::clone(column)) };
        let keys: Int32Array =
            numbers.unary(|number| usize::try_from(number).ok().and_then(|number| self.places.get(number)).copied().unwrap_or(0));
        let texts = DictionaryArray::try_new(keys, Arc::clone(&self.values)).map_err(Refusal::internal)?;
        if self.over {
            let values = self.values.as_string_opt::<i32>().ok_or_else(|| Refusal::internal("values that are no text"))?;
            let text = |key: Option<i32>| key.and_then(|key| usize::try_from(key).ok()).map(|key| values.value(key));
            return Ok(Arc::new(texts.keys().iter().map(text).collect::<StringArray>()));
        }
        Ok(Arc::new(texts))
    }

    /// Whether batches share one dictionary.
    pub(super) fn are_few(&self) -> bool {
        !self.over
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.get_array_memory_size() + size_of_val(self.places.as_slice())
    }
}
