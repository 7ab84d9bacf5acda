//! How long a withdrawal takes until a department's node has acknowledged it: over gRPC under mutual TLS as the department's
//! administrator, with the node's log and a signed receipt.
//!
//! - On an idle node.
//! - Beside 100 queries a second: each an order of the gateway's and all of its partitions, to the receipts. The node shares its cores with
//!   who asks and nobody else, as where it runs on a department's machine.
//! - Beside 100 queries a second that callers ask the gateway, which shares the cores with five nodes and the callers: as many as these
//!   cores answer.
//!
//! Fails where a 99th percentile beside queries is over 50 ms, or the node releases fewer than it is asked for. `BENCH_WITHDRAWALS` sets
//! how many are measured each time (default 1,000). `consent.rs` measures the ledger alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, unused_imports, reason = "shares the tests' sandbox")]

#[path = "../tests/end_to_end/orders.rs"]
mod orders;
#[path = "../tests/end_to_end/recording.rs"]
mod recording;
#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_service_client::FlightServiceClient;
use concordat_proto::order::Order;
use concordat_proto::v1;
use orders::Rogue;
use prost::Message as _;
use recording::{Ledger, generous, ledger, withdrawn};

/// The department that records, and a small view of its data.
const DEPARTMENT: &str = "dhsc";
const VIEW: &str = "SELECT age_band, count(*) AS n, avg(wellbeing_score) AS wellbeing FROM dhsc.health GROUP BY age_band";
/// Queries a second, and how many callers take turns to ask them.
const QUERIES: u32 = 100;
const CALLERS: u32 = 8;
/// Withdrawals before the first that is measured.
const UNMEASURED: usize = 50;
/// What one may take at most in the 99th percentile.
const BAR: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let count: usize = std::env::var("BENCH_WITHDRAWALS").unwrap_or_else(|_| "1000".into()).parse().unwrap();
    let asker = Arc::new(Rogue::with(|layout| generous(layout, DEPARTMENT)).await);
    let mut people = 0..1_000_000;
    let mut ledger = ledger(&asker.sandbox, DEPARTMENT).await;
    asker.sandbox.query(VIEW).await.unwrap();
    acknowledged(&mut ledger, &mut people, UNMEASURED).await;
    let idle = acknowledged(&mut ledger, &mut people, count).await;

    let mut channels = Vec::new();
    for _ in 0..CALLERS {
        channels.push(asker.channel(DEPARTMENT).await);
    }
    let released = channels.into_iter().map(|channel| {
        let (asker, flight) = (asker.clone(), FlightServiceClient::new(channel));
        move |query| release(asker.clone(), flight.clone(), query)
    });
    let at_the_node = beside(released, &mut ledger, &mut people, count).await;

    let mut clients = Vec::new();
    for _ in 0..CALLERS {
        clients.push(Arc::new(asker.sandbox.client().await));
    }
    let asked = clients.into_iter().map(|client| {
        move |_| {
            let client = client.clone();
            async move { drop(client.query(VIEW).await.unwrap()) }
        }
    });
    let through_the_gateway = beside(asked, &mut ledger, &mut people, count).await;

    let told = |what: &str, [half, most]: [Duration; 2]| {
        let against = [half, most].iter().zip(idle).map(|(took, idle)| took.as_secs_f64() / idle.as_secs_f64()).collect::<Vec<_>>();
        let [half, most] = [half, most].map(|took| took.as_secs_f64() * 1e3);
        println!(
            "withdrawal acknowledged by a node, {what}: p50 {half:.2} ms, p99 {most:.2} ms; {:.2} and {:.2} × idle",
            against[0], against[1]
        );
    };
    println!("{count} withdrawals each; {QUERIES} queries a second are due");
    told("idle", idle);
    told(&format!("beside {:.0} orders a second to the node", at_the_node.0), at_the_node.1);
    told(&format!("beside {:.0} queries a second through the gateway on the same cores", through_the_gateway.0), through_the_gateway.1);
    assert!(at_the_node.0 >= 0.95 * f64::from(QUERIES), "the node answers {:.0} orders a second", at_the_node.0);
    for (_, [_, most]) in [at_the_node, through_the_gateway] {
        assert!(most <= BAR, "beside queries the 99th percentile is over {} ms", BAR.as_millis());
    }
}

/// Orders what the view needs of the department, as the gateway does, and reads it to its receipts.
async fn release(asker: Arc<Rogue>, mut flight: FlightServiceClient<tonic::transport::Channel>, query: u32) {
    let request = v1::ReleaseRequest {
        query_id: format!("q-{query}"),
        dataset: "health".into(),
        columns: ["age_band", "wellbeing_score"].map(str::to_owned).into(),
        basis: v1::Basis::Consent.into(),
        ..asker.request()
    };
    let order = Order { aud: format!("node:{DEPARTMENT}"), ..asker.order(&request, &query.to_string()) };
    let command = v1::ReleaseOrder { order: order.sign(&asker.key).unwrap(), request: request.encode_to_vec() };
    let info = flight.get_flight_info(FlightDescriptor::new_cmd(command.encode_to_vec())).await.unwrap().into_inner();
    for endpoint in info.endpoint {
        let mut stream = flight.do_get(endpoint.ticket.unwrap()).await.unwrap().into_inner();
        let mut last = None;
        while let Some(message) = stream.message().await.unwrap() {
            last = Some(message);
        }
        assert!(last.is_some_and(|message| !message.app_metadata.is_empty()), "a receipt");
    }
}

/// Withdraws for so many people, one after the other: how long half of them took at most, and 99 in a hundred.
async fn acknowledged(ledger: &mut Ledger, people: &mut Range<u32>, count: usize) -> [Duration; 2] {
    let mut took = Vec::with_capacity(count);
    for person in people.take(count) {
        let records = vec![withdrawn(format!("ZX{person:06}A"), "opportunity")];
        let request = v1::RecordRequest { records, id: format!("withdrawal-{person}") };
        let since = Instant::now();
        let answer = ledger.record(request).await.unwrap().into_inner();
        took.push(since.elapsed());
        assert!(answer.receipts.len() == 1 && !answer.recorded_before);
        // As people come: not all at once.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    took.sort_unstable();
    [took[count / 2], took[count * 99 / 100]]
}

/// The same while each of `askers` asks in its turn, and how many of their queries were answered a second.
async fn beside<A, F>(askers: impl Iterator<Item = A>, ledger: &mut Ledger, people: &mut Range<u32>, count: usize) -> (f64, [Duration; 2])
where
    A: Fn(u32) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let ask = |(turn, asker): (u32, A)| {
        let (ended, answered) = (Arc::clone(&ended), Arc::clone(&answered));
        tokio::spawn(async move {
            // Each when it is due, or late.
            for query in (turn..).step_by(CALLERS as usize) {
                tokio::time::sleep_until((began + Duration::from_secs(1) / QUERIES * query).into()).await;
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                asker(query).await;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let callers: Vec<_> = (0..).zip(askers).map(ask).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let beside = acknowledged(ledger, people, count).await;
    let rate = answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    (rate, beside)
}
