//! One trace from the client through the gateway to the nodes, received by a real collector; logs as JSON lines.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::BOTH;
use super::watch::{append, stderr, until};
use crate::sandbox::{Sandbox, program};

/// Every span that came, with its service's name.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            let service = spans.resource.unwrap_or_default().attributes.into_iter().find(|a| a.key == "service.name");
            let service = match service.and_then(|a| a.value?.value) {
                Some(Any::StringValue(service)) => service,
                _ => String::new(),
            };
            let all = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(all.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, address)
    }

    /// The names of a service's spans in one trace.
    fn names(&self, service: &str, trace: &[u8]) -> BTreeSet<String> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(of, span)| of == service && span.trace_id == trace).map(|(_, span)| span.name.clone()).collect()
    }
}

#[tokio::test]
async fn one_trace_leads_from_the_client_through_the_gateway_to_the_nodes() {
    let (collector, address) = Collector::start().await;
    let lines = format!("\n[telemetry]\notlp = \"{address}\"\n");
    let sandbox = Sandbox::with(
        300,
        |_| {},
        |layout| {
            append(&layout.gateway().join("gateway.toml"), &lines);
            for department in ["dfe", "dwp"] {
                append(&layout.node(department).join("node.toml"), &lines);
            }
        },
    )
    .await;
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let asked = Command::new(program())
        .args(["query", "--sql", BOTH, "--folder"])
        .arg(sandbox.layout.folder())
        .env("TRACEPARENT", format!("00-{trace}-{parent}-01"))
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let id: Vec<u8> = (0..trace.len()).step_by(2).map(|i| u8::from_str_radix(&trace[i..i + 2], 16).unwrap()).collect();
    let has = |service: &str, names: &[&str]| {
        let found = collector.names(service, &id);
        names.iter().all(|name| found.contains(*name))
    };
    let flight = "arrow.flight.protocol.FlightService/DoGet";
    until("the spans of gateway and nodes arrive under the client's trace", async || {
        has("concordat-gateway", &[flight, "authenticate", "open", "authorize", "plan", "execute", "close"])
            && has("concordat-node", &[flight, "release", "verify", "scan"])
    })
    .await;
    let all = collector.0.lock().unwrap();
    assert!(
        all.iter().any(|(_, span)| span.parent_span_id == [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]),
        "the client's span is a parent"
    );
    let nodes: BTreeSet<_> =
        all.iter().filter(|(service, span)| service == "concordat-node" && span.trace_id == id).map(|(_, s)| &s.parent_span_id).collect();
    assert!(nodes.iter().all(|parent| !parent.is_empty()), "no node begins a trace of its own");
    let told = format!("{all:?}");
    for secret in ["SELECT", "months_claiming", "analyst-1", "Bearer", "eyJ"] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_delays_nothing() {
    let sandbox = Sandbox::with(
        300,
        |_| {},
        |layout| append(&layout.gateway().join("gateway.toml"), "\n[telemetry]\notlp = \"http://127.0.0.1:9\"\n"),
    )
    .await;
    for _ in 0..3 {
        let since = std::time::Instant::now();
        sandbox.query(BOTH).await.unwrap();
        assert!(since.elapsed() < std::time::Duration::from_secs(4), "{:?}", since.elapsed());
    }
}

#[tokio::test]
async fn json_logs_parse_line_by_line_and_name_the_query() {
    let lines = "\n[telemetry]\nlogs = \"json\"\n";
    let sandbox = Sandbox::with(
        300,
        |_| {},
        |layout| {
            append(&layout.gateway().join("gateway.toml"), lines);
            append(&layout.node("dwp").join("node.toml"), lines);
        },
    )
    .await;
    let answer = sandbox.query(BOTH).await.unwrap();
    let refused = sandbox.query("SELECT nothing FROM nowhere").await.unwrap_err();
    assert!(refused.code.is_some());
    for folder in [sandbox.layout.gateway(), sandbox.layout.node("dwp")] {
        let text = stderr(&folder);
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
        assert!(lines.iter().any(|line| line["query.id"] == answer.summary["query_id"]), "{text}");
        assert!(lines.iter().all(|line| line["level"].is_string() && line["message"].is_string()), "{text}");
        assert!(!text.contains("analyst-1") && !text.contains("SELECT"), "{text}");
    }
}
