//! How the processes are operated: readiness, metrics, drain, crowds of silent connections. Below: certificates, traces and
//! logs, `check`.

mod certificates;
mod checks;
mod telemetry;
pub mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use concordat::failure::Failure;
use concordat::federation::Layout;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use self::watch::{append, endpoint, get, signal, stderr, until};
use crate::sandbox::Sandbox;

const BOTH: &str =
    "SELECT a.region, avg(c.months_claiming) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region";

const OPERATIONS: &str = "\n[operations]\nlisten = \"127.0.0.1:0\"\n";

fn watched(layout: &Layout, drain_seconds: u64) {
    append(&layout.gateway().join("gateway.toml"), &format!("{OPERATIONS}drain_seconds = {drain_seconds}\n"));
    append(&layout.node("dwp").join("node.toml"), OPERATIONS);
}

#[tokio::test]
async fn readiness_tells_which_department_is_gone_and_metrics_count_without_naming_anybody() {
    let mut sandbox = Sandbox::with(500, |_| {}, |layout| watched(layout, 10)).await;
    let (gateway, dwp) = (endpoint(&sandbox.layout.gateway()), endpoint(&sandbox.layout.node("dwp")));
    for at in [&gateway, &dwp] {
        assert_eq!(get(at, "/livez").await, (200, "ok\n".into()));
        let (status, body) = get(at, "/readyz").await;
        assert_eq!((status, body.contains("\"ready\":true")), (200, true), "{body}");
    }
    let (status, body) = get(&gateway, "/readyz/departments").await;
    assert_eq!(status, 200, "{body}");
    sandbox.query(BOTH).await.unwrap();

    let metrics = get(&gateway, "/metrics").await.1;
    well_formed(&metrics);
    for line in ["concordat_queries_total{outcome=\"answered\"} 1", "concordat_log_failures{log=\"access\"} 0"] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    let bytes = metrics.lines().find_map(|l| l.strip_prefix("concordat_release_bytes_total{department=\"dfe\"} "));
    assert!(bytes.is_some_and(|n| n.parse::<u64>().unwrap() > 0), "{metrics}");
    assert!(metrics.contains("call=\"arrow.flight.protocol.FlightService/DoGet\",code=\"OK\""), "{metrics}");
    let of_node = get(&dwp, "/metrics").await.1;
    well_formed(&of_node);
    assert!(of_node.contains("concordat_releases_total{outcome=\"started\"} 1"), "{of_node}");
    for secret in ["analyst-1", "mission-unit", "SELECT", "attainment", "months_claiming", "opportunity"] {
        assert!(!metrics.contains(secret) && !of_node.contains(secret), "{secret}");
    }

    sandbox.running.kill("dwp");
    until("the gateway tells that dwp is gone", async || get(&gateway, "/readyz/departments/dwp").await.0 == 503).await;
    let (status, body) = get(&gateway, "/readyz/departments").await;
    let said: serde_json::Value = serde_json::from_str(&body).unwrap();
    for department in said["departments"].as_array().unwrap() {
        assert_eq!(department["reachable"] == true, department["department"] != "dwp", "{body}");
        assert_eq!(department["cause"] == "", department["reachable"] == true, "{body}");
    }
    assert_eq!(status, 503);
    assert_eq!(get(&gateway, "/readyz/departments/dfe").await.0, 200);
    assert_eq!(get(&gateway, "/readyz/departments/nobody").await.0, 404);
    assert_eq!(get(&gateway, "/readyz").await.0, 200, "other departments are still served");
}

#[tokio::test]
async fn a_gateway_whose_log_cannot_be_written_is_alive_and_not_ready() {
    let full = |layout: &Layout| {
        watched(layout, 10);
        std::fs::create_dir_all(layout.gateway().join("log")).unwrap();
        std::os::unix::fs::symlink("/dev/full", layout.gateway().join("log/tail")).unwrap();
    };
    let sandbox = Sandbox::with(100, |_| {}, full).await;
    let gateway = endpoint(&sandbox.layout.gateway());
    assert_eq!(get(&gateway, "/livez").await.0, 200);
    let (status, body) = get(&gateway, "/readyz").await;
    assert_eq!(status, 503);
    let said: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&said["ready"], &said["reasons"][0]["what"]), (&false.into(), &"log".into()), "{body}");
    assert!(said["reasons"][0]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{body}");
    let metrics = get(&gateway, "/metrics").await.1;
    assert!(!metrics.contains("concordat_log_failures{log=\"access\"} 0"), "{metrics}");
}

/// A query that hangs at the gateway because a node does not answer, and the node's process.
async fn hanging(sandbox: &Sandbox) -> (tokio::task::JoinHandle<Result<concordat::client::Answer, Failure>>, u32) {
    sandbox.query(BOTH).await.unwrap();
    let node = sandbox.running.process_id("dwp").unwrap();
    signal(node, "STOP");
    let client = sandbox.client().await;
    let answers = || sandbox.log("gateway").iter().filter(|e| e["event"] == "query.opened" && e["intent"] == "answer").count();
    let before = answers();
    let query = tokio::spawn(async move { client.query(BOTH).await });
    until("the query runs", async || answers() > before).await;
    (query, node)
}

#[tokio::test]
async fn a_running_query_survives_a_drain_that_takes_nothing_new() {
    let sandbox = Sandbox::with(300, |_| {}, |layout| watched(layout, 60)).await;
    let gateway = endpoint(&sandbox.layout.gateway());
    let address = sandbox.running.gateway().trim_start_matches("https://").to_owned();
    let (query, node) = hanging(&sandbox).await;
    signal(sandbox.running.process_id("gateway").unwrap(), "TERM");
    until("the gateway is not ready any more", async || get(&gateway, "/readyz").await.0 == 503).await;
    assert!(get(&gateway, "/readyz").await.1.contains("\"what\":\"drain\""));
    until("no new connection is taken", async || TcpStream::connect(&address).await.is_err()).await;
    assert!(!query.is_finished());
    signal(node, "CONT");
    query.await.unwrap().unwrap();
    until("the gateway has ended", async || stderr(&sandbox.layout.gateway()).contains("drained")).await;
    assert!(!stderr(&sandbox.layout.gateway()).contains("are cut"));
}

#[tokio::test]
async fn a_query_that_outlasts_the_drain_is_cut_and_said_to_be() {
    let sandbox = Sandbox::with(300, |_| {}, |layout| watched(layout, 1)).await;
    let (query, node) = hanging(&sandbox).await;
    let since = Instant::now();
    signal(sandbox.running.process_id("gateway").unwrap(), "TERM");
    assert!(query.await.unwrap().is_err());
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}: the node's silence was waited for", since.elapsed());
    signal(node, "CONT");
    let said = stderr(&sandbox.layout.gateway());
    assert!(said.contains("calls were still running when the drain ended, and are cut calls=1"), "{said}");
}

#[tokio::test]
async fn children_that_are_let_go_of_drain_and_end() {
    let sandbox = Sandbox::start(300).await;
    sandbox.query(BOTH).await.unwrap();
    let Sandbox { running, layout, .. } = &sandbox;
    let (gateway, layout) = (running.process_id("gateway").unwrap(), layout.clone());
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("stderr");
    std::fs::hard_link(layout.gateway().join("stderr.log"), &kept).unwrap();
    let since = Instant::now();
    drop(sandbox);
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    let said = std::fs::read_to_string(kept).unwrap();
    assert!(said.contains("draining") && said.contains("drained"), "{said}");
    assert!(!Command::new("kill").args(["-0", &gateway.to_string()]).stderr(std::process::Stdio::null()).status().unwrap().success());
}

#[tokio::test]
async fn hundreds_of_silent_connections_keep_nobody_out() {
    let sandbox = Sandbox::with(300, |_| {}, |layout| watched(layout, 10)).await;
    let gateway = endpoint(&sandbox.layout.gateway());
    let doors: Vec<String> = std::iter::once(sandbox.running.gateway().trim_start_matches("https://").to_owned())
        .chain(sandbox.running.nodes().filter(|(id, _)| *id == "dwp").map(|(_, address)| address.to_owned()))
        .collect();
    let mut silent = Vec::new();
    for door in &doors {
        for _ in 0..600 {
            silent.push(TcpStream::connect(door).await.unwrap());
        }
    }
    let since = Instant::now();
    sandbox.query(BOTH).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let metrics = get(&gateway, "/metrics").await.1;
    assert!(metrics.contains("concordat_connections_refused_total{reason=\"crowded_out\"}"), "{metrics}");
    drop(silent);
}

#[tokio::test]
async fn thousands_of_connections_that_say_nothing_after_their_handshake_keep_nobody_out() {
    let sandbox = Sandbox::with(300, |_| {}, |layout| watched(layout, 10)).await;
    let endpoint = endpoint(&sandbox.layout.gateway());
    let connection = sandbox.connection();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(connection.ca.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let gateway: SocketAddr = connection.gateway.trim_start_matches("https://").parse().unwrap();
    let name = ServerName::try_from(connection.server_name).unwrap();
    let shaken = async |source: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, source), 0).into()).unwrap();
        let stream = socket.connect(gateway).await.unwrap();
        connector.connect(name.clone(), stream).await.unwrap()
    };
    // Proven by its call, so that it outlasts the crowd.
    let client = sandbox.client().await;
    client.query(BOTH).await.unwrap();
    let mut silent = Vec::new();
    for source in 2..=5 {
        for _ in 0..520 {
            silent.push(shaken(source).await);
        }
    }
    // A source with nothing but silent connections takes new ones, too.
    silent.push(shaken(2).await);
    for client in [sandbox.client().await, client] {
        let since = Instant::now();
        client.query(BOTH).await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
    let metrics = get(&endpoint, "/metrics").await.1;
    assert!(metrics.contains("concordat_connections_refused_total{reason=\"crowded_out\"}"), "{metrics}");
    assert!(!metrics.contains("concordat_connections_refused_total{reason=\"limit\"}"), "{metrics}");
    let unproven = "concordat_connections_refused_total{reason=\"unproven\"}";
    until("silent connections are ended", async || get(&endpoint, "/metrics").await.1.contains(unproven)).await;
    drop(silent);
}

/// Every line is a comment or `name{label="value",…} number`.
fn well_formed(metrics: &str) {
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    for line in metrics.lines().filter(|l| !l.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with("concordat_") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
    }
}
