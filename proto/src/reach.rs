//! Statements of whose choices reach other parties' data: what a node signs below the pseudonyms that it sends. The gateway uses
//! none of them without it.

mod reading;

use concordat_policy::Name;
use concordat_policy::agreement::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::reading::{ReachError, Reading};
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
    /// The linkage domain of the pseudonyms, as [`concordat_policy::LinkageDomain`] writes it.
    pub domain: String,
    /// SHA-256 (hex) of the agreement's file.
    pub agreement_digest: String,
    /// Of the data that is reached: the number of a [`v1::Basis`].
    pub basis: i32,
    /// Where the ledger stood before the changes; nothing where the list is whole.
    pub since: Option<Standing>,
    /// Where the ledger stands after them.
    pub standing: Standing,
    /// The moment at which records with times were judged, Unix seconds.
    pub judged_at: i64,
    /// The rules by which the department chose whom it tells: a text of its own, compared and nothing else.
    pub rules: String,
    /// SHA-256 (hex) of the changes: [`Changes::digest`].
    pub changes_sha256: String,
}

/// What changed of a list. Each ascends.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Who is in it now.
    pub added: Vec<Pseudonym>,
    /// Who is not, or not any more.
    pub removed: Vec<Pseudonym>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}

impl Statement {
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

impl Changes {
    /// SHA-256 (hex) of changes: how many are added (64 bits, big-endian), these, then those that are removed.
    #[must_use]
    pub fn digest(&self) -> String {
        let digest = Sha256::new().chain_update((self.added.len() as u64).to_be_bytes());
        hex(&digest.chain_update(self.added.as_flattened()).chain_update(self.removed.as_flattened()).finalize())
    }

    /// The changes as messages, made one at a time, the statement in the last one.
    pub fn messages(self, statement: String) -> impl Iterator<Item = v1::ReachChanges> + Send + use<> {
        let (adding, removing) = (self.added.len().div_ceil(PER_MESSAGE), self.removed.len().div_ceil(PER_MESSAGE));
        let part = |all: &[Pseudonym], at: usize| all.chunks(PER_MESSAGE).nth(at).unwrap_or_default().as_flattened().to_vec();
        let parts = (0..adding + removing).map(move |at| match at.checked_sub(adding) {
            None => v1::ReachChanges { added: part(&self.added, at), ..Default::default() },
            Some(at) => v1::ReachChanges { removed: part(&self.removed, at), ..Default::default() },
        });
        parts.chain([v1::ReachChanges { statement, ..Default::default() }])
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn some(count: u128) -> Vec<Pseudonym> {
        (0..count).map(u128::to_be_bytes).collect()
    }

    #[test]
    fn what_is_added_is_never_taken_for_what_is_removed() {
        let [one, two] = [[1u8; 16], [2u8; 16]];
        let changes = |added: &[Pseudonym], removed: &[Pseudonym]| Changes { added: added.to_vec(), removed: removed.to_vec() }.digest();
        let digests =
            [changes(&[one, two], &[]), changes(&[one], &[two]), changes(&[], &[one, two]), changes(&[], &[]), changes(&[two], &[one])];
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests.iter().take(at).any(|earlier| earlier == digest));
        }
    }

    #[test]
    fn a_thousand_changes_are_kilobytes_and_messages_are_bounded() {
        let bytes = |added: u128, removed: u128, statement: &str| {
            let changes = Changes { added: some(added), removed: (added..added + removed).map(u128::to_be_bytes).collect() };
            changes.messages(statement.into()).map(|message| message.encoded_len()).collect::<Vec<_>>()
        };
        let thousand = bytes(600, 400, &"x".repeat(1_000));
        assert!(thousand.iter().sum::<usize>() < 18_000, "{thousand:?}");
        let many = bytes(100_000, 1, "s");
        assert!(many.len() == 6 && many.iter().all(|bytes| *bytes <= (512 << 10) + 16), "{many:?}");
        assert_eq!(bytes(0, 0, "s").len(), 1);
    }

    #[test]
    fn what_was_sent_is_what_is_read() {
        let changes = Changes { added: some(70_000), removed: (70_000..70_003u128).map(u128::to_be_bytes).collect() };
        let mut reading = Reading::new(70_003);
        let statements: Vec<String> = changes.clone().messages("s".into()).filter_map(|m| reading.take(m).unwrap()).collect();
        assert_eq!((statements.as_slice(), reading.changes().unwrap() == changes), (["s".to_owned()].as_slice(), true));
    }

    #[test]
    fn a_statement_is_its_departments_and_no_receipt() {
        let department = Name::parse("dfe").unwrap();
        let document = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(document.as_ref()).unwrap();
        let verifying = key.verifying_key().unwrap();
        let now = 1_764_000_000;
        let statement = Statement {
            iss: Receipt::issuer(&department),
            sub: "request-1".into(),
            aud: AUDIENCE.into(),
            nbf: now,
            exp: now + LIFETIME,
            domain: "m/p/1".into(),
            agreement_digest: "d".into(),
            basis: v1::Basis::Consent.into(),
            since: None,
            standing: Standing { generation: 1, version: 7 },
            judged_at: now,
            rules: "r".into(),
            changes_sha256: Changes::default().digest(),
        };
        let token = statement.sign(&key).unwrap();
        assert_eq!(Statement::verify(&token, &department, &verifying, now).unwrap(), statement);
        assert!(Statement::verify(&token, &Name::parse("dwp").unwrap(), &verifying, now).is_err());
        assert!(Statement::verify(&token, &department, &verifying, now + LIFETIME + 60).is_err());
        assert!(Receipt::verify(&token, &department, &verifying, now).is_err());
    }
}
