//! A witness: it remembers the latest checkpoint of each log, cosigns only what continues it, and keeps what contradicts it as evidence.
//!
//! ```text
//! request ─▶ key as before? ─▶ signed by it? ─▶ old size right? ─▶ continues? ─▶ durable ─▶ cosignature
//!              403               403              400 409            409 422       503
//! ```
//!
//! Invariants
//! - What it cosigned is durable before the cosignature exists. Without its state it cosigns nothing: it would cosign a fork.
//! - The key of a log is the one that came first. Another one counts only after somebody has had the log forgotten ([`forget`]).
//! - One request at a time, whichever process: each holds the folder's lock and reads the state anew.
//! - Two checkpoints of one size and two roots, both signed by the log, are proof of a fork: kept in a file, `fork-…`. A smaller
//!   checkpoint that was never cosigned here is kept as `rollback-…`; one that was is a replay and no alarm. A larger one without a good
//!   proof is an alarm, and no evidence: the proof may be at fault.
//!
//! It has no clock and no network: the time is an argument, and endpoints bring the requests.

mod clock;
mod first;
mod given;
mod keys;
mod overdue;
mod owed;
mod refused;
mod request;
mod state;
mod told;

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::note::{Algorithm, Note, NoteError, Signature, Signer, VerifierKey};
use crate::proof::{ProofError, verify_consistency};
use crate::quorum::SKEW;
use first::First;
use state::Known;

pub use clock::{Clock, Moment};
pub use given::{Given, Newest};
pub use keys::{KeyError, Keys};
pub use overdue::{OVERDUE, Overdue, Turned};
pub use owed::{Debt, FURTHEST, Owed};
pub use refused::{Alarm, Misconduct, Reason, Refused};
pub use request::{AddCheckpoint, RequestError};
pub use told::Told;

/// How old a cosignature may be that a witness was just asked for, in seconds, beside the difference of clocks. A witness makes it when it
/// is asked; one that says another time does not know the time, or says when the log was seen other than it was.
pub const AGE: u64 = 60;

/// The most files of evidence of forks, and of rollbacks; beyond that, alarms only.
const MOST: (usize, usize) = (1000, 100);

/// How many checkpoints that were cosigned before the latest are remembered.
const EARLIER: usize = 32;

/// The file of the private key, and of the public one.
const KEY: &str = "witness.key";
const PUBLIC: &str = "witness.vkey";

/// What was cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// The line below the checkpoint.
    pub cosignature: Signature,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Whether this log was seen for the first time.
    pub first: bool,
}

/// A witness over its folder.
#[derive(Debug)]
pub struct Witness {
    folder: PathBuf,
    signer: Signer,
    first: First,
}

impl Witness {
    /// The witness `name` in `folder`, which exists: with the key and the state that are there, or with new ones where neither is.
    /// Blocks.
    ///
    /// # Errors
    /// Without one of the two, or where one is damaged: it would cosign a fork.
    pub fn open(folder: &Path, name: &str) -> io::Result<Self> {
        let _lock = state::lock(folder)?;
        let path = folder.join(KEY);
        let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        // The state is written first, so that a key without one tells of a state that was lost.
        let new = !state::exists(folder) || state::read(folder).is_ok_and(|known| known.is_empty());
        let signer = match fs::read_to_string(&path) {
            Ok(text) => Signer::parse(text.trim_end()).map_err(|e| damaged(e.to_string()))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound && new => {
                let signer = Signer::generate(name, Algorithm::Cosignature).map_err(|e| damaged(e.to_string()))?;
                let text = signer.private_text().map_err(|e| damaged(e.to_string()))?;
                state::write(folder, &[])?;
                state::replace(folder, KEY, format!("{}\n", text.as_str()).as_bytes())?;
                signer
            }
            Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}; restore it from a copy", path.display()))),
        };
        if signer.key().algorithm() != Algorithm::Cosignature || signer.key().name() != name {
            return Err(damaged(format!("it is not the key of the witness '{name}'")));
        }
        state::read(folder)?;
        let told = format!("{}\n", signer.key());
        if fs::read_to_string(folder.join(PUBLIC)).ok().as_deref() != Some(&told) {
            state::replace(folder, PUBLIC, told.as_bytes())?;
        }
        Ok(Self { folder: folder.to_owned(), signer, first: First::default() })
    }

    /// This witness's public key.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        self.signer.key()
    }

    /// Cosigns a checkpoint of the log `origin` that continues the latest one, at `now` (seconds since 1970). `key` is the log's: taken
    /// as its key when the log is seen for the first time, which `tell` must have told durably before it is remembered: again after the
    /// program ended between the two, never not at all. It is told under the folder's lock. Blocks.
    ///
    /// # Errors
    /// [`Refused`]; nothing is cosigned.
    pub fn add_checkpoint(
        &self,
        origin: &str,
        key: &VerifierKey,
        request: &AddCheckpoint,
        now: u64,
        tell: impl FnOnce(&Checkpoint) -> io::Result<()>,
    ) -> Result<Cosigned, Refused> {
        if key.name() != origin || key.algorithm() != Algorithm::Ed25519 {
            return Err(Reason::OtherLog { found: key.name().to_owned(), expected: origin.to_owned() }.into());
        }
        let unavailable = |e: io::Error| Refused::from(Reason::Unavailable(Arc::new(e)));
        let _lock = state::lock(&self.folder).map_err(unavailable)?;
        let mut all = state::read(&self.folder).map_err(unavailable)?;
        let at = all.iter().position(|of| of.key.name() == origin);
        let log = at.and_then(|at| all.get(at));
        let sent = SignedCheckpoint::open(request.checkpoint.as_bytes(), key).map_err(|e| match e {
            CheckpointError::Note(NoteError::Form(_)) | CheckpointError::Form(_) => Reason::Malformed(e),
            _ => Reason::Unsigned(e),
        })?;
        if let Err(refused) = self.judge(log, key, &sent, request) {
            let happened = refused.alarm.as_ref().map(|alarm| alarm.misconduct);
            // Over a restart, too. Where it cannot be kept, it is refused all the same.
            if let (Some(happened), Some(of)) = (happened, at.and_then(|at| all.get_mut(at)))
                && of.refused != Some(happened.after(of.refused))
            {
                of.refused = Some(happened.after(of.refused));
                let _ = state::write(&self.folder, &all);
            }
            return Err(refused);
        }
        // A clock that goes back does not make a later statement the earlier one.
        let time = now.max(log.map_or(0, |log| log.time));
        let cosignature = self.signer.sign(sent.note().text(), time);
        // Only the log's own lines: a witness keeps no more than it judged.
        let latest = own(&sent, key).map_err(|e| Reason::Unsigned(e.into()))?;
        let earlier = log.map_or_else(Vec::new, |log| log.earlier(&latest));
        let (next, first) = (Known { key: key.clone(), latest, earlier, time, refused: None }, log.is_none());
        match at.and_then(|at| all.get_mut(at)) {
            Some(of) => *of = next,
            None => all.push(next),
        }
        let remember = || state::write(&self.folder, &all);
        let kept = if first { self.first.met(&key.to_string(), || tell(sent.checkpoint()), remember) } else { remember() };
        kept.map_err(unavailable)?;
        Ok(Cosigned { cosignature, checkpoint: sent.checkpoint().clone(), first })
    }

    /// Whether `sent` continues what is known.
    fn judge(&self, log: Option<&Known>, key: &VerifierKey, sent: &SignedCheckpoint, request: &AddCheckpoint) -> Result<(), Refused> {
        if let Some(log) = log.filter(|log| log.key != *key) {
            let sizes = (log.latest.checkpoint().size, sent.checkpoint().size);
            let alarm = Alarm { origin: key.name().to_owned(), misconduct: Misconduct::OtherKey, sizes, evidence: None };
            return Err(Refused { reason: Reason::OtherKey { known: log.key.to_string() }, alarm: Some(Box::new(alarm)) });
        }
        let (old, new) = (request.old_size, sent.checkpoint());
        if old > new.size {
            return Err(Reason::OldSize { old, size: new.size }.into());
        }
        let Some(log) = log else {
            return match (old, request.proof.as_slice()) {
                (0, []) => Ok(()),
                (0, _) => Err(Reason::Proof { size: 0, source: ProofError::Length }.into()),
                _ => Err(Reason::Conflict { size: 0 }.into()),
            };
        };
        let known = log.latest.checkpoint();
        let size = known.size;
        match new.size.cmp(&size) {
            Ordering::Greater => {}
            Ordering::Equal if new.root == known.root => {}
            Ordering::Equal => return Err(self.refused(log, &log.latest.note().to_string(), sent, Misconduct::Fork)),
            Ordering::Less => {
                return Err(match log.of_size(new.size) {
                    Some((same, _)) if same.root == new.root => Reason::Conflict { size }.into(),
                    Some((_, other)) => self.refused(log, other, sent, Misconduct::Fork),
                    None => self.refused(log, &log.latest.note().to_string(), sent, Misconduct::Rollback),
                });
            }
        }
        if old != size {
            return Err(Reason::Conflict { size }.into());
        }
        verify_consistency(size, new.size, &known.root, &new.root, &request.proof).map_err(|source| {
            let misconduct = Misconduct::Unproven;
            let alarm = Alarm { origin: log.key.name().to_owned(), misconduct, sizes: (size, new.size), evidence: None };
            Refused { reason: Reason::Proof { size, source }, alarm: Some(Box::new(alarm)) }
        })
    }

    /// Keeps both signed checkpoints.
    fn refused(&self, log: &Known, known: &str, sent: &SignedCheckpoint, misconduct: Misconduct) -> Refused {
        let size = log.latest.checkpoint().size;
        let evidence = own(sent, &log.key).ok().and_then(|sent| {
            let sent = sent.note().to_string();
            let name = format!("{}-{:.32}.json", misconduct.as_str(), state::hex(format!("{known}{sent}").as_bytes()));
            let told = serde_json::json!({ "log": log.key.to_string(), "misconduct": misconduct.as_str(), "known": known, "sent": sent });
            self.keep(&name, misconduct, &told.to_string()).ok()
        });
        let alarm = Alarm { origin: log.key.name().to_owned(), misconduct, sizes: (size, sent.checkpoint().size), evidence };
        Refused { reason: Reason::Conflict { size }, alarm: Some(Box::new(alarm)) }
    }

    fn keep(&self, name: &str, misconduct: Misconduct, evidence: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        if path.exists() {
            return Ok(path);
        }
        // Each kind has room of its own: rollbacks, which anybody may cause who restores a backup, leave that of forks alone.
        let most = if misconduct == Misconduct::Fork { MOST.0 } else { MOST.1 };
        let of_kind = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with(misconduct.as_str());
        if fs::read_dir(&self.folder)?.filter_map(Result::ok).filter(of_kind).count() >= most {
            return Err(io::Error::other("there is enough evidence"));
        }
        state::replace(&self.folder, name, evidence.as_bytes())?;
        Ok(path)
    }
}

/// The key that verifies what the witness in `folder` cosigns; `None` before its first start. Blocks.
///
/// # Errors
/// When the file cannot be read or holds no key.
pub fn public(folder: &Path) -> io::Result<Option<VerifierKey>> {
    match fs::read_to_string(folder.join(PUBLIC)) {
        Ok(text) => VerifierKey::parse(text.trim_end()).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// What the witness in `folder` cosigned last of a log; `None` for a log that it has not seen. Blocks.
///
/// # Errors
/// When the state cannot be read or is damaged.
pub fn known(folder: &Path, origin: &str) -> io::Result<Option<(VerifierKey, Checkpoint)>> {
    let found = state::read(folder)?.into_iter().find(|of| of.key.name() == origin);
    Ok(found.map(|of| (of.key, of.latest.checkpoint().clone())))
}

/// The logs of which the witness in `folder` has refused what it was shown since it cosigned them last, and what had happened first: a log
/// that went back, was forked or has another key is not trusted until it continues what was cosigned, or is forgotten. Blocks.
///
/// # Errors
/// When the state cannot be read or is damaged.
pub fn distrusted(folder: &Path) -> io::Result<Vec<(String, Misconduct)>> {
    Ok(state::read(folder)?.into_iter().filter_map(|of| Some((of.key.name().to_owned(), of.refused?))).collect())
}

/// Has the witness in `folder` forget a log, so that the next checkpoint of whatever key begins anew: for a person who knows why the log
/// went back. What was known is kept in a file, `forgotten-…`. A running witness honours it at once. Blocks.
///
/// # Errors
/// When the state cannot be read or written.
pub fn forget(folder: &Path, origin: &str) -> io::Result<()> {
    let _lock = state::lock(folder)?;
    let (forgotten, kept): (Vec<Known>, Vec<Known>) = state::read(folder)?.into_iter().partition(|of| of.key.name() == origin);
    for of in &forgotten {
        let note = of.latest.note().to_string();
        let told = serde_json::json!({ "log": of.key.to_string(), "known": note });
        state::replace(folder, &format!("forgotten-{:.32}.json", state::hex(note.as_bytes())), told.to_string().as_bytes())?;
    }
    state::write(folder, &kept)
}

/// The checkpoint with the log's own lines alone.
fn own(sent: &SignedCheckpoint, log: &VerifierKey) -> Result<SignedCheckpoint, NoteError> {
    let mut lines = sent.note().signatures().iter().filter(|line| line.name() == log.name() && line.id == log.id());
    let first = lines.next().cloned().ok_or_else(|| NoteError::Signature(log.name().to_owned()))?;
    let note = Note::new(sent.note().text(), first);
    SignedCheckpoint::open(note.to_string().as_bytes(), log).map_err(|_| NoteError::Signature(log.name().to_owned()))
}

/// The line of `key` on a checkpoint, among lines that came from elsewhere just now: verified, of a time that can be (not later than `now`,
/// nor earlier by more than [`AGE`], as far as clocks agree), and nothing beside it.
///
/// # Errors
/// What is wrong, in words.
pub fn verified(checkpoint: &str, lines: &str, key: &VerifierKey, now: u64) -> Result<String, String> {
    if key.algorithm() != Algorithm::Cosignature {
        return Err(format!("'{}' is not a witness's key", key.name()));
    }
    let note = Note::parse(checkpoint.as_bytes()).map_err(|e| e.to_string())?;
    if lines.len() > crate::note::MAX_NOTE {
        return Err("the cosignatures are longer than 64 KiB".into());
    }
    for line in lines.lines() {
        let line = Signature::parse(line).map_err(|e| e.to_string())?;
        if line.name() != key.name() || line.id != key.id() {
            continue;
        }
        let told = line.to_string();
        return match Note::new(note.text(), line).signed_by(key).map_err(|e| e.to_string())? {
            Some(signed) if signed.time > now.saturating_add(SKEW) => {
                Err(format!("the cosignature of '{}' lies in the future by {} s", key.name(), signed.time.saturating_sub(now)))
            }
            Some(signed) if signed.time.saturating_add(SKEW + AGE) < now => {
                Err(format!("the cosignature of '{}' lies in the past by {} s", key.name(), now.saturating_sub(signed.time)))
            }
            Some(_) => Ok(told),
            None => Err(format!("there is no cosignature of '{}'", key.name())),
        };
    }
    Err(format!("there is no cosignature of '{}'", key.name()))
}

#[cfg(test)]
mod tests;
