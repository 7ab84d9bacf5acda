//! The gateway's commands, for its own binary and for the `concordat` CLI.

mod acknowledge_log;
mod check;

use std::path::PathBuf;

use clap::Subcommand;
use concordat_operate::drain::Stop;
use concordat_operate::settings::Telemetry;
use concordat_operate::telemetry;

use crate::config::Config;
use crate::server;

/// What this program calls itself towards monitoring.
pub(crate) const PROGRAM: &str = "concordat-gateway";

/// What the gateway can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve callers until told to stop; SIGHUP reloads certificates, the estate and guard rails, as a change of their files does.
    Serve {
        /// The configuration.
        #[arg(long, default_value = "gateway.toml")]
        config: PathBuf,
    },
    /// Accept that a department's access log begins anew: after its people restored a backup for good, or lost its key.
    #[command(
        after_help = "Example:\n  concordat-gateway acknowledge-log --department dfe --config gateway.toml --yes\n\nShows what is known of the department's log; with --yes, the next checkpoint that its node shows is taken as the first, under\nwhatever key, and its witness's key too. What was known stays in state/witness, as evidence. A running gateway honours it at once."
    )]
    AcknowledgeLog(acknowledge_log::AcknowledgeLogArgs),
    /// Check configuration, certificates, estate, issuers, guard rails and every department's node: one line per item.
    Check {
        /// The configuration.
        #[arg(long, default_value = "gateway.toml")]
        config: PathBuf,
    },
}

/// Runs a command. `Serve` drains on SIGTERM and Ctrl-C.
///
/// # Errors
/// A report with file, line, cause and remedy.
pub async fn run(command: Command) -> miette::Result<()> {
    run_until(command, Stop::on_signals()).await
}

/// Runs a command. `Serve` drains when `stop` is ready.
///
/// # Errors
/// As [`run`].
pub async fn run_until(command: Command, stop: Stop) -> miette::Result<()> {
    match command {
        Command::Serve { config } => server::serve(Config::load(&config)?, stop).await,
        Command::AcknowledgeLog(args) => acknowledge_log::run(&args),
        Command::Check { config } => {
            telemetry::start(PROGRAM, "check", "warn", &Telemetry::default()).end().await;
            Ok(check::check(&config).await.end()?)
        }
    }
}
