//! Each altered field of an order, and the code it is refused with.

use chrono::TimeDelta;
use concordat_guard::{Known, ReleaseGuard};
use concordat_policy::{Comparison, PurposeTree, Value};
use concordat_proto::order::digest;
use concordat_proto::predicate::to_wire;

use super::*;
use crate::agreements::Agreements;
use crate::fixture::{PURPOSES, World, name};
use crate::suspension::{Folders, Suspensions};

pub(crate) fn verifier(world: &World) -> Verifier {
    let suspensions = Suspensions::at(name("dfe"), Folders::new(&world.path("state"), &world.path("log")));
    let purposes = PurposeTree::parse(PURPOSES).unwrap();
    let guard = ReleaseGuard::open(name("dfe"), None, &Known::default()).unwrap();
    let agreements = Agreements::new(suspensions.into(), vec![world.agreement.clone()], world.signatures(), purposes, guard);
    Verifier {
        agreements: Arc::new(Current::new(agreements)),
        key: world.orders.verifying_key().unwrap(),
        datasets: [name("attainment")].into(),
    }
}

fn filter(column: &str, value: Value) -> Option<v1::Predicate> {
    Some(to_wire(&Predicate::Compare { column: column.into(), comparison: Comparison::Equal, value }))
}

fn group(request: &mut v1::ReleaseRequest, keys: &[&str], values: &[&str]) {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    request.contract_version = 2;
    request.grouping = Some(v1::Grouping { keys: names(keys), values: names(values), ..v1::Grouping::default() });
}

fn code(outcome: Result<VerifiedOrder, Refusal>) -> Option<Code> {
    outcome.err().map(|refusal| {
        assert_eq!(refusal.department.as_deref(), Some("dfe"), "{refusal}");
        refusal.code
    })
}

#[test]
fn each_part_of_a_request_is_checked() {
    type Change = fn(&mut v1::ReleaseRequest);
    let world = World::new();
    let verifier = verifier(&world);
    let now = Utc::now();
    let cases: &[(&str, Change, Option<Code>)] = &[
        ("as it should be", |_| {}, None),
        ("no columns", |r| r.columns.clear(), None),
        ("a filter", |r| r.predicate = filter("cohort", Value::Integer(2024)), None),
        ("a number against a whole number", |r| r.predicate = filter("cohort", Value::Number(2024.0)), Some(Code::Invalid)),
        ("a neighbouring contract", |r| r.contract_version = 3, None),
        ("a far contract", |r| r.contract_version = 4, Some(Code::Invalid)),
        ("no contract", |r| r.contract_version = 0, Some(Code::Invalid)),
        ("no query", |r| r.query_id.clear(), Some(Code::Invalid)),
        ("no domain", |r| r.domain = None, Some(Code::Invalid)),
        ("another mission", |r| r.domain.as_mut().unwrap().mission = "health".into(), Some(Code::Denied)),
        ("another purpose", |r| r.domain.as_mut().unwrap().purpose = "health".into(), Some(Code::Denied)),
        ("an unknown purpose", |r| r.domain.as_mut().unwrap().purpose = "unknown".into(), Some(Code::Denied)),
        ("the next epoch", |r| r.domain.as_mut().unwrap().epoch += 1, Some(Code::Denied)),
        ("the last epoch", |r| r.domain.as_mut().unwrap().epoch -= 1, Some(Code::Denied)),
        ("another agreement", |r| r.agreement = "other".into(), Some(Code::Denied)),
        ("another text", |r| r.agreement_digest = "0".repeat(64), Some(Code::Denied)),
        ("an unknown dataset", |r| r.dataset = "claims".into(), Some(Code::Denied)),
        ("another department's", |r| r.dataset = "dwp.claims".into(), Some(Code::Denied)),
        ("no name at all", |r| r.dataset = "../x".into(), Some(Code::Denied)),
        ("a column to filter on", |r| r.columns = vec!["cohort".into()], Some(Code::Denied)),
        ("a column without uses", |r| r.columns = vec!["unused".into()], Some(Code::Denied)),
        ("an unknown column", |r| r.columns = vec!["nino".into()], Some(Code::Denied)),
        ("the pseudonym as a column", |r| r.columns = vec!["subject".into()], Some(Code::Denied)),
        ("a column twice", |r| r.columns = vec!["score".into(), "score".into()], Some(Code::Invalid)),
        ("too many columns", |r| r.columns = (0..300).map(|i| format!("c{i}")).collect(), Some(Code::Invalid)),
        ("a filter that is not agreed", |r| r.predicate = filter("score", Value::Number(1.0)), Some(Code::Denied)),
        ("a filter on an unknown column", |r| r.predicate = filter("nino", Value::Text("AB100001A".into())), Some(Code::Denied)),
        ("a filter of another type", |r| r.predicate = filter("fsm", Value::Text("yes".into())), Some(Code::Invalid)),
        ("an empty filter", |r| r.predicate = Some(v1::Predicate { condition: None }), Some(Code::Invalid)),
        ("another basis", |r| r.set_basis(v1::Basis::Statutory), Some(Code::Denied)),
        ("no basis", |r| r.set_basis(v1::Basis::Unspecified), Some(Code::Denied)),
        ("one partition", |r| r.partitions = 1, Some(Code::Invalid)),
        ("too many partitions", |r| r.partitions = 65, Some(Code::Invalid)),
        ("groups", |r| group(r, &["region", "fsm"], &["score", "born", "fsm"]), None),
        ("groups by what has no published values", |r| group(r, &["region", "fsm", "born"], &["score"]), Some(Code::Invalid)),
        ("groups by a number", |r| group(r, &["region", "fsm", "score"], &["born"]), Some(Code::Invalid)),
        ("groups by what is not ordered", |r| group(r, &["region", "fsm", "cohort"], &["score", "born"]), Some(Code::Invalid)),
        ("groups without one of the columns", |r| group(r, &["region"], &["score", "born"]), Some(Code::Invalid)),
        ("groups in version 1", |r| (group(r, &["region", "fsm"], &["score", "born"]), r.contract_version = 1).1, Some(Code::Invalid)),
    ];
    for (what, change, expected) in cases {
        let mut request = world.request(now);
        change(&mut request);
        let outcome = verifier.verify(&world.order(&request, now), &world.gateway.fingerprint, now);
        assert_eq!(code(outcome), *expected, "{what}");
    }
}

#[test]
fn what_others_objections_reach_is_not_grouped_here() {
    let mut world = World::new();
    let now = Utc::now();
    let asked = |world: &World| {
        let mut request = world.request(now);
        group(&mut request, &["region", "fsm"], &["score", "born"]);
        code(verifier(world).verify(&world.order(&request, now), &world.gateway.fingerprint, now))
    };
    assert_eq!(asked(&world), None);
    world.agree("mission = ", "withdrawals = \"all_parties\"\nmission = ");
    assert_eq!(asked(&world), Some(Code::Denied));
}

#[test]
fn each_claim_is_checked() {
    type Change = fn(&mut Order);
    let world = World::new();
    let verifier = verifier(&world);
    let now = Utc::now();
    let cases: &[(&str, Change, Code)] = &[
        ("issuer", |o| o.iss = "other".into(), Code::Unauthenticated),
        ("audience", |o| o.aud = "node:dwp".into(), Code::Unauthenticated),
        ("subject", |o| o.sub.clear(), Code::Unauthenticated),
        ("expired", |o| (o.nbf, o.exp) = (o.nbf - 120, o.exp - 120), Code::Unauthenticated),
        ("not yet", |o| (o.nbf, o.exp) = (o.nbf + 40, o.exp + 40), Code::Unauthenticated),
        ("lives too long", |o| o.exp += 1, Code::Unauthenticated),
        ("short jti", |o| o.jti = "1".into(), Code::Unauthenticated),
        ("request", |o| o.request_sha256 = digest(b"other"), Code::Unauthenticated),
        ("certificate", |o| o.cnf.thumbprints = vec![Fingerprint::of(b"x").to_string()], Code::Unauthenticated),
        ("no certificate", |o| o.cnf.thumbprints.clear(), Code::Unauthenticated),
        ("query", |o| o.query_id = "q-2".into(), Code::Invalid),
        ("mission", |o| o.mission = name("health"), Code::Invalid),
        ("purpose", |o| o.purpose = name("opportunity"), Code::Invalid),
        ("agreement", |o| o.agreement = name("other"), Code::Invalid),
        ("digest", |o| o.agreement_digest = "0".repeat(64), Code::Invalid),
    ];
    for (what, change, expected) in cases {
        let request = world.request(now);
        let mut claims = world.claims(&request, now);
        change(&mut claims);
        let outcome = verifier.verify(&world.sign(&claims, &request), &world.gateway.fingerprint, now);
        assert_eq!(code(outcome), Some(*expected), "{what}");
    }
}

#[test]
fn altered_bytes_other_keys_and_other_connections_are_refused() {
    let world = World::new();
    let verifier = verifier(&world);
    let now = Utc::now();
    let good = world.order(&world.request(now), now);
    let verify = |order: &v1::ReleaseOrder, certificate: &Fingerprint| code(verifier.verify(order, certificate, now));
    assert_eq!(verify(&good, &world.gateway.fingerprint), None);
    assert_eq!(verify(&good, &world.stranger.fingerprint), Some(Code::Unauthenticated));
    for index in 0..good.request.len() {
        let mut altered = good.clone();
        altered.request[index] ^= 1;
        assert_eq!(verify(&altered, &world.gateway.fingerprint), Some(Code::Unauthenticated), "byte {index}");
    }
    let mut order = good.clone();
    order.request.extend(vec![0; MAX_RELEASE_REQUEST]);
    assert_eq!(verify(&order, &world.gateway.fingerprint), Some(Code::Invalid));
    let other = Verifier {
        key: crate::fixture::signing_key().0.verifying_key().unwrap(),
        agreements: Arc::clone(&verifier.agreements),
        datasets: verifier.datasets.clone(),
    };
    assert_eq!(code(other.verify(&good, &world.gateway.fingerprint, now)), Some(Code::Unauthenticated));
}

#[test]
fn an_agreement_that_is_not_in_force_permits_nothing() {
    let world = World::new();
    let verifier = verifier(&world);
    for (day, expected) in
        [("2019-12-31", Some(Code::Denied)), ("2020-01-01", None), ("2090-12-31", None), ("2091-01-01", Some(Code::Denied))]
    {
        let now = day.parse::<chrono::NaiveDate>().unwrap().and_hms_opt(12, 0, 0).unwrap().and_utc() + TimeDelta::seconds(1);
        let outcome = verifier.verify(&world.order(&world.request(now), now), &world.gateway.fingerprint, now);
        assert_eq!(code(outcome), expected, "{day}");
    }
}

/// Neither another threshold nor a comparison that tells who is at one reaches the source, whatever the gateway let through.
#[test]
fn a_filter_of_bands_is_kept_here_too() {
    let mut world = World::new();
    let free = "cohort = { type = \"integer\", classification = \"personal\", uses = [\"filter\"] }";
    world.agree(free, &free.replace("[\"filter\"]", "[\"filter\"], filter = \"bands\", bands = [\"2020\", \"2024\"]"));
    let verifier = verifier(&world);
    let now = Utc::now();
    let verified = |predicate: &Predicate| {
        let mut request = world.request(now);
        request.predicate = Some(to_wire(predicate));
        verifier.verify(&world.order(&request, now), &world.gateway.fingerprint, now)
    };
    let compare = |comparison, value| Predicate::Compare { column: "cohort".into(), comparison, value: Value::Integer(value) };
    for (comparison, value) in [(Comparison::Less, 2024), (Comparison::GreaterOrEqual, 2020), (Comparison::Less, 2020)] {
        let predicate = Predicate::Not(Box::new(compare(comparison, value)));
        assert!(verified(&predicate).unwrap().predicate.is_some(), "{predicate:?}");
    }
    let one = Predicate::In { column: "cohort".into(), values: vec![Value::Integer(2020)] };
    let refused = [
        (Comparison::Less, 2023),
        (Comparison::GreaterOrEqual, 2021),
        (Comparison::LessOrEqual, 2024),
        (Comparison::Greater, 2020),
        (Comparison::Equal, 2020),
        (Comparison::NotEqual, 2020),
    ];
    for predicate in refused.map(|(comparison, value)| compare(comparison, value)).into_iter().chain([one]) {
        let refusal = verified(&predicate).unwrap_err();
        let says = "dfe.attainment.cohort may be used for filter only by < and >= with the thresholds of its bands";
        assert!(refusal.message.starts_with(says), "{predicate:?}: {refusal:?}");
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some("dfe")));
        assert!(refusal.advice.as_deref().is_some_and(|advice| advice.contains("one of 2020, 2024")), "{refusal:?}");
    }
}

/// Neither order nor a value that is not listed reaches the source, whatever the gateway let through; the owner's own condition does.
#[test]
fn a_filter_of_listed_values_is_kept_here_too() {
    let mut world = World::new();
    let free = "cohort = { type = \"integer\", classification = \"personal\", uses = [\"filter\"] }";
    let listed = free.replace("[\"filter\"]", "[\"filter\"], filter = \"listed\", values = [\"2023\", \"2024\"]");
    world.agree(free, &listed);
    world.agree("[dataset.columns]\nregion", "rows = [{ column = \"cohort\", at_least = 2020 }]\n[dataset.columns]\nregion");
    let verifier = verifier(&world);
    let now = Utc::now();
    let verified = |comparison, value| {
        let mut request = world.request(now);
        request.predicate = Some(to_wire(&Predicate::Compare { column: "cohort".into(), comparison, value: Value::Integer(value) }));
        verifier.verify(&world.order(&request, now), &world.gateway.fingerprint, now)
    };
    for (comparison, value) in [(Comparison::Equal, 2024), (Comparison::NotEqual, 2023)] {
        assert!(verified(comparison, value).unwrap().condition.is_some(), "the owner's condition stays");
    }
    for (comparison, value) in
        [(Comparison::Equal, 2022), (Comparison::NotEqual, 2022), (Comparison::Less, 2024), (Comparison::Greater, 2023)]
    {
        let refusal = verified(comparison, value).unwrap_err();
        let says = "dfe.attainment.cohort may be used for filter only by comparison with its listed values: agreement 'opportunity-2026'";
        assert!(refusal.message.starts_with(says), "{refusal:?}");
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some("dfe")));
    }
}
