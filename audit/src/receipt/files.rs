//! The members of the files, as they are written and before they are believed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::DateTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Consistency, MAX_PROOF, Receipt, ReceiptError};
use crate::note::MAX_NOTE;
use crate::proof::Hash;
use crate::{Answered, Promise};

const RECEIPT: &str = "concordat.receipt/v1";
/// Of an entry alone, and of an answer's.
const PROMISES: [&str; 2] = ["concordat.promise/v1", "concordat.promise/v2"];
const CONSISTENCY: &str = "concordat.consistency/v1";

/// The longest entry, in bytes.
const ENTRY: usize = 65_535;

/// See [`Promise`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromiseFile {
    version: String,
    origin: String,
    index: u64,
    leaf_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerFile>,
    time: String,
    signature: String,
}

/// See [`Answered`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerFile {
    query_id: String,
    rows: u64,
    salt: String,
    digest: String,
}

/// See [`Receipt`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiptFile {
    version: String,
    index: u64,
    leaf_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promise: Option<Promise>,
    proof: Vec<String>,
    checkpoint: String,
}

/// See [`Consistency`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsistencyFile {
    version: String,
    from: u64,
    to: u64,
    proof: Vec<String>,
}

/// Reads a file that may be at most `most` bytes long. Nothing that stands in it is repeated in an error.
pub(super) fn read<F: DeserializeOwned, T: TryFrom<F, Error = String>>(
    what: &'static str,
    bytes: &[u8],
    most: usize,
) -> Result<T, ReceiptError> {
    let form = |why| ReceiptError::Form { what, why };
    if bytes.len() > most {
        return Err(form(format!("it is longer than {most} bytes")));
    }
    let unread = |e: serde_json::Error| {
        let (line, column) = (e.line(), e.column());
        form(format!("it is no JSON, or a member is missing, unknown or not what it should be (line {line}, column {column})"))
    };
    serde_json::from_slice::<F>(bytes).map_err(unread)?.try_into().map_err(form)
}

/// A file's text.
pub(super) fn write(file: &impl Serialize) -> String {
    // What is written are texts and numbers, which JSON always takes.
    serde_json::to_string_pretty(file).map(|text| text + "\n").unwrap_or_default()
}

impl TryFrom<PromiseFile> for Promise {
    type Error = String;

    fn try_from(file: PromiseFile) -> Result<Self, String> {
        let PromiseFile { version, origin, index, leaf_hash, answer, time, signature } = file;
        let [of_entry, of_answer] = PROMISES;
        is_version(&version, if answer.is_some() { of_answer } else { of_entry })?;
        if i64::try_from(index).is_err() || DateTime::parse_from_rfc3339(&time).is_err() {
            return Err("its index or its time is none".into());
        }
        let answer = answer.map(Answered::try_from).transpose()?;
        Ok(Self { origin, index, leaf_hash: hash(&leaf_hash)?, answer, time, signature: bytes(&signature, 64)? })
    }
}

impl TryFrom<AnswerFile> for Answered {
    type Error = String;

    fn try_from(file: AnswerFile) -> Result<Self, String> {
        let AnswerFile { query_id, rows, salt, digest } = file;
        let is_id = (1..=Self::MAX_ID).contains(&query_id.len()) && query_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_id || i64::try_from(rows).is_err() {
            return Err("the answer's query id or number of rows is none".into());
        }
        Ok(Self { query_id, rows, salt: hash(&salt)?, digest: hash(&digest)? })
    }
}

impl From<Promise> for PromiseFile {
    fn from(promise: Promise) -> Self {
        let Promise { origin, index, leaf_hash, answer, time, signature } = promise;
        let (leaf_hash, signature) = (BASE64_STANDARD.encode(leaf_hash), BASE64_STANDARD.encode(signature));
        let [of_entry, of_answer] = PROMISES;
        let version = if answer.is_some() { of_answer } else { of_entry };
        let answer = answer.map(|answer| {
            let (salt, digest) = (BASE64_STANDARD.encode(answer.salt), BASE64_STANDARD.encode(answer.digest));
            AnswerFile { query_id: answer.query_id, rows: answer.rows, salt, digest }
        });
        Self { version: version.into(), origin, index, leaf_hash, answer, time, signature }
    }
}

impl TryFrom<ReceiptFile> for Receipt {
    type Error = String;

    fn try_from(file: ReceiptFile) -> Result<Self, String> {
        let ReceiptFile { version, index, leaf_hash, entry, promise, proof, checkpoint } = file;
        is_version(&version, RECEIPT)?;
        if i64::try_from(index).is_err() || checkpoint.len() > MAX_NOTE {
            return Err("its index is none, or its checkpoint is longer than 64 KiB".into());
        }
        let entry = entry.map(|entry| bytes(&entry, ENTRY)).transpose()?;
        Ok(Self { index, leaf_hash: hash(&leaf_hash)?, entry, promise, proof: hashes(&proof)?, checkpoint })
    }
}

impl From<Receipt> for ReceiptFile {
    fn from(receipt: Receipt) -> Self {
        let Receipt { index, leaf_hash, entry, promise, proof, checkpoint } = receipt;
        let (leaf_hash, entry) = (BASE64_STANDARD.encode(leaf_hash), entry.map(|entry| BASE64_STANDARD.encode(entry)));
        Self { version: RECEIPT.into(), index, leaf_hash, entry, promise, proof: texts(&proof), checkpoint }
    }
}

impl TryFrom<ConsistencyFile> for Consistency {
    type Error = String;

    fn try_from(file: ConsistencyFile) -> Result<Self, String> {
        is_version(&file.version, CONSISTENCY)?;
        Ok(Self { from: file.from, to: file.to, proof: hashes(&file.proof)? })
    }
}

impl From<Consistency> for ConsistencyFile {
    fn from(consistency: Consistency) -> Self {
        Self { version: CONSISTENCY.into(), from: consistency.from, to: consistency.to, proof: texts(&consistency.proof) }
    }
}

fn is_version(found: &str, expected: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("its version is not '{expected}': it is of another kind, or of a newer program")) }
}

fn bytes(text: &str, most: usize) -> Result<Vec<u8>, String> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| "a member that should be Base64 is not".to_owned())?;
    if bytes.len() > most { Err(format!("a member has more than {most} bytes")) } else { Ok(bytes) }
}

fn hash(text: &str) -> Result<Hash, String> {
    bytes(text, 32)?.try_into().map_err(|_| "a hash does not have 32 bytes".to_owned())
}

fn hashes(texts: &[String]) -> Result<Vec<Hash>, String> {
    if texts.len() > MAX_PROOF {
        return Err(format!("its proof has more than {MAX_PROOF} hashes"));
    }
    texts.iter().map(|text| hash(text)).collect()
}

fn texts(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect()
}
