//! The Merkle tree as a reader sees it: hashes (RFC 6962, section 2.1), proofs verified (RFC 9162, sections 2.1.3.2 and 2.1.4.2), and
//! roots worked out from tiles.
//!
//! It shares no code with the log that writes: what one of them gets wrong, the other finds.

use sha2::{Digest as _, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// The most hashes of a proof.
pub const MAX_PROOF: usize = 63;

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The entry is not one of the tree, or the older tree is larger than the newer one.
    #[error("the proof is of an entry or a size that the tree does not have")]
    Range,
    /// It has more or fewer hashes than such a proof has.
    #[error("the proof has a wrong number of hashes")]
    Length,
    /// It leads to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// The hash of an entry's bytes.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash over two subtrees.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over `hashes`, whatever stands below them; `None` over nothing.
#[must_use]
pub fn root_over(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        many => {
            let (left, right) = many.split_at_checked(many.len().next_power_of_two() / 2)?;
            Some(node_hash(&root_over(left)?, &root_over(right)?))
        }
    }
}

/// The root of a tree of `size` entries, from the hashes at the right edge of each level of tiles: `edge(level, index, width)` returns
/// the first `width` hashes of that tile.
///
/// # Errors
/// Those of `edge`.
pub fn root_from_tiles<E>(size: u64, mut edge: impl FnMut(u32, u64, usize) -> Result<Vec<Hash>, E>) -> Result<Hash, E> {
    let (mut level, mut count, mut right) = (0, size, None);
    while count > 0 {
        let width = usize::try_from(count % 256).unwrap_or_default();
        let mut hashes = if width > 0 { edge(level, count / 256, width)? } else { Vec::new() };
        hashes.extend(right);
        right = root_over(&hashes);
        (level, count) = (level.saturating_add(1), count / 256);
    }
    Ok(right.unwrap_or_else(|| Sha256::digest([]).into()))
}

/// Checks that the leaf is the entry `index` (from 0) of the tree.
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for other in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(other, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, other);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the tree of `from` entries is the beginning of the tree of `to`.
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(from: u64, to: u64, old: &Hash, new: &Hash, proof: &[Hash]) -> Result<(), ProofError> {
    if from > to {
        return Err(ProofError::Range);
    }
    if from == 0 || from == to {
        let empty: Hash = Sha256::digest([]).into();
        let same = if from == to { old == new } else { *old == empty };
        return match (proof, same) {
            ([], true) => Ok(()),
            ([], false) => Err(ProofError::Root),
            _ => Err(ProofError::Length),
        };
    }
    // Where the old tree is one complete subtree, its root is the first hash and is not sent.
    let (first, rest) =
        if from.is_power_of_two() { (*old, proof) } else { proof.split_first().map(|(f, r)| (*f, r)).ok_or(ProofError::Length)? };
    let (mut node, mut last) = (from - 1, to - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut of_old, mut of_new) = (first, first);
    for other in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            of_old = node_hash(other, &of_old);
            of_new = node_hash(other, &of_new);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            of_new = node_hash(&of_new, other);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if of_old == *old && of_new == *new { Ok(()) } else { Err(ProofError::Root) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// RFC 6962, section 2.1.1, as it is written there.
    pub(crate) fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut path, other) = if index < left.len() { (path(index, left), right) } else { (path(index - left.len(), right), left) };
        path.extend(root_over(other));
        path
    }

    /// RFC 6962, section 2.1.2.
    pub(crate) fn consistency(from: usize, leaves: &[Hash]) -> Vec<Hash> {
        fn sub(from: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
            if from == leaves.len() {
                return if whole { Vec::new() } else { root_over(leaves).into_iter().collect() };
            }
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            let (mut proof, other) =
                if from <= left.len() { (sub(from, left, whole), right) } else { (sub(from - left.len(), right, false), left) };
            proof.extend(root_over(other));
            proof
        }
        if from == 0 { Vec::new() } else { sub(from, leaves, true) }
    }

    pub(crate) fn root(leaves: &[Hash]) -> Hash {
        root_over(leaves).unwrap_or_else(|| Sha256::digest([]).into())
    }

    fn leaves(count: u32) -> Vec<Hash> {
        (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn proofs_of_all_sizes_hold_and_no_other_does() {
        let all = leaves(200);
        for to in 1..=200 {
            // Every place of small trees, some of larger ones.
            let (new, step) = (root(&all[..to]), if to <= 70 { 1 } else { 13 });
            for index in (0..to).step_by(step) {
                let (leaf, proof) = (all[index], path(index, &all[..to]));
                let verify = |at: usize, leaf: &Hash, proof: &[Hash]| verify_inclusion(at as u64, to as u64, leaf, proof, &new);
                assert_eq!(verify(index, &leaf, &proof), Ok(()), "{index} of {to}");
                assert!(verify(index + 1, &leaf, &proof).is_err(), "another place");
                assert!(verify(index, &[7; 32], &proof).is_err(), "another leaf");
                assert_eq!(verify(index, &leaf, &[&proof[..], &[[0; 32]]].concat()), Err(ProofError::Length));
                if let Some((_, short)) = proof.split_last() {
                    assert_eq!(verify(index, &leaf, short), Err(ProofError::Length));
                }
            }
            for from in (0..=to).step_by(step) {
                let (old, proof) = (root(&all[..from]), consistency(from, &all[..to]));
                let verify = |old: &Hash, proof: &[Hash]| verify_consistency(from as u64, to as u64, old, &new, proof);
                assert_eq!(verify(&old, &proof), Ok(()), "{from} to {to}");
                assert!(verify(&[7; 32], &proof).is_err(), "another beginning, {from} to {to}");
                assert!(verify(&old, &[&proof[..], &[[0; 32]]].concat()).is_err());
                if let Some((_, short)) = proof.split_last() {
                    assert!(verify(&old, short).is_err(), "cut, {from} to {to}");
                }
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at][0] ^= 1;
                    assert_eq!(verify(&old, &changed), Err(ProofError::Root));
                }
            }
            assert_eq!(verify_consistency(to as u64 + 1, to as u64, &new, &new, &[]), Err(ProofError::Range));
        }
    }

    #[test]
    fn roots_from_tiles_are_those_of_the_definition() {
        let all = leaves(70_000);
        let mut levels = vec![all.clone()];
        while levels[levels.len() - 1].len() >= 256 {
            let next = levels[levels.len() - 1].chunks_exact(256).filter_map(root_over).collect();
            levels.push(next);
        }
        for size in [0, 1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537, 65_792, 70_000] {
            let edge = |level: u32, index: u64, width: usize| -> Result<Vec<Hash>, ()> {
                Ok(levels[level as usize][index as usize * 256..][..width].to_vec())
            };
            assert_eq!(root_from_tiles(size, edge), Ok(root(&all[..size as usize])), "{size}");
        }
    }
}
