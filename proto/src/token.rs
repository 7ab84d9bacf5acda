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

mod key;
mod reason;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use self::key::{RsaAlgorithm, SigningKey, VerifyingKey};
pub use self::reason::Reason;

/// The longest token, in bytes.
pub const MAX_BYTES: usize = 16 << 10;
/// How far two clocks may differ, in seconds.
pub const LEEWAY: i64 = 30;

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
mod tests;
