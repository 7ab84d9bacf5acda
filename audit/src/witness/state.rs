//! What a witness remembers: one file, replaced as a whole, with its own SHA-256 as first line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::note::VerifierKey;

const STATE: &str = "witness.state";

/// One log and the latest of its checkpoints that was cosigned.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) key: VerifierKey,
    pub(super) latest: Option<SignedCheckpoint>,
    /// The time of the last cosignature.
    pub(super) time: u64,
}

impl Known {
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.latest.as_ref().map(SignedCheckpoint::checkpoint)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    key: String,
    checkpoint: Option<String>,
    time: u64,
}

/// The state in `folder`. Each checkpoint is verified again.
pub(super) fn read(folder: &Path) -> io::Result<Vec<Known>> {
    let damaged = |what: &str| {
        let next = "restore it from what the logs say of this witness, never from nothing: it would cosign a fork";
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}; {next}", folder.join(STATE).display()))
    };
    let text = fs::read_to_string(folder.join(STATE)).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => damaged("it is missing"),
        io::ErrorKind::InvalidData => damaged("it was changed or torn"),
        _ => e,
    })?;
    let body = text.split_once('\n').filter(|(digest, body)| *digest == hex(body.as_bytes())).map(|(_, body)| body);
    let stored: Vec<Stored> = body.and_then(|body| serde_json::from_str(body).ok()).ok_or_else(|| damaged("it was changed or torn"))?;
    let known = stored.into_iter().map(|stored| {
        let key = VerifierKey::parse(&stored.key).map_err(|e| damaged(&e.to_string()))?;
        let latest = stored.checkpoint.map(|text| SignedCheckpoint::open(text.as_bytes(), &key)).transpose();
        Ok(Known { latest: latest.map_err(|e| damaged(&e.to_string()))?, key, time: stored.time })
    });
    known.collect()
}

/// Makes the state durable.
pub(super) fn write(folder: &Path, known: &[Known]) -> io::Result<()> {
    let stored: Vec<Stored> = known
        .iter()
        .map(|known| Stored {
            key: known.key.to_string(),
            checkpoint: known.latest.as_ref().map(|latest| latest.note().to_string()),
            time: known.time,
        })
        .collect();
    let body = serde_json::to_string(&stored)?;
    replace(folder, STATE, format!("{}\n{body}", hex(body.as_bytes())).as_bytes())
}

pub(super) fn exists(folder: &Path) -> bool {
    folder.join(STATE).symlink_metadata().is_ok()
}

/// Writes a file of mode 0600 durably, as a whole or not at all.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
