//! Signatures of agreements: files that another department sent. No mutation finds a signature, so most inputs are signed here;
//! what is judged is what is made of header and payload.
//!
//! ```text
//! mode │ length of the header │ header, JSON │ payload, JSON        (mode 0: the rest is a file as it came)
//! ```

use chrono::{DateTime, Utc};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Revocations, Seen};
use concordat_proto::signature::{MAX_BYTES, TYPE, read, sign, succession};
use serde_json::{Value, json};

use crate::token::{KEY, NOW, signed};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

/// An agreement of one party, whose key is [`KEY`].
fn agreement() -> Agreement {
    let print = Fingerprint::of(KEY.signing.public_spki());
    let text = format!(
        "id = \"a\"\ntitle = \"t\"\nmission = \"m\"\npurposes = [\"p\"]\nvalid_from = \"2026-01-01\"\nvalid_until = \"2028-01-01\"\nlinkage = {{ keyholder = \"dfe\" }}\n[[party]]\ndepartment = \"dfe\"\nsigning_key = \"{print}\"\nlinkage_key = \"{print}\"\n"
    );
    Agreement::parse(&text).unwrap()
}

/// The target.
pub fn signature(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    if *mode == 0 {
        if let Ok(statement) = read(rest) {
            assert!(rest.len() <= MAX_BYTES);
            assert_eq!(statement.key, Fingerprint::of(KEY.signing.public_spki()), "a signature that we did not make");
        }
        if let Ok(stated) = succession::read(rest) {
            assert_eq!(stated.key, Fingerprint::of(KEY.signing.public_spki()), "a succession that we did not state");
        }
        return;
    }
    let Some((length, rest)) = rest.split_first() else { return };
    let (header, payload) = rest.split_at(usize::from(*length).min(rest.len()));
    let Ok(statement) = read(signed(header, payload).as_bytes()) else { return };
    let header: Value = serde_json::from_slice(header).expect("a header that is no JSON was taken");
    assert_eq!(header, json!({ "alg": "EdDSA", "typ": TYPE }));
    let payload: Value = serde_json::from_slice(payload).expect("a payload that is no JSON was taken");
    assert_eq!(payload.as_object().map(|members| members.len()), Some(5), "a member too many, or too few");
    let agreement = agreement();
    if statement.judge(&agreement, &statement.department, &Revocations::default(), &Seen::default(), now()).is_ok() {
        assert_eq!((payload["department"].as_str(), payload["agreement"].as_str()), (Some("dfe"), Some("a")));
        assert_eq!(payload["sha256"].as_str(), Some(agreement.digest.as_str()));
        assert!(statement.signed_at.timestamp() <= NOW + 30);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let agreement = agreement();
    let party = agreement.parties[0].department.clone();
    let file = sign(&agreement, &party, &KEY.signing, now()).unwrap();
    let payload = file.split('.').nth(1).and_then(decoded).unwrap();
    let header = json!({ "alg": "EdDSA", "typ": TYPE }).to_string();
    let parts = |header: &str, payload: &[u8]| [&[1, u8::try_from(header.len()).unwrap()][..], header.as_bytes(), payload].concat();
    vec![
        [&[0][..], file.as_bytes()].concat(),
        parts(&header, &payload),
        parts(&header.replace("EdDSA", "none"), &payload),
        parts(&header, &String::from_utf8_lossy(&payload).replace("\"agreement\"", "\"surprise\":1,\"agreement\"").into_bytes()),
    ]
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_a_good_signature_and_bad_ones() {
        let _alone = crate::replay::alone();
        let seeds = seeds();
        let good = read(&seeds[0][1..]).unwrap();
        assert!(good.judge(&agreement(), &good.department, &Revocations::default(), &Seen::default(), now()).is_ok());
        seeds.iter().for_each(|seed| signature(seed));
    }
}
