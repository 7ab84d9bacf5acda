//! A node releases nothing, and neither makes nor takes a linkage key, under an agreement that its department has not signed.

use concordat_policy::agreement::Fingerprint;

use super::*;

fn events(world: &World, event: &str) -> Vec<serde_json::Value> {
    let text = world.log();
    let entries = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    entries.filter(|entry| entry["event"] == event).collect()
}

/// The node's refusal of an order and of a linkage key, which must be of one cause and in the log.
async fn refusal(prepare: impl FnOnce(&World)) -> String {
    let running = Running::with(prepare).await;
    let request = running.world.request(Utc::now());
    let mut flight = FlightServiceClient::new(running.gateway().await);
    let order = flight.get_flight_info(running.order()).await.unwrap_err();
    let seal = v1::SealRequest {
        domain: request.domain,
        agreement: request.agreement,
        agreement_digest: request.agreement_digest,
        recipient: "dwp".into(),
        recipient_key: vec![7; 32],
    };
    let sealed = LinkageKeysClient::new(running.gateway().await).seal(seal).await.unwrap_err();
    for status in [&order, &sealed] {
        let refusal = from_status(status).expect("a refusal of our own");
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some("dfe")), "{status:?}");
    }
    assert_eq!(order.message(), sealed.message());
    for event in ["order.refused", "linkage.refused"] {
        let [entry] = events(&running.world, event).try_into().unwrap();
        assert_eq!(entry["code"], "denied");
        assert!(order.message().starts_with(entry["reason"].as_str().unwrap()), "{entry}");
    }
    assert!(events(&running.world, "release.intended").is_empty());
    let described = NodeClient::new(running.gateway().await).describe(v1::DescribeRequest { contract_version: 2 }).await.unwrap();
    assert!(!described.into_inner().agreements[0].in_force, "the gateway's check tells it");
    order.message().to_owned()
}

fn sig(world: &World) -> String {
    std::fs::read_to_string(world.path("agreements/opportunity.toml.dfe.sig")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agreement_that_is_not_signed_is_held_and_refused_with_what_to_do() {
    let missing = refusal(World::unsign).await;
    assert!(missing.contains("not bound by the agreement 'opportunity-2026': its own signature is missing"), "{missing}");
    assert!(missing.contains("`concordat-node agreement sign opportunity-2026`"), "{missing}");
    let damaged = refusal(|world| world.write("agreements/opportunity.toml.dfe.sig", &sig(world).replace('.', "!"))).await;
    assert!(damaged.contains("its own signature is not of the form"), "{damaged}");
    let forged = refusal(|world| {
        let mut bytes = sig(world).into_bytes();
        let last = bytes.len() - 10;
        bytes[last] = if bytes[last] == b'A' { b'B' } else { b'A' };
        world.write("agreements/opportunity.toml.dfe.sig", &String::from_utf8(bytes).unwrap());
    });
    assert!(forged.await.contains("its own signature does not verify"));
    let by_another = refusal(|world| {
        let content = fixture::signature_of(&world.agreement, "dfe", &fixture::signing_key().0);
        world.write("agreements/opportunity.toml.dfe.sig", &content);
    });
    assert!(by_another.await.contains("is made with another key than the agreement names"));
    let revoked = refusal(|world| {
        let print = Fingerprint::of(world.signing.public_spki());
        let list = format!("[[key]]\nfingerprint = \"{print}\"\nreason = \"stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n");
        world.write("agreements/revoked.toml", &list);
    });
    assert!(revoked.await.contains("is made with a revoked key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_needs_a_new_signature() {
    // The gateway's orders name the text that was signed; so does this node's own signature.
    let change = |world: &World| world.replace("agreements/opportunity.toml", "title = \"Opportunity\"", "title = \"0pportunity\"");
    let running = Running::with(change).await;
    let node = &running.node;
    let agreements = node.agreements.now();
    let held = agreements.iter().next().unwrap();
    let told = agreements.find(held.id.as_str(), &held.digest, Utc::now()).unwrap_err();
    assert!(told.message.contains("its own signature signs another text"), "{told}");
    let mut flight = FlightServiceClient::new(running.gateway().await);
    let other = flight.get_flight_info(running.order()).await.unwrap_err();
    assert!(other.message().contains("is another text than the one in the request"), "{other:?}");
    let signed = Running::with(|world| {
        change(world);
        world.resign();
    });
    let signed = signed.await;
    let agreements = signed.node.agreements.now();
    let held = agreements.iter().next().unwrap();
    agreements.find(held.id.as_str(), &held.digest, Utc::now()).unwrap();
}
