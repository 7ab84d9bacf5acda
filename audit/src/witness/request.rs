//! What a log sends to its witness (c2sp.org/tlog-witness, `add-checkpoint`): `old N`, the consistency proof's hashes, a blank line, the
//! checkpoint.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::checkpoint::decimal;
use crate::note::MAX_NOTE;
use crate::proof::{Hash, MAX_PROOF};

/// The longest request, in bytes: a proof and a note.
pub const MAX_REQUEST: usize = MAX_NOTE + (MAX_PROOF + 2) * 48;

/// A body that is not a request.
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
    /// Reads a body.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > MAX_REQUEST {
            return Err(RequestError("it is too long"));
        }
        let body = std::str::from_utf8(body).map_err(|_| RequestError("it is not UTF-8"))?;
        let (head, checkpoint) = body.split_once("\n\n").ok_or(RequestError("no blank line parts the proof from the checkpoint"))?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old_size = old_size.ok_or(RequestError("its first line is not 'old' and a size"))?;
        let hash = |line: &str| BASE64_STANDARD.decode(line).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let proof: Option<Vec<Hash>> = lines.take(MAX_PROOF + 1).map(hash).collect();
        let proof = proof.ok_or(RequestError("a line of its proof is not the Base64 of 32 bytes"))?;
        if proof.len() > MAX_PROOF {
            return Err(RequestError("its proof has more than 63 lines"));
        }
        Ok(Self { old_size, proof, checkpoint: checkpoint.to_owned() })
    }
}

/// The body as it is sent.
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
    fn only_the_specified_form_is_read() {
        let hash = BASE64_STANDARD.encode([3; 32]);
        let good = format!("old 20852014\n{hash}\n{hash}\n\nlog\n1\n\n— log AAAA\n");
        let request = AddCheckpoint::parse(good.as_bytes()).unwrap();
        assert_eq!((request.old_size, request.proof.len(), request.to_string()), (20_852_014, 2, good));
        assert_eq!(AddCheckpoint::parse(b"old 0\n\nlog\n").unwrap().proof, Vec::<Hash>::new());
        let many = format!("old 1\n{}\nlog\n", format!("{hash}\n").repeat(64));
        let long = format!("old 1\n\n{}", "x".repeat(MAX_REQUEST));
        for (body, reason) in [
            ("", "blank line"),
            ("old 1\n", "blank line"),
            ("old 01\n\nlog\n", "'old' and a size"),
            ("old +1\n\nlog\n", "'old' and a size"),
            ("old  1\n\nlog\n", "'old' and a size"),
            ("old -1\n\nlog\n", "'old' and a size"),
            ("old 1 \n\nlog\n", "'old' and a size"),
            ("old 1\r\n\nlog\n", "'old' and a size"),
            ("old 1\nAAAA\n\nlog\n", "32 bytes"),
            ("old 1\nold 2\n\nlog\n", "32 bytes"),
            (&many, "63 lines"),
            (&long, "too long"),
        ] {
            let error = AddCheckpoint::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{body:.40}: {error}");
        }
    }
}
