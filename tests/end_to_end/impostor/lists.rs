//! An impostor that lies about whose choices reach the other parties' data.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat_policy::Code;
use concordat_proto::CONTRACT_VERSION;
use concordat_proto::reach::{Changes, Pseudonym, Statement};
use concordat_proto::receipt::{AUDIENCE, Standing};
use concordat_proto::v1;
use futures::{Stream, StreamExt as _, stream};

use super::node::Impostor;
use super::sayings::Saying;
use super::{DEADLINE, GROWTH_MIB, JOINED, World, peak};
use crate::reach::reaching;
use crate::sandbox::{refused, until};

/// The most pseudonyms of one list.
const MOST: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Listing {
    Truth,
    // Pseudonyms.
    Descending,
    Twice,
    Ragged,
    BothWays,
    AddedLate,
    // Statements.
    NoStatement,
    Forged,
    OfAnotherRequest,
    OfOtherChanges,
    OfAnotherDomain,
    OfAnotherAgreement,
    ChangesOfNothing,
    LowerVersion,
    LongStatement,
    AfterTheStatement,
    // Without an end.
    EmptyForever,
    PseudonymsForever,
    Stall,
}

/// What is said, and what the refusal says of it.
const LISTINGS: &[(Listing, &str)] = &[
    (Listing::Descending, "pseudonyms that do not ascend"),
    (Listing::Twice, "pseudonyms that do not ascend"),
    (Listing::Ragged, "no whole number of pseudonyms"),
    (Listing::BothWays, "both added and removed"),
    (Listing::AddedLate, "added after others were removed"),
    (Listing::NoStatement, "a list without a statement"),
    (Listing::Forged, "a statement that does not verify"),
    (Listing::OfAnotherRequest, "the statement of another list"),
    (Listing::OfOtherChanges, "the statement of another list"),
    (Listing::OfAnotherDomain, "the statement of another list"),
    (Listing::OfAnotherAgreement, "the statement of another list"),
    (Listing::ChangesOfNothing, "the statement of another list"),
    (Listing::LowerVersion, "an older consent ledger than one that it used before"),
    (Listing::LongStatement, "a statement beside pseudonyms, or of more than 8 KiB"),
    (Listing::AfterTheStatement, "a message after the statement"),
    (Listing::EmptyForever, "without pseudonyms or statement"),
];

type Messages = Pin<Box<dyn Stream<Item = v1::ReachChanges> + Send>>;

impl Listing {
    pub fn tell(self, by: &Impostor, request: &v1::ReachRequest) -> Messages {
        let one = |n: u128| n.to_be_bytes().to_vec();
        let added = |added: Vec<u8>| v1::ReachChanges { added, ..Default::default() };
        let removed = |removed: Vec<u8>| v1::ReachChanges { removed, ..Default::default() };
        let end = |changes: &Changes| v1::ReachChanges { statement: self.statement(by, request, changes), ..Default::default() };
        let truth = Changes { added: vec![pseudonym(7), pseudonym(9)], removed: Vec::new() };
        let parts = match self {
            Self::Descending => vec![added([one(9), one(7)].concat()), end(&truth)],
            Self::Twice => vec![added(one(7)), added(one(7)), end(&truth)],
            Self::Ragged => vec![added(vec![1; 17]), end(&truth)],
            Self::BothWays => vec![added(one(7)), removed(one(7)), end(&truth)],
            Self::AddedLate => vec![removed(one(7)), added(one(9)), end(&truth)],
            Self::NoStatement => vec![added(one(7))],
            Self::OfOtherChanges => vec![added(one(7)), end(&truth)],
            Self::LongStatement => vec![v1::ReachChanges { statement: "x".repeat(100_000), ..Default::default() }],
            Self::AfterTheStatement => vec![added([one(7), one(9)].concat()), end(&truth), added(one(11))],
            Self::EmptyForever => return forever(|_| Vec::new()),
            Self::PseudonymsForever => return forever(|at| (at * 16_384..(at + 1) * 16_384).flat_map(u128::to_be_bytes).collect()),
            Self::Stall => return stream::pending().boxed(),
            _ => vec![added([one(7), one(9)].concat()), end(&truth)],
        };
        stream::iter(parts).boxed()
    }

    fn statement(self, by: &Impostor, request: &v1::ReachRequest, changes: &Changes) -> String {
        let now = Utc::now().timestamp();
        let domain = request.domain.clone().unwrap();
        let version = by.consent_version.load(Ordering::Acquire);
        let epoch = domain.epoch + u32::from(self == Self::OfAnotherDomain);
        let statement = Statement {
            iss: "node:dwp".into(),
            sub: if self == Self::OfAnotherRequest { "another-request".into() } else { request.id.clone() },
            aud: AUDIENCE.into(),
            nbf: now,
            exp: now + 60,
            domain: format!("{}/{}/{epoch}", domain.mission, domain.purpose),
            agreement_digest: if self == Self::OfAnotherAgreement { "0".repeat(64) } else { request.agreement_digest.clone() },
            basis: request.basis,
            since: (self == Self::ChangesOfNothing).then_some(Standing { generation: 0, version: version + 1 }),
            standing: Standing { generation: 0, version: if self == Self::LowerVersion { 0 } else { version } },
            judged_at: now,
            rules: "the impostor's".into(),
            changes_sha256: changes.digest(),
        };
        statement.sign(if self == Self::Forged { &by.other } else { &by.key }).unwrap()
    }
}

/// Messages without an end; the runtime gets its turn between them.
fn forever(added: fn(u128) -> Vec<u8>) -> Messages {
    let next = move |at| async move {
        tokio::task::yield_now().await;
        Some((v1::ReachChanges { added: added(at), ..Default::default() }, at + 1))
    };
    stream::unfold(0u128, next).boxed()
}

fn pseudonym(n: u128) -> Pseudonym {
    n.to_be_bytes()
}

impl World {
    /// Asks what DWP's list reaches while the impostor lies about it.
    async fn listed(&self, listing: Listing) -> Result<concordat::client::Answer, concordat::failure::Failure> {
        *self.impostor.listing.lock().unwrap() = Some(listing);
        self.ask(JOINED).await
    }
}

#[tokio::test]
async fn a_list_is_refused_and_its_department_named_whatever_is_wrong_with_it() {
    let mut world = World::with(|layout| {
        reaching(layout, "healthy-life", "15m");
        let file = layout.gateway().join("gateway.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replacen("[limits]\n", &format!("[limits]\nreach_subjects = {MOST}\n"), 1)).unwrap();
    })
    .await;
    // A node of version 1 cannot tell.
    world.speaks(1).await;
    let failure = refused(world.ask(JOINED).await, Code::NodeRefused, "too old to tell whose withdrawals reach");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    world.speaks(CONTRACT_VERSION).await;
    let gateway = world.gateway;
    world.impostor.says(Saying::Truth);
    world.listed(Listing::Truth).await.unwrap();
    let honest = peak(gateway);
    for (listing, says) in LISTINGS {
        let failure = refused(world.listed(*listing).await, Code::NodeFaulty, says);
        assert_eq!(failure.department.as_deref(), Some("dwp"), "{listing:?}");
        world.same_gateway();
        world.listed(Listing::Truth).await.unwrap();
    }
    let failure = refused(world.listed(Listing::PseudonymsForever).await, Code::LimitExceeded, "more than 100000 subjects");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    let since = Instant::now();
    let failure =
        refused(world.listed(Listing::Stall).await, Code::LimitExceeded, "lists of withdrawals of 'dwp' had not come to their end");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    assert!(since.elapsed() < Duration::from_secs(u64::from(DEADLINE) + 3), "{:?}", since.elapsed());
    until("the gateway lets go of the lists", || world.impostor.open.load(Ordering::Acquire) == 0).await;
    world.listed(Listing::Truth).await.unwrap();
    world.same_gateway();
    let grown = peak(gateway).saturating_sub(honest);
    assert!(grown <= GROWTH_MIB, "the gateway has grown by {grown} MiB");
    world.server.abort();
}
