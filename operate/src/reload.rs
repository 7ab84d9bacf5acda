//! What is read again when its files change, or on SIGHUP.
//!
//! Files, and the files of folders, are looked at twice a second and must have stayed as they are for one look before they are read:
//! a certificate and its key are two files, and nobody writes both at once. Files that do not come to rest are read anyway. What cannot
//! be used is reported once, and the old stays, as far as the action leaves it; it is tried again until it can be used.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Fault;
use crate::server::notify_reloading;

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// After how many looks at which files changed they are read anyway.
const UNSETTLED: u32 = 4;
/// How long after a fault the files are read again, though they did not change: what could not be read may be readable.
const AGAIN: Duration = Duration::from_secs(30);

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
    /// Looks in a row at which the files were not as at the one before.
    unsettled: u32,
    /// The last fault, and when to try again.
    again: Option<(Instant, Fault)>,
    action: Action,
}

/// Modification time, length and inode; `None` while the file is not there.
type Stamp = Option<(i64, i64, u64, u64)>;

impl Reloads {
    /// Adds something: files, or folders whose files count. `action` reads them again and tells what is in force now; its fault
    /// says what cannot be used, and is tried again.
    pub fn add(&mut self, what: &'static str, files: Vec<PathBuf>, action: impl FnMut() -> Result<String, Fault> + Send + 'static) {
        let stamps = stamps(&files);
        self.all.push(Reload { what, files, read: stamps.clone(), seen: stamps, unsettled: 0, again: None, action: Box::new(action) });
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
    /// Reads the files again if they changed and have settled or never do, or if a fault is to be tried again.
    fn look(&mut self) {
        let present = stamps(&self.files);
        let settled = present == self.seen;
        self.seen = present;
        self.unsettled = if settled { 0 } else { self.unsettled.saturating_add(1) };
        if self.seen != self.read && (settled || self.unsettled >= UNSETTLED) {
            self.now();
        } else if settled && self.again.as_ref().is_some_and(|(at, _)| *at <= Instant::now()) {
            let known = self.again.take().map(|(_, fault)| fault);
            self.act(known.as_ref());
        }
    }

    fn now(&mut self) {
        self.act(None);
    }

    /// Reads the files again. A fault that is `known` is not reported.
    fn act(&mut self, known: Option<&Fault>) {
        self.read = stamps(&self.files);
        self.seen.clone_from(&self.read);
        self.unsettled = 0;
        self.again = match (self.action)() {
            Ok(now) => {
                tracing::info!(what = self.what, now, "reloaded");
                None
            }
            Err(fault) => {
                if known != Some(&fault) {
                    tracing::error!(what = self.what, cause = %fault, remedy = fault.remedy, "not reloaded");
                }
                Some((Instant::now() + AGAIN, fault))
            }
        };
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
    fn files_that_never_settle_are_read_and_a_fault_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let mut reloads = Reloads::default();
        reloads.add("f", vec![file.clone()], move || match counted.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(Fault::new("f", "is bad", "mend it")),
            _ => Ok("good".into()),
        });
        let reload = reloads.all.first_mut().unwrap();
        for look in 1..=4 {
            assert_eq!(count.load(Ordering::Relaxed), 0, "before look {look}");
            std::fs::write(&file, "x".repeat(look)).unwrap();
            reload.look();
        }
        assert_eq!(count.load(Ordering::Relaxed), 1, "four looks at a file that changes");
        for read in [1, 2] {
            reload.look();
            assert_eq!(count.load(Ordering::Relaxed), read, "not yet");
            let (at, fault) = reload.again.as_mut().unwrap();
            assert_eq!(fault.cause, "is bad");
            *at = Instant::now();
            reload.look();
            assert_eq!(count.load(Ordering::Relaxed), read + 1, "tried again");
        }
        assert!(reload.again.is_none(), "mended");
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
