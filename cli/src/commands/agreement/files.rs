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

/// What lies beside it: each party's signature, the revoked keys, and successions.
pub(super) fn signatures(path: &Path, agreement: &Agreement) -> Result<Signatures> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let revoked = files::revoked(folder).map_err(|damaged| unsound(&damaged.path, &damaged.text, &damaged.problems))?;
    let seen = kept::seen(folder, None).map_err(|damaged| unsound(&damaged.path, &damaged.text, &damaged.problems))?;
    let mut signatures = Signatures::new(revoked, seen);
    for party in &agreement.parties {
        signatures.add(&agreement.id, &party.department, files::find(path, &party.department));
    }
    Ok(signatures)
}

/// What is wrong with a file, each with its line and its remedy.
fn unsound(path: &Path, text: &str, problems: &[Problem]) -> Failure {
    let line = |problem: &Problem| format!("{}:{}: {}; {}", path.display(), problem.line(text), problem.cause, problem.remedy);
    Failure::new(problems.iter().map(line).collect::<Vec<_>>().join("\n")).advice("correct each line; nothing else was looked at")
}
