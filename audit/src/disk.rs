//! Everything that the log does to its folder, so that what is said to be durable is, and that tests can make any step fail.
//!
//! ```text
//! new/NAME ─ write ─ fsync ─▶ rename to its place ─▶ fsync of every folder that changed
//! ```
//!
//! A folder that is there may have been made by a run that was killed before its name was durable. So each is taken for new, up to the log's
//! own, until this process has made its name durable once.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A step, as a test sees it before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes are added to the tail.
    Append,
    /// A file is written.
    Write,
    /// A file is moved to its place.
    Rename,
    /// A folder's names are made durable.
    Settle,
    /// Something is removed.
    Remove,
}

/// Asked before each step; what it answers is what the step ends in.
pub(crate) type Faults = Arc<dyn Fn(Step, &Path) -> io::Result<()> + Send + Sync>;

/// Steps that were taken, and of which file or folder.
#[cfg(test)]
pub(crate) type Noted = Arc<Mutex<Vec<(Step, PathBuf)>>>;

/// What notes each step and lets it be, for tests, and what it noted.
#[cfg(test)]
pub(crate) fn noted() -> (Noted, Faults) {
    let steps = Noted::default();
    let faults = Arc::clone(&steps);
    let noting = move |step, path: &Path| {
        faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((step, path.to_owned()));
        Ok(())
    };
    (steps, Arc::new(noting))
}

/// A log's folder.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) folder: PathBuf,
    faults: Faults,
    /// Folders below whose names this process has made durable.
    durable: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Disk").field(&self.folder).finish()
    }
}

/// The file whose lock the writer holds.
const LOCK: &str = "lock";

/// Where files are written before they have their place.
const NEW: &str = "new";

impl Disk {
    pub(crate) fn at(folder: &Path) -> Self {
        Self::with(folder, Arc::new(|_, _| Ok(())))
    }

    pub(crate) fn with(folder: &Path, faults: Faults) -> Self {
        Self { folder: folder.to_owned(), faults, durable: Arc::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Creates the folder and holds it until the file is dropped: one writer per folder.
    pub(crate) fn lock(&self) -> io::Result<File> {
        founded(&self.folder)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(self.path(LOCK))?;
        file.try_lock().map_err(|e| io::Error::other(format!("another process writes this log: {e}")))?;
        Ok(file)
    }

    /// Takes away what a crash left half written.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.path(NEW)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => self.make_room(),
        }
    }

    /// Makes the place where files are written before they have theirs.
    pub(crate) fn make_room(&self) -> io::Result<()> {
        private(&self.path(NEW))
    }

    /// Puts every file in its place, complete and durable, or fails; then some of them may be there.
    pub(crate) fn publish(&self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let mut changed = BTreeSet::new();
        let mut written = Vec::with_capacity(files.len());
        for (name, bytes) in files {
            let path = self.path(name);
            self.parents(&path, &mut changed)?;
            written.push((self.write_new(name, bytes)?.0, path));
        }
        for (new, path) in written {
            (self.faults)(Step::Rename, &path)?;
            fs::rename(new, path)?;
        }
        self.settle_all(changed)
    }

    /// Makes files durable that are in their places, whoever put them there: they may have been written by a run that was killed.
    pub(crate) fn secure(&self, names: &[String]) -> io::Result<()> {
        let mut changed = BTreeSet::new();
        for name in names {
            let path = self.path(name);
            self.parents(&path, &mut changed)?;
            self.settle(&path)?;
        }
        self.settle_all(changed)
    }

    fn settle_all(&self, changed: BTreeSet<PathBuf>) -> io::Result<()> {
        changed.iter().try_for_each(|folder| self.settle(folder))?;
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).extend(changed);
        Ok(())
    }

    /// A file that is whole and durable but not yet in its place, and a handle to it.
    pub(crate) fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<(PathBuf, File)> {
        let new = self.path(NEW).join(name.replace('/', "-"));
        (self.faults)(Step::Write, &new)?;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok((new, file))
    }

    /// Puts what [`Disk::write_new`] wrote over the file `name` of the folder itself.
    pub(crate) fn replace(&self, new: &Path, name: &str) -> io::Result<()> {
        (self.faults)(Step::Rename, &self.path(name))?;
        fs::rename(new, self.path(name))?;
        self.settle(&self.folder)
    }

    /// Adds bytes to an open file and waits until they are on stable storage.
    pub(crate) fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        (self.faults)(Step::Append, &self.folder)?;
        file.write_all(bytes)?;
        file.sync_data()
    }

    /// Asks whether a step on the file `name` fails, for who does it on its own.
    pub(crate) fn ask(&self, step: Step, name: &str) -> io::Result<()> {
        (self.faults)(step, &self.path(name))
    }

    /// Makes a folder's names, or a file's bytes, durable.
    pub(crate) fn settle(&self, folder: &Path) -> io::Result<()> {
        (self.faults)(Step::Settle, folder)?;
        File::open(folder)?.sync_all()
    }

    /// Removes a file or a folder with all in it; what is not there is removed.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        (self.faults)(Step::Remove, path)?;
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
    }

    /// Creates the folders above `path`; `changed` are those in which names must be made durable.
    fn parents(&self, path: &Path, changed: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        let is_durable = || parent.is_dir() && self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(parent);
        if parent != self.folder && !changed.contains(parent) && !is_durable() {
            self.parents(parent, changed)?;
            private(parent)?;
        }
        changed.insert(parent.to_owned());
        Ok(())
    }
}

/// Which file it is, by whatever name: its device and inode. `None` for one that is not there.
pub(crate) fn which(found: io::Result<Metadata>) -> Option<(u64, u64)> {
    found.map(|of| (of.dev(), of.ino())).ok()
}

/// Whether a running program writes the log in `folder`.
#[must_use]
pub fn is_written(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Creates the log's folder and those above it that are not there, each durable in the one above, whoever made it.
fn founded(folder: &Path) -> io::Result<()> {
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        if !above.is_dir() {
            founded(above)?;
        }
        private(folder)?;
    }
    match File::open(above) {
        // It is another's, who made this folder for the log.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_all(),
    }
}

pub(crate) fn private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
