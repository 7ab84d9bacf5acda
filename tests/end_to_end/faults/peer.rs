//! A department's node in the test's own hands, with the department's certificate and keys: it speaks the contract's version that
//! it is told to speak, and says of its consent ledger what it is told to say. Its data are good.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, BooleanArray, FixedSizeBinaryArray, RecordBatch};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::Utc;
use concordat_policy::{Code, ColumnType, Name, Refusal};
use concordat_proto::grouped::{Grouping, Groups};
use concordat_proto::receipt::{AUDIENCE, Grouped, Receipt, Standing};
use concordat_proto::schema::release_schema;
use concordat_proto::status::to_status;
use concordat_proto::token::SigningKey;
use concordat_proto::v1;
use concordat_proto::v1::linkage_keys_server::{LinkageKeys, LinkageKeysServer};
use concordat_proto::v1::node_client::NodeClient;
use concordat_proto::v1::node_server::{Node, NodeServer};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::sandbox::Sandbox;

/// What the peer reads.
pub const ROWS: &str = "SELECT count(*) AS n, count(claiming) AS k FROM dwp.claims";

/// What it says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// The contract's version that it speaks.
    pub version: u32,
    /// Whether it also takes calls of versions that it should refuse.
    pub takes_any: bool,
    /// Where its ledger stands, it says when it describes itself.
    pub described: Standing,
    /// The same, in its receipts.
    pub applied: Standing,
}

impl Script {
    pub fn of_version(version: u32) -> Self {
        Self { version, takes_any: false, described: Standing::default(), applied: Standing::default() }
    }

    /// A ledger that stands here, whoever asks.
    pub fn ledger(generation: u32, version: u64) -> Self {
        let standing = Standing { generation, version };
        Self { described: standing, applied: standing, ..Self::of_version(2) }
    }
}

#[derive(Clone)]
pub struct Peer {
    script: Arc<Mutex<Script>>,
    order: Arc<Mutex<Option<(v1::ReleaseRequest, String)>>>,
    key: SigningKey,
    linkage: Vec<u8>,
}

impl Peer {
    /// Takes the place of DWP's node.
    pub async fn instead_of_dwp(sandbox: &mut Sandbox, script: Script) -> Self {
        // The keyholder's key of the domain is delivered while the real node is there.
        let folder = sandbox.layout.node("dwp");
        let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
        let tls = sandbox.layout.gateway().join("tls");
        let text = |name: &str| std::fs::read_to_string(tls.join(name)).unwrap();
        let identity = Identity::from_pem(text("client.pem"), text("client.key.pem"));
        let channel = crate::sandbox::node(sandbox, "dwp", Some(identity), &text("ca.pem")).await.unwrap();
        let description = NodeClient::new(channel).describe(v1::DescribeRequest { contract_version: 2 }).await.unwrap().into_inner();
        let peer = Self {
            script: Arc::new(Mutex::new(script)),
            order: Arc::default(),
            key: SigningKey::from_pem(&read("keys/signing.key.pem")).unwrap(),
            linkage: description.linkage_key,
        };
        let address: std::net::SocketAddr = sandbox.running.nodes().find(|(d, _)| *d == "dwp").unwrap().1.parse().unwrap();
        sandbox.running.kill("dwp");
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("tls/node.pem"), read("tls/node.key.pem")))
            .client_ca_root(Certificate::from_pem(read("tls/ca.pem")));
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(FlightServiceServer::new(peer.clone()))
            .add_service(NodeServer::new(peer.clone()))
            .add_service(LinkageKeysServer::new(peer.clone()))
            .serve(address);
        tokio::spawn(server);
        peer
    }

    /// Changes what it says, and has the gateway forget what it was told.
    pub async fn says(&self, sandbox: &mut Sandbox, script: Script) {
        *self.script.lock().unwrap() = script;
        sandbox.running.restart_gateway().await.unwrap();
    }

    /// The same, while the gateway believes what it was told.
    pub fn now_says(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    /// The request of the last order, and its order's identifier.
    pub fn ordered(&self) -> v1::ReleaseRequest {
        self.order.lock().unwrap().clone().expect("an order came").0
    }

    fn script(&self) -> Script {
        *self.script.lock().unwrap()
    }

    fn serves(&self, version: u32) -> Result<(), Status> {
        let script = self.script();
        if script.takes_any || version.abs_diff(script.version) <= 1 {
            return Ok(());
        }
        let refusal = Refusal::new(Code::Invalid, format!("contract version {version} is not served")).department("dwp");
        Err(to_status(&refusal, None))
    }

    fn receipt(&self, partition: u32, rows: u64, grouped: Option<Grouped>) -> FlightData {
        let (request, jti) = self.order.lock().unwrap().clone().unwrap();
        let (now, script) = (Utc::now().timestamp(), self.script());
        let spoken = request.contract_version.min(script.version);
        let domain = request.domain.filter(|_| spoken >= 2);
        let receipt = Receipt {
            iss: "node:dwp".into(),
            sub: jti,
            aud: AUDIENCE.into(),
            nbf: now,
            exp: now + 60,
            query_id: request.query_id,
            mission: domain.as_ref().map(|domain| Name::parse(&domain.mission).unwrap()),
            purpose: domain.as_ref().map(|domain| Name::parse(&domain.purpose).unwrap()),
            dataset: "claims".into(),
            partition,
            partitions: request.partitions,
            rows,
            grouped,
            consent_version: script.applied.version,
            consent_generation: (spoken >= 2).then_some(script.applied.generation),
            freshness: 1,
            log_entry: 1,
            denominators: None,
        };
        FlightData { app_metadata: receipt.sign(&self.key).unwrap().into(), ..Default::default() }
    }
}

/// A hundred people of one partition.
fn people(partition: u32, partitions: u32) -> RecordBatch {
    let low = u8::try_from(256 * partition / partitions).unwrap();
    let ids = (0..100u8).map(|i| {
        let mut id = [0; 16];
        (id[0], id[2]) = (low, i);
        id
    });
    let subjects: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter(ids).unwrap());
    let schema = Arc::new(release_schema(false, [("claiming", ColumnType::Boolean)]));
    RecordBatch::try_new(schema, vec![subjects, Arc::new(BooleanArray::from(vec![true; 100])) as ArrayRef]).unwrap()
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl FlightService for Peer {
    type HandshakeStream = Boxed<HandshakeResponse>;
    type ListFlightsStream = Boxed<FlightInfo>;
    type DoGetStream = Boxed<FlightData>;
    type DoPutStream = Boxed<PutResult>;
    type DoActionStream = Boxed<arrow_flight::Result>;
    type ListActionsStream = Boxed<ActionType>;
    type DoExchangeStream = Boxed<FlightData>;

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let order = v1::ReleaseOrder::decode(request.into_inner().cmd).unwrap();
        let request = v1::ReleaseRequest::decode(order.request.as_slice()).unwrap();
        self.serves(request.contract_version)?;
        let claims = BASE64_URL_SAFE_NO_PAD.decode(order.order.split('.').nth(1).unwrap()).unwrap();
        let jti = serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["jti"].as_str().unwrap().to_owned();
        let tickets = (0..request.partitions).map(|partition| Ticket::new(partition.to_be_bytes().to_vec()));
        let info = tickets.fold(FlightInfo::new(), |info, ticket| info.with_endpoint(FlightEndpoint::new().with_ticket(ticket)));
        *self.order.lock().unwrap() = Some((request, jti));
        Ok(Response::new(info))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let partition = u32::from_be_bytes(request.into_inner().ticket[..].try_into().unwrap());
        let order = self.ordered();
        let (mut batch, mut grouped) = (people(partition, order.partitions), None);
        if let Some(asked) = &order.grouping {
            let grouping = Grouping::of(asked, &[("claiming".to_owned(), ColumnType::Boolean)]).unwrap();
            let mut groups = Groups::new(Arc::new(grouping.clone()));
            assert!(groups.take(&batch).unwrap().is_empty(), "they are few");
            batch = grouping.as_sent(&groups.finish().unwrap().unwrap()).unwrap();
            grouped = Some(groups.made_of());
        }
        let rows = batch.num_rows() as u64;
        let encoder = FlightDataEncoderBuilder::new().with_schema(batch.schema());
        let mut messages: Vec<FlightData> =
            encoder.build(futures::stream::iter([Ok(batch)])).try_collect().await.map_err(|e| Status::internal(e.to_string()))?;
        messages.push(self.receipt(partition, rows, grouped));
        Ok(Response::new(futures::stream::iter(messages.into_iter().map(Ok)).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Node for Peer {
    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::Description>, Status> {
        self.serves(request.into_inner().contract_version)?;
        let script = self.script();
        Ok(Response::new(v1::Description {
            contract_version: script.version,
            department: "dwp".into(),
            signing_key: self.key.public_spki().to_vec(),
            linkage_key: self.linkage.clone(),
            consent_version: script.described.version,
            consent_generation: if script.version < 2 { 0 } else { script.described.generation },
            time: Utc::now().timestamp(),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl LinkageKeys for Peer {
    async fn seal(&self, _: Request<v1::SealRequest>) -> Result<Response<v1::SealedKey>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn accept(&self, _: Request<v1::SealedKey>) -> Result<Response<v1::AcceptResponse>, Status> {
        Ok(Response::new(v1::AcceptResponse {}))
    }
}
