//! Logs to standard error, as text or JSON lines, and traces to a collector.
//!
//! The collector is never waited for: spans lie in a queue of 2,048, and what does not fit is dropped. Events (log lines) are
//! not sent to it, only spans of this project's own crates: their fields are names of calls and departments.

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::settings::{Logs, Telemetry as Settings};

/// How long one delivery to the collector may take.
const DELIVERY: Duration = Duration::from_secs(5);
/// How long the last spans may take when the program ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Logs and traces, set up. [`Telemetry::end`] sends what still waits.
#[derive(Debug)]
#[must_use]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets up logs and traces for this process. `RUST_LOG` chooses what is logged; `level` where it is silent. Within a runtime.
///
/// A collector that cannot be used is reported as a log line: it keeps no service from starting.
pub fn start(program: &'static str, instance: &str, level: &str, settings: &Settings) -> Telemetry {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.logs {
        Logs::Text => Box::new(lines.with_ansi(std::io::stderr().is_terminal())),
        Logs::Json => Box::new(lines.json().flatten_event(true).with_span_list(false)),
    };
    let (provider, failure) = match settings.otlp.as_deref().map(|endpoint| provider(program, instance, endpoint)) {
        None => (None, None),
        Some(Ok(provider)) => (Some(provider), None),
        Some(Err(e)) => (None, Some(e)),
    };
    let own = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("concordat"));
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("concordat"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(own.with_max_level_hint(LevelFilter::INFO))
    });
    // Set already where several servers share a process, as in tests: the first one's stay.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).try_init();
    if let Some(cause) = failure {
        tracing::error!(cause, "no traces are sent: telemetry.otlp cannot be used");
    }
    Telemetry { provider }
}

fn provider(program: &'static str, instance: &str, endpoint: &str) -> Result<SdkTracerProvider, String> {
    let exporter =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(DELIVERY).build().map_err(|e| e.to_string())?;
    let resource = Resource::builder_empty()
        .with_service_name(program)
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl Telemetry {
    /// Sends the spans that still wait, for two seconds at most.
    pub async fn end(self) {
        if let Some(provider) = self.provider {
            let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FAREWELL));
            let _ = tokio::time::timeout(FAREWELL * 2, ended).await;
        }
    }
}
