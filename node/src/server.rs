//! The listener: mutual TLS always, limits on everything a peer can make grow, and a drain that ends.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use concordat_proto::v1::consent_ledger_server::ConsentLedgerServer;
use concordat_proto::v1::linkage_keys_server::LinkageKeysServer;
use concordat_proto::v1::node_server::NodeServer;
use concordat_proto::{MAX_BATCH_MESSAGE, MAX_CONTROL_MESSAGE};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::config::Tls;
use crate::flight::Flight;
use crate::node::Node;
use crate::private;
use crate::services::Control;

/// How long open streams may go on after the node was asked to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest a call may take to begin its answer.
const CALL: Duration = Duration::from_secs(120);

/// Why the node cannot serve. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS or the transport.
    #[error("the listener: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The socket, or the file that tells its address.
    #[error("the listener's address: {0}")]
    Address(#[from] std::io::Error),
}

/// Serves until `stop` is ready, then drains. Once it accepts calls, `<state>/address` holds the bound address and a newline.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(node: Arc<Node>, listen: SocketAddr, tls: &Tls, state: &Path, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let identity = Identity::from_pem(tls.certificate.as_bytes(), tls.key.as_bytes());
    // A client without a certificate of this CA does not get as far as a handler; with one, the handler asks whose it is.
    let tls = ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(tls.ca.as_bytes())).timeout(HANDSHAKE);
    let control = Control(Arc::clone(&node));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<NodeServer<Control>>().await;
    health.set_serving::<FlightServiceServer<Flight>>().await;
    let flight =
        FlightServiceServer::new(Flight(node)).max_decoding_message_size(MAX_CONTROL_MESSAGE).max_encoding_message_size(MAX_BATCH_MESSAGE);
    let router = Server::builder()
        .tls_config(tls)?
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
        .add_service(health_service)
        .add_service(flight)
        .add_service(
            NodeServer::new(control.clone()).max_decoding_message_size(MAX_CONTROL_MESSAGE).max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            LinkageKeysServer::new(control.clone())
                .max_decoding_message_size(MAX_CONTROL_MESSAGE)
                .max_encoding_message_size(MAX_CONTROL_MESSAGE),
        )
        .add_service(
            ConsentLedgerServer::new(control).max_decoding_message_size(MAX_CONTROL_MESSAGE).max_encoding_message_size(MAX_CONTROL_MESSAGE),
        );
    let incoming = TcpIncoming::bind(listen)?.with_nodelay(Some(true));
    let address = incoming.local_addr()?;
    private::replace(&state.join("address"), format!("{address}\n").as_bytes())?;
    tracing::info!(address = %address, "serving");
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = router.serve_with_incoming_shutdown(incoming, async {
        let _ = stopped.await;
    });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = stop => {}
    }
    tracing::info!("draining");
    let _ = stopping.send(());
    match tokio::time::timeout(DRAIN, serving).await {
        Ok(ended) => Ok(ended?),
        Err(_) => {
            tracing::warn!("streams were still open when the drain ended");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
