//! A pivot: an output that was stopped or changed, with the evidence as it stood when that was decided.
//!
//! What was known then is kept with what was decided, so that nobody has to remember either: the numbers of the snapshots that were looked
//! at, what a comparison said of them, and how far the history went ([`Head`]), which the store adds itself. A pivot is never changed; what
//! turned out wrong is the matter of another one.

use chrono::{DateTime, NaiveDate, Utc};
use concordat_policy::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mission::{Mission, Output, OutputStatus};
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

/// Where a mission's file and the pivots say otherwise of its outputs, a sentence each: of an output its newest pivot counts.
#[must_use]
pub fn unlike(mission: &Mission, pivots: &[Pivot]) -> Vec<String> {
    let of = |output: &Output| {
        let own = |one: &&Pivot| one.decided.mission == mission.id && one.decided.output == output.id;
        let newest = pivots.iter().rev().find(own);
        let (status, since) = (output.status.as_str(), output.since);
        match newest.map(|pivot| (pivot.number, &pivot.decided)) {
            None if output.status == OutputStatus::Running => None,
            None => Some(format!("the mission's file has the output '{}' {status} since {since}, and no pivot records it", output.id)),
            Some((_, decided)) if (decided.what.as_str(), decided.on) == (status, since) => None,
            Some((number, Decided { what, on, .. })) => Some(format!(
                "the mission's file has the output '{}' {status} since {since}, and pivot {number} {} from {on}",
                output.id,
                what.as_str()
            )),
        }
    };
    mission.outputs.iter().filter_map(of).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{day, mission};

    #[test]
    fn a_file_that_says_otherwise_than_the_newest_pivot_is_named() {
        let pivot = |number, what, on: &str| Pivot {
            number,
            decided: Decided {
                mission: Name::parse("m").unwrap(),
                output: Name::parse("visits").unwrap(),
                what,
                on: day(on),
                recorded_at: "2026-06-20T09:00:00Z".parse().unwrap(),
                by: "unit".into(),
                because: "it moved nothing".into(),
                snapshots: Vec::new(),
                comparison: Value::Null,
            },
            history: Head { number: 0, digest: String::new() },
            previous: String::new(),
            digest: String::new(),
        };
        let told = |status, since: &str, pivots: &[Pivot]| {
            let mut mission = mission();
            (mission.outputs[0].status, mission.outputs[0].since) = (status, day(since));
            unlike(&mission, pivots).join("; ")
        };
        let [changed, stopped] = [pivot(1, What::Changed, "2026-06-01"), pivot(2, What::Stopped, "2026-07-01")];
        let both = [changed.clone(), stopped];
        assert_eq!(told(OutputStatus::Running, "2026-05-01", &[]), "");
        assert_eq!(told(OutputStatus::Stopped, "2026-07-01", &both), "");
        assert_eq!(told(OutputStatus::Changed, "2026-06-01", std::slice::from_ref(&changed)), "");
        for (found, says) in [
            (told(OutputStatus::Running, "2026-05-01", &both), "pivot 2 stopped from 2026-07-01"),
            (told(OutputStatus::Changed, "2026-06-01", &both), "pivot 2 stopped"),
            (told(OutputStatus::Stopped, "2026-08-01", &both), "pivot 2 stopped from 2026-07-01"),
            (told(OutputStatus::Stopped, "2026-07-01", &[]), "no pivot records it"),
        ] {
            assert!(found.contains("'visits'") && found.contains(says), "{says}: {found}");
        }
    }
}
