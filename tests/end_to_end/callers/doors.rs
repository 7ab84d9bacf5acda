//! Every call that is offered, from the contract's own description, and a client that can make any of them.
//!
//! A call that is added to a service below is tried with every bad caller by itself. A service that is added needs a row that says
//! who may call it: without one, the test fails. `grpc.health.v1` is no part of the contract: anybody may ask whether a program
//! serves.

use concordat_proto::CONTRACT_VERSION;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost_types::FileDescriptorSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::with;

/// Who may call a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// At the gateway: end users with a token.
    User,
    /// At a node: the gateway.
    Gateway,
    /// At a node: the department's administrators.
    Administrator,
    /// At a node: the department's auditors.
    Auditor,
}

/// Each service of the contract.
const SERVICES: [(&str, &[Who]); 11] = [
    ("concordat.v1.Gateway", &[Who::User]),
    ("concordat.v1.AnswerReceipts", &[Who::User]),
    ("concordat.v1.AccessLog", &[Who::User, Who::Gateway, Who::Administrator]),
    ("concordat.v1.LogReading", &[Who::User, Who::Administrator, Who::Auditor]),
    ("concordat.v1.Node", &[Who::Gateway]),
    ("concordat.v1.LinkageKeys", &[Who::Gateway]),
    ("concordat.v1.Releases", &[Who::Gateway]),
    ("concordat.v1.ConsentReach", &[Who::Gateway]),
    ("concordat.v1.Agreements", &[Who::Gateway]),
    ("concordat.v1.Witness", &[Who::Gateway]),
    ("concordat.v1.ConsentLedger", &[Who::Administrator]),
];

/// Arrow Flight's calls, at the gateway for users and at nodes for the gateway: its crate holds no description of them.
const FLIGHT: [&str; 10] =
    ["Handshake", "ListFlights", "GetFlightInfo", "PollFlightInfo", "GetSchema", "DoGet", "DoPut", "DoExchange", "DoAction", "ListActions"];

/// A call: its path, and who may make it.
#[derive(Debug, Clone)]
pub struct Door {
    pub path: String,
    pub who: &'static [Who],
}

impl Door {
    /// Whether it is for these.
    pub fn is_for(&self, who: Who) -> bool {
        self.who.contains(&who)
    }

    /// Whether a node has it.
    pub fn is_of_node(&self) -> bool {
        self.is_for(Who::Gateway) || self.is_for(Who::Administrator) || self.is_for(Who::Auditor)
    }

    /// Whether it is one of the contract's own.
    pub fn is_own(&self) -> bool {
        self.path.starts_with("/concordat.v1.")
    }
}

/// The calls of the contract. That the newest recording is the contract as it is, `proto`'s tests say.
pub fn of_contract() -> Vec<Door> {
    let recorded = format!("{}/contracts/v{CONTRACT_VERSION}/contract.binpb", env!("CARGO_MANIFEST_DIR"));
    let files = FileDescriptorSet::decode(std::fs::read(recorded).unwrap().as_slice()).unwrap();
    let mut doors = Vec::new();
    let mut found = Vec::new();
    for file in &files.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            let who = SERVICES.iter().find(|(known, _)| *known == name).map(|(_, who)| *who);
            let who = who.unwrap_or_else(|| panic!("nobody has said who may call {name}: add it to SERVICES"));
            doors.extend(service.method.iter().map(|method| Door { path: format!("/{name}/{}", method.name()), who }));
            found.push(name);
        }
    }
    assert_eq!(found.len(), SERVICES.len(), "a service of SERVICES is gone: {found:?}");
    doors
}

/// Arrow Flight's calls.
pub fn of_flight(who: &'static [Who]) -> impl Iterator<Item = Door> {
    FLIGHT.into_iter().map(move |call| Door { path: format!("/arrow.flight.protocol.FlightService/{call}"), who })
}

/// Makes a call with one message and a good purpose.
pub async fn call(channel: Channel, door: &Door, message: Vec<u8>, token: Option<&str>) -> Result<Vec<u8>, Status> {
    send(channel, door, with(message, token)).await
}

/// Makes a call with one message, whether it takes one or a stream of them, and returns the first message of the answer.
pub async fn send(channel: Channel, door: &Door, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let request = request.map(|message| tokio_stream::iter([message]));
    let mut answer = client.streaming(request, door.path.parse::<PathAndQuery>().unwrap(), Raw).await?.into_inner();
    Ok(answer.message().await?.unwrap_or_default())
}

/// Messages as they are on the wire.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
