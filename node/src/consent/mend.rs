//! Corrections and erasures, as administrators and the department's own systems ask for them. The rules stand in
//! [`concordat_policy::consent::history`].

use super::Consent;
use super::intake::Intake;
use super::journal::Note;
use super::ledger::{CorrectError, Erased, LedgerError};
use super::show::Asked;

impl Consent {
    /// Records that the record at `place` was wrong, which must be a choice of the first person asked for. Returns the version
    /// after it. Reads the whole ledger. Blocks until it is durable.
    ///
    /// # Errors
    /// [`CorrectError`].
    pub(crate) fn correct(&self, asked: &Asked, place: u64, note: Option<&Note>) -> Result<u64, CorrectError> {
        let people = asked.people(|identifier| self.secret.digest(identifier));
        let who = people.first().ok_or(CorrectError::Absent)?;
        let least = self.highest.read().map_err(LedgerError::from)?;
        let version = self.ledger.correct(asked.label(), who, place, least, note, &self.secret)?;
        self.highest.raise(version).map_err(LedgerError::from)?;
        Ok(version)
    }

    /// Erases the people asked for: their identifiers go from the ledger, what keeps their data back stays; where something does, an
    /// encrypted identifier stays with it, so that it goes on reaching other departments' data. Reads the whole ledger.
    /// Blocks until it is durable.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) fn erase(&self, asked: &Asked, intake: &Intake, note: Option<&Note>) -> Result<Erased, LedgerError> {
        let people = asked.people(|identifier| self.secret.digest(identifier));
        let erased = self.ledger.erase(asked.label(), &people, &self.present(intake)?, note, &self.secret)?;
        self.highest.raise(erased.version)?;
        Ok(erased)
    }
}
