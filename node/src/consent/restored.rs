//! Accepting a restored backup: what is known to be lost, the acknowledgement itself, and its way into the access log.
//!
//! Order of the steps, so that stopping between any two leaves the node refusing, and the command to be run again:
//! generation and acknowledgement (one file) ─▶ highest version ─▶ (running node) access log ─▶ next release.

use chrono::{SecondsFormat, Utc};

use super::Consent;
use super::generation::Acknowledged;
use super::ledger::LedgerError;

/// What an administrator must know before accepting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The version of the ledger as it is now.
    pub version: u64,
    /// When its last record was made; `None` when it holds none.
    pub last_recorded: Option<String>,
    /// The highest version that the state folder knows of. A backup of the whole folder brings back an older one.
    pub known: u64,
    /// The generation before.
    pub generation: u32,
}

impl Loss {
    /// Records that are missing for certain.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.known.saturating_sub(self.version)
    }
}

impl Consent {
    /// What is lost, as far as is known here.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn loss(&self) -> Result<Loss, LedgerError> {
        let (version, last_recorded) = (self.ledger.version()?, self.ledger.last_recorded()?);
        Ok(Loss { version, last_recorded, known: self.highest.read()?.max(version), generation: self.generation.read()? })
    }

    /// Accepts the ledger as it is, if it still is what was shown: begins a new generation in which its version is the highest.
    /// A running node honours it at once. Returns the new generation.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Moved`] when records came meanwhile.
    pub fn acknowledge_restore(&self, shown: &Loss, user: u32) -> Result<u32, LedgerError> {
        let turn = self.highest.turn()?;
        if self.loss()? != *shown {
            return Err(LedgerError::Moved);
        }
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let (known, version) = (shown.known, shown.version);
        let accepted = self.generation.advance(|generation| Acknowledged { generation, known, version, time, user })?;
        self.highest.set(version, &turn)?;
        Ok(accepted.generation)
    }

    /// Acknowledgements that the access log does not hold yet: nothing is released before it does.
    pub(crate) fn unlogged(&self) -> Result<Vec<Acknowledged>, LedgerError> {
        Ok(self.generation.unlogged()?)
    }

    /// Notes that the access log holds them.
    pub(crate) fn logged(&self, entries: &[Acknowledged]) -> Result<(), LedgerError> {
        let _turn = self.highest.turn()?;
        Ok(self.generation.logged(entries)?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use concordat_policy::consent::Event;
    use concordat_policy::{Code, Name};

    use super::*;
    use crate::consent::ledger::{Details, Record};

    fn open(state: &Path) -> Consent {
        Consent::open(state, Name::parse("dfe").unwrap()).unwrap()
    }

    fn record(consent: &Consent, event: Event) -> u64 {
        let purpose = Name::parse("p").unwrap();
        let details = Details::default();
        consent.record(&[Record { identifier_type: "nino".into(), identifier: "A".into(), purpose, event, details }]).unwrap()
    }

    /// Puts the ledger of `backup` in the place of the one in `state`, as it was after one record.
    fn restore(state: &Path, backup: &Path) {
        for stale in ["consent.sqlite-wal", "consent.sqlite-shm"] {
            let _ = std::fs::remove_file(state.join(stale));
        }
        std::fs::copy(backup.join("consent.sqlite"), state.join("consent.sqlite")).unwrap();
    }

    /// A state folder whose ledger lost two of three records.
    fn behind() -> (tempfile::TempDir, tempfile::TempDir) {
        let (state, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        record(&open(state.path()), Event::Given);
        std::fs::copy(state.path().join("consent.sqlite"), backup.path().join("consent.sqlite")).unwrap();
        let consent = open(state.path());
        record(&consent, Event::Withdrawn);
        record(&consent, Event::Given);
        drop(consent);
        restore(state.path(), backup.path());
        (state, backup)
    }

    #[test]
    fn an_acknowledged_backup_releases_again_in_a_new_generation() {
        let (state, backup) = behind();
        let running = open(state.path());
        assert_eq!(running.catch_up().unwrap_err().code, Code::NodeRefused);
        let command = open(state.path());
        let loss = command.loss().unwrap();
        assert_eq!((loss.version, loss.known, loss.missing(), loss.generation), (1, 3, 2, 0));
        assert!(loss.last_recorded.as_deref().is_some_and(|time| time.ends_with('Z')));
        assert_eq!(command.acknowledge_restore(&loss, 7).unwrap(), 1);
        // The running process honours it without a restart.
        let caught_up = running.catch_up().unwrap();
        assert_eq!((caught_up.generation, caught_up.snapshot.version()), (1, 1));
        let unlogged = running.unlogged().unwrap();
        assert_eq!((unlogged.len(), unlogged[0].generation, unlogged[0].known, unlogged[0].version, unlogged[0].user), (1, 1, 3, 1, 7));
        running.logged(&unlogged).unwrap();
        assert_eq!(running.unlogged().unwrap(), []);
        // Within the new generation the old rule holds.
        record(&running, Event::Objected);
        running.catch_up().unwrap();
        drop((running, command));
        restore(state.path(), backup.path());
        assert_eq!(open(state.path()).catch_up().unwrap_err().code, Code::NodeRefused);
    }

    #[test]
    fn what_was_read_before_is_forgotten_with_its_generation() {
        let state = tempfile::tempdir().unwrap();
        let running = open(state.path());
        record(&running, Event::Given);
        record(&running, Event::Withdrawn);
        let withdrawn = |consent: &Consent| {
            let (mut scratch, mut latest) = (Vec::new(), Vec::new());
            let purpose = Name::parse("p").unwrap();
            consent.catch_up().unwrap().snapshot.view("nino", [&purpose].into_iter()).latest(["A"].into_iter(), &mut scratch, &mut latest);
            latest[0].withdrawn.is_some()
        };
        assert!(withdrawn(&running));
        // The same file loses its last record beneath the running process.
        let file = rusqlite::Connection::open(state.path().join("consent.sqlite")).unwrap();
        file.execute("DELETE FROM records WHERE place = 2", []).unwrap();
        assert!(running.catch_up().is_err());
        running.acknowledge_restore(&running.loss().unwrap(), 0).unwrap();
        assert!(!withdrawn(&running), "the index is of the ledger as it is now");
    }

    #[test]
    fn only_what_was_shown_is_accepted() {
        let (state, _backup) = behind();
        let consent = open(state.path());
        let shown = consent.loss().unwrap();
        // Whoever writes beside this program does not ask.
        let file = rusqlite::Connection::open(state.path().join("consent.sqlite")).unwrap();
        let columns = "identifier_type, identifier, purpose, event, recorded_at";
        file.execute(&format!("INSERT INTO records ({columns}) SELECT {columns} FROM records"), []).unwrap();
        assert!(matches!(consent.acknowledge_restore(&shown, 0), Err(LedgerError::Moved)));
        assert!(consent.catch_up().is_err());
        assert_eq!(consent.loss().unwrap().generation, 0);
    }

    #[test]
    fn a_damaged_generation_stops_the_node() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("consent-generation.json"), "{\"generation\":").unwrap();
        assert!(Consent::open(state.path(), Name::parse("dfe").unwrap()).is_err());
    }
}
