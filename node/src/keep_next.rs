//! After an order, a snapshot for the next one like it: who asks for it to be made, and how long it is wanted.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use concordat_policy::DatasetName;

use crate::datasets::Selection;
use crate::node::Node;
use crate::orders::VerifiedOrder;
use crate::pseudonym::Pseudonyms;
use crate::release::{Of, Plan, Releases, Rules};
use crate::source::Seen;

/// How long a snapshot must answer, so that one is made.
const LASTS: Duration = Duration::from_secs(60);

impl Node {
    /// Has a snapshot made of what this order is about, when this and other releases are over, unless the node stops meanwhile.
    pub(crate) fn keep_next(&self, order: &VerifiedOrder, of: &Of, seen: &Seen, rules: Rules) {
        let lasts = self.lasts(order);
        // One that is of no more use a moment after it was made helps nobody.
        if lasts.is_some_and(|lasts| lasts < LASTS) {
            return;
        }
        let Some(waiting) = self.releases.snapshots.waits(of, seen) else { return };
        let columns = order.keepable(&self.department);
        let selection = Selection { columns: columns.clone(), predicate: None, ..order.selection() };
        let rules = Rules { columns, conditional: false, ..rules };
        let wanted = self.wanted(order, &rules);
        let (datasets, agreement) = (Arc::clone(&self.datasets), order.agreement.clone());
        let plan = Plan { agreement, rules, datasets, selection, lasts };
        let (rest, stopping) = (Releases::at_rest(Arc::downgrade(&self.releases)), self.endings.stopping().clone());
        self.releases.workers().start(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = waiting.make(plan, rest, wanted) => {}
            }
        });
    }

    /// How long a snapshot answers after its database or store was read; `None` of files, which tell whether they changed.
    fn lasts(&self, order: &VerifiedOrder) -> Option<Duration> {
        let name = DatasetName::new(self.department.clone(), order.dataset.clone());
        let own = self.datasets.dataset(&order.dataset)?.config.snapshot_age?;
        Some(order.agreement.max_data_age(&name).map_or(own, |most| own.min(most.duration())))
    }

    /// Tells, as often as it is asked, whether orders like this one could still be answered under the same key. Blocks.
    fn wanted(&self, order: &VerifiedOrder, rules: &Rules) -> impl Fn() -> bool + Send + Sync + use<> {
        let (linkage, current) = (Arc::clone(&self.linkage), Arc::clone(&self.agreements));
        let (agreement, domain) = (order.agreement.clone(), order.domain.clone());
        let (identifier, of_key) = (rules.identifier.clone(), rules.pseudonyms.of_key());
        move || {
            let (agreements, now) = (current.now(), Utc::now());
            agreements.find(agreement.id.as_str(), &agreement.digest, now).is_ok()
                && linkage
                    .key(&agreements, &agreement, &domain, now)
                    .is_ok_and(|key| Pseudonyms::derive(&key, &domain, &identifier).of_key() == of_key)
        }
    }
}
