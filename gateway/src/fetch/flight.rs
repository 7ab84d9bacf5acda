//! The two calls of a node's Flight service that the gateway makes: an order, and the tickets that answer it.

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, FlightInfo, Ticket};
use bytes::{Buf as _, Bytes};
use concordat_operate::trace::Traced;
use concordat_proto::MAX_CONTROL_MESSAGE;
use concordat_proto::release_stream::{MAX_MESSAGE, ReleaseMessage};
use prost::Message as _;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// A node's Flight service, over one connection.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    channel: Traced,
}

impl Flight {
    pub(super) fn new(channel: Traced) -> Self {
        Self { channel }
    }

    /// Its connection.
    pub(super) fn channel(&self) -> Traced {
        self.channel.clone()
    }

    /// Places an order.
    pub(super) async fn order(&self, command: Vec<u8>) -> Result<Response<FlightInfo>, Status> {
        let client = FlightServiceClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MAX_CONTROL_MESSAGE).max_encoding_message_size(MAX_CONTROL_MESSAGE);
        client.get_flight_info(FlightDescriptor::new_cmd(command)).await
    }

    /// Redeems a ticket. Its messages are read as what a release uses of them: arrow-flight's own type makes a descriptor that
    /// nobody asked for many times as large in memory as it is on the wire.
    pub(super) async fn redeem(&self, ticket: Ticket) -> Result<Streaming<ReleaseMessage>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|_| Status::unavailable("the connection is not ready"))?;
        let path = PathAndQuery::from_static("/arrow.flight.protocol.FlightService/DoGet");
        grpc.server_streaming(Request::new(ticket), path, ReleaseCodec).await.map(Response::into_inner)
    }
}

type Plain = ProstCodec<Ticket, ReleaseMessage>;

/// Prost's own; but a message that was mostly something else does not keep that alive: its fields are slices of what came.
struct ReleaseCodec;

impl Codec for ReleaseCodec {
    type Encode = Ticket;
    type Decode = ReleaseMessage;
    type Encoder = <Plain as Codec>::Encoder;
    type Decoder = ReleaseDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        Plain::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ReleaseDecoder(Plain::default().decoder())
    }
}

struct ReleaseDecoder(<Plain as Codec>::Decoder);

impl Decoder for ReleaseDecoder {
    type Item = ReleaseMessage;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<ReleaseMessage>, Status> {
        let wire = source.remaining();
        Ok(self.0.decode(source)?.map(|message| alone(message, wire)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// The message, in memory of its own where less than half of the `wire` bytes are in it.
fn alone(message: ReleaseMessage, wire: usize) -> ReleaseMessage {
    if message.encoded_len() >= wire / 2 {
        return message;
    }
    let copied = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    ReleaseMessage { header: copied(&message.header), metadata: copied(&message.metadata), body: copied(&message.body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_of_a_large_message_is_copied_out_of_it() {
        let wire = Bytes::from(vec![7u8; 1 << 20]);
        let message = |body: Bytes| ReleaseMessage { header: wire.slice(0..10), metadata: Bytes::new(), body };
        let within = |bytes: &Bytes| wire.as_ptr_range().contains(&bytes.as_ptr());
        let small = alone(message(wire.slice(10..100)), wire.len());
        assert_eq!(small, message(wire.slice(10..100)));
        assert!(!within(&small.header) && !within(&small.body), "nothing of the large one is kept");
        let large = alone(message(wire.slice(10..)), wire.len());
        assert!(within(&large.body), "what is used is not copied");
    }
}
