//! A department's question: does a rule of its own forbid what this order asks for?

use std::collections::HashMap;
use std::path::Path;

use cedar_policy::RestrictedExpression;
use chrono::{DateTime, Utc};
use concordat_policy::{Name, Refusal};

use crate::kept::{Kept, Loaded};
use crate::rails::{Facts, entity};
use crate::read::Side;
use crate::{Damage, Known, Settings};

/// What an order is judged by: what it states.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// The caller's organisation.
    pub organisation: &'a str,
    /// Who issued the caller's token.
    pub issuer: &'a str,
    /// The request's purpose.
    pub purpose: &'a Name,
    /// Its mission.
    pub mission: &'a Name,
    /// The agreement under which it is made.
    pub agreement: &'a Name,
    /// The dataset's own name.
    pub dataset: &'a Name,
    /// The fingerprint of the gateway's certificate.
    pub gateway: &'a str,
}

/// A department's guard rails; without a folder there are none. Clones have them in common.
#[derive(Debug, Clone)]
pub struct ReleaseGuard {
    department: Name,
    kept: Option<Kept>,
}

impl ReleaseGuard {
    /// Reads the folder that `settings` name.
    ///
    /// # Errors
    /// All [`Damage`].
    pub fn open(department: Name, settings: Option<&Settings>, known: &Known) -> Result<Self, Vec<Damage>> {
        let kept = settings.map(|settings| Kept::open(settings, Side::Node, known)).transpose()?;
        Ok(Self { department, kept })
    }

    /// The folder, where there is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.kept.as_ref().map(Kept::folder)
    }

    /// The rails that are in force now, whatever is read later: for who must say by which a decision was taken.
    #[must_use]
    pub fn fixed(&self) -> Self {
        Self { department: self.department.clone(), kept: self.kept.as_ref().map(Kept::fixed) }
    }

    /// What is in force.
    #[must_use]
    pub fn loaded(&self) -> Option<Loaded> {
        self.kept.as_ref().map(|kept| kept.rails().loaded().clone())
    }

    /// Reads the folder again. Its damage leaves what was in force so.
    ///
    /// # Errors
    /// All [`Damage`].
    pub fn reload(&self, known: &Known) -> Result<Option<Loaded>, Vec<Damage>> {
        self.kept.as_ref().map(|kept| kept.reload(known)).transpose()
    }

    /// Decides about one order.
    ///
    /// # Errors
    /// [`concordat_policy::Code::Denied`] with a [`concordat_policy::Cause::Guard`] that names the department.
    pub fn decide(&self, release: &Release<'_>, now: DateTime<Utc>) -> Result<(), Refusal> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let rails = kept.rails();
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let named = |kind, name| RestrictedExpression::new_entity_uid(entity(kind, name));
        let caller = HashMap::from([("organisation".to_owned(), text(release.organisation)), ("issuer".to_owned(), text(release.issuer))]);
        let mut context = vec![
            ("purpose".to_owned(), named(&rails.types.purpose, release.purpose)),
            ("mission".to_owned(), named(&rails.types.mission, release.mission)),
            ("agreement".to_owned(), named(&rails.types.agreement, release.agreement)),
            ("gateway".to_owned(), text(release.gateway)),
        ];
        context.extend(kept.moment(now).context());
        rails.decide(Facts { resource: release.dataset, purpose: release.purpose, caller, context }, Some(&self.department))
    }
}

#[cfg(test)]
mod tests;
