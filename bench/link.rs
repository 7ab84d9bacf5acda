//! A line between the gateway and its nodes as wide and as long as it is said to be: what nodes send takes its turn on one line, as on the
//! gateway's own, and either direction's bytes arrive half a round trip after they were sent. TCP over it neither starts slowly nor loses
//! anything; what it has under way is bounded as by the largest window that Linux gives a connection by itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::sandbox::Sandbox;

/// What is read of a connection at once, and how many of that it has under way: 6 MiB.
const PIECE: usize = 64 << 10;
const UNDER_WAY: usize = 96;

#[derive(Clone)]
pub struct Link {
    /// Bytes a second, of all nodes together.
    rate: f64,
    delay: Duration,
    /// When what all nodes have sent so far will have left.
    free: Arc<Mutex<Instant>>,
}

impl Link {
    /// So many megabits a second, and milliseconds there and back: `1000,20`.
    pub fn of(text: &str) -> Self {
        let (megabits, milliseconds) = text.split_once(',').expect("megabits a second, milliseconds there and back: 1000,20");
        let [megabits, milliseconds]: [f64; 2] = [megabits, milliseconds].map(|number| number.trim().parse().unwrap());
        Self { rate: megabits * 1e6 / 8.0, delay: Duration::from_secs_f64(milliseconds / 2e3), free: Arc::new(Mutex::new(Instant::now())) }
    }

    /// How long so many bytes take on it, without anything of a query.
    pub fn takes(&self, bytes: u64) -> Duration {
        self.delay * 2 + Duration::from_secs_f64(bytes as f64 / self.rate)
    }

    /// Has the gateway reach every node over it.
    pub async fn before(&self, sandbox: &mut Sandbox) {
        let path = sandbox.layout.estate().join("departments.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (_, node) in sandbox.running.nodes() {
            let [there, here] = [node.to_owned(), self.to(node.parse().unwrap()).await.to_string()].map(|at| format!("\"https://{at}\""));
            assert!(text.contains(&there));
            text = text.replace(&there, &here);
        }
        std::fs::write(&path, text).unwrap();
        sandbox.running.restart_gateway().await.unwrap();
    }

    async fn to(&self, node: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let link = self.clone();
        tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                let Ok(node) = TcpStream::connect(node).await else { continue };
                let _ = (gateway.set_nodelay(true), node.set_nodelay(true));
                let ((from_gateway, to_gateway), (from_node, to_node)) = (gateway.into_split(), node.into_split());
                link.carry(from_gateway, to_node, false);
                link.carry(from_node, to_gateway, true);
            }
        });
        address
    }

    /// Carries what one side of a connection sends until it ends. `paced`: nodes send it.
    fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, paced: bool) {
        let (send, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
        let link = self.clone();
        tokio::spawn(async move {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                if from.read_buf(&mut piece).await.unwrap_or(0) == 0 {
                    break;
                }
                let left = if paced { link.leaves(piece.len()) } else { Instant::now() };
                if send.send((left + link.delay, piece)).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(async move {
            while let Some((arrives, piece)) = under_way.recv().await {
                sleep_until(arrives).await;
                if to.write_all(&piece).await.is_err() {
                    break;
                }
            }
            let _ = to.shutdown().await;
        });
    }

    /// When so many bytes, sent now, will have left.
    fn leaves(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap();
        *free = Instant::now().max(*free) + Duration::from_secs_f64(bytes as f64 / self.rate);
        *free
    }
}
