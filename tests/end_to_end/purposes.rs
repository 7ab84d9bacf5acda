//! Purposes that are not what they look like: every door × every way to state one × every kind of false name.

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery, CommandStatementQuery,
    ProstMessageExt as _,
};
use arrow_flight::{Action, FlightDescriptor};
use concordat_policy::Code;
use concordat_proto::status::from_status;
use concordat_proto::v1;
use concordat_proto::v1::explain_response::Decision;
use concordat_proto::v1::gateway_client::GatewayClient;
use prost::Message as _;
use serde_json::json;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::callers::doors::{Who, of_contract, send};
use crate::callers::{WITHOUT_AGREEMENT, at_every_door, gateway};
use crate::sandbox::Sandbox;

const SQL: &str = "SELECT count(*) AS persons FROM dfe.attainment";
const GOOD: &str = "opportunity.measure";

/// What is no name at all: other alphabets' letters, other widths, marks that nobody sees or that turn the text around.
const NO_NAMES: [(&str, &str); 10] = [
    ("a Cyrillic letter", "оpportunity.measure"),
    ("a full-width letter", "ｏpportunity.measure"),
    ("another dot", "opportunity․measure"),
    ("a dotless i", "opportunıty.measure"),
    ("a combining mark", "opportunity.measure\u{301}"),
    ("a zero-width space", "opportunity.\u{200b}measure"),
    ("text turned around", "opportunity.\u{202e}erusaem"),
    ("a capital", "Opportunity.measure"),
    ("two dots", "opportunity..measure"),
    ("beyond 64 bytes", "opportunity.measure.opportunity.measure.opportunity.measure.opportunity"),
];

/// Names that nobody may claim: known to nobody, look-alikes in ASCII, retired.
const NOT_CLAIMED: [(&str, &str); 5] = [
    ("unknown", "opportunity.unknown"),
    ("l for i", "opportunlty.measure"),
    ("0 for o", "0pportunity.measure"),
    ("rn for m", "opportunity.rneasure"),
    ("retired", "opportunity.pilot"),
];

/// The session messages of Flight's protocol, which arrow-flight does not generate.
#[derive(Clone, PartialEq, prost::Message)]
struct SetSessionOptions {
    #[prost(map = "string, message", tag = "1")]
    options: std::collections::HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OptionValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionErrors {
    #[prost(map = "string, message", tag = "1")]
    errors: std::collections::HashMap<String, SessionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

/// Flight's number for a value that is not taken.
const INVALID_VALUE: i32 = 2;

struct Doors {
    channel: Channel,
    flight: FlightServiceClient<Channel>,
    own: GatewayClient<Channel>,
    token: String,
}

impl Doors {
    async fn of(sandbox: &Sandbox) -> Self {
        let channel = gateway(sandbox).await;
        let (flight, own) = (FlightServiceClient::new(channel.clone()), GatewayClient::new(channel.clone()));
        Self { channel, flight, own, token: sandbox.token() }
    }

    /// A request whose header states these bytes as its purpose, and whose cookie is this.
    fn stating<T>(&self, message: T, purpose: Option<&str>, cookie: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        if let Some(purpose) = purpose {
            metadata.insert("x-concordat-purpose", MetadataValue::try_from(purpose.as_bytes()).unwrap());
        }
        if let Some(cookie) = cookie {
            metadata.insert("cookie", cookie.parse().unwrap());
        }
        request
    }

    /// Calls every RPC that needs a purpose; each must refuse.
    async fn refusals(&self, purpose: Option<&str>, cookie: Option<&str>) -> Vec<(String, Status)> {
        let statement = CommandStatementQuery { query: SQL.into(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(statement.as_any().encode_to_vec());
        let (mut flight, mut refused) = (self.flight.clone(), Vec::new());
        let mut note = |door: &str, outcome: Option<Status>| {
            refused.push((door.to_owned(), outcome.unwrap_or_else(|| panic!("{door} let '{purpose:?}' in"))));
        };
        note("GetFlightInfo", flight.get_flight_info(self.stating(descriptor.clone(), purpose, cookie)).await.err());
        note("GetSchema", flight.get_schema(self.stating(descriptor, purpose, cookie)).await.err());
        note("CreatePreparedStatement", flight.do_action(self.stating(create(), purpose, cookie)).await.err());
        // The gateway's own service knows no sessions.
        if cookie.is_none() {
            let needs_purpose = |path: &str| !WITHOUT_AGREEMENT.contains(&path);
            for door in of_contract().into_iter().filter(|door| door.is_for(Who::User) && needs_purpose(&door.path)) {
                note(&door.path, send(self.channel.clone(), &door, self.stating(Vec::new(), purpose, None)).await.err());
            }
        }
        refused
    }

    /// A statement that was prepared under the good purpose.
    async fn prepared(&mut self) -> FlightDescriptor {
        let request = self.stating(create(), Some(GOOD), None);
        let result = self.flight.do_action(request).await.unwrap().into_inner().message().await.unwrap().unwrap();
        let created: ActionCreatePreparedStatementResult = Any::decode(result.body).unwrap().unpack().unwrap().unwrap();
        let command = CommandPreparedStatementQuery { prepared_statement_handle: created.prepared_statement_handle };
        FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
    }

    /// Sets the session's purpose: the cookie, and the error that is answered for it.
    async fn session(&mut self, purpose: &str) -> (String, Option<i32>) {
        let value = OptionValue { text: Some(purpose.to_owned()) };
        let options = SetSessionOptions { options: [("purpose".to_owned(), value)].into() };
        let action = Action::new("SetSessionOptions", options.encode_to_vec());
        let answer = self.flight.do_action(self.stating(action, None, None)).await.unwrap();
        let cookie = answer.metadata().get("set-cookie").unwrap().to_str().unwrap().split(';').next().unwrap().to_owned();
        let body = answer.into_inner().message().await.unwrap().unwrap().body;
        (cookie, SessionErrors::decode(body).unwrap().errors.get("purpose").map(|error| error.value))
    }
}

fn create() -> Action {
    let request = ActionCreatePreparedStatementRequest { query: SQL.into(), transaction_id: None };
    Action::new("CreatePreparedStatement", request.as_any().encode_to_vec())
}

/// The refusal has this code, and its words are plain: nothing of the false name that is not ASCII.
#[track_caller]
fn plainly(status: &Status, code: Code, what: &str) {
    let refusal = from_status(status).unwrap_or_else(|| panic!("{what}: a foreign status {status:?}"));
    assert_eq!(refusal.code, code, "{what}: {refusal:?}");
    assert!(status.message().bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{what}: {:?}", status.message());
}

#[tokio::test]
async fn a_purpose_that_only_looks_like_one_is_refused_at_every_door_in_plain_words() {
    let sandbox = Sandbox::start(300).await;
    let mut doors = Doors::of(&sandbox).await;
    let prepared = doors.prepared().await;
    let no_names = NO_NAMES.into_iter().map(|(what, purpose)| (what, purpose, Code::Invalid));
    let not_claimed = NOT_CLAIMED.into_iter().map(|(what, purpose)| (what, purpose, Code::Denied));
    for (what, purpose, code) in no_names.chain(not_claimed) {
        // In the header.
        for (door, status) in doors.refusals(Some(purpose), None).await {
            plainly(&status, code, &format!("{what} in the header at {door}"));
        }
        let status = doors.flight.clone().get_flight_info(doors.stating(prepared.clone(), Some(purpose), None)).await.unwrap_err();
        plainly(&status, code, &format!("{what} in the header, for a prepared statement"));
        let explain = doors.stating(v1::ExplainRequest { statement: SQL.into(), parameters: Vec::new() }, Some(purpose), None);
        match doors.own.explain(explain).await {
            Err(status) => plainly(&status, Code::Invalid, &format!("{what} in the header at Explain")),
            Ok(explained) => {
                let Some(Decision::Denied(denied)) = explained.into_inner().decision else { panic!("{what} is explained as permitted") };
                assert_eq!((denied.code.as_str(), code), ("denied", Code::Denied), "{what}");
                assert!(denied.message.is_ascii() && denied.message.contains(purpose), "{}", denied.message);
            }
        }
        // In the session.
        let (cookie, error) = doors.session(purpose).await;
        assert_eq!(error, (code == Code::Invalid).then_some(INVALID_VALUE), "{what} as the session's");
        for (door, status) in doors.refusals(None, Some(&cookie)).await {
            plainly(&status, code, &format!("{what} in the session at {door}"));
        }
        // In the token.
        let bound = sandbox.token_with(|claims| claims["purpose"] = json!(purpose));
        if code == Code::Invalid {
            for (door, outcome) in at_every_door(&doors.channel, Some(&bound)).await {
                let status = outcome.err().unwrap_or_else(|| panic!("{what} in the token: {door:?} let it in"));
                plainly(&status, code, &format!("{what} in the token at {door:?}"));
            }
        }
        let client = sandbox.client_with(|c| (c.token, c.purpose) = (Some(bound.clone()), None)).await;
        let failure = client.query(SQL).await.unwrap_err();
        assert_eq!(failure.code, Some(code), "{what} in the token: {failure:?}");
        assert!(failure.message.is_ascii(), "{what}: {failure:?}");
    }
    // None of it is in the log, and the good one still counts.
    let log = sandbox.log_text("gateway");
    for (what, purpose) in NO_NAMES.into_iter().filter(|(_, purpose)| !purpose.is_ascii()) {
        assert!(!log.contains(purpose) && !log.contains(&purpose.escape_unicode().to_string()), "{what}");
    }
    let (cookie, error) = doors.session(GOOD).await;
    assert_eq!(error, None);
    doors.flight.clone().get_flight_info(doors.stating(prepared, None, Some(&cookie))).await.unwrap();
    sandbox.query(SQL).await.unwrap();
}
