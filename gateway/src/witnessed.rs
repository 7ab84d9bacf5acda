//! Whether enough witnesses have seen the gateway's log: since when it has entries that a quorum has not seen, the alarm when that is
//! too long, and what agreements permit meanwhile.
//!
//! ```text
//! log ── a checkpoint is published ──▶ clock ◀── a quorum has cosigned what was published until then ── witnesses
//!                                        │
//!            unwitnessed for so long ────┴──▶ alarm after a minute · refusal after an agreement's `max_unwitnessed`
//! ```
//!
//! Invariants
//! - Only what witnesses outside this process have seen stops the time: no restart, reload or new entry does.
//! - How many entries a quorum had seen outlives a restart; the time then goes on from when the next entry was logged. A log that is
//!   shorter than that was rolled back: nothing of it counts as seen.
//! - An idle log that was seen is witnessed, for as long as it stays idle.
//!
//! Deliberately absent: cosignatures. Whoever verified them says so here.

mod alarm;
mod quorum;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use concordat_audit::Log;
use concordat_audit::witness::{Clock, Moment};
use concordat_policy::{Agreement, Name, Refusal, witnessed};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::quorum::Quorum;
use crate::replace::replace;

/// Where it is kept how many entries a quorum has seen.
pub(crate) const FILE: &str = "witnessed.json";

/// What a quorum has seen of the log. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Witnessed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Log,
    quorum: Quorum,
    clock: Mutex<Clock>,
    path: PathBuf,
    /// How many entries the file says. Held while it is written.
    kept: Mutex<u64>,
    opened: Instant,
    /// Whether a quorum has cosigned anything since.
    met: AtomicBool,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    entries: u64,
}

impl Witnessed {
    /// Takes up, from `state`, what a quorum had seen of `log`, whose folder is `folder`.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub(crate) fn open(log: &Log, folder: &Path, state: &Path, quorum: Quorum) -> io::Result<Self> {
        let path = state.join(FILE);
        let kept: Kept = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(e) => return Err(e),
        };
        let (size, published) = log.published();
        let seen = if kept.entries <= size { kept.entries } else { 0 };
        if seen < kept.entries {
            tracing::error!(seen = kept.entries, now = size, "the access log is shorter than its witnesses have seen: it was rolled back");
        }
        let mut clock = Clock::new(seen);
        if seen < size {
            clock.published(size, Moment { wall: logged(folder, seen), steady: published });
        }
        let (clock, kept) = (Mutex::new(clock), Mutex::new(seen));
        Ok(Self(Arc::new(Shared { log: log.clone(), quorum, clock, path, kept, opened: Instant::now(), met: AtomicBool::default() })))
    }

    /// Notes that these departments and so many outside witnesses have cosigned a checkpoint of `size` entries; verified. Where that is a
    /// quorum, it has seen them. More than the log has tells nothing.
    pub(crate) fn cosigned(&self, size: u64, by: &BTreeSet<Name>, outside: usize) {
        if self.0.quorum.is_met(by, outside) && size <= self.0.log.size() {
            self.looked().witnessed(size);
            self.0.met.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a quorum, which has cosigned others since the log was opened, has not seen its latest checkpoint yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.met.load(Ordering::Relaxed) && lock(&self.0.clock).seen() < self.0.log.size()
    }

    /// For how long the log has had entries that a quorum has not seen; zero where it has none.
    pub(crate) fn unwitnessed(&self, now: SystemTime) -> Duration {
        self.looked().unwitnessed(Moment { wall: now, steady: Instant::now() })
    }

    /// How many witnesses are needed.
    pub(crate) fn quorum(&self) -> &Quorum {
        &self.0.quorum
    }

    /// Whether something may be released under these agreements now.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Unwitnessed`].
    pub(crate) fn permits(&self, agreements: &[&Agreement]) -> Result<(), Refusal> {
        let now = SystemTime::now();
        witnessed::permits(agreements.iter().copied(), self.unwitnessed(now), now.into())
    }

    /// Keeps how many entries a quorum has seen. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written: after a restart more counts as unseen then.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let mut kept = lock(&self.0.kept);
        let entries = lock(&self.0.clock).seen();
        if entries > *kept {
            replace(&self.0.path, &serde_json::to_vec(&Kept { entries })?)?;
            *kept = entries;
        }
        Ok(())
    }

    /// The clock, with the latest checkpoint noted.
    fn looked(&self) -> MutexGuard<'_, Clock> {
        let (size, published) = self.0.log.published();
        let mut clock = lock(&self.0.clock);
        clock.published(size, Moment::now().at(published));
        clock
    }
}

/// When the entry at `index` was logged. Of one that cannot be read here any more nobody knows: as long ago as can be.
fn logged(folder: &Path, index: u64) -> SystemTime {
    let time = || {
        let (_, entry) = concordat_audit::read(folder, index).ok()?.next()?.ok().filter(|(found, _)| *found == index)?;
        let entry: Value = serde_json::from_slice(&entry).ok()?;
        entry.get("time")?.as_str()?.parse::<DateTime<Utc>>().ok()
    };
    time().map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
