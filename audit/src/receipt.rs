//! Receipts: files that prove offline, with keys alone, that an entry is in a log, and whether the log kept what it promised.
//!
//! ```text
//! {
//!   "version": "concordat.receipt/v1",
//!   "index": 41,                             the entry's place, from 0
//!   "leaf_hash": "…",                        of the entry that the tree has there (RFC 6962), in Base64 as all that follows
//!   "entry": "…",                            its bytes, for auditors only
//!   "promise": { "version": "concordat.promise/v1", "origin", "index", "leaf_hash", "time", "signature" },   of an answer: v2, "answer"
//!   "proof": ["…", …],                       from the leaf to the root of
//!   "checkpoint": "concordat/gateway\n…"     the signed note, with its cosignatures
//! }
//! ```
//!
//! A receipt is its bytes: one that is not written as [`Receipt::write`] writes it is refused, so that no byte can be another one unseen.
//! A promise alone is read in any spacing, as clients keep it; every member of it is signed. Reading is bounded and proves nothing;
//! [`Request::verify`] does. It shares no code with the log that writes.

mod files;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::note::{Algorithm, VerifierKey};
use crate::proof::{self, Hash, ProofError, leaf_hash, verify_consistency, verify_inclusion};
use crate::quorum::Witnesses;
use crate::{Answered, Promise};

pub(crate) use self::files::PromiseFile;
use self::files::{ConsistencyFile, ReceiptFile};

/// The longest file of a receipt, in bytes: the longest entry in Base64, the longest checkpoint, the longest proof.
pub const MAX_RECEIPT: usize = 256 << 10;

/// The longest file of a promise.
pub const MAX_PROMISE: usize = 4 << 10;

/// Why a receipt proves nothing, or proves that a log misbehaved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It does not have the form of one.
    #[error("this is not {what}: {why}")]
    Form {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The promise is not the log's.
    #[error("the promise is not one that the log '{0}' signed with the key that was given: it was changed, or is another log's")]
    Promise(String),
    /// The checkpoint is not the log's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry came after the checkpoint.
    #[error("the checkpoint has {size} entries, and this is entry {number}: fetch the receipt again, under a later checkpoint")]
    Uncovered {
        /// Which entry, from 1.
        number: u64,
        /// How many entries the checkpoint has.
        size: u64,
    },
    /// The entry's bytes are others.
    #[error("the entry's bytes are not those of which the receipt has the hash")]
    Entry,
    /// The proof is none.
    #[error("the entry is not proven to be under the checkpoint: {0}")]
    Inclusion(ProofError),
    /// Another checkpoint is not proven to be of the same history.
    #[error("the receipt's checkpoint and the other one are not proven to be of one history: {0}")]
    Consistency(String),
    /// A promise of another entry.
    #[error("the promise is of entry {promised}, and the receipt of entry {number}: they say nothing of each other")]
    Another {
        /// From 1.
        promised: u64,
        /// From 1.
        number: u64,
    },
    /// A line under the checkpoint names a witness and is not of its key.
    #[error("the cosignature of '{0}' is not of its key, or lies in the future")]
    Cosignature(String),
    /// Too few of the witnesses.
    #[error("{cosigned} of the witnesses cosigned, and {quorum} are needed: fetch the receipt again, under a checkpoint that they saw")]
    Unwitnessed {
        /// How many did.
        cosigned: usize,
        /// How many are needed.
        quorum: usize,
    },
    /// The log signed two things that cannot both be true.
    #[error("this is proof of misbehaviour: {0}. Keep these files, and show them to whoever relies on the log")]
    Misbehaviour(String),
}

/// That an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ReceiptFile", into = "ReceiptFile")]
pub struct Receipt {
    /// The entry's place, from 0.
    pub index: u64,
    /// The hash of the entry that the tree has there.
    pub leaf_hash: Hash,
    /// Its bytes, for who may read them.
    pub entry: Option<Vec<u8>>,
    /// What the log promised of that place.
    pub promise: Option<Promise>,
    /// From the leaf to the root.
    pub proof: Vec<Hash>,
    /// The signed note over the root.
    pub checkpoint: String,
}

/// That one tree is the beginning of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ConsistencyFile", into = "ConsistencyFile")]
pub struct Consistency {
    /// Entries of the older tree.
    pub from: u64,
    /// Entries of the newer one.
    pub to: u64,
    /// The hashes.
    pub proof: Vec<Hash>,
}

/// What to verify a receipt with.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The log's key, from elsewhere than the receipt.
    pub key: &'a VerifierKey,
    /// Who must have cosigned.
    pub witnesses: &'a Witnesses,
    /// A promise that was kept from the answer; the receipt must keep it too.
    pub promise: Option<&'a Promise>,
    /// Another signed checkpoint, of the same history; its cosignatures count too.
    pub checkpoint: Option<&'a [u8]>,
    /// What proves that, where their sizes differ.
    pub consistency: Option<&'a Consistency>,
    /// Seconds since 1970.
    pub now: u64,
}

/// What a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The log's name.
    pub origin: String,
    /// The entry, from 1.
    pub number: u64,
    /// Under how many entries' checkpoint it is.
    pub size: u64,
    /// When the log promised it; `None` where no promise was there to be kept.
    pub promised: Option<String>,
    /// Of which answer the promise says that the entry is. Whether it is, only the entry's own bytes show.
    pub answer: Option<Answered>,
    /// Which of the witnesses cosigned, and when; of the checkpoint that most of them did.
    pub cosigned: Vec<(String, u64)>,
}

impl Receipt {
    /// Reads a receipt's file.
    ///
    /// # Errors
    /// [`ReceiptError::Form`].
    pub fn read(bytes: &[u8]) -> Result<Self, ReceiptError> {
        const WHAT: &str = "a receipt";
        let receipt: Self = files::read::<ReceiptFile, _>(WHAT, bytes, MAX_RECEIPT)?;
        if receipt.write().as_bytes() == bytes {
            return Ok(receipt);
        }
        let why = "it is not written as receipts are: it was changed, or formatted anew, and the original is needed".into();
        Err(ReceiptError::Form { what: WHAT, why })
    }

    /// The file's text.
    #[must_use]
    pub fn write(&self) -> String {
        files::write(self)
    }

    /// How many others than the log are said to have signed its checkpoint. Nothing is verified.
    #[must_use]
    pub fn cosignatures(&self) -> usize {
        self.checkpoint.rsplit_once("\n\n").map_or(0, |(_, lines)| lines.lines().count().saturating_sub(1))
    }
}

impl Consistency {
    /// Reads a consistency proof's file.
    ///
    /// # Errors
    /// [`ReceiptError::Form`].
    pub fn read(bytes: &[u8]) -> Result<Self, ReceiptError> {
        files::read::<ConsistencyFile, _>("a consistency proof", bytes, MAX_RECEIPT)
    }

    /// The file's text.
    #[must_use]
    pub fn write(&self) -> String {
        files::write(self)
    }
}

impl Promise {
    /// Reads a promise, as an answer carries it.
    ///
    /// # Errors
    /// [`ReceiptError::Form`].
    pub fn read(bytes: &[u8]) -> Result<Self, ReceiptError> {
        files::read::<PromiseFile, _>("a promise", bytes, MAX_PROMISE)
    }

    /// The text of a file of its own.
    #[must_use]
    pub fn write(&self) -> String {
        files::write(self)
    }

    /// Whether `key` made it.
    ///
    /// # Errors
    /// [`ReceiptError::Promise`].
    pub fn verify(&self, key: &VerifierKey) -> Result<(), ReceiptError> {
        let Self { origin, index, leaf_hash, answer, time, signature } = self;
        let leaf = BASE64_STANDARD.encode(leaf_hash);
        let message = match answer {
            None => format!("concordat.promise/v1\n{origin}\n{index}\n{leaf}\n{time}\n"),
            Some(Answered { query_id, rows, salt, digest }) => {
                let (salt, digest) = (BASE64_STANDARD.encode(salt), BASE64_STANDARD.encode(digest));
                format!("concordat.promise/v2\n{origin}\n{index}\n{leaf}\n{query_id}\n{rows}\n{salt}\n{digest}\n{time}\n")
            }
        };
        let signed = origin == key.name() && key.algorithm() == Algorithm::Ed25519 && key.verifies(message.as_bytes(), signature);
        if signed { Ok(()) } else { Err(ReceiptError::Promise(key.name().to_owned())) }
    }
}

impl Request<'_> {
    /// Verifies a receipt: that its entry is under its checkpoint, that promises of it were kept, that enough witnesses saw it.
    ///
    /// # Errors
    /// A [`ReceiptError`]; [`ReceiptError::Misbehaviour`] only where the log's own signatures contradict each other.
    pub fn verify(&self, receipt: &Receipt) -> Result<Verified, ReceiptError> {
        let signed = SignedCheckpoint::open(receipt.checkpoint.as_bytes(), self.key)?;
        let (size, root) = (signed.checkpoint().size, signed.checkpoint().root);
        let number = receipt.index.saturating_add(1);
        if receipt.index >= size {
            return Err(ReceiptError::Uncovered { number, size });
        }
        if receipt.entry.as_ref().is_some_and(|entry| leaf_hash(entry) != receipt.leaf_hash) {
            return Err(ReceiptError::Entry);
        }
        verify_inclusion(receipt.index, size, &receipt.leaf_hash, &receipt.proof, &root).map_err(ReceiptError::Inclusion)?;
        for promise in [receipt.promise.as_ref(), self.promise].into_iter().flatten() {
            self.kept(promise, receipt)?;
        }
        let other = self.checkpoint.map(|other| self.of_one_history(&signed, other)).transpose()?;
        let promise = self.promise.or(receipt.promise.as_ref());
        Ok(Verified {
            origin: self.key.name().to_owned(),
            number,
            size,
            promised: promise.map(|promise| promise.time.clone()),
            answer: promise.and_then(|promise| promise.answer.clone()),
            cosigned: self.witnessed(&signed, other.as_ref())?,
        })
    }

    /// That the tree has at its place what a promise says.
    fn kept(&self, promise: &Promise, receipt: &Receipt) -> Result<(), ReceiptError> {
        promise.verify(self.key)?;
        let (promised, number) = (promise.index.saturating_add(1), receipt.index.saturating_add(1));
        if promised != number {
            return Err(ReceiptError::Another { promised, number });
        }
        let (log, time) = (self.key.name(), &promise.time);
        if promise.leaf_hash != receipt.leaf_hash {
            let another = "and a checkpoint that it signed has another entry in that place";
            return Err(ReceiptError::Misbehaviour(format!("the log '{log}' promised entry {number} at {time}, {another}")));
        }
        match (&promise.answer, &receipt.entry) {
            // The entry's hash is the one that was promised, so these are the bytes that were signed.
            (Some(answer), Some(entry)) if !answer.is_of(entry) => Err(ReceiptError::Misbehaviour(format!(
                "the log '{log}' promised at {time} that entry {number} is of the answer to query {}, and it is of something else",
                answer.query_id
            ))),
            _ => Ok(()),
        }
    }

    /// Another checkpoint of the log, which agrees with the receipt's.
    fn of_one_history(&self, own: &SignedCheckpoint, other: &[u8]) -> Result<SignedCheckpoint, ReceiptError> {
        let other = SignedCheckpoint::open(other, self.key)?;
        let (mut old, mut new) = (own.checkpoint(), other.checkpoint());
        if old.size > new.size {
            (old, new) = (new, old);
        }
        if old.size == new.size {
            if old.root == new.root {
                return Ok(other);
            }
            let what = format!("the log '{}' signed two different histories of {} entries", self.key.name(), old.size);
            return Err(ReceiptError::Misbehaviour(what));
        }
        let given = self.consistency.filter(|given| (given.from, given.to) == (old.size, new.size));
        let unproven = || ReceiptError::Consistency(format!("give the consistency proof from {} to {} entries", old.size, new.size));
        let given = given.ok_or_else(unproven)?;
        verify_consistency(old.size, new.size, &old.root, &new.root, &given.proof).map_err(|e| ReceiptError::Consistency(e.to_string()))?;
        Ok(other)
    }

    fn witnessed(&self, own: &SignedCheckpoint, other: Option<&SignedCheckpoint>) -> Result<Vec<(String, u64)>, ReceiptError> {
        let mut best = self.witnesses.judge(own.note(), self.now);
        if let Some(standing) = other.map(|other| self.witnesses.judge(other.note(), self.now)) {
            best.invalid.extend(standing.invalid);
            if standing.by.len() > best.by.len() {
                best.by = standing.by;
            }
        }
        if let Some(name) = best.invalid.first() {
            return Err(ReceiptError::Cosignature(name.clone()));
        }
        if best.is_witnessed() {
            return Ok(best.by);
        }
        Err(ReceiptError::Unwitnessed { cosigned: best.by.len(), quorum: best.quorum })
    }
}

/// The most hashes that are read of a proof.
const MAX_PROOF: usize = proof::MAX_PROOF + 1;
