//! What the gateway counts of its own work, beside what is counted of every call: queries by outcome, releases by department.
//! No caller, statement or number of people is in it.

use std::sync::Arc;
use std::time::Duration;

use concordat_operate::metrics::{Count, Durations, Metrics};
use concordat_policy::Refusal;

/// Counters. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) metrics: Arc<Metrics>,
    queries: Count,
    bytes: Count,
    seconds: Durations,
}

impl Observed {
    pub(crate) fn new() -> Self {
        let metrics = Metrics::new("concordat-gateway", env!("CARGO_PKG_VERSION"));
        Self {
            queries: metrics.counter("queries", "Queries by outcome: answered, or the code of their refusal"),
            bytes: metrics.counter("release_bytes", "Bytes of releases that came, by department"),
            seconds: metrics.durations("release_seconds", "From a ticket to its receipt, by department"),
            metrics,
        }
    }

    /// A query came to its end.
    pub(crate) fn query<T>(&self, outcome: &Result<T, Refusal>) {
        self.queries.add(&[("outcome", outcome.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "answered"))], 1);
    }

    /// One partition of a release came to its receipt.
    pub(crate) fn release(&self, department: &str, bytes: u64, took: Duration) {
        self.bytes.add(&[("department", department)], bytes);
        self.seconds.add(&[("department", department)], took);
    }
}
