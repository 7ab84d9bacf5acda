//! Nodes whose logs stay behind the receipts that they signed. A receipt names the entry that closed its part; a checkpoint that covers it,
//! and is newer than the order, must be shown: the gateway looks for it after every query.
//!
//! After a minute there is an alarm (`/readyz/alarms`, a metric, `witness.behind` and `witness.back` in the log). After an agreement's
//! `max_unwitnessed` nothing is ordered from the department under it (`Fetcher::place`).

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use concordat_audit::note::VerifierKey;
use concordat_audit::witness::{AddCheckpoint, Cosigned, Debt, Moment, OVERDUE, Overdue, Refused, Turned};
use concordat_audit::{Entry, Unlogged};
use concordat_operate::readiness::Reason;

use super::{Witnesses, log_of, now};
use crate::Gateway;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

impl Witnesses {
    /// Cosigns a checkpoint of a node's log, which pays what it covers; a log that is seen for the first time is told of. Blocks.
    pub(super) fn add_checkpoint(
        &self,
        log: &str,
        key: &VerifierKey,
        request: &AddCheckpoint,
        tell: impl FnOnce() -> io::Result<()>,
    ) -> Result<Cosigned, Refused> {
        let cosigned = self.witness.add_checkpoint(log, key, request, now(), |_| tell())?;
        if let Err(e) = self.owed.cosigned(log, cosigned.checkpoint.size, cosigned.first) {
            tracing::error!(cause = %e, log, "what a department's log still owes cannot be kept in the folder of state");
        }
        Ok(cosigned)
    }

    /// The alarms that are on.
    pub(crate) fn behind(&self) -> Vec<Reason> {
        let late = self.owed.debts(Moment::now()).into_iter().filter(|debt| debt.overdue >= OVERDUE);
        late.map(|debt| Reason {
            what: "witness",
            cause: format!(
                "for {} s the access log '{}' was not shown beyond {} entries, though its node signed receipts for more: {} are owed",
                debt.overdue.as_secs(),
                debt.origin,
                debt.seen,
                debt.size
            ),
            remedy: "bring the department's node back (/readyz/departments), or ask its operator why its log stays behind; each agreement stops \
                     its releases after its max_unwitnessed"
                .into(),
        })
        .collect()
    }
}

/// Watches whether the departments' logs follow, as long as the gateway runs.
pub(super) async fn watch(gateway: Arc<Gateway>) {
    let what = "For how long a department's access log has not been shown as far as its node's receipts go";
    let (level, owed) = (gateway.observed.metrics.level("witness_behind_seconds", what), Arc::clone(&gateway.witnesses.owed));
    let logs: Vec<String> = gateway.fetcher.nodes.departments().map(log_of).collect();
    let forgot = "Whether a witness of this log forgot what it had cosigned, and nobody has acknowledged it";
    let (forgot, witnesses) = (gateway.observed.metrics.level("witness_forgot", forgot), Arc::downgrade(&gateway));
    gateway.observed.metrics.before_reading(move || {
        let given = witnesses.upgrade().and_then(|gateway| gateway.witnesses.given.all().ok()).unwrap_or_default();
        given.iter().for_each(|(name, newest)| forgot.set(&[("witness", name.as_str())], i64::from(newest.forgot.is_some())));
        for log in &logs {
            let seconds = owed.overdue(log, Moment::now()).as_secs();
            level.set(&[("log", log.as_str())], i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    });
    let (mut overdue, unlogged) = (Overdue::default(), Unlogged::default());
    loop {
        tokio::time::sleep(LOOK).await;
        let turned = overdue.turned(&gateway.witnesses.owed.debts(Moment::now()), SystemTime::now());
        unlogged.add(turned.into_iter().map(entry));
        // What cannot be written now stays for the next time.
        let _ = unlogged.write(&gateway.log).await;
    }
}

/// The entry that the log needs where an alarm goes on or off.
fn entry(turned: Turned) -> Entry {
    match turned {
        Turned::Began(Debt { origin, size, seen, .. }, since) => {
            tracing::error!(log = origin, size.seen = seen, size.owed = size, "a department's access log stays behind its receipts");
            let entry = Entry::new("witness.behind").field("log", origin).field("since", told(since));
            entry.field("known_size", seen).field("size", size)
        }
        Turned::Over(origin, since) => {
            tracing::info!(log = origin, "a department's access log follows its receipts again");
            Entry::new("witness.back").field("log", origin).field("since", told(since))
        }
    }
}

fn told(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}
