//! `concordat-node`: a department's node, alone.

use clap::Parser;
use concordat_node::command::{Command, run};

/// A department's node: its data leaves under its own agreements only, pseudonymised, consented and logged.
#[derive(Parser)]
#[command(name = "concordat-node", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[tokio::main]
async fn main() -> miette::Result<()> {
    run(Arguments::parse().command).await
}
