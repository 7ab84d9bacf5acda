//! `init`: from data that exists to a configuration that shares nothing.
//!
//! ```text
//! files (or a database's tables) ─▶ Table: columns, types, rows ─▶ study (a sample: patterns) ─▶ propose ─▶ write
//!                                                                      identifier ─▶ codes (all rows) ─┘
//! ```
//!
//! Invariants
//! - Sources are only read. No row's value is printed; of values, only the codes of short lists are written down, as a comment, and
//!   only where at least ten different subjects stand behind each.
//! - Everything is a guess for people to judge: each carries its reason, and what singles people out is left out.
//! - Nothing is shared: there is no agreement, and the node does not start before people have decided what only they can.
//!
//! To add a kind of source, fill [`Table`]s from it: the rest does not know where rows come from.

mod classify;
pub mod codes;
pub mod databases;
pub mod files;
mod identify;
pub mod keys;
mod profile;
mod propose;
pub mod table;
mod write;

use std::path::{Path, PathBuf};

use concordat_policy::Name;

pub use self::keys::Fingerprints;
pub use self::propose::{Left, Proposed, Subject};
pub use self::table::{Column, InspectError, Table};
pub use self::write::{Written, quoted};

/// Whose node is made, and where.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The department.
    pub department: Name,
    /// The folder, which must be empty or absent.
    pub folder: PathBuf,
    /// The DNS name in the node's certificate, as the gateway's `departments.toml` will have it.
    pub server_name: String,
    /// `[[connection]]`, where the tables are in a database.
    pub connection: Option<String>,
}

/// Studies `tables` and writes a node's folder for them.
///
/// # Errors
/// [`InspectError`]: nothing is written when no table can be read; one of several that cannot is left out, and said.
pub async fn init(wanted: &Wanted, tables: Vec<Table>) -> Result<Written, InspectError> {
    vacant(&wanted.folder)?;
    let (mut proposed, mut left_out): (Vec<Proposed>, Vec<InspectError>) = (Vec::new(), Vec::new());
    for table in tables {
        let name = propose::dataset_name(&table.name, &proposed);
        match propose::propose(name, table).await {
            Ok(table) => proposed.push(table),
            Err(unreadable) => left_out.push(unreadable),
        }
    }
    if proposed.is_empty() && !left_out.is_empty() {
        return Err(left_out.remove(0));
    }
    Ok(Written { left_out, ..write::write(wanted, proposed)? })
}

/// Refuses a folder that holds something: nothing of it could be replaced safely.
fn vacant(folder: &Path) -> Result<(), InspectError> {
    let remedy = "name a folder that does not exist yet";
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(InspectError::new(folder.display(), "is not empty, and nothing in it is replaced", remedy)),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(InspectError::new(folder.display(), format!("cannot be used: {e}"), remedy))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
