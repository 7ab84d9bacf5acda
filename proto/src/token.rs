//! JSON Web Tokens, wrapped once and strictly. Bearer tokens, release orders, tickets and receipts all pass here,
//! and so do the signatures of agreements, whose claims are not a token's.
//!
//! `jsonwebtoken` alone accepts a token without audience or issuer, ignores `nbf`, `crit`, `typ` and an `exp` a minute ago.
//! So it verifies the signature only, and everything else is decided here, with `now` as an argument:
//! - one asymmetric algorithm per key, fixed when the key is loaded, never chosen by the token's header;
//! - the header may hold `alg`, `typ` and `kid` (and for bearer tokens `x5t`, which is ignored): any other member, `crit`,
//!   `jku`, `jwk`, `x5u`, `x5c` and `b64` among them, is refused;
//! - `typ` must be the expected one;
//! - `iss` and `sub` must be strings, `aud` the expected text (or a list that holds it), `nbf` and `exp` numbers (for an issuer
//!   that leaves `nbf` out, as RFC 9068 allows, `iat` in its place: [`Begins`]);
//! - a bearer token may be neither an ID token (`nonce`, `at_hash`, `c_hash`, `s_hash`: it was made for the client) nor bound to
//!   a key (`cnf`: possession is not proved here, so that it may have been stolen);
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
    #[error("the token lacks exp or nbf (or iat, where the issuer's tokens begin with it)")]
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
    /// An ID token: it tells a client who signed in, and gives nobody access.
    #[error("the token is an ID token, not an access token")]
    IdToken,
    /// Bound to a key (RFC 7800) whose possession nobody proves here.
    #[error("the token is bound to a key, whose possession is not proved here")]
    Bound,
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
            Self::IdToken => "it is an ID token; send the access token that came with it",
            Self::Bound => "it is bound to a key, whose possession cannot be proved here; ask the issuer for a plain bearer token",
            Self::Times => "it lacks exp or nbf; where the issuer leaves nbf out, the gateway's operator can accept iat in its place",
            Self::Malformed => "it is not a signed JWT, or is longer than 16 KiB",
            _ => "check the issuer, the key and the token's type",
        }
    }
}

/// What a bearer token must say, beside a valid signature.
#[derive(Debug, Clone)]
pub struct Bearer<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `aud`.
    pub audience: &'a str,
    /// The longest accepted life, as in [`Expected`].
    pub max_lifetime: i64,
    /// Which `typ` passes.
    pub kind: BearerType,
    /// From when the token is valid.
    pub begins: Begins,
}

/// Which `typ` of the header passes for a bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BearerType {
    /// `JWT`, `at+jwt`, or none.
    Jwt,
    /// `at+jwt` only (RFC 9068): no other kind of token of the same issuer can be mistaken for an access token.
    AccessToken,
}

/// From when a bearer token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// `nbf`, which must be there.
    NotBefore,
    /// `iat`, which must be there; an `nbf` that is there counts too.
    IssuedAt,
}

/// What one of our own tokens (orders, tickets, receipts) must say, beside a valid signature.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// `typ` of the header.
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

/// The algorithm of an issuer's RSA keys that state none in the key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[expect(missing_docs, reason = "the names of RFC 7518, section 3.1")]
pub enum RsaAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
}

impl RsaAlgorithm {
    fn algorithm(self) -> Algorithm {
        match self {
            Self::RS256 => Algorithm::RS256,
            Self::RS384 => Algorithm::RS384,
            Self::RS512 => Algorithm::RS512,
            Self::PS256 => Algorithm::PS256,
            Self::PS384 => Algorithm::PS384,
            Self::PS512 => Algorithm::PS512,
        }
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

    /// A key of a JSON Web Key set: Ed25519, P-256, P-384 or RSA, with `alg` stated, implied by the curve or, for RSA keys that
    /// state none, `rsa`. Symmetric keys, keys for encryption and RSA keys with no algorithm at all are refused.
    #[must_use]
    pub fn jwk(jwk: &jsonwebtoken::jwk::Jwk, rsa: Option<RsaAlgorithm>) -> Option<Self> {
        use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, KeyAlgorithm, KeyOperations, PublicKeyUse};
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        if jwk.common.key_operations.as_ref().is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
            return None;
        }
        let stated = match jwk.common.key_algorithm {
            None if matches!(jwk.algorithm, AlgorithmParameters::RSA(_)) => rsa.map(RsaAlgorithm::algorithm),
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

    /// The Base64url signature of any bytes.
    #[cfg(test)]
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> String {
        jsonwebtoken::crypto::sign(message, &self.key, Algorithm::EdDSA).unwrap()
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

/// Verifies one of our own tokens under `key` and returns its claims.
///
/// # Errors
/// The first [`Reason`] found.
pub fn verify<T: DeserializeOwned>(token: &str, key: &VerifyingKey, expected: &Expected<'_>, now: i64) -> Result<T, Reason> {
    let typ = header(token)?.remove("typ");
    if typ.as_ref().and_then(Value::as_str).is_none_or(|typ| !typ.eq_ignore_ascii_case(expected.typ)) {
        return Err(Reason::Type);
    }
    let claims = signed(token, key)?;
    check(&claims, expected, Begins::NotBefore, now)?;
    serde_json::from_value(Value::Object(claims)).map_err(|_| Reason::Claims)
}

/// Verifies a statement that names the key it is signed with, and returns what it states; what the key's holder may state is for
/// the caller to judge. The header holds `alg` and `typ` and nothing else; `key` finds the key in the claims, which count only
/// when the signature verifies under it.
///
/// # Errors
/// The first [`Reason`] found: [`Reason::UnknownKey`] where `key` finds none.
pub(crate) fn verify_statement<T: DeserializeOwned>(
    token: &str,
    typ: &str,
    key: impl FnOnce(&Map<String, Value>) -> Option<VerifyingKey>,
) -> Result<T, Reason> {
    let header = header(token)?;
    if header.keys().any(|member| member != "alg" && member != "typ") {
        return Err(Reason::Header);
    }
    if header.get("typ").and_then(Value::as_str) != Some(typ) {
        return Err(Reason::Type);
    }
    let key = key(&part(token, 1)?).ok_or(Reason::UnknownKey)?;
    let claims = signed(token, &key)?;
    serde_json::from_value(Value::Object(claims)).map_err(|_| Reason::Claims)
}

/// Verifies a bearer token under `key` and returns its claims.
///
/// # Errors
/// The first [`Reason`] found.
pub fn verify_bearer(token: &str, key: &VerifyingKey, bearer: &Bearer<'_>, now: i64) -> Result<Map<String, Value>, Reason> {
    let any = |typ: &str, of: &[&str]| of.iter().any(|known| typ.eq_ignore_ascii_case(known));
    match (header(token)?.get("typ").map(Value::as_str), bearer.kind) {
        (Some(Some(typ)), _) if any(typ, &["at+jwt", "application/at+jwt"]) => {}
        (Some(Some(typ)), BearerType::Jwt) if any(typ, &["JWT"]) => {}
        (None, BearerType::Jwt) => {}
        _ => return Err(Reason::Type),
    }
    let claims = signed(token, key)?;
    let expected = Expected { typ: "", issuer: bearer.issuer, audience: bearer.audience, max_lifetime: bearer.max_lifetime };
    check(&claims, &expected, bearer.begins, now)?;
    if ["nonce", "at_hash", "c_hash", "s_hash"].iter().any(|claim| claims.contains_key(*claim)) {
        return Err(Reason::IdToken);
    }
    if claims.contains_key("cnf") {
        return Err(Reason::Bound);
    }
    Ok(claims)
}

/// The claims, once the signature is that of `key`.
fn signed(token: &str, key: &VerifyingKey) -> Result<Map<String, Value>, Reason> {
    let algorithm = header(token)?.get("alg").and_then(Value::as_str).and_then(|a| a.parse::<Algorithm>().ok());
    if algorithm != Some(key.algorithm) {
        return Err(Reason::Algorithm);
    }
    let mut signature_only = Validation::new(key.algorithm);
    signature_only.validate_exp = false;
    signature_only.validate_aud = false;
    signature_only.required_spec_claims.clear();
    jsonwebtoken::decode(token, &key.key, &signature_only).map(|data| data.claims).map_err(|_| Reason::Signature)
}

fn check(claims: &Map<String, Value>, expected: &Expected<'_>, begins: Begins, now: i64) -> Result<(), Reason> {
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
    // A time that is there must be a number; which must be there differs.
    let time = |name| claims.get(name).map(|value| value.as_i64().ok_or(Reason::Times)).transpose();
    let exp = time("exp")?.ok_or(Reason::Times)?;
    let (nbf, issued) = match (begins, time("nbf")?, time("iat")?) {
        (_, Some(nbf), Some(issued)) => (nbf, issued),
        (Begins::NotBefore, Some(nbf), None) => (nbf, nbf),
        (Begins::IssuedAt, None, Some(issued)) => (issued, issued),
        _ => return Err(Reason::Times),
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
    const EXPECTED: Bearer<'_> = Bearer {
        issuer: "https://issuer.example",
        audience: "concordat",
        max_lifetime: 3600,
        kind: BearerType::Jwt,
        begins: Begins::NotBefore,
    };

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
        let signature = key.sign_bytes(message.as_bytes());
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
            ("iat as text", with(&[("iat", json!("now"))]), Some(Reason::Times)),
            ("an ID token by its nonce", with(&[("nonce", json!("n"))]), Some(Reason::IdToken)),
            ("an ID token by at_hash", with(&[("at_hash", json!("h"))]), Some(Reason::IdToken)),
            ("an ID token by c_hash", with(&[("c_hash", json!("h"))]), Some(Reason::IdToken)),
            ("bound to a key", with(&[("cnf", json!({ "jkt": "x" }))]), Some(Reason::Bound)),
            ("ends before it begins", with(&[("nbf", json!(NOW + 20)), ("exp", json!(NOW + 10))]), Some(Reason::Lifetime)),
        ];
        for (what, claims, expected) in cases {
            let token = key.sign("JWT", None, &claims).unwrap();
            assert_eq!(verify_bearer(&token, &verifying, &EXPECTED, NOW).err(), expected, "{what}");
        }
    }

    #[test]
    fn iat_stands_for_nbf_only_where_it_is_agreed() {
        let key = key();
        let verifying = key.verifying_key().unwrap();
        let issued_at = Bearer { begins: Begins::IssuedAt, ..EXPECTED };
        let instead = |iat: Value| {
            let mut claims = without("nbf");
            claims["iat"] = iat;
            claims
        };
        let cases = [
            ("iat", instead(json!(NOW)), None),
            ("neither", without("nbf"), Some(Reason::Times)),
            ("nbf without iat", good(), Some(Reason::Times)),
            ("both", with(&[("iat", json!(NOW))]), None),
            ("iat as text", instead(json!("now")), Some(Reason::Times)),
            ("iat with a fraction", instead(json!(1.5)), Some(Reason::Times)),
            ("issued in the future", instead(json!(NOW + 60)), Some(Reason::NotYet)),
            ("issued a day ago", instead(json!(NOW - 86_400)), Some(Reason::Lifetime)),
            ("nbf in the future", with(&[("iat", json!(NOW)), ("nbf", json!(NOW + 60))]), Some(Reason::NotYet)),
            ("nbf as text", with(&[("iat", json!(NOW)), ("nbf", json!("now"))]), Some(Reason::Times)),
        ];
        for (what, claims, expected) in cases {
            let token = key.sign("at+jwt", None, &claims).unwrap();
            assert_eq!(verify_bearer(&token, &verifying, &issued_at, NOW).err(), expected, "{what}");
        }
        let token = key.sign("JWT", None, &instead(json!(NOW))).unwrap();
        assert_eq!(verify_bearer(&token, &verifying, &EXPECTED, NOW).err(), Some(Reason::Times));
    }

    #[test]
    fn an_issuer_of_typed_access_tokens_is_held_to_the_type() {
        let key = key();
        let verifying = key.verifying_key().unwrap();
        let typed = Bearer { kind: BearerType::AccessToken, ..EXPECTED };
        for (header, expected) in [
            (json!({ "alg": "EdDSA", "typ": "at+jwt" }), None),
            (json!({ "alg": "EdDSA", "typ": "application/at+jwt" }), None),
            (json!({ "alg": "EdDSA", "typ": "JWT" }), Some(Reason::Type)),
            (json!({ "alg": "EdDSA", "typ": "logout+jwt" }), Some(Reason::Type)),
            (json!({ "alg": "EdDSA" }), Some(Reason::Type)),
        ] {
            assert_eq!(verify_bearer(&raw(&key, &header, &good()), &verifying, &typed, NOW).err(), expected, "{header}");
        }
    }

    #[test]
    fn our_own_tokens_are_no_bearer_tokens_and_the_reverse() {
        let key = key();
        let verifying = key.verifying_key().unwrap();
        let own = Expected { typ: "concordat-x+jwt", issuer: EXPECTED.issuer, audience: EXPECTED.audience, max_lifetime: 3600 };
        let token = |typ: &str| key.sign(typ, None, &good()).unwrap();
        assert!(verify::<Value>(&token("concordat-x+jwt"), &verifying, &own, NOW).is_ok());
        for typ in ["JWT", "at+jwt", "concordat-y+jwt"] {
            assert_eq!(verify::<Value>(&token(typ), &verifying, &own, NOW).err(), Some(Reason::Type), "{typ}");
        }
        assert_eq!(verify_bearer(&token("concordat-x+jwt"), &verifying, &EXPECTED, NOW).err(), Some(Reason::Type));
        let untyped = raw(&key, &json!({ "alg": "EdDSA" }), &good());
        assert_eq!(verify::<Value>(&untyped, &verifying, &own, NOW).err(), Some(Reason::Type));
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
            assert_eq!(verify_bearer(&raw(&key, &header, &good()), &verifying, &EXPECTED, NOW).err(), expected, "{header}");
        }
    }

    #[test]
    fn other_keys_changed_bytes_and_oddities_are_refused() {
        let signing = key();
        let verifying = signing.verifying_key().unwrap();
        let token = signing.sign("JWT", None, &good()).unwrap();
        assert_eq!(verify_bearer(&token, &key().verifying_key().unwrap(), &EXPECTED, NOW).err(), Some(Reason::Signature));
        for index in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'Z' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of a Base64 part may have unused bits; the decoder refuses those too.
            assert!(verify_bearer(&changed, &verifying, &EXPECTED, NOW).is_err(), "byte {index}");
        }
        for odd in ["", "a.b", "a.b.c.d", "..", &format!("{token}."), &"A".repeat(MAX_BYTES + 1)] {
            assert_eq!(verify_bearer(odd, &verifying, &EXPECTED, NOW).err(), Some(Reason::Malformed));
        }
    }

    #[test]
    fn symmetric_and_ambiguous_keys_of_a_set_are_refused() {
        let jwk = |v: Value| VerifyingKey::jwk(&serde_json::from_value(v).unwrap(), None);
        assert!(jwk(json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" })).is_none());
        let rsa = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
        assert!(jwk(rsa.clone()).is_none(), "RSA without alg could be PKCS1 or PSS");
        let with = VerifyingKey::jwk(&serde_json::from_value(rsa).unwrap(), Some(RsaAlgorithm::PS256));
        assert_eq!(with.unwrap().algorithm, Algorithm::PS256);
        let stated = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS512" });
        let with = VerifyingKey::jwk(&serde_json::from_value(stated).unwrap(), Some(RsaAlgorithm::PS256));
        assert_eq!(with.unwrap().algorithm, Algorithm::RS512, "what the key states counts");
        let x = BASE64_URL_SAFE_NO_PAD.encode([1u8; 32]);
        assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x })).is_some());
        assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc" })).is_none());
        assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "alg": "RS256" })).is_none());
        assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "key_ops": ["verify"] })).is_some());
        assert!(jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "key_ops": ["sign"] })).is_none());
    }
}
