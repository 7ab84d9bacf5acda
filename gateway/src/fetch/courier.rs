//! Agreements on their way between departments: fetched where a party has signed one and offers it, handed to the other parties' nodes
//! and, for the gateway's operator, into `state/inbox`. Everywhere they wait for people: nothing comes into force by it.
//!
//! A signature is the party's own and is checked here too, but what counts is what each party's officer reads and confirms: a courier
//! could make up a whole agreement between keys of its own, and nobody would be bound by it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat_audit::{Entry, Log, LogError};
use concordat_policy::{Code, Name, Refusal};
use concordat_proto::signature::offer::{MAX_KNOWN, MAX_OFFERED, New, Offer, Texts};
use concordat_proto::v1::OfferedRequest;
use tonic::Status;

use super::nodes::{CONTROL_TIMEOUT, Nodes, failed};
use crate::estate::Estate;
use crate::replace::replace;

/// How long after a refusal a signature is offered to the same department again.
const AGAIN: Duration = Duration::from_secs(600);
/// The most deliveries that are kept in mind. Beyond it all are made again, which changes nothing.
const MAX_SETTLED: usize = 4096;

/// Who has which signature, as far as this process has seen to it.
pub(crate) struct Courier {
    inbox: Texts,
    settled: Mutex<HashMap<(String, Name), Settled>>,
    /// Departments that refused to say what they offer, and when: each asking stands in their logs.
    refused: Mutex<HashMap<Name, Instant>>,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy)]
enum Settled {
    Tried,
    Delivered,
    Refused(Instant),
}

impl Settled {
    fn still(self, now: Instant) -> bool {
        match self {
            Self::Tried => false,
            Self::Delivered => true,
            Self::Refused(at) => now.saturating_duration_since(at) < AGAIN,
        }
    }
}

impl Courier {
    /// Keeps what passes in a folder of `state`.
    pub(crate) fn new(state: &Path) -> Self {
        Self { inbox: Texts::at(state.join("inbox")), settled: Mutex::default(), refused: Mutex::default() }
    }

    /// Asks every department once what it offers, and hands that on. Who does not answer is asked again in the next round.
    pub(crate) async fn round(&self, nodes: &Nodes, estate: &Estate, log: &Log) {
        for department in &estate.departments {
            let refused = lock(&self.refused).get(&department.id).copied();
            if refused.is_some_and(|at| at.elapsed() < AGAIN) {
                continue;
            }
            let offers = match self.offered(nodes, &department.id).await {
                Ok(offers) => offers,
                Err(refusal) => {
                    tracing::debug!(department = department.id.as_str(), cause = %refusal, "what it offers was not told");
                    if refusal.code == Code::NodeRefused {
                        lock(&self.refused).insert(department.id.clone(), Instant::now());
                    }
                    continue;
                }
            };
            for offer in offers {
                if let Err(e) = self.carry(nodes, estate, log, &offer).await {
                    tracing::error!(cause = %e, "an agreement was not handed on: the access log cannot be written");
                    return;
                }
            }
        }
    }

    /// What a department offers that is not settled with every other party. A node that does not know the call offers nothing.
    async fn offered(&self, nodes: &Nodes, department: &Name) -> Result<Vec<Offer>, Refusal> {
        let known = self.known(department);
        let mut client = nodes.agreements(department)?;
        let asked = async {
            let mut stream = client.offered(OfferedRequest { known }).await?.into_inner();
            let mut wire = Vec::new();
            while let Some(one) = stream.message().await? {
                if wire.len() >= MAX_OFFERED {
                    return Err(Status::resource_exhausted("it offers more than 32 agreements"));
                }
                wire.push(one);
            }
            Ok(wire)
        };
        let wire = match tokio::time::timeout(CONTROL_TIMEOUT, asked).await {
            Err(_) => return Err(super::nodes::timeout(department)),
            Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => return Ok(Vec::new()),
            Ok(answer) => answer.map_err(|status| failed(department, &status))?,
        };
        let mut offers = Vec::new();
        for one in wire {
            match Offer::read(one) {
                Ok(offer) if offer.statement.department == *department => offers.push(offer),
                Ok(_) => tracing::warn!(department = department.as_str(), "offers an agreement in another department's name"),
                Err(cause) => tracing::warn!(department = department.as_str(), cause, "offers what is no signed agreement"),
            }
        }
        Ok(offers)
    }

    /// Hands one signature to every other party that has an address here.
    async fn carry(&self, nodes: &Nodes, estate: &Estate, log: &Log, offer: &Offer) -> Result<(), LogError> {
        let sender = &offer.statement.department;
        if let Err(fault) = estate.signatures.would_count(&offer.statement, &offer.agreement, Utc::now()) {
            tracing::warn!(department = sender.as_str(), agreement = offer.agreement.id.as_str(), cause = %fault, "its signature does not count");
            self.settle(offer, sender, Settled::Refused(Instant::now()));
            return Ok(());
        }
        self.keep(log, offer).await?;
        let addressed = |party: &&Name| estate.departments.iter().any(|department| department.id == **party);
        for party in offer.others().filter(addressed) {
            if self.is_settled(offer, party) {
                continue;
            }
            if self.far(offer, party).is_none() {
                log.append(about("agreement.relayed", offer).field("to", party.as_str())).await?;
                self.settle(offer, party, Settled::Tried);
            }
            let Ok(mut client) = nodes.agreements(party) else { continue };
            let delivered = tokio::time::timeout(CONTROL_TIMEOUT, client.deliver(offer.clone().into_wire())).await;
            match delivered {
                Ok(Ok(_)) => self.settle(offer, party, Settled::Delivered),
                Ok(Err(status)) if concordat_proto::status::from_status(&status).is_none() => {
                    tracing::debug!(department = party.as_str(), "could not be reached with an agreement");
                }
                Ok(Err(status)) => {
                    let refusal = failed(party, &status);
                    tracing::warn!(department = party.as_str(), cause = %refusal, "does not take an agreement");
                    self.settle(offer, party, Settled::Refused(Instant::now()));
                }
                Err(_) => tracing::debug!(department = party.as_str(), "did not answer in time to an agreement"),
            }
        }
        // Settled with all: the sender need not send it again.
        let parties = || offer.others().filter(addressed);
        if parties().all(|party| matches!(self.far(offer, party), Some(Settled::Delivered))) {
            self.settle(offer, sender, Settled::Delivered);
        } else if parties().all(|party| self.is_settled(offer, party)) {
            self.settle(offer, sender, Settled::Refused(Instant::now()));
        }
        Ok(())
    }

    /// Keeps an offer for the gateway's operator.
    async fn keep(&self, log: &Log, offer: &Offer) -> Result<(), LogError> {
        match self.inbox.new_in(offer) {
            Ok(New::Nothing) => {}
            Ok(New::TooMany) => {
                tracing::warn!(
                    department = offer.statement.department.as_str(),
                    "has proposed as many agreements as are kept in state/inbox"
                );
            }
            Ok(New::Text | New::Signature) => {
                log.append(about("agreement.received", offer)).await?;
                if let Err(e) = self.inbox.keep(offer, replace) {
                    tracing::error!(cause = %e, "an agreement cannot be kept in state/inbox");
                }
            }
            Err(e) => tracing::error!(cause = %e, "state/inbox cannot be read"),
        }
        Ok(())
    }

    fn known(&self, sender: &Name) -> Vec<String> {
        let now = Instant::now();
        let settled = self.settled();
        let known = settled.iter().filter(|((_, party), settled)| party == sender && settled.still(now));
        known.map(|((signature, _), _)| signature.clone()).take(MAX_KNOWN).collect()
    }

    fn settle(&self, offer: &Offer, party: &Name, how: Settled) {
        let mut settled = self.settled();
        if settled.len() >= MAX_SETTLED {
            settled.clear();
        }
        settled.insert((offer.known_as(), party.clone()), how);
    }

    fn is_settled(&self, offer: &Offer, party: &Name) -> bool {
        self.far(offer, party).is_some_and(|settled| settled.still(Instant::now()))
    }

    fn far(&self, offer: &Offer, party: &Name) -> Option<Settled> {
        self.settled().get(&(offer.known_as(), party.clone())).copied()
    }

    fn settled(&self) -> MutexGuard<'_, HashMap<(String, Name), Settled>> {
        lock(&self.settled)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn about(event: &'static str, offer: &Offer) -> Entry {
    Entry::new(event)
        .field("agreement", offer.agreement.id.as_str())
        .field("agreement_digest", offer.agreement.digest.as_str())
        .field("from", offer.statement.department.as_str())
        .field("key", offer.statement.key.as_str())
}
