//! The department's secret of its consent ledger: `state/consent.secret` (mode 0600), made at the first use and never replaced.
//!
//! Under it subjects stand in the index, so that nobody can choose identifiers that collide, and what is kept of erased people
//! stands in the ledger under 80 bits of the same keyed hash: whoever holds secret and ledger can try identifiers one by one, and
//! nobody can do more. Consent receipts name people by another hash under it.
//!
//! Where the ledger holds erased people, a secret that is gone or another is an error, never a new beginning: their objections
//! would be forgotten.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use concordat_policy::agreement::hex;
use zeroize::Zeroizing;

use super::highest::Highest;
use super::ledger::LedgerError;
use crate::private;
use crate::pseudonym::{DomainKey, Pseudonym, Pseudonyms};

/// Bytes of a hash that stand for a subject.
const KEPT: usize = 10;

pub(super) struct Secret {
    key: DomainKey,
    hasher: Arc<Pseudonyms>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads the secret, or makes it.
    pub(super) fn open(state: &Path, highest: &Highest) -> Result<Self, LedgerError> {
        let path = state.join("consent.secret");
        let key = match read(&path)? {
            Some(key) => key,
            None => {
                // Commands and the node may come at once.
                let _turn = highest.turn()?;
                match read(&path)? {
                    Some(key) => key,
                    None => {
                        let key = DomainKey::random().map_err(LedgerError::Random)?;
                        let text = Zeroizing::new(format!("{}\n", Zeroizing::new(hex(key.bytes())).as_str()));
                        private::replace(&path, text.as_bytes())?;
                        key
                    }
                }
            }
        };
        Ok(Self::of(key))
    }

    pub(super) fn of(key: DomainKey) -> Self {
        let hasher = Arc::new(Pseudonyms::private(&key, "consent"));
        Self { key, hasher }
    }

    /// Hashes subjects for the index.
    pub(super) fn hasher(&self) -> &Arc<Pseudonyms> {
        &self.hasher
    }

    /// What stands in an erased identifier's stead.
    pub(super) fn digest(&self, identifier: &str) -> String {
        hex(self.hasher.one(identifier).get(..KEPT).unwrap_or_default())
    }

    /// What people are named by in their receipts.
    pub(super) fn reference(&self, label: &str, identifier: &str) -> String {
        hex(&Pseudonyms::private(&self.key, &format!("consent receipt {label}")).one(identifier))
    }

    /// Tells some records from others, by a hash of theirs: without the secret nobody can try whose they are.
    pub(super) fn records(&self, hash: &str) -> String {
        hex(&Pseudonyms::private(&self.key, "consent call").one(hash))
    }

    /// Tells this secret from another.
    pub(super) fn check(&self) -> String {
        hex(&Pseudonyms::private(&self.key, "consent secret").one("check"))
    }
}

/// The hash of which a digest has the first bits; the others are zero.
pub(super) fn hash_of(digest: &str) -> Option<Pseudonym> {
    let mut hash = [0; 16];
    if digest.len() != 2 * KEPT {
        return None;
    }
    for (at, byte) in hash.iter_mut().take(KEPT).enumerate() {
        *byte = u8::from_str_radix(digest.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

fn read(path: &Path) -> io::Result<Option<DomainKey>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let key = crate::linkage::unhex(text.trim()).map(DomainKey::new);
    key.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "state/consent.secret is damaged: restore it from the backup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_a_damaged_one_is_no_new_beginning() {
        let state = tempfile::tempdir().unwrap();
        let open = || Secret::open(state.path(), &Highest::at(state.path()));
        let first = open().unwrap();
        assert_eq!(open().unwrap().check(), first.check());
        let path = state.path().join("consent.secret");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        fs::write(&path, "damaged\n").unwrap();
        assert!(open().unwrap_err().to_string().contains("consent.secret is damaged"));
    }

    #[test]
    fn digests_and_references_tell_people_apart_and_one_is_not_the_other() {
        let (one, other) = (Secret::of(DomainKey::new([1; 32])), Secret::of(DomainKey::new([2; 32])));
        assert_eq!(one.digest("AB100001A").len(), 20);
        assert_ne!(one.digest("AB100001A"), one.digest("AB100002A"));
        assert_ne!(one.digest("AB100001A"), other.digest("AB100001A"));
        assert_ne!(one.check(), other.check());
        assert_ne!(one.reference("nino", "AB100001A"), one.reference("upn", "AB100001A"));
        assert!(!one.reference("nino", "AB100001A").starts_with(&one.digest("AB100001A")));
        let hash = one.hasher().one("AB100001A");
        assert_eq!(hash_of(&one.digest("AB100001A")).unwrap()[..KEPT], hash[..KEPT]);
        for bad in ["", "0123", "zz23456789abcdef0123", "é123456789abcdef0123"] {
            assert_eq!(hash_of(bad), None, "{bad}");
        }
    }
}
