//! The gateway's question: may this caller claim this purpose, now, from there?

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;

use cedar_policy::RestrictedExpression;
use chrono::{DateTime, Utc};
use concordat_policy::{Name, Refusal};

use crate::kept::{Kept, Loaded};
use crate::moment::datetime;
use crate::rails::{Facts, entity};
use crate::read::Side;
use crate::{Damage, Known, Settings};

/// What a claim is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The caller's organisation.
    pub organisation: &'a str,
    /// The caller's roles.
    pub roles: &'a BTreeSet<String>,
    /// Who issued the caller's token.
    pub issuer: &'a str,
    /// Until when the caller's training counts, where the token says so.
    pub training_until: Option<DateTime<Utc>>,
    /// The purpose that is claimed.
    pub purpose: &'a Name,
    /// The mission.
    pub mission: &'a Name,
    /// The address of the caller's connection; where there is none, guard rails deny.
    pub address: Option<IpAddr>,
}

/// The gateway's guard rails; without a folder, as by default, there are none, and nothing is narrowed. Clones have them in common.
#[derive(Debug, Clone, Default)]
pub struct ClaimGuard(Option<Kept>);

impl ClaimGuard {
    /// Reads the folder that `settings` name.
    ///
    /// # Errors
    /// All [`Damage`].
    pub fn open(settings: Option<&Settings>, known: &Known) -> Result<Self, Vec<Damage>> {
        settings.map(|settings| Kept::open(settings, Side::Gateway, known)).transpose().map(Self)
    }

    /// The folder, where there is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_ref().map(Kept::folder)
    }

    /// The rails that are in force now, whatever is read later: for who must say by which a decision was taken.
    #[must_use]
    pub fn fixed(&self) -> Self {
        Self(self.0.as_ref().map(Kept::fixed))
    }

    /// What is in force.
    #[must_use]
    pub fn loaded(&self) -> Option<Loaded> {
        self.0.as_ref().map(|kept| kept.rails().loaded().clone())
    }

    /// Reads the folder again. Its damage leaves what was in force so.
    ///
    /// # Errors
    /// All [`Damage`].
    pub fn reload(&self, known: &Known) -> Result<Option<Loaded>, Vec<Damage>> {
        self.0.as_ref().map(|kept| kept.reload(known)).transpose()
    }

    /// Decides about one request.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Denied`] with a [`concordat_policy::Cause::Guard`].
    pub fn decide(&self, claim: &Claim<'_>, now: DateTime<Utc>) -> Result<(), Refusal> {
        let Some(kept) = &self.0 else { return Ok(()) };
        let rails = kept.rails();
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let mut caller = HashMap::from([
            ("organisation".to_owned(), text(claim.organisation)),
            ("issuer".to_owned(), text(claim.issuer)),
            ("roles".to_owned(), RestrictedExpression::new_set(claim.roles.iter().map(|role| text(role)))),
        ]);
        caller.extend(claim.training_until.map(|until| ("training_until".to_owned(), datetime(until))));
        let mission = RestrictedExpression::new_entity_uid(entity(&rails.types.mission, claim.mission));
        let mut context = vec![("mission".to_owned(), mission)];
        context.extend(kept.moment(now).context());
        // An IPv4 caller of a listener on both is `::ffff:…` there, which no IPv4 range holds.
        let address = claim.address.ok_or_else(|| Refusal::internal("guard rails: the caller's address is not known"))?.to_canonical();
        context.push(("address".to_owned(), RestrictedExpression::new_ip(address.to_string())));
        rails.decide(Facts { resource: claim.purpose, purpose: claim.purpose, caller, context }, None)
    }
}

#[cfg(test)]
mod tests;
