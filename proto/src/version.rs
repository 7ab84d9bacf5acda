//! Versions of the contract: which peers work together, and in whose words they talk.
//!
//! | version | what came with it |
//! |---|---|
//! | 1 | the first |
//! | 2 | a consent ledger has a generation: in a node's `Description`, and in the receipts of releases ordered in version 2, which also tell denominators and state mission and purpose; an order can be given back (`Releases`) and can ask for groups in the place of rows (`Grouping`), which receipts state apart; consent records have times and say who acted, and are corrected, erased and receipted (`ConsentLedger`, which no gateway calls); choices reach other parties' data (`ConsentReach`); signed agreements travel (`Agreements`); access logs are witnessed (`Witness`); they give checkpoints and proofs (`AccessLog`), and the gateway receipts of answers (`AnswerReceipts`) |
//!
//! ```text
//! gateway ── Describe, own version ──▶ node        refused, unless the versions are at most one apart
//!         ◀── Description, own version ──
//!         ── ReleaseRequest, the lower version ──▶ receipts in the words of that version
//! ```
//!
//! Protobuf messages only ever gain fields, which an older reader skips. Signed tokens are read strictly, so a receipt gains a
//! claim only where the order was placed in a version that has it. `tests/contracts/` keeps every version as it was recorded.

use concordat_policy::{Code, Refusal};

/// The version of the contract that this build speaks.
pub const CONTRACT_VERSION: u32 = 2;
/// The first version in which a consent ledger has a generation.
pub const GENERATIONS: u32 = 2;
/// The first version in which receipts tell denominators.
pub const DENOMINATORS: u32 = 2;
/// The first version in which receipts state the mission and the purpose of their order.
pub const PURPOSES: u32 = 2;
/// The first version in which an order can be given back.
pub const GIVES_BACK: u32 = 2;
/// The first version in which an order can ask for groups.
pub const GROUPS: u32 = 2;
/// The first version in which access logs are witnessed: a node's is held to the entries that its receipts name.
pub const WITNESSED: u32 = 2;
/// The first version in which a node tells whose choices reach other parties' data.
pub const REACHES: u32 = 2;

/// Whether a peer that speaks `version` can be served: neighbours (one behind, one ahead) work with each other.
#[must_use]
pub fn version_is_served(version: u32) -> bool {
    version.abs_diff(CONTRACT_VERSION) <= 1 && version > 0
}

/// The version in which to talk to a peer that speaks `version`: the lower one. `None` when it cannot be served.
#[must_use]
pub fn spoken_with(version: u32) -> Option<u32> {
    version_is_served(version).then(|| version.min(CONTRACT_VERSION))
}

/// The refusal of a peer that is too far away, saying which side to upgrade. `own` and `peer` are what people call the two.
#[must_use]
pub fn too_far_apart(own: &str, peer: &str, version: u32) -> Refusal {
    let behind = if version > CONTRACT_VERSION { own } else { peer };
    let (lowest, highest) = (CONTRACT_VERSION.saturating_sub(1).max(1), CONTRACT_VERSION + 1);
    Refusal::new(
        Code::Invalid,
        format!("{peer} speaks contract version {version}; {own} speaks {CONTRACT_VERSION} and serves {lowest} to {highest}"),
    )
    .advice(format!("upgrade {behind}: gateway and nodes must be within one version of each other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_talk_in_the_lower_version_and_strangers_are_told_who_is_behind() {
        let spoken: Vec<Option<u32>> = (0..=CONTRACT_VERSION + 2).map(spoken_with).collect();
        assert_eq!(spoken, [None, Some(1), Some(2), Some(2), None], "change the table, and record the version, when it rises");
        let ahead = too_far_apart("this node", "the gateway", 4);
        assert!(ahead.message.contains("speaks contract version 4") && ahead.message.contains("serves 1 to 3"), "{ahead}");
        assert!(ahead.advice.unwrap().starts_with("upgrade this node"));
        assert!(too_far_apart("this node", "the gateway", 0).advice.unwrap().starts_with("upgrade the gateway"));
    }
}
