//! The files of tiles and entry bundles (c2sp.org/tlog-tiles): their names, their bytes, and reading them.
//!
//! `tile/<level>/<index>` holds 256 hashes, `tile/entries/<index>` 256 entries, each after its length in two big-endian bytes.
//! What is not full yet is at `….p/<width>`, and goes when it is. Who reads beside the writer therefore asks for at least a width.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::tree::{Hash, Hashes, WIDTH, leaf_hash};

/// The longest entry, in bytes.
pub(crate) const MAX_ENTRY: usize = 65_535;

/// The name of a level's tile, as `x001/x234/067`; of a partial one with its width.
pub(crate) fn tile_name(level: u32, index: u64, width: u64) -> String {
    name(&level.to_string(), index, width)
}

/// The name of a bundle of entries.
pub(crate) fn bundle_name(index: u64, width: u64) -> String {
    name("entries", index, width)
}

fn name(kind: &str, index: u64, width: u64) -> String {
    let mut digits = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        digits = format!("x{:03}/{digits}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width == WIDTH { String::new() } else { format!(".p/{width}") };
    format!("tile/{kind}/{digits}{partial}")
}

/// The bytes of a tile.
pub(crate) fn encode(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// The bytes of a bundle. Entries are at most [`MAX_ENTRY`] bytes.
pub(crate) fn bundle<'a>(entries: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend(u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(entry);
    }
    bytes
}

/// The entries of a bundle; `None` when its lengths do not fit its bytes.
pub(crate) fn unbundle(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    Some(entries)
}

/// The tiles of a folder, read when they are asked for and then kept.
#[derive(Debug)]
pub(crate) struct Tiles {
    folder: PathBuf,
    kept: RefCell<HashMap<(u32, u64), Vec<Hash>>>,
}

impl Tiles {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), kept: RefCell::default() }
    }

    /// The first `width` hashes of a tile.
    pub(crate) fn tile(&self, level: u32, index: u64, width: u64) -> io::Result<Vec<Hash>> {
        let bytes = at_least(&self.folder, |width| tile_name(level, index, width), width)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        let wanted = usize::try_from(width).ok().and_then(|width| hashes.get(..width));
        wanted
            .filter(|_| rest.is_empty() && hashes.len() as u64 <= WIDTH)
            .map(<[Hash]>::to_vec)
            .ok_or_else(|| damaged(format!("{} holds {} bytes: it was cut or changed", tile_name(level, index, width), bytes.len())))
    }
}

impl Hashes for Tiles {
    fn hashes(&self, level: u32, first: u64, count: usize) -> io::Result<Vec<Hash>> {
        let (index, start) = (first / WIDTH, usize::try_from(first % WIDTH).unwrap_or_default());
        let wanted = start..start.saturating_add(count);
        if let Some(hashes) = self.kept.borrow().get(&(level, index)).and_then(|tile| tile.get(wanted.clone())) {
            return Ok(hashes.to_vec());
        }
        let tile = self.tile(level, index, wanted.end as u64)?;
        let hashes = tile.get(wanted).unwrap_or_default().to_vec();
        self.kept.borrow_mut().insert((level, index), tile);
        Ok(hashes)
    }
}

/// The first `width` entries of a bundle.
pub(crate) fn entries(folder: &Path, index: u64, width: u64) -> io::Result<Vec<Vec<u8>>> {
    let bytes = at_least(folder, |width| bundle_name(index, width), width)?;
    let mut entries = unbundle(&bytes)
        .filter(|entries| entries.len() as u64 >= width)
        .ok_or_else(|| damaged(format!("{} does not hold {width} whole entries: it was cut or changed", bundle_name(index, width))))?;
    entries.truncate(usize::try_from(width).unwrap_or(usize::MAX));
    Ok(entries)
}

/// The entries of a bundle and the leaves that the tile has for them, which must be the same.
pub(crate) fn agreeing(folder: &Path, index: u64, width: u64) -> io::Result<Vec<Vec<u8>>> {
    let leaves = Tiles::of(folder).tile(0, index, width)?;
    let entries = entries(folder, index, width)?;
    match entries.iter().zip(&leaves).position(|(entry, leaf)| leaf_hash(entry) != *leaf) {
        None => Ok(entries),
        Some(at) => {
            let number = index.saturating_mul(WIDTH).saturating_add(at as u64).saturating_add(1);
            Err(damaged(format!("entry {number} is not what the tree was built over: {} was changed", bundle_name(index, width))))
        }
    }
}

/// The bytes of the full file, or of the narrowest partial one that is wide enough.
fn at_least(folder: &Path, name: impl Fn(u64) -> String, width: u64) -> io::Result<Vec<u8>> {
    for width in [width, WIDTH] {
        match fs::read(folder.join(name(width))) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
    }
    let wider = widths(folder, &name(1)).into_iter().find(|found| *found > width);
    let read = wider.map(|wider| fs::read(folder.join(name(wider))));
    // The full one may have come between.
    read.unwrap_or_else(|| fs::read(folder.join(name(WIDTH)))).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => io::Error::new(e.kind(), format!("{} is missing", name(width))),
        _ => e,
    })
}

/// The widths of the partial files beside `partial`, ascending.
pub(crate) fn widths(folder: &Path, partial: &str) -> Vec<u64> {
    let beside = folder.join(partial).parent().and_then(|parent| fs::read_dir(parent).ok());
    let names = beside.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut widths: Vec<u64> = names.filter(|width| (1..WIDTH).contains(width)).collect();
    widths.sort_unstable();
    widths
}

/// Something in the folder is not what was written.
pub(crate) fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The same, where something else is to be done than with a damaged log.
pub(crate) fn damaged_but(what: String, remedy: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damage { what, remedy })
}

/// What is not what was written, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Damage {
    what: String,
    pub(crate) remedy: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        for (index, width, expected) in [
            (0, 256, "tile/0/000"),
            (1234067, 256, "tile/0/x001/x234/067"),
            (1000, 3, "tile/0/x001/000.p/3"),
            (999, 255, "tile/0/999.p/255"),
        ] {
            assert_eq!(tile_name(0, index, width), expected);
        }
        assert_eq!(bundle_name(70_001, 256), "tile/entries/x070/001");
    }

    #[test]
    fn bundles_are_read_back_and_no_cut_passes_unseen() {
        let entries: Vec<Vec<u8>> = vec![b"one".to_vec(), Vec::new(), vec![7; MAX_ENTRY]];
        let bytes = bundle(entries.iter().map(Vec::as_slice));
        assert_eq!(unbundle(&bytes), Some(entries.clone()));
        for end in [0, 1, 4, 5, 6, 7, 8, bytes.len() - 1] {
            let cut = unbundle(&bytes[..end]);
            assert!(cut.is_none_or(|cut| cut.len() < entries.len()), "{end}");
        }
    }

    #[test]
    fn a_wider_file_stands_in_for_a_narrower_one() {
        let folder = tempfile::tempdir().unwrap();
        let hashes: Vec<Hash> = (0..256u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let tiles = Tiles::of(folder.path());
        assert!(tiles.tile(0, 5, 3).unwrap_err().to_string().contains("tile/0/005.p/3 is missing"));
        fs::create_dir_all(folder.path().join("tile/0/005.p")).unwrap();
        for width in [2usize, 9, 17] {
            fs::write(folder.path().join(tile_name(0, 5, width as u64)), encode(&hashes[..width])).unwrap();
        }
        assert_eq!(tiles.tile(0, 5, 3).unwrap(), hashes[..3]);
        assert!(tiles.tile(0, 5, 18).is_err());
        fs::write(folder.path().join(tile_name(0, 5, 256)), encode(&hashes)).unwrap();
        assert_eq!(tiles.tile(0, 5, 18).unwrap(), hashes[..18]);
        assert_eq!(tiles.hashes(0, 5 * 256 + 4, 4).unwrap(), hashes[4..8]);
    }
}
