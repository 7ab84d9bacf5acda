//! The listener: mutual TLS always, limits on everything a peer can make grow, certificates that reload, and a drain that ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::Note;
use concordat_operate::calls::Calls;
use concordat_operate::certificate::Files;
use concordat_operate::drain::Stop;
use concordat_operate::readiness::{Reason, Subject};
use concordat_operate::reading;
use concordat_operate::reload::Reloads;
pub use concordat_operate::server::ServeError;
use concordat_operate::server::Server as Bound;
use concordat_operate::settings::Operations;
use concordat_policy::Code;
use concordat_proto::v1::access_log_server::AccessLogServer;
use concordat_proto::v1::agreements_server::AgreementsServer;
use concordat_proto::v1::consent_ledger_server::ConsentLedgerServer;
use concordat_proto::v1::consent_reach_server::ConsentReachServer;
use concordat_proto::v1::linkage_keys_server::LinkageKeysServer;
use concordat_proto::v1::log_reading_server::LogReadingServer;
use concordat_proto::v1::node_server::NodeServer;
use concordat_proto::v1::releases_server::ReleasesServer;
use concordat_proto::v1::witness_server::WitnessServer;
use concordat_proto::{MAX_BATCH_MESSAGE, MAX_CONTROL_MESSAGE, MAX_WITNESS_MESSAGE};
use futures::future::BoxFuture;
use tonic::transport::Server;

use crate::config::{Config, Pins};
use crate::flight::Flight;
use crate::node::Node;
use crate::release::blocking;
use crate::services::Control;
use crate::suspension::{self, Standing};
use crate::take_notice;
use crate::witness;

/// The longest a call may take to begin its answer.
const CALL: Duration = Duration::from_secs(120);

/// The calls that are counted by name.
const CALLS: &[&str] = &[
    "arrow.flight.protocol.FlightService/GetFlightInfo",
    "arrow.flight.protocol.FlightService/DoGet",
    "concordat.v1.Node/Describe",
    "concordat.v1.Releases/Abandon",
    "concordat.v1.LinkageKeys/Seal",
    "concordat.v1.LinkageKeys/Accept",
    "concordat.v1.ConsentReach/Changes",
    "concordat.v1.AccessLog/Checkpoint",
    "concordat.v1.AccessLog/Consistency",
    "concordat.v1.AccessLog/Inclusion",
    "concordat.v1.LogReading/List",
    "concordat.v1.LogReading/Query",
    "concordat.v1.LogReading/Tail",
    "concordat.v1.Agreements/Offered",
    "concordat.v1.Agreements/Deliver",
    "concordat.v1.ConsentLedger/Record",
    "concordat.v1.ConsentLedger/Import",
    "concordat.v1.ConsentLedger/Show",
    "concordat.v1.ConsentLedger/Correct",
    "concordat.v1.ConsentLedger/Erase",
    "concordat.v1.ConsentLedger/Receipts",
    "concordat.v1.Witness/AddCheckpoint",
    "concordat.v1.Witness/Own",
    "concordat.v1.Witness/Cosigned",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
];

/// How long a node that stops waits for the last checkpoint of its log.
const SETTLED: Duration = Duration::from_secs(5);

/// How long a node that is to stop waits for the gateway's witness, and how often it looks.
const COSIGNED: Duration = Duration::from_secs(3);
const MOMENT: Duration = Duration::from_millis(20);

/// Where and how a node listens.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address; port 0 takes any free one.
    pub address: SocketAddr,
    /// The certificate, its key, and the authorities of clients' certificates.
    pub tls: Files,
    /// The operations endpoint and the drain.
    pub operations: Operations,
    /// Where the bound address is written.
    pub state: PathBuf,
    /// The configuration, whose pinned certificates are read again when it changes; agreements are too.
    pub config: PathBuf,
}

impl Listen {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            address: config.listen,
            tls: config.tls.clone(),
            operations: config.operations.clone(),
            state: config.state.clone(),
            config: config.path.clone(),
        }
    }
}

/// Serves until `stop`, then drains. Once it accepts calls, `<state>/address` holds the bound address and a newline.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(node: Arc<Node>, listen: Listen, stop: Stop) -> Result<(), ServeError> {
    let Listen { address, tls, operations, state, config } = listen;
    let metrics = Arc::clone(&node.metrics);
    watch_log(&node);
    watch_ledger(&node);
    take_notice::watch(&node);
    witness::watch(&node);
    let stop = stop.after(cosigned(Arc::clone(&node)));
    let ending = node.endings.stopping().clone();
    let bound = Bound::bind(address, tls, operations, &state, Arc::clone(&metrics)).await?.ending(ending);
    let mut reloads = Reloads::default();
    let pinned = Arc::clone(&node);
    reloads.add("pinned certificates", vec![config.clone()], move || {
        let pins = Pins::read(&config)?;
        let (gateway, administrators, auditors) = (pins.gateway.len(), pins.administrators.len(), pins.auditors.len());
        let now = format!("{gateway} of the gateway, {administrators} of administrators, {auditors} of auditors");
        pinned.replaced.add(pinned.callers.replace(pins));
        Ok(now)
    });
    let papers = Arc::clone(&node);
    reloads.add("agreements", node.papers.watched(), move || papers.reread());
    if let Some(folder) = node.papers.guard_rails() {
        let guarded = Arc::clone(&node);
        reloads.add("guard rails", vec![folder], move || guarded.reread_guard_rails());
    }
    // What changed since the configuration was read.
    if let Err(fault) = node.reread() {
        tracing::error!(cause = %fault, remedy = fault.remedy, "the agreements changed while the node started, and cannot be used");
    }
    let control = Control::new(Arc::clone(&node)).until(bound.stopping());
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<NodeServer<Control>>().await;
    health.set_serving::<FlightServiceServer<Flight>>().await;
    let flight = FlightServiceServer::new(Flight(Arc::clone(&node)))
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_BATCH_MESSAGE);
    let router = Server::builder()
        .timeout(CALL)
        .concurrency_limit_per_connection(128)
        .max_concurrent_streams(512)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .http2_max_header_list_size(64 << 10)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .max_connection_age(Duration::from_secs(3600))
        .max_connection_age_grace(Duration::from_secs(600))
        .layer(Calls::new(metrics, CALLS))
        .add_service(health_service)
        .add_service(flight)
        .add_service(
            NodeServer::new(control.clone()).max_decoding_message_size(MAX_CONTROL_MESSAGE).max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            ReleasesServer::new(control.clone())
                .max_decoding_message_size(MAX_CONTROL_MESSAGE)
                .max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            LinkageKeysServer::new(control.clone())
                .max_decoding_message_size(MAX_CONTROL_MESSAGE)
                .max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            ConsentReachServer::new(control.clone())
                .max_decoding_message_size(MAX_CONTROL_MESSAGE)
                .max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            AgreementsServer::new(control.clone())
                .max_decoding_message_size(MAX_CONTROL_MESSAGE)
                .max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            WitnessServer::new(control.clone())
                .max_decoding_message_size(MAX_WITNESS_MESSAGE)
                .max_encoding_message_size(MAX_WITNESS_MESSAGE),
        )
        .add_service(
            AccessLogServer::new(control.clone())
                .max_decoding_message_size(MAX_CONTROL_MESSAGE)
                .max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            LogReadingServer::new(control.clone())
                .max_decoding_message_size(MAX_CONTROL_MESSAGE)
                .max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            ConsentLedgerServer::new(control).max_decoding_message_size(MAX_CONTROL_MESSAGE).max_encoding_message_size(MAX_CONTROL_MESSAGE),
        );
    let subject: Arc<dyn Subject> = Arc::new(Readiness(Arc::clone(&node)));
    let served = bound.run(subject, reloads, stop, |incoming, stopping| router.serve_with_incoming_shutdown(incoming, stopping)).await;
    node.drain().await;
    settle(&node).await;
    served
}

/// Waits until the gateway's witness has cosigned all that the log has, where it is looking: once the node has stopped, it cannot.
async fn cosigned(node: Arc<Node>) {
    let seen = move || {
        let until = Instant::now() + COSIGNED;
        let size = || {
            let text = node.log.cosigned()?;
            Some(Checkpoint::parse(Note::parse(text.as_bytes()).ok()?.text()).ok()?.size)
        };
        // What cannot be covered now is told of when the node has stopped.
        let _ = node.log.settle(COSIGNED);
        while node.witness.is_looking() && size() < Some(node.log.size()) && Instant::now() < until {
            std::thread::sleep(MOMENT);
        }
    };
    drop(tokio::task::spawn_blocking(seen).await);
}

/// Has the last entries covered by a checkpoint.
async fn settle(node: &Node) {
    let log = node.log.clone();
    if !matches!(tokio::task::spawn_blocking(move || log.settle(SETTLED)).await, Ok(true)) {
        tracing::error!("the last entries of the access log are under no checkpoint until the node starts again");
    }
}

/// Counts failures of the log when metrics are read.
fn watch_log(node: &Node) {
    let (log, failures) = (node.log.clone(), node.metrics.level("log_failures", "Attempts to write the access log that failed"));
    node.metrics.before_reading(move || failures.set(&[("log", "access")], i64::try_from(log.failures()).unwrap_or(i64::MAX)));
    reading::watch(&node.index, &node.metrics);
}

/// Looks whether people's erasure is finished when metrics are read.
fn watch_ledger(node: &Node) {
    let what = "Whether the consent ledger's file still holds older copies of people who were erased; 1 as well where that cannot be read";
    let (consent, unwiped) = (Arc::clone(&node.consent), node.metrics.level("consent_unwiped", what));
    node.metrics.before_reading(move || unwiped.set(&[("ledger", "consent")], i64::from(!matches!(consent.unwiped(), Ok(None)))));
}

/// What keeps a node from releasing.
struct Readiness(Arc<Node>);

impl Subject for Readiness {
    fn reasons(&self) -> BoxFuture<'_, Vec<Reason>> {
        Box::pin(async {
            let (mut reasons, node) = (Vec::new(), &self.0);
            // A log that failed is tried again here, so that a node whose disk has room again becomes ready without a call.
            if node.log.is_failing() && node.log(concordat_audit::Entry::new("log.tried")).await.is_err() {
                reasons.push(Reason {
                    what: "log",
                    cause: "the access log cannot be written, so nothing is released".into(),
                    remedy: "make room on its disk, or repair it".into(),
                });
                return reasons;
            }
            if let Standing::Unknown(cause) = node.agreements.suspensions().look() {
                reasons.push(Reason { what: "suspensions", cause, remedy: suspension::REMEDY.into() });
            }
            if let Err(refusal) = node.caught_up().await {
                let what = if refusal.code == Code::LogUnavailable { "log" } else { "ledger" };
                let remedy = "restore the newest ledger, or accept the loss with `concordat-node acknowledge-restore`".into();
                reasons.push(Reason { what, cause: refusal.operator.unwrap_or(refusal.message), remedy });
            }
            reasons
        })
    }

    fn alarms(&self) -> BoxFuture<'_, Vec<Reason>> {
        let (witness, trouble) = (Arc::clone(&self.0.witness), reading::trouble(&self.0.index));
        Box::pin(async move {
            let alarms = blocking(move || Ok(witness.alarms().into_iter().chain(trouble).collect())).await;
            alarms.unwrap_or_else(|refusal| {
                tracing::error!(cause = refusal.operator, "whether something needs attention cannot be told");
                Vec::new()
            })
        })
    }
}

#[cfg(test)]
mod tests;
