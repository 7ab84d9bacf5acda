//! The listener: TLS, limits, services, certificates that reload, drain.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use concordat_audit::Entry;
use concordat_operate::calls::Calls;
use concordat_operate::core_dumps;
use concordat_operate::drain::Stop;
use concordat_operate::readiness::{Reachability, Reason, Subject};
use concordat_operate::reading;
use concordat_operate::reload::Reloads;
use concordat_operate::server::{Server as Bound, described, unix_now};
use concordat_operate::telemetry;
use concordat_policy::Name;
use concordat_proto::v1::access_log_server::AccessLogServer;
use concordat_proto::v1::answer_receipts_server::AnswerReceiptsServer;
use concordat_proto::v1::gateway_server::GatewayServer;
use concordat_proto::v1::log_reading_server::LogReadingServer;
use concordat_proto::{MAX_BATCH_MESSAGE, MAX_CONTROL_MESSAGE};
use futures::future::{BoxFuture, join_all};
use miette::miette;
use tonic::transport::Server;

use crate::Gateway;
use crate::config::Config;
use crate::flight::Door;
use crate::guard;
use crate::reading::Reading;
use crate::receipts::Receipts;
use crate::service::Service;

/// The least time that a request may take to become complete and be answered.
const UNFINISHED: Duration = Duration::from_secs(60);

/// The calls that are counted by name.
const CALLS: &[&str] = &[
    "arrow.flight.protocol.FlightService/GetFlightInfo",
    "arrow.flight.protocol.FlightService/GetSchema",
    "arrow.flight.protocol.FlightService/PollFlightInfo",
    "arrow.flight.protocol.FlightService/DoGet",
    "arrow.flight.protocol.FlightService/DoPut",
    "arrow.flight.protocol.FlightService/DoAction",
    "arrow.flight.protocol.FlightService/ListActions",
    "arrow.flight.protocol.FlightService/Handshake",
    "arrow.flight.protocol.FlightService/ListFlights",
    "arrow.flight.protocol.FlightService/DoExchange",
    "concordat.v1.AccessLog/Checkpoint",
    "concordat.v1.AccessLog/Consistency",
    "concordat.v1.AccessLog/Inclusion",
    "concordat.v1.AnswerReceipts/Receipt",
    "concordat.v1.LogReading/List",
    "concordat.v1.LogReading/Query",
    "concordat.v1.LogReading/Tail",
    "concordat.v1.Gateway/CancelDetached",
    "concordat.v1.Gateway/Catalogue",
    "concordat.v1.Gateway/Departments",
    "concordat.v1.Gateway/Detach",
    "concordat.v1.Gateway/Detached",
    "concordat.v1.Gateway/Explain",
    "concordat.v1.Gateway/WhoAmI",
    "concordat.v1.Gateway/RelayLinkageKeys",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
];

/// Serves until `stop`, then drains. Writes the bound address to `<state>/address`.
pub(crate) async fn serve(config: Config, stop: Stop) -> miette::Result<()> {
    core_dumps::off()?;
    let telemetry = telemetry::start(super::command::PROGRAM, "gateway", "info", &config.telemetry);
    let served = served(config, stop).await;
    telemetry.end().await;
    served
}

async fn served(config: Config, stop: Stop) -> miette::Result<()> {
    let (listen, state, tls, operations) = (config.listen, config.state.clone(), config.server_tls.clone(), config.operations.clone());
    let longest = config.limits.deadline() + config.limits.wait() + Duration::from_secs(30);
    let gateway = Arc::new(Gateway::new(config)?);
    let tending = gateway.tend();
    let metrics = Arc::clone(&gateway.observed.metrics);
    let bound = Bound::bind(listen, tls, operations, &state, Arc::clone(&metrics)).await?.ending(gateway.ending.clone());
    begin(&gateway).await;
    let (carrying, witnessing, watching) = (gateway.carry(), gateway.witness(), gateway.watch_witnesses());
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<GatewayServer<Service>>().await;
    let flight = FlightServiceServer::new(Door::new(gateway.clone()).map_err(|e| miette!("{e}"))?)
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_BATCH_MESSAGE);
    let own = GatewayServer::new(Service { gateway: gateway.clone() })
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_CONTROL_MESSAGE);
    let reading = LogReadingServer::new(Reading::new(gateway.clone(), bound.stopping()))
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_CONTROL_MESSAGE);
    let receipts = Receipts::new(gateway.clone());
    let access_log = AccessLogServer::new(receipts.clone())
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_CONTROL_MESSAGE);
    let receipts =
        AnswerReceiptsServer::new(receipts).max_decoding_message_size(MAX_CONTROL_MESSAGE).max_encoding_message_size(MAX_CONTROL_MESSAGE);
    let router = Server::builder()
        .concurrency_limit_per_connection(64)
        .max_concurrent_streams(128)
        // A token has at most 16 KiB, and nothing else in a header is long.
        .http2_max_header_list_size(32 << 10)
        // Streams that a peer opens and resets faster than they are taken up (CVE-2023-44487), and those that we reset for its
        // errors: beyond these the connection is closed.
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(128))
        // What a peer may have under way towards us; requests are small.
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        // Requests that never become complete. Answers are not concerned: theirs is `unread_seconds`.
        .timeout(UNFINISHED.max(longest))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .max_connection_age(Duration::from_secs(3600))
        .layer(Calls::new(metrics, CALLS))
        .add_service(health_service)
        .add_service(flight)
        .add_service(own)
        .add_service(access_log)
        .add_service(reading)
        .add_service(receipts);
    let reloads = reloads(&gateway);
    let subject: Arc<dyn Subject> = Arc::new(Readiness(gateway.clone()));
    let served = bound.run(subject, reloads, stop, |incoming, stopping| router.serve_with_incoming_shutdown(incoming, stopping)).await;
    drop((tending, carrying, watching));
    gateway.drain().await;
    gateway.settle().await;
    drop(witnessing);
    Ok(served?)
}

/// The first entry of this run. A log that cannot be written does not keep the gateway from starting: it refuses every call,
/// and says so.
async fn begin(gateway: &Gateway) {
    let quorum = gateway.witnessed.quorum();
    let entry = Entry::new("gateway.started").field("version", env!("CARGO_PKG_VERSION"));
    let entry = entry.field("quorum", quorum.needed()).field("witnesses", quorum.witnesses());
    let entry = guard::in_force(entry, gateway.estate.now().guard.loaded().as_ref());
    if let Err(e) = gateway.log.append(entry).await {
        tracing::error!(cause = %e, source = ?std::error::Error::source(&e), "the access log cannot be written; every call is refused");
    }
    let (log, failures) =
        (gateway.log.clone(), gateway.observed.metrics.level("log_failures", "Attempts to write the access log that failed"));
    gateway.observed.metrics.before_reading(move || failures.set(&[("log", "access")], i64::try_from(log.failures()).unwrap_or(i64::MAX)));
    reading::watch(&gateway.index, &gateway.observed.metrics);
}

/// The estate, the guard rails, and the identity towards nodes; the one towards callers is the listener's own matter.
fn reloads(gateway: &Arc<Gateway>) -> Reloads {
    let mut reloads = Reloads::default();
    let rereads = Arc::clone(gateway);
    reloads.add("estate", gateway.estate.watched(), move || {
        let summary = rereads.estate.reread();
        // Revoked keys are taken even where the rest is refused.
        rereads.tell_log();
        summary
    });
    if let Some(folder) = gateway.estate.guard_rails() {
        let rereads = Arc::clone(gateway);
        reloads.add("guard rails", vec![folder], move || {
            let summary = rereads.estate.reread_guard_rails()?;
            rereads.tell_log();
            Ok(summary)
        });
    }
    // What changed since it was read first.
    if let Err(fault) = gateway.estate.reread() {
        tracing::error!(cause = %fault, remedy = fault.remedy, "the estate changed while the gateway started, and cannot be used");
    }
    let (files, metrics, gateway) = (gateway.fetcher.nodes.files().all(), Arc::clone(&gateway.observed.metrics), Arc::clone(gateway));
    let reload = move || {
        let facts = gateway.fetcher.nodes.reload(unix_now())?;
        metrics.expires("client", facts.not_after);
        Ok(described(&facts))
    };
    // The first time only tells when it expires, and whether nodes will take it.
    if let Err(fault) = reload() {
        let fault: concordat_operate::Fault = fault;
        tracing::error!(cause = %fault, remedy = fault.remedy, "no node will take this gateway's certificate");
    }
    reloads.add("client certificate", files, reload);
    reloads
}

/// What keeps the gateway from answering.
struct Readiness(Arc<Gateway>);

impl Subject for Readiness {
    fn reasons(&self) -> BoxFuture<'_, Vec<Reason>> {
        Box::pin(async {
            // A log that failed is tried again here, so that a gateway whose disk has room again becomes ready without a call.
            if self.0.log.is_failing() && self.0.log.append(Entry::new("log.tried")).await.is_err() {
                return vec![Reason {
                    what: "log",
                    cause: "the access log cannot be written, so every call is refused".into(),
                    remedy: "make room on its disk, or repair it".into(),
                }];
            }
            // One issuer that is away is its callers' matter; without any key nobody can call.
            if self.0.issuers.state().iter().all(|issuer| issuer.keys == 0) {
                return vec![Reason {
                    what: "issuers",
                    cause: "no issuer of tokens has a key that may be used, so every call is refused".into(),
                    remedy: "make an issuer reachable, or correct [[issuer]]: `concordat-gateway check` says which".into(),
                }];
            }
            Vec::new()
        })
    }

    fn alarms(&self) -> BoxFuture<'_, Vec<Reason>> {
        let gateway = Arc::clone(&self.0);
        let asked = tokio::task::spawn_blocking(move || {
            let (missing, witnesses) = (gateway.witnessed.missing(), &gateway.witnesses);
            let reasons = missing.into_iter().chain(witnesses.behind()).chain(witnesses.forgotten());
            reasons.chain(reading::trouble(&gateway.index)).collect::<Vec<Reason>>()
        });
        Box::pin(async move {
            asked.await.unwrap_or_else(|e| {
                tracing::error!(cause = %e, "whether something needs attention cannot be told");
                Vec::new()
            })
        })
    }

    fn departments(&self) -> BoxFuture<'_, Vec<Reachability>> {
        Box::pin(async {
            let departments: Vec<Name> = self.0.estate.now().departments.iter().map(|department| department.id.clone()).collect();
            let asked = departments.into_iter().map(async |department| {
                let described = self.0.fetcher.nodes.describe_now(&department).await;
                Reachability {
                    department: department.to_string(),
                    reachable: described.is_ok(),
                    cause: described.err().map(|refusal| refusal.operator.unwrap_or(refusal.message)).unwrap_or_default(),
                }
            });
            join_all(asked).await
        })
    }
}
