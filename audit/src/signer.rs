//! A signing key of signed notes. Its text form is `PRIVATE+KEY+name+id+base64`, as other implementations read and write it.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{hkdf, hmac};

use crate::note::{Algorithm, NoteError, Signature, VerifierKey, cosigned_message, key_bytes, key_text};

/// A log's or a witness's private key.
pub struct Signer {
    key: VerifierKey,
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.key)
    }
}

impl Signer {
    /// A new key.
    ///
    /// # Errors
    /// [`NoteError::Key`]: the name cannot be a key's, or there is no randomness.
    pub fn generate(name: &str, algorithm: Algorithm) -> Result<Self, NoteError> {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|_| NoteError::Key("the system has no randomness"))?;
        Self::from_seed(name, algorithm, &seed)
    }

    /// The key of a seed.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn from_seed(name: &str, algorithm: Algorithm, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let refused = |_| NoteError::Key("it is not an Ed25519 seed");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(refused)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key("it is not an Ed25519 seed"))?;
        Ok(Self { key: VerifierKey::new(name, algorithm, public)?, pair })
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let parts = text.strip_prefix("PRIVATE+KEY+").ok_or(NoteError::Key("it is not a private one"))?;
        let mut parts = parts.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it does not have three parts"));
        };
        let (algorithm, seed) = key_bytes(key)?;
        let signer = Self::from_seed(name, algorithm, &zeroize::Zeroizing::new(seed))?;
        if format!("{:08x}", u32::from_be_bytes(signer.key.id())) != id {
            return Err(NoteError::Key("its id does not belong to its name and key"));
        }
        Ok(signer)
    }

    /// The text form, for a file that nobody else may read.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn private_text(&self) -> Result<zeroize::Zeroizing<String>, NoteError> {
        let seed = self.seed()?;
        let text = key_text(self.key.name(), self.key.id(), self.key.algorithm(), &seed);
        Ok(zeroize::Zeroizing::new(format!("PRIVATE+KEY+{text}")))
    }

    fn seed(&self) -> Result<zeroize::Zeroizing<[u8; 32]>, NoteError> {
        let refused = NoteError::Key("it cannot be written out");
        let seed = self.pair.seed().map_err(|_| refused.clone())?;
        let bytes = aws_lc_rs::encoding::AsBigEndian::<aws_lc_rs::encoding::Curve25519SeedBin<'_>>::as_be_bytes(&seed);
        let bytes = bytes.map_err(|_| refused.clone())?;
        bytes.as_ref().try_into().map(zeroize::Zeroizing::new).map_err(|_| refused)
    }

    /// Another secret that only who has this key has, for another use, which `label` names.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub(crate) fn derived(&self, label: &[u8]) -> Result<hmac::Key, NoteError> {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(self.seed()?.as_ref());
        let label = [label];
        let key = secret.expand(&label, hmac::HMAC_SHA256).map(hmac::Key::from);
        key.map_err(|_| NoteError::Key("nothing can be derived from it"))
    }

    /// The public half.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Signs a note's text. `time` (seconds since 1970) is part of what a witness signs; a log's signature does not have it.
    #[must_use]
    pub fn sign(&self, text: &str, time: u64) -> Signature {
        let bytes = match self.key.algorithm() {
            Algorithm::Ed25519 => self.sign_message(text.as_bytes()),
            Algorithm::Cosignature => [&time.to_be_bytes()[..], &self.sign_message(&cosigned_message(text, time))].concat(),
        };
        Signature { name: self.key.name().to_owned(), id: self.key.id(), bytes }
    }

    /// Signs other bytes, which must not be a note's text: let them begin with a domain that ends in a zero byte.
    #[must_use]
    pub fn sign_message(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}
