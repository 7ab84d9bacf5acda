//! A relay between the gateway and one department's node that can hold, slow down, lose and cut what passes. It sees bytes of
//! TLS, so a place inside a query is a number of bytes that the node has sent since the query began.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::sandbox::Sandbox;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Pass,
    /// So many bytes of the node's may pass; then they wait.
    Hold(usize),
    /// Bytes per second of the node's.
    Slow(usize),
    /// What the node sends comes later, piece by piece.
    Far(Duration),
    /// Nothing passes in either direction, and nobody is told.
    Lost,
    /// Every connection is reset, new ones at once.
    Cut,
}

struct State {
    mode: Mode,
    passed: usize,
    /// Whether something of the node's waits.
    waits: bool,
    /// How often everything was cut: connections of before are gone.
    cuts: usize,
}

pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<()>>,
}

impl Proxy {
    /// Puts a proxy before `department`'s node, and has the gateway call it there.
    pub async fn before(sandbox: &mut Sandbox, department: &str) -> Self {
        let node = sandbox.running.nodes().find(|(id, _)| *id == department).unwrap().1.to_owned();
        let proxy = Self::to(node.parse().unwrap()).await;
        let path = sandbox.layout.estate().join("departments.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&node));
        std::fs::write(&path, text.replace(&node, &proxy.address.to_string())).unwrap();
        sandbox.running.restart_gateway().await.unwrap();
        proxy
    }

    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self {
            address,
            state: Arc::new(Mutex::new(State { mode: Mode::Pass, passed: 0, waits: false, cuts: 0 })),
            changed: Arc::new(watch::Sender::new(())),
        };
        let (state, changed) = (proxy.state.clone(), proxy.changed.clone());
        tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                let cuts = state.lock().unwrap().cuts;
                tokio::spawn(Link { state: state.clone(), changed: changed.clone(), cuts }.relay(gateway, target));
            }
        });
        proxy
    }

    fn set(&self, mode: Mode) {
        let mut state = self.state.lock().unwrap();
        (state.mode, state.waits) = (mode, false);
        state.cuts += usize::from(mode == Mode::Cut);
        drop(state);
        self.changed.send_replace(());
    }

    /// Bytes of the node's that have passed since this was asked last.
    pub fn passed(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().passed)
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.set(Mode::Pass);
    }

    /// Holds what the node sends after `bytes` more.
    pub fn hold_after(&self, bytes: usize) {
        self.set(Mode::Hold(bytes));
    }

    /// Waits until something is held.
    pub async fn held(&self) {
        let mut changed = self.changed.subscribe();
        let reached = async {
            while !self.state.lock().unwrap().waits {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the query did not come so far");
    }

    pub fn slow(&self, bytes_per_second: usize) {
        self.set(Mode::Slow(bytes_per_second));
    }

    pub fn far(&self, pause: Duration) {
        self.set(Mode::Far(pause));
    }

    pub fn lose(&self) {
        self.set(Mode::Lost);
    }

    pub fn cut(&self) {
        self.set(Mode::Cut);
    }
}

#[derive(Clone)]
struct Link {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<()>>,
    cuts: usize,
}

/// What may happen with bytes now.
enum May {
    Pass(usize, Duration),
    Wait,
    Cut,
}

impl Link {
    async fn relay(self, gateway: TcpStream, target: SocketAddr) {
        let mut changed = self.changed.subscribe();
        loop {
            match self.may(1, false) {
                May::Pass(..) => break,
                May::Cut => return drop(gateway.set_zero_linger()),
                May::Wait => changed.changed().await.unwrap(),
            }
        }
        let Ok(node) = TcpStream::connect(target).await else { return drop(gateway.set_zero_linger()) };
        let _ = (gateway.set_nodelay(true), node.set_nodelay(true));
        let ((from_gateway, to_gateway), (from_node, to_node)) = (gateway.into_split(), node.into_split());
        let up = tokio::spawn(self.clone().pump(from_gateway, to_node, false));
        let link = self.clone();
        let (_from_node, mut to_gateway) = self.pump(from_node, to_gateway, true).await;
        if link.is_cut() {
            let _ = to_gateway.as_ref().set_zero_linger();
        } else {
            let _ = to_gateway.shutdown().await;
        }
        // Both halves of a socket must go before it is closed.
        up.abort();
    }

    /// Passes bytes on until one side ends or everything is cut. `down`: they are the node's.
    async fn pump(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, down: bool) -> (OwnedReadHalf, OwnedWriteHalf) {
        let (mut changed, mut buffer) = (self.changed.subscribe(), vec![0; 16 << 10]);
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read.unwrap_or(0),
                _ = changed.changed() => if self.is_cut() { break } else { continue },
            };
            let mut rest = &buffer[..read];
            let mode = self.state.lock().unwrap().mode;
            if let (Mode::Far(pause), true) = (mode, down) {
                tokio::time::sleep(pause).await;
            }
            while !rest.is_empty() {
                changed.mark_unchanged();
                match self.may(rest.len(), down) {
                    May::Pass(bytes, pause) => {
                        if to.write_all(&rest[..bytes]).await.is_err() {
                            return (from, to);
                        }
                        rest = &rest[bytes..];
                        tokio::time::sleep(pause).await;
                    }
                    May::Wait => changed.changed().await.unwrap(),
                    May::Cut => return (from, to),
                }
            }
            if read == 0 {
                // The end of a connection is lost like anything else.
                while matches!(self.may(0, down), May::Wait) {
                    changed.changed().await.unwrap();
                }
                break;
            }
        }
        (from, to)
    }

    fn may(&self, bytes: usize, down: bool) -> May {
        let mut state = self.state.lock().unwrap();
        if state.cuts != self.cuts {
            return May::Cut;
        }
        let (now, pause) = match state.mode {
            Mode::Lost => return May::Wait,
            Mode::Cut => return May::Cut,
            Mode::Hold(0) if down => {
                let first = !std::mem::replace(&mut state.waits, true);
                drop(state);
                if first {
                    self.changed.send_replace(());
                }
                return May::Wait;
            }
            Mode::Hold(left) if down => {
                let now = bytes.min(left);
                state.mode = Mode::Hold(left - now);
                (now, Duration::ZERO)
            }
            Mode::Slow(rate) if down => {
                let now = bytes.min(rate.div_ceil(20));
                (now, Duration::from_secs_f64(now as f64 / rate as f64))
            }
            _ => (bytes, Duration::ZERO),
        };
        if down {
            state.passed += now;
        }
        May::Pass(now, pause)
    }

    fn is_cut(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.mode == Mode::Cut || state.cuts != self.cuts
    }
}
