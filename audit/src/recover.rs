//! What the log stands at when it is opened: checkpoint, tiles and tail must tell the same. Entries that are durable and that no
//! checkpoint covers yet are normal after a crash, where their salts say that this log wrote them in their places; a checkpoint over more
//! than there is, or over something else, is refused.

use std::fs;
use std::io;
use std::sync::Arc;

use crate::Entry;
use crate::disk::Disk;
use crate::key::LogKey;
use crate::proved::Proved;
use crate::salt::Salts;
use crate::stood::Stood;
use crate::tail::{TAIL, Tail, added};
use crate::tile::{agreeing, damaged};
use crate::tree::{Edge, Hash, WIDTH, leaf_hash};

/// The name of the latest checkpoint in the folder.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) tail: Tail,
    pub(crate) checkpoint: String,
    pub(crate) edge: Arc<Edge>,
    /// The entries that the checkpoint covers and no full bundle holds.
    pub(crate) bundle: Vec<Vec<u8>>,
    /// The entries that no checkpoint covers.
    pub(crate) waiting: Vec<Vec<u8>>,
    pub(crate) salts: Salts,
    /// The leaf hash of the last entry, zeros where there is none.
    pub(crate) last: Hash,
    /// What the log has to tell of where it is remembered to have stood.
    pub(crate) found: Option<Entry>,
}

/// Reads a folder whose lock is held, and mends the end of its tail; `stood` is where the log is remembered to have stood.
pub(crate) fn recover(disk: &Disk, key: &LogKey, stood: Option<&Stood>) -> io::Result<Recovered> {
    let mut found = look(disk, key, stood)?;
    if !disk.path(CHECKPOINT).exists() {
        disk.publish(&[(CHECKPOINT.to_owned(), found.checkpoint.clone().into_bytes())])?;
    }
    found.tail.mend()?;
    Ok(found)
}

/// Whether a folder could be recovered, of which nothing is changed.
pub(crate) fn check(disk: &Disk, key: &LogKey, stood: &Stood) -> io::Result<()> {
    if begun(disk) || disk.path(CHECKPOINT).exists() {
        return look(disk, key, Some(stood)).map(drop);
    }
    // Looked at, it would get an empty tail, of whoever looks.
    stood.holds(&Proved::of(&disk.folder, Arc::default())).map(drop)
}

/// What there is; nothing of it is changed.
fn look(disk: &Disk, key: &LogKey, stood: Option<&Stood>) -> io::Result<Recovered> {
    let unsigned = || damaged("the checkpoint is not what this log's key signed: it was cut or changed".into());
    let checkpoint = match fs::read(disk.path(CHECKPOINT)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !begun(disk) => key.checkpoint(0, &Edge::default().root()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("the checkpoint is missing, and there are entries: it was removed".into()));
        }
        read => String::from_utf8(read?).map_err(|_| unsigned())?,
    };
    let signed = key.read(&checkpoint).ok_or_else(unsigned)?;
    let size = signed.size;
    let full = size - size % WIDTH;
    if size > full {
        agreeing(&disk.folder, full / WIDTH, size % WIDTH)?;
    }
    let tree = Proved::under(&disk.folder, &signed)?;
    if size > 0 && !disk.path(TAIL).exists() {
        return Err(damaged("the tail is missing: it was removed".into()));
    }
    let found = stood.map(|stood| stood.holds(&tree)).transpose()?.flatten();
    let (tail, mut entries) = Tail::open(disk, size, None)?;
    fits(&tree, &tail, &entries, |_| None)?;
    // Both are within the tail: `fits` has said so.
    let covered = usize::try_from((size + 1).saturating_sub(tail.first())).unwrap_or(usize::MAX).min(entries.len());
    let waiting = entries.split_off(covered);
    let bundle = entries.split_off(covered.saturating_sub(usize::try_from(size - full).unwrap_or_default()));
    let salts = key.salts()?;
    let last = written(disk, &salts, &tree, &tail, &waiting)?;
    Ok(Recovered { tail, checkpoint, edge: Arc::clone(tree.edge()), bundle, waiting, salts, last, found })
}

/// That this log wrote the entries that no checkpoint covers; the leaf hash of the last entry. What passes here is signed.
fn written(disk: &Disk, salts: &Salts, tree: &Proved, tail: &Tail, waiting: &[Vec<u8>]) -> io::Result<Hash> {
    let mut last = tree.size().checked_sub(1).map_or(Ok(Hash::default()), |index| tree.leaf(index))?;
    for (number, entry) in (tree.size().saturating_add(1)..).zip(waiting) {
        if !salts.fit(number, &last, entry) {
            let line = number.saturating_add(1).saturating_sub(tail.first());
            let why = "this log's key did not salt it: it was added or changed, or one before it was, or an earlier version of this program \
                       wrote it and was killed";
            return Err(added(disk, number, line, why));
        }
        last = leaf_hash(entry);
    }
    Ok(last)
}

/// Whether there is a log: then it has a checkpoint.
fn begun(disk: &Disk) -> bool {
    disk.path("tile").exists() || disk.path(TAIL).metadata().is_ok_and(|tail| tail.len() > 0)
}

/// That the tail holds what the checkpoint covers beyond full bundles, and that it is what the tree was built over; beyond it, what
/// `beyond` tells by the number, where that is known.
pub(crate) fn fits(tree: &Proved, tail: &Tail, entries: &[Vec<u8>], beyond: impl Fn(u64) -> Option<Hash>) -> io::Result<()> {
    let size = tree.size();
    let full = size - size % WIDTH;
    if tail.first() > full + 1 || !(tail.first() - 1).is_multiple_of(WIDTH) {
        let first = full + 1;
        return Err(damaged(format!("entry {first} is missing: the tail begins at entry {}, so its beginning was cut", tail.first())));
    }
    if tail.last() < size {
        let (last, first) = (tail.last(), tail.last() + 1);
        return Err(damaged(format!(
            "entry {first} is missing: the tail ends at {last}, and the checkpoint covers {size}; entries were lost"
        )));
    }
    for (number, entry) in (tail.first()..).zip(entries) {
        let leaf = if number <= size { Some(tree.leaf(number - 1)?) } else { beyond(number) };
        if leaf.is_some_and(|leaf| leaf != leaf_hash(entry)) {
            let what = if number <= size { "what the tree was built over" } else { "what was acknowledged" };
            return Err(damaged(format!("entry {number} in the tail is not {what}: the tail was changed")));
        }
    }
    Ok(())
}
