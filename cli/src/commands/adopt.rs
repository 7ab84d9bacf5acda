//! `concordat adopt`: puts an edited agreement (or view) where the programs look for it.

use std::path::PathBuf;

use clap::Args;
use concordat_policy::Basis;

use super::init::POWER_TO_BE_NAMED;
use crate::failure::{Failure, Result};
use crate::federation::layout::{read, write};
use crate::federation::{Layout, adopt};
use crate::out;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat adopt trial trial/agreement.toml trial/view.sql
  concordat up trial

An agreement (.toml) is checked, signed with the key of each party, and copied to the node of each and to the estate; an outcome
view (.sql) goes to the estate under its file's name. For trying out on one machine. In production nobody can do this for another:
each department puts its own copy beside its own node and signs that itself, and a node releases nothing that its own copy does not
permit, nor under one that it has not signed.")]
pub(crate) struct Adopt {
    /// The federation's folder
    folder: PathBuf,
    /// Agreements (.toml) and views (.sql)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(command: Adopt) -> Result<()> {
    let layout = Layout::new(&command.folder);
    layout.departments()?;
    for file in &command.files {
        let text = read(file)?;
        if file.extension().is_some_and(|end| end == "sql") {
            let name = file.file_name().ok_or_else(|| Failure::usage(format!("{} has no name", file.display())))?;
            write(&layout.estate().join("views").join(name), &text)?;
            out::progress(&format!("view {}: in the estate", name.to_string_lossy()));
            continue;
        }
        let agreement =
            adopt(&layout, &text).map_err(|failure| Failure { message: format!("{}: {}", file.display(), failure.message), ..failure })?;
        let parties: Vec<&str> = agreement.parties.iter().map(|party| party.department.as_str()).collect();
        out::progress(&format!("agreement {}: signed by {}, and copied to each and to the estate", agreement.id, parties.join(", ")));
        out::progress("note: here one folder holds every key; in production each department signs itself: concordat-node agreement sign");
        if agreement.datasets.iter().all(|dataset| dataset.columns.values().all(|column| column.uses.is_empty())) {
            out::progress("note: it permits no use of any column yet, so nothing will be shared; fill in `uses`");
        }
        let unnamed = |basis: &Basis| matches!(basis, Basis::Statutory { power, .. } if power == POWER_TO_BE_NAMED);
        for dataset in agreement.datasets.iter().filter(|dataset| unnamed(&dataset.basis)) {
            out::progress(&format!("note: nobody has named the power that lets {} be used", dataset.name));
        }
    }
    out::progress(&format!("nodes and gateway read them when they start: {} up {}", super::program(), command.folder.display()));
    Ok(())
}
