//! Access logs that witness each other, over real mutual TLS.

use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::{Algorithm, Note, Signer, VerifierKey};
use concordat_audit::proof::verify_consistency;
use concordat_audit::witness::{FURTHEST, forget, verified};
use concordat_audit::{Entry, Log, read};
use concordat_operate::metrics::Metrics;
use concordat_proto::v1::add_checkpoint_response::Outcome;
use concordat_proto::v1::witness_client::WitnessClient;

use super::*;
use crate::witness::{GATEWAY_LOG, Witnessing, folder};

/// A gateway's log.
struct Gateway {
    _folder: tempfile::TempDir,
    log: Log,
}

impl Gateway {
    async fn new(entries: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), GATEWAY_LOG).unwrap();
        let gateway = Self { _folder: folder, log };
        gateway.grow(entries).await;
        gateway
    }

    async fn grow(&self, entries: u64) {
        let (mut checkpoints, size) = (self.log.checkpoints(), self.log.size() + entries);
        for _ in 0..entries {
            self.log.append(Entry::new("query.opened")).await.unwrap();
        }
        while self.log.size() < size {
            checkpoints.changed().await.unwrap();
        }
    }

    fn request(&self, old_size: u64) -> v1::AddCheckpointRequest {
        let proof = self.log.consistency(old_size, self.log.size()).unwrap().iter().map(|hash| hash.to_vec()).collect();
        let checkpoint = self.log.checkpoint().as_bytes().to_vec();
        v1::AddCheckpointRequest { old_size, proof, checkpoint, log_key: self.log.verifier_key() }
    }
}

fn now() -> u64 {
    u64::try_from(Utc::now().timestamp()).unwrap()
}

fn size(checkpoint: &[u8]) -> Checkpoint {
    Checkpoint::parse(Note::parse(checkpoint).unwrap().text()).unwrap()
}

impl Running {
    fn events(&self, event: &str) -> Vec<serde_json::Value> {
        let entries = read(&self.world.path("log"), 0).unwrap().map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap());
        entries.filter(|entry: &serde_json::Value| entry["event"] == event).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_log_is_cosigned_as_long_as_it_continues() {
    let running = Running::new().await;
    let mut client = WitnessClient::new(running.gateway().await);
    let gateway = Gateway::new(3).await;
    let cosigned = client.add_checkpoint(gateway.request(0)).await.unwrap().into_inner();
    let key = VerifierKey::parse(&cosigned.witness_key).unwrap();
    assert_eq!(key.name(), "concordat/dfe/witness");
    let Some(Outcome::Cosignature(line)) = cosigned.outcome else { panic!("{cosigned:?}") };
    let line = verified(&gateway.log.checkpoint(), &line, &key, now()).unwrap();
    gateway.log.add_cosignatures(&gateway.log.checkpoint(), &line, |by| !by.is_empty()).unwrap();
    gateway.grow(4).await;
    // A wrong old size is told the right one, and nothing is said of it in the log.
    let told = client.add_checkpoint(gateway.request(0)).await.unwrap().into_inner();
    assert_eq!(told.outcome, Some(Outcome::KnownSize(3)));
    let cosigned = client.add_checkpoint(gateway.request(3)).await.unwrap().into_inner();
    assert!(matches!(cosigned.outcome, Some(Outcome::Cosignature(_))));
    assert_eq!((running.events("witness.seen").len(), running.events("witness.refused").len()), (1, 0));

    // Another log in its place: of another key, then the same key's with fewer entries; each kind is logged once.
    let other = Gateway::new(9).await;
    let short = v1::AddCheckpointRequest { proof: vec![vec![0; 31]], ..gateway.request(3) };
    for (request, code, logged) in [(other.request(0), Code::Denied, 1), (other.request(7), Code::Denied, 1), (short, Code::Invalid, 2)] {
        assert_eq!(super::code(&client.add_checkpoint(request).await.unwrap_err()), Some(code));
        assert_eq!(running.events("witness.refused").len(), logged);
    }
    let entry = running.events("witness.refused").remove(0);
    assert_eq!((&entry["kind"], &entry["known_size"], &entry["size"]), (&"other_key".into(), &7.into(), &9.into()), "{entry}");
    // An administrator accepts it, beside the running node.
    forget(&folder(&running.world.path("state")), GATEWAY_LOG).unwrap();
    let told = client.add_checkpoint(other.request(7)).await.unwrap().into_inner();
    assert_eq!(told.outcome, Some(Outcome::KnownSize(0)));
    client.add_checkpoint(other.request(0)).await.unwrap();
    assert_eq!(running.events("witness.seen").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_seen_first_is_told_once_however_often_it_cannot_be_remembered() {
    let running = Running::new().await;
    let mut client = WitnessClient::new(running.gateway().await);
    let gateway = Gateway::new(3).await;
    // Where the state is written before it takes the place of what was.
    let obstacle = folder(&running.world.path("state")).join("witness.state.new");
    std::fs::create_dir(&obstacle).unwrap();
    for _ in 0..3 {
        assert_eq!(super::code(&client.add_checkpoint(gateway.request(0)).await.unwrap_err()), Some(Code::Internal));
        assert_eq!(running.events("witness.seen").len(), 1);
    }
    std::fs::remove_dir(&obstacle).unwrap();
    assert!(matches!(client.add_checkpoint(gateway.request(0)).await.unwrap().into_inner().outcome, Some(Outcome::Cosignature(_))));
    assert_eq!(running.events("witness.seen").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_ordered_is_owed_until_a_checkpoint_covers_the_entry_that_the_order_states() {
    let mut world = World::new();
    world.agree("linkage = ", "max_unwitnessed = \"1s\"\nlinkage = ");
    let running = Running::of(world).await;
    let (mut flight, mut client) = (FlightServiceClient::new(running.gateway().await), WitnessClient::new(running.gateway().await));
    let order = |log_entry: u64| {
        let now = Utc::now();
        let request = v1::ReleaseRequest { contract_version: 2, log_entry, ..running.world.request(now) };
        FlightDescriptor::new_cmd(running.world.order(&request, now).encode_to_vec())
    };
    let gateway = Gateway::new(3).await;
    client.add_checkpoint(gateway.request(0)).await.unwrap();
    flight.get_flight_info(order(6)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(code(&flight.get_flight_info(order(7)).await.unwrap_err()), Some(Code::Unwitnessed));
    // The same checkpoint again, and one that does not cover the entry, pay nothing.
    for (old_size, grown) in [(3, 0), (3, 2)] {
        gateway.grow(grown).await;
        client.add_checkpoint(gateway.request(old_size)).await.unwrap();
        assert_eq!(code(&flight.get_flight_info(order(7)).await.unwrap_err()), Some(Code::Unwitnessed), "{grown}");
    }
    gateway.grow(1).await;
    client.add_checkpoint(gateway.request(5)).await.unwrap();
    flight.get_flight_info(order(7)).await.unwrap();
    assert_eq!(code(&flight.get_flight_info(order(u64::MAX)).await.unwrap_err()), Some(Code::Invalid), "no log has this entry");
    // What would be owed for good is refused before anything of the order counts, and nothing is owed for it.
    let far = flight.get_flight_info(order(7 + FURTHEST)).await.unwrap_err();
    assert!(code(&far) == Some(Code::Invalid) && far.message().contains("more than 10000000 after the 6"), "{far:?}");
    let intended: Vec<_> = running.events("release.intended").iter().map(|entry| entry["opened_by"].as_u64()).collect();
    assert_eq!(intended, [Some(6), Some(7)]);
    assert!(running.events("order.refused").iter().filter(|entry| entry["code"] == "unwitnessed").count() == 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_a_gateway_whose_log_went_back_are_refused_after_a_restart_too() {
    let running = Running::new().await;
    let (mut flight, mut client) = (FlightServiceClient::new(running.gateway().await), WitnessClient::new(running.gateway().await));
    let (gateway, other) = (Gateway::new(3).await, Gateway::new(9).await);
    client.add_checkpoint(gateway.request(0)).await.unwrap();
    flight.get_flight_info(running.order()).await.unwrap();
    client.add_checkpoint(other.request(0)).await.unwrap_err();
    let refused = flight.get_flight_info(running.order()).await.unwrap_err();
    assert!(code(&refused) == Some(Code::Denied) && refused.message().contains("has another key than before"), "{refused:?}");
    let metrics = || Metrics::new("concordat-node", "0");
    let again = Witnessing::open(&running.world.path("state"), &name("dfe"), &metrics()).unwrap();
    assert_eq!(again.permits(&running.world.agreement).unwrap_err().code, Code::Denied, "remembered");
    // It continues what was cosigned: the right log was found again.
    gateway.grow(1).await;
    client.add_checkpoint(gateway.request(3)).await.unwrap();
    flight.get_flight_info(running.order()).await.unwrap();
    let again = Witnessing::open(&running.world.path("state"), &name("dfe"), &metrics()).unwrap();
    assert_eq!(again.permits(&running.world.agreement), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_own_log_is_shown_with_its_proof_and_keeps_what_the_gateway_cosigned() {
    let running = Running::new().await;
    let mut client = WitnessClient::new(running.gateway().await);
    let log = running.node.log.clone();
    let mut checkpoints = log.checkpoints();
    while log.size() < 1 {
        checkpoints.changed().await.unwrap();
    }
    let first = client.own(v1::OwnRequest { known_size: 0 }).await.unwrap().into_inner();
    let (before, key) = (size(&first.checkpoint), VerifierKey::parse(&first.log_key).unwrap());
    assert_eq!((key.name(), first.proof.len()), ("concordat/dfe/node", 0));
    let grown = log.append(Entry::new("log.tried")).await.unwrap();
    while log.size() < grown {
        checkpoints.changed().await.unwrap();
    }
    let own = client.own(v1::OwnRequest { known_size: before.size }).await.unwrap().into_inner();
    let after = size(&own.checkpoint);
    let proof: Vec<[u8; 32]> = own.proof.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect();
    verify_consistency(before.size, after.size, &before.root, &after.root, &proof).unwrap();
    assert!(client.own(v1::OwnRequest { known_size: 1 << 40 }).await.unwrap().into_inner().proof.is_empty(), "more than there is");

    let signer = Signer::generate("concordat/gateway/witness", Algorithm::Cosignature).unwrap();
    let other = Signer::generate("concordat/gateway/witness", Algorithm::Cosignature).unwrap();
    let text = Note::parse(&own.checkpoint).unwrap().text().to_owned();
    let request = |signer: &Signer, checkpoint: &[u8]| v1::CosignedRequest {
        checkpoint: checkpoint.to_vec(),
        cosignature: signer.sign(&text, now()).to_string(),
        witness_key: signer.key().to_string(),
    };
    client.cosigned(request(&signer, &own.checkpoint)).await.unwrap();
    client.cosigned(request(&signer, &own.checkpoint)).await.unwrap();
    let kept = std::fs::read(running.world.path("log/checkpoint.cosigned")).unwrap();
    assert!(Note::parse(&kept).unwrap().signed_by(signer.key()).unwrap().is_some());
    let strangers = Gateway::new(1).await;
    let [future, past] = [now() + 3600, now() - 3600]
        .map(|time| v1::CosignedRequest { cosignature: signer.sign(&text, time).to_string(), ..request(&signer, &own.checkpoint) });
    for (request, code) in [
        (request(&other, &own.checkpoint), Code::Denied),
        (request(&signer, &first.checkpoint), Code::Invalid),
        (request(&signer, strangers.log.checkpoint().as_bytes()), Code::Invalid),
        (future, Code::Invalid),
        (past, Code::Invalid),
    ] {
        assert_eq!(super::code(&client.cosigned(request).await.unwrap_err()), Some(code));
    }
    assert_eq!(running.events("witness.seen").len(), 1);
    // Whoever gave that cosignature knows less now: it forgot, and that is told once.
    for known_size in [after.size, before.size, 0] {
        client.own(v1::OwnRequest { known_size }).await.unwrap();
        let forgot = running.events("witness.forgot");
        assert_eq!(forgot.len(), usize::from(known_size < after.size), "{known_size}");
        assert!(forgot.iter().all(|entry| entry["known_size"] == after.size && entry["size"] == before.size), "{forgot:?}");
    }
}
