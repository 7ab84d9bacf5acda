//! The Flight SQL door. Thin: what happens to a statement stands in `pipeline.rs`.
//!
//! [`Door`] is the whole Flight service. Whatever is called, it first asks who calls, so that without a valid token every call
//! ends alike, known or not, well formed or not; then it hands over to [`sql::FlightSql`], which knows the user. What is not
//! offered answers `not_offered` with a sentence, and stands in the log like any refusal.

mod actions;
mod bound;
mod kept;
mod metadata;
mod prepared;
mod seal;
mod server_info;
mod session;
mod sql;
mod statements;
mod tree;

use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use concordat_policy::{Code, Refusal};
use concordat_proto::status::{from_status, to_status};
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::Gateway;
use crate::authenticate::{Caller, Identity};
use crate::pipeline::{self, Origin};
use metadata::Asked;
use session::Session;
use sql::FlightSql;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The Flight service of the gateway.
pub(crate) struct Door {
    sql: FlightSql,
}

/// Who calls, put beside the request at the door.
#[derive(Debug, Clone)]
struct Known {
    identity: Identity,
    session: Session,
}

impl Known {
    /// Who calls; there is no other way past the door.
    fn of<T>(request: &Request<T>) -> Result<Self, Refusal> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| Refusal::internal("a call came past the door"))
    }

    /// The caller under the request's one purpose.
    fn caller(&self) -> Result<Caller, Refusal> {
        self.identity.clone().with_purpose((self.session.purpose.clone(), self.session.mission.clone()))
    }
}

impl Door {
    /// The service.
    ///
    /// # Errors
    /// [`Code::Internal`] without randomness.
    pub(crate) fn new(gateway: Arc<Gateway>) -> Result<Self, Refusal> {
        Ok(Self { sql: FlightSql::new(gateway)? })
    }

    /// Lets a call in, with the user beside it.
    async fn enter<T>(&self, request: &mut Request<T>, anew: bool) -> Result<Identity, Status> {
        let identity = pipeline::identify(self.gateway(), &Origin::of(request)).await.map_err(|r| r.status())?;
        let now = chrono::Utc::now().timestamp();
        let session = match Session::of(request.metadata(), &self.sql.seal, &identity, now) {
            Ok(session) => session,
            // Who sets or ends a session needs no good one.
            Err(_) if anew => Session::default(),
            Err(refusal) => return Err(pipeline::turned_away(self.gateway(), &identity, refusal).await.status()),
        };
        request.extensions_mut().insert(Known { identity: identity.clone(), session });
        Ok(identity)
    }

    /// Gives arrow-flight's own refusals our shape, and records them.
    async fn leave<T>(&self, identity: &Identity, rpc: &str, outcome: Result<T, Status>) -> Result<T, Status> {
        match outcome {
            Err(status) if from_status(&status).is_none() => {
                let refusal = if status.code() == tonic::Code::Unimplemented {
                    unsupported(rpc)
                } else {
                    Refusal::new(Code::Invalid, format!("{rpc}: the request is no Flight SQL message that is understood"))
                        .advice("use a Flight SQL client; GetSqlInfo states what is offered")
                };
                Err(pipeline::turned_away(self.gateway(), identity, refusal).await.status())
            }
            outcome => outcome,
        }
    }

    async fn refuse<R, T>(&self, rpc: &str, mut request: Request<R>) -> Result<T, Status> {
        let identity = self.enter(&mut request, false).await?;
        self.leave(&identity, rpc, Err(Status::unimplemented(""))).await
    }

    fn gateway(&self) -> &Gateway {
        &self.sql.gateway
    }
}

/// What is asked for is not offered, to anybody.
fn unsupported(what: &str) -> Refusal {
    Refusal::new(Code::NotOffered, format!("{what} is not offered: this service answers SELECT statements and metadata requests"))
        .advice("nothing can be written, changed or configured here; GetSqlInfo states what is offered")
}

/// A schema as GetSchema answers it.
fn ipc(schema: &Schema) -> Result<SchemaResult, Status> {
    SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(|e| plain(&Refusal::internal(e)))
}

/// The status of a refusal that has no log entry of its own yet.
fn plain(refusal: &Refusal) -> Status {
    to_status(refusal, None)
}

#[tonic::async_trait]
impl FlightService for Door {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        self.refuse("a handshake with a password (send the header 'authorization: Bearer …' with every call)", request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.refuse("ListFlights (ask for GetTables)", request).await
    }

    async fn get_flight_info(&self, mut request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let identity = self.enter(&mut request, false).await?;
        if let Some(asked) = Asked::of(&request.get_ref().cmd) {
            return asked.info(request.into_inner()).map(Response::new).map_err(|r| plain(&r));
        }
        self.leave(&identity, "GetFlightInfo", FlightService::get_flight_info(&self.sql, request).await).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        self.refuse("PollFlightInfo (`concordat query --detach` lets a long query run on)", request).await
    }

    async fn get_schema(&self, mut request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let identity = self.enter(&mut request, false).await?;
        let schema = match Asked::of(&request.get_ref().cmd) {
            Some(asked) => asked.schema().map_err(|r| plain(&r)).and_then(|schema| ipc(&schema)).map(Response::new),
            None => self.sql.schema(request).await,
        };
        self.leave(&identity, "GetSchema", schema).await
    }

    async fn do_get(&self, mut request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let identity = self.enter(&mut request, false).await?;
        if let Some(asked) = Asked::of(&request.get_ref().ticket) {
            let known = Known::of(&request).map_err(|r| plain(&r))?;
            return metadata::answer(self.gateway(), &known, asked).await.map(Response::new).map_err(|r| r.status());
        }
        self.leave(&identity, "DoGet", FlightService::do_get(&self.sql, request).await).await
    }

    async fn do_put(&self, mut request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let identity = self.enter(&mut request, false).await?;
        self.leave(&identity, "DoPut", FlightService::do_put(&self.sql, request).await).await
    }

    async fn do_action(&self, mut request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let anew = matches!(request.get_ref().r#type.as_str(), "SetSessionOptions" | "CloseSession");
        let identity = self.enter(&mut request, anew).await?;
        self.leave(&identity, "DoAction", FlightService::do_action(&self.sql, request).await).await
    }

    async fn list_actions(&self, mut request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        self.enter(&mut request, false).await?;
        Ok(Response::new(Box::pin(futures::stream::iter(actions::offered().map(Ok)))))
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.refuse("DoExchange", request).await
    }
}
