//! An answer as it arrives: batch by batch, so that it can be written while the rest is on its way.
//!
//! Invariant: [`Reading::next`] says `None` only after the gateway has said that the answer is whole. An answer that breaks off is
//! a [`Failure`], whatever came before.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightInfo, Ticket};
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::Value;

use super::{Answer, Client};
use crate::failure::{Failure, Result};

/// Where a question stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reaching the gateway.
    Connecting,
    /// The gateway judges and plans the statement.
    Planning,
    /// The departments release, the gateway joins and protects.
    Waiting,
    /// The answer arrives.
    Receiving,
}

/// Who watches a question on its way. Gets bytes, never counts of rows or people.
pub trait Watch: Send + Sync {
    /// A stage began.
    fn stage(&self, stage: Stage);
    /// So many bytes of the answer have arrived in all.
    fn received(&self, bytes: u64);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn stage(&self, _stage: Stage) {}
    fn received(&self, _bytes: u64) {}
}

/// An answer of which the columns are known.
pub struct Reading {
    client: Client,
    tickets: VecDeque<Ticket>,
    decoder: FlightDataDecoder,
    schema: SchemaRef,
    noted: Arc<Noted>,
    /// To be closed at the end.
    prepared: Option<Bytes>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reading({} columns)", self.schema.fields().len())
    }
}

/// What passes by beside the rows.
struct Noted {
    watch: Arc<dyn Watch>,
    bytes: AtomicU64,
    summary: Mutex<Value>,
}

impl Noted {
    /// Notes a message; whether it holds more than the gateway's statement.
    fn note(&self, data: &FlightData) -> bool {
        let length = data.data_header.len() + data.data_body.len() + data.app_metadata.len();
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.watch.received(self.bytes.fetch_add(length, Ordering::Relaxed).saturating_add(length));
        if let Ok(stated @ Value::Object(_)) = serde_json::from_slice(&data.app_metadata) {
            *self.summary.lock().unwrap_or_else(PoisonError::into_inner) = stated;
        }
        !data.data_header.is_empty()
    }
}

impl Reading {
    /// Redeems the announced tickets, one after the other, and waits until the columns are known.
    pub(super) async fn start(client: &Client, info: FlightInfo, prepared: Option<Bytes>, watch: Arc<dyn Watch>) -> Result<Self> {
        watch.stage(Stage::Waiting);
        let mut tickets = VecDeque::new();
        for endpoint in &info.endpoint {
            let ticket = endpoint.ticket.clone();
            tickets.push_back(ticket.ok_or_else(|| Failure::new("the gateway announced a part of the answer without a ticket"))?);
        }
        let first = tickets.pop_front().ok_or_else(|| Failure::new("the gateway announced an answer without parts"))?;
        let summary = Mutex::new(Value::Object(serde_json::Map::new()));
        let noted = Arc::new(Noted { watch, bytes: AtomicU64::new(0), summary });
        let decoder = redeem(client, first, &noted).await?;
        let announced = Schema::try_from(info).map_or_else(|_| SchemaRef::new(Schema::empty()), SchemaRef::new);
        let mut reading = Self { client: client.clone(), tickets, decoder, schema: announced, noted, prepared };
        reading.columns().await?;
        reading.noted.watch.stage(Stage::Receiving);
        Ok(reading)
    }

    /// Its columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The gateway's statement of it: query id, sources, what was withheld, log entry. An object, empty while it is not stated.
    #[must_use]
    pub fn summary(&self) -> Value {
        self.noted.summary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next rows; `None` when the answer is whole.
    ///
    /// # Errors
    /// What the gateway refused meanwhile, or that the answer broke off.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            match self.decoder.try_next().await.map_err(broken)? {
                Some(decoded) => match decoded.payload {
                    DecodedPayload::RecordBatch(batch) if batch.schema().fields() == self.schema.fields() => return Ok(Some(batch)),
                    DecodedPayload::RecordBatch(_) => return Err(Failure::new("the answer's columns changed while it arrived")),
                    DecodedPayload::Schema(_) | DecodedPayload::None => {}
                },
                None => match self.tickets.pop_front() {
                    Some(ticket) => self.decoder = redeem(&self.client, ticket, &self.noted).await?,
                    None => {
                        if let Some(handle) = self.prepared.take() {
                            self.client.close_prepared(handle).await;
                        }
                        return Ok(None);
                    }
                },
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Reading::next`].
    pub async fn collect(mut self) -> Result<Answer> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok(Answer { schema: self.schema.clone(), batches, summary: self.summary() })
    }

    /// Reads up to the columns of the first part; where it has no message of them, those announced count.
    async fn columns(&mut self) -> Result<()> {
        while let Some(decoded) = self.decoder.try_next().await.map_err(broken)? {
            if let DecodedPayload::Schema(schema) = decoded.payload {
                self.schema = schema;
                return Ok(());
            }
        }
        if self.schema.fields().is_empty() { Err(Failure::new("the gateway's answer has no columns")) } else { Ok(()) }
    }
}

/// Begins one part of an answer. Messages without a header carry only the gateway's statement.
async fn redeem(client: &Client, ticket: Ticket, noted: &Arc<Noted>) -> Result<FlightDataDecoder> {
    let request = client.request(ticket)?;
    let stream = client.flight.clone().do_get(request).await.map_err(|e| Failure::status(&e))?.into_inner();
    let noted = noted.clone();
    let stream = stream.map_err(FlightError::from).try_filter_map(move |data| {
        let rows = noted.note(&data).then_some(data);
        futures::future::ready(Ok(rows))
    });
    Ok(FlightDataDecoder::new(stream))
}

fn broken(error: FlightError) -> Failure {
    match error {
        FlightError::Tonic(status) => Failure::status(&status),
        other => Failure::new(format!("the answer cannot be read: {other}")),
    }
}
