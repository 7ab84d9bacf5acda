//! Receipts of answers: what the log promised with an answer, and the proof that it is there.

use concordat_audit::Promise;
use concordat_audit::receipt::Receipt;
use concordat_proto::v1::AnswerReceiptRequest;
use serde_json::Value;

use super::Client;
use crate::failure::{Failure, Result};

/// What an answer's statement holds of the gateway's promise: the entry that it names is in the log for good.
///
/// # Errors
/// Where there is no promise, or it is of another entry than the answer's.
pub(crate) fn promise(summary: &Value) -> Result<Promise> {
    let stated = summary.get("promise").ok_or_else(|| {
        Failure::new("the gateway gave no promise with this answer: its log's entry cannot be held against it")
            .advice("ask the gateway's operator which version runs")
    })?;
    let read =
        Promise::read(stated.to_string().as_bytes()).map_err(|e| Failure::new(format!("the answer's promise cannot be read: {e}")))?;
    if summary.get("log_entry").and_then(Value::as_u64) == read.index.checked_add(1) {
        return Ok(read);
    }
    Err(Failure::new("the gateway's promise is of another entry of its log than the answer's")
        .advice("keep the answer as it came, and report it to whoever reviews the gateway's log"))
}

impl Client {
    /// The receipt of a query that has ended, under a checkpoint with so many cosignatures, or with most after `wait_seconds`.
    /// Nothing of it is verified.
    ///
    /// # Errors
    /// What the gateway refused, or that its answer is no receipt.
    pub async fn receipt(&self, query_id: &str, cosignatures: u32, wait_seconds: u32) -> Result<Receipt> {
        let request = self.request(AnswerReceiptRequest { query_id: query_id.to_owned(), wait_seconds, cosignatures })?;
        let answer = self.receipts.clone().receipt(request).await.map_err(|e| Failure::status(&e))?.into_inner();
        Receipt::read(&answer.receipt).map_err(|e| Failure::new(format!("the gateway's answer cannot be used: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_promise_is_of_the_answers_own_entry() {
        let stated = json!({
            "version": "concordat.promise/v1", "origin": "concordat/gateway", "index": 6, "leaf_hash": "A".repeat(43) + "=",
            "time": "2027-04-01T10:00:00.000Z", "signature": "A".repeat(86) + "==",
        });
        let summary = |entry: u64| json!({ "log_entry": entry, "promise": stated });
        assert_eq!(promise(&summary(7)).unwrap().index, 6);
        assert!(promise(&summary(6)).unwrap_err().message.contains("another entry"));
        assert!(promise(&json!({ "log_entry": 7 })).unwrap_err().message.contains("no promise"));
        assert!(promise(&json!({ "log_entry": 7, "promise": { "index": 6 } })).unwrap_err().message.contains("cannot be read"));
    }
}
