//! Tokens: the strict wrapper around JWTs, and the receipts that it carries. No mutation finds a signature, so most inputs are
//! signed here; what is judged is what the wrapper makes of header and claims.
//!
//! ```text
//! token:   mode │ length of the header │ header, JSON │ claims, JSON        (mode 0: the rest is a token as it came)
//! receipt: claims, JSON, of a release receipt and of a consent receipt
//! ```

use std::sync::LazyLock;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use concordat_policy::Name;
use concordat_policy::agreement::Fingerprint;
use concordat_proto::consent_receipt::{self, ConsentReceipt};
use concordat_proto::receipt::{AUDIENCE, Denominators, LIFETIME, Receipt, TYPE};
use concordat_proto::token::{Bearer, BearerType, Begins, Expected, LEEWAY, SigningKey, VerifyingKey, verify, verify_bearer};
use serde_json::{Map, Value, json};

/// The time of every input, Unix seconds.
pub(crate) const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";
const LIFE: i64 = 3600;
const OWN: &str = "concordat-x+jwt";

/// A key of no use: its seed is thirty-two sevens.
pub(crate) struct Key {
    pair: Ed25519KeyPair,
    pub(crate) signing: SigningKey,
    pub(crate) verifying: VerifyingKey,
}

pub(crate) static KEY: LazyLock<Key> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let pkcs8 = pair.to_pkcs8v1().unwrap();
    let signing = SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap();
    assert!(signing.public_spki().ends_with(pair.public_key().as_ref()));
    let verifying = VerifyingKey::ed25519_spki(signing.public_spki()).unwrap();
    Key { pair, signing, verifying }
});

/// A token of these parts, whatever they are, with a good signature.
pub(crate) fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature = KEY.pair.sign(message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// The target.
pub fn token(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    if *mode == 0 {
        raw(&String::from_utf8_lossy(rest));
        return;
    }
    let Some((length, rest)) = rest.split_first() else { return };
    let (header, claims) = rest.split_at(usize::from(*length).min(rest.len()));
    let token = signed(header, claims);
    if *mode % 3 == 0 {
        let own = Expected { typ: OWN, issuer: ISSUER, audience: "concordat", max_lifetime: LIFE };
        if let Ok(accepted) = verify::<Map<String, Value>>(&token, &KEY.verifying, &own, NOW) {
            holds(header, claims, &accepted, None);
        }
        return;
    }
    let begins = if *mode & 4 == 0 { Begins::NotBefore } else { Begins::IssuedAt };
    let kind = if *mode & 8 == 0 { BearerType::Jwt } else { BearerType::AccessToken };
    let bearer = Bearer { issuer: ISSUER, audience: "concordat", max_lifetime: LIFE, kind, begins };
    if let Ok(accepted) = verify_bearer(&token, &KEY.verifying, &bearer, NOW) {
        holds(header, claims, &accepted, Some((kind, begins)));
    }
}

/// Whatever is accepted bears a signature of the key over exactly its first two parts.
fn raw(token: &str) {
    let bearer = Bearer { issuer: ISSUER, audience: "concordat", max_lifetime: LIFE, kind: BearerType::Jwt, begins: Begins::NotBefore };
    if verify_bearer(token, &KEY.verifying, &bearer, NOW).is_ok() {
        let (message, signature) = token.rsplit_once('.').expect("a token has three parts");
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("the signature is Base64url");
        let key = UnparsedPublicKey::new(&ED25519, KEY.pair.public_key().as_ref());
        key.verify(message.as_bytes(), &signature).expect("a token that nobody signed");
    }
}

fn good() -> String {
    signed(br#"{"alg":"EdDSA","typ":"JWT"}"#, claims(&[]).to_string().as_bytes())
}

/// Reads header and claims independently of the wrapper.
fn holds(header: &[u8], claims: &[u8], accepted: &Map<String, Value>, bearer: Option<(BearerType, Begins)>) {
    let header: Map<String, Value> = serde_json::from_slice(header).expect("the header is JSON");
    let claims: Map<String, Value> = serde_json::from_slice(claims).expect("the claims are JSON");
    assert_eq!(accepted, &claims, "other claims than were signed");
    assert_eq!(header["alg"], "EdDSA");
    assert!(header.keys().all(|key| ["alg", "typ", "kid", "x5t"].contains(&key.as_str())), "a header member that nobody understands");
    let typ = header.get("typ").map(|typ| typ.as_str().expect("typ is text").to_ascii_lowercase());
    match (bearer, typ.as_deref()) {
        (None, typ) => assert_eq!(typ, Some(OWN)),
        (Some(_), Some("at+jwt" | "application/at+jwt")) | (Some((BearerType::Jwt, _)), None | Some("jwt")) => {}
        (Some(_), typ) => panic!("a bearer token of type {typ:?}"),
    }
    assert_eq!(claims["iss"], ISSUER);
    assert!(claims["aud"] == "concordat" || claims["aud"].as_array().is_some_and(|all| all.iter().any(|a| a == "concordat")));
    assert!(claims["sub"].as_str().is_some_and(|sub| !sub.is_empty()));
    let exp = claims["exp"].as_i64().expect("exp is a number");
    let times: Vec<i64> = ["nbf", "iat"].iter().filter_map(|name| claims.get(*name)).map(|t| t.as_i64().expect("a number")).collect();
    let must = if matches!(bearer, Some((_, Begins::IssuedAt))) { "iat" } else { "nbf" };
    assert!(claims.contains_key(must));
    assert!(exp > NOW - LEEWAY && times.iter().all(|time| *time <= NOW + LEEWAY && exp.saturating_sub(*time) <= LIFE));
    if bearer.is_some() {
        assert!(["nonce", "at_hash", "c_hash", "s_hash", "cnf"].iter().all(|name| !claims.contains_key(*name)));
    }
}

/// The target.
pub fn receipt(data: &[u8]) {
    consent_receipt(data);
    let department = Name::parse("dwp").unwrap();
    let token = signed(json!({ "alg": "EdDSA", "typ": TYPE }).to_string().as_bytes(), data);
    let Ok(receipt) = Receipt::verify(&token, &department, &KEY.verifying, NOW) else { return };
    assert_eq!((receipt.iss.as_str(), receipt.aud.as_str()), ("node:dwp", AUDIENCE));
    assert!(!receipt.sub.is_empty() && receipt.exp.saturating_sub(receipt.nbf) <= LIFETIME && receipt.exp > NOW - LEEWAY);
    let again = receipt.sign(&KEY.signing).expect("a receipt can be signed");
    assert_eq!(Receipt::verify(&again, &department, &KEY.verifying, NOW), Ok(receipt), "a receipt is read again as another one");
    let other = Name::parse("dfe").unwrap();
    assert!(Receipt::verify(&token, &other, &KEY.verifying, NOW).is_err(), "the receipt of another department");
}

/// The same claims as a consent receipt, which people bring as files.
fn consent_receipt(data: &[u8]) {
    let jws = signed(json!({ "alg": "EdDSA", "typ": consent_receipt::TYPE }).to_string().as_bytes(), data);
    let Ok((receipt, key)) = ConsentReceipt::read(&jws) else { return };
    assert_eq!(key, Fingerprint::of(KEY.signing.public_spki()), "it counts for a key that did not sign it");
    let again = receipt.clone().sign(&KEY.signing).expect("a receipt can be signed");
    assert_eq!(ConsentReceipt::read(&again), Ok((receipt, key)), "a consent receipt is read again as another one");
}

fn claims(change: &[(&str, Value)]) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": "concordat", "sub": "u1", "nbf": NOW, "exp": NOW + 600 });
    for (name, value) in change {
        claims.as_object_mut().unwrap().insert((*name).to_owned(), value.clone());
    }
    claims
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let input = |mode: u8, header: &Value, claims: &Value| {
        let header = header.to_string();
        [&[mode, u8::try_from(header.len()).unwrap()], header.as_bytes(), claims.to_string().as_bytes()].concat()
    };
    let jwt = json!({ "alg": "EdDSA", "typ": "JWT" });
    vec![
        [&[0], good().as_bytes()].concat(),
        input(1, &jwt, &claims(&[])),
        input(1, &json!({ "alg": "EdDSA", "kid": "k", "x5t": "t" }), &claims(&[("aud", json!(["x", "concordat"])), ("iat", json!(NOW))])),
        input(5, &jwt, &claims(&[("iat", json!(NOW - 5)), ("roles", json!(["analyst"]))])),
        input(13, &json!({ "alg": "EdDSA", "typ": "at+jwt" }), &claims(&[("iat", json!(NOW))])),
        input(3, &json!({ "alg": "EdDSA", "typ": OWN }), &claims(&[])),
        input(1, &json!({ "alg": "HS256", "typ": "JWT" }), &claims(&[])),
        input(1, &jwt, &claims(&[("exp", json!(i64::MAX)), ("nbf", json!(i64::MIN))])),
        input(1, &jwt, &claims(&[("nonce", json!("n")), ("cnf", json!({}))])),
    ]
}

pub(crate) fn receipt_seeds() -> Vec<Vec<u8>> {
    let receipt = Receipt {
        iss: "node:dwp".into(),
        sub: "order-1".into(),
        aud: AUDIENCE.into(),
        nbf: NOW,
        exp: NOW + LIFETIME,
        query_id: "q".into(),
        mission: None,
        purpose: None,
        dataset: "claims".into(),
        partition: 0,
        partitions: 2,
        rows: 100,
        grouped: None,
        consent_version: 7,
        consent_generation: None,
        freshness: NOW,
        log_entry: 3,
        denominators: Some(Denominators { rounded_to: 10, withheld: Some(100), ..Denominators::default() }),
    };
    let (mission, purpose) = (Name::parse("opportunity").ok(), Name::parse("opportunity.measure").ok());
    let large = Receipt { rows: u64::MAX, consent_version: u64::MAX, freshness: i64::MIN, partition: u32::MAX, ..receipt.clone() };
    let other = Receipt { mission, purpose, ..large };
    let consent = json!({
        "schema_version": consent_receipt::SCHEMA, "record_id": "dwp:0:17", "pii_principal_id": "00ff",
        "pii_processing": { "language": "en", "purposes": [{
            "purpose": "opportunity", "title": "Opportunity", "lawful_basis": "consent", "pii_controllers": ["dwp"], "jurisdiction": "GB",
            "withdrawal_method": "Write to us.", "privacy_rights": "UK GDPR Art. 7(3)",
        }]},
        "event": [{ "event_time": "2027-01-15T08:00:00Z", "event_type": "explicit", "event_state": "given", "entity_id": "pii_principal",
            "validity_duration": "2028-01-15T08:00:00Z" }],
        "party_identification": [{ "party_id": "dwp", "party_name": "Work and Pensions", "party_role": "pii_controller" }],
        "issued_at": "2027-01-15T08:00:00Z", "key": BASE64_URL_SAFE_NO_PAD.encode(KEY.signing.public_spki()),
    });
    let releases = [receipt, other].map(|receipt| serde_json::to_vec(&receipt).unwrap());
    releases.into_iter().chain([consent.to_string().into_bytes()]).collect()
}
