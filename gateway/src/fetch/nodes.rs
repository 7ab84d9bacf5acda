//! Connections to the departments' nodes: mutual TLS, one channel per node, opened when first needed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat_operate::Fault;
use concordat_operate::certificate::{Facts, Files, Identity};
use concordat_operate::server::unix_now;
use concordat_operate::trace::{Traced, traced};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Code, Name, Refusal, Signatures};
use concordat_proto::receipt::Standing;
use concordat_proto::status::from_status;
use concordat_proto::token::VerifyingKey;
use concordat_proto::v1::agreements_client::AgreementsClient;
use concordat_proto::v1::consent_reach_client::ConsentReachClient;
use concordat_proto::v1::linkage_keys_client::LinkageKeysClient;
use concordat_proto::v1::node_client::NodeClient;
use concordat_proto::v1::witness_client::WitnessClient;
use concordat_proto::v1::{DescribeRequest, Description};
use concordat_proto::version::{spoken_with, too_far_apart};
use concordat_proto::{CONTRACT_VERSION, MAX_CONTROL_MESSAGE, MAX_WITNESS_MESSAGE, version_is_served};
use tokio::sync::Mutex;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::clocks::{self, Offset};
use super::distance::Distance;
use super::flight::Flight;
use super::ledgers::Ledgers;
use super::recovery::{Attempt, Recovery};
use super::sent::{Returns, Sent};
use super::shown::Shown;
use super::trouble::{self, Trouble};
use crate::estate::Department;

/// How long a control call may take.
pub(crate) const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a description is believed.
const DESCRIPTION_AGE: Duration = Duration::from_secs(30);
/// How long a connection may be silent until it is asked for a sign of life, and how long that may take.
const SILENCE: Duration = Duration::from_secs(4);
const PONG: Duration = Duration::from_secs(6);
/// The longest text of a node that is passed on.
const MAX_NODE_TEXT: usize = 400;

/// All nodes, and the gateway's identity towards them, which can be replaced while it serves.
pub(crate) struct Nodes {
    files: Files,
    by_department: HashMap<Name, Node>,
    /// The present certificate and, where there was one, the one before: an order may still travel over its connection.
    certificates: RwLock<Vec<Fingerprint>>,
    /// Departments whose access logs do not continue what was cosigned, and what whoever asks them is told.
    distrusted: RwLock<HashMap<Name, Refusal>>,
    /// Where the departments' consent ledgers were seen.
    pub(super) ledgers: Arc<Ledgers>,
    /// How much of this gateway's log their witnesses have seen.
    pub(crate) shown: Shown,
}

struct Node {
    department: Name,
    address: String,
    server_name: String,
    channel: RwLock<Traced>,
    described: Mutex<Option<(Instant, Arc<Description>)>>,
    /// When it was last asked and described itself as it should. Stays when it cannot be reached any more.
    heard: RwLock<Option<Instant>>,
    recovery: Recovery,
    clock: Offset,
    distance: Distance,
    returns: Returns,
}

impl Nodes {
    /// Prepares a channel to each department's node. Connects to none.
    ///
    /// # Errors
    /// When an address is no URL or the TLS files do not fit.
    pub(crate) fn new(departments: &[Department], files: Files, ledgers: Ledgers) -> Result<Self, Fault> {
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
                heard: RwLock::default(),
                recovery: Recovery::default(),
                clock: Offset::default(),
                distance: Distance::default(),
                returns: Returns::default(),
            };
            by_department.insert(department.id.clone(), node);
        }
        let certificates = RwLock::new(vec![identity.own()?.fingerprint.clone()]);
        Ok(Self { files, by_department, certificates, distrusted: RwLock::default(), ledgers: Arc::new(ledgers), shown: Shown::default() })
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
            node.distance.forget();
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

    /// The service of a node that tells whose choices reach other departments' data.
    pub(super) fn reach(&self, department: &Name) -> Result<ConsentReachClient<Traced>, Refusal> {
        Ok(ConsentReachClient::new(self.node(department)?.channel()).max_decoding_message_size(MAX_CONTROL_MESSAGE))
    }

    /// The service of a node by which agreements travel.
    pub(super) fn agreements(&self, department: &Name) -> Result<AgreementsClient<Traced>, Refusal> {
        Ok(AgreementsClient::new(self.node(department)?.channel()).max_decoding_message_size(MAX_CONTROL_MESSAGE))
    }

    /// The service of a node by which access logs are witnessed.
    pub(crate) fn witness(&self, department: &Name) -> Result<WitnessClient<Traced>, Refusal> {
        Ok(WitnessClient::new(self.node(department)?.channel()).max_decoding_message_size(MAX_WITNESS_MESSAGE))
    }

    /// Whether a department's node is so far away that its releases are to be dense.
    pub(super) fn is_far(&self, department: &Name) -> bool {
        self.by_department.get(department).is_some_and(|node| node.distance.is_far())
    }

    /// The departments.
    pub(crate) fn departments(&self) -> impl Iterator<Item = &Name> {
        self.by_department.keys()
    }

    /// From now on nothing of a department is used, and whoever asks is told why.
    pub(crate) fn distrust(&self, department: &Name, refusal: Refusal) {
        self.distrusted.write().unwrap_or_else(PoisonError::into_inner).insert(department.clone(), refusal);
    }

    /// A department's data may be used again. Whether it was not before.
    pub(crate) fn trust(&self, department: &Name) -> bool {
        self.distrusted.write().unwrap_or_else(PoisonError::into_inner).remove(department).is_some()
    }

    fn trusted(&self, department: &Name) -> Result<(), Refusal> {
        match self.distrusted.read().unwrap_or_else(PoisonError::into_inner).get(department) {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(()),
        }
    }

    /// An order that is about to be sent to a node over `flight`. See [`Sent::new`].
    pub(super) fn sent(&self, department: &Name, flight: &Flight, order: Option<String>) -> Result<Sent, Refusal> {
        Ok(Sent::new(order, flight.channel(), self.node(department)?.returns.clone()))
    }

    /// Waits until every order that was given back has come back, at most for `patience`.
    pub(crate) async fn gave_back(&self, patience: Duration) {
        let ended = self.by_department.values().map(|node| node.returns.ended());
        let _ = tokio::time::timeout(patience, futures::future::join_all(ended)).await;
    }

    /// Runs a control call to a node, unless it failed a moment ago.
    ///
    /// # Errors
    /// Node refusals that name the department.
    pub(crate) async fn call<T>(
        &self,
        department: &Name,
        future: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Refusal> {
        self.node(department)?.call(future).await
    }

    /// Runs an order. One that takes too long says nothing of the node: another dataset may be quick. Whether the node is there
    /// is asked again before the next one.
    ///
    /// # Errors
    /// As [`Nodes::call`].
    pub(crate) async fn order<T>(
        &self,
        department: &Name,
        future: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Refusal> {
        let node = self.node(department)?;
        let attempt = node.recovery.begin(Instant::now())?;
        match tokio::time::timeout(CONTROL_TIMEOUT, future).await {
            Err(_) => {
                node.forget();
                Err(timeout(department))
            }
            Ok(answer) => node.ended(attempt, answer.map_err(|status| failed(department, &status))),
        }
    }

    /// What a node says of itself, at most 30 s old.
    ///
    /// # Errors
    /// Node refusals that name the department; [`Code::NodeFaulty`] when it speaks for another department or version, or shows a
    /// consent ledger older than one that was used before, or an access log that does not continue; [`Code::NodeRefused`] when its clock or ours is off.
    pub(crate) async fn describe(&self, department: &Name) -> Result<Arc<Description>, Refusal> {
        self.trusted(department)?;
        let node = self.node(department)?;
        // Not behind the lock, where somebody may be trying already.
        node.recovery.refused(Instant::now())?;
        let mut described = node.described.lock().await;
        if let Some((at, description)) = described.as_ref()
            && at.elapsed() < DESCRIPTION_AGE
        {
            return Ok(description.clone());
        }
        let fresh = Arc::new(self.described(node).await?);
        *described = Some((Instant::now(), fresh.clone()));
        Ok(fresh)
    }

    /// That a node has said of itself, at most so long ago, where its consent ledger stands; else it is asked now.
    ///
    /// # Errors
    /// As [`Nodes::describe`].
    pub(super) async fn heard(&self, department: &Name, age: Duration) -> Result<(), Refusal> {
        self.trusted(department)?;
        let node = self.node(department)?;
        if node.heard_within(age) {
            return Ok(());
        }
        node.recovery.refused(Instant::now())?;
        let mut described = node.described.lock().await;
        if node.heard_within(age) {
            return Ok(());
        }
        let fresh = self.described(node).await?;
        *described = Some((Instant::now(), Arc::new(fresh)));
        Ok(())
    }

    /// What a node says of itself now.
    pub(crate) async fn describe_now(&self, department: &Name) -> Result<Description, Refusal> {
        self.described(self.node(department)?).await
    }

    async fn described(&self, node: &Node) -> Result<Description, Refusal> {
        self.trusted(&node.department)?;
        let (asked, seen) = (Instant::now(), self.ledgers.seen(&node.department));
        let description = node.describe().await?;
        let others = self.by_department.values().filter(|other| other.department != node.department);
        clocks::judge(&node.department, node.clock.ahead(), others.filter_map(|other| other.clock.ahead()))?;
        self.ledgers.check(&node.department, seen, standing(&description)).await?;
        *node.heard.write().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        Ok(description)
    }

    /// Where a node says that its consent ledger stands.
    ///
    /// # Errors
    /// As [`Nodes::describe`].
    pub(crate) async fn standing(&self, department: &Name) -> Result<Standing, Refusal> {
        self.describe(department).await.map(|description| standing(&description))
    }

    /// The version of the contract in which to order releases of a node: the lower of its own and ours.
    ///
    /// # Errors
    /// As [`Nodes::describe`].
    pub(crate) async fn spoken(&self, department: &Name) -> Result<u32, Refusal> {
        let version = self.describe(department).await?.contract_version;
        spoken_with(version).ok_or_else(|| strange_version(department, version))
    }

    /// The key that signs a node's receipts, checked against the agreement and the successions since.
    pub(crate) async fn signing_key(
        &self,
        department: &Name,
        agreement: &Agreement,
        signatures: &Signatures,
    ) -> Result<VerifyingKey, Refusal> {
        let signs = |description: &Description| {
            let keys = signatures.keys(agreement, department, Utc::now());
            keys.is_some_and(|keys| keys.signs(&Fingerprint::of(&description.signing_key)))
        };
        let mut description = self.describe(department).await?;
        if !signs(&description) {
            // It may hold another key since it described itself.
            self.node(department)?.forget();
            description = self.describe(department).await?;
        }
        let known = signs(&description);
        match VerifyingKey::ed25519_spki(&description.signing_key) {
            Some(key) if known => Ok(key),
            _ => Err(faulty(department, "signs with a key that is not the one in the agreement", &agreement.id).advice(
                "the department must state its new key's succession to the gateway, and hold that key from then on, or someone stands in \
                     for its node",
            )),
        }
    }
}

impl Node {
    fn channel(&self) -> Traced {
        self.channel.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn heard_within(&self, age: Duration) -> bool {
        self.heard.read().unwrap_or_else(PoisonError::into_inner).is_some_and(|asked| asked.elapsed() <= age)
    }

    async fn call<T>(&self, future: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Refusal> {
        let attempt = self.recovery.begin(Instant::now())?;
        let answer = tokio::time::timeout(CONTROL_TIMEOUT, future).await;
        self.ended(
            attempt,
            answer.map_or_else(|_| Err(timeout(&self.department)), |a| a.map_err(|status| failed(&self.department, &status))),
        )
    }

    fn ended<T>(&self, attempt: Attempt<'_>, answer: Result<tonic::Response<T>, Refusal>) -> Result<T, Refusal> {
        attempt.ended(&answer, Instant::now(), getrandom::u32().unwrap_or_default());
        if answer.as_ref().is_err_and(|refusal| matches!(refusal.code, Code::NodeUnavailable | Code::NodeTimeout)) {
            self.forget();
        }
        answer.map(tonic::Response::into_inner)
    }

    /// Whoever answers next may be another version of the program, with another ledger.
    fn forget(&self) {
        if let Ok(mut described) = self.described.try_lock() {
            *described = None;
        }
    }

    async fn describe(&self) -> Result<Description, Refusal> {
        let mut client = NodeClient::new(self.channel()).max_decoding_message_size(MAX_CONTROL_MESSAGE);
        let (asked, since) = (unix_now(), Instant::now());
        let described = self.call(client.describe(Request::new(DescribeRequest { contract_version: CONTRACT_VERSION }))).await;
        let description = described.map_err(|refusal| match refusal.code {
            // Nodes of version 1 do not say which side is behind.
            Code::NodeRefused if refusal.message.contains("contract version") && !refusal.message.contains("upgrade") => {
                refusal.advice(format!("this gateway speaks contract version {CONTRACT_VERSION}: upgrade the side that is behind"))
            }
            _ => refusal,
        })?;
        self.distance.note(since.elapsed());
        if description.department != self.department.as_str() {
            return Err(faulty(&self.department, "describes another department", &description.department));
        }
        if !version_is_served(description.contract_version) {
            return Err(strange_version(&self.department, description.contract_version));
        }
        self.clock.note(description.time, (asked, unix_now()));
        Ok(description)
    }
}

/// A channel that connects when it is used, and again when its connection has broken. A connection that carries nothing any more
/// is noticed within [`SILENCE`] and [`PONG`] together, whether something runs on it or not.
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
        .http2_keep_alive_interval(SILENCE)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        // Only a stream's own window bounds it: a stream that waits for its partner must not starve the others.
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(1 << 30);
    Ok(traced(endpoint.connect_lazy()))
}

fn standing(description: &Description) -> Standing {
    Standing { generation: description.consent_generation, version: description.consent_version }
}

fn strange_version(department: &Name, version: u32) -> Refusal {
    let apart = too_far_apart("this gateway", "its node", version);
    let refusal = faulty(department, &format!("speaks another version of the contract ({})", apart.message), "");
    Refusal { advice: apart.advice, ..refusal }
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
    let operator = format!("{:?}: {}{}", status.code(), status.message(), trouble::causes(status));
    if let Some(own) = from_status(status) {
        let said: String = own.message.chars().filter(|c| !c.is_control()).take(MAX_NODE_TEXT).collect();
        let code = if matches!(own.code, Code::NodeFaulty | Code::Unwitnessed | Code::Outdated) { own.code } else { Code::NodeRefused };
        let refusal = Refusal::new(code, format!("department '{department}' refused ({}): {said}", own.code.as_str()));
        let refusal = match code {
            Code::Outdated => refusal.advice("ask again when the department has newer data; `concordat catalogue` tells of when it is"),
            _ => refusal,
        };
        return refusal.department(department).operator(operator);
    }
    let unreachable =
        |what: &str, advice: &str| Refusal::new(Code::NodeUnavailable, format!("department '{department}' {what}")).advice(advice);
    let refusal = match (Trouble::of(status), status.code()) {
        (Some(Trouble::Silence), _) | (_, tonic::Code::DeadlineExceeded) => return timeout(department).operator(operator),
        (Some(Trouble::ExpiredCertificate), _) => unreachable(
            "shows a certificate that is not valid now, so nothing is asked of it",
            "its operator must renew the certificate, or the clocks are off",
        ),
        (Some(Trouble::OwnCertificateExpired), _) => unreachable(
            "does not take this gateway's certificate, which has expired",
            "the gateway's operator must renew the certificate towards nodes",
        ),
        (_, tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown | tonic::Code::Internal) => unreachable(
            "cannot be reached, or broke off; there is no partial answer",
            "try again later; `concordat departments` shows which nodes answer",
        ),
        _ => Refusal::new(Code::NodeFaulty, format!("department '{department}' answered out of contract; its data was discarded")),
    };
    refusal.department(department).operator(operator)
}
