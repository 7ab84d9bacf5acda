//! Whether an agreement is signed: for each party, a statement that counts, or why none does.
//!
//! ```text
//! opportunity.toml.dfe.sig ── proto: do the bytes verify? ──▶ Statement ── judge: does it count? ──▶ authorize, the node's orders
//! ```
//!
//! Worked example. `dfe` signs the text with the digest `ab…`, and one word of it is corrected afterwards. The signature still
//! verifies, and still is `dfe`'s; but it signs another text ([`Fault::Text`]), so `dfe` releases nothing under the corrected one
//! until it signs that, and the gateway plans nothing under it, naming `dfe`.
//!
//! Nothing is the default: of an agreement for which nothing was found, every signature is missing.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::fingerprint::Fingerprint;
use crate::succession::{Conflict, Keys};
use crate::{Agreement, Cause, Code, Name, Refusal, Revocations, Seen};

/// How far two clocks may differ, in seconds.
pub(crate) const CLOCKS: i64 = 30;

/// What the holder of a key states. Made only of bytes whose Ed25519 signature verifies under that very key; whose key it is, and
/// whether the statement fits an agreement, is judged here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// For whom the key's holder claims to speak.
    pub department: Name,
    /// The agreement's identifier.
    pub agreement: Name,
    /// SHA-256 of the agreement's exact bytes, in lower-case hex.
    pub sha256: String,
    /// When, by the signer's clock.
    pub signed_at: DateTime<Utc>,
    /// The fingerprint of the key's DER SubjectPublicKeyInfo.
    pub key: Fingerprint,
}

/// Why a party's signature does not count. `Display` continues the sentence "the signature of 'dfe' …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is none.
    #[error("is missing")]
    Missing,
    /// The file cannot be read; the cause is for the operator.
    #[error("cannot be read")]
    Unreadable(String),
    /// Not of the form that signatures of agreements have, for this reason.
    #[error("is not of the form of an agreement's signature ({0})")]
    Malformed(String),
    /// The bytes do not verify.
    #[error("does not verify: it was altered, or made up")]
    Forged,
    /// It speaks for another department, or for one that is not a party.
    #[error("is another department's")]
    Department,
    /// It is for another agreement.
    #[error("is for another agreement")]
    Agreement,
    /// It is for another text of the agreement.
    #[error("signs another text")]
    Text,
    /// The key is not the party's.
    #[error("is made with another key than the agreement names")]
    Key,
    /// The key has a successor, and the signature was not seen while it was the party's.
    #[error("is made with a key that was replaced, and was not seen here before")]
    Replaced,
    /// The key is revoked.
    #[error("is made with a revoked key")]
    Revoked,
    /// It was made in the future.
    #[error("was made more than {CLOCKS} s in the future")]
    Future,
    /// A key of the party is revoked: one to which linkage keys would go, or one that led to the present one. Or it has no present
    /// one: the agreement names another party by what took its place.
    #[error("is void: another key of it is revoked that counts here, or the agreement names another party by a key that took its place")]
    Void,
    /// Nobody can tell whether its key is revoked.
    #[error("cannot be relied on: the list of revoked keys is damaged")]
    Doubtful,
}

impl Fault {
    /// Whether the department can mend it alone, by signing what it holds.
    #[must_use]
    pub fn signing_helps(&self) -> bool {
        match self {
            Self::Missing | Self::Malformed(_) | Self::Forged | Self::Department | Self::Agreement | Self::Text | Self::Replaced => true,
            Self::Unreadable(_) | Self::Key | Self::Revoked | Self::Future | Self::Void | Self::Doubtful => false,
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Missing => "the department signs this very file (`concordat agreement sign`) and its .sig is put beside it",
            Self::Unreadable(_) => "correct the .sig file's permissions",
            Self::Malformed(_) | Self::Forged | Self::Department | Self::Agreement => {
                "ask the department for its .sig again, or to sign anew; the file's name tells whose it should be"
            }
            Self::Text => "compare the file with the one that was signed; a changed text needs a new signature of every party",
            Self::Key => {
                "sign with the key whose fingerprint the agreement names, or put the succession that leads to the new one beside it"
            }
            Self::Replaced => "the department signs this very file anew with its present key; the text stays as it is",
            Self::Revoked | Self::Void => "the parties must agree the department's new key, and sign anew",
            Self::Future => "correct this machine's clock or the signer's, or sign again",
            Self::Doubtful => "whoever keeps the list corrects revoked.toml; `check` names file and line",
        }
    }
}

impl Statement {
    /// Whether it counts as the signature of `agreement` by `department` where `seen` was seen.
    ///
    /// # Errors
    /// The first [`Fault`] found.
    pub fn judge(
        &self,
        agreement: &Agreement,
        department: &Name,
        revoked: &Revocations,
        seen: &Seen,
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let party = agreement.party(department).filter(|_| self.department == *department).ok_or(Fault::Department)?;
        let latest = now.checked_add_signed(TimeDelta::seconds(CLOCKS)).unwrap_or(now);
        let is_revoked = |key: &Fingerprint| revoked.of(key).is_some();
        let keys = seen.successions().keys(agreement, party, revoked, now);
        let signed = keys.signed(&self.key, seen.first(self).unwrap_or(now));
        let checks = [
            (self.agreement == agreement.id, Fault::Agreement),
            (!is_revoked(&self.key), Fault::Revoked),
            (!keys.any_linkage(is_revoked), Fault::Void),
            (signed.is_some(), Fault::Key),
            (keys.present().is_some() && !keys.any_signing(is_revoked), Fault::Void),
            (self.sha256 == agreement.digest, Fault::Text),
            (self.signed_at <= latest, Fault::Future),
            (signed == Some(true), Fault::Replaced),
        ];
        checks.into_iter().find(|(good, _)| !good).map_or(Ok(()), |(_, fault)| Err(fault))
    }
}

/// What lies beside agreements: each party's statement, or why there is none to judge; which keys are revoked, and what was seen of
/// signatures and successions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    found: BTreeMap<(Name, Name), Result<Statement, Fault>>,
    revoked: Revocations,
    seen: Seen,
    /// The list of revoked keys is damaged: no signature counts.
    doubtful: bool,
}

impl Signatures {
    /// None yet.
    #[must_use]
    pub fn new(revoked: Revocations, seen: Seen) -> Self {
        Self { found: BTreeMap::new(), revoked, seen, doubtful: false }
    }

    /// The same signatures where `more` counts as revoked too. `None` is a list that is damaged: none of them counts until there is
    /// a sound one.
    #[must_use]
    pub fn revoking(&self, more: Option<Revocations>) -> Self {
        let doubtful = more.is_none();
        Self { revoked: self.revoked.clone().and(more.unwrap_or_default()), doubtful, ..self.clone() }
    }

    /// What was loaded anew where `before` counts in a running program: what that has seen counts still, and what it takes as revoked,
    /// but for what the list `listed` reinstates. So nothing is forgotten that the folder of state could not keep.
    ///
    /// # Errors
    /// A [`Conflict`] of successions: then what was loaded is not to be used.
    pub fn after(mut self, before: &Self, listed: Revocations) -> Result<Self, Conflict> {
        self.seen.recall(&before.seen)?;
        self.revoked = self.revoked.and(listed.after(&before.revoked));
        Ok(self)
    }

    /// Adds what was found as the signature of one agreement by one department.
    pub fn add(&mut self, agreement: &Name, department: &Name, found: Result<Statement, Fault>) {
        self.found.insert((agreement.clone(), department.clone()), found);
    }

    /// When `department` signed `agreement`.
    ///
    /// # Errors
    /// Why it has not.
    pub fn judge(&self, agreement: &Agreement, department: &Name, now: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
        let found = self.found.get(&(agreement.id.clone(), department.clone())).ok_or(Fault::Missing)?;
        let statement = found.as_ref().map_err(Clone::clone)?;
        if self.doubtful {
            return Err(Fault::Doubtful);
        }
        statement.judge(agreement, department, &self.revoked, &self.seen, now).map(|()| statement.signed_at)
    }

    /// Takes notice of every signature that counts now: of those not seen before, it is the time at which they were first.
    pub fn witness<'a>(&mut self, agreements: impl IntoIterator<Item = &'a Agreement>, now: DateTime<Utc>) {
        for agreement in agreements {
            for party in &agreement.parties {
                if self.judge(agreement, &party.department, now).is_ok()
                    && let Some(Ok(statement)) = self.found.get(&(agreement.id.clone(), party.department.clone()))
                {
                    self.seen.saw(statement, now);
                }
            }
        }
    }

    /// Whether a statement would count for an agreement that does not lie here.
    ///
    /// # Errors
    /// Why it would not.
    pub fn would_count(&self, statement: &Statement, agreement: &Agreement, now: DateTime<Utc>) -> Result<(), Fault> {
        if self.doubtful {
            return Err(Fault::Doubtful);
        }
        statement.judge(agreement, &statement.department, &self.revoked, &self.seen, now)
    }

    /// What was seen of signatures and successions.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// A party's keys at `now`; `None` where the department is no party.
    #[must_use]
    pub fn keys<'a>(&'a self, agreement: &'a Agreement, department: &Name, now: DateTime<Utc>) -> Option<Keys<'a>> {
        let party = agreement.party(department)?;
        Some(self.seen.successions().keys(agreement, party, &self.revoked, now))
    }

    /// The keys that count as revoked.
    #[must_use]
    pub fn revoked(&self) -> &Revocations {
        &self.revoked
    }

    /// The party of which a key is revoked that the agreement names, or that succeeded one, or that has no present key: nothing may be
    /// signed by it any more, nor sealed to it.
    #[must_use]
    pub fn compromised<'a>(&self, agreement: &'a Agreement, now: DateTime<Utc>) -> Option<&'a Name> {
        let revoked = |key: &Fingerprint| self.revoked.of(key).is_some();
        let keys = |party| self.seen.successions().keys(agreement, party, &self.revoked, now);
        let party = agreement.parties.iter().find(|party| {
            let keys = keys(party);
            keys.present().is_none() || keys.any_signing(revoked) || keys.any_linkage(revoked)
        });
        party.map(|party| &party.department)
    }

    /// The parties whose signature does not count, in the agreement's order, and why.
    #[must_use]
    pub fn lacking(&self, agreement: &Agreement, now: DateTime<Utc>) -> Vec<(Name, Fault)> {
        let lacks = |department: &Name| Some((department.clone(), self.judge(agreement, department, now).err()?));
        agreement.parties.iter().filter_map(|party| lacks(&party.department)).collect()
    }

    /// The refusal of everything under an agreement that a party has not signed; `None` where every party has.
    #[must_use]
    pub fn refusal(&self, agreement: &Agreement, now: DateTime<Utc>) -> Option<Refusal> {
        let lacking = self.lacking(agreement, now);
        let [(first, _), others @ ..] = lacking.as_slice() else { return None };
        let faults = lacking.iter().map(|(department, fault)| (department.clone(), fault.to_string())).collect();
        let refusal = Refusal::because(Code::Denied, Cause::Signature { agreement: agreement.id.clone(), lacking: faults })
            .advice("nothing is shared under it until every party's signature of this very text lies beside the gateway's copy");
        let refusal = if others.is_empty() { refusal.department(first) } else { refusal };
        let details: Vec<String> = lacking
            .iter()
            .filter_map(|(department, fault)| match fault {
                Fault::Unreadable(cause) => Some(format!("{department}: {cause}")),
                _ => None,
            })
            .collect();
        Some(if details.is_empty() { refusal } else { refusal.operator(details.join("; ")) })
    }
}

#[cfg(test)]
mod tests;
