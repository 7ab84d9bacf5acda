//! What would leave under one agreement, found out without sending anything: the source is read in full, and each row is judged by
//! the same workers as in a release. No row is kept, nothing is spilled, and pseudonyms are made only to be counted.
//!
//! An order names some of the columns and may narrow the rows; what is shown is the most that could leave.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use concordat_policy::agreement::Dataset;
use concordat_policy::consent::relevant;
use concordat_policy::purpose::Purpose;
use concordat_policy::{Agreement, Basis, Code, Name, PurposeTree, Refusal};
use concordat_proto::{receipt, v1};
use serde::Serialize;

use crate::config::{Config, DatasetConfig};
use crate::consent::reach::{Kind, identifiers};
use crate::consent::{CaughtUp, Consent, Snapshot};
use crate::datasets::{Datasets, Selection};
use crate::pseudonym::{DomainKey, Pseudonyms};
use crate::release::{Counts, Linked, Rules, blocking, count};
use crate::suspension::{Folders, Standing, Suspensions};
use crate::workers::streams;

/// What would leave, to whom, and why.
#[derive(Debug, Serialize)]
pub struct Preview {
    /// The department.
    pub department: String,
    /// The agreement's name, title, digest (SHA-256 of its file) and mission.
    pub agreement: String,
    /// For people.
    pub title: String,
    /// SHA-256 of its file, hex.
    pub agreement_digest: String,
    /// The mission.
    pub mission: String,
    /// Its first day.
    pub valid_from: String,
    /// Its last day.
    pub valid_until: String,
    /// Whether orders under it would be answered now.
    pub in_force: bool,
    /// Why the department's own signature does not count, where it does not; then nothing leaves.
    pub unsigned: Option<String>,
    /// Whether the department has suspended it, or everything, or cannot tell; then nothing leaves.
    pub suspended: bool,
    /// Fingerprints of the client certificates of the gateway, the only one to which rows go.
    pub gateway: Vec<String>,
    /// The parties.
    pub parties: Vec<String>,
    /// Which of them makes the key of pseudonyms.
    pub keyholder: String,
    /// The length of an epoch, in days, in which pseudonyms stay the same.
    pub epoch_days: u32,
    /// Who may receive answers.
    pub recipients: Vec<Recipient>,
    /// The gateway withholds numbers that rest on fewer.
    pub minimum_subjects: u32,
    /// After how many rows in a day the node releases no more under it.
    pub rows_per_day: Option<u64>,
    /// After how many releases.
    pub releases_per_day: Option<u32>,
    /// The version of the consent ledger that was applied.
    pub consent_version: u64,
    /// Of whom the gateway is told, so that it removes them from the other parties' data; empty where the agreement does not say so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reach: Vec<ReachPreview>,
    /// The department's own datasets.
    pub datasets: Vec<DatasetPreview>,
}

/// Of how many people the gateway is told, as pseudonyms, that they withdrew or objected. Exact: for the department only.
#[derive(Debug, Serialize)]
pub struct ReachPreview {
    /// For this purpose.
    pub purpose: String,
    /// `consent` or `statutory`: of the data that is reached.
    pub basis: &'static str,
    /// How many.
    pub subjects: u64,
}

/// Who may receive answers.
#[derive(Debug, Serialize)]
pub struct Recipient {
    /// The organisation.
    pub organisation: String,
    /// One of these roles is needed.
    pub roles: Vec<String>,
}

/// One dataset.
#[derive(Debug, Serialize)]
pub struct DatasetPreview {
    /// Its own name.
    pub dataset: String,
    /// `consent` or `statutory`.
    pub basis: &'static str,
    /// What subjects were asked, or the power.
    pub basis_text: String,
    /// Under a power: whether objections are honoured.
    pub honours_objections: Option<bool>,
    /// The identifier's type; it leaves as a pseudonym only.
    pub identifier_type: String,
    /// That of a link dataset's second identifier; it leaves as a pseudonym too, and the choices of both subjects count.
    pub linked_identifier_type: Option<String>,
    /// What may be done with that pseudonym.
    pub linked_uses: Vec<String>,
    /// What may be done with the pseudonym.
    pub subject_uses: Vec<String>,
    /// Which rows may leave at all, in words; none where every row may.
    pub only_rows: Option<String>,
    /// How old its data may be, in words; none for any age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_data_age: Option<String>,
    /// Whether it is older than that, or of a time that has not come: nothing leaves then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
    /// Every column that the agreement names, then those that this department has beside them.
    pub columns: Vec<ColumnPreview>,
    /// When the source last changed, Unix seconds.
    pub freshness: i64,
    /// The rows, by purpose.
    pub purposes: Vec<PurposePreview>,
}

/// One column.
#[derive(Debug, Serialize)]
pub struct ColumnPreview {
    /// Its name.
    pub column: String,
    /// The type of its values.
    pub r#type: String,
    /// By this department's own word.
    pub classification: String,
    /// By the agreement's, where it differs.
    pub agreed_classification: Option<String>,
    /// The permitted uses; none where the agreement permits none or does not name it.
    pub uses: Vec<String>,
    /// Whether its values leave. With the use `filter` alone they decide here which rows do.
    pub leaves: bool,
    /// How many values its published list has.
    pub listed_values: Option<usize>,
    /// Which values leave as a bound.
    pub coded: Option<String>,
}

/// How many rows would leave for one purpose. Exact: for the department only.
#[derive(Debug, Serialize)]
pub struct PurposePreview {
    /// The purpose.
    pub purpose: String,
    /// For people.
    pub title: String,
    /// Rows that would leave: those that meet the agreement's condition and are not withheld.
    pub rows: u64,
    /// Rows withheld because the subject has not agreed, has withdrawn or has objected.
    pub without_consent: u64,
    /// Rows withheld because the identifier is invalid or missing.
    pub invalid_identifiers: u64,
}

/// Makes a preview of `agreement`; for `purpose` alone, if there is one, else for every purpose that it covers here.
///
/// # Errors
/// A [`Refusal`] that names what this department does not hold, or the dataset that cannot be read. Never a part.
pub async fn preview(config: &Config, datasets: &Datasets, agreement: &str, purpose: Option<&str>) -> Result<Preview, Refusal> {
    let invalid = |cause: String| Refusal::new(Code::Invalid, cause).department(&config.department);
    let agreement = config.agreements.iter().find(|held| held.id.as_str() == agreement).ok_or_else(|| {
        let held = config.agreements.iter().map(|held| held.id.as_str()).collect::<Vec<_>>().join(", ");
        invalid(format!("this department holds no agreement '{agreement}'; it holds: {}", if held.is_empty() { "none" } else { &held }))
    })?;
    let covered = covered(config, agreement);
    let purposes: Vec<&Purpose> =
        covered.iter().copied().filter(|known| purpose.is_none_or(|wanted| wanted == known.id.as_str())).collect();
    if purposes.is_empty() {
        let list = covered.iter().map(|purpose| purpose.id.as_str()).collect::<Vec<_>>().join(", ");
        let list = if list.is_empty() { "none that this department knows" } else { &list };
        return Err(invalid(match purpose {
            Some(purpose) => format!("the agreement '{}' does not cover the purpose '{purpose}'; it covers: {list}", agreement.id),
            None => format!("the agreement '{}' covers {list}", agreement.id),
        }));
    }
    let (state, department) = (config.state.clone(), config.department.clone());
    let (ledger, consent) = blocking(move || {
        let ledger = Consent::open(&state, department).map_err(Refusal::internal)?;
        let caught_up = ledger.catch_up()?;
        Ok((Arc::new(ledger), caught_up))
    })
    .await?;
    let mut shown = head(config, agreement, &consent.snapshot, Utc::now());
    for dataset in agreement.datasets.iter().filter(|dataset| dataset.name.department == config.department) {
        shown.datasets.push(one(config, datasets, dataset, &purposes, &consent).await?);
    }
    shown.reach = reach(config, agreement, &purposes, &ledger, &consent.snapshot).await?;
    Ok(shown)
}

/// Whom the gateway would be told of, from nothing.
async fn reach(
    config: &Config,
    agreement: &Agreement,
    purposes: &[&Purpose],
    ledger: &Arc<Consent>,
    consent: &Snapshot,
) -> Result<Vec<ReachPreview>, Refusal> {
    let mut shown = Vec::new();
    for (name, wanted) in [("consent", v1::Basis::Consent), ("statutory", v1::Basis::StatutoryHonouringObjections)] {
        let of_basis = |dataset: &&Dataset| v1::Basis::from(&dataset.basis) == wanted;
        let reached: Vec<&Dataset> = agreement.reached_from(&config.department).filter(of_basis).collect();
        let Some(basis) = reached.first().map(|dataset| dataset.basis.clone()) else { continue };
        let identifiers = identifiers(reached.into_iter());
        for purpose in purposes {
            let relevant: Vec<Name> = relevant(&config.purposes, &purpose.id).cloned().collect();
            let mut kinds = Vec::new();
            for identifier in &identifiers {
                let (label, pseudonyms) = (identifier.label(), nobodys()?);
                kinds.push(Kind { view: consent.view(&label, relevant.iter()), label, pseudonyms });
            }
            let (ledger, now, basis) = (Arc::clone(ledger), consent.now(), basis.clone());
            let told = blocking(move || ledger.reach(None, now, &basis, &relevant, kinds).map_err(Refusal::internal)).await?;
            shown.push(ReachPreview { purpose: purpose.id.to_string(), basis: name, subjects: told.added.len() as u64 });
        }
    }
    Ok(shown)
}

/// Pseudonyms by a key that nobody has: they are counted and forgotten.
fn nobodys() -> Result<Pseudonyms, Refusal> {
    Ok(Pseudonyms::private(&DomainKey::random().map_err(Refusal::internal)?, "preview"))
}

/// Every purpose for which this department would answer under the agreement.
fn covered<'a>(config: &'a Config, agreement: &Agreement) -> Vec<&'a Purpose> {
    let tree = &config.purposes;
    let covers =
        |purpose: &&Purpose| tree.active(&purpose.id).is_some() && agreement.purposes.iter().any(|agreed| tree.covers(agreed, &purpose.id));
    tree.iter().filter(covers).collect()
}

fn head(config: &Config, agreement: &Agreement, consent: &Snapshot, now: DateTime<Utc>) -> Preview {
    let standing: Standing = Suspensions::at(config.department.clone(), Folders::new(&config.state, &config.log)).look();
    let recipient = |r: &concordat_policy::agreement::Recipient| Recipient {
        organisation: r.organisation.clone(),
        roles: r.roles.iter().cloned().collect(),
    };
    let unsigned = config.signatures.judge(agreement, &config.department, now).err().map(|fault| format!("its signature {fault}"));
    Preview {
        department: config.department.to_string(),
        agreement: agreement.id.to_string(),
        title: agreement.title.clone(),
        agreement_digest: agreement.digest.clone(),
        mission: agreement.mission.to_string(),
        valid_from: agreement.valid_from.to_string(),
        valid_until: agreement.valid_until.to_string(),
        in_force: agreement.in_force(now) && unsigned.is_none() && standing.permits(&agreement.id),
        unsigned,
        suspended: !standing.permits(&agreement.id),
        gateway: config.gateway.iter().map(ToString::to_string).collect(),
        parties: agreement.parties.iter().map(|party| party.department.to_string()).collect(),
        keyholder: agreement.linkage.keyholder.to_string(),
        epoch_days: agreement.linkage.epoch_days,
        recipients: agreement.recipients.iter().map(recipient).collect(),
        minimum_subjects: agreement.minimum_subjects,
        rows_per_day: agreement.limits.rows_per_day,
        releases_per_day: agreement.limits.releases_per_day,
        consent_version: consent.version(),
        reach: Vec::new(),
        datasets: Vec::new(),
    }
}

async fn one(
    config: &Config,
    datasets: &Datasets,
    agreed: &Dataset,
    purposes: &[&Purpose],
    consent: &CaughtUp,
) -> Result<DatasetPreview, Refusal> {
    let name = &agreed.name.dataset;
    let own = datasets.dataset(name).map(|dataset| &dataset.config);
    let own = own.ok_or_else(|| Refusal::internal("an agreed dataset that is not declared"))?;
    let columns = agreed.columns.iter().filter(|(_, rule)| rule.crosses_the_wire()).map(|(name, rule)| (name.clone(), rule.kind)).collect();
    let predicate_types = agreed.columns.iter().map(|(name, rule)| (name.clone(), rule.kind)).collect();
    let selection = Selection {
        dataset: name.clone(),
        linked: agreed.linked.is_some(),
        columns,
        condition: agreed.row_condition(),
        predicate: None,
        predicate_types,
        coded: agreed.coded(),
    };
    let rules = purposes.iter().map(|purpose| rules(config, agreed, &purpose.id, &selection, consent)).collect::<Result<Vec<_>, _>>()?;
    let now = Utc::now();
    let scan = datasets.scan(&selection, streams()).await?;
    let freshness = scan.freshness;
    let counts = count(scan, &rules).await?;
    let (basis, basis_text, honours_objections) = match &agreed.basis {
        Basis::Consent { text } => ("consent", text, None),
        Basis::Statutory { power, honours_objections } => ("statutory", power, Some(*honours_objections)),
    };
    Ok(DatasetPreview {
        dataset: name.to_string(),
        basis,
        basis_text: basis_text.clone(),
        honours_objections,
        identifier_type: agreed.identifier.to_string(),
        linked_identifier_type: agreed.linked.as_ref().map(|linked| linked.identifier.to_string()),
        linked_uses: agreed.linked.iter().flat_map(|linked| &linked.uses).map(ToString::to_string).collect(),
        subject_uses: agreed.subject_uses.iter().map(ToString::to_string).collect(),
        only_rows: agreed.rows_in_words(),
        max_data_age: agreed.max_data_age.map(|most| most.to_string()),
        outdated: agreed.max_data_age.is_some_and(|most| most.excludes(freshness, [now; 2]).is_some()),
        columns: columns_of(agreed, own),
        freshness,
        purposes: purposes.iter().zip(counts).map(|(purpose, counts)| of_purpose(purpose, counts)).collect(),
    })
}

/// The rules of a release for one purpose. No pseudonym is made.
fn rules(config: &Config, agreed: &Dataset, purpose: &Name, selection: &Selection, consent: &CaughtUp) -> Result<Arc<Rules>, Refusal> {
    Ok(Arc::new(Rules {
        identifier: agreed.identifier.clone(),
        pseudonyms: nobodys()?,
        linked: linked(agreed, consent, &config.purposes, purpose)?,
        basis: agreed.basis.clone(),
        consent: consent.snapshot.view(&agreed.identifier.label(), relevant(&config.purposes, purpose)),
        standing: receipt::Standing { generation: consent.generation, version: consent.snapshot.version() },
        columns: selection.columns.clone(),
        grain: None,
        conditional: false,
    }))
}

fn linked(agreed: &Dataset, consent: &CaughtUp, tree: &PurposeTree, purpose: &Name) -> Result<Option<Linked>, Refusal> {
    let Some(linked) = &agreed.linked else { return Ok(None) };
    Ok(Some(Linked {
        identifier: linked.identifier.clone(),
        pseudonyms: Pseudonyms::private(&DomainKey::random().map_err(Refusal::internal)?, "preview"),
        consent: consent.snapshot.view(&linked.identifier.label(), relevant(tree, purpose)),
        released: false,
    }))
}

fn of_purpose(purpose: &Purpose, counts: Counts) -> PurposePreview {
    let Counts { released, invalid_identifiers, without_consent } = counts;
    PurposePreview { purpose: purpose.id.to_string(), title: purpose.title.clone(), rows: released, without_consent, invalid_identifiers }
}

fn columns_of(agreed: &Dataset, own: &DatasetConfig) -> Vec<ColumnPreview> {
    let known = agreed.columns.iter().filter_map(|(name, rule)| Some((name, own.columns.get(name)?, Some(rule))));
    let beside = own.columns.iter().filter(|(name, _)| !agreed.columns.contains_key(*name)).map(|(name, declared)| (name, declared, None));
    let shown = |(name, declared, rule): (&String, &crate::config::ColumnConfig, Option<&concordat_policy::ColumnRule>)| ColumnPreview {
        column: name.clone(),
        r#type: declared.kind.to_string(),
        classification: declared.classification.to_string(),
        agreed_classification: rule.map(|rule| rule.classification).filter(|c| *c != declared.classification).map(|c| c.to_string()),
        uses: rule.map(|rule| rule.uses.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        leaves: rule.is_some_and(concordat_policy::ColumnRule::crosses_the_wire),
        listed_values: rule.and_then(|rule| rule.values.as_ref()).map(Vec::len),
        coded: rule.and_then(|rule| rule.coded).map(|coded| coded.to_string()),
    };
    known.chain(beside).map(shown).collect()
}

#[cfg(test)]
mod tests;
