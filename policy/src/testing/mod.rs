//! What this crate's tests share.

use chrono::DateTime;

use crate::fingerprint::Fingerprint;
use crate::signature::{Signatures, Statement};
use crate::{Agreement, Name};

/// An agreement of two parties.
pub(crate) const AGREEMENT: &str = include_str!("agreement.toml");

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The fingerprint of this digit, as [`AGREEMENT`] has them.
pub(crate) fn print(digit: &str) -> Fingerprint {
    format!("sha256:{}", digit.repeat(64)).try_into().unwrap()
}

/// As if every party had signed each agreement.
pub(crate) fn signed(agreements: &[&Agreement]) -> Signatures {
    let mut signatures = Signatures::default();
    for agreement in agreements {
        for party in &agreement.parties {
            let statement = Statement {
                department: party.department.clone(),
                agreement: agreement.id.clone(),
                sha256: agreement.digest.clone(),
                signed_at: DateTime::UNIX_EPOCH,
                key: party.signing_key.clone(),
            };
            signatures.add(&agreement.id, &party.department, Ok(statement));
        }
    }
    signatures
}
