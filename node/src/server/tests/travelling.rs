//! Agreements that travel: what a node offers, and how much it holds.

use concordat_policy::Agreement;
use concordat_policy::agreement::Fingerprint;
use concordat_proto::signature;
use concordat_proto::signature::offer::{MAX_HELD_IN_ALL, Offer};
use concordat_proto::v1::agreements_client::AgreementsClient;

use super::suspending::{act, events};
use super::*;
use crate::config::outbox;
use crate::fixture::{agreement_text, signing_key};
use crate::private;
use crate::suspension::book::Act;

async fn offered(running: &Running) -> usize {
    let mut client = AgreementsClient::new(running.gateway().await);
    let stream = client.offered(v1::OfferedRequest::default()).await.unwrap().into_inner();
    stream.try_collect::<Vec<_>>().await.unwrap().len()
}

/// A node that offers the agreement that it has signed.
async fn offering() -> Running {
    let running = Running::new().await;
    let offer = Offer::of(&running.world.path("agreements/opportunity.toml"), &name("dfe")).unwrap();
    outbox(&running.world.path("state")).keep(&offer, private::replace).unwrap();
    assert_eq!(offered(&running).await, 1);
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_or_counts_no_more_is_offered_no_longer() {
    let running = offering().await;
    act(&running.world, Act::Suspended, Some("opportunity-2026"));
    assert_eq!(offered(&running).await, 1, "what is suspended may go on");
    act(&running.world, Act::Ended, Some("opportunity-2026"));
    assert_eq!(offered(&running).await, 0);

    let running = offering().await;
    let print = Fingerprint::of(running.world.signing.public_spki());
    let list = format!("[[key]]\nfingerprint = \"{print}\"\nreason = \"stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n");
    running.world.write("agreements/revoked.toml", &list);
    running.node.reread().unwrap();
    assert_eq!(offered(&running).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_invents_senders_fills_neither_the_disk_nor_the_log() {
    let running = Running::new().await;
    let world = &running.world;
    let mut client = AgreementsClient::new(running.gateway().await);
    let (key, _) = signing_key();
    let (own, print) = (Fingerprint::of(world.signing.public_spki()), Fingerprint::of(key.public_spki()));
    let wire = |number: usize, day: u32| {
        let department = format!("d{number}");
        let text = agreement_text("dfe", (&own, &Fingerprint::of(b"own")), (&print, &Fingerprint::of(b"l")));
        let text = text.replace("dwp", &department).replace("opportunity-2026", &format!("n{number}"));
        let agreement = Agreement::parse(&text).unwrap();
        let at = format!("2019-06-0{day}T00:00:00Z").parse().unwrap();
        let signature = signature::sign(&agreement, &name(&department), &key, at).unwrap();
        v1::SignedAgreement { text: text.into(), department, signature: signature.into() }
    };
    for number in 0..MAX_HELD_IN_ALL {
        client.deliver(wire(number, 1)).await.unwrap();
    }
    client.deliver(wire(0, 1)).await.unwrap();
    // Two texts more, and another signature of one that is held.
    for more in [wire(900, 1), wire(901, 1), wire(0, 2)] {
        assert_eq!(code(&client.deliver(more).await.unwrap_err()), Some(Code::LimitExceeded));
    }
    assert_eq!(events(world, "agreement.received").len(), MAX_HELD_IN_ALL);
    assert_eq!(events(world, "agreement.refused").len(), 1);
}
