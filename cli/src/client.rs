//! The client's side of the gateway: one TLS connection, one token, one declared purpose.

mod columns;
mod detached;
mod log;
mod prepared;
mod reading;
mod receipts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt as _};
use arrow_flight::{FlightDescriptor, FlightInfo};
use concordat_operate::trace::{TRACEPARENT, is_traceparent};
use concordat_proto::v1::answer_receipts_client::AnswerReceiptsClient;
use concordat_proto::v1::gateway_client::GatewayClient;
use concordat_proto::v1::log_reading_client::LogReadingClient;
use concordat_proto::v1::{
    CatalogueRequest, CatalogueResponse, DepartmentStatus, DepartmentsRequest, ExplainRequest, ExplainResponse, Parameter, WhoAmIRequest,
    WhoAmIResponse,
};
use concordat_proto::{MAX_BATCH_MESSAGE, MAX_CONTROL_MESSAGE, status};
use prost::Message as _;
use serde::Deserialize;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

pub use self::log::{LogDoor, NodeFile};
pub use self::reading::{Reading, Stage, Unwatched, Watch};
pub(crate) use self::receipts::{Matching, promise};
use crate::failure::{Failure, Result, UNREACHABLE};
use crate::federation::describe::Caller;
use crate::federation::layout::read;
use crate::parameters::Parameters;

/// How to reach the gateway, and as whom.
#[derive(Debug, Clone)]
pub struct Connection {
    /// `https://host:port`.
    pub gateway: String,
    /// The name in the gateway's certificate.
    pub server_name: String,
    /// The certificate authority, in PEM.
    pub ca: String,
    /// The bearer token; without one, the gateway refuses.
    pub token: Option<String>,
    /// The declared purpose; without one, the token's claim must name it.
    pub purpose: Option<String>,
    /// The mission, where the purpose leads to several.
    pub mission: Option<String>,
}

/// A `client.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFile {
    /// `https://host:port`.
    pub gateway: String,
    /// The name in the gateway's certificate.
    pub server_name: String,
    /// The certificate authority's file.
    pub ca: PathBuf,
    /// The purpose that is declared where none is given.
    #[serde(default)]
    pub purpose: Option<String>,
    /// The mission that is declared where none is given: what `concordat use` writes.
    #[serde(default, rename = "use")]
    pub mission: Option<String>,
    /// Per mission, what counts where nothing else is given.
    #[serde(default, rename = "mission")]
    pub defaults: BTreeMap<String, MissionDefaults>,
    /// The file of a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Where to sign in: what `concordat login` needs.
    #[serde(default)]
    pub login: Option<LoginFile>,
    /// For trying out: the identity provider's key.
    #[serde(default)]
    pub issuer: Option<IssuerFile>,
    /// For trying out: the same for who reads the gateway's log.
    #[serde(default)]
    pub auditor: Option<IssuerFile>,
    /// Departments' nodes whose logs this user may read.
    #[serde(default, rename = "node")]
    pub nodes: Vec<NodeFile>,
}

/// A `[mission.NAME]` of a `client.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissionDefaults {
    /// The purpose.
    #[serde(default)]
    pub purpose: Option<String>,
    /// How answers are printed: a value of `--output`.
    #[serde(default)]
    pub output: Option<String>,
}

/// The `[login]` of a `client.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginFile {
    /// The identity provider: an https address, as in its tokens' `iss`.
    pub issuer: String,
    /// This program's name at the provider: a public client.
    pub client_id: String,
    /// What to ask for beside `openid`. `offline_access` lets other commands refresh the token silently.
    #[serde(default = "offline_access")]
    pub scopes: Vec<String>,
    /// For whom the access token is to be (RFC 8707), where the provider wants to know.
    #[serde(default)]
    pub resource: Option<String>,
    /// The provider's certificate authority, where the system does not know it (PEM).
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Where the tokens are kept.
    #[serde(default)]
    pub store: TokenStore,
}

/// Where tokens are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenStore {
    /// In the keyring where one works, else in a file.
    #[default]
    Auto,
    /// In the desktop's keyring (Secret Service).
    Keyring,
    /// In a file that only its owner can read.
    File,
}

fn offline_access() -> Vec<String> {
    vec!["offline_access".into()]
}

/// The `[issuer]` of a `client.toml`, or its `[auditor]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerFile {
    /// The identity provider's private key.
    pub key: PathBuf,
    /// Who the tokens are about.
    pub subject: String,
    /// The organisation in the tokens.
    pub organisation: String,
    /// The roles in the tokens.
    pub roles: Vec<String>,
}

impl ClientFile {
    /// Reads a `client.toml`; its paths become relative to the current folder.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read(path).map_err(|e| e.advice("`concordat demo` makes one; or name --gateway, --ca and --token-file"))?;
        let mut file: Self = toml::from_str(&text).map_err(|e| Failure::file("understood", path, e.message()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        file.ca = folder.join(file.ca);
        file.token_file = file.token_file.map(|token| folder.join(token));
        if let Some(login) = &mut file.login {
            login.ca = login.ca.take().map(|ca| folder.join(ca));
        }
        file.nodes = file.nodes.into_iter().map(|node| node.in_folder(folder)).collect();
        for issuer in file.issuer.iter_mut().chain(&mut file.auditor) {
            issuer.key = folder.join(&issuer.key);
        }
        Ok(file)
    }
}

impl IssuerFile {
    /// For whom tokens are made where nothing else is said.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller { subject: self.subject.clone(), organisation: self.organisation.clone(), roles: self.roles.clone(), purpose: String::new() }
    }
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// The gateway's statement of it: query id, sources, what was withheld, log entry. An object.
    pub summary: serde_json::Value,
}

/// A connected client.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
    /// The least versions of departments' consent ledgers, as the gateway reads them.
    at_least: Option<String>,
    /// Whether answers are to say what became of each cell.
    cells: bool,
    flight: FlightServiceClient<Channel>,
    gateway: GatewayClient<Channel>,
    receipts: AnswerReceiptsClient<Channel>,
    log: LogReadingClient<Channel>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the address or the authority is not one, or nobody who bears that name answers.
    pub async fn connect(connection: Connection) -> Result<Self> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&connection.ca)).domain_name(&connection.server_name);
        let endpoint = Endpoint::from_shared(connection.gateway.clone())
            .map_err(|_| Failure::usage(format!("'{}' is not an address; write https://host:port", connection.gateway)))?
            .tls_config(tls)
            .map_err(|e| Failure::new(format!("the certificate authority cannot be used: {}", chain(&e))))?
            .connect_timeout(Duration::from_secs(5))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|e| Failure {
            exit: UNREACHABLE,
            ..Failure::new(format!("the gateway at {} cannot be reached: {}", connection.gateway, chain(&e)))
                .advice("start it with `concordat up FOLDER`, or name the running one with --gateway")
        })?;
        Ok(Self {
            flight: FlightServiceClient::new(channel.clone()).max_decoding_message_size(MAX_BATCH_MESSAGE),
            gateway: GatewayClient::new(channel.clone()).max_decoding_message_size(MAX_CONTROL_MESSAGE),
            log: LogReadingClient::new(channel.clone()).max_decoding_message_size(MAX_CONTROL_MESSAGE),
            receipts: AnswerReceiptsClient::new(channel).max_decoding_message_size(MAX_CONTROL_MESSAGE),
            connection,
            at_least: None,
            cells: false,
        })
    }

    /// The same client, which takes no answer that rests on an older version of these departments' consent ledgers:
    /// `department=version` each.
    #[must_use]
    pub fn at_least(self, versions: &[String]) -> Self {
        Self { at_least: (!versions.is_empty()).then(|| versions.join(",")), ..self }
    }

    /// The same client; where `wanted`, its answers say of each protected value whether it is told, rounded or withheld, in a column
    /// after the value's.
    #[must_use]
    pub fn cells(self, wanted: bool) -> Self {
        Self { cells: wanted, ..self }
    }

    /// Asks one question in SQL.
    ///
    /// # Errors
    /// What the gateway refused, or that the answer broke off: never a part of an answer.
    pub async fn query(&self, sql: &str) -> Result<Answer> {
        self.query_with(sql, &Parameters::default()).await
    }

    /// Asks one question in SQL in which `$name` stands for a parameter's value.
    ///
    /// # Errors
    /// As [`Client::query`]; a parameter without a value, a value without a parameter, or one that is not of the type which the
    /// gateway expects there.
    pub async fn query_with(&self, sql: &str, parameters: &Parameters) -> Result<Answer> {
        self.ask(sql, parameters, Arc::new(Unwatched)).await?.collect().await
    }

    /// The same, as it arrives.
    ///
    /// # Errors
    /// As [`Client::query_with`].
    pub async fn ask(&self, sql: &str, parameters: &Parameters, watch: Arc<dyn Watch>) -> Result<Reading> {
        let numbered = parameters.number(sql)?;
        watch.stage(Stage::Planning);
        if numbered.names.is_empty() {
            let info = self.flight_info(sql).await?;
            return Reading::start(self, info, None, watch).await;
        }
        let (info, handle) = self.prepared_info(&numbered, parameters).await?;
        Reading::start(self, info, Some(handle), watch).await
    }

    /// The announcement of a question's answer: the first half of [`Client::query`].
    ///
    /// # Errors
    /// What the gateway refused.
    pub async fn flight_info(&self, sql: &str) -> Result<FlightInfo> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let request = self.request(descriptor)?;
        Ok(self.flight.clone().get_flight_info(request).await.map_err(|e| Failure::status(&e))?.into_inner())
    }

    /// The mission, views and datasets that the caller may use for the declared purpose.
    ///
    /// # Errors
    /// What the gateway refused.
    pub async fn catalogue(&self) -> Result<CatalogueResponse> {
        let request = self.request(CatalogueRequest {})?;
        Ok(self.gateway.clone().catalogue(request).await.map_err(|e| Failure::status(&e))?.into_inner())
    }

    /// Whether a question would be answered and why. No data is read.
    ///
    /// # Errors
    /// What the gateway refused for another reason than what is asked: a denial is an explanation.
    pub async fn explain(&self, sql: &str) -> Result<ExplainResponse> {
        self.explain_with(sql, &Parameters::default()).await
    }

    /// The same of a question in which `$name` stands for a parameter's value.
    ///
    /// # Errors
    /// As [`Client::explain`]; a parameter without a value, or a value without a parameter.
    pub async fn explain_with(&self, sql: &str, parameters: &Parameters) -> Result<ExplainResponse> {
        let numbered = parameters.number(sql)?;
        let parameters = parameters.texts(&numbered.names).into_iter().map(|value| Parameter { value }).collect();
        let request = self.request(ExplainRequest { statement: numbered.sql, parameters })?;
        Ok(self.gateway.clone().explain(request).await.map_err(|e| Failure::status(&e))?.into_inner())
    }

    /// Whom the gateway takes the token's bearer for. Needs no purpose.
    ///
    /// # Errors
    /// What the gateway refused.
    pub async fn who_am_i(&self) -> Result<WhoAmIResponse> {
        let request = self.request(WhoAmIRequest {})?;
        Ok(self.gateway.clone().who_am_i(request).await.map_err(|e| Failure::status(&e))?.into_inner())
    }

    /// The departments' status.
    ///
    /// # Errors
    /// What the gateway refused.
    pub async fn departments(&self) -> Result<Vec<DepartmentStatus>> {
        let request = self.request(DepartmentsRequest {})?;
        Ok(self.gateway.clone().departments(request).await.map_err(|e| Failure::status(&e))?.into_inner().departments)
    }

    /// The request's message with the token, the purpose and the mission beside it.
    fn request<T>(&self, message: T) -> Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        let headers = [
            ("authorization", self.connection.token.as_ref().map(|token| format!("Bearer {token}"))),
            (status::PURPOSE, self.connection.purpose.clone()),
            (status::MISSION, self.connection.mission.clone()),
            (status::AT_LEAST, self.at_least.clone()),
            (status::CELLS, self.cells.then(|| "status".to_owned())),
            // The trace that the caller's own program belongs to, as W3C names the variable.
            (TRACEPARENT, std::env::var("TRACEPARENT").ok().filter(|header| is_traceparent(header))),
        ];
        for (key, value) in headers {
            let Some(value) = value else { continue };
            let mut value =
                MetadataValue::try_from(value).map_err(|_| Failure::usage(format!("the {key} holds characters that cannot be sent")))?;
            value.set_sensitive(key == "authorization");
            request.metadata_mut().insert(key, value);
        }
        Ok(request)
    }
}

/// An error and its causes, nearest first.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
