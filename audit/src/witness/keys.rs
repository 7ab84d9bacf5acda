//! The keys of witnesses, each as it was seen first: another one counts only after a person has had the first forgotten.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::first::First;
use super::state::replace;
use crate::note::{Algorithm, VerifierKey};

const FILE: &str = "witnesses.json";

/// Why a key is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not a key of this witness.
    #[error("this is not a key of the witness '{0}'")]
    Form(String),
    /// The witness has another one here.
    #[error("the witness '{name}' has another key than it had before ('{known}'): a person must acknowledge it first")]
    Changed {
        /// Which witness.
        name: String,
        /// The key that came first.
        known: String,
    },
    /// The file, or what was to be told first.
    #[error("the keys of witnesses cannot be read or kept")]
    File(#[from] io::Error),
}

/// The keys, in a folder.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    turn: Mutex<()>,
    first: First,
}

impl Keys {
    /// The keys that are kept in `folder`.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), turn: Mutex::default(), first: First::default() }
    }

    /// The key of the witness `name`. Where it is seen for the first time, `tell` must have told so durably before it is kept: again after
    /// the program ended between the two, never not at all. Blocks.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn see(&self, name: &str, key: &str, tell: impl FnOnce(&VerifierKey) -> io::Result<()>) -> Result<VerifierKey, KeyError> {
        let form = || KeyError::Form(name.to_owned());
        let key = VerifierKey::parse(key).map_err(|_| form())?;
        if key.name() != name || key.algorithm() != Algorithm::Cosignature {
            return Err(form());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = read(&self.folder)?;
        match known.get(name) {
            Some(known) if *known == key.to_string() => Ok(key),
            Some(known) => Err(KeyError::Changed { name: name.to_owned(), known: known.clone() }),
            None => {
                known.insert(name.to_owned(), key.to_string());
                self.first.met(&key.to_string(), || tell(&key), || write(&self.folder, &known))?;
                Ok(key)
            }
        }
    }

    /// The keys by the names of their witnesses. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn all(&self) -> io::Result<BTreeMap<String, String>> {
        read(&self.folder)
    }

    /// The keys themselves. Blocks.
    ///
    /// # Errors
    /// As [`Keys::all`].
    pub fn verifiers(&self) -> io::Result<Vec<VerifierKey>> {
        let keys = self.all()?;
        keys.values().map(|key| VerifierKey::parse(key).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))).collect()
    }

    /// Forgets the key of a witness, so that the next one is taken. A running program honours it at once. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = read(&self.folder)?;
        if known.remove(name).is_some() { write(&self.folder, &known) } else { Ok(()) }
    }
}

fn read(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    match std::fs::read(folder.join(FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(e),
    }
}

fn write(folder: &Path, known: &BTreeMap<String, String>) -> io::Result<()> {
    replace(folder, FILE, &serde_json::to_vec_pretty(known)?)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::note::Signer;

    #[test]
    fn the_first_key_stays_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = [1, 2].map(|seed| Signer::from_seed("w", Algorithm::Cosignature, &[seed; 32]).unwrap().key().to_string());
        let keys = Keys::at(folder.path());
        // What cannot be told is not kept.
        assert!(matches!(keys.see("w", &one, |_| Err(io::Error::other("the log is full"))), Err(KeyError::File(_))));
        assert!(keys.all().unwrap().is_empty());
        let told = RefCell::new(Vec::new());
        let tell = |key: &VerifierKey| {
            told.borrow_mut().push(key.to_string());
            Ok(())
        };
        keys.see("w", &one, tell).unwrap();
        assert_eq!(told.take(), [one.as_str()]);
        let never = |_: &VerifierKey| -> io::Result<()> { panic!("told again") };
        keys.see("w", &one, never).unwrap();
        let again = Keys::at(folder.path());
        assert!(matches!(again.see("w", &other, never), Err(KeyError::Changed { known, .. }) if known == one));
        let log = Signer::from_seed("w", Algorithm::Ed25519, &[1; 32]).unwrap().key().to_string();
        for (name, key) in [("v", one.as_str()), ("w", log.as_str()), ("w", "x")] {
            assert!(matches!(again.see(name, key, never), Err(KeyError::Form(_))), "{name} {key}");
        }
        // As a command does beside the program.
        again.forget("w").unwrap();
        keys.see("w", &other, tell).unwrap();
        assert_eq!(told.take(), [other.as_str()]);
        assert_eq!(keys.all().unwrap().into_values().collect::<Vec<_>>(), [other]);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(matches!(keys.see("w", &one, never), Err(KeyError::File(_))));
    }
}
