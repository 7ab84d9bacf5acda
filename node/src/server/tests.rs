//! The node over real mutual TLS: who gets in, what an order's answer looks like on the wire, and what is refused.

mod abandoned;
mod reach;
mod rereading;
mod signing;
mod suspending;
mod travelling;
mod witnessing;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Criteria, FlightData, FlightDescriptor, FlightInfo, Ticket};
use chrono::Utc;
use concordat_policy::Code;
use concordat_proto::receipt::Receipt;
use concordat_proto::release_stream::{ReleaseMessage, ReleaseStream, Taken, dense};
use concordat_proto::status::from_status;
use concordat_proto::v1;
use concordat_proto::v1::consent_ledger_client::ConsentLedgerClient;
use concordat_proto::v1::linkage_keys_client::LinkageKeysClient;
use concordat_proto::v1::node_client::NodeClient;
use concordat_proto::version::PURPOSES;
use futures::TryStreamExt as _;
use prost::Message as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::*;
use crate::config::Config;
use crate::fixture::{self, World, name};

mod consent;
mod people;

struct Running {
    world: World,
    address: String,
    node: Arc<Node>,
}

impl Running {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(prepare: impl FnOnce(&World)) -> Self {
        let world = World::new();
        prepare(&world);
        Self::of(world).await
    }

    async fn of(world: World) -> Self {
        let config = Config::load(&world.path("node.toml")).unwrap();
        let listen = Listen::of(&config);
        let node = Node::open(config).await.unwrap();
        world.bring_key(&node);
        let served = Arc::clone(&node);
        let address_file = listen.state.join("address");
        tokio::spawn(async move { serve(served, listen, Stop::when(std::future::pending())).await.unwrap() });
        let address = loop {
            match std::fs::read_to_string(&address_file) {
                Ok(text) => break text.trim().to_owned(),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        Self { world, address, node }
    }

    fn endpoint(&self, identity: Option<&fixture::Identity>) -> Endpoint {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.world.ca)).domain_name("dfe.node.concordat.internal");
        if let Some(identity) = identity {
            tls = tls.identity(Identity::from_pem(&identity.certificate, &identity.key));
        }
        Endpoint::from_shared(format!("https://{}", self.address)).unwrap().tls_config(tls).unwrap()
    }

    async fn connect(&self, identity: Option<&fixture::Identity>) -> Result<Channel, tonic::transport::Error> {
        self.endpoint(identity).connect().await
    }

    async fn gateway(&self) -> Channel {
        self.connect(Some(&self.world.gateway)).await.unwrap()
    }

    fn order(&self) -> FlightDescriptor {
        self.order_in(1)
    }

    /// An order in a version of the contract.
    fn order_in(&self, version: u32) -> FlightDescriptor {
        let now = Utc::now();
        let request = v1::ReleaseRequest { contract_version: version, ..self.world.request(now) };
        FlightDescriptor::new_cmd(self.world.order(&request, now).encode_to_vec())
    }
}

fn code(status: &tonic::Status) -> Option<Code> {
    from_status(status).map(|refusal| refusal.code)
}

async fn messages(client: &mut FlightServiceClient<Channel>, ticket: Ticket) -> Result<Vec<FlightData>, tonic::Status> {
    let mut stream = client.do_get(ticket).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

fn tickets(info: &FlightInfo) -> Vec<Ticket> {
    info.endpoint.iter().map(|endpoint| endpoint.ticket.clone().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_answered_with_partitions_and_receipts() {
    let running = Running::new().await;
    let mut client = FlightServiceClient::new(running.gateway().await);
    let info = client.get_flight_info(running.order()).await.unwrap().into_inner();
    let tickets = tickets(&info);
    assert_eq!(tickets.len(), 4);
    let key = running.node.verifying.clone();
    let mut rows = 0;
    for (partition, ticket) in tickets.iter().enumerate() {
        let messages = messages(&mut client, ticket.clone()).await.unwrap();
        let (last, data) = messages.split_last().unwrap();
        assert!(!data.is_empty(), "the schema comes first, also without rows");
        assert!(last.data_header.is_empty() && last.data_body.is_empty());
        let receipt =
            Receipt::verify(std::str::from_utf8(&last.app_metadata).unwrap(), &name("dfe"), &key, Utc::now().timestamp()).unwrap();
        assert_eq!((receipt.partition as usize, receipt.partitions, receipt.consent_version), (partition, 4, 5));
        let decoded: Vec<_> =
            FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(data.iter().cloned().map(Ok).collect::<Vec<_>>()))
                .try_collect()
                .await
                .unwrap();
        let of_partition: usize = decoded.iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(receipt.rows as usize, of_partition);
        rows += of_partition;
    }
    assert_eq!(rows, 4);
    // Redeemed once.
    let again = messages(&mut client, tickets[0].clone()).await.unwrap_err();
    assert_eq!(code(&again), Some(Code::Replayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dense_release_holds_the_rows_of_a_plain_one_in_fewer_bytes() {
    let running = Running::new().await;
    let mut client = FlightServiceClient::new(running.gateway().await);
    let mut came = Vec::new();
    for dense in [false, true] {
        let now = Utc::now();
        let request = v1::ReleaseRequest { dense, ..running.world.request(now) };
        let order = FlightDescriptor::new_cmd(running.world.order(&request, now).encode_to_vec());
        let info = client.get_flight_info(order).await.unwrap().into_inner();
        let (mut rows, mut bytes, mut marked) = (Vec::new(), 0, 0);
        for (partition, ticket) in tickets(&info).into_iter().enumerate() {
            let mut stream = ReleaseStream::new(Arc::new(info.clone().try_decode_schema().unwrap()), partition, 4).dense(dense);
            for message in messages(&mut client, ticket).await.unwrap() {
                bytes += message.data_body.len();
                marked += usize::from(message.app_metadata == dense::MARK);
                let message = ReleaseMessage { header: message.data_header, metadata: message.app_metadata, body: message.data_body };
                if let Taken::Batch(batch, _) = stream.take(&message).unwrap() {
                    rows.push(batch);
                }
            }
        }
        came.push((rows, bytes, marked));
    }
    let [(plain, of_plain, 0), (dense, of_dense, marked)] = came.as_slice() else { panic!("only what was ordered is dense") };
    assert!(plain == dense && plain.iter().any(|batch| batch.num_rows() > 0));
    assert!(2 * of_dense < *of_plain && *marked > 0, "{of_dense} bytes of {of_plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_states_the_orders_mission_and_purpose_in_the_versions_that_know_them() {
    let running = Running::new().await;
    let mut client = FlightServiceClient::new(running.gateway().await);
    for version in [PURPOSES - 1, PURPOSES] {
        let info = client.get_flight_info(running.order_in(version)).await.unwrap().into_inner();
        let last = messages(&mut client, tickets(&info)[0].clone()).await.unwrap().pop().unwrap();
        let token = std::str::from_utf8(&last.app_metadata).unwrap();
        let receipt = Receipt::verify(token, &name("dfe"), &running.node.verifying, Utc::now().timestamp()).unwrap();
        assert!(receipt.is_for(&name("opportunity"), &name("opportunity.measure"), version), "{receipt:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nowhere() {
    let running = Running::new().await;
    let nobody = match running.connect(None).await {
        Ok(channel) => FlightServiceClient::new(channel).get_flight_info(running.order()).await.is_err(),
        Err(_) => true,
    };
    assert!(nobody, "no call without a client certificate");
    let other_ca = fixture::Ca::new().issue(&["gateway"]);
    let foreign = match running.connect(Some(&other_ca)).await {
        Ok(channel) => FlightServiceClient::new(channel).get_flight_info(running.order()).await.is_err(),
        Err(_) => true,
    };
    assert!(foreign, "no call with a certificate of another CA");

    let mut gateway = FlightServiceClient::new(running.gateway().await);
    let tickets = tickets(&gateway.get_flight_info(running.order()).await.unwrap().into_inner());
    for identity in [&running.world.stranger, &running.world.administrator] {
        let channel = running.connect(Some(identity)).await.unwrap();
        let mut flight = FlightServiceClient::new(channel.clone());
        assert_eq!(code(&flight.get_flight_info(running.order()).await.unwrap_err()), Some(Code::Unauthenticated));
        assert_eq!(code(&messages(&mut flight, tickets[0].clone()).await.unwrap_err()), Some(Code::Unauthenticated));
        let describe = NodeClient::new(channel.clone()).describe(v1::DescribeRequest { contract_version: 1 }).await;
        assert_eq!(code(&describe.unwrap_err()), Some(Code::Unauthenticated));
        let mut keys = LinkageKeysClient::new(channel);
        assert_eq!(code(&keys.seal(v1::SealRequest::default()).await.unwrap_err()), Some(Code::Unauthenticated));
        assert_eq!(code(&keys.accept(v1::SealedKey::default()).await.unwrap_err()), Some(Code::Unauthenticated));
    }
    for (identity, what) in [(&running.world.gateway, "the gateway"), (&running.world.stranger, "a stranger")] {
        let mut ledger = ConsentLedgerClient::new(running.connect(Some(identity)).await.unwrap());
        assert_eq!(code(&ledger.record(v1::RecordRequest::default()).await.unwrap_err()), Some(Code::Unauthenticated), "{what}");
        let import = ledger.import(futures::stream::iter([v1::ImportRequest::default()])).await;
        assert_eq!(code(&import.unwrap_err()), Some(Code::Unauthenticated), "{what}");
        let show = ledger.show(v1::ShowRequest::default()).await;
        assert_eq!(code(&show.map(drop).unwrap_err()), Some(Code::Unauthenticated), "{what}");
        assert_eq!(code(&ledger.correct(v1::CorrectRequest::default()).await.unwrap_err()), Some(Code::Unauthenticated), "{what}");
        assert_eq!(code(&ledger.erase(v1::EraseRequest::default()).await.unwrap_err()), Some(Code::Unauthenticated), "{what}");
        let receipts = ledger.receipts(v1::ReceiptsRequest::default()).await;
        assert_eq!(code(&receipts.map(drop).unwrap_err()), Some(Code::Unauthenticated), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_and_orders_that_are_none_are_refused_and_the_rest_is_not_offered() {
    let running = Running::new().await;
    let mut client = FlightServiceClient::new(running.gateway().await);
    let order = running.order();
    for bad in ["", "x", "a.b.c"] {
        assert_eq!(code(&messages(&mut client, Ticket::new(bad.to_owned())).await.unwrap_err()), Some(Code::Unauthenticated));
    }
    let path = FlightDescriptor::new_path(vec!["x".into()]);
    assert_eq!(code(&client.get_flight_info(path).await.unwrap_err()), Some(Code::Invalid));
    let statement = FlightDescriptor::new_cmd(b"SELECT 1".to_vec());
    assert_eq!(code(&client.get_flight_info(statement).await.unwrap_err()), Some(Code::Invalid));
    let receipt_as_ticket = running.world.order(&running.world.request(Utc::now()), Utc::now()).order;
    assert_eq!(code(&messages(&mut client, Ticket::new(receipt_as_ticket)).await.unwrap_err()), Some(Code::Unauthenticated));
    let unimplemented = [
        client.get_schema(order.clone()).await.map(|_| ()).unwrap_err(),
        client.poll_flight_info(order).await.map(|_| ()).unwrap_err(),
        client.list_flights(Criteria::default()).await.map(|_| ()).unwrap_err(),
        client.do_action(Action::new("x", "")).await.map(|_| ()).unwrap_err(),
        client.list_actions(arrow_flight::Empty {}).await.map(|_| ()).unwrap_err(),
        client.do_put(futures::stream::empty()).await.map(|_| ()).unwrap_err(),
        client.do_exchange(futures::stream::empty()).await.map(|_| ()).unwrap_err(),
        client.handshake(futures::stream::empty()).await.map(|_| ()).unwrap_err(),
    ];
    assert!(unimplemented.iter().all(|status| status.code() == tonic::Code::Unimplemented), "{unimplemented:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_record_consent_and_the_gateway_reads_descriptions() {
    let running = Running::new().await;
    let mut ledger = ConsentLedgerClient::new(running.connect(Some(&running.world.administrator)).await.unwrap());
    let record = |identifier: &str| v1::ConsentRecord {
        identifier: identifier.into(),
        identifier_type: "nino".into(),
        purpose: "opportunity".into(),
        event: "withdrawn".into(),
        ..Default::default()
    };
    let answer =
        ledger.record(v1::RecordRequest { records: vec![record("ab 10 00 01 a")], ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(answer.consent_version, 6);
    let refused = ledger
        .record(v1::RecordRequest { records: vec![record("AB100003A"), record("secret person")], ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(code(&refused), Some(Code::Invalid));
    assert!(
        refused.message().contains("records[1]: the identifier is not a valid nino") && !refused.message().contains("secret"),
        "{}",
        refused.message()
    );

    let mut client = NodeClient::new(running.gateway().await);
    let description = client.describe(v1::DescribeRequest { contract_version: 1 }).await.unwrap().into_inner();
    assert_eq!((description.department.as_str(), description.consent_version, description.datasets.len()), ("dfe", 6, 1));
    assert_eq!(description.datasets[0].identifier_type, "nino");
    assert!(description.datasets[0].freshness > 0 && description.agreements[0].in_force);
    let far = client.describe(v1::DescribeRequest { contract_version: 9 }).await.unwrap_err();
    assert_eq!(code(&far), Some(Code::Invalid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_fails_ends_the_stream_without_a_receipt() {
    let running = Running::new().await;
    let mut client = FlightServiceClient::new(running.gateway().await);
    running.world.replace("data/attainment.csv", "1.5", "one and a half");
    let tickets = tickets(&client.get_flight_info(running.order()).await.unwrap().into_inner());
    for ticket in tickets {
        let mut stream = client.do_get(ticket).await.unwrap().into_inner();
        let mut receipts = 0;
        let status = loop {
            match stream.message().await {
                Ok(Some(message)) => receipts += usize::from(message.data_header.is_empty()),
                Ok(None) => panic!("the stream ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!((receipts, code(&status)), (0, Some(Code::NodeUnavailable)));
        assert!(!status.message().contains("half"), "{}", status.message());
    }
}
