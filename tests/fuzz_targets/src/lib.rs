//! What takes bytes from outside, and what must hold of it whatever the bytes are. Each target is a function of bytes that
//! panics where something does not hold; cargo-fuzz (`tests/fuzz`) drives them with coverage, the tests here replay the corpora and
//! a bounded number of mutations with the stable compiler.
//!
//! | target | bytes | holds, beside that nothing panics |
//! |---|---|---|
//! | `release_stream` | columns, then messages of a release | what is taken passes Arrow's full validation, is of the ordered schema, ascends, is encoded and read again the same; memory in proportion to the message |
//! | `release_order` | claims, then a request | an accepted order is bound to its request, lives a minute at most, is signed and read again the same |
//! | `predicate` | a predicate's protobuf | what is accepted is within the limits, and is written and read again the same |
//! | `agreement` | TOML | an accepted agreement keeps its own rules and is the same when its text is written anew; a problem names a line of the text |
//! | `token` | header and claims, or a token | only what an independent reading of the claims permits is accepted, and nothing that we did not sign |
//! | `receipt` | claims | an accepted receipt, of a release or of a consent record, is signed and read again the same |
//! | `reach` | messages of a list of whose choices reach other data | what is taken ascends, is disjoint and bounded, and is written and read again the same; memory in proportion to the messages |
//! | `signature` | header and payload, or a file | an accepted signature of an agreement has the one header, five members and a key that we hold, and counts only for its text |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests: what does not hold is a panic"
)]

mod agreement;
pub mod lies;
mod memory;
pub mod mutate;
mod order;
mod predicate;
mod reach;
pub mod release_stream;
#[cfg(test)]
mod replay;
mod sample;
mod signature;
pub mod tamper;
mod token;

pub use agreement::agreement;
pub use order::release_order;
pub use predicate::predicate;
pub use reach::reach;
pub use release_stream::release_stream;
pub use signature::signature;
pub use token::{receipt, token};

/// A target: its name, its function, and the inputs from which its corpus began.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "release_stream", run: release_stream, seeds: release_stream::seeds },
    Target { name: "release_order", run: release_order, seeds: order::seeds },
    Target { name: "predicate", run: predicate, seeds: predicate::seeds },
    Target { name: "agreement", run: agreement, seeds: agreement::seeds },
    Target { name: "token", run: token, seeds: token::seeds },
    Target { name: "receipt", run: receipt, seeds: token::receipt_seeds },
    Target { name: "signature", run: signature, seeds: signature::seeds },
    Target { name: "reach", run: reach, seeds: reach::seeds },
];
