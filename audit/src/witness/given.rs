//! The newest cosignature of each witness, as this log's program got it: what shows that a witness forgot what it had cosigned, because
//! its state was restored from a backup, or begun anew.
//!
//! A witness that forgot may cosign another history, from there on. It does so for whoever shows it one: so the program that can tell says
//! so, until people have looked at it ([`Given::forget`]), also when the witness has caught up.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::state::{hex, replace};
use crate::checkpoint::Checkpoint;
use crate::note::Note;

/// The file, beside this program's own witness's state.
const FILE: &str = "given.json";

/// The newest cosignature of a witness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// How many entries it covers.
    pub size: u64,
    /// The checkpoint with the witness's line: a signed note.
    pub note: String,
    /// How many entries the witness knew after it had given this, where it forgot it; not acknowledged yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgot: Option<u64>,
}

impl Newest {
    /// What it covers.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        Checkpoint::parse(Note::parse(self.note.as_bytes()).ok()?.text()).ok()
    }
}

/// The cosignatures, in a folder.
#[derive(Debug)]
pub struct Given {
    folder: PathBuf,
    turn: Mutex<()>,
    /// How often lines were kept.
    kept: AtomicU64,
}

impl Given {
    /// Those that are kept in `folder`.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), turn: Mutex::default(), kept: AtomicU64::new(0) }
    }

    /// All of them, by the names of their witnesses. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn all(&self) -> io::Result<BTreeMap<String, Newest>> {
        read(&self.folder)
    }

    /// The newest of the witness `name`. Blocks.
    ///
    /// # Errors
    /// As [`Given::all`].
    pub fn newest(&self, name: &str) -> io::Result<Option<Newest>> {
        Ok(self.all()?.remove(name))
    }

    /// How often this program has kept lines since it opened the folder. Where that is another number than before, what a witness said
    /// before may be older than the newest cosignature.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// The newest of the witness `name`, where it forgot it, which is news: it knows `size` entries only, as it said after it had given this. With
    /// `kept`, [`Given::kept`] before it said so, it is none where lines were kept since. Who has told of it calls [`Given::forgot`]. Blocks.
    ///
    /// # Errors
    /// As [`Given::all`].
    pub fn lost(&self, name: &str, size: u64, kept: Option<u64>) -> io::Result<Option<Newest>> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = read(&self.folder)?.remove(name);
        Ok(newest.filter(|newest| newest.forgot.is_none() && size < newest.size && kept.is_none_or(|kept| kept == self.kept())))
    }

    /// Keeps lines of witnesses, verified, below a checkpoint over `size` entries, unless a larger one is known. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn note(&self, checkpoint: &str, size: u64, lines: &[(String, String)]) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = read(&self.folder)?;
        let own = Note::parse(checkpoint.as_bytes()).map_err(io::Error::other)?;
        let own = own.signatures().first().map(|line| Note::new(own.text(), line.clone()).to_string()).unwrap_or_default();
        let mut changed = false;
        for (name, line) in lines {
            let before = all.get(name);
            if before.is_none_or(|before| before.size < size) {
                let newest = Newest { size, note: format!("{own}{line}"), forgot: before.and_then(|before| before.forgot) };
                all.insert(name.clone(), newest);
                changed = true;
            }
        }
        if !changed {
            return Ok(());
        }
        self.kept.fetch_add(1, Ordering::AcqRel);
        write(&self.folder, &all)
    }

    /// The witness `name` knew `size` entries only after it had given `lost`, and the log tells of it. Whether that is news: then the
    /// cosignature is kept as evidence, `forgot-….json`. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn forgot(&self, name: &str, lost: &Newest, size: u64) -> io::Result<bool> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = read(&self.folder)?;
        let Some(newest) = all.get_mut(name).filter(|newest| newest.forgot.is_none() && size < newest.size) else { return Ok(false) };
        newest.forgot = Some(size);
        let told = serde_json::json!({ "witness": name, "cosigned": lost.note, "knows": size }).to_string();
        replace(&self.folder, &format!("forgot-{:.32}.json", hex(told.as_bytes())), told.as_bytes())?;
        write(&self.folder, &all)?;
        Ok(true)
    }

    /// Forgets what the witness `name` gave: for a person who knows why it forgot. A running program honours it at once. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = read(&self.folder)?;
        if all.remove(name).is_some() { write(&self.folder, &all) } else { Ok(()) }
    }
}

fn read(folder: &Path) -> io::Result<BTreeMap<String, Newest>> {
    match std::fs::read(folder.join(FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(e),
    }
}

fn write(folder: &Path, all: &BTreeMap<String, Newest>) -> io::Result<()> {
    replace(folder, FILE, &serde_json::to_vec_pretty(all)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Algorithm, Signer};

    const LOG: &str = "concordat/gateway";
    const NAME: &str = "concordat/dfe/witness";

    #[test]
    fn the_newest_stays_and_a_witness_that_knows_less_is_told_of_once_until_it_is_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let log = Signer::generate(LOG, Algorithm::Ed25519).unwrap();
        let witness = Signer::generate(NAME, Algorithm::Cosignature).unwrap();
        let given = Given::at(folder.path());
        let give = |size: u64| {
            let text = Checkpoint { origin: LOG.into(), size, root: [3; 32] }.text();
            let note = Note::new(&text, log.sign(&text, 0)).to_string();
            given.note(&note, size, &[(NAME.to_owned(), witness.sign(&text, 5).to_string())]).unwrap();
        };
        let forgot = |size: u64| {
            let lost = given.lost(NAME, size, Some(given.kept())).unwrap();
            lost.is_some_and(|lost| given.forgot(NAME, &lost, size).unwrap())
        };
        assert!(given.newest(NAME).unwrap().is_none() && !forgot(0), "nothing is known of it");
        for size in [4, 9, 7] {
            give(size);
        }
        let newest = given.newest(NAME).unwrap().unwrap();
        assert_eq!((newest.size, newest.forgot, newest.checkpoint().map(|checkpoint| checkpoint.size)), (9, None, Some(9)));
        let note = Note::parse(newest.note.as_bytes()).unwrap();
        assert!(
            note.signed_by(log.key()).unwrap().is_some() && note.signed_by(witness.key()).unwrap().is_some(),
            "it proves that it was given"
        );
        assert!(!forgot(9), "it knows as much");
        let before = given.kept();
        assert!(given.lost(NAME, 4, Some(before - 1)).unwrap().is_none(), "said before the newest was kept");
        let lost = given.lost(NAME, 4, Some(before)).unwrap().unwrap();
        assert_eq!(given.lost(NAME, 4, None).unwrap().as_ref(), Some(&lost), "until it is marked");
        assert!(forgot(4) && !given.forgot(NAME, &lost, 4).unwrap() && !forgot(0), "once");
        give(30);
        let again = Given::at(folder.path());
        assert_eq!(again.newest(NAME).unwrap().map(|newest| (newest.size, newest.forgot)), Some((30, Some(4))), "it has caught up");
        let files = || std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(files().filter(|file| file.starts_with("forgot-")).count(), 1);
        // As a command does beside the program.
        again.forget(NAME).unwrap();
        assert!(given.newest(NAME).unwrap().is_none());
        give(31);
        assert!(forgot(0), "it forgets again");
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(given.all().is_err());
    }
}
