//! Revoked keys, `revoked.toml` beside the agreements: `[[key]]` with `fingerprint`, `reason` and `since`; and `[[reinstated]]` with the
//! same for a key that may be relied on again.
//!
//! A signature by a revoked key counts for nothing, whatever time it states, because whoever stole the key also writes the time; and
//! an agreement that names a revoked key of any party binds nobody who has listed it, nor does a succession that it signed count. A key that
//! is routinely replaced is not listed: a succession says which one takes its place ([`crate::succession`]).
//!
//! A list that forgets a key (its file is gone, or an old copy came back) does not reinstate it. Each program keeps what it has seen
//! revoked, and [`Revocations::after`] is what counts: only an entry under `[[reinstated]]` that is not older than the revocation lifts it.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::fingerprint::Fingerprint;

/// One key that nobody may rely on, or may rely on again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// Of the DER SubjectPublicKeyInfo.
    pub fingerprint: Fingerprint,
    /// Why, for people.
    pub reason: String,
    /// When that became known (RFC 3339). For people: what was signed before counts for nothing either.
    pub since: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Revoked>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reinstated: Vec<Revoked>,
}

/// Every revoked key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    keys: BTreeMap<Fingerprint, Revoked>,
    reinstated: BTreeMap<Fingerprint, Revoked>,
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
        let revoked = file.key.into_iter().map(|key| (key, true));
        for (key, revokes) in revoked.chain(file.reinstated.into_iter().map(|key| (key, false))) {
            let fingerprint = key.fingerprint.clone();
            if key.reason.trim().is_empty() {
                let what = if revokes { "revoked" } else { "reinstated" };
                problems.push(Problem::at(fingerprint.as_str(), format!("the key is {what} without a reason"), "write one in a few words"));
            }
            let stands = revocations.keys.contains_key(&fingerprint) || revocations.reinstated.contains_key(&fingerprint);
            let list = if revokes { &mut revocations.keys } else { &mut revocations.reinstated };
            list.insert(fingerprint.clone(), key);
            if stands {
                problems.push(Problem::at(fingerprint.as_str(), "the key stands twice", "keep one of the two"));
            }
        }
        if problems.is_empty() { Ok(revocations) } else { Err(problems) }
    }

    /// What counts of this list where `seen` counted before: its own keys, and those of `seen` that it does not reinstate.
    #[must_use]
    pub fn after(self, seen: &Self) -> Self {
        let mut keys = self.keys;
        for (fingerprint, before) in &seen.keys {
            if reinstates(&self.reinstated, before) {
                continue;
            }
            // The later of the two: what was reinstated before that lifts nothing.
            let newer = keys.get(fingerprint).is_none_or(|listed| listed.since < before.since);
            if newer {
                keys.insert(fingerprint.clone(), before.clone());
            }
        }
        Self { keys, reinstated: BTreeMap::new() }
    }

    /// The keys of both: nothing is lifted.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self { reinstated: BTreeMap::new(), ..more }.after(&self)
    }

    /// For each key of `seen` that this list neither holds nor reinstates, a sentence for the operator.
    #[must_use]
    pub fn forgotten(&self, seen: &Self) -> Vec<String> {
        let forgotten = seen.keys.values().filter(|key| !self.keys.contains_key(&key.fingerprint) && !reinstates(&self.reinstated, key));
        let say = |key: &Revoked| {
            format!(
                "the list of revoked keys no longer holds {}, revoked since {}: it stays revoked until revoked.toml holds it again, or holds \
                 it under [[reinstated]] with a reason and a later `since`",
                key.fingerprint,
                key.since.to_rfc3339_opts(SecondsFormat::Secs, true)
            )
        };
        forgotten.map(say).collect()
    }

    /// The text of a `revoked.toml` that says this.
    ///
    /// # Errors
    /// What the TOML writer says.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let of = |list: &BTreeMap<Fingerprint, Revoked>| list.values().cloned().collect();
        toml::to_string(&File { key: of(&self.keys), reinstated: of(&self.reinstated) })
    }

    /// The revoked keys.
    pub fn keys(&self) -> impl Iterator<Item = &Fingerprint> {
        self.keys.keys()
    }

    /// What is said of a key that is revoked.
    #[must_use]
    pub fn of(&self, key: &Fingerprint) -> Option<&Revoked> {
        self.keys.get(key)
    }
}

fn reinstates(reinstated: &BTreeMap<Fingerprint, Revoked>, revoked: &Revoked) -> bool {
    reinstated.get(&revoked.fingerprint).is_some_and(|again| again.since >= revoked.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

    fn list(table: &str, day: &str) -> Revocations {
        let text = format!("[[{table}]]\nfingerprint = \"{KEY}\"\nreason = \"a \\\"reason\\\"\"\nsince = \"2026-05-{day}T10:00:00Z\"\n");
        Revocations::parse(&text).unwrap()
    }

    /// What a program goes by is what it has seen, until somebody writes down that it no longer holds.
    #[test]
    fn a_key_once_revoked_stays_so_until_it_is_reinstated() {
        let (revoked, none) = (list("key", "10"), Revocations::default());
        let key = KEY.to_owned().try_into().unwrap();
        let cases = [
            ("as it was", revoked.clone(), true, 0),
            ("the file is gone", none.clone(), true, 1),
            ("reinstated", list("reinstated", "11"), false, 0),
            ("at the same time", list("reinstated", "10"), false, 0),
            ("an old copy that reinstates an earlier revocation", list("reinstated", "09"), true, 1),
            ("an old copy with an earlier revocation", list("key", "08"), true, 0),
        ];
        for (what, listed, stays, forgotten) in cases {
            assert_eq!(listed.forgotten(&revoked).len(), forgotten, "{what}");
            let counts = listed.after(&revoked);
            assert_eq!(counts.of(&key).is_some(), stays, "{what}");
            // What is kept is read again as it is, and what it holds is never older than what was seen.
            assert_eq!(Revocations::parse(&counts.to_toml().unwrap()).unwrap(), counts, "{what}");
            assert!(counts.of(&key).is_none_or(|kept| kept.since >= revoked.of(&key).unwrap().since), "{what}");
        }
        assert_eq!(revoked.clone().after(&none), revoked);
        let said = none.forgotten(&revoked).remove(0);
        assert!(said.contains(KEY) && said.contains("2026-05-10T10:00:00Z") && said.contains("[[reinstated]]"), "{said}");
    }

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
            (format!("{good}{}", good.replace("key]]", "reinstated]]")), 2),
            (good.replace("key]]", "reinstated]]").replace("stolen", ""), 2),
            (good.replace("since", "# since"), 1),
            ("garbage".into(), 1),
        ] {
            let problems = Revocations::parse(&bad).unwrap_err();
            assert_eq!(problems[0].line(&bad), line, "{bad}\n{problems:?}");
        }
    }
}
