//! Who may call: every door × every bad caller.

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Criteria, FlightData, FlightDescriptor, HandshakeRequest, Ticket};
use concordat::failure::Failure;
use concordat::federation::node_server_name;
use concordat_policy::Code;
use concordat_proto::status::from_status;
use concordat_proto::v1;
use concordat_proto::v1::consent_ledger_client::ConsentLedgerClient;
use concordat_proto::v1::gateway_client::GatewayClient;
use concordat_proto::v1::linkage_keys_client::LinkageKeysClient;
use concordat_proto::v1::node_client::NodeClient;
use concordat_proto::v1::releases_client::ReleasesClient;
use serde_json::{Value, json};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::sandbox::{Sandbox, refused};

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
    for (what, token) in &bad {
        let refused = at_every_door(&sandbox, token.as_deref(), &ticket).await;
        assert_eq!(refused.len(), DOORS, "{what}: a door let somebody in");
        for (door, status) in refused {
            let refusal = from_status(&status).unwrap_or_else(|| panic!("{what} at {door}: a foreign status {status:?}"));
            assert_eq!(refusal.code, Code::Unauthenticated, "{what} at {door}: {refusal:?}");
            assert!(
                token.as_ref().is_none_or(|t| t.len() < 10 || !status.message().contains(t.as_str())),
                "the token stands in the message"
            );
        }
    }
    // The good ticket was not used up by any of them, and is its owner's alone.
    let thief = sandbox.token_with(|c| c["sub"] = json!("somebody-else"));
    let (_, status) = at_every_door(&sandbox, Some(&thief), &ticket).await.into_iter().find(|(door, _)| *door == "DoGet").unwrap();
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
    assert_eq!(refusals(&sandbox) - before - thefts, bad.len() * DOORS, "every refusal stands in the log, alone or counted");
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

/// How many doors [`at_every_door`] tries.
pub const DOORS: usize = 18;

/// Calls every RPC of the gateway that is offered; a new one belongs here.
pub async fn at_every_door(sandbox: &Sandbox, token: Option<&str>, ticket: &Ticket) -> Vec<(&'static str, tonic::Status)> {
    let connection = sandbox.connection();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&connection.ca)).domain_name(&connection.server_name);
    let channel = Endpoint::from_shared(connection.gateway).unwrap().tls_config(tls).unwrap().connect().await.unwrap();
    let mut flight = FlightServiceClient::new(channel.clone());
    let mut own = GatewayClient::new(channel);
    let statement = arrow_flight::sql::CommandStatementQuery { query: SQL.into(), transaction_id: None };
    let command = prost::Message::encode_to_vec(&arrow_flight::sql::ProstMessageExt::as_any(&statement));
    let mut refused = Vec::new();
    let mut note = |door, status: Option<tonic::Status>| {
        // A thief with a good token may use the doors that are not his victim's.
        if let Some(status) = status {
            refused.push((door, status));
        }
    };
    let descriptor = FlightDescriptor::new_cmd(command);
    note("GetFlightInfo", flight.get_flight_info(with(descriptor.clone(), token)).await.err());
    note("PollFlightInfo", flight.poll_flight_info(with(descriptor.clone(), token)).await.err());
    note("GetSchema", flight.get_schema(with(descriptor.clone(), token)).await.err());
    note("DoGet", flight.do_get(with(ticket.clone(), token)).await.err());
    note("ListFlights", flight.list_flights(with(Criteria::default(), token)).await.err());
    note("ListActions", flight.list_actions(with(arrow_flight::Empty {}, token)).await.err());
    note("DoAction", flight.do_action(with(Action::new("SetSessionOptions", ""), token)).await.err());
    let put = FlightData { flight_descriptor: Some(descriptor), ..FlightData::default() };
    note("DoPut", flight.do_put(with(tokio_stream::iter([put.clone()]), token)).await.err());
    note("DoExchange", flight.do_exchange(with(tokio_stream::iter([put]), token)).await.err());
    note("Handshake", flight.handshake(with(tokio_stream::iter([HandshakeRequest::default()]), token)).await.err());
    note("Catalogue", own.catalogue(with(v1::CatalogueRequest {}, token)).await.err());
    note("Departments", own.departments(with(v1::DepartmentsRequest {}, token)).await.err());
    note("Explain", own.explain(with(v1::ExplainRequest { statement: SQL.into() }, token)).await.err());
    note("WhoAmI", own.who_am_i(with(v1::WhoAmIRequest {}, token)).await.err());
    note("RelayLinkageKeys", own.relay_linkage_keys(with(v1::RelayRequest {}, token)).await.err());
    let id = "0".repeat(32);
    note("Detach", own.detach(with(v1::DetachRequest { statement: SQL.into() }, token)).await.err());
    note("Detached", own.detached(with(v1::DetachedRequest { id: id.clone(), wait_seconds: 0 }, token)).await.err());
    note("CancelDetached", own.cancel_detached(with(v1::CancelDetachedRequest { id }, token)).await.err());
    refused
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

/// A connection to a node with a certificate, or none.
pub async fn node(sandbox: &Sandbox, department: &str, identity: Option<Identity>, ca: &str) -> Result<Channel, tonic::transport::Error> {
    let address = sandbox.running.nodes().find(|(d, _)| *d == department).unwrap().1.to_owned();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(node_server_name(department));
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls)?.connect().await
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
    let foreign = other.layout.gateway().join("tls");
    let bad = [
        ("no certificate", None),
        ("another CA's gateway", identity(&foreign, "client")),
        ("another department's certificate", identity(&sandbox.layout.node("dwp").join("tls"), "node")),
        ("another department's administrator", identity(&sandbox.layout.node("dwp").join("tls"), "administrator")),
        ("an unknown client of the right CA", Some(Identity::from_pem(&stranger.certificate, &stranger.key))),
        ("its own administrator, as a gateway", identity(&dfe, "administrator")),
    ];
    for (what, who) in bad {
        let Ok(channel) = node(&sandbox, "dfe", who, &ca).await else { continue };
        for (door, outcome) in at_every_node_door(channel).await {
            if what.starts_with("its own administrator") && LEDGER_DOORS.contains(&door) {
                continue;
            }
            assert!(outcome.is_err(), "{what} was served at {door}");
        }
    }
    // The gateway may neither record consent nor look at it.
    let gateway = node(&sandbox, "dfe", identity(&sandbox.layout.gateway().join("tls"), "client"), &ca).await.unwrap();
    for (door, outcome) in at_every_node_door(gateway.clone()).await.into_iter().filter(|(door, _)| LEDGER_DOORS.contains(door)) {
        let refusal = from_status(&outcome.unwrap_err()).unwrap();
        assert_eq!(refusal.code, Code::Unauthenticated, "the gateway at {door}");
    }
    assert!(NodeClient::new(gateway).describe(v1::DescribeRequest { contract_version: 1 }).await.is_ok());
    // A client that trusts another CA, or expects another department, does not talk to the node.
    let foreign_ca = read(other.layout.ca().join("ca.pem"));
    assert!(node(&sandbox, "dfe", identity(&sandbox.layout.gateway().join("tls"), "client"), &foreign_ca).await.is_err());
}

/// The doors of the department's own systems.
const LEDGER_DOORS: [&str; 3] = ["Record", "Import", "Show"];

async fn at_every_node_door(channel: Channel) -> Vec<(&'static str, Result<(), tonic::Status>)> {
    let mut flight = FlightServiceClient::new(channel.clone());
    let mut keys = LinkageKeysClient::new(channel.clone());
    let describe = NodeClient::new(channel.clone()).describe(v1::DescribeRequest { contract_version: 1 }).await.map(drop);
    let abandon = ReleasesClient::new(channel.clone()).abandon(v1::AbandonRequest::default()).await.map(drop);
    let mut ledger = ConsentLedgerClient::new(channel);
    let record = ledger.record(v1::RecordRequest::default()).await.map(drop);
    let import = ledger.import(tokio_stream::iter([v1::ImportRequest::default()])).await.map(drop);
    let show = ledger.show(v1::ShowRequest::default()).await.map(drop);
    vec![
        ("Abandon", abandon),
        ("Describe", describe),
        ("Record", record),
        ("Import", import),
        ("Show", show),
        ("Seal", keys.seal(v1::SealRequest::default()).await.map(drop)),
        ("Accept", keys.accept(v1::SealedKey::default()).await.map(drop)),
        ("GetFlightInfo", flight.get_flight_info(FlightDescriptor::new_cmd(vec![1, 2, 3])).await.map(drop)),
        ("DoGet", flight.do_get(Ticket::new(vec![1, 2, 3])).await.map(drop)),
        ("GetSchema", flight.get_schema(FlightDescriptor::new_cmd(vec![1])).await.map(drop)),
        ("ListFlights", flight.list_flights(Criteria::default()).await.map(drop)),
        ("ListActions", flight.list_actions(arrow_flight::Empty {}).await.map(drop)),
        ("DoAction", flight.do_action(Action::new("x", "")).await.map(drop)),
        ("DoPut", flight.do_put(tokio_stream::iter([])).await.map(drop)),
        ("Handshake", flight.handshake(tokio_stream::iter([HandshakeRequest::default()])).await.map(drop)),
    ]
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
