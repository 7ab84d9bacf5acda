//! Calls that their sender gave a name: each is recorded once.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{LedgerError, Recorded, timestamp};

/// A call: the sender's name for it, and two keyed hashes, of its records as they are written and of the call as it was sent. By the
/// latter it is known again also when the department no longer knows the purpose, or the type of identifiers.
pub(in crate::consent) struct Call {
    name: String,
    /// Empty where the department cannot read them any more.
    records: String,
    sent: String,
}

/// What was made before under a call's name.
pub(in crate::consent) enum Known {
    Nothing,
    Others,
    These(Recorded),
}

impl Call {
    pub(in crate::consent) fn new(id: &str, records: String, sent: String) -> Self {
        Self { name: format!("call:{id}"), records, sent }
    }

    pub(super) fn known(&self, connection: &Connection) -> Result<Known, LedgerError> {
        let mut select = connection.prepare_cached("SELECT file, records FROM imports WHERE digest = ?1")?;
        let known = select.query_row(params![self.name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).optional()?;
        let Some((known, count)) = known else { return Ok(Known::Nothing) };
        let mut parts = known.split(' ');
        let (first, records, sent) = (parts.next(), parts.next(), parts.next());
        let same = sent == Some(self.sent.as_str()) || (!self.records.is_empty() && records == Some(self.records.as_str()));
        let first = first.and_then(|first| first.parse::<u64>().ok()).filter(|_| same);
        Ok(first.map_or(Known::Others, |first| {
            let version = first.saturating_add(count.cast_unsigned()).saturating_sub(1);
            Known::These(Recorded { first, version })
        }))
    }

    /// Keeps that the call was made, and where its records stand.
    pub(super) fn keep(&self, transaction: &Transaction<'_>, recorded: &Recorded) -> Result<(), LedgerError> {
        let count = i64::try_from(recorded.count()).unwrap_or(i64::MAX);
        transaction.execute(
            "INSERT INTO imports (digest, file, records, recorded_at) VALUES (?1, ?2, ?3, ?4)",
            params![self.name, format!("{} {} {}", recorded.first, self.records, self.sent), count, timestamp()],
        )?;
        Ok(())
    }
}
