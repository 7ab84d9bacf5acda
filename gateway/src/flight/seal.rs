//! What the gateway hands out and takes back: tickets, prepared statements' handles, session cookies, transactions. Each is signed with a key
//! that lives as long as the process, names its kind, lapses, and is good in the hands of its owner only.
//!
//! ```text
//! kind (1) │ lapses, unix seconds (8, big-endian) │ body │ HMAC-SHA-256 over kind, lapses, length of owner, owner, body (32)
//! ```
//! A body is empty, a random number or what the client itself said; it never holds a statement.

use concordat_policy::Refusal;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const TAG: usize = 32;
const HEAD: usize = 9;
/// The longest sealed text that is looked at, in bytes.
const MAX: usize = 1024;

/// What a sealed text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ticket = 1,
    Prepared = 2,
    Session = 3,
    Transaction = 4,
}

/// The signing key.
pub(super) struct Seal {
    keyed: Hmac<Sha256>,
}

impl Seal {
    /// A new key.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] without randomness.
    pub(super) fn new() -> Result<Self, Refusal> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(Refusal::internal)?;
        Ok(Self { keyed: Hmac::new_from_slice(&key).map_err(Refusal::internal)? })
    }

    /// Signs `body` for `owner`, until `lapses`.
    pub(super) fn close(&self, kind: Kind, body: &[u8], owner: &[u8], lapses: i64) -> Vec<u8> {
        let mut sealed = vec![kind as u8];
        sealed.extend(lapses.to_be_bytes());
        sealed.extend(body);
        let tag = self.mac(&sealed, owner).finalize().into_bytes();
        sealed.extend(tag);
        sealed
    }

    /// The body of a text that this process signed as `kind` for `owner` and that has not lapsed.
    pub(super) fn open<'s>(&self, kind: Kind, sealed: &'s [u8], owner: &[u8], now: i64) -> Option<&'s [u8]> {
        if sealed.len() < HEAD + TAG || sealed.len() > MAX {
            return None;
        }
        let (signed, tag) = sealed.split_at(sealed.len() - TAG);
        self.mac(signed, owner).verify_slice(tag).ok()?;
        let (head, body) = signed.split_at_checked(HEAD)?;
        let (first, lapses) = head.split_first()?;
        let lapses = i64::from_be_bytes(lapses.try_into().ok()?);
        (*first == kind as u8 && now < lapses).then_some(body)
    }

    fn mac(&self, signed: &[u8], owner: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        let (head, body) = signed.split_at_checked(HEAD).unwrap_or((signed, &[]));
        mac.update(head);
        mac.update(&(owner.len() as u64).to_be_bytes());
        mac.update(owner);
        mac.update(body);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_opens_it_in_time_and_as_what_it_is() {
        let seal = Seal::new().unwrap();
        let sealed = seal.close(Kind::Ticket, b"body", b"owner", 100);
        assert_eq!(seal.open(Kind::Ticket, &sealed, b"owner", 99), Some(&b"body"[..]));
        assert_eq!(seal.open(Kind::Ticket, &sealed, b"owner", 100), None);
        assert_eq!(seal.open(Kind::Prepared, &sealed, b"owner", 99), None);
        assert_eq!(seal.open(Kind::Ticket, &sealed, b"thief", 99), None);
        assert_eq!(Seal::new().unwrap().open(Kind::Ticket, &sealed, b"owner", 99), None);
        // No bytes can be moved between owner and body.
        assert_eq!(seal.open(Kind::Ticket, &seal.close(Kind::Ticket, b"rbody", b"owne", 100), b"owner", 99), None);
        for index in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[index] ^= 1;
            assert_eq!(seal.open(Kind::Ticket, &forged, b"owner", 99), None, "byte {index}");
        }
        for length in [0, 1, HEAD, HEAD + TAG - 1, MAX + 1] {
            assert_eq!(seal.open(Kind::Ticket, &vec![1; length], b"owner", 0), None);
        }
    }
}
