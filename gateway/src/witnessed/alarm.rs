//! The alarm when too few witnesses have seen the log for a minute: readiness, metric, the program's own log, and one entry each in the
//! access log when it begins and when it is over. These entries are unwitnessed like others, and begin no time anew.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use concordat_audit::{Entry, Unlogged};
use concordat_operate::readiness::Reason;
use tokio_util::task::AbortOnDropHandle;

use super::{Quorum, Witnessed};
use crate::Gateway;

/// After what time. Witnesses have as long after a start, before what they had not seen then is missed.
const ALARM: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How often what a quorum has seen is kept.
const KEEP: Duration = Duration::from_secs(5);

impl Gateway {
    /// Watches the log's checkpoints, and whether witnesses see them, as long as the returned handle is kept.
    pub(crate) fn watch_witnesses(self: &Arc<Self>) -> AbortOnDropHandle<()> {
        let gateway = self.clone();
        let (witnessed, level) = (
            self.witnessed.clone(),
            self.observed
                .metrics
                .level("log_unwitnessed_seconds", "For how long the access log has had entries that too few witnesses have seen"),
        );
        self.observed.metrics.before_reading(move || {
            let seconds = witnessed.unwitnessed(SystemTime::now()).as_secs();
            level.set(&[("log", "access")], i64::try_from(seconds).unwrap_or(i64::MAX));
        });
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut checkpoints = gateway.log.checkpoints();
            let (mut alarm, unlogged, mut kept) = (Alarm::default(), Unlogged::default(), Instant::now());
            loop {
                let _ = tokio::time::timeout(LOOK, checkpoints.changed()).await;
                let now = SystemTime::now();
                let unwitnessed = gateway.witnessed.unwitnessed(now);
                unlogged.add(alarm.turned(unwitnessed, gateway.witnessed.missing().is_some(), now, gateway.witnessed.quorum()));
                // What cannot be written now stays for the next time.
                let _ = unlogged.write(&gateway.log).await;
                if kept.elapsed() >= KEEP {
                    gateway.keep_witnessed().await;
                    kept = Instant::now();
                }
            }
        }))
    }

    /// Keeps what a quorum has seen.
    pub(crate) async fn keep_witnessed(&self) {
        let witnessed = self.witnessed.clone();
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || witnessed.keep()).await {
            tracing::error!(cause = %e, "what a quorum of witnesses has seen of the log cannot be kept in the folder of state");
        }
    }
}

impl Witnessed {
    /// What is wrong while the alarm is on.
    pub(crate) fn missing(&self) -> Option<Reason> {
        let unwitnessed = self.unwitnessed(SystemTime::now());
        (unwitnessed >= ALARM && self.0.opened.elapsed() >= ALARM).then(|| Reason {
            what: "witnesses",
            cause: format!(
                "for {} s the access log has had entries that too few witnesses have seen: {}",
                unwitnessed.as_secs(),
                self.0.quorum
            ),
            remedy: "bring the departments' nodes back (/readyz/departments); each agreement stops releases after its max_unwitnessed"
                .into(),
        })
    }
}

/// Whether the alarm is on, as the log is told it, and since when there was what nobody had seen.
#[derive(Debug, Default)]
struct Alarm {
    since: Option<SystemTime>,
}

impl Alarm {
    /// The entry that the log needs where the alarm goes on or off.
    fn turned(&mut self, unwitnessed: Duration, missing: bool, now: SystemTime, quorum: &Quorum) -> Option<Entry> {
        match (self.since, missing) {
            (None, true) => {
                let since = now.checked_sub(unwitnessed).unwrap_or(SystemTime::UNIX_EPOCH);
                self.since = Some(since);
                tracing::error!(seconds = unwitnessed.as_secs(), %quorum, "too few witnesses have seen the access log");
                let (quorum, witnesses) = (quorum.needed(), quorum.witnesses());
                Some(Entry::new("witness.missing").field("since", told(since)).field("quorum", quorum).field("witnesses", witnesses))
            }
            (Some(since), false) => {
                self.since = None;
                tracing::info!("enough witnesses see the access log again");
                Some(Entry::new("witness.back").field("since", told(since)))
            }
            _ => None,
        }
    }
}

fn told(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::super::tests::quorum_of;
    use super::*;

    #[test]
    fn it_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let (mut alarm, quorum) = (Alarm::default(), quorum_of(&["a", "b", "c"]));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut told = Vec::new();
        for (second, missing) in [(0, false), (60, true), (61, true), (90, true), (91, false), (92, false), (200, true)] {
            let unwitnessed = Duration::from_secs(if missing { second } else { 0 });
            let entry = alarm.turned(unwitnessed, missing, now + Duration::from_secs(second), &quorum);
            told.extend(entry.map(|entry| (second, entry)));
        }
        let missing = |since: &str| Entry::new("witness.missing").field("since", since).field("quorum", 2).field("witnesses", 3);
        let expected = [
            (60, missing("1970-01-12T13:46:40Z")),
            (91, Entry::new("witness.back").field("since", "1970-01-12T13:46:40Z")),
            (200, missing("1970-01-12T13:46:40Z")),
        ];
        assert_eq!(told, expected);
    }
}
