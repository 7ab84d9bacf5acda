//! `concordat consent`: records people's choices in one department's ledger and shows them, as its own administrators do.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use concordat_node::command::{
    ActingArgs, ConsentCommand, CorrectArgs, EraseArgs, EventArg, ImportArgs, ReceiptArgs, RecordArgs, ShowArgs, ShowOutput, TimeArgs,
    VerifyReceiptArgs, WithdrawArgs,
};

use super::DEFAULT_FOLDER;
use crate::federation::Layout;

#[derive(Debug, Subcommand)]
pub(crate) enum Consent {
    /// Record the same choice for a list of people
    #[command(after_help = "\
Examples:
  echo 'AB123456C' | concordat consent record --department dhsc --purpose opportunity --event withdrawn
  concordat consent record --department dwp --purpose health --event objected --identifiers objections.txt

A record for a purpose also speaks for the narrower ones below it; the later record wins. It counts from the next query on.
Identifiers never stand on the command line, where other users of the machine could read them. Each person's consent receipt
goes to standard output, one JSON object a line. --effective-from and --expires-at take times such as 2027-04-01T00:00:00Z.")]
    Record(Record),
    /// Record that a list of people take their consent back: short for record --event withdrawn
    #[command(after_help = "\
Example:
  echo 'AB123456C' | concordat consent withdraw --department dhsc --purpose opportunity

It counts from the next query on. Under a statutory power people object instead: record --event objected.")]
    Withdraw(Withdraw),
    /// Show what the ledger holds of some people, and what it means now for each purpose
    #[command(after_help = "\
Examples:
  echo 'AB123456C' | concordat consent show --department dhsc
  concordat consent show --department dhsc --purpose opportunity --identifiers people.txt --output json

Who was looked at stands in the department's access log as a keyed digest, which is printed here too. A running node writes
it there before its next release. People are named by their line, not by their identifier.")]
    Show(Show),
    /// Record that an earlier record of somebody was wrong: it says nothing any more, and the history shows both
    #[command(after_help = "\
Example:
  echo 'AB123456C' | concordat consent correct --department dhsc --place 1207

`show` tells places. What should have been recorded is recorded anew. It counts from the next query on.")]
    Correct(Correct),
    /// Erase people: their identifiers go from the ledger, and what they objected to goes on holding their data back
    #[command(after_help = "\
Example:
  echo 'AB123456C' | concordat consent erase --department dhsc --yes

What they had given is gone: nothing of them is used on consent. Objections and withdrawals in force are kept under a keyed
digest in the identifier's stead, and the identifier with them, encrypted: they go on reaching other departments' data, where
agreements say so. Places and version of the ledger stay. Backups, datasets and receipts are not touched.")]
    Erase(Erase),
    /// Make consent receipts of what the ledger holds of some people
    #[command(after_help = "\
Example:
  echo 'AB123456C' | concordat consent receipt --department dhsc > receipt.json

For records that were imported, and for receipts that were lost: one JSON object a line, as record writes it.")]
    Receipt(Receipt),
    /// Verify consent receipts, without asking anybody
    #[command(after_help = "\
Example:
  concordat consent verify-receipt receipt.json --agreement concordat-demo/nodes/dhsc/agreements/opportunity.toml

Exits 0 when each receipt in the file is the department's, unchanged.")]
    VerifyReceipt(VerifyReceiptArgs),
    /// Import a CSV or Parquet file with the columns identifier, purpose and event
    #[command(after_help = "\
Example:
  concordat consent import --department dhsc consent.csv

All of the file is taken, or nothing: a malformed row is named with its line. A row whose identifier is invalid is malformed,
because it may be somebody's withdrawal with a slip of the pen; --skip-invalid leaves such rows out, counts them and names the
first.")]
    Import(Import),
}

/// Whose ledger.
#[derive(Debug, Args)]
pub(crate) struct Ledger {
    /// The department, in --folder
    #[arg(long, value_name = "DEPARTMENT", required_unless_present = "config", conflicts_with = "config")]
    department: Option<String>,
    /// The federation's folder
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    folder: PathBuf,
    /// Or the node's own configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    #[command(flatten)]
    ledger: Ledger,
    /// The identifiers' type
    #[arg(long, default_value = "nino", value_name = "TYPE")]
    identifier_type: String,
    /// The purpose that the people spoke about
    #[arg(long, value_name = "PURPOSE")]
    purpose: String,
    /// What they chose
    #[arg(long, value_enum)]
    event: EventArg,
    #[command(flatten)]
    times: TimeArgs,
    #[command(flatten)]
    acting: ActingArgs,
    /// A file with one identifier per line; - is standard input
    #[arg(long, default_value = "-", value_name = "FILE")]
    identifiers: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    #[command(flatten)]
    ledger: Ledger,
    #[command(flatten)]
    acting: ActingArgs,
    /// The identifiers' type
    #[arg(long, default_value = "nino", value_name = "TYPE")]
    identifier_type: String,
    /// The purpose that the people spoke about
    #[arg(long, value_name = "PURPOSE")]
    purpose: String,
    /// A file with one identifier per line; - is standard input
    #[arg(long, default_value = "-", value_name = "FILE")]
    identifiers: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    ledger: Ledger,
    /// The identifiers' type
    #[arg(long, default_value = "nino", value_name = "TYPE")]
    identifier_type: String,
    /// Only what counts for this purpose
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// A file with one identifier per line; - is standard input
    #[arg(long, default_value = "-", value_name = "FILE")]
    identifiers: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    output: ShowOutput,
}

#[derive(Debug, Args)]
pub(crate) struct Correct {
    #[command(flatten)]
    ledger: Ledger,
    /// The identifier's type
    #[arg(long, default_value = "nino", value_name = "TYPE")]
    identifier_type: String,
    /// The place of the record that was wrong
    #[arg(long, value_name = "PLACE")]
    place: u64,
    /// A file with the identifier of the person whose record it is; - is standard input
    #[arg(long, default_value = "-", value_name = "FILE")]
    identifiers: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    ledger: Ledger,
    /// The identifiers' type
    #[arg(long, default_value = "nino", value_name = "TYPE")]
    identifier_type: String,
    /// A file with one identifier per line; - is standard input
    #[arg(long, default_value = "-", value_name = "FILE")]
    identifiers: PathBuf,
    /// Erase without being asked: needed where the identifiers come from standard input
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Receipt {
    #[command(flatten)]
    ledger: Ledger,
    /// The identifiers' type
    #[arg(long, default_value = "nino", value_name = "TYPE")]
    identifier_type: String,
    /// Only of records that count for this purpose
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// A file with one identifier per line; - is standard input
    #[arg(long, default_value = "-", value_name = "FILE")]
    identifiers: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(flatten)]
    ledger: Ledger,
    /// Leave out rows whose identifier is invalid, instead of refusing the file
    #[arg(long)]
    skip_invalid: bool,
    /// Say how far it is also where standard error is no terminal
    #[arg(long)]
    progress: bool,
    /// The file
    file: PathBuf,
}

impl Consent {
    /// The node's own command that does it.
    pub(crate) fn of_node(self) -> concordat_node::command::Command {
        concordat_node::command::Command::Consent(match self {
            Self::Record(record) => ConsentCommand::Record(RecordArgs {
                config: record.ledger.config(),
                identifier_type: record.identifier_type,
                purpose: record.purpose,
                event: record.event,
                times: record.times,
                acting: record.acting,
                identifiers: record.identifiers,
            }),
            Self::Withdraw(withdraw) => ConsentCommand::Withdraw(WithdrawArgs {
                config: withdraw.ledger.config(),
                identifier_type: withdraw.identifier_type,
                purpose: withdraw.purpose,
                acting: withdraw.acting,
                identifiers: withdraw.identifiers,
            }),
            Self::Show(show) => ConsentCommand::Show(ShowArgs {
                config: show.ledger.config(),
                identifier_type: show.identifier_type,
                purpose: show.purpose,
                identifiers: show.identifiers,
                output: show.output,
            }),
            Self::Correct(correct) => ConsentCommand::Correct(CorrectArgs {
                config: correct.ledger.config(),
                identifier_type: correct.identifier_type,
                place: correct.place,
                identifiers: correct.identifiers,
            }),
            Self::Erase(erase) => ConsentCommand::Erase(EraseArgs {
                config: erase.ledger.config(),
                identifier_type: erase.identifier_type,
                identifiers: erase.identifiers,
                yes: erase.yes,
            }),
            Self::Receipt(receipt) => ConsentCommand::Receipt(ReceiptArgs {
                config: receipt.ledger.config(),
                identifier_type: receipt.identifier_type,
                purpose: receipt.purpose,
                identifiers: receipt.identifiers,
            }),
            Self::VerifyReceipt(args) => ConsentCommand::VerifyReceipt(args),
            Self::Import(import) => ConsentCommand::Import(ImportArgs {
                config: import.ledger.config(),
                skip_invalid: import.skip_invalid,
                progress: import.progress,
                file: import.file,
            }),
        })
    }
}

impl Ledger {
    pub(super) fn config(&self) -> PathBuf {
        match (&self.config, &self.department) {
            (Some(config), _) => config.clone(),
            (None, department) => Layout::new(&self.folder).node(department.as_deref().unwrap_or_default()).join("node.toml"),
        }
    }
}
