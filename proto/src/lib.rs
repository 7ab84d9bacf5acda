//! The contract between gateway, nodes and clients: generated code, and the one place where wire types become domain types.
//!
//! Also what both ends must do alike: the strict JWT wrapper ([`token`]), release orders ([`order`]), release receipts
//! ([`receipt`]), consent receipts ([`consent_receipt`]), statements of whose choices reach other parties' data ([`reach`]),
//! signatures of agreements and where they lie ([`signature`]), the Arrow schema of a release ([`schema`]), the identity behind a
//! TLS connection ([`peer`]), what numbers are none ([`finite`]), groups in the place of rows ([`grouped`]), the digest of an answer ([`answer`]), the contract's versions ([`version`]) and the one table of codes and gRPC statuses ([`status`]); and
//! how a release's stream, whose every byte is hostile until it has been checked, is read ([`release_stream`]).

pub mod answer;
pub mod consent_receipt;
#[cfg(test)]
mod contract;
pub mod finite;
pub mod grouped;
mod log_filter;
pub mod order;
pub mod peer;
pub mod predicate;
pub mod reach;
pub mod receipt;
pub mod release_stream;
pub mod schema;
pub mod signature;
pub mod status;
pub mod token;
pub mod version;

pub use version::{CONTRACT_VERSION, version_is_served};

/// Generated from `v1/*.proto`.
#[expect(missing_docs, reason = "generated; the comments stand in v1/*.proto")]
pub mod v1 {
    tonic::include_proto!("concordat.v1");
}

/// The largest message that either side accepts, in bytes: one batch of a release.
pub const MAX_BATCH_MESSAGE: usize = 64 << 20;
/// The largest control message, in bytes.
pub const MAX_CONTROL_MESSAGE: usize = 1 << 20;
/// The largest message by which logs are witnessed, in bytes: a signed note, and a proof.
pub const MAX_WITNESS_MESSAGE: usize = 128 << 10;
/// The largest serialised release request, in bytes.
pub const MAX_RELEASE_REQUEST: usize = 64 << 10;
