//! The index's own thread: it follows the log from where the index stands, and builds it anew where it cannot be used.
//!
//! ```text
//! opened and reread ─▶ of this log, sealed, not beyond it ─▶ entries under checkpoints, each against its leaf in the tree ─▶ rows
//!        └─▶ else: removed, begun anew, and the log says so (log.reindexed)
//! ```

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::indexed::Indexed;
use super::table::{Table, Trouble, place};
use super::{Cause, Shared};
use crate::archive::tells;
use crate::facts::{Asked, Facts};
use crate::proved::Proved;
use crate::tile::damaged;
use crate::tree::leaf_hash;
use crate::{Entry, integrate};

/// How often it is looked for new entries.
const LOOK: Duration = Duration::from_millis(200);

/// How long after a failure it is tried again, and after the log told that it was made anew, the next time.
const AGAIN: Duration = Duration::from_secs(10);

/// Entries that are added together, and the bytes of them after which no more are.
const TOGETHER: (usize, usize) = (4096, 8 << 20);

/// Follows the log until its last handle is gone, which this thread does not hold.
pub(super) fn follow(index: &Arc<Shared>, log: &Weak<integrate::Shared>, tell: impl Fn(&str)) {
    let (mut open, mut told) = (None, None);
    loop {
        let Some(log) = log.upgrade() else { return };
        // What is left of a full disk is the log's.
        let step = if log.is_failing() { Ok(true) } else { step(index, &log, &mut open, &mut told) };
        drop(log);
        let pause = match &step {
            Ok(false) => Duration::ZERO,
            Ok(true) => LOOK,
            Err(_) => {
                open = None;
                index.usable.store(false, Ordering::Release);
                AGAIN
            }
        };
        let trouble = step.err().map(|error| error.to_string());
        let is_new = index.trouble(trouble.as_deref());
        trouble.filter(|_| is_new).into_iter().for_each(|trouble| tell(&trouble));
        if pause.is_zero() {
            continue;
        }
        if index.wait(pause) {
            return;
        }
    }
}

/// One step; whether there is nothing more to do now. `told` is when the log was told last that the index was made anew: who changes it
/// again and again does not fill the log with that.
fn step(index: &Shared, log: &integrate::Shared, open: &mut Option<Table>, told: &mut Option<Instant>) -> io::Result<bool> {
    let table = match open {
        Some(table) => table,
        None => open.insert(opened(index, log, told)?),
    };
    match advanced(index, log, table) {
        Ok(done) => {
            index.usable.store(true, Ordering::Release);
            Ok(done)
        }
        Err(Trouble::Io(error)) => Err(error),
        Err(Trouble::Rebuild(cause)) => {
            *open = None;
            *open = Some(begun(index, log, cause, told)?);
            Ok(false)
        }
    }
}

fn opened(index: &Shared, log: &integrate::Shared, told: &mut Option<Instant>) -> io::Result<Table> {
    match Table::open(&log.disk.folder, &log.key.verifier(), &index.seals) {
        Ok(table) => {
            index.is_at(table.place());
            Ok(table)
        }
        Err(Trouble::Io(error)) => Err(error),
        Err(Trouble::Rebuild(cause)) => begun(index, log, cause, told),
    }
}

/// An index without entries in place of one that cannot be used, of which the log tells; or where there is none, or where entries were
/// moved to an archive, of which it has told.
fn begun(index: &Shared, log: &integrate::Shared, cause: Cause, told: &mut Option<Instant>) -> io::Result<Table> {
    index.usable.store(false, Ordering::Release);
    let (folder, moved) = (&log.disk.folder, log.moved()?);
    let is_known = matches!(cause, Cause::Absent | Cause::Archived) && (moved == 0 || tells(&log.proved(), moved, moved)?);
    // One that is gone hides nothing; entries that are gone, of which no entry tells, are another matter.
    let cause = if cause == Cause::Absent { Cause::Archived } else { cause };
    if !is_known && told.is_some_and(|told| told.elapsed() < AGAIN) {
        return Err(damaged(format!("the index of the log was changed again and again: {}", cause.as_str())));
    }
    if !is_known {
        // First of all: what was changed must not be what keeps it from being told.
        log.tell(Entry::new("log.reindexed").field("cause", cause.as_str()))?;
        *told = Some(Instant::now());
        index.rebuilt.fetch_add(1, Ordering::Relaxed);
    }
    let table = Table::create(folder, &log.key.verifier(), moved, &index.seals).map_err(|trouble| match trouble {
        Trouble::Io(error) => error,
        Trouble::Rebuild(cause) => damaged(format!("the index of the log cannot be built: {}", cause.as_str())),
    })?;
    index.is_at(table.place());
    index.suspect.store(false, Ordering::Release);
    Ok(table)
}

/// Adds what the log has more; whether that is all.
fn advanced(index: &Shared, log: &integrate::Shared, table: &mut Table) -> Result<bool, Trouble> {
    if !index.is_in_place() {
        let is_gone = place(&index.folder).first() == Some(&None);
        return Err(Trouble::Rebuild(if is_gone { Cause::Absent } else { Cause::Replaced }));
    }
    if index.suspect.load(Ordering::Acquire) || table.is_edited()? {
        return Err(Trouble::Rebuild(Cause::Edited));
    }
    let (size, extent) = (log.size(), table.extent());
    if log.moved()? != extent.first {
        // What is not in the log any more does not stay here, and what is there again does not stay out.
        return Err(Trouble::Rebuild(Cause::Archived));
    }
    if extent.end > size {
        return Err(Trouble::Rebuild(Cause::WentBack));
    }
    let tree = log.proved();
    // Entries have salts: of another history the last one is another.
    if !index.usable.load(Ordering::Acquire)
        && extent.end > extent.first
        && table.last_leaf()? != Some(tree.leaf(extent.end.saturating_sub(1))?)
    {
        return Err(Trouble::Rebuild(Cause::OtherHistory));
    }
    if extent.end == size {
        return Ok(true);
    }
    let new = gathered(&tree, table, size)?;
    table.add(&new, &index.seals)?;
    Ok(table.extent().end == size)
}

fn gathered(tree: &Proved, table: &Table, size: u64) -> Result<Vec<Indexed>, Trouble> {
    let (mut new, mut bytes, mut asked) = (Vec::new(), 0_usize, Asked::default());
    let mut next = table.extent().end;
    for read in tree.read(next, |_| None)?.take(TOGETHER.0) {
        let (position, entry) = read?;
        if position != next {
            // It was moved to an archive meanwhile.
            return Err(Trouble::Rebuild(Cause::Archived));
        }
        if position >= size || bytes >= TOGETHER.1 {
            break;
        }
        let facts = asked.complete_or(Facts::read(&entry), |query_id| table.asker(tree, query_id))?;
        new.push(Indexed { position, leaf: leaf_hash(&entry), facts });
        bytes = bytes.saturating_add(entry.len());
        next = next.saturating_add(1);
    }
    Ok(new)
}
