//! A question with parameters, as Flight SQL has it: prepare, learn the parameters' types, bind one row, ask, close.
//!
//! `$name` in SQL is ours; on the wire parameters have positions. The values never become SQL.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandPreparedStatementQuery, DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, IpcMessage};
use bytes::Bytes;
use futures::TryStreamExt as _;
use prost::Message as _;

use super::Client;
use crate::failure::{Failure, Result};
use crate::parameters::{Numbered, Parameters};

impl Client {
    /// The announcement of the answer to a question with parameters, and the statement's handle, to be closed afterwards.
    pub(super) async fn prepared_info(&self, numbered: &Numbered, parameters: &Parameters) -> Result<(FlightInfo, Bytes)> {
        let created = self.create_prepared(&numbered.sql).await?;
        let handle = created.prepared_statement_handle.clone();
        match self.ask_prepared(created, numbered, parameters).await {
            Ok(done) => Ok(done),
            Err(failure) => {
                self.close_prepared(handle).await;
                Err(failure)
            }
        }
    }

    async fn ask_prepared(
        &self,
        created: ActionCreatePreparedStatementResult,
        numbered: &Numbered,
        parameters: &Parameters,
    ) -> Result<(FlightInfo, Bytes)> {
        let types = schema(created.parameter_schema)?;
        let row = parameters.row(&numbered.names, &types)?;
        let handle = self.bind(created.prepared_statement_handle, row).await?;
        let request = self.request(descriptor(&handle))?;
        let info = self.flight.clone().get_flight_info(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        Ok((info, handle))
    }

    async fn create_prepared(&self, sql: &str) -> Result<ActionCreatePreparedStatementResult> {
        let request = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
        let result = self.act(action("CreatePreparedStatement", &request)).await?;
        let created = result.and_then(|body| Any::decode(body).ok()).and_then(|any| any.unpack().ok().flatten());
        created.ok_or_else(|| Failure::new("the gateway's answer to a statement with parameters cannot be read"))
    }

    /// Binds one row of values. The gateway may answer with a new handle, which then counts.
    async fn bind(&self, handle: Bytes, row: RecordBatch) -> Result<Bytes> {
        let unsent = |e: FlightError| Failure::new(format!("the parameters cannot be sent: {e}"));
        let batches = futures::stream::iter([Ok(row)]);
        let messages = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor(&handle))).build(batches);
        let messages: Vec<FlightData> = messages.try_collect().await.map_err(unsent)?;
        let request = self.request(futures::stream::iter(messages))?;
        let mut bound = self.flight.clone().do_put(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        let mut newest = handle;
        while let Some(result) = bound.message().await.map_err(|e| Failure::status(&e))? {
            if let Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) }) =
                DoPutPreparedStatementResult::decode(result.app_metadata)
            {
                newest = handle;
            }
        }
        Ok(newest)
    }

    /// Gives a statement back. A failure changes nothing for the caller: handles lapse by themselves.
    pub(super) async fn close_prepared(&self, handle: Bytes) {
        let request = ActionClosePreparedStatementRequest { prepared_statement_handle: handle };
        let _ = self.act(action("ClosePreparedStatement", &request)).await;
    }

    /// The first result of an action, after all have arrived.
    async fn act(&self, action: Action) -> Result<Option<Bytes>> {
        let request = self.request(action)?;
        let mut results = self.flight.clone().do_action(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        let mut first = None;
        while let Some(result) = results.message().await.map_err(|e| Failure::status(&e))? {
            first.get_or_insert(result.body);
        }
        Ok(first)
    }
}

fn action(kind: &str, request: &impl ProstMessageExt) -> Action {
    Action { r#type: kind.to_owned(), body: request.as_any().encode_to_vec().into() }
}

fn descriptor(handle: &Bytes) -> FlightDescriptor {
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

fn schema(bytes: Bytes) -> Result<SchemaRef> {
    if bytes.is_empty() {
        return Ok(SchemaRef::new(Schema::empty()));
    }
    let schema = Schema::try_from(IpcMessage(bytes)).map_err(|e| Failure::new(format!("the parameters' types cannot be read: {e}")))?;
    Ok(SchemaRef::new(schema))
}
