//! Salts of entries. A salt keeps people who see an entry's hash in a proof from trying guesses of the entry against it, and it tells the
//! log's own program, before a checkpoint covers the entry, that this program wrote it:
//!
//! ```text
//! salt = the first 16 bytes of HMAC-SHA-256(key, number ‖ leaf hash of the entry before ‖ the entry without its salt)
//! key  = HKDF-SHA-256(seed of the log's own key, "concordat.entry.salt/v1")
//! ```
//!
//! Who can write in the folder and does not have `log.key` can neither add an entry to the tail nor change one; who has it can sign
//! checkpoints too. Under a checkpoint a salt is bytes like all others, and nobody looks at it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::tree::Hash;

/// What stands before a salt, and after it: an entry ends with it.
const AROUND: (&[u8], &[u8]) = (b",\"salt\":\"", b"\"}");

/// Bytes of a salt.
const SALT: usize = 16;

/// The key of one log's salts.
pub(crate) struct Salts(pub(crate) hmac::Key);

impl std::fmt::Debug for Salts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salts")
    }
}

impl Salts {
    /// The entry with its salt. `entry` is a JSON object that is not empty and has none; `previous` is the leaf hash of the one before it,
    /// zeros for the first.
    pub(crate) fn salted(&self, number: u64, previous: &Hash, entry: &[u8]) -> Vec<u8> {
        let unended = entry.strip_suffix(b"}").unwrap_or(entry);
        [unended, AROUND.0, self.salt(number, previous, unended).as_bytes(), AROUND.1].concat()
    }

    /// Whether the entry is one that [`Salts::salted`] gave.
    pub(crate) fn fit(&self, number: u64, previous: &Hash, entry: &[u8]) -> bool {
        let Some(salted) = entry.strip_suffix(AROUND.1) else { return false };
        let Some((unended, salt)) = salted.len().checked_sub(SALT.saturating_mul(4).div_ceil(3)).map(|at| salted.split_at(at)) else {
            return false;
        };
        unended.strip_suffix(AROUND.0).is_some_and(|unended| self.salt(number, previous, unended).as_bytes() == salt)
    }

    fn salt(&self, number: u64, previous: &Hash, unended: &[u8]) -> String {
        let mut mac = hmac::Context::with_key(&self.0);
        [&number.to_be_bytes()[..], previous, unended].into_iter().for_each(|part| mac.update(part));
        let tag = mac.sign();
        STANDARD_NO_PAD.encode(tag.as_ref().get(..SALT).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Algorithm, Signer};

    #[test]
    fn a_salt_is_of_one_entry_in_one_place_of_one_log() {
        let of = |seed: u8| Salts(Signer::from_seed("log", Algorithm::Ed25519, &[seed; 32]).unwrap().derived(b"label").unwrap());
        let (salts, before) = (of(7), [1; 32]);
        let entry = salts.salted(4, &before, br#"{"entry":4,"event":"a"}"#);
        let text = String::from_utf8(entry.clone()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((value["entry"].as_u64(), value["salt"].as_str().unwrap().len()), (Some(4), 22));
        assert!(salts.fit(4, &before, &entry) && of(7).fit(4, &before, &entry));
        assert!(!of(8).fit(4, &before, &entry), "another log's key");
        assert!(!salts.fit(5, &before, &entry) && !salts.fit(4, &[2; 32], &entry), "another place, another history");
        for at in 0..entry.len() {
            let mut changed = entry.clone();
            changed[at] ^= 1;
            assert!(!salts.fit(4, &before, &changed), "byte {at}");
            assert!(!salts.fit(4, &before, &entry[..at]), "cut at {at}");
        }
        let twice = salts.salted(4, &before, &entry);
        assert!(salts.fit(4, &before, &twice) && !salts.fit(4, &before, br#"{"entry":4,"salt":"AAAAAAAAAAAAAAAAAAAAAA","time":""}"#));
        let other = Signer::from_seed("log", Algorithm::Ed25519, &[7; 32]).unwrap().derived(b"another label").unwrap();
        assert!(!Salts(other).fit(4, &before, &entry));
    }
}
