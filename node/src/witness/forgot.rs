//! The gateway's witness, when it forgot what it had cosigned of this node's log: it shows where it stands, and the node has what it gave.

use std::sync::Arc;

use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::proof::verify_consistency;
use concordat_audit::witness::Newest;
use concordat_audit::{Entry, Log};
use concordat_operate::readiness::Reason;
use concordat_policy::Refusal;

use super::{GATEWAY_WITNESS, Witnessing};
use crate::node::Node;
use crate::release::blocking;

/// What an administrator can do about it.
const ACKNOWLEDGE: &str = "ask the gateway's operator which backup of its state/witness was restored, or why it was begun anew; then accept that with \
                           `concordat-node acknowledge-log --witness --config node.toml`";

impl Node {
    /// Tells of the gateway's witness where it forgot what it gave: it knows `size` entries of this log, as was said when `kept` was the mark of
    /// what it gave. Only what the log tells of is marked as told; also where the caller leaves meanwhile.
    pub(crate) async fn stands_at(self: &Arc<Self>, latest: Checkpoint, size: u64, kept: u64) -> Result<(), Refusal> {
        let telling = Arc::clone(self).tell_forgot(latest, size, kept);
        tokio::spawn(telling).await.map_err(Refusal::internal)?
    }

    async fn tell_forgot(self: Arc<Self>, latest: Checkpoint, size: u64, kept: u64) -> Result<(), Refusal> {
        let mut telling = self.witness.telling.lock().await;
        let node = Arc::clone(&self);
        let lost = blocking(move || node.witness.lost(&node.log, &latest, size, kept)).await?;
        let Some(lost) = lost else { return Ok(()) };
        // Not again where it could not be marked.
        if *telling != Some((lost.size, size)) {
            tracing::error!(
                size.given = lost.size,
                size.known = size,
                "the gateway's witness forgot what it had cosigned of this node's log"
            );
            let entry = Entry::new("witness.forgot").field("witness", GATEWAY_WITNESS).field("log", self.log.origin());
            self.log(entry.field("known_size", lost.size).field("size", size)).await?;
            *telling = Some((lost.size, size));
        }
        let node = Arc::clone(&self);
        blocking(move || node.witness.given.forgot(GATEWAY_WITNESS, &lost, size).map_err(Refusal::internal)).await?;
        *telling = None;
        Ok(())
    }
}

impl Witnessing {
    /// The newest cosignature that the gateway's witness forgot. Of a log that went back itself, and was accepted so, it had to forget. Blocks.
    fn lost(&self, log: &Log, latest: &Checkpoint, size: u64, kept: u64) -> Result<Option<Newest>, Refusal> {
        let newest = self.given.lost(GATEWAY_WITNESS, size, Some(kept)).map_err(Refusal::internal)?;
        let Some((newest, given)) = newest.and_then(|newest| newest.checkpoint().map(|given| (newest, given))) else { return Ok(None) };
        let continues = |proof: Vec<_>| verify_consistency(given.size, latest.size, &given.root, &latest.root, &proof).is_ok();
        if given.size > latest.size || !log.consistency(given.size, latest.size).is_ok_and(continues) {
            return Ok(None);
        }
        Ok(Some(newest))
    }

    /// What is wrong until somebody has acknowledged it.
    pub(super) fn forgot(&self) -> Option<Reason> {
        let newest = match self.given.newest(GATEWAY_WITNESS) {
            Ok(newest) => newest?,
            Err(e) => {
                tracing::error!(cause = %e, "what the gateway's witness gave cannot be read");
                return None;
            }
        };
        let size = newest.forgot?;
        let cause = format!("the gateway's witness forgot what it had cosigned of this node's log: it stood at {size} entries again");
        Some(Reason { what: "witness", cause, remedy: ACKNOWLEDGE.into() })
    }
}
