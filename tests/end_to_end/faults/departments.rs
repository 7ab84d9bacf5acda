//! A department that is gone slows nobody who does not need it, and is not asked again and again.

use std::time::{Duration, Instant};

use concordat_policy::Code;

use super::proxy::Proxy;
use crate::oracle::rows;
use crate::sandbox::{Sandbox, refused};

const OTHERS: &str =
    "SELECT a.region, avg(h.wellbeing_score) AS m FROM dfe.attainment a JOIN dhsc.health h ON h.subject = a.subject GROUP BY a.region";
const NEEDED: &str =
    "SELECT a.region, avg(c.months_claiming) AS m FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject GROUP BY a.region";

/// The median time of eleven queries that do not need DWP.
async fn others(sandbox: &Sandbox) -> Duration {
    let client = sandbox.client().await;
    let mut times = Vec::new();
    for _ in 0..11 {
        let since = Instant::now();
        client.query(OTHERS).await.unwrap();
        times.push(since.elapsed());
    }
    times.sort();
    times[5]
}

#[tokio::test]
async fn a_department_that_is_lost_slows_nobody_who_does_not_need_it() {
    let mut sandbox = Sandbox::start(3_000).await;
    let proxy = Proxy::before(&mut sandbox, "dwp").await;
    sandbox.query(NEEDED).await.unwrap();
    others(&sandbox).await;
    let control = others(&sandbox).await;
    proxy.lose();
    // From the beginning: this gateway has no connections, keys or descriptions yet.
    sandbox.running.restart_gateway().await.unwrap();
    let waiting: Vec<_> = {
        let mut waiting = Vec::new();
        for _ in 0..2 {
            let client = sandbox.client().await;
            waiting.push(tokio::spawn(async move { client.query(NEEDED).await }));
        }
        waiting
    };
    let since = Instant::now();
    sandbox.query(OTHERS).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(3), "the first took {:?}: it waited for DWP", since.elapsed());
    let beside = others(&sandbox).await;
    for query in waiting {
        let failure = query.await.unwrap().unwrap_err();
        assert!(matches!(failure.code, Some(Code::NodeTimeout | Code::NodeUnavailable)), "{failure:?}");
        assert_eq!(failure.department.as_deref(), Some("dwp"), "{failure:?}");
    }
    let after = others(&sandbox).await;
    let ratio = |time: Duration| time.as_secs_f64() / control.as_secs_f64();
    eprintln!(
        "median of a query without DWP: {control:?}; beside queries that wait for DWP × {:.2}; after them × {:.2}",
        ratio(beside),
        ratio(after)
    );
    // Two waiting queries cost something on a small machine; waiting for DWP would cost seconds.
    assert!(
        beside < 3 * control + Duration::from_millis(100) && after < 3 * control + Duration::from_millis(100),
        "{control:?} {beside:?} {after:?}"
    );
}

#[tokio::test]
async fn a_department_that_is_far_away_sends_the_same_in_fewer_bytes() {
    let mut sandbox = Sandbox::start(6_000).await;
    let proxy = Proxy::before(&mut sandbox, "dwp").await;
    let passed = async |sandbox: &Sandbox| {
        proxy.passed();
        let rows = rows(&sandbox.query(NEEDED).await.unwrap().batches, 1);
        (proxy.passed(), rows)
    };
    let (mut near, answer) = passed(&sandbox).await;
    for _ in 0..3 {
        near = near.max(passed(&sandbox).await.0);
    }
    proxy.far(Duration::from_millis(10));
    // It is known anew how far it is.
    sandbox.running.restart_gateway().await.unwrap();
    let since = Instant::now();
    loop {
        let (far, same) = passed(&sandbox).await;
        assert_eq!(same, answer);
        if 4 * far < 3 * near {
            eprintln!("{near} bytes, {far} from afar, after {:?}", since.elapsed());
            break;
        }
        // It describes itself twice in this time.
        assert!(since.elapsed() < Duration::from_secs(75), "{near} bytes, {far} from afar");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_lost_department_is_refused_at_once_until_it_is_back() {
    let mut sandbox = Sandbox::start(300).await;
    let proxy = Proxy::before(&mut sandbox, "dwp").await;
    sandbox.query(NEEDED).await.unwrap();
    proxy.cut();
    refused(sandbox.query(NEEDED).await, Code::NodeUnavailable, "dwp");
    // Each failure makes the pause longer, so that most of many calls cost nothing.
    let since = Instant::now();
    let (mut fast, mut all) = (0, 0);
    while since.elapsed() < Duration::from_secs(2) {
        let failure = refused(sandbox.query(NEEDED).await, Code::NodeUnavailable, "dwp");
        fast += usize::from(failure.message.contains("it is tried again within"));
        all += 1;
        // One caller has 600 requests a minute.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let tried = all - fast;
    assert!(tried <= 8 && fast > tried, "{tried} of {all} calls reached for a department that is gone");
    proxy.heal();
    let since = Instant::now();
    while let Err(failure) = sandbox.query(NEEDED).await {
        assert!(since.elapsed() < Duration::from_secs(5), "{failure:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
