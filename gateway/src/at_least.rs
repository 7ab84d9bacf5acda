//! The least versions of departments' consent ledgers on which a caller wants an answer to rest.
//!
//! Who has recorded a withdrawal and was told the version can ask for an answer that honours it for certain. A version counts within
//! its ledger's generation: after a restored backup was acknowledged, versions begin anew.

use std::collections::BTreeMap;

use concordat_policy::{Code, Name, Refusal};
use concordat_proto::status::AT_LEAST;
use serde_json::Value;

/// The most departments in one request.
const MOST: usize = 64;

/// Versions by department.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AtLeast(BTreeMap<Name, u64>);

impl AtLeast {
    /// Reads `dfe=12,dwp=4`.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid = || {
            Refusal::new(Code::Invalid, format!("the header {AT_LEAST} holds no versions of consent ledgers"))
                .advice("write department=version, several of them with commas between: dfe=12,dwp=4")
        };
        let mut versions = BTreeMap::new();
        for one in text.split(',') {
            let (department, version) = one.trim().split_once('=').ok_or_else(invalid)?;
            let department = Name::parse(department).map_err(|_| invalid())?;
            let digits = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
            let version = version.parse().ok().filter(|_| digits).ok_or_else(invalid)?;
            if versions.insert(department, version).is_some() || versions.len() > MOST {
                return Err(invalid());
            }
        }
        Ok(Self(versions))
    }

    /// What both ask for.
    #[must_use]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (department, version) in &other.0 {
            let own = self.0.entry(department.clone()).or_default();
            *own = (*own).max(*version);
        }
        self
    }

    /// Whether a version is asked for of this department's ledger.
    pub(crate) fn names(&self, department: &Name) -> bool {
        self.0.contains_key(department)
    }

    /// Whether an answer that rests on these versions is new enough.
    ///
    /// # Errors
    /// [`Code::Outdated`] where it is not; [`Code::Invalid`] for a department on whose ledger it does not rest.
    pub(crate) fn check<'a>(&self, applied: impl Iterator<Item = (&'a str, u64)>) -> Result<(), Refusal> {
        let applied: BTreeMap<&str, u64> = applied.collect();
        for (department, least) in &self.0 {
            match applied.get(department.as_str()) {
                Some(version) if version >= least => {}
                Some(version) => {
                    let what = format!(
                        "the answer would rest on version {version} of the consent ledger of '{department}', and at least {least} was asked for"
                    );
                    return Err(Refusal::new(Code::Outdated, what)
                        .department(department)
                        .advice("ask again in a moment; a version that the department never had stays out of reach"));
                }
                None => {
                    return Err(Refusal::new(Code::Invalid, format!("the answer does not rest on a consent ledger of '{department}'"))
                        .advice("name departments whose data the statement reads, or whose withdrawals reach it"));
                }
            }
        }
        Ok(())
    }

    /// The same of an answer that was kept.
    ///
    /// # Errors
    /// As [`AtLeast::check`].
    pub(crate) fn check_kept(&self, summary: &Value) -> Result<(), Refusal> {
        let applied = summary.get("consent").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        self.check(applied.iter().filter_map(|of| Some((of.get("department")?.as_str()?, of.get("consent_version")?.as_u64()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_strictly_and_the_stricter_counts() {
        let parse = |text: &str| AtLeast::parse(text);
        assert_eq!(parse("dfe=12, dwp=4").unwrap(), parse("dwp=4,dfe=12").unwrap());
        for bad in ["", "dfe", "dfe=", "dfe=-1", "dfe=+1", "dfe=1.5", "dfe=1,dfe=2", "d fe=1", "=1", "dfe=1,", "dfe=99999999999999999999"] {
            assert_eq!(parse(bad).unwrap_err().code, Code::Invalid, "{bad}");
        }
        let many: Vec<String> = (0..=MOST).map(|n| format!("d{n}=1")).collect();
        assert!(parse(&many.join(",")).is_err() && parse(&many[..MOST].join(",")).is_ok());
        let both = parse("dfe=12,dwp=4").unwrap().and(&parse("dfe=3,dwp=5,dhsc=1").unwrap());
        assert_eq!(both, parse("dfe=12,dwp=5,dhsc=1").unwrap());
    }

    #[test]
    fn older_is_refused_naming_the_department_and_so_is_what_was_not_asked() {
        let applied = || [("dfe", 12), ("dwp", 4)].into_iter();
        let check = |text: &str| AtLeast::parse(text).unwrap().check(applied());
        assert!(check("dfe=12,dwp=1").is_ok() && AtLeast::default().check(applied()).is_ok());
        let older = check("dfe=1,dwp=5").unwrap_err();
        assert_eq!((older.code, older.department.as_deref()), (Code::Outdated, Some("dwp")));
        assert!(older.message.contains("version 4") && older.message.contains("at least 5"), "{older}");
        assert_eq!(check("dhsc=0").unwrap_err().code, Code::Invalid);
        let kept = serde_json::json!({ "consent": [{ "department": "dfe", "consent_version": 12 }] });
        let of_kept = |text: &str| AtLeast::parse(text).unwrap().check_kept(&kept);
        assert!(of_kept("dfe=12").is_ok() && of_kept("dfe=13").is_err() && of_kept("dwp=1").is_err());
    }
}
