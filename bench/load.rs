//! Many small questions to one gateway, through the real processes with everything on.
//!
//! - **One caller**, on a connection that is open: a view of a few hundred rows, the same each time and another each time, beside a bare
//!   gRPC call (`grpc.health.v1`) to the same gateway over a connection of the same kind, in turns. Of the same one the gateway keeps what it made.
//! - **1, 4, 16 and 64 callers**, each somebody else on a connection of their own, who ask again as soon as they are answered, half of the
//!   time something new: answers a second, and how long half of them took at most and 99 in a hundred. Within the gateway's own limits, 8 queries run at a time.
//! - **Hours**, as many minutes as `BENCH_MINUTES` says (default `0`: left out): four callers ask views of one department and of five, and what is refused,
//!   and every half minute a department's file is changed, so that its snapshot is made anew. Memory of each process in the second sixth of
//!   the time and in the last: the mean of what it had each second, for a program gives back every ten seconds what it does not use, and takes it
//!   again.
//!
//! Fails where a view takes over 40 × the bare call; where 64 callers get less than four fifths of what fewer get, or their 99th percentile is
//! over 4 × the median; where a process grows by 5 % or more, or a question errs. `BENCH_SECONDS` sets how long each number of callers asks
//! (default `10`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "processes.rs"]
mod processes;
#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use concordat::client::Client;
use concordat::federation::Layout;
use concordat_policy::{Code, Disclosure};
use processes::{DEPARTMENTS, files, resident, touch};
use sandbox::{Sandbox, disclosing};
use serde_json::json;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A view of one department's data.
const VIEW: &str = "SELECT age_band, count(*) AS n, avg(wellbeing_score) AS wellbeing FROM dhsc.health GROUP BY age_band";
/// How many callers ask at once.
const CALLERS: [usize; 4] = [1, 4, 16, 64];
/// Turns of one caller.
const TURNS: usize = 200;

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let set = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let missed = [
        one_caller().await,
        many_callers(Duration::from_secs(set("BENCH_SECONDS", 10))).await,
        hours(Duration::from_secs(60 * set("BENCH_MINUTES", 0))).await,
    ];
    let missed = missed.concat();
    assert!(missed.is_empty(), "{}", missed.join("; "));
}

async fn world(people: u64) -> Sandbox {
    Sandbox::with(people, disclosing(Disclosure::default()), many_requests).await
}

/// As many requests and rows as the callers can ask for; as many queries at a time as by default.
fn many_requests(layout: &Layout) {
    let path = layout.gateway().join("gateway.toml");
    let limits = ["caller", "agreement"]
        .map(|whose| format!("\n[limits.{whose}]\nrequests_per_minute = 600000\nrows_per_day = 1000000000000\n"))
        .concat();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text + &limits).unwrap();
}

/// What is missed, if anything is.
async fn one_caller() -> Vec<String> {
    let sandbox = world(500).await;
    let (client, mut health) = (sandbox.client().await, HealthClient::new(channel(&sandbox).await));
    let [mut view, mut new, mut bare] = [const { Vec::new() }; 3];
    for turn in 0..TURNS {
        let since = Instant::now();
        client.query(VIEW).await.unwrap();
        view.push(since.elapsed());
        let since = Instant::now();
        client.query(&another(turn)).await.unwrap();
        new.push(since.elapsed());
        let since = Instant::now();
        health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
        bare.push(since.elapsed());
    }
    let [[view, slowest], [new, _], [bare, _]] = [view, new, bare].map(|mut took| percentiles(&mut took));
    let times = view.as_secs_f64() / bare.as_secs_f64();
    println!(
        "a small view on an open connection: {:.1} ms, {:.1} ms in the 99th percentile; one that was not asked before {:.1} ms; a bare \
         gRPC call {:.2} ms: {times:.0} ×",
        ms(view),
        ms(slowest),
        ms(new),
        ms(bare)
    );
    (times > 40.0).then(|| format!("a small view takes {times:.0} × a bare call")).into_iter().collect()
}

async fn many_callers(time: Duration) -> Vec<String> {
    let sandbox = world(500).await;
    println!("\n| callers | answers a second | p50 ms | p99 ms | p99 / p50 |\n|---|---|---|---|---|");
    let (mut most, mut missed) = (0.0_f64, Vec::new());
    for callers in CALLERS {
        let mut clients = Vec::new();
        for number in 0..callers {
            let token = sandbox.token_with(|claims| claims["sub"] = json!(format!("analyst-{number}")));
            clients.push(sandbox.client_with(|connection| connection.token = Some(token)).await);
        }
        let began = Instant::now();
        let asking: Vec<_> =
            clients.into_iter().map(|client| tokio::spawn(asked_until(client, callers * 1_000_000, began + time))).collect();
        let mut all = Vec::new();
        for caller in asking {
            all.extend(caller.await.unwrap());
        }
        let rate = all.len() as f64 / began.elapsed().as_secs_f64();
        let [half, slowest] = percentiles(&mut all);
        let spread = slowest.as_secs_f64() / half.as_secs_f64();
        println!("| {callers} | {rate:.0} | {:.1} | {:.1} | {spread:.1} |", ms(half), ms(slowest));
        if rate < 0.8 * most {
            missed.push(format!("{callers} callers get {rate:.0} answers a second, fewer {most:.0}"));
        }
        if spread > 4.0 {
            missed.push(format!("of {callers} callers the 99th percentile is {spread:.1} × the median"));
        }
        most = most.max(rate);
    }
    missed
}

/// The view with a condition that was not there before.
fn another(number: usize) -> String {
    format!("{VIEW} HAVING count(*) > {number}")
}

/// Asks, and asks again when it is answered; how long each answer took. New questions are numbered from `first` on.
async fn asked_until(client: Client, first: usize, end: Instant) -> Vec<Duration> {
    let mut took = Vec::new();
    while Instant::now() < end {
        let question = if took.len() % 2 == 0 { VIEW.to_owned() } else { another(first + took.len()) };
        let since = Instant::now();
        client.query(&question).await.unwrap();
        took.push(since.elapsed());
    }
    took
}

async fn hours(time: Duration) -> Vec<String> {
    if time.is_zero() {
        return Vec::new();
    }
    let sandbox = world(100_000).await;
    let view = std::fs::read_to_string(sandbox.layout.estate().join("views/opportunity_by_region.sql")).unwrap();
    let files = files(&sandbox.layout);
    let processes = DEPARTMENTS.iter().chain([&"gateway"]).map(|of| (*of, sandbox.running.process_id(of).unwrap())).collect::<Vec<_>>();
    let had = Arc::new(Mutex::new(Vec::<Vec<u64>>::new()));
    let looking = {
        let (had, processes) = (Arc::clone(&had), processes.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                had.lock().unwrap().push(processes.iter().map(|(_, process)| resident(*process)).collect());
            }
        })
    };
    let (began, mut changed, mut answers) = (Instant::now(), 0, 0);
    while began.elapsed() < time {
        // Tokens live for minutes, callers for half of one.
        let half_a_minute = (Instant::now() + Duration::from_secs(30)).min(began + time);
        let mut asking = Vec::new();
        for caller in 0..4 {
            let token = sandbox.token_with(|claims| claims["sub"] = json!(format!("analyst-{caller}")));
            let client = sandbox.client_with(|connection| connection.token = Some(token)).await;
            let view = view.clone();
            asking.push(tokio::spawn(mixed(client, view, caller, half_a_minute)));
        }
        for caller in asking {
            answers += caller.await.unwrap();
        }
        touch(&files[changed % files.len()].path);
        changed += 1;
    }
    looking.abort();
    assert!(had.lock().unwrap().len() >= 60, "a minute at least");
    let (mut told, mut missed, had) = (Vec::new(), Vec::new(), had.lock().unwrap());
    let mean = |sixth: usize, of: usize| {
        let samples = &had[had.len() * sixth / 6..had.len() * (sixth + 1) / 6];
        samples.iter().map(|sample| sample[of]).sum::<u64>() as f64 / samples.len() as f64 / 1024.0
    };
    for (place, (of, _)) in processes.into_iter().enumerate() {
        let (early, late) = (mean(1, place), mean(5, place));
        let growth = 100.0 * (late / early - 1.0);
        told.push(format!("{of} {early:.0} → {late:.0} MiB ({growth:+.1} %)"));
        if growth >= 5.0 {
            missed.push(format!("{of} grew by {growth:.1} %"));
        }
    }
    println!("\n{:.0} minutes, {answers} answers and refusals, {changed} changes of files: {}", time.as_secs_f64() / 60.0, told.join(", "));
    missed
}

/// Asks of one department, of five, and what is refused, until then; how often it was answered.
async fn mixed(client: Client, view: String, first: usize, end: Instant) -> usize {
    let mut answers = 0;
    for turn in first.. {
        if Instant::now() >= end {
            break;
        }
        match turn % 4 {
            0 => drop(client.query(&view).await.unwrap()),
            1 => {
                let refused = client.query("SELECT subject FROM dhsc.health").await.unwrap_err();
                assert!(matches!(refused.code, Some(Code::Denied | Code::Disclosure)), "{}", refused.message);
            }
            _ => drop(client.query(VIEW).await.unwrap()),
        }
        answers += 1;
    }
    answers
}

async fn channel(sandbox: &Sandbox) -> Channel {
    let connection = sandbox.connection();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&connection.ca)).domain_name(&connection.server_name);
    Endpoint::from_shared(connection.gateway).unwrap().tls_config(tls).unwrap().tcp_nodelay(true).connect().await.unwrap()
}

/// The median and the 99th percentile.
fn percentiles(took: &mut [Duration]) -> [Duration; 2] {
    took.sort_unstable();
    [took[took.len() / 2], took[took.len() * 99 / 100]]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
