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
}

impl<T: Hash + Eq + Clone> Known<T> {
    fn new() -> Self {
        Self { codes: HashMap::new(), all: Vec::new() }
    }

    fn code<Q: Hash + Eq + ?Sized>(&mut self, value: &Q, own: impl FnOnce() -> T) -> u32
    where
        T: Borrow<Q>,
    {
        if let Some(code) = self.codes.get(value) {
            return *code;
        }
        let value = own();
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

    /// How many bytes the value of a code takes.
    pub(super) fn bytes(&self, code: u32) -> usize {
        match self {
            Self::Texts(known) => known.value(code).map_or(0, |text| text.len()),
            Self::Whole(_) => size_of::<i64>(),
            Self::Days(_) => size_of::<i32>(),
            Self::Flags => 1,
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
    let mut met: Vec<Option<u32>> = vec![None; values.len()];
    let mut codes = Vec::with_capacity(texts.keys().len());
    for key in texts.keys() {
        let Some(place) = key else {
            codes.push(0);
            continue;
        };
        let place = usize::try_from(place).ok()?;
        let met = met.get_mut(place)?;
        codes.push(match *met {
            Some(code) => code,
            None => {
                let code = if values.is_valid(place) { known.code(values.value(place), || values.value(place).into()) } else { 0 };
                *met.insert(code)
            }
        });
    }
    Some(codes)
}

/// The most combinations of codes that have a place each.
const MOST_PLACES: usize = 1 << 12;

/// The groups of combinations of codes that were met in a batch, where there are few combinations.
pub(super) struct Seen {
    /// The combination of each row; nothing where there are many.
    rows: Vec<u32>,
    places: Vec<usize>,
}

impl Seen {
    /// None yet, of rows whose keys have `of_rows`, each one of `codes`.
    pub(super) fn new(codes: &[Codes], of_rows: &[Vec<u32>]) -> Self {
        let all = codes.iter().fold(1_usize, |all, codes| all.saturating_mul(codes.count()));
        if all > MOST_PLACES {
            return Self { rows: Vec::new(), places: Vec::new() };
        }
        let mut rows = vec![0; of_rows.first().map_or(0, Vec::len)];
        for (codes, of_rows) in codes.iter().zip(of_rows) {
            // Below the number of combinations, whatever the row.
            let count = u32::try_from(codes.count()).unwrap_or(u32::MAX);
            rows.iter_mut().zip(of_rows).for_each(|(row, code)| *row = *row * count + code);
        }
        Self { rows, places: vec![usize::MAX; all] }
    }

    /// Of rows that have no key, the combination is the first.
    fn at(&self, row: usize) -> usize {
        self.rows.get(row).map_or(0, |at| *at as usize)
    }

    /// The group of a row.
    pub(super) fn place(&self, row: usize) -> Option<usize> {
        self.places.get(self.at(row)).copied().filter(|place| *place != usize::MAX)
    }

    pub(super) fn note(&mut self, row: usize, group: usize) {
        let at = self.at(row);
        if let Some(place) = self.places.get_mut(at) {
            *place = group;
        }
    }
}
