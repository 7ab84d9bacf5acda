//! The listener: TLS, limits, services, drain.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use concordat_proto::v1::gateway_server::GatewayServer;
use concordat_proto::{MAX_BATCH_MESSAGE, MAX_CONTROL_MESSAGE};
use miette::{IntoDiagnostic as _, WrapErr as _, miette};
use tokio::net::TcpListener;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::Gateway;
use crate::config::Config;
use crate::flight::Door;
use crate::service::Service;

/// The least time that a request may take to become complete and be answered.
const UNFINISHED: Duration = Duration::from_secs(60);

/// Serves until `shutdown`, then lets running calls end. Writes the bound address to `<state>/address`.
pub(crate) async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> miette::Result<()> {
    core_dumps_off()?;
    let (listen, state) = (config.listen, config.state.clone());
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&config.server_certificate, &config.server_key));
    let longest = config.limits.deadline() + config.limits.wait() + Duration::from_secs(30);
    let gateway = Arc::new(Gateway::new(config)?);
    let tending = gateway.tend();
    let listener =
        TcpListener::bind(listen).await.map_err(|e| miette!(help = "choose a free port, or 0", "cannot listen on {listen}: {e}"))?;
    let address = listener.local_addr().into_diagnostic()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<GatewayServer<Service>>().await;
    let flight = FlightServiceServer::new(Door::new(gateway.clone()).map_err(|e| miette!("{e}"))?)
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_BATCH_MESSAGE);
    let own = GatewayServer::new(Service { gateway: gateway.clone() })
        .max_decoding_message_size(MAX_CONTROL_MESSAGE)
        .max_encoding_message_size(MAX_CONTROL_MESSAGE);
    let server = Server::builder()
        .tls_config(tls)
        .into_diagnostic()
        .wrap_err("tls.certificate and tls.key do not fit")?
        .tcp_nodelay(true)
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
        .add_service(health_service)
        .add_service(flight)
        .add_service(own);
    publish(&state, &address.to_string())?;
    tracing::info!(address = %address, "gateway serves");
    let served = server.serve_with_incoming_shutdown(tokio_stream::wrappers::TcpListenerStream::new(listener), shutdown).await;
    drop(tending);
    gateway.drain().await;
    served.into_diagnostic()
}

/// Writes the address where starters look for it, whole or not at all.
fn publish(state: &Path, address: &str) -> miette::Result<()> {
    let write = || {
        std::fs::create_dir_all(state)?;
        let partial = state.join("address.partial");
        std::fs::write(&partial, format!("{address}\n"))?;
        std::fs::rename(partial, state.join("address"))
    };
    write().map_err(|e| miette!(help = "check that this user may write there", "{}: {e}", state.display()))
}

/// Pseudonymous rows are in memory while they are joined; a core dump would put them on disk.
fn core_dumps_off() -> miette::Result<()> {
    rlimit::setrlimit(rlimit::Resource::CORE, 0, 0).map_err(|e| miette!("core dumps cannot be switched off: {e}"))
}
