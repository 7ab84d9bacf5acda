//! Disclosure control as arithmetic: which value may be told, and how exactly.
//!
//! Invariants
//! - Numbers in, numbers out. No clock, no chance (noise is looked up from its contributors' keys), no file, no engine: `Cargo.toml`
//!   proves it. `gateway/src/plan/protect.rs` is the operator that applies it.
//! - The rules and their parameters are the agreement's ([`concordat_policy::Disclosure`]).

pub mod behind;
pub mod kinds;
pub mod margins;
pub mod noise;
pub mod primary;
pub mod rounding;
#[cfg(test)]
mod testing;
pub mod units;

pub use behind::{Behind, Spread};
