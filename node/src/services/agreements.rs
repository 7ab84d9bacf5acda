//! Agreements that travel: what this department offers to the other parties, and what they sent, which is held for its people. Nothing
//! comes into force here: that is done by `concordat-node agreement accept`, by the department's own act.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat_audit::Entry;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Refusal};
use concordat_proto::peer::Peer;
use concordat_proto::signature::offer::{MAX_HELD, MAX_HELD_IN_ALL, MAX_KNOWN, MAX_OFFERED, New, Offer};
use concordat_proto::v1;
use futures::stream::{self, BoxStream};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::Control;
use crate::node::status;
use crate::private;
use crate::release::blocking;

/// How long after a refusal by a bound on what is held the next one is logged.
const LOGGED_AGAIN: Duration = Duration::from_secs(3600);

/// Texts are taken one at a time, so that no bound on what is held is passed by two at once; and when a refusal by one was logged last.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<Mutex<Option<Instant>>>);

impl Control {
    async fn offered_since(
        &self,
        request: v1::OfferedRequest,
        certificate: Option<Fingerprint>,
    ) -> Result<Vec<v1::SignedAgreement>, Refusal> {
        self.node.callers.gateway(certificate)?;
        if request.known.len() > MAX_KNOWN {
            return Err(Refusal::new(Code::Invalid, "more than 64 signatures are named as known").department(&self.node.department));
        }
        let known: BTreeSet<String> = request.known.into_iter().collect();
        let node = Arc::clone(&self.node);
        let offers = blocking(move || {
            let (now, agreements, standing) = (Utc::now(), node.agreements.now(), node.agreements.suspensions().look());
            let held = node.papers.outbox().held().map_err(Refusal::internal)?;
            let offers = held.iter().filter(|held| standing.goes_on(&held.agreement.id));
            let offers = offers.filter_map(|held| Offer::of(&held.file, &node.department).ok());
            let counts = |offer: &Offer| !known.contains(&offer.known_as()) && agreements.would_count(offer, now).is_ok();
            Ok(offers.filter(counts).take(MAX_OFFERED).collect::<Vec<_>>())
        })
        .await?;
        for offer in &offers {
            self.node.log(about("agreement.offered", offer)).await?;
        }
        Ok(offers.into_iter().map(Offer::into_wire).collect())
    }

    /// Holds a text for people. `Some` is a refusal that is not logged again.
    async fn hold(&self, wire: v1::SignedAgreement, certificate: Option<Fingerprint>) -> Result<Option<Refusal>, Refusal> {
        self.node.callers.gateway(certificate)?;
        let (own, agreements) = (self.node.department.clone(), self.node.agreements.now());
        let offer = Offer::read(wire).map_err(|cause| Refusal::new(Code::Invalid, cause).department(&own))?;
        if !offer.others().any(|department| *department == own) {
            return Err(agreements.denied("an agreement is held here where this department is a party and another one signed it"));
        }
        if let Err(fault) = agreements.would_count(&offer, Utc::now()) {
            return Err(agreements
                .denied(format!("the signature of '{}' {fault}", offer.statement.department))
                .advice("its sender signs the very text that it offers, with the key that the text names of it"));
        }
        let mut turn = Arc::clone(&self.agreements.0).lock_owned().await;
        let inbox = self.node.papers.inbox();
        let (new, offer) = blocking({
            let inbox = inbox.clone();
            move || Ok((inbox.new_in(&offer).map_err(Refusal::internal)?, offer))
        })
        .await?;
        let limit = match new {
            New::Nothing => return Ok(None),
            // Whoever sends it tries again: the department may propose it yet.
            New::Discarded => {
                let cause = "this department's people have discarded that text";
                let refusal = Refusal::new(Code::Denied, cause).department(&own);
                return Ok(Some(refusal.advice("ask them to propose it themselves, if they want it after all")));
            }
            New::Text | New::Signature => None,
            New::TooMany => Some((
                format!("this department holds {MAX_HELD} proposals of '{}' or {MAX_HELD_IN_ALL} in all", offer.statement.department),
                "ask it to accept or discard some: `concordat-node agreement inbox`",
            )),
            New::TooSoon => Some((
                format!("'{}' has signed this text otherwise, and it changed less than an hour ago", offer.statement.department),
                "offer the new signature again after that hour",
            )),
        };
        if let Some((cause, advice)) = limit {
            let refusal = Refusal::new(Code::LimitExceeded, cause).department(&own).advice(advice);
            if turn.is_some_and(|logged| logged.elapsed() < LOGGED_AGAIN) {
                return Ok(Some(refusal));
            }
            *turn = Some(Instant::now());
            return Err(refusal);
        }
        self.node.log(about("agreement.received", &offer).field("from", offer.statement.department.as_str())).await?;
        let keep = move || {
            // Nobody else's turn comes before it is kept, whether the caller waits or not.
            let _turn = turn;
            inbox.keep(&offer, private::replace).map_err(Refusal::internal)
        };
        blocking(keep).await?;
        Ok(None)
    }
}

fn about(event: &'static str, offer: &Offer) -> Entry {
    Entry::new(event)
        .field("agreement", offer.agreement.id.as_str())
        .field("agreement_digest", offer.agreement.digest.as_str())
        .field("key", offer.statement.key.as_str())
}

#[tonic::async_trait]
impl v1::agreements_server::Agreements for Control {
    type OfferedStream = BoxStream<'static, Result<v1::SignedAgreement, Status>>;

    async fn offered(&self, request: Request<v1::OfferedRequest>) -> Result<Response<Self::OfferedStream>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.offered_since(request.into_inner(), peer.certificate.clone()).await;
        let offers = self.answer("agreement.refused", &peer, outcome).await?;
        let stream: Self::OfferedStream = Box::pin(stream::iter(offers.into_inner().into_iter().map(Ok)));
        Ok(Response::new(stream))
    }

    async fn deliver(&self, request: Request<v1::SignedAgreement>) -> Result<Response<v1::DeliverResponse>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.hold(request.into_inner(), peer.certificate.clone()).await;
        match outcome {
            Ok(None) => Ok(Response::new(v1::DeliverResponse {})),
            Ok(Some(refusal)) => {
                self.node.outcome(refusal.code.as_str());
                Err(status(&refusal, None))
            }
            Err(refusal) => self.answer("agreement.refused", &peer, Err(refusal)).await,
        }
    }
}
