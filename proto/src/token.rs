//! JSON Web Tokens, wrapped once and strictly. Bearer tokens, release orders, tickets and receipts all pass here.
//!
//! `jsonwebtoken` alone accepts a token without audience or issuer, ignores `nbf`, `crit`, `typ` and an `exp` a minute ago.
//! So it verifies the signature only, and everything else is decided here, with `now` as an argument:
//! - one asymmetric algorithm per key, fixed when the key is loaded, never chosen by the token's header;
//! - the header may hold `alg`, `typ` and `kid` (and for bearer tokens `x5t`, which is ignored): any other member, `crit`,
//!   `jku`, `jwk`, `x5u`, `x5c` and `b64` among them, is refused;
//! - `typ` must be the expected one;
//! - `iss` and `sub` must be strings, `aud` the expected text (or a list that holds it), `nbf` and `exp` numbers;
//! - clocks may differ by [`LEEWAY`] seconds; a token may not live longer than its key's maximum;
//! - at most [`MAX_BYTES`] are looked at.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The longest token, in bytes.
pub const MAX_BYTES: usize = 16 << 10;
/// How far two clocks may differ, in seconds.
pub const LEEWAY: i64 = 30;

/// Why a token was refused. Safe for logs; callers learn only that the token is not valid, and the [`Reason::hint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Too long, or not three Base64url parts with JSON objects.
    #[error("the token is not a compact JWS, or is longer than 16 KiB")]
    Malformed,
    /// A header member that is not understood.
    #[error("the token's header holds a member that is not accepted")]
    Header,
    /// Another algorithm than the key's.
    #[error("the token's algorithm is not the key's")]
    Algorithm,
    /// Another `typ`.
    #[error("the token is of another type")]
    Type,
    /// No key has this `kid`.
    #[error("no key of the issuer has the token's kid")]
    UnknownKey,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    Signature,
    /// `iss` is missing, not text, or another.
    #[error("the token is from another issuer, or names none")]
    Issuer,
    /// `aud` is missing or another.
    #[error("the token is for another audience, or names none")]
    Audience,
    /// `sub` is missing, empty or not text.
    #[error("the token names no subject")]
    Subject,
    /// `exp` or `nbf` is missing or not a number.
    #[error("the token lacks exp or nbf")]
    Times,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is yet to come.
    #[error("the token is not valid yet: do the clocks differ by more than 30 s?")]
    NotYet,
    /// It lives longer than the key's maximum.
    #[error("the token lives longer than is accepted")]
    Lifetime,
    /// A claim that the token's kind needs is missing or of the wrong type.
    #[error("the token lacks a claim that its kind needs")]
    Claims,
}

impl Reason {
    /// What a caller may be told beside "not valid": only what the caller could read in the token.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Expired => "it has expired; get a new one",
            Self::NotYet => "it is not valid yet; do the clocks differ by more than 30 s?",
            Self::Lifetime => "it lives longer than this service accepts; ask the issuer for shorter ones",
            Self::Audience => "it is for another audience, or names none",
            Self::Malformed => "it is not a signed JWT, or is longer than 16 KiB",
            _ => "check the issuer, the key and the token's type",
        }
    }
}

/// What a token must say, beside a valid signature.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// `typ` of the header. `JWT` for bearer tokens, where `at+jwt` (RFC 9068) and an absent `typ` pass too.
    pub typ: &'a str,
    /// `iss`.
    pub issuer: &'a str,
    /// `aud`.
    pub audience: &'a str,
    /// The longest accepted `exp` − `nbf` (and − `iat` where present), in seconds.
    pub max_lifetime: i64,
}

/// A public key, bound to one algorithm.
#[derive(Clone)]
pub struct VerifyingKey {
    key: DecodingKey,
    algorithm: Algorithm,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({:?})", self.algorithm)
    }
}

/// DER prefix of an Ed25519 SubjectPublicKeyInfo (RFC 8410); the 32 raw bytes follow.
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl VerifyingKey {
    /// An Ed25519 key from its DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn ed25519_spki(der: &[u8]) -> Option<Self> {
        let raw: &[u8; 32] = der.strip_prefix(&ED25519_SPKI)?.try_into().ok()?;
        Some(Self { key: DecodingKey::from_ed_der(raw), algorithm: Algorithm::EdDSA })
    }

    /// A key of a JSON Web Key set: Ed25519, P-256, P-384 or RSA, with `alg` stated or implied by the curve. Symmetric keys,
    /// keys for encryption and RSA keys without `alg` are refused.
    #[must_use]
    pub fn jwk(jwk: &jsonwebtoken::jwk::Jwk) -> Option<Self> {
        use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, KeyAlgorithm, PublicKeyUse};
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let stated = match jwk.common.key_algorithm {
            None => None,
            Some(KeyAlgorithm::EdDSA) => Some(Algorithm::EdDSA),
            Some(KeyAlgorithm::ES256) => Some(Algorithm::ES256),
            Some(KeyAlgorithm::ES384) => Some(Algorithm::ES384),
            Some(KeyAlgorithm::RS256) => Some(Algorithm::RS256),
            Some(KeyAlgorithm::RS384) => Some(Algorithm::RS384),
            Some(KeyAlgorithm::RS512) => Some(Algorithm::RS512),
            Some(KeyAlgorithm::PS256) => Some(Algorithm::PS256),
            Some(KeyAlgorithm::PS384) => Some(Algorithm::PS384),
            Some(KeyAlgorithm::PS512) => Some(Algorithm::PS512),
            Some(_) => return None,
        };
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P384 => Algorithm::ES384,
            AlgorithmParameters::RSA(_) => stated.filter(|a| !matches!(a, Algorithm::EdDSA | Algorithm::ES256 | Algorithm::ES384))?,
            _ => return None,
        };
        if stated.is_some_and(|stated| stated != algorithm) {
            return None;
        }
        Some(Self { key: DecodingKey::from_jwk(jwk).ok()?, algorithm })
    }
}

/// An Ed25519 private key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    spki: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Reads a PKCS#8 Ed25519 private key in PEM. `None` when it is not one.
    #[must_use]
    pub fn from_pem(pem: &str) -> Option<Self> {
        let body: String =
            pem.lines().skip_while(|l| *l != "-----BEGIN PRIVATE KEY-----").skip(1).take_while(|l| !l.starts_with("-----END")).collect();
        let der = base64::prelude::BASE64_STANDARD.decode(body.trim()).ok()?;
        Self::from_pkcs8(&der)
    }

    /// The same from DER.
    #[must_use]
    pub fn from_pkcs8(der: &[u8]) -> Option<Self> {
        use aws_lc_rs::signature::KeyPair as _;
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
        let spki = [&ED25519_SPKI[..], pair.public_key().as_ref()].concat();
        Some(Self { key: EncodingKey::from_ed_der(der), spki })
    }

    /// DER SubjectPublicKeyInfo of the public half.
    #[must_use]
    pub fn public_spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> Option<VerifyingKey> {
        VerifyingKey::ed25519_spki(&self.spki)
    }

    /// Signs `claims` under `typ`.
    ///
    /// # Errors
    /// A text for the operator, when the claims do not serialise.
    pub fn sign<T: Serialize>(&self, typ: &str, kid: Option<&str>, claims: &T) -> Result<String, String> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|e| format!("signing a token failed: {e}"))
    }
}

/// The `kid` of a token's header, unverified: to choose a key with.
///
/// # Errors
/// [`Reason::Malformed`] or [`Reason::Header`].
pub fn key_id(token: &str) -> Result<Option<String>, Reason> {
    Ok(header(token)?.get("kid").and_then(Value::as_str).map(str::to_owned))
}

/// The `iss` of a token, unverified: to choose an issuer with.
///
/// # Errors
/// [`Reason::Malformed`] or [`Reason::Issuer`].
pub fn issuer(token: &str) -> Result<String, Reason> {
    let body = part(token, 1)?;
    body.get("iss").and_then(Value::as_str).map(str::to_owned).ok_or(Reason::Issuer)
}

/// Verifies `token` under `key` and returns its claims.
///
/// # Errors
/// The first [`Reason`] found.
pub fn verify<T: DeserializeOwned>(token: &str, key: &VerifyingKey, expected: &Expected<'_>, now: i64) -> Result<T, Reason> {
    let header = header(token)?;
    let bearer = expected.typ == "JWT";
    match header.get("typ").map(Value::as_str) {
        Some(Some(typ)) if typ.eq_ignore_ascii_case(expected.typ) => {}
        Some(Some(typ)) if bearer && typ.eq_ignore_ascii_case("at+jwt") => {}
        None if bearer => {}
        _ => return Err(Reason::Type),
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(|a| a.parse::<Algorithm>().ok());
    if algorithm != Some(key.algorithm) {
        return Err(Reason::Algorithm);
    }
    let mut signature_only = Validation::new(key.algorithm);
    signature_only.validate_exp = false;
    signature_only.validate_aud = false;
    signature_only.required_spec_claims.clear();
    let claims: Map<String, Value> = jsonwebtoken::decode(token, &key.key, &signature_only).map_err(|_| Reason::Signature)?.claims;
    check(&claims, expected, now)?;
    serde_json::from_value(Value::Object(claims)).map_err(|_| Reason::Claims)
}

fn check(claims: &Map<String, Value>, expected: &Expected<'_>, now: i64) -> Result<(), Reason> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err(Reason::Issuer);
    }
    let audience_ok = match claims.get("aud") {
        Some(Value::String(one)) => one == expected.audience,
        Some(Value::Array(many)) => many.iter().any(|a| a.as_str() == Some(expected.audience)),
        _ => false,
    };
    if !audience_ok {
        return Err(Reason::Audience);
    }
    if claims.get("sub").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(Reason::Subject);
    }
    let time = |name| claims.get(name).and_then(Value::as_i64);
    let (Some(exp), Some(nbf)) = (time("exp"), time("nbf")) else { return Err(Reason::Times) };
    let issued = match claims.get("iat") {
        None => nbf,
        Some(_) => time("iat").ok_or(Reason::Times)?,
    };
    if exp.saturating_add(LEEWAY) <= now {
        return Err(Reason::Expired);
    }
    if nbf.max(issued) > now.saturating_add(LEEWAY) {
        return Err(Reason::NotYet);
    }
    if exp.saturating_sub(nbf.min(issued)) > expected.max_lifetime || exp < nbf {
        return Err(Reason::Lifetime);
    }
    Ok(())
}

fn header(token: &str) -> Result<Map<String, Value>, Reason> {
    let header = part(token, 0)?;
    if header.keys().any(|k| !matches!(k.as_str(), "alg" | "typ" | "kid" | "x5t")) {
        return Err(Reason::Header);
    }
    Ok(header)
}

fn part(token: &str, index: usize) -> Result<Map<String, Value>, Reason> {
    if token.len() > MAX_BYTES || token.split('.').count() != 3 {
        return Err(Reason::Malformed);
    }
    let text = token.split('.').nth(index).ok_or(Reason::Malformed)?;
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Reason::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Reason::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_800_000_000;
    const EXPECTED: Expected<'_> = Expected { typ: "JWT", issuer: "https://issuer.example", audience: "concordat", max_lifetime: 3600 };

    fn key() -> SigningKey {
        let document = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    fn good() -> Value {
        json!({ "iss": EXPECTED.issuer, "aud": EXPECTED.audience, "sub": "u1", "nbf": NOW, "exp": NOW + 600 })
    }

    fn with(change: &[(&str, Value)]) -> Value {
        let mut claims = good();
        for (name, value) in change {
            claims.as_object_mut().unwrap().insert((*name).to_owned(), value.clone());
        }
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    fn raw(key: &SigningKey, header: &Value, claims: &Value) -> String {
        let b64 = |v: &Value| BASE64_URL_SAFE_NO_PAD.encode(v.to_string());
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.key, Algorithm::EdDSA).unwrap();
        format!("{message}.{signature}")
    }

    #[test]
    fn each_trap_is_closed() {
        let key = key();
        let verifying = key.verifying_key().unwrap();
        let cases: Vec<(&str, Value, Option<Reason>)> = vec![
            ("good", good(), None),
            ("audience in a list", with(&[("aud", json!(["x", "concordat"]))]), None),
            ("no audience", without("aud"), Some(Reason::Audience)),
            ("other audience", with(&[("aud", json!("other"))]), Some(Reason::Audience)),
            ("no issuer", without("iss"), Some(Reason::Issuer)),
            ("issuer in a list", with(&[("iss", json!([EXPECTED.issuer]))]), Some(Reason::Issuer)),
            ("other issuer", with(&[("iss", json!("https://evil.example"))]), Some(Reason::Issuer)),
            ("no subject", without("sub"), Some(Reason::Subject)),
            ("empty subject", with(&[("sub", json!(""))]), Some(Reason::Subject)),
            ("no nbf", without("nbf"), Some(Reason::Times)),
            ("nbf as text", with(&[("nbf", json!("now"))]), Some(Reason::Times)),
            ("no exp", without("exp"), Some(Reason::Times)),
            ("expired a minute ago", with(&[("nbf", json!(NOW - 600)), ("exp", json!(NOW - 60))]), Some(Reason::Expired)),
            ("expired within the leeway", with(&[("nbf", json!(NOW - 600)), ("exp", json!(NOW - 10))]), None),
            ("a minute early", with(&[("nbf", json!(NOW + 60))]), Some(Reason::NotYet)),
            ("issued in the future", with(&[("iat", json!(NOW + 60))]), Some(Reason::NotYet)),
            ("lives a day", with(&[("exp", json!(NOW + 86_400))]), Some(Reason::Lifetime)),
            ("issued a day before nbf", with(&[("iat", json!(NOW - 86_400))]), Some(Reason::Lifetime)),
            ("ends before it begins", with(&[("nbf", json!(NOW + 20)), ("exp", json!(NOW + 10))]), Some(Reason::Lifetime)),
        ];
        for (what, claims, expected) in cases {
            let token = key.sign("JWT", None, &claims).unwrap();
            assert_eq!(verify::<Value>(&token, &verifying, &EXPECTED, NOW).err(), expected, "{what}");
        }
    }

    #[test]
    fn headers_cannot_choose_keys_or_algorithms() {
        let key = key();
        let verifying = key.verifying_key().unwrap();
        let cases = [
            (json!({ "alg": "EdDSA", "typ": "JWT" }), None),
            (json!({ "alg": "EdDSA" }), None),
            (json!({ "alg": "EdDSA", "typ": "at+jwt" }), None),
            (json!({ "alg": "EdDSA", "typ": "concordat-release-order+jwt" }), Some(Reason::Type)),
            (json!({ "alg": "EdDSA", "typ": 7 }), Some(Reason::Type)),
            (json!({ "alg": "EdDSA", "typ": "JWT", "crit": ["x"] }), Some(Reason::Header)),
            (json!({ "alg": "EdDSA", "typ": "JWT", "jku": "https://evil.example" }), Some(Reason::Header)),
            (json!({ "alg": "EdDSA", "typ": "JWT", "jwk": {} }), Some(Reason::Header)),
            (json!({ "alg": "EdDSA", "typ": "JWT", "b64": false }), Some(Reason::Header)),
            (json!({ "alg": "HS256", "typ": "JWT" }), Some(Reason::Algorithm)),
            (json!({ "alg": "none", "typ": "JWT" }), Some(Reason::Algorithm)),
            (json!({ "typ": "JWT" }), Some(Reason::Algorithm)),
        ];
        for (header, expected) in cases {
            assert_eq!(verify::<Value>(&raw(&key, &header, &good()), &verifying, &EXPECTED, NOW).err(), expected, "{header}");
        }
    }

    #[test]
    fn other_keys_changed_bytes_and_oddities_are_refused() {
        let signing = key();
        let verifying = signing.verifying_key().unwrap();
        let token = signing.sign("JWT", None, &good()).unwrap();
        assert_eq!(verify::<Value>(&token, &key().verifying_key().unwrap(), &EXPECTED, NOW).err(), Some(Reason::Signature));
        for index in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'Z' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of a Base64 part may have unused bits; the decoder refuses those too.
            assert!(verify::<Value>(&changed, &verifying, &EXPECTED, NOW).is_err(), "byte {index}");
        }
        for odd in ["", "a.b", "a.b.c.d", "..", &format!("{token}."), &"A".repeat(MAX_BYTES + 1)] {
            assert_eq!(verify::<Value>(odd, &verifying, &EXPECTED, NOW).err(), Some(Reason::Malformed));
        }
    }

    #[test]
    fn symmetric_and_ambiguous_keys_of_a_set_are_refused() {
        let jwk = |v: Value| VerifyingKey::jwk(&serde_json::from_value(v).unwrap());
        assert!(jwk(json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" })).is_none());
        assert!(jwk(json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" })).is_none(), "RSA without alg could be PKCS1 or PSS");
        let x = BASE64_URL_SAFE_NO_PAD.encode([1u8; 32]);
        assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x })).is_some());
        assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc" })).is_none());
        assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "alg": "RS256" })).is_none());
    }
}
