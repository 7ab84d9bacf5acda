//! Peers that want to be a burden. For each: the gateway's memory and its log grow by a stated bound, and a well-behaved
//! client is answered meanwhile.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use concordat::client::Client;
use concordat_policy::Code;
use concordat_proto::status::from_status;
use concordat_proto::v1::CatalogueRequest;
use concordat_proto::v1::gateway_client::GatewayClient;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::raw::{CONTINUATION, Cost, DATA, END_HEADERS, HEADERS, PING, RESET, Raw, SETTINGS, WINDOW_UPDATE, frame, headers};
use crate::sandbox::{Sandbox, refused};
use crate::witness::all_seen;

const SQL: &str = "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region";
const CATALOGUE: &str = "/concordat.v1.Gateway/Catalogue";
/// How long a well-behaved client may wait while somebody misbehaves, on a machine that is shared with the suite.
const SENSIBLE: Duration = Duration::from_secs(15);

/// Asserts that a client that was connected before is answered, and one that comes anew.
async fn others_are_served(sandbox: &Sandbox, known: &Client) {
    let start = Instant::now();
    known.query(SQL).await.unwrap();
    sandbox.client().await.catalogue().await.unwrap();
    assert!(start.elapsed() < SENSIBLE, "a well-behaved client waited {:?}", start.elapsed());
}

#[tokio::test]
async fn floods_of_frames_are_cut_off() {
    let sandbox = Sandbox::start(500).await;
    let known = sandbox.client().await;
    known.query(SQL).await.unwrap();
    let block = headers(CATALOGUE, &[]);

    // Rapid reset: streams opened and reset at once.
    let before = Cost::of(&sandbox);
    let (mut sent, mut connections) = (0, 0);
    while sent < 20_000 {
        let mut raw = Raw::connect(&sandbox, true).await.unwrap();
        connections += 1;
        for stream in (1..40_001).step_by(2) {
            let mut bytes = frame(HEADERS, END_HEADERS, stream, &block);
            bytes.extend(frame(RESET, 0, stream, &[0, 0, 0, 8]));
            if sent == 20_000 || raw.send(&bytes).await.is_err() {
                break;
            }
            sent += 1;
        }
    }
    eprintln!("rapid reset: {sent} streams, {connections} connections");
    others_are_served(&sandbox, &known).await;
    before.grew_by_at_most(&sandbox, 64, 250);

    // A header block that never ends.
    let before = Cost::of(&sandbox);
    let mut raw = Raw::connect(&sandbox, true).await.unwrap();
    raw.send(&frame(HEADERS, 0, 1, &block)).await.unwrap();
    let piece = headers("/x", &[("x-filler", &"y".repeat(16_000))]);
    let mut pieces = 0;
    while pieces < 20_000 && raw.send(&frame(CONTINUATION, 0, 1, &piece[..16_000])).await.is_ok() {
        pieces += 1;
    }
    assert!(pieces < 20_000, "320 MB of headers were taken");
    others_are_served(&sandbox, &known).await;
    before.grew_by_at_most(&sandbox, 32, 10);

    // Frames that want an answer, from a peer that reads none.
    for (kind, payload) in [(SETTINGS, vec![]), (PING, vec![7; 8]), (SETTINGS, vec![0, 4, 0, 0, 255, 255])] {
        let before = Cost::of(&sandbox);
        let mut raw = Raw::connect(&sandbox, false).await.unwrap();
        let many = frame(kind, 0, 0, &payload).repeat(1_000);
        let mut sent = 0;
        // A gateway that answers no more takes no more either: then sending stalls, which is as good as an end.
        while sent < 100 && matches!(tokio::time::timeout(Duration::from_secs(2), raw.send(&many)).await, Ok(Ok(()))) {
            sent += 1;
        }
        others_are_served(&sandbox, &known).await;
        before.grew_by_at_most(&sandbox, 32, 10);
    }

    // Windows: beyond what can be, and changed over and over while streams are open.
    let before = Cost::of(&sandbox);
    let mut raw = Raw::connect(&sandbox, true).await.unwrap();
    for stream in (1..200).step_by(2) {
        let _ = raw.send(&frame(HEADERS, END_HEADERS, stream, &block)).await;
    }
    for size in (0..20_000).map(|i| if i % 2 == 0 { 0u32 } else { 0x7fff_ffff }) {
        let setting = [&[0, 4][..], &size.to_be_bytes()].concat();
        if raw.send(&frame(SETTINGS, 0, 0, &setting)).await.is_err() {
            break;
        }
    }
    let mut raw = Raw::connect(&sandbox, true).await.unwrap();
    while raw.send(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes())).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(raw.ended.load(Ordering::SeqCst) || raw.frames.load(Ordering::SeqCst) < 100);
    others_are_served(&sandbox, &known).await;
    before.grew_by_at_most(&sandbox, 32, 250);
}

#[tokio::test]
async fn half_requests_and_silent_connections_cost_little() {
    let sandbox = Sandbox::start(500).await;
    let known = sandbox.client().await;
    known.query(SQL).await.unwrap();
    all_seen(&sandbox).await;
    let before = Cost::of(&sandbox);
    let address = sandbox.running.gateway().trim_start_matches("https://").to_owned();
    let mut silent = Vec::new();
    let mut half = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(&address).await.unwrap());
        let mut raw = Raw::connect(&sandbox, true).await.unwrap();
        // As many calls as a connection may have, none of them ever complete.
        let token = format!("Bearer {}", sandbox.token());
        let block = headers(CATALOGUE, &[("authorization", &token), ("x-concordat-purpose", "opportunity.measure")]);
        for stream in (1..200).step_by(2) {
            raw.send(&frame(HEADERS, END_HEADERS, stream, &block)).await.unwrap();
            raw.send(&frame(DATA, 0, stream, &[0, 0])).await.unwrap();
        }
        half.push(raw);
    }
    others_are_served(&sandbox, &known).await;
    // 100 connections of 100 half calls: 2 MiB each at the most.
    before.grew_by_at_most(&sandbox, 200, 20);
}

#[tokio::test]
async fn oversized_headers_and_tokens_are_refused_unseen() {
    let sandbox = Sandbox::start(300).await;
    let known = sandbox.client().await;
    known.query(SQL).await.unwrap();
    all_seen(&sandbox).await;
    let before = Cost::of(&sandbox);
    for size in [17 << 10, 40 << 10, 1 << 20] {
        let token = "A".repeat(size);
        let failure = sandbox.client_with(|c| c.token = Some(token.clone())).await.catalogue().await.unwrap_err();
        assert!(!format!("{failure:?}").contains(&token[..100]), "the token comes back");
        if size < 20 << 10 {
            assert_eq!(failure.code, Some(Code::Unauthenticated), "{failure:?}");
        }
    }
    // Many headers, each of them small.
    let names: Vec<String> = (0..4_000).map(|i| format!("x-h{i}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "v")).collect();
    let block = headers(CATALOGUE, &many);
    let mut raw = Raw::connect(&sandbox, true).await.unwrap();
    raw.send(&frame(HEADERS, 0, 1, &block[..16_000])).await.unwrap();
    let last = block.len() - 16_000;
    for (index, piece) in block[16_000..].chunks(16_000).enumerate() {
        let flags = if (index + 1) * 16_000 >= last { END_HEADERS } else { 0 };
        let _ = raw.send(&frame(CONTINUATION, flags, 1, piece)).await;
    }
    others_are_served(&sandbox, &known).await;
    before.grew_by_at_most(&sandbox, 32, 20);
}

#[tokio::test]
async fn twenty_thousand_calls_without_a_good_token_are_counted_exactly_and_cost_little() {
    const CALLS: usize = 20_000;
    let sandbox = Sandbox::start(500).await;
    let known = sandbox.client().await;
    known.query(SQL).await.unwrap();
    let before = Cost::of(&sandbox);
    let (lines, bad) = (before.log_lines, sandbox.token_with(|c| c["aud"] = json!("another")));
    let channel = channel(&sandbox, None).await;
    let flood = (0..50).map(|_| {
        let (mut client, bad) = (GatewayClient::new(channel.clone()), format!("Bearer {bad}"));
        tokio::spawn(async move {
            for _ in 0..CALLS / 50 {
                let mut request = tonic::Request::new(CatalogueRequest {});
                request.metadata_mut().insert("authorization", bad.parse().unwrap());
                let status = client.catalogue(request).await.unwrap_err();
                let code = from_status(&status).unwrap().code;
                assert!(matches!(code, Code::Unauthenticated | Code::LimitExceeded), "{status:?}");
            }
        })
    });
    let flood: Vec<_> = flood.collect();
    let mut answered = 0;
    while !flood.iter().all(tokio::task::JoinHandle::is_finished) {
        let start = Instant::now();
        known.query(SQL).await.unwrap();
        assert!(start.elapsed() < SENSIBLE, "waited {:?}", start.elapsed());
        answered += 1;
    }
    for calls in flood {
        calls.await.unwrap();
    }
    assert!(answered > 0);
    // 100 single entries in each minute that the flood lasts, and one that counts the rest; four for each query.
    before.grew_by_at_most(&sandbox, 64, 500 + 4 * answered);
    // Draining records what was only counted.
    sandbox.drained().await;
    let recorded = || {
        let log = sandbox.log("gateway");
        let of = |event: &'static str| log[lines..].iter().filter(move |e| e["event"] == event).collect::<Vec<&Value>>();
        let counted: u64 = of("caller.refused.aggregate").iter().map(|e| e["count"].as_u64().unwrap()).sum();
        (of("caller.refused").len(), usize::try_from(counted).unwrap(), of("caller.refused.aggregate").len())
    };
    let (single, counted, entries) = recorded();
    assert_eq!(single + counted, CALLS, "exactly");
    assert!(entries <= 10, "{entries} entries");
    let log = sandbox.log("gateway");
    let entry = log.iter().find(|e| e["event"] == "caller.refused.aggregate").unwrap();
    assert_eq!(entry["source"], "127.0.0.1");
    assert!(entry["first"].as_str() <= entry["last"].as_str() && entry["reasons"].is_object(), "{entry}");
}

/// A connection of its own, with a window of so many bytes.
async fn channel(sandbox: &Sandbox, window: Option<u32>) -> Channel {
    let connection = sandbox.connection();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&connection.ca)).domain_name(&connection.server_name);
    let endpoint = Endpoint::from_shared(connection.gateway).unwrap().tls_config(tls).unwrap();
    endpoint.initial_stream_window_size(window).initial_connection_window_size(window).connect().await.unwrap()
}

/// An answer of some 32 MiB: a million rows of four numbers.
fn large() -> String {
    let values = (0..32).map(|i| format!("({i})")).collect::<Vec<_>>().join(",");
    let tables: Vec<String> = (0..4).map(|t| format!("(VALUES {values}) AS t{t}(x{t})")).collect();
    format!("SELECT x0, x1, x2, x3 FROM {}", tables.join(" CROSS JOIN "))
}

/// Begins to fetch a large answer, and never reads on; `None` where the limits of one caller are reached.
async fn unread(sandbox: &Sandbox) -> Option<(Channel, tonic::Streaming<arrow_flight::FlightData>)> {
    let limited = |code| assert_eq!(code, Some(Code::LimitExceeded));
    let info = sandbox.client().await.flight_info(&large()).await.map_err(|f| limited(f.code)).ok()?;
    let channel = channel(sandbox, Some(65_535)).await;
    let mut request = tonic::Request::new(info.endpoint[0].ticket.clone().unwrap());
    request.metadata_mut().insert("authorization", format!("Bearer {}", sandbox.token()).parse().unwrap());
    request.metadata_mut().insert("x-concordat-purpose", "opportunity.measure".parse().unwrap());
    let answer = FlightServiceClient::new(channel.clone()).do_get(request).await;
    Some((channel, answer.map_err(|s| limited(from_status(&s).map(|r| r.code))).ok()?.into_inner()))
}

/// Does so until so many are held.
async fn unread_until(sandbox: &Sandbox, count: usize) -> Vec<(Channel, tonic::Streaming<arrow_flight::FlightData>)> {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut held = Vec::new();
    while held.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} answers were begun", held.len());
        held.extend(unread(sandbox).await);
    }
    held
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded_and_let_go() {
    let limits = |unread| {
        move |f: &mut concordat::federation::describe::Federation| {
            f.limits.unread_seconds = Some(unread);
            f.limits.answer_mib = Some(64);
            f.limits.wait_seconds = Some(0);
        }
    };
    // The connection goes: so does the answer.
    let sandbox = Sandbox::with(300, limits(3_600), |_| {}).await;
    let known = sandbox.client_with(|c| c.token = Some(sandbox.token_with(|c| c["sub"] = json!("somebody-else")))).await;
    let slow = sandbox.client().await;
    let before = Cost::of(&sandbox);
    for _ in 0..3 {
        // Places of the round before become free as the gateway notices that its peers have gone.
        let _held = unread_until(&sandbox, 4).await;
        let failure = refused(slow.query(SQL).await, Code::LimitExceeded, "4 at a time");
        assert!(failure.message.contains("gateway"), "{failure:?}");
        others_are_served(&sandbox, &known).await;
    }
    // Four answers of 32 MiB, twice while they are made.
    before.grew_by_at_most(&sandbox, 450, 1_000);
    drop(sandbox);
    // The connection stays, but nothing is read: the answer lapses.
    let sandbox = Sandbox::with(300, limits(1), |_| {}).await;
    let mut held = unread_until(&sandbox, 12).await;
    let (_, mut stream) = held.remove(0);
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a part of an answer looks whole"),
            Err(status) => break status,
        }
    };
    assert_eq!(from_status(&ended).unwrap().code, Code::LimitExceeded);
}
