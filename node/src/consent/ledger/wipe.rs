//! Older copies of what was erased: they lie in the write-ahead log until everything in it was moved and it was cut, which whoever reads
//! the ledger at that moment prevents. An erasure says so in the ledger, in its own transaction; the running node tries again until it is
//! done ([`Ledger::wipe`]), and so does the next one.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, params};

use super::{FILE, Ledger, LedgerError, PATIENCE, not_older};

impl Ledger {
    /// Moves everything out of the write-ahead log, if there are older copies of somebody erased, and nobody is in the way: it waits for
    /// none. The version of the last erasure where it is done now.
    pub(in crate::consent) fn wipe(&self) -> Result<Option<u64>, LedgerError> {
        let Some(erased) = unwiped(&self.reader())? else { return Ok(None) };
        let Some(writer) = self.idle() else { return Ok(None) };
        writer.busy_timeout(Duration::ZERO)?;
        let done = wiped(&writer, erased);
        writer.busy_timeout(PATIENCE)?;
        match done {
            Ok(done) => Ok(done.then_some(erased)),
            Err(LedgerError::Busy) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The version of the last erasure, while there are older copies of who was erased.
    pub(in crate::consent) fn unwiped(&self) -> Result<Option<u64>, LedgerError> {
        unwiped(&self.reader())
    }
}

/// Whether it is done. What was erased later has its own mark.
fn wiped(writer: &Connection, erased: u64) -> Result<bool, LedgerError> {
    if writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))? != 0 {
        return Ok(false);
    }
    writer.execute("UPDATE erasures SET unwiped = NULL WHERE unwiped = ?1", params![erased.cast_signed()])?;
    Ok(true)
}

/// Marks that somebody was erased, with whom the ledger is at `version`.
pub(super) fn mark(transaction: &Transaction<'_>, version: u64) -> Result<(), LedgerError> {
    transaction.execute("UPDATE erasures SET unwiped = ?1", params![version.cast_signed()])?;
    Ok(())
}

fn unwiped(connection: &Connection) -> Result<Option<u64>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT unwiped FROM erasures WHERE unwiped IS NOT NULL")?;
    Ok(select.query_row([], |row| row.get::<_, i64>(0)).optional()?.map(i64::cast_unsigned))
}

/// As [`Ledger::unwiped`], of the ledger under `state`, which may be in use or not be there yet. Writes nothing.
///
/// # Errors
/// [`LedgerError`].
pub fn look(state: &Path) -> Result<Option<u64>, LedgerError> {
    let path = state.join(FILE);
    if !path.try_exists()? {
        return Ok(None);
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(PATIENCE)?;
    not_older(&connection)?;
    unwiped(&connection)
}
