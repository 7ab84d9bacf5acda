//! `concordat linkage`: how well the records of departments find each other.

mod report;
mod statement;

use clap::Subcommand;

use self::report::Report;
use crate::failure::Result;

#[derive(Debug, Subcommand)]
pub(crate) enum Linkage {
    /// Who is missing from a view: match rates by a column's values, and how matched and unmatched people differ
    Report(Report),
}

pub(crate) async fn run(linkage: Linkage) -> Result<()> {
    match linkage {
        Linkage::Report(report) => report.run().await,
    }
}
