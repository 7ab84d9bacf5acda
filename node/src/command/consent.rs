//! What administrators do with consent records, beside the running node.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use concordat_policy::consent::Event;
use miette::{IntoDiagnostic as _, Report, WrapErr as _, miette};

use super::consent_mend::{CorrectArgs, EraseArgs, correct, erase};
use super::consent_receipt::{ReceiptArgs, VerifyReceiptArgs, receipt, receipt_line, verify_receipt};
use super::consent_show::{ShowArgs, show, told};
use super::{eprint, print};
use crate::config::Config;
use crate::consent::Consent;
use crate::consent::import::{ImportError, Imported, Options, Step, import};
use crate::consent::intake::{Intake, IntakeError, Raw};
use crate::consent::journal::Note;
use crate::consent::receipt::Receipts;
use crate::private;

/// What is done with consent records.
#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Import a CSV or Parquet file with the columns identifier, purpose and event, once.
    #[command(
        after_help = "Example:\n  concordat-node consent import --config node.toml consent.csv\n\nEvents are given, withdrawn and objected; a column identifier_type is needed where datasets have several types. Columns\neffective_from, expires_at, capacity and acted_by may be there. All of the\nfile is taken, or nothing: a malformed row is named with its line. A row whose identifier is invalid is malformed, because\nit may be somebody's withdrawal with a slip of the pen; --skip-invalid leaves such rows out, counts them and names the first."
    )]
    Import(ImportArgs),
    /// Record one event for one or more people.
    #[command(
        after_help = "Example:\n  concordat-node consent record --config node.toml --identifier-type nino --purpose opportunity \\\n    --event withdrawn --identifiers - < withdrawals.txt\n\nIdentifiers come from a file or standard input, one a line: arguments can be read by every user of the machine. Each person's\nconsent receipt goes to standard output, one JSON object a line.\n\nRecords are ordered by when they are recorded: --effective-from only delays one, and --expires-at ends consent, at a time such\nas 2027-04-01T00:00:00Z. Who acts for somebody is named by --capacity and --acted-by."
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
    /// Record that an earlier record of somebody was wrong: it says nothing any more, and the history shows both.
    #[command(
        after_help = "Example:\n  echo 'AB123456C' | concordat-node consent correct --config node.toml --identifier-type nino --place 1207 --identifiers -\n\n`show` tells places. What should have been recorded is recorded anew. It counts in the next release."
    )]
    Correct(CorrectArgs),
    /// Erase people: their identifiers go from the ledger, and what they objected to goes on holding their data back.
    #[command(
        after_help = "Example:\n  concordat-node consent erase --config node.toml --identifier-type nino --identifiers people.txt --yes\n\nWhat they had given is gone: nothing of them is released on consent. Objections and withdrawals in force are kept under a keyed\ndigest in the identifier's stead, and with them the identifier, encrypted under state/consent.secret: they go on\nreaching other departments' data, where agreements say so. Places and version of the ledger stay. Backups, logs of other systems, the datasets\nthemselves and receipts that people hold are not touched."
    )]
    Erase(EraseArgs),
    /// Make consent receipts of what the ledger holds of one or more people, one JSON object a line.
    #[command(
        after_help = "Example:\n  echo 'AB123456C' | concordat-node consent receipt --config node.toml --identifier-type nino --identifiers - > receipt.json\n\nFor records that were imported, and for receipts that were lost. That they were made stands in the access log, as for show."
    )]
    Receipt(ReceiptArgs),
    /// Verify consent receipts, without asking anybody.
    #[command(
        after_help = "Example:\n  concordat-node consent verify-receipt receipt.json --agreement agreements/opportunity.toml\n\nThe department's fingerprint stands in every agreement that it is a party of, and can be given with --key. Exits 0 when each\nreceipt in the file is the department's, unchanged."
    )]
    VerifyReceipt(VerifyReceiptArgs),
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
    /// When it counts.
    #[command(flatten)]
    pub times: TimeArgs,
    /// Who acted.
    #[command(flatten)]
    pub acting: ActingArgs,
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
    /// Who acted.
    #[command(flatten)]
    pub acting: ActingArgs,
    /// A file of identifiers, one a line; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub identifiers: PathBuf,
}

/// When a record counts.
#[derive(Debug, Clone, Default, Args)]
pub struct TimeArgs {
    /// From when it counts, if not at once; it keeps its place among the records.
    #[arg(long, value_name = "TIME")]
    pub effective_from: Option<String>,
    /// When consent ends.
    #[arg(long, value_name = "TIME")]
    pub expires_at: Option<String>,
}

/// Who acted for the people.
#[derive(Debug, Clone, Default, Args)]
pub struct ActingArgs {
    /// In which capacity somebody acts for them: parent, guardian, attorney or deputy.
    #[arg(long, requires = "acted_by")]
    pub capacity: Option<String>,
    /// The department's own reference of who acts, for example of the case.
    #[arg(long, value_name = "REFERENCE", requires = "capacity")]
    pub acted_by: Option<String>,
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
        let WithdrawArgs { config, identifier_type, purpose, acting, identifiers } = args;
        let times = TimeArgs::default();
        Self { config, identifier_type, purpose, event: EventArg::Withdrawn, times, acting, identifiers }
    }
}

pub(super) async fn run(command: ConsentCommand) -> miette::Result<()> {
    match command {
        ConsentCommand::Import(args) => import_file(args).await,
        ConsentCommand::Record(args) => record(args).await,
        ConsentCommand::Withdraw(args) => record(args.into()).await,
        ConsentCommand::Show(args) => show(args).await,
        ConsentCommand::Correct(args) => correct(args).await,
        ConsentCommand::Erase(args) => erase(args).await,
        ConsentCommand::Receipt(args) => receipt(args).await,
        ConsentCommand::VerifyReceipt(args) => verify_receipt(&args),
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
    let config = Config::load(&args.config)?;
    let (consent, intake) = open_ledger(&config)?;
    let text = read_identifiers(&args.identifiers)?;
    let event = Event::from(args.event).as_str();
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effective_from, expires_at) = (said(&args.times.effective_from), said(&args.times.expires_at));
    let (capacity, acted_by) = (said(&args.acting.capacity), said(&args.acting.acted_by));
    let raw = Raw {
        identifier: "",
        identifier_type: &args.identifier_type,
        purpose: &args.purpose,
        event,
        effective_from: &effective_from,
        expires_at: &expires_at,
        capacity: &capacity,
        acted_by: &acted_by,
    };
    let (mut records, mut lines, mut scratch) = (Vec::new(), Vec::new(), String::new());
    for (line, identifier) in (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty()) {
        let taken = intake.record(Raw { identifier, ..raw }, &mut scratch);
        records.push(taken.map_err(|cause: IntakeError| miette!(help = "nothing was recorded", "line {line}: {cause}"))?);
        lines.push(line);
    }
    let (count, generation) = (records.len(), consent.generation().into_diagnostic()?);
    let note = Note::new("consent.recorded").field("records", count).field("purpose", args.purpose).field("consent_event", event);
    let write = move || {
        let recorded = consent.record_noted(&intake, &records, Some(&note)).into_diagnostic()?;
        Ok::<_, Report>((Receipts::new(&consent, &config.signing).of(&recorded).map_err(told), recorded.version))
    };
    let (receipts, version) = tokio::task::spawn_blocking(write).await.into_diagnostic()??;
    eprint(&format!("{count} record(s) written; {}", at(generation, version)));
    let receipts = receipts.wrap_err("everything is recorded; its receipts could not be made: use consent receipt")?;
    lines.into_iter().zip(receipts).try_for_each(|(line, receipt)| print(&receipt_line(line, &receipt)?))
}

/// Where the ledger is; with the generation, within which a version counts, once a backup was restored.
pub(super) fn at(generation: u32, version: u64) -> String {
    let of = if generation == 0 { String::new() } else { format!(" of generation {generation} ({generation}.{version})") };
    format!("the ledger is at version {version}{of}")
}

pub(super) fn open_ledger(config: &Config) -> miette::Result<(Arc<Consent>, Intake)> {
    private::folder(&config.state).into_diagnostic()?;
    let consent = Consent::open(&config.state, config.department.clone()).into_diagnostic()?;
    Ok((Arc::new(consent), Intake::new(config)))
}

pub(super) fn read_identifiers(path: &Path) -> miette::Result<String> {
    read_text(path, "the identifiers")
}

/// A file's text; `-` is standard input.
pub(super) fn read_text(path: &Path, what: &str) -> miette::Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_string(&mut text)
    } else {
        File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.into_diagnostic().wrap_err_with(|| format!("{what} cannot be read"))?;
    Ok(text)
}
