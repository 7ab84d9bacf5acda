//! A department's node: it runs beside the department's data, holds the department's own agreements, keys, consent ledger and
//! log, and answers release orders of the gateway.
//!
//! ```text
//! command ─▶ config ─▶ node (opens everything) ─▶ server ─▶ flight · services
//!                       │
//!                       └ order ─▶ verify ─▶ consume ─▶ consent ─▶ linkage key ─▶ scan ─▶ log ─▶ release ─▶ receipt
//! ```
//!
//! Invariants
//! - The department alone can stop everything at once, whatever the gateway asks ([`suspension`]).
//! - Nothing leaves but what the department's own copy of an agreement permits: datasets, columns, purposes, consented subjects;
//!   only as pseudonyms; only to the pinned gateway over mutual TLS.
//! - A release starts from a [`orders::VerifiedOrder`] only, and that is built in one place.
//! - No byte leaves before its log entry is durable; a receipt follows the completion's entry, and what ends without one is closed in
//!   the log before anything else is released.
//! - Identifiers, row values, literals and tokens stand in no log and no message.
//!
//! Deliberately absent: SQL, and any trust in what the gateway says of agreements or keys.

mod agreements;
pub mod at_rest;
mod callers;
pub mod command;
pub mod config;
pub mod consent;
pub mod datasets;
mod endings;
pub mod flight;
mod framing;
mod guard;
pub mod init;
mod keep_next;
pub mod linkage;
pub mod node;
pub mod orders;
pub mod preview;
mod private;
pub mod pseudonym;
mod quota;
mod refusing;
pub mod release;
mod reread;
pub mod server;
pub mod services;
pub mod source;
pub mod suspension;
mod take_notice;
mod witness;
mod workers;

pub use agreements::{Agreements, Current};
pub use callers::Callers;

#[cfg(test)]
mod fixture;
