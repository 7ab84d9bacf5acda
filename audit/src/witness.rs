//! A witness: it remembers the latest checkpoint of each log, cosigns only what continues it, and keeps what does not as evidence.
//!
//! ```text
//! request ─▶ log known? ─▶ signed by it? ─▶ old size right? ─▶ continues? ─▶ durable ─▶ cosignature
//!              404            403             400 409          409 422        503
//! ```
//!
//! Invariants
//! - What it cosigned is durable before the cosignature exists. Without its state it does not start: it would cosign a fork.
//! - One request at a time, and one process per folder.
//! - A fork or a rollback that the log itself signed is kept in a file (`fork-…`, `rollback-…`) and is an [`Alarm`] for the caller.
//!
//! It has no clock and no network: the time is an argument, and endpoints bring the requests.

mod request;
mod state;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::note::{Algorithm, Note, NoteError, Signature, Signer, VerifierKey};
use crate::proof::{ProofError, verify_consistency};
use state::Known;

pub use request::{AddCheckpoint, MAX_REQUEST, RequestError};

/// The most files of evidence; beyond that, alarms only.
const MAX_EVIDENCE: usize = 1000;

/// Why a witness does not start, or does not take a log on.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Its folder cannot be used.
    #[error("the witness's state in {folder} cannot be used")]
    Folder {
        /// Where.
        folder: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A key of the wrong kind.
    #[error("'{name}' cannot be used here: {why}")]
    Key {
        /// Whose key.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Reason {
    /// It is not a checkpoint.
    #[error(transparent)]
    Malformed(CheckpointError),
    /// The log is not one that this witness was told of.
    #[error("this witness does not know the log '{0}': its operator adds the log's key")]
    UnknownLog(String),
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
    /// What would be cosigned cannot be made durable.
    #[error("this witness cannot write its state, and cosigns nothing until it can")]
    Unavailable(#[source] Arc<io::Error>),
}

/// A log signed what contradicts what it signed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconduct {
    /// Two trees that are not shown to be one.
    Fork,
    /// Fewer entries than before. Harmless only where somebody sent an old checkpoint again.
    Rollback,
}

/// What must be told to people at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Which log.
    pub origin: String,
    /// What it did.
    pub misconduct: Misconduct,
    /// Both signed checkpoints. `None` where they could not be kept.
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
    pub alarm: Option<Alarm>,
}

impl Refused {
    /// The HTTP status that is specified for it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.reason {
            Reason::Malformed(_) | Reason::OldSize { .. } => 400,
            Reason::Unsigned(_) => 403,
            Reason::UnknownLog(_) => 404,
            Reason::Conflict { .. } => 409,
            Reason::Proof { .. } => 422,
            Reason::Unavailable(_) => 503,
        }
    }

    /// The body of the answer: the known size where there is a conflict (`text/x.tlog.size`), else one line of text.
    #[must_use]
    pub fn body(&self) -> String {
        match &self.reason {
            Reason::Conflict { size } => format!("{size}\n"),
            reason => format!("{reason}\n"),
        }
    }
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, alarm: None }
    }
}

/// A witness over its folder.
#[derive(Debug)]
pub struct Witness {
    folder: PathBuf,
    signer: Signer,
    known: Mutex<Vec<Known>>,
    /// Held as long as it lives.
    _lock: File,
}

impl Witness {
    /// A witness that has seen nothing: for the first start only.
    ///
    /// # Errors
    /// [`WitnessError`], also where the folder holds a witness's state already.
    pub fn create(folder: &Path, signer: Signer) -> Result<Self, WitnessError> {
        Self::start(folder, signer, |folder| {
            if state::exists(folder) {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a witness's state is there already: open it"));
            }
            state::write(folder, &[]).map(|()| Vec::new())
        })
    }

    /// The witness in `folder`.
    ///
    /// # Errors
    /// [`WitnessError`]: without its state, or with a damaged one, it does not start.
    pub fn open(folder: &Path, signer: Signer) -> Result<Self, WitnessError> {
        Self::start(folder, signer, state::read)
    }

    fn start(folder: &Path, signer: Signer, known: impl FnOnce(&Path) -> io::Result<Vec<Known>>) -> Result<Self, WitnessError> {
        if signer.key().algorithm() != Algorithm::Cosignature {
            let why = "a witness signs with a key of its own, of algorithm 4";
            return Err(WitnessError::Key { name: signer.key().name().to_owned(), why });
        }
        let started = || {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("witness.lock"))?;
            lock.try_lock().map_err(|e| io::Error::other(format!("another process is this witness: {e}")))?;
            Ok((lock, known(folder)?))
        };
        let (lock, known) = started().map_err(|source| WitnessError::Folder { folder: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned(), signer, known: Mutex::new(known), _lock: lock })
    }

    /// Takes a log on, from nothing. A log that is known stays as it is.
    ///
    /// # Errors
    /// [`WitnessError`], also where a log of this name has another key.
    pub fn admit(&self, key: &VerifierKey) -> Result<(), WitnessError> {
        let refused = |why| Err(WitnessError::Key { name: key.name().to_owned(), why });
        if key.algorithm() != Algorithm::Ed25519 {
            return refused("the key of a log has algorithm 1");
        }
        let mut known = self.known();
        if let Some(of) = known.iter().find(|of| of.key.name() == key.name()) {
            return if of.key == *key { Ok(()) } else { refused("the log of this name has another key here") };
        }
        let mut next = known.clone();
        next.push(Known { key: key.clone(), latest: None, time: 0 });
        state::write(&self.folder, &next).map_err(|source| WitnessError::Folder { folder: self.folder.clone(), source })?;
        *known = next;
        Ok(())
    }

    /// This witness's public key.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        self.signer.key()
    }

    /// What it cosigned last of a log.
    #[must_use]
    pub fn latest(&self, origin: &str) -> Option<Checkpoint> {
        self.known().iter().find(|of| of.key.name() == origin)?.checkpoint().cloned()
    }

    /// Cosigns a checkpoint that continues the latest one, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`Refused`]; nothing is cosigned.
    pub fn add_checkpoint(&self, request: &AddCheckpoint, now: u64) -> Result<Signature, Refused> {
        let note = Note::parse(request.checkpoint.as_bytes()).map_err(|e| Reason::Malformed(e.into()))?;
        let claimed = Checkpoint::parse(note.text()).map_err(Reason::Malformed)?;
        let mut known = self.known();
        let at = known.iter().position(|of| of.key.name() == claimed.origin);
        let log = at.and_then(|at| known.get(at)).ok_or_else(|| Reason::UnknownLog(claimed.origin.clone()))?;
        let sent = SignedCheckpoint::open(request.checkpoint.as_bytes(), &log.key).map_err(Reason::Unsigned)?;
        self.judge(log, &sent, request)?;
        // A clock that goes back does not make a later statement the earlier one.
        let time = now.max(log.time);
        let cosignature = self.signer.sign(sent.note().text(), time);
        // Only the log's own lines: a witness keeps no more than it judged.
        let next = Known { key: log.key.clone(), latest: Some(own(&sent, &log.key).map_err(|e| Reason::Unsigned(e.into()))?), time };
        let mut all = known.clone();
        if let Some(of) = at.and_then(|at| all.get_mut(at)) {
            *of = next;
        }
        state::write(&self.folder, &all).map_err(|e| Reason::Unavailable(Arc::new(e)))?;
        *known = all;
        Ok(cosignature)
    }

    /// Whether `sent` continues what is known.
    fn judge(&self, log: &Known, sent: &SignedCheckpoint, request: &AddCheckpoint) -> Result<(), Refused> {
        let (old, new) = (request.old_size, sent.checkpoint());
        let size = log.checkpoint().map_or(0, |known| known.size);
        if old > new.size {
            return Err(Reason::OldSize { old, size: new.size }.into());
        }
        if let Some(known) = log.checkpoint() {
            let misconduct = match new.size.cmp(&known.size) {
                std::cmp::Ordering::Less => Some(Misconduct::Rollback),
                std::cmp::Ordering::Equal if new.root != known.root => Some(Misconduct::Fork),
                _ => None,
            };
            if let Some(misconduct) = misconduct {
                return Err(Refused { reason: Reason::Conflict { size }, alarm: self.alarm(log, sent, misconduct) });
            }
        }
        if old != size {
            return Err(Reason::Conflict { size }.into());
        }
        let proven = match log.checkpoint() {
            Some(known) => verify_consistency(size, new.size, &known.root, &new.root, &request.proof),
            None if request.proof.is_empty() => Ok(()),
            None => Err(ProofError::Length),
        };
        proven.map_err(|source| Refused { reason: Reason::Proof { size, source }, alarm: self.alarm(log, sent, Misconduct::Fork) })
    }

    /// Keeps both signed checkpoints. Nothing where there is only one.
    fn alarm(&self, log: &Known, sent: &SignedCheckpoint, misconduct: Misconduct) -> Option<Alarm> {
        let known = log.latest.as_ref()?.note().to_string();
        let sent = own(sent, &log.key).ok()?.note().to_string();
        let kind = match misconduct {
            Misconduct::Fork => "fork",
            Misconduct::Rollback => "rollback",
        };
        let name = format!("{kind}-{:.32}.json", state::hex(format!("{known}{sent}").as_bytes()));
        let evidence = serde_json::json!({ "log": log.key.to_string(), "misconduct": kind, "known": known, "sent": sent });
        let kept = self.keep(&name, &evidence.to_string());
        Some(Alarm { origin: log.key.name().to_owned(), misconduct, evidence: kept.ok() })
    }

    fn keep(&self, name: &str, evidence: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        if !path.exists() {
            if fs::read_dir(&self.folder)?.count() > MAX_EVIDENCE {
                return Err(io::Error::other("there is enough evidence"));
            }
            state::replace(&self.folder, name, evidence.as_bytes())?;
        }
        Ok(path)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checkpoint with the log's own lines alone.
fn own(sent: &SignedCheckpoint, log: &VerifierKey) -> Result<SignedCheckpoint, NoteError> {
    let mut lines = sent.note().signatures().iter().filter(|line| line.name() == log.name() && line.id == log.id());
    let first = lines.next().cloned().ok_or_else(|| NoteError::Signature(log.name().to_owned()))?;
    let note = Note::new(sent.note().text(), first);
    SignedCheckpoint::open(note.to_string().as_bytes(), log).map_err(|_| NoteError::Signature(log.name().to_owned()))
}

#[cfg(test)]
mod tests;
