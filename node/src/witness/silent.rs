//! A gateway that stops showing its log. After each order that is answered here it must show a checkpoint that is newer than the order and
//! covers the entry that opened the query, as the order states it. An honest gateway cannot help it: it closes every query in its log, and
//! brings each checkpoint within seconds.
//!
//! ```text
//! order ─▶ nothing owed for longer than max_unwitnessed? ─▶ … ─▶ owed, durable ─▶ release.intended ─▶ release
//!                         └ refused, `unwitnessed`                └ paid by what this witness cosigns
//! ```
//!
//! After a minute there is an alarm: `/readyz/alarms`, a metric, and one entry each in the log when it begins and when it is over. A gateway
//! that orders nothing owes nothing, however long it rests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use concordat_audit::witness::{FURTHEST, Misconduct, Moment, OVERDUE, Overdue, Turned};
use concordat_audit::{Entry, Unlogged};
use concordat_operate::readiness::Reason;
use concordat_policy::{Agreement, Code, Refusal, witnessed};
use concordat_proto::version::WITNESSED;

use super::{ACKNOWLEDGE, GATEWAY_LOG, GATEWAY_WITNESS, Witnessing};
use crate::node::Node;
use crate::orders::VerifiedOrder;
use crate::release::blocking;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

impl Witnessing {
    /// Whether something may be released under an agreement now.
    ///
    /// # Errors
    /// [`Code::Denied`] where the log was seen to go back; [`Code::Unwitnessed`] where it was not shown for too long.
    pub(crate) fn permits(&self, agreement: &Agreement) -> Result<(), Refusal> {
        if let Some(happened) = self.distrusted().and_then(wrong) {
            return Err(
                Refusal::new(Code::Denied, format!("nothing is released to a gateway whose access log {happened}")).advice(ACKNOWLEDGE)
            );
        }
        let now = Moment::now();
        witnessed::shown(agreement, self.owed.overdue(GATEWAY_LOG, now), now.wall.into())
    }

    /// Whether the gateway's log can have the entry that an order says opened its query.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub(crate) fn believes(&self, opened_by: u64) -> Result<(), Refusal> {
        if self.owed.can_be(GATEWAY_LOG, opened_by) {
            return Ok(());
        }
        let seen = self.owed.seen(GATEWAY_LOG);
        let cause = format!(
            "the order says that entry {opened_by} of the gateway's access log opened its query, more than {FURTHEST} after the {seen} that were \
             shown here"
        );
        Err(Refusal::new(Code::Invalid, cause).advice("the gateway's operator must find out what signs such orders"))
    }

    /// Notes, durably, what the gateway owes for an order in a version of the contract, which says by which of its entries the query was
    /// opened. Only a gateway from before there were witnesses, which never showed a log, owes none. Blocks.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Internal`] when it cannot be made durable.
    pub(crate) fn ordered(&self, opened_by: u64, version: u32) -> Result<(), Refusal> {
        let seen = self.owed.seen(GATEWAY_LOG);
        if seen == 0 && version < WITNESSED {
            return Ok(());
        }
        // More than was seen when the order came, whatever it says: else it would be paid before.
        self.owed
            .owe(GATEWAY_LOG, opened_by.max(seen.saturating_add(1)), Moment::now())
            .map_err(|e| Refusal::internal(format!("what the gateway owes of its log cannot be kept: {e}")))
    }

    /// What is wrong with the gateway's log, or with its witness. Blocks.
    pub(crate) fn alarms(&self) -> Vec<Reason> {
        let went_back = self.distrusted().and_then(wrong).map(|happened| Reason {
            what: "witness",
            cause: format!("the gateway's access log {happened}, so nothing is released to it"),
            remedy: ACKNOWLEDGE.into(),
        });
        went_back.into_iter().chain(self.silent()).chain(self.forgot()).collect()
    }

    fn silent(&self) -> Option<Reason> {
        let debt = self.owed.debts(Moment::now()).into_iter().find(|debt| debt.overdue >= OVERDUE)?;
        Some(Reason {
            what: "witness",
            cause: format!(
                "for {} s the gateway has not shown its access log beyond {} entries, though it ordered data after that; {} are owed",
                debt.overdue.as_secs(),
                debt.seen,
                debt.size
            ),
            remedy: "ask the gateway's operator whether it runs, and why its log is not shown; each agreement stops releases after its \
                     max_unwitnessed"
                .into(),
        })
    }
}

/// What was seen of a log that is not trusted any more. Of one that only lacks a proof nothing is certain: it is not cosigned, and owed.
fn wrong(happened: Misconduct) -> Option<&'static str> {
    match happened {
        Misconduct::Fork => Some("was forked"),
        Misconduct::Rollback => Some("went back behind what was cosigned here"),
        Misconduct::OtherKey => Some("has another key than before"),
        Misconduct::Unproven => None,
    }
}

/// Watches whether the gateway shows its log, as long as the node exists.
pub(crate) fn watch(node: &Arc<Node>) {
    let what = "For how long the gateway has owed a checkpoint of its access log that covers what it ordered here";
    let (witness, level) = (Arc::clone(&node.witness), node.metrics.level("witness_silent_seconds", what));
    let forgot =
        node.metrics.level("witness_forgot", "Whether a witness of this log forgot what it had cosigned, and nobody has acknowledged it");
    node.metrics.before_reading(move || {
        let seconds = witness.owed.overdue(GATEWAY_LOG, Moment::now()).as_secs();
        level.set(&[("log", GATEWAY_LOG)], i64::try_from(seconds).unwrap_or(i64::MAX));
        forgot.set(&[("witness", GATEWAY_WITNESS)], i64::from(witness.forgot().is_some()));
    });
    let node = Arc::downgrade(node);
    tokio::spawn(async move {
        let (mut overdue, unlogged) = (Overdue::default(), Unlogged::default());
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(node) = node.upgrade() else { return };
            let turned = overdue.turned(&node.witness.owed.debts(Moment::now()), SystemTime::now());
            unlogged.add(turned.into_iter().map(entry));
            // What cannot be written now stays for the next time.
            let _ = unlogged.write(&node.log).await;
        }
    });
}

impl Node {
    /// Notes what the gateway owes for an order.
    pub(crate) async fn owed_for(&self, order: &VerifiedOrder) -> Result<(), Refusal> {
        let (witness, opened_by, version) = (Arc::clone(&self.witness), order.opened_by, order.contract_version);
        blocking(move || witness.ordered(opened_by, version)).await
    }
}

/// The entry that the log needs where the alarm goes on or off.
fn entry(turned: Turned) -> Entry {
    match turned {
        Turned::Began(debt, since) => {
            tracing::error!(size.seen = debt.seen, size.owed = debt.size, "the gateway does not show its access log");
            let entry = Entry::new("witness.silent").field("log", debt.origin).field("since", told(since));
            entry.field("known_size", debt.seen).field("size", debt.size)
        }
        Turned::Over(origin, since) => {
            tracing::info!("the gateway shows its access log again");
            Entry::new("witness.back").field("log", origin).field("since", told(since))
        }
    }
}

fn told(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}
