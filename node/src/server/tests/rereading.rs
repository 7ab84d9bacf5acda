//! Agreements, signatures and revoked keys that change while the node serves.

use std::time::{Duration, Instant};

use concordat_policy::agreement::Fingerprint;

use super::suspending::{crowd, events, logged, under_way};
use super::*;

const AGREEMENT: &str = "agreements/opportunity.toml";
const SIGNATURE: &str = "agreements/opportunity.toml.dfe.sig";
const REVOKED: &str = "agreements/revoked.toml";

/// A list with the node's own signing key.
fn list(world: &World, table: &str, since: &str) -> String {
    let print = Fingerprint::of(world.signing.public_spki());
    format!("[[{table}]]\nfingerprint = \"{print}\"\nreason = \"stolen\"\nsince = \"{since}\"\n")
}

/// Waits until an order meets what is expected: `None` is answered.
async fn until(running: &Running, expected: Option<&str>) {
    let mut flight = FlightServiceClient::new(running.gateway().await);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let outcome = flight.get_flight_info(running.order()).await.map(|info| tickets(&info.into_inner()));
        let met = match (&outcome, expected) {
            (Ok(_), None) => true,
            (Err(status), Some(says)) => status.message().contains(says),
            _ => false,
        };
        if met {
            return;
        }
        assert!(Instant::now() < deadline, "{expected:?} was expected: {outcome:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_counts_without_a_restart_and_what_is_bad_changes_nothing() {
    let running = Running::new().await;
    let world = &running.world;
    let mut flight = FlightServiceClient::new(running.gateway().await);
    let earlier = tickets(&flight.get_flight_info(running.order()).await.unwrap().into_inner());
    let (text, signature) = (std::fs::read(world.path(AGREEMENT)).unwrap(), std::fs::read(world.path(SIGNATURE)).unwrap());

    // Nobody signed the other text.
    world.replace(AGREEMENT, "title = \"Opportunity\"", "title = \"0pportunity\"");
    until(&running, Some("is another text than the one in the request")).await;
    let status = messages(&mut flight, earlier[0].clone()).await.unwrap_err();
    assert!(status.message().contains("is another text than the one in the request"), "the ticket is of the old text: {status:?}");
    let [entry] = logged(world, "agreement.replaced", 1).await.try_into().unwrap();
    assert_eq!((&entry["agreement"], &entry["digest_before"]), (&"opportunity-2026".into(), &world.agreement.digest.clone().into()));
    assert!(entry["digest"].is_string() && entry["digest"] != entry["digest_before"], "{entry}");
    assert_eq!((&entry["bound_before"], &entry["binds"]), (&true.into(), &false.into()));
    std::fs::write(world.path(AGREEMENT), &text).unwrap();
    until(&running, None).await;

    std::fs::remove_file(world.path(SIGNATURE)).unwrap();
    until(&running, Some("its own signature is missing")).await;
    std::fs::write(world.path(SIGNATURE), &signature).unwrap();
    until(&running, None).await;

    std::fs::rename(world.path(AGREEMENT), world.path("aside.toml")).unwrap();
    until(&running, Some("holds no agreement of that name")).await;
    std::fs::rename(world.path("aside.toml"), world.path(AGREEMENT)).unwrap();
    until(&running, None).await;
    assert_eq!(logged(world, "agreement.replaced", 6).await.len(), 6, "one for each change");

    // A file that is no agreement, and one that contradicts the node.
    world.write("agreements/other.toml", "id = 1\n");
    let fault = running.node.reread().unwrap_err();
    assert!(fault.place.ends_with("other.toml:1"), "{fault:?}");
    std::fs::remove_file(world.path("agreements/other.toml")).unwrap();
    world.replace(AGREEMENT, "score = { type = \"number\"", "points = { type = \"number\"");
    let fault = running.node.reread().unwrap_err();
    assert!(fault.place.contains("opportunity.toml:") && fault.cause.contains("attainment.points"), "{fault:?}");
    until(&running, None).await;
    assert_eq!(events(world, "agreement.replaced").len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_list_refuses_everything_until_it_is_mended_whatever_else_is_bad() {
    const SAYS: &str = "its own signature cannot be relied on: the list of revoked keys is damaged";
    let running = Running::new().await;
    let world = &running.world;
    world.write("agreements/other.toml", "id = 1\n");
    for mended in [None, Some("")] {
        world.write(REVOKED, "rubbish");
        until(&running, Some(SAYS)).await;
        let fault = running.node.reread().unwrap_err();
        assert!(fault.place.ends_with("revoked.toml:1") && fault.cause.contains("no signature counts"), "{fault:?}");
        match mended {
            None => std::fs::remove_file(world.path(REVOKED)).unwrap(),
            Some(text) => world.write(REVOKED, text),
        }
        until(&running, None).await;
    }
    assert!(running.node.reread().unwrap_err().place.ends_with("other.toml:1"));
    assert_eq!(events(world, "key.revoked").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_revoked_though_an_agreement_is_bad_and_reinstated_only_with_the_rest() {
    const SAYS: &str = "its own signature is made with a revoked key";
    let running = Running::new().await;
    let world = &running.world;
    world.write("agreements/other.toml", "id = 1\n");
    world.write(REVOKED, &list(world, "key", "2026-05-01T10:00:00Z"));
    until(&running, Some(SAYS)).await;
    assert_eq!(logged(world, "key.revoked", 1).await.len(), 1);
    let kept = std::fs::read_to_string(world.path("state/revoked.toml")).unwrap();
    assert!(kept.contains(Fingerprint::of(world.signing.public_spki()).as_str()), "{kept}");

    world.write(REVOKED, &list(world, "reinstated", "2026-06-01T10:00:00Z"));
    assert!(running.node.reread().unwrap_err().place.ends_with("other.toml:1"));
    until(&running, Some(SAYS)).await;
    std::fs::remove_file(world.path("agreements/other.toml")).unwrap();
    until(&running, None).await;
    assert_eq!(logged(world, "key.reinstated", 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_cuts_running_streams() {
    let running = Running::with(crowd).await;
    let streams = under_way(&running).await;
    running.world.write(REVOKED, &list(&running.world, "key", "2026-05-01T10:00:00Z"));
    // Not left to the watcher: what is read meanwhile would end well.
    running.node.reread().unwrap();
    let since = Instant::now();
    for mut stream in streams {
        let status = loop {
            match stream.message().await {
                Ok(Some(message)) => assert!(!message.data_header.is_empty(), "a receipt, after {:?}", since.elapsed()),
                Ok(None) => panic!("the stream ended well"),
                Err(status) => break status,
            }
        };
        assert!(status.message().contains("its own signature is made with a revoked key"), "{status:?}");
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(logged(&running.world, "release.abandoned", 4).await.len(), 4);
    assert_eq!(events(&running.world, "release.completed").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stays_revoked_though_the_list_is_gone() {
    const SAYS: &str = "its own signature is made with a revoked key";
    let running = Running::with(|world| world.write(REVOKED, &list(world, "key", "2026-05-01T10:00:00Z"))).await;
    let world = &running.world;
    until(&running, Some(SAYS)).await;
    std::fs::remove_file(world.path(REVOKED)).unwrap();
    running.node.reread().unwrap();
    until(&running, Some(SAYS)).await;
    // The next run knows it, too, and says so.
    let config = Config::load(&world.path("node.toml")).unwrap();
    assert!(config.warnings.iter().any(|warning| warning.contains("it stays revoked until")), "{:?}", config.warnings);
    assert_eq!(config.unsigned(Utc::now()).count(), 1);
    // Until somebody writes down that it no longer holds; an older word is none.
    world.write(REVOKED, &list(world, "reinstated", "2026-04-01T10:00:00Z"));
    running.node.reread().unwrap();
    until(&running, Some(SAYS)).await;
    world.write(REVOKED, &list(world, "reinstated", "2026-06-01T10:00:00Z"));
    running.node.reread().unwrap();
    until(&running, None).await;
    assert_eq!(logged(world, "key.reinstated", 1).await.len(), 1);
    let config = Config::load(&world.path("node.toml")).unwrap();
    assert_eq!((config.warnings.len(), config.unsigned(Utc::now()).count()), (0, 0));
    // What was seen is as good as a list: damaged, it is believed no more than one.
    world.write("state/revoked.toml", "rubbish");
    assert!(running.node.reread().unwrap_err().place.contains("state/revoked.toml:1"));
    assert!(Config::load(&world.path("node.toml")).is_err());
}
