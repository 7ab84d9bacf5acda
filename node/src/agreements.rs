//! The node's own agreements and purpose tree: what every order and every linkage key is held against. What the gateway says
//! of an agreement counts for nothing beyond naming it. An agreement that this department has not signed is held, and refused.
//! One set of them never changes; [`Current`] holds the set that counts now.

mod current;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use concordat_guard::ReleaseGuard;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::signature::Fault;
use concordat_policy::succession::Keys;
use concordat_policy::{Agreement, Code, LinkageDomain, Name, PurposeTree, Refusal, Revocations, Seen, Signatures};
use concordat_proto::signature::offer::Offer;
use concordat_proto::v1;

pub use self::current::Current;
use crate::suspension::Suspensions;

/// How near to an epoch's boundary the neighbouring epoch is taken too, in seconds: two clocks may stand on either side.
const BOUNDARY: i64 = 60;

/// Departments, each with the fingerprint of a linkage key.
pub(crate) type Members = BTreeSet<(Name, Fingerprint)>;

/// The agreements to which the department is a party.
#[derive(Debug)]
pub struct Agreements {
    suspensions: Arc<Suspensions>,
    agreements: Vec<Agreement>,
    signatures: Signatures,
    purposes: PurposeTree,
    guard: ReleaseGuard,
}

impl Agreements {
    /// Takes agreements that were read and checked with the configuration, the department's signatures of them, what it suspends
    /// of them, and its guard rails, which were read for these agreements and purposes.
    #[must_use]
    pub fn new(
        suspensions: Arc<Suspensions>,
        agreements: Vec<Agreement>,
        signatures: Signatures,
        purposes: PurposeTree,
        guard: ReleaseGuard,
    ) -> Self {
        Self { suspensions, agreements, signatures, purposes, guard }
    }

    /// The same agreements as [`Signatures::revoking`] leaves them; `None` where that makes no difference.
    pub(crate) fn revoking(&self, more: Option<Revocations>) -> Option<Self> {
        let signatures = self.signatures.revoking(more);
        (signatures != self.signatures).then(|| Self {
            suspensions: Arc::clone(&self.suspensions),
            agreements: self.agreements.clone(),
            signatures,
            purposes: self.purposes.clone(),
            guard: self.guard.clone(),
        })
    }

    /// The keys that count as revoked.
    pub(crate) fn revoked(&self) -> &Revocations {
        self.signatures.revoked()
    }

    /// The department's signatures, the revoked keys, and what was seen.
    pub(crate) fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// What was seen of signatures and successions.
    pub(crate) fn seen(&self) -> &Seen {
        self.signatures.seen()
    }

    /// Whether linkage keys are sealed to this key of a party at `now`.
    pub(crate) fn links(&self, agreement: &Agreement, department: &Name, key: &Fingerprint, now: DateTime<Utc>) -> bool {
        self.signatures.keys(agreement, department, now).is_some_and(|keys| keys.links(key))
    }

    /// Whether another party's signature of an agreement that is not held would count.
    ///
    /// # Errors
    /// Why it would not.
    pub(crate) fn would_count(&self, offer: &Offer, now: DateTime<Utc>) -> Result<(), Fault> {
        self.signatures.would_count(&offer.statement, &offer.agreement, now)
    }

    /// Every agreement.
    pub fn iter(&self) -> impl Iterator<Item = &Agreement> {
        self.agreements.iter()
    }

    /// The department's purpose tree.
    #[must_use]
    pub fn purposes(&self) -> &PurposeTree {
        &self.purposes
    }

    /// The department's guard rails.
    #[must_use]
    pub fn guard(&self) -> &ReleaseGuard {
        &self.guard
    }

    /// The department.
    #[must_use]
    pub fn department(&self) -> &Name {
        self.suspensions.department()
    }

    /// What the department has suspended.
    #[must_use]
    pub fn suspensions(&self) -> &Arc<Suspensions> {
        &self.suspensions
    }

    /// When this department signed an agreement that it holds.
    ///
    /// # Errors
    /// Why its signature does not count.
    pub fn signed(&self, agreement: &Agreement, now: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
        self.signatures.judge(agreement, self.department(), now)
    }

    /// The agreement that `id` and `digest` name, if this department has signed it and it is in force and not suspended.
    ///
    /// # Errors
    /// [`Code::Denied`]; [`Code::NodeRefused`] when nobody can tell what is suspended.
    pub fn find(&self, id: &str, digest: &str, now: DateTime<Utc>) -> Result<&Agreement, Refusal> {
        // First: what the department has ended it has not signed either, and that is not the cause to name.
        self.suspensions.permits(&self.held(id, digest)?.id)?;
        self.binding(id, digest, now)
    }

    /// The same, whatever is suspended.
    ///
    /// # Errors
    /// [`Code::Denied`].
    pub(crate) fn binding(&self, id: &str, digest: &str, now: DateTime<Utc>) -> Result<&Agreement, Refusal> {
        let agreement = self.held(id, digest)?;
        self.bound(agreement, now)?;
        if !agreement.in_force(now) {
            return Err(self
                .denied(format!("the agreement '{id}' is not in force: it runs from {} to {}", agreement.valid_from, agreement.valid_until))
                .advice("ask the parties to renew it"));
        }
        Ok(agreement)
    }

    /// The agreement of that name, in that text.
    fn held(&self, id: &str, digest: &str) -> Result<&Agreement, Refusal> {
        let Some(agreement) = self.agreements.iter().find(|agreement| agreement.id.as_str() == id) else {
            return Err(self
                .denied("this department holds no agreement of that name")
                .advice("the department must put its own copy into its folder of agreements"));
        };
        if agreement.digest != digest {
            return Err(self
                .denied(format!("the agreement '{id}' that this department holds is another text than the one in the request"))
                .advice(
                    "the parties must hold the same file, byte for byte; compare its SHA-256. Pseudonyms of two texts need not match",
                ));
        }
        Ok(agreement)
    }

    /// That the department is bound by an agreement that it holds, on whatever days that is in force.
    fn bound(&self, agreement: &Agreement, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.signed(agreement, now).map_err(|fault| self.unsigned(agreement, &fault))?;
        match self.signatures.compromised(agreement, now) {
            None => Ok(()),
            Some(party) => Err(self
                .denied(format!(
                    "the agreement '{}' names a key of '{party}' that this department has listed as revoked, or another party by what replaced it",
                    agreement.id
                ))
                .advice("the parties must agree that department's new key, and sign anew")),
        }
    }

    /// The linkage domain that a request names, if the agreement permits it and it is the current one.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a domain that is none, else [`Code::Denied`].
    pub fn domain(&self, agreement: &Agreement, wire: Option<&v1::Domain>, now: DateTime<Utc>) -> Result<LinkageDomain, Refusal> {
        let invalid = |cause: String| Refusal::new(Code::Invalid, cause).department(self.department());
        let wire = wire.ok_or_else(|| invalid("the request names no linkage domain".into()))?;
        let domain = wire.under(agreement.linkage.rotation).map_err(invalid)?;
        self.leads_to(agreement, &domain, now).map(|()| domain)
    }

    /// Whether the agreement permits a linkage domain, and it is the current one.
    ///
    /// # Errors
    /// [`Code::Denied`].
    pub(crate) fn leads_to(&self, agreement: &Agreement, domain: &LinkageDomain, now: DateTime<Utc>) -> Result<(), Refusal> {
        if domain.mission != agreement.mission {
            return Err(self.denied(format!("the agreement '{}' serves the mission '{}'", agreement.id, agreement.mission)));
        }
        if self.purposes.active(&domain.purpose).is_none() || !self.covers(agreement, &domain.purpose) {
            return Err(self
                .denied(format!("the agreement '{}' does not cover the purpose '{}'", agreement.id, domain.purpose))
                .advice("declare a purpose that the agreement names, or a narrower one that this department knows"));
        }
        let current = |shift: i64| {
            let then = now.checked_add_signed(TimeDelta::seconds(shift))?;
            LinkageDomain::at(domain.mission.clone(), domain.purpose.clone(), &agreement.linkage, then)
        };
        if [0, -BOUNDARY, BOUNDARY].into_iter().any(|shift| current(shift).is_some_and(|current| current == *domain)) {
            return Ok(());
        }
        Err(self.denied("the linkage domain's epoch is not the current one").advice("compare the clocks of gateway and department"))
    }

    /// Who may use the key of `domain` at `now`: the parties of every agreement that leads to it, is in force and binds this department,
    /// suspended or not, each by its present linkage key.
    #[must_use]
    pub fn members(&self, domain: &LinkageDomain, now: DateTime<Utc>) -> Members {
        self.parties(domain, now, |agreement| agreement.in_force(now) && self.bound(agreement, now).is_ok())
    }

    /// Whom a keyholder may have given the key of `domain` by `now`: the same of every agreement that this department has signed and that
    /// was in force at any time since the domain's epoch began. What this department neither holds nor has signed is unknown to it.
    #[must_use]
    pub fn once_members(&self, domain: &LinkageDomain, now: DateTime<Utc>) -> Members {
        self.parties(domain, now, |agreement| {
            let lasted = domain.days(&agreement.linkage).is_none_or(|days| days.start <= agreement.valid_until);
            let since = agreement.valid_from <= now.date_naive() && lasted;
            (agreement.in_force(now) || since) && self.signed(agreement, now).is_ok()
        })
    }

    /// The parties, each by its present linkage key, of the agreements that lead to `domain` and meet a condition.
    fn parties(&self, domain: &LinkageDomain, now: DateTime<Utc>, counts: impl Fn(&Agreement) -> bool) -> Members {
        let leads = |agreement: &&Agreement| {
            let same = agreement.mission == domain.mission && agreement.linkage.rotation == domain.rotation;
            same && self.covers(agreement, &domain.purpose) && counts(agreement)
        };
        let mut members = Members::new();
        for agreement in self.agreements.iter().filter(leads) {
            for party in &agreement.parties {
                let keys = self.signatures.keys(agreement, &party.department, now);
                if let Some((_, linkage)) = keys.as_ref().and_then(Keys::present) {
                    members.insert((party.department.clone(), linkage.clone()));
                }
            }
        }
        members
    }

    /// Whether a domain ended, on the day `end` that was noted with its key, an epoch ago or more, by every agreement held here that leads
    /// to it; where none does any more, whether it has ended at all.
    #[must_use]
    pub fn ended(&self, domain: &LinkageDomain, end: NaiveDate, now: DateTime<Utc>) -> bool {
        let leads = |agreement: &&Agreement| agreement.mission == domain.mission && self.covers(agreement, &domain.purpose);
        let epochs = self.agreements.iter().filter(leads).map(|agreement| agreement.linkage.epoch_days);
        let wait = Days::new(epochs.max().unwrap_or_default().into());
        end.checked_add_days(wait).is_some_and(|over| over <= now.date_naive())
    }

    fn covers(&self, agreement: &Agreement, purpose: &Name) -> bool {
        agreement.purposes.iter().any(|agreed| self.purposes.covers(agreed, purpose))
    }

    fn unsigned(&self, agreement: &Agreement, fault: &Fault) -> Refusal {
        let remedy = if fault.signing_helps() {
            format!("its administrator decides: `concordat-node agreement sign {}`", agreement.id)
        } else {
            fault.remedy().to_owned()
        };
        let cause = format!("this department is not bound by the agreement '{}': its own signature {fault}", agreement.id);
        let refusal = self.denied(cause).advice(remedy);
        match fault {
            Fault::Unreadable(cause) => refusal.operator(cause),
            _ => refusal,
        }
    }

    /// A refusal by this department's rules.
    pub(crate) fn denied(&self, cause: impl Into<String>) -> Refusal {
        Refusal::new(Code::Denied, cause).department(self.department())
    }
}
