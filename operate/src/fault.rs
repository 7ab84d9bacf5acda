//! One thing that is wrong on this machine: where, why, and what to do.

/// For the operator; never sent to a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{place}: {cause}")]
#[diagnostic(help("{remedy}"))]
pub struct Fault {
    /// A file, a folder, an address or a department.
    pub place: String,
    /// What is wrong with it.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    /// All three.
    pub fn new(place: impl std::fmt::Display, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.to_string(), cause: cause.into(), remedy: remedy.into() }
    }
}
