//! After an order, a snapshot for the next one like it: who asks for it to be made, and how long it is wanted. When its files changed, it
//! is made again without an order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat_policy::DatasetName;

use crate::node::Node;
use crate::orders::Recipe;
use crate::pseudonym::Pseudonyms;
use crate::release::{Of, Outdated, Plan, Releases, Rules};
use crate::source::Seen;

/// How long a snapshot must answer, so that one is made.
const LASTS: Duration = Duration::from_secs(60);

impl Node {
    /// Has a snapshot made of what orders like one can be about, when this and other releases are over, unless the node stops meanwhile. One
    /// that is made again without an order was last `used` then.
    pub(crate) fn keep_next(&self, recipe: Recipe, of: &Of, seen: &Seen, rules: Rules, used: Option<Instant>) {
        let lasts = self.lasts(&recipe);
        // One that is of no more use a moment after it was made helps nobody.
        if lasts.is_some_and(|lasts| lasts < LASTS) {
            return;
        }
        let Some(waiting) = self.releases.snapshots.waits(of, seen) else { return };
        let wanted = self.wanted(&recipe, &rules);
        let plan = Plan { recipe, rules, datasets: Arc::clone(&self.datasets), lasts, used };
        let (rest, stopping) = (Releases::at_rest(Arc::downgrade(&self.releases)), self.endings.stopping().clone());
        self.releases.workers().start(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = waiting.make(plan, rest, wanted) => {}
            }
        });
    }

    /// Has a snapshot made again, of its files as they are, unless that is under way; lets go of it where no order could be answered.
    pub(crate) async fn keep_up(&self, Outdated { of, recipe, seen, used }: Outdated) {
        if !self.releases.snapshots.wants(&of, &seen) {
            return;
        }
        // Nothing is decided by the records; and if they cannot be read now, they can perhaps the next time.
        let Ok((consent, standing)) = self.caught_up().await else { return };
        match self.rules(&recipe, &consent, standing).await {
            Ok(rules) if Of::new(&recipe.dataset, &recipe.agreement, &recipe.domain, &rules) == of => {
                self.keep_next(recipe, &of, &seen, rules, Some(used));
            }
            _ => drop(self.releases.snapshots.forget(&of)),
        }
    }

    /// How long a snapshot answers after its database or store was read; `None` of files, which tell whether they changed.
    fn lasts(&self, of: &Recipe) -> Option<Duration> {
        let name = DatasetName::new(self.department.clone(), of.dataset.clone());
        let own = self.datasets.dataset(&of.dataset)?.config.snapshot_age?;
        Some(of.agreement.max_data_age(&name).map_or(own, |most| own.min(most.duration())))
    }

    /// Tells, as often as it is asked, whether orders could still be answered under the same key. Blocks.
    pub(crate) fn wanted(&self, of: &Recipe, rules: &Rules) -> impl Fn() -> bool + Send + Sync + use<> {
        let (linkage, current) = (Arc::clone(&self.linkage), Arc::clone(&self.agreements));
        let (agreement, domain) = (of.agreement.clone(), of.domain.clone());
        let (identifier, of_key) = (rules.identifier.clone(), rules.pseudonyms.of_key());
        move || {
            let (agreements, now) = (current.now(), Utc::now());
            agreements
                .find(agreement.id.as_str(), &agreement.digest, now)
                .and_then(|agreement| agreements.leads_to(agreement, &domain, now))
                .is_ok()
                && linkage
                    .key(&agreements, &agreement, &domain, now)
                    .is_ok_and(|key| Pseudonyms::derive(&key, &domain, &identifier).of_key() == of_key)
        }
    }
}
