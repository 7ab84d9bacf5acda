//! The least versions of departments' consent ledgers on which a caller wants an answer to rest.
//!
//! Who has recorded a withdrawal and was told the version can ask for an answer that honours it for certain. A version counts within
//! its ledger's generation: after a restored backup was acknowledged, versions begin anew, and those of another generation say
//! nothing. `dfe=12` is of generation 0, in which every ledger begins; of another it is written `dfe=1.12`.

use std::collections::BTreeMap;

use concordat_policy::{Code, Name, Refusal};
use concordat_proto::receipt::Standing;
use concordat_proto::status::AT_LEAST;
use serde_json::Value;

/// The most departments in one request.
const MOST: usize = 64;

/// Versions by department and generation. What asks for two generations of a ledger cannot be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AtLeast(BTreeMap<(Name, u32), u64>);

impl AtLeast {
    /// Reads `dfe=12,dwp=1.4`.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid = || {
            Refusal::new(Code::Invalid, format!("the header {AT_LEAST} holds no versions of consent ledgers")).advice(
                "write department=version, several of them with commas between: dfe=12,dwp=4; after a restored backup department=generation.version",
            )
        };
        let mut versions: BTreeMap<(Name, u32), u64> = BTreeMap::new();
        for one in text.split(',') {
            let (department, version) = one.trim().split_once('=').ok_or_else(invalid)?;
            let department = Name::parse(department).map_err(|_| invalid())?;
            let Standing { generation, version } = standing(version).ok_or_else(invalid)?;
            if versions.len() == MOST || versions.keys().any(|(other, _)| *other == department) {
                return Err(invalid());
            }
            versions.insert((department, generation), version);
        }
        Ok(Self(versions))
    }

    /// What both ask for.
    #[must_use]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (ledger, version) in &other.0 {
            let own = self.0.entry(ledger.clone()).or_default();
            *own = (*own).max(*version);
        }
        self
    }

    /// Whether a version is asked for of this department's ledger.
    pub(crate) fn names(&self, department: &Name) -> bool {
        self.0.keys().any(|(named, _)| named == department)
    }

    /// Whether an answer that rests on these versions is new enough.
    ///
    /// # Errors
    /// [`Code::Outdated`] where it is not, or is of another generation; [`Code::Invalid`] for a department on whose ledger it does not
    /// rest.
    pub(crate) fn check<'a>(&self, applied: impl Iterator<Item = (&'a str, Standing)>) -> Result<(), Refusal> {
        let applied: BTreeMap<&str, Standing> = applied.collect();
        for ((department, generation), version) in &self.0 {
            let Some(found) = applied.get(department.as_str()) else {
                return Err(Refusal::new(Code::Invalid, format!("the answer does not rest on a consent ledger of '{department}'"))
                    .advice("name departments whose data the statement reads, or whose withdrawals reach it"));
            };
            if found.generation != *generation {
                return Err(another(department, *found, Standing { generation: *generation, version: *version }));
            }
            if found.version < *version {
                let what = format!(
                    "the answer would rest on version {} of the consent ledger of '{department}', and at least {version} was asked for",
                    found.version
                );
                return Err(Refusal::new(Code::Outdated, what)
                    .department(department)
                    .advice("ask again in a moment; a version that the department never had stays out of reach"));
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
        self.check(applied.iter().filter_map(|of| {
            // Not stated where it is 0.
            let generation = of.get("consent_generation").map_or(Some(0), Value::as_u64)?;
            let version = of.get("consent_version")?.as_u64()?;
            Some((of.get("department")?.as_str()?, Standing { generation: u32::try_from(generation).ok()?, version }))
        }))
    }
}

/// `12`, or `1.12` with its generation.
fn standing(text: &str) -> Option<Standing> {
    let (generation, version) = text.split_once('.').unwrap_or(("0", text));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let standing = Standing { generation: generation.parse().ok()?, version: version.parse().ok()? };
    (digits(generation) && digits(version)).then_some(standing)
}

fn another(department: &Name, found: Standing, asked: Standing) -> Refusal {
    let what = format!(
        "the answer would rest on {found} of the consent ledger of '{department}', and {asked} was asked for: versions of two generations \
         say nothing of each other"
    );
    let advice = if found.generation > asked.generation {
        format!(
            "'{department}' restored a backup, which may lack what was recorded: have it looked up there, recorded again if it is \
             missing, and ask for {department}={}.VERSION",
            found.generation
        )
    } else {
        "ask again in a moment; a generation that the department never had stays out of reach".to_owned()
    };
    Refusal::new(Code::Outdated, what).department(department).advice(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_strictly_and_the_stricter_counts() {
        let parse = |text: &str| AtLeast::parse(text);
        assert_eq!(parse("dfe=12, dwp=4").unwrap(), parse("dwp=4,dfe=12").unwrap());
        for bad in [
            "",
            "dfe",
            "dfe=",
            "dfe=-1",
            "dfe=+1",
            "dfe=1,dfe=2",
            "dfe=1,dfe=1.2",
            "d fe=1",
            "=1",
            "dfe=1,",
            "dfe=99999999999999999999",
            "dfe=1.",
            "dfe=.5",
            "dfe=1.+2",
            "dfe=1.2.3",
            "dfe=4294967296.1",
        ] {
            assert_eq!(parse(bad).unwrap_err().code, Code::Invalid, "{bad}");
        }
        let many: Vec<String> = (0..=MOST).map(|n| format!("d{n}=1")).collect();
        assert!(parse(&many.join(",")).is_err() && parse(&many[..MOST].join(",")).is_ok());
        let both = parse("dfe=12,dwp=4").unwrap().and(&parse("dfe=3,dwp=5,dhsc=1").unwrap());
        assert_eq!(both, parse("dfe=12,dwp=5,dhsc=1").unwrap());
        assert_eq!(parse("dfe=0.12").unwrap(), parse("dfe=12").unwrap());
        let ledger = |generation, version| [("dfe", Standing { generation, version })].into_iter();
        let torn = parse("dfe=12").unwrap().and(&parse("dfe=1.3").unwrap());
        assert!(torn.names(&Name::parse("dfe").unwrap()));
        assert!(
            torn.check(ledger(0, 99)).is_err() && torn.check(ledger(1, 99)).is_err(),
            "of two generations neither vouches for the other"
        );
    }

    #[test]
    fn older_is_refused_naming_the_department_and_so_is_what_was_not_asked() {
        let of = |generation, version| Standing { generation, version };
        let applied = || [("dfe", of(0, 12)), ("dwp", of(0, 4)), ("dsit", of(1, 12))].into_iter();
        let check = |text: &str| AtLeast::parse(text).unwrap().check(applied());
        assert!(check("dfe=12,dwp=1").is_ok() && AtLeast::default().check(applied()).is_ok());
        let older = check("dfe=1,dwp=5").unwrap_err();
        assert_eq!((older.code, older.department.as_deref()), (Code::Outdated, Some("dwp")));
        assert!(older.message.contains("version 4") && older.message.contains("at least 5"), "{older}");
        assert_eq!(check("dhsc=0").unwrap_err().code, Code::Invalid);
        assert!(check("dsit=1.12").is_ok());
        for (another, says) in
            [("dsit=1", "generation 0"), ("dsit=12", "generation 0"), ("dsit=2.1", "generation 2"), ("dfe=1.1", "generation 1")]
        {
            let refusal = check(another).unwrap_err();
            assert_eq!(refusal.code, Code::Outdated, "{another}");
            assert!(refusal.message.contains(says) && refusal.message.contains("say nothing of each other"), "{another}: {refusal}");
        }
        assert!(check("dsit=12").unwrap_err().to_string().contains("dsit=1.VERSION"));
        let kept = serde_json::json!({ "consent": [{ "department": "dfe", "consent_version": 12 }] });
        let of_kept = |text: &str| AtLeast::parse(text).unwrap().check_kept(&kept);
        assert!(of_kept("dfe=12").is_ok() && of_kept("dfe=13").is_err() && of_kept("dwp=1").is_err());
        let kept = serde_json::json!({ "consent": [{ "department": "dfe", "consent_version": 12, "consent_generation": 1 }] });
        let of_kept = |text: &str| AtLeast::parse(text).unwrap().check_kept(&kept);
        assert!(of_kept("dfe=1.12").is_ok() && of_kept("dfe=12").is_err());
    }
}
