//! The gateway's commands, for its own binary and for the `concordat` CLI.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::Config;
use crate::estate::Estate;
use crate::issuers::Issuers;
use crate::server;

/// What the gateway can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve callers until told to stop.
    Serve {
        /// The configuration.
        #[arg(long, default_value = "gateway.toml")]
        config: PathBuf,
    },
    /// Read the configuration and the whole estate, and say what is wrong with them.
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
    match command {
        Command::Serve { config } => server::serve(Config::load(&config)?, asked_to_stop()).await,
        Command::Check { config } => {
            let config = Config::load(&config)?;
            let estate = Estate::load(&config.estate)?;
            let issuers = Issuers::load(&config.issuers)?;
            issuers.refresh().await;
            for state in issuers.state() {
                match state.fault {
                    None => tracing::info!(issuer = state.issuer, keys = state.keys, age = ?state.age, "issuer's keys are there"),
                    Some(cause) => tracing::warn!(issuer = state.issuer, keys = state.keys, cause, "issuer's keys cannot be fetched"),
                }
            }
            tracing::info!(
                departments = estate.departments.len(),
                agreements = estate.agreements.len(),
                views = estate.views.len(),
                "configuration and estate are sound"
            );
            Ok(())
        }
    }
}

async fn asked_to_stop() {
    let interrupted = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        },
        Err(_) => drop(interrupted.await),
    }
}
