//! What the log stands at when it is opened: checkpoint, tiles and tail must tell the same. Entries that are durable and that no
//! checkpoint covers yet are normal after a crash; a checkpoint over more than there is, or over something else, is refused.

use std::fs;
use std::io;

use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::key::LogKey;
use crate::tail::{TAIL, Tail};
use crate::tile::{Tiles, agreeing, damaged};
use crate::tree::{Edge, Hashes as _, WIDTH, leaf_hash, levels, partial, tiles};

/// The name of the latest checkpoint in the folder.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) tail: Tail,
    pub(crate) checkpoint: String,
    pub(crate) edge: Edge,
    /// The entries that the checkpoint covers and no full bundle holds.
    pub(crate) bundle: Vec<Vec<u8>>,
    /// The entries that no checkpoint covers.
    pub(crate) waiting: Vec<Vec<u8>>,
}

/// Reads a folder whose lock is held.
pub(crate) fn recover(disk: &Disk, key: &LogKey) -> io::Result<Recovered> {
    let checkpoint = match fs::read_to_string(disk.path(CHECKPOINT)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !begun(disk) => {
            let text = key.checkpoint(0, &Edge::default().root());
            disk.publish(&[(CHECKPOINT.to_owned(), text.clone().into_bytes())])?;
            text
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("the checkpoint is missing, and there are entries: it was removed".into()));
        }
        read => read?,
    };
    let Some(Checkpoint { size, root, .. }) = key.read(&checkpoint) else {
        return Err(damaged("the checkpoint is not what this log's key signed: it was cut or changed".into()));
    };
    let full = size - size % WIDTH;
    if size > full {
        agreeing(&disk.folder, full / WIDTH, size % WIDTH)?;
    }
    let edge = edge(disk, size)?;
    if edge.root() != root {
        return Err(damaged(format!("the tiles do not give the root that the checkpoint over {size} entries signs: one was changed")));
    }
    if size > 0 && !disk.path(TAIL).exists() {
        return Err(damaged("the tail is missing: it was removed".into()));
    }
    let (mut tail, mut entries) = Tail::open(disk, size, None)?;
    fits(disk, &tail, &entries, size)?;
    tail.mend()?;
    // Both are within the tail: `fits` has said so.
    let covered = usize::try_from((size + 1).saturating_sub(tail.first())).unwrap_or(usize::MAX).min(entries.len());
    let waiting = entries.split_off(covered);
    let bundle = entries.split_off(covered.saturating_sub(usize::try_from(size - full).unwrap_or_default()));
    Ok(Recovered { tail, checkpoint, edge, bundle, waiting })
}

/// Whether there is a log: then it has a checkpoint.
fn begun(disk: &Disk) -> bool {
    disk.path("tile").exists() || disk.path(TAIL).metadata().is_ok_and(|tail| tail.len() > 0)
}

fn edge(disk: &Disk, size: u64) -> io::Result<Edge> {
    let files = Tiles::of(&disk.folder);
    let tile = |level| match partial(size, level) {
        0 => Ok(Vec::new()),
        width => files.tile(level, tiles(size, level), width),
    };
    Ok(Edge { size, levels: (0..levels(size)).map(tile).collect::<io::Result<_>>()? })
}

/// That the tail holds what the checkpoint covers beyond full bundles, and that it is what the tree was built over.
fn fits(disk: &Disk, tail: &Tail, entries: &[Vec<u8>], size: u64) -> io::Result<()> {
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
    let leaves = Tiles::of(&disk.folder);
    for (number, entry) in (tail.first()..=size).zip(entries) {
        if leaves.hashes(0, number - 1, 1)? != [leaf_hash(entry)] {
            return Err(damaged(format!("entry {number} in the tail is not what the tree was built over: the tail was changed")));
        }
    }
    Ok(())
}
