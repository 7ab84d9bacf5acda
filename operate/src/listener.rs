//! Accepts connections, finishes their TLS handshakes side by side, and hands them to tonic.
//!
//! ```text
//! accept ─▶ gate (limits) ─▶ handshake, a task each, 10 s ─▶ tonic
//!                                └─ a proof within 20 s, or the connection ends
//! ```
//! A client certificate of an authority that is trusted proves a connection at once; without one, a service has to say so
//! ([`prove`]), when it knows who calls.
//!
//! Handlers find the peer's address and certificate where tonic's own TLS listener would put them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Sender};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use crate::gate::Limits;
use crate::gate::{Gate, Place};
use crate::metrics::Metrics;
pub use crate::socket::{Connection, Peer, Socket, prove};
use crate::tls::ServerTls;

/// What a server takes unless it says otherwise.
pub const LIMITS: Limits = Limits { connections: 2048, of_one_source: 512 };
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may take to prove itself, with its handshake.
const PROOF: Duration = Duration::from_secs(20);
/// How long to wait when the system has no more sockets.
const PAUSE: Duration = Duration::from_millis(100);
/// Finished handshakes that wait for tonic.
const AHEAD: usize = 16;

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tls: Arc<ServerTls>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Binds `address`; port 0 takes any free one. Connections end when `cut` is cancelled.
    ///
    /// # Errors
    /// The system's.
    pub async fn bind(
        address: SocketAddr,
        tls: Arc<ServerTls>,
        limits: Limits,
        metrics: Arc<Metrics>,
        cut: CancellationToken,
    ) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let gate = Gate::new(limits, Arc::clone(&metrics), cut);
        Ok(Self { tcp, shared: Arc::new(Shared { tls, gate, metrics }) })
    }

    /// The bound address.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The connections. Dropping the stream closes the socket.
    pub fn connections(self) -> impl Stream<Item = Result<Connection, Infallible>> {
        let (sender, mut ready) = mpsc::channel(AHEAD);
        tokio::spawn(accept(self.tcp, self.shared, sender));
        futures::stream::poll_fn(move |cx| ready.poll_recv(cx).map(|connection| connection.map(Ok)))
    }
}

async fn accept(tcp: TcpListener, shared: Arc<Shared>, sender: Sender<Connection>) {
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = tcp.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(place) = shared.gate.admit(peer.ip()) {
                    drop(tokio::spawn(Arc::clone(&shared).attend(stream, peer, place, sender.clone())));
                }
            }
            Err(e) => {
                // Out of file handles or memory: connections that end give some back.
                tracing::warn!(cause = %e, "no connection can be accepted at the moment");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Shared {
    /// Hands a connection to tonic, and ends it when it proves nothing in time.
    async fn attend(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: Place, sender: Sender<Connection>) {
        let until = Instant::now() + PROOF;
        let (proof, ended) = (place.proof.clone(), place.ended.clone());
        let Some(connection) = self.handshake(stream, peer, place, &sender).await else { return };
        if connection.is_certified() {
            proof.prove();
        }
        // Nobody waits any more when the server stops.
        let _ = sender.send(connection).await;
        drop(sender);
        tokio::select! {
            () = ended.cancelled() => {}
            () = tokio::time::sleep_until(until) => proof.expire(),
        }
    }

    async fn handshake(&self, stream: TcpStream, peer: SocketAddr, place: Place, sender: &Sender<Connection>) -> Option<Connection> {
        let _ = stream.set_nodelay(true);
        let ended = place.ended.clone();
        let socket = Socket::new(stream, peer, place, self.metrics.connection());
        let shaken = TlsAcceptor::from(self.tls.config()).accept(socket);
        let refused = tokio::select! {
            () = sender.closed() => return None,
            // The gate has counted it.
            () = ended.cancelled() => return None,
            shaken = tokio::time::timeout(HANDSHAKE, shaken) => match shaken {
                Err(_) => "timeout",
                Ok(Err(_)) => "handshake",
                Ok(Ok(stream)) => return Some(Connection::new(stream)),
            },
        };
        self.metrics.refused(refused);
        None
    }
}
