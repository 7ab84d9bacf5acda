//! `concordat consent`: records people's choices in one department's ledger, as its own administrators do.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use concordat_node::command::{ConsentCommand, EventArg, RecordArgs};

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
Identifiers never stand on the command line, where other users of the machine could read them.")]
    Record(Record),
    /// Import a CSV or Parquet file with the columns identifier, purpose and event
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
    /// A file with one identifier per line; - is standard input
    #[arg(long, default_value = "-", value_name = "FILE")]
    identifiers: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(flatten)]
    ledger: Ledger,
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
                identifiers: record.identifiers,
            }),
            Self::Import(import) => ConsentCommand::Import { config: import.ledger.config(), file: import.file },
        })
    }
}

impl Ledger {
    fn config(&self) -> PathBuf {
        match (&self.config, &self.department) {
            (Some(config), _) => config.clone(),
            (None, department) => Layout::new(&self.folder).node(department.as_deref().unwrap_or_default()).join("node.toml"),
        }
    }
}
