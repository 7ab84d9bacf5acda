//! Keyed digests: what stands in a log in place of what must not.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::LogError;

/// The key of one log's digests, for who must write the same digest while another process holds the log.
pub struct DigestKey([u8; 32]);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey")
    }
}

impl DigestKey {
    /// The key of the log in `folder`, which must exist; the key is made on first use.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn of(folder: &Path) -> Result<Self, LogError> {
        Self::at(folder).map_err(|source| LogError::Open { folder: folder.to_owned(), source: Arc::new(source) })
    }

    pub(crate) fn at(folder: &Path) -> io::Result<Self> {
        digest_key(folder).map(Self)
    }

    /// Tells this key from others, and nothing of it.
    pub(crate) fn fingerprint(&self) -> String {
        self.digest(b"concordat.digests/v1")
    }

    /// HMAC-SHA-256 of `bytes` in hex: equal requests can be recognised by who holds the key, and nobody else can test guesses.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(bytes);
        mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, b| {
            let _ = write!(hex, "{b:02x}");
            hex
        })
    }
}

/// Reads the key of digests, or creates it (mode 0600) on first use.
fn digest_key(folder: &Path) -> io::Result<[u8; 32]> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join("digest.key");
    match std::fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| io::Error::other("digest.key is not 32 bytes")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|e| io::Error::other(e.to_string()))?;
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(e) => Err(e),
    }
}
