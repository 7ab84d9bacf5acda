//! The log as it was signed: hashes of its tree and entries from its folder, of which none counts before it is proved.
//!
//! ```text
//! entry ─▶ its hash is in the tile of level 0 ─▶ that tile's in the one of level 1 ─▶ … ─▶ the right edge, whose root was signed
//! ```
//!
//! Who can write in the folder can change entries and tiles together, and not the edge: it is in the program's memory, or was worked out
//! and compared with a signed checkpoint. Each tile is proved once, whatever is asked of it.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::archive::archived;
use crate::checkpoint::Checkpoint;
use crate::tile::{Tiles, damaged, tile_name};
use crate::tree::{Edge, Hash, Hashes, WIDTH, complete, leaf_hash, levels, partial, tiles};

/// Tiles that are kept; they are proved again after that.
const TILES: usize = 64;

/// Bundles that are kept: entries that belong together are often near each other.
const BUNDLES: usize = 2;

/// Entries by the place of the first one.
type Bundle = (u64, Rc<Vec<Vec<u8>>>);

/// Whole tiles by level and place.
type ByPlace = HashMap<(u32, u64), Rc<Vec<Hash>>>;

/// A log under one signed root.
#[derive(Debug)]
pub(crate) struct Proved {
    folder: PathBuf,
    edge: Arc<Edge>,
    tiles: RefCell<ByPlace>,
    bundles: RefCell<VecDeque<Bundle>>,
}

impl Proved {
    /// Under the root of a tree that whoever asks has built.
    pub(crate) fn of(folder: &Path, edge: Arc<Edge>) -> Self {
        Self { folder: folder.to_owned(), edge, tiles: RefCell::default(), bundles: RefCell::default() }
    }

    /// Under a checkpoint whose signature was verified.
    pub(crate) fn under(folder: &Path, checkpoint: &Checkpoint) -> io::Result<Self> {
        let (files, size) = (Tiles::of(folder), checkpoint.size);
        let tile = |level| match partial(size, level) {
            0 => Ok(Vec::new()),
            width => files.tile(level, tiles(size, level), width),
        };
        let edge = Edge { size, levels: (0..levels(size)).map(tile).collect::<io::Result<_>>()? };
        if edge.root() != checkpoint.root {
            return Err(damaged(format!("the tiles do not give the root that the checkpoint over {size} entries signs: one was changed")));
        }
        Ok(Self::of(folder, Arc::new(edge)))
    }

    /// The tree's right edge.
    pub(crate) fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// How many entries the tree has.
    pub(crate) fn size(&self) -> u64 {
        self.edge.size
    }

    /// The hash of the entry at `position`.
    pub(crate) fn leaf(&self, position: u64) -> io::Result<Hash> {
        self.hashes(0, position, 1)?.first().copied().ok_or_else(|| beyond(0, position))
    }

    /// That the tree has this hash at `position`.
    pub(crate) fn is_leaf(&self, position: u64, leaf: &Hash) -> io::Result<()> {
        if self.leaf(position)? == *leaf { Ok(()) } else { Err(other(position)) }
    }

    /// The entry at `position`; `None` where it was moved to an archive.
    pub(crate) fn entry(&self, position: u64) -> io::Result<Option<Vec<u8>>> {
        let first = position - position % WIDTH;
        let kept = self.bundles.borrow().iter().find(|(kept, _)| *kept == first).map(|(_, entries)| Rc::clone(entries));
        let entries = match kept {
            Some(entries) => entries,
            None => self.bundle(first)?,
        };
        let entry = usize::try_from(position - first).ok().and_then(|at| entries.get(at));
        match entry {
            Some(entry) => self.is_leaf(position, &leaf_hash(entry)).map(|()| Some(entry.clone())),
            None if archived(&self.folder)? > position => Ok(None),
            None => Err(missing(position)),
        }
    }

    /// The entries from `begin` on, in order, each with its place; first those of the tree, of which none may be missing, then those whose
    /// hashes `beyond` tells by their numbers, up to the first that it does not know. What was moved to an archive is passed over.
    pub(crate) fn read(
        &self,
        begin: u64,
        beyond: impl Fn(u64) -> Option<Hash>,
    ) -> io::Result<impl Iterator<Item = io::Result<(u64, Vec<u8>)>>> {
        let (mut entries, mut next) = (crate::read(&self.folder, begin)?, begin);
        let mut proved = move || {
            let Some((position, entry)) = entries.next().transpose()? else {
                return if next < self.size() { Err(missing(next)) } else { Ok(None) };
            };
            next = position.saturating_add(1);
            let leaf = if position < self.size() { Some(self.leaf(position)?) } else { beyond(next) };
            match leaf {
                Some(leaf) if leaf == leaf_hash(&entry) => Ok(Some((position, entry))),
                Some(_) => Err(other(position)),
                None => Ok(None),
            }
        };
        Ok(std::iter::from_fn(move || proved().transpose()))
    }

    fn bundle(&self, first: u64) -> io::Result<Rc<Vec<Vec<u8>>>> {
        let mut entries = Vec::new();
        for (expected, read) in (first..first.saturating_add(WIDTH)).zip(crate::read(&self.folder, first)?) {
            let (position, entry) = read?;
            if position != expected {
                break;
            }
            entries.push(entry);
        }
        let (entries, mut kept) = (Rc::new(entries), self.bundles.borrow_mut());
        kept.push_front((first, Rc::clone(&entries)));
        kept.truncate(BUNDLES);
        Ok(entries)
    }

    /// A full tile.
    fn tile(&self, level: u32, index: u64) -> io::Result<Rc<Vec<Hash>>> {
        if let Some(tile) = self.tiles.borrow().get(&(level, index)) {
            return Ok(Rc::clone(tile));
        }
        let tile = Tiles::of(&self.folder).tile(level, index, WIDTH)?;
        let above = self.hashes(level.saturating_add(1), index, 1)?;
        if complete(&tile) != above.first().copied() {
            let name = tile_name(level, index, WIDTH);
            return Err(damaged(format!("{name} does not lead to the root that the log signed: it was changed, or one above it")));
        }
        let (tile, mut kept) = (Rc::new(tile), self.tiles.borrow_mut());
        if kept.len() >= TILES {
            kept.clear();
        }
        kept.insert((level, index), Rc::clone(&tile));
        Ok(tile)
    }
}

impl Hashes for Proved {
    fn hashes(&self, level: u32, first: u64, count: usize) -> io::Result<Vec<Hash>> {
        let (index, start) = (first / WIDTH, usize::try_from(first % WIDTH).unwrap_or_default());
        let wanted = start..start.saturating_add(count);
        let found = match index.cmp(&tiles(self.edge.size, level)) {
            Ordering::Less => self.tile(level, index)?.get(wanted).map(<[Hash]>::to_vec),
            Ordering::Equal => self.edge.levels.get(level as usize).and_then(|edge| edge.get(wanted)).map(<[Hash]>::to_vec),
            Ordering::Greater => None,
        };
        found.ok_or_else(|| beyond(level, first))
    }
}

fn beyond(level: u32, first: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("the tree has no hash {first} of level {level}"))
}

fn missing(position: u64) -> io::Error {
    damaged(format!("entry {} is missing", position.saturating_add(1)))
}

fn other(position: u64) -> io::Error {
    damaged(format!("entry {} is not what the tree was built over", position.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Entry;
    use crate::log::tests::{close, open};
    use crate::tree::tests::naive;

    /// A closed log of 70,000 entries would take long: tiles are written here, of so many leaves.
    fn written(folder: &Path, count: u32) -> (Vec<Hash>, Arc<Edge>) {
        let leaves: Vec<Hash> = (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut edge = Edge::default();
        let put = |level, index, hashes: &[Hash]| {
            let path = folder.join(tile_name(level, index, hashes.len() as u64));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, hashes.concat()).unwrap();
        };
        for leaf in &leaves {
            edge.push(*leaf, |level, index, tile| put(level, index, tile));
        }
        for (level, tile) in (0..).zip(&edge.levels) {
            if !tile.is_empty() {
                put(level, tiles(edge.size, level), tile);
            }
        }
        (leaves, Arc::new(edge))
    }

    #[test]
    fn every_leaf_is_proved_and_no_changed_tile_is_believed_on_any_level() {
        let folder = tempfile::tempdir().unwrap();
        // Three levels, each with full tiles and an edge.
        let (leaves, edge) = written(folder.path(), 66_000);
        assert_eq!(edge.levels.iter().map(Vec::len).collect::<Vec<_>>(), [208, 1, 1]);
        let root = naive(&leaves);
        let under = |root| Proved::under(folder.path(), &Checkpoint { origin: "l".into(), size: 66_000, root });
        let proved = under(root).unwrap();
        assert_eq!(proved.edge(), &edge);
        for at in [0, 1, 255, 256, 65_535, 65_536, 65_791, 65_792, 65_999] {
            assert_eq!(proved.leaf(at).unwrap(), leaves[usize::try_from(at).unwrap()], "{at}");
            assert!(proved.is_leaf(at, &[0; 32]).is_err());
        }
        assert!(proved.leaf(66_000).is_err() && under([1; 32]).is_err());
        // The leaf 300 and all above it that a file holds, up to where the edge in memory begins, are changed together.
        let change = |level: u32, index: u64, at: usize, hash: Hash| {
            let path = folder.path().join(tile_name(level, index, WIDTH));
            let before = fs::read(&path).unwrap();
            let mut bytes = before.clone();
            bytes[at * 32..at * 32 + 32].copy_from_slice(&hash);
            fs::write(&path, &bytes).unwrap();
            (path, before, complete(bytes.as_chunks::<32>().0).unwrap())
        };
        let (path, before, above) = change(0, 1, 44, [7; 32]);
        let fresh = || Proved::of(folder.path(), Arc::clone(&edge));
        assert!(fresh().leaf(300).unwrap_err().to_string().contains("tile/0/001"));
        assert!(fresh().leaf(299).is_err() && fresh().leaf(600).is_ok(), "all that rests on it, and nothing else");
        let (upper, whole, _) = change(1, 0, 1, above);
        assert!(fresh().leaf(300).unwrap_err().to_string().contains("tile/1/000") && fresh().leaf(600).is_err());
        assert!(fresh().leaf(65_600).is_ok(), "another tile of level 1 is above it");
        fs::write(path, before).unwrap();
        fs::write(upper, whole).unwrap();
        assert!(fresh().leaf(300).is_ok());
    }

    #[tokio::test]
    async fn entries_are_read_as_they_were_signed_and_beyond_only_those_that_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        for _ in 0..300 {
            log.append(Entry::new("a")).await.unwrap();
        }
        assert!(log.settle(std::time::Duration::from_secs(10)));
        let proved = log.shared.proved();
        log.append(Entry::new("beyond")).await.unwrap();
        let places = |read: Vec<io::Result<(u64, Vec<u8>)>>| read.into_iter().map(|read| read.map(|(at, _)| at)).collect::<Vec<_>>();
        let all = places(proved.read(250, |number| log.shared.leaf(number)).unwrap().collect());
        assert!(all.iter().map(|at| *at.as_ref().unwrap()).eq(250..301));
        assert_eq!(proved.read(250, |_| None).unwrap().count(), 50, "nobody knows the one beyond");
        assert!(places(proved.read(299, |_| Some([0; 32])).unwrap().collect())[1].is_err(), "it is another one");
        assert!(proved.entry(3).unwrap().is_some() && proved.entry(299).unwrap().is_some());
        // Else the log could still write what is changed below.
        assert!(log.settle(std::time::Duration::from_secs(10)));
        let path = folder.path().join("tile/entries/000");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
        let fresh = log.shared.proved();
        assert!(fresh.entry(255).is_err() && fresh.entry(254).is_ok());
        assert!(places(fresh.read(254, |_| None).unwrap().take(2).collect())[1].is_err());
        // What was cut off is not taken for the end.
        fs::write(folder.path().join("tail"), "").unwrap();
        let cut = places(fresh.read(256, |_| None).unwrap().take(1).collect()).remove(0);
        assert!(cut.unwrap_err().to_string().contains("entry 257 is missing") && fresh.entry(299).is_err());
        close(log, folder.path());
    }
}
