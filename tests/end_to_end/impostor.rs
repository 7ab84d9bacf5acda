//! A node that lies. It has the department's own certificate and keys, so only the gateway's checks stand in its way.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, BooleanArray, FixedSizeBinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use concordat_policy::{Code, ColumnType};
use concordat_proto::receipt::{AUDIENCE, Receipt};
use concordat_proto::schema::release_schema;
use concordat_proto::token::SigningKey;
use concordat_proto::v1;
use concordat_proto::v1::linkage_keys_server::{LinkageKeys, LinkageKeysServer};
use concordat_proto::v1::node_server::{Node, NodeServer};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::sandbox::{Sandbox, refused};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    RowsOfReceipt,
    NoReceipt,
    ForgedReceipt,
    ReceiptOfAnotherOrder,
    AnotherType,
    MissingColumn,
    Unsorted,
    AnotherPartition,
    Compressed,
    Garbage,
    BufferBeyondMessage,
    RowsAfterReceipt,
    OneTicket,
    AnotherKey,
}

#[derive(Clone)]
struct Impostor {
    lie: Arc<Mutex<Lie>>,
    order: Arc<Mutex<(String, String)>>,
    key: SigningKey,
    other: SigningKey,
    linkage: Vec<u8>,
}

impl Impostor {
    fn lie(&self) -> Lie {
        *self.lie.lock().unwrap()
    }

    fn batch(&self, partition: u32) -> RecordBatch {
        let low = if (partition == 0) == (self.lie() == Lie::AnotherPartition) { 0x80u8 } else { 0 };
        let mut ids: Vec<[u8; 16]> = (0..100u8)
            .map(|i| {
                let mut id = [0; 16];
                (id[0], id[1]) = (low, i);
                id
            })
            .collect();
        if self.lie() == Lie::Unsorted {
            ids.swap(3, 70);
        }
        let subjects: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter(ids.iter()).unwrap());
        let truth = release_schema([("claiming", ColumnType::Boolean)]);
        let (schema, columns) = match self.lie() {
            Lie::MissingColumn => (Schema::new(vec![truth.field(0).clone()]), vec![subjects]),
            Lie::AnotherType => {
                (release_schema([("claiming", ColumnType::Integer)]), vec![subjects, Arc::new(Int64Array::from(vec![1; 100])) as ArrayRef])
            }
            _ => (truth, vec![subjects, Arc::new(BooleanArray::from(vec![true; 100])) as ArrayRef]),
        };
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn receipt(&self, partition: u32) -> FlightData {
        let (query_id, jti) = self.order.lock().unwrap().clone();
        let now = chrono::Utc::now().timestamp();
        let receipt = Receipt {
            iss: "node:dwp".into(),
            sub: if self.lie() == Lie::ReceiptOfAnotherOrder { "another".into() } else { jti },
            aud: AUDIENCE.into(),
            nbf: now,
            exp: now + 60,
            query_id,
            dataset: "claims".into(),
            partition,
            partitions: 2,
            rows: if self.lie() == Lie::RowsOfReceipt { 101 } else { 100 },
            consent_version: 1_000_000,
            consent_generation: None,
            freshness: 1,
            log_entry: 1,
        };
        let key = if self.lie() == Lie::ForgedReceipt { &self.other } else { &self.key };
        FlightData { app_metadata: receipt.sign(key).unwrap().into(), ..Default::default() }
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
        let claims = order.order.split('.').nth(1).unwrap().to_owned();
        *self.order.lock().unwrap() = (request.query_id, jti(&claims));
        let mut info = FlightInfo::new();
        for partition in 0..if self.lie() == Lie::OneTicket { 1u8 } else { 2 } {
            info = info.with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(vec![partition])));
        }
        Ok(Response::new(info))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let partition = u32::from(request.into_inner().ticket[0]);
        let batch = self.batch(partition);
        let mut encoder = FlightDataEncoderBuilder::new().with_schema(batch.schema());
        if self.lie() == Lie::Compressed {
            encoder = encoder.with_options(IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap());
        }
        let mut messages: Vec<FlightData> =
            encoder.build(futures::stream::iter([Ok(batch)])).try_collect().await.map_err(|e| Status::internal(e.to_string()))?;
        match self.lie() {
            Lie::Garbage => messages[1].data_header = vec![0xab; 81].into(),
            Lie::BufferBeyondMessage => messages[1].data_body = messages[1].data_body.slice(0..16),
            _ => {}
        }
        if self.lie() != Lie::NoReceipt {
            messages.push(self.receipt(partition));
        }
        if self.lie() == Lie::RowsAfterReceipt {
            let extra = messages[1].clone();
            let receipt = messages.pop().unwrap();
            messages.extend([extra, receipt]);
        }
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

/// The `jti` of an order, read without verifying: the impostor does not care.
fn jti(claims: &str) -> String {
    let table: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*b"-_").collect();
    let bits: Vec<u32> = claims.bytes().map(|b| u32::try_from(table.iter().position(|t| *t == b).unwrap()).unwrap()).collect();
    let bytes: Vec<u8> = bits
        .chunks(4)
        .flat_map(|c| {
            let word = c.iter().enumerate().fold(0, |w, (i, v)| w | v << (18 - 6 * i));
            word.to_be_bytes()[1..c.len()].to_vec()
        })
        .collect();
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["jti"].as_str().unwrap().to_owned()
}

#[tonic::async_trait]
impl Node for Impostor {
    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::Description>, Status> {
        let key = if self.lie() == Lie::AnotherKey { &self.other } else { &self.key };
        Ok(Response::new(v1::Description {
            contract_version: 1,
            department: "dwp".into(),
            signing_key: key.public_spki().to_vec(),
            linkage_key: self.linkage.clone(),
            // No lower than the real node's, which the gateway has seen before.
            consent_version: 1_000_000,
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

#[tokio::test]
async fn a_lying_node_is_caught_and_named_whatever_the_lie() {
    let mut sandbox = Sandbox::start(300).await;
    let folder = sandbox.layout.node("dwp");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    let description = {
        let tls = sandbox.layout.gateway().join("tls");
        let text = |name: &str| std::fs::read_to_string(tls.join(name)).unwrap();
        let channel =
            crate::callers::node(&sandbox, "dwp", Some(Identity::from_pem(text("client.pem"), text("client.key.pem"))), &text("ca.pem"))
                .await
                .unwrap();
        v1::node_client::NodeClient::new(channel).describe(v1::DescribeRequest { contract_version: 1 }).await.unwrap().into_inner()
    };
    let other = SigningKey::from_pem(&std::fs::read_to_string(sandbox.layout.issuer().join("issuer.key.pem")).unwrap()).unwrap();
    let impostor = Impostor {
        lie: Arc::new(Mutex::new(Lie::None)),
        order: Arc::default(),
        key: SigningKey::from_pem(&read("keys/signing.key.pem")).unwrap(),
        other,
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
        .add_service(FlightServiceServer::new(impostor.clone()))
        .add_service(NodeServer::new(impostor.clone()))
        .add_service(LinkageKeysServer::new(impostor.clone()))
        .serve(address);
    let server = tokio::spawn(server);
    let sql = "SELECT count(*) AS n, count(claiming) AS k FROM dwp.claims";
    let wait = || async {
        for _ in 0..200 {
            if sandbox.query(sql).await.is_ok() {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        false
    };
    assert!(wait().await, "told truly, the impostor's stream is taken: the test sees what it means to see");
    for lie in [
        Lie::RowsOfReceipt,
        Lie::NoReceipt,
        Lie::ForgedReceipt,
        Lie::ReceiptOfAnotherOrder,
        Lie::AnotherType,
        Lie::MissingColumn,
        Lie::Unsorted,
        Lie::AnotherPartition,
        Lie::Compressed,
        Lie::Garbage,
        Lie::BufferBeyondMessage,
        Lie::RowsAfterReceipt,
        Lie::OneTicket,
    ] {
        *impostor.lie.lock().unwrap() = lie;
        let failure = refused(sandbox.query(sql).await, Code::NodeFaulty, "dwp");
        assert_eq!(failure.department.as_deref(), Some("dwp"), "{lie:?}");
    }
    // A key that is not the agreement's is caught when the gateway asks anew who the node is.
    *impostor.lie.lock().unwrap() = Lie::AnotherKey;
    sandbox.running.restart_gateway().await.unwrap();
    refused(sandbox.query(sql).await, Code::NodeFaulty, "not the one in the agreement");
    server.abort();
}
