//! A JSON Web Key set: parsed leniently per key, strictly as a whole.
//!
//! - Not a key set, or more than [`MAX_KEYS`] keys: an error, and the last good set counts on. A set without any usable key is
//!   valid: it withdraws every key.
//! - A key that cannot be used (symmetric, for encryption, of an unknown kind, without `kid`, or with its private half published)
//!   is as if it were not there.
//! - Two different keys under one `kid`: neither is used.

use std::collections::HashMap;

use concordat_proto::token::{Reason, RsaAlgorithm, VerifyingKey};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of one set.
pub(super) const MAX_KEYS: usize = 64;

/// Why something is not a key set.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("it is not a JSON Web Key set ({{\"keys\":[…]}}): line {0}, column {1}")]
    Malformed(usize, usize),
    #[error("it holds {0} keys; at most {MAX_KEYS} are accepted")]
    TooMany(usize),
}

/// The usable keys of one issuer, by `kid`.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    /// `None` for a `kid` that stands for several keys.
    by_id: HashMap<String, Option<VerifyingKey>>,
}

#[derive(Deserialize)]
struct File {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a key set. `rsa` is the algorithm of RSA keys that state none.
    pub(super) fn parse(bytes: &[u8], rsa: Option<RsaAlgorithm>) -> Result<Self, KeySetError> {
        let file: File = serde_json::from_slice(bytes).map_err(|e| KeySetError::Malformed(e.line(), e.column()))?;
        if file.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(file.keys.len()));
        }
        let mut seen: HashMap<String, (AlgorithmParameters, Option<VerifyingKey>)> = HashMap::new();
        for (id, parameters, key) in file.keys.into_iter().filter_map(|value| usable(value, rsa)) {
            let entry = seen.entry(id).or_insert_with(|| (parameters.clone(), Some(key)));
            if entry.0 != parameters {
                entry.1 = None;
            }
        }
        Ok(Self { by_id: seen.into_iter().map(|(id, (_, key))| (id, key)).collect() })
    }

    /// The key that a token names; a token may leave `kid` out where the issuer has one key. `Ok(None)`: not known here.
    ///
    /// # Errors
    /// [`Reason::UnknownKey`] where asking the issuer again would not help.
    pub(super) fn find(&self, kid: Option<&str>) -> Result<Option<VerifyingKey>, Reason> {
        let found = match kid {
            Some(kid) => self.by_id.get(kid),
            None if self.by_id.len() == 1 => self.by_id.values().next(),
            None => return Err(Reason::UnknownKey),
        };
        match found {
            Some(Some(key)) => Ok(Some(key.clone())),
            Some(None) => Err(Reason::UnknownKey),
            None => Ok(None),
        }
    }

    /// How many keys may be used.
    pub(super) fn len(&self) -> usize {
        self.by_id.values().flatten().count()
    }

    /// The `kid`s, in order.
    pub(super) fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.by_id.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids
    }
}

fn usable(value: Value, rsa: Option<RsaAlgorithm>) -> Option<(String, AlgorithmParameters, VerifyingKey)> {
    // Whose private half is published can be used by everybody.
    if value.get("d").is_some() {
        return None;
    }
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let key = VerifyingKey::jwk(&jwk, rsa)?;
    Some((jwk.common.key_id?, jwk.algorithm, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::json;

    fn key(kid: &str, byte: u8) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64_URL_SAFE_NO_PAD.encode([byte; 32]) })
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), None).unwrap()
    }

    #[test]
    fn keys_are_found_by_kid_and_a_single_one_without() {
        let one = set(&[key("a", 1)]);
        assert!(matches!(one.find(Some("a")), Ok(Some(_))));
        assert!(matches!(one.find(None), Ok(Some(_))));
        assert!(matches!(one.find(Some("b")), Ok(None)));
        let two = set(&[key("a", 1), key("b", 2)]);
        assert!(matches!(two.find(None), Err(Reason::UnknownKey)), "which one?");
        assert_eq!((two.len(), two.ids()), (2, vec!["a", "b"]));
    }

    #[test]
    fn one_kid_for_two_keys_is_used_for_neither() {
        let set = set(&[key("a", 1), key("a", 2), key("b", 3), key("b", 3)]);
        assert!(matches!(set.find(Some("a")), Err(Reason::UnknownKey)));
        assert!(matches!(set.find(Some("b")), Ok(Some(_))), "the same key twice is one key");
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn keys_of_no_use_are_as_if_absent_and_an_empty_set_is_a_set() {
        let private = {
            let mut key = key("p", 1);
            key["d"] = json!("x");
            key
        };
        let without_kid = json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode([1; 32]) });
        let others = [
            json!({ "kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256" }),
            json!({ "kty": "AKP", "kid": "q", "alg": "ML-DSA-44", "pub": "x" }),
            json!("nonsense"),
            private,
            without_kid,
        ];
        assert_eq!(set(&others).len(), 0);
        assert_eq!(set(&[]).len(), 0);
        let mixed: Vec<Value> = others.into_iter().chain([key("good", 9)]).collect();
        assert_eq!(set(&mixed).ids(), ["good"]);
    }

    #[test]
    fn garbage_and_floods_of_keys_are_errors() {
        for garbage in ["", "[]", "{}", "{\"keys\":{}}", "<html>", "{\"keys\":[", "null"] {
            assert!(matches!(KeySet::parse(garbage.as_bytes(), None), Err(KeySetError::Malformed(..))), "{garbage}");
        }
        let many: Vec<Value> = (0..=MAX_KEYS).map(|i| key(&i.to_string(), 1)).collect();
        let text = json!({ "keys": many }).to_string();
        assert!(matches!(KeySet::parse(text.as_bytes(), None), Err(KeySetError::TooMany(65))));
    }
}
