//! `concordat audit archive`: moves old entries of a log to another folder.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Args;
use concordat_audit::archive::archive;

use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  concordat audit archive --log /var/lib/concordat-gateway/log --to /srv/archive/gateway-2027 --before 2027-04-01T00:00:00Z

Moves entries in bundles of 256, oldest first, each once it is durable in the archive and proven to be what the log signed. The program may
run meanwhile, and the log tells of it as `log.archived`. Killed, it is repeated with the same arguments. Run it as the user who runs the
program. No file of an archive ever changes, so a synchronised folder or a mounted object store will do.")]
pub(crate) struct Archive {
    /// The folder of a gateway's or node's log
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    /// The archive; it is made where there is none
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Entries older than this, such as 2027-04-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    before: DateTime<Utc>,
}

pub(super) fn run(command: &Archive) -> Result<()> {
    let failed = |e: std::io::Error| {
        Failure::file("archived", &command.log, e)
            .advice("what was not moved is still in the log: mend the cause and repeat the command; if an entry was changed, keep both folders as evidence")
    };
    let told = match archive(&command.log, &command.to, command.before).map_err(failed)? {
        Some(moved) => format!(
            "moved entries {} to {}; to read them: --archive {}\n",
            out::thousands(moved.first),
            out::thousands(moved.last),
            command.to.display()
        ),
        None => "nothing to move: no 256 entries that belong together are all older\n".to_owned(),
    };
    out::result(&told)
}
