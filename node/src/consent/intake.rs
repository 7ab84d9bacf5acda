//! Where consent records come in: every identifier is normalised, every purpose and event known, before anything is written.

use std::collections::BTreeMap;

use chrono::DateTime;
use concordat_policy::consent::{Capacity, Event, Term, TermError};
use concordat_policy::{IdentifierType, Name, PurposeTree};
use concordat_proto::v1;

use super::ledger::{Acting, Details, Record};
use super::receipt::Notice;
use super::spool::Scope;
use crate::config::Config;

/// A record as it was written by people. What a record does not say is empty.
#[derive(Clone, Copy, Default)]
pub struct Raw<'a> {
    /// The identifier.
    pub identifier: &'a str,
    /// The name of its type.
    pub identifier_type: &'a str,
    /// The purpose.
    pub purpose: &'a str,
    /// What happened.
    pub event: &'a str,
    /// From when it counts, RFC 3339.
    pub effective_from: &'a str,
    /// When it ends, RFC 3339.
    pub expires_at: &'a str,
    /// In which capacity somebody acted for the subject.
    pub capacity: &'a str,
    /// The department's own reference of that person.
    pub acted_by: &'a str,
}

impl std::fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

impl<'a> From<&'a v1::ConsentRecord> for Raw<'a> {
    fn from(record: &'a v1::ConsentRecord) -> Self {
        Self {
            identifier: &record.identifier,
            identifier_type: &record.identifier_type,
            purpose: &record.purpose,
            event: &record.event,
            effective_from: &record.effective_from,
            expires_at: &record.expires_at,
            capacity: &record.capacity,
            acted_by: &record.acted_by,
        }
    }
}

/// The longest reference of who acted, in characters.
const LONGEST_REFERENCE: usize = 100;

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
    /// No moment.
    #[error("{0} is no time in whole seconds with its offset, such as 2027-04-01T00:00:00Z")]
    Time(&'static str),
    /// Times that the record cannot have.
    #[error(transparent)]
    Term(#[from] TermError),
    /// No capacity, or who acted without one.
    #[error("who acts for somebody is named by both capacity (parent, guardian, attorney or deputy) and acted_by")]
    Capacity,
    /// No reference.
    #[error("acted_by is the department's own reference of who acted, of 1 to 100 characters, without control characters")]
    ActedBy,
}

/// What the department knows of identifiers and purposes, and tells people with a receipt.
#[derive(Debug, Clone)]
pub struct Intake {
    // By the name that people use.
    types: BTreeMap<String, IdentifierType>,
    purposes: PurposeTree,
    notice: Notice,
}

impl Intake {
    /// From the declared datasets and the purpose tree.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let linked = config.datasets.iter().filter_map(|dataset| Some(dataset.linked.as_ref()?.identifier.clone()));
        let types = config.datasets.iter().map(|dataset| dataset.identifier.clone()).chain(linked);
        Self { notice: config.notice.clone(), ..Self::of(types, config.purposes.clone()) }
    }

    /// From types of identifiers and a purpose tree, without a notice.
    #[must_use]
    pub fn of(types: impl Iterator<Item = IdentifierType>, purposes: PurposeTree) -> Self {
        Self { types: types.map(|kind| (kind.to_string(), kind)).collect(), purposes, notice: Notice::default() }
    }

    /// The same identifiers with another purpose tree.
    #[must_use]
    pub(crate) fn under(&self, purposes: &PurposeTree) -> Self {
        Self { purposes: purposes.clone(), ..self.clone() }
    }

    /// The same with another notice.
    #[cfg(test)]
    pub(crate) fn telling(self, notice: Notice) -> Self {
        Self { notice, ..self }
    }

    /// What the department tells people.
    pub(crate) fn notice(&self) -> &Notice {
        &self.notice
    }

    /// The only type of identifiers, where there is just one.
    #[must_use]
    pub fn only_type(&self) -> Option<&str> {
        self.types.keys().next().map(String::as_str).filter(|_| self.types.len() == 1)
    }

    /// The purpose tree.
    pub(crate) fn purposes(&self) -> &PurposeTree {
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

    /// What a record says beside its event.
    pub(super) fn details(event: Event, raw: &Raw<'_>) -> Result<Details, IntakeError> {
        let term = Term::of(event, time("effective_from", raw.effective_from)?, time("expires_at", raw.expires_at)?)?;
        let acting = match (raw.capacity, raw.acted_by) {
            ("", "") => None,
            (_, "") | ("", _) => return Err(IntakeError::Capacity),
            (capacity, by) => {
                let capacity = Capacity::parse(capacity).ok_or(IntakeError::Capacity)?;
                if by.chars().count() > LONGEST_REFERENCE || by.chars().any(char::is_control) {
                    return Err(IntakeError::ActedBy);
                }
                Some(Acting { capacity, by: by.to_owned() })
            }
        };
        Ok(Details { term, acting })
    }

    /// Reads one record. `scratch` is working space.
    ///
    /// # Errors
    /// [`IntakeError`].
    pub fn record(&self, raw: Raw<'_>, scratch: &mut String) -> Result<Record, IntakeError> {
        let Scope { identifier_type, purpose, event } = self.scope(raw.identifier_type, raw.purpose, raw.event)?;
        let details = Self::details(event, &raw)?;
        if !self.normalise(raw.identifier, raw.identifier_type, scratch)? {
            return Err(IntakeError::Identifier(raw.identifier_type.to_owned()));
        }
        Ok(Record { identifier_type, identifier: scratch.clone(), purpose, event, details })
    }
}

fn time(name: &'static str, text: &str) -> Result<Option<i64>, IntakeError> {
    if text.is_empty() {
        return Ok(None);
    }
    let time = DateTime::parse_from_rfc3339(text).ok().filter(|time| time.timestamp_subsec_nanos() == 0);
    time.map(|time| Some(time.timestamp())).ok_or(IntakeError::Time(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_may_say_beside_its_event() {
        let raw = |effective_from, expires_at, capacity, acted_by| Raw { effective_from, expires_at, capacity, acted_by, ..Raw::default() };
        let (may, june) = ("2027-05-01T00:00:00+01:00", "2027-06-01T00:00:00Z");
        let long = "x".repeat(101);
        for (event, raw, expected) in [
            (Event::Given, raw("", "", "", ""), None),
            (Event::Given, raw(may, june, "parent", "case 17/é"), None),
            (Event::Withdrawn, raw("", "", "attorney", "LPA 3"), None),
            (Event::Objected, raw(june, "", "", ""), None),
            (Event::Given, raw(june, may, "", ""), Some(TermError::Empty.into())),
            (Event::Objected, raw("", june, "", ""), Some(TermError::Objected.into())),
            (Event::Withdrawn, raw(june, "", "", ""), Some(TermError::Withdrawn.into())),
            (Event::Given, raw("2027-06-01", "", "", ""), Some(IntakeError::Time("effective_from"))),
            (Event::Given, raw("", "2027-06-01T00:00:00", "", ""), Some(IntakeError::Time("expires_at"))),
            (Event::Given, raw("", "2027-06-01T00:00:00.5Z", "", ""), Some(IntakeError::Time("expires_at"))),
            (Event::Given, raw("", "", "parent", ""), Some(IntakeError::Capacity)),
            (Event::Given, raw("", "", "", "case 17"), Some(IntakeError::Capacity)),
            (Event::Given, raw("", "", "friend", "case 17"), Some(IntakeError::Capacity)),
            (Event::Given, raw("", "", "deputy", &long), Some(IntakeError::ActedBy)),
            (Event::Given, raw("", "", "deputy", "a\nb"), Some(IntakeError::ActedBy)),
        ] {
            assert_eq!(Intake::details(event, &raw).err(), expected, "{event:?}");
        }
        let term = Intake::details(Event::Given, &raw(may, june, "", "")).unwrap().term;
        assert_eq!((term.effective_from(), term.expires_at()), (Some(1_809_126_000), Some(1_811_808_000)));
    }
}
