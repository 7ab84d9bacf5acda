//! Which cosignatures of a checkpoint count, and whether they are enough. Pure: a list of witnesses, a note and the time in, a
//! standing out.

use crate::note::{Algorithm, Note, VerifierKey};

/// How far clocks may differ, in seconds.
pub const SKEW: u64 = 30;

/// Why witnesses are not configured as they are written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// A key that signs no cosignatures.
    #[error("'{0}' is not a witness's key: the key of a witness has algorithm 4")]
    NotAWitness(String),
    /// Two witnesses of one name or one key would count twice.
    #[error("'{0}' is named twice among the witnesses, by its name or its key: name each once")]
    Twice(String),
    /// A quorum that can never be met, or that nobody needs to meet.
    #[error("a quorum of {quorum} among {witnesses} witnesses cannot be: give a number from 1 to {witnesses}")]
    Quorum {
        /// What was asked for.
        quorum: usize,
        /// How many there are.
        witnesses: usize,
    },
}

/// The witnesses whose cosignatures count, and how many are needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witnesses {
    keys: Vec<VerifierKey>,
    quorum: usize,
}

/// How a checkpoint stands with its witnesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who cosigned, and when, in the order of the configuration.
    pub by: Vec<(String, u64)>,
    /// Whose line is under the checkpoint without being theirs, or lies in the future.
    pub invalid: Vec<String>,
    /// How many are needed.
    pub quorum: usize,
}

impl Witnesses {
    /// Nobody, and nobody is needed.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// These witnesses; the quorum is a majority where none is given.
    ///
    /// # Errors
    /// [`QuorumError`].
    pub fn new(keys: Vec<VerifierKey>, quorum: Option<usize>) -> Result<Self, QuorumError> {
        for (at, key) in keys.iter().enumerate() {
            if key.algorithm() != Algorithm::Cosignature {
                return Err(QuorumError::NotAWitness(key.name().to_owned()));
            }
            if keys.iter().take(at).any(|other| other.name() == key.name() || other.public() == key.public()) {
                return Err(QuorumError::Twice(key.name().to_owned()));
            }
        }
        let quorum = quorum.unwrap_or(keys.len() / 2 + 1);
        if quorum == 0 || quorum > keys.len() {
            return Err(QuorumError::Quorum { quorum, witnesses: keys.len() });
        }
        Ok(Self { keys, quorum })
    }

    /// How `note` stands at `now` (seconds since 1970).
    #[must_use]
    pub fn judge(&self, note: &Note, now: u64) -> Standing {
        let (mut by, mut invalid) = (Vec::new(), Vec::new());
        for key in &self.keys {
            match note.signed_by(key) {
                Ok(Some(signed)) if signed.time <= now.saturating_add(SKEW) => by.push((key.name().to_owned(), signed.time)),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => invalid.push(key.name().to_owned()),
            }
        }
        Standing { by, invalid, quorum: self.quorum }
    }
}

impl Standing {
    /// Whether enough witnesses cosigned.
    #[must_use]
    pub fn is_witnessed(&self) -> bool {
        self.by.len() >= self.quorum
    }

    /// When the last witness that the quorum needed cosigned; `None` without a quorum, or where nobody is needed.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        let mut times: Vec<u64> = self.by.iter().map(|(_, time)| *time).collect();
        times.sort_unstable();
        times.get(self.quorum.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Signer;

    fn witness(name: &str) -> Signer {
        Signer::generate(name, Algorithm::Cosignature).unwrap()
    }

    #[test]
    fn a_majority_is_needed_unless_said_otherwise() {
        let signers: Vec<Signer> = ["a", "b", "c", "d"].iter().map(|name| witness(name)).collect();
        let stranger = witness("a");
        let log = Signer::generate("log", Algorithm::Ed25519).unwrap();
        // Which of them cosigned, the quorum, and since when there is one.
        for (cosigned, quorum, since) in [
            (&[][..], None, None),
            (&[0, 1], None, None),
            (&[0, 1, 3], None, Some(103)),
            (&[3, 2, 1, 0], None, Some(102)),
            (&[2], Some(1), Some(102)),
            (&[0, 1, 2], Some(4), None),
            (&[0, 1, 2, 3], Some(4), Some(103)),
        ] {
            let witnesses = Witnesses::new(signers.iter().map(|s| s.key().clone()).collect(), quorum).unwrap();
            let mut note = Note::new("t\n", log.sign("t\n", 0));
            note.add(stranger.sign("t\n", 100));
            for at in cosigned {
                note.add(signers[*at].sign("t\n", 100 + *at as u64));
            }
            let standing = witnesses.judge(&note, 200);
            assert_eq!((standing.since(), standing.is_witnessed()), (since, since.is_some()), "{cosigned:?} {quorum:?}");
            assert!(standing.invalid.is_empty());
        }
    }

    #[test]
    fn one_witness_counts_once_and_only_until_now() {
        let (a, b) = (witness("a"), witness("b"));
        let witnesses = Witnesses::new(vec![a.key().clone(), b.key().clone()], None).unwrap();
        let mut note = Note::new("t\n", a.sign("t\n", 100));
        note.add(a.sign("t\n", 101));
        assert_eq!(witnesses.judge(&note, 100).by, [("a".to_owned(), 101)]);
        note.add(b.sign("t\n", 131));
        assert_eq!(witnesses.judge(&note, 100).invalid, ["b"]);
        assert!(witnesses.judge(&note, 101).is_witnessed());
        assert!(Witnesses::none().judge(&note, 0).is_witnessed());
    }

    #[test]
    fn witnesses_that_would_count_wrongly_are_refused() {
        let (a, again) = (witness("a"), witness("a"));
        let seed = [1; 32];
        let [b, c] = ["b", "c"].map(|name| Signer::from_seed(name, Algorithm::Cosignature, &seed).unwrap().key().clone());
        let log = Signer::generate("log", Algorithm::Ed25519).unwrap().key().clone();
        let a = a.key().clone();
        for (keys, quorum, reason) in [
            (vec![a.clone(), again.key().clone()], None, "named twice"),
            (vec![b, c], None, "named twice"),
            (vec![log], None, "algorithm 4"),
            (vec![], None, "cannot be"),
            (vec![a.clone()], Some(0), "cannot be"),
            (vec![a], Some(2), "cannot be"),
        ] {
            assert!(Witnesses::new(keys, quorum).unwrap_err().to_string().contains(reason), "{reason}");
        }
    }
}
