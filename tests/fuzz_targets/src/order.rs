//! Release orders, as a node reads them.
//!
//! ```text
//! mode 0: a ReleaseOrder's protobuf, as it came      other modes: length of the claims (16 bits, big-endian) │ claims, JSON │ request
//! ```
//! In the second form the claims are signed here, with the digest of the request in its place unless the mode is 1.

use chrono::DateTime;
use concordat_policy::Name;
use concordat_policy::agreement::Fingerprint;
use concordat_proto::order::{Confirmation, ISSUER, MAX_LIFETIME, Order, TYPE, digest};
use concordat_proto::token::LEEWAY;
use concordat_proto::{predicate, v1};
use prost::Message as _;
use serde_json::{Value, json};

use crate::token::{KEY, NOW, signed};

fn department() -> Name {
    Name::parse("dwp").unwrap()
}

fn certificate() -> Fingerprint {
    Fingerprint::of(b"the gateway's certificate")
}

/// The target.
pub fn release_order(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    if *mode == 0 {
        let Ok(wire) = v1::ReleaseOrder::decode(rest) else { return };
        assert!(read(&wire.order, &wire.request).is_none(), "an order that nobody signed");
        request(&wire.request);
        return;
    }
    let Some((length, rest)) = rest.split_first_chunk::<2>() else { return };
    let (claims, wire) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let mut claims = claims.to_vec();
    if *mode != 1
        && let Ok(Value::Object(mut object)) = serde_json::from_slice(&claims)
    {
        object.insert("request_sha256".into(), digest(wire).into());
        claims = Value::Object(object).to_string().into_bytes();
    }
    let token = signed(json!({ "alg": "EdDSA", "typ": TYPE }).to_string().as_bytes(), &claims);
    if let Some(order) = read(&token, wire) {
        holds(&order, wire);
    }
    request(wire);
}

fn read(token: &str, request: &[u8]) -> Option<Order> {
    let now = DateTime::from_timestamp(NOW, 0).unwrap();
    Order::verify(token, request, &department(), &certificate(), &KEY.verifying, now).ok()
}

fn holds(order: &Order, wire: &[u8]) {
    assert_eq!(order.request_sha256, digest(wire), "the order of another request");
    assert_eq!((order.iss.as_str(), order.aud.as_str()), (ISSUER, "node:dwp"));
    assert!(order.exp.saturating_sub(order.nbf) <= MAX_LIFETIME && order.exp > NOW - LEEWAY && order.nbf <= NOW + LEEWAY);
    assert!(order.cnf.thumbprints.iter().any(|t| t == certificate().as_str()));
    assert!((8..=128).contains(&order.jti.len()) && !order.sub.is_empty());
    let again = order.sign(&KEY.signing).expect("an order can be signed");
    assert_eq!(read(&again, wire).as_ref(), Some(order), "an order is read again as another one");
    assert!(read(&again, &[wire, b"x"].concat()).is_none(), "the order of a longer request");
}

/// The request beside it: whatever is accepted of it is written and read again the same.
fn request(wire: &[u8]) {
    let Ok(request) = v1::ReleaseRequest::decode(wire) else { return };
    assert_eq!(
        v1::ReleaseRequest::decode(request.encode_to_vec().as_slice()).as_ref().map(prost::Message::encode_to_vec),
        Ok(request.encode_to_vec())
    );
    if let Some(domain) = request.domain.as_ref().and_then(|domain| domain.under(1).ok()) {
        assert_eq!(Some(v1::Domain::from(&domain)), request.domain);
    }
    if let Some(Ok(parsed)) = request.predicate.as_ref().map(predicate::parse) {
        crate::predicate::holds(&parsed);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let name = |text: &str| Name::parse(text).unwrap();
    let order = Order {
        iss: ISSUER.into(),
        sub: "analyst-1".into(),
        aud: "node:dwp".into(),
        nbf: NOW,
        exp: NOW + MAX_LIFETIME,
        jti: "01890000".into(),
        request_sha256: String::new(),
        query_id: "q".into(),
        caller_issuer: "i".into(),
        organisation: "unit".into(),
        mission: name("m"),
        purpose: name("p.q"),
        agreement: name("a"),
        agreement_digest: "d".into(),
        cnf: Confirmation { thumbprints: vec![certificate().to_string()] },
    };
    let requests = crate::predicate::samples().into_iter().map(Some).chain([None]).map(|condition| {
        v1::ReleaseRequest {
            contract_version: 1,
            query_id: "q".into(),
            domain: Some(v1::Domain { mission: "m".into(), purpose: "p.q".into(), epoch: 227 }),
            agreement: "a".into(),
            agreement_digest: "d".into(),
            dataset: "claims".into(),
            columns: vec!["region".into(), "claiming".into()],
            predicate: condition.as_ref().map(predicate::to_wire),
            partitions: 2,
            basis: v1::Basis::Consent.into(),
            log_entry: 9,
            grouping: None,
            dense: true,
        }
        .encode_to_vec()
    });
    let claims = serde_json::to_vec(&order).unwrap();
    let length = u16::try_from(claims.len()).unwrap().to_be_bytes();
    let mut seeds: Vec<Vec<u8>> = requests.map(|request| [&[2], length.as_slice(), &claims, &request].concat()).collect();
    seeds.truncate(6);
    seeds.push([&[1], length.as_slice(), &claims].concat());
    let other = Order { nbf: NOW - 3600, exp: i64::MAX, jti: "x".into(), ..order.clone() };
    let token = signed(br#"{"alg":"EdDSA","typ":"JWT"}"#, &serde_json::to_vec(&other).unwrap());
    seeds.push([&[0], v1::ReleaseOrder { order: token, request: vec![8, 1] }.encode_to_vec().as_slice()].concat());
    seeds
}
