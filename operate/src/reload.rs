//! What is read again when its files change, or on SIGHUP.
//!
//! Files, and the files of folders, are looked at twice a second and must have stayed as they are for one look before they are read:
//! a certificate and its key are two files, and nobody writes both at once. What cannot be used is reported once, and the old stays.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Fault;
use crate::server::notify_reloading;

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(500);

type Action = Box<dyn FnMut() -> Result<String, Fault> + Send>;

/// Everything that can be reloaded.
#[derive(Default)]
pub struct Reloads {
    all: Vec<Reload>,
}

struct Reload {
    what: &'static str,
    files: Vec<PathBuf>,
    read: Vec<(PathBuf, Stamp)>,
    seen: Vec<(PathBuf, Stamp)>,
    action: Action,
}

/// Modification time, length and inode; `None` while the file is not there.
type Stamp = Option<(i64, i64, u64, u64)>;

impl Reloads {
    /// Adds something: files, or folders whose files count. `action` reads them again and tells what is in force now; its fault
    /// leaves the old in force.
    pub fn add(&mut self, what: &'static str, files: Vec<PathBuf>, action: impl FnMut() -> Result<String, Fault> + Send + 'static) {
        let stamps = stamps(&files);
        self.all.push(Reload { what, files, read: stamps.clone(), seen: stamps, action: Box::new(action) });
    }

    /// Watches until `stop`.
    pub async fn watch(mut self, stop: CancellationToken) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = hung_up(&mut hangup) => {
                    notify_reloading(|| self.all.iter_mut().for_each(Reload::now));
                }
                () = tokio::time::sleep(LOOK) => self.all.iter_mut().for_each(Reload::look),
            }
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

impl Reload {
    /// Reads the files again if they changed and have settled.
    fn look(&mut self) {
        let present = stamps(&self.files);
        let settled = present == self.seen;
        self.seen = present;
        if settled && self.seen != self.read {
            self.now();
        }
    }

    fn now(&mut self) {
        self.read = stamps(&self.files);
        self.seen.clone_from(&self.read);
        match (self.action)() {
            Ok(now) => tracing::info!(what = self.what, now, "reloaded"),
            Err(fault) => {
                tracing::error!(what = self.what, cause = %fault, remedy = fault.remedy, "not reloaded: what was in force stays so");
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<(PathBuf, Stamp)> {
    let stamp = |file: PathBuf| {
        let stamp = std::fs::metadata(&file).ok().map(|m| (m.mtime(), m.mtime_nsec(), m.len(), m.ino()));
        (file, stamp)
    };
    files.iter().flat_map(|file| within(file)).map(stamp).collect()
}

/// A file; of a folder also what lies in it, by name.
fn within(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    all.sort();
    all.push(path.to_owned());
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_change_is_read_once_it_has_settled_and_once_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "a").unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let mut reloads = Reloads::default();
        reloads.add("f", vec![file.clone()], move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(Fault::new("f", "is bad", "mend it"))
        });
        let mut look = || reloads.all.iter_mut().for_each(Reload::look);
        look();
        assert_eq!(count.load(Ordering::Relaxed), 0);
        std::fs::write(&file, "bb").unwrap();
        look();
        assert_eq!(count.load(Ordering::Relaxed), 0, "not settled");
        look();
        look();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        std::fs::remove_file(&file).unwrap();
        look();
        look();
        assert_eq!(count.load(Ordering::Relaxed), 2, "a file that went is a change");
    }

    #[test]
    fn whatever_changes_in_a_folder_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let watched = [folder.path().to_owned()];
        let mut before = stamps(&watched);
        let mut changed = |what: &str| {
            let now = stamps(&watched);
            assert_ne!(now, before, "{what}");
            before = now;
        };
        std::fs::write(file("a"), "a").unwrap();
        changed("a new file");
        std::fs::write(file("a"), "longer").unwrap();
        changed("a file's content");
        std::fs::rename(file("a"), file("b")).unwrap();
        changed("a file's name");
        std::fs::remove_file(file("b")).unwrap();
        changed("a file that went");
        std::fs::remove_dir(folder.path()).unwrap();
        changed("the folder itself");
    }
}
