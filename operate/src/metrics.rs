//! What is counted, and how it is written for Prometheus.
//!
//! Invariant: labels come from closed sets that this machine's own files and code name: calls, codes, departments, reasons.
//! Nothing that a caller sends becomes a label.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// Upper bounds of durations, in seconds.
const SECONDS: [f64; 10] = [0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0];

/// A family of counters.
#[derive(Debug, Clone)]
pub struct Count(Family<Labels, Counter>);

impl Count {
    /// Adds to the counter with these labels.
    pub fn add(&self, labels: &[(&'static str, &str)], count: u64) {
        self.0.get_or_create(&owned(labels)).inc_by(count);
    }
}

/// A family of numbers that go up and down.
#[derive(Debug, Clone)]
pub struct Level(Family<Labels, Gauge>);

impl Level {
    /// Sets the number with these labels.
    pub fn set(&self, labels: &[(&'static str, &str)], value: i64) {
        self.0.get_or_create(&owned(labels)).set(value);
    }
}

/// A family of durations.
#[derive(Debug, Clone)]
pub struct Durations(Family<Labels, Histogram, fn() -> Histogram>);

impl Durations {
    /// Adds a duration under these labels.
    pub fn add(&self, labels: &[(&'static str, &str)], duration: Duration) {
        self.0.get_or_create(&owned(labels)).observe(duration.as_secs_f64());
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// Something that is under way; counted until it is dropped.
#[derive(Debug)]
pub struct Running(Gauge);

impl Running {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

type Refresh = Box<dyn Fn() + Send>;

/// All metrics of a process.
pub struct Metrics {
    registry: Mutex<Registry>,
    refresh: Mutex<Vec<Refresh>>,
    calls: Count,
    latency: Durations,
    running: Gauge,
    connections: Gauge,
    refused: Count,
    expiry: Level,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// The metrics of a program of this version.
    #[must_use]
    pub fn new(program: &'static str, version: &'static str) -> Arc<Self> {
        let mut registry = Registry::with_prefix("concordat");
        registry.register("build", "The running program", Info::new(vec![("program", program), ("version", version)]));
        let (running, connections) = (Gauge::default(), Gauge::default());
        registry.register("calls_running", "Calls that are being answered", running.clone());
        registry.register("connections", "Open connections, with unfinished handshakes", connections.clone());
        let calls = count(&mut registry, "calls", "Calls answered, by call and code");
        let latency = durations(&mut registry, "call_seconds", "From a call's arrival to the last byte of its answer");
        let refused = count(&mut registry, "connections_refused", "Connections that were not taken, by reason");
        let expiry = level(&mut registry, "certificate_expiry_timestamp_seconds", "When each certificate expires, Unix time");
        let (registry, refresh) = (Mutex::new(registry), Mutex::default());
        Arc::new(Self { registry, refresh, calls, latency, running, connections, refused, expiry })
    }

    /// A new family of counters.
    #[must_use]
    pub fn counter(&self, name: &'static str, help: &'static str) -> Count {
        count(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner), name, help)
    }

    /// A new family of numbers.
    #[must_use]
    pub fn level(&self, name: &'static str, help: &'static str) -> Level {
        level(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner), name, help)
    }

    /// A new family of durations.
    #[must_use]
    pub fn durations(&self, name: &'static str, help: &'static str) -> Durations {
        durations(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner), name, help)
    }

    /// Runs `refresh` before metrics are read.
    pub fn before_reading(&self, refresh: impl Fn() + Send + 'static) {
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(refresh));
    }

    /// Everything as text (OpenMetrics 1.0).
    #[must_use]
    pub fn text(&self) -> String {
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|refresh| refresh());
        let mut text = String::new();
        match encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner)) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }

    /// A call was answered.
    pub(crate) fn call(&self, name: &str, code: &str, duration: Duration) {
        self.calls.add(&[("call", name), ("code", code)], 1);
        self.latency.add(&[("call", name)], duration);
    }

    /// Counts a call while it runs.
    pub(crate) fn running(&self) -> Running {
        Running::new(&self.running)
    }

    /// How many calls run.
    #[must_use]
    pub fn calls_running(&self) -> i64 {
        self.running.get()
    }

    /// Counts a connection while it is open.
    pub(crate) fn connection(&self) -> Running {
        Running::new(&self.connections)
    }

    /// A connection was not taken.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.add(&[("reason", reason)], 1);
    }

    /// When a certificate expires, Unix seconds.
    pub fn expires(&self, certificate: &'static str, at: i64) {
        self.expiry.set(&[("certificate", certificate)], at);
    }
}

fn count(registry: &mut Registry, name: &str, help: &str) -> Count {
    let family = Family::default();
    registry.register(name, help, family.clone());
    Count(family)
}

fn level(registry: &mut Registry, name: &str, help: &str) -> Level {
    let family = Family::default();
    registry.register(name, help, family.clone());
    Level(family)
}

fn durations(registry: &mut Registry, name: &str, help: &str) -> Durations {
    let family = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
    registry.register(name, help, family.clone());
    Durations(family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_holds_what_was_counted() {
        let metrics = Metrics::new("node", "1.2.3");
        metrics.call("Node/Describe", "OK", Duration::from_millis(7));
        metrics.expires("server", 1_900_000_000);
        let open = metrics.connection();
        let level = metrics.level("log_failures", "x");
        metrics.before_reading(move || level.set(&[("log", "access")], 3));
        let text = metrics.text();
        for line in [
            "concordat_build_info{program=\"node\",version=\"1.2.3\"} 1",
            "concordat_calls_total{call=\"Node/Describe\",code=\"OK\"} 1",
            "concordat_call_seconds_bucket{le=\"0.02\",call=\"Node/Describe\"} 1",
            "concordat_certificate_expiry_timestamp_seconds{certificate=\"server\"} 1900000000",
            "concordat_connections 1",
            "concordat_log_failures{log=\"access\"} 3",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        drop(open);
        assert!(metrics.text().contains("concordat_connections 0"));
    }
}
