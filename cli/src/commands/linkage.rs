//! `concordat linkage`: how well the records of departments find each other, and the keys of pseudonyms at one department, as its own
//! administrators see them.

mod report;
mod statement;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use concordat_node::command::{Command, LinkageCommand, LinkageRotateArgs, LinkageShowArgs};
use concordat_policy::Name;

use self::report::Report;
use super::consent::Ledger;
use crate::run;

#[derive(Debug, Subcommand)]
pub(crate) enum Linkage {
    /// Who is missing from a view: match rates by a column's values, and how matched and unmatched people differ
    Report(Report),
    /// Show a department's linkage domains, the keys that it holds, and who may hold them; no key is shown
    #[command(after_help = "Example:\n  concordat linkage show --department dwp")]
    Show {
        /// Of which department
        #[command(flatten)]
        of: Ledger,
    },
    /// Write an agreement's next text, with which pseudonyms begin anew once every party has signed it
    #[command(
        after_help = "Example:\n  concordat linkage rotate opportunity --department dwp --out opportunity.toml\n\n`concordat node linkage rotate --help` says what happens then."
    )]
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The agreement's id
    #[arg(value_name = "AGREEMENT")]
    agreement: String,
    #[command(flatten)]
    of: Ledger,
    /// Another party that makes the keys from then on
    #[arg(long, value_name = "DEPARTMENT", value_parser = |text: &str| Name::parse(text).map_err(|e| e.to_string()))]
    keyholder: Option<Name>,
    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Linkage {
    pub(crate) async fn run(self) -> miette::Result<()> {
        let command = match self {
            Self::Report(report) => return Ok(report.run().await?),
            Self::Show { of } => LinkageCommand::Show(LinkageShowArgs { config: of.config() }),
            Self::Rotate(Rotate { agreement, of, keyholder, out }) => {
                LinkageCommand::Rotate(LinkageRotateArgs { agreement, config: of.config(), keyholder, out })
            }
        };
        run::node(Command::Linkage(command)).await
    }
}
