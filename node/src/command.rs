//! The node's commands, for `concordat-node` and for `concordat node`.

mod acknowledge;
mod acknowledge_log;
mod agreement;
pub(crate) mod check;
mod consent;
mod consent_mend;
mod consent_receipt;
mod consent_show;
mod inbox;
mod init;
mod linkage;
mod preview;
mod succeed;
mod suspend;

use std::io;
use std::path::{Path, PathBuf};

use chrono::Utc;
use clap::{Args, Subcommand};
use concordat_operate::core_dumps;
use concordat_operate::drain::Stop;
use concordat_operate::settings::Telemetry;
use concordat_operate::telemetry;
use miette::{IntoDiagnostic as _, WrapErr as _};

use self::acknowledge::AcknowledgeArgs;
pub use self::agreement::{AgreementCommand, EndArgs, SignArgs, sign};
pub use self::consent::{ActingArgs, ConsentCommand, EventArg, ImportArgs, RecordArgs, TimeArgs, WithdrawArgs};
pub use self::consent_mend::{CorrectArgs, EraseArgs};
pub use self::consent_receipt::{ReceiptArgs, VerifyReceiptArgs};
pub use self::consent_show::{ShowArgs, ShowOutput};
pub use self::inbox::{AcceptArgs, InboxArgs, WaitingArgs};
pub use self::linkage::{LinkageCommand, LinkageRotateArgs, LinkageShowArgs};
pub use self::succeed::{NewKeys, SucceedArgs, succeed};
use crate::config::Config;
use crate::node::Node;
use crate::server;
use crate::server::Listen;

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
        after_help = "Example:\n  concordat-node serve --config node.toml\n\nStops on SIGTERM or Ctrl-C, when open releases have ended (operations.drain_seconds, 10 by default).\nSIGHUP reloads certificates, pins, agreements with their signatures, revoked keys, purposes and guard rails; so\ndoes a change of their files."
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
    /// Sign the agreements that the department holds, send them to other parties, end them, and replace the key that signs.
    #[command(subcommand)]
    Agreement(AgreementCommand),
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
    /// Accept that a restored backup of the consent ledger lacks records: without that, nothing is released from it.
    #[command(
        after_help = "Example:\n  concordat-node acknowledge-restore --config node.toml\n\nShows what is lost and asks. A running node honours it in the next release, after its access log holds it;\nthe gateway accepts the older ledger, and records that its generation rose."
    )]
    AcknowledgeRestore(AcknowledgeArgs),
    /// Accept that the gateway's access log begins anew: after its operator restored a backup for good, or lost its key.
    #[command(
        after_help = "Example:\n  concordat-node acknowledge-log --config node.toml\n\nShows what is known of the gateway's log and asks. Then the next checkpoint that comes is taken as the first, under whatever\nkey; what was known stays in state/witness, as evidence. A running node honours it at once."
    )]
    AcknowledgeLog(acknowledge_log::AcknowledgeLogArgs),
    /// Put consent records into the ledger, and look at them. A running node honours them in the next release.
    #[command(subcommand)]
    Consent(ConsentCommand),
    /// Show the keys of pseudonyms, begin anew with others, and encrypt them on disk.
    #[command(subcommand)]
    Linkage(LinkageCommand),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
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
    core_dumps::off()?;
    match command {
        Command::Init(args) => init::run(args).await,
        Command::Serve(args) => serve(&args.config, stop).await,
        Command::Check(args) => {
            telemetry::start(PROGRAM, "check", "warn", &Telemetry::default()).end().await;
            Ok(check::check(&args.config).await.end()?)
        }
        Command::AcknowledgeRestore(args) => {
            telemetry::start(PROGRAM, "acknowledge-restore", "warn", &Telemetry::default()).end().await;
            acknowledge::acknowledge(args).await
        }
        Command::AcknowledgeLog(args) => {
            telemetry::start(PROGRAM, "acknowledge-log", "warn", &Telemetry::default()).end().await;
            acknowledge_log::acknowledge(args).await
        }
        Command::Preview(args) => {
            telemetry::start(PROGRAM, "preview", "warn", &Telemetry::default()).end().await;
            preview::preview(args).await
        }
        Command::Agreement(command) => agreement::run(command).await,
        Command::Linkage(command) => linkage::run(command).await,
        Command::Suspend(args) => suspend::suspend(args).await,
        Command::Resume(args) => suspend::resume(args).await,
        Command::Consent(command) => {
            telemetry::start(PROGRAM, "consent", "warn", &Telemetry::default()).end().await;
            consent::run(command).await
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
    for (agreement, fault) in config.unsigned(Utc::now()) {
        tracing::warn!(agreement = agreement.id.as_str(), cause = %fault, "the department's own signature does not count: nothing is released");
    }
    let listen = Listen::of(&config);
    let node = Node::open(config).await?;
    let served = server::serve(node, listen, stop).await;
    telemetry.end().await;
    Ok(served?)
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
