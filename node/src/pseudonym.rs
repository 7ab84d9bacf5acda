//! Pseudonyms: the keyed 128-bit stand-in of an identifier of one type inside one linkage domain.
//!
//! ```text
//! domain key (32 random bytes, shared by the parties)
//!     │ HKDF-SHA-256, info = framed("concordat pseudonym v1", mission/purpose/epoch.rotation, identifier type)
//!     ├─▶ K1 (32 bytes): identifiers of up to 15 bytes:  AES-256(K1, [length][bytes][zeros])
//!     └─▶ K2 (32 bytes): longer ones:                    HMAC-SHA-256(K2, bytes), first 16 bytes
//! ```
//!
//! Why this is safe
//! - AES-256 under a secret key is a pseudorandom permutation. The block that is encrypted holds the length and the bytes, so
//!   different identifiers are different blocks, and different blocks are different pseudonyms: within this family no two
//!   subjects ever share one. Nothing but equality is kept, and equality is what linkage needs.
//! - Who lacks the key learns no identifier: telling pseudonyms from random distinct blocks is telling AES-256 from a
//!   random permutation. That the space of identifiers is small (some 10^9 NINOs, reversed in 78 core-seconds if unkeyed)
//!   does not help without K1. Who holds the key can invert pseudonyms; so can every party to the domain, openly stated.
//! - HMAC-SHA-256 is a pseudorandom function; cut to 128 bits, two of n long identifiers collide with probability at most
//!   n²/2^129. The keys of the two families are independent (HKDF outputs), so a long and a short identifier collide with
//!   probability at most n²/2^128 too: below 2^-80 for 10^7 subjects.
//! - Domain and type stand in `info`, framed: keys, and so pseudonyms, of two missions, purposes, epochs, rotations or types are
//!   independent. Pseudonyms never match across two domains.
//! - Deterministic on purpose: one subject, one domain, one pseudonym. The domain's epoch bounds how long.
//!
//! The same construction, under a random key that no process shares, hides identifiers in the consent index.

use aes::Aes256;
use aes::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _};
use concordat_policy::{IdentifierType, LinkageDomain};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::framing::framed;

const LABEL: &[u8] = b"concordat pseudonym v1";
/// The longest identifier that fits one block beside its length.
const SHORT: usize = 15;

/// A pseudonym: 16 bytes, compared as big-endian.
pub type Pseudonym = [u8; 16];

/// The secret of one linkage domain.
#[derive(Clone, PartialEq, Eq)]
pub struct DomainKey(Zeroizing<[u8; 32]>);

impl DomainKey {
    /// A key from its bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new random key.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = Self::new([0; 32]);
        getrandom::fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for DomainKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DomainKey")
    }
}

/// Makes pseudonyms of one identifier type in one linkage domain. Its keys are wiped when it is dropped.
pub struct Pseudonyms {
    short: Aes256,
    long: Hmac<Sha256>,
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms")
    }
}

impl Pseudonyms {
    /// Derives the keys of `identifier` in `domain`.
    #[must_use]
    pub fn derive(key: &DomainKey, domain: &LinkageDomain, identifier: &IdentifierType) -> Self {
        Self::from_info(key, &framed(&[LABEL, domain.to_string().as_bytes(), identifier.label().as_bytes()]))
    }

    /// Derives keys for a use inside this process, named by `label`.
    pub(crate) fn private(key: &DomainKey, label: &str) -> Self {
        Self::from_info(key, &framed(&[b"concordat private index v1", label.as_bytes()]))
    }

    #[expect(clippy::expect_used, reason = "HKDF gives up to 255 * 32 bytes and 64 are asked for; HMAC and AES-256 take 32-byte keys")]
    fn from_info(key: &DomainKey, info: &[u8]) -> Self {
        let mut keys = Zeroizing::new([0u8; 64]);
        Hkdf::<Sha256>::new(None, key.bytes()).expand(info, keys.as_mut_slice()).expect("64 bytes");
        let (short, long) = keys.split_at(32);
        Self { short: Aes256::new_from_slice(short).expect("32 bytes"), long: Hmac::new_from_slice(long).expect("any length") }
    }

    /// Replaces the content of `out` by the pseudonym of each identifier, in order.
    pub fn make<'a>(&self, identifiers: impl Iterator<Item = &'a str>, out: &mut Vec<Pseudonym>) {
        out.clear();
        let mut long = Vec::new();
        for identifier in identifiers {
            match block(identifier.as_bytes()) {
                Some(block) => out.push(block),
                None => {
                    long.push((out.len(), self.long(identifier.as_bytes())));
                    out.push([0; 16]);
                }
            }
        }
        // All blocks at once: the hardware works on eight in parallel. Places of long identifiers are overwritten below.
        self.short.encrypt_blocks(Array::cast_slice_from_core_mut(out));
        for (place, pseudonym) in long {
            if let Some(slot) = out.get_mut(place) {
                *slot = pseudonym;
            }
        }
    }

    /// The pseudonym of one identifier.
    #[must_use]
    pub fn one(&self, identifier: &str) -> Pseudonym {
        match block(identifier.as_bytes()) {
            Some(mut block) => {
                self.short.encrypt_block((&mut block).into());
                block
            }
            None => self.long(identifier.as_bytes()),
        }
    }

    /// What tells these keys from others: the pseudonym of what no identifier is.
    #[must_use]
    pub(crate) fn of_key(&self) -> Pseudonym {
        self.long(b"\0concordat: which key is this\0")
    }

    fn long(&self, bytes: &[u8]) -> Pseudonym {
        let tag: [u8; 32] = self.long.clone().chain_update(bytes).finalize().into_bytes().into();
        let mut cut = [0; 16];
        cut.iter_mut().zip(tag).for_each(|(to, from)| *to = from);
        cut
    }
}

/// `[length][bytes][zeros]`; `None` for more than 15 bytes.
fn block(identifier: &[u8]) -> Option<Pseudonym> {
    let length = identifier.len();
    // The first and the last of them in two reads, which may overlap: copied one by one, they take longer than AES.
    let bytes = match length {
        8..=SHORT => {
            let (first, last) = (identifier.first_chunk()?, identifier.last_chunk()?);
            u128::from(u64::from_le_bytes(*first)) | (u128::from(u64::from_le_bytes(*last)) << (8 * (length - 8)))
        }
        4..8 => {
            let (first, last) = (identifier.first_chunk()?, identifier.last_chunk()?);
            u128::from(u32::from_le_bytes(*first)) | (u128::from(u32::from_le_bytes(*last)) << (8 * (length - 4)))
        }
        0..4 => identifier.iter().rev().fold(0, |bytes, byte| (bytes << 8) | u128::from(*byte)),
        _ => return None,
    };
    Some(((bytes << 8) | length as u128).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use concordat_policy::Name;
    use concordat_policy::agreement::hex;

    use super::*;

    fn domain(mission: &str, purpose: &str, epoch: u32) -> LinkageDomain {
        LinkageDomain { mission: Name::parse(mission).unwrap(), purpose: Name::parse(purpose).unwrap(), epoch, rotation: 0 }
    }

    fn key() -> DomainKey {
        DomainKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    #[test]
    fn a_block_is_the_length_the_bytes_and_zeros() {
        for length in 0..=16 {
            let identifier: Vec<u8> = (0..length).map(|i| 0x81 + 7 * i).collect();
            let mut expected = [vec![length], identifier.clone(), vec![0; 16]].concat();
            expected.truncate(16);
            let expected = <[u8; 16]>::try_from(expected).ok().filter(|_| length <= 15);
            assert_eq!(block(&identifier), expected, "{length} bytes");
        }
    }

    /// Computed with Python's `hmac` and `openssl enc`, not with this code.
    #[test]
    fn known_answers() {
        let pseudonyms = Pseudonyms::derive(&key(), &domain("opportunity", "opportunity.measure", 229), &IdentifierType::Nino);
        assert_eq!(hex(&pseudonyms.one("AB123456C")), "25dcb9887ea6a0458a79a4c8dc88bf82");
        assert_eq!(hex(&pseudonyms.one("0123456789ABCDEF")), "2e72937e42838c8b79d959a7b0a2e51d");
    }

    #[test]
    fn domains_and_types_never_match() {
        let one = domain("m", "p", 1);
        let cases = [
            Pseudonyms::derive(&key(), &one, &IdentifierType::Nino),
            Pseudonyms::derive(&key(), &one, &IdentifierType::NhsNumber),
            Pseudonyms::derive(&key(), &domain("m", "p", 2), &IdentifierType::Nino),
            Pseudonyms::derive(&key(), &domain("m", "p.q", 1), &IdentifierType::Nino),
            Pseudonyms::derive(&key(), &domain("n", "p", 1), &IdentifierType::Nino),
            Pseudonyms::derive(&key(), &LinkageDomain { rotation: 1, ..domain("m", "p", 1) }, &IdentifierType::Nino),
            Pseudonyms::derive(&DomainKey::new([9; 32]), &one, &IdentifierType::Nino),
            Pseudonyms::private(&key(), "nino"),
        ];
        for identifier in ["AB123456C", "an identifier of more than 15 bytes"] {
            assert_eq!(cases.iter().map(|p| p.one(identifier)).collect::<BTreeSet<_>>().len(), cases.len());
        }
    }

    /// How many of two lists' bits agree, out of all.
    fn agreement(one: &[Pseudonym], other: &[Pseudonym]) -> (u64, u64) {
        let equal = |a: &Pseudonym, b: &Pseudonym| u64::from((u128::from_be_bytes(*a) ^ u128::from_be_bytes(*b)).count_zeros());
        (one.iter().zip(other).map(|(a, b)| equal(a, b)).sum(), 128 * one.len() as u64)
    }

    /// One key for all, so that the derivation alone keeps them apart; in earnest each domain has its own.
    #[test]
    fn pseudonyms_of_the_same_people_in_two_domains_or_types_are_unrelated() {
        let first = domain("m", "p", 229);
        let others = [
            (domain("m", "p", 230), IdentifierType::Nino),
            (LinkageDomain { rotation: 1, ..first.clone() }, IdentifierType::Nino),
            (domain("m", "p.q", 229), IdentifierType::Nino),
            (domain("n", "p", 229), IdentifierType::Nino),
            (first.clone(), IdentifierType::NhsNumber),
            (first.clone(), IdentifierType::Upn),
        ];
        // Of one block, and longer than one.
        for (length, people) in [(9, 50_000), (24, 10_000)] {
            let identifiers: Vec<String> = (0..people).map(|i| format!("{i:0length$}")).collect();
            let made = |domain: &LinkageDomain, kind: &IdentifierType| {
                let mut out = Vec::new();
                Pseudonyms::derive(&key(), domain, kind).make(identifiers.iter().map(String::as_str), &mut out);
                out
            };
            let of_first = made(&first, &IdentifierType::Nino);
            let known: BTreeSet<&Pseudonym> = of_first.iter().collect();
            for (domain, kind) in &others {
                let other = made(domain, kind);
                assert!(!other.iter().any(|pseudonym| known.contains(pseudonym)), "a pseudonym of {domain} ({kind:?}) is one of {first}");
                let (agree, all) = agreement(&of_first, &other);
                // Six standard deviations of a fair coin: crossed once in 500 million runs, were it not that the key is fixed.
                let (off, allowed) = ((2 * agree).abs_diff(all), 6 * all.isqrt());
                assert!(off < allowed, "{agree} of {all} bits agree with {domain} ({kind:?})");
                // Nor is one the other under a mask: that would show as pairs that differ alike.
                let masks: BTreeSet<u128> =
                    of_first.iter().zip(&other).map(|(a, b)| u128::from_be_bytes(*a) ^ u128::from_be_bytes(*b)).collect();
                assert_eq!(masks.len(), of_first.len());
            }
            assert_eq!(agreement(&of_first, &of_first).0, 128 * of_first.len() as u64, "the comparison can tell");
        }
    }

    #[test]
    fn a_hundred_thousand_identifiers_have_as_many_pseudonyms() {
        let pseudonyms = Pseudonyms::derive(&key(), &domain("m", "p", 1), &IdentifierType::Uprn);
        let identifiers: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
        let mut out = Vec::new();
        pseudonyms.make(identifiers.iter().map(String::as_str), &mut out);
        assert_eq!(out.iter().collect::<BTreeSet<_>>().len(), identifiers.len());
    }

    #[test]
    fn batches_equal_single_ones_and_differ_where_identifiers_do() {
        arbtest::arbtest(|u| {
            let mut texts: Vec<String> = u.arbitrary()?;
            texts.retain(|t| t.len() <= 64);
            texts.sort();
            texts.dedup();
            let pseudonyms = Pseudonyms::derive(&key(), &domain("m", "p", 1), &IdentifierType::Upn);
            let mut out = vec![[7; 16]];
            pseudonyms.make(texts.iter().map(String::as_str), &mut out);
            let single: Vec<_> = texts.iter().map(|t| pseudonyms.one(t)).collect();
            assert_eq!(out, single);
            assert_eq!(out.iter().collect::<BTreeSet<_>>().len(), texts.len());
            Ok(())
        });
    }
}
