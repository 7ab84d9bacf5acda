//! What a command of this machine did beside the node, waiting to be taken into the access log: one private file per notice under
//! `state/notices`. A running node takes it at once, another at its next start; only then is it removed, so that a crash makes an
//! entry come twice (its `notice` shows it), never none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use concordat_audit::Entry;
use serde::{Deserialize, Serialize};

use crate::private;
use crate::suspension::Person;

/// The most bytes of a notice that are read.
const MOST: u64 = 60_000;

/// Somebody looked at what would leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviewMade {
    /// RFC 3339, UTC.
    pub(crate) at: String,
    pub(crate) by: Person,
    pub(crate) agreement: String,
    pub(crate) agreement_digest: String,
    pub(crate) consent_version: u64,
    /// By dataset and purpose, with the exact counts: the log is the department's own.
    pub(crate) datasets: Vec<serde_json::Value>,
}

/// A notice that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    path: PathBuf,
    damaged: bool,
    /// What the log is to hold.
    pub(crate) entry: Entry,
}

impl Waiting {
    /// Takes it away: the log has it. What nobody could understand stays, under another name.
    pub(crate) fn taken(&self) -> io::Result<()> {
        if self.damaged { fs::rename(&self.path, self.path.with_extension("damaged")) } else { fs::remove_file(&self.path) }
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("notices")
}

/// Leaves a notice, durably. The file is gone once a node has taken it into its log. Blocks.
pub(crate) fn leave(state: &Path, made: &PreviewMade) -> io::Result<PathBuf> {
    let folder = folder(state);
    private::folder_within(&folder)?;
    let path = folder.join(format!("{}.json", uuid::Uuid::now_v7()));
    let bytes = serde_json::to_vec(made).map_err(io::Error::other)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other("it is too long for one entry of the log: look at one purpose at a time"));
    }
    private::replace(&path, &bytes)?;
    Ok(path)
}

/// The notices that wait, oldest first. One that cannot be understood is itself worth an entry, and is set aside. Blocks.
pub(crate) fn waiting(state: &Path) -> io::Result<Vec<Waiting>> {
    let entries = match fs::read_dir(folder(state)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> io::Result<Waiting> {
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = if fs::metadata(&path)?.len() > MOST { Vec::new() } else { fs::read(&path)? };
    Ok(match serde_json::from_slice::<PreviewMade>(&bytes) {
        Ok(made) => Waiting { path, damaged: false, entry: preview(&name, made) },
        Err(_) => Waiting { path, damaged: true, entry: Entry::new("notice.damaged").field("notice", name) },
    })
}

fn preview(name: &str, made: PreviewMade) -> Entry {
    let entry = Entry::new("preview.made")
        .field("notice", name)
        .field("made_at", made.at)
        .field("agreement", made.agreement)
        .field("agreement_digest", made.agreement_digest)
        .field("consent_version", made.consent_version)
        .field("datasets", made.datasets);
    made.by.fields(entry)
}
