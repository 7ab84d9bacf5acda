//! Agreements on their way between departments: fetched where a party has signed one and offers it, handed to the other parties' nodes
//! and, for the gateway's operator, into `state/inbox`. Everywhere they wait for people: nothing comes into force by it.
//!
//! A signature is the party's own and is checked here too, but what counts is what each party's officer reads and confirms: a courier
//! could make up a whole agreement between keys of its own, and nobody would be bound by it.

use std::cmp::Reverse;
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

/// How long after a refusal, or an answer that did not come in time, a department is asked or offered a signature again.
const AGAIN: Duration = Duration::from_secs(600);
/// The most deliveries that are kept in mind. Beyond it all are made again, which changes nothing.
const MAX_SETTLED: usize = 4096;

/// Who has which signature, as far as this process has seen to it. Departments are asked, and handed things, at the same time: one that
/// is silent holds up nobody else.
pub(crate) struct Courier {
    inbox: Texts,
    /// What is kept there is looked at and written by one at a time.
    keeping: tokio::sync::Mutex<()>,
    settled: Mutex<HashMap<Delivery, Settled>>,
    /// Departments that refused to say what they offer, and when: each asking stands in their logs.
    refused: Mutex<HashMap<Name, Instant>>,
    /// Departments that did not answer something in time, and when.
    silent: Mutex<HashMap<Name, Instant>>,
}

/// One signature on its way to one party; to its signer where it is settled with all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Delivery {
    signer: Name,
    signature: String,
    to: Name,
}

impl Delivery {
    fn new(offer: &Offer, to: &Name) -> Self {
        Self { signer: offer.statement.department.clone(), signature: offer.known_as(), to: to.clone() }
    }
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy)]
enum Settled {
    /// Not begun, because its department did not answer something else in time.
    Waits(Instant),
    Tried,
    Delivered(Instant),
    Refused(Instant),
}

impl Settled {
    fn still(self, now: Instant) -> bool {
        match self {
            Self::Tried => false,
            Self::Delivered(_) => true,
            Self::Refused(at) | Self::Waits(at) => now.saturating_duration_since(at) < AGAIN,
        }
    }

    fn at(self) -> Option<Instant> {
        match self {
            Self::Tried => None,
            Self::Delivered(at) | Self::Refused(at) | Self::Waits(at) => Some(at),
        }
    }

    fn undelivered(self) -> Option<Instant> {
        self.at().filter(|_| !matches!(self, Self::Delivered(_)))
    }
}

impl Courier {
    /// Keeps what passes in a folder of `state`.
    pub(crate) fn new(state: &Path) -> Self {
        let inbox = Texts::at(state.join("inbox"));
        Self {
            inbox,
            keeping: tokio::sync::Mutex::default(),
            settled: Mutex::default(),
            refused: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// Asks every department once what it offers, and hands that on. Who cannot be reached is asked again in the next round, who refuses or
    /// does not answer in time after [`AGAIN`].
    pub(crate) async fn round(&self, nodes: &Nodes, estate: &Estate, log: &Log) {
        let rounds = estate.departments.iter().map(|department| self.round_of(nodes, estate, log, &department.id));
        futures::future::join_all(rounds).await;
    }

    async fn round_of(&self, nodes: &Nodes, estate: &Estate, log: &Log, department: &Name) {
        if lately(&self.refused, department).or(lately(&self.silent, department)).is_some() {
            return;
        }
        let offers = match self.offered(nodes, department).await {
            Ok(offers) => offers,
            Err(refusal) => {
                tracing::debug!(department = department.as_str(), cause = %refusal, "what it offers was not told");
                match refusal.code {
                    Code::NodeRefused => note(&self.refused, department),
                    Code::NodeTimeout => note(&self.silent, department),
                    _ => {}
                }
                return;
            }
        };
        for offer in offers {
            if let Err(e) = self.carry(nodes, estate, log, &offer).await {
                tracing::error!(cause = %e, "an agreement was not handed on: the access log cannot be written");
                return;
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
            let begun = !matches!(self.far(offer, party), None | Some(Settled::Waits(_)));
            if let Some(since) = lately(&self.silent, party) {
                self.settle(offer, party, if begun { Settled::Refused(since) } else { Settled::Waits(since) });
                continue;
            }
            if !begun {
                log.append(about("agreement.relayed", offer).field("to", party.as_str())).await?;
                self.settle(offer, party, Settled::Tried);
            }
            let Ok(mut client) = nodes.agreements(party) else { continue };
            let delivered = tokio::time::timeout(CONTROL_TIMEOUT, client.deliver(offer.clone().into_wire())).await;
            match delivered {
                Ok(Ok(_)) => self.settle(offer, party, Settled::Delivered(Instant::now())),
                Ok(Err(status)) if concordat_proto::status::from_status(&status).is_none() => {
                    tracing::debug!(department = party.as_str(), "could not be reached with an agreement");
                }
                Ok(Err(status)) => {
                    let refusal = failed(party, &status);
                    tracing::warn!(department = party.as_str(), cause = %refusal, "does not take an agreement");
                    self.settle(offer, party, Settled::Refused(Instant::now()));
                }
                Err(_) => {
                    tracing::debug!(department = party.as_str(), "did not answer in time to an agreement");
                    note(&self.silent, party);
                    self.settle(offer, party, Settled::Refused(Instant::now()));
                }
            }
        }
        // Settled with all: the sender need not send it again.
        let parties = || offer.others().filter(addressed);
        if parties().all(|party| matches!(self.far(offer, party), Some(Settled::Delivered(_)))) {
            self.settle(offer, sender, Settled::Delivered(Instant::now()));
        } else if parties().all(|party| self.is_settled(offer, party)) {
            // Until the first of them is due again.
            let since = parties().filter_map(|party| self.far(offer, party).and_then(Settled::undelivered)).min();
            self.settle(offer, sender, Settled::Refused(since.unwrap_or_else(Instant::now)));
        }
        Ok(())
    }

    /// Keeps an offer for the gateway's operator.
    async fn keep(&self, log: &Log, offer: &Offer) -> Result<(), LogError> {
        let _turn = self.keeping.lock().await;
        match self.inbox.new_in(offer) {
            // What comes too soon is offered again.
            Ok(New::Nothing | New::TooSoon | New::Discarded) => {}
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
        known(&self.settled(), sender, Instant::now())
    }

    fn settle(&self, offer: &Offer, party: &Name, how: Settled) {
        let mut settled = self.settled();
        if settled.len() >= MAX_SETTLED {
            settled.clear();
        }
        settled.insert(Delivery::new(offer, party), how);
    }

    fn is_settled(&self, offer: &Offer, party: &Name) -> bool {
        self.far(offer, party).is_some_and(|settled| settled.still(Instant::now()))
    }

    fn far(&self, offer: &Offer, party: &Name) -> Option<Settled> {
        self.settled().get(&Delivery::new(offer, party)).copied()
    }

    fn settled(&self) -> MutexGuard<'_, HashMap<Delivery, Settled>> {
        lock(&self.settled)
    }
}

/// What a department need not offer again: of its own signatures those that are settled with all, the latest first.
fn known(settled: &HashMap<Delivery, Settled>, sender: &Name, now: Instant) -> Vec<String> {
    let own = settled.iter().filter(|(delivery, _)| delivery.signer == *sender && delivery.to == *sender);
    let mut known: Vec<_> = own.filter(|(_, settled)| settled.still(now)).collect();
    known.sort_by_key(|(_, settled)| Reverse(settled.at()));
    known.into_iter().map(|(delivery, _)| delivery.signature.clone()).take(MAX_KNOWN).collect()
}

/// When something was last noted of a department, where it is to be left alone because of it.
fn lately(noted: &Mutex<HashMap<Name, Instant>>, department: &Name) -> Option<Instant> {
    lock(noted).get(department).copied().filter(|at| at.elapsed() < AGAIN)
}

fn note(noted: &Mutex<HashMap<Name, Instant>>, department: &Name) {
    lock(noted).insert(department.clone(), Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn delivery(signer: &str, signature: usize, to: &str) -> Delivery {
        Delivery { signer: name(signer), signature: signature.to_string(), to: name(to) }
    }

    #[test]
    fn a_department_is_told_of_its_own_settled_signatures_the_latest_first() {
        let now = Instant::now();
        let later = |seconds: usize| now + Duration::from_secs(seconds as u64);
        // More than can be named came to it from others.
        let mut settled: HashMap<_, _> = (0..500).map(|number| (delivery("b", number, "a"), Settled::Delivered(now))).collect();
        for number in 1000..1100 {
            settled.insert(delivery("a", number, "a"), Settled::Delivered(later(number)));
        }
        settled.insert(delivery("a", 1, "b"), Settled::Delivered(now));
        settled.insert(delivery("a", 2, "a"), Settled::Tried);
        settled.insert(delivery("a", 3, "a"), Settled::Refused(now));
        let own = known(&settled, &name("a"), later(2000));
        let expected: Vec<String> = (1000..1100).rev().take(MAX_KNOWN).map(|number: usize| number.to_string()).collect();
        assert_eq!(own, expected);
        assert!(known(&settled, &name("b"), later(2000)).is_empty(), "none of these is settled with all");
    }

    #[test]
    fn whoever_refused_or_was_silent_is_left_alone_for_a_while() {
        let now = Instant::now();
        for (settled, at_once, undelivered) in [
            (Settled::Tried, false, false),
            (Settled::Delivered(now), true, false),
            (Settled::Refused(now), true, true),
            (Settled::Waits(now), true, true),
        ] {
            assert_eq!((settled.still(now), settled.undelivered().is_some()), (at_once, undelivered), "{settled:?}");
            assert_eq!(settled.still(now + AGAIN), matches!(settled, Settled::Delivered(_)), "{settled:?}");
        }
        let noted = Mutex::default();
        assert_eq!(lately(&noted, &name("a")), None);
        note(&noted, &name("a"));
        assert!(lately(&noted, &name("a")).is_some() && lately(&noted, &name("b")).is_none());
    }
}
