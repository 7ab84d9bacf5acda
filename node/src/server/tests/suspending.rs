//! The kill switch at a node that serves: what it refuses, cuts and logs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;
use crate::suspension::book::{Act, Outcome, Wanted, change};
use crate::suspension::{Folders, Person};

pub(super) fn act(world: &World, act: Act, agreement: Option<&str>) -> u64 {
    let (agreement, held) = (agreement.map(name), BTreeSet::new());
    let wanted = Wanted { act, agreement: agreement.as_ref(), by: &Person::here().unwrap(), reason: Some("why"), held: Some(&held) };
    match change(&Folders::new(&world.path("state"), &world.path("log")), &wanted).unwrap().0 {
        Outcome::Changed(number) => number,
        Outcome::Unchanged => panic!("nothing changed"),
    }
}

fn log(world: &World) -> Vec<serde_json::Value> {
    let text = world.log();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(super) fn events(world: &World, event: &str) -> Vec<serde_json::Value> {
    log(world).into_iter().filter(|entry| entry["event"] == event).collect()
}

pub(super) async fn logged(world: &World, event: &str, count: usize) -> Vec<serde_json::Value> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = events(world, event);
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "{count} × {event} is not in the log: {:?}", log(world));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[track_caller]
fn suspended(status: &tonic::Status) {
    let refusal = from_status(status).expect("a refusal of our own");
    assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some("dfe")), "{status:?}");
    assert!(status.message().contains("has suspended the agreement 'opportunity-2026'"), "{status:?}");
}

fn seal(running: &Running) -> v1::SealRequest {
    let request = running.world.request(Utc::now());
    v1::SealRequest {
        domain: request.domain,
        agreement: request.agreement,
        agreement_digest: request.agreement_digest,
        recipient: "dwp".into(),
        recipient_key: vec![7; 32],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_agreement_is_refused_at_every_door_and_a_resumed_one_is_not() {
    for agreement in [Some("opportunity-2026"), None] {
        let running = Running::new().await;
        let world = &running.world;
        let mut flight = FlightServiceClient::new(running.gateway().await);
        let mut keys = LinkageKeysClient::new(running.gateway().await);
        let mut control = NodeClient::new(running.gateway().await);
        let earlier = tickets(&flight.get_flight_info(running.order()).await.unwrap().into_inner());
        let other = keys.seal(seal(&running)).await.unwrap_err();
        assert!(!other.message().contains("suspended"), "refused for its key: {other:?}");

        act(world, Act::Suspended, agreement);
        suspended(&flight.get_flight_info(running.order()).await.unwrap_err());
        suspended(&messages(&mut flight, earlier[0].clone()).await.unwrap_err());
        suspended(&keys.seal(seal(&running)).await.unwrap_err());
        let sealed = v1::SealedKey {
            domain: seal(&running).domain,
            agreement: "opportunity-2026".into(),
            agreement_digest: world.agreement.digest.clone(),
            ..v1::SealedKey::default()
        };
        suspended(&keys.accept(sealed).await.unwrap_err());
        let describe = v1::DescribeRequest { contract_version: 1 };
        assert!(!control.describe(describe).await.unwrap().into_inner().agreements[0].in_force);

        let entry = logged(world, "agreement.suspended", 1).await.remove(0);
        assert_eq!((entry["everything"].as_bool(), entry["reason_given"].as_bool()), (Some(agreement.is_none()), Some(true)));
        assert_eq!((entry["agreement"].as_str(), entry["uid"].is_u64()), (agreement, true));
        assert_eq!(
            (events(world, "order.refused").len(), events(world, "ticket.refused").len(), events(world, "linkage.refused").len()),
            (1, 1, 3)
        );

        act(world, Act::Resumed, agreement);
        let fresh = tickets(&flight.get_flight_info(running.order()).await.unwrap().into_inner());
        assert!(messages(&mut flight, fresh[0].clone()).await.unwrap().last().unwrap().data_header.is_empty(), "a receipt");
        assert!(control.describe(describe).await.unwrap().into_inner().agreements[0].in_force);
        logged(world, "agreement.resumed", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_refuses_everything_and_is_in_the_log_once_until_it_is_mended() {
    let running = Running::new().await;
    let world = &running.world;
    let mut flight = FlightServiceClient::new(running.gateway().await);
    act(world, Act::Suspended, Some("another"));
    flight.get_flight_info(running.order()).await.unwrap();
    let good = std::fs::read(world.path("state/suspensions")).unwrap();
    std::fs::write(world.path("state/suspensions"), "{}").unwrap();
    let status = flight.get_flight_info(running.order()).await.unwrap_err();
    assert_eq!(code(&status), Some(Code::NodeRefused), "{status:?}");
    assert!(logged(world, "suspensions.unreliable", 1).await[0]["cause"].as_str().unwrap().contains("is damaged"));
    let reasons = Readiness(Arc::clone(&running.node)).reasons().await;
    assert_eq!(reasons.iter().map(|reason| reason.what).collect::<Vec<_>>(), ["suspensions"]);
    std::fs::write(world.path("state/suspensions"), good).unwrap();
    logged(world, "suspensions.reliable", 1).await;
    assert_eq!(events(world, "suspensions.unreliable").len(), 1);
    flight.get_flight_info(running.order()).await.unwrap();
}

/// Many people, all of whom agreed.
/// So many that each of four partitions has more than one batch: what follows the first is not made until somebody takes it.
pub(super) fn crowd(world: &World) {
    crowd_of(world, 300_000);
}

pub(super) fn crowd_of(world: &World, people: usize) {
    let people = || (0..people).map(|n| format!("A{}{:06}A", ["A", "B"][n / 1_000_000], n % 1_000_000));
    let mut data = String::from("nino,REGION,score,cohort,fsm,born,secret\n");
    let mut consent = String::from("identifier,purpose,event\n");
    for nino in people() {
        data.push_str(&format!("{nino},London,1.5,2024,true,2008-01-01,x\n"));
        consent.push_str(&format!("{nino},opportunity,given\n"));
    }
    world.write("data/attainment.csv", &data);
    world.write("consent.csv", &consent);
}

/// A release's streams, of each of which only the schema was read: its rows are still scanned.
pub(super) async fn under_way(running: &Running) -> Vec<tonic::Streaming<FlightData>> {
    // A client that takes little at a time, so that the stream is under way for as long as it wants.
    let channel = running.endpoint(Some(&running.world.gateway)).initial_stream_window_size(1 << 16).connect().await.unwrap();
    let mut flight = FlightServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let all = tickets(&flight.get_flight_info(running.order()).await.unwrap().into_inner());
    let mut streams = Vec::new();
    for ticket in all {
        let mut stream = flight.do_get(ticket).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some(), "the schema came");
        streams.push(stream);
    }
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_stream_is_cut_within_two_seconds_without_a_receipt() {
    let running = Running::with(crowd).await;
    let streams = under_way(&running).await;
    let number = act(&running.world, Act::Suspended, Some("opportunity-2026"));
    let since = Instant::now();
    for mut stream in streams {
        let status = loop {
            match stream.message().await {
                Ok(Some(message)) => assert!(!message.data_header.is_empty(), "a receipt, after {:?}", since.elapsed()),
                Ok(None) => panic!("the stream ended well"),
                Err(status) => break status,
            }
        };
        suspended(&status);
    }
    println!("4 streams were cut after {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(logged(&running.world, "agreement.suspended", 1).await[0]["change"], number);
    assert_eq!(logged(&running.world, "release.abandoned", 4).await.len(), 4);
    assert_eq!(events(&running.world, "release.completed").len(), 0);
    while std::fs::read_dir(running.world.path("spill")).unwrap().count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_no_node_ran_is_in_the_log_of_the_next() {
    let world = World::new();
    act(&world, Act::Suspended, None);
    act(&world, Act::Resumed, None);
    act(&world, Act::Suspended, Some("opportunity-2026"));
    let node = Node::open(Config::load(&world.path("node.toml")).unwrap()).await.unwrap();
    let changes: Vec<String> = log(&world)
        .iter()
        .filter(|e| e["event"].as_str().unwrap().starts_with("agreement."))
        .map(|e| format!("{} {}", e["change"], e["event"].as_str().unwrap()))
        .collect();
    assert_eq!(changes, ["1 agreement.suspended", "2 agreement.resumed", "3 agreement.suspended"]);
    let now = Utc::now();
    let refusal = node.order(&world.order(&world.request(now), now), Some(world.gateway.fingerprint.clone()), now).await.unwrap_err();
    assert!(refusal.message.contains("has suspended"), "{refusal:?}");
    node.take_notice().await.unwrap();
    assert_eq!(events(&world, "agreement.suspended").len(), 2, "once each");
}
