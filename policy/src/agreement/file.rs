//! The document as it is written, and what makes an agreement of it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde::Deserialize;

use super::rows::{ConditionFile, MAX_CONDITIONS};
use super::{
    Agreement, Basis, ConsentAge, DataAge, Dataset, FLOOR_OF_MINIMUM_SUBJECTS, Fingerprint, Limits, Linkage, LinkedIdentifier,
    MaxUnwitnessed, Party, Recipient, WithdrawalReach, column_name_ok, disclosed,
};
use crate::column::{BANDS, ColumnRule, ColumnType, FilterLimit, LINKED, SUBJECT, Use};
use crate::identifier::{IdentifierSpec, IdentifierType};
use crate::row_level::RowLevel;
use crate::{DatasetName, Disclosure, Name, Problem, Value};

/// Files have the names of their agreements, and `revoked.toml` is the list of revoked keys.
const RESERVED: &str = "revoked";

fn default_minimum_subjects() -> u32 {
    10
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    id: Name,
    title: String,
    mission: Name,
    purposes: BTreeSet<Name>,
    valid_from: NaiveDate,
    valid_until: NaiveDate,
    #[serde(default)]
    review_on: Option<NaiveDate>,
    #[serde(default)]
    benefits: Option<String>,
    #[serde(default)]
    objective: Option<String>,
    #[serde(default)]
    retention: Option<String>,
    #[serde(default)]
    impact_assessment: Option<String>,
    #[serde(default = "default_minimum_subjects")]
    minimum_subjects: u32,
    #[serde(default)]
    disclosure: Disclosure,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    withdrawals: WithdrawalReach,
    #[serde(default)]
    max_consent_age: Option<ConsentAge>,
    #[serde(default)]
    max_unwitnessed: MaxUnwitnessed,
    linkage: Linkage,
    #[serde(default)]
    party: Vec<Party>,
    #[serde(default)]
    recipient: Vec<Recipient>,
    #[serde(default)]
    dataset: Vec<DatasetFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetFile {
    department: Name,
    name: Name,
    identifier: IdentifierFile,
    #[serde(default)]
    linked: Option<IdentifierFile>,
    basis: BasisKind,
    #[serde(default)]
    power: Option<String>,
    #[serde(default)]
    consent_text: Option<String>,
    #[serde(default)]
    honours_objections: Option<bool>,
    #[serde(default)]
    rows: Vec<ConditionFile>,
    #[serde(default)]
    row_level: RowLevel,
    #[serde(default)]
    max_data_age: Option<DataAge>,
    #[serde(default)]
    known_to: BTreeSet<String>,
    #[serde(default)]
    columns: BTreeMap<String, ColumnRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentifierFile {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    uses: BTreeSet<Use>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BasisKind {
    Consent,
    Statutory,
}

impl File {
    /// The agreement, or every [`Problem`].
    pub(super) fn check(self, digest: String) -> Result<Agreement, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut problem = |near: &str, cause: String, remedy: &str| problems.push(Problem::at(near, cause, remedy));
        if self.id.as_str() == RESERVED {
            let cause = "no agreement is called 'revoked': its file would have the name of the list of revoked keys, and be read as none";
            problem("id", cause.into(), "give it another id");
        }
        if self.valid_until < self.valid_from {
            problem("valid_until", "the agreement ends before it begins".into(), "set valid_until to a day on or after valid_from");
        }
        if self.review_on.is_some_and(|day| !(self.valid_from..=self.valid_until).contains(&day)) {
            problem("review_on", "the agreement is reviewed when it is not in force".into(), "set review_on to a day of its validity");
        }
        if self.purposes.is_empty() {
            problem("purposes", "an agreement without a purpose permits nothing".into(), "name at least one purpose");
        }
        if self.minimum_subjects < FLOOR_OF_MINIMUM_SUBJECTS {
            problem(
                "minimum_subjects",
                format!("minimum_subjects is {}; the least allowed is {FLOOR_OF_MINIMUM_SUBJECTS}", self.minimum_subjects),
                "raise it (10 is the default)",
            );
        }
        let Limits { requests_per_minute, concurrent_queries, rows_per_day: _, releases_per_day } = self.limits;
        if [requests_per_minute, concurrent_queries, releases_per_day].contains(&Some(0)) {
            problem("limits", "a limit of 0 requests, queries or releases permits nothing".into(), "raise it, or leave it out");
        }
        if self.max_consent_age.is_some() && self.withdrawals == WithdrawalReach::OwnDepartment {
            problem(
                "max_consent_age",
                "max_consent_age says nothing unless withdrawals reach other departments".into(),
                "set withdrawals = \"all_parties\", or leave it out",
            );
        }
        if !(1..=3660).contains(&self.linkage.epoch_days) {
            problem("epoch_days", "an epoch is 1 to 3660 days long".into(), "use 90, the default, unless there is a reason");
        }
        let mut departments = BTreeSet::new();
        for party in &self.party {
            if !departments.insert(&party.department) {
                problem(party.department.as_str(), format!("party '{}' stands twice", party.department), "keep one of the two");
            }
        }
        let mut keys: BTreeMap<&Fingerprint, &Name> = BTreeMap::new();
        for (key, party) in self.party.iter().flat_map(|party| [(&party.signing_key, party), (&party.linkage_key, party)]) {
            let other = *keys.entry(key).or_insert(&party.department);
            if *other != party.department {
                problem(
                    key.as_str(),
                    format!("the parties '{other}' and '{}' state the same key: one could sign, and read, for the other", party.department),
                    "each department has keys of its own; `concordat-node init` prints their fingerprints",
                );
            }
        }
        if !departments.contains(&self.linkage.keyholder) {
            problem("keyholder", format!("the keyholder '{}' is not a party", self.linkage.keyholder), "name one of the parties");
        }
        let mut names = BTreeSet::new();
        for dataset in &self.dataset {
            if !departments.contains(&dataset.department) {
                problem(
                    dataset.department.as_str(),
                    format!("dataset '{}.{}' belongs to a department that is not a party", dataset.department, dataset.name),
                    "add the department as a party, with its keys' fingerprints",
                );
            }
            if !names.insert((&dataset.department, &dataset.name)) {
                problem(
                    dataset.name.as_str(),
                    format!("dataset '{}.{}' stands twice", dataset.department, dataset.name),
                    "keep one of the two",
                );
            }
        }
        problems.extend(disclosed::problems(&self.disclosure));
        let mut datasets = Vec::new();
        for dataset in self.dataset {
            match dataset.check() {
                Ok(dataset) => datasets.push(dataset),
                Err(found) => problems.extend(found),
            }
        }
        if self.withdrawals == WithdrawalReach::AllParties {
            for Dataset { name, .. } in datasets.iter().filter(|dataset| dataset.linked.is_some() && !dataset.is_link()) {
                let cause = format!(
                    "dataset '{name}', linked: who withdrew elsewhere can be removed by a pseudonym that is released, and this is not"
                );
                problems.push(Problem::at(name.dataset.as_str(), cause, "permit it uses = [\"join\"], or leave `linked` out"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Agreement {
            id: self.id,
            title: self.title,
            mission: self.mission,
            purposes: self.purposes,
            valid_from: self.valid_from,
            valid_until: self.valid_until,
            review_on: self.review_on,
            benefits: self.benefits,
            objective: self.objective,
            retention: self.retention,
            impact_assessment: self.impact_assessment,
            minimum_subjects: self.minimum_subjects,
            disclosure: self.disclosure,
            limits: self.limits,
            withdrawals: self.withdrawals,
            max_consent_age: self.max_consent_age.unwrap_or_default(),
            max_unwitnessed: self.max_unwitnessed,
            linkage: self.linkage,
            parties: self.party,
            recipients: self.recipient,
            datasets,
            digest,
        })
    }
}

impl IdentifierFile {
    fn read(&self, dataset: &DatasetName, problems: &mut Vec<Problem>) -> Result<IdentifierType, ()> {
        let spec = IdentifierSpec { kind: self.kind.clone(), name: self.name.clone(), pattern: self.pattern.clone() };
        let unknown = |cause| Problem::at(&spec.kind, format!("dataset '{dataset}': {cause}"), "use a known identifier type");
        IdentifierType::from_spec(&spec).map_err(|cause| problems.push(unknown(cause)))
    }
}

impl DatasetFile {
    fn check(self) -> Result<Dataset, Vec<Problem>> {
        let mut problems = Vec::new();
        let name = DatasetName::new(self.department, self.name);
        let identifier = self.identifier.read(&name, &mut problems);
        let linked = self.linked.map(|linked| linked.read(&name, &mut problems).map(|identifier| (identifier, linked.uses))).transpose();
        if let (Ok(one), Ok(Some((other, uses)))) = (&identifier, &linked) {
            let mut problem = |cause: &str, remedy: &str| {
                problems.push(Problem::at(name.dataset.as_str(), format!("dataset '{name}', linked: {cause}"), remedy));
            };
            if one.label() == other.label() {
                problem("both identifiers are of one type", "a link dataset has identifiers of two types");
            }
            if uses.iter().any(|used| !matches!(used, Use::Join | Use::Aggregate)) {
                problem("a second pseudonym may only be joined on and counted", "leave 'join' and 'aggregate'");
            }
        }
        if self.identifier.uses.contains(&Use::Filter) {
            problems.push(Problem::at(
                name.dataset.as_str(),
                format!("dataset '{name}': a pseudonym cannot be filtered on"),
                "remove 'filter' from the identifier's uses",
            ));
        }
        let basis = match (self.basis, self.power, self.consent_text, self.honours_objections) {
            (BasisKind::Consent, None, Some(text), None) => Some(Basis::Consent { text }),
            (BasisKind::Statutory, Some(power), None, honours) => {
                Some(Basis::Statutory { power, honours_objections: honours.unwrap_or(true) })
            }
            _ => None,
        };
        if basis.is_none() {
            problems.push(Problem::at(
                name.dataset.as_str(),
                format!("dataset '{name}': the lawful basis is incomplete or mixed"),
                "basis 'consent' takes consent_text alone; basis 'statutory' takes power and, if wanted, honours_objections",
            ));
        }
        for (column, rule) in &self.columns {
            let mut problem = |cause: &str, remedy: &str| {
                problems.push(Problem::at(column, format!("dataset '{name}', column '{column}': {cause}"), remedy));
            };
            if column == SUBJECT || column == LINKED {
                problem("this name is reserved for the pseudonym", "give the column another name");
            }
            if !column_name_ok(column) {
                problem(
                    "a column's name is 1 to 64 of a-z, 0-9 and '_', and starts with a letter",
                    "rename the column in the node's configuration",
                );
            }
            if rule.uses.contains(&Use::GroupBy) && rule.values.is_none() && rule.kind != ColumnType::Boolean {
                problem(
                    "a column with the use 'group_by' needs its published list of values",
                    "add values = [...], or publish a banded column beside it",
                );
            }
            if let Some((cause, remedy)) = limit_at_fault(rule) {
                problem(cause, remedy);
            }
            if let Some((cause, remedy)) = rule.coded.and_then(|coded| coded.fault(rule)) {
                problem(&cause, remedy);
            }
            if rule.uses.contains(&Use::Join) {
                problem("only the pseudonym joins datasets", "remove 'join'");
            }
        }
        for (cause, remedy) in self.row_level.faults(&self.columns, self.identifier.uses.contains(&Use::Output)) {
            problems.push(Problem::at("row_level", format!("dataset '{name}', row_level: {cause}"), remedy));
        }
        let mut rows = Vec::new();
        if self.rows.len() > MAX_CONDITIONS {
            let cause =
                format!("dataset '{name}': rows has {} conditions, and may have at most {MAX_CONDITIONS} conditions", self.rows.len());
            problems.push(Problem::at("rows", cause, "is_in takes a list of values"));
        }
        for condition in self.rows {
            let column = condition.column.clone();
            match condition.check(&self.columns) {
                Ok(condition) => rows.push(condition),
                Err((cause, remedy)) => {
                    problems.push(Problem::at(&column, format!("dataset '{name}', rows, column '{column}': {cause}"), remedy));
                }
            }
        }
        match (identifier, linked, basis) {
            (Ok(identifier), Ok(linked), Some(basis)) if problems.is_empty() => {
                let linked = linked.map(|(identifier, uses)| LinkedIdentifier { identifier, uses });
                let (subject_uses, columns) = (self.identifier.uses, self.columns);
                let (row_level, max_data_age, known_to) = (self.row_level, self.max_data_age, self.known_to);
                Ok(Dataset { name, identifier, subject_uses, linked, basis, columns, rows, row_level, max_data_age, known_to })
            }
            _ => Err(problems),
        }
    }
}

/// What is wrong with a column's limit of the use `filter`, and what to do.
fn limit_at_fault(rule: &ColumnRule) -> Option<(&'static str, &'static str)> {
    if rule.bands.is_some() && rule.filter != Some(FilterLimit::Bands) {
        return Some(("bands limit nothing without filter = \"bands\"", "add filter = \"bands\", or remove the bands"));
    }
    let limit = rule.filter?;
    if !rule.uses.contains(&Use::Filter) {
        return Some((
            "a limit stands on the use 'filter', which the column does not have",
            "add 'filter' to its uses, or remove the limit",
        ));
    }
    match limit {
        FilterLimit::Listed => list_at_fault(rule),
        FilterLimit::Bands => bands_at_fault(rule),
    }
}

fn list_at_fault(rule: &ColumnRule) -> Option<(&'static str, &'static str)> {
    if rule.kind == ColumnType::Boolean {
        return Some(("a boolean column has two values, and no list that could limit its use 'filter'", "remove filter = \"listed\""));
    }
    let Some(values) = &rule.values else {
        return Some(("filter = \"listed\" needs the column's published list of values", "add values = [...], or remove the limit"));
    };
    (values.is_empty() || values.iter().any(|value| rule.kind.read(value).is_none())).then_some((
        "filter = \"listed\" needs a list of values of the column's type",
        "write numbers as in [\"1\", \"2\"], days as in [\"2026-01-31\"]",
    ))
}

fn bands_at_fault(rule: &ColumnRule) -> Option<(&'static str, &'static str)> {
    let remedy = "write numbers as in [\"30\", \"40\", \"50\"], days as in [\"2025-01-01\", \"2026-01-01\"]";
    if !matches!(rule.kind, ColumnType::Integer | ColumnType::Number | ColumnType::Date) {
        return Some(("only numbers and dates have bands", "write filter = \"listed\" with a list of values, or remove the limit"));
    }
    let Some(bands) = rule.bands.as_ref().filter(|bands| BANDS.contains(&bands.len())) else {
        return Some(("filter = \"bands\" needs bands = [...] with 2 to 64 thresholds", remedy));
    };
    let Some(thresholds) = bands.iter().map(|band| rule.kind.read(band)).collect::<Option<Vec<_>>>() else {
        return Some(("a threshold of the bands is not of the column's type", remedy));
    };
    let ascending = thresholds.iter().zip(thresholds.iter().skip(1)).all(|pair| match pair {
        (Value::Integer(one), Value::Integer(next)) => one < next,
        (Value::Number(one), Value::Number(next)) => one < next,
        (Value::Date(one), Value::Date(next)) => one < next,
        _ => false,
    });
    (!ascending).then_some(("the thresholds of the bands do not ascend", "write each once, the smallest first"))
}
