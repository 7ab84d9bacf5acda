//! The Merkle tree over the entries (RFC 6962, section 2): its hashes, its right edge as it grows, and proofs.
//!
//! Hashes are kept in tiles of height 8: level `L` holds one hash for every 256^L entries, in order.

use std::io;

use sha2::{Digest as _, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// How many hashes or entries a full tile or bundle holds.
pub(crate) const WIDTH: u64 = 256;

/// The hash of an entry's bytes.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash of two subtrees.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The hash of a complete subtree over `hashes`, a power of two of them.
pub(crate) fn complete(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        many => {
            let (left, right) = many.split_at_checked(many.len() / 2)?;
            Some(node_hash(&complete(left)?, &complete(right)?))
        }
    }
}

/// The tile of every level that is not full yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) size: u64,
    /// At `L`, the hashes of level `L` after its last full tile.
    pub(crate) levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// Adds a leaf and hands over every tile that it makes full: level, index, hashes.
    pub(crate) fn push(&mut self, leaf: Hash, mut full: impl FnMut(u32, u64, &[Hash])) {
        self.size = self.size.saturating_add(1);
        let (mut level, mut next) = (0u32, Some(leaf));
        while let Some(hash) = next.take() {
            if self.levels.len() <= level as usize {
                self.levels.push(Vec::new());
            }
            let Some(tile) = self.levels.get_mut(level as usize) else { return };
            tile.push(hash);
            if tile.len() as u64 == WIDTH {
                full(level, tiles(self.size, level).saturating_sub(1), tile);
                next = complete(tile);
                tile.clear();
                level += 1;
            }
        }
    }

    /// The root over all leaves; over none, the hash of nothing.
    pub(crate) fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for tile in &self.levels {
            let mut end = tile.len();
            // Complete subtrees from the smallest, which is the last one.
            while end > 0 {
                let width = 1 << end.trailing_zeros();
                let start = end - width;
                let Some(subtree) = tile.get(start..end).and_then(complete) else { break };
                root = Some(root.map_or(subtree, |right| node_hash(&subtree, &right)));
                end = start;
            }
        }
        root.unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// How many full tiles `level` has in a tree of `size`.
pub(crate) fn tiles(size: u64, level: u32) -> u64 {
    size.checked_shr(8 * (level + 1)).unwrap_or(0)
}

/// How many hashes the tile after the full ones holds.
pub(crate) fn partial(size: u64, level: u32) -> u64 {
    size.checked_shr(8 * level).unwrap_or(0) % WIDTH
}

/// How many levels have a hash.
pub(crate) fn levels(size: u64) -> u32 {
    (0..8).find(|level| size.checked_shr(8 * level).unwrap_or(0) == 0).unwrap_or(8)
}

/// Where proofs take hashes from.
pub(crate) trait Hashes {
    /// `count` hashes of `level` from the hash `first` on; all of one tile.
    fn hashes(&self, level: u32, first: u64, count: usize) -> io::Result<Vec<Hash>>;
}

/// The audit path of the leaf `index` in the tree of `size` (RFC 6962, section 2.1.1).
pub(crate) fn inclusion(of: &impl Hashes, index: u64, size: u64) -> io::Result<Vec<Hash>> {
    if index >= size {
        return Err(beyond(index, size));
    }
    let (mut path, mut begin, mut count) = (Vec::new(), 0, size);
    while count > 1 {
        let left = split(count);
        if index - begin < left {
            path.push(subtree(of, begin + left, count - left)?);
            count = left;
        } else {
            path.push(subtree(of, begin, left)?);
            begin += left;
            count -= left;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `from` is a beginning of the tree of `to` (RFC 6962, section 2.1.2). Empty from nothing.
pub(crate) fn consistency(of: &impl Hashes, from: u64, to: u64) -> io::Result<Vec<Hash>> {
    if from > to {
        return Err(beyond(from, to));
    }
    let mut proof = Vec::new();
    if from == 0 || from == to {
        return Ok(proof);
    }
    let (mut begin, mut count, mut old, mut whole) = (0, to, from, true);
    while old != count {
        let left = split(count);
        if old <= left {
            proof.push(subtree(of, begin + left, count - left)?);
            count = left;
        } else {
            proof.push(subtree(of, begin, left)?);
            begin += left;
            count -= left;
            old -= left;
            whole = false;
        }
    }
    if !whole {
        proof.push(subtree(of, begin, count)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The hash over `count` leaves from `begin`, which is a multiple of the smallest power of two that is not below `count`.
fn subtree(of: &impl Hashes, begin: u64, count: u64) -> io::Result<Hash> {
    if !count.is_power_of_two() {
        let left = split(count);
        return Ok(node_hash(&subtree(of, begin, left)?, &subtree(of, begin + left, count - left)?));
    }
    let height = count.trailing_zeros();
    let (level, within) = (height / 8, height % 8);
    let hashes = of.hashes(level, begin >> (8 * level), 1 << within)?;
    complete(&hashes).ok_or_else(|| io::Error::other("a tile holds no hash"))
}

/// The largest power of two below `count`, which is at least two.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

fn beyond(index: u64, size: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{index} is beyond the {size} entries of the tree"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// All hashes of all levels, in memory.
    #[derive(Default)]
    struct Memory(Vec<Vec<Hash>>);

    impl Hashes for Memory {
        fn hashes(&self, level: u32, first: u64, count: usize) -> io::Result<Vec<Hash>> {
            assert_eq!(first / WIDTH, (first + count as u64 - 1) / WIDTH, "one tile");
            Ok(self.0[level as usize][first as usize..first as usize + count].to_vec())
        }
    }

    /// The root of the tree of `size`.
    pub(crate) fn root(of: &impl Hashes, size: u64) -> io::Result<Hash> {
        if size == 0 { Ok(Edge::default().root()) } else { subtree(of, 0, size) }
    }

    /// RFC 6962 as it is written there.
    pub(crate) fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(split(many.len() as u64) as usize);
                node_hash(&naive(left), &naive(right))
            }
        }
    }

    fn naive_path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
        if m < left.len() {
            [naive_path(m, left), vec![naive(right)]].concat()
        } else {
            [naive_path(m - left.len(), right), vec![naive(left)]].concat()
        }
    }

    fn naive_proof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { Vec::new() } else { vec![naive(leaves)] };
        }
        let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
        if m <= left.len() {
            [naive_proof(m, left, whole), vec![naive(right)]].concat()
        } else {
            [naive_proof(m - left.len(), right, false), vec![naive(left)]].concat()
        }
    }

    fn memory(leaves: &[Hash]) -> Memory {
        let mut memory = Memory(vec![leaves.to_vec()]);
        for level in 1..4 {
            let below = &memory.0[level - 1];
            memory.0.push(below.chunks_exact(256).map(|tile| complete(tile).unwrap()).collect());
        }
        memory
    }

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_vectors_of_certificate_transparency() {
        let inputs: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = Edge::default();
        assert_eq!(hex(&edge.root()), roots[0]);
        for (input, root) in inputs.into_iter().zip(&roots[1..]) {
            edge.push(leaf_hash(input), |_, _, _| panic!("no tile is full"));
            assert_eq!(hex(&edge.root()), *root);
        }
    }

    #[test]
    fn roots_and_proofs_of_all_sizes_are_those_of_the_definition() {
        let leaves: Vec<Hash> = (0..300u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut edge = Edge::default();
        for size in 1..=leaves.len() {
            edge.push(leaves[size - 1], |level, index, tile| assert_eq!((level, index, tile), (0, 0, &leaves[..256])));
            let (leaves, memory) = (&leaves[..size], memory(&leaves[..size]));
            assert_eq!((edge.root(), root(&memory, size as u64).unwrap()), (naive(leaves), naive(leaves)), "{size}");
            for index in (0..size).step_by(if size % 50 < 2 { 1 } else { 17 }) {
                assert_eq!(inclusion(&memory, index as u64, size as u64).unwrap(), naive_path(index, leaves), "{index} of {size}");
                let proof = consistency(&memory, index as u64 + 1, size as u64).unwrap();
                assert_eq!(proof, naive_proof(index + 1, leaves, true), "from {} to {size}", index + 1);
            }
            assert!(inclusion(&memory, size as u64, size as u64).is_err() && consistency(&memory, size as u64 + 1, size as u64).is_err());
        }
    }

    #[test]
    fn tiles_of_higher_levels_hold_the_roots_of_those_below() {
        let count = 3 * 65_536 + 700u64;
        let mut edge = Edge::default();
        let mut all = vec![Vec::new(), Vec::new(), Vec::new()];
        for i in 0..count {
            edge.push(leaf_hash(&i.to_be_bytes()), |level, index, tile| {
                let tiles: &mut Vec<Hash> = &mut all[level as usize];
                assert_eq!(tiles.len() as u64, index * 256);
                tiles.extend(tile);
            });
        }
        assert_eq!((tiles(count, 0), tiles(count, 1), partial(count, 0), partial(count, 1), partial(count, 2)), (770, 3, 188, 2, 3));
        assert_eq!(edge.levels.iter().map(Vec::len).collect::<Vec<_>>(), [188, 2, 3]);
        for (level, tile) in edge.levels.iter().enumerate() {
            all[level].extend(tile);
        }
        let (root_of_all, memory) = (naive(&all[0]), Memory(all));
        assert_eq!((edge.root(), root(&memory, count).unwrap(), levels(count)), (root_of_all, root_of_all, 3));
        assert_eq!(inclusion(&memory, 70_000, count).unwrap(), naive_path(70_000, &memory.0[0]));
    }
}
