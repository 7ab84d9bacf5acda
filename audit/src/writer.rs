//! The writer: one thread per log that takes waiting entries together, writes them, syncs once and then acknowledges each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use chrono::{SecondsFormat, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::oneshot;

use crate::Entry;
use crate::file::{LogFile, MAX_LINE};

/// Why an entry is not in the log. Nothing may leave the service then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The log cannot be opened.
    #[error("the log in {folder} cannot be opened")]
    Open {
        /// Where.
        folder: PathBuf,
        /// The system's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The entry cannot be made durable: disk full, I/O error, read-only.
    #[error("the log cannot be written")]
    Write(#[source] Arc<io::Error>),
    /// The entry is longer than 65,535 bytes.
    #[error("a log entry may be at most 65,535 bytes")]
    TooLong,
    /// More entries wait than the writer takes.
    #[error("the log cannot keep up")]
    Busy,
    /// The writer has ended.
    #[error("the log is closed")]
    Closed,
}

struct Waiting {
    entry: Entry,
    done: oneshot::Sender<Result<u64, LogError>>,
}

/// A handle to one log. Clones share it.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Waiting>,
    digest_key: Arc<DigestKey>,
    health: Arc<Health>,
}

/// Whether entries become durable.
#[derive(Debug, Default)]
struct Health {
    failing: AtomicBool,
    failures: AtomicU64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

/// Entries that may wait at once; beyond that [`LogError::Busy`] bounds memory.
const QUEUE: usize = 4096;

impl Log {
    /// Opens the log in `folder` (created with mode 0700 when absent) and starts its writer. Blocks.
    ///
    /// # Errors
    /// [`LogError::Open`], also when another process holds the log or its end is damaged.
    pub fn open(folder: &Path) -> Result<Self, LogError> {
        let open_error = |source: io::Error| LogError::Open { folder: folder.to_owned(), source: Arc::new(source) };
        let file = LogFile::open(folder).map_err(open_error)?;
        let digest_key = Arc::new(DigestKey(digest_key(folder).map_err(open_error)?));
        let (queue, waiting) = sync_channel(QUEUE);
        let health = Arc::new(Health::default());
        let writer = Writer { folder: folder.to_owned(), file: Some(file), health: Arc::clone(&health) };
        std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&waiting)).map_err(open_error)?;
        Ok(Self { queue, digest_key, health })
    }

    /// Whether the last attempt to write failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.health.failing.load(Ordering::Relaxed)
    }

    /// How many attempts to write failed since the log was opened.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.health.failures.load(Ordering::Relaxed)
    }

    /// Appends an entry and returns its number once it is on stable storage.
    ///
    /// # Errors
    /// A [`LogError`]: the entry is not in the log, and what it would have recorded must not happen.
    pub async fn append(&self, entry: Entry) -> Result<u64, LogError> {
        let (done, result) = oneshot::channel();
        self.queue.try_send(Waiting { entry, done }).map_err(|e| match e {
            TrySendError::Full(_) => LogError::Busy,
            TrySendError::Disconnected(_) => LogError::Closed,
        })?;
        result.await.map_err(|_| LogError::Closed)?
    }

    /// As [`DigestKey::digest`], under this log's own key.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> String {
        self.digest_key.digest(bytes)
    }
}

/// The key of one log's digests, for who must write the same digest while another process holds the log.
pub struct DigestKey([u8; 32]);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey")
    }
}

impl DigestKey {
    /// The key of the log in `folder`, which must exist; the key is made on first use.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn of(folder: &Path) -> Result<Self, LogError> {
        digest_key(folder).map(Self).map_err(|source| LogError::Open { folder: folder.to_owned(), source: Arc::new(source) })
    }

    /// HMAC-SHA-256 of `bytes` in hex: equal requests can be recognised by who holds the key, and nobody else can test guesses.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> String {
        use std::fmt::Write as _;
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(bytes);
        mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, b| {
            let _ = write!(hex, "{b:02x}");
            hex
        })
    }
}

/// Reads the key of digests, or creates it (mode 0600) on first use.
fn digest_key(folder: &Path) -> io::Result<[u8; 32]> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join("digest.key");
    match std::fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| io::Error::other("digest.key is not 32 bytes")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|e| io::Error::other(e.to_string()))?;
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(e) => Err(e),
    }
}

struct Writer {
    folder: PathBuf,
    /// `None` after a failure that could not be undone, until reopening works.
    file: Option<LogFile>,
    health: Arc<Health>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Waiting>) {
        while let Ok(first) = waiting.recv() {
            let group: Vec<Waiting> = std::iter::once(first).chain(waiting.try_iter().take(QUEUE)).collect();
            self.commit(group);
        }
    }

    /// Writes a group with one sync and tells each waiter.
    fn commit(&mut self, group: Vec<Waiting>) {
        let health = Arc::clone(&self.health);
        let file = match self.file() {
            Ok(file) => file,
            Err(error) => {
                health.failed();
                return refuse(group, &error);
            }
        };
        let (mut lines, mut next, mut accepted) = (Vec::new(), file.last, Vec::new());
        for Waiting { entry, done } in group {
            match line(next + 1, entry) {
                Some(line) => {
                    next += 1;
                    lines.extend(line);
                    accepted.push((next, done));
                }
                None => drop(done.send(Err(LogError::TooLong))),
            }
        }
        match file.append(&lines, accepted.len() as u64) {
            Ok(()) => {
                health.failing.store(false, Ordering::Relaxed);
                accepted.into_iter().for_each(|(number, done)| drop(done.send(Ok(number))));
            }
            Err(error) => {
                health.failed();
                if file.cut_back().is_err() {
                    self.file = None;
                }
                let error = LogError::Write(Arc::new(error));
                accepted.into_iter().for_each(|(_, done)| drop(done.send(Err(error.clone()))));
            }
        }
    }

    /// The open file; tries to reopen it where an earlier failure closed it.
    fn file(&mut self) -> Result<&mut LogFile, LogError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => LogFile::open(&self.folder).map_err(|e| LogError::Write(Arc::new(e)))?,
        };
        Ok(self.file.insert(file))
    }
}

impl Health {
    fn failed(&self) {
        self.failing.store(true, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

fn refuse(group: Vec<Waiting>, error: &LogError) {
    group.into_iter().for_each(|w| drop(w.done.send(Err(error.clone()))));
}

fn line(number: u64, entry: Entry) -> Option<Vec<u8>> {
    let mut object = entry.fields;
    object.insert("entry".into(), number.into());
    object.insert("time".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).into());
    object.insert("event".into(), entry.event.into());
    let mut line = serde_json::to_vec(&Value::Object(object)).ok()?;
    line.push(b'\n');
    (line.len() <= MAX_LINE).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn lines(folder: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(file::path(folder)).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[tokio::test]
    async fn entries_are_in_the_file_when_acknowledged_and_numbered_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path()).unwrap();
        let many = (0..100).map(|i| {
            let log = log.clone();
            tokio::spawn(async move { log.append(Entry::new("query.opened").field("i", i)).await.unwrap() })
        });
        let mut numbers = Vec::new();
        for task in many {
            numbers.push(task.await.unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
        assert_eq!(lines(folder.path()).len(), 100);
        let digest = log.digest(b"x");
        drop(log);
        let log = reopen(folder.path());
        assert_eq!(log.append(Entry::new("query.opened")).await.unwrap(), 101);
        assert_eq!(log.digest(b"x"), digest);
        assert_eq!(DigestKey::of(folder.path()).unwrap().digest(b"x"), digest, "while the log is open");
    }

    /// The writer thread lets go of the lock shortly after the last handle is dropped.
    fn reopen(folder: &Path) -> Log {
        for _ in 0..1000 {
            if let Ok(log) = Log::open(folder) {
                return log;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("the lock was not released");
    }

    #[tokio::test]
    async fn a_second_writer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _log = Log::open(folder.path()).unwrap();
        assert!(matches!(Log::open(folder.path()), Err(LogError::Open { .. })));
    }

    #[tokio::test]
    async fn a_torn_line_is_cut_off_and_kept_as_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path()).unwrap();
        log.append(Entry::new("a")).await.unwrap();
        drop(log);
        drop(reopen(folder.path()));
        let path = file::path(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"entry\":2,\"ti");
        std::fs::write(&path, bytes).unwrap();
        let log = reopen(folder.path());
        assert_eq!(log.append(Entry::new("b")).await.unwrap(), 2);
        assert_eq!(lines(folder.path()).len(), 2);
        assert!(folder.path().join("torn-after-1").exists());
    }

    #[tokio::test]
    async fn a_damaged_end_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(file::path(folder.path()), "not json\n").unwrap();
        assert!(matches!(Log::open(folder.path()), Err(LogError::Open { .. })));
    }

    #[tokio::test]
    async fn too_long_entries_are_refused_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path()).unwrap();
        let long = log.append(Entry::new("a").field("x", "y".repeat(MAX_LINE)));
        assert!(matches!(long.await, Err(LogError::TooLong)));
        assert_eq!(log.append(Entry::new("b").field("entry", 99)).await.unwrap(), 1);
        assert_eq!(lines(folder.path())[0]["entry"], 1);
    }
}
