//! A gateway that breaks off: no part of an answer passes for a whole one. Also what the program sends of parameters, seen from the
//! other end of the protocol.
//!
//! The gateway here is arrow-flight's own Flight SQL service around a few fixed answers: the real one sends nothing before an
//! answer is whole, so that it cannot be made to break off at a chosen place.

use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandPreparedStatementQuery, CommandStatementQuery, DoPutPreparedStatementResult, ProstMessageExt as _, SqlInfo,
    TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use chrono::Utc;
use concordat::federation::Authority;
use concordat_policy::{Code, Refusal};
use concordat_proto::status::{exit_code, to_status};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::{Ran, command};

/// What the gateway saw, in order.
type Seen = Arc<Mutex<Vec<String>>>;

struct Fixed {
    seen: Seen,
}

impl Fixed {
    fn note(&self, what: impl Into<String>) {
        self.seen.lock().unwrap().push(what.into());
    }

    /// One batch, and then the end or a refusal.
    fn answer(breaks_off: bool) -> Pin<Box<dyn Stream<Item = Result<arrow_flight::FlightData, Status>> + Send>> {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let refusal = Refusal::new(Code::NodeFaulty, "a department's stream changed").department("dwp");
        let end = breaks_off.then(|| Err(FlightError::Tonic(Box::new(to_status(&refusal, Some("q-1"))))));
        let batches = futures::stream::iter([Ok(batch)].into_iter().chain(end));
        let stream = FlightDataEncoderBuilder::new().with_metadata(r#"{"query_id":"q-1"}"#.into()).build(batches);
        stream.map_err(Status::from).boxed()
    }
}

fn info(handle: &'static str) -> Response<FlightInfo> {
    let ticket = TicketStatementQuery { statement_handle: handle.into() };
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
    Response::new(FlightInfo::new().with_endpoint(endpoint))
}

#[tonic::async_trait]
impl FlightSqlService for Fixed {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Ok(info(if query.query.contains("breaks") { "breaks" } else { "whole" }))
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(Response::new(Self::answer(ticket.statement_handle == "breaks")))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        self.note(format!("prepare {}", query.query));
        let types = Schema::new(vec![Field::new("$1", DataType::Date32, true), Field::new("$2", DataType::Utf8, true)]);
        let IpcMessage(types) = SchemaAsIpc::new(&types, &Default::default()).try_into().unwrap();
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: "first".into(),
            dataset_schema: Default::default(),
            parameter_schema: types,
        })
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let messages = request.into_inner().map_err(|e| FlightError::Tonic(Box::new(e)));
        let batches: Vec<RecordBatch> =
            arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await.unwrap();
        let values = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        let values: String = values.lines().nth(3).unwrap_or_default().split_whitespace().collect();
        self.note(format!("bind {} {values}", String::from_utf8_lossy(&query.prepared_statement_handle)));
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some("second".into()) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.note(format!("ask {}", String::from_utf8_lossy(&query.prepared_statement_handle)));
        Ok(info("whole"))
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        self.note(format!("close {}", String::from_utf8_lossy(&query.prepared_statement_handle)));
        Ok(())
    }

    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

struct Gateway {
    address: String,
    folder: tempfile::TempDir,
    seen: Seen,
}

impl Gateway {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(Utc::now().date_naive()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(folder.path().join("token"), "a.b.c").unwrap();
        let identity = authority.server("gateway", &["localhost"]).unwrap();
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(&identity.certificate, &identity.key));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let seen = Seen::default();
        let service = FlightServiceServer::new(Fixed { seen: seen.clone() });
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(Server::builder().tls_config(tls).unwrap().add_service(service).serve_with_incoming(incoming));
        Self { address, folder, seen }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn query(&self, sql: &str, more: &[&str]) -> Command {
        let mut command = command(["query", "--sql", sql, "--gateway", &self.address, "--server-name", "localhost"]);
        command.arg("--ca").arg(self.path("ca.pem")).arg("--token-file").arg(self.path("token")).args(more);
        command
    }
}

/// Runs to the end without holding up the gateway of this process.
async fn ended(mut command: Command) -> Ran {
    tokio::task::spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
}

#[tokio::test]
async fn an_answer_that_breaks_off_leaves_no_file_and_says_so() {
    let gateway = Gateway::start().await;
    let faulty = i32::from(exit_code(Code::NodeFaulty));
    for format in ["table", "json", "csv", "arrow", "parquet"] {
        let path = gateway.path("answer");
        let to = ["--output", format, "--to", path.to_str().unwrap()];
        let broken = ended(gateway.query("SELECT breaks", &to)).await;
        assert_eq!(broken.exit, faulty, "{format}: {}", broken.stderr);
        assert!(broken.stderr.contains("was not written") && broken.stderr.contains("q-1"), "{format}: {}", broken.stderr);
        assert_eq!(std::fs::read_dir(gateway.folder.path()).unwrap().count(), 2, "{format}: only the CA and the token are there");
        let whole = ended(gateway.query("SELECT whole", &to)).await;
        assert!(whole.exit == 0 && path.exists(), "{format}: {}", whole.stderr);
        std::fs::write(&path, "before").unwrap();
        assert_eq!(ended(gateway.query("SELECT breaks", &to)).await.exit, faulty);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before", "{format}: what was there stays");
        std::fs::remove_file(&path).unwrap();
        let shown = ended(gateway.query("SELECT breaks", &["--output", format])).await;
        assert_eq!(shown.exit, faulty, "{format}");
        assert!(shown.stderr.contains("not whole") != (format == "table"), "{format}: {}", shown.stderr);
        assert!(format != "table" || shown.stdout.is_empty(), "a table is shown when it is whole");
        assert!(serde_json::from_slice::<serde_json::Value>(&shown.stdout).is_err(), "{format}");
    }
}

#[tokio::test]
async fn parameters_are_prepared_bound_asked_and_given_back() {
    let gateway = Gateway::start().await;
    let sql = "SELECT n FROM t WHERE day > $day AND name = $name OR '$day' = $name";
    let ran = ended(gateway.query(sql, &["--output", "csv", "--param", "name=it's", "--param", "day=2026-04-01"])).await;
    assert_eq!((ran.exit, ran.text().as_str()), (0, "n\r\n1\r\n2\r\n3\r\n"), "{}", ran.stderr);
    let expected = [
        "prepare SELECT n FROM t WHERE day > $1 AND name = $2 OR '$day' = $2",
        "bind first |2026-04-01|it's|",
        "ask second",
        "close second",
    ];
    assert_eq!(*gateway.seen.lock().unwrap(), expected);
    gateway.seen.lock().unwrap().clear();
    let wrong = ended(gateway.query("SELECT $a = $b", &["--param", "a=yesterday", "--param", "b"])).await;
    assert_eq!(wrong.exit, i32::from(concordat::failure::USAGE), "{}", wrong.stderr);
    assert_eq!(*gateway.seen.lock().unwrap(), ["prepare SELECT $1 = $2", "close first"], "given back when it comes to nothing");
}
