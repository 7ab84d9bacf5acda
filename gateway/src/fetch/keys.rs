//! Relay of linkage keys: from the keyholder, sealed to each other party, by way of this gateway, which sees ciphertext only.
//! Both ends check the other's public key against the agreement, so that nothing put in here is believed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use concordat_policy::{Agreement, LinkageDomain, Name, Refusal};
use concordat_proto::v1::SealRequest;

use super::nodes::Nodes;

/// Which parties hold which domain's key, as far as this process has seen to it.
#[derive(Default)]
pub(crate) struct Relay {
    delivered: Mutex<HashSet<Delivery>>,
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

impl Relay {
    /// Makes sure that `departments` hold the key of `domain` under `agreement`.
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
        for department in departments {
            let (agreement_digest, department) = (agreement.digest.clone(), department.clone());
            let delivery = Delivery { domain: domain.clone(), agreement_digest, department };
            let department = &delivery.department;
            if lock(&self.delivered).contains(&delivery) {
                continue;
            }
            let turn = lock(&self.turns).entry(department.clone()).or_default().clone();
            let _turn = turn.lock().await;
            if !lock(&self.delivered).contains(&delivery) {
                deliver(nodes, agreement, domain, department).await?;
                lock(&self.delivered).insert(delivery);
            }
        }
        Ok(())
    }

    /// Forgets what was delivered, so that the next [`Relay::ensure`] delivers again: a node may have lost its state.
    pub(crate) fn forget(&self) {
        lock(&self.delivered).clear();
    }

    /// Forgets what was delivered under one agreement's text. To everybody: a keyholder that lost a key makes another one.
    pub(crate) fn forget_under(&self, agreement_digest: &str) {
        lock(&self.delivered).retain(|delivery| delivery.agreement_digest != agreement_digest);
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
