//! Space that is kept for a full disk: given back when the disk is full, so that what is open can still be closed in the log.
//!
//! While it is not held, the log takes only entries that close something; once the disk has room for it again, all of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::disk::{Disk, Step};

/// How many bytes are kept: some thousands of entries, with their tiles.
const SIZE: u64 = if cfg!(test) { 1 << 16 } else { 4 << 20 };

/// How long after it could not be made it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The file that keeps the space.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Disk,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    tried: Option<Instant>,
}

impl Reserve {
    pub(crate) fn of(disk: &Disk) -> Self {
        let reserve = Self { disk: disk.clone(), state: Mutex::default() };
        reserve.hold();
        reserve
    }

    pub(crate) fn is_held(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).held
    }

    /// Whether the space is held, if need be again.
    pub(crate) fn hold(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.held && state.tried.is_none_or(|tried| tried.elapsed() >= AGAIN) {
            state.held = self.make().is_ok();
            state.tried = Some(Instant::now());
        }
        state.held
    }

    /// Gives the space back if `error` tells of a full disk and it is still held: then trying again makes sense.
    pub(crate) fn give_back(&self, error: &io::Error) -> bool {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !full || !state.held {
            return false;
        }
        *state = State { held: false, tried: Some(Instant::now()) };
        self.disk.remove(&self.disk.path("reserve")).is_ok()
    }

    /// Zeros rather than a hole: a hole takes no space.
    fn make(&self) -> io::Result<()> {
        let path = self.disk.path("reserve");
        if path.metadata().is_ok_and(|file| file.len() == SIZE) {
            return Ok(());
        }
        let made = self.fill(OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?);
        made.or_else(|e| self.disk.remove(&path).and(Err(e)))
    }

    fn fill(&self, mut file: File) -> io::Result<()> {
        self.disk.ask(Step::Write, "reserve")?;
        let zeros = [0; 1 << 16];
        for _ in 0..SIZE / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()
    }
}
