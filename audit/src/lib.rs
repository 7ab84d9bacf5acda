//! The access log that the gateway and every node write: durable before anything leaves.
//!
//! ```text
//! gateway:  query.opened ─▶ work ─▶ query.closed ─▶ first result byte        (or query.refused, query.explained)
//! node:     release.intended ─▶ first byte … last byte ─▶ release.completed ─▶ receipt
//! ```
//!
//! Invariants
//! - [`Log::append`] returns only after its line is on stable storage (`fdatasync`); waiting entries share one sync.
//! - A log that failed to write refuses every entry until it can be reopened and its end is whole: no service without a log.
//! - One writer per folder (an exclusive file lock).
//! - Requests stand in it as keyed digests only: an unkeyed digest of a query over identifiers could be reversed.
//!
//! One JSON object a line: `entry` (from 1, without gaps), `time` (RFC 3339, UTC), `event`, and the event's own fields.
//!
//! Deliberately absent for now: the Merkle tree, checkpoints and witnesses, which will stand behind the same calls.

mod entry;
mod file;
mod replaced;
mod unlogged;
mod writer;

pub mod checkpoint;
pub mod note;
pub mod proof;
pub mod quorum;
mod signer;
pub mod witness;

pub use entry::Entry;
pub use unlogged::Unlogged;
pub use writer::{DigestKey, Log, LogError};
