//! Who may read the gateway's log: users of an organisation in a role, as `[[auditors]]` of `gateway.toml` names them.

use std::collections::BTreeSet;

use concordat_policy::{Code, Name, Refusal};
use serde::Deserialize;

use crate::authenticate::Identity;

/// One `[[auditors]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auditor {
    /// Whose users.
    pub(crate) organisation: Name,
    /// In which role.
    pub(crate) role: String,
}

/// Everybody who may.
#[derive(Debug)]
pub(crate) struct Auditors {
    auditors: Vec<Auditor>,
    departments: BTreeSet<Name>,
}

/// What an auditor may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything.
    All,
    /// What concerns this department, and no row counts of others.
    Department(Name),
}

impl Auditors {
    /// Of these, those of an organisation that is a department see their own department's part.
    pub(crate) fn new(auditors: Vec<Auditor>, departments: impl IntoIterator<Item = Name>) -> Self {
        Self { auditors, departments: departments.into_iter().collect() }
    }

    /// What a user may see.
    ///
    /// # Errors
    /// [`Code::Denied`] for who is no auditor.
    pub(crate) fn admits(&self, identity: &Identity) -> Result<Scope, Refusal> {
        self.scope(identity.organisation(), identity.roles()).ok_or_else(|| {
            Refusal::new(Code::Denied, "only auditors may read the gateway's log")
                .advice("the gateway's operator names them, by organisation and role, in [[auditors]] of gateway.toml")
        })
    }

    fn scope(&self, organisation: &str, roles: &BTreeSet<String>) -> Option<Scope> {
        let named = |auditor: &&Auditor| auditor.organisation.as_str() == organisation && roles.contains(&auditor.role);
        let auditor = self.auditors.iter().find(named)?;
        let department = self.departments.get(&auditor.organisation);
        Some(department.map_or(Scope::All, |department| Scope::Department(department.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auditor_is_of_a_named_organisation_in_a_named_role_and_a_departments_sees_its_own() {
        let name = |text: &str| Name::parse(text).unwrap();
        let auditor = |organisation: &str| Auditor { organisation: name(organisation), role: "auditor".into() };
        let auditors = Auditors::new(vec![auditor("centre"), auditor("dfe")], [name("dfe"), name("dwp")]);
        let roles = |roles: &[&str]| roles.iter().map(|&role| role.to_owned()).collect::<BTreeSet<_>>();
        for (organisation, of, expected) in [
            ("centre", &["auditor", "analyst"][..], Some(Scope::All)),
            ("dfe", &["auditor"], Some(Scope::Department(name("dfe")))),
            ("centre", &["analyst"], None),
            ("centre", &["Auditor"], None),
            ("centre", &[], None),
            ("dwp", &["auditor"], None),
            ("", &["auditor"], None),
        ] {
            assert_eq!(auditors.scope(organisation, &roles(of)), expected, "{organisation} {of:?}");
        }
        assert_eq!(Auditors::new(Vec::new(), [name("dfe")]).scope("dfe", &roles(&["auditor"])), None, "nobody, if nobody is named");
    }
}
