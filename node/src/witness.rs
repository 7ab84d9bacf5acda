//! The department's witness of the gateway's access log, in `state/witness`: what it cosigned last, its key, evidence, and the key of the
//! gateway's own witness.
//!
//! The gateway's keys are those that came first; others count once the department's administrator has accepted that the log begins anew
//! (`concordat-node acknowledge-log`). The witness's private key lies in clear in a file of mode 0600, as the log's own does: it decrypts
//! nothing, and another one is noticed.
//!
//! What the gateway orders here it owes a checkpoint for: [`silent`].

mod silent;

use std::io;
use std::path::{Path, PathBuf};

use concordat_audit::witness::{Cosigned, Keys, Misconduct, Owed, Told, Witness};
use concordat_operate::metrics::{Level, Metrics};
use concordat_policy::Name;

use crate::private;
pub(crate) use silent::watch;

/// The log that is witnessed.
pub(crate) const GATEWAY_LOG: &str = "concordat/gateway";

/// Who cosigns the node's own log.
pub(crate) const GATEWAY_WITNESS: &str = "concordat/gateway/witness";

/// The witness and what belongs to it.
#[derive(Debug)]
pub(crate) struct Witnessing {
    pub(crate) witness: Witness,
    pub(crate) keys: Keys,
    pub(crate) told: Told,
    /// The checkpoints that the gateway owes for what it ordered.
    owed: Owed,
    refused: Level,
}

/// Where all of it lies.
pub(crate) fn folder(state: &Path) -> PathBuf {
    state.join("witness")
}

impl Witnessing {
    /// Opens what lies in `state`, or begins it. Blocks.
    pub(crate) fn open(state: &Path, department: &Name, metrics: &Metrics) -> io::Result<Self> {
        let folder = folder(state);
        private::folder(&folder)?;
        let witness = Witness::open(&folder, &format!("concordat/{department}/witness"))?;
        let refused =
            metrics.level("witness_refused", "Whether the last checkpoint of a log was refused: fork, rollback, unproven, other_key");
        Ok(Self { witness, keys: Keys::at(&folder), told: Told::default(), owed: Owed::open(&folder)?, refused })
    }

    /// Notes that a checkpoint of the gateway's log was cosigned. Blocks.
    pub(crate) fn cosigned(&self, cosigned: &Cosigned) {
        if let Err(e) = self.owed.cosigned(GATEWAY_LOG, cosigned.checkpoint.size, cosigned.first) {
            tracing::error!(cause = %e, "what the gateway still owes of its log cannot be kept in the folder of state");
        }
    }

    /// What monitoring sees of the gateway's log; `None` where all is well.
    pub(crate) fn alarm(&self, now: Option<Misconduct>) {
        for kind in [Misconduct::Fork, Misconduct::Rollback, Misconduct::Unproven, Misconduct::OtherKey] {
            self.refused.set(&[("log", GATEWAY_LOG), ("kind", kind.as_str())], i64::from(now == Some(kind)));
        }
    }
}
