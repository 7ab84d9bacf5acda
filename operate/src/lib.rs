//! What it takes to operate a server of this project: both programs are run the same way, and neither may import the other.
//!
//! ```text
//! settings ─▶ telemetry ─▶ listener (TLS that reloads, admission) ─▶ calls (span, count) ─▶ the program's own services
//!                 └ reloads: files, SIGHUP      └ drain: stop accepting ─▶ let calls end ─▶ cut
//! reading: a log's entries, handed out over the network; who may read them and what is hidden, the program says
//! endpoint: /livez · /readyz · …/alarms · …/departments · /metrics    check: ok | warn | FAIL, each with cause and remedy
//! ```
//!
//! Invariants
//! - No label, span field or answer of the operations endpoint holds a subject, a statement, an identifier or a row count.
//! - What a stranger can make grow is bounded: connections, handshakes, sources, series of metrics, spans that wait.
//! - A certificate that cannot be used never replaces one that can.
//!
//! Deliberately absent: anything about departments' data or agreements. Nothing here decides who may do what.

pub mod calls;
pub mod certificate;
pub mod check;
pub mod core_dumps;
pub mod drain;
pub mod endpoint;
mod fault;
mod gate;
pub mod listener;
pub mod metrics;
pub mod priority;
pub mod readiness;
pub mod reading;
pub mod reload;
pub mod server;
pub mod settings;
mod socket;
pub mod telemetry;
pub mod tls;
pub mod trace;

pub use fault::Fault;
