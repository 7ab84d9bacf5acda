//! `concordat-gateway`: the gateway alone, for those who deploy only it.

use clap::Parser;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "concordat-gateway", version, about = "Joins departments' data under their agreements, and proves what happened")]
struct Args {
    #[command(subcommand)]
    command: concordat_gateway::command::Command,
}

#[tokio::main]
async fn main() -> miette::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    concordat_gateway::command::run(Args::parse().command).await
}
