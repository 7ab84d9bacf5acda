//! The parts of `node.toml` and `gateway.toml` that are about operating: `[operations]` and `[telemetry]`.

use std::net::SocketAddr;

use serde::Deserialize;

/// How long running calls may go on after the server was asked to stop, in seconds, unless it says otherwise.
pub const DRAIN_SECONDS: u64 = 10;

/// `[operations]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    /// Where liveness, readiness and metrics are answered, in plain HTTP; port 0 takes any free one.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Whether other machines may ask.
    #[serde(default)]
    pub allow_remote: bool,
    /// How long running calls may go on after the server was asked to stop.
    #[serde(default)]
    pub drain_seconds: Option<u64>,
}

/// `[telemetry]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// How log lines are written.
    #[serde(default)]
    pub logs: Logs,
    /// The collector of traces: OTLP over gRPC, `http://host:port`.
    #[serde(default)]
    pub otlp: Option<String>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logs {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is wrong with a setting: its keys, the cause and the remedy.
pub type Wrong = (&'static [&'static str], &'static str, &'static str);

impl Operations {
    /// What is wrong with these settings.
    #[must_use]
    pub fn wrong(&self) -> Option<Wrong> {
        if self.listen.is_some_and(|listen| !listen.ip().is_loopback()) && !self.allow_remote {
            return Some((
                &["operations", "listen"],
                "other machines could read this server's state in plain HTTP",
                "listen on 127.0.0.1, or set allow_remote = true where the network is the monitoring's own",
            ));
        }
        if self.drain_seconds.is_some_and(|seconds| seconds > 3600) {
            return Some((&["operations", "drain_seconds"], "a drain of more than an hour is none", "use 10, the default"));
        }
        None
    }

    /// How long running calls may go on.
    #[must_use]
    pub fn drain(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.drain_seconds.unwrap_or(DRAIN_SECONDS))
    }
}

impl Telemetry {
    /// What is wrong with these settings.
    #[must_use]
    pub fn wrong(&self) -> Option<Wrong> {
        let plain = |url: &str| url.parse::<tonic::transport::Uri>().is_ok_and(|u| u.scheme_str() == Some("http") && u.host().is_some());
        self.otlp.as_deref().is_some_and(|url| !plain(url)).then_some((
            &["telemetry", "otlp"] as &[_],
            "the collector's address is not http://host:port",
            "name a collector on this machine, such as http://127.0.0.1:4317; it forwards over TLS",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_and_odd_addresses_are_refused() {
        let at = |listen: &str, allow_remote| Operations { listen: listen.parse().ok(), allow_remote, drain_seconds: None };
        assert!(at("127.0.0.1:9464", false).wrong().is_none());
        assert!(at("[::1]:0", false).wrong().is_none());
        assert!(at("0.0.0.0:9464", false).wrong().is_some());
        assert!(at("0.0.0.0:9464", true).wrong().is_none());
        let otlp = |url: &str| Telemetry { logs: Logs::Text, otlp: Some(url.to_owned()) };
        assert!(otlp("http://127.0.0.1:4317").wrong().is_none());
        for bad in ["", "127.0.0.1:4317", "https://x:1", "http://", "ftp://x"] {
            assert!(otlp(bad).wrong().is_some(), "{bad}");
        }
    }
}
