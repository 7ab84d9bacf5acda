//! Whose tokens the gateway believes: a certified provider by OIDC discovery, its keys as they come and go, and two issuers that
//! must not be mistaken for one another.

use std::time::{Duration, Instant};

use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use concordat::client::Client;
use concordat::failure::Failure;
use concordat_policy::Code;
use concordat_proto::status::from_status;
use concordat_proto::v1;
use concordat_proto::v1::gateway_client::GatewayClient;
use serde_json::{Value, json};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::provider::{CLIENT, Provider};
use crate::sandbox::{Sandbox, refused};

const SQL: &str = "SELECT count(*) AS persons FROM dfe.attainment";

/// A sandbox whose gateway believes the provider's issuers, and the trial's own beside them.
pub async fn world(issuers: &[&str], more: &str) -> (Sandbox, Provider) {
    let mut provider = None;
    let sandbox = Sandbox::with(
        300,
        |_| {},
        |layout| {
            let started = Provider::start(layout, issuers);
            let path = layout.gateway().join("gateway.toml");
            let mut text = std::fs::read_to_string(&path).unwrap();
            text.push_str("organisations = ['mission-unit']\n");
            issuers.iter().for_each(|name| text.push_str(&started.issuer_section(name, more)));
            std::fs::write(&path, text).unwrap();
            provider = Some(started);
        },
    )
    .await;
    let provider = provider.unwrap();
    for name in issuers {
        provider.act(name, "set", json!({ "claims": { "*": { "organisation": "mission-unit", "roles": ["analyst"] } } })).await;
    }
    (sandbox, provider)
}

async fn with(sandbox: &Sandbox, token: &str) -> Client {
    sandbox.client_with(|c| c.token = Some(token.to_owned())).await
}

/// Waits until a call with the token is refused, and returns the refusal's words.
async fn until_refused(client: &Client, patience: Duration) -> (String, Duration) {
    let since = Instant::now();
    loop {
        if let Err(failure) = client.who_am_i().await {
            assert_eq!(failure.code, Some(Code::Unauthenticated), "{failure:?}");
            return (failure.message, since.elapsed());
        }
        assert!(since.elapsed() < patience, "still accepted after {patience:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until_accepted(client: &Client, patience: Duration) {
    let since = Instant::now();
    while let Err(failure) = client.who_am_i().await {
        assert!(since.elapsed() < patience, "still refused after {patience:?}: {failure:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn keys_come_and_go_without_a_restart() {
    let (sandbox, provider) = world(&["a"], "").await;
    let first = with(&sandbox, &provider.token("a", "a-1").await).await;
    first.query(SQL).await.unwrap();
    // A new key: at once, and of the first call that needs it.
    provider.act("a", "rotate", json!({ "kid": "a-2" })).await;
    let since = Instant::now();
    let second = with(&sandbox, &provider.token("a", "a-2").await).await;
    second.query(SQL).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    first.query(SQL).await.unwrap();
    // A withdrawn one.
    provider.act("a", "keep", json!({ "kids": ["a-2"] })).await;
    let (says, after) = until_refused(&first, Duration::from_secs(30)).await;
    assert!(says.contains("not valid"), "{says} after {after:?}");
    second.query(SQL).await.unwrap();
    // What is not a key set withdraws nothing; an empty one withdraws everything.
    let before = provider.fetches("a").await;
    provider.act("a", "publish", json!({ "text": "<html>sorry</html>" })).await;
    while provider.fetches("a").await == before {
        second.who_am_i().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    second.who_am_i().await.unwrap();
    provider.act("a", "publish", json!({ "text": "{\"keys\":[]}" })).await;
    until_refused(&second, Duration::from_secs(30)).await;
    assert!(sandbox.client().await.who_am_i().await.is_ok(), "the other issuer is not concerned");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_a_fetch_in_ten_seconds_and_nobody_else() {
    let (sandbox, provider) = world(&["a"], "").await;
    let good = with(&sandbox, &provider.token("a", "a-1").await).await;
    good.who_am_i().await.unwrap();
    let (before, since) = (provider.fetches("a").await, Instant::now());
    // The signatures need not be good: the kid is looked for first.
    let token = provider.token("a", "a-1").await;
    let rest = token.split_once('.').unwrap().1.to_owned();
    let mut floods = Vec::new();
    for flood in 0..4 {
        let (channel, rest) = (channel(&sandbox).await, rest.clone());
        floods.push(tokio::spawn(async move {
            for i in 0..500 {
                let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": format!("unknown-{flood}-{i}") });
                let token = format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()));
                let request = bearing(v1::WhoAmIRequest {}, &token);
                assert!(GatewayClient::new(channel.clone()).who_am_i(request).await.is_err());
            }
        }));
    }
    let mut answered = 0;
    while floods.iter().any(|flood| !flood.is_finished()) {
        let asked = Instant::now();
        good.who_am_i().await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        answered += 1;
    }
    for flood in floods {
        flood.await.unwrap();
    }
    let fetches = provider.fetches("a").await - before;
    // One of the background may fall just before the first of the flood.
    assert!(fetches <= 2 + since.elapsed().as_secs() / 10, "{fetches} fetches in {:?}", since.elapsed());
    assert!(fetches >= 1 && answered > 0);
}

#[tokio::test]
async fn while_an_issuer_is_down_the_last_good_keys_count_for_the_stated_time() {
    let (mut sandbox, provider) = world(&["a"], "keep_keys_seconds = 8").await;
    let token = provider.token("a", "a-1").await;
    with(&sandbox, &token).await.query(SQL).await.unwrap();
    provider.act("a", "down", json!({ "down": true })).await;
    let client = with(&sandbox, &token).await;
    client.query(SQL).await.unwrap();
    let (says, after) = until_refused(&client, Duration::from_secs(20)).await;
    assert!(says.contains("cannot be reached"), "{says}");
    assert!(after > Duration::from_secs(2), "the last good keys counted for {after:?}");
    // A gateway starts without it, serves the other issuer, and takes it up when it is back.
    sandbox.running.restart_gateway().await.unwrap();
    let client = with(&sandbox, &token).await;
    refused(client.query(SQL).await, Code::Unauthenticated, "try again when the identity provider answers");
    sandbox.client().await.query(SQL).await.unwrap();
    provider.act("a", "down", json!({ "down": false })).await;
    until_accepted(&client, Duration::from_secs(30)).await;
    client.query(SQL).await.unwrap();
}

#[tokio::test]
async fn two_issuers_same_name_is_two_users() {
    let (sandbox, provider) = world(&["a", "b"], "").await;
    let (one, other) = (provider.token("a", "a-1").await, provider.token("b", "b-1").await);
    let (one, other) = (with(&sandbox, &one).await, with(&sandbox, &other).await);
    let (at_a, at_b) = (one.who_am_i().await.unwrap(), other.who_am_i().await.unwrap());
    assert_eq!((&at_a.subject, &at_a.organisation, &at_a.roles), (&at_b.subject, &at_b.organisation, &at_b.roles));
    assert_ne!(at_a.issuer, at_b.issuer);
    let ticket = one.flight_info(SQL).await.unwrap().endpoint.remove(0).ticket.unwrap();
    refused(redeem(&sandbox, &provider.token("b", "b-1").await, ticket.clone()).await, Code::Denied, "ticket");
    redeem(&sandbox, &provider.token("a", "a-1").await, ticket).await.unwrap();
    let log = sandbox.log("gateway");
    let opened = |issuer: &str| log.iter().any(|e| e["event"] == "query.opened" && e["issuer"] == issuer && e["caller"] == "analyst-1");
    assert!(opened(provider.issuer("a")), "the log says whose analyst-1 it was");
    assert!(log.iter().any(|e| e["event"] == "caller.refused" && e["issuer"] == provider.issuer("b")), "and whose came for the ticket");
    assert!(log.iter().any(|e| e["event"] == "caller.introduced" && e["issuer"] == provider.issuer("b")));
}

async fn channel(sandbox: &Sandbox) -> Channel {
    let connection = sandbox.connection();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&connection.ca)).domain_name(&connection.server_name);
    Endpoint::from_shared(connection.gateway).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
}

fn bearing<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-concordat-purpose", "opportunity.measure".parse().unwrap());
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn redeem(sandbox: &Sandbox, token: &str, ticket: Ticket) -> Result<(), Failure> {
    let status = FlightServiceClient::new(channel(sandbox).await).do_get(bearing(ticket, token)).await.err();
    status.map_or(Ok(()), |status| {
        let refusal = from_status(&status).unwrap();
        Err(Failure { code: Some(refusal.code), ..Failure::new(refusal.message) })
    })
}

#[tokio::test]
async fn every_bad_token_of_a_discovered_issuer_is_refused() {
    let (sandbox, provider) = world(&["a", "b"], &format!("clients = ['{CLIENT}']")).await;
    let header = |change: &dyn Fn(&mut Value)| {
        let mut header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": "a-1" });
        change(&mut header);
        header
    };
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = provider.claims();
        change(&mut claims);
        claims
    };
    let remove = |name: &'static str| move |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(name));
    let set = |name: &'static str, value: Value| move |claims: &mut Value| claims[name] = value.clone();
    let (plain, good) = (header(&|_| {}), claims(&|_| {}));
    let other = provider.issuer("b").to_owned();
    let cases: Vec<(&str, &str, Value, Value, &str)> = vec![
        ("alg none", "a", header(&set("alg", json!("none"))), good.clone(), "none"),
        ("HS256 with the public key", "a", header(&set("alg", json!("HS256"))), good.clone(), "hmac-with-public-key"),
        ("the other issuer's key and kid", "b", header(&set("kid", json!("b-1"))), claims(&set("iss", json!(provider.issuer("a")))), "key"),
        ("the other issuer's key, our kid", "b", plain.clone(), claims(&set("iss", json!(provider.issuer("a")))), "key"),
        ("our key, the other's name", "a", plain.clone(), claims(&set("iss", json!(other))), "key"),
        ("a slash after the issuer", "a", plain.clone(), claims(&set("iss", json!(format!("{}/", provider.issuer("a"))))), "key"),
        ("a jku header", "a", header(&set("jku", json!("https://evil.example/jwks"))), good.clone(), "key"),
        ("a jwk header", "a", header(&set("jwk", json!({}))), good.clone(), "key"),
        ("a crit header", "a", header(&set("crit", json!(["x"]))), good.clone(), "key"),
        ("typ of an ID token", "a", header(&set("typ", json!("JWT"))), good.clone(), "key"),
        ("no typ", "a", header(&remove("typ")), good.clone(), "key"),
        ("an unknown kid", "a", header(&set("kid", json!("a-9"))), good.clone(), "key"),
        ("an ID token's audience", "a", plain.clone(), claims(&set("aud", json!(CLIENT))), "key"),
        ("an ID token's nonce", "a", plain.clone(), claims(&set("nonce", json!("n"))), "key"),
        ("bound to a key", "a", plain.clone(), claims(&set("cnf", json!({ "jkt": "x" }))), "key"),
        ("no iat", "a", plain.clone(), claims(&remove("iat")), "key"),
        ("no exp", "a", plain.clone(), claims(&remove("exp")), "key"),
        ("another client", "a", plain.clone(), claims(&set("client_id", json!("other"))), "key"),
        ("no client", "a", plain.clone(), claims(&remove("client_id")), "key"),
        ("an organisation of somebody else", "a", plain.clone(), claims(&set("organisation", json!("dwp"))), "key"),
        ("no organisation", "a", plain.clone(), claims(&remove("organisation")), "key"),
        ("roles in another form", "a", plain.clone(), claims(&set("roles", json!("analyst"))), "key"),
        ("a purpose that is none", "a", plain.clone(), claims(&set("purpose", json!(["opportunity.measure"]))), "key"),
    ];
    for (what, by, header, claims, how) in cases {
        let token = provider.signed(by, header, claims, how).await;
        let outcome = with(&sandbox, &token).await.who_am_i().await;
        let Err(failure) = outcome else { panic!("{what}: accepted") };
        assert_eq!(failure.code, Some(Code::Unauthenticated), "{what}: {failure:?}");
        assert!(
            failure.message.contains('(') && !format!("{failure:?}").contains(&token),
            "a refusal says what to do: {what}: {failure:?}"
        );
    }
    let token = provider.signed("a", plain, good, "key").await;
    with(&sandbox, &token).await.query(SQL).await.unwrap();
}

#[tokio::test]
async fn who_i_am_is_what_the_gateway_believes_and_no_more() {
    let sandbox = Sandbox::start(300).await;
    let caller = sandbox.client_with(|c| c.purpose = None).await.who_am_i().await.unwrap();
    assert_eq!(
        (caller.subject.as_str(), caller.organisation.as_str(), caller.roles),
        ("analyst-1", "mission-unit", vec!["analyst".to_owned()])
    );
    assert_eq!(caller.bound_purpose, "");
    let purposes: Vec<&str> = caller.purposes.iter().map(|p| p.id.as_str()).collect();
    assert!(purposes.contains(&"opportunity.measure") && purposes.contains(&"health.prevention"), "{purposes:?}");
    assert!(!purposes.contains(&"opportunity.pilot") && !purposes.contains(&"opportunity"), "retired, wider: {purposes:?}");
    assert!(caller.purposes.iter().all(|p| !p.missions.is_empty() && !p.title.is_empty()));
    for purpose in &purposes {
        sandbox.client_with(|c| c.purpose = Some((*purpose).to_owned())).await.catalogue().await.unwrap();
    }
    let bound = sandbox.token_with(|c| c["purpose"] = json!("health.prevention"));
    let caller = with(&sandbox, &bound).await.who_am_i().await.unwrap();
    assert_eq!((caller.bound_purpose.as_str(), caller.purposes.len()), ("health.prevention", 1));
    let stranger = sandbox.token_with(|c| c["organisation"] = json!("newspaper"));
    assert!(with(&sandbox, &stranger).await.who_am_i().await.unwrap().purposes.is_empty());
    let introduced = sandbox.log("gateway").into_iter().filter(|e| e["event"] == "caller.introduced").count();
    assert_eq!(introduced, 3, "each is on record");
}
