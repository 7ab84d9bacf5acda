//! Keys: each is bound to one algorithm when it is loaded.

use base64::Engine as _;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;

/// A public key, bound to one algorithm.
#[derive(Clone)]
pub struct VerifyingKey {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
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

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

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
