//! When a node rests.

use std::sync::Weak;
use std::time::Duration;

use super::Releases;

/// How often it is looked whether the node rests, how many times at most, and how many times on end it must be so: two seconds.
const REST: Duration = Duration::from_millis(50);
const RESTS: u32 = 1_200;
const QUIET: u32 = 40;

impl Releases {
    /// Waits until no release was under way for a while, as those of one query end one after the other at several nodes, or for a minute;
    /// whether the node is still there, which nobody here holds up.
    pub(crate) async fn at_rest(releases: Weak<Self>) -> bool {
        let mut quiet = 0;
        for _ in 0..RESTS {
            let Some(now) = releases.upgrade() else { return false };
            quiet = if now.permits.available_permits() >= now.most { quiet + 1 } else { 0 };
            drop(now);
            if quiet > QUIET {
                return true;
            }
            tokio::time::sleep(REST).await;
        }
        releases.strong_count() > 0
    }
}
