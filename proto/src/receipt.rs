//! Release receipts: a node's signed closing statement for one partition. The gateway discards rows that lack one.
//!
//! A receipt travels as the application metadata of the stream's last message, which holds no rows.

use concordat_policy::Name;
use serde::{Deserialize, Serialize};

use crate::token::{Expected, Reason, SigningKey, VerifyingKey, verify};
use crate::version::PURPOSES;

/// `typ` of the JWT.
pub const TYPE: &str = "concordat-release-receipt+jwt";
/// `aud` of the JWT.
pub const AUDIENCE: &str = "concordat-gateway";
/// The life of a receipt as a token, in seconds: the gateway reads it at once.
pub const LIFETIME: i64 = 300;

/// The claims of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// `node:` and the department.
    pub iss: String,
    /// The order's `jti`.
    pub sub: String,
    /// The gateway.
    pub aud: String,
    /// Unix seconds.
    pub nbf: i64,
    /// Unix seconds.
    pub exp: i64,
    /// The query.
    pub query_id: String,
    /// The order's mission. It and the purpose are stated where the release was ordered in contract version 2 or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mission: Option<Name>,
    /// The order's purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Name>,
    /// The dataset's own name.
    pub dataset: String,
    /// Which partition, from 0.
    pub partition: u32,
    /// Of how many.
    pub partitions: u32,
    /// Rows sent in this partition, or groups where the order asked for them.
    pub rows: u64,
    /// What stands behind the groups; not stated where rows were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grouped: Option<Grouped>,
    /// The consent ledger's version at which consent was applied to every row.
    pub consent_version: u64,
    /// The ledger's generation. Stated where the release was ordered in contract version 2 or later; absent means 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_generation: Option<u32>,
    /// When the source last changed, Unix seconds.
    pub freshness: i64,
    /// The release's entry in the node's log.
    pub log_entry: u64,
    /// Of the whole release, in the receipt of every partition alike. Stated where the release was ordered in contract version 2 or
    /// later under an agreement that permits to count the dataset's subjects; never of a link dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denominators: Option<Denominators>,
}

/// How many subjects have rows that met the order's conditions and the agreement's and were not released. Distinct subjects, as
/// [`concordat_policy::denominator::Grain`] tells them; null where they are too few. Not stated under an agreement that asks for noise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denominators {
    /// To whose multiples they are rounded.
    pub rounded_to: u32,
    /// Different texts in the place of an identifier that are none. Missing ones count as one together.
    pub invalid_identifiers: Option<u64>,
    /// Subjects who have not agreed, have withdrawn or have objected.
    pub withheld: Option<u64>,
}

/// What the groups of a partition were made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grouped {
    /// The dataset's rows.
    pub rows: u64,
    /// Their distinct subjects.
    pub subjects: u64,
}

/// Where a consent ledger stands. Compared by generation, then version: within a generation a ledger only grows, and a backup
/// that was restored and acknowledged begins a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// How often the department has acknowledged that it restored a backup.
    pub generation: u32,
    /// The place of the last record.
    pub version: u64,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "version {} of generation {}", self.version, self.generation)
    }
}

impl Receipt {
    /// Where the ledger stood whose records were applied.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { generation: self.consent_generation.unwrap_or(0), version: self.consent_version }
    }

    /// The dataset's rows that were sent, or that stand behind the groups.
    #[must_use]
    pub fn dataset_rows(&self) -> u64 {
        self.grouped.map_or(self.rows, |grouped| grouped.rows)
    }

    /// Whether it states this mission and this purpose, or neither, where the release was ordered in a version without them.
    #[must_use]
    pub fn is_for(&self, mission: &Name, purpose: &Name, spoken: u32) -> bool {
        let stated = spoken >= PURPOSES;
        self.mission.as_ref() == stated.then_some(mission) && self.purpose.as_ref() == stated.then_some(purpose)
    }

    /// The issuer that names a department's node.
    #[must_use]
    pub fn issuer(department: &Name) -> String {
        format!("node:{department}")
    }

    /// Signs the receipt.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn sign(&self, key: &SigningKey) -> Result<String, String> {
        key.sign(TYPE, None, self)
    }

    /// Verifies a receipt of `department`'s node. The caller compares order, partition and rows with what it saw.
    ///
    /// # Errors
    /// A [`Reason`].
    pub fn verify(token: &str, department: &Name, key: &VerifyingKey, now: i64) -> Result<Self, Reason> {
        let issuer = Self::issuer(department);
        verify(token, key, &Expected { typ: TYPE, issuer: &issuer, audience: AUDIENCE, max_lifetime: LIFETIME }, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_receipt_is_for_the_orders_mission_and_purpose_and_no_others() {
        let receipt = |mission: Option<&str>, purpose: Option<&str>| Receipt {
            iss: "node:dwp".into(),
            sub: "order-1".into(),
            aud: AUDIENCE.into(),
            nbf: 1_800_000_000,
            exp: 1_800_000_000 + LIFETIME,
            query_id: "q".into(),
            mission: mission.map(name),
            purpose: purpose.map(name),
            dataset: "claims".into(),
            partition: 0,
            partitions: 2,
            rows: 100,
            grouped: None,
            consent_version: 7,
            consent_generation: None,
            freshness: 1_800_000_000,
            log_entry: 3,
            denominators: None,
        };
        // What is stated, and whether it is accepted where the order was placed in version 1, and in version 2.
        for (mission, purpose, accepted) in [
            (Some("opportunity"), Some("opportunity.measure"), (false, true)),
            (Some("opportunity"), Some("opportunity"), (false, false)),
            (Some("opportunity"), Some("opportunity.measure.region"), (false, false)),
            (Some("opportunity"), Some("health"), (false, false)),
            (Some("health"), Some("opportunity.measure"), (false, false)),
            (Some("opportunity"), None, (false, false)),
            (None, Some("opportunity.measure"), (false, false)),
            (None, None, (true, false)),
        ] {
            let receipt = receipt(mission, purpose);
            let of = |spoken| receipt.is_for(&name("opportunity"), &name("opportunity.measure"), spoken);
            assert_eq!((of(1), of(PURPOSES)), accepted, "{mission:?} {purpose:?}");
            // As it arrives: what is not stated is not there.
            let claims = serde_json::to_value(&receipt).unwrap();
            assert_eq!((claims.get("mission").is_some(), claims.get("purpose").is_some()), (mission.is_some(), purpose.is_some()));
            assert_eq!(serde_json::from_value::<Receipt>(claims).unwrap(), receipt);
        }
    }
}
