//! One accepted connection, beneath TLS and with it: it gives its place back when it goes, and ends when it has to make room
//! or everything is cut. Requests carry where it proves itself.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Extensions;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use crate::gate::{Place, Proof};
use crate::metrics::Running;

/// The socket.
pub struct Socket {
    tcp: TcpStream,
    peer: SocketAddr,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
    _counted: Running,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream, peer: SocketAddr, place: Place, counted: Running) -> Self {
        Self { tcp, peer, ended: Box::pin(place.ended.clone().cancelled_owned()), place, _counted: counted }
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}

impl Connected for Socket {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: self.tcp.local_addr().ok(), remote_addr: Some(self.peer) }
    }
}

fn was_ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server ended the connection")
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Polled on every read, so that a reader that waits is woken by the end.
        if self.place.ended.is_cancelled() || self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(was_ended()));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.place.ended.is_cancelled() {
            return Poll::Ready(Err(was_ended()));
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.place.ended.is_cancelled() {
            return Poll::Ready(Err(was_ended()));
        }
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Connection(TlsStream<Socket>);

impl Connection {
    pub(crate) fn new(stream: TlsStream<Socket>) -> Self {
        Self(stream)
    }

    /// Whether the client showed a certificate. The handshake fails on one that is not trusted.
    pub(crate) fn is_certified(&self) -> bool {
        self.0.get_ref().1.peer_certificates().is_some()
    }
}

/// What requests know of their connection.
#[derive(Debug, Clone)]
pub struct Peer {
    tls: TlsConnectInfo<TcpConnectInfo>,
    proof: Proof,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { tls: self.0.connect_info(), proof: self.0.get_ref().0.place.proof.clone() }
    }
}

/// Puts the peer's address and certificate where tonic looks for them.
pub(crate) fn introduce(extensions: &mut Extensions) {
    if let Some(tls) = extensions.get::<Peer>().map(|peer| peer.tls.clone()) {
        extensions.insert(tls);
    }
}

/// The caller of the request with these extensions is known: its connection keeps its place, however many others want one.
pub fn prove(extensions: &Extensions) {
    if let Some(peer) = extensions.get::<Peer>() {
        peer.proof.prove();
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
