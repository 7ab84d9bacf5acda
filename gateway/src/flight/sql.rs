//! Flight SQL's calls, for a user whom the door knows. Each turns a message into a call of the module that does the work.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionEndTransactionRequest, Any, Command, CommandPreparedStatementQuery, CommandStatementQuery, DoPutPreparedStatementResult, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, SchemaResult, Ticket};
use bytes::Bytes;
use concordat_policy::{Code, Refusal};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::prepared::{One, Prepared, parameter_schema};
use super::seal::{Kind, Seal};
use super::statements::{Statements, now};
use super::{Known, bound, ipc, plain};
use crate::Gateway;
use crate::authenticate::Caller;
use crate::pipeline::{self, Described};
use crate::plan::Statement;
use crate::service::DETACHED_TICKET;

/// How long a transaction is good, in seconds.
const TRANSACTION: i64 = 12 * 3600;

type Stream<T> = Response<<T as FlightService>::DoGetStream>;

/// The service behind the door.
pub(super) struct FlightSql {
    pub(super) gateway: Arc<Gateway>,
    pub(super) seal: Seal,
    pub(super) statements: Arc<Statements>,
    prepared: Prepared,
}

impl FlightSql {
    pub(super) fn new(gateway: Arc<Gateway>) -> Result<Self, Refusal> {
        Ok(Self { gateway, seal: Seal::new()?, statements: Arc::new(Statements::new()), prepared: Prepared::new() })
    }

    /// The caller under the request's one purpose.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let known = Known::of(request).map_err(|r| plain(&r))?;
        match known.caller() {
            Ok(caller) => Ok(caller),
            Err(refusal) => Err(pipeline::turned_away(&self.gateway, &known.identity, refusal).await.status()),
        }
    }

    /// Records a refusal that has no entry of its own.
    pub(super) async fn refused(&self, caller: &Caller, refusal: Refusal) -> Status {
        pipeline::refused_unopened(&self.gateway, caller, refusal).await.status()
    }

    /// The schema of a statement's answer, without a ticket.
    pub(super) async fn schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let unread = |_| Status::invalid_argument("");
        let message = Any::decode(&*request.get_ref().cmd).map_err(unread)?;
        let command = Command::try_from(message).map_err(|_| Status::invalid_argument(""))?;
        let described = match command {
            Command::CommandStatementQuery(query) => {
                let caller = self.caller(&request).await?;
                pipeline::describe(&self.gateway, caller, &query.query.as_str().into()).await.map_err(|r| r.status())?
            }
            Command::CommandPreparedStatementQuery(query) => {
                let caller = self.caller(&request).await?;
                self.announced(&caller, &query.prepared_statement_handle).await?.1
            }
            _ => return Err(Status::unimplemented("")),
        };
        ipc(&described.schema).map(Response::new)
    }

    /// What a prepared statement asks, and what its answer looks like.
    async fn announced(&self, caller: &Caller, handle: &[u8]) -> Result<(Vec<Statement>, Described), Status> {
        let one = match self.prepared.with(&self.seal, handle, caller, |one| one.clone()) {
            Ok(one) => one,
            Err(refusal) => return Err(self.refused(caller, refusal).await),
        };
        let statements = match one.statements() {
            Ok(statements) => statements,
            Err(refusal) => return Err(self.refused(caller, refusal).await),
        };
        let described = match (one.described, statements.first()) {
            (Some(described), Some(first)) => {
                let again = pipeline::announced_again(&self.gateway, caller.clone(), first, &described.texts).await;
                again.map_err(|r| r.status())?;
                described
            }
            (None, Some(first)) => pipeline::describe(&self.gateway, caller.clone(), first).await.map_err(|r| r.status())?,
            (_, None) => return Err(plain(&Refusal::internal("a prepared statement that asks nothing"))),
        };
        Ok((statements, described))
    }

    async fn announce(
        &self,
        caller: &Caller,
        statements: Vec<Statement>,
        described: Described,
        descriptor: FlightDescriptor,
    ) -> Result<Response<FlightInfo>, Status> {
        match self.statements.announce(&self.seal, caller, statements, described, descriptor) {
            Ok(info) => Ok(Response::new(info)),
            Err(refusal) => Err(self.refused(caller, refusal).await),
        }
    }

    /// A transaction that a statement names must be one that this user began. It changes nothing: nothing can be written, and
    /// each statement reads what the departments hold when it runs (READ COMMITTED, as GetSqlInfo states).
    async fn in_transaction(&self, caller: &Caller, transaction: Option<&Bytes>) -> Result<(), Status> {
        let own = |id: &Bytes| self.seal.open(Kind::Transaction, id, &caller.identity_owner(), now()).is_some();
        if transaction.is_none_or(own) { Ok(()) } else { Err(self.refused(caller, no_transaction()).await) }
    }
}

fn no_transaction() -> Refusal {
    Refusal::new(Code::Invalid, "the transaction is unknown, has lapsed or is another user's")
        .advice("begin another, or switch autocommit on")
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = self.caller(&request).await?;
        self.in_transaction(&caller, query.transaction_id.as_ref()).await?;
        let statement = Statement::from(query.query.as_str());
        let described = pipeline::describe(&self.gateway, caller.clone(), &statement).await.map_err(|r| r.status())?;
        self.announce(&caller, vec![statement], described, request.into_inner()).await
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = self.caller(&request).await?;
        let (statements, described) = self.announced(&caller, &query.prepared_statement_handle).await?;
        self.announce(&caller, statements, described, request.into_inner()).await
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Result<Stream<Self>, Status> {
        let caller = self.caller(&request).await?;
        let answer = self.statements.answer(&self.gateway, &self.seal, &ticket.statement_handle, caller).await;
        Ok(Response::new(answer.map_err(|r| r.status())?.encoded(self.gateway.limits.settings.unread())))
    }

    /// The answer of a detached query.
    async fn do_get_fallback(&self, request: Request<Ticket>, message: Any) -> Result<Stream<Self>, Status> {
        let caller = self.caller(&request).await?;
        if message.type_url != DETACHED_TICKET {
            return Err(Status::invalid_argument(""));
        }
        let answer = pipeline::collect(&self.gateway, caller, &message.value).await.map_err(|r| r.status())?;
        Ok(Response::new(answer.encoded(self.gateway.limits.settings.unread())))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let caller = self.caller(&request).await?;
        self.in_transaction(&caller, query.transaction_id.as_ref()).await?;
        let (types, described) = pipeline::prepare(&self.gateway, caller.clone(), &query.query).await.map_err(|r| r.status())?;
        let dataset_schema = described.as_ref().map(|described| ipc(&described.schema)).transpose()?.unwrap_or_default().schema;
        let parameter_schema = if types.is_empty() { Bytes::new() } else { ipc(&parameter_schema(&types))?.schema };
        match self.prepared.keep(&self.seal, &caller, query.query, types, described) {
            Ok(handle) => {
                Ok(ActionCreatePreparedStatementResult { prepared_statement_handle: handle.into(), dataset_schema, parameter_schema })
            }
            Err(refusal) => Err(self.refused(&caller, refusal).await),
        }
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let caller = self.caller(&request).await?;
        self.prepared.close(&self.seal, &query.prepared_statement_handle, &caller);
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let caller = self.caller(&request).await?;
        let handle = query.prepared_statement_handle;
        let bound = bound::read(request.into_inner()).await;
        let bind = |batches: Vec<_>| self.prepared.with(&self.seal, &handle, &caller, |one: &mut One| one.bind(&batches))?;
        match bound.and_then(bind) {
            Ok(()) => Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) }),
            Err(refusal) => Err(self.refused(&caller, refusal).await),
        }
    }

    async fn do_action_begin_transaction(
        &self,
        _query: ActionBeginTransactionRequest,
        request: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        let known = Known::of(&request).map_err(|r| plain(&r))?;
        let id = self.seal.close(Kind::Transaction, &[], &known.identity.owner(), now() + TRANSACTION);
        Ok(ActionBeginTransactionResult { transaction_id: id.into() })
    }

    async fn do_action_end_transaction(&self, query: ActionEndTransactionRequest, request: Request<Action>) -> Result<(), Status> {
        let known = Known::of(&request).map_err(|r| plain(&r))?;
        match self.seal.open(Kind::Transaction, &query.transaction_id, &known.identity.owner(), now()) {
            Some(_) => Ok(()),
            None => Err(pipeline::turned_away(&self.gateway, &known.identity, no_transaction()).await.status()),
        }
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(query.info).map_err(|_| Status::invalid_argument(""))?;
        let caller = self.caller(&request).await?;
        Ok(ActionCancelQueryResult { result: super::actions::cancel(self, &caller, &info) as i32 })
    }

    async fn do_action_fallback(&self, request: Request<Action>) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        super::actions::other(self, request).await
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
