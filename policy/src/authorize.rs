//! The decision: may this caller use these datasets, for this purpose, at this time, and each column in this way?
//!
//! Worked example. A caller of `opportunity-unit` with role `analyst` declares purpose `opportunity.measure`. One agreement is
//! in force that permits `opportunity`, the purpose's parent, and names `opportunity-unit`/`analyst` as a recipient: the
//! decision is a [`Permit`] for that agreement's datasets. The plan then sums `dwp.claims.amount`; the agreement permits
//! `filter` for that column, not `aggregate`: [`Permit::judge`] refuses, names column, use, department and agreement. Had `dwp` not
//! signed that agreement, there would be no permit for it, and the refusal would say whose signature is missing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::agreement::{Linkage, MaxUnwitnessed};
use crate::column::{ColumnUses, SUBJECT, Use};
use crate::{Agreement, Cause, Code, Dataset, DatasetName, Disclosure, Name, PurposeTree, Refusal, Signatures};

/// The authenticated end user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The issuer's stable name for the user. Opaque; logged as a commitment, never shown to other callers.
    pub subject: String,
    /// The user's organisation.
    pub organisation: String,
    /// The user's roles.
    pub roles: BTreeSet<String>,
    /// The purpose declared for this request.
    pub purpose: Name,
}

/// A positive decision: the datasets that this request may read and the obligations of each. Only [`authorize`] builds one.
#[derive(Debug, Clone, PartialEq)]
pub struct Permit {
    mission: Name,
    purpose: Name,
    datasets: BTreeMap<DatasetName, DatasetPermit>,
    told: BTreeMap<DatasetName, Refusal>,
}

/// The obligations of one dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetPermit {
    /// The agreement that permits it.
    pub agreement: Name,
    /// SHA-256 of that agreement's file, in hex.
    pub agreement_digest: String,
    /// The least number of distinct subjects behind any number that is shown.
    pub minimum_subjects: u32,
    /// The other disclosure rules.
    pub disclosure: Disclosure,
    /// For how long the gateway's log may have entries that too few witnesses have seen while its data is released.
    pub max_unwitnessed: MaxUnwitnessed,
    /// How its pseudonyms are made.
    pub linkage: Linkage,
    /// Whether choices that other parties recorded reach it.
    pub reached: bool,
    /// The agreement's rules of the dataset.
    pub dataset: Dataset,
}

/// Decides whether `caller` may ask anything at all, in `mission` or, where that is not stated, in the one mission that the
/// purpose leads to.
///
/// # Errors
/// [`Code::Denied`] with one and the same sentence whether the purpose is unknown or retired, no agreement covers it, none is
/// in force, or none names the caller; with another where all that do lack a party's signature, naming it: that is told only to
/// those for whom they are made. [`Code::Invalid`] when several missions fit or two agreements cover one dataset. Where several are
/// at fault, the one that is told does not depend on the order of `agreements`: the agreement that lacks the fewest signatures, the
/// first dataset and the first two agreements by name.
pub fn authorize(
    caller: &Caller,
    mission: Option<&Name>,
    agreements: &[Agreement],
    signatures: &Signatures,
    purposes: &PurposeTree,
    now: DateTime<Utc>,
) -> Result<Permit, Refusal> {
    let applies = |agreement: &&Agreement| {
        agreement.in_force(now)
            && purposes.active(&caller.purpose).is_some()
            && agreement.purposes.iter().any(|agreed| purposes.covers(agreed, &caller.purpose))
            && agreement.recipients.iter().any(|r| r.organisation == caller.organisation && !r.roles.is_disjoint(&caller.roles))
            && mission.is_none_or(|mission| agreement.mission == *mission)
    };
    let mut applicable: Vec<&Agreement> = Vec::new();
    let mut unsigned: Vec<(&Agreement, Refusal)> = Vec::new();
    for agreement in agreements.iter().filter(applies) {
        match signatures.refusal(agreement, now) {
            None => applicable.push(agreement),
            Some(refusal) => unsigned.push((agreement, refusal)),
        }
    }
    applicable.sort_by(|one, other| by_name(one).cmp(&by_name(other)));
    unsigned.sort_by(|(one, lacks), (other, lack)| (lacking(lacks), by_name(one)).cmp(&(lacking(lack), by_name(other))));
    let missions: BTreeSet<&Name> = applicable.iter().map(|agreement| &agreement.mission).collect();
    let mut missions = missions.into_iter();
    let Some(only) = missions.next() else {
        if let Some((_, refusal)) = unsigned.into_iter().next() {
            return Err(refusal);
        }
        let cause = Cause::Purpose { purpose: caller.purpose.clone(), mission: mission.cloned() };
        return Err(Refusal::because(Code::Denied, cause).advice(
            "`concordat catalogue` lists what you may use; check the purpose's spelling, or ask the departments for an agreement",
        ));
    };
    let mission = only;
    if missions.next().is_some() {
        return Err(Refusal::new(Code::Invalid, format!("the purpose '{}' leads to several missions", caller.purpose))
            .advice("say which one: header x-concordat-mission, or --mission"));
    }
    let mut datasets: BTreeMap<DatasetName, DatasetPermit> = BTreeMap::new();
    let mut twice: BTreeMap<&DatasetName, &Name> = BTreeMap::new();
    for agreement in &applicable {
        for dataset in &agreement.datasets {
            let permit = DatasetPermit {
                agreement: agreement.id.clone(),
                agreement_digest: agreement.digest.clone(),
                minimum_subjects: agreement.minimum_subjects,
                disclosure: agreement.disclosure.clone(),
                max_unwitnessed: agreement.max_unwitnessed,
                linkage: agreement.linkage.clone(),
                reached: agreement.reaching(dataset).next().is_some(),
                dataset: dataset.clone(),
            };
            match datasets.entry(dataset.name.clone()) {
                Entry::Vacant(free) => {
                    free.insert(permit);
                }
                Entry::Occupied(_) => {
                    twice.entry(&dataset.name).or_insert(&agreement.id);
                }
            }
        }
    }
    if let Some((name, second)) = twice.first_key_value() {
        let first = datasets.get(*name).map_or(*second, |permit| &permit.agreement);
        return Err(Refusal::new(Code::Invalid, format!("two agreements cover '{name}' for this purpose: '{first}' and '{second}'"))
            .department(&name.department)
            .advice("the parties must end one of them or narrow its purposes"));
    }
    let mut told: BTreeMap<DatasetName, Refusal> = BTreeMap::new();
    for (agreement, refusal) in unsigned.iter().filter(|(agreement, _)| agreement.mission == *mission) {
        for dataset in agreement.datasets.iter().filter(|dataset| !datasets.contains_key(&dataset.name)) {
            told.entry(dataset.name.clone()).or_insert_with(|| refusal.clone());
        }
    }
    for dataset in known_to(&caller.organisation, agreements, signatures, now) {
        if !datasets.contains_key(dataset) {
            told.entry(dataset.clone()).or_insert_with(|| {
                Refusal::because(Code::Denied, Cause::Known { dataset: dataset.clone() })
                    .department(&dataset.department)
                    .advice("ask its department for an agreement, or for another purpose that one covers")
            });
        }
    }
    Ok(Permit { mission: mission.clone(), purpose: caller.purpose.clone(), datasets, told })
}

/// The datasets that an organisation may know of: those of agreements in force, signed by every party, that name it for that.
pub fn known_to<'a>(
    organisation: &str,
    agreements: &'a [Agreement],
    signatures: &Signatures,
    now: DateTime<Utc>,
) -> BTreeSet<&'a DatasetName> {
    let names = |dataset: &&Dataset| dataset.known_to.contains(organisation);
    let binds = |agreement: &&Agreement| {
        agreement.datasets.iter().any(|dataset| names(&dataset)) && agreement.in_force(now) && signatures.refusal(agreement, now).is_none()
    };
    agreements.iter().filter(binds).flat_map(|agreement| agreement.datasets.iter().filter(names)).map(|dataset| &dataset.name).collect()
}

/// An order of agreements that rests on nothing but themselves: two texts may bear one identifier.
fn by_name(agreement: &Agreement) -> (&Name, &str) {
    (&agreement.id, &agreement.digest)
}

/// How many parties' signatures an agreement lacks.
fn lacking(refusal: &Refusal) -> usize {
    match refusal.because.as_deref() {
        Some(Cause::Signature { lacking, .. }) => lacking.len(),
        _ => usize::MAX,
    }
}

impl Permit {
    /// The mission of the request.
    #[must_use]
    pub fn mission(&self) -> &Name {
        &self.mission
    }

    /// The purpose of the request.
    #[must_use]
    pub fn purpose(&self) -> &Name {
        &self.purpose
    }

    /// The obligations of one dataset; `None` when the request may not read it.
    #[must_use]
    pub fn dataset(&self, name: &DatasetName) -> Option<&DatasetPermit> {
        self.datasets.get(name)
    }

    /// The refusal of a dataset that the request may not read, and of which its caller is told more than of what does not exist:
    /// one that it could read if every party had signed the agreement that covers it, or that its organisation may know of.
    #[must_use]
    pub fn told(&self, name: &DatasetName) -> Option<&Refusal> {
        self.told.get(name)
    }

    /// Every dataset the request may read, by name.
    pub fn datasets(&self) -> impl Iterator<Item = &DatasetPermit> {
        self.datasets.values()
    }

    /// The least number of distinct subjects for a result over `datasets`: the strictest owner's.
    #[must_use]
    pub fn minimum_subjects<'a>(&self, datasets: impl IntoIterator<Item = &'a DatasetName>) -> u32 {
        // A dataset without a permit cannot be read, so it imposes the strictest rule there is.
        datasets.into_iter().map(|name| self.dataset(name).map_or(u32::MAX, |p| p.minimum_subjects)).max().unwrap_or(u32::MAX)
    }

    /// The disclosure rules for a result over `datasets`: of each rule the strictest owner's. Those that the permit does not name
    /// have no say here: nothing that rests on them passes [`Self::minimum_subjects`].
    #[must_use]
    pub fn disclosure<'a>(&self, datasets: impl IntoIterator<Item = &'a DatasetName>) -> Disclosure {
        let rules = datasets.into_iter().filter_map(|name| self.dataset(name)).map(|permit| permit.disclosure.clone());
        rules.reduce(|one, other| one.strictest(&other)).unwrap_or_default()
    }

    /// Judges what a plan does with each column.
    ///
    /// # Errors
    /// [`Code::Denied`], naming the first column whose use is not permitted, the use, the department and the agreement, and
    /// what is permitted instead.
    pub fn judge(&self, uses: &ColumnUses) -> Result<(), Refusal> {
        for dataset in uses.datasets() {
            if let Some(refusal) = self.told(dataset) {
                return Err(refusal.clone());
            }
            if !self.datasets.contains_key(dataset) {
                return Err(
                    Refusal::because(Code::Denied, Cause::Hidden { column: None }).advice("`concordat catalogue` lists what may be used")
                );
            }
        }
        for (dataset, column, used) in uses.iter() {
            let Some(permit) = self.datasets.get(dataset) else { continue };
            let permitted = permit.dataset.uses(column);
            if permitted.is_some_and(|uses| uses.contains(&used)) {
                continue;
            }
            let allowed = permitted.map(|uses| uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")).unwrap_or_default();
            let cause = Cause::Use { dataset: dataset.clone(), column: column.to_owned(), used, agreement: permit.agreement.clone() };
            return Err(Refusal::because(Code::Denied, cause).department(&dataset.department).advice(instead(column, used, &allowed)));
        }
        Ok(())
    }
}

fn instead(column: &str, used: Use, allowed: &str) -> String {
    match (used, allowed) {
        (_, "") => "the agreement permits no use of this column".into(),
        (Use::Output, _) if column != SUBJECT => {
            format!("permitted uses: {allowed}; rows of single subjects cannot leave, summarise them instead")
        }
        _ => format!("permitted uses: {allowed}"),
    }
}

#[cfg(test)]
mod tests;
