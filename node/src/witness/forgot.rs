//! The gateway's witness, when it forgot what it had cosigned of this node's log: it shows where it stands, and the node has what it gave.

use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::proof::verify_consistency;
use concordat_audit::{Entry, Log};
use concordat_operate::readiness::Reason;
use concordat_policy::Refusal;

use super::{GATEWAY_WITNESS, Witnessing};

/// What an administrator can do about it.
const ACKNOWLEDGE: &str = "ask the gateway's operator which backup of its state/witness was restored, or why it was begun anew; then accept that with \
                           `concordat-node acknowledge-log --witness --config node.toml`";

impl Witnessing {
    /// The entry that `log` needs where the gateway's witness knows `size` entries of it, and gave a cosignature of more. Of a log that went
    /// back itself, and was accepted so, the witness had to forget. Blocks.
    pub(crate) fn stands_at(&self, log: &Log, latest: &Checkpoint, size: u64) -> Result<Option<Entry>, Refusal> {
        let newest = self.given.newest(GATEWAY_WITNESS).map_err(Refusal::internal)?.filter(|newest| size < newest.size);
        let Some((newest, given)) = newest.and_then(|newest| newest.checkpoint().map(|given| (newest, given))) else { return Ok(None) };
        let continues = |proof: Vec<_>| verify_consistency(given.size, latest.size, &given.root, &latest.root, &proof).is_ok();
        if given.size > latest.size || !log.consistency(given.size, latest.size).is_ok_and(continues) {
            return Ok(None);
        }
        if !self.given.forgot(GATEWAY_WITNESS, size).map_err(Refusal::internal)? {
            return Ok(None);
        }
        tracing::error!(
            size.given = newest.size,
            size.known = size,
            "the gateway's witness forgot what it had cosigned of this node's log"
        );
        let entry = Entry::new("witness.forgot").field("witness", GATEWAY_WITNESS).field("log", log.origin());
        Ok(Some(entry.field("known_size", newest.size).field("size", size)))
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
