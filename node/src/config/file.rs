//! `node.toml` as it is written. [`super::Config`] is what it means.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use concordat_operate::settings::{Operations, Telemetry};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Classification, ColumnType, Name};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) department: Name,
    pub(super) listen: SocketAddr,
    pub(super) state: PathBuf,
    pub(super) log: PathBuf,
    pub(super) spill: PathBuf,
    pub(super) purposes: PathBuf,
    pub(super) agreements: PathBuf,
    #[serde(default = "default_memory")]
    pub(super) release_memory_mib: usize,
    #[serde(default = "default_snapshots")]
    pub(super) snapshot_disk_mib: u64,
    pub(super) snapshot_reserve_mib: Option<u64>,
    #[serde(default = "default_releases")]
    pub(super) max_releases: usize,
    pub(super) tls: TlsFile,
    pub(super) keys: KeysFile,
    pub(super) gateway: GatewayFile,
    pub(super) guard: Option<concordat_guard::Settings>,
    #[serde(default)]
    pub(super) operations: Operations,
    #[serde(default)]
    pub(super) telemetry: Telemetry,
    #[serde(default)]
    pub(super) administrators: AdministratorsFile,
    #[serde(default)]
    pub(super) auditors: AuditorsFile,
    #[serde(default)]
    pub(super) consent: ConsentFile,
    #[serde(default)]
    pub(super) connection: Vec<ConnectionFile>,
    #[serde(default)]
    pub(super) dataset: Vec<DatasetFile>,
}

fn default_memory() -> usize {
    320
}

fn default_snapshots() -> u64 {
    8192
}

fn default_releases() -> usize {
    8
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsFile {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysFile {
    pub(super) signing: PathBuf,
    pub(super) linkage: PathBuf,
    #[serde(default)]
    pub(super) at_rest: Option<AtRestFile>,
}

/// Under what linkage keys are encrypted on disk: one of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AtRestFile {
    #[serde(default)]
    pub(super) passphrase_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) command: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GatewayFile {
    /// Fingerprints. Two during a renewal: the old one stays until the gateway shows the new one everywhere.
    pub(super) certificates: Vec<Fingerprint>,
    pub(super) order_key: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdministratorsFile {
    #[serde(default)]
    pub(super) certificates: Vec<Fingerprint>,
}

/// Who may read the node's log and nothing else.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditorsFile {
    #[serde(default)]
    pub(super) certificates: Vec<Fingerprint>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsentFile {
    #[serde(default)]
    pub(super) import: Option<PathBuf>,
    #[serde(default)]
    pub(super) skip_invalid: bool,
    /// What stands in consent receipts.
    #[serde(default)]
    pub(super) receipts: crate::consent::receipt::Notice,
}

/// How a source is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated, with a header row.
    Csv,
}

/// A database, and how to reach it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionFile {
    pub(super) name: Name,
    /// `postgresql://role@host:port/database`, `postgresql://role@/database?host=/folder/of/the/socket`,
    /// `mysql://user@host:port/database`, `mysql://user@/database?socket=/path/of/the/socket`, `sqlite:file`,
    /// `s3://access-key@host:port/bucket?region=…`, `odbc:Driver={…};Server=…;UID=…`.
    pub(super) url: String,
    #[serde(default)]
    pub(super) password_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) tls: Option<ConnectionTlsFile>,
    /// Do without TLS, to this machine only.
    #[serde(default)]
    pub(super) plaintext: bool,
    /// By ODBC: the department says that the driver protects the connection, or reads a file.
    #[serde(default)]
    pub(super) protected_by_driver: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionTlsFile {
    pub(super) ca: PathBuf,
    #[serde(default)]
    pub(super) certificate: Option<PathBuf>,
    #[serde(default)]
    pub(super) key: Option<PathBuf>,
}

/// Its rows are in `source` and `format`, in a `connection` and its `table` or `query`, or in a store's `connection`, `source` and `format`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatasetFile {
    pub(super) name: Name,
    pub(super) title: String,
    #[serde(default)]
    pub(super) source: Option<PathBuf>,
    #[serde(default)]
    pub(super) format: Option<Format>,
    #[serde(default)]
    pub(super) connection: Option<Name>,
    #[serde(default)]
    pub(super) table: Option<String>,
    #[serde(default)]
    pub(super) query: Option<String>,
    #[serde(default)]
    pub(super) snapshot_minutes: Option<u32>,
    #[serde(default)]
    pub(super) changes: Option<ChangesFile>,
    pub(super) identifier: IdentifierFile,
    /// The second identifier of a link dataset.
    #[serde(default)]
    pub(super) linked: Option<IdentifierFile>,
    #[serde(default)]
    pub(super) columns: BTreeMap<String, ColumnFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesFile {
    pub(super) key: String,
    pub(super) column: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentifierFile {
    pub(super) column: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) pattern: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnFile {
    #[serde(rename = "type")]
    pub(super) kind: ColumnType,
    pub(super) classification: Classification,
    #[serde(default)]
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) values: Option<Vec<String>>,
    #[serde(default)]
    pub(super) source: Option<String>,
}
