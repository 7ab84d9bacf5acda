//! The lying node's services.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use base64::Engine as _;
use concordat_proto::CONTRACT_VERSION;
use concordat_proto::token::SigningKey;
use concordat_proto::v1;
use concordat_proto::v1::consent_reach_server::{ConsentReach, ConsentReachServer};
use concordat_proto::v1::linkage_keys_server::{LinkageKeys, LinkageKeysServer};
use concordat_proto::v1::node_server::{Node, NodeServer};
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::lists::Listing;
use super::sayings::{Order, Saying, Then};
use crate::sandbox::Sandbox;

/// A node of DWP's that says what it is told to.
#[derive(Clone)]
pub struct Impostor {
    /// What the next orders are answered with.
    pub saying: Arc<Mutex<Saying>>,
    /// What the next questions for a list are answered with.
    pub listing: Arc<Mutex<Option<Listing>>>,
    /// The version of the contract that it speaks.
    pub version: Arc<AtomicU32>,
    /// The consent ledger's version, in descriptions and receipts.
    pub consent_version: Arc<AtomicU64>,
    /// Streams that the gateway has not let go of.
    pub open: Arc<AtomicUsize>,
    orders: Arc<Mutex<Vec<(Saying, Order)>>>,
    pub key: SigningKey,
    pub other: SigningKey,
    linkage: Vec<u8>,
}

impl Impostor {
    /// Takes the place of DWP's node.
    pub async fn in_place_of_dwp(sandbox: &mut Sandbox) -> (Self, tokio::task::JoinHandle<Result<(), tonic::transport::Error>>) {
        let folder = sandbox.layout.node("dwp");
        let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
        let description = {
            let tls = sandbox.layout.gateway().join("tls");
            let text = |name: &str| std::fs::read_to_string(tls.join(name)).unwrap();
            let identity = Some(Identity::from_pem(text("client.pem"), text("client.key.pem")));
            let channel = crate::sandbox::node(sandbox, "dwp", identity, &text("ca.pem")).await.unwrap();
            v1::node_client::NodeClient::new(channel).describe(v1::DescribeRequest { contract_version: 1 }).await.unwrap().into_inner()
        };
        let other = std::fs::read_to_string(sandbox.layout.issuer().join("issuer.key.pem")).unwrap();
        let impostor = Self {
            saying: Arc::new(Mutex::new(Saying::Truth)),
            listing: Arc::default(),
            version: Arc::new(AtomicU32::new(CONTRACT_VERSION)),
            // Later than what the gateway may have heard of the node whose place it takes.
            consent_version: Arc::new(AtomicU64::new(description.consent_version + 5)),
            open: Arc::default(),
            orders: Arc::default(),
            key: SigningKey::from_pem(&read("keys/signing.key.pem")).unwrap(),
            other: SigningKey::from_pem(&other).unwrap(),
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
            .add_service(FlightServiceServer::new(impostor.clone()).max_encoding_message_size(usize::MAX))
            .add_service(NodeServer::new(impostor.clone()))
            .add_service(LinkageKeysServer::new(impostor.clone()))
            .add_service(ConsentReachServer::new(impostor.clone()).max_encoding_message_size(usize::MAX))
            .serve(address);
        (impostor, tokio::spawn(server))
    }

    pub fn says(&self, saying: Saying) {
        *self.saying.lock().unwrap() = saying;
    }
}

/// Counts a stream for as long as the gateway reads it.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl FlightService for Impostor {
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
        let saying = *self.saying.lock().unwrap();
        let number = {
            let mut orders = self.orders.lock().unwrap();
            let (query_id, partitions, columns) = (request.query_id, request.partitions, request.columns);
            let v1::Domain { mission, purpose, .. } = request.domain.unwrap();
            orders.push((saying, Order { query_id, jti: jti(&order.order), mission, purpose, partitions, columns }));
            orders.len() - 1
        };
        let tickets = match saying {
            Saying::OneTicket => 1,
            Saying::AMillionTickets => 1_000_000,
            _ => request.partitions,
        };
        let mut info = FlightInfo::new();
        info.endpoint = (0..tickets)
            .map(|partition| match saying {
                Saying::AMillionTickets => FlightEndpoint::new(),
                _ => FlightEndpoint::new().with_ticket(Ticket::new(format!("{number} {partition}"))),
            })
            .collect();
        Ok(Response::new(info))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = String::from_utf8(request.into_inner().ticket.to_vec()).unwrap();
        let (number, partition) = ticket.split_once(' ').unwrap();
        let (saying, order) = self.orders.lock().unwrap()[number.parse::<usize>().unwrap()].clone();
        let said = saying.say(self, &order, partition.parse().unwrap());
        let open = Open::new(&self.open);
        let then: Boxed<FlightData> = match said.then {
            Then::End => futures::stream::empty().boxed(),
            Then::Stall => futures::stream::pending().boxed(),
            Then::Forever(next, pause) => futures::stream::unfold((0u64, next), move |(n, next)| async move {
                tokio::time::sleep(pause).await;
                // One message at a time, as fast as the gateway takes them; without a pause, the runtime still gets its turn.
                if pause == Duration::ZERO {
                    tokio::task::yield_now().await;
                }
                let messages: Vec<Result<FlightData, Status>> = next(n).into_iter().map(Ok).collect();
                Some((futures::stream::iter(messages), (n + 1, next)))
            })
            .flatten()
            .boxed(),
        };
        let stream = futures::stream::iter(said.messages.into_iter().map(Ok)).chain(then).map(move |message| {
            let _held = &open;
            message
        });
        Ok(Response::new(stream.boxed()))
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

/// The `jti` of an order, read without verifying: the impostor does not care.
fn jti(order: &str) -> String {
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(order.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["jti"].as_str().unwrap().to_owned()
}

#[tonic::async_trait]
impl Node for Impostor {
    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::Description>, Status> {
        let key = if *self.saying.lock().unwrap() == Saying::AnotherKey { &self.other } else { &self.key };
        Ok(Response::new(v1::Description {
            contract_version: self.version.load(Ordering::Acquire),
            department: "dwp".into(),
            signing_key: key.public_spki().to_vec(),
            linkage_key: self.linkage.clone(),
            consent_version: self.consent_version.load(Ordering::Acquire),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl LinkageKeys for Impostor {
    async fn seal(&self, _: Request<v1::SealRequest>) -> Result<Response<v1::SealedKey>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn accept(&self, _: Request<v1::SealedKey>) -> Result<Response<v1::AcceptResponse>, Status> {
        Ok(Response::new(v1::AcceptResponse {}))
    }
}

#[tonic::async_trait]
impl ConsentReach for Impostor {
    type ChangesStream = Boxed<v1::ReachChanges>;

    async fn changes(&self, request: Request<v1::ReachRequest>) -> Result<Response<Self::ChangesStream>, Status> {
        let listing = (*self.listing.lock().unwrap()).ok_or_else(|| Status::unimplemented(""))?;
        let open = Open::new(&self.open);
        let stream = listing.tell(self, &request.into_inner()).map(move |message| {
            let _held = &open;
            Ok(message)
        });
        Ok(Response::new(stream.boxed()))
    }
}
