//! `concordat-node`: a department's node, alone.

use clap::Parser;
use concordat_node::command::{Command, run};
use tracing_subscriber::EnvFilter;

/// A department's node: its data leaves under its own agreements only, pseudonymised, consented and logged.
#[derive(Parser)]
#[command(name = "concordat-node", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[tokio::main]
async fn main() -> miette::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    run(arguments.command).await
}
