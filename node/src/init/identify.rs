//! Which column identifies the subject, and by which type of identifier: proposed where only one answer fits.

use super::classify::words;
use super::profile::{Profile, TYPES};
use super::table::Table;

/// Types whose form is so narrow that values alone can tell: NINO, NHS number, UPN, as they stand in [`TYPES`].
const NARROW: usize = 3;
/// The share of valid values from which a column is a candidate.
const CANDIDATE: f64 = 0.5;
/// The share from which a single candidate is proposed.
const PROPOSED: f64 = 0.8;

/// One possible answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// The column's name in the source.
    pub(super) column: String,
    /// The identifier's type.
    pub(super) kind: &'static str,
    /// How many of a hundred values in the sample are valid.
    pub(super) percent: u64,
    /// Whether form or name speak for it; else any whole number would do.
    pub(super) supported: bool,
}

/// The answers that are possible, the likeliest first, and whether the first is the only one to propose.
pub(super) fn candidates(table: &Table, profiles: &[Profile]) -> (Vec<Candidate>, bool) {
    let mut found: Vec<(Candidate, f64)> = Vec::new();
    for (column, profile) in table.columns.iter().zip(profiles) {
        let words = words(&column.name);
        let of_column = TYPES.iter().zip(profile.valid).enumerate().filter_map(|(index, ((kind, _), valid))| {
            let (share, named) = (profile.share(valid), names(&words, kind));
            let supported = index < NARROW || named;
            // A number that stands in many rows is no key.
            let key = profile.filled >= 20 && profile.share(profile.distinct()) > 0.9;
            let possible = share >= CANDIDATE && (supported || key);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share lies between 0 and 1")]
            let percent = (share * 100.0).floor() as u64;
            possible.then(|| (Candidate { column: column.name.clone(), kind, percent, supported }, share))
        });
        let mut of_column: Vec<_> = of_column.collect();
        // What the narrow types say of a column excludes the wide ones.
        if of_column.iter().any(|(candidate, _)| candidate.supported) {
            of_column.retain(|(candidate, _)| candidate.supported);
        }
        found.extend(of_column);
    }
    found.sort_by(|(a, x), (b, y)| b.supported.cmp(&a.supported).then(y.total_cmp(x)));
    let supported = found.iter().filter(|(candidate, _)| candidate.supported).count();
    let clear = supported == 1 && found.first().is_some_and(|(_, share)| *share >= PROPOSED);
    (found.into_iter().map(|(candidate, _)| candidate).collect(), clear)
}

/// Whether a column's name speaks for a type.
fn names(words: &[String], kind: &str) -> bool {
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    match kind {
        "nino" => has("nino") || (has("ni") && (has("number") || has("no"))) || has("insurance"),
        "nhs_number" => has("nhs"),
        "uprn" => has("uprn") || (has("property") && (has("reference") || has("ref") || has("number"))),
        "company_number" => has("crn") || ((has("company") || has("companies")) && (has("number") || has("no") || has("registration"))),
        other => has(other),
    }
}
