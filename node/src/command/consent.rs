//! What administrators do with consent records, beside the running node.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use concordat_policy::consent::Event;
use miette::{IntoDiagnostic as _, Report, WrapErr as _, miette};

use super::consent_show::{ShowArgs, show};
use super::eprint;
use crate::config::Config;
use crate::consent::Consent;
use crate::consent::import::{ImportError, Imported, Options, Step, import};
use crate::consent::intake::{Intake, IntakeError};
use crate::consent::journal::Note;
use crate::private;

/// What is done with consent records.
#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Import a CSV or Parquet file with the columns identifier, purpose and event, once.
    #[command(
        after_help = "Example:\n  concordat-node consent import --config node.toml consent.csv\n\nEvents are given, withdrawn and objected; a column identifier_type is needed where datasets have several types. All of the\nfile is taken, or nothing: a malformed row is named with its line. A row whose identifier is invalid is malformed, because\nit may be somebody's withdrawal with a slip of the pen; --skip-invalid leaves such rows out, counts them and names the first."
    )]
    Import(ImportArgs),
    /// Record one event for one or more people.
    #[command(
        after_help = "Example:\n  concordat-node consent record --config node.toml --identifier-type nino --purpose opportunity \\\n    --event withdrawn --identifiers - < withdrawals.txt\n\nIdentifiers come from a file or standard input, one a line: arguments can be read by every user of the machine."
    )]
    Record(RecordArgs),
    /// Record that one or more people take their consent back: short for record --event withdrawn.
    #[command(
        after_help = "Example:\n  concordat-node consent withdraw --config node.toml --identifier-type nino --purpose opportunity --identifiers - < withdrawals.txt\n\nIt counts in the next release. Withdrawing changes nothing under a statutory power: there, people object."
    )]
    Withdraw(WithdrawArgs),
    /// Show what the ledger holds of one or more people, and what it means now for each purpose.
    #[command(
        after_help = "Example:\n  echo 'AB123456C' | concordat-node consent show --config node.toml --identifier-type nino --identifiers -\n\nWho was looked at stands in the node's access log as a keyed digest, which is shown here too: search the log for it to learn\nwho else looked. A running node writes it there before its next release. People are named by their line, not their identifier.\nThe whole ledger is read, some seconds for five million records; ask for up to 1,000 people at once."
    )]
    Show(ShowArgs),
}

/// A file of consent records.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Leave out rows whose identifier is invalid, instead of refusing the file.
    #[arg(long)]
    pub skip_invalid: bool,
    /// Say how far it is also where standard error is no terminal.
    #[arg(long)]
    pub progress: bool,
    /// The records.
    pub file: PathBuf,
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

/// Who takes consent back, for which purpose.
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The identifiers' type: nino, nhs_number, upn, uprn, company_number or a custom type's name.
    #[arg(long, value_name = "TYPE")]
    pub identifier_type: String,
    /// The purpose; the record also speaks for narrower ones.
    #[arg(long)]
    pub purpose: String,
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

impl From<WithdrawArgs> for RecordArgs {
    fn from(args: WithdrawArgs) -> Self {
        let WithdrawArgs { config, identifier_type, purpose, identifiers } = args;
        Self { config, identifier_type, purpose, event: EventArg::Withdrawn, identifiers }
    }
}

pub(super) async fn run(command: ConsentCommand) -> miette::Result<()> {
    match command {
        ConsentCommand::Import(args) => import_file(args).await,
        ConsentCommand::Record(args) => record(args).await,
        ConsentCommand::Withdraw(args) => record(args.into()).await,
        ConsentCommand::Show(args) => show(args).await,
    }
}

async fn import_file(args: ImportArgs) -> miette::Result<()> {
    let (consent, intake) = open_ledger(&Config::load(&args.config)?)?;
    let since = Instant::now();
    let progress = progress(args.progress);
    let options = Options { skip_invalid: args.skip_invalid, by_command: true, progress };
    match import(consent, intake, args.file, options).await.map_err(refused)? {
        Imported::Before => eprint("this file was imported before; nothing was changed"),
        Imported::Now { records, invalid, first_invalid } => {
            eprint(&format!("{records} record(s) imported in {:.1} s", since.elapsed().as_secs_f32()));
            if invalid > 0 {
                let places: Vec<String> = first_invalid.iter().map(ToString::to_string).collect();
                let more = if invalid > first_invalid.len() as u64 { ", …" } else { "" };
                eprint(&format!("{invalid} left out for invalid identifiers: {}{more}", places.join(", ")));
            }
        }
    }
    Ok(())
}

fn refused(error: ImportError) -> Report {
    match &error {
        ImportError::Malformed(_, rows) => miette!(help = rows.remedy(), "{error}"),
        _ => Report::msg(error.to_string()).wrap_err("nothing of the file was recorded"),
    }
}

/// Tells on standard error how far an import is: one line that moves at a terminal, elsewhere and only if `wanted` a line a second.
fn progress(wanted: bool) -> Option<Box<dyn FnMut(Step) + Send>> {
    let terminal = io::stderr().is_terminal();
    if !terminal && !wanted {
        return None;
    }
    let (since, mut last) = (Instant::now(), Instant::now());
    let pause = Duration::from_millis(if terminal { 200 } else { 1000 });
    Some(Box::new(move |step| {
        let end = matches!(step, Step::Written(written, of) if written == of);
        if last.elapsed() < pause && !end {
            return;
        }
        last = Instant::now();
        let text = match step {
            Step::Checked(rows) => format!("{rows} row(s) checked"),
            Step::Written(written, of) => format!("{written} of {of} record(s) written"),
        };
        let text = format!("{text} · {:.0} s", since.elapsed().as_secs_f32());
        let mut out = io::stderr();
        // Nobody listens to a closed standard error. At a terminal the line is wiped before it is written anew, and at the end.
        let _ = match (terminal, end) {
            (true, true) => write!(out, "\r\u{1b}[K"),
            (true, false) => write!(out, "\r\u{1b}[K{text}"),
            (false, _) => writeln!(out, "{text}"),
        };
    }))
}

async fn record(args: RecordArgs) -> miette::Result<()> {
    let (consent, intake) = open_ledger(&Config::load(&args.config)?)?;
    let text = read_identifiers(&args.identifiers)?;
    let event = Event::from(args.event).as_str();
    let (mut records, mut scratch) = (Vec::new(), String::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let taken = intake.record(line.trim(), &args.identifier_type, &args.purpose, event, &mut scratch);
        records.push(taken.map_err(|cause: IntakeError| miette!(help = "nothing was recorded", "line {}: {cause}", index + 1))?);
    }
    let count = records.len();
    let note = Note::new("consent.recorded").field("records", count).field("purpose", args.purpose).field("consent_event", event);
    let version =
        tokio::task::spawn_blocking(move || consent.record_noted(&records, Some(&note))).await.into_diagnostic()?.into_diagnostic()?;
    eprint(&format!("{count} record(s) written; the ledger is at version {version}"));
    Ok(())
}

pub(super) fn open_ledger(config: &Config) -> miette::Result<(Arc<Consent>, Intake)> {
    private::folder(&config.state).into_diagnostic()?;
    let consent = Consent::open(&config.state, config.department.clone()).into_diagnostic()?;
    Ok((Arc::new(consent), Intake::new(config)))
}

pub(super) fn read_identifiers(path: &Path) -> miette::Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_string(&mut text)
    } else {
        File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.into_diagnostic().wrap_err("the identifiers cannot be read")?;
    Ok(text)
}
