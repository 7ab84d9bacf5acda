//! Succession of keys: a department replaces its own by routine, and no agreement needs a new text.
//!
//! ```text
//! agreement ── names ──▶ key 1 ── succession, from May ──▶ key 2 ── succession, from November ──▶ key 3
//! ```
//!
//! Worked example. An agreement names key 1 of `dfe`, which signed it in January. In May `dfe` states, with key 1 and with key 2, that its
//! key is key 2 from then on. Receipts and new signatures need key 2 from then on; the signature of January counts where it was seen
//! before May, and nowhere else, because whoever finds key 1 later also writes the date ([`crate::seen`]).
//!
//! Invariants
//! - A key has one successor and succeeds one key; no succession leads back. Else nobody could tell which key counts.
//! - What a revoked key stated is void, and so is an agreement of which any key that leads to the present one is revoked.
//! - A key that the agreement names of another party is taken from nobody; and what replaced a key ends it all the same, in every text.
//!   Else whoever found an old key could keep it in force by a text that names its successor elsewhere. Such a party has no present key.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::agreement::Party;
use crate::fingerprint::Fingerprint;
use crate::{Agreement, Name, Revocations};

/// What a department states of its keys. Made only of bytes that both keys signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    /// Whose keys.
    pub department: Name,
    /// The signing key that is replaced.
    pub key: Fingerprint,
    /// The one that takes its place.
    pub next: Fingerprint,
    /// From when on (RFC 3339).
    pub from: DateTime<Utc>,
    /// The linkage key that is replaced with it, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linkage: Option<NextLinkage>,
}

/// A linkage key and the one that takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextLinkage {
    /// The key that is replaced.
    pub key: Fingerprint,
    /// The one that takes its place.
    pub next: Fingerprint,
}

impl fmt::Display for Succession {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.to_rfc3339_opts(SecondsFormat::Secs, true);
        write!(f, "'{}' signs with {} from {from} on, in place of {}", self.department, self.next, self.key)?;
        match &self.linkage {
            Some(linkage) => write!(f, "; linkage keys are sealed to {}, in place of {}", linkage.next, linkage.key),
            None => Ok(()),
        }
    }
}

/// Why a succession cannot stand beside the others. `Display` continues the sentence "the succession …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The key has another one already.
    #[error("is not the only one of its key")]
    Twice,
    /// The next key takes another one's place already.
    #[error("leads to a key that takes another one's place already")]
    Taken,
    /// It leads back to a key that was replaced.
    #[error("leads back to a key that was replaced")]
    Circle,
}

impl Conflict {
    /// What to do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Twice => "ask the department which one it made: if somebody else made the other, its key was stolen and is to be revoked",
            Self::Taken | Self::Circle => "ask the department for a statement about a key that was made anew",
        }
    }
}

/// Every succession, by the key that is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Successions(BTreeMap<Fingerprint, Succession>);

/// The keys of a party at some time: those that the agreement names, and those that took their place since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys<'a> {
    /// Signing keys, the present one last, where there is one; of the others, until when each was it.
    signing: Vec<(&'a Fingerprint, Option<DateTime<Utc>>)>,
    /// Linkage keys, the present one last, where there is a present signing key.
    linkage: Vec<&'a Fingerprint>,
}

impl Successions {
    /// Adds one. The same again changes nothing.
    ///
    /// # Errors
    /// [`Conflict`]: then nothing was added.
    pub fn add(&mut self, succession: Succession) -> Result<(), Conflict> {
        match self.0.get(&succession.key) {
            Some(known) if *known == succession => return Ok(()),
            Some(_) => return Err(Conflict::Twice),
            None => {}
        }
        let linkage = |of: &Succession| of.linkage.clone();
        let taken = |known: &Succession| {
            let same_linkage = linkage(known).zip(linkage(&succession)).is_some_and(|(known, new)| known.next == new.next);
            known.next == succession.next || same_linkage
        };
        if self.0.values().any(taken) {
            return Err(Conflict::Taken);
        }
        let replaced = linkage(&succession)
            .is_some_and(|new| new.next == new.key || self.0.values().filter_map(linkage).any(|known| known.key == new.next));
        // Every key has one successor at most, so that this ends.
        let mut next = Some(&succession.next);
        while let Some(key) = next {
            if *key == succession.key {
                return Err(Conflict::Circle);
            }
            next = self.0.get(key).map(|known| &known.next);
        }
        if replaced {
            return Err(Conflict::Circle);
        }
        self.0.insert(succession.key.clone(), succession);
        Ok(())
    }

    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Succession> {
        self.0.values()
    }

    /// The succession of a key.
    #[must_use]
    pub fn of(&self, key: &Fingerprint) -> Option<&Succession> {
        self.0.get(key)
    }

    /// The keys of a party of `agreement` at `now`. It has no present one where the agreement names another party by what took its place.
    #[must_use]
    pub fn keys<'a>(&'a self, agreement: &Agreement, party: &'a Party, revoked: &Revocations, now: DateTime<Utc>) -> Keys<'a> {
        let others = || agreement.parties.iter().filter(|other| other.department != party.department);
        let another_names = |key: &Fingerprint| others().any(|other| other.signing_key == *key || other.linkage_key == *key);
        let (mut signing, mut key) = (Vec::new(), &party.signing_key);
        let mut linkage = vec![&party.linkage_key];
        while let Some(succession) = self.0.get(key) {
            let next_linkage = succession.linkage.as_ref().filter(|of| linkage.last().is_some_and(|present| **present == of.key));
            if succession.department != party.department || succession.from > now || revoked.of(key).is_some() {
                break;
            }
            signing.push((key, Some(succession.from)));
            if another_names(&succession.next) || next_linkage.is_some_and(|of| another_names(&of.next)) {
                return Keys { signing, linkage };
            }
            linkage.extend(next_linkage.map(|of| &of.next));
            key = &succession.next;
        }
        signing.push((key, None));
        Keys { signing, linkage }
    }
}

impl Keys<'_> {
    /// Whether this key signs now.
    #[must_use]
    pub fn signs(&self, key: &Fingerprint) -> bool {
        self.present().is_some_and(|(present, _)| present == key)
    }

    /// Whether linkage keys are sealed to this one now.
    #[must_use]
    pub fn links(&self, key: &Fingerprint) -> bool {
        self.present().is_some_and(|(_, present)| present == key)
    }

    /// The key that signs now, and that to which linkage keys are sealed; `None` where what took their place is another party's.
    #[must_use]
    pub fn present(&self) -> Option<(&Fingerprint, &Fingerprint)> {
        let (key, _) = self.signing.last().filter(|(_, until)| until.is_none())?;
        Some(*key).zip(self.linkage.last().copied())
    }

    /// Whether what was first seen at `seen`, signed by this key, is signed by the party; `None` where the key never was the party's.
    #[must_use]
    pub fn signed(&self, key: &Fingerprint, seen: DateTime<Utc>) -> Option<bool> {
        let (_, until) = self.signing.iter().find(|(known, _)| *known == key)?;
        Some(until.is_none_or(|until| seen < until))
    }

    /// Whether any of the signing keys meets a condition.
    pub fn any_signing(&self, mut meets: impl FnMut(&Fingerprint) -> bool) -> bool {
        self.signing.iter().any(|(key, _)| meets(key))
    }

    /// Whether any of the linkage keys meets a condition.
    pub fn any_linkage(&self, mut meets: impl FnMut(&Fingerprint) -> bool) -> bool {
        self.linkage.iter().any(|key| meets(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{AGREEMENT, name, print};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Of the department `dfe`, whose key in [`AGREEMENT`] is `0`.
    fn succession(key: &str, next: &str, from: &str) -> Succession {
        Succession { department: name("dfe"), key: print(key), next: print(next), linkage: None, from: at(from) }
    }

    fn linking(key: &str, next: &str, linkage: (&str, &str)) -> Succession {
        let linkage = Some(NextLinkage { key: print(linkage.0), next: print(linkage.1) });
        Succession { linkage, ..succession(key, next, "2026-05-01T00:00:00Z") }
    }

    #[test]
    fn what_would_be_ambiguous_is_not_taken() {
        let good = [succession("0", "2", "2026-05-01T00:00:00Z"), linking("2", "3", ("0", "6"))];
        let known = || {
            let mut known = Successions::default();
            // The later one first: order means nothing.
            good.iter().rev().for_each(|one| known.add(one.clone()).unwrap());
            known
        };
        for (what, new, expected) in [
            ("the same again", good[0].clone(), Ok(())),
            ("another chain", succession("8", "9", "2026-05-01T00:00:00Z"), Ok(())),
            ("a second of one key", succession("0", "4", "2026-05-01T00:00:00Z"), Err(Conflict::Twice)),
            ("at another time", succession("0", "2", "2026-06-01T00:00:00Z"), Err(Conflict::Twice)),
            ("two of another department's", Succession { department: name("dwp"), ..good[0].clone() }, Err(Conflict::Twice)),
            ("two keys become one", succession("4", "2", "2026-05-01T00:00:00Z"), Err(Conflict::Taken)),
            ("two linkage keys become one", linking("4", "5", ("7", "6")), Err(Conflict::Taken)),
            ("back to the first", succession("3", "0", "2026-05-01T00:00:00Z"), Err(Conflict::Circle)),
            ("to itself", succession("4", "4", "2026-05-01T00:00:00Z"), Err(Conflict::Circle)),
            ("a linkage key to itself", linking("3", "4", ("7", "7")), Err(Conflict::Circle)),
            ("back to the first linkage key", linking("3", "4", ("6", "0")), Err(Conflict::Circle)),
        ] {
            let mut successions = known();
            assert_eq!(successions.add(new), expected, "{what}");
            assert_eq!(successions.iter().count(), 2 + usize::from(what == "another chain"), "{what}");
        }
    }

    #[test]
    fn keys_follow_one_another_from_their_time_on() {
        let agreement = Agreement::parse(AGREEMENT).unwrap();
        let dfe = agreement.party(&name("dfe")).unwrap();
        let mut successions = Successions::default();
        successions.add(linking("0", "2", ("0", "6"))).unwrap();
        successions.add(succession("2", "3", "2026-11-01T00:00:00Z")).unwrap();
        let none = Revocations::default();
        for (now, signs, links) in [
            ("2026-04-30T23:59:59Z", "0", "0"),
            ("2026-05-01T00:00:00Z", "2", "6"),
            ("2026-10-31T00:00:00Z", "2", "6"),
            ("2026-11-01T00:00:00Z", "3", "6"),
        ] {
            let keys = successions.keys(&agreement, dfe, &none, at(now));
            assert!(keys.signs(&print(signs)) && keys.links(&print(links)), "{now}: {keys:?}");
            assert_eq!(keys.signed(&print(signs), at(now)), Some(true), "{now}");
        }
        let keys = successions.keys(&agreement, dfe, &none, at("2027-01-01T00:00:00Z"));
        assert_eq!(keys.signed(&print("0"), at("2026-04-30T23:59:59Z")), Some(true), "seen before");
        assert_eq!(keys.signed(&print("0"), at("2026-05-01T00:00:00Z")), Some(false));
        assert_eq!(keys.signed(&print("9"), at("2026-01-01T00:00:00Z")), None);
        // A key that is revoked states nothing.
        let list = format!("[[key]]\nfingerprint = \"{}\"\nreason = \"r\"\nsince = \"2026-12-01T00:00:00Z\"\n", print("2"));
        let keys = successions.keys(&agreement, dfe, &Revocations::parse(&list).unwrap(), at("2027-01-01T00:00:00Z"));
        assert!(keys.signs(&print("2")) && keys.any_signing(|key| *key == print("0")), "{keys:?}");
    }

    #[test]
    fn nobody_takes_another_partys_key_or_place() {
        let agreement = Agreement::parse(AGREEMENT).unwrap();
        let now = at("2026-06-01T00:00:00Z");
        let dfe = agreement.party(&name("dfe")).unwrap();
        let mut successions = Successions::default();
        successions.add(Succession { department: name("dwp"), ..succession("0", "2", "2026-05-01T00:00:00Z") }).unwrap();
        let keys = successions.keys(&agreement, dfe, &Revocations::default(), now);
        assert_eq!(keys.present(), Some((&print("0"), &print("0"))), "another department's statement");
        for (what, new) in [
            ("the other party's signing key", succession("0", "1", "2026-05-01T00:00:00Z")),
            ("the other party's linkage key", linking("0", "2", ("0", "1"))),
        ] {
            let mut successions = Successions::default();
            successions.add(new).unwrap();
            let keys = successions.keys(&agreement, dfe, &Revocations::default(), at("2026-04-30T23:59:59Z"));
            assert_eq!(keys.present(), Some((&print("0"), &print("0"))), "{what}: not yet");
            let keys = successions.keys(&agreement, dfe, &Revocations::default(), now);
            assert_eq!(keys.present(), None, "{what}: {keys:?}");
            for key in ["0", "1", "2"] {
                assert!(!keys.signs(&print(key)) && !keys.links(&print(key)), "{what}: {keys:?}");
            }
        }
        // Of another linkage key than the agreement names, it says nothing.
        let mut successions = Successions::default();
        successions.add(linking("0", "2", ("7", "6"))).unwrap();
        let keys = successions.keys(&agreement, dfe, &Revocations::default(), now);
        assert_eq!(keys.present(), Some((&print("2"), &print("0"))));
    }
}
