//! An inclusion promise: the log's signed word about one entry, given before a checkpoint covers it. A later checkpoint over another
//! leaf at its place proves that the log broke it. [`crate::receipt`] reads and verifies it.
//!
//! One that comes with an answer also says which answer the entry is of. The entry holds the same digest, so that none can be handed out
//! with the entry of another query: who may read the entry sees it, and the signature proves whose doing it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::key::LogKey;
use crate::tree::Hash;

/// What the log promises. Serialized it is the JSON object that answers carry: `version`, `origin`, `index`, `leaf_hash` and `signature`
/// in Base64, `time`, and `answer` with `query_id`, `rows`, `salt` and `digest` where it is of an answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "crate::receipt::PromiseFile", into = "crate::receipt::PromiseFile")]
pub struct Promise {
    /// The log's name.
    pub origin: String,
    /// The place of the entry, from 0.
    pub index: u64,
    /// The hash of the entry's bytes (RFC 6962).
    pub leaf_hash: Hash,
    /// Which answer it came with; `None` of an entry alone.
    pub answer: Option<Answered>,
    /// When it was given (RFC 3339, UTC).
    pub time: String,
    /// By the log's key, over [`promise_message`].
    pub signature: Vec<u8>,
}

/// The answer that an entry is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Under which the log has it: letters, digits and `-`, at most [`Answered::MAX_ID`].
    pub query_id: String,
    /// How many rows it has.
    pub rows: u64,
    /// What the digest is salted with. It is in no log: who reads the entry cannot try answers against the digest.
    pub salt: [u8; 32],
    /// Over the answer as it was delivered (`concordat_proto::answer`).
    pub digest: Hash,
}

impl Answered {
    /// The longest query id.
    pub const MAX_ID: usize = 64;

    /// The digest as an entry holds it, in `facts`.
    #[must_use]
    pub fn digest_text(&self) -> String {
        STANDARD.encode(self.digest)
    }

    /// Whether an entry's bytes are of this answer.
    #[must_use]
    pub fn is_of(&self, entry: &[u8]) -> bool {
        let Ok(entry) = serde_json::from_slice::<Value>(entry) else { return false };
        let says = |at: &str, what: &str| entry.pointer(at).and_then(Value::as_str) == Some(what);
        says("/query_id", &self.query_id) && says("/facts/answer_digest", &self.digest_text())
    }
}

impl Promise {
    pub(crate) fn sign(key: &LogKey, index: u64, leaf_hash: Hash, answer: Option<Answered>, time: String) -> Self {
        let signature = key.sign(&promise_message(key.origin(), index, &leaf_hash, answer.as_ref(), &time));
        Self { origin: key.origin().to_owned(), index, leaf_hash, answer, time, signature }
    }
}

/// The bytes that a promise's signature is over: lines, the first of which no signed note begins with. A signed note's second line
/// is a size; here it is the origin. No part of them has a line break.
///
/// ```text
/// concordat.promise/v1         concordat.promise/v2
/// <origin>                     <origin>
/// <index>                      <index>
/// <leaf hash in base64>        <leaf hash in base64>
/// <time>                       <query id>
///                              <rows>
///                              <salt in base64>
///                              <digest in base64>
///                              <time>
/// ```
#[must_use]
pub fn promise_message(origin: &str, index: u64, leaf_hash: &Hash, answer: Option<&Answered>, time: &str) -> Vec<u8> {
    let leaf = STANDARD.encode(leaf_hash);
    let message = match answer {
        None => format!("concordat.promise/v1\n{origin}\n{index}\n{leaf}\n{time}\n"),
        Some(answer) => {
            let Answered { query_id, rows, salt, .. } = answer;
            let (salt, digest) = (STANDARD.encode(salt), answer.digest_text());
            format!("concordat.promise/v2\n{origin}\n{index}\n{leaf}\n{query_id}\n{rows}\n{salt}\n{digest}\n{time}\n")
        }
    };
    message.into_bytes()
}
