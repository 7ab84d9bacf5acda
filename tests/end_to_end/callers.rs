//! Who may call: every door × every bad caller.

pub mod doors;

use arrow_flight::flight_service_client::FlightServiceClient;
use concordat::failure::Failure;
use concordat_policy::Code;
use concordat_proto::status::from_status;
use concordat_proto::v1;
use concordat_proto::v1::node_client::NodeClient;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use self::doors::{Door, Who, call, of_contract, of_flight};
use crate::sandbox::{Sandbox, node, refused, until};

const SQL: &str = "SELECT count(*) FROM dfe.attainment";

#[tokio::test]
async fn every_bad_token_is_refused_at_every_door_and_recorded() {
    let sandbox = Sandbox::start(500).await;
    let other = Sandbox::start(100).await;
    let set = |name: &'static str, value: Value| move |claims: &mut Value| claims[name] = value;
    let remove = |name: &'static str| move |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(name));
    let now = chrono::Utc::now().timestamp();
    let bad: Vec<(&str, Option<String>)> = vec![
        ("none", None),
        ("not a token", Some("abc".into())),
        ("another issuer's key", Some(other.token())),
        ("another issuer's name", Some(sandbox.token_with(set("iss", json!("https://evil.example"))))),
        ("no issuer", Some(sandbox.token_with(remove("iss")))),
        ("issuer in a list", Some(sandbox.token_with(set("iss", json!(["https://issuer.example.internal"]))))),
        ("another audience", Some(sandbox.token_with(set("aud", json!("something-else"))))),
        ("no audience", Some(sandbox.token_with(remove("aud")))),
        ("no subject", Some(sandbox.token_with(remove("sub")))),
        ("no nbf", Some(sandbox.token_with(remove("nbf")))),
        ("no exp", Some(sandbox.token_with(remove("exp")))),
        ("expired", Some(sandbox.token_with(|c| (c["nbf"], c["iat"], c["exp"]) = (json!(now - 900), json!(now - 900), json!(now - 60))))),
        (
            "not yet valid",
            Some(sandbox.token_with(|c| (c["nbf"], c["iat"], c["exp"]) = (json!(now + 120), json!(now + 120), json!(now + 300)))),
        ),
        ("lives too long", Some(sandbox.token_with(set("exp", json!(now + 86_400))))),
        ("no organisation", Some(sandbox.token_with(remove("organisation")))),
        ("roles as text", Some(sandbox.token_with(set("roles", json!("analyst"))))),
        ("one byte changed", Some(flipped(&sandbox.token()))),
        (
            "of another type",
            Some(
                sandbox
                    .issuer
                    .key
                    .sign(
                        "concordat-release-order+jwt",
                        Some(&sandbox.issuer.key_id),
                        &sandbox.issuer.claims(&sandbox.caller(), 10, chrono::Utc::now()),
                    )
                    .unwrap(),
            ),
        ),
    ];
    let good = sandbox.client().await;
    let ticket = good.flight_info(SQL).await.unwrap().endpoint.remove(0).ticket.unwrap();
    let before = refusals(&sandbox);
    let channel = gateway(&sandbox).await;
    for (what, token) in &bad {
        for (door, outcome) in at_every_door(&channel, token.as_deref()).await {
            let status = outcome.err().unwrap_or_else(|| panic!("{what}: {door:?} let somebody in"));
            let refusal = from_status(&status).unwrap_or_else(|| panic!("{what} at {door:?}: a foreign status {status:?}"));
            assert_eq!(refusal.code, Code::Unauthenticated, "{what} at {door:?}: {refusal:?}");
            assert!(
                token.as_ref().is_none_or(|t| t.len() < 10 || !status.message().contains(t.as_str())),
                "the token stands in the message"
            );
        }
    }
    // The good ticket was not used up by any of them, and is its owner's alone.
    let thief = sandbox.token_with(|c| c["sub"] = json!("somebody-else"));
    let status = FlightServiceClient::new(channel).do_get(with(ticket, Some(&thief))).await.err().unwrap();
    assert_eq!(from_status(&status).unwrap().code, Code::Denied);
    let log = sandbox.log("gateway");
    assert!(
        log.iter().any(|e| e["event"] == "caller.refused" && e["caller"] == "somebody-else" && e["code"] == "denied"),
        "the thief is on record"
    );
    assert!(good.query(SQL).await.is_ok());
    sandbox.drained().await;
    // The thief's go to his own account.
    let thefts = sandbox.log("gateway").iter().filter(|e| e["caller"] == "somebody-else" && e["event"] == "caller.refused").count();
    assert_eq!(
        refusals(&sandbox) - before - thefts,
        bad.len() * doors_of_gateway().len(),
        "every refusal stands in the log, alone or counted"
    );
}

fn flipped(token: &str) -> String {
    let at = token.rfind('.').unwrap() + 5;
    let with = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{with}{}", &token[..at], &token[at + 1..])
}

/// Refusals on record, alone and counted. Those that are only counted are recorded when the gateway drains.
fn refusals(sandbox: &Sandbox) -> usize {
    let of = |entry: &Value| match entry["event"].as_str() {
        Some("caller.refused") => 1,
        Some("caller.refused.aggregate") => usize::try_from(entry["count"].as_u64().unwrap()).unwrap(),
        _ => 0,
    };
    sandbox.log("gateway").iter().map(of).sum()
}

/// Every call of the gateway.
fn doors_of_gateway() -> Vec<Door> {
    of_contract().into_iter().filter(|door| door.is_for(Who::User)).chain(of_flight(&[Who::User])).collect()
}

/// Makes every call of the gateway with an empty message and a good purpose.
pub async fn at_every_door(channel: &Channel, token: Option<&str>) -> Vec<(Door, Result<Vec<u8>, tonic::Status>)> {
    let mut outcomes = Vec::new();
    for door in doors_of_gateway() {
        let outcome = call(channel.clone(), &door, Vec::new(), token).await;
        outcomes.push((door, outcome));
    }
    outcomes
}

pub async fn gateway(sandbox: &Sandbox) -> Channel {
    let connection = sandbox.connection();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&connection.ca)).domain_name(&connection.server_name);
    Endpoint::from_shared(connection.gateway).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
}

/// What stays open to who holds a good token and is in no agreement, and what is told there: nothing of any dataset.
pub const WITHOUT_AGREEMENT: [&str; 2] = ["/concordat.v1.Gateway/Explain", "/concordat.v1.Gateway/WhoAmI"];

#[tokio::test]
async fn a_good_token_without_an_agreement_is_refused_at_every_door_of_the_contract() {
    let sandbox = Sandbox::start(300).await;
    let channel = gateway(&sandbox).await;
    let doors: Vec<Door> = of_contract().into_iter().filter(|door| door.is_for(Who::User)).collect();
    for (what, token) in [
        ("another organisation", sandbox.token_with(|c| c["organisation"] = json!("other-unit"))),
        ("another role", sandbox.token_with(|c| c["roles"] = json!(["visitor"]))),
        (
            "an administrator of another organisation",
            sandbox.token_with(|c| (c["organisation"], c["roles"]) = (json!("other-unit"), json!(["administrator"]))),
        ),
        ("no role", sandbox.token_with(|c| c["roles"] = json!([]))),
        ("bound to a purpose that nobody agreed on", sandbox.token_with(|c| c["purpose"] = json!("health"))),
    ] {
        for door in &doors {
            match (call(channel.clone(), door, Vec::new(), Some(&token)).await, WITHOUT_AGREEMENT.contains(&door.path.as_str())) {
                (Err(status), _) => {
                    let refusal = from_status(&status).unwrap_or_else(|| panic!("{what} at {door:?}: a foreign status {status:?}"));
                    assert_eq!(refusal.code, Code::Denied, "{what} at {door:?}: {refusal:?}");
                }
                (Ok(answer), true) if door.path.ends_with("/WhoAmI") => {
                    let told = v1::WhoAmIResponse::decode(answer.as_slice()).unwrap();
                    assert!(told.purposes.is_empty(), "{what}: {told:?}");
                }
                (Ok(answer), true) => {
                    let told = v1::ExplainResponse::decode(answer.as_slice()).unwrap().decision;
                    let denied =
                        matches!(&told, Some(v1::explain_response::Decision::Denied(d)) if d.cause == "purpose" && d.proposal.is_none());
                    assert!(denied, "{what}: {told:?}");
                }
                (Ok(_), false) => panic!("{what}: {door:?} let somebody in"),
            }
        }
    }
    // Whom the agreement names is let in everywhere: what was refused above was the caller, not the message.
    for door in &doors {
        if let Err(status) = call(channel.clone(), door, Vec::new(), Some(&sandbox.token())).await {
            let refusal = from_status(&status).unwrap_or_else(|| panic!("{door:?}: a foreign status {status:?}"));
            let own = ["/RelayLinkageKeys", "/Detached", "/CancelDetached", "/Receipt"].iter().any(|own| door.path.ends_with(own));
            // The log's own are auditors', whatever an agreement says.
            let own = own || ["/concordat.v1.AccessLog/", "/concordat.v1.LogReading/"].iter().any(|log| door.path.starts_with(log));
            assert!(own && refusal.code == Code::Denied, "{door:?}: {refusal:?}");
        }
    }
}

fn with<T>(message: T, token: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-concordat-purpose", "opportunity.measure".parse().unwrap());
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

#[tokio::test]
async fn purposes_organisations_and_roles_outside_the_agreement_are_denied_alike() {
    let sandbox = Sandbox::start(500).await;
    let mut sentences = std::collections::BTreeSet::new();
    for purpose in ["opportunity", "health", "opportunity.pilot", "opportunity.absent", "no-such-purpose"] {
        let client = sandbox.client_with(|c| c.purpose = Some(purpose.into())).await;
        let failure = refused(client.query(SQL).await, Code::Denied, "no agreement in force");
        sentences.insert(failure.message.replace(purpose, "P"));
        refused(client.catalogue().await, Code::Denied, "no agreement in force");
    }
    assert_eq!(sentences.len(), 1, "unknown, retired, wider and other purposes look the same: {sentences:?}");
    for (what, token) in [
        ("organisation", sandbox.token_with(|c| c["organisation"] = json!("other-unit"))),
        ("role", sandbox.token_with(|c| c["roles"] = json!(["visitor"]))),
        ("no role", sandbox.token_with(|c| c["roles"] = json!([]))),
    ] {
        let client = sandbox.client_with(|c| c.token = Some(token.clone())).await;
        refused(client.query(SQL).await, Code::Denied, "no agreement in force");
        assert!(client.departments().await.is_err(), "{what}");
    }
    // Narrower than agreed is covered; a look-alike, none, two that differ are not.
    assert!(sandbox.client_with(|c| c.purpose = Some("opportunity.measure.region".into())).await.query(SQL).await.is_ok());
    refused(sandbox.client_with(|c| c.purpose = Some("Opportunity.measure".into())).await.query(SQL).await, Code::Invalid, "purpose");
    refused(sandbox.client_with(|c| c.purpose = None).await.query(SQL).await, Code::Invalid, "declares no purpose");
    let bound = sandbox.token_with(|c| c["purpose"] = json!("health.prevention"));
    refused(sandbox.client_with(|c| c.token = Some(bound)).await.query(SQL).await, Code::Denied, "bound to another purpose");
    // A dataset of the other mission is not there for this purpose.
    refused(sandbox.query("SELECT count(risk_identified) FROM dhsc.health").await, Code::Denied, "may be used");
}

/// A certificate that a department's running node takes for an auditor's.
pub async fn auditor_of(sandbox: &Sandbox, department: &str) -> Identity {
    let auditor = sandbox.authority.client(&format!("auditor of {department}")).unwrap();
    let path = sandbox.layout.node(department).join("node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let pin = format!("[auditors]\ncertificates = [\"{}\"]\n\n[administrators]", auditor.fingerprint);
    std::fs::write(&path, text.replacen("[administrators]", &pin, 1)).unwrap();
    until("the auditor's certificate is pinned", || {
        sandbox.log(department).iter().any(|e| e["event"] == "certificate.pinned" && e["role"] == "auditor")
    })
    .await;
    Identity::from_pem(&auditor.certificate, &auditor.key)
}

#[tokio::test]
async fn a_node_serves_nobody_but_the_pinned_gateway_and_its_own_administrators() {
    let sandbox = Sandbox::start(300).await;
    let other = Sandbox::start(100).await;
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    let ca = read(sandbox.layout.ca().join("ca.pem"));
    let dfe = sandbox.layout.node("dfe").join("tls");
    let identity = |folder: &std::path::Path, name: &str| {
        Some(Identity::from_pem(read(folder.join(format!("{name}.pem"))), read(folder.join(format!("{name}.key.pem")))))
    };
    let stranger = sandbox.authority.client("stranger").unwrap();
    let auditor = auditor_of(&sandbox, "dfe").await;
    let foreign = other.layout.gateway().join("tls");
    let gateway = || identity(&sandbox.layout.gateway().join("tls"), "client");
    let bad = [
        ("no certificate", None, None),
        ("another CA's gateway", identity(&foreign, "client"), None),
        ("another department's certificate", identity(&sandbox.layout.node("dwp").join("tls"), "node"), None),
        ("another department's administrator", identity(&sandbox.layout.node("dwp").join("tls"), "administrator"), None),
        ("an unknown client of the right CA", Some(Identity::from_pem(&stranger.certificate, &stranger.key)), None),
        ("its own administrator", identity(&dfe, "administrator"), Some(Who::Administrator)),
        ("its own auditor", Some(auditor), Some(Who::Auditor)),
        ("the gateway", gateway(), Some(Who::Gateway)),
    ];
    let doors: Vec<Door> = of_contract().into_iter().filter(Door::is_of_node).chain(of_flight(&[Who::Gateway])).collect();
    let mut let_in = 0;
    for (what, certificate, may) in bad {
        let Ok(channel) = node(&sandbox, "dfe", certificate, &ca).await else {
            assert_eq!(may, None, "{what} cannot connect");
            continue;
        };
        for door in &doors {
            let outcome =
                call(channel.clone(), door, Vec::new(), None).await.map_err(|status| (from_status(&status).map(|r| r.code), status));
            if may.is_some_and(|may| door.is_for(may)) {
                // Whatever is wrong with the empty message of the contract's own calls, it is not the caller.
                let wrong = matches!(&outcome, Err((code, _)) if code.is_none_or(|code| code == Code::Unauthenticated));
                assert!(!wrong || !door.is_own(), "{what} at {door:?}: {outcome:?}");
                let_in += 1;
                continue;
            }
            let Err((code, status)) = outcome else { panic!("{what} was served at {door:?}") };
            // Without a code of ours: TLS let nobody in, or it is a call of Flight that nodes do not offer to anybody.
            assert!(code.is_none_or(|code| code == Code::Unauthenticated), "{what} at {door:?}: {status:?}");
            assert!(!door.is_own() || status.code() != tonic::Code::Unimplemented, "{what} at {door:?}: {status:?}");
        }
    }
    let own = doors.iter().flat_map(|door| door.who).filter(|who| **who != Who::User).count();
    assert_eq!(let_in, own, "each door lets its own callers in");
    let gateway = node(&sandbox, "dfe", gateway(), &ca).await.unwrap();
    assert!(NodeClient::new(gateway).describe(v1::DescribeRequest { contract_version: 1 }).await.is_ok());
    // A client that trusts another CA, or expects another department, does not talk to the node.
    let foreign_ca = read(other.layout.ca().join("ca.pem"));
    assert!(node(&sandbox, "dfe", identity(&sandbox.layout.gateway().join("tls"), "client"), &foreign_ca).await.is_err());
}

#[tokio::test]
async fn a_node_whose_certificate_is_another_departments_is_not_believed() {
    // DWP's node answers under DfE's certificate: the gateway must not take its data for DWP's.
    let sandbox = Sandbox::with(
        300,
        |_| {},
        |layout| {
            for file in ["node.pem", "node.key.pem"] {
                std::fs::copy(layout.node("dfe").join("tls").join(file), layout.node("dwp").join("tls").join(file)).unwrap();
            }
        },
    )
    .await;
    let failure: Failure = refused(sandbox.query("SELECT count(*) FROM dwp.claims").await, Code::NodeUnavailable, "dwp");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
}
