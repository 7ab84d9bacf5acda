//! The department's own guard rails: what it forbids of people and circumstances, beside everything that its agreements demand.

use std::path::Path;

use chrono::{DateTime, Utc};
use concordat_audit::Entry;
use concordat_guard::{Damage, Known, Loaded, ReleaseGuard, Settings};
use concordat_operate::Fault;
use concordat_policy::{Agreement, Name, PurposeTree, Refusal};

use crate::config::{Finding, Findings};
use crate::node::Node;
use crate::orders::VerifiedOrder;

/// Reads the guard rails.
///
/// # Errors
/// Every [`Finding`]: a node does not start without those that it is told to have.
pub(crate) fn open(department: &Name, settings: Option<&Settings>, known: &Known) -> Result<ReleaseGuard, Findings> {
    ReleaseGuard::open(department.clone(), settings, known).map_err(|damage| {
        let finding = |one: Damage| Finding::file(Path::new(&one.place()), one.cause, one.remedy);
        Findings { findings: damage.into_iter().map(finding).collect() }
    })
}

/// The names that guard rails may speak of.
pub(crate) fn known<'a>(
    purposes: &PurposeTree,
    agreements: impl Iterator<Item = &'a Agreement> + Clone,
    datasets: impl Iterator<Item = &'a Name>,
) -> Known {
    Known {
        purposes: purposes.clone(),
        missions: agreements.clone().map(|agreement| agreement.mission.clone()).collect(),
        agreements: agreements.map(|agreement| agreement.id.clone()).collect(),
        datasets: datasets.cloned().collect(),
    }
}

/// Decides about an order that the agreement permits.
///
/// # Errors
/// [`concordat_policy::Code::Denied`], naming the department and the guard rail.
pub(crate) fn decide(guard: &ReleaseGuard, order: &VerifiedOrder, now: DateTime<Utc>) -> Result<(), Refusal> {
    let release = concordat_guard::Release {
        organisation: &order.organisation,
        issuer: &order.caller_issuer,
        purpose: &order.domain.purpose,
        mission: &order.domain.mission,
        agreement: &order.agreement.id,
        dataset: &order.dataset,
        gateway: order.certificate.as_str(),
    };
    guard.decide(&release, now)
}

impl Node {
    /// Reads the guard rails again, for the agreements that count, and goes by them. Gives a summary.
    ///
    /// # Errors
    /// The first thing wrong with them: then nothing has changed.
    pub(crate) fn reread_guard_rails(&self) -> Result<String, Fault> {
        let agreements = self.agreements.now();
        let held: Vec<&Agreement> = agreements.iter().collect();
        let known = known(agreements.purposes(), held.into_iter(), self.datasets.iter().map(|dataset| &dataset.config.name));
        let before = agreements.guard().loaded();
        let loaded = agreements.guard().reload(&known).map_err(|damage| {
            let one = Damage::first_of(&damage);
            Fault::new(one.place(), one.cause, one.remedy)
        })?;
        self.replaced.add(replaced(before.as_ref(), loaded.as_ref()));
        Ok(loaded.map_or_else(|| "none".to_owned(), |loaded| loaded.to_string()))
    }
}

/// What the log is told of guard rails that were read again: nothing where they are the same.
pub(crate) fn replaced(before: Option<&Loaded>, now: Option<&Loaded>) -> Option<Entry> {
    (before != now).then(|| in_force(Entry::new("guard_rails.loaded"), now))
}

/// Adds to an entry which guard rails are in force.
pub(crate) fn in_force(entry: Entry, loaded: Option<&Loaded>) -> Entry {
    match loaded {
        Some(Loaded { rails, digest, .. }) => entry.field("guard_rails", *rails).field("guard_rails_digest", digest.as_str()),
        None => entry,
    }
}
