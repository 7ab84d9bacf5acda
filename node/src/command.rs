//! The node's commands, for `concordat-node` and for `concordat node`.

pub(crate) mod check;
mod init;
mod preview;
mod suspend;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use concordat_operate::drain::Stop;
use concordat_operate::settings::Telemetry;
use concordat_operate::telemetry;
use concordat_policy::consent::Event;
use miette::{IntoDiagnostic as _, WrapErr as _, miette};

use crate::config::Config;
use crate::consent::Consent;
use crate::consent::import::{Imported, import};
use crate::consent::intake::{Intake, IntakeError};
use crate::node::Node;
use crate::server::Listen;
use crate::{private, server};

/// What this program calls itself towards monitoring.
const PROGRAM: &str = "concordat-node";

/// What the node's program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a node's folder from existing data: every column classified by guess, nothing shared.
    #[command(
        after_help = "Example:\n  concordat-node init --from /srv/extracts --department dfe --out node\n  concordat-node init --from postgresql://reader@db.internal/pupils --password-file reader.password --tls-ca db-ca.pem \\\n    --department dfe --out node\n\nSources are only read. Types, identifiers and classifications are guesses from names and a sample of values, each with its reason,\nfor people to judge. Keys are made; certificates, the gateway and purposes are not: `check` names what remains."
    )]
    Init(init::InitArgs),
    /// Serve the department's datasets to the gateway, under the agreements that the department holds.
    #[command(
        after_help = "Example:\n  concordat-node serve --config node.toml\n\nStops on SIGTERM or Ctrl-C, when open releases have ended (operations.drain_seconds, 10 by default).\nSIGHUP reloads certificates and pins; so does a change of their files."
    )]
    Serve(ConfigArgs),
    /// Check everything that the configuration names, and start nothing: one line per item, each failure with its remedy.
    #[command(
        after_help = "Example:\n  concordat-node check --config node.toml\n\nExits 0 when nothing failed. Every item is checked, whatever failed before it."
    )]
    Check(ConfigArgs),
    /// Show what would leave under an agreement: columns, uses, recipients, and how many rows. Sends nothing.
    #[command(
        after_help = "Example:\n  concordat-node preview --agreement opportunity --config node.toml\n\nThe sources are read in full, and consent and identifiers are judged by the code of a release. Works beside a running node, and\nis entered into the access log."
    )]
    Preview(preview::PreviewArgs),
    /// Stop everything at once, or everything under one agreement, by this department's own decision.
    #[command(
        after_help = "Example:\n  concordat-node suspend opportunity --config node.toml --reason \"complaint 17\"\n\nIn force from the moment it returns, whether the node runs or not, until `resume`. A running node refuses new orders at once and\ncuts running releases; callers are told that the department has suspended the agreement. Everything and single agreements are\nindependent of each other."
    )]
    Suspend(suspend::SuspendArgs),
    /// Lift a suspension: that of one agreement, or that of everything.
    #[command(
        after_help = "Example:\n  concordat-node resume opportunity --config node.toml\n\nWhat is suspended by itself stays so when the suspension of everything is lifted."
    )]
    Resume(suspend::SuspendArgs),
    /// Put consent records into the ledger. A running node honours them in the next release.
    #[command(subcommand)]
    Consent(ConsentCommand),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What is done with consent records.
#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Import a CSV or Parquet file with the columns identifier, purpose and event, once.
    #[command(
        after_help = "Example:\n  concordat-node consent import --config node.toml consent.csv\n\nEvents are given, withdrawn and objected. All of the file is taken, or nothing."
    )]
    Import {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The records.
        file: PathBuf,
    },
    /// Record one event for one or more people.
    #[command(
        after_help = "Example:\n  concordat-node consent record --config node.toml --identifier-type nino --purpose opportunity \\\n    --event withdrawn --identifiers - < withdrawals.txt\n\nIdentifiers come from a file or standard input, one a line: arguments can be read by every user of the machine."
    )]
    Record(RecordArgs),
}

/// One event for one or more people.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The identifiers' type: nino, nhs_number, upn, uprn, company_number or a custom type's name.
    #[arg(long, value_name = "TYPE")]
    pub identifier_type: String,
    /// The purpose; the record also speaks for narrower ones.
    #[arg(long)]
    pub purpose: String,
    /// What happened.
    #[arg(long)]
    pub event: EventArg,
    /// A file of identifiers, one a line; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub identifiers: PathBuf,
}

/// What happened.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EventArg {
    /// The subject agreed.
    Given,
    /// The subject took consent back.
    Withdrawn,
    /// The subject objected.
    Objected,
}

impl From<EventArg> for Event {
    fn from(event: EventArg) -> Self {
        match event {
            EventArg::Given => Self::Given,
            EventArg::Withdrawn => Self::Withdrawn,
            EventArg::Objected => Self::Objected,
        }
    }
}

/// Runs a command to its end. `serve` ends on SIGTERM or Ctrl-C.
///
/// # Errors
/// A report for people: file, line, cause and remedy where a configuration is at fault.
pub async fn run(command: Command) -> miette::Result<()> {
    run_until(command, Stop::on_signals()).await
}

/// Runs a command to its end. `serve` drains when `stop` is ready.
///
/// # Errors
/// As [`run`].
pub async fn run_until(command: Command, stop: Stop) -> miette::Result<()> {
    match command {
        Command::Init(args) => init::run(args).await,
        Command::Serve(args) => serve(&args.config, stop).await,
        Command::Check(args) => {
            telemetry::start(PROGRAM, "check", "warn", &Telemetry::default()).end().await;
            Ok(check::check(&args.config).await.end()?)
        }
        Command::Preview(args) => {
            telemetry::start(PROGRAM, "preview", "warn", &Telemetry::default()).end().await;
            preview::preview(args).await
        }
        Command::Suspend(args) => suspend::suspend(args).await,
        Command::Resume(args) => suspend::resume(args).await,
        Command::Consent(command) => {
            telemetry::start(PROGRAM, "consent", "warn", &Telemetry::default()).end().await;
            match command {
                ConsentCommand::Import { config, file } => import_file(&config, file).await,
                ConsentCommand::Record(args) => record(args).await,
            }
        }
    }
}

/// Serves until `stop` is ready, then drains.
///
/// # Errors
/// A report for people.
pub async fn serve(config: &Path, stop: Stop) -> miette::Result<()> {
    let mut config = Config::load(config)?;
    let telemetry = telemetry::start(PROGRAM, config.department.as_str(), "info", &config.telemetry);
    for warning in std::mem::take(&mut config.warnings) {
        tracing::warn!(cause = warning, "configuration");
    }
    let listen = Listen::of(&config);
    let node = Node::open(config).await?;
    let served = server::serve(node, listen, stop).await;
    telemetry.end().await;
    Ok(served?)
}

async fn import_file(config: &Path, file: PathBuf) -> miette::Result<()> {
    let (consent, intake) = open_ledger(config)?;
    match import(consent, intake, file).await.into_diagnostic()? {
        Imported::Before => eprint("this file was imported before; nothing was changed"),
        Imported::Now { records, invalid } => eprint(&format!("{records} record(s) imported, {invalid} left out for invalid identifiers")),
    }
    Ok(())
}

async fn record(args: RecordArgs) -> miette::Result<()> {
    let (consent, intake) = open_ledger(&args.config)?;
    let text = read_identifiers(&args.identifiers).into_diagnostic().wrap_err("the identifiers cannot be read")?;
    let event = Event::from(args.event).as_str();
    let (mut records, mut scratch) = (Vec::new(), String::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let taken = intake.record(line.trim(), &args.identifier_type, &args.purpose, event, &mut scratch);
        records.push(taken.map_err(|cause: IntakeError| miette!(help = "nothing was recorded", "line {}: {cause}", index + 1))?);
    }
    let count = records.len();
    let version = tokio::task::spawn_blocking(move || consent.record(&records)).await.into_diagnostic()?.into_diagnostic()?;
    eprint(&format!("{count} record(s) written; the ledger is at version {version}"));
    Ok(())
}

fn open_ledger(config: &Path) -> miette::Result<(Arc<Consent>, Intake)> {
    let config = Config::load(config)?;
    private::folder(&config.state).into_diagnostic()?;
    let consent = Consent::open(&config.state, config.department.clone()).into_diagnostic()?;
    Ok((Arc::new(consent), Intake::new(&config)))
}

fn read_identifiers(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text)?
    } else {
        File::open(path)?.read_to_string(&mut text)?
    };
    Ok(text)
}

/// A result, to standard output. A reader that went away is not a failure.
fn print(text: &str) -> miette::Result<()> {
    use std::io::Write as _;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).into_diagnostic().wrap_err("standard output cannot be written"),
        _ => Ok(()),
    }
}

/// For people; standard output stays free.
fn eprint(text: &str) {
    use std::io::Write as _;
    // Nobody listens to a closed standard error.
    let _ = writeln!(io::stderr(), "{text}");
}
