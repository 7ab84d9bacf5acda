//! Flight's actions that are offered beside prepared statements: cancelling, and sessions.

use arrow_flight::sql::{Any, TicketStatementQuery};
use arrow_flight::{Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use concordat_policy::{Code, Refusal};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::session::wire;
use super::sql::FlightSql;
use super::statements::{Cancelled, now};
use super::{Answers, Known, plain};
use crate::authenticate::Caller;
use crate::pipeline;

const OFFERED: [(&str, &str); 9] = [
    ("BeginTransaction", "Begins a transaction: of reads only, each statement reading what is there when it runs."),
    ("EndTransaction", "Ends a transaction."),
    ("CreatePreparedStatement", "Prepares a SELECT, with parameters written ? or $1."),
    ("ClosePreparedStatement", "Closes a prepared statement."),
    ("CancelFlightInfo", "Cancels the caller's own query."),
    ("CancelQuery", "The same, in its older form."),
    ("SetSessionOptions", "Sets the session's purpose, mission or catalog; the client must keep cookies."),
    ("GetSessionOptions", "Says what the session's purpose and mission are."),
    ("CloseSession", "Forgets the session's options."),
];

/// The actions that are offered.
pub(super) fn offered() -> impl Iterator<Item = ActionType> {
    OFFERED.into_iter().map(|(name, description)| ActionType { r#type: name.into(), description: description.into() })
}

/// Runs an action that arrow-flight hands on.
pub(super) async fn other(sql: &FlightSql, request: Request<Action>) -> Result<Response<Answers<arrow_flight::Result>>, Status> {
    match request.get_ref().r#type.as_str() {
        "CancelFlightInfo" => {
            let asked = CancelFlightInfoRequest::decode(&*request.get_ref().body).map_err(|_| Status::invalid_argument(""))?;
            let caller = sql.caller(&request).await?;
            let status = asked.info.as_ref().map_or(CancelStatus::NotCancellable, |info| cancel(sql, &caller, info));
            Ok(one(CancelFlightInfoResult { status: status as i32 }.encode_to_vec()))
        }
        "SetSessionOptions" => set(sql, &request).await,
        "GetSessionOptions" => Ok(one(known(&request)?.session.options().encode_to_vec())),
        "CloseSession" => {
            let known = known(&request)?;
            let mut response = one(wire::CloseSessionResult { status: wire::CLOSED }.encode_to_vec());
            let ended = super::Session::default().cookie(&sql.seal, &known.identity, now()).map_err(|r| plain(&r))?;
            response.metadata_mut().insert("set-cookie", ended);
            Ok(response)
        }
        _ => Err(Status::unimplemented("")),
    }
}

/// Cancels what stands behind the tickets of an announcement. Flight numbers what became of it as Flight SQL does.
pub(super) fn cancel(sql: &FlightSql, caller: &Caller, info: &FlightInfo) -> CancelStatus {
    let handles = info.endpoint.iter().take(4).filter_map(|endpoint| {
        let message = Any::decode(&*endpoint.ticket.as_ref()?.ticket).ok()?;
        message.unpack::<TicketStatementQuery>().ok()?.map(|ticket| ticket.statement_handle)
    });
    let outcomes: Vec<Cancelled> = handles.map(|handle| sql.statements.cancel(&sql.seal, &handle, caller)).collect();
    match outcomes {
        all if all.contains(&Cancelled::Running) => CancelStatus::Cancelling,
        all if all.contains(&Cancelled::Waiting) => CancelStatus::Cancelled,
        _ => CancelStatus::NotCancellable,
    }
}

async fn set(sql: &FlightSql, request: &Request<Action>) -> Result<Response<Answers<arrow_flight::Result>>, Status> {
    let Known { identity, mut session } = known(request)?;
    let options = wire::SetSessionOptionsRequest::decode(&*request.get_ref().body).map_err(|_| Status::invalid_argument(""))?;
    if options.session_options.len() > 16 {
        let refusal = Refusal::new(Code::LimitExceeded, "a session has the options purpose, mission and catalog, and no others");
        return Err(pipeline::turned_away(&sql.gateway, &identity, refusal).await.status());
    }
    let result = session.set(options.session_options);
    let mut response = one(result.encode_to_vec());
    response.metadata_mut().insert("set-cookie", session.cookie(&sql.seal, &identity, now()).map_err(|r| plain(&r))?);
    Ok(response)
}

fn known(request: &Request<Action>) -> Result<Known, Status> {
    Known::of(request).map_err(|r| plain(&r))
}

fn one(body: Vec<u8>) -> Response<Answers<arrow_flight::Result>> {
    Response::new(Box::pin(futures::stream::iter([Ok(arrow_flight::Result { body: body.into() })])))
}
