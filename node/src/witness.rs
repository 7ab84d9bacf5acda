//! The department's witness of the gateway's access log, in `state/witness`: what it cosigned last, its key, evidence, and the key of the
//! gateway's own witness.
//!
//! The gateway's keys are those that came first; others count once the department's administrator has accepted that the log begins anew
//! (`concordat-node acknowledge-log`). The witness's private key lies in clear in a file of mode 0600, as the log's own does: it decrypts
//! nothing, and another one is noticed.
//!
//! What the gateway orders here it owes a checkpoint for: [`silent`].

mod forgot;
mod silent;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use concordat_audit::witness::{Cosigned, Given, Keys, Misconduct, Owed, Told, Witness, distrusted};
use concordat_operate::metrics::{Level, Metrics};
use concordat_policy::Name;

use crate::private;
pub(crate) use silent::watch;

/// The log that is witnessed.
pub(crate) const GATEWAY_LOG: &str = "concordat/gateway";

/// The name of the department's own log.
pub(crate) fn log_of(department: &Name) -> String {
    format!("concordat/{department}/node")
}

/// Who cosigns the node's own log.
pub(crate) const GATEWAY_WITNESS: &str = "concordat/gateway/witness";

/// What an administrator can do about a log that is refused.
pub(crate) const ACKNOWLEDGE: &str = "the gateway's operator must say why; where its log was restored from a backup for good, this department's administrator accepts that \
     with `concordat-node acknowledge-log --config node.toml`";

/// How soon the gateway's witness looks again while there is something new.
const LOOKING: Duration = Duration::from_secs(2);

/// The witness and what belongs to it.
#[derive(Debug)]
pub(crate) struct Witnessing {
    pub(crate) witness: Witness,
    pub(crate) keys: Keys,
    /// What the gateway's witness gave.
    pub(crate) given: Given,
    pub(crate) told: Told,
    /// What the gateway's witness forgot, and where it stood, of which the log tells and which is not marked yet.
    telling: tokio::sync::Mutex<Option<(u64, u64)>>,
    /// The checkpoints that the gateway owes for what it ordered.
    owed: Owed,
    /// What was refused of the gateway's log since it was cosigned last. Over restarts the witness's state remembers it.
    distrusted: RwLock<Option<Misconduct>>,
    refused: Level,
    /// When the gateway's witness looked at this node's log last.
    looked: Mutex<Option<Instant>>,
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
        let before = distrusted(&folder)?.into_iter().find(|(log, _)| log == GATEWAY_LOG).map(|(_, happened)| happened);
        let (keys, given, owed) = (Keys::at(&folder), Given::at(&folder), Owed::open(&folder)?);
        let (told, telling) = (Told::default(), tokio::sync::Mutex::default());
        let witnessing =
            Self { witness, keys, given, told, telling, owed, distrusted: RwLock::default(), refused, looked: Mutex::default() };
        witnessing.alarm(before);
        Ok(witnessing)
    }

    /// Notes that a checkpoint of the gateway's log was cosigned. Blocks.
    pub(crate) fn cosigned(&self, cosigned: &Cosigned) {
        if let Err(e) = self.owed.cosigned(GATEWAY_LOG, cosigned.checkpoint.size, cosigned.first) {
            tracing::error!(cause = %e, "what the gateway still owes of its log cannot be kept in the folder of state");
        }
    }

    /// Notes that the gateway's witness looks at this node's log.
    pub(crate) fn look(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it looked a moment ago, and so will look again at once: it does so rarely while the gateway rests, and not while it is away.
    pub(crate) fn is_looking(&self) -> bool {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|looked| looked.elapsed() < LOOKING)
    }

    /// What happened to the gateway's log since it was cosigned last.
    fn distrusted(&self) -> Option<Misconduct> {
        *self.distrusted.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is the matter with the gateway's log, for orders and for monitoring; `None` where all is well.
    pub(crate) fn alarm(&self, now: Option<Misconduct>) {
        {
            let mut distrusted = self.distrusted.write().unwrap_or_else(PoisonError::into_inner);
            *distrusted = now.map(|happened| happened.after(*distrusted));
        }
        for kind in [Misconduct::Fork, Misconduct::Rollback, Misconduct::Unproven, Misconduct::OtherKey] {
            self.refused.set(&[("log", GATEWAY_LOG), ("kind", kind.as_str())], i64::from(now == Some(kind)));
        }
    }
}
