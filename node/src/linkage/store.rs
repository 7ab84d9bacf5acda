//! The files of linkage keys: one per domain, mode 0600 in a folder of mode 0700, durable before the key is used.
//!
//! A file's name is the SHA-256 of its domain; it holds the domain, so that a renamed file is noticed, and the key in hex.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use concordat_policy::LinkageDomain;
use concordat_policy::agreement::hex;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::private;
use crate::pseudonym::DomainKey;

/// Why a linkage key could not be read or kept. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder.
    #[error("linkage keys: {0}")]
    File(#[from] io::Error),
    /// A file that holds something else.
    #[error("the linkage key file {0} is damaged or belongs to another domain")]
    Damaged(PathBuf),
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    // One writer at a time, so that a domain never gets two keys.
    writing: Mutex<()>,
}

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        private::folder(folder)?;
        Ok(Self { folder: folder.to_owned(), writing: Mutex::new(()) })
    }

    pub(super) fn key(&self, domain: &LinkageDomain) -> Result<Option<DomainKey>, StoreError> {
        let path = self.path(domain);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut lines = text.lines();
        let named = lines.next() == Some(&domain.to_string());
        let key = lines.next().and_then(unhex).map(DomainKey::new);
        key.filter(|_| named).map(Some).ok_or(StoreError::Damaged(path))
    }

    pub(super) fn key_or_new(&self, domain: &LinkageDomain) -> Result<DomainKey, StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = self.key(domain)? {
            return Ok(key);
        }
        let key = DomainKey::random()?;
        self.write(domain, &key)?;
        Ok(key)
    }

    /// Keeps `key`. Returns false, and changes nothing, when another key of the domain is known.
    pub(super) fn keep(&self, domain: &LinkageDomain, key: &DomainKey) -> Result<bool, StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.key(domain)? {
            return Ok(known == *key);
        }
        self.write(domain, key)?;
        Ok(true)
    }

    fn write(&self, domain: &LinkageDomain, key: &DomainKey) -> Result<(), StoreError> {
        let path = self.path(domain);
        let hexed = Zeroizing::new(hex(key.bytes()));
        let text = Zeroizing::new(format!("{domain}\n{}\n", hexed.as_str()));
        private::replace(&path, text.as_bytes())?;
        Ok(())
    }

    fn path(&self, domain: &LinkageDomain) -> PathBuf {
        self.folder.join(format!("{}.key", hex(&Sha256::digest(domain.to_string()))))
    }
}

/// 32 bytes from 64 hex digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
