//! Faults × where in a query they fall × the query's shape. Each ends, within [`DEADLINE`], in the complete answer (compared with
//! the oracle) or in a typed error that names the department; then the fault ends, and the next answers are complete again.
//!
//! The node of DWP is behind a proxy that counts what it sends: `Order` is before the first byte of the answer to the order,
//! `Stream` in the middle of the release, `Receipt` inside the last bytes, which are the receipt's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use concordat::client::Answer;
use concordat::failure::{Failure, UNREACHABLE};
use concordat_policy::Code;

use super::proxy::Proxy;
use crate::log_killed::unclosed;
use crate::oracle::{Oracle, agree};
use crate::sandbox::{Sandbox, until};
use crate::witness::{all_seen, at_rest};

/// Until when every query has ended: a lost connection is noticed within ten seconds.
const DEADLINE: Duration = Duration::from_secs(14);
/// How soon after its client has gone a query must have stopped everywhere.
const STOPPED: Duration = Duration::from_secs(1);
/// Bytes of a release's end that hold no complete receipt.
const END: usize = 300;

const SINGLE: &str = "SELECT count(DISTINCT subject) AS n, avg(months_claiming) AS m FROM dwp.claims WHERE claiming";
const JOIN: &str = "SELECT a.region, count(DISTINCT a.subject) AS n, avg(c.months_claiming) AS m \
     FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject GROUP BY a.region";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Everything waits for two seconds, then comes slowly.
    Slow,
    /// Nothing passes any more, and nobody is told.
    Partition,
    /// The connection is reset; new ones are taken.
    Reset,
    /// The node is killed.
    NodeKilled,
    /// The gateway is killed.
    GatewayKilled,
    /// The gateway is told to stop, and its drain ends before the query.
    GatewayStopped,
    /// The client goes away.
    ClientGone,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Before,
    Order,
    Stream,
    Receipt,
}

/// How a query may end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// The complete answer.
    Answer,
    /// DWP is named as unavailable, or as not answering in time.
    Named,
    /// The client sees that the gateway broke off.
    BrokenOff,
    /// The gateway says that it stops.
    Stopping,
    /// Nobody is left to be told; everything has stopped within a second.
    Left,
    /// There is nobody to ask: not a case.
    None,
}

use End::{Answer as A, BrokenOff, Left, Named, None as X, Stopping};

/// The matrix: before the query, at the order, in the stream, before the receipt.
const MATRIX: [(Fault, [End; 4]); 7] = [
    (Fault::Slow, [A, A, A, A]),
    (Fault::Partition, [Named, Named, Named, Named]),
    (Fault::Reset, [A, Named, Named, Named]),
    (Fault::NodeKilled, [Named, Named, Named, Named]),
    (Fault::GatewayKilled, [X, BrokenOff, BrokenOff, BrokenOff]),
    (Fault::GatewayStopped, [X, Stopping, Stopping, Stopping]),
    (Fault::ClientGone, [X, Left, Left, Left]),
];
/// The departments that the queries ask.
const NODES: [&str; 2] = ["dwp", "dfe"];
const PHASES: [Phase; 4] = [Phase::Before, Phase::Order, Phase::Stream, Phase::Receipt];

struct World {
    sandbox: Sandbox,
    proxy: Proxy,
    sql: &'static str,
    expected: Vec<RecordBatch>,
    /// Bytes that the node sends for one query.
    bytes: usize,
    /// Releases that were there before the case.
    before: BTreeSet<PathBuf>,
    /// How many entries the nodes' logs had before the case.
    logged: BTreeMap<&'static str, usize>,
}

impl World {
    async fn new(sql: &'static str) -> Self {
        let operations = |layout: &concordat::federation::Layout| {
            let path = layout.gateway().join("gateway.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, format!("{text}\n[operations]\ndrain_seconds = 1\n")).unwrap();
        };
        let mut sandbox = Sandbox::with(3_000, |_| {}, operations).await;
        let proxy = Proxy::before(&mut sandbox, "dwp").await;
        let expected = Oracle::over(&sandbox.layout).await.query(sql).await;
        all_seen(&sandbox).await;
        let mut world = Self { sandbox, proxy, sql, expected, bytes: usize::MAX, before: BTreeSet::new(), logged: BTreeMap::new() };
        for _ in 0..3 {
            // The first one also brings keys and descriptions. What witnesses send passes the proxy too.
            at_rest(&world.sandbox).await;
            world.proxy.passed();
            world.complete(&world.sandbox.query(sql).await.unwrap());
            world.bytes = world.bytes.min(world.proxy.passed());
        }
        assert!(world.bytes > 10 * END, "{} bytes", world.bytes);
        world
    }

    fn complete(&self, answer: &Answer) {
        assert!(agree(answer, &self.expected, 1) > 0, "nothing was compared");
    }

    fn holds_at(&self, phase: Phase) -> usize {
        match phase {
            Phase::Before | Phase::Order => 0,
            Phase::Stream => self.bytes / 2,
            Phase::Receipt => self.bytes - END,
        }
    }

    async fn case(&mut self, fault: Fault, phase: Phase) -> (End, Duration) {
        let client = self.sandbox.client().await;
        at_rest(&self.sandbox).await;
        self.before = releases(&self.sandbox);
        self.logged = NODES.into_iter().map(|node| (node, self.sandbox.log(node).len())).collect();
        if phase == Phase::Before {
            self.strike(fault).await;
        } else {
            self.proxy.hold_after(self.holds_at(phase));
        }
        let (since, sql) = (Instant::now(), self.sql);
        let query = tokio::spawn(async move { client.query(sql).await });
        let mut since = since;
        if phase != Phase::Before {
            self.proxy.held().await;
            assert!(!query.is_finished(), "{fault:?} at {phase:?}: it had ended already: {:?}", query.await);
            since = Instant::now();
            if fault == Fault::ClientGone {
                query.abort();
                let _ = query.await;
                return (self.left(since).await, since.elapsed());
            }
            self.strike(fault).await;
        }
        let outcome = tokio::time::timeout(DEADLINE, query).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{fault:?} at {phase:?}: no end within {DEADLINE:?}")).unwrap();
        (self.judge(outcome), since.elapsed())
    }

    async fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Slow => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                self.proxy.slow(self.bytes);
            }
            Fault::Partition => self.proxy.lose(),
            Fault::Reset => {
                self.proxy.cut();
                self.proxy.heal();
                // Until the gateway has noticed.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Fault::NodeKilled => {
                self.sandbox.running.kill("dwp");
                self.proxy.cut();
            }
            Fault::GatewayKilled => self.sandbox.running.kill("gateway"),
            Fault::GatewayStopped => signal(&self.sandbox, "gateway", "TERM"),
            Fault::ClientGone => {}
        }
    }

    fn judge(&self, outcome: Result<Answer, Failure>) -> End {
        match outcome {
            Ok(answer) => {
                self.complete(&answer);
                End::Answer
            }
            Err(failure) => match failure.code {
                Some(Code::NodeUnavailable | Code::NodeTimeout) if failure.department.as_deref() == Some("dwp") => {
                    assert!(failure.message.contains("dwp"), "{failure:?}");
                    End::Named
                }
                Some(Code::Cancelled) if failure.message.contains("the gateway is being stopped") => End::Stopping,
                None if failure.exit == UNREACHABLE => End::BrokenOff,
                _ => panic!("{failure:?}"),
            },
        }
    }

    /// What the client left behind has stopped: the gateway's entry is closed, and no node keeps a release.
    async fn left(&self, since: Instant) -> End {
        self.stopped(true).await;
        let closed = self.sandbox.log("gateway").last().unwrap().clone();
        assert_eq!((&closed["event"], &closed["code"]), (&"query.refused".into(), &"cancelled".into()), "{closed}");
        assert!(since.elapsed() < STOPPED, "stopped only after {:?}", since.elapsed());
        End::Left
    }

    /// Waits until every entry of the gateway's log is closed, and every release that a node began has ended.
    async fn stopped(&self, nodes_too: bool) {
        let of = |log: &[serde_json::Value], event: &str| log.iter().filter(|e| e["event"] == event).count();
        until("every entry is closed", || {
            // A gateway that was killed closed nothing: what counts is this one's run.
            let log = self.sandbox.log("gateway");
            let log = &log[log.iter().rposition(|e| e["event"] == "gateway.started").unwrap()..];
            of(log, "query.opened") == of(log, "query.closed") + of(log, "query.refused")
        })
        .await;
        if nodes_too {
            until("every release has ended", || releases(&self.sandbox).is_subset(&self.before)).await;
            for (node, logged) in &self.logged {
                until("every release is closed in its department's log", || {
                    unclosed(self.sandbox.log(node).get(*logged..).unwrap_or_default()).is_empty()
                })
                .await;
            }
        }
    }

    /// Ends the fault, and shows that answers are complete again, without anybody's help.
    async fn recover(&mut self, fault: Fault, phase: Phase) {
        self.proxy.heal();
        match fault {
            Fault::NodeKilled => self.sandbox.running.restart_node("dwp").await.unwrap(),
            Fault::GatewayKilled | Fault::GatewayStopped => self.sandbox.running.restart_gateway().await.unwrap(),
            _ => {}
        }
        let since = Instant::now();
        loop {
            match self.sandbox.query(self.sql).await {
                Ok(answer) => return self.complete(&answer),
                Err(failure) => {
                    assert!(since.elapsed() < DEADLINE, "{fault:?} at {phase:?}: no recovery: {failure:?}");
                    assert!(matches!(failure.code, Some(Code::NodeUnavailable | Code::NodeTimeout)), "{fault:?} at {phase:?}: {failure:?}");
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The folders of the releases that the nodes hold.
fn releases(sandbox: &Sandbox) -> BTreeSet<PathBuf> {
    let of = |node| std::fs::read_dir(sandbox.layout.node(node).join("spill")).unwrap().map(|entry| entry.unwrap().path());
    NODES.into_iter().flat_map(of).collect()
}

pub(super) fn signal(sandbox: &Sandbox, name: &str, signal: &str) {
    let id = sandbox.running.process_id(name).unwrap().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
}

async fn every_fault(sql: &'static str) {
    let mut world = World::new(sql).await;
    let mut table = String::from("| fault | before | at the order | in the stream | before the receipt |\n|---|---|---|---|---|\n");
    for (fault, ends) in MATRIX {
        let _ = write!(table, "| {fault:?} |");
        for (phase, expected) in PHASES.into_iter().zip(ends) {
            if expected == End::None {
                table.push_str(" – |");
                continue;
            }
            // Shown when a wait within the case ends in vain.
            eprintln!("{fault:?} at {phase:?}");
            let (end, time) = world.case(fault, phase).await;
            assert_eq!(end, expected, "{fault:?} at {phase:?}");
            let _ = write!(table, " {end:?} ({:.1} s) |", time.as_secs_f64());
            world.recover(fault, phase).await;
            // Nothing of the fault is left behind, with one exception, in which the node's release ends when its tickets lapse, after
            // a minute: a gateway that is killed before the tickets came can give nothing back.
            world.stopped((fault, phase) != (Fault::GatewayKilled, Phase::Order)).await;
        }
        table.push('\n');
    }
    eprintln!("{sql}\n{table}");
}

#[tokio::test]
async fn every_fault_at_every_place_of_a_query_of_one_department() {
    every_fault(SINGLE).await;
}

#[tokio::test]
async fn every_fault_at_every_place_of_a_join() {
    every_fault(JOIN).await;
}
