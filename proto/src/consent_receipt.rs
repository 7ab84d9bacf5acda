//! Consent receipts: what a person gets for a consent record, with the fields of ISO/IEC TS 27560:2023, signed by the department.
//! A JWS in compact form (RFC 7515) that names its key, like the signature of an agreement: whoever knows the department's
//! fingerprint verifies it without asking anybody.
//!
//! | field | what stands in it |
//! |---|---|
//! | `schema_version` | [`SCHEMA`] |
//! | `record_id` | department, generation and place of the record in its ledger |
//! | `pii_principal_id` | the person, as a keyed hash that this department alone can make: never an identifier |
//! | `pii_processing.privacy_notice`, `.language` | where to read on; `en` |
//! | `….purposes[].purpose`, `.title` | the purpose's name in the purpose tree; and for people (ours) |
//! | `….purposes[].lawful_basis` | `consent`, or `statutory` for an objection: there was no consent to withdraw |
//! | `….purposes[].pii_controllers`, `.jurisdiction`, `.withdrawal_method`, `.privacy_rights` | of the department, as it is configured |
//! | `event[].event_time` | when it was recorded, RFC 3339 in UTC |
//! | `event[].event_state`, `.event_type` | `given`, `withdrawn` or `objected`; `explicit` |
//! | `event[].effective_from`, `.validity_duration` | from when it counts (ours), until when; left out where at once, where for good |
//! | `event[].entity_id` | who acted: `pii_principal`, or capacity and the department's own reference of that person |
//! | `party_identification[]` | the department: `party_id`, `party_name`, `party_contact`, `party_role` |
//!
//! Beside these stand `issued_at`, when the receipt was made, and `key`, base64url of the signer's DER SubjectPublicKeyInfo.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use concordat_policy::agreement::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::token::{Reason, SigningKey, VerifyingKey, verify_statement};

/// `typ` of the header.
pub const TYPE: &str = "concordat-consent-receipt+jws";
/// The version of the fields.
pub const SCHEMA: &str = "ISO/IEC TS 27560:2023; concordat 1";

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table above")]
pub struct ConsentReceipt {
    pub schema_version: String,
    pub record_id: String,
    pub pii_principal_id: String,
    pub pii_processing: Processing,
    pub event: Vec<ReceiptEvent>,
    pub party_identification: Vec<Party>,
    pub issued_at: String,
    pub key: String,
}

/// What the department may do, and what the person can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table above")]
pub struct Processing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_notice: Option<String>,
    pub language: String,
    pub purposes: Vec<ReceiptPurpose>,
}

/// One purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table above")]
pub struct ReceiptPurpose {
    pub purpose: String,
    pub title: String,
    pub lawful_basis: String,
    pub pii_controllers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    pub withdrawal_method: String,
    pub privacy_rights: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table above")]
pub struct ReceiptEvent {
    pub event_time: String,
    pub event_type: String,
    pub event_state: String,
    pub entity_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity_duration: Option<String>,
}

/// The department.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the table above")]
pub struct Party {
    pub party_id: String,
    pub party_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party_contact: Option<String>,
    pub party_role: String,
}

impl ConsentReceipt {
    /// Signs the receipt, which names the key from then on.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn sign(&mut self, key: &SigningKey) -> Result<String, String> {
        self.key = BASE64_URL_SAFE_NO_PAD.encode(key.public_spki());
        key.sign(TYPE, None, self)
    }

    /// A receipt whose signature verifies under the key that it names, and that key's fingerprint: whether it is the department's
    /// is for the caller to judge.
    ///
    /// # Errors
    /// A [`Reason`].
    pub fn read(jws: &str) -> Result<(Self, Fingerprint), Reason> {
        let mut spki = Vec::new();
        let receipt: Self = verify_statement(jws, TYPE, |payload| {
            spki = BASE64_URL_SAFE_NO_PAD.decode(payload.get("key").and_then(Value::as_str)?).ok()?;
            VerifyingKey::ed25519_spki(&spki)
        })?;
        if receipt.schema_version != SCHEMA {
            return Err(Reason::Claims);
        }
        Ok((receipt, Fingerprint::of(&spki)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        let document = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    fn receipt() -> ConsentReceipt {
        ConsentReceipt {
            schema_version: SCHEMA.into(),
            record_id: "dfe:0:17".into(),
            pii_principal_id: "0123".into(),
            pii_processing: Processing {
                privacy_notice: None,
                language: "en".into(),
                purposes: vec![ReceiptPurpose {
                    purpose: "opportunity".into(),
                    title: "Opportunity".into(),
                    lawful_basis: "consent".into(),
                    pii_controllers: vec!["dfe".into()],
                    jurisdiction: Some("GB".into()),
                    withdrawal_method: "Write to the department.".into(),
                    privacy_rights: "UK GDPR Art. 7(3).".into(),
                }],
            },
            event: vec![ReceiptEvent {
                event_time: "2026-06-01T12:00:00Z".into(),
                event_type: "explicit".into(),
                event_state: "given".into(),
                entity_id: "pii_principal".into(),
                effective_from: None,
                validity_duration: Some("2027-06-01T00:00:00Z".into()),
            }],
            party_identification: vec![Party {
                party_id: "dfe".into(),
                party_name: "Department for Education".into(),
                party_contact: None,
                party_role: "pii_controller".into(),
            }],
            issued_at: "2026-06-01T12:00:00Z".into(),
            key: String::new(),
        }
    }

    #[test]
    fn what_is_signed_is_read_again_and_no_byte_may_be_changed() {
        let (key, mut receipt) = (key(), receipt());
        let jws = receipt.sign(&key).unwrap();
        assert_eq!(ConsentReceipt::read(&jws).unwrap(), (receipt, Fingerprint::of(key.public_spki())));
        for index in 0..jws.len() {
            let mut bytes = jws.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'Z' } else { b'A' };
            if bytes != jws.as_bytes() {
                assert!(ConsentReceipt::read(std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {index}");
            }
        }
    }

    #[test]
    fn other_statements_and_other_fields_are_no_receipt() {
        let (key, mut signed) = (key(), receipt());
        signed.sign(&key).unwrap();
        assert_eq!(ConsentReceipt::read(&key.sign("JWT", None, &signed).unwrap()), Err(Reason::Type));
        assert_eq!(ConsentReceipt::read(&key.sign(TYPE, Some("k"), &signed).unwrap()), Err(Reason::Header));
        let with = |name: &str, value: Value| {
            let mut claims = serde_json::to_value(&signed).unwrap();
            claims[name] = value;
            ConsentReceipt::read(&key.sign(TYPE, None, &claims).unwrap()).unwrap_err()
        };
        assert_eq!(with("surprise", Value::from(1)), Reason::Claims);
        assert_eq!(with("schema_version", Value::from("2")), Reason::Claims);
        assert_eq!(with("event", Value::from("given")), Reason::Claims);
        assert_eq!(with("key", Value::from("AAAA")), Reason::UnknownKey);
        let mut other = signed.clone();
        other.sign(&self::key()).unwrap();
        assert_eq!(with("key", Value::from(other.key)), Reason::Signature, "said to be somebody else's");
    }
}
