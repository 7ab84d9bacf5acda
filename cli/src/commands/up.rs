//! `concordat up`: runs a federation's folder until Ctrl-C.

use std::path::PathBuf;

use clap::Args;

use super::{DEFAULT_FOLDER, executable, folder_argument, program};
use crate::failure::Result;
use crate::federation::Layout;
use crate::launch::{Running, interrupted};
use crate::out;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat up                 (the demonstration, as it was left)
  concordat up my-federation   (what `concordat init` made)

Starts each node and the gateway as processes of their own, from the configurations in the folder, and stops them on Ctrl-C.
A node that holds no agreement runs and releases nothing. Diagnostics: stderr.log beside each configuration.")]
pub(crate) struct Up {
    /// The federation's folder
    #[arg(default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
}

pub(crate) async fn run(up: Up) -> Result<()> {
    let running = start(&Layout::new(&up.folder)).await?;
    out::progress(&format!("in another terminal: {} departments{}", program(), folder_argument(&up.folder)));
    until_interrupted(running).await
}

/// Starts everything and says where it listens.
pub(crate) async fn start(layout: &Layout) -> Result<Running> {
    let started = std::time::Instant::now();
    let running = Running::start(&executable()?, layout).await?;
    let nodes: Vec<String> = running.nodes().map(|(department, address)| format!("{department} {address}")).collect();
    out::progress(&format!("nodes: {}", nodes.join(", ")));
    out::progress(&format!("gateway: {} (all up after {:.1} s)", running.gateway(), started.elapsed().as_secs_f32()));
    Ok(running)
}

/// Runs until Ctrl-C, or until a child ends by itself, which is a failure.
pub(crate) async fn until_interrupted(mut running: Running) -> Result<()> {
    out::progress("Ctrl-C stops everything.");
    let ended = tokio::select! {
        () = interrupted() => Ok(()),
        failure = running.watch() => Err(failure),
    };
    drop(running);
    out::progress("\nstopped");
    ended
}
