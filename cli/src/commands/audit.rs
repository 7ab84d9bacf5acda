//! `concordat audit`: the access log, for those who review it.

use clap::Subcommand;

use crate::failure::Result;

mod verify;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Prove that nobody edited a log: from its folder and keys alone, without any service
    Verify(verify::Verify),
}

pub(crate) fn run(audit: &Audit) -> Result<()> {
    match audit {
        Audit::Verify(verify) => verify::run(verify),
    }
}
