//! The agreements as they are now. They are replaced as a whole while the node runs; whatever was begun under a text that binds no
//! longer is ended.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use concordat_policy::replaced::{Copies, Replaced};
use concordat_policy::{Agreement, Name, Refusal};
use tokio::sync::watch;

use super::Agreements;
use crate::suspension::Suspensions;

/// How often those who wait look at the time: it ends agreements too.
const LOOK: Duration = Duration::from_secs(1);

/// The agreements now. What is one decision takes them once.
#[derive(Debug)]
pub struct Current {
    suspensions: Arc<Suspensions>,
    now: watch::Sender<Arc<Agreements>>,
}

impl Current {
    /// The first.
    #[must_use]
    pub fn new(agreements: Agreements) -> Self {
        Self { suspensions: Arc::clone(agreements.suspensions()), now: watch::Sender::new(Arc::new(agreements)) }
    }

    /// As they are now.
    #[must_use]
    pub fn now(&self) -> Arc<Agreements> {
        Arc::clone(&self.now.borrow())
    }

    /// The department.
    #[must_use]
    pub fn department(&self) -> &Name {
        self.suspensions.department()
    }

    /// What the department has suspended.
    #[must_use]
    pub fn suspensions(&self) -> &Arc<Suspensions> {
        &self.suspensions
    }

    /// What would be different with `next`.
    #[must_use]
    pub fn replaced_by(&self, next: &Agreements, now: DateTime<Utc>) -> Vec<Replaced> {
        copies(&self.now(), now).replaced_by(&copies(next, now))
    }

    /// Puts others in their place. Whoever waits in [`Current::ended`] learns of it.
    pub fn replace(&self, next: Agreements) {
        self.now.send_replace(Arc::new(next));
    }

    /// Whether something may go on now that was begun under an agreement's text.
    ///
    /// # Errors
    /// As [`Agreements::find`].
    pub fn permits(&self, agreement: &Name, digest: &str) -> Result<(), Refusal> {
        self.now().find(agreement.as_str(), digest, Utc::now()).map(|_| ())
    }

    /// Waits until nothing may go on any more that was begun under an agreement's text, and says why.
    pub async fn ended(self: Arc<Self>, agreement: Name, digest: String) -> Refusal {
        let replaced = async {
            let mut changed = self.now.subscribe();
            loop {
                let refusal = self.now().binding(agreement.as_str(), &digest, Utc::now()).err();
                if let Some(refusal) = refusal {
                    return refusal;
                }
                let _ = tokio::time::timeout(LOOK, changed.changed()).await;
            }
        };
        tokio::select! {
            biased;
            refusal = Arc::clone(&self.suspensions).suspended(agreement.clone()) => refusal,
            refusal = replaced => refusal,
        }
    }

    /// A refusal by this department's rules.
    pub(crate) fn denied(&self, cause: impl Into<String>) -> Refusal {
        self.now().denied(cause)
    }
}

fn copies(agreements: &Agreements, now: DateTime<Utc>) -> Copies {
    let binds = |agreement: &Agreement| agreements.bound(agreement, now).is_ok();
    Copies::of(agreements.iter(), &agreements.signatures, agreements.purposes(), binds)
}
