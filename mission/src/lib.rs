//! Missions and their outcomes: what is to change, what was measured, and how it stands.
//!
//! ```text
//! mission → outcome (a column of a view: baseline, target, date) ← output (what is done about it)
//!               │ asked of the gateway, as by any caller
//!               ▼
//!           snapshot (protected cells with their statuses, receipt, digests) ──▶ status (one rule, from snapshots alone)
//! ```
//!
//! - [`mission`]: the objects, as `estate/missions/*.toml` states them, parsed and checked.
//! - [`schedule`]: which snapshots are due, which are there, which were missed.
//! - [`snapshot`] and [`store`]: what was answered, kept so that no line of it can change unseen.
//! - [`history`]: what each of its snapshots must be beside those before it, to be added, verified and published.
//! - [`interval`]: between which bounds a told number lies, given how coarsely it is told.
//! - [`compare`]: what changed where an output is, against where it is not. [`pivot`]: what was decided upon it, with the evidence as it stood.
//! - [`reuse`]: who rests on which dataset and view, and what ends with an agreement.
//! - [`inert`]: texts of others, of which nothing acts where it is shown; of logs' entries too.
//! - [`publish`]: the site that the public is shown, made of the others.
//! - [`status`]: progress, trend, freshness, the verdict and what the headline hides.
//!
//! Invariants
//! - No number comes into being here: a snapshot is an answer that passed the gateway's `Protect`, cell by cell with its status. What is
//!   derived from it is an interval, never closer than what was told.
//! - History is added to and never changed. A corrected snapshot supersedes its predecessor, which stays.
//! - What was not measured is said to be missing. Nothing is carried forward or filled in.
//!
//! Deliberately absent: asking. Who asks the gateway, by which token and for which purpose, is the command line's
//! (`cli/src/commands/mission/`). No engine, network or clock: `now` is an argument.

pub mod compare;
mod file;
pub mod history;
pub mod inert;
pub mod interval;
pub mod mission;
pub mod pivot;
pub mod publish;
mod restated;
pub mod reuse;
pub mod schedule;
pub mod snapshot;
pub mod status;
pub mod store;
#[cfg(test)]
mod testing;

pub use self::compare::{Comparison, compare};
pub use self::interval::{Interval, Precision};
pub use self::mission::{Breakdown, Direction, Kind, Known, Mission, Outcome, Output, OutputStatus, Point};
pub use self::pivot::{Decided, Pivot, Pivots};
pub use self::restated::{Unstated, unstated};
pub use self::schedule::{Every, Period, Scheduled};
pub use self::snapshot::{Aim, Cell, Column, Days, Snapshot, Source, Taken};
pub use self::status::{OutcomeStatus, Verdict};
pub use self::store::{Snapshots, SqliteStore, StoreError};
