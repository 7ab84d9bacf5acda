//! What the values of a column look like, from a sample of rows: counts only, no value is kept.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use chrono::NaiveDate;
use concordat_policy::IdentifierType;
use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use futures::StreamExt as _;

use super::table::{InspectError, Table};
use crate::source::kind;

/// How many rows are looked at.
pub(super) const SAMPLE: usize = 100_000;

/// The identifier types that values are compared with.
pub(super) static TYPES: [(&str, IdentifierType); 5] = [
    ("nino", IdentifierType::Nino),
    ("nhs_number", IdentifierType::NhsNumber),
    ("upn", IdentifierType::Upn),
    ("uprn", IdentifierType::Uprn),
    ("company_number", IdentifierType::CompanyNumber),
];

/// A test of one value.
type Look = fn(&str) -> bool;

/// One column's sample.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// Values that are there.
    pub(super) filled: u64,
    /// How many are valid, for each of [`TYPES`].
    pub(super) valid: [u64; 5],
    pub(super) emails: u64,
    pub(super) postcodes: u64,
    pub(super) telephones: u64,
    /// `31/12/2008` and the like.
    pub(super) other_dates: u64,
    /// ICD-10 codes with their dot, as `F32.1`.
    pub(super) diagnoses: u64,
    /// Sentences.
    pub(super) prose: u64,
    /// Whole numbers that begin with a zero, which a number loses.
    pub(super) leading_zeros: u64,
    distinct: HashSet<u64>,
    hasher: RandomState,
}

impl Profile {
    /// Takes one value.
    pub(super) fn take(&mut self, value: &str, scratch: &mut String) {
        let text = value.trim();
        if text.is_empty() {
            return;
        }
        self.filled += 1;
        self.distinct.insert(self.hasher.hash_one(text));
        for (count, (_, kind)) in self.valid.iter_mut().zip(&TYPES) {
            *count += u64::from(kind.normalise(text, scratch));
        }
        let looks: [(&mut u64, Look); 7] = [
            (&mut self.emails, email),
            (&mut self.postcodes, postcode),
            (&mut self.telephones, telephone),
            (&mut self.other_dates, other_date),
            (&mut self.diagnoses, diagnosis),
            (&mut self.prose, prose),
            (&mut self.leading_zeros, |text| text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())),
        ];
        for (count, test) in looks {
            *count += u64::from(test(text));
        }
    }

    /// Which share of the values `count` is.
    pub(super) fn share(&self, count: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a sample has fewer rows than a float counts exactly")]
        if self.filled == 0 { 0.0 } else { count as f64 / self.filled as f64 }
    }

    /// Which share of the values is of its own; a hash stands for each, so that two in 2^64 might be taken for one.
    pub(super) fn distinct(&self) -> u64 {
        self.distinct.len() as u64
    }
}

/// Profiles of every column, in order, and how many rows were looked at.
pub(super) async fn study(table: &Table) -> Result<(Vec<Profile>, usize), InspectError> {
    let failed =
        |cause: String| InspectError::new(&table.place, cause, "look whether the node's user may read it, and whether it is whole");
    let mut profiles: Vec<Profile> = table.columns.iter().map(|_| Profile::default()).collect();
    let mut stream = (table.rows)().await.map_err(|e| failed(e.to_string()))?;
    let (mut rows, mut scratch) = (0, String::new());
    while rows < SAMPLE
        && let Some(batch) = stream.next().await
    {
        let batch = batch.map_err(|e| failed(format!("cannot be read: {}", kind(&e))))?;
        let batch = batch.slice(0, batch.num_rows().min(SAMPLE - rows));
        rows += batch.num_rows();
        for (profile, column) in profiles.iter_mut().zip(&table.columns) {
            // What cannot be read or has no form as text is not offered either.
            let texts = batch.column_by_name(&column.name).and_then(|array| cast(array, &DataType::Utf8).ok());
            let Some(texts) = texts else { continue };
            texts.as_string::<i32>().iter().flatten().for_each(|text| profile.take(text, &mut scratch));
        }
    }
    Ok((profiles, rows))
}

/// Whether a text would rather stand in a row than at a column's head.
pub(super) fn looks_like_data(text: &str) -> bool {
    let (text, mut scratch) = (text.trim(), String::new());
    let identifier = TYPES.iter().any(|(_, kind)| kind.normalise(text, &mut scratch));
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
    identifier
        || date
        || email(text)
        || postcode(text)
        || telephone(text)
        || other_date(text)
        || text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn email(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains('@') && !text.contains(char::is_whitespace))
}

/// A whole postcode of the United Kingdom.
fn postcode(text: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    let Some((area, unit)) = plain.len().checked_sub(3).and_then(|at| plain.split_at_checked(at)) else { return false };
    let inward = matches!(unit, [digit, a, b] if digit.is_ascii_digit() && a.is_ascii_alphabetic() && b.is_ascii_alphabetic());
    let outward = (2..=4).contains(&area.len())
        && area.first().is_some_and(u8::is_ascii_alphabetic)
        && area.iter().any(u8::is_ascii_digit)
        && area.iter().all(u8::is_ascii_alphanumeric);
    inward && outward
}

fn telephone(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (text.starts_with('0') || text.starts_with('+'))
        && (10..=15).contains(&digits)
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b' ' | b'-' | b'(' | b')' | b'+'))
}

fn other_date(text: &str) -> bool {
    ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y"].iter().any(|form| NaiveDate::parse_from_str(text, form).is_ok())
}

fn diagnosis(text: &str) -> bool {
    let [letter, a, b, b'.', rest @ ..] = text.as_bytes() else { return false };
    letter.is_ascii_uppercase()
        && a.is_ascii_digit()
        && b.is_ascii_alphanumeric()
        && (1..=4).contains(&rest.len())
        && rest.iter().all(u8::is_ascii_alphanumeric)
}

fn prose(text: &str) -> bool {
    text.len() > 80 || text.split_whitespace().count() > 6
}
