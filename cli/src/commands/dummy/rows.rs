//! The rows: from columns as the catalogue tells them, a number and a seed. Nothing else goes in, so no row tells of anybody.
//!
//! Deterministic on every machine. A column's values depend on its own name only: another column beside it changes nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryBuilder, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::error::ArrowError;
use chrono::{Days, NaiveDate};

use crate::failure::{Failure, Result};
use crate::sample::draw::{Draw, Topic};

/// What every made-up pseudonym and text begins with.
const MARK: &str = "dummy";
/// The share of values that are null where a column may have such.
const NULLS: f64 = 0.02;
/// The share of rows whose numbers are withheld.
const WITHHELD: f64 = 0.05;
/// Days from 1990 to 2024.
const DAYS: u64 = 12_784;

/// A column to be filled.
pub(super) struct Wanted {
    /// Its name and type.
    pub(super) field: FieldRef,
    /// With what.
    pub(super) values: Values,
}

/// What a column is filled with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Pseudonyms of a pool that all columns with this name of a pool share: dummies made with one number and one seed join.
    Subjects(String),
    /// Codes, each as likely as the others.
    Listed(Vec<String>),
    /// Codes of a key: of all such columns together, every combination once, in order.
    Key(Vec<String>),
    /// Anything that its type has.
    Any,
    /// Why the numbers of a row are withheld.
    Withheld,
}

/// Rows of `of`: `count`, or as many as its keys have combinations if that is fewer.
pub(super) fn rows(of: &str, wanted: &[Wanted], count: usize, seed: u64) -> Result<RecordBatch> {
    let failed = |e: ArrowError| Failure::new(format!("the dummy rows of '{of}' cannot be made: {e}"));
    let count = combinations(wanted).map_or(count, |keys| count.min(keys));
    let making = Making { of, count, seed, withheld: withheld(of, wanted, count, seed) };
    let columns = wanted.iter().enumerate().map(|(at, one)| making.column(one, wanted, at));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
    let schema = Schema::new(wanted.iter().map(|wanted| Arc::clone(&wanted.field)).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(failed)
}

/// How many combinations of keys there are, if there is a key.
fn combinations(wanted: &[Wanted]) -> Option<usize> {
    let lists = wanted.iter().filter_map(|wanted| if let Values::Key(list) = &wanted.values { Some(list.len()) } else { None });
    lists.reduce(usize::saturating_mul)
}

/// Which rows are withheld: none where no column says why.
fn withheld(of: &str, wanted: &[Wanted], count: usize, seed: u64) -> Vec<bool> {
    let Some(says) = wanted.iter().find(|wanted| wanted.values == Values::Withheld) else { return Vec::new() };
    let mut draw = stream(of, says.field.name(), seed);
    (0..count).map(|_| draw.chance(WITHHELD)).collect()
}

/// The draws of one column.
fn stream(of: &str, column: &str, seed: u64) -> Draw {
    Draw::of(seed, 0, Topic::Dummy, mark(&format!("{of}.{column}")))
}

/// A number for a text (FNV-1a).
fn mark(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Making<'a> {
    of: &'a str,
    count: usize,
    seed: u64,
    withheld: Vec<bool>,
}

impl Making<'_> {
    /// The column `this`, which stands at `at` among `all`.
    fn column(&self, this: &Wanted, all: &[Wanted], at: usize) -> std::result::Result<ArrayRef, ArrowError> {
        let Wanted { field, values } = this;
        let mut draw = stream(self.of, field.name(), self.seed);
        if let DataType::FixedSizeBinary(width) = field.data_type() {
            return self.bytes(&mut draw, *width);
        }
        let texts: StringArray = match values {
            Values::Subjects(pool) => (0..self.count).map(|_| Some(self.subject(pool, &mut draw))).collect(),
            Values::Key(list) => {
                // The last key changes with every row.
                let each = combinations(all.get(at.saturating_add(1)..).unwrap_or_default()).unwrap_or(1);
                (0..self.count).map(|row| list.get(row.checked_div(each)?.checked_rem(list.len())?).cloned()).collect()
            }
            Values::Withheld => {
                let masked: Vec<&str> = all.iter().filter(|one| self.masks(one)).map(|one| one.field.name().as_str()).collect();
                let why = format!("{}: {MARK}, as if too few people stood behind it", masked.join(", "));
                (0..self.count).map(|row| self.is_withheld(row).then(|| why.clone())).collect()
            }
            Values::Listed(_) | Values::Any => {
                let masked = self.masks(this);
                let listed = if let Values::Listed(list) = values { list.as_slice() } else { &[] };
                let value = |row| {
                    // Drawn for every row, so that what is withheld shifts nothing.
                    let (null, value) = (draw.chance(NULLS) && field.is_nullable(), one(&mut draw, listed, field.data_type()));
                    let hidden = null || (masked && self.is_withheld(row));
                    value.filter(|_| !hidden)
                };
                (0..self.count).map(value).collect()
            }
        };
        cast(&texts, field.data_type())
    }

    /// A pseudonym of one of as many subjects as there are rows: some have several rows, some have none.
    fn subject(&self, pool: &str, draw: &mut Draw) -> String {
        let mut own = Draw::of(self.seed, draw.below(self.count as u64), Topic::Dummy, mark(pool));
        format!("{MARK}-{:016x}{:016x}", own.below(u64::MAX), own.below(u64::MAX))
    }

    /// Pseudonyms as answers carry them: they begin with the mark, in ASCII.
    fn bytes(&self, draw: &mut Draw, width: i32) -> std::result::Result<ArrayRef, ArrowError> {
        let mut builder = FixedSizeBinaryBuilder::with_capacity(self.count, width);
        let width = usize::try_from(width).unwrap_or(0);
        for _ in 0..self.count {
            let drawn = [draw.below(u64::MAX), draw.below(u64::MAX)].map(u64::to_be_bytes);
            let bytes: Vec<u8> = MARK.bytes().chain(drawn.as_flattened().iter().copied().cycle()).take(width).collect();
            builder.append_value(&bytes)?;
        }
        Ok(Arc::new(builder.finish()))
    }

    fn is_withheld(&self, row: usize) -> bool {
        self.withheld.get(row).is_some_and(|withheld| *withheld)
    }

    /// Whether a column's numbers are null in rows that are withheld.
    fn masks(&self, wanted: &Wanted) -> bool {
        !self.withheld.is_empty() && wanted.values == Values::Any && wanted.field.is_nullable() && wanted.field.data_type().is_numeric()
    }
}

/// One value as text: of the list, or anything of the type; none where nothing is known of the type.
fn one(draw: &mut Draw, listed: &[String], kind: &DataType) -> Option<String> {
    if !listed.is_empty() {
        return listed.get(usize::try_from(draw.below(listed.len() as u64)).ok()?).cloned();
    }
    Some(match kind {
        DataType::Boolean => (draw.below(2) == 1).to_string(),
        kind if kind.is_integer() => draw.below(101).to_string(),
        kind if kind.is_numeric() => format!("{}.{:02}", draw.below(100), draw.below(100)),
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            NaiveDate::from_ymd_opt(1990, 1, 1)?.checked_add_days(Days::new(draw.below(DAYS)))?.to_string()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => format!("{MARK} {}", draw.below(100)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::{Date32Type, Field, Float64Type, Int64Type};
    use std::collections::BTreeSet;

    fn wanted(name: &str, kind: DataType, values: Values) -> Wanted {
        let nullable = !matches!(values, Values::Subjects(_));
        Wanted { field: Arc::new(Field::new(name, kind, nullable)), values }
    }

    fn list(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    fn dataset() -> Vec<Wanted> {
        vec![
            wanted("subject", DataType::Utf8, Values::Subjects("nino".into())),
            wanted("region", DataType::Utf8, Values::Listed(list(&["N", "S, E", ""]))),
            wanted("year", DataType::Int64, Values::Listed(list(&["2023", "2024"]))),
            wanted("score", DataType::Float64, Values::Any),
            wanted("claims", DataType::Int64, Values::Any),
            wanted("open", DataType::Boolean, Values::Any),
            wanted("born", DataType::Date32, Values::Any),
            wanted("note", DataType::Utf8, Values::Any),
        ]
    }

    #[test]
    fn rows_have_the_types_and_codes_of_their_columns() {
        let batch = rows("dfe.pupils", &dataset(), 1000, 7).unwrap();
        assert_eq!(batch.num_rows(), 1000);
        let subjects: BTreeSet<_> = batch["subject"].as_string::<i32>().iter().flatten().collect();
        assert!(subjects.iter().all(|subject| subject.starts_with("dummy-") && subject.len() == 38));
        assert!((500..1000).contains(&subjects.len()), "some have several rows: {}", subjects.len());
        let regions: BTreeSet<_> = batch["region"].as_string::<i32>().iter().flatten().collect();
        assert_eq!(regions, BTreeSet::from(["N", "S, E", ""]));
        let years: BTreeSet<i64> = batch["year"].as_primitive::<Int64Type>().iter().flatten().collect();
        assert_eq!(years, BTreeSet::from([2023, 2024]));
        assert!(batch["score"].as_primitive::<Float64Type>().iter().flatten().all(|score| (0.0..100.0).contains(&score)));
        assert!(batch["claims"].as_primitive::<Int64Type>().iter().flatten().all(|claims| (0..=100).contains(&claims)));
        assert!(batch["born"].as_primitive::<Date32Type>().iter().flatten().all(|day| (7305..20_089).contains(&day)));
        assert!(batch["note"].as_string::<i32>().iter().flatten().all(|note| note.starts_with("dummy ")));
        for column in batch.columns().iter().skip(1) {
            assert!((1..100).contains(&column.null_count()), "{}", column.null_count());
        }
    }

    #[test]
    fn one_seed_makes_the_same_rows_and_another_makes_others() {
        let made = |seed| rows("dfe.pupils", &dataset(), 200, seed).unwrap();
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        let fewer: Vec<Wanted> = dataset().into_iter().skip(3).take(1).collect();
        let (alone, among) = (rows("dfe.pupils", &fewer, 200, 1).unwrap(), made(1));
        let scores = |batch: &RecordBatch| batch["score"].as_primitive::<Float64Type>().clone();
        assert_eq!(scores(&alone), scores(&among), "a column stands for itself");
    }

    #[test]
    fn dummies_of_one_identifier_join_and_those_of_two_do_not() {
        let subjects = |of: &str, pool: &str| {
            let wanted = [wanted("subject", DataType::Utf8, Values::Subjects(pool.into()))];
            let batch = rows(of, &wanted, 500, 1).unwrap();
            batch["subject"].as_string::<i32>().iter().flatten().map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let (pupils, claims, homes) = (subjects("dfe.pupils", "nino"), subjects("dwp.claims", "nino"), subjects("x.homes", "uprn"));
        assert!(pupils.intersection(&claims).count() > 100 && pupils != claims);
        assert_eq!(pupils.intersection(&homes).count(), 0);
    }

    #[test]
    fn keys_have_every_combination_once_and_some_rows_are_withheld() {
        let keys = list(&["a", "b", "c"]);
        let years: Vec<String> = (0..100).map(|year| year.to_string()).collect();
        let view = || {
            vec![
                wanted("region", DataType::Utf8, Values::Key(keys.clone())),
                wanted("persons", DataType::Int64, Values::Any),
                wanted("year", DataType::Int64, Values::Key(years.clone())),
                wanted("id", DataType::FixedSizeBinary(16), Values::Any),
                wanted("withheld", DataType::Utf8, Values::Withheld),
            ]
        };
        let batch = rows("views.v", &view(), 1000, 3).unwrap();
        assert_eq!(batch.num_rows(), 300);
        let (regions, years) = (batch["region"].as_string::<i32>(), batch["year"].as_primitive::<Int64Type>());
        let pairs: Vec<(&str, i64)> = regions.iter().flatten().zip(years.iter().flatten()).collect();
        assert!(pairs.len() == 300 && pairs.is_sorted() && pairs.iter().collect::<BTreeSet<_>>().len() == 300);
        let (persons, why) = (batch["persons"].as_primitive::<Int64Type>(), batch["withheld"].as_string::<i32>());
        assert!((1..100).contains(&(300 - why.null_count())));
        for (row, why) in why.iter().enumerate() {
            assert!(why.is_none_or(|why| why.starts_with("persons: dummy") && persons.is_null(row)), "{why:?}");
        }
        assert!(batch["id"].as_fixed_size_binary().iter().flatten().all(|id| id.starts_with(b"dummy")));
        assert_eq!(rows("views.v", &view(), 10, 3).unwrap().num_rows(), 10);
        assert_eq!(rows("views.v", &view()[1..2], 1000, 3).unwrap().num_rows(), 1000, "without a key, as many as are wanted");
    }
}
