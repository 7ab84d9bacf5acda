//! How much of this gateway's log each department's witness has cosigned since the gateway started: what a node that waits for the log is
//! shown before it is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use concordat_policy::Name;
use tokio::sync::watch;

/// The largest checkpoints, by department.
#[derive(Debug, Default)]
pub(crate) struct Shown(watch::Sender<BTreeMap<Name, u64>>);

impl Shown {
    /// A department's witness has cosigned a checkpoint over `size` entries, or knows it.
    pub(crate) fn note(&self, department: &Name, size: u64) {
        self.0.send_if_modified(|shown| {
            let largest = shown.entry(department.clone()).or_default();
            let more = size > *largest;
            *largest = size.max(*largest);
            more
        });
    }

    /// Waits until a department's witness has cosigned the entry `number`, at most for `patience`. Whether it has.
    pub(super) async fn until(&self, department: &Name, number: u64, patience: Duration) -> bool {
        let mut shown = self.0.subscribe();
        let cosigned = shown.wait_for(|shown| shown.get(department).is_some_and(|size| *size >= number));
        matches!(tokio::time::timeout(patience, cosigned).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_an_entry_goes_on_when_it_is_cosigned_and_no_later_than_it_has_patience() {
        let (shown, dfe, dwp) = (Arc::new(Shown::default()), Name::parse("dfe").unwrap(), Name::parse("dwp").unwrap());
        let short = Duration::from_millis(20);
        assert!(!shown.until(&dfe, 1, short).await);
        shown.note(&dfe, 7);
        // What comes late takes nothing back.
        shown.note(&dfe, 5);
        assert!(shown.until(&dfe, 7, Duration::ZERO).await);
        assert!(!shown.until(&dfe, 8, short).await && !shown.until(&dwp, 1, short).await);
        let waiting = Arc::clone(&shown);
        let waits = tokio::spawn(async move { waiting.until(&dwp, 3, Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        shown.note(&Name::parse("dwp").unwrap(), 4);
        assert!(waits.await.unwrap());
    }
}
