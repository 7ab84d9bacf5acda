//! Who may read the gateway's log, and how much of it: users of an organisation in a role, as `[[auditors]]` names them.
//!
//! ```toml
//! [[auditors]]
//! organisation = "dfe"      # as in tokens
//! role = "auditor"
//! department = "dfe"        # sees what concerns it
//! ```
//! The gateway's own auditor has `all = true` in place of a department and sees everything. One of the two must be said, so that nobody
//! sees more than was meant because it was forgotten.

use concordat_policy::{Code, Name, Refusal};
use serde::Deserialize;

use crate::authenticate::Identity;

/// What to do where one cannot be.
pub(crate) const REMEDY: &str =
    "correct [[auditors]] in gateway.toml: organisation and role as in tokens, and department as in departments.toml or all = true";

/// An `[[auditors]]` of `gateway.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auditor {
    organisation: Name,
    role: String,
    department: Option<Name>,
    #[serde(default)]
    all: bool,
}

/// What of the log somebody may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every entry as it is.
    All,
    /// What concerns a department, without the others' row counts.
    Department(Name),
}

/// The auditors, each with their scope.
#[derive(Debug, Default)]
pub(crate) struct Auditors(Vec<(Auditor, Scope)>);

impl Auditors {
    /// Those that are configured, in an estate of these departments.
    ///
    /// # Errors
    /// A sentence that names the first one that cannot be.
    pub(crate) fn of<'d>(configured: Vec<Auditor>, departments: impl Iterator<Item = &'d Name> + Clone) -> Result<Self, String> {
        let scoped = configured.into_iter().map(|auditor| {
            if auditor.role.is_empty() {
                return Err(format!("[[auditors]] of the organisation '{}' states an empty role", auditor.organisation));
            }
            let known = |wanted: &Name| departments.clone().any(|department| department == wanted);
            let scope = match (&auditor.department, auditor.all) {
                (Some(department), false) if known(department) => Scope::Department(department.clone()),
                (Some(department), false) => {
                    return Err(format!("[[auditors]] names the department '{department}', which the estate does not have"));
                }
                (None, true) => Scope::All,
                (department, _) => {
                    let what = if department.is_some() { "both" } else { "neither" };
                    let of = &auditor.organisation;
                    return Err(format!(
                        "[[auditors]] of the organisation '{of}' states {what} of department = \"…\" and all = true: one must be"
                    ));
                }
            };
            Ok((auditor, scope))
        });
        scoped.collect::<Result<_, _>>().map(Self)
    }

    /// How much of the log a user may read: the widest of what they are named for.
    ///
    /// # Errors
    /// [`Code::Denied`].
    pub(crate) fn admits(&self, identity: &Identity) -> Result<Scope, Refusal> {
        let named =
            |auditor: &Auditor| auditor.organisation.as_str() == identity.organisation() && identity.roles().contains(&auditor.role);
        let mut scopes = self.0.iter().filter(|(auditor, _)| named(auditor)).map(|(_, scope)| scope);
        let widest = scopes.clone().find(|scope| **scope == Scope::All).or_else(|| scopes.next());
        widest.cloned().ok_or_else(|| {
            Refusal::new(Code::Denied, "only auditors may read the gateway's access log, and its configuration does not name you as one")
                .advice("the gateway's operator names auditors in gateway.toml: [[auditors]] with organisation and role")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn configured(text: &str) -> Result<Auditors, String> {
        #[derive(Deserialize)]
        struct File {
            auditors: Vec<Auditor>,
        }
        let departments = [name("dfe"), name("dwp")];
        let file: File = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        Auditors::of(file.auditors, departments.iter())
    }

    #[test]
    fn who_is_named_is_admitted_and_a_departments_auditor_sees_its_own() {
        let text = r#"
            auditors = [
                { organisation = "centre", role = "auditor", all = true },
                { organisation = "dfe", role = "auditor", department = "dfe" },
                { organisation = "work-and-pensions", role = "auditor", department = "dwp" },
                { organisation = "dfe", role = "inspector-of-all", department = "dwp" },
            ]"#;
        let auditors = configured(text).unwrap();
        for (organisation, roles, expected) in [
            ("centre", vec!["auditor"], Some(Scope::All)),
            ("centre", vec!["analyst", "auditor"], Some(Scope::All)),
            ("dfe", vec!["auditor"], Some(Scope::Department(name("dfe")))),
            ("work-and-pensions", vec!["auditor"], Some(Scope::Department(name("dwp")))),
            ("dfe", vec!["inspector-of-all"], Some(Scope::Department(name("dwp")))),
            ("centre", vec!["analyst"], None),
            ("centre", vec![], None),
            ("Centre", vec!["auditor"], None),
            ("dwp", vec!["auditor"], None),
            ("", vec!["auditor"], None),
        ] {
            let admitted = auditors.admits(&Identity::for_tests(organisation, &roles));
            assert_eq!(admitted.as_ref().ok(), expected.as_ref(), "{organisation} {roles:?}");
            assert!(admitted.is_ok() || admitted.unwrap_err().code == Code::Denied);
        }
        assert!(Auditors::default().admits(&Identity::for_tests("centre", &["auditor"])).is_err(), "nobody, where nobody is named");
    }

    #[test]
    fn what_would_admit_others_than_was_meant_is_refused() {
        for (auditor, says) in [
            (r#"{ organisation = "dfe", role = "", all = true }"#, "empty role"),
            (r#"{ organisation = "dfe", role = "auditor" }"#, "states neither of department"),
            (r#"{ organisation = "centre", role = "auditor" }"#, "states neither of department"),
            (r#"{ organisation = "centre", role = "auditor", all = false }"#, "states neither of department"),
            (r#"{ organisation = "centre", role = "auditor", department = "dfe", all = true }"#, "states both of department"),
            (r#"{ organisation = "dfe", role = "auditor", department = "moj" }"#, "which the estate does not have"),
            (r#"{ organisation = "dfe", role = "auditor", scope = "all" }"#, "unknown field"),
            (r#"{ organisation = "dfe" }"#, "missing field"),
        ] {
            let refused = configured(&format!("auditors = [{auditor}]")).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
