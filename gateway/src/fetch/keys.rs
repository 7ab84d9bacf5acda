//! Relay of linkage keys: from the keyholder, sealed to each other party, by way of this gateway, which sees ciphertext only.
//! Both ends check the other's public key against the agreement, so that nothing put in here is believed.

use std::collections::HashSet;

use concordat_policy::{Agreement, LinkageDomain, Name, Refusal};
use concordat_proto::v1::SealRequest;
use tokio::sync::Mutex;

use super::nodes::{Nodes, call};

/// Which parties hold which domain's key, as far as this process has seen to it.
#[derive(Default)]
pub(crate) struct Relay {
    delivered: Mutex<HashSet<(LinkageDomain, Name, Name)>>,
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
        let mut delivered = self.delivered.lock().await;
        for department in departments {
            let key = (domain.clone(), agreement.linkage.keyholder.clone(), department.clone());
            if delivered.contains(&key) {
                continue;
            }
            deliver(nodes, agreement, domain, department).await?;
            delivered.insert(key);
        }
        Ok(())
    }

    /// Forgets what was delivered, so that the next [`Relay::ensure`] delivers again: a node may have lost its state.
    pub(crate) async fn forget(&self) {
        self.delivered.lock().await.clear();
    }
}

async fn deliver(nodes: &Nodes, agreement: &Agreement, domain: &LinkageDomain, recipient: &Name) -> Result<(), Refusal> {
    let keyholder = &agreement.linkage.keyholder;
    let recipient_key = nodes.describe(recipient).await?.linkage_key.clone();
    let request = SealRequest {
        domain: Some(domain.into()),
        agreement: agreement.id.to_string(),
        agreement_digest: agreement.digest.clone(),
        recipient: recipient.to_string(),
        recipient_key,
    };
    let sealed = call(keyholder, nodes.keys(keyholder)?.seal(request)).await?;
    if recipient != keyholder {
        call(recipient, nodes.keys(recipient)?.accept(sealed)).await?;
    }
    Ok(())
}
