//! The one shape of a "no": a code from a closed set, a sentence for the caller, a sentence for the operator.
//!
//! The caller's sentence never holds a row value, an identifier, a token, an SQL literal or another program's error text;
//! those may stand in the operator's, which goes to the service's own diagnostics only.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

use crate::Cause;

/// What kind of refusal it is. Closed on purpose: clients and scripts branch on it. The gRPC status of each stands in
/// `proto/src/status.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// No valid token, certificate or signature.
    Unauthenticated,
    /// Not permitted, or not known to this caller: the two look the same.
    Denied,
    /// The request cannot be understood, or its SQL is not what the gateway takes.
    Invalid,
    /// An operation of the protocol that the service does not have.
    NotOffered,
    /// The plan would let a subject's value reach the output. Its sentence holds no word that only the statement has: logs keep it.
    Disclosure,
    /// A release order, ticket or key that was used before.
    Replayed,
    /// A department's node cannot be reached.
    NodeUnavailable,
    /// A department's node did not answer in time.
    NodeTimeout,
    /// A department's node answered with something that is not what it signed or what was agreed.
    NodeFaulty,
    /// A department's node refused the order.
    NodeRefused,
    /// A department's consent records, as new as they must be, could not be applied, or its data is older than an agreement lets it be.
    Outdated,
    /// Too few witnesses have seen the access log for longer than an agreement allows.
    Unwitnessed,
    /// A stated limit (memory, rows, time, size) was reached.
    LimitExceeded,
    /// The caller cancelled, or left.
    Cancelled,
    /// The access log cannot be written, so nothing may leave.
    LogUnavailable,
    /// A fault of this service.
    Internal,
}

impl Code {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 16] = [
        Self::Unauthenticated,
        Self::Denied,
        Self::Invalid,
        Self::NotOffered,
        Self::Disclosure,
        Self::Replayed,
        Self::NodeUnavailable,
        Self::NodeTimeout,
        Self::NodeFaulty,
        Self::NodeRefused,
        Self::Outdated,
        Self::Unwitnessed,
        Self::LimitExceeded,
        Self::Cancelled,
        Self::LogUnavailable,
        Self::Internal,
    ];

    /// The code as it stands in logs, metadata and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::NotOffered => "not_offered",
            Self::Disclosure => "disclosure",
            Self::Replayed => "replayed",
            Self::NodeUnavailable => "node_unavailable",
            Self::NodeTimeout => "node_timeout",
            Self::NodeFaulty => "node_faulty",
            Self::NodeRefused => "node_refused",
            Self::Outdated => "outdated",
            Self::Unwitnessed => "unwitnessed",
            Self::LimitExceeded => "limit_exceeded",
            Self::Cancelled => "cancelled",
            Self::LogUnavailable => "log_unavailable",
            Self::Internal => "internal",
        }
    }

    /// The code that [`Code::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

/// A refusal. `Display` shows the caller's sentence and the advice only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its kind.
    pub code: Code,
    /// What was refused and why, in words for the caller.
    pub message: String,
    /// What to do next, in words for the caller.
    pub advice: Option<String>,
    /// Whose rule or whose fault it is, where it is one department's.
    pub department: Option<String>,
    /// What the operator needs beside that. Never sent to a caller.
    pub operator: Option<String>,
    /// On what it rests, where that is one thing.
    pub because: Option<Box<Cause>>,
}

impl Refusal {
    /// A refusal with its caller's sentence.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), advice: None, department: None, operator: None, because: None }
    }

    /// Adds what the caller can do next.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Names the department whose rule or fault it is.
    #[must_use]
    pub fn department(mut self, department: impl fmt::Display) -> Self {
        self.department = Some(department.to_string());
        self
    }

    /// Adds the operator's sentence.
    #[must_use]
    pub fn operator(mut self, text: impl fmt::Display) -> Self {
        self.operator = Some(text.to_string());
        self
    }

    /// A refusal that rests on one thing, in its words.
    #[must_use]
    pub fn because(code: Code, cause: Cause) -> Self {
        Self { because: Some(Box::new(cause.clone())), ..Self::new(code, cause.to_string()) }
    }

    /// On what it rests: what a log keeps of it. Of a disclosure that is the rule.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        let rule = || (self.code == Code::Disclosure).then(|| Cause::Rule { says: self.message.clone() });
        self.because.as_deref().cloned().or_else(rule)
    }

    /// A fault of this service; `text` is for the operator.
    #[must_use]
    pub fn internal(text: impl fmt::Display) -> Self {
        Self::new(Code::Internal, "the service failed in a way it did not expect")
            .advice("quote the query id to the operator")
            .operator(text)
    }

    /// The refusal that an error of input or output carries, if it is one: `io::Error::other` takes one along.
    #[must_use]
    pub fn carried(source: &io::Error) -> Option<&Self> {
        source.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_takes_a_refusal_along() {
        let refusal = Refusal::new(Code::LogUnavailable, "the access log cannot be written");
        assert_eq!(Refusal::carried(&io::Error::other(refusal.clone())), Some(&refusal));
        assert_eq!(Refusal::carried(&io::Error::other("no room")), None);
        assert_eq!(Refusal::carried(&io::ErrorKind::NotFound.into()), None);
    }
}
