//! The tree, worked out from the entries and compared with every tile.

use std::path::Path;

use super::files::Places;
use super::{Beginning, Finding, Kind, files};
use crate::proof::{Hash, leaf_hash, root_from_tiles, root_over};

/// Some entries, as they stand in their file.
#[derive(Debug)]
pub(crate) struct Bundle {
    bytes: Vec<u8>,
    width: usize,
    unread: bool,
}

impl Bundle {
    /// Its entries that the tree covers.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (entry, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
            rest = after;
            Some(entry)
        })
        .take(self.width)
    }

    /// How many entries of it the tree covers.
    pub(crate) fn width(&self) -> u64 {
        self.width as u64
    }

    /// Whether its entries were moved to an archive that nobody named.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread
    }

    /// Whether it is entries to its last byte, and of no more than a bundle has.
    fn is_whole(&self) -> bool {
        let (mut rest, mut count) = (self.bytes.as_slice(), 0);
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let Some((_, after)) = after.split_at_checked(u16::from_be_bytes(*length).into()) else { return false };
            (rest, count) = (after, count + 1);
        }
        rest.is_empty() && count <= 256
    }
}

/// Goes through all bundles and hands them on while `next` wants them. What an earlier checkpoint says of this log's history counts after
/// all tiles agree: until then it may be they that were changed.
pub(crate) fn walk(places: &Places<'_>, size: u64, beginnings: &[Beginning], mut next: impl FnMut(Bundle) -> bool) -> Result<(), Finding> {
    let folder = places.folder;
    let mut levels: Vec<Vec<Hash>> = Vec::new();
    let (mut start, mut earlier) = (0, Ok(()));
    while start < size {
        let width = size.saturating_sub(start).min(256);
        let index = start / 256;
        let first = start.saturating_add(1);
        let at = |finding: Finding| Finding { entry: finding.entry.or(Some(first)), ..finding };
        let bytes = match width {
            256 => files::full_bundle(places, index).map_err(at)?,
            _ => Some(files::wide(folder, "entries", index, width, files::BUNDLE).map_err(at)?),
        };
        let tile = tile(folder, 0, index, width).map_err(at)?;
        let bundle =
            Bundle { unread: bytes.is_none(), bytes: bytes.unwrap_or_default(), width: usize::try_from(width).unwrap_or_default() };
        let leaves: Vec<Hash> = if bundle.is_unread() { tile.clone() } else { bundle.entries().map(leaf_hash).collect() };
        if !bundle.is_whole() {
            return Err(Finding::new(Kind::Form, first, format!("the bundle of entry {first} and those after it was cut or added to")));
        }
        let bad = leaves.iter().zip(&tile).take_while(|(leaf, hash)| leaf == hash).count() as u64;
        if bad < width {
            let number = first.saturating_add(bad);
            let what = format!("entry {number} is not what the tree was built over: its bundle or its tile was changed");
            return Err(Finding::new(Kind::Entry, number, what));
        }
        let within = |b: &&Beginning| b.size >= start && b.size < start.saturating_add(256) && b.size < size;
        earlier = earlier.and_then(|()| beginnings.iter().filter(within).try_for_each(|b| begins(b, &leaves, &levels)));
        if !next(bundle) {
            return Ok(());
        }
        if width == 256 {
            climb(folder, &mut levels, &leaves, index)?;
        } else {
            return ends(folder, (start, size), beginnings, &leaves, &levels).and(earlier);
        }
        start = start.saturating_add(width);
    }
    ends(folder, (size, size), beginnings, &[], &levels).and(earlier)
}

/// That the tiles at the right edge follow from those below, and all checkpoints over the whole log are of it.
fn ends(folder: &Path, (full, size): (u64, u64), beginnings: &[Beginning], leaves: &[Hash], levels: &[Vec<Hash>]) -> Result<(), Finding> {
    (1..).zip(levels).try_for_each(|(level, hashes)| edge(folder, level, full, hashes))?;
    beginnings.iter().filter(|b| b.size == size).try_for_each(|b| begins(b, leaves, levels))
}

/// Takes a full tile's root to the level above, and so on while that is full.
fn climb(folder: &Path, levels: &mut Vec<Vec<Hash>>, leaves: &[Hash], index: u64) -> Result<(), Finding> {
    let (mut carried, mut index, mut level) = (root_over(leaves), index, 1);
    let mut at = 0;
    while let Some(hash) = carried.take() {
        if levels.len() <= at {
            levels.push(Vec::new());
        }
        let Some(hashes) = levels.get_mut(at) else { break };
        hashes.push(hash);
        index /= 256;
        if hashes.len() == 256 {
            compare(folder, level, index, hashes)?;
            carried = root_over(hashes);
            hashes.clear();
        }
        (at, level) = (at.saturating_add(1), level.saturating_add(1));
    }
    Ok(())
}

/// Compares what a level has after its last full tile.
fn edge(folder: &Path, level: u32, size: u64, hashes: &[Hash]) -> Result<(), Finding> {
    let index = size.checked_shr(level.saturating_mul(8).saturating_add(8)).unwrap_or_default();
    if hashes.is_empty() { Ok(()) } else { compare(folder, level, index, hashes) }
}

fn compare(folder: &Path, level: u32, index: u64, hashes: &[Hash]) -> Result<(), Finding> {
    let below = 1_u64.checked_shl(level.saturating_mul(8)).unwrap_or(u64::MAX);
    let first = |at: u64| index.saturating_mul(256).saturating_add(at).saturating_mul(below).saturating_add(1);
    let found = tile(folder, level, index, hashes.len() as u64).map_err(|f| Finding { entry: Some(first(0)), ..f })?;
    let same = hashes.iter().zip(&found).take_while(|(hash, found)| hash == found).count();
    if same == hashes.len() {
        return Ok(());
    }
    let what = format!("tile {index} of level {level} does not follow from the level below: it was changed");
    Err(Finding::new(Kind::Tile, first(same as u64), what))
}

/// The first `width` hashes of a tile.
pub(crate) fn tile(folder: &Path, level: u32, index: u64, width: u64) -> Result<Vec<Hash>, Finding> {
    let bytes = files::wide(folder, &level.to_string(), index, width, files::TILE)?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    let wanted = usize::try_from(width).ok().and_then(|width| hashes.get(..width)).filter(|_| rest.is_empty());
    let what = format!("tile {index} of level {level} does not hold {width} hashes: it was cut or changed");
    wanted.map(<[Hash]>::to_vec).ok_or_else(|| Finding::new(Kind::Form, None, what))
}

/// Whether the tree so far, with some of these leaves, is the one that a checkpoint names.
fn begins(beginning: &Beginning, leaves: &[Hash], levels: &[Vec<Hash>]) -> Result<(), Finding> {
    let root = root_from_tiles(beginning.size, |level, _, width| {
        let above = usize::try_from(level).ok().and_then(|level| level.checked_sub(1)).and_then(|at| levels.get(at));
        let hashes = if level == 0 { leaves } else { above.map(Vec::as_slice).unwrap_or_default() };
        Ok::<_, Finding>(hashes.iter().take(width).copied().collect())
    })?;
    if root == beginning.root {
        return Ok(());
    }
    let (kind, why) = match beginning.name {
        "checkpoint" => (Kind::Root, "the entries lead to another root"),
        _ => (Kind::Forked, "it is not a beginning of this log: its history was replaced"),
    };
    Err(Finding::new(kind, None, format!("{} of {} entries: {why}", beginning.name, beginning.size)))
}
