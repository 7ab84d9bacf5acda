//! Revoked keys, `revoked.toml` beside the agreements: `[[key]]` with `fingerprint`, `reason` and `since`.
//!
//! A signature by a revoked key counts for nothing, whatever time it states, because whoever stole the key also writes the time; and
//! an agreement that names a revoked key of any party binds nobody who has listed it. A key that is routinely replaced is not listed;
//! but agreements name keys, so a new key needs a new text that every party signs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::Problem;
use crate::fingerprint::Fingerprint;

/// One key that nobody may rely on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// Of the DER SubjectPublicKeyInfo.
    pub fingerprint: Fingerprint,
    /// Why, for people.
    pub reason: String,
    /// When that became known (RFC 3339). For people: what was signed before counts for nothing either.
    pub since: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Revoked>,
}

/// Every revoked key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    keys: BTreeMap<Fingerprint, Revoked>,
}

impl Revocations {
    /// Parses a `revoked.toml`. An empty one revokes nothing.
    ///
    /// # Errors
    /// Every [`Problem`] found. Then nothing may be believed of any key.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let file: File = toml::from_str(text).map_err(|e| vec![Problem::toml(&e)])?;
        let mut revocations = Self::default();
        let mut problems = Vec::new();
        for key in file.key {
            let fingerprint = key.fingerprint.clone();
            if key.reason.trim().is_empty() {
                problems.push(Problem::at(fingerprint.as_str(), "the key is revoked without a reason", "write one in a few words"));
            }
            if revocations.keys.insert(fingerprint.clone(), key).is_some() {
                problems.push(Problem::at(fingerprint.as_str(), "the key stands twice", "keep one of the two"));
            }
        }
        if problems.is_empty() { Ok(revocations) } else { Err(problems) }
    }

    /// What is said of a key that is revoked.
    #[must_use]
    pub fn of(&self, key: &Fingerprint) -> Option<&Revoked> {
        self.keys.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let good = format!("[[key]]\nfingerprint = \"{KEY}\"\nreason = \"stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n");
        let revoked = Revocations::parse(&good).unwrap();
        assert_eq!(revoked.of(&KEY.to_owned().try_into().unwrap()).unwrap().reason, "stolen");
        assert_eq!(revoked.of(&Fingerprint::of(b"another")), None);
        assert_eq!(Revocations::parse("").unwrap(), Revocations::default());
        for (bad, line) in [
            (good.replace("sha256:2", "sha1:2"), 2),
            (good.replace("stolen", " "), 2),
            (good.replace("2026-05", "2026-15"), 4),
            (good.replace("[[key]]", "[[keys]]"), 1),
            (format!("{good}surprise = 1\n"), 5),
            (format!("{good}{good}"), 2),
            (good.replace("since", "# since"), 1),
            ("garbage".into(), 1),
        ] {
            let problems = Revocations::parse(&bad).unwrap_err();
            assert_eq!(problems[0].line(&bad), line, "{bad}\n{problems:?}");
        }
    }
}
