//! Agreements: the permission itself, one TOML document each. Every party holds its own copy; the digest of the file's exact
//! bytes stands in every release order, so that two different texts never pass for the same agreement, and each party signs it
//! ([`crate::signature`]).

mod age;
mod disclosed;
mod file;
mod rows;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

pub use self::age::DataAge;
use self::file::File;
pub use self::rows::{Condition, Test};
pub(crate) use self::terms::in_words;
pub use self::terms::{ConsentAge, Limits, MaxUnwitnessed, Term, WithdrawalReach};
use crate::coded::Coded;
use crate::column::{ColumnRule, LINKED, SUBJECT, Use};
pub use crate::fingerprint::{Fingerprint, hex};
use crate::identifier::IdentifierType;
use crate::row_level::RowLevel;
use crate::{DatasetName, Disclosure, Name, Predicate, Problem};

/// A document for people to fill in: every field with what it means, permitting nothing, on no day of this century but its first.
pub const DRAFT: &str = include_str!("agreement/draft.toml");

/// The least `minimum_subjects` that an agreement may state.
pub const FLOOR_OF_MINIMUM_SUBJECTS: u32 = 3;

/// A party: a department and the fingerprints of its keys, confirmed out of band.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// The department.
    pub department: Name,
    /// `sha256:` and 64 hex digits: of the DER SubjectPublicKeyInfo of the Ed25519 key that signs its tickets and receipts.
    pub signing_key: Fingerprint,
    /// The same, of the raw 32-byte X25519 key to which linkage keys are sealed.
    pub linkage_key: Fingerprint,
    /// Whom people and the other parties ask: the controller's contact or its data protection officer.
    #[serde(default)]
    pub contact: Option<String>,
}

/// Who may receive answers: an organisation and the roles of which its caller needs at least one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// The organisation, as the token's issuer names it.
    pub organisation: String,
    /// The roles; an empty list admits nobody.
    pub roles: BTreeSet<String>,
}

/// Why the law lets the data be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The subject must have agreed.
    Consent {
        /// What the subject was asked.
        text: String,
    },
    /// A power.
    Statutory {
        /// The power, for example `Digital Economy Act 2017 s.35`.
        power: String,
        /// Whether a subject's objection is honoured.
        honours_objections: bool,
    },
}

impl Basis {
    /// Whether some choice of a subject's keeps the data from being used.
    #[must_use]
    pub fn honours(&self) -> bool {
        !matches!(self, Self::Statutory { honours_objections: false, .. })
    }
}

/// How pseudonyms of the agreement are made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linkage {
    /// The party that creates the linkage key of each epoch.
    pub keyholder: Name,
    /// The length of an epoch in days.
    #[serde(default = "default_epoch_days")]
    pub epoch_days: u32,
    /// How often the parties began anew within the epochs: a number that only rises. A higher one is another linkage domain, with
    /// another key, which only the present parties get.
    #[serde(default)]
    pub rotation: u32,
}

fn default_epoch_days() -> u32 {
    90
}

/// The second identifier of a link dataset: its rows say that the two identify one and the same, or belong together. Views join
/// through it; only its own department sees both in clear. The choices of both subjects count: a row is withheld if either's say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedIdentifier {
    /// Its type, another one than the first's: pseudonyms of two types never match.
    pub identifier: IdentifierType,
    /// The permitted uses of its pseudonym: `join` and `aggregate`.
    pub uses: BTreeSet<Use>,
}

/// What the agreement says of one dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Whose and which.
    pub name: DatasetName,
    /// The type of the identifier that becomes the pseudonym.
    pub identifier: IdentifierType,
    /// The permitted uses of the pseudonym: `join`, `aggregate` (count distinct subjects), `group_by` (one row per subject
    /// inside a plan) and `output`.
    pub subject_uses: BTreeSet<Use>,
    /// The second identifier, where it is a link dataset.
    pub linked: Option<LinkedIdentifier>,
    /// Why the law allows it.
    pub basis: Basis,
    /// The columns and their rules.
    pub columns: BTreeMap<String, ColumnRule>,
    /// What a row must meet to be used at all: all of these.
    pub rows: Vec<Condition>,
    /// What is said of rows of single subjects in answers.
    pub row_level: RowLevel,
    /// How old its data may be when it is used; `None` where the agreement says nothing.
    pub max_data_age: Option<DataAge>,
    /// Organisations that may know that it exists, beside those who may use it. They learn its name, and nothing of what is in it.
    pub known_to: BTreeSet<String>,
}

impl Dataset {
    /// The condition that every row meets which leaves its department; `None` where every row may.
    #[must_use]
    pub fn row_condition(&self) -> Option<Predicate> {
        (!self.rows.is_empty()).then(|| Predicate::And(self.rows.iter().map(Predicate::from).collect()))
    }

    /// The same for people, on one line.
    #[must_use]
    pub fn rows_in_words(&self) -> Option<String> {
        let words = self.rows.iter().map(ToString::to_string).collect::<Vec<_>>().join(", and ");
        (!words.is_empty()).then_some(words)
    }

    /// Whether rows of single subjects may stand in answers.
    #[must_use]
    pub fn puts_out(&self) -> bool {
        self.subject_uses.contains(&Use::Output) || self.columns.values().any(|rule| rule.uses.contains(&Use::Output))
    }

    /// The columns that are coded.
    #[must_use]
    pub fn coded(&self) -> BTreeMap<String, Coded> {
        self.columns.iter().filter_map(|(column, rule)| Some((column.clone(), rule.coded?))).collect()
    }

    /// Whether its second pseudonym may be used.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.linked.as_ref().is_some_and(|linked| !linked.uses.is_empty())
    }

    /// The permitted uses of a column, of [`SUBJECT`] or [`LINKED`]; `None` when the agreement does not name it.
    #[must_use]
    pub fn uses(&self, column: &str) -> Option<&BTreeSet<Use>> {
        match column {
            SUBJECT => Some(&self.subject_uses),
            LINKED => self.linked.as_ref().map(|linked| &linked.uses),
            _ => self.columns.get(column).map(|rule| &rule.uses),
        }
    }
}

/// An agreement, read and checked.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// Its identifier.
    pub id: Name,
    /// Its title, for people.
    pub title: String,
    /// The mission it serves.
    pub mission: Name,
    /// The purposes it permits, each with its descendants.
    pub purposes: BTreeSet<Name>,
    /// The first day it is in force (UTC).
    pub valid_from: NaiveDate,
    /// The last day it is in force (UTC).
    pub valid_until: NaiveDate,
    /// The day on which the parties look at it again (ICO, data sharing code of practice: "review date").
    pub review_on: Option<NaiveDate>,
    /// What the public is expected to gain, as the register of the Digital Economy Act 2017 asks.
    pub benefits: Option<String>,
    /// What the sharing is to achieve (ICO, data sharing code of practice: the objective in sharing the data).
    pub objective: Option<String>,
    /// How long recipients keep answers, and what they made of them. A promise: nothing here keeps it.
    pub retention: Option<String>,
    /// Where the data protection impact assessment is found.
    pub impact_assessment: Option<String>,
    /// The least number of distinct subjects behind any number that is shown.
    pub minimum_subjects: u32,
    /// The other disclosure rules.
    pub disclosure: Disclosure,
    /// What may be taken under it.
    pub limits: Limits,
    /// How far a withdrawal reaches.
    pub withdrawals: WithdrawalReach,
    /// Where a withdrawal reaches other parties' data: how old what a party recorded may be when a query does not read its data.
    pub max_consent_age: ConsentAge,
    /// For how long the gateway's log may have entries that too few witnesses have seen while something is released.
    pub max_unwitnessed: MaxUnwitnessed,
    /// How pseudonyms are made.
    pub linkage: Linkage,
    /// The parties.
    pub parties: Vec<Party>,
    /// Who may receive answers.
    pub recipients: Vec<Recipient>,
    /// The datasets.
    pub datasets: Vec<Dataset>,
    /// SHA-256 of the file's exact bytes, in lower-case hex.
    pub digest: String,
}

impl Agreement {
    /// Reads and checks one document.
    ///
    /// # Errors
    /// Every [`Problem`] found.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let file: File = toml::from_str(text).map_err(|e| vec![Problem::toml(&e)])?;
        file.check(hex(&Sha256::digest(text.as_bytes())))
    }

    /// Whether it is in force at `now`.
    #[must_use]
    pub fn in_force(&self, now: DateTime<Utc>) -> bool {
        (self.valid_from..=self.valid_until).contains(&now.date_naive())
    }

    /// The party that `department` is, if it is one.
    #[must_use]
    pub fn party(&self, department: &Name) -> Option<&Party> {
        self.parties.iter().find(|party| party.department == *department)
    }

    /// The parties whose subjects' withdrawals and objections reach `dataset` from elsewhere: all but its owner, where the agreement
    /// says so and the dataset's basis honours them.
    pub fn reaching<'a>(&'a self, dataset: &'a Dataset) -> impl Iterator<Item = &'a Name> {
        let reached = self.withdrawals == WithdrawalReach::AllParties && dataset.basis.honours();
        let others = self.parties.iter().map(|party| &party.department).filter(|party| **party != dataset.name.department);
        others.filter(move |_| reached)
    }

    /// The other parties' data that choices reach which `department` recorded.
    pub fn reached_from<'a>(&'a self, department: &'a Name) -> impl Iterator<Item = &'a Dataset> {
        let reach = self.withdrawals == WithdrawalReach::AllParties;
        self.datasets.iter().filter(move |dataset| reach && dataset.name.department != *department && dataset.basis.honours())
    }

    /// Whether numbers are told more exactly than where an agreement says nothing, without noise, of people whom conditions or
    /// computed keys choose: two statements that differ by one person then tell what that person has.
    #[must_use]
    pub fn tells_differences(&self) -> bool {
        let mut rules = self.datasets.iter().flat_map(|dataset| dataset.columns.values());
        let chooses = rules.any(|rule| rule.uses.contains(&Use::Filter) || rule.uses.contains(&Use::GroupBy));
        chooses && self.disclosure.round_to < Disclosure::default().round_to && self.disclosure.perturbation.is_none()
    }

    /// The dataset, if the agreement names it.
    #[must_use]
    pub fn dataset(&self, name: &DatasetName) -> Option<&Dataset> {
        self.datasets.iter().find(|dataset| dataset.name == *name)
    }
}

/// Whether `text` can name a column: 1 to 64 of a-z, 0-9 and `_`, beginning with a letter, so that SQL never needs quotes.
#[must_use]
pub fn column_name_ok(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests;
