//! Release orders: the gateway's signed, short-lived, single-use request to one node.
//!
//! The JWT binds the exact request bytes, the node, the agreement, the purpose, the caller and the gateway's own client
//! certificate, so that an order that leaks is of no use on another connection, to another node, or later.

use chrono::{DateTime, Utc};
use concordat_policy::agreement::{Fingerprint, hex};
use concordat_policy::{LinkageDomain, Name};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::token::{Expected, Reason, SigningKey, VerifyingKey, verify};
use crate::v1;

/// `typ` of the JWT.
pub const TYPE: &str = "concordat-release-order+jwt";
/// `iss` of the JWT.
pub const ISSUER: &str = "concordat-gateway";
/// The longest life of an order, in seconds.
pub const MAX_LIFETIME: i64 = 60;
/// How long an order's identifier may be, in bytes.
pub const ID_BYTES: std::ops::RangeInclusive<usize> = 8..=128;

/// The claims of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The gateway.
    pub iss: String,
    /// The caller, as the issuer of the caller's token names it.
    pub sub: String,
    /// `node:` and the department.
    pub aud: String,
    /// Unix seconds.
    pub nbf: i64,
    /// Unix seconds; at most 60 after `nbf`.
    pub exp: i64,
    /// Consumed once.
    pub jti: String,
    /// SHA-256 (hex) of the request's bytes.
    pub request_sha256: String,
    /// The query that the order belongs to; stands in both logs.
    pub query_id: String,
    /// Who issued the caller's token: two issuers may use one name for two users.
    pub caller_issuer: String,
    /// The caller's organisation.
    pub organisation: String,
    /// The mission.
    pub mission: Name,
    /// The purpose of the request.
    pub purpose: Name,
    /// The agreement.
    pub agreement: Name,
    /// SHA-256 (hex) of the agreement's file.
    pub agreement_digest: String,
    /// The gateway's client certificate, as in RFC 8705.
    pub cnf: Confirmation,
}

/// The certificates to which an order is bound: it is valid only over a connection authenticated by one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// SHA-256 fingerprints of the DER certificates.
    #[serde(rename = "x5t#S256")]
    pub thumbprints: Vec<String>,
}

impl Order {
    /// The audience that names a department's node.
    #[must_use]
    pub fn audience(department: &Name) -> String {
        format!("node:{department}")
    }

    /// Signs the order.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn sign(&self, key: &SigningKey) -> Result<String, String> {
        key.sign(TYPE, None, self)
    }

    /// Verifies an order that arrived at `department` over a connection authenticated by `certificate`, with `request` beside it.
    ///
    /// # Errors
    /// A [`Reason`]; [`Reason::Claims`] also where request or certificate are not the ones the order was made for.
    pub fn verify(
        token: &str,
        request: &[u8],
        department: &Name,
        certificate: &Fingerprint,
        key: &VerifyingKey,
        now: DateTime<Utc>,
    ) -> Result<Self, Reason> {
        let audience = Self::audience(department);
        let expected = Expected { typ: TYPE, issuer: ISSUER, audience: &audience, max_lifetime: MAX_LIFETIME };
        let order: Self = verify(token, key, &expected, now.timestamp())?;
        let bound = order.request_sha256 == digest(request) && order.cnf.thumbprints.iter().any(|t| t == certificate.as_str());
        if bound && ID_BYTES.contains(&order.jti.len()) { Ok(order) } else { Err(Reason::Claims) }
    }
}

/// What a node answers that lacks the key of an order's linkage domain: the gateway then has keys brought again.
pub const NO_LINKAGE_KEY: &str = "this department does not hold the linkage key of the domain";

/// SHA-256 in hex.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl From<&LinkageDomain> for v1::Domain {
    fn from(domain: &LinkageDomain) -> Self {
        Self { mission: domain.mission.to_string(), purpose: domain.purpose.to_string(), epoch: domain.epoch }
    }
}

impl v1::Domain {
    /// The domain that is meant under an agreement that states `rotation`: a request names that text by its digest.
    ///
    /// # Errors
    /// What is no name.
    pub fn under(&self, rotation: u32) -> Result<LinkageDomain, String> {
        let name = |field: &str, text: &str| Name::parse(text).map_err(|e| format!("domain.{field}: {e}"));
        let (mission, purpose) = (name("mission", &self.mission)?, name("purpose", &self.purpose)?);
        Ok(LinkageDomain { mission, purpose, epoch: self.epoch, rotation })
    }
}

impl From<&concordat_policy::Basis> for v1::Basis {
    fn from(basis: &concordat_policy::Basis) -> Self {
        use concordat_policy::Basis;
        match basis {
            Basis::Consent { .. } => Self::Consent,
            Basis::Statutory { honours_objections: true, .. } => Self::StatutoryHonouringObjections,
            Basis::Statutory { honours_objections: false, .. } => Self::Statutory,
        }
    }
}
