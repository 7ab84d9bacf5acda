//! `concordat audit proof`: proofs from a log's folder, as files that others verify.

use std::path::PathBuf;

use clap::Args;

use super::inert::inert;
use super::read::Archives;
use super::receipt::hand_over;
use crate::failure::{Failure, Result};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat audit proof --log concordat-demo/gateway/log --entry 42 --to entry-42.receipt
  concordat audit proof --log concordat-demo/gateway/log --from 1200 --to-size 5000 --to march-to-april.json

With --entry, a receipt of that entry under the log's latest checkpoint, with the entry itself and without a promise. With --from and
--to-size, the proof that a log of so many entries is the beginning of a larger one. Both are for `concordat audit verify-receipt`.")]
pub(crate) struct Proof {
    /// The folder of a gateway's or node's log
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    #[command(flatten)]
    archives: Archives,
    /// An entry's number, from 1
    #[arg(long, value_name = "N", required_unless_present = "from", conflicts_with = "from", value_parser = clap::value_parser!(u64).range(1..))]
    entry: Option<u64>,
    /// Entries of the older log
    #[arg(long, value_name = "N", requires = "to_size")]
    from: Option<u64>,
    /// Entries of the newer log
    #[arg(long, value_name = "N", requires = "from")]
    to_size: Option<u64>,
    /// Write it to a file, which bears its name only when it is whole
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub(super) fn run(command: &Proof) -> Result<()> {
    let unproven = |e: std::io::Error| {
        Failure::new(format!("the log in {} has no such proof: {}", command.log.display(), inert(&e.to_string()))).advice(
            "is it the folder `log` of a gateway or node? Of what was moved to an archive, --archive names it. Entries are proven once a \
                 checkpoint covers them, within a second",
        )
    };
    let text = match (command.entry, command.from, command.to_size) {
        (Some(entry), _, _) => {
            let index = entry.saturating_sub(1);
            concordat_audit::inclusion_with(&command.log, command.archives.folders(), index).map_err(unproven)?.write()
        }
        (None, Some(from), Some(to)) => concordat_audit::consistency(&command.log, from, to).map_err(unproven)?.write(),
        _ => return Err(Failure::usage("say --entry, or --from and --to-size")),
    };
    hand_over(command.to.as_deref(), &text)
}
