//! The control services. Thin: each handler asks who calls, hands on, and logs what it refuses.

mod agreements;
mod ledger;
mod log;
mod people;
mod reach;
mod reading;
mod witness;

use std::sync::Arc;

use chrono::Utc;
use concordat_audit::Entry;
use concordat_operate::drain::Stopping;
use concordat_operate::reading::Reading;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Refusal};
use concordat_proto::order::ID_BYTES;
use concordat_proto::peer::Peer;
use concordat_proto::version::too_far_apart;
use concordat_proto::{CONTRACT_VERSION, v1, version_is_served};
use tonic::{Request, Response, Status};

use crate::node::{Node, status};
use crate::release::blocking;

/// Every control service.
#[derive(Debug, Clone)]
pub struct Control {
    node: Arc<Node>,
    ledger: ledger::Turns,
    reach: reach::Turn,
    agreements: agreements::Turn,
    reading: Reading,
}

impl Control {
    /// The services of `node`. Copies share their limits.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            reading: reading::of(&node),
            node,
            ledger: ledger::Turns::default(),
            reach: reach::Turn::default(),
            agreements: agreements::Turn::default(),
        }
    }

    /// The same, whose calls that would go on by themselves end when the server's drain begins.
    #[must_use]
    pub fn until(mut self, stopping: Stopping) -> Self {
        self.reading = self.reading.until(stopping);
        self
    }

    /// Logs a refusal as `event` and turns it into the caller's status.
    async fn answer<T>(&self, event: &'static str, to: impl Into<Peer>, outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
        match outcome {
            Ok(answer) => Ok(Response::new(answer)),
            Err(refusal) => Err(status(&self.node.refused(event, refusal, &to.into(), None).await, None)),
        }
    }

    async fn description(&self, request: v1::DescribeRequest, certificate: Option<Fingerprint>) -> Result<v1::Description, Refusal> {
        self.node.callers.gateway(certificate)?;
        if !version_is_served(request.contract_version) {
            return Err(too_far_apart("this department's node", "the gateway", request.contract_version).department(&self.node.department));
        }
        // Who asks whether this node answers must not be told that all is well while it can release nothing.
        if self.node.log.is_failing() {
            self.node.log(Entry::new("log.tried")).await?;
        }
        let node = Arc::clone(&self.node);
        blocking(move || {
            let (now, suspended, agreements) = (Utc::now(), node.agreements.suspensions().look(), node.agreements.now());
            let held = |agreement: &concordat_policy::Agreement| v1::HeldAgreement {
                id: agreement.id.to_string(),
                digest: agreement.digest.clone(),
                in_force: suspended.permits(&agreement.id) && agreements.binding(agreement.id.as_str(), &agreement.digest, now).is_ok(),
            };
            Ok(v1::Description {
                contract_version: CONTRACT_VERSION,
                department: node.department.to_string(),
                signing_key: node.signing.public_spki().to_vec(),
                linkage_key: node.linkage.public().to_vec(),
                consent_version: node.consent.ledger().version().map_err(Refusal::internal)?,
                datasets: node.datasets.iter().map(describe).collect(),
                agreements: agreements.iter().map(held).collect(),
                time: now.timestamp(),
                consent_generation: node.consent.generation().map_err(Refusal::internal)?,
            })
        })
        .await
    }

    async fn seal_key(&self, request: v1::SealRequest, certificate: Option<Fingerprint>) -> Result<v1::SealedKey, Refusal> {
        self.node.callers.gateway(certificate)?;
        let recipient = request.recipient.clone();
        let (linkage, agreements) = (Arc::clone(&self.node.linkage), self.node.agreements.now());
        let sealed = blocking(move || linkage.seal(&request, &agreements, Utc::now())).await?;
        self.node.log(linkage_entry("linkage.sealed", &sealed).field("recipient", recipient)).await?;
        Ok(sealed)
    }

    async fn accept_key(&self, sealed: v1::SealedKey, certificate: Option<Fingerprint>) -> Result<v1::AcceptResponse, Refusal> {
        self.node.callers.gateway(certificate)?;
        let entry = linkage_entry("linkage.accepted", &sealed);
        let sender = sealed.sender.clone();
        let (linkage, agreements) = (Arc::clone(&self.node.linkage), self.node.agreements.now());
        blocking(move || linkage.accept(&sealed, &agreements, Utc::now())).await?;
        self.node.log(entry.field("sender", sender)).await?;
        Ok(v1::AcceptResponse {})
    }

    async fn give_back(&self, request: v1::AbandonRequest, certificate: Option<Fingerprint>) -> Result<v1::AbandonResponse, Refusal> {
        let certificate = self.node.callers.gateway(certificate)?;
        if !ID_BYTES.contains(&request.order.len()) {
            return Err(Refusal::new(Code::Invalid, "this is no identifier of an order").department(&self.node.department));
        }
        if self.node.gave_back(request.order.clone(), Utc::now()).await? {
            return Ok(v1::AbandonResponse {});
        }
        if self.node.releases.give_back(&request.order, &certificate).is_some() {
            self.node.outcome("abandoned");
            // Unless somebody reads it still, it is gone by now, and has left what closes it.
            self.node.endings.write().await.map_err(|e| self.node.unwritable(e))?;
        }
        Ok(v1::AbandonResponse {})
    }
}

fn describe(dataset: &crate::datasets::Dataset) -> v1::DatasetDescription {
    let column = |(name, column): (&String, &crate::config::ColumnConfig)| v1::ColumnDescription {
        name: name.clone(),
        r#type: column.kind.to_string(),
        classification: match column.classification {
            concordat_policy::Classification::Public => "public",
            concordat_policy::Classification::Personal => "personal",
            concordat_policy::Classification::Special => "special",
        }
        .into(),
        title: column.title.clone().unwrap_or_default(),
        values: column.values.clone().unwrap_or_default(),
    };
    v1::DatasetDescription {
        name: dataset.config.name.to_string(),
        title: dataset.config.title.clone(),
        identifier_type: dataset.config.identifier.to_string(),
        columns: dataset.config.columns.iter().map(column).collect(),
        freshness: dataset.freshness().unwrap_or(0),
    }
}

fn linkage_entry(event: &'static str, sealed: &v1::SealedKey) -> Entry {
    let domain = sealed.domain.clone().unwrap_or_default();
    Entry::new(event)
        .field("mission", domain.mission)
        .field("purpose", domain.purpose)
        .field("epoch", domain.epoch)
        .field("agreement", sealed.agreement.as_str())
        .field("agreement_digest", sealed.agreement_digest.as_str())
}

#[tonic::async_trait]
impl v1::node_server::Node for Control {
    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::Description>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.description(request.into_inner(), peer.certificate.clone()).await;
        self.answer("describe.refused", &peer, outcome).await
    }
}

#[tonic::async_trait]
impl v1::linkage_keys_server::LinkageKeys for Control {
    async fn seal(&self, request: Request<v1::SealRequest>) -> Result<Response<v1::SealedKey>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.seal_key(request.into_inner(), peer.certificate.clone()).await;
        self.answer("linkage.refused", &peer, outcome).await
    }

    async fn accept(&self, request: Request<v1::SealedKey>) -> Result<Response<v1::AcceptResponse>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.accept_key(request.into_inner(), peer.certificate.clone()).await;
        self.answer("linkage.refused", &peer, outcome).await
    }
}

#[tonic::async_trait]
impl v1::releases_server::Releases for Control {
    async fn abandon(&self, request: Request<v1::AbandonRequest>) -> Result<Response<v1::AbandonResponse>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.give_back(request.into_inner(), peer.certificate.clone()).await;
        self.answer("order.refused", &peer, outcome).await
    }
}
