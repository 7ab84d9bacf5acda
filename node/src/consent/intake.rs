//! Where consent records come in: every identifier is normalised, every purpose and event known, before anything is written.

use std::collections::BTreeMap;

use concordat_policy::consent::Event;
use concordat_policy::{IdentifierType, Name, PurposeTree};

use super::ledger::Record;
use crate::config::Config;

/// Why a record cannot be taken. Holds nothing of the identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// A type that no dataset of the department has.
    #[error("no dataset of this department has identifiers of the type '{0}'")]
    Type(String),
    /// Not an identifier of its type.
    #[error("the identifier is not a valid {0}")]
    Identifier(String),
    /// Not in the purpose tree.
    #[error("the purpose is not in this department's purpose tree")]
    Purpose,
    /// Not an event.
    #[error("the event is none of given, withdrawn, objected")]
    Event,
}

/// What the department knows of identifiers and purposes.
#[derive(Debug, Clone)]
pub struct Intake {
    // By the name that people use.
    types: BTreeMap<String, IdentifierType>,
    purposes: PurposeTree,
}

impl Intake {
    /// From the declared datasets and the purpose tree.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let types = config.datasets.iter().map(|dataset| (dataset.identifier.to_string(), dataset.identifier.clone())).collect();
        Self { types, purposes: config.purposes.clone() }
    }

    /// The only type of identifiers, where there is just one.
    #[must_use]
    pub fn only_type(&self) -> Option<&str> {
        self.types.keys().next().map(String::as_str).filter(|_| self.types.len() == 1)
    }

    /// Reads one record. `scratch` is working space.
    ///
    /// # Errors
    /// [`IntakeError`].
    pub fn record(
        &self,
        identifier: &str,
        identifier_type: &str,
        purpose: &str,
        event: &str,
        scratch: &mut String,
    ) -> Result<Record, IntakeError> {
        let kind = self.types.get(identifier_type).ok_or_else(|| IntakeError::Type(identifier_type.chars().take(64).collect()))?;
        let known = Name::parse(purpose).ok().filter(|name| self.purposes.ancestry(name).next().is_some());
        let purpose = known.ok_or(IntakeError::Purpose)?;
        let event = Event::parse(event).ok_or(IntakeError::Event)?;
        if !kind.normalise(identifier, scratch) {
            return Err(IntakeError::Identifier(kind.to_string()));
        }
        Ok(Record { identifier_type: kind.label(), identifier: scratch.clone(), purpose, event })
    }
}
