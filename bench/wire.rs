//! What mutual TLS costs a stream: one service of the contract that sends messages of a MiB, through the nodes' own listener with the
//! gateway's client certificate, and the same over plain TCP, in one process, by turns. Server and client share the machine's processors, as
//! they do in the other benchmarks, and settings of HTTP/2 are those of nodes and gateway. Two streams at a time, as two partitions of a
//! release. Medians; fails where TLS carries less than half of what plain TCP does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shares the tests' sandbox")]

#[path = "../tests/end_to_end/sandbox.rs"]
mod sandbox;

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use concordat_operate::certificate::Files;
use concordat_operate::listener::{LIMITS, Listener};
use concordat_operate::metrics::Metrics;
use concordat_operate::tls::ServerTls;
use concordat_proto::v1;
use concordat_proto::v1::consent_reach_client::ConsentReachClient;
use concordat_proto::v1::consent_reach_server::{ConsentReach, ConsentReachServer};
use futures::{Stream, TryStreamExt as _};
use sandbox::Sandbox;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Router;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server};
use tonic::{Request, Response, Status};

/// Messages of one stream, and bytes of a message.
const MESSAGES: usize = 256;
const BYTES: usize = 1 << 20;
const STREAMS: usize = 2;
const TURNS: usize = 7;
/// The least part of plain TCP's that TLS may carry.
const BAR: f64 = 0.5;

struct Sends(Vec<u8>);

#[tonic::async_trait]
impl ConsentReach for Sends {
    type ChangesStream = Pin<Box<dyn Stream<Item = Result<v1::ReachChanges, Status>> + Send>>;

    async fn changes(&self, _: Request<v1::ReachRequest>) -> Result<Response<Self::ChangesStream>, Status> {
        let bytes = self.0.clone();
        let messages = (0..MESSAGES).map(move |_| Ok(v1::ReachChanges { added: bytes.clone(), ..Default::default() }));
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }
}

fn server() -> Router {
    Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .add_service(ConsentReachServer::new(Sends((0..BYTES).map(|i| (i * i / 7) as u8).collect())))
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint::from_shared(address.to_owned())
        .unwrap()
        .tcp_nodelay(true)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(1 << 30)
}

/// How long both streams take.
async fn read(channel: &Channel) -> Duration {
    let since = Instant::now();
    let streams = (0..STREAMS).map(|_| async {
        let mut client = ConsentReachClient::new(channel.clone()).max_decoding_message_size(2 * BYTES);
        let stream = client.changes(v1::ReachRequest::default()).await.unwrap().into_inner();
        stream.try_fold(0, |sum, message| async move { Ok(sum + message.added.len()) }).await.unwrap()
    });
    let read: usize = futures::future::join_all(streams).await.into_iter().sum();
    assert_eq!(read, STREAMS * MESSAGES * BYTES);
    since.elapsed()
}

async fn over_tls(node: &Path, gateway: &Path) -> Channel {
    let [node, gateway] = [node, gateway].map(|folder| folder.join("tls"));
    let files = Files { certificate: node.join("node.pem"), key: node.join("node.key.pem"), ca: Some(node.join("ca.pem")) };
    let (tls, metrics) = (Arc::new(ServerTls::load(files).unwrap()), Metrics::new("bench", "0"));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(any, tls, LIMITS, metrics, Default::default()).await.unwrap();
    let address = listener.address().unwrap();
    tokio::spawn(server().serve_with_incoming(listener.connections()));
    let read = |name: &str| std::fs::read_to_string(gateway.join(name)).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")))
        .identity(Identity::from_pem(read("client.pem"), read("client.key.pem")))
        .domain_name("dwp.node.concordat.internal");
    endpoint(&format!("https://{address}")).tls_config(tls).unwrap().connect().await.unwrap()
}

async fn plain() -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server().serve_with_incoming(TcpListenerStream::new(listener)));
    endpoint(&format!("http://{address}")).connect().await.unwrap()
}

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    // For its certificates.
    let mut sandbox = Sandbox::start(200).await;
    for program in ["gateway", "dwp", "dfe", "dhsc", "dbt", "dsit"] {
        sandbox.running.kill(program);
    }
    let channels = [over_tls(&sandbox.layout.node("dwp"), &sandbox.layout.gateway()).await, plain().await];
    let mut took = [Vec::new(), Vec::new()];
    for turn in 0..=TURNS {
        for (channel, took) in channels.iter().zip(&mut took) {
            let one = read(channel).await;
            // The first turn warms up.
            if turn > 0 {
                took.push(one);
            }
        }
    }
    let mib = ((STREAMS * MESSAGES * BYTES) >> 20) as f64;
    let [tls, plain] = took.map(|mut took| {
        took.sort_unstable();
        mib / took[took.len() / 2].as_secs_f64()
    });
    println!("mutual TLS carries {tls:.0} MiB a second, plain TCP {plain:.0}: {:.0} %", 100.0 * tls / plain);
    assert!(tls >= BAR * plain, "mutual TLS carries {:.0} % of what plain TCP does", 100.0 * tls / plain);
}
