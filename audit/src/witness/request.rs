//! What a log asks of its witness (c2sp.org/tlog-witness, `add-checkpoint`): the old size, the consistency proof, the checkpoint.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::note::MAX_NOTE;
use crate::proof::{Hash, MAX_PROOF};

/// What is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a request to cosign a checkpoint: {0}")]
pub struct RequestError(&'static str);

/// A request to cosign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint that the witness is thought to have cosigned last.
    pub old_size: u64,
    /// From that size to the checkpoint's.
    pub proof: Vec<Hash>,
    /// The checkpoint's note.
    pub checkpoint: String,
}

impl AddCheckpoint {
    /// Reads what came from elsewhere.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read(old_size: u64, proof: &[Vec<u8>], checkpoint: Vec<u8>) -> Result<Self, RequestError> {
        if proof.len() > MAX_PROOF {
            return Err(RequestError("its proof has more than 63 hashes"));
        }
        let proof: Result<Vec<Hash>, _> = proof.iter().map(|hash| Hash::try_from(hash.as_slice())).collect();
        let proof = proof.map_err(|_| RequestError("a hash of its proof does not have 32 bytes"))?;
        if checkpoint.len() > MAX_NOTE {
            return Err(RequestError("its checkpoint is longer than 64 KiB"));
        }
        let checkpoint = String::from_utf8(checkpoint).map_err(|_| RequestError("its checkpoint is not UTF-8"))?;
        Ok(Self { old_size, proof, checkpoint })
    }
}

/// The body as it is sent to witnesses that are asked over HTTP: `old N`, the hashes, a blank line, the checkpoint.
impl std::fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", BASE64_STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_request_is_read_and_it_is_sent_in_the_specified_form() {
        let read = |proof: &[Vec<u8>], checkpoint: &[u8]| AddCheckpoint::read(20_852_014, proof, checkpoint.to_vec());
        let hash = BASE64_STANDARD.encode([3; 32]);
        let sent = format!("old 20852014\n{hash}\n{hash}\n\nlog\n1\n\n— log AAAA\n");
        assert_eq!(read(&vec![vec![3; 32]; 2], "log\n1\n\n— log AAAA\n".as_bytes()).unwrap().to_string(), sent);
        assert_eq!(AddCheckpoint::read(0, &[], b"log\n".to_vec()).unwrap().to_string(), "old 0\n\nlog\n");
        for (proof, checkpoint, reason) in [
            (vec![vec![3; 32]; 64], &b"log\n"[..], "63 hashes"),
            (vec![vec![3; 31]], b"log\n", "32 bytes"),
            (vec![vec![3; 33]], b"log\n", "32 bytes"),
            (vec![], b"\xff", "UTF-8"),
            (vec![], &vec![b'x'; MAX_NOTE + 1], "64 KiB"),
        ] {
            assert!(read(&proof, checkpoint).unwrap_err().to_string().contains(reason), "{reason}");
        }
    }
}
