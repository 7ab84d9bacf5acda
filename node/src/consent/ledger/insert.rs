//! Writes records into the ledger.

use rusqlite::Transaction;
use rusqlite::types::Null;

use super::record::{Details, Subject};
use super::{LedgerError, timestamp};

/// Inserts records one by one. What they share is bound once.
pub(super) struct Insert<'a> {
    statement: rusqlite::CachedStatement<'a>,
    /// Whether nothing is bound of a record's details, as at first: the cache of statements clears what was bound.
    plain: bool,
}

impl<'a> Insert<'a> {
    pub(super) fn new(transaction: &'a Transaction<'_>) -> Result<Self, LedgerError> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO records (identifier_type, identifier, erased, purpose, event, recorded_at, effective_from, expires_at, capacity,
             acted_by, corrects, speaking, sealed, stated) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?;
        statement.raw_bind_parameter(6, timestamp())?;
        Ok(Self { statement, plain: true })
    }

    /// What the next records are about and, of choices, the number of what their receipts state.
    pub(super) fn scope(&mut self, identifier_type: &str, purpose: &str, event: &str, stated: Option<i64>) -> Result<(), LedgerError> {
        self.statement.raw_bind_parameter(1, identifier_type)?;
        self.statement.raw_bind_parameter(4, purpose)?;
        self.statement.raw_bind_parameter(5, event)?;
        self.statement.raw_bind_parameter(14, stated)?;
        Ok(())
    }

    /// What the next records correct, and what speaks after them.
    pub(super) fn correction(&mut self, place: u64, speaking: &str) -> Result<(), LedgerError> {
        self.statement.raw_bind_parameter(11, place.cast_signed())?;
        self.statement.raw_bind_parameter(12, speaking)?;
        Ok(())
    }

    /// What the next records, about somebody erased, keep of the identifier.
    pub(super) fn sealed(&mut self, sealed: Option<&[u8]>) -> Result<(), LedgerError> {
        self.statement.raw_bind_parameter(13, sealed)?;
        Ok(())
    }

    pub(super) fn record(&mut self, subject: Subject<'_>, details: &Details) -> Result<(), LedgerError> {
        match subject {
            Subject::Identifier(identifier) => self.statement.raw_bind_parameter(2, identifier)?,
            Subject::Erased(digest) => {
                self.statement.raw_bind_parameter(2, Null)?;
                self.statement.raw_bind_parameter(3, digest)?;
            }
        }
        let plain = *details == Details::default();
        if !(plain && self.plain) {
            self.statement.raw_bind_parameter(7, details.term.effective_from())?;
            self.statement.raw_bind_parameter(8, details.term.expires_at())?;
            self.statement.raw_bind_parameter(9, details.acting.as_ref().map(|acting| acting.capacity.as_str()))?;
            self.statement.raw_bind_parameter(10, details.acting.as_ref().map(|acting| acting.by.as_str()))?;
            self.plain = plain;
        }
        self.statement.raw_execute()?;
        Ok(())
    }
}
