//! Pure decisions: who may use which column of which dataset, for which purpose, and whether a subject's choice allows it.
//!
//! Invariants
//! - Values in, a decision out. No clock (`now` is an argument), no network, no file, no log; `Cargo.toml` proves it.
//! - Nothing is the default: an unknown name, an empty set or an absent permission denies.
//! - A [`Permit`] cannot be built outside [`authorize`], and only of agreements that every party has signed.
//!
//! Deliberately absent: SQL and plans (the gateway extracts [`ColumnUses`] and this crate judges them), cryptography (`proto/`
//! says whether a signature's bytes verify; [`signature`] says whether it counts).

pub mod agreement;
pub mod authorize;
pub mod cause;
pub mod coded;
pub mod column;
pub mod consent;
pub mod decision;
pub mod denominator;
pub mod difference;
pub mod disclosure;
pub mod fingerprint;
pub mod identifier;
pub mod in_words;
pub mod linkage;
pub mod name;
pub mod predicate;
pub mod problem;
#[cfg(test)]
mod proof;
pub mod purpose;
pub mod refusal;
pub mod replaced;
pub mod revocation;
pub mod row_level;
pub mod seen;
pub mod signature;
pub mod succession;
#[cfg(test)]
mod testing;
pub mod witnessed;

pub use agreement::{Agreement, Basis, Dataset};
pub use authorize::{Caller, DatasetPermit, Permit, authorize};
pub use cause::{Cause, Rail};
pub use column::{Classification, ColumnRule, ColumnType, ColumnUses, FilterLimit, Use};
pub use decision::Decision;
pub use disclosure::Disclosure;
pub use identifier::IdentifierType;
pub use linkage::LinkageDomain;
pub use name::{DatasetName, Name};
pub use predicate::{Comparison, Predicate, Value};
pub use problem::Problem;
pub use purpose::PurposeTree;
pub use refusal::{Code, Refusal};
pub use revocation::Revocations;
pub use seen::Seen;
pub use signature::Signatures;
