//! `concordat-gateway`: the gateway alone, for those who deploy only it.

use clap::Parser;

#[derive(Parser)]
#[command(name = "concordat-gateway", version, about = "Joins departments' data under their agreements, and proves what happened")]
struct Args {
    #[command(subcommand)]
    command: concordat_gateway::command::Command,
}

#[tokio::main]
async fn main() -> miette::Result<()> {
    concordat_gateway::command::run(Args::parse().command).await
}
