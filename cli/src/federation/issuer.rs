//! The identity provider of a federation that is tried out on one machine: a key, a key set, and real signed tokens.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use concordat_policy::agreement::Fingerprint;
use concordat_proto::token::SigningKey;
use serde_json::{Value, json};

use super::describe::Caller;
use super::keys::signing_key;
use super::layout::{Layout, read, write, write_secret};
use crate::failure::{Failure, Result};

/// `iss` of the issuer's tokens.
pub const ISSUER: &str = "https://issuer.example.internal";
/// `aud` of the issuer's tokens.
pub const AUDIENCE: &str = "concordat-gateway";

/// Signs bearer tokens.
#[derive(Debug)]
pub struct Issuer {
    /// The Ed25519 key, for tokens of any shape.
    pub key: SigningKey,
    /// The `kid` of the key in `jwks.json`.
    pub key_id: String,
}

impl Issuer {
    /// Makes an issuer's key and key set in a federation's folder.
    pub(super) fn make(layout: &Layout) -> Result<Self> {
        let (pem, key) = signing_key()?;
        write_secret(&layout.issuer().join("issuer.key.pem"), &pem)?;
        let issuer = Self::new(key);
        let raw = issuer.key.public_spki().iter().skip(12).copied().collect::<Vec<u8>>();
        let jwk = json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": issuer.key_id, "x": BASE64_URL_SAFE_NO_PAD.encode(raw),
        });
        write(&layout.issuer().join("jwks.json"), &format!("{:#}\n", json!({ "keys": [jwk] })))?;
        Ok(issuer)
    }

    /// The issuer whose key lies at `path`.
    ///
    /// # Errors
    /// When the file cannot be read or is not an Ed25519 key.
    pub fn open(path: &Path) -> Result<Self> {
        let key = SigningKey::from_pem(&read(path)?)
            .ok_or_else(|| Failure::new(format!("{} is not an Ed25519 private key in PEM", path.display())))?;
        Ok(Self::new(key))
    }

    fn new(key: SigningKey) -> Self {
        let key_id = Fingerprint::of(key.public_spki()).as_str().chars().skip(7).take(16).collect();
        Self { key, key_id }
    }

    /// The claims of a good token for `caller`, from `now` for `minutes`. Tests change them.
    #[must_use]
    pub fn claims(&self, caller: &Caller, minutes: u32, now: DateTime<Utc>) -> Value {
        let now = now.timestamp();
        json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": caller.subject,
            "iat": now, "nbf": now, "exp": now + i64::from(minutes) * 60,
            "organisation": caller.organisation, "roles": caller.roles,
        })
    }

    /// Signs claims of any shape.
    ///
    /// # Errors
    /// When they do not serialise.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.key.sign("JWT", Some(&self.key_id), claims).map_err(Failure::new)
    }

    /// A good token.
    ///
    /// # Errors
    /// As [`Issuer::sign`].
    pub fn token(&self, caller: &Caller, minutes: u32, now: DateTime<Utc>) -> Result<String> {
        self.sign(&self.claims(caller, minutes, now))
    }
}
