//! Detached queries: started here, picked up later.

use std::sync::Arc;

use arrow_flight::{FlightEndpoint, FlightInfo, Ticket};
use concordat_policy::Code;
use concordat_proto::status;
use concordat_proto::v1::{CancelDetachedRequest, DetachRequest, DetachedRequest, DetachedResponse, DetachedState};

use super::{Answer, Client, Reading, Stage, Unwatched, Watch};
use crate::failure::{Failure, Result};

/// How long one question for the state waits at the gateway, in seconds.
const WAIT: u32 = 20;

impl Client {
    /// Starts a query that runs on without this client, and returns its id.
    ///
    /// # Errors
    /// What the gateway refused.
    pub async fn detach(&self, sql: &str) -> Result<String> {
        let request = self.request(DetachRequest { statement: sql.to_owned() })?;
        Ok(self.gateway.clone().detach(request).await.map_err(|e| Failure::status(&e))?.into_inner().id)
    }

    /// How far a detached query is, after waiting for its end for at most `wait_seconds`.
    ///
    /// # Errors
    /// What the gateway refused; unknown ids and other people's look the same.
    pub async fn detached(&self, id: &str, wait_seconds: u32) -> Result<DetachedResponse> {
        let request = self.request(DetachedRequest { id: id.to_owned(), wait_seconds })?;
        Ok(self.gateway.clone().detached(request).await.map_err(|e| Failure::status(&e))?.into_inner())
    }

    /// Waits for a detached query's end and fetches its answer.
    ///
    /// # Errors
    /// What the gateway refused, now or when the query ran; that the answer broke off.
    pub async fn result(&self, id: &str) -> Result<Answer> {
        self.pick_up(id, Arc::new(Unwatched)).await?.collect().await
    }

    /// The same, as it arrives.
    ///
    /// # Errors
    /// What the gateway refused, now or when the query ran.
    pub async fn pick_up(&self, id: &str, watch: Arc<dyn Watch>) -> Result<Reading> {
        watch.stage(Stage::Waiting);
        loop {
            let state = self.detached(id, WAIT).await?;
            match state.state() {
                DetachedState::Done => return self.redeem(Ticket::new(state.ticket), watch).await,
                DetachedState::Refused => return Err(refused(state)),
                _ => {}
            }
        }
    }

    /// Stops a detached query, and has its answer forgotten.
    ///
    /// # Errors
    /// What the gateway refused.
    pub async fn cancel_detached(&self, id: &str) -> Result<()> {
        let request = self.request(CancelDetachedRequest { id: id.to_owned() })?;
        self.gateway.clone().cancel_detached(request).await.map_err(|e| Failure::status(&e))?;
        Ok(())
    }

    /// Fetches the answer behind a ticket.
    ///
    /// # Errors
    /// What the gateway refused, or that the answer broke off.
    pub async fn collect(&self, ticket: Ticket) -> Result<Answer> {
        self.redeem(ticket, Arc::new(Unwatched)).await?.collect().await
    }

    /// The same, as it arrives.
    ///
    /// # Errors
    /// What the gateway refused.
    async fn redeem(&self, ticket: Ticket, watch: Arc<dyn Watch>) -> Result<Reading> {
        let info = FlightInfo::new().with_endpoint(FlightEndpoint::new().with_ticket(ticket));
        Reading::start(self, info, None, watch).await
    }
}

/// Why a detached query has no answer.
fn refused(state: DetachedResponse) -> Failure {
    let code = Code::parse(&state.code);
    let text = |text: String| (!text.is_empty()).then_some(text);
    let failure = Failure::new(state.message);
    Failure {
        exit: code.map_or(failure.exit, status::exit_code),
        code,
        department: text(state.department),
        query_id: text(state.query_id),
        ..failure
    }
}
