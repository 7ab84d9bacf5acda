//! Checkpoints (c2sp.org/tlog-checkpoint): what a log signs of its tree. Three lines: origin, size, root.
//!
//! The specification's extension lines are refused: nobody can audit them, and no log of ours writes any.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::note::{Algorithm, Note, NoteError, VerifierKey, is_name};
use crate::proof::Hash;

/// Why a checkpoint is not one of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no note, or its signature is not of the log's key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Its text is not a checkpoint's.
    #[error("this is not a checkpoint: {0}")]
    Form(&'static str),
    /// It is of another log.
    #[error("the checkpoint is of the log '{found}', and the key of '{expected}'")]
    Origin {
        /// Whose it is.
        found: String,
        /// Whose was asked for.
        expected: String,
    },
    /// The log did not sign it.
    #[error("no signature of the log '{0}' with the key that was given is under this checkpoint")]
    Unsigned(String),
}

/// What a checkpoint says; unproven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many entries the tree has.
    pub size: u64,
    /// Its root (RFC 6962).
    pub root: Hash,
}

impl Checkpoint {
    /// Reads a note's text.
    ///
    /// # Errors
    /// [`CheckpointError::Form`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').take(4).collect();
        let [origin, size, root] = lines[..] else { return Err(CheckpointError::Form("it does not have three lines")) };
        if !is_origin(origin) {
            return Err(CheckpointError::Form("its first line is not the name of a log"));
        }
        let size = decimal(size).ok_or(CheckpointError::Form("its second line is not a size"))?;
        let root = BASE64_STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
        let root = root.ok_or(CheckpointError::Form("its third line is not the Base64 of 32 bytes"))?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }
}

/// A checkpoint that its log has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a checkpoint that `log` must have signed.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(bytes: &[u8], log: &VerifierKey) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != log.name() {
            return Err(CheckpointError::Origin { found: checkpoint.origin, expected: log.name().to_owned() });
        }
        if log.algorithm() != Algorithm::Ed25519 || note.signed_by(log)?.is_none() {
            return Err(CheckpointError::Unsigned(log.name().to_owned()));
        }
        Ok(Self { checkpoint, note })
    }

    /// What it says.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, with all its signatures.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }
}

/// A log's name is a key's, and never the first line of what a witness signs.
pub(crate) fn is_origin(name: &str) -> bool {
    is_name(name) && !name.starts_with("cosignature/")
}

/// A decimal number below 2^63 without leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (i64::try_from(number).is_ok() && number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Signer;

    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    #[test]
    fn only_the_three_lines_are_a_checkpoint() {
        let good = format!("concordat/dwp/node\n20852163\n{ROOT}\n");
        assert_eq!(Checkpoint::parse(&good).unwrap().text(), good);
        for (text, reason) in [
            (format!("concordat/dwp/node\n20852163\n{ROOT}\nmore\n"), "three lines"),
            ("concordat/dwp/node\n1\n".to_owned(), "three lines"),
            (format!("\n1\n{ROOT}\n"), "name of a log"),
            (format!("a b\n1\n{ROOT}\n"), "name of a log"),
            (format!("cosignature/v1\n1\n{ROOT}\n"), "name of a log"),
            (format!("a\n01\n{ROOT}\n"), "not a size"),
            (format!("a\n+1\n{ROOT}\n"), "not a size"),
            (format!("a\n\n{ROOT}\n"), "not a size"),
            (format!("a\n9223372036854775808\n{ROOT}\n"), "not a size"),
            ("a\n1\nAAAA\n".to_owned(), "32 bytes"),
        ] {
            let error = Checkpoint::parse(&text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_checkpoint_counts_only_with_the_logs_own_signature() {
        let log = Signer::generate("concordat/dwp/node", Algorithm::Ed25519).unwrap();
        let other = Signer::generate("concordat/dwp/node", Algorithm::Ed25519).unwrap();
        let cosigner = Signer::generate("concordat/dwp/node", Algorithm::Cosignature).unwrap();
        let text = format!("concordat/dwp/node\n3\n{ROOT}\n");
        let note = |signer: &Signer| Note::new(&text, signer.sign(&text, 1)).to_string();
        assert_eq!(SignedCheckpoint::open(note(&log).as_bytes(), log.key()).unwrap().checkpoint().size, 3);
        for (signer, key) in [(&other, &log), (&cosigner, &log), (&cosigner, &cosigner)] {
            let refused = SignedCheckpoint::open(note(signer).as_bytes(), key.key());
            assert_eq!(refused, Err(CheckpointError::Unsigned("concordat/dwp/node".into())));
        }
        let dfe = Signer::generate("concordat/dfe/node", Algorithm::Ed25519).unwrap();
        assert!(matches!(SignedCheckpoint::open(note(&log).as_bytes(), dfe.key()), Err(CheckpointError::Origin { .. })));
    }
}
