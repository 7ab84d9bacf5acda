//! Proofs from a log's folder, which may be a copy or beside its writer: for who has the folder and not the key. Nothing is verified.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::archive::archived;
use crate::checkpoint::Checkpoint;
use crate::note::Note;
use crate::receipt::{Consistency, Receipt};
use crate::recover::CHECKPOINT;
use crate::tile::{Tiles, damaged};
use crate::tree::{self, Hashes};

/// That the entry at `index` (from 0) is under the folder's latest checkpoint, with the entry's bytes and without a promise.
///
/// # Errors
/// An [`io::Error`] where the checkpoint does not cover it, or something is missing.
pub fn inclusion(folder: &Path, index: u64) -> io::Result<Receipt> {
    inclusion_with(folder, &[], index)
}

/// The same, with the archives to which entries were moved.
///
/// # Errors
/// As [`inclusion`]; when one of them is no archive.
pub fn inclusion_with(folder: &Path, archives: &[PathBuf], index: u64) -> io::Result<Receipt> {
    let (checkpoint, size) = latest(folder)?;
    let receipt = under(&Tiles::of(folder), index, checkpoint, size)?;
    Ok(Receipt { entry: Some(entry(folder, archives, index)?), ..receipt })
}

/// That the tree of `from` entries is the beginning of the tree of `to`.
///
/// # Errors
/// As [`inclusion`].
pub fn consistency(folder: &Path, from: u64, to: u64) -> io::Result<Consistency> {
    let (_, size) = latest(folder)?;
    if to > size {
        return Err(beyond(format!("a tree of {to} entries: the latest checkpoint covers {size}")));
    }
    Ok(Consistency { from, to, proof: tree::consistency(&Tiles::of(folder), from, to)? })
}

/// The receipt of the entry at `index`, without its bytes and a promise, under `checkpoint`, which is of `size` entries.
pub(crate) fn under(tree: &impl Hashes, index: u64, checkpoint: String, size: u64) -> io::Result<Receipt> {
    if index >= size {
        return Err(beyond(format!("entry {}: the latest checkpoint covers {size}", index.saturating_add(1))));
    }
    let leaf_hash = tree.hashes(0, index, 1)?.first().copied().ok_or_else(|| damaged("a tile holds no hash".into()))?;
    Ok(Receipt { index, leaf_hash, entry: None, promise: None, proof: tree::inclusion(tree, index, size)?, checkpoint })
}

fn entry(folder: &Path, archives: &[PathBuf], index: u64) -> io::Result<Vec<u8>> {
    let read = crate::read_with(folder, archives, index)?.next().transpose()?;
    let number = index.saturating_add(1);
    match read.filter(|(at, _)| *at == index) {
        Some((_, entry)) => Ok(entry),
        None if archived(folder)? > index => Err(beyond(format!("entry {number}: it was moved to an archive, and none is named"))),
        None => Err(damaged(format!("entry {number} is missing"))),
    }
}

fn latest(folder: &Path) -> io::Result<(String, u64)> {
    let text = fs::read_to_string(folder.join(CHECKPOINT))?;
    let note = Note::parse(text.as_bytes()).map_err(|e| damaged(format!("{CHECKPOINT}: {e}")))?;
    let size = Checkpoint::parse(note.text()).map_err(|e| damaged(format!("{CHECKPOINT}: {e}")))?.size;
    Ok((text, size))
}

fn beyond(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
