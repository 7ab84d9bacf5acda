//! Receipts that the log itself gives, and what finds the entry that they are of.

use std::fs;
use std::io;

use super::{Log, LogError, asked, of};
use crate::cosigned::COSIGNED;
use crate::persons;
use crate::prove::under;
use crate::receipt::Receipt;
use crate::tile::Tiles;
use crate::tree::{Hash, Hashes as _};

impl Log {
    /// The latest checkpoint that enough witnesses have signed, or the best, if there is one. Blocks.
    #[must_use]
    pub fn cosigned(&self) -> Option<String> {
        let kept = fs::read_to_string(self.shared.disk.path(COSIGNED)).ok()?;
        self.shared.key.read(&kept).map(|_| kept)
    }

    /// The receipt of the entry `number`, under the checkpoint that has most cosignatures of those that cover it, with its bytes where
    /// `bytes` says so; `None` while no checkpoint covers it. Blocks.
    ///
    /// # Errors
    /// [`LogError::Asked`] when there is no such entry, or it cannot be read.
    pub fn receipt(&self, number: u64, bytes: bool) -> Result<Option<Receipt>, LogError> {
        let promise = self.promise(number)?;
        let mut best: Option<Receipt> = None;
        // Where both have as many, the latest counts.
        for checkpoint in [Some(self.checkpoint().to_string()), self.cosigned()].into_iter().flatten() {
            let Some(signed) = self.shared.key.read(&checkpoint).filter(|signed| signed.size > promise.index) else { continue };
            let receipt = under(&self.shared.disk.folder, promise.index, checkpoint, signed.size, bytes).map_err(of)?;
            if best.as_ref().is_none_or(|best| receipt.cosignatures() > best.cosignatures()) {
                best = Some(Receipt { promise: Some(promise.clone()), ..receipt });
            }
        }
        Ok(best)
    }

    /// The leaf hash that the tree has at `index` (from 0). Blocks.
    ///
    /// # Errors
    /// As [`Log::inclusion`].
    pub fn leaf(&self, index: u64) -> Result<Hash, LogError> {
        self.covered(index.saturating_add(1))?;
        let leaves = Tiles::of(&self.shared.disk.folder).hashes(0, index, 1).map_err(of)?;
        leaves.first().copied().ok_or_else(|| asked(format!("there is no entry {}", index.saturating_add(1))))
    }

    /// The commitment by which the log's entries know somebody; `None` for whoever is in none, or was erased. Blocks.
    ///
    /// # Errors
    /// When the store of persons cannot be read.
    pub fn person(&self, issuer: &str, subject: &str) -> io::Result<Option<String>> {
        persons::commitment(&self.shared.disk.folder, issuer, subject)
    }
}
