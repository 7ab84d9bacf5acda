//! `kill -9` of the gateway and of a node, by turns, while queries run: no answer that a client received is without its entries, on both
//! sides and once each; what a node released is closed in its log whatever became of the gateway; and the logs verify. A few
//! seeded points; `CONCORDAT_KILLS` sets how many, `CONCORDAT_KILLS_SEED` where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use concordat::client::{Answer, Client};
use concordat::failure::UNREACHABLE;
use concordat_policy::Code;
use serde_json::Value;

use crate::commands::{Ran, command};
use crate::consent_killed::{Seeded, number, seed};
use crate::sandbox::Sandbox;
use crate::witness::{all_seen, at_rest};

const NODE: &str = "dwp";
/// Callers at a time.
const CALLERS: usize = 3;
/// How long the tickets of an order are good, and a little more: by then every release has ended.
const LAPSED: Duration = Duration::from_secs(75);

const STATEMENTS: [&str; 2] = [
    "SELECT count(DISTINCT subject) AS n FROM dwp.claims WHERE claiming",
    "SELECT a.region, count(DISTINCT a.subject) AS n FROM dfe.attainment a \
     JOIN dwp.claims c ON c.subject = a.subject GROUP BY a.region",
];

/// Entries that the last run of a node made: what was open when it was killed nobody could close.
fn last_run(log: &[Value]) -> &[Value] {
    let start = log.iter().rposition(|entry| entry["event"] == "node.started").unwrap_or(0);
    &log[start..]
}

/// The orders of which an entry says that they are released, and of which not every partition is closed exactly once, with how many are.
/// What began before the last start of the node is left out.
pub fn unclosed(log: &[Value]) -> BTreeMap<String, (u64, u64)> {
    let mut orders: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for entry in last_run(log) {
        let Some(order) = entry["order"].as_str() else { continue };
        match entry["event"].as_str() {
            Some("release.intended") => drop(orders.insert(order.to_owned(), (entry["partitions"].as_u64().unwrap(), 0))),
            Some("release.completed" | "release.abandoned") => {
                // One partition, or so many for which nobody came.
                let closed = entry["partitions"].as_u64().unwrap_or(1);
                orders.entry(order.to_owned()).and_modify(|(_, of)| *of += closed);
            }
            _ => {}
        }
    }
    orders.retain(|_, (partitions, closed)| partitions != closed);
    orders
}

/// Asks one query after the other until one is cut off, and gives the answers.
async fn until_cut_off(client: Client, first: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    for sql in STATEMENTS.into_iter().cycle().skip(first) {
        match client.query(sql).await {
            Ok(answer) => answers.push(answer),
            Err(failure) => {
                let cut = matches!(failure.code, Some(Code::NodeUnavailable | Code::NodeTimeout)) || failure.exit == UNREACHABLE;
                assert!(cut, "{failure:?}");
                return answers;
            }
        }
    }
    answers
}

fn query_id(answer: &Answer) -> String {
    answer.summary["query_id"].as_str().unwrap().to_owned()
}

/// Each of these answers has its entries at the gateway, and each release that it rests on at the node, with as many rows.
fn check(sandbox: &Sandbox, answers: &BTreeSet<String>) {
    let of = |log: &[Value], event: &str, field: &str| -> BTreeMap<String, Vec<Value>> {
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for entry in log.iter().filter(|entry| entry["event"] == event) {
            found.entry(entry[field].as_str().unwrap().to_owned()).or_default().push(entry.clone());
        }
        found
    };
    let gateway = sandbox.log("gateway");
    let (closed, opened) = (of(&gateway, "query.closed", "query_id"), of(&gateway, "query.opened", "query_id"));
    assert!(closed.values().chain(opened.values()).all(|entries| entries.len() == 1), "an entry stands there twice");
    let missing: Vec<&String> = answers.iter().filter(|id| !closed.contains_key(*id) || !opened.contains_key(*id)).collect();
    assert!(missing.is_empty(), "of {} answers these have no entry: {missing:?}", answers.len());
    let mut compared = 0;
    for department in [NODE, "dfe"] {
        let log = sandbox.log(department);
        let (intended, completed) = (of(&log, "release.intended", "order"), of(&log, "release.completed", "order"));
        assert!(intended.values().all(|entries| entries.len() == 1), "{department}: an intent stands there twice");
        for entry in answers.iter().map(|id| &closed[id][0]) {
            let sources = entry["facts"]["sources"].as_array().unwrap();
            for source in sources.iter().filter(|source| source["department"] == department) {
                let order = source["order"].as_str().unwrap();
                assert!(intended.contains_key(order), "{department}: no intent of {entry}");
                let rows: u64 = completed[order].iter().map(|entry| entry["rows"].as_u64().unwrap()).sum();
                assert_eq!(rows, source["rows"].as_u64().unwrap(), "{department}: {entry}");
                compared += 1;
            }
        }
    }
    assert!(compared >= answers.len(), "{compared} releases of {} answers were compared", answers.len());
}

fn verifies(sandbox: &Sandbox, of: &str) {
    let folder = if of == "gateway" { sandbox.layout.gateway() } else { sandbox.layout.node(of) };
    let verified: Ran = command(["audit", "verify", "--output", "json", "--log"]).arg(folder.join("log")).output().unwrap().into();
    assert!(verified.exit == 0 && verified.json()["verified"] == true, "{of}: {} {}", verified.text(), verified.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_without_its_entries_whatever_is_killed_while_it_is_made() {
    let mut sandbox = Sandbox::with(3_000, |f| f.limits.caller_requests_per_minute = Some(100_000), |_| {}).await;
    all_seen(&sandbox).await;
    let mut random = Seeded(seed());
    let since = Instant::now();
    for sql in STATEMENTS {
        sandbox.query(sql).await.unwrap();
    }
    // From before the first answer until after a few.
    let latest = u64::try_from(since.elapsed().as_micros()).unwrap() * 2;
    let (mut answers, rounds) = (BTreeSet::new(), number("CONCORDAT_KILLS", 4));
    for round in 0..rounds {
        let victim = if round % 2 == 0 { "gateway" } else { NODE };
        // Also where the gateway has not noticed yet that the node is back.
        let began = Instant::now();
        let first = loop {
            match sandbox.query(STATEMENTS[0]).await {
                Ok(answer) => break answer,
                Err(failure) => assert!(began.elapsed() < Duration::from_secs(20), "round {round}: {failure:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        answers.insert(query_id(&first));
        let mut asking = Vec::new();
        for caller in 0..CALLERS {
            asking.push(tokio::spawn(until_cut_off(sandbox.client().await, caller)));
        }
        let point = Duration::from_micros(random.below(latest + 1));
        tokio::time::sleep(point).await;
        sandbox.running.kill(victim);
        for caller in asking {
            for answer in caller.await.unwrap() {
                assert!(answers.insert(query_id(&answer)));
            }
        }
        // The nodes that live close what they release: at once, or when the tickets lapse that nobody redeemed.
        let (killed, alive) = (Instant::now(), [NODE, "dfe"].into_iter().filter(|node| *node != victim));
        for node in alive {
            loop {
                let open = unclosed(&sandbox.log(node));
                if open.is_empty() {
                    break;
                }
                assert!(killed.elapsed() < LAPSED, "round {round}, {victim} killed after {point:?}: {node} leaves open {open:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        match victim {
            NODE => sandbox.running.restart_node(NODE).await.unwrap(),
            _ => sandbox.running.restart_gateway().await.unwrap(),
        }
        eprintln!("round {round}: {victim} was killed after {point:?}, {} answers until now", answers.len());
        check(&sandbox, &answers);
    }
    assert!(answers.len() as u64 > rounds, "{} answers: nothing was under way", answers.len());
    at_rest(&sandbox).await;
    for log in ["gateway", NODE, "dfe"] {
        verifies(&sandbox, log);
    }
}
