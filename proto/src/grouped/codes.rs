//! Small numbers in the place of keys: 0 for null, then one for each value in the order in which they came.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, Date32Array, DictionaryArray, Int64Array, StringArray};
use arrow::datatypes::{Date32Type, Int32Type, Int64Type};
use concordat_policy::ColumnType;

/// The codes of one key's values.
#[derive(Debug)]
pub(super) enum Codes {
    Texts(Known<Box<str>>),
    Whole(Known<i64>),
    Days(Known<i32>),
    Flags,
}

/// Values, and their codes.
#[derive(Debug)]
pub(super) struct Known<T> {
    codes: HashMap<T, u32>,
    all: Vec<T>,
    bytes: usize,
}

impl<T: Hash + Eq + Clone> Known<T> {
    fn new() -> Self {
        Self { codes: HashMap::new(), all: Vec::new(), bytes: 0 }
    }

    fn code<Q: Hash + Eq + ?Sized>(&mut self, value: &Q, own: impl FnOnce() -> T) -> u32
    where
        T: Borrow<Q>,
    {
        if let Some(code) = self.codes.get(value) {
            return *code;
        }
        let value = own();
        self.bytes += 2 * size_of_val(value.borrow());
        self.all.push(value.clone());
        // Fewer than rows of a part and one batch, which are far fewer than 2^32.
        let code = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.codes.insert(value, code);
        code
    }

    /// The value of a code; `None` for null.
    fn value(&self, code: u32) -> Option<&T> {
        self.all.get((code as usize).checked_sub(1)?)
    }
}

impl Codes {
    pub(super) fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Text => Self::Texts(Known::new()),
            ColumnType::Date => Self::Days(Known::new()),
            ColumnType::Boolean => Self::Flags,
            ColumnType::Integer | ColumnType::Number => Self::Whole(Known::new()),
        }
    }

    /// The codes of a column's values; `None` if it is of another type.
    pub(super) fn of(&mut self, column: &ArrayRef) -> Option<Vec<u32>> {
        Some(match self {
            Self::Texts(known) => match column.as_dictionary_opt::<Int32Type>() {
                Some(texts) => of_dictionary(known, texts)?,
                None => {
                    let texts = column.as_string_opt::<i32>()?;
                    texts.iter().map(|text| text.map_or(0, |text| known.code(text, || text.into()))).collect()
                }
            },
            Self::Whole(known) => {
                let numbers = column.as_primitive_opt::<Int64Type>()?;
                numbers.iter().map(|number| number.map_or(0, |number| known.code(&number, || number))).collect()
            }
            Self::Days(known) => {
                let days = column.as_primitive_opt::<Date32Type>()?;
                days.iter().map(|day| day.map_or(0, |day| known.code(&day, || day))).collect()
            }
            Self::Flags => column.as_boolean_opt()?.iter().map(|flag| flag.map_or(0, |flag| 1 + u32::from(flag))).collect(),
        })
    }

    /// About how many bytes the values take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Texts(known) => known.bytes,
            Self::Whole(known) => known.bytes,
            Self::Days(known) => known.bytes,
            Self::Flags => 0,
        }
    }

    /// How many codes there are.
    fn count(&self) -> usize {
        1 + match self {
            Self::Texts(known) => known.all.len(),
            Self::Whole(known) => known.all.len(),
            Self::Days(known) => known.all.len(),
            Self::Flags => 2,
        }
    }

    /// The values of codes; text is plain.
    pub(super) fn column(&self, codes: impl Iterator<Item = u32>) -> ArrayRef {
        match self {
            Self::Texts(known) => Arc::new(codes.map(|code| known.value(code)).collect::<StringArray>()),
            Self::Whole(known) => Arc::new(codes.map(|code| known.value(code).copied()).collect::<Int64Array>()),
            Self::Days(known) => Arc::new(codes.map(|code| known.value(code).copied()).collect::<Date32Array>()),
            Self::Flags => Arc::new(codes.map(|code| code.checked_sub(1).map(|flag| flag == 1)).collect::<BooleanArray>()),
        }
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Texts(known) => *known = Known::new(),
            Self::Whole(known) => *known = Known::new(),
            Self::Days(known) => *known = Known::new(),
            Self::Flags => {}
        }
    }
}

/// Each value of the dictionary that a row has is looked up once.
fn of_dictionary(known: &mut Known<Box<str>>, texts: &DictionaryArray<Int32Type>) -> Option<Vec<u32>> {
    let values = texts.values().as_string_opt::<i32>()?;
    let mut codes: Vec<Option<u32>> = vec![None; values.len()];
    let mut code = |key: i32| {
        let place = usize::try_from(key).ok()?;
        let text = values.is_valid(place).then(|| values.value(place));
        Some(*codes.get_mut(place)?.get_or_insert_with(|| text.map_or(0, |text| known.code(text, || text.into()))))
    };
    texts.keys().iter().map(|key| key.map_or(Some(0), &mut code)).collect()
}

/// The most combinations of codes that have a place each.
const MOST_PLACES: usize = 1 << 12;

/// The groups of combinations of codes that were met, where there are few combinations.
pub(super) struct Seen {
    steps: Vec<usize>,
    places: Vec<usize>,
}

impl Seen {
    pub(super) fn new(codes: &[Codes]) -> Self {
        let mut steps = Vec::with_capacity(codes.len());
        let mut all = 1_usize;
        for codes in codes {
            steps.push(all);
            all = all.saturating_mul(codes.count());
        }
        Self { steps, places: vec![usize::MAX; if all <= MOST_PLACES { all } else { 0 }] }
    }

    /// Where the combination of a row is noted.
    pub(super) fn at(&self, codes: &[Vec<u32>], row: usize) -> usize {
        if self.places.is_empty() {
            return 0;
        }
        codes.iter().zip(&self.steps).map(|(codes, step)| codes.get(row).map_or(0, |code| *code as usize * step)).sum()
    }

    pub(super) fn place(&self, at: usize) -> Option<usize> {
        self.places.get(at).copied().filter(|place| *place != usize::MAX)
    }

    pub(super) fn note(&mut self, at: usize, group: usize) {
        if let Some(place) = self.places.get_mut(at) {
            *place = group;
        }
    }
}
