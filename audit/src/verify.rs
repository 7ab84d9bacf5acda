//! Verification of a log's folder, offline: nothing is taken on trust but the keys that the caller brings.
//!
//! It shares no code with the log that writes, but for the form of signed notes: what is hashed, and how, stands in [`crate::proof`]. One thread reads and hashes, another
//! reads what entries say; memory stays bounded by a few bundles and one tile of each level.
//!
//! Checked are: the checkpoint's signature and its witnesses, every entry against its tile, every tile against the level below, the root,
//! the numbers and times of entries, earlier checkpoints as beginnings of this log, that the log tells of the archive to which entries that
//! are not there were moved, and the tail. Not checked are narrower partial files
//! that a wider one replaces, and events against each other. It is for a log at rest or a copy: beside a writer the tail may have moved on.

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use crate::checkpoint::SignedCheckpoint;
use crate::note::VerifierKey;
use crate::quorum::Witnesses;

mod entries;
mod files;
mod tree;

/// What to verify, and with which keys.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The log's folder.
    pub folder: &'a Path,
    /// Archives to which entries of the log were moved. Without any, entries that were moved, as an entry tells, are taken for what their
    /// tiles say.
    pub archives: &'a [PathBuf],
    /// The log's key, from elsewhere; without it `log.vkey` of the folder is used, which proves nothing about who wrote the log.
    pub key: Option<&'a VerifierKey>,
    /// An earlier signed checkpoint that must be a beginning of this log.
    pub against: Option<&'a [u8]>,
    /// Who must have cosigned `checkpoint` or `checkpoint.cosigned`.
    pub witnesses: &'a Witnesses,
    /// Seconds since 1970.
    pub now: u64,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file or a key cannot be read, or is not there.
    Missing,
    /// A file is longer than it can be, or does not have its form.
    Form,
    /// A checkpoint is not the log's.
    Checkpoint,
    /// An entry is not what its tile was built over.
    Entry,
    /// A tile does not follow from the level below.
    Tile,
    /// All follows from the entries, and the checkpoint has another root.
    Root,
    /// An entry does not have its number.
    Number,
    /// An entry is more than 30 s older than one before it.
    Time,
    /// The tail does not continue the tree.
    Tail,
    /// The log is shorter than an earlier checkpoint.
    RolledBack,
    /// An earlier checkpoint is not a beginning of this log.
    Forked,
    /// Too few witnesses have signed.
    Unwitnessed,
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Finding {
    /// What kind it is.
    pub kind: Kind,
    /// The first bad entry, from 1, where it is known.
    pub entry: Option<u64>,
    /// What is wrong, in words.
    pub what: String,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// Whether the key came with the log, and not from the caller.
    pub own_key: bool,
    /// Entries under the checkpoint.
    pub entries: u64,
    /// How many of them were moved to an archive and not read: their hashes are what was signed.
    pub unread: u64,
    /// Entries beyond it, in the tail.
    pub beyond: u64,
    /// Whether the tail ends within a line, as a crash leaves one that was never acknowledged.
    pub torn: bool,
    /// How many entries a quorum of witnesses has seen; `None` where no witnesses were asked for.
    pub witnessed: Option<u64>,
    /// The size of the earlier checkpoint that was found to be a beginning of this log.
    pub against: Option<u64>,
}

/// A tree that must be a beginning of this one.
pub(crate) struct Beginning {
    pub(crate) name: &'static str,
    pub(crate) size: u64,
    pub(crate) root: crate::proof::Hash,
}

impl Finding {
    fn new(kind: Kind, entry: impl Into<Option<u64>>, what: impl Into<String>) -> Self {
        Self { kind, entry: entry.into(), what: what.into() }
    }
}

/// Verifies a log.
///
/// # Errors
/// The first [`Finding`].
pub fn verify(request: &Request<'_>) -> Result<Report, Finding> {
    let key = match request.key {
        Some(key) => key.clone(),
        None => files::own_key(request.folder)?,
    };
    let latest = signed("checkpoint", &files::required(request.folder, "checkpoint", files::NOTE)?, &key)?;
    let cosigned = files::optional(request.folder, "checkpoint.cosigned", files::NOTE)?;
    let cosigned = cosigned.map(|bytes| signed("checkpoint.cosigned", &bytes, &key)).transpose()?;
    let against = request.against.map(|bytes| signed("the earlier checkpoint", bytes, &key)).transpose()?;
    let witnessed = witnessed(request, &latest, cosigned.as_ref())?;
    let size = latest.checkpoint().size;
    let mut beginnings = vec![Beginning { name: "checkpoint", size, root: latest.checkpoint().root }];
    let manifests = files::manifests(request.archives, &key)?;
    let manifests = manifests.iter().map(|manifest| ("an archive's checkpoint", Some(manifest)));
    let earlier = [("the earlier checkpoint", against.as_ref()), ("checkpoint.cosigned", cosigned.as_ref())];
    for (name, earlier) in earlier.into_iter().chain(manifests) {
        let Some(earlier) = earlier.map(SignedCheckpoint::checkpoint) else { continue };
        if earlier.size > size {
            let what = format!("{name} has {} entries, and the log has {size}: it was rolled back", earlier.size);
            return Err(Finding::new(Kind::RolledBack, size.saturating_add(1), what));
        }
        beginnings.push(Beginning { name, size: earlier.size, root: earlier.root });
    }
    let mut said = entries::Said::default();
    // A channel of few bundles bounds memory.
    std::thread::scope(|scope| {
        let (send, bundles) = sync_channel(4);
        let places = files::Places { folder: request.folder, archives: request.archives, moved: files::moved(request.folder)? };
        scope.spawn(move || {
            if let Err(finding) = tree::walk(&places, size, &beginnings, |bundle| send.send(Ok(bundle)).is_ok()) {
                // Nobody listens only where something was found earlier.
                drop(send.send(Err(finding)));
            }
        });
        bundles.into_iter().try_for_each(|bundle: Result<tree::Bundle, Finding>| match bundle? {
            bundle if bundle.is_unread() => {
                said.pass_over(bundle.width());
                Ok(())
            }
            bundle => bundle.entries().try_for_each(|entry| said.next(entry)),
        })
    })?;
    // Before the tail, which nobody has signed.
    said.is_archived()?;
    let (beyond, torn) = entries::tail(request.folder, size, &mut said)?;
    Ok(Report {
        origin: key.name().to_owned(),
        own_key: request.key.is_none(),
        entries: size,
        unread: said.unread(),
        beyond,
        torn,
        witnessed,
        against: against.map(|against| against.checkpoint().size),
    })
}

fn signed(name: &str, bytes: &[u8], key: &VerifierKey) -> Result<SignedCheckpoint, Finding> {
    SignedCheckpoint::open(bytes, key).map_err(|e| Finding::new(Kind::Checkpoint, None, format!("{name}: {e}")))
}

fn witnessed(request: &Request<'_>, latest: &SignedCheckpoint, cosigned: Option<&SignedCheckpoint>) -> Result<Option<u64>, Finding> {
    if *request.witnesses == Witnesses::none() {
        return Ok(None);
    }
    let seen = |checkpoint: &&SignedCheckpoint| request.witnesses.judge(checkpoint.note(), request.now).is_witnessed();
    let seen = [Some(latest), cosigned].into_iter().flatten().find(seen).map(|checkpoint| checkpoint.checkpoint().size);
    let what = "too few of the witnesses have signed the log's checkpoint: ask them which one they signed last";
    seen.map(Some).ok_or_else(|| Finding::new(Kind::Unwitnessed, None, what))
}

#[cfg(test)]
mod tests;
