//! HTTP/2 frames by hand over TLS, and what a process costs: for peers that no library would be.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::sandbox::Sandbox;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_HEADERS: u8 = 4;
const GO_AWAY: u8 = 7;

/// One connection.
pub struct Raw {
    writer: WriteHalf<TlsStream<TcpStream>>,
    /// Whether the gateway has said goodbye or closed.
    pub ended: Arc<AtomicBool>,
    /// Frames that came.
    pub frames: Arc<AtomicUsize>,
}

impl Raw {
    /// Connects, and reads what comes to its end; with `read` false, never.
    pub async fn connect(sandbox: &Sandbox, read: bool) -> io::Result<Self> {
        let connection = sandbox.connection();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(connection.ca.as_bytes()).unwrap()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = connection.gateway.trim_start_matches("https://").to_owned();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(connection.server_name).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (mut reader, mut writer) = split(stream);
        let (ended, frames) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        if read {
            let (ended, frames) = (ended.clone(), frames.clone());
            tokio::spawn(async move {
                let mut head = [0u8; 9];
                while reader.read_exact(&mut head).await.is_ok() {
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                    let mut body = vec![0; length];
                    if head[3] == GO_AWAY || reader.read_exact(&mut body).await.is_err() {
                        break;
                    }
                    frames.fetch_add(1, Ordering::SeqCst);
                }
                ended.store(true, Ordering::SeqCst);
                let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
            });
        } else {
            // Kept, so that the connection stays open.
            tokio::spawn(async move {
                let _reader = reader;
                std::future::pending::<()>().await;
            });
        }
        writer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        let mut raw = Self { writer, ended, frames };
        raw.send(&frame(SETTINGS, 0, 0, &[])).await?;
        Ok(raw)
    }

    /// Sends bytes; fails once the gateway has ended the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The headers of a call, and more of them, as literals without indexing (RFC 7541, 6.2.2).
pub fn headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "gateway"),
        (":path", path),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    let mut block = Vec::new();
    for (name, value) in own.iter().chain(more) {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn text(block: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 127 {
        block.push(u8::try_from(rest).unwrap());
    } else {
        block.push(127);
        rest -= 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend(text.as_bytes());
}

/// What the gateway costs.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub mib: u64,
    pub log_lines: usize,
    pub cpu_ticks: u64,
}

impl Cost {
    pub fn of(sandbox: &Sandbox) -> Self {
        let id = sandbox.running.process_id("gateway").unwrap();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the gateway is gone");
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("the gateway has ended");
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let after_name: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |n: usize| after_name[n].parse::<u64>().unwrap();
        Self { mib: kib / 1024, log_lines: sandbox.log("gateway").len(), cpu_ticks: ticks(11) + ticks(12) }
    }

    /// Asserts how much more the gateway costs now than before.
    #[track_caller]
    pub fn grew_by_at_most(self, sandbox: &Sandbox, mib: u64, lines: usize) {
        let now = Self::of(sandbox);
        eprintln!("memory {} → {} MiB, log {} → {} lines", self.mib, now.mib, self.log_lines, now.log_lines);
        assert!(now.mib <= self.mib + mib, "memory grew from {} to {} MiB", self.mib, now.mib);
        assert!(now.log_lines <= self.log_lines + lines, "the log grew from {} to {} lines", self.log_lines, now.log_lines);
    }
}
