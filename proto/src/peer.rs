//! Who is behind a TLS connection: the fingerprint of its client certificate, and the address that it comes from.

use std::net::IpAddr;

use concordat_policy::agreement::Fingerprint;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

/// The other end of a connection, as far as the connection itself tells: never what a request says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    /// SHA-256 of the DER certificate that the client authenticated with; `None` without mutual TLS.
    pub certificate: Option<Fingerprint>,
    /// The connection's address, without its port.
    pub address: Option<IpAddr>,
}

impl Peer {
    /// The peer that sent a request.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        Self { certificate: certificate(request), address: request.remote_addr().map(|address| address.ip().to_canonical()) }
    }
}

impl From<&Peer> for Peer {
    fn from(peer: &Peer) -> Self {
        peer.clone()
    }
}

/// Of whom only the certificate is known.
impl From<Option<Fingerprint>> for Peer {
    fn from(certificate: Option<Fingerprint>) -> Self {
        Self { certificate, address: None }
    }
}

impl From<Option<&Fingerprint>> for Peer {
    fn from(certificate: Option<&Fingerprint>) -> Self {
        certificate.cloned().into()
    }
}

/// The fingerprint alone, as [`Peer::certificate`].
pub fn certificate<T>(request: &tonic::Request<T>) -> Option<Fingerprint> {
    let connection = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>()?;
    connection.peer_certs()?.first().map(|der| Fingerprint::of(der.as_ref()))
}
