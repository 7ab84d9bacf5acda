//! What a program has seen: when it first held each signature that counts, and every succession of keys.
//!
//! A signature states its own time, and whoever has the key writes it. That one was made before its key was replaced is believed only by
//! who saw it before. So each program keeps what it saw, in its folder of state, and its access log says the same. A succession once
//! seen stays, whether its file does or not: an old copy of a folder brings no key back.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::signature::Statement;
use crate::succession::{Conflict, Succession, Successions};
use crate::{Name, Problem};

/// A signature: by which key, of which text, in whose name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signed {
    /// In whose name.
    pub department: Name,
    /// The agreement.
    pub agreement: Name,
    /// SHA-256 of its text, in lower-case hex.
    pub sha256: String,
    /// The key.
    pub key: Fingerprint,
}

impl From<&Statement> for Signed {
    fn from(statement: &Statement) -> Self {
        let Statement { department, agreement, sha256, signed_at: _, key } = statement.clone();
        Self { department, agreement, sha256, key }
    }
}

/// What one program has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    signatures: BTreeMap<Signed, DateTime<Utc>>,
    successions: Successions,
}

/// Something that was not seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A signature that counts.
    Signature(Signed),
    /// A succession.
    Succession(Succession),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signature: Vec<SignatureFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    succession: Vec<Succession>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    department: Name,
    agreement: Name,
    sha256: String,
    key: Fingerprint,
    seen: DateTime<Utc>,
}

impl Seen {
    /// Parses what [`Seen::to_toml`] wrote.
    ///
    /// # Errors
    /// Every [`Problem`] found. Then nothing of it may be believed.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let file: File = toml::from_str(text).map_err(|e| vec![Problem::toml(&e)])?;
        let mut seen = Self::default();
        let mut problems = Vec::new();
        for SignatureFile { department, agreement, sha256, key, seen: at } in file.signature {
            let near = sha256.clone();
            if seen.signatures.insert(Signed { department, agreement, sha256, key }, at).is_some() {
                problems.push(Problem::at(&near, "the signature stands twice", "restore the file from a copy"));
            }
        }
        for succession in file.succession {
            let key = succession.key.clone();
            if let Err(conflict) = seen.successions.add(succession) {
                problems.push(Problem::at(key.as_str(), format!("the succession {conflict}"), "restore the file from a copy"));
            }
        }
        if problems.is_empty() { Ok(seen) } else { Err(problems) }
    }

    /// The text that says this.
    ///
    /// # Errors
    /// What the TOML writer says.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let signature = |(Signed { department, agreement, sha256, key }, seen): (&Signed, &DateTime<Utc>)| SignatureFile {
            department: department.clone(),
            agreement: agreement.clone(),
            sha256: sha256.clone(),
            key: key.clone(),
            seen: *seen,
        };
        toml::to_string(&File {
            signature: self.signatures.iter().map(signature).collect(),
            succession: self.successions.iter().cloned().collect(),
        })
    }

    /// Adds a succession.
    ///
    /// # Errors
    /// As [`Successions::add`].
    pub fn succeeds(&mut self, succession: Succession) -> Result<(), Conflict> {
        self.successions.add(succession)
    }

    /// Adds what `before` had seen, as it first saw it.
    ///
    /// # Errors
    /// As [`Successions::add`]: the two do not fit together, and this is to be thrown away.
    pub fn recall(&mut self, before: &Self) -> Result<(), Conflict> {
        for succession in before.successions.iter() {
            self.successions.add(succession.clone())?;
        }
        for (signed, at) in &before.signatures {
            self.signatures.entry(signed.clone()).and_modify(|first| *first = (*at).min(*first)).or_insert(*at);
        }
        Ok(())
    }

    /// Adds a signature that counts at `now`, unless it was seen before.
    pub fn saw(&mut self, statement: &Statement, now: DateTime<Utc>) {
        self.signatures.entry(statement.into()).and_modify(|first| *first = now.min(*first)).or_insert(now);
    }

    /// When a signature was first seen; `None` where it never was.
    #[must_use]
    pub fn first(&self, statement: &Statement) -> Option<DateTime<Utc>> {
        self.signatures.get(&statement.into()).copied()
    }

    /// Every succession.
    #[must_use]
    pub fn successions(&self) -> &Successions {
        &self.successions
    }

    /// What `before` had not seen.
    #[must_use]
    pub fn news(&self, before: &Self) -> Vec<News> {
        let signatures = self.signatures.keys().filter(|signed| !before.signatures.contains_key(signed));
        let successions = self.successions.iter().filter(|one| before.successions.of(&one.key).is_none());
        signatures.cloned().map(News::Signature).chain(successions.cloned().map(News::Succession)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{name, print};

    #[test]
    fn what_was_seen_is_kept_as_it_was_first_seen() {
        let statement = Statement {
            department: name("dfe"),
            agreement: name("one"),
            sha256: "ab".into(),
            signed_at: DateTime::UNIX_EPOCH,
            key: print("0"),
        };
        let succession = Succession {
            department: name("dfe"),
            key: print("0"),
            next: print("2"),
            linkage: None,
            from: "2026-05-01T00:00:00Z".parse().unwrap(),
        };
        let day = |day: u32| format!("2026-05-{day:02}T10:00:00.123456789Z").parse::<DateTime<Utc>>().unwrap();
        let mut seen = Seen::default();
        seen.saw(&statement, day(2));
        seen.saw(&Statement { signed_at: day(1), ..statement.clone() }, day(3));
        seen.succeeds(succession.clone()).unwrap();
        assert_eq!(seen.first(&statement), Some(day(2)));
        assert_eq!(seen.first(&Statement { sha256: "ac".into(), ..statement.clone() }), None, "another text");
        let text = seen.to_toml().unwrap();
        assert_eq!(Seen::parse(&text).unwrap(), seen, "{text}");
        assert_eq!(seen.news(&Seen::default()), [News::Signature((&statement).into()), News::Succession(succession)]);
        assert!(seen.news(&seen).is_empty());
        // What another reading saw later, or not at all, is recalled as it was first seen; what contradicts it is not taken.
        let mut later = Seen::default();
        later.saw(&statement, day(9));
        later.recall(&seen).unwrap();
        assert_eq!(later, seen);
        let mut other = Seen::default();
        let key = seen.successions().iter().next().unwrap();
        other.succeeds(Succession { next: print("3"), ..key.clone() }).unwrap();
        assert_eq!(other.recall(&seen), Err(Conflict::Twice));
        for bad in [format!("{text}{}", text.split("[[succession]]").next().unwrap()), "x = 1".into(), text.replace("sha256:2", "sha1:2")] {
            assert!(Seen::parse(&bad).is_err(), "{bad}");
        }
    }
}
