//! Statements of whose choices reach other parties' data: what a node signs below the pseudonyms that it sends. The gateway uses
//! none of them without it.

use concordat_policy::agreement::hex;
use concordat_policy::{LinkageDomain, Name};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::receipt::{AUDIENCE, LIFETIME, Receipt, Standing};
use crate::token::{Expected, Reason, SigningKey, VerifyingKey, verify};
use crate::v1;

/// `typ` of the JWT.
pub const TYPE: &str = "concordat-reach-statement+jwt";
/// The most pseudonyms in one message, added and removed together: 512 KiB.
pub const PER_MESSAGE: usize = 32 << 10;

/// A pseudonym as it stands in a message.
pub type Pseudonym = [u8; 16];

/// The claims of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// `node:` and the department.
    pub iss: String,
    /// The request's `id`.
    pub sub: String,
    /// The gateway.
    pub aud: String,
    /// Unix seconds.
    pub nbf: i64,
    /// Unix seconds.
    pub exp: i64,
    /// The linkage domain of the pseudonyms, as [`LinkageDomain`] writes it.
    pub domain: String,
    /// SHA-256 (hex) of the agreement's file.
    pub agreement_digest: String,
    /// Of the data that is reached: the number of a [`v1::Basis`].
    pub basis: i32,
    /// Where the ledger stood before the changes; nothing where the list is whole.
    pub since: Option<Standing>,
    /// Where the ledger stands after them.
    pub standing: Standing,
    /// SHA-256 (hex) of the changes: [`digest`].
    pub changes_sha256: String,
}

impl Statement {
    /// What a department states at `now` (Unix seconds) in answer to a request in `domain`. `since` is nothing where the list is whole.
    #[must_use]
    pub fn of(
        department: &Name,
        request: &v1::ReachRequest,
        domain: &LinkageDomain,
        (since, standing): (Option<Standing>, Standing),
        (added, removed): (&[Pseudonym], &[Pseudonym]),
        now: i64,
    ) -> Self {
        Self {
            iss: Receipt::issuer(department),
            sub: request.id.clone(),
            aud: AUDIENCE.into(),
            nbf: now,
            exp: now.saturating_add(LIFETIME),
            domain: domain.to_string(),
            agreement_digest: request.agreement_digest.clone(),
            basis: request.basis,
            since,
            standing,
            changes_sha256: digest(added, removed),
        }
    }

    /// Signs the statement.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn sign(&self, key: &SigningKey) -> Result<String, String> {
        key.sign(TYPE, None, self)
    }

    /// Verifies a statement of `department`'s node. The caller compares it with what it asked and received.
    ///
    /// # Errors
    /// A [`Reason`].
    pub fn verify(token: &str, department: &Name, key: &VerifyingKey, now: i64) -> Result<Self, Reason> {
        let issuer = Receipt::issuer(department);
        verify(token, key, &Expected { typ: TYPE, issuer: &issuer, audience: AUDIENCE, max_lifetime: LIFETIME }, now)
    }
}

/// SHA-256 (hex) of changes: how many are added (64 bits, big-endian), these, then those that are removed.
#[must_use]
pub fn digest(added: &[Pseudonym], removed: &[Pseudonym]) -> String {
    let digest = Sha256::new().chain_update((added.len() as u64).to_be_bytes());
    hex(&digest.chain_update(added.as_flattened()).chain_update(removed.as_flattened()).finalize())
}

/// Changes as messages, the statement in the last one.
pub fn messages(added: &[Pseudonym], removed: &[Pseudonym], statement: String) -> impl Iterator<Item = v1::ReachChanges> {
    let part = |added: &[Pseudonym], removed: &[Pseudonym]| v1::ReachChanges {
        added: added.as_flattened().to_vec(),
        removed: removed.as_flattened().to_vec(),
        statement: String::new(),
    };
    let parts = added.chunks(PER_MESSAGE).map(move |added| part(added, &[])).chain(removed.chunks(PER_MESSAGE).map(move |r| part(&[], r)));
    parts.chain([v1::ReachChanges { statement, ..Default::default() }])
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn what_is_added_is_never_taken_for_what_is_removed() {
        let [one, two] = [[1u8; 16], [2u8; 16]];
        let digests = [digest(&[one, two], &[]), digest(&[one], &[two]), digest(&[], &[one, two]), digest(&[], &[]), digest(&[two], &[one])];
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests.iter().take(at).any(|earlier| earlier == digest));
        }
    }

    #[test]
    fn a_thousand_changes_are_kilobytes_and_messages_are_bounded() {
        let some = |count: u128| (0..count).map(u128::to_be_bytes).collect::<Vec<_>>();
        let bytes = |messages: Vec<v1::ReachChanges>| messages.iter().map(prost::Message::encoded_len).collect::<Vec<_>>();
        let thousand = bytes(messages(&some(600), &some(400), "x".repeat(1_000)).collect());
        assert!(thousand.iter().sum::<usize>() < 18_000, "{thousand:?}");
        let many = bytes(messages(&some(100_000), &some(1), String::new()).collect());
        assert!(many.len() == 6 && many.iter().all(|bytes| *bytes <= (512 << 10) + 16), "{many:?}");
        assert_eq!(messages(&[], &[], "s".into()).count(), 1);
        assert_eq!(messages(&some(1), &[], "s".into()).filter(|m| !m.statement.is_empty()).count(), 1);
        assert_eq!(v1::ReachChanges::decode(&[][..]).unwrap(), v1::ReachChanges::default());
    }
}
