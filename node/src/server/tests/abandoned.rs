//! What ends without a receipt, and what is refused again and again: each leaves what it must in the log, and no more.

use std::collections::BTreeSet;

use concordat_proto::v1::releases_client::ReleasesClient;
use serde_json::{Value, json};

use super::suspending::{act, crowd_of, events, logged, under_way};
use super::*;
use crate::suspension::book::Act;

fn partitions(entries: &[Value]) -> BTreeSet<u64> {
    entries.iter().map(|entry| entry["partition"].as_u64().unwrap()).collect()
}

fn causes(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["cause"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_whose_reader_leaves_are_closed_with_the_rows_that_went_out() {
    let running = Running::with(|world| crowd_of(world, 1_200_000)).await;
    let mut streams = under_way(&running).await;
    // The dictionary goes before the rows of its batch, which are on their way by then.
    assert!(!streams[0].message().await.unwrap().unwrap().data_header.is_empty());
    drop(streams);
    let abandoned = logged(&running.world, "release.abandoned", 4).await;
    assert_eq!((causes(&abandoned), partitions(&abandoned)), (vec!["dropped"; 4], (0..4).collect()));
    let [intended] = events(&running.world, "release.intended").try_into().unwrap();
    for entry in &abandoned {
        for field in ["query_id", "order", "dataset", "agreement", "agreement_digest", "organisation", "consent_version"] {
            assert!(!entry[field].is_null(), "{field}: {entry}");
            assert_eq!(entry[field], intended[field], "{field}");
        }
        assert_eq!(entry["intended"], intended["entry"]);
    }
    let rows = |partition: u64| abandoned.iter().find(|entry| entry["partition"] == partition).unwrap()["rows"].as_u64().unwrap();
    // Of 300,000: a batch at the connection, one on its way there, one that was just made.
    let batches = 3 * 65_536;
    assert!((1..=batches).contains(&rows(0)), "{abandoned:?}");
    assert!((0..4).all(|partition| rows(partition) <= batches), "{abandoned:?}");
    assert_eq!(events(&running.world, "release.completed").len(), 0);
    assert!(intended["address"] == "127.0.0.1", "{intended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_read_to_its_end_is_completed_and_not_abandoned() {
    let running = Running::new().await;
    let mut client = FlightServiceClient::new(running.gateway().await);
    let all = tickets(&client.get_flight_info(running.order()).await.unwrap().into_inner());
    for ticket in &all {
        messages(&mut client, ticket.clone()).await.unwrap();
    }
    running.node.drain().await;
    assert_eq!((events(&running.world, "release.completed").len(), events(&running.world, "release.abandoned").len()), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_is_closed_with_its_cause() {
    let running = Running::new().await;
    let mut client = FlightServiceClient::new(running.gateway().await);
    running.world.replace("data/attainment.csv", "1.5", "one and a half");
    let all = tickets(&client.get_flight_info(running.order()).await.unwrap().into_inner());
    for ticket in all {
        messages(&mut client, ticket).await.unwrap_err();
    }
    let abandoned = logged(&running.world, "release.abandoned", 4).await;
    assert_eq!((causes(&abandoned), partitions(&abandoned)), (vec!["failed"; 4], (0..4).collect()));
    for entry in &abandoned {
        assert_eq!((&entry["rows"], &entry["code"]), (&json!(0), &json!("node_unavailable")), "{entry}");
        assert!(!entry.to_string().contains("half"), "{entry}");
    }
    running.node.drain().await;
    assert_eq!(events(&running.world, "release.abandoned").len(), 4, "once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_came_for_is_closed_when_it_is_given_back_cut_or_the_node_stops() {
    let running = Running::new().await;
    let world = &running.world;
    let mut client = FlightServiceClient::new(running.gateway().await);
    client.get_flight_info(running.order()).await.unwrap();
    let [intended] = events(world, "release.intended").try_into().unwrap();
    let order = intended["order"].as_str().unwrap().to_owned();
    ReleasesClient::new(running.gateway().await).abandon(v1::AbandonRequest { order: order.clone() }).await.unwrap();
    // The answer came after the entry.
    let [given_back] = events(world, "release.abandoned").try_into().unwrap();
    let told = (&given_back["cause"], &given_back["order"], &given_back["partitions"], &given_back["rows"]);
    assert_eq!(told, (&json!("given_back"), &json!(order), &json!(4), &json!(0)));

    // One of four is read, the others are cut.
    let all = tickets(&client.get_flight_info(running.order()).await.unwrap().into_inner());
    messages(&mut client, all[0].clone()).await.unwrap();
    act(world, Act::Suspended, Some("opportunity-2026"));
    let cut = logged(world, "release.abandoned", 2).await.remove(1);
    assert_eq!((&cut["cause"], &cut["partitions"]), (&json!("cut"), &json!(3)));
    act(world, Act::Resumed, Some("opportunity-2026"));

    client.get_flight_info(running.order()).await.unwrap();
    running.node.drain().await;
    let stopped = events(world, "release.abandoned").remove(2);
    assert_eq!((&stopped["cause"], &stopped["partitions"]), (&json!("stopped"), &json!(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_calls_again_and_again_costs_two_entries() {
    const CALLS: u64 = 60;
    let running = Running::new().await;
    let world = &running.world;
    let channel = running.connect(Some(&world.stranger)).await.unwrap();
    let (mut node, mut flight) = (NodeClient::new(channel.clone()), FlightServiceClient::new(channel));
    for _ in 0..CALLS / 2 {
        let described = node.describe(v1::DescribeRequest { contract_version: 1 }).await;
        assert_eq!(code(&described.unwrap_err()), Some(Code::Unauthenticated));
        assert_eq!(code(&flight.get_flight_info(running.order()).await.unwrap_err()), Some(Code::Unauthenticated));
    }
    // The gateway's refusals are told one by one meanwhile, each with its query.
    let mut gateway = FlightServiceClient::new(running.gateway().await);
    let request = v1::ReleaseRequest { dataset: "nothing".into(), ..world.request(Utc::now()) };
    for _ in 0..3 {
        let order = FlightDescriptor::new_cmd(world.order(&request, Utc::now()).encode_to_vec());
        assert_eq!(code(&gateway.get_flight_info(order).await.unwrap_err()), Some(Code::Denied));
    }
    running.node.drain().await;
    let stranger = world.stranger.fingerprint.as_str();
    let of = |event: &str, certificate: &str| {
        events(world, event).into_iter().filter(|entry| entry["certificate"] == certificate).collect::<Vec<_>>()
    };
    let [first] = of("describe.refused", stranger).try_into().unwrap();
    assert_eq!((&first["code"], &first["address"]), (&json!("unauthenticated"), &json!("127.0.0.1")));
    assert!(of("order.refused", stranger).is_empty(), "counted");
    let [counted] = of("caller.refused.aggregate", stranger).try_into().unwrap();
    assert_eq!(counted["count"], CALLS - 1);
    let of_event = |event: &str| counted["reasons"][event].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!((of_event("describe.refused"), of_event("order.refused")), (CALLS / 2 - 1, CALLS / 2));
    let told = of("order.refused", world.gateway.fingerprint.as_str());
    assert_eq!(told.iter().filter(|entry| entry["query_id"] == "q-1").count(), 3, "{told:?}");
}
