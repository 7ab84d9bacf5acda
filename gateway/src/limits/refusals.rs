//! Whose refusals without an entry of their own to close are recorded or counted: see [`concordat_audit::refusals`].

use std::net::IpAddr;

use concordat_audit::Entry;
use concordat_audit::refusals::{self, Network};
use concordat_policy::Refusal;

use super::Key;

/// Refusals of one source and minute that are recorded one by one.
const SINGLE: u32 = 100;

/// Who is refused, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A peer's address.
    Address(Network),
    /// A connection without an address.
    Unknown,
    /// An authenticated caller.
    Caller(Key),
    /// All sources beyond those that are told apart.
    Others,
}

impl Source {
    /// The source behind a peer's address.
    pub(crate) fn of(peer: Option<IpAddr>) -> Self {
        peer.map_or(Self::Unknown, |peer| Self::Address(peer.into()))
    }
}

impl refusals::Source for Source {
    fn others() -> Self {
        Self::Others
    }

    fn proven(&self) -> bool {
        matches!(self, Self::Caller(_))
    }

    fn single(&self) -> u32 {
        if *self == Self::Others { 0 } else { SINGLE }
    }

    fn describe(&self, entry: Entry) -> Entry {
        match self {
            Self::Address(network) => entry.field("source", network.to_string()),
            Self::Unknown => entry.field("source", "unknown"),
            Self::Others => entry.field("source", "others"),
            // Which of their tokens does not matter: limits are a user's.
            Self::Caller(key) => entry.by(&key.issuer, &key.subject, None).field("organisation", key.organisation.as_str()),
        }
    }
}

/// Why, for the log: never what a caller sent.
pub(crate) fn reason(refusal: &Refusal) -> &str {
    // The sentences of refusals without an entry are fixed: none repeats what the caller wrote.
    refusal.operator.as_deref().unwrap_or(&refusal.message)
}
