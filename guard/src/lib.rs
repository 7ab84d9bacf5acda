//! Guard rails about people and circumstances, as Cedar policies in a folder of files: the gateway's say who may claim which
//! purpose, when and from where; a department's own forbid releases at its node.
//!
//! ```text
//! *.cedar ─▶ read: parse, strict validation, known names ─▶ Rails ─▶ kept: one pointer, swapped whole ─▶ decide
//! ```
//!
//! Invariants
//! - Guard rails only narrow what agreements permit. Without a folder nothing is narrowed.
//! - With a folder the gateway answers only what some `permit` permits and no `forbid` forbids. A department's rails hold `forbid`s
//!   only: what it permits stands in its agreements.
//! - Cedar leaves out a policy whose evaluation errs, a `forbid` too. Here any error denies.
//! - A folder with a mistake in one file is refused as a whole, and what was in force stays so. Mistakes are also what Cedar only
//!   warns of, names that nothing has, and rails without `@id`: a `forbid` that never matches is a hole.
//! - A decision rests on one set of rails, whatever is loaded meanwhile.
//!
//! Deliberately absent: callers' names. `subject` is not part of what a rule may speak of.

mod claim;
mod damage;
mod kept;
mod known;
mod moment;
mod rails;
mod read;
mod release;
mod settings;
#[cfg(test)]
mod testing;

pub use claim::{Claim, ClaimGuard};
pub use damage::Damage;
pub use kept::Loaded;
pub use known::Known;
pub use release::{Release, ReleaseGuard};
pub use settings::Settings;
