//! Signatures of agreements, one detached file per party: a JWS in compact form (RFC 7515) on one line.
//!
//! ```text
//! header   {"alg":"EdDSA","typ":"concordat-agreement+jws"}                  and nothing else
//! payload  {"department":"dfe",                                             for whom the signer speaks
//!           "agreement":"opportunity",                                      the agreement's id
//!           "sha256":"…",                                                   of the file's exact bytes, lower-case hex
//!           "signed_at":"2026-05-01T10:00:00Z",                             RFC 3339, UTC
//!           "key":"…"}                                                      base64url of the DER SubjectPublicKeyInfo (RFC 8410)
//! ```
//!
//! The key travels with the signature, so that whoever verifies needs nothing but the agreement: [`read`] says that the holder of
//! the key with this fingerprint made this statement, `concordat_policy::signature` whether it is the party's key and this text.

pub mod files;
pub mod kept;
pub mod offer;
pub mod succession;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat, Utc};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::signature::{Fault, Statement};
use concordat_policy::{Agreement, Name};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::token::{Reason, SigningKey, VerifyingKey, verify_statement};

/// `typ` of the header.
pub const TYPE: &str = "concordat-agreement+jws";
/// The longest file, in bytes.
pub const MAX_BYTES: usize = 4 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    department: Name,
    agreement: Name,
    sha256: String,
    signed_at: String,
    key: String,
}

/// Signs `agreement` for `department`, and gives the file's content. Whether the key is the party's is for the caller to see to.
///
/// # Errors
/// A text for the operator.
pub fn sign(agreement: &Agreement, department: &Name, key: &SigningKey, now: DateTime<Utc>) -> Result<String, String> {
    let payload = Payload {
        department: department.clone(),
        agreement: agreement.id.clone(),
        sha256: agreement.digest.clone(),
        signed_at: now.to_rfc3339_opts(SecondsFormat::Secs, true),
        key: BASE64_URL_SAFE_NO_PAD.encode(key.public_spki()),
    };
    key.sign(TYPE, None, &payload).map(|line| line + "\n")
}

/// What the content of a signature's file states, once its bytes verify under the key that it names.
///
/// # Errors
/// [`Fault::Malformed`] or [`Fault::Forged`].
pub fn read(content: &[u8]) -> Result<Statement, Fault> {
    let malformed = |cause: &str| Fault::Malformed(cause.to_owned());
    if content.len() > MAX_BYTES {
        return Err(malformed("it is longer than 4 KiB"));
    }
    let text = std::str::from_utf8(content).map_err(|_| malformed("it is not text"))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    if line.contains(char::is_whitespace) {
        return Err(malformed("it is not one line of a compact JWS"));
    }
    let mut spki = Vec::new();
    let verified = verify_statement::<Payload>(line, TYPE, |payload| {
        spki = BASE64_URL_SAFE_NO_PAD.decode(payload.get("key").and_then(Value::as_str)?).ok()?;
        VerifyingKey::ed25519_spki(&spki)
    });
    let payload = verified.map_err(|reason| match reason {
        Reason::Signature => Fault::Forged,
        Reason::Malformed => malformed("it is not one line of a compact JWS"),
        Reason::Algorithm => malformed("its algorithm is not EdDSA"),
        Reason::UnknownKey => malformed("it holds no Ed25519 key"),
        Reason::Claims => malformed("it does not state department, agreement, sha256, signed_at and key, and nothing else"),
        _ => malformed("its header is not that of an agreement's signature"),
    })?;
    let signed_at = DateTime::parse_from_rfc3339(&payload.signed_at).ok().filter(|_| payload.signed_at.ends_with('Z'));
    Ok(Statement {
        department: payload.department,
        agreement: payload.agreement,
        sha256: payload.sha256,
        signed_at: signed_at.ok_or_else(|| malformed("signed_at is not RFC 3339 in UTC"))?.to_utc(),
        key: Fingerprint::of(&spki),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use concordat_policy::{Revocations, Seen, Signatures};
    use serde_json::{Map, json};

    fn key() -> SigningKey {
        let document = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn now() -> DateTime<Utc> {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn text(dfe: &SigningKey, dwp: &SigningKey) -> String {
        let party = |department: &str, key: &SigningKey| {
            let print = Fingerprint::of(key.public_spki());
            format!("[[party]]\ndepartment = \"{department}\"\nsigning_key = \"{print}\"\nlinkage_key = \"{print}\"\n")
        };
        format!(
            "id = \"one\"\ntitle = \"T\"\nmission = \"m\"\npurposes = [\"p\"]\nvalid_from = \"2026-01-01\"\nvalid_until = \"2026-12-31\"\nlinkage = {{ keyholder = \"dfe\" }}\n{}{}",
            party("dfe", dfe),
            party("dwp", dwp)
        )
    }

    struct World {
        dfe: SigningKey,
        dwp: SigningKey,
        text: String,
        agreement: Agreement,
    }

    impl World {
        fn new() -> Self {
            let (dfe, dwp) = (key(), key());
            let text = text(&dfe, &dwp);
            let agreement = Agreement::parse(&text).unwrap();
            Self { dfe, dwp, text, agreement }
        }

        /// Judges the file's content as `dfe`'s signature.
        fn judge(&self, content: &str) -> Result<(), Fault> {
            self.judge_with(content, Revocations::default())
        }

        fn judge_with(&self, content: &str, revoked: Revocations) -> Result<(), Fault> {
            let mut signatures = Signatures::new(revoked, Seen::default());
            signatures.add(&self.agreement.id, &name("dfe"), read(content.as_bytes()));
            signatures.judge(&self.agreement, &name("dfe"), now()).map(drop)
        }

        fn sign(&self) -> String {
            sign(&self.agreement, &name("dfe"), &self.dfe, now()).unwrap()
        }

        fn payload(&self) -> Map<String, Value> {
            let payload = json!({
                "department": "dfe", "agreement": "one", "sha256": self.agreement.digest, "signed_at": "2026-06-01T12:00:00Z",
                "key": BASE64_URL_SAFE_NO_PAD.encode(self.dfe.public_spki()),
            });
            payload.as_object().unwrap().clone()
        }
    }

    /// Signed by hand, whatever header and payload say.
    fn raw(key: &SigningKey, header: &Value, payload: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(payload));
        let signature = key.sign_bytes(message.as_bytes());
        format!("{message}.{signature}\n")
    }

    #[test]
    fn what_is_signed_is_read_again() {
        let world = World::new();
        let content = world.sign();
        assert!(content.ends_with('\n') && content.lines().count() == 1 && content.len() < 1024, "{content}");
        let statement = read(content.as_bytes()).unwrap();
        assert_eq!((statement.department.as_str(), statement.agreement.as_str(), statement.signed_at), ("dfe", "one", now()));
        assert_eq!(statement.sha256, world.agreement.digest);
        assert_eq!(world.judge(&content), Ok(()));
        assert_eq!(world.judge(content.trim_end()), Ok(()), "the last line break may be missing");
        let header = BASE64_URL_SAFE_NO_PAD.decode(content.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header, json!({ "alg": "EdDSA", "typ": TYPE }));
    }

    #[test]
    fn no_byte_may_be_changed() {
        let world = World::new();
        let content = world.sign();
        for index in 0..content.len() - 1 {
            let mut bytes = content.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'Z' } else { b'A' };
            assert!(read(&bytes).is_err(), "byte {index}");
        }
        for odd in ["", "\n", "..", "a.b", "garbage", &format!(" {content}"), &format!("{content}\n"), &format!("{content}{content}")] {
            assert!(matches!(world.judge(odd), Err(Fault::Malformed(_))), "{odd:?}: {:?}", world.judge(odd));
        }
        let long = format!("{}{content}", "A".repeat(MAX_BYTES));
        assert_eq!(world.judge(&long), Err(Fault::Malformed("it is longer than 4 KiB".into())));
        assert!(matches!(read(&[0xff; 100]), Err(Fault::Malformed(_))));
    }

    #[test]
    fn a_changed_agreement_is_another_text() {
        let world = World::new();
        let content = world.sign();
        let changed = World { agreement: Agreement::parse(&format!("{}\n", world.text)).unwrap(), ..world };
        assert_eq!(changed.judge(&content), Err(Fault::Text));
        assert_eq!(changed.judge(&changed.sign()), Ok(()), "a new signature signs it");
    }

    #[test]
    fn each_member_counts() {
        let world = World::new();
        let header = json!({ "alg": "EdDSA", "typ": TYPE });
        let with = |name: &str, value: Value| {
            let mut payload = world.payload();
            payload.insert(name.to_owned(), value);
            raw(&world.dfe, &header, &Value::Object(payload))
        };
        let without = |name: &str| {
            let mut payload = world.payload();
            payload.remove(name);
            raw(&world.dfe, &header, &Value::Object(payload))
        };
        assert_eq!(world.judge(&raw(&world.dfe, &header, &Value::Object(world.payload()))), Ok(()));
        for (content, expected) in [
            (with("department", json!("dwp")), Fault::Department),
            (with("agreement", json!("two")), Fault::Agreement),
            (with("sha256", json!("0".repeat(64))), Fault::Text),
            (with("signed_at", json!("2026-06-01T12:00:31Z")), Fault::Future),
        ] {
            assert_eq!(world.judge(&content), Err(expected));
        }
        let other = BASE64_URL_SAFE_NO_PAD.encode(world.dwp.public_spki());
        assert_eq!(world.judge(&with("key", json!(other))), Err(Fault::Forged), "signed by dfe, said to be by dwp");
        let malformed = [
            with("surprise", json!(1)),
            with("department", json!("DfE")),
            with("department", json!(1)),
            with("signed_at", json!("2026-06-01T13:00:00+01:00")),
            with("signed_at", json!("yesterday")),
            with("signed_at", json!(1_780_000_000)),
            with("key", json!("AAAA")),
            with("key", json!(format!("{other}="))),
        ];
        let missing = ["department", "agreement", "sha256", "signed_at", "key"].map(without);
        for content in malformed.iter().chain(&missing) {
            assert!(matches!(world.judge(content), Err(Fault::Malformed(_))), "{content}: {:?}", world.judge(content));
        }
    }

    #[test]
    fn each_header_but_the_right_one_is_refused() {
        let world = World::new();
        let payload = Value::Object(world.payload());
        for header in [
            json!({ "alg": "none", "typ": TYPE }),
            json!({ "alg": "HS256", "typ": TYPE }),
            json!({ "alg": "ES256", "typ": TYPE }),
            json!({ "typ": TYPE }),
            json!({ "alg": "EdDSA" }),
            json!({ "alg": "EdDSA", "typ": "JWT" }),
            json!({ "alg": "EdDSA", "typ": TYPE.to_uppercase() }),
            json!({ "alg": "EdDSA", "typ": TYPE, "kid": "1" }),
            json!({ "alg": "EdDSA", "typ": TYPE, "x5t": "1" }),
            json!({ "alg": "EdDSA", "typ": TYPE, "crit": ["b64"], "b64": false }),
            json!({ "alg": "EdDSA", "typ": TYPE, "jwk": {} }),
        ] {
            let content = raw(&world.dfe, &header, &payload);
            assert!(matches!(world.judge(&content), Err(Fault::Malformed(_))), "{header}: {:?}", world.judge(&content));
        }
        // Without a signature at all.
        let none = raw(&world.dfe, &json!({ "alg": "none", "typ": TYPE }), &payload);
        let unsigned = format!("{}.\n", none.rsplit_once('.').unwrap().0);
        assert!(matches!(world.judge(&unsigned), Err(Fault::Malformed(_))));
    }

    #[test]
    fn other_keys_and_revoked_ones_do_not_sign() {
        let world = World::new();
        let by = |key: &SigningKey, department: &str| sign(&world.agreement, &name(department), key, now()).unwrap();
        assert_eq!(world.judge(&by(&key(), "dfe")), Err(Fault::Key));
        assert_eq!(world.judge(&by(&world.dwp, "dfe")), Err(Fault::Key));
        assert_eq!(world.judge(&by(&world.dwp, "dwp")), Err(Fault::Department), "the other party's own, under this party's name");
        let print = Fingerprint::of(world.dfe.public_spki());
        let list = format!("[[key]]\nfingerprint = \"{print}\"\nreason = \"stolen\"\nsince = \"2026-07-01T00:00:00Z\"\n");
        assert_eq!(world.judge_with(&world.sign(), Revocations::parse(&list).unwrap()), Err(Fault::Revoked), "signed before, too");
    }
}
