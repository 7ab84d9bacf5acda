//! Why a checkpoint is not cosigned, and what people must be told of the log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointError;
use crate::proof::ProofError;

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Reason {
    /// It is not a checkpoint.
    #[error(transparent)]
    Malformed(CheckpointError),
    /// It is of another log than is witnessed for whoever asks, or the key is no log's.
    #[error("the key is of '{found}', and here the log '{expected}' is witnessed")]
    OtherLog {
        /// Whose it is.
        found: String,
        /// What is witnessed.
        expected: String,
    },
    /// The log has another key than before.
    #[error("the log has another key than it had before ('{known}'): a person must acknowledge it first")]
    OtherKey {
        /// The key that came first.
        known: String,
    },
    /// The log's key did not sign it.
    #[error(transparent)]
    Unsigned(CheckpointError),
    /// The old size is larger than the checkpoint's.
    #[error("the old size {old} is larger than the checkpoint's, {size}")]
    OldSize {
        /// As asked.
        old: u64,
        /// The checkpoint's.
        size: u64,
    },
    /// Another checkpoint than the request builds on was cosigned last.
    #[error("this witness has cosigned a checkpoint of {size} entries: prove that yours continues it")]
    Conflict {
        /// The size it cosigned.
        size: u64,
    },
    /// The checkpoint does not continue the one that was cosigned last.
    #[error("the checkpoint is not shown to continue the one of {size} entries that was cosigned: {source}")]
    Proof {
        /// The size it cosigned.
        size: u64,
        /// What is wrong with the proof.
        source: ProofError,
    },
    /// What would be cosigned cannot be made durable, the state cannot be read, or what is seen for the first time cannot be told.
    #[error("this witness cannot use its state, and cosigns nothing until it can")]
    Unavailable(#[source] Arc<io::Error>),
}

impl Reason {
    /// The reason without a word of whoever asked: what a log may keep.
    #[must_use]
    pub fn plain(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "it is not a checkpoint",
            Self::OtherLog { .. } => "it is of another log than is witnessed here",
            Self::OtherKey { .. } => "the log has another key than before: a person must acknowledge it first",
            Self::Unsigned(_) => "the log's key did not sign the checkpoint",
            Self::OldSize { .. } => "the old size is larger than the checkpoint's",
            Self::Conflict { .. } => "another checkpoint than it builds on was cosigned last",
            Self::Proof { .. } => "it is not shown to continue the checkpoint that was cosigned",
            Self::Unavailable(_) => "this witness cannot use its state, and cosigns nothing until it can",
        }
    }
}

/// What must not happen to a log, whoever did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misconduct {
    /// Two trees of one size, both signed: proof.
    Fork,
    /// Fewer entries than before, in a checkpoint that was never cosigned.
    Rollback,
    /// More entries, not shown to continue those before.
    Unproven,
    /// Another key.
    OtherKey,
}

impl Misconduct {
    /// As logs and files name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Rollback => "rollback",
            Self::Unproven => "unproven",
            Self::OtherKey => "other_key",
        }
    }

    /// What is remembered where this happens after `before`: what came first, unless that was only a proof that is lacking.
    #[must_use]
    pub fn after(self, before: Option<Self>) -> Self {
        before.filter(|before| *before != Self::Unproven).unwrap_or(self)
    }
}

/// What must be told to people at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Which log.
    pub origin: String,
    /// What happened to it.
    pub misconduct: Misconduct,
    /// The size of the checkpoint that was cosigned, and of the one that was refused.
    pub sizes: (u64, u64),
    /// Both signed checkpoints. `None` where they prove nothing, or could not be kept.
    pub evidence: Option<PathBuf>,
}

/// A refusal, and an alarm where the log is at fault.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Why.
    #[source]
    pub reason: Reason,
    /// For people.
    pub alarm: Option<Box<Alarm>>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, alarm: None }
    }
}
