//! Connections to the departments' nodes: mutual TLS, one channel per node, opened when first needed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use concordat_operate::Fault;
use concordat_operate::certificate::{Facts, Files, Identity};
use concordat_operate::trace::{Traced, traced};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Code, Name, Refusal};
use concordat_proto::status::from_status;
use concordat_proto::token::VerifyingKey;
use concordat_proto::v1::linkage_keys_client::LinkageKeysClient;
use concordat_proto::v1::node_client::NodeClient;
use concordat_proto::v1::{DescribeRequest, Description};
use concordat_proto::{CONTRACT_VERSION, MAX_CONTROL_MESSAGE, version_is_served};
use tokio::sync::Mutex;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::flight::Flight;
use crate::estate::Department;

/// How long a control call may take.
pub(crate) const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a description is believed.
const DESCRIPTION_AGE: Duration = Duration::from_secs(30);
/// The longest text of a node that is passed on.
const MAX_NODE_TEXT: usize = 400;

/// All nodes, and the gateway's identity towards them, which can be replaced while it serves.
pub(crate) struct Nodes {
    files: Files,
    by_department: HashMap<Name, Node>,
    /// The present certificate and, where there was one, the one before: an order may still travel over its connection.
    certificates: RwLock<Vec<Fingerprint>>,
}

struct Node {
    department: Name,
    address: String,
    server_name: String,
    channel: RwLock<Traced>,
    described: Mutex<Option<(Instant, Arc<Description>)>>,
}

impl Nodes {
    /// Prepares a channel to each department's node. Connects to none.
    ///
    /// # Errors
    /// When an address is no URL or the TLS files do not fit.
    pub(crate) fn new(departments: &[Department], files: Files) -> Result<Self, Fault> {
        let identity = Identity::load(&files)?;
        let mut by_department = HashMap::new();
        for department in departments {
            let channel = connect(&department.address, &department.server_name, &identity)?;
            let node = Node {
                department: department.id.clone(),
                address: department.address.clone(),
                server_name: department.server_name.clone(),
                channel: RwLock::new(channel),
                described: Mutex::new(None),
            };
            by_department.insert(department.id.clone(), node);
        }
        let certificates = RwLock::new(vec![identity.own()?.fingerprint.clone()]);
        Ok(Self { files, by_department, certificates })
    }

    /// Reads the identity again; new calls go over new connections, running ones end on theirs. What cannot be used, or is
    /// not valid at `now` (Unix seconds), changes nothing.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub(crate) fn reload(&self, now: i64) -> Result<Facts, Fault> {
        let identity = Identity::load(&self.files)?;
        identity.valid_at(now)?;
        let facts = identity.own()?.clone();
        let fresh = self.by_department.values().map(|node| Ok((node, connect(&node.address, &node.server_name, &identity)?)));
        let fresh = fresh.collect::<Result<Vec<_>, Fault>>()?;
        {
            let mut certificates = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
            certificates.retain(|known| *known != facts.fingerprint);
            certificates.insert(0, facts.fingerprint.clone());
            certificates.truncate(2);
        }
        for (node, channel) in fresh {
            *node.channel.write().unwrap_or_else(PoisonError::into_inner) = channel;
        }
        Ok(facts)
    }

    /// The files of the identity.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Fingerprints of the client certificates that this gateway may present.
    pub(crate) fn certificates(&self) -> Vec<Fingerprint> {
        self.certificates.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn node(&self, department: &Name) -> Result<&Node, Refusal> {
        self.by_department.get(department).ok_or_else(|| {
            Refusal::new(Code::NodeUnavailable, format!("department '{department}' has no address in the estate"))
                .department(department)
                .advice("the gateway's operator must add it to departments.toml")
        })
    }

    /// The Flight service of a node.
    pub(crate) fn flight(&self, department: &Name) -> Result<Flight, Refusal> {
        Ok(Flight::new(self.node(department)?.channel()))
    }

    /// The key service of a node.
    pub(crate) fn keys(&self, department: &Name) -> Result<LinkageKeysClient<Traced>, Refusal> {
        Ok(LinkageKeysClient::new(self.node(department)?.channel()).max_decoding_message_size(MAX_CONTROL_MESSAGE))
    }

    /// What a node says of itself, at most 30 s old.
    ///
    /// # Errors
    /// Node refusals that name the department; [`Code::NodeFaulty`] when it speaks for another department or version.
    pub(crate) async fn describe(&self, department: &Name) -> Result<Arc<Description>, Refusal> {
        let node = self.node(department)?;
        let mut described = node.described.lock().await;
        if let Some((at, description)) = described.as_ref()
            && at.elapsed() < DESCRIPTION_AGE
        {
            return Ok(description.clone());
        }
        let fresh = Arc::new(node.describe().await?);
        *described = Some((Instant::now(), fresh.clone()));
        Ok(fresh)
    }

    /// What a node says of itself now.
    pub(crate) async fn describe_now(&self, department: &Name) -> Result<Description, Refusal> {
        self.node(department)?.describe().await
    }

    /// The key that signs a node's receipts, checked against the agreement.
    pub(crate) async fn signing_key(&self, department: &Name, agreement: &Agreement) -> Result<VerifyingKey, Refusal> {
        let description = self.describe(department).await?;
        let party = agreement.party(department);
        let known = party.is_some_and(|p| p.signing_key == Fingerprint::of(&description.signing_key));
        match VerifyingKey::ed25519_spki(&description.signing_key) {
            Some(key) if known => Ok(key),
            _ => Err(faulty(department, "signs with a key that is not the one in the agreement", &agreement.id)
                .advice("the department must publish its new key's fingerprint in the agreement, or someone stands in for its node")),
        }
    }
}

impl Node {
    fn channel(&self) -> Traced {
        self.channel.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn describe(&self) -> Result<Description, Refusal> {
        let mut client = NodeClient::new(self.channel()).max_decoding_message_size(MAX_CONTROL_MESSAGE);
        let description =
            call(&self.department, client.describe(Request::new(DescribeRequest { contract_version: CONTRACT_VERSION }))).await?;
        if description.department != self.department.as_str() || !version_is_served(description.contract_version) {
            return Err(faulty(
                &self.department,
                "describes another department or an unknown contract version",
                description.contract_version,
            ));
        }
        Ok(description)
    }
}

/// A channel that connects when it is used.
fn connect(address: &str, server_name: &str, identity: &Identity) -> Result<Traced, Fault> {
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(identity.ca_pem.as_deref().unwrap_or_default()))
        .identity(tonic::transport::Identity::from_pem(&identity.certificate_pem, identity.key_pem.as_bytes()))
        .domain_name(server_name);
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|_| Fault::new(address, "is no address", "write https://host:port in departments.toml"))?
        .tls_config(config)
        .map_err(|e| Fault::new(address, format!("TLS: {e}"), "correct departments.toml or the [nodes] files"))?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        // Only a stream's own window bounds it: a stream that waits for its partner must not starve the others.
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(1 << 30);
    Ok(traced(endpoint.connect_lazy()))
}

/// Runs a control call under its timeout, and turns its failures into refusals that name the department.
pub(crate) async fn call<T>(department: &Name, future: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Refusal> {
    match tokio::time::timeout(CONTROL_TIMEOUT, future).await {
        Err(_) => Err(timeout(department)),
        Ok(Err(status)) => Err(failed(department, &status)),
        Ok(Ok(response)) => Ok(response.into_inner()),
    }
}

/// A node that did not answer in time.
pub(crate) fn timeout(department: &Name) -> Refusal {
    Refusal::new(Code::NodeTimeout, format!("department '{department}' did not answer in time; there is no partial answer"))
        .department(department)
        .advice("try again later; `concordat departments` shows which nodes answer")
}

/// A node that answered with something other than it signed or agreed.
pub(crate) fn faulty(department: &Name, what: &str, operator: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::NodeFaulty, format!("department '{department}' {what}; its data was discarded"))
        .department(department)
        .operator(operator)
}

/// A failed call as a refusal. A node's own sentence passes on, cut short and stripped of control characters.
pub(crate) fn failed(department: &Name, status: &Status) -> Refusal {
    let operator = format!("{:?}: {}", status.code(), status.message());
    if let Some(own) = from_status(status) {
        let said: String = own.message.chars().filter(|c| !c.is_control()).take(MAX_NODE_TEXT).collect();
        let code = if own.code == Code::NodeFaulty { Code::NodeFaulty } else { Code::NodeRefused };
        return Refusal::new(code, format!("department '{department}' refused ({}): {said}", own.code.as_str()))
            .department(department)
            .operator(operator);
    }
    let refusal = match status.code() {
        tonic::Code::DeadlineExceeded => return timeout(department).operator(operator),
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown | tonic::Code::Internal => Refusal::new(
            Code::NodeUnavailable,
            format!("department '{department}' cannot be reached, or broke off; there is no partial answer"),
        )
        .advice("try again later; `concordat departments` shows which nodes answer"),
        _ => Refusal::new(Code::NodeFaulty, format!("department '{department}' answered out of contract; its data was discarded")),
    };
    refusal.department(department).operator(operator)
}
