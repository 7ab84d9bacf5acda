//! The command line as a whole, and from a failure to an exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::commands::{adopt, consent, demo, departments, init, query, token, up, views};
use crate::failure::{Failure, LOCAL};
use crate::run;

#[derive(Parser)]
#[command(
    name = "concordat",
    version,
    about = "One joined, defensible answer across departments, while each keeps its own data, keys and veto",
    after_help = "\
Start here:
  concordat demo               five departments and a gateway on this machine, with generated people
  concordat query --help       ask in SQL
  concordat init --help        your own files, from an empty folder to a joined answer

Exit codes: 0 done · 1 something on this machine · 2 the command line · 3 the gateway cannot be reached · 10 unauthenticated
11 denied · 12 invalid · 13 disclosure · 14 replayed · 15 node unavailable · 16 node timeout · 17 node faulty
18 node refused · 19 limit exceeded · 20 log unavailable · 21 internal

Results go to standard output, everything else to standard error."
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the demonstration: five departments, a gateway, a joined answer
    Demo(demo::Demo),
    /// Ask one question: an outcome view or SQL
    Query(query::Query),
    /// List the views, datasets and columns that you may use
    Views(views::Views),
    /// Show whether each department answers
    Departments(departments::Departments),
    /// Make a federation of your own files
    Init(init::Init),
    /// Put an edited agreement or view where the programs look for it
    Adopt(adopt::Adopt),
    /// Run a federation's folder
    Up(up::Up),
    /// Print a bearer token of the trial's identity provider
    Token(token::Token),
    /// Record people's consent, withdrawals and objections
    #[command(subcommand)]
    Consent(consent::Consent),
    /// The department's program
    #[command(subcommand, hide = true)]
    Node(concordat_node::command::Command),
    /// The centre's program
    #[command(subcommand, hide = true)]
    Gateway(concordat_gateway::command::Command),
}

/// Runs the program: arguments in, exit code out.
#[must_use]
pub fn main() -> ExitCode {
    let line = Line::parse();
    diagnostics(&line.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&miette::Report::new(Failure::new(format!("the program cannot start: {e}")))),
    };
    let done = runtime.block_on(dispatch(line.command));
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => failed(&report),
    }
}

async fn dispatch(command: Command) -> miette::Result<()> {
    let done = match command {
        Command::Demo(command) => demo::run(command).await,
        Command::Query(command) => query::run(command).await,
        Command::Views(command) => views::run(command).await,
        Command::Departments(command) => departments::run(command).await,
        Command::Init(command) => init::run(command),
        Command::Adopt(command) => adopt::run(command),
        Command::Up(command) => up::run(command).await,
        Command::Token(command) => token::run(command),
        Command::Consent(command) => return run::node(command.of_node()).await,
        Command::Node(command) => return run::node(command).await,
        Command::Gateway(command) => return run::gateway(command).await,
    };
    Ok(done?)
}

/// Warnings go to standard error; `RUST_LOG` says otherwise. The servers' own commands set this up from their configuration.
fn diagnostics(command: &Command) {
    if matches!(command, Command::Node(_) | Command::Gateway(_) | Command::Consent(_)) {
        return;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
}

fn failed(report: &miette::Report) -> ExitCode {
    crate::out::progress(&format!("{report:?}"));
    ExitCode::from(report.downcast_ref::<Failure>().map_or(LOCAL, |failure| failure.exit))
}
