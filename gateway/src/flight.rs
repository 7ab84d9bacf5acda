//! The Flight SQL door: statements. A thin adapter; what happens stands in `pipeline.rs`.
//!
//! GetFlightInfo plans a statement and answers with its schema and a ticket; DoGet redeems the ticket once, runs the statement
//! and streams the answer. A ticket is a random handle to a statement kept here, bound to the caller and purpose, good for
//! five minutes: it holds no SQL.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt as _, SqlInfo, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use concordat_policy::{Code, Refusal};
use concordat_proto::status::to_status;
use futures::{Stream, TryStreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::Gateway;
use crate::authenticate::Caller;
use crate::pipeline::{self, Origin};

/// How long a ticket is good.
const TICKET_AGE: Duration = Duration::from_secs(300);
/// The most tickets that wait, in all and of one caller.
const MAX_TICKETS: usize = 4_096;
const MAX_TICKETS_OF_ONE: usize = 64;

/// The service.
pub(crate) struct FlightSql {
    gateway: Arc<Gateway>,
    statements: Mutex<HashMap<[u8; 16], Statement>>,
}

struct Statement {
    sql: String,
    caller: Caller,
    since: Instant,
}

impl FlightSql {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, statements: Mutex::default() }
    }

    fn keep(&self, sql: String, caller: Caller) -> Result<[u8; 16], Refusal> {
        let mut handle = [0; 16];
        getrandom::fill(&mut handle).map_err(Refusal::internal)?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.retain(|_, s| s.since.elapsed() < TICKET_AGE);
        let own =
            statements.values().filter(|s| s.caller.subject == caller.subject && s.caller.organisation == caller.organisation).count();
        if statements.len() >= MAX_TICKETS || own >= MAX_TICKETS_OF_ONE {
            return Err(Refusal::new(Code::LimitExceeded, "too many statements wait to be fetched")
                .advice("fetch or wait: a ticket lapses after five minutes"));
        }
        statements.insert(handle, Statement { sql, caller, since: Instant::now() });
        Ok(handle)
    }

    /// Takes the statement behind a ticket; the caller must be the one that got it.
    fn take(&self, handle: &[u8], caller: &Caller) -> Result<String, Refusal> {
        let gone = || {
            Refusal::new(Code::Denied, "the ticket is unknown, used, expired or another caller's")
                .advice("ask for the statement's FlightInfo again")
        };
        let handle: [u8; 16] = handle.try_into().map_err(|_| gone())?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = |s: &Statement| s.since.elapsed() < TICKET_AGE && caller.same_as(&s.caller);
        if !statements.get(&handle).is_some_and(theirs) {
            return Err(gone());
        }
        statements.remove(&handle).map(|s| s.sql).ok_or_else(gone)
    }
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        if query.transaction_id.is_some() {
            return Err(to_status(&Refusal::new(Code::Invalid, "transactions are not offered: nothing can be changed here"), None));
        }
        let caller = pipeline::authenticate(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let schema = pipeline::describe(&self.gateway, caller.clone(), &query.query.as_str().into()).await.map_err(|r| r.status())?;
        let handle = match self.keep(query.query, caller.clone()) {
            Ok(handle) => handle,
            Err(refusal) => return Err(pipeline::refused_unopened(&self.gateway, &caller, refusal).await.status()),
        };
        let ticket = TicketStatementQuery { statement_handle: handle.to_vec().into() };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
        let info = FlightInfo::new().try_with_schema(&schema).map_err(|e| to_status(&Refusal::internal(e), None))?;
        Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(request.into_inner())))
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let caller = pipeline::authenticate(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let sql = match self.take(&ticket.statement_handle, &caller) {
            Ok(sql) => sql,
            Err(refusal) => return Err(pipeline::refused_unopened(&self.gateway, &caller, refusal).await.status()),
        };
        // On its own, so that the log's entry is closed even when the caller leaves meanwhile.
        let gateway = self.gateway.clone();
        let answering = async move { pipeline::answer(&gateway, caller, &sql.as_str().into()).await };
        let answer = tokio::spawn(answering.in_current_span());
        let answer = answer.await.map_err(|e| to_status(&Refusal::internal(e), None))?.map_err(|r| r.status())?;
        let stream = FlightDataEncoderBuilder::new()
            .with_schema(answer.schema)
            .with_metadata(answer.summary.to_string().into())
            .build(futures::stream::iter(answer.batches.into_iter().map(Ok)))
            .map_err(|e| to_status(&Refusal::internal(e), None));
        Ok(Response::new(Box::pin(stream) as Pin<Box<dyn Stream<Item = _> + Send>>))
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
