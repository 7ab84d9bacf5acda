//! What a witness remembers: one file, replaced as a whole, with its own SHA-256 as first line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::refused::Misconduct;
use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::note::{Note, VerifierKey};

/// The file.
pub(super) const STATE: &str = "witness.state";

/// The largest state that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// One log and what was cosigned of it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) key: VerifierKey,
    pub(super) latest: SignedCheckpoint,
    /// The notes of those before it, the newest last, each of another size. Verified when they were cosigned, and not again.
    pub(super) earlier: Vec<String>,
    /// The time of the last cosignature.
    pub(super) time: u64,
    /// What happened to the log since it was cosigned last.
    pub(super) refused: Option<Misconduct>,
}

impl Known {
    /// What is earlier once `next` is the latest.
    pub(super) fn earlier(&self, next: &SignedCheckpoint) -> Vec<String> {
        let mut earlier = self.earlier.clone();
        if self.latest.checkpoint().size != next.checkpoint().size {
            earlier.push(self.latest.note().to_string());
        }
        let most = earlier.len().saturating_sub(super::EARLIER);
        earlier.split_off(most)
    }

    /// The earlier one of this size, and its note.
    pub(super) fn of_size(&self, size: u64) -> Option<(Checkpoint, &str)> {
        let read = |note: &str| Checkpoint::parse(Note::parse(note.as_bytes()).ok()?.text()).ok();
        self.earlier.iter().filter_map(|note| Some((read(note)?, note.as_str()))).find(|(earlier, _)| earlier.size == size)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    key: String,
    checkpoint: String,
    earlier: Vec<String>,
    time: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Misconduct>,
}

/// Waits until nobody else uses the folder.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("witness.lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// The state in `folder`. The latest checkpoints are verified again.
pub(super) fn read(folder: &Path) -> io::Result<Vec<Known>> {
    let path = folder.join(STATE);
    let damaged = |what: &str| {
        let next = "restore it from a copy, never from nothing: this witness would cosign a fork";
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}; {next}", path.display()))
    };
    let size = fs::metadata(&path).map_err(|e| if e.kind() == io::ErrorKind::NotFound { damaged("it is missing") } else { e })?.len();
    if size > LARGEST {
        return Err(damaged("it is longer than 64 MiB"));
    }
    let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => damaged("it was changed or torn"),
        _ => e,
    })?;
    let body = text.split_once('\n').filter(|(digest, body)| *digest == hex(body.as_bytes())).map(|(_, body)| body);
    let stored: Vec<Stored> = body.and_then(|body| serde_json::from_str(body).ok()).ok_or_else(|| damaged("it was changed or torn"))?;
    let known = stored.into_iter().map(|stored| {
        let key = VerifierKey::parse(&stored.key).map_err(|e| damaged(&e.to_string()))?;
        let latest = SignedCheckpoint::open(stored.checkpoint.as_bytes(), &key).map_err(|e| damaged(&e.to_string()))?;
        Ok(Known { latest, earlier: stored.earlier, time: stored.time, refused: stored.refused, key })
    });
    known.collect()
}

/// Makes the state durable.
pub(super) fn write(folder: &Path, known: &[Known]) -> io::Result<()> {
    let stored: Vec<Stored> = known
        .iter()
        .map(|known| Stored {
            key: known.key.to_string(),
            checkpoint: known.latest.note().to_string(),
            earlier: known.earlier.clone(),
            time: known.time,
            refused: known.refused,
        })
        .collect();
    let body = serde_json::to_string(&stored)?;
    replace(folder, STATE, format!("{}\n{body}", hex(body.as_bytes())).as_bytes())
}

pub(super) fn exists(folder: &Path) -> bool {
    folder.join(STATE).symlink_metadata().is_ok()
}

/// Writes a file of mode 0600 durably, as a whole or not at all. It belongs to its folder's owner, so that a program can read what a
/// command wrote as another user.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    let owner = fs::metadata(folder)?;
    if owner.uid() != file.metadata()?.uid() {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()?;
    fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
