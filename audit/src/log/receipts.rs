//! Receipts that the log itself gives, and what finds the entry that they are of.

use std::io;

use super::{Log, LogError, asked, of};
use crate::checkpoint::Checkpoint;
use crate::persons;
use crate::proof::verify_inclusion;
use crate::prove::under;
use crate::proved::Proved;
use crate::receipt::Receipt;
use crate::tile::damaged;
use crate::tree::Hash;

impl Log {
    /// The latest checkpoint that enough witnesses have signed, or the best, if there is one; every line under it was verified. Blocks.
    #[must_use]
    pub fn cosigned(&self) -> Option<String> {
        self.shared.cosigned()
    }

    /// The receipt of the entry `number`, under the checkpoint that has most cosignatures of those that cover it, with its bytes where
    /// `bytes` says so; `None` while no checkpoint covers it. Blocks.
    ///
    /// # Errors
    /// [`LogError::Asked`] when there is no such entry, or it cannot be read.
    pub fn receipt(&self, number: u64, bytes: bool) -> Result<Option<Receipt>, LogError> {
        let checkpoints = [Some(self.checkpoint().to_string()), self.cosigned()];
        let (tree, index) = (self.shared.proved(), number.saturating_sub(1));
        let mut best: Option<Receipt> = None;
        // Where both have as many, the latest counts.
        for checkpoint in checkpoints.into_iter().flatten() {
            let covers = |signed: &Checkpoint| signed.size > index && signed.size <= tree.size();
            let Some(signed) = self.shared.key.read(&checkpoint).filter(covers) else { continue };
            let receipt = under(&tree, index, checkpoint, signed.size).map_err(of)?;
            // Before anything is signed: a checkpoint in the folder may be one of another history.
            let proved = verify_inclusion(index, signed.size, &receipt.leaf_hash, &receipt.proof, &signed.root);
            proved.map_err(|_| of(damaged(format!("entry {number} is not what the checkpoint over {} entries signs", signed.size))))?;
            if best.as_ref().is_none_or(|best| receipt.cosignatures() > best.cosignatures()) {
                best = Some(receipt);
            }
        }
        let promise = self.promise(number)?;
        let Some(receipt) = best else { return Ok(None) };
        let entry = if bytes { Some(self.entry(&tree, index)?) } else { None };
        Ok(Some(Receipt { promise: Some(promise), entry, ..receipt }))
    }

    fn entry(&self, tree: &Proved, index: u64) -> Result<Vec<u8>, LogError> {
        tree.entry(index).map_err(of)?.ok_or_else(|| asked(format!("entry {} was moved to an archive", index.saturating_add(1))))
    }

    /// The leaf hash that the tree has at `index` (from 0). Blocks.
    ///
    /// # Errors
    /// As [`Log::inclusion`].
    pub fn leaf(&self, index: u64) -> Result<Hash, LogError> {
        self.covered(index.saturating_add(1))?;
        self.shared.proved().leaf(index).map_err(of)
    }

    /// The commitment by which the log's entries know somebody; `None` for whoever is in none, or was erased. Blocks.
    ///
    /// # Errors
    /// When the store of persons cannot be read.
    pub fn person(&self, issuer: &str, subject: &str) -> io::Result<Option<String>> {
        persons::commitment(&self.shared.disk.folder, issuer, subject)
    }
}
