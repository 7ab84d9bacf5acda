//! Forbidden and absent look the same: one path, one message, one code, the same metadata.
//!
//! Each pair asks once for something that exists and is not for this caller, and once for something that is nowhere. Everything
//! that comes back is compared, with the names that the caller wrote, and the query id, put out of the way.

use std::collections::BTreeMap;

use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt as _, TicketStatementQuery};
use concordat_policy::Use;
use concordat_proto::status::{CODE, QUERY_ID};
use concordat_proto::v1::CatalogueRequest;
use concordat_proto::v1::gateway_client::GatewayClient;
use prost::Message as _;
use serde_json::json;
use tonic::metadata::KeyAndValueRef;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::sandbox::Sandbox;

/// The sample, with a column that the agreement names and permits nothing of.
async fn sandbox() -> Sandbox {
    Sandbox::with(300, close, |_| {}).await
}

fn close(federation: &mut concordat::federation::Federation) {
    let dataset = federation.agreements[0].datasets.iter_mut().find(|d| d.department == "dwp").unwrap();
    let column = dataset.columns.iter_mut().find(|(name, _)| name == "months_claiming").unwrap();
    assert_eq!(column.1, [Use::Aggregate]);
    column.1.clear();
}

async fn channel(sandbox: &Sandbox) -> Channel {
    let connection = sandbox.connection();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&connection.ca)).domain_name(&connection.server_name);
    Endpoint::from_shared(connection.gateway).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
}

fn with<T>(message: T, token: &str, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    for (key, value) in headers {
        request.metadata_mut().insert(*key, value.parse().unwrap());
    }
    request
}

const PURPOSE: (&str, &str) = ("x-concordat-purpose", "opportunity.measure");

/// Everything that a caller sees of a refusal, with `names` out of the way.
fn seen(status: &Status, names: &[&str]) -> BTreeMap<String, String> {
    let plain = |text: &str| names.iter().fold(text.to_owned(), |text, name| text.replace(name, "NAME"));
    let mut seen = BTreeMap::from([
        ("status".to_owned(), format!("{:?}", status.code())),
        ("message".to_owned(), plain(status.message())),
        ("details".to_owned(), format!("{:?}", status.details())),
    ]);
    for entry in status.metadata().iter() {
        let KeyAndValueRef::Ascii(key, value) = entry else { panic!("binary metadata: {entry:?}") };
        let value = if key == QUERY_ID || key == "date" { "…".to_owned() } else { plain(value.to_str().unwrap()) };
        seen.insert(key.as_str().to_owned(), value);
    }
    assert!(seen.contains_key(CODE), "{seen:?}");
    seen
}

async fn statement(channel: &Channel, token: &str, sql: &str) -> Status {
    let command = CommandStatementQuery { query: sql.into(), transaction_id: None }.as_any().encode_to_vec();
    let descriptor = arrow_flight::FlightDescriptor::new_cmd(command);
    FlightServiceClient::new(channel.clone()).get_flight_info(with(descriptor, token, &[PURPOSE])).await.expect_err(sql)
}

#[tokio::test]
async fn what_is_forbidden_and_what_is_absent_look_the_same_in_sql() {
    let sandbox = sandbox().await;
    let (channel, token) = (channel(&sandbox).await, sandbox.token());
    // A statement around a name; a name that exists and is not permitted; one that is nowhere.
    for (around, forbidden, absent) in [
        // Another mission's view, with and without its schema.
        ("SELECT * FROM views.{}", "cardiovascular_support", "no_such_view_at_all_"),
        ("SELECT * FROM {}", "cardiovascular_support", "no_such_view_at_all_"),
        ("SELECT count(*) FROM views.{}", "cardiovascular_support", "no_such_view_at_all_"),
        // A column that the node offers and the agreement leaves out, or names without a use, wherever it stands.
        ("SELECT count(c.{}) FROM dwp.claims c", "months_claiming", "months_nothing_"),
        ("SELECT count({}) FROM dwp.claims", "months_claiming", "months_nothing_"),
        ("SELECT count(*) FROM dwp.claims c WHERE c.{} > 3", "months_claiming", "months_nothing_"),
        ("SELECT count(*) FROM dwp.claims GROUP BY {}", "months_claiming", "months_nothing_"),
        ("SELECT {} FROM dwp.claims", "months_claiming", "months_nothing_"),
        ("SELECT sum({}) FILTER (WHERE {} > 3) FROM dwp.claims", "months_claiming", "months_nothing_"),
        ("SELECT count(*) FROM dhsc.health h JOIN dwp.claims c ON h.subject = c.subject AND h.{} > 1", "supported", "nothing__"),
        ("SELECT count(*) FROM dhsc.health WHERE {}", "cardiovascular_risk", "nothing_at_all_____"),
        ("SELECT count(*) FROM dfe.attainment WHERE {} = 'x'", "nino", "nope"),
        ("SELECT count(*) FROM dfe.attainment ORDER BY {}", "upn", "nop"),
    ] {
        let both = [forbidden, absent].map(|name| around.replace("{}", name));
        let forbidden_seen = seen(&statement(&channel, &token, &both[0]).await, &[forbidden]);
        let absent_seen = seen(&statement(&channel, &token, &both[1]).await, &[absent]);
        assert_eq!(forbidden_seen, absent_seen, "{around}");
    }
}

#[tokio::test]
async fn datasets_of_another_mission_look_like_none() {
    let sandbox = sandbox().await;
    let (channel, token) = (channel(&sandbox).await, sandbox.token());
    let health = ("x-concordat-purpose", "health.prevention");
    for around in ["SELECT count(*) FROM {}", "SELECT x FROM {}", "SELECT count(*) FROM dwp.claims c JOIN {} a ON a.subject = c.subject"] {
        let mut all = Vec::new();
        // The first exists, under another agreement; the others do not: in its department, in a permitted one, in none.
        for name in ["dfe.attainment", "dfe.nothing", "dwp.nothing", "nobody.nothing"] {
            let command = CommandStatementQuery { query: around.replace("{}", name), transaction_id: None }.as_any().encode_to_vec();
            let request = with(arrow_flight::FlightDescriptor::new_cmd(command), &token, &[health]);
            let status = FlightServiceClient::new(channel.clone()).get_flight_info(request).await.expect_err(around);
            all.push(seen(&status, &[name]));
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{around}: {all:#?}");
    }
}

#[tokio::test]
async fn a_view_that_would_be_refused_is_in_no_catalogue() {
    let stated = |layout: &concordat::federation::Layout| {
        let view = |name: &str, column: &str| {
            let sql = format!("-- mission: opportunity\n-- title: {name}\nSELECT avg({column}) AS mean FROM dwp.claims\n");
            std::fs::write(layout.estate().join(format!("views/{name}.sql")), sql).unwrap();
        };
        view("closed", "months_claiming");
        view("plain", "CASE WHEN claiming THEN 1.0 ELSE 0.0 END");
    };
    let sandbox = Sandbox::with(300, close, stated).await;
    let shown = sandbox.client().await.catalogue().await.unwrap();
    let names: Vec<&str> = shown.views.iter().map(|view| view.name.as_str()).collect();
    assert!(names.contains(&"plain") && !names.contains(&"closed"), "{names:?}");
    assert!(!shown.views.iter().any(|view| view.sql.contains("months_claiming")), "{names:?}");
    for name in names {
        sandbox.query(&format!("SELECT * FROM views.{name}")).await.unwrap();
    }
}

#[tokio::test]
async fn purposes_and_missions_that_are_not_the_callers_look_like_none() {
    let sandbox = sandbox().await;
    let (channel, token) = (channel(&sandbox).await, sandbox.token());
    let stranger = sandbox.token_with(|c| c["organisation"] = json!("other-unit"));
    let catalogue = async |token: &str, headers: &[(&'static str, &str)]| {
        let request = with(CatalogueRequest {}, token, headers);
        GatewayClient::new(channel.clone()).catalogue(request).await.expect_err("denied")
    };
    let absent = seen(&catalogue(&token, &[("x-concordat-purpose", "nothing.such")]).await, &["nothing.such"]);
    for purpose in ["opportunity", "opportunity.pilot", "health"] {
        let forbidden = catalogue(&token, &[("x-concordat-purpose", purpose)]).await;
        assert_eq!(seen(&forbidden, &[purpose]), absent, "{purpose}");
    }
    // The same for one who has no agreement at all, whatever he names.
    for purpose in ["opportunity.measure", "health.prevention", "nothing.such"] {
        assert_eq!(seen(&catalogue(&stranger, &[("x-concordat-purpose", purpose)]).await, &[purpose]), absent, "{purpose}");
    }
    let mission = async |mission: &str| catalogue(&token, &[PURPOSE, ("x-concordat-mission", mission)]).await;
    assert_eq!(seen(&mission("healthy-life").await, &["healthy-life"]), seen(&mission("no-such-one").await, &["no-such-one"]));
}

#[tokio::test]
async fn tickets_of_others_used_ones_and_invented_ones_look_the_same() {
    let sandbox = sandbox().await;
    let (channel, token) = (channel(&sandbox).await, sandbox.token());
    let client = sandbox.client().await;
    let sql = "SELECT count(*) AS n FROM dfe.attainment";
    let ticket = async || client.flight_info(sql).await.unwrap().endpoint.remove(0).ticket.unwrap();
    let redeem = async |ticket: Ticket, token: &str| {
        FlightServiceClient::new(channel.clone()).do_get(with(ticket, token, &[PURPOSE])).await.map(drop)
    };
    let (used, anothers) = (ticket().await, ticket().await);
    redeem(used.clone(), &token).await.unwrap();
    let thief = sandbox.token_with(|c| c["sub"] = json!("somebody-else"));
    let handle = |length: usize| TicketStatementQuery { statement_handle: vec![7; length].into() };
    let invented = |length| Ticket::new(handle(length).as_any().encode_to_vec());
    let length = {
        let any = arrow_flight::sql::Any::decode(&*used.ticket).unwrap();
        any.unpack::<TicketStatementQuery>().unwrap().unwrap().statement_handle.len()
    };
    let expected = seen(&redeem(invented(length), &token).await.unwrap_err(), &[]);
    for (what, status) in [
        ("used", redeem(used, &token).await),
        ("another caller's", redeem(anothers.clone(), &thief).await),
        ("of another length", redeem(invented(length + 1), &token).await),
        ("empty", redeem(invented(0), &token).await),
    ] {
        assert_eq!(seen(&status.unwrap_err(), &[]), expected, "{what}");
    }
    redeem(anothers, &token).await.unwrap();
}
