//! Where signatures lie: beside the agreement's file, with the list of revoked keys and statements of succession.
//!
//! ```text
//! agreements/opportunity.toml
//! agreements/opportunity.toml.dfe.sig     one per party
//! agreements/revoked.toml                 optional
//! agreements/dfe.1a2b3c4d5e6f7a8b.succession   of the key whose fingerprint begins like this; optional
//! state/revoked.toml                      what a program has seen revoked, its own
//! ```

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use concordat_policy::signature::{Fault, Statement};
use concordat_policy::{Name, Problem, Revocations};

use super::{MAX_BYTES, read};

/// The name of the list of revoked keys.
pub const REVOKED: &str = "revoked.toml";

/// A list of revoked keys that cannot be relied on: then no signature can be.
#[derive(Debug)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// Its text; empty where it cannot be read.
    pub text: String,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Whether a file of a folder of agreements is meant as one.
#[must_use]
pub fn is_agreement(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "toml") && path.file_name().is_none_or(|name| name != REVOKED)
}

/// Where the signature of an agreement's file by `department` lies.
#[must_use]
pub fn beside(agreement: &Path, department: &Name) -> PathBuf {
    let mut path = agreement.as_os_str().to_owned();
    path.push(format!(".{department}.sig"));
    PathBuf::from(path)
}

/// What the signature beside an agreement's file states.
///
/// # Errors
/// As [`read`]; [`Fault::Missing`] or [`Fault::Unreadable`] where there is no such file, or it cannot be read.
pub fn find(agreement: &Path, department: &Name) -> Result<Statement, Fault> {
    let path = beside(agreement, department);
    let mut content = Vec::new();
    // One byte more than is taken tells that the file is too long.
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    match File::open(&path).and_then(|file| file.take(most).read_to_end(&mut content)) {
        Ok(_) => read(&content),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Fault::Missing),
        Err(e) => Err(Fault::Unreadable(format!("{}: {e}", path.display()))),
    }
}

/// The revoked keys of a folder of agreements; none where it has no list of them.
///
/// # Errors
/// [`Damaged`].
pub fn revoked(folder: &Path) -> Result<Revocations, Damaged> {
    let path = folder.join(REVOKED);
    match std::fs::read_to_string(&path) {
        Ok(text) => Revocations::parse(&text).map_err(|problems| Damaged { path, text, problems }),
        // A link to nothing was meant to be a list.
        Err(e) if e.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => Ok(Revocations::default()),
        Err(e) => {
            let problem =
                Problem::at("", format!("cannot be read: {e}"), "correct the file or its permissions; nothing is believed without it");
            Err(Damaged { path, text: String::new(), problems: vec![problem] })
        }
    }
}

/// The keys that count as revoked: those that a folder of agreements lists, and those that a program has seen revoked before and keeps
/// in its folder of state. And what the operator should know of keys that the list forgets.
///
/// # Errors
/// [`Damaged`], of either list.
pub fn revoked_ever(folder: &Path, state: &Path) -> Result<(Revocations, Vec<String>), Damaged> {
    let (listed, seen) = (revoked(folder)?, revoked(state)?);
    let forgotten = listed.forgotten(&seen);
    Ok((listed.after(&seen), forgotten))
}

/// Keeps in the folder of state what counts as revoked. `replace` writes a private file durably and as a whole.
///
/// # Errors
/// When it cannot be written.
pub fn remember(state: &Path, counts: &Revocations, replace: impl FnOnce(&Path, &[u8]) -> io::Result<()>) -> io::Result<()> {
    if revoked(state).is_ok_and(|kept| kept == *counts) {
        return Ok(());
    }
    replace(&state.join(REVOKED), counts.to_toml().map_err(io::Error::other)?.as_bytes())
}
