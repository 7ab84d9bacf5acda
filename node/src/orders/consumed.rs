//! Orders that were used. Each is used once, also across restarts: its identifier is durable before anything is released.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, params};

/// How long after an order's end its identifier is kept, in seconds: the leeway of clocks (30), and as much again tenfold
/// for a clock that is set back.
const KEEP: i64 = 330;

/// Why the store of consumed orders failed. For the operator.
#[derive(Debug, thiserror::Error)]
#[error("the store of consumed orders: {0}")]
pub struct ConsumedError(#[from] rusqlite::Error);

/// The identifiers of consumed orders (SQLite, synchronous).
#[derive(Debug)]
pub struct Consumed {
    connection: Mutex<Connection>,
}

impl Consumed {
    /// Opens (or creates) the store under `state`.
    ///
    /// # Errors
    /// [`ConsumedError`].
    pub fn open(state: &Path) -> Result<Self, ConsumedError> {
        let connection = Connection::open(state.join("orders.sqlite"))?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS consumed (id TEXT PRIMARY KEY, expires INTEGER NOT NULL) STRICT, WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS consumed_expires ON consumed (expires)",
        )?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// Consumes the order `id` that ends at `expires` (Unix seconds). Returns false when it was consumed before. Blocks until
    /// the answer is durable.
    ///
    /// # Errors
    /// [`ConsumedError`]: nothing may be released.
    pub fn consume(&self, id: &str, expires: i64, now: i64) -> Result<bool, ConsumedError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // Together: each waits for the disk once.
        let both = connection.transaction()?;
        both.execute("DELETE FROM consumed WHERE expires < ?1", params![now.saturating_sub(KEEP)])?;
        let first = match both.execute("INSERT INTO consumed (id, expires) VALUES (?1, ?2)", params![id, expires]) {
            Ok(_) => true,
            Err(rusqlite::Error::SqliteFailure(e, _)) if e.code == ErrorCode::ConstraintViolation => false,
            Err(e) => return Err(e.into()),
        };
        both.commit()?;
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_used_once_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Consumed::open(folder.path()).unwrap();
        assert!(store.consume("order-one", 1000, 960).unwrap());
        assert!(!store.consume("order-one", 1000, 961).unwrap());
        drop(store);
        let store = Consumed::open(folder.path()).unwrap();
        assert!(!store.consume("order-one", 1000, 1030).unwrap());
        assert!(store.consume("order-two", 1000, 1030).unwrap());
    }

    #[test]
    fn identifiers_are_forgotten_only_when_no_clock_could_take_them_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Consumed::open(folder.path()).unwrap();
        assert!(store.consume("order-one", 1000, 960).unwrap());
        assert!(!store.consume("order-one", 1000, 1000 + KEEP).unwrap());
        assert!(store.consume("order-one", 1000, 1001 + KEEP).unwrap());
    }
}
