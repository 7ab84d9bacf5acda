//! Receipts of answers: what the log promised with an answer, whether the rows that came are those, and the proof that the entry is there.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use concordat_audit::receipt::Receipt;
use concordat_audit::{Answered, Promise};
use concordat_proto::answer::{AnswerDigest, AnswerError};
use concordat_proto::v1::AnswerReceiptRequest;
use serde_json::Value;

use super::Client;
use crate::failure::{Failure, Result};

/// What an answer's statement holds of the gateway's promise: the entry that it names is in the log for good, and is of this answer.
/// Whether the rows are those that it is of, [`Matching`] tells.
///
/// # Errors
/// Where there is no promise, or it is of another entry or query than the answer's.
pub(crate) fn promise(summary: &Value) -> Result<Promise> {
    let stated = summary.get("promise").ok_or_else(|| {
        Failure::new("the gateway gave no promise with this answer: its log's entry cannot be held against it")
            .advice("ask the gateway's operator which version runs")
    })?;
    let read =
        Promise::read(stated.to_string().as_bytes()).map_err(|e| Failure::new(format!("the answer's promise cannot be read: {e}")))?;
    let another = |what: &str| {
        Err(Failure::new(format!("the gateway's promise is of another {what} than the answer's"))
            .advice("keep the answer as it came, and report it to whoever reviews the gateway's log"))
    };
    if summary.get("log_entry").and_then(Value::as_u64) != read.index.checked_add(1) {
        return another("entry of its log");
    }
    match &read.answer {
        Some(answer) if summary.get("query_id").and_then(Value::as_str) != Some(answer.query_id.as_str()) => another("query"),
        _ => Ok(read),
    }
}

/// Rows that are compared with what a promise says of them.
pub(crate) struct Matching<'p> {
    answer: &'p Answered,
    digest: AnswerDigest,
}

impl<'p> Matching<'p> {
    /// Begins, before the first row.
    ///
    /// # Errors
    /// Where answers have no columns of such types.
    pub(crate) fn begin(answer: &'p Answered, schema: &Schema) -> Result<Self> {
        Ok(Self { answer, digest: AnswerDigest::of(schema).map_err(uncounted)? })
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// Where they have other columns.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.digest.add(batch).map_err(uncounted)
    }

    /// Compares, after the last row.
    ///
    /// # Errors
    /// Where they are not the promised ones.
    pub(crate) fn finish(self) -> Result<()> {
        let (found, rows) = (self.digest.rows(), self.answer.rows);
        if self.digest.finish(&self.answer.salt) == self.answer.digest && found == rows {
            return Ok(());
        }
        Err(Failure::new(format!("the log's promise is of another answer: of {rows} rows with another digest; these are {found}"))
            .advice("do not rely on the answer; keep it and the promise as they came, and show them to whoever reviews the gateway's log"))
    }
}

fn uncounted(error: AnswerError) -> Failure {
    Failure::new(format!("the answer cannot be compared with the log's promise: {error}"))
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
    fn rows_are_the_promised_ones_or_the_answer_is_not() {
        let numbers = |numbers: Vec<i64>| {
            let column: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(numbers));
            RecordBatch::try_from_iter([("n", column)]).unwrap()
        };
        let whole = numbers(vec![1, 2, 3]);
        let mut digest = AnswerDigest::of(&whole.schema()).unwrap();
        digest.add(&whole).unwrap();
        let answer = Answered { query_id: "q".into(), rows: 3, salt: [7; 32], digest: digest.finish(&[7; 32]) };
        let matches = |answer: &Answered, batches: &[RecordBatch]| {
            let mut matching = Matching::begin(answer, &whole.schema())?;
            batches.iter().try_for_each(|batch| matching.add(batch))?;
            matching.finish()
        };
        assert!(matches(&answer, &[whole.slice(0, 1), whole.slice(1, 2)]).is_ok());
        for other in [vec![1, 2], vec![1, 2, 4], vec![]] {
            let failure = matches(&answer, &[numbers(other)]).unwrap_err();
            assert!(failure.message.contains("of another answer: of 3 rows"), "{}", failure.message);
        }
        assert!(matches(&Answered { salt: [8; 32], ..answer.clone() }, std::slice::from_ref(&whole)).is_err());
        assert!(matches(&Answered { rows: 2, ..answer }, std::slice::from_ref(&whole)).is_err());
    }

    #[test]
    fn a_promise_is_of_the_answers_own_query() {
        let stated = json!({
            "version": "concordat.promise/v2", "origin": "concordat/gateway", "index": 6, "leaf_hash": "A".repeat(43) + "=",
            "answer": { "query_id": "q-1", "rows": 0, "salt": "A".repeat(43) + "=", "digest": "A".repeat(43) + "=" },
            "time": "2027-04-01T10:00:00.000Z", "signature": "A".repeat(86) + "==",
        });
        let summary = |id: &str| json!({ "log_entry": 7, "query_id": id, "promise": stated });
        assert_eq!(promise(&summary("q-1")).unwrap().answer.unwrap().query_id, "q-1");
        assert!(promise(&summary("q-2")).unwrap_err().message.contains("another query"));
        assert!(promise(&json!({ "log_entry": 7, "promise": stated })).unwrap_err().message.contains("another query"));
    }

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
