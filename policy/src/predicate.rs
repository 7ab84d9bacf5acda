//! The typed predicate of a release order: small enough that a department's security officer can read it.
//!
//! SQL's three-valued logic: a comparison with null is unknown, and a row is released only where the predicate is true.

use std::collections::BTreeSet;
use std::fmt;

use chrono::NaiveDate;

/// A literal of a predicate. `Debug` hides it: literals can be identifiers.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Text, compared by bytes.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A floating-point number; never NaN.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// A calendar day.
    Date(NaiveDate),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "integer",
            Self::Number(_) => "number",
            Self::Boolean(_) => "boolean",
            Self::Date(_) => "date",
        })
    }
}

/// A comparison of a column with a literal, the column on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A condition on one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// `column op value`.
    Compare {
        /// The column.
        column: String,
        /// The comparison.
        comparison: Comparison,
        /// The literal.
        value: Value,
    },
    /// `column IN (values)`; at most [`MAX_LIST`] of them.
    In {
        /// The column.
        column: String,
        /// The literals.
        values: Vec<Value>,
    },
    /// `column IS NULL`.
    IsNull {
        /// The column.
        column: String,
    },
    /// A boolean column that is true.
    IsTrue {
        /// The column.
        column: String,
    },
    /// All hold; true when empty.
    And(Vec<Predicate>),
    /// One holds; false when empty.
    Or(Vec<Predicate>),
    /// Does not hold; unknown stays unknown.
    Not(Box<Predicate>),
}

/// The most literals in one list.
pub const MAX_LIST: usize = 256;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 16;
/// The most conditions in one predicate.
pub const MAX_NODES: usize = 512;

impl Predicate {
    /// The columns it reads.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut BTreeSet<&'a str>) {
        match self {
            Self::Compare { column, .. } | Self::In { column, .. } | Self::IsNull { column } | Self::IsTrue { column } => {
                found.insert(column);
            }
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|p| p.collect(found)),
            Self::Not(part) => part.collect(found),
        }
    }
}
