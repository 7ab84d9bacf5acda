//! Statements of succession: a department says that a new key of its own takes an old one's place. Two lines, each a JWS in compact
//! form (RFC 7515) over the same statement, the first by the old key, the second by the new one: nobody gives away a key, nor takes one,
//! that is not theirs.
//!
//! ```text
//! header   {"alg":"EdDSA","typ":"concordat-succession+jws"}                 and nothing else
//! payload  {"department":"dfe",
//!           "key":"…","next":"…",                                           base64url of the DER SubjectPublicKeyInfo (RFC 8410)
//!           "linkage":{"key":"sha256:…","next":"sha256:…"},                 where the linkage key is replaced too
//!           "from":"2026-05-01T10:00:00Z"}                                  RFC 3339, UTC
//! ```

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, SecondsFormat, Utc};
use concordat_policy::Name;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::succession::{NextLinkage, Succession};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MAX_BYTES;
use crate::token::{Reason, SigningKey, VerifyingKey, verify_statement};

/// `typ` of the header.
pub const TYPE: &str = "concordat-succession+jws";

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    department: Name,
    key: String,
    next: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linkage: Option<NextLinkage>,
    from: String,
}

/// Why a file is no statement of succession. `Display` continues the sentence "the file …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Not of the form that statements of succession have, for this reason.
    #[error("is not of the form of a statement of succession ({0})")]
    Malformed(&'static str),
    /// One of the two signatures does not verify.
    #[error("does not verify under both keys: it was altered, or made up")]
    Forged,
}

/// States that `next` takes the place of `key` from a time on, and gives the file's content.
///
/// # Errors
/// A text for the operator.
pub fn sign(
    department: &Name,
    (key, next): (&SigningKey, &SigningKey),
    linkage: Option<NextLinkage>,
    from: DateTime<Utc>,
) -> Result<String, String> {
    let public = |key: &SigningKey| BASE64_URL_SAFE_NO_PAD.encode(key.public_spki());
    let payload = Payload {
        department: department.clone(),
        key: public(key),
        next: public(next),
        linkage,
        from: from.to_rfc3339_opts(SecondsFormat::Secs, true),
    };
    Ok(format!("{}\n{}\n", key.sign(TYPE, None, &payload)?, next.sign(TYPE, None, &payload)?))
}

/// What the content of a file states, once each line verifies under its key.
///
/// # Errors
/// [`Unsound`].
pub fn read(content: &[u8]) -> Result<Succession, Unsound> {
    if content.len() > MAX_BYTES {
        return Err(Unsound::Malformed("it is longer than 4 KiB"));
    }
    let text = std::str::from_utf8(content).map_err(|_| Unsound::Malformed("it is not text"))?;
    let Some((first, second)) = text.strip_suffix('\n').unwrap_or(text).split_once('\n') else {
        return Err(Unsound::Malformed("it is not two lines"));
    };
    let (stated, key) = line(first, "key")?;
    let (again, next) = line(second, "next")?;
    if stated != again {
        return Err(Unsound::Malformed("its two lines do not state the same"));
    }
    let from = DateTime::parse_from_rfc3339(&stated.from).ok().filter(|_| stated.from.ends_with('Z'));
    let from = from.ok_or(Unsound::Malformed("from is not RFC 3339 in UTC"))?.to_utc();
    Ok(Succession { department: stated.department, key, next, from, linkage: stated.linkage })
}

/// One line, signed by the key that the member of this name states.
fn line(line: &str, member: &str) -> Result<(Payload, Fingerprint), Unsound> {
    if line.contains(char::is_whitespace) {
        return Err(Unsound::Malformed("it is not two lines of a compact JWS"));
    }
    let mut spki = Vec::new();
    let verified = verify_statement::<Payload>(line, TYPE, |payload| {
        spki = BASE64_URL_SAFE_NO_PAD.decode(payload.get(member).and_then(Value::as_str)?).ok()?;
        VerifyingKey::ed25519_spki(&spki)
    });
    let payload = verified.map_err(|reason| match reason {
        Reason::Signature => Unsound::Forged,
        Reason::Algorithm => Unsound::Malformed("its algorithm is not EdDSA"),
        Reason::UnknownKey => Unsound::Malformed("it does not hold two Ed25519 keys"),
        Reason::Claims => Unsound::Malformed("it does not state department, key, next and from, perhaps linkage, and nothing else"),
        Reason::Malformed => Unsound::Malformed("it is not two lines of a compact JWS"),
        _ => Unsound::Malformed("its header is not that of a statement of succession"),
    })?;
    Ok((payload, Fingerprint::of(&spki)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        let document = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    fn stated(keys: (&SigningKey, &SigningKey), linkage: Option<NextLinkage>) -> String {
        sign(&Name::parse("dfe").unwrap(), keys, linkage, "2026-05-01T10:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn what_both_keys_signed_is_read_again() {
        let (old, new) = (key(), key());
        let linkage = Some(NextLinkage { key: Fingerprint::of(b"l"), next: Fingerprint::of(b"m") });
        for linkage in [None, linkage] {
            let content = stated((&old, &new), linkage.clone());
            assert!(content.lines().count() == 2 && content.len() < 2048, "{content}");
            let succession = read(content.as_bytes()).unwrap();
            assert_eq!((succession.department.as_str(), &succession.linkage), ("dfe", &linkage));
            assert_eq!((succession.key, succession.next), (Fingerprint::of(old.public_spki()), Fingerprint::of(new.public_spki())));
            assert_eq!(succession.from, "2026-05-01T10:00:00Z".parse::<DateTime<Utc>>().unwrap());
        }
    }

    #[test]
    fn nobody_gives_away_or_takes_a_key_that_is_not_theirs() {
        let (old, new, thief) = (key(), key(), key());
        let good = stated((&old, &new), None);
        let (first, second) = good.trim_end().split_once('\n').unwrap();
        let payload = |by: &SigningKey, key: &SigningKey, next: &SigningKey| {
            let public = |key: &SigningKey| BASE64_URL_SAFE_NO_PAD.encode(key.public_spki());
            let payload = Payload {
                department: Name::parse("dfe").unwrap(),
                key: public(key),
                next: public(next),
                linkage: None,
                from: "2026-05-01T10:00:00Z".into(),
            };
            by.sign(TYPE, None, &payload).unwrap()
        };
        let two = |first: &str, second: &str| format!("{first}\n{second}\n");
        for (what, content, expected) in [
            ("not by the old key", two(&payload(&thief, &old, &thief), &payload(&thief, &old, &thief)), Unsound::Forged),
            ("not by the new key", two(&payload(&old, &old, &new), &payload(&old, &old, &new)), Unsound::Forged),
            ("two statements", two(first, &payload(&thief, &old, &thief)), Unsound::Malformed("its two lines do not state the same")),
            ("one line", format!("{first}\n"), Unsound::Malformed("it is not two lines")),
            ("three lines", format!("{good}{second}\n"), Unsound::Malformed("it is not two lines of a compact JWS")),
            ("in reverse", two(second, first), Unsound::Forged),
            ("long", "A".repeat(MAX_BYTES + 1), Unsound::Malformed("it is longer than 4 KiB")),
        ] {
            assert_eq!(read(content.as_bytes()), Err(expected), "{what}");
        }
        for index in (0..good.len() - 1).filter(|index| good.as_bytes()[*index] != b'\n') {
            let mut bytes = good.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'Z' } else { b'A' };
            assert!(read(&bytes).is_err(), "byte {index}");
        }
        assert!(read(&[0xff; 9]).is_err());
    }
}
