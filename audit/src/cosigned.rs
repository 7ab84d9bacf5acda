//! Cosignatures on the log's checkpoints. While witnesses look at one, the log may publish the next: so the best that they signed is kept
//! beside the latest one.
//!
//! | a checkpoint replaces the one that is kept | where |
//! |---|---|
//! | it has enough cosignatures | it is newer, or the other has not enough |
//! | it has too few | the other too, and has fewer, or as many and is older |
//!
//! So evidence of a quorum only ever gives way to newer evidence of one. A key has one line under a checkpoint, its latest.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;

use crate::checkpoint::SignedCheckpoint;
use crate::integrate::Shared;
use crate::key::LogKey;
use crate::note::{MAX_NOTE, MAX_SIGNATURES, Note, Signature};

/// The best checkpoint that has cosignatures.
pub(crate) const COSIGNED: &str = "checkpoint.cosigned";

/// How many checkpoints are remembered with the lines that came so far: witnesses answer one after the other, and the log goes on.
const GATHERED: usize = 8;

/// Checkpoints to which lines came lately.
pub(crate) type Gathered = VecDeque<SignedCheckpoint>;

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
        let kept = fs::read_to_string(shared.disk.path(COSIGNED)).ok().and_then(|kept| key.open_checkpoint(&kept));
        let latest = key.open_checkpoint(latest).filter(|latest| latest.checkpoint() == signed.checkpoint());
        let same = |other: &&SignedCheckpoint| other.checkpoint() == signed.checkpoint();
        let before = gathered.iter().chain(&kept).chain(&latest).filter(same).flat_map(|other| other.note().signatures());
        let before = before.chain(signed.note().signatures()).filter(|line| !key.is_named_by(line));
        let joined = joined(key, &signed, before.cloned().collect::<Vec<_>>().into_iter().chain(lines))?;
        let mut files = Vec::new();
        if kept.is_none_or(|kept| gives_way(key, &kept, &joined, enough)) {
            files.push((COSIGNED.to_owned(), joined.note().to_string().into_bytes()));
        }
        let text = latest.map(|_| joined.note().to_string());
        gathered.retain(|other| other.checkpoint() != joined.checkpoint());
        gathered.push_back(joined);
        if gathered.len() > GATHERED {
            gathered.pop_front();
        }
        Ok((files, text))
    })
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
