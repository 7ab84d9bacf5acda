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
