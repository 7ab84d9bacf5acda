//! The operations endpoint: plain HTTP/1.1 for this machine's own monitoring.
//!
//! | path | 200 | 503 |
//! |---|---|---|
//! | `/livez` | the process answers | |
//! | `/readyz` | it can do its work | why not, as JSON; also while it drains |
//! | `/readyz/alarms` | nothing needs attention | something does, though calls are answered; as JSON |
//! | `/readyz/departments` | every department's node answers | some do not; both list all, as JSON |
//! | `/readyz/departments/<id>` | this one answers | it does not |
//! | `/metrics` | Prometheus text | |

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::readiness::{Readiness, Reason, Subject};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is asked.
struct Asked {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
}

/// A bound endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint(TcpListener);

impl Endpoint {
    pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until `ended`, also while the server drains.
    pub(crate) fn serve(self, subject: Arc<dyn Subject>, metrics: Arc<Metrics>, draining: CancellationToken, ended: CancellationToken) {
        let asked = Arc::new(Asked { readiness: Readiness::new(subject), metrics, draining });
        let routes = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/readyz/alarms", get(alarms))
            .route("/readyz/departments", get(departments))
            .route("/readyz/departments/{id}", get(department))
            .route("/metrics", get(metrics_text))
            .with_state(asked);
        tokio::spawn(async move {
            let serving = axum::serve(self.0, routes).into_future();
            tokio::select! {
                _ = serving => {}
                () = ended.cancelled() => {}
            }
        });
    }
}

async fn readyz(State(asked): State<Arc<Asked>>) -> Response {
    if asked.draining.is_cancelled() {
        let reason = Reason { what: "drain", cause: "the server was asked to stop".into(), remedy: "send calls elsewhere".into() };
        return answer(false, &json!({ "ready": false, "reasons": [reason] }));
    }
    let reasons = asked.readiness.reasons().await;
    answer(reasons.is_empty(), &json!({ "ready": reasons.is_empty(), "reasons": reasons }))
}

async fn alarms(State(asked): State<Arc<Asked>>) -> Response {
    let alarms = asked.readiness.alarms().await;
    answer(alarms.is_empty(), &json!({ "alarms": alarms }))
}

async fn departments(State(asked): State<Arc<Asked>>) -> Response {
    let all = asked.readiness.departments().await;
    answer(all.iter().all(|d| d.reachable), &json!({ "departments": all }))
}

async fn department(State(asked): State<Arc<Asked>>, Path(id): Path<String>) -> Response {
    let all = asked.readiness.departments().await;
    match all.iter().find(|d| d.department == id) {
        Some(found) => answer(found.reachable, &json!(found)),
        None => (StatusCode::NOT_FOUND, "no such department is in the estate\n").into_response(),
    }
}

async fn metrics_text(State(asked): State<Arc<Asked>>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], asked.metrics.text()).into_response()
}

fn answer(good: bool, body: &Value) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}
