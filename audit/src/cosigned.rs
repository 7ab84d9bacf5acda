//! Cosignatures on the log's checkpoints. While witnesses look at one, the log may publish the next: so the best that they signed is kept
//! beside the latest one.
//!
//! | a checkpoint replaces the one that is kept | where |
//! |---|---|
//! | it has enough cosignatures | it is newer, or the other has not enough |
//! | it has too few | the other too, and has fewer, or as many and is older |
//!
//! So evidence of a quorum only ever gives way to newer evidence of one. A key has one line under a checkpoint, its latest.
//!
//! Lines that come while the log is open were verified by who hands them in. Those that stand in the folder anybody may have written there:
//! they count once [`take_up`] has verified them, and what is in memory counts from then on, not the files.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;

use crate::checkpoint::SignedCheckpoint;
use crate::integrate::Shared;
use crate::key::LogKey;
use crate::note::{MAX_NOTE, MAX_SIGNATURES, Note, Signature, VerifierKey};
use crate::quorum::SKEW;
use crate::recover::CHECKPOINT;

/// The best checkpoint that has cosignatures.
pub(crate) const COSIGNED: &str = "checkpoint.cosigned";

/// How many checkpoints are remembered with the lines that came so far: witnesses answer one after the other, and the log goes on.
const GATHERED: usize = 8;

/// Checkpoints with lines that were verified.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The best of all.
    kept: Option<SignedCheckpoint>,
    /// Those to which lines came lately.
    lately: VecDeque<SignedCheckpoint>,
}

impl Gathered {
    /// The best checkpoint's text.
    pub(crate) fn best(&self) -> Option<String> {
        self.kept.as_ref().map(|kept| kept.note().to_string())
    }
}

/// New lines for a checkpoint.
pub(crate) struct Cosigned<'a> {
    pub(crate) signed: SignedCheckpoint,
    pub(crate) lines: Vec<Signature>,
    /// Whether witnesses of these names are enough.
    pub(crate) enough: &'a dyn Fn(&BTreeSet<&str>) -> bool,
}

/// The lines of a text, if all of it are whole signature lines, and none of them is the log's own.
pub(crate) fn signatures(key: &LogKey, lines: &str) -> Option<Vec<Signature>> {
    let lines = lines.strip_suffix('\n')?.split('\n').take(MAX_SIGNATURES).map(Signature::parse);
    lines.collect::<Result<Vec<_>, _>>().ok().filter(|lines| !lines.iter().any(|line| key.is_named_by(line)))
}

/// Puts them where they belong, on the disk first.
pub(crate) fn add(shared: &Shared, new: Cosigned<'_>) -> io::Result<()> {
    let key = &shared.key;
    let Cosigned { signed, lines, enough } = new;
    shared.replace(|latest, gathered| {
        let latest = key.open_checkpoint(latest).filter(|latest| latest.checkpoint() == signed.checkpoint());
        let same = |other: &&SignedCheckpoint| other.checkpoint() == signed.checkpoint();
        let before = gathered.lately.iter().chain(&gathered.kept).chain(&latest).filter(same).flat_map(|other| other.note().signatures());
        let before = before.chain(signed.note().signatures()).filter(|line| !key.is_named_by(line));
        let joined = joined(key, &signed, before.cloned().collect::<Vec<_>>().into_iter().chain(lines))?;
        let mut files = Vec::new();
        if gathered.kept.as_ref().is_none_or(|kept| gives_way(key, kept, &joined, enough)) {
            files.push((COSIGNED.to_owned(), joined.note().to_string().into_bytes()));
            gathered.kept = Some(joined.clone());
        }
        let text = latest.map(|_| joined.note().to_string());
        gathered.lately.retain(|other| other.checkpoint() != joined.checkpoint());
        gathered.lately.push_back(joined);
        if gathered.lately.len() > GATHERED {
            gathered.lately.pop_front();
        }
        Ok((files, text))
    })
}

/// Takes up the lines that stand in the folder and that one of these keys made; all others are left out.
pub(crate) fn take_up(shared: &Shared, witnesses: &[VerifierKey], now: u64) -> io::Result<()> {
    let key = &shared.key;
    let read = |name: &str| {
        let signed = key.open_checkpoint(&fs::read_to_string(shared.disk.path(name)).ok()?)?;
        let is_one = |line: &&Signature| witnesses.iter().any(|witness| line.is_of(witness) && is_made(signed.note(), witness, now));
        let lines: Vec<Signature> = signed.note().signatures().iter().filter(is_one).cloned().collect();
        Some((signed, lines)).filter(|(_, lines)| !lines.is_empty())
    };
    shared.replace(|latest, gathered| {
        if let Some((signed, lines)) = read(COSIGNED) {
            gathered.kept = Some(joined(key, &signed, lines.into_iter())?);
        }
        let latest = key.open_checkpoint(latest);
        let of_latest = read(CHECKPOINT).filter(|(signed, _)| latest.is_some_and(|latest| latest.checkpoint() == signed.checkpoint()));
        let text = of_latest.map(|(signed, lines)| joined(key, &signed, lines.into_iter())).transpose()?;
        Ok((Vec::new(), text.map(|of| of.note().to_string())))
    })
}

/// Whether a witness signed, and not in the future.
fn is_made(note: &Note, witness: &VerifierKey, now: u64) -> bool {
    matches!(note.signed_by(witness), Ok(Some(signed)) if signed.time <= now.saturating_add(SKEW))
}

/// The checkpoint with the log's own line alone.
pub(crate) fn bare(key: &LogKey, checkpoint: &str) -> io::Result<String> {
    let unsigned = || io::Error::other("a checkpoint that is not this log's");
    let signed = key.open_checkpoint(checkpoint).ok_or_else(unsigned)?;
    Ok(joined(key, &signed, std::iter::empty())?.note().to_string())
}

/// The checkpoint with the log's own line and one of each other key: the last of them counts.
fn joined(key: &LogKey, signed: &SignedCheckpoint, lines: impl Iterator<Item = Signature>) -> io::Result<SignedCheckpoint> {
    let many = || io::Error::other("a checkpoint with more cosignatures than it may have");
    let own = signed.note().signatures().iter().find(|line| key.is_named_by(line)).cloned().ok_or_else(many)?;
    let mut note = Note::new(signed.note().text(), own);
    lines.for_each(|line| note.put(line));
    let text = note.to_string();
    if text.len() > MAX_NOTE || note.signatures().len() > MAX_SIGNATURES {
        return Err(many());
    }
    key.open_checkpoint(&text).ok_or_else(many)
}

/// Whether the checkpoint that is kept is replaced by another one, or by the same with other lines.
fn gives_way(key: &LogKey, kept: &SignedCheckpoint, new: &SignedCheckpoint, enough: &dyn Fn(&BTreeSet<&str>) -> bool) -> bool {
    if kept.checkpoint() == new.checkpoint() {
        return true;
    }
    let (old_names, new_names) = (cosigners(key, kept), cosigners(key, new));
    let newer = new.checkpoint().size > kept.checkpoint().size;
    match (enough(&old_names), enough(&new_names)) {
        (false, true) => true,
        (true, false) => false,
        (true, true) => newer,
        (false, false) => new_names.len() > old_names.len() || (new_names.len() == old_names.len() && newer),
    }
}

/// Who cosigned a checkpoint.
fn cosigners<'s>(key: &LogKey, signed: &'s SignedCheckpoint) -> BTreeSet<&'s str> {
    signed.note().signatures().iter().filter(|line| !key.is_named_by(line)).map(Signature::name).collect()
}
