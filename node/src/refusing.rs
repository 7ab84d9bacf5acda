//! Refusals in the node's log. Who holds a pinned certificate is recorded one by one, a stranger once a minute: their certificate is of the
//! configured authority and no more, and what they repeat is counted together.

use std::time::Instant;

use chrono::Utc;
use concordat_audit::refusals::{Network, Source};
use concordat_audit::{Entry, LogError};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Refusal};
use concordat_proto::peer::Peer;

use crate::node::Node;

/// Refusals of one pinned certificate and minute that are recorded one by one.
const PINNED: u32 = 100;

/// Who is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// The gateway, an administrator or an auditor.
    Pinned(Fingerprint),
    /// Somebody with another certificate.
    Stranger(Fingerprint),
    /// Somebody without one.
    Uncertified(Option<Network>),
    /// All beyond those that are told apart.
    Others,
}

impl Source for Refused {
    fn others() -> Self {
        Self::Others
    }

    fn proven(&self) -> bool {
        matches!(self, Self::Pinned(_))
    }

    fn single(&self) -> u32 {
        match self {
            Self::Pinned(_) => PINNED,
            Self::Stranger(_) | Self::Uncertified(_) => 1,
            Self::Others => 0,
        }
    }

    fn describe(&self, entry: Entry) -> Entry {
        match self {
            Self::Pinned(certificate) | Self::Stranger(certificate) => entry.field("certificate", certificate.as_str()),
            Self::Uncertified(network) => entry.field("source", network.map_or_else(|| "unknown".to_owned(), |n| n.to_string())),
            Self::Others => entry.field("source", "others"),
        }
    }
}

impl Node {
    fn source(&self, peer: &Peer) -> Refused {
        match &peer.certificate {
            None => Refused::Uncertified(peer.address.map(Network::from)),
            Some(certificate) if self.callers.is_pinned(certificate) => Refused::Pinned(certificate.clone()),
            Some(certificate) => Refused::Stranger(certificate.clone()),
        }
    }

    /// Logs a refusal, or counts it where its source repeats itself, and gives back what the caller is told.
    pub(crate) async fn refused(&self, event: &'static str, refusal: Refusal, peer: &Peer, query_id: Option<&str>) -> Refusal {
        self.outcome(refusal.code.as_str());
        if refusal.code == Code::LogUnavailable {
            return refusal;
        }
        let source = self.source(peer);
        if !self.refusals.note(&source, event, &refusal.message, (Instant::now(), Utc::now())) {
            return refusal;
        }
        tracing::warn!(
            code = refusal.code.as_str(),
            query.id = query_id,
            cause = refusal.operator.as_deref().unwrap_or(&refusal.message),
            certificate = peer.certificate.as_ref().map(Fingerprint::as_str),
            event,
            "refused"
        );
        let entry = Entry::new(event).field("code", refusal.code.as_str()).field("reason", refusal.message.as_str());
        let entry = peer.certificate.iter().fold(entry, |entry, certificate| entry.field("certificate", certificate.as_str()));
        let entry = peer.address.iter().fold(entry, |entry, address| entry.field("address", address.to_string()));
        let entry = query_id.into_iter().fold(entry, Entry::query);
        match self.log(entry).await {
            Ok(_) => refusal,
            Err(unavailable) => unavailable,
        }
    }

    /// Records what was only counted, of minutes that have ended; all of it when the node ends.
    pub(crate) async fn record_counted(&self, ends: bool) -> Result<(), LogError> {
        self.refusals.record(&self.log, Instant::now(), ends).await
    }
}

#[cfg(test)]
mod tests {
    use concordat_audit::refusals::Refusals;

    use super::*;

    #[test]
    fn a_stranger_is_recorded_once_a_minute_and_the_gateway_is_not_counted_with_them() {
        let (refusals, now) = (Refusals::default(), (Instant::now(), Utc::now()));
        let note = |source: &Refused| refusals.note(source, "order.refused", "only the gateway may call this", now);
        let (stranger, other) = (Refused::Stranger(Fingerprint::of(b"s")), Refused::Stranger(Fingerprint::of(b"t")));
        assert_eq!((0..1_000).filter(|_| note(&stranger)).count(), 1);
        assert!(note(&other) && !note(&other));
        assert!(note(&Refused::Uncertified(None)) && !note(&Refused::Uncertified(None)));
        assert_eq!((0..1_000).filter(|_| note(&Refused::Pinned(Fingerprint::of(b"g")))).count(), PINNED as usize);
        assert!(!note(&Refused::Others));
    }
}
