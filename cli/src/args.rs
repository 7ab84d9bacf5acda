//! The command line as a whole, and from a failure to an exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::commands::{
    adopt, agreement, audit, catalogue, consent, default_mission, demo, departments, dummy, errors, explain, init, linkage, login, logout,
    mission, publish, query, result, shell, token, up, whoami, why,
};
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

  concordat catalogue          what you may ask about, and whom to ask

Exit codes: 0 done, 1 something on this machine, 2 the command line, 3 the gateway cannot be reached, 10 and above a refusal:
`concordat errors` lists them. Results go to standard output, everything else to standard error. Colours only on a terminal, and
not where NO_COLOR is set."
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
    /// Say whether a query would be answered, why, and what would be allowed instead; reads no data
    Explain(explain::Explain),
    /// Say from the gateway's log why a query was answered or refused
    Why(why::Why),
    /// Read and verify access logs on disk, and compare the gateway's with the departments'
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Pick up the answer of a query that was detached
    Result(result::Detached),
    /// List and search the views, datasets, columns and codes that you may use, and whom to ask
    #[command(alias = "views")]
    Catalogue(catalogue::Catalogue),
    /// Make rows of nobody with the columns, types and codes of a dataset or view, to develop against; reads no data
    Dummy(dummy::Dummy),
    /// Choose the mission that counts where none is named, or show what is in force
    Use(default_mission::Use),
    /// State missions, take snapshots of their outcomes, and tell how they stand
    #[command(subcommand)]
    Mission(mission::Mission),
    /// Publish missions: a static site of outcomes, their data, and the register of agreements
    Publish(publish::Publish),
    /// Show how well departments' records find each other
    #[command(subcommand)]
    Linkage(linkage::Linkage),
    /// Show whether each department answers
    Departments(departments::Departments),
    /// Sign in at the identity provider that client.toml names
    Login(login::Login),
    /// End the sign-in: at the provider and here
    Logout(logout::Logout),
    /// Show whom the gateway takes you for, and for which purposes you may use data
    Whoami(whoami::Whoami),
    /// Make a federation of your own files
    Init(init::Init),
    /// Write, check, sign, read and compare agreements
    #[command(subcommand)]
    Agreement(agreement::Agreement),
    /// Put an edited agreement or view where the programs look for it
    Adopt(adopt::Adopt),
    /// Run a federation's folder
    Up(up::Up),
    /// Print a bearer token of the trial's identity provider
    Token(token::Token),
    /// Record people's consent, withdrawals and objections
    #[command(subcommand)]
    Consent(consent::Consent),
    /// List what failures mean: codes, exit codes, gRPC statuses, SQLSTATEs
    Errors(errors::Errors),
    /// Print a shell's completion script
    Completions(shell::Completions),
    /// Write the manual pages
    Man(shell::Man),
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
    reports();
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
        Command::Explain(command) => explain::run(command).await,
        Command::Why(command) => why::run(&command),
        Command::Audit(command) => audit::run(&command).await,
        Command::Result(command) => result::run(command).await,
        Command::Catalogue(command) => catalogue::run(command).await,
        Command::Dummy(command) => dummy::run(command).await,
        Command::Use(command) => default_mission::run(command),
        Command::Errors(command) => errors::run(&command),
        Command::Completions(command) => shell::completions(&command, Line::command()),
        Command::Man(command) => shell::man(&command, Line::command()),
        Command::Departments(command) => departments::run(command).await,
        Command::Linkage(command) => return command.run().await,
        Command::Mission(command) => return command.run().await,
        Command::Publish(command) => return command.run().await,
        Command::Login(command) => login::run(command).await,
        Command::Logout(command) => logout::run(command).await,
        Command::Whoami(command) => whoami::run(command).await,
        Command::Init(command) => init::run(command).await,
        Command::Agreement(command) => agreement::run(command),
        Command::Adopt(command) => adopt::run(command),
        Command::Up(command) => up::run(command).await,
        Command::Token(command) => token::run(command),
        Command::Consent(command) => return run::node(command.of_node()).await,
        Command::Node(command) => return run::node(command).await,
        Command::Gateway(command) => return run::gateway(command).await,
    };
    Ok(done?)
}

/// Failures are wrapped for people on a terminal only, so that what reads them from a pipe finds whole sentences.
fn reports() {
    let wrap = std::io::stderr().is_terminal();
    // Fails only where a hook is set already.
    let _ = miette::set_hook(Box::new(move |_| Box::new(miette::MietteHandlerOpts::new().wrap_lines(wrap).build())));
}

/// Warnings go to standard error; `RUST_LOG` says otherwise. The servers' own commands set this up from their configuration.
fn diagnostics(command: &Command) {
    if matches!(command, Command::Node(_) | Command::Gateway(_) | Command::Consent(_)) {
        return;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(crate::out::colour_of_diagnostics()).init();
}

fn failed(report: &miette::Report) -> ExitCode {
    crate::out::progress(&format!("{report:?}"));
    ExitCode::from(report.downcast_ref::<Failure>().map_or(LOCAL, |failure| failure.exit))
}
