//! Arrow Flight: the one door through which data leaves. GetFlightInfo takes a release order, DoGet redeems a ticket; everything
//! else is not offered. Caller: the gateway, by pinned client certificate.
//!
//! ```text
//! DoGet: schema ─▶ batches … ─▶ (log: release.completed, durable) ─▶ receipt, as metadata of a last message without a body
//! ```
//! A stream that ends without a receipt is worthless, says with a status why it ended, and leaves `release.abandoned` in the log.

mod reader;
mod ticket;

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoder, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use chrono::Utc;
use concordat_policy::{Code, Refusal};
use concordat_proto::order::Order;
use concordat_proto::peer::Peer;
use concordat_proto::release_stream::dense;
use concordat_proto::{MAX_BATCH_MESSAGE, v1};
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use self::reader::Reader;
use crate::endings::Ended;
use crate::node::{Node, query_id, status};
use crate::release::{Partition, Step, blocking};

/// The Flight service.
#[derive(Debug, Clone)]
pub struct Flight(pub Arc<Node>);

impl Flight {
    async fn info(&self, request: Request<FlightDescriptor>) -> Result<FlightInfo, Status> {
        let peer = Peer::of(&request);
        let descriptor = request.into_inner();
        let order = match v1::ReleaseOrder::decode(descriptor.cmd.clone()) {
            Ok(order) if descriptor.r#type() == DescriptorType::Cmd => order,
            _ => {
                let refusal = self.0.callers.gateway(peer.certificate.clone()).err();
                let refusal = refusal.unwrap_or_else(|| {
                    Refusal::new(Code::Invalid, "the descriptor's command is not a release order").department(&self.0.department)
                });
                return Err(status(&self.0.refused("order.refused", refusal, &peer, None).await, None));
            }
        };
        let query_id = query_id(&order);
        let release = self.0.order(&order, &peer, Utc::now()).await.map_err(|refusal| status(&refusal, query_id.as_deref()))?;
        let failed = |e: String| status(&Refusal::internal(e), query_id.as_deref());
        let mut info = FlightInfo::new().try_with_schema(&release.schema).map_err(|e| failed(e.to_string()))?.with_descriptor(descriptor);
        for partition in 0..release.order.partitions {
            let ticket = ticket::sign(&self.0, &release, partition, Utc::now().timestamp()).map_err(failed)?;
            info = info.with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(ticket)));
        }
        Ok(info.with_ordered(true))
    }

    async fn redeem(&self, request: Request<Ticket>) -> Result<Reader, Status> {
        let peer = Peer::of(&request);
        let redeem = || {
            let certificate = self.0.callers.gateway(peer.certificate.clone())?;
            let ticket = ticket::verify(&self.0, &request.get_ref().ticket, &certificate, Utc::now().timestamp())?;
            // First: what ends an agreement has ended the release, too, and is the cause to name.
            self.0.agreements.permits(&ticket.agreement, &ticket.agreement_digest)?;
            Ok((self.0.releases.redeem(&ticket.order, ticket.partition)?, ticket.partition))
        };
        match redeem() {
            Ok((release, partition)) => Ok(Reader::new(Arc::clone(&self.0), release, partition)),
            Err(refusal) => Err(status(&self.0.refused("ticket.refused", refusal, &peer, None).await, None)),
        }
    }
}

/// Schema, batches, receipt; cut when the department suspends the agreement, or the text that was ordered under binds no longer.
fn stream(reader: Reader) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
    let reader = Arc::new(reader);
    let (agreement, agreements) = (&reader.release().order.agreement, Arc::clone(&reader.node().agreements));
    let ended = agreements.ended(agreement.id.clone(), agreement.digest.clone()).boxed();
    let whole = whole(Arc::clone(&reader)).boxed();
    futures::stream::unfold(Some((whole, ended, reader)), |running| async move {
        let (mut whole, mut ended, reader) = running?;
        tokio::select! {
            biased;
            refusal = &mut ended => {
                reader.node().releases.abandon(reader.release(), Ended::Cut);
                // The scan was stopped for the same cause, and its failure may be on its way into the log: one entry is enough.
                if reader.is_closed() {
                    return whole.next().await.map(|item| (item, None));
                }
                Some((Err(reader.failed(refusal).await), None))
            }
            item = whole.next() => item.map(|item| (item, Some((whole, ended, reader)))),
        }
    })
}

fn whole(reader: Arc<Reader>) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
    let last = Arc::clone(&reader);
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(Arc::clone(&reader.release().schema))
        .with_dictionary_handling(DictionaryHandling::Resend)
        // Batches are bounded where they are made: splitting them here would send a dictionary several times.
        .with_max_flight_data_size(MAX_BATCH_MESSAGE)
        .build(batches(Arc::clone(&reader)));
    encoded(reader, encoder)
        .chain(futures::stream::once(async move { last.receipt().await }))
        // Nothing follows a fault: no receipt after a stream that broke off.
        .scan(false, |broken, item| {
            let item = (!*broken).then_some(item);
            *broken |= item.as_ref().is_some_and(Result::is_err);
            std::future::ready(item)
        })
}

/// Messages, each made when it is asked for, on the threads that give way to recording.
fn encoded(reader: Arc<Reader>, encoder: FlightDataEncoder) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
    futures::stream::try_unfold(encoder, move |mut encoder| {
        let reader = Arc::clone(&reader);
        async move {
            let dense = reader.release().order.dense.then(|| Arc::clone(&reader.release().schema));
            let next = async move {
                let next = encoder.try_next().await?;
                Ok(next.map(|message| (if let Some(schema) = dense { denser(&schema, message) } else { message }, encoder)))
            };
            match reader.node().releases.workers().run(next).await {
                Ok(Ok(next)) => Ok(next),
                // Closed already.
                Ok(Err(FlightError::Tonic(status))) => Err(*status),
                Ok(Err(e)) => Err(reader.failed(Refusal::internal(e)).await),
                Err(refusal) => Err(reader.failed(refusal).await),
            }
        }
    })
}

/// A message, with a dense body where that is smaller.
fn denser(schema: &Schema, message: FlightData) -> FlightData {
    match dense::pack(schema, &message.data_header, &message.data_body) {
        Some(body) => FlightData { data_body: body.into(), app_metadata: dense::MARK.into(), ..message },
        None => message,
    }
}

struct Reading {
    reader: Arc<Reader>,
    partition: Option<Partition>,
}

fn batches(reader: Arc<Reader>) -> impl Stream<Item = Result<arrow::array::RecordBatch, FlightError>> + Send + 'static {
    futures::stream::try_unfold(Reading { reader, partition: None }, |mut reading| async move {
        let next = reading.next().await;
        match next {
            Ok(Some(batch)) => Ok(Some((batch, reading))),
            Ok(None) => Ok(None),
            Err(refusal) => Err(FlightError::Tonic(Box::new(reading.reader.failed(refusal).await))),
        }
    })
}

impl Reading {
    async fn next(&mut self) -> Result<Option<arrow::array::RecordBatch>, Refusal> {
        let mut partition = match self.partition.take() {
            Some(partition) => partition,
            None => self.reader.open().await?,
        };
        loop {
            // One step at a time: whoever is cut or leaves stops it in between.
            let step;
            (step, partition) = blocking(move || partition.step().map(|step| (step, partition))).await?;
            let batch = match step {
                Step::More => continue,
                Step::Batch(batch) => {
                    self.reader.sends(batch.num_rows() as u64, &partition);
                    Some(batch)
                }
                Step::End => {
                    self.reader.sent_all(&partition);
                    None
                }
            };
            self.partition = Some(partition);
            return Ok(batch);
        }
    }
}

fn not_offered<T>(what: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{what} is not offered: a node answers GetFlightInfo with a release order, and DoGet with a ticket")))
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.info(request).await.map(Response::new)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Ok(Response::new(stream(self.redeem(request).await?).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        not_offered("Handshake")
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_offered("ListFlights")
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        not_offered("PollFlightInfo")
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        not_offered("GetSchema")
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        not_offered("DoPut")
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_offered("DoExchange")
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        not_offered("DoAction")
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        not_offered("ListActions")
    }
}

/// The audience and issuer of tickets: this node, to itself.
fn own_name(node: &Node) -> String {
    Order::audience(&node.department)
}
