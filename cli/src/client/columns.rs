//! The columns of an answer, asked for without asking for the answer.

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightDescriptor;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt as _};
use prost::Message as _;

use super::Client;
use crate::failure::{Failure, Result};

impl Client {
    /// The columns that a question's answer would have. The gateway judges and plans it; no data is read.
    ///
    /// # Errors
    /// What the gateway refused.
    pub async fn columns(&self, sql: &str) -> Result<SchemaRef> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let request = self.request(FlightDescriptor::new_cmd(command.as_any().encode_to_vec()))?;
        let told = self.flight.clone().get_schema(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        let schema = Schema::try_from(&told).map_err(|e| Failure::new(format!("the answer's columns cannot be read: {e}")))?;
        Ok(SchemaRef::new(schema))
    }
}
