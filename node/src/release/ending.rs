//! How a release ends in the log. Each partition that was read is closed by who read it; what nobody read is closed here, when the
//! release is gone.

use std::sync::PoisonError;

use concordat_audit::Entry;

use super::Release;
use crate::endings::Ended;

impl Release {
    /// An entry that closes the release or one partition of it, with what both sides are compared by.
    pub(crate) fn closing(&self, event: &'static str) -> Entry {
        let order = &self.order;
        Entry::new(event)
            .query(&order.query_id)
            .field("order", order.id.as_str())
            .field("intended", self.log_entry)
            .field("mission", order.domain.mission.as_str())
            .field("purpose", order.domain.purpose.as_str())
            .field("dataset", order.dataset.as_str())
            .field("organisation", order.organisation.as_str())
            .field("agreement", order.agreement.id.as_str())
            .field("agreement_digest", order.agreement.digest.as_str())
            .field("consent_version", self.standing.version)
            .field("consent_generation", self.standing.generation)
            .closes()
    }

    /// Says why no more of its tickets are redeemed. The first cause counts.
    pub(crate) fn ends(&self, how: Ended) {
        let _ = self.ended.set(how);
    }

    /// What closes the partitions that nobody came for.
    fn unread(&self) -> Option<Entry> {
        let redeemed = self.redeemed.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        let unread = u64::from(self.order.partitions).saturating_sub(redeemed);
        let how = self.ended.get().copied().unwrap_or_else(|| {
            // Nobody said so: it goes with what held it.
            if self.endings.stopping().is_cancelled() { Ended::Stopped } else { Ended::Dropped }
        });
        let entry = || self.closing("release.abandoned").field("partitions", unread).field("rows", 0).field("cause", how.as_str());
        (unread > 0).then(entry)
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(entry) = self.unread() {
            self.endings.add(entry);
        }
    }
}
