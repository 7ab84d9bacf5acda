//! Accepts connections, finishes their TLS handshakes side by side, and hands them to tonic.
//!
//! ```text
//! accept ─▶ gate (limits) ─▶ handshake, a task each, 10 s ─▶ tonic
//! ```
//! Handlers find the peer's address and certificate where tonic's own TLS listener would put them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Sender};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

pub use crate::gate::Limits;
use crate::gate::{Gate, Place};
use crate::metrics::Metrics;
pub use crate::socket::Socket;
use crate::tls::ServerTls;

/// What a server takes unless it says otherwise.
pub const LIMITS: Limits = Limits { connections: 2048, of_one_source: 512, handshakes: 256 };
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait when the system has no more sockets.
const PAUSE: Duration = Duration::from_millis(100);
/// Finished handshakes that wait for tonic.
const AHEAD: usize = 16;

/// A connection whose handshake is done.
pub type Connection = TlsStream<Socket>;

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
    cut: CancellationToken,
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
        Ok(Self { tcp, shared: Arc::new(Shared { tls, gate: Gate::new(limits), metrics, cut }) })
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
            Ok((stream, peer)) => match shared.gate.admit(peer.ip()) {
                Some(place) => drop(tokio::spawn(Arc::clone(&shared).handshake(stream, peer, place, sender.clone()))),
                None => shared.metrics.refused("limit"),
            },
            Err(e) => {
                // Out of file handles or memory: connections that end give some back.
                tracing::warn!(cause = %e, "no connection can be accepted at the moment");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Shared {
    async fn handshake(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: Place, sender: Sender<Connection>) {
        let _ = stream.set_nodelay(true);
        let evicted = place.evicted.clone();
        let socket = Socket::new(stream, peer, self.cut.clone(), place, self.metrics.connection());
        let shaken = TlsAcceptor::from(self.tls.config()).accept(socket);
        let refused = tokio::select! {
            () = sender.closed() => return,
            () = evicted.cancelled() => "crowded_out",
            shaken = tokio::time::timeout(HANDSHAKE, shaken) => match shaken {
                Err(_) => "timeout",
                Ok(Err(_)) => "handshake",
                Ok(Ok(connection)) if connection.get_ref().0.place.finished() => {
                    // Nobody waits any more when the server stops.
                    let _ = sender.send(connection).await;
                    return;
                }
                Ok(Ok(_)) => "crowded_out",
            },
        };
        self.metrics.refused(refused);
    }
}
