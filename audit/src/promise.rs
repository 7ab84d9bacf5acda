//! An inclusion promise: the log's signed word about one entry, given before a checkpoint covers it. A later checkpoint over another
//! leaf at its place proves that the log broke it. [`crate::receipt`] reads and verifies it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::LogKey;
use crate::tree::Hash;

/// What the log promises. Serialized it is the JSON object that answers carry: `version`, `origin`, `index`, `leaf_hash` and `signature`
/// in Base64, `time`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "crate::receipt::PromiseFile", into = "crate::receipt::PromiseFile")]
pub struct Promise {
    /// The log's name.
    pub origin: String,
    /// The place of the entry, from 0.
    pub index: u64,
    /// The hash of the entry's bytes (RFC 6962).
    pub leaf_hash: Hash,
    /// When it was given (RFC 3339, UTC).
    pub time: String,
    /// By the log's key, over [`promise_message`].
    pub signature: Vec<u8>,
}

impl Promise {
    pub(crate) fn sign(key: &LogKey, index: u64, leaf_hash: Hash, time: String) -> Self {
        let signature = key.sign(&promise_message(key.origin(), index, &leaf_hash, &time));
        Self { origin: key.origin().to_owned(), index, leaf_hash, time, signature }
    }
}

/// The bytes that a promise's signature is over: five lines, the first of which no signed note begins with. A signed note's second line
/// is a size; here it is the origin.
///
/// ```text
/// concordat.promise/v1
/// <origin>
/// <index>
/// <leaf hash in base64>
/// <time>
/// ```
#[must_use]
pub fn promise_message(origin: &str, index: u64, leaf_hash: &Hash, time: &str) -> Vec<u8> {
    format!("concordat.promise/v1\n{origin}\n{index}\n{}\n{time}\n", STANDARD.encode(leaf_hash)).into_bytes()
}
