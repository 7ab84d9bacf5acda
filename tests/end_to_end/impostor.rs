//! A node that lies. It has the department's own certificate and keys, so only the gateway's checks stand in its way.
//!
//! Whatever it says: the query is refused within its deadline by an error that names the department and what it did, the gateway
//! is the same process afterwards, answers a query of another department at the same time, and has grown by no more than
//! [`GROWTH_MIB`]. A new lie is a variant of [`Lie`] and a line of [`Lie::ALL`], or of [`Saying`] and [`SAYINGS`]; what it tells of
//! whose choices reach other parties' data is in [`lists`]. The version of
//! the impostor's consent ledger, in its descriptions and receipts, is `Impostor::consent_version`.

mod lists;
mod node;
mod sayings;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use concordat::client::Answer;
use concordat::failure::Failure;
use concordat::federation::{Layout, adopt};
use concordat_policy::Code;

use crate::sandbox::{Sandbox, refused, until};
use concordat_fuzz_targets::lies::Lie;
use node::Impostor;
use sayings::Saying;

/// By how much the gateway's resident memory may grow over what honest queries need: for each of two partitions, the batches
/// that wait (8 MiB), the message that is read and its aligned copy (2 × 32 MiB), its dictionaries (32 MiB).
const GROWTH_MIB: u64 = 2 * (8 + 64 + 32);
/// Seconds of a query.
const DEADLINE: u32 = 10;
/// Rows of one release.
const MOST_ROWS: u64 = 3_000_000;

/// A condition of one number only: rows are ordered, and not groups of them.
const SQL: &str = "SELECT count(*) AS n, count(*) FILTER (WHERE claiming) AS c, count(conditionality) AS k FROM dwp.claims";
const GROUPS: &str = "SELECT count(*) AS n, count(claiming) AS c FROM dwp.claims";
/// Ends with DHSC's rows, however many of DWP's are still to come.
const JOINED: &str = "SELECT count(DISTINCT h.subject) AS n FROM dhsc.health h JOIN dwp.claims c ON c.subject = h.subject";
const HONEST: &str = "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region";

/// What is said beside lies in messages ([`Lie::ALL`]), and what the refusal says of it.
const SAYINGS: &[(Saying, &str)] = &[
    (Saying::RowsOfReceipt, "another number of rows than its receipt states"),
    (Saying::TenTimesTheRows, "another number of rows than its receipt states"),
    (Saying::RowsAfterReceipt, "pseudonyms that do not ascend"),
    (Saying::NoReceipt, "without a receipt"),
    (Saying::ForgedReceipt, "a receipt that does not verify"),
    (Saying::ReceiptOfAnotherOrder, "the receipt of another release"),
    (Saying::ReceiptOfAnotherDataset, "the receipt of another release"),
    (Saying::ReceiptForAnotherMission, "a receipt for another mission or purpose than the order's"),
    (Saying::ReceiptForAnotherPurpose, "a receipt for another mission or purpose than the order's"),
    (Saying::ReceiptForANarrowerPurpose, "a receipt for another mission or purpose than the order's"),
    (Saying::ReceiptForNoPurpose, "a receipt for another mission or purpose than the order's, or for none"),
    (Saying::StaleConsent, "an older consent ledger than one that it used before"),
    (Saying::LongReceipt, "a receipt with a body, or of more than 8 KiB"),
    (Saying::DictionariesForever, "a dictionary that replaces one which no batch has used"),
    (Saying::EmptyForever, "batches without rows"),
    (Saying::OneTicket, "other tickets"),
    (Saying::AMillionTickets, "answered out of contract"),
];

struct World {
    sandbox: Sandbox,
    impostor: Impostor,
    gateway: u32,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl World {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, after `files` has changed the files.
    async fn with(files: impl FnOnce(&Layout)) -> Self {
        let mut sandbox = Sandbox::with(
            300,
            |f| (f.limits.deadline_seconds, f.limits.caller_requests_per_minute) = (Some(DEADLINE), Some(100_000)),
            |layout| {
                files(layout);
                let file = layout.gateway().join("gateway.toml");
                let text = std::fs::read_to_string(&file).unwrap();
                std::fs::write(file, text.replacen("[limits]\n", &format!("[limits]\nrelease_rows = {MOST_ROWS}\n"), 1)).unwrap();
            },
        )
        .await;
        let (impostor, server) = Impostor::in_place_of_dwp(&mut sandbox).await;
        let gateway = sandbox.running.process_id("gateway").unwrap();
        let world = Self { sandbox, impostor, gateway, server };
        let deadline = Instant::now() + Duration::from_secs(20);
        while world.ask(SQL).await.is_err() {
            assert!(Instant::now() < deadline, "told truly, the impostor's stream is taken: the test sees what it means to see");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world
    }

    /// Has the impostor speak a version of the contract, and the gateway ask anew.
    async fn speaks(&mut self, version: u32) {
        self.impostor.version.store(version, Ordering::Release);
        self.sandbox.running.restart_gateway().await.unwrap();
        self.gateway = self.sandbox.running.process_id("gateway").unwrap();
    }

    async fn ask(&self, sql: &str) -> Result<Answer, Failure> {
        self.sandbox.client_with(|c| c.purpose = Some("health.prevention".into())).await.query(sql).await
    }

    /// Asks the impostor while it lies, and another department at the same time.
    async fn told(&self, saying: Saying, sql: &str) -> Result<Answer, Failure> {
        self.impostor.says(saying);
        let (answer, honest) = tokio::join!(self.ask(sql), self.sandbox.query(HONEST));
        honest.unwrap_or_else(|e| panic!("{saying:?} keeps another department's query from its answer: {e:?}"));
        answer
    }

    fn same_gateway(&self) {
        assert!(std::fs::read_to_string(format!("/proc/{}/stat", self.gateway)).is_ok_and(|stat| !stat.contains(") Z ")));
    }
}

/// The greatest resident memory of a process since the last call, in MiB.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[tokio::test]
async fn a_lying_node_is_caught_and_named_whatever_the_lie() {
    let mut world = World::start().await;
    world.told(Saying::Truth, SQL).await.unwrap();
    let honest = peak(world.gateway);
    let lies = Lie::ALL.iter().map(|(lie, why)| (Saying::Stream(*lie), why.to_string()));
    for (saying, says) in lies.chain(SAYINGS.iter().map(|(saying, says)| (*saying, (*says).to_owned()))) {
        let failure = refused(world.told(saying, SQL).await, Code::NodeFaulty, &says);
        assert_eq!(failure.department.as_deref(), Some("dwp"), "{saying:?}");
        world.same_gateway();
        let grown = peak(world.gateway).saturating_sub(honest);
        assert!(grown <= GROWTH_MIB, "{saying:?} made the gateway grow by {grown} MiB");
    }
    refused(world.told(Saying::Truth, GROUPS).await, Code::NodeFaulty, "another schema than the one that was ordered");
    // Nothing is left over of any of them.
    world.told(Saying::Truth, SQL).await.unwrap();
    world.told(Saying::Descriptor, SQL).await.unwrap();
    let grown = peak(world.gateway).saturating_sub(honest);
    assert!(grown <= GROWTH_MIB, "a descriptor that nobody asked for made the gateway grow by {grown} MiB");
    // A key that is not the agreement's is caught when the gateway asks anew who the node is.
    world.impostor.says(Saying::AnotherKey);
    world.sandbox.running.restart_gateway().await.unwrap();
    refused(world.ask(SQL).await, Code::NodeFaulty, "not the one in the agreement");
    world.server.abort();
}

#[tokio::test]
async fn data_that_is_older_than_agreed_is_refused_of_a_node_that_releases_it_all_the_same() {
    for (most, taken) in [("", true), ("max_data_age = \"3h\"\n", true), ("max_data_age = \"1h\"\n", false)] {
        let world = World::with(|layout| {
            let text = std::fs::read_to_string(layout.estate().join("agreements/healthy-life.toml")).unwrap();
            assert!(text.contains("name = \"claims\"\n"));
            adopt(layout, &text.replacen("name = \"claims\"\n", &format!("name = \"claims\"\n{most}"), 1)).unwrap();
        })
        .await;
        let old = world.told(Saying::OldData, SQL).await;
        if taken {
            old.unwrap();
        } else {
            let failure = refused(old, Code::Outdated, "'dwp.claims' be used that is at most 1 hour old");
            assert_eq!(failure.department.as_deref(), Some("dwp"));
            world.told(Saying::Truth, SQL).await.unwrap();
        }
        world.server.abort();
    }
}

#[tokio::test]
async fn a_node_that_never_ends_is_ended_by_the_limits() {
    let world = World::start().await;
    world.told(Saying::Truth, SQL).await.unwrap();
    let honest = peak(world.gateway);
    let failure = refused(world.told(Saying::RowsForever, SQL).await, Code::LimitExceeded, "released more than 3000000 rows");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    for (saying, sql) in [(Saying::Stall, SQL), (Saying::Drip, SQL), (Saying::StallAtTheEnd, JOINED)] {
        let since = Instant::now();
        let failure = refused(world.told(saying, sql).await, Code::LimitExceeded, "releases of 'dwp' had not come to their end");
        assert_eq!(failure.department.as_deref(), Some("dwp"), "{saying:?}");
        assert!(since.elapsed() < Duration::from_secs(u64::from(DEADLINE) + 3), "{saying:?} took {:?}", since.elapsed());
        until("the gateway lets go of the streams", || world.impostor.open.load(Ordering::Acquire) == 0).await;
    }
    world.told(Saying::Truth, SQL).await.unwrap();
    world.same_gateway();
    let grown = peak(world.gateway).saturating_sub(honest);
    assert!(grown <= GROWTH_MIB, "the gateway has grown by {grown} MiB");
    world.server.abort();
}
