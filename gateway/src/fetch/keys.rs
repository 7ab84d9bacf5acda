//! Relay of linkage keys: from the keyholder, sealed to each other party, by way of this gateway, which sees ciphertext only.
//! Both ends check the other's public key against the agreement, so that nothing put in here is believed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use concordat_policy::{Agreement, LinkageDomain, Name, Refusal};
use concordat_proto::v1::SealRequest;

use super::nodes::Nodes;

/// Which parties hold which domain's key, as far as this process has seen to it.
///
/// A keyholder that has lost a key makes another for the next department that needs one, and whoever holds the first does not accept
/// that one. So whenever a key was brought to somebody, it is brought once more to each other department before its next release:
/// pseudonyms of two keys are never joined.
#[derive(Default)]
pub(crate) struct Relay {
    delivered: Mutex<HashMap<Delivery, Standing>>,
    /// How often a key of each domain was brought to somebody to whom none had been brought.
    rounds: Mutex<HashMap<LinkageDomain, u64>>,
    /// One delivery at a time to each department: one that does not answer holds up nobody who does not need it.
    turns: Mutex<HashMap<Name, Arc<tokio::sync::Mutex<()>>>>,
}

/// A key that was brought to a department under an agreement's text, which names the keyholder and the parties' keys.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Delivery {
    domain: LinkageDomain,
    agreement_digest: String,
    department: Name,
}

/// What is known of a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nobody was brought a key of the domain since.
    Same,
    /// Somebody was: it may be another.
    Doubtful,
}

impl Relay {
    /// Makes sure that `departments` hold the key of `domain` under `agreement`, all the same one.
    ///
    /// # Errors
    /// A node's refusal, naming the department.
    pub(crate) async fn ensure(
        &self,
        nodes: &Nodes,
        agreement: &Agreement,
        domain: &LinkageDomain,
        departments: &[Name],
    ) -> Result<(), Refusal> {
        let delivery = |department: &Name| Delivery {
            domain: domain.clone(),
            agreement_digest: agreement.digest.clone(),
            department: department.clone(),
        };
        let deliveries: Vec<Delivery> = departments.iter().map(delivery).collect();
        for delivery in &deliveries {
            self.bring(nodes, agreement, delivery, |standing| standing.is_some()).await?;
        }
        for delivery in &deliveries {
            self.bring(nodes, agreement, delivery, |standing| standing == Some(Standing::Same)).await?;
        }
        Ok(())
    }

    /// Brings a key to a department, unless what is known of it is enough.
    async fn bring(
        &self,
        nodes: &Nodes,
        agreement: &Agreement,
        delivery: &Delivery,
        enough: impl Fn(Option<Standing>) -> bool,
    ) -> Result<(), Refusal> {
        let known = || lock(&self.delivered).get(delivery).copied();
        if enough(known()) {
            return Ok(());
        }
        let turn = lock(&self.turns).entry(delivery.department.clone()).or_default().clone();
        let _turn = turn.lock().await;
        if enough(known()) {
            return Ok(());
        }
        let outcome = deliver(nodes, agreement, &delivery.domain, &delivery.department).await;
        if outcome.is_ok() {
            self.brought(delivery);
        } else {
            lock(&self.delivered).remove(delivery);
        }
        outcome
    }

    /// Notes that a key was brought. Where none was before it may be another than the others hold, and than lists were made under.
    fn brought(&self, delivery: &Delivery) {
        let mut delivered = lock(&self.delivered);
        if delivered.insert(delivery.clone(), Standing::Same).is_none() {
            *lock(&self.rounds).entry(delivery.domain.clone()).or_default() += 1;
            let others = delivered.iter_mut().filter(|(other, _)| other.domain == delivery.domain && *other != delivery);
            others.for_each(|(_, standing)| *standing = Standing::Doubtful);
        }
    }

    /// As long as it stays the same, pseudonyms of the domain are made with one key, as far as this process has seen to it: what was
    /// made under an earlier one is not used with what comes now.
    pub(crate) fn round(&self, domain: &LinkageDomain) -> u64 {
        lock(&self.rounds).get(domain).copied().unwrap_or_default()
    }

    /// Forgets what was delivered, so that the next [`Relay::ensure`] delivers again: a node may have lost its state.
    pub(crate) fn forget(&self) {
        lock(&self.delivered).clear();
    }

    /// Forgets what was delivered under one agreement's text. To everybody: a keyholder that lost a key makes another one.
    pub(crate) fn forget_under(&self, agreement_digest: &str) {
        lock(&self.delivered).retain(|delivery, _| delivery.agreement_digest != agreement_digest);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn deliver(nodes: &Nodes, agreement: &Agreement, domain: &LinkageDomain, recipient: &Name) -> Result<(), Refusal> {
    let keyholder = &agreement.linkage.keyholder;
    let recipient_key = nodes.describe_now(recipient).await?.linkage_key;
    let request = SealRequest {
        domain: Some(domain.into()),
        agreement: agreement.id.to_string(),
        agreement_digest: agreement.digest.clone(),
        recipient: recipient.to_string(),
        recipient_key,
    };
    let sealed = nodes.call(keyholder, nodes.keys(keyholder)?.seal(request)).await?;
    if recipient != keyholder {
        nodes.call(recipient, nodes.keys(recipient)?.accept(sealed)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_brought_where_none_was_begins_a_round_of_its_domain() {
        let relay = Relay::default();
        let name = |text: &str| Name::parse(text).unwrap();
        let domain = |epoch| LinkageDomain { mission: name("m"), purpose: name("p"), epoch, rotation: 0 };
        let to = |department: &str| Delivery { domain: domain(7), agreement_digest: "a".into(), department: name(department) };
        let brought = |department: &str| {
            relay.brought(&to(department));
            relay.round(&domain(7))
        };
        assert_eq!(relay.round(&domain(7)), 0);
        assert_eq!([brought("dfe"), brought("dwp"), brought("dwp"), brought("dfe")], [1, 2, 2, 2], "brought once more it is the same");
        relay.forget_under("a");
        assert_eq!([brought("dfe"), brought("dwp")], [3, 4]);
        relay.forget();
        assert_eq!((brought("dfe"), relay.round(&domain(8))), (5, 0));
    }
}
