//! `kill -9` of a node while two of the department's systems record over gRPC. What was acknowledged is there; who got no answer
//! repeats the call under its id, and it is made once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use concordat_proto::consent_receipt::ConsentReceipt;
use concordat_proto::status::from_status;
use concordat_proto::v1;
use serde_json::Value;

use super::{Seeded, number, recorded, seed};
use crate::consent::consent;
use crate::recording::{Ledger, ledger, withdrawn};
use crate::sandbox::Sandbox;

/// People of one call.
const BATCH: u64 = 4;
/// Systems that record at the same time.
const CALLERS: u64 = 2;

fn person(number: u64) -> String {
    format!("ZX{number:06}A")
}

/// The call about the people from `first` on, under its id.
fn call(first: u64) -> v1::RecordRequest {
    let records = (first..first + BATCH).map(|number| withdrawn(person(number), "health")).collect();
    v1::RecordRequest { records, id: id(first) }
}

fn id(first: u64) -> String {
    format!("call-{first}")
}

/// Which records the receipts are of.
fn records(answer: &v1::RecordResponse) -> Vec<String> {
    answer.receipts.iter().map(|receipt| ConsentReceipt::read(receipt).unwrap().0.record_id).collect()
}

/// Records one call after the other, each about people of its own, until one gets no answer: those that did, and that one.
async fn until_cut_off(mut ledger: Ledger, next: Arc<AtomicU64>) -> (Vec<(u64, v1::RecordResponse)>, u64) {
    let mut acknowledged = Vec::new();
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        match ledger.record(call(first)).await {
            Ok(answer) => acknowledged.push((first, answer.into_inner())),
            Err(status) => {
                assert!(from_status(&status).is_none(), "refused, not cut off: {status:?}");
                return (acknowledged, first);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_while_it_records_loses_nothing_and_applies_nothing_twice() {
    let mut sandbox = Sandbox::start(200).await;
    let mut random = Seeded(seed());
    let next = Arc::new(AtomicU64::new(0));
    let mut client = ledger(&sandbox, "dhsc").await;
    let since = Instant::now();
    for _ in 0..5 {
        client.record(call(next.fetch_add(BATCH, Ordering::Relaxed))).await.unwrap();
    }
    // From before a call has arrived until after some have been answered.
    let latest = u64::try_from(since.elapsed().as_micros()).unwrap();
    let mut cut_off = Vec::new();
    for round in 1..=number("CONCORDAT_KILLS", 4) {
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            callers.push(tokio::spawn(until_cut_off(ledger(&sandbox, "dhsc").await, Arc::clone(&next))));
        }
        tokio::time::sleep(Duration::from_micros(random.below(latest + 1))).await;
        sandbox.running.kill("dhsc");
        let mut outcomes = Vec::new();
        for caller in callers {
            outcomes.push(caller.await.unwrap());
        }
        sandbox.running.restart_node("dhsc").await.unwrap();
        client = ledger(&sandbox, "dhsc").await;
        for (acknowledged, unanswered) in outcomes {
            for (first, answer) in acknowledged {
                let again = client.record(call(first)).await.unwrap().into_inner();
                let of = format!("round {round}, {}", id(first));
                assert!(again.recorded_before, "{of} was acknowledged and is lost");
                assert_eq!((again.consent_version, records(&again)), (answer.consent_version, records(&answer)), "{of}");
            }
            let repeated = client.record(call(unanswered)).await.unwrap().into_inner();
            assert_eq!(repeated.receipts.len() as u64, BATCH);
            cut_off.push((unanswered, repeated.recorded_before));
        }
    }
    let before = cut_off.iter().filter(|(_, recorded_before)| *recorded_before).count();
    eprintln!("of {} calls without an answer {before} had been recorded", cut_off.len());

    // By now every call has been answered.
    let everybody = next.load(Ordering::Relaxed);
    let found = recorded(&sandbox.layout, "ZX", 0);
    assert!((0..everybody).map(person).all(|person| found.get(&person) == Some(&1)), "each once: {found:?}");
    let somebody: Vec<String> = cut_off.iter().map(|(first, _)| person(*first)).collect();
    let shown = consent(&sandbox, "dhsc", &["show", "--output", "json"], &somebody.join("\n"));
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let histories: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(histories.len(), somebody.len());
    let once = |history: &Value| history["records"].as_array().is_some_and(|records| records.len() == 1);
    assert!(histories.iter().all(once), "{histories:?}");
    // And the log holds each of them, whenever it was acknowledged.
    let log = sandbox.log("dhsc");
    let of_calls = log.iter().filter(|entry| entry["event"] == "consent.recorded");
    let logged: BTreeSet<&str> = of_calls.filter_map(|entry| entry["request"].as_str()).collect();
    let missing: Vec<String> = (0..everybody).step_by(BATCH as usize).map(id).filter(|id| !logged.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
