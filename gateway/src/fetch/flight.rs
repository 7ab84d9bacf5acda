//! The two calls of a node's Flight service that the gateway makes: an order, and the tickets that answer it.

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, FlightInfo, Ticket};
use concordat_operate::trace::Traced;
use concordat_proto::MAX_CONTROL_MESSAGE;
use concordat_proto::release_stream::{MAX_MESSAGE, ReleaseMessage};
use tonic::client::Grpc;
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
        let codec = ProstCodec::<Ticket, ReleaseMessage>::default();
        grpc.server_streaming(Request::new(ticket), path, codec).await.map(Response::into_inner)
    }
}
