//! A pivot: an output that was stopped or changed, with the evidence as it stood when that was decided.
//!
//! What was known then is kept with what was decided, so that nobody has to remember either: the numbers of the snapshots that were looked
//! at, what a comparison said of them, and how far the history went ([`Head`]), which the store adds itself. A pivot is never changed; what
//! turned out wrong is the matter of another one.

use chrono::{DateTime, NaiveDate, Utc};
use concordat_policy::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{Head, StoreError};

/// A pivot as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pivot {
    /// Its number among pivots, from 1.
    pub number: u64,
    /// What was decided.
    #[serde(flatten)]
    pub decided: Decided,
    /// How far the history of snapshots went.
    pub history: Head,
    /// The digest of the pivot before it, or of their beginning.
    pub previous: String,
    /// The digest of everything in it and before it: 64 hexadecimal digits.
    pub digest: String,
}

/// What was decided, by whom and on what evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The mission.
    pub mission: Name,
    /// The output.
    pub output: Name,
    /// What became of it.
    pub what: What,
    /// From which day on.
    pub on: NaiveDate,
    /// When that was recorded.
    pub recorded_at: DateTime<Utc>,
    /// The organisation that decided, by its own word: nobody's signature is on it.
    pub by: String,
    /// Why.
    pub because: String,
    /// The numbers of the snapshots that were looked at.
    pub snapshots: Vec<u64>,
    /// What a comparison said of them ([`crate::compare::Comparison`]), or why it was refused; null where none was made.
    pub comparison: Value,
}

/// What became of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was stopped.
    Stopped,
    /// It was changed.
    Changed,
}

impl What {
    /// The word for it, as files have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Changed => "changed",
        }
    }
}

/// What pivots need of a store.
pub trait Pivots {
    /// Every pivot, oldest first, verified; also that the history still holds what it held then.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Changed`] where they, or the snapshots, are not those that were written.
    fn pivots(&self) -> Result<Vec<Pivot>, StoreError>;

    /// Records one.
    ///
    /// # Errors
    /// As [`Pivots::pivots`]; [`StoreError::Pivot`] where something is not said, [`StoreError::Unknown`] where a snapshot is not there.
    fn pivot(&mut self, decided: Decided) -> Result<Pivot, StoreError>;
}
