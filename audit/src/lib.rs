//! The access log that the gateway and every node write: durable before anything leaves, and a Merkle log that nobody can edit unseen.
//!
//! ```text
//! gateway:  query.opened ─▶ work ─▶ query.closed ─▶ first result byte        (or query.refused, query.explained)
//! node:     release.intended ─▶ first byte … last byte ─▶ release.completed ─▶ receipt
//!
//! append ─▶ tail, synced ─▶ acknowledged          a second thread: ─▶ bundles and tiles ─▶ signed checkpoint
//! ```
//!
//! Invariants
//! - [`Log::append`] returns only after its entry is on stable storage (`fdatasync`); waiting entries share one sync.
//! - A log that failed to write refuses every entry until it can be written again; a full disk takes what closes something.
//! - No checkpoint is signed over what is not durable; within a second every entry is under one, or the log is failing.
//! - What does not fit together (checkpoint, tiles, tail) is not opened and not written over.
//! - One writer per folder (an exclusive file lock).
//! - A log that ends before what its program remembers, outside the folder, to have signed is not opened.
//! - Requests stand in it as keyed digests only: an unkeyed digest of a query over identifiers could be reversed.
//! - It names no caller: who a `person` is, the store beside it tells, as long as that person is in it.
//!
//! An entry is one JSON object: `entry` (from 1, without gaps), `time` (RFC 3339, UTC), `event`, the event's own fields, and last its
//! `salt` (16 bytes that only the log's key gives: nobody can try guesses of an entry against the hashes of a proof, or add an entry to the
//! tail).
//!
//! The folder, in the forms of c2sp.org (tlog-tiles, tlog-checkpoint, signed-note), for programs that share no code with this one:
//!
//! | name | what |
//! |---|---|
//! | `checkpoint` | the latest signed checkpoint: origin, number of entries, root |
//! | `checkpoint.cosigned` | the latest one that enough witnesses have signed; before there is one, the best |
//! | `tile/<level>/<index>` | Merkle tiles of height 8; `….p/<width>` while not full. A narrower one may be gone where a wider is there |
//! | `tile/entries/<index>` | the entries, each after its length in two big-endian bytes |
//! | `tail` | the entries after the last full bundle, or some before: one a line, durable, the last ones under no checkpoint yet |
//! | `log.vkey`, `log.key` | the key that verifies, and the one that signs |
//! | `archived` | how many entries, from the first on, were moved to an archive: their bundles are there, their tiles here |
//! | `digest.key` | the key of digests in entries |
//! | `persons.sqlite` | who the commitments in entries are, and their keys; may be erased person by person |
//! | `index.sqlite` | by what entries are found; made from the log by its program, and anew where it is gone or is not what the log says |
//! | `torn-after-<number>` | what a crash left of an entry that was never acknowledged |
//! | `lock`, `new/`, `reserve` | held by the writer; files in the making; space for a full disk |

mod cosigned;
mod database;
mod digest;
mod disk;
mod entry;
mod integrate;
mod key;
mod log;
mod promise;
mod prove;
mod proved;
mod query;
mod read;
mod recover;
mod replaced;
mod reserve;
mod salt;
mod stood;
mod tail;
mod tile;
mod tree;
mod unlogged;
mod writer;

pub mod archive;
pub mod checkpoint;
pub mod facts;
pub mod filter;
pub mod index;
pub mod note;
pub mod persons;
pub mod proof;
pub mod quorum;
pub mod readers;
pub mod receipt;
pub mod refusals;
mod signer;
pub mod verify;
pub mod witness;

pub use digest::DigestKey;
pub use disk::is_written;
pub use entry::Entry;
pub use log::{Log, LogError};
pub use promise::{Answered, Promise, promise_message};
pub use prove::{consistency, inclusion, inclusion_with};
pub use query::{Query, Sought};
pub use read::{Entries, read, read_with};
pub use tree::{Hash, leaf_hash, node_hash};
pub use unlogged::Unlogged;
