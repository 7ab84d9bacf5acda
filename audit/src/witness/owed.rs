//! What logs owe to the witness here: who ordered something or signed a receipt for it wrote of it in a log, and a checkpoint that covers
//! that is to be shown.
//!
//! ```text
//! order, receipt ─▶ owe(log, size) ─▶ durable ─▶ goes on          add_checkpoint ─▶ cosigned(log, size) ─▶ paid
//! ```
//!
//! Invariants
//! - A log's oldest debt is durable before [`Owed::owe`] returns: neither a restart nor a new debt begins its time anew. Of those that came
//!   after it a restart remembers nothing, and they are seconds younger at most while checkpoints are shown.
//! - Only a checkpoint that was cosigned here pays. A log that begins anew (first seen, or acknowledged by people) owes nothing of before.
//!
//! What follows from a debt that is too old is decided elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::clock::{Clock, Moment};
use super::state;

/// The file, beside the witness's state.
const FILE: &str = "owed.json";

/// By how many entries a log may be said to be ahead of what was cosigned of it here: a hundred entries a second, for longer than a day
/// without a checkpoint, where agreements bear hours. What is said to be further ahead is no number of a log's, and would be owed for good.
pub const FURTHEST: u64 = 10_000_000;

/// What one log owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// The log's name.
    pub origin: String,
    /// How many entries the first checkpoint must cover that is owed.
    pub size: u64,
    /// How many entries were cosigned here.
    pub seen: u64,
    /// For how long.
    pub overdue: Duration,
}

/// The debts of all logs.
#[derive(Debug)]
pub struct Owed {
    folder: PathBuf,
    accounts: Mutex<BTreeMap<String, Account>>,
    /// What the file says. Held while it is written, and locked before `accounts`.
    kept: Mutex<BTreeMap<String, Kept>>,
    paid: watch::Sender<()>,
}

#[derive(Debug)]
struct Account {
    seen: u64,
    clock: Clock,
}

/// The oldest debt of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    size: u64,
    /// Seconds since 1970.
    since: u64,
}

impl Owed {
    /// Takes up what was owed to the witness in `folder`, which has been opened. Blocks.
    ///
    /// # Errors
    /// When the file or the witness's state cannot be read or is damaged: to go on would forget what is owed.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let kept: BTreeMap<String, Kept> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}; restore it from a copy", path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(e),
        };
        let mut accounts = BTreeMap::new();
        for known in state::read(folder)? {
            accounts.insert(known.key.name().to_owned(), Account::new(known.latest.checkpoint().size));
        }
        let now = Moment::now();
        for (origin, kept) in &kept {
            let account = accounts.entry(origin.clone()).or_insert_with(|| Account::new(0));
            if account.seen < kept.size {
                let wall = UNIX_EPOCH.checked_add(Duration::from_secs(kept.since)).unwrap_or(UNIX_EPOCH);
                account.clock.published(kept.size, Moment { wall, ..now });
            }
        }
        let (accounts, kept) = (Mutex::new(accounts), Mutex::new(kept));
        Ok(Self { folder: folder.to_owned(), accounts, kept, paid: watch::Sender::new(()) })
    }

    /// How many entries of a log were cosigned here.
    #[must_use]
    pub fn seen(&self, origin: &str) -> u64 {
        lock(&self.accounts).get(origin).map_or(0, |account| account.seen)
    }

    /// Whether a log can have the entry that it is said to have: at most [`FURTHEST`] beyond what was cosigned here. Of a log of which nothing
    /// was cosigned it can be any, and its first checkpoint ends what was owed before.
    #[must_use]
    pub fn can_be(&self, origin: &str, entry: u64) -> bool {
        let seen = self.seen(origin);
        seen == 0 || entry <= seen.saturating_add(FURTHEST)
    }

    /// From `now` on, a log owes a checkpoint over `size` entries. Where it was cosigned already, it owes nothing. Blocks.
    ///
    /// # Errors
    /// When that cannot be made durable: then what it is owed for must not happen.
    pub fn owe(&self, origin: &str, size: u64, now: Moment) -> io::Result<()> {
        let mut kept = lock(&self.kept);
        {
            let mut accounts = lock(&self.accounts);
            let account = accounts.entry(origin.to_owned()).or_insert_with(|| Account::new(0));
            if size <= account.seen {
                return Ok(());
            }
            account.clock.published(size, now);
        }
        self.keep(&mut kept, origin, false)
    }

    /// A checkpoint over `size` entries of a log was cosigned, which is durable; `first` where the log begins with it here. Blocks.
    ///
    /// # Errors
    /// When what is still owed cannot be made durable: a restart may forget it.
    pub fn cosigned(&self, origin: &str, size: u64, first: bool) -> io::Result<()> {
        let mut kept = lock(&self.kept);
        {
            let mut accounts = lock(&self.accounts);
            let account = accounts.entry(origin.to_owned()).or_insert_with(|| Account::new(0));
            if first {
                *account = Account::new(size);
            }
            account.seen = size;
            account.clock.witnessed(size);
        }
        self.paid.send_replace(());
        self.keep(&mut kept, origin, first)
    }

    /// For how long a log has owed what it owes; zero where it owes nothing.
    #[must_use]
    pub fn overdue(&self, origin: &str, now: Moment) -> Duration {
        lock(&self.accounts).get(origin).map_or(Duration::ZERO, |account| account.clock.unwitnessed(now))
    }

    /// What is owed now.
    #[must_use]
    pub fn debts(&self, now: Moment) -> Vec<Debt> {
        let accounts = lock(&self.accounts);
        let debt = |(origin, account): (&String, &Account)| {
            let (size, _) = account.clock.oldest()?;
            Some(Debt { origin: origin.clone(), size, seen: account.seen, overdue: account.clock.unwitnessed(now) })
        };
        accounts.iter().filter_map(debt).collect()
    }

    /// Waits until a log has owed for no longer than `most`, at most for `patience`. Whether it is so.
    pub async fn paid(&self, origin: &str, most: Duration, patience: Duration) -> bool {
        let mut paid = self.paid.subscribe();
        let so = || self.overdue(origin, Moment::now()) <= most;
        let end = tokio::time::Instant::now() + patience;
        while !so() {
            if !matches!(tokio::time::timeout_at(end, paid.changed()).await, Ok(Ok(()))) {
                return so();
            }
        }
        true
    }

    /// Writes the oldest debt of a log where it is another one than the file has. A debt that was paid may stay in the file: the witness's
    /// state tells that it was; not where the log began `anew`, whose sizes mean other entries.
    fn keep(&self, kept: &mut BTreeMap<String, Kept>, origin: &str, anew: bool) -> io::Result<()> {
        let oldest = lock(&self.accounts).get(origin).and_then(|account| account.clock.oldest());
        let oldest = oldest.map(|(size, since)| Kept { size, since: seconds(since.wall) });
        if kept.get(origin) == oldest.as_ref() || (oldest.is_none() && !anew) {
            return Ok(());
        }
        let mut next = kept.clone();
        match oldest {
            Some(oldest) => drop(next.insert(origin.to_owned(), oldest)),
            None => drop(next.remove(origin)),
        }
        state::replace(&self.folder, FILE, &serde_json::to_vec(&next)?)?;
        *kept = next;
        Ok(())
    }
}

impl Account {
    fn new(seen: u64) -> Self {
        Self { seen, clock: Clock::new(seen) }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
