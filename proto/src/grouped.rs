//! Groups in the place of rows: what a node sends where an order asks for groups, and what a gateway makes itself of the rows of a node
//! that makes none. No pseudonym is among it.
//!
//! | field | type |
//! |---|---|
//! | `<column>.key`, of each key in order | as on the wire ([`crate::schema`]), nullable |
//! | `subjects`, `rows` | `Int64`, not null: distinct subjects of the group's rows; its rows |
//! | `rows.spread` | `FixedSizeBinary(72)`, not null: how the rows are spread over the subjects ([`concordat_protect::Spread::to_bytes`]) |
//! | `<column>.values`, `<column>.contributors`, of each value in order | `Int64`, not null: rows that have one; distinct subjects who have |
//! | `<column>.values.spread` | `FixedSizeBinary(72)`, not null: how those rows are spread over these subjects |
//! | `<column>.sum`, `<column>.number_sum`, where it is asked for | `Int64` or `Float64`, null where there is no value |
//! | `<column>.sum.spread`, `<column>.number_sum.spread` | `FixedSizeBinary(72)`, not null: how the sum is spread over the contributors |
//!
//! The groups of a partition are of its subjects only. One group may come in several parts, whose subjects are others: parts add up.
//! Within a part a subject is counted once, with all that it has in the group; so it is in no other.

mod check;
mod codes;
mod grouping;
mod groups;
mod sums;
#[cfg(test)]
mod tests;

use concordat_policy::{ColumnRule, ColumnType};

pub use check::Check;
pub use grouping::Grouping;
pub use groups::Groups;

/// The most keys.
pub const MAX_KEYS: usize = 16;
/// The most values.
pub const MAX_VALUES: usize = 64;
/// The most groups that keys may have by their published values. Beyond, groups may be more than rows.
const MAX_GROUPS: usize = 4_096;
/// How many more than those that are held a single subject may be in: it is not divided between parts.
const MOST_OF_ONE: usize = 1 << 13;

/// The field of a group's distinct subjects.
pub const SUBJECTS: &str = "subjects";
/// The field of a group's rows.
pub const ROWS: &str = "rows";

/// The field of a key.
#[must_use]
pub fn key(column: &str) -> String {
    format!("{column}.key")
}

/// The field of how many rows have a value.
#[must_use]
pub fn values(column: &str) -> String {
    format!("{column}.values")
}

/// The field of how many subjects have one.
#[must_use]
pub fn contributors(column: &str) -> String {
    format!("{column}.contributors")
}

/// The field of what the values add up to, in their own type or as numbers.
#[must_use]
pub fn sum(column: &str, as_number: bool) -> String {
    format!("{column}.{}", if as_number { "number_sum" } else { "sum" })
}

/// The field of how what stands in `field` is spread over its contributors: of [`ROWS`], [`values`] and [`sum`].
#[must_use]
pub fn spread(field: &str) -> String {
    format!("{field}.spread")
}

/// Whether rows may be grouped by columns of these rules: they cross the wire, and their published values have few combinations.
#[must_use]
pub fn few<'r>(rules: impl IntoIterator<Item = &'r ColumnRule>) -> bool {
    let mut groups = 1_usize;
    rules.into_iter().all(|rule| {
        let published = match rule.kind {
            ColumnType::Boolean => Some(2),
            ColumnType::Number => None,
            _ => rule.values.as_ref().map(Vec::len),
        };
        let all = published.and_then(|published| groups.checked_mul(1 + published)).filter(|all| *all <= MAX_GROUPS);
        groups = all.unwrap_or(groups);
        all.is_some() && rule.crosses_the_wire()
    })
}

/// Why rows cannot be grouped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// What numbers add up to is none.
    #[error("the values of column '{0}' add up to more than a number holds")]
    TooLarge(String),
    /// One subject is in more groups than are held.
    #[error("one subject has rows in more than {MOST_OF_ONE} groups")]
    TooMany,
    /// Rows that lack a column, or have it in another type.
    #[error("rows to be grouped that are of another schema")]
    Schema,
}

impl GroupError {
    /// What whoever asked can do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "leave its sum and mean out, or narrow the rows by a condition",
            Self::TooMany => "group by fewer columns",
            Self::Schema => "tell the operator: the two programs read the contract differently",
        }
    }
}
