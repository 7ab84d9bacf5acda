//! Withdrawals beside releases: one that was acknowledged before an order counts in its release.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

const PEOPLE: usize = 24;
const WRITERS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_that_was_acknowledged_before_an_order_counts_in_its_release() {
    let world = World::new();
    let person = |number: usize| format!("AB1000{number:02}A");
    let rows = |row: fn(usize, &str) -> String| (0..PEOPLE).map(|number| row(number, &person(number))).collect::<String>();
    let data = rows(|number, identifier| format!("{identifier},London,{number}.0,2024,true,2008-01-01,x\n"));
    world.write("data/attainment.csv", &format!("nino,REGION,score,cohort,fsm,born,secret\n{data}"));
    let consent = rows(|_, identifier| format!("{identifier},opportunity,given\n"));
    world.write("consent.csv", &format!("identifier,purpose,event\n{consent}"));
    let node = node(&world).await;
    let acknowledged: Arc<Vec<AtomicBool>> = Arc::new((0..PEOPLE).map(|_| AtomicBool::new(false)).collect());
    let writing = Arc::new(AtomicUsize::new(WRITERS));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (node, acknowledged, writing) = (Arc::clone(&node), Arc::clone(&acknowledged), Arc::clone(&writing));
            let state = world.path("state");
            tokio::task::spawn_blocking(move || {
                // One writes through the node, the others beside it.
                let other = (writer > 0).then(|| Consent::open(&state, name("dfe")).unwrap());
                for number in (0..PEOPLE).filter(|number| number % WRITERS == writer) {
                    let record =
                        node.intake(&node.agreements.now()).record(withdrawn(&format!("AB1000{number:02}A")), &mut String::new()).unwrap();
                    other.as_ref().unwrap_or(&node.consent).record(&[record]).unwrap();
                    acknowledged[number].store(true, Ordering::SeqCst);
                }
                writing.fetch_sub(1, Ordering::SeqCst);
            })
        })
        .collect();
    let reader = async || loop {
        let last = writing.load(Ordering::SeqCst) == 0;
        let before: Vec<bool> = acknowledged.iter().map(|known| known.load(Ordering::SeqCst)).collect();
        let now = chrono::Utc::now();
        let certificate = Some(world.gateway.fingerprint.clone());
        let release = node.order(&world.order(&world.request(now), now), certificate, now).await.unwrap();
        let left = scores(&all(&release).await);
        node.releases.abandon(&release, crate::endings::Ended::Dropped);
        for (number, before) in before.into_iter().enumerate() {
            assert!(
                !(before && left.contains(&Some(number as f64))),
                "{number} had withdrawn before the order, and was released: {left:?}"
            );
        }
        assert_eq!(left.len() + release.standing.version as usize, 2 * PEOPLE, "the release says at which version it stands");
        if last {
            break assert!(left.is_empty(), "{left:?}");
        }
    };
    futures::join!(reader(), reader(), reader());
    for writer in writers {
        writer.await.unwrap();
    }
}
