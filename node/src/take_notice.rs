//! What the running node notices of the department's own commands, five times a second: suspensions, which it applies to what is
//! under way, as it does agreements that left or lapsed, and what commands noted in the ledger's journal. All go into its access log,
//! with releases that ended and refusals that were counted.
//! Erasures that were not finished are finished on the way. What snapshots are of is looked at every five seconds, and where files
//! changed they are made again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::Utc;
use concordat_audit::Entry;
use concordat_policy::Refusal;

use crate::node::Node;
use crate::release::blocking;
use crate::suspension;

/// How often the node looks.
const LOOK: Duration = Duration::from_millis(200);
/// How often it looks at what snapshots are of.
const SNAPSHOTS: Duration = Duration::from_secs(5);
/// How long it waits after it could not take notice: a full disk is not filled with complaints.
const AGAIN: Duration = Duration::from_secs(5);

/// Takes notice as long as the node exists. What is suspended is applied by a task of its own, which waits neither for the log
/// nor for the ledger. So are files of snapshots looked at: a file system that does not answer holds up nothing else.
pub(crate) fn watch(node: &Arc<Node>) {
    let applying = Arc::downgrade(node);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(node) = applying.upgrade() else { return };
            let _ = blocking(move || {
                node.apply();
                Ok(())
            })
            .await;
        }
    });
    let looking = Arc::downgrade(node);
    tokio::spawn(async move {
        let mut keeping_up = tokio::spawn(async {});
        loop {
            tokio::time::sleep(SNAPSHOTS).await;
            let Some(node) = looking.upgrade() else { return };
            let (snapshots, datasets) = (Arc::clone(&node.releases.snapshots), Arc::clone(&node.datasets));
            drop(node);
            let outdated = blocking(move || Ok(snapshots.look(|dataset| datasets.required(dataset)))).await.unwrap_or_default();
            // On its own: it asks the ledger.
            if keeping_up.is_finished() && !outdated.is_empty() {
                let node = Weak::clone(&looking);
                keeping_up = tokio::spawn(async move {
                    for outdated in outdated {
                        let Some(node) = node.upgrade() else { return };
                        node.keep_up(outdated).await;
                    }
                });
            }
        }
    });
    let logging = Arc::downgrade(node);
    tokio::spawn(async move {
        let mut pause = LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let Some(node) = logging.upgrade() else { return };
            pause = match node.take_notice().await {
                Ok(()) => LOOK,
                Err(refusal) => {
                    let cause = refusal.operator.unwrap_or(refusal.message);
                    tracing::error!(cause, "what was done at the command line is not in the log yet");
                    AGAIN
                }
            };
        }
    });
}

impl Node {
    /// Stops what is suspended or no longer agreed: readers learn of it by themselves, scans are ended. Blocks.
    fn apply(&self) {
        let (standing, agreements, now) = (self.agreements.suspensions().look(), self.agreements.now(), Utc::now());
        self.releases
            .stop(|ordered| !standing.permits(&ordered.id) || agreements.binding(ordered.id.as_str(), &ordered.digest, now).is_err());
    }

    /// Brings what was done at the command line into the access log.
    ///
    /// # Errors
    /// When the log cannot be written or the state folder cannot be read.
    pub(crate) async fn take_notice(&self) -> Result<(), Refusal> {
        self.log_replaced().await?;
        self.endings.write().await.map_err(|e| self.unwritable(e))?;
        self.record_counted(false).await.map_err(|e| self.unwritable(e))?;
        let suspensions = Arc::clone(self.agreements.suspensions());
        let (standing, changes) = blocking({
            let suspensions = Arc::clone(&suspensions);
            move || Ok(suspensions.news())
        })
        .await?;
        for change in changes {
            let number = change.number;
            tracing::warn!(change = number, everything = change.agreement.is_none(), "the department changed what it suspends");
            self.log(suspension::entry(&change)).await?;
            let suspensions = Arc::clone(&suspensions);
            blocking(move || suspensions.logged(number)).await?;
        }
        if let Some(entry) = suspensions.turned(&standing) {
            self.log(entry).await?;
            suspensions.told(&standing);
        }
        self.move_journal().await?;
        self.wipe().await
    }

    /// Finishes an erasure that somebody who read the ledger kept from being finished.
    async fn wipe(&self) -> Result<(), Refusal> {
        let consent = Arc::clone(&self.consent);
        match blocking(move || consent.wipe().map_err(Refusal::internal)).await? {
            Some(version) => self.log(Entry::new("consent.wiped").field("consent_version", version)).await.map(drop),
            None => Ok(()),
        }
    }
}
