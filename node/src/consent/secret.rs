//! The department's secret of its consent ledger: `state/consent.secret` (mode 0600), made at the first use and never replaced.
//!
//! Under it subjects stand in the index, so that nobody can choose identifiers that collide, and what is kept of erased people
//! stands in the ledger under 80 bits of the same keyed hash. Consent receipts name people by another hash under it, and what keeps
//! calls, streams and, once somebody was erased, files from being recorded twice is keyed by it: none of these can be tried without it.
//!
//! Where something is kept of somebody erased, so is the identifier, encrypted under a key that is derived from the secret
//! (AES-256-GCM, bound to type and digest): their objection goes on reaching other departments' data, where agreements say so, and
//! pseudonyms are made of identifiers only. [`super::reach`] alone opens it. Whoever holds secret and ledger can read it, who could
//! also try NINOs one by one (there are some 10^9); of identifiers that cannot be guessed, this is the one way to read them.
//!
//! Where the ledger holds erased people, a secret that is gone or another is an error, never a new beginning: their objections
//! would be forgotten.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use concordat_policy::agreement::hex;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::highest::Highest;
use super::ledger::{Known, LedgerError};
use crate::framing::framed;
use crate::private;
use crate::pseudonym::{DomainKey, Pseudonym, Pseudonyms};

/// Bytes of a hash that stand for a subject.
const KEPT: usize = 10;
/// Names the key and the use of what is kept of an erased identifier.
const ERASED: &[u8] = b"concordat erased v1";
/// Bytes of a nonce.
const NONCE: usize = 12;

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

    /// The identifier of somebody erased, as it is kept.
    pub(super) fn sealed(&self, label: &str, who: &Known) -> Result<Vec<u8>, LedgerError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(LedgerError::Random)?;
        let mut sealed = who.identifier.as_bytes().to_vec();
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound(label, &who.digest), &mut sealed)
            .map_err(|_| LedgerError::Sealed)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The identifier that was kept of somebody erased.
    pub(super) fn opened(&self, label: &str, digest: &str, sealed: &[u8]) -> Result<Zeroizing<String>, LedgerError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or(LedgerError::Sealed)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let opened = self.cipher()?.open_in_place(Nonce::assume_unique_for_key(*nonce), bound(label, digest), &mut sealed);
        let opened = opened.map_err(|_| LedgerError::Sealed)?;
        String::from_utf8(opened.to_vec()).map(Zeroizing::new).map_err(|_| LedgerError::Sealed)
    }

    fn cipher(&self) -> Result<LessSafeKey, LedgerError> {
        let mut key = Zeroizing::new([0u8; 32]);
        Hkdf::<Sha256>::new(None, self.key.bytes()).expand(&framed(&[ERASED]), key.as_mut_slice()).map_err(|_| LedgerError::Sealed)?;
        UnboundKey::new(&AES_256_GCM, key.as_slice()).map(LessSafeKey::new).map_err(|_| LedgerError::Sealed)
    }

    /// What people are named by in their receipts.
    pub(super) fn reference(&self, label: &str, identifier: &str) -> String {
        hex(&Pseudonyms::private(&self.key, &format!("consent receipt {label}")).one(identifier))
    }

    /// Tells some records from others, by a hash of theirs: without the secret nobody can try whose they are.
    pub(super) fn records(&self, hash: &str) -> String {
        hex(&Pseudonyms::private(&self.key, "consent call").one(hash))
    }

    /// What stands in the stead of a file's hash once somebody was erased.
    pub(super) fn file(&self, digest: &str) -> String {
        format!("keyed:{}", hex(&Pseudonyms::private(&self.key, "consent file").one(digest)))
    }

    /// Tells this secret from another.
    pub(super) fn check(&self) -> String {
        hex(&Pseudonyms::private(&self.key, "consent secret").one("check"))
    }
}

/// What is kept of one person is never taken for another's.
fn bound(label: &str, digest: &str) -> Aad<Vec<u8>> {
    Aad::from(framed(&[ERASED, label.as_bytes(), digest.as_bytes()]))
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
    fn what_is_kept_of_an_identifier_opens_for_its_own_person_and_secret_only() {
        let (one, other) = (Secret::of(DomainKey::new([1; 32])), Secret::of(DomainKey::new([2; 32])));
        let who = Known { identifier: "AB100001A".into(), digest: one.digest("AB100001A") };
        let sealed = one.sealed("nino", &who).unwrap();
        assert_eq!(one.opened("nino", &who.digest, &sealed).unwrap().as_str(), "AB100001A");
        assert_ne!(one.sealed("nino", &who).unwrap(), sealed, "two erasures look unlike each other");
        let altered: Vec<u8> = sealed.iter().enumerate().map(|(at, byte)| if at == 20 { byte ^ 1 } else { *byte }).collect();
        for opened in [
            other.opened("nino", &who.digest, &sealed),
            one.opened("upn", &who.digest, &sealed),
            one.opened("nino", &one.digest("AB100002A"), &sealed),
            one.opened("nino", &who.digest, &altered),
            one.opened("nino", &who.digest, &[]),
        ] {
            assert!(matches!(opened, Err(LedgerError::Sealed)));
        }
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
