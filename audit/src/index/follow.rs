//! The index's own thread: it follows the log from where the index stands, and builds it anew where it cannot be used.
//!
//! ```text
//! opened and reread ─▶ of this log, sealed, not beyond it ─▶ entries under checkpoints, each against its leaf in the tree ─▶ rows
//!        └─▶ else: removed, begun anew, and the log says so (log.reindexed)
//! ```

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::json;

use super::indexed::Indexed;
use super::look::is_leaf;
use super::table::{Table, Trouble};
use super::{Cause, Shared};
use crate::archive::archived;
use crate::facts::{Asked, Facts};
use crate::tile::{Tiles, damaged};
use crate::tree::{Hashes as _, leaf_hash};
use crate::{integrate, persons};

/// How often it is looked for new entries.
const LOOK: Duration = Duration::from_millis(200);

/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Entries that are added together, and the bytes of them after which no more are.
const TOGETHER: (usize, usize) = (4096, 8 << 20);

/// Follows the log until its last handle is gone, which this thread does not hold.
pub(super) fn follow(index: &Arc<Shared>, log: &Weak<integrate::Shared>) {
    let mut open: Option<Table> = None;
    loop {
        let Some(log) = log.upgrade() else { return };
        // What is left of a full disk is the log's.
        let step = if log.is_failing() { Ok(true) } else { step(index, &log, &mut open) };
        drop(log);
        let pause = match step {
            Ok(false) => continue,
            Ok(true) => LOOK,
            Err(error) => {
                open = None;
                index.usable.store(false, Ordering::Release);
                index.failed(&error);
                AGAIN
            }
        };
        if index.wait(pause) {
            return;
        }
    }
}

/// One step; whether there is nothing more to do now.
fn step(index: &Shared, log: &integrate::Shared, open: &mut Option<Table>) -> io::Result<bool> {
    let table = match open {
        Some(table) => table,
        None => open.insert(opened(index, log)?),
    };
    match advanced(index, log, table) {
        Ok(done) => {
            index.usable.store(true, Ordering::Release);
            Ok(done)
        }
        Err(Trouble::Io(error)) => Err(error),
        Err(Trouble::Rebuild(cause)) => {
            *open = None;
            *open = Some(begun(index, log, cause)?);
            Ok(false)
        }
    }
}

fn opened(index: &Shared, log: &integrate::Shared) -> io::Result<Table> {
    match Table::open(&log.disk.folder, &log.key.verifier(), &index.seals) {
        Ok(table) => Ok(table),
        Err(Trouble::Io(error)) => Err(error),
        Err(Trouble::Rebuild(cause)) => begun(index, log, cause),
    }
}

/// An index without entries in place of one that cannot be used, of which the log tells; or where there is none, or where entries were
/// moved to an archive, of which it has told.
fn begun(index: &Shared, log: &integrate::Shared, cause: Cause) -> io::Result<Table> {
    index.usable.store(false, Ordering::Release);
    let folder = &log.disk.folder;
    let table = Table::create(folder, &log.key.verifier(), archived(folder)?, &index.seals).map_err(|trouble| match trouble {
        Trouble::Io(error) => error,
        Trouble::Rebuild(cause) => damaged(format!("the index of the log cannot be built: {}", cause.as_str())),
    })?;
    index.suspect.store(false, Ordering::Release);
    if !matches!(cause, Cause::Absent | Cause::Archived) {
        persons::leave_for(folder, "log.reindexed", &json!({ "cause": cause.as_str() }))?;
        index.rebuilt.fetch_add(1, Ordering::Relaxed);
    }
    Ok(table)
}

/// Adds what the log has more; whether that is all.
fn advanced(index: &Shared, log: &integrate::Shared, table: &mut Table) -> Result<bool, Trouble> {
    if index.suspect.load(Ordering::Acquire) || table.is_edited()? {
        return Err(Trouble::Rebuild(Cause::Edited));
    }
    let (folder, size, extent) = (&log.disk.folder, log.size(), table.extent());
    if archived(folder)? > extent.first {
        // What is not in the log any more does not stay here.
        return Err(Trouble::Rebuild(Cause::Archived));
    }
    if extent.end > size {
        return Err(Trouble::Rebuild(Cause::WentBack));
    }
    let tiles = Tiles::of(folder);
    // Entries have salts: of another history the last one is another.
    if !index.usable.load(Ordering::Acquire) && extent.end > extent.first {
        let last = tiles.hashes(0, extent.end.saturating_sub(1), 1)?.first().copied();
        if last != table.last_leaf()? {
            return Err(Trouble::Rebuild(Cause::OtherHistory));
        }
    }
    if extent.end == size {
        return Ok(true);
    }
    let new = gathered(folder, &tiles, table, size)?;
    table.add(&new, &index.seals)?;
    Ok(table.extent().end == size)
}

fn gathered(folder: &Path, tiles: &Tiles, table: &Table, size: u64) -> Result<Vec<Indexed>, Trouble> {
    let (mut new, mut bytes, mut asked) = (Vec::new(), 0_usize, Asked::default());
    let mut next = table.extent().end;
    for read in crate::read(folder, next)?.take(TOGETHER.0) {
        let (position, entry) = read?;
        if position != next {
            // It was moved to an archive meanwhile.
            return Err(Trouble::Rebuild(Cause::Archived));
        }
        if position >= size || bytes >= TOGETHER.1 {
            break;
        }
        let leaf = leaf_hash(&entry);
        is_leaf(tiles, position, &leaf)?;
        let facts = asked.complete_or(Facts::read(&entry), |query_id| table.asker(query_id));
        new.push(Indexed { position, leaf, facts });
        bytes = bytes.saturating_add(entry.len());
        next = next.saturating_add(1);
    }
    Ok(new)
}
