//! An agreement's file, and what lies beside it.

use std::path::Path;

use concordat_policy::{Agreement, Problem, Signatures};
use concordat_proto::signature::{files, kept};

use crate::failure::{Failure, Result};
use crate::federation::layout::read;

/// The agreement in a file.
pub(super) fn agreement(path: &Path) -> Result<Agreement> {
    let text = read(path)?;
    Agreement::parse(&text).map_err(|problems| unsound(path, &text, &problems))
}

/// Where a gateway keeps which keys are revoked and which are in succession, and what it has seen of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gateway<'a> {
    pub(super) estate: &'a Path,
    pub(super) state: &'a Path,
}

/// Each party's signature, as it lies beside the agreement; and the revoked keys and successions, as the gateway has them where one is
/// named, else as they lie beside it too.
pub(super) fn signatures(path: &Path, agreement: &Agreement, gateway: Option<Gateway<'_>>) -> Result<Signatures> {
    let beside = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = gateway.map_or_else(|| beside.to_owned(), |gateway| gateway.estate.join("agreements"));
    // A folder that is not there holds no list, and would pass everything.
    for folder in gateway.iter().flat_map(|gateway| [folder.as_path(), gateway.state]) {
        if !folder.is_dir() {
            return Err(Failure::new(format!("{} is no folder that can be read", folder.display()))
                .advice("name `estate` and `state` as gateway.toml does, and run this as the gateway's user"));
        }
    }
    let state = gateway.map(|gateway| gateway.state);
    let revoked = match state {
        Some(state) => files::revoked_ever(&folder, state).map(|(revoked, _)| revoked),
        None => files::revoked(&folder),
    };
    let revoked = revoked.map_err(|damaged| unsound(&damaged.path, &damaged.text, &damaged.problems))?;
    let seen = kept::seen(&folder, state).map_err(|damaged| unsound(&damaged.path, &damaged.text, &damaged.problems))?;
    let mut signatures = Signatures::new(revoked, seen);
    for party in &agreement.parties {
        signatures.add(&agreement.id, &party.department, files::find(path, &party.department));
    }
    Ok(signatures)
}

/// Whether a file waits in an inbox: there lies no list of revoked keys and no statement of succession.
pub(super) fn in_an_inbox(path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.ancestors().skip(1).any(|folder| folder.file_name().is_some_and(|name| name == "inbox"))
}

/// What is wrong with a file, each with its line and its remedy.
fn unsound(path: &Path, text: &str, problems: &[Problem]) -> Failure {
    let line = |problem: &Problem| format!("{}:{}: {}; {}", path.display(), problem.line(text), problem.cause, problem.remedy);
    Failure::new(problems.iter().map(line).collect::<Vec<_>>().join("\n")).advice("correct each line; nothing else was looked at")
}
