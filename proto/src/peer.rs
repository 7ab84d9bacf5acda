//! Who is behind a TLS connection: the fingerprint of its client certificate.

use concordat_policy::agreement::Fingerprint;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

/// SHA-256 of the DER certificate that the client authenticated with; `None` without mutual TLS.
pub fn certificate<T>(request: &tonic::Request<T>) -> Option<Fingerprint> {
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>()?;
    connection.peer_certs()?.first().map(|der| Fingerprint::of(der.as_ref()))
}
