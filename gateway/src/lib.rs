//! The centre's program: it authenticates callers, enforces consent and purpose, joins the departments' sorted pseudonymous
//! streams, protects what comes out and records every access before a byte leaves.
//!
//! Read `pipeline.rs` first. Invariants
//! - It never sees an identifier and never holds a key of a linkage domain.
//! - A result is complete and receipted, or it is a refusal that names the department and the cause.
//! - Whoever withdrew at another department, where the agreement says that it reaches this one, is in no row of what is joined.
//! - Nothing is released under an agreement while the log has entries that a quorum of witnesses has not seen for longer than it allows.
//! - Every number that reaches a caller passed `Protect`, or the agreement permits the use `output`.

mod at_least;
mod auditors;
pub mod authenticate;
pub mod command;
pub mod config;
mod deliver;
mod delivery;
mod denominators;
mod detached;
pub mod estate;
mod execute;
mod explain;
mod fetch;
mod flight;
mod guard;
mod introduce;
mod issuers;
pub mod limits;
mod noise;
mod observe;
mod pipeline;
pub mod plan;
mod planned;
mod reading;
mod receipts;
mod record;
mod replace;
mod server;
mod service;
mod tend;
mod terms;
mod witness;
mod witnessed;
mod workers;

use std::sync::Arc;

use auditors::Auditors;
use concordat_audit::index::Index;
use concordat_audit::{Log, LogError};
use concordat_operate::reading::index;
use concordat_policy::Refusal;
use concordat_protect::noise::Secret;
use config::Config;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use detached::Detached;
use fetch::{Courier, Fetcher, Ledgers, Lists, Nodes, Relay};
use issuers::Issuers;
use limits::Limits;
use miette::{IntoDiagnostic as _, miette};
use observe::Observed;
use plan::Engine;
use planned::Planned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use witness::{LOG, Witnesses};
use witnessed::{Quorum, Witnessed};
use workers::Workers;

/// Everything that answering needs.
struct Gateway {
    limits: Limits,
    detached: Detached,
    planned: Planned,
    workers: Workers,
    estate: estate::Current,
    issuers: Issuers,
    fetcher: Fetcher,
    courier: Courier,
    log: Log,
    index: Index,
    witnesses: Witnesses,
    /// Since when a quorum of witnesses has seen the log.
    witnessed: Witnessed,
    auditors: Auditors,
    /// Entries of the log that are not closed yet.
    entries: TaskTracker,
    /// Ready when the drain has ended: what still runs is to stop, and to say so.
    ending: CancellationToken,
    observed: Observed,
    /// Into how many ranges releases are split.
    partitions: u32,
    /// From which noise is derived.
    noise: Secret,
}

impl Gateway {
    fn new(config: Config) -> miette::Result<Self> {
        let estate = estate::Current::open(&config.estate, &config.state, config.guard)?;
        let issuers = Issuers::load(&config.issuers)?;
        issuers.watch();
        let unopened = |e: LogError| miette!(help = e.remedy(), "{}", e.with_cause());
        let log = Log::open_remembered(&config.log, LOG, &config.state).map_err(unopened)?;
        let index = index(&log).map_err(unopened)?;
        let quorum = Quorum::of(config.quorum, &estate.now(), config.witnesses.len()).map_err(|e| {
            miette!(help = "correct quorum in [witnesses], or leave it out: then a majority of the departments is needed", "{e}")
        })?;
        let witnessed = Witnessed::open(&log, &config.log, &config.state, quorum).map_err(|e| {
            miette!(
                help = "repair or remove it: without it nothing counts as seen by witnesses until they see the log again",
                "{}: {e}",
                config.state.join(witnessed::FILE).display()
            )
        })?;
        let auditors = Auditors::of(config.auditors, estate.now().departments.iter().map(|department| &department.id));
        let auditors = auditors.map_err(|cause| miette!(help = auditors::REMEDY, "{cause}"))?;
        let ledgers = Ledgers::open(&config.state, Some(log.clone())).map_err(|e| {
            miette!(
                help = "repair it from a copy: without it, restored backups of the departments' consent ledgers go unnoticed",
                "{}: {e}",
                config.state.join("ledgers.json").display()
            )
        })?;
        let nodes = Nodes::new(&estate.now().departments, config.client_tls, ledgers)?;
        let cores = std::thread::available_parallelism().map_or(2, |n| u32::try_from(n.get()).unwrap_or(2));
        let observed = Observed::new();
        let witnesses = Witnesses::open(&config.state, config.witnesses, &observed.metrics).map_err(|e| {
            miette!(
                help = "restore the folder from a copy: begun anew, this witness would cosign other histories",
                "{}: {e}",
                witness::folder(&config.state).display()
            )
        })?;
        let unread = |e: std::io::Error| miette!("{}: {e}", witness::folder(&config.state).display());
        log.take_up_cosignatures(&witnesses.verifiers().map_err(unread)?).map_err(unopened)?;
        witnesses.distrust_again(&nodes).map_err(unread)?;
        let most_rows = config.limits.release_rows;
        let fetcher = Fetcher {
            nodes,
            relay: Relay::default(),
            lists: Lists::new(config.limits.reach_mib << 20),
            owed: Arc::clone(&witnesses.owed),
            order_key: config.order_key,
            most_rows,
            most_reached: config.limits.reach_subjects,
            observed: observed.clone(),
        };
        let limits = Limits::open(config.limits, &config.state).map_err(|e| {
            miette!(
                help = "repair or remove rows.json: without it the rows used today count anew",
                "{}: {e}",
                config.state.join("rows.json").display()
            )
        })?;
        let partitions = cores.clamp(2, 16);
        let noise = noise::secret(&config.state).map_err(|e| {
            miette!(
                help = "repair it from a copy: another one gives other noise, and the same question twice then tells more than once",
                "{}: {e}",
                config.state.join(noise::FILE).display()
            )
        })?;
        Ok(Self {
            detached: Detached::new(config.limits.detached),
            limits,
            planned: Planned::default(),
            workers: Workers::new(partitions as usize).into_diagnostic()?,
            estate,
            issuers,
            fetcher,
            courier: Courier::new(&config.state),
            log,
            index,
            witnesses,
            witnessed,
            auditors,
            entries: TaskTracker::new(),
            ending: CancellationToken::new(),
            observed,
            partitions,
            noise,
        })
    }

    /// With what a statement is planned that has so much memory.
    fn engine(&self, memory: Arc<dyn MemoryPool>) -> Result<Engine, Refusal> {
        Ok(Engine { partitions: self.partitions, runtime: runtime(memory)?, noise: self.noise.clone() })
    }
}

/// Memory of one query's execution. Nothing is spilled: pseudonymous rows do not touch the disk.
fn runtime(memory: Arc<dyn MemoryPool>) -> Result<Arc<RuntimeEnv>, Refusal> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(memory)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()
        .map_err(Refusal::internal)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    #[test]
    fn nothing_is_spilled() {
        let runtime = super::runtime(Arc::new(UnboundedMemoryPool::default())).unwrap();
        assert!(!runtime.disk_manager.tmp_files_enabled());
        assert!(runtime.disk_manager.create_tmp_file("a test").is_err());
    }
}
