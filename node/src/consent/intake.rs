//! Where consent records come in: every identifier is normalised, every purpose and event known, before anything is written.

use std::collections::BTreeMap;

use concordat_policy::consent::Event;
use concordat_policy::{IdentifierType, Name, PurposeTree};

use super::ledger::Record;
use super::spool::Scope;
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
        let linked = config.datasets.iter().filter_map(|dataset| Some(dataset.linked.as_ref()?.identifier.clone()));
        Self::of(config.datasets.iter().map(|dataset| dataset.identifier.clone()).chain(linked), config.purposes.clone())
    }

    /// From types of identifiers and a purpose tree.
    #[must_use]
    pub fn of(types: impl Iterator<Item = IdentifierType>, purposes: PurposeTree) -> Self {
        Self { types: types.map(|kind| (kind.to_string(), kind)).collect(), purposes }
    }

    /// The only type of identifiers, where there is just one.
    #[must_use]
    pub fn only_type(&self) -> Option<&str> {
        self.types.keys().next().map(String::as_str).filter(|_| self.types.len() == 1)
    }

    /// The purpose tree.
    pub(super) fn purposes(&self) -> &PurposeTree {
        &self.purposes
    }

    /// The type that people call so.
    pub(super) fn identifier_type(&self, name: &str) -> Result<&IdentifierType, IntakeError> {
        self.types.get(name).ok_or_else(|| IntakeError::Type(name.chars().take(64).collect()))
    }

    /// A purpose of the tree.
    pub(super) fn purpose(&self, text: &str) -> Result<Name, IntakeError> {
        Name::parse(text).ok().filter(|name| self.purposes.ancestry(name).next().is_some()).ok_or(IntakeError::Purpose)
    }

    /// What a record is about, but for its subject.
    pub(super) fn scope(&self, identifier_type: &str, purpose: &str, event: &str) -> Result<Scope, IntakeError> {
        let identifier_type = self.identifier_type(identifier_type)?.label();
        let purpose = self.purpose(purpose)?;
        Ok(Scope { identifier_type, purpose, event: Event::parse(event).ok_or(IntakeError::Event)? })
    }

    /// Writes the normalised identifier into `out`. Whether it is valid.
    pub(super) fn normalise(&self, identifier: &str, identifier_type: &str, out: &mut String) -> Result<bool, IntakeError> {
        Ok(self.identifier_type(identifier_type)?.normalise(identifier, out))
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
        let Scope { identifier_type: label, purpose, event } = self.scope(identifier_type, purpose, event)?;
        if !self.normalise(identifier, identifier_type, scratch)? {
            return Err(IntakeError::Identifier(identifier_type.to_owned()));
        }
        Ok(Record { identifier_type: label, identifier: scratch.clone(), purpose, event })
    }
}
